//! What the user sees: a line for each thing that happens, and a bar for what takes time.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use crate::tools::Failure;

/// Where everything that happens is told.
pub(super) struct View {
    begun: Instant,
    format: Format,
    bar: ProgressBar,
    trace: Option<Trace>,
}

/// How things are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines for people, and a bar where there is a terminal.
    Text,
    /// An object a line.
    Json,
    /// Not at all.
    #[cfg(test)]
    Silent,
}

struct Trace {
    path: String,
    file: Mutex<io::Result<BufWriter<File>>>,
}

impl View {
    /// A view that writes to standard output, and stanzas also to the file `trace`.
    pub(super) fn new(format: Format, trace: Option<&Path>) -> Result<Self, Failure> {
        let trace = trace.map(Trace::create).transpose()?;
        let terminal = io::stdout().is_terminal() && io::stderr().is_terminal();
        let interactive = format == Format::Text && terminal;
        let target = if interactive {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Ok(Self {
            begun: Instant::now(),
            format,
            bar: ProgressBar::with_draw_target(None, target),
            trace,
        })
    }

    /// One stanza on its way.
    pub(super) fn stanza(&self, from: &str, to: &str, what: Option<&str>, bytes: &[u8]) {
        let time = self.time();
        if let Some(trace) = &self.trace {
            trace.write(time, from, to, bytes);
        }
        let Some(what) = what else { return };
        let text = format!("{:<14} {what}", format!("{from} → {to}"));
        let value = json!({ "event": "stanza", "from": from, "to": to, "what": what });
        self.line(time, &text, value);
    }

    /// Something that one side does or learns.
    pub(super) fn fact(&self, who: &str, kind: &str, what: impl Display) {
        let what = what.to_string();
        let text = format!("{who:<14} {kind} {what}");
        let value = json!({ "event": kind, "who": who, "what": what });
        self.line(self.time(), &text, value);
    }

    /// How many bytes will arrive.
    pub(super) fn expect(&self, bytes: u64) {
        let template = "  {bar:40} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.set_length(bytes);
        self.bar.reset();
    }

    /// How many bytes have arrived.
    pub(super) fn arrived(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    /// Everything has arrived.
    pub(super) fn landed(&self) {
        self.bar.finish_and_clear();
    }

    /// Nothing more is to be shown. An error when the trace is not whole.
    pub(super) fn finish(&self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        self.trace.as_ref().map_or(Ok(()), Trace::finish)
    }

    fn time(&self) -> Duration {
        Instant::now().saturating_duration_since(self.begun)
    }

    fn line(&self, time: Duration, text: &str, mut value: Value) {
        let seconds = time.as_secs_f64();
        match self.format {
            Format::Text => {
                let line = format!("{seconds:8.3}  {text}");
                self.bar.suspend(|| print(&line));
            }
            Format::Json => {
                value["time"] = json!(seconds);
                print(&value.to_string());
            }
            #[cfg(test)]
            Format::Silent => {}
        }
    }
}

/// A line on standard output. Who closes it early wants to see no more, and gets the exit code still.
pub(super) fn print(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

impl Trace {
    fn create(path: &Path) -> Result<Self, Failure> {
        let file = File::create(path).map_err(|error| {
            Failure::new(
                format!("create {}", path.display()),
                error.to_string(),
                "choose a folder that is there and that you may write to",
            )
        })?;
        Ok(Self {
            path: path.display().to_string(),
            file: Mutex::new(Ok(BufWriter::new(file))),
        })
    }

    fn write(&self, time: Duration, from: &str, to: &str, stanza: &[u8]) {
        let mut file = self.file();
        let written = file.as_mut().map_or(Ok(()), |file| {
            let seconds = time.as_secs_f64();
            write!(file, "{seconds:.6} {from} -> {to} ")?;
            file.write_all(stanza)?;
            file.write_all(b"\n")
        });
        if let Err(error) = written {
            *file = Err(error);
        }
    }

    fn finish(&self) -> Result<(), Failure> {
        let mut file = self.file();
        let flushed = match &mut *file {
            Ok(file) => file.flush(),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        };
        flushed.map_err(|error| {
            Failure::new(
                format!("write {}", self.path),
                error.to_string(),
                "is there room on the disk?",
            )
        })
    }

    fn file(&self) -> MutexGuard<'_, io::Result<BufWriter<File>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_holds_every_stanza_and_cannot_be_put_anywhere() {
        let path = crate::tools::target_dir().join(format!("trace-{}", std::process::id()));
        let view = View::new(Format::Silent, Some(&path)).unwrap();
        view.stanza("alice", "bob", Some("something"), b"<iq/>");
        view.stanza("bob", "alice", None, b"<message/>");
        view.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let ends: Vec<&str> = text
            .lines()
            .map(|line| &line[line.find(' ').unwrap()..])
            .collect();
        assert_eq!(ends, [" alice -> bob <iq/>", " bob -> alice <message/>"]);

        let nowhere = View::new(Format::Silent, Some(Path::new("/no/such/folder/trace")));
        let failure = nowhere.err().unwrap().to_string();
        assert!(failure.contains("choose a folder"), "{failure}");
    }
}
