//! What others wrote, run for a test: a private Prosody, processes with a log, accounts.
//!
//! Everything listens on loopback only, keeps its state in a folder below the target folder, and is ended by its id.

pub(crate) mod network;
pub(crate) mod sound;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    rc::Rc,
    time::{Duration, Instant},
};

use self::network::Network;
use crate::setup::{self, has_program};
use crate::tools::{self, Failure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::Value;

/// The domain that the server serves.
pub(crate) const DOMAIN: &str = "localhost";
/// How long a step of a machine under load may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Who has an account; the password is the name, and `pw` behind it. All are in each other's roster.
pub(crate) const USERS: [&str; 2] = ["romeo", "juliet"];

/// Where clients look for a server of which DNS says nothing (RFC 6120 §3.2.2).
const STANDARD_PORT: u16 = 5222;

/// Something that is wanted, by its program and the package of Debian that has it.
pub(crate) type Wanted = (&'static str, &'static str);

/// What is not installed, told for people; `None` if all is there.
pub(crate) fn missing(who: &str, wanted: &[Wanted]) -> Option<String> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| !has_program(program))
        .map(|(_, package)| *package)
        .collect();
    let (packages, how) = (missing.join(" "), setup::command(&missing));
    (!missing.is_empty()).then(|| format!("{who} not run: {packages} not installed ({how})"))
}

