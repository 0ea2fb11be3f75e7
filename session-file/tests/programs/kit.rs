//! Processes, and a place on a disk.

use super::switchboard::Running;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(180);

/// Whether the large things are to be large.
pub(crate) fn is_long() -> bool {
    std::env::var_os("PCP_LONG").is_some()
}

/// A server, and a folder that goes with it.
pub(crate) struct Place {
    pub(crate) server: Running,
    folder: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        Self::with_relays(name, &[])
    }

    pub(crate) fn with_relays(name: &str, relays: &[(&str, u16, &str)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let unique = format!("pcp-{name}-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(unique);
        fs::create_dir_all(&folder).unwrap();
        let server = Running::new(relays);
        fs::write(folder.join("ca.pem"), &server.authority).unwrap();
        fs::write(folder.join("password"), "secret\n").unwrap();
        fs::write(folder.join("config.toml"), "").unwrap();
        Self { server, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        self.text(name)
    }

    /// What somebody runs: `pcp`, this subcommand and these arguments, with an account. Who is accepted is left to the
    /// default, as people leave it: those in the roster, who are all that have accounts.
    pub(crate) fn words(&self, user: &str, words: &[&str]) -> Vec<String> {
        let server = format!("127.0.0.1:{}", self.server.port());
        let mut all = vec![env!("CARGO_BIN_EXE_pcp").to_owned()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        let jid = format!("{user}@localhost");
        for (name, value) in [
            ("--jid", jid),
            ("--password-file", self.text("password")),
            ("--config", self.text("config.toml")),
            ("--ca", self.text("ca.pem")),
            ("--server", server),
        ] {
            all.extend([name.to_owned(), value]);
        }
        all.push("--json".to_owned());
        all
    }

    pub(crate) fn run(&self, user: &str, words: &[&str]) -> Program {
        Program::start(&self.words(user, words))
    }

    /// One who receives, and is ready.
    pub(crate) fn receiver(&self, user: &str, into: &str, words: &[&str]) -> Program {
        let into = self.text(into);
        let mut all = vec!["receive", "--into", &into];
        all.extend(words);
        let mut program = self.run(user, &all);
        program.event("ready");
        program
    }

    /// Whether nothing is in a folder that is not whole, but in the program's own files.
    pub(crate) fn assert_clean(&self, folder: &str) {
        for entry in fs::read_dir(self.path(folder)).unwrap() {
            let name = entry.unwrap().file_name();
            let name = name.to_string_lossy();
            assert!(!name.starts_with(".pcp-"), "{name} is left over");
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A process.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    /// Every event so far.
    pub(crate) events: Vec<Value>,
    what: String,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// What it said, and last what it complained about.
    pub(crate) events: Vec<Value>,
}

impl Ended {
    /// The code of the problem with which it ended.
    pub(crate) fn problem(&self) -> &str {
        let last = self.events.iter().rev();
        let mut codes = last.filter_map(|event| event["code"].as_str());
        codes.next().unwrap_or_default()
    }

    pub(crate) fn event(&self, name: &str) -> &Value {
        let found = self.events.iter().rfind(|event| event["event"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

impl Program {
    pub(crate) fn start(words: &[String]) -> Self {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        Self::spawn(command, Stdio::null())
    }

    pub(crate) fn spawn(mut command: Command, input: Stdio) -> Self {
        let what = format!("{command:?}");
        command
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let out = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            events: Vec::new(),
            what,
        }
    }

    pub(crate) fn input(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Waits for an event, or a problem of this code.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        self.event_within(name, LONG)
    }

    pub(crate) fn event_within(&mut self, name: &str, time: Duration) -> Value {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no {name}: {} {:?}", self.what, self.events);
            };
            let event: Value = serde_json::from_str(&line).unwrap();
            self.events.push(event.clone());
            if event["event"] == name || event["code"] == name {
                return event;
            }
        }
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Ended {
        let until = Instant::now() + LONG;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "it never ends: {}", self.what);
            thread::sleep(Duration::from_millis(10));
        };
        let mut errors = String::new();
        let mut from = self.child.stderr.take().unwrap();
        from.read_to_string(&mut errors).unwrap();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.events.push(serde_json::from_str(&line).unwrap());
        }
        // Why it ended stands where people look for failures.
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| line.into());
        self.events.extend(errors.lines().map(read));
        Ended {
            code: status.code(),
            events: std::mem::take(&mut self.events),
        }
    }

    pub(crate) fn succeed(self) -> Ended {
        let what = self.what.clone();
        let ended = self.finish();
        assert_eq!(ended.code, Some(0), "{what}: {ended:?}");
        ended
    }

    /// Asks it to end (SIGTERM).
    pub(crate) fn ask_to_end(&self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status();
        assert!(asked.unwrap().success());
    }

    /// Ends it at once, as a crash does (SIGKILL), if it has not ended.
    pub(crate) fn crash(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same, for good.
    pub(crate) fn kill(mut self) {
        self.crash();
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes that tell where they belong.
pub(crate) fn bytes(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut all = Vec::with_capacity(size + 8);
    while all.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(size);
    all
}

/// The SHA-256 of a file, as events tell it.
pub(crate) fn sha256(path: &Path) -> String {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut file = fs::File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => break,
            count => hasher.update(&buffer[..count]),
        }
    }
    let hex = |byte: &u8| format!("{byte:02x}");
    hasher.finalize().iter().map(hex).collect()
}
