//! Two programs that speak the words of `cargo xtask peer`, and the lines carried between them.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

/// How long a program may take to end after it was told to.
const ENDING: Duration = Duration::from_secs(3);

/// Lines that wait.
const LINES_MAX: usize = 1 << 10;

/// What one side said.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Milliseconds from the peer's credentials to the first path.
    pub(crate) connected: Option<f64>,
    /// And to the one that stays.
    pub(crate) nominated: Option<f64>,
    /// The path in its own words.
    pub(crate) path: Option<String>,
    /// The first candidate of each kind: milliseconds.
    pub(crate) gathered: Vec<(String, f64)>,
    done: Option<String>,
    lines: Vec<String>,
}

/// One of the two programs. It is ended with whoever holds it.
struct Side {
    child: Child,
    stdin: ChildStdin,
    seen: Seen,
    /// What the other is to hear once it has begun.
    waiting: Vec<String>,
    local: bool,
    /// It says nothing before it has heard the other.
    answers: bool,
}

impl Drop for Side {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs both until each has sent all its data and has that of the other.
///
/// Credentials are carried over when both have said theirs, so that the clocks of both begin together, but for one that
/// only answers.
///
/// # Errors
/// What went wrong, with all that the two said.
pub(crate) fn connect(commands: [Command; 2], limit: Duration) -> Result<[Seen; 2], String> {
    let (lines, inbox) = mpsc::sync_channel(LINES_MAX);
    let mut sides = Vec::new();
    for (number, command) in commands.into_iter().enumerate() {
        sides.push(Side::start(number, command, lines.clone())?);
    }
    drop(lines);
    let outcome = exchange(&mut sides, &inbox, limit);
    for side in &mut sides {
        side.close();
    }
    let seen: Vec<Seen> = sides
        .iter_mut()
        .map(|side| std::mem::take(&mut side.seen))
        .collect();
    if let Err(why) = outcome {
        let said = |seen: &Seen| seen.lines.join("\n          ");
        let all: Vec<String> = seen.iter().map(said).collect();
        return Err(format!("{why}\n        A {}\n        B {}", all[0], all[1]));
    }
    <[Seen; 2]>::try_from(seen).map_err(|_| "there are two".to_owned())
}

fn exchange(
    sides: &mut [Side],
    inbox: &Receiver<(usize, Option<String>)>,
    limit: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + limit;
    let mut started = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (number, line) = match inbox.recv_timeout(left) {
            Ok(said) => said,
            Err(RecvTimeoutError::Timeout) => return Err(format!("not within {limit:?}")),
            Err(RecvTimeoutError::Disconnected) => return Err("both ended".to_owned()),
        };
        let name = ["A", "B"][number];
        let line = line.ok_or_else(|| format!("{name} ended too soon"))?;
        sides[number].hear(&line);
        let both = sides.iter().all(|side| side.local);
        for from in 0..2 {
            if both || sides[from].local && sides[1 - from].answers {
                for line in std::mem::take(&mut sides[from].waiting) {
                    sides[1 - from].say(&line);
                }
            }
        }
        if !started && sides.iter().all(|side| side.seen.nominated.is_some()) {
            started = true;
            sides.iter_mut().for_each(|side| side.say("start"));
        }
        if let [Some(a), Some(b)] = [0, 1].map(|number| sides[number].seen.done.as_deref()) {
            return compare(a, b);
        }
    }
}

/// What one sent is what the other received: `done sent N SUM recv N SUM`.
fn compare(a: &str, b: &str) -> Result<(), String> {
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (words(a), words(b));
    let equal = a.len() == 7 && b.len() == 7 && a[2..4] == b[5..7] && b[2..4] == a[5..7];
    if equal {
        Ok(())
    } else {
        Err("what one sent is not what the other received".to_owned())
    }
}

impl Side {
    fn start(
        number: usize,
        mut command: Command,
        lines: SyncSender<(usize, Option<String>)>,
    ) -> Result<Self, String> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{:?} could not run: {error}", command.get_program()))?;
        let no_pipe = || "a pipe is missing".to_owned();
        let stdin = child.stdin.take().ok_or_else(no_pipe)?;
        let stdout = child.stdout.take().ok_or_else(no_pipe)?;
        let stderr = child.stderr.take().ok_or_else(no_pipe)?;
        let errors = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = errors.send((number, Some(format!("! {line}"))));
            }
        });
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // Nobody listens any more when the outcome is known.
                let _ = lines.send((number, Some(line)));
            }
            let _ = lines.send((number, None));
        });
        Ok(Self {
            child,
            stdin,
            seen: Seen::default(),
            waiting: Vec::new(),
            local: false,
            answers: false,
        })
    }

    fn hear(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "local" => {
                self.local = true;
                self.waiting.push(format!("remote {rest}"));
            }
            "answers" => self.answers = true,
            "cand" | "dtls" | "sctp" => self.waiting.push(line.to_owned()),
            "gathering-done" => self.waiting.push("remote-done".to_owned()),
            "connected" => self.seen.connected = rest.parse().ok(),
            "nominated" => self.seen.nominated = rest.parse().ok(),
            "path" => self.seen.path = Some(rest.to_owned()),
            "gathered" => {
                if let Some((kind, time)) = rest.split_once(' ')
                    && let Ok(time) = time.parse()
                {
                    self.seen.gathered.push((kind.to_owned(), time));
                }
            }
            "done" => self.seen.done = Some(line.to_owned()),
            _ => {}
        }
        self.seen.lines.push(line.to_owned());
    }

    fn say(&mut self, line: &str) {
        // A program that has ended is noticed by the end of its output.
        let _ = writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush());
    }

    fn close(&mut self) {
        self.say("close");
        let deadline = Instant::now() + ENDING;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_compared_crosswise() {
        let a = "done sent 5 0000000a recv 7 0000000b";
        assert!(compare(a, "done sent 7 0000000b recv 5 0000000a").is_ok());
        assert!(compare(a, "done sent 7 0000000b recv 5 0000000c").is_err());
        assert!(compare(a, "done").is_err());
    }

    #[test]
    fn a_program_that_ends_is_told_with_its_last_words() {
        let program = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let commands = [program("echo local a b; exit 1"), program("cat >/dev/null")];
        let why = connect(commands, Duration::from_secs(5)).unwrap_err();
        assert!(
            why.contains("A ended too soon") && why.contains("local a b"),
            "{why}"
        );
    }
}
