//! Dino at a desk of its own: a message bus, a screen that nobody sees, a sound card that nobody hears, and what a person
//! would press.

use crate::lab::{self, DOMAIN, PATIENCE, Process, network::Network, wait};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
    thread::sleep,
    time::{Duration, Instant},
};

/// What its microphone hears, in hertz.
pub(super) const TONE: u32 = 660;
/// How it is called on the bus.
const NAME: &str = "im.dino.Dino";
const OBJECT: &str = "/im/dino/Dino";
/// Where the system keeps whom it trusts: GnuTLS, and so Dino, takes it from nowhere else.
const TRUSTED: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Romeo is the one whom it knows, and talks with.
const CONVERSATION: u32 = 1;

/// How long a person waits between two keys, so that the window can follow.
const PAUSE: Duration = Duration::from_millis(700);
/// What a call that was missed has in its database.
const MISSED: u32 = 6;

/// Places on its main window, which stands in the upper left corner of the screen: in the middle of what is said, the button
/// that calls, and the first line of the menu below it.
const MIDDLE: Place = ("600", "200");
const CALL_BUTTON: Place = ("689", "28");
const AUDIO_CALL: Place = ("689", "85");
/// The red button on the window of a call.
const HANG_UP: Place = ("421", "475");

type Place = (&'static str, &'static str);

pub(super) struct Dino {
    home: PathBuf,
    network: Rc<Network>,
    display: String,
    program: Process,
    _sound: Process,
    _screen: Process,
    _bus: Process,
}

impl Dino {
    /// Starts it, logged in as Juliet.
    pub(super) fn start(folder: &Path, network: &Rc<Network>) -> Result<Self, String> {
        let home = folder.join("dino");
        fs::create_dir_all(home.join("run")).map_err(|error| error.to_string())?;
        let bus = lab::message_bus(&home, folder)?;
        let (screen, display) = screen(folder, &home)?;
        let sound = sound(folder, &home)?;
        // Its first start makes the database into which the account goes.
        let program = program(folder, &home, network, &display)?;
        let mut dino = Self {
            home,
            network: Rc::clone(network),
            display,
            program,
            _sound: sound,
            _screen: screen,
            _bus: bus,
        };
        wait("Dino's database", || {
            dino.query("select count(*) from account;").is_ok()
        })?;
        wait("Dino on the bus", || dino.act("quit", "").is_ok())?;
        dino.program.wait()?;
        dino.query(&format!(
            "insert into account (bare_jid, resourcepart, password, enabled) values ('juliet@{DOMAIN}', 'dino', 'julietpw', 1);\
             insert into jid (id, bare_jid) values (1, 'romeo@{DOMAIN}');\
             insert into conversation (id, account_id, jid_id, active, last_active, type, encryption, notification) \
             values ({CONVERSATION}, 1, 1, 1, 1, 0, 0, 0);"
        ))?;
        dino.program = program_again(&dino, folder)?;
        // The server sends everybody's presence to everybody, also one's own.
        dino.program.hear(&format!("from='juliet@{DOMAIN}/dino'"))?;
        dino.act("open-conversation", &format!("<{CONVERSATION}>"))?;
        Ok(dino)
    }

    /// Activates one of its actions, with a parameter in GLib's text form.
    fn act(&self, action: &str, parameter: &str) -> Result<(), String> {
        let mut command = surroundings(&self.home, &self.display, Command::new("gdbus"));
        command
            .args(["call", "--session", "--timeout", "10", "--dest", NAME])
            .args(["--object-path", OBJECT])
            .args(["--method", "org.gtk.Actions.Activate", action])
            .args([&format!("[{parameter}]"), "{}"]);
        output(&mut command).map(drop)
    }

    /// Asks or changes its database.
    fn query(&self, sql: &str) -> Result<String, String> {
        let mut command = Command::new("sqlite3");
        command
            .args(["-bail", "-cmd", ".timeout 5000"])
            .arg(self.home.join(".local/share/dino/dino.db"))
            .arg(sql);
        output(&mut command)
    }

    fn number(&self, sql: &str) -> Result<u32, String> {
        let answer = self.query(sql)?;
        let number = answer.trim().parse();
        number.map_err(|error| format!("{sql}: {answer:?}: {error}"))
    }

    /// Mouse and keyboard.
    fn press(&self, words: &[&str]) -> Result<(), String> {
        let mut command = surroundings(&self.home, &self.display, Command::new("xdotool"));
        output(command.args(words)).map(drop)
    }

