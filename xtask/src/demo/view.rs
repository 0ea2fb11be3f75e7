//! What the user sees: a line for each thing that happens, and a bar for what takes time.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};
use session_xmpp::trace::Trace;

use crate::tools::Failure;

/// Where everything that happens is told.
pub(super) struct View {
    begun: Instant,
    format: Format,
    bar: ProgressBar,
    trace: Trace,
    path: String,
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

impl View {
    /// A view that writes to standard output, and everything also to the file `trace`.
    pub(super) fn new(format: Format, trace: Option<&Path>) -> Result<Self, Failure> {
        let path = trace
            .map(|path| path.display().to_string())
            .unwrap_or_default();
        let trace = trace.map_or_else(|| Ok(Trace::default()), Trace::create);
        let trace = trace.map_err(|error| {
            Failure::new(
                format!("create {path}"),
                error.to_string(),
                "choose a folder that is there and that you may write to",
            )
        })?;
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
            path,
        })
    }

    /// Where everything is traced.
    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// One stanza on its way.
    pub(super) fn stanza(&self, from: &str, to: &str, what: &str) {
        let text = format!("{:<14} {what}", format!("{from} → {to}"));
        let value = json!({ "event": "stanza", "from": from, "to": to, "what": what });
        self.line(self.time(), &text, value);
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
        self.trace.finish().map_err(|error| {
            Failure::new(
                format!("write {}", self.path),
                error.to_string(),
                "is there room on the disk?",
            )
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_cannot_be_put_anywhere() {
        let nowhere = View::new(Format::Silent, Some(Path::new("/no/such/folder/trace")));
        let failure = nowhere.err().unwrap().to_string();
        assert!(failure.contains("choose a folder"), "{failure}");
    }
}