/// A folder below the target folder, which goes away with this value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let path = tools::target_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that is ended with this value.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; what it says goes into `NAME.log` in the folder, in one order.
    pub(crate) fn start(name: &str, folder: &Path, command: &mut Command) -> Result<Self, String> {
        let log = folder.join(format!("{name}.log"));
        let file = fs::File::create(&log).map_err(|error| error.to_string())?;
        let copy = file.try_clone().map_err(|error| error.to_string())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(copy)
            .spawn();
        let child = child.map_err(|error| format!("{name}: {error}"))?;
        Ok(Self { child, log })
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has not ended yet.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it has said this.
    pub(crate) fn hear(&mut self, what: &str) -> Result<(), String> {
        let begun = Instant::now();
        while !self.said().contains(what) {
            let ended = self.child.try_wait().ok().flatten();
            let late = Instant::now().saturating_duration_since(begun) > PATIENCE;
            // What was said last is there when the end is.
            if late || (ended.is_some() && !self.said().contains(what)) {
                return Err(format!("{what:?} was not said: {}", self.said()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Ctrl-C.
    pub(crate) fn interrupt(&self) -> Result<(), String> {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        match sent.map_err(|error| format!("kill: {error}"))?.success() {
            true => Ok(()),
            false => Err(format!("kill -INT {pid} failed")),
        }
    }

    /// Waits for its end; its exit code, -1 if a signal ended it.
    pub(crate) fn wait(&mut self) -> Result<i32, String> {
        let begun = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status.code().unwrap_or(-1)),
                Ok(None) if Instant::now().saturating_duration_since(begun) < PATIENCE => {}
                Ok(None) => return Err(format!("it does not end: {}", self.said())),
                Err(error) => return Err(error.to_string()),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds our programs as the tests are built, both at once, so that what they share is built once; where one of them is.
pub(crate) fn program(name: &str) -> Result<PathBuf, Failure> {
    let build = ["build", "--quiet", "--profile", "test", "--bins"];
    let which = ["-p", "session-file", "-p", "session-voice"];
    let features = ["--features", "session-file/cli,session-voice/cli"];
    let arguments = [&build[..], &which, &features].concat();
    let hint = "the programs have to build before they can be tried";
    tools::run(&mut tools::cargo(&arguments), hint)?;
    let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    Ok(tools::target_dir().join("debug").join(file))
}

/// The last event of this name among lines of JSON.
pub(crate) fn event(lines: &str, name: &str) -> Option<Value> {
    let lines = lines.lines().rev();
    let mut events = lines.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.find(|event| event["event"] == name)
}

/// Asks until it is so.
pub(crate) fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !is_so() {
        if Instant::now().saturating_duration_since(begun) > PATIENCE {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Writes a file, and the folders above it.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), String> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// A message bus of D-Bus, which listens at `bus` in this folder.
pub(crate) fn message_bus(home: &Path, folder: &Path) -> Result<Process, String> {
    let at = home.display();
    // No folder of services: otherwise a question on the bus would start what was not asked for.
    let bus = format!(
        r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={at}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>
"#
    );
    write(&home.join("bus.conf"), &bus)?;
    let mut command = Command::new("dbus-daemon");
    command
        .args(["--nofork", "--nopidfile"])
        .arg(format!("--config-file={at}/bus.conf"));
    let process = Process::start("bus", folder, &mut command)?;
    wait("the message bus", || home.join("bus").exists())?;
    Ok(process)
}

/// A port of loopback that is free at this moment.
pub(crate) fn free_port() -> Result<u16, String> {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(port.map_err(|error| error.to_string())?.port())
}

/// A private Prosody with the accounts of [`USERS`].
pub(crate) struct Prosody {
    pub(crate) port: u16,
    folder: PathBuf,
    process: Option<Process>,
    network: Option<Rc<Network>>,
}

impl Prosody {
    /// Starts it, with these modules and settings besides, in Lua.
    pub(crate) fn start(folder: &Path, modules: &str, settings: &str) -> Result<Self, String> {
        Self::prepare(folder, free_port()?, modules, settings, None)
    }

    /// Starts it in a network of its own, at the port where clients look for it that cannot be told another.
    pub(crate) fn start_within(network: &Rc<Network>, folder: &Path) -> Result<Self, String> {
        Self::prepare(folder, STANDARD_PORT, "", "", Some(Rc::clone(network)))
    }

    fn prepare(
        folder: &Path,
        port: u16,
        modules: &str,
        settings: &str,
        network: Option<Rc<Network>>,
    ) -> Result<Self, String> {
        let (authority, certificate, key) = certificates().map_err(|error| error.to_string())?;
        write(&folder.join("ca.pem"), &authority)?;
        let chain = format!("{certificate}{authority}");
        write(&folder.join("server.crt"), &chain)?;
        write(&folder.join("server.key"), &key)?;
        write(&folder.join("config.toml"), "")?;
        let mut group = String::from("[matrix]\n");
        for user in USERS {
            let account = format!("return {{ [\"password\"] = \"{user}pw\"; }};\n");
            let path = format!("data/{DOMAIN}/accounts/{user}.dat");
            write(&folder.join(path), &account)?;
            let password = folder.join(format!("{user}.password"));
            write(&password, &format!("{user}pw\n"))?;
            group += &format!("{user}@{DOMAIN}={user}\n");
        }
        write(&folder.join("groups.txt"), &group)?;
        let config = config(folder, port, modules, settings);
        write(&folder.join("prosody.cfg.lua"), &config)?;
        let folder = folder.to_path_buf();
        let mut server = Self {
            port,
            folder,
            process: None,
            network,
        };
        server.run()?;
        Ok(server)
    }

    /// Starts it again where it was, after [`stop`](Self::stop).
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let mut command = match &self.network {
            Some(network) => network.command("prosody"),
            None => Command::new("prosody"),
        };
        command
            .args(["-F", "--config"])
            .arg(self.folder.join("prosody.cfg.lua"));
        let process = Process::start("prosody", &self.folder, &mut command)?;
        let process = self.process.insert(process);
        if self.network.is_some() {
            // Its port is not of this network.
            return process.hear("Activated service 'c2s'");
        }
        let port = self.port;
        wait("Prosody", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
    }

    /// Ends it; the logins are gone.
    pub(crate) fn stop(&mut self) {
        self.process = None;
    }

    /// Where it keeps its state, its authority's certificate and the accounts' passwords.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The options of a program of ours for this account.
    pub(crate) fn account(&self, user: &str) -> Vec<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let (jid, password) = (
            format!("{user}@{DOMAIN}"),
            path(&format!("{user}.password")),
        );
        let server = format!("127.0.0.1:{}", self.port);
        let (ca, config) = (path("ca.pem"), path("config.toml"));
        let options = [
            ("--jid", jid),
            ("--password-file", password),
            ("--config", config),
            ("--server", server),
            ("--ca", ca),
        ];
        options
            .into_iter()
            .flat_map(|(option, value)| [option.to_owned(), value])
            .collect()
    }
}

/// What Debian's Prosody says that it is.
pub(crate) fn prosody_version() -> String {
    let output = Command::new("prosodyctl").arg("about").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    // Before it come complaints about what is not installed.
    let versions = text
        .lines()
        .filter_map(|line| line.strip_prefix("Prosody "));
    let mut versions = versions.filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    versions
        .next()
        .unwrap_or("of unknown version")
        .trim()
        .to_owned()
}

/// The version of a package of Debian that is installed.
pub(crate) fn debian_version(package: &str) -> String {
    let arguments = ["-W", "-f=${Version}", package];
    let output = Command::new("dpkg-query").args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.ok()
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| "of unknown version".into())
}

fn config(folder: &Path, port: u16, modules: &str, settings: &str) -> String {
    let at = folder.display();
    format!(
        r#"
run_as_root = true
daemonize = false
pidfile = "{at}/prosody.pid"
data_path = "{at}/data"
interfaces = {{ "127.0.0.1" }}
local_interfaces = {{ "127.0.0.1" }}
network_settings = {{ nagle = false }}
modules_enabled = {{ "roster"; "saslauth"; "tls"; "disco"; "carbons"; "pep"; "private"; "ping"; "version"; "groups"; "smacks"; "posix"; {modules} }}
modules_disabled = {{ "s2s"; "offline" }}
groups_file = "{at}/groups.txt"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
c2s_ports = {{ {port} }}
c2s_direct_tls_ports = {{}}
authentication = "internal_plain"
ssl = {{ certificate = "{at}/server.crt"; key = "{at}/server.key" }}
certificates = "{at}"
log = {{ {{ levels = {{ min = "info" }}, to = "console" }} }}
{settings}
VirtualHost "{DOMAIN}"
"#
    )
}

/// An authority, and what it has certified for the domain: certificate and key.
fn certificates() -> Result<(String, String, String), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "an authority for one run");
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(vec![DOMAIN.to_owned()])?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    Ok((authority, certificate, key.serialize_pem()))
}