    fn click(&self, (x, y): Place) -> Result<(), String> {
        self.press(&["mousemove", x, y])?;
        // What is below the pointer has to notice before it is pressed.
        sleep(Duration::from_millis(300));
        self.press(&["click", "1"])
    }

    /// How many windows can be seen.
    fn windows(&self) -> usize {
        let mut command = surroundings(&self.home, &self.display, Command::new("xdotool"));
        command.args(["search", "--onlyvisible", "--name", "."]);
        output(&mut command).map_or(0, |found| found.lines().count())
    }

    /// Does something, again and again, until it has shown.
    fn insist(
        &self,
        what: &str,
        mut act: impl FnMut() -> Result<(), String>,
        mut is_so: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let begun = Instant::now();
        while Instant::now().saturating_duration_since(begun) < PATIENCE {
            act()?;
            for _ in 0..50 {
                if is_so() {
                    return Ok(());
                }
                sleep(Duration::from_millis(100));
            }
        }
        Err(format!("{what}: not within {} s", PATIENCE.as_secs()))
    }

    /// Waits until it knows that Romeo at this address can do this.
    pub(super) fn know(&self, address: &str, feature: &str) -> Result<(), String> {
        let resource = address.split_once('/').map_or("", |(_, resource)| resource);
        let sql = format!(
            "select count(*) from entity join entity_feature on entity_feature.entity = entity.caps_hash \
             where entity.resource = '{resource}' and entity_feature.feature = '{feature}';"
        );
        wait(&format!("that Dino knows {address}"), || {
            self.number(&sql).is_ok_and(|count| count > 0)
        })
    }

    /// How many calls and how many files it has seen.
    pub(super) fn calls(&self) -> Result<u32, String> {
        self.number("select count(*) from call;")
    }

    pub(super) fn files(&self) -> Result<u32, String> {
        self.number("select count(*) from file_transfer;")
    }

    /// Waits until there is a call more than before: its number.
    pub(super) fn ring(&self, before: u32) -> Result<u32, String> {
        wait("Dino rings", || {
            self.calls().is_ok_and(|calls| calls > before)
        })?;
        self.number("select max(id) from call;")
    }

    pub(super) fn accept(&self, call: u32) -> Result<(), String> {
        self.act("accept-call", &format!("<({CONVERSATION}, {call})>"))
    }

    pub(super) fn reject(&self, call: u32) -> Result<(), String> {
        self.act("reject-call", &format!("<({CONVERSATION}, {call})>"))
    }

    /// Waits until it has noted that it missed a call.
    pub(super) fn miss(&self, call: u32) -> Result<(), String> {
        let sql = format!("select state from call where id = {call};");
        wait("Dino misses a call", || {
            self.number(&sql).is_ok_and(|state| state == MISSED)
        })
    }

    /// Calls Romeo.
    pub(super) fn call(&self) -> Result<(), String> {
        let before = self.calls()?;
        let act = || {
            self.press(&["key", "Escape"])?;
            self.click(CALL_BUTTON)?;
            sleep(Duration::from_millis(500));
            self.click(AUDIO_CALL)
        };
        let is_so = || self.calls().is_ok_and(|calls| calls > before);
        self.insist("Dino calls", act, is_so)
    }

    pub(super) fn hang_up(&self, is_over: impl FnMut() -> bool) -> Result<(), String> {
        let act = || {
            // The buttons are there as long as somebody moves.
            self.press(&["mousemove", "300", "300"])?;
            self.click(HANG_UP)
        };
        self.insist("Dino hangs up", act, is_over)
    }

    /// Sends Romeo a file.
    pub(super) fn send(&self, path: &Path) -> Result<(), String> {
        let before = self.files()?;
        let (x, y) = MIDDLE;
        let path = path.display().to_string();
        let act = || {
            // What an earlier attempt has left open goes away.
            self.press(&["mousemove", x, y, "key", "Escape"])?;
            sleep(PAUSE);
            self.press(&["key", "Escape"])?;
            sleep(PAUSE);
            self.press(&["key", "ctrl+u"])?;
            wait("Dino asks for a file", || self.windows() > 1)?;
            sleep(PAUSE);
            self.press(&["type", "--delay", "10", &path])?;
            sleep(PAUSE);
            self.press(&["key", "Return"])?;
            wait("Dino has a file", || self.windows() == 1)?;
            // It shows the file, and asks whether it is meant.
            sleep(PAUSE);
            self.press(&["key", "Return"])
        };
        let is_so = || self.files().is_ok_and(|files| files > before);
        self.insist("Dino sends", act, is_so)
    }

