//! A place with an XMPP server, and the program `call` in processes of their own.

use crate::server::Server;
use serde_json::Value;
use session_voice::audio::{Babble, SoundSink, SoundSource, WavSink, WavSource, similarity};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const RATE: u32 = 48_000;

/// Who has no account, and is in nobody's roster: at the switchboard alone.
pub(crate) const STRANGER: &str = "stranger";

/// A server, and a folder that goes away.
pub(crate) struct Place {
    server: Server,
    folder: PathBuf,
}

impl Place {
    pub(crate) fn new(name: &str, server: Server) -> Self {
        let folder = std::env::temp_dir().join(format!("call-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), &server.authority).unwrap();
        fs::write(folder.join("config.toml"), "").unwrap();
        for (user, password) in &server.accounts {
            fs::write(folder.join(format!("{user}.password")), password).unwrap();
        }
        Self { server, folder }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The address of an account.
    pub(crate) fn address(&self, user: &str) -> String {
        format!("{user}@{}", self.server.domain)
    }

    /// Writes something like speech, other for each seed.
    pub(crate) fn speech(&self, name: &str, seed: u32, seconds: u32) -> String {
        let path = self.path(name);
        let mut sink = WavSink::new(BufWriter::new(File::create(&path).unwrap()), RATE).unwrap();
        let mut sound = vec![0.0; (RATE * seconds) as usize];
        Babble::new(seed).read(&mut sound).unwrap();
        sink.write(&sound).unwrap();
        sink.finish().unwrap();
        path
    }

    /// How much of what was said in one file is heard in another.
    pub(crate) fn likeness(&self, said: &str, heard: &str) -> f64 {
        similarity(&read(&self.path(said)), &read(&self.path(heard)), RATE)
    }

    /// The loudest tenth of a second of a recording, root of the mean square.
    pub(crate) fn loudest(&self, name: &str) -> f32 {
        let sound = read(&self.path(name));
        let parts = sound.chunks(RATE as usize / 10);
        let level =
            |part: &[f32]| (part.iter().map(|s| s * s).sum::<f32>() / part.len() as f32).sqrt();
        parts.map(level).fold(0.0, f32::max)
    }

    /// Runs `call` as a device of somebody, such as `bob/desk`, whom anybody may call where nothing else is said.
    pub(crate) fn call(&self, who: &str, words: &[&str]) -> Running {
        if words.contains(&"--accept") {
            return self.call_by_defaults(who, words);
        }
        self.call_by_defaults(who, &[words, &["--accept", "any"]].concat())
    }

    /// The same, with nothing but what it needs to log in.
    pub(crate) fn call_by_defaults(&self, who: &str, words: &[&str]) -> Running {
        let (user, device) = who.split_once('/').unwrap_or((who, "here"));
        let [verb, words @ ..] = words else {
            panic!("no verb")
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_call"));
        let server = format!("127.0.0.1:{}", self.server.port);
        command.args([verb, "--server", &server, "--json"]);
        if who == STRANGER {
            command.args(["--anonymous", self.server.domain]);
        } else {
            let jid = format!("{}/{device}", self.address(user));
            command.args(["--jid", &jid, "--password-file"]);
            command.arg(self.path(&format!("{user}.password")));
        }
        command.args(["--ca", &self.path("ca.pem")]);
        command.args(["--config", &self.path("config.toml")]);
        // No test is heard, and none hears who sits before the machine.
        command.env("ALSA_CONFIG_PATH", self.path("no-devices"));
        command.args(words);
        Running::new(who, command)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn read(path: &str) -> Vec<f32> {
    let file = BufReader::new(File::open(path).unwrap());
    let mut source = WavSource::new(file).unwrap();
    assert_eq!(source.sample_rate(), RATE);
    let mut sound = vec![0.0; source.remaining() as usize];
    let count = source.read(&mut sound).unwrap();
    sound.truncate(count);
    sound
}

/// What a program has said so far, and whether it is over.
#[derive(Default)]
struct Said {
    events: Vec<Value>,
    over: bool,
}

/// A `call` that runs. It is ended with its holder.
pub(crate) struct Running {
    who: String,
    child: Child,
    input: Option<ChildStdin>,
    said: Arc<(Mutex<Said>, Condvar)>,
    reader: Option<JoinHandle<()>>,
    errors: Option<JoinHandle<String>>,
}

/// How it ended.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) events: Vec<Value>,
    /// The problem that it told of, as JSON; null without one.
    pub(crate) problem: Value,
}

impl Running {
    fn new(who: &str, mut command: Command) -> Self {
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said: Arc<(Mutex<Said>, Condvar)> = Arc::default();
        let (told, output) = (Arc::clone(&said), child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { break };
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                told.0.lock().unwrap().events.push(event);
                told.1.notify_all();
            }
            told.0.lock().unwrap().over = true;
            told.1.notify_all();
        });
        let mut errors = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        Self {
            who: who.to_owned(),
            input: child.stdin.take(),
            child,
            said,
            reader: Some(reader),
            errors: Some(errors),
        }
    }

    /// Waits for something to happen that fits.
    pub(crate) fn wait(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let (lock, bell) = &*self.said;
        let begun = Instant::now();
        let mut said = lock.lock().unwrap();
        loop {
            if let Some(event) = said.events.iter().find(|event| fits(event)) {
                return event.clone();
            }
            let late = Instant::now().duration_since(begun) > LONG;
            assert!(
                !said.over && !late,
                "{}: no {what} in {:#?}",
                self.who,
                said.events
            );
            said = bell
                .wait_timeout(said, Duration::from_millis(100))
                .unwrap()
                .0;
        }
    }

    /// Waits for an event of this name.
    pub(crate) fn event(&self, name: &str) -> Value {
        self.wait(name, |event| event["event"] == name)
    }

    /// Whether there was an event of this name so far.
    pub(crate) fn has(&self, name: &str) -> bool {
        let said = self.said.0.lock().unwrap();
        said.events.iter().any(|event| event["event"] == name)
    }

    /// Ends it as a crash does, without a word to anybody.
    pub(crate) fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    /// Types a line.
    pub(crate) fn press(&mut self, keys: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{keys}").unwrap();
        input.flush().unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let late = Instant::now().duration_since(begun) > LONG;
            let said = self.said.0.lock().unwrap();
            assert!(!late, "{} does not end: {:#?}", self.who, said.events);
            drop(said);
            std::thread::sleep(Duration::from_millis(20));
        };
        self.reader.take().unwrap().join().unwrap();
        let errors = self.errors.take().unwrap().join().unwrap();
        let mut problems = errors
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let problem = problems.next_back().unwrap_or_default();
        let said = self.said.0.lock().unwrap();
        let code = status.code().unwrap_or(-1);
        Ended {
            code,
            events: said.events.clone(),
            problem,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking()
            && let Some(errors) = self.errors.take()
        {
            let said = self.said.0.lock();
            let events = said.map(|said| said.events.clone()).unwrap_or_default();
            eprintln!(
                "{}: {:#?}\n{}",
                self.who,
                events,
                errors.join().unwrap_or_default()
            );
        }
    }
}

impl Ended {
    /// Its last word about the call.
    pub(crate) fn done(&self) -> &Value {
        let done = self.events.iter().find(|event| event["event"] == "done");
        done.unwrap_or_else(|| panic!("{:#?}, {}", self.events, self.problem))
    }

    /// It ended well.
    pub(crate) fn assert_well(&self) {
        assert_eq!(self.code, 0, "{:#?}, {}", self.events, self.problem);
    }

    /// It ended with this code, for this reason.
    pub(crate) fn assert_problem(&self, code: i32, name: &str) {
        let found = (self.code, self.problem["code"].as_str());
        assert_eq!(
            found,
            (code, Some(name)),
            "{:#?}, {}",
            self.events,
            self.problem
        );
    }
}