    /// Waits until it has another file: what is in it.
    pub(super) fn receive(&self, before: u32) -> Result<Vec<u8>, String> {
        wait("a file at Dino", || {
            self.number("select count(*) from file_transfer where direction = 0 and state = 0;")
                .is_ok_and(|files| files > before)
        })?;
        let path = self.query(
            "select path from file_transfer where direction = 0 order by id desc limit 1;",
        )?;
        let path = self.home.join(".local/share/dino/files").join(path.trim());
        fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// How many files it has received.
    pub(super) fn received(&self) -> Result<u32, String> {
        self.number("select count(*) from file_transfer where direction = 0 and state = 0;")
    }

    /// Records what it plays, until that is interrupted.
    pub(super) fn listen(&self, folder: &Path, into: &Path) -> Result<Process, String> {
        let mut command = surroundings(&self.home, &self.display, Command::new("parec"));
        command
            .args([
                "--device=heard.monitor",
                "--file-format=wav",
                "--channels=1",
            ])
            .arg(into);
        Process::start("parec", folder, &mut command)
    }
}

fn program_again(dino: &Dino, folder: &Path) -> Result<Process, String> {
    program(folder, &dino.home, &dino.network, &dino.display)
}

/// Dino, which trusts the authority of this run and nobody else.
fn program(
    folder: &Path,
    home: &Path,
    network: &Network,
    display: &str,
) -> Result<Process, String> {
    let mut command = surroundings(home, display, network.command("sh"));
    let script = format!("mount --bind \"$1\" {TRUSTED} && exec dino-im --print-xmpp=all");
    command
        .args(["-c", &script, "sh"])
        .arg(folder.join("ca.pem"));
    Process::start("dino", folder, &mut command)
}

/// A screen, and its name.
fn screen(folder: &Path, home: &Path) -> Result<(Process, String), String> {
    let mut command = surroundings(home, "", Command::new("Xvfb"));
    command.args(["-displayfd", "1", "-screen", "0", "1000x800x24"]);
    let screen = Process::start("screen", folder, command.args(["-nolisten", "tcp"]))?;
    let mut number = String::new();
    wait("a screen", || {
        let said = screen.said();
        let mut lines = said.lines();
        let found = lines.find(|line| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()));
        number = found.unwrap_or_default().to_owned();
        // A number without its end may be half of one.
        said.ends_with('\n') && !number.is_empty()
    })?;
    Ok((screen, format!(":{number}")))
}

/// A sound card: what is played on it can be recorded, and what it records is a tone.
fn sound(folder: &Path, home: &Path) -> Result<Process, String> {
    let socket = home.join("pulse");
    // Dino takes no sink's monitor for a microphone, but what is made of one.
    let script = format!(
        "load-module module-native-protocol-unix socket={} auth-anonymous=1\n\
         load-module module-null-sink sink_name=heard\n\
         load-module module-null-sink sink_name=said\n\
         load-module module-sine sink=said frequency={TONE}\n\
         load-module module-remap-source source_name=microphone master=said.monitor\n\
         set-default-sink heard\n\
         set-default-source microphone\n",
        socket.display()
    );
    let path = home.join("sound.pa");
    lab::write(&path, &script)?;
    let mut command = surroundings(home, "", Command::new("pulseaudio"));
    command.arg("-nF").arg(&path).args([
        "--daemonize=no",
        "--use-pid-file=no",
        "--exit-idle-time=-1",
        "--disable-shm=yes",
    ]);
    let sound = Process::start("sound", folder, &mut command)?;
    wait("a sound card", || socket.exists())?;
    Ok(sound)
}

/// Nothing of the person who runs this: home, bus, screen and sound are those of this run.
fn surroundings(home: &Path, display: &str, mut command: Command) -> Command {
    let at = home.display();
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("HOME", home)
        .env("LANG", "C.UTF-8")
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={at}/bus"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={at}/none"))
        .env("PULSE_SERVER", format!("unix:{at}/pulse"))
        .env("DISPLAY", display)
        .env("GDK_BACKEND", "x11")
        .env("GSK_RENDERER", "cairo")
        .env("GSETTINGS_BACKEND", "memory")
        .env("GTK_A11Y", "none");
    command
}

fn output(command: &mut Command) -> Result<String, String> {
    let shown = crate::tools::shown(command);
    let output = command
        .output()
        .map_err(|error| format!("{shown}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{shown}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}
