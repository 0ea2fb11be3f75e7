//! What the program tells: bars on a terminal, lines elsewhere, events for machines.

use super::{Arrival, Delivery, Inbox, board::Listed, share::Shelf};
use crate::{
    Hash,
    disk::{Meter, Skipped},
    name::misleads,
};
use indicatif::{HumanBytes, HumanDuration, MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use session_core::{Reason, StanzaError};
use session_xmpp::cli::{Account, Problem};
use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write},
    sync::Arc,
    time::Duration,
};
use tokio::task::JoinHandle;

/// How often bars move.
const TICK: Duration = Duration::from_millis(100);

/// How often machines are told how far something is.
const EVENT_EVERY: Duration = Duration::from_secs(1);

/// What is left out is told one by one, up to so many.
const TOLD_MAX: usize = 20;

/// How things are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Failures alone.
    Quiet,
    /// An object of JSON a line.
    Json,
    /// Lines, where nobody watches.
    Lines,
    /// Bars, where somebody does.
    Bars,
}

/// Where it is told: on standard error for people, on standard output for machines, unless that carries a file.
#[derive(Debug)]
pub struct View {
    mode: Mode,
    bars: MultiProgress,
    events: Events,
}

/// Where events for machines go.
#[derive(Clone, Copy, Debug)]
enum Events {
    Output,
    Error,
}

/// Something that is shown while it lasts.
#[derive(Debug)]
pub struct Shown {
    ticking: Option<JoinHandle<()>>,
    bar: Option<ProgressBar>,
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(ticking) = self.ticking.take() {
            ticking.abort();
        }
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl View {
    /// As the account's options say, and the terminal.
    pub fn new(account: &Account) -> Self {
        Self::with_mode(match (account.quiet, account.json) {
            (_, true) => Mode::Json,
            (true, _) => Mode::Quiet,
            _ if io::stderr().is_terminal() => Mode::Bars,
            _ => Mode::Lines,
        })
    }

    /// In this manner.
    pub fn with_mode(mode: Mode) -> Self {
        Self {
            mode,
            bars: MultiProgress::new(),
            events: Events::Output,
        }
    }

    /// With events on standard error: on standard output they would stand in the middle of a file.
    pub fn beside_file(self) -> Self {
        Self {
            events: Events::Error,
            ..self
        }
    }

    /// Shows how far something is, as long as what is returned is kept.
    pub fn track(&self, name: &str, meter: &Arc<Meter>) -> Shown {
        match self.mode {
            Mode::Quiet | Mode::Lines => Shown {
                ticking: None,
                bar: None,
            },
            Mode::Json => {
                self.event(&json!({"event": "begin", "name": name, "bytes": meter.bytes().1}));
                Shown {
                    ticking: Some(tokio::spawn(tell(
                        self.events,
                        name.to_owned(),
                        meter.clone(),
                    ))),
                    bar: None,
                }
            }
            Mode::Bars => {
                let bar = self.bars.add(bar(meter.bytes().1));
                let ticking = tokio::spawn(tick(bar.clone(), printable(name), meter.clone()));
                Shown {
                    ticking: Some(ticking),
                    bar: Some(bar),
                }
            }
        }
    }

    /// Something was sent.
    pub fn sent(&self, sent: &Delivery) {
        self.all_left_out(&sent.left_out.0);
        if self.mode == Mode::Json {
            return self.event(&json!({
                "event": "sent", "name": sent.name, "bytes": sent.bytes, "offset": sent.offset,
                "sha256": sent.hash.as_ref().map(hex), "files": sent.files.0, "skipped": sent.files.1,
                "refused": sent.refused, "failed": sent.left_out.1, "seconds": sent.took.as_secs_f64(), "path": sent.path,
                "protection": sent.protection, "confirmed": sent.confirmed,
            }));
        }
        let mut line = format!("sent {}: ", printable(&sent.name));
        count(
            &mut line,
            sent.hash.is_none().then_some((sent.files, sent.refused)),
            sent.bytes,
            sent.offset,
            sent.took,
        );
        how(&mut line, sent.hash.as_ref(), &sent.path, &sent.protection);
        if !sent.confirmed {
            line.push_str("\n  the other side has not said that it has it");
        }
        self.say(&line);
    }

    /// Something was received.
    pub fn received(&self, arrived: &Arrival) {
        if self.mode == Mode::Json {
            return self.event(&json!({
                "event": "received", "from": arrived.from, "name": arrived.name, "bytes": arrived.bytes,
                "offset": arrived.offset, "sha256": arrived.hash.as_ref().map(hex),
                "verified": arrived.verified, "files": arrived.files.0, "skipped": arrived.files.1,
                "refused": arrived.refused, "failed": arrived.failed.1, "seconds": arrived.took.as_secs_f64(), "path": arrived.path,
                "protection": arrived.protection,
            }));
        }
        for (path, why) in arrived.failed.0.iter().take(TOLD_MAX) {
            self.complain(&format!("{path}: {why}"));
        }
        let name = printable(&arrived.name);
        let mut line = format!("received {name} from {}: ", printable(&arrived.from));
        let folder = arrived.hash.is_none();
        count(
            &mut line,
            folder.then_some((arrived.files, arrived.refused)),
            arrived.bytes,
            arrived.offset,
            arrived.took,
        );
        how(
            &mut line,
            arrived.hash.as_ref(),
            &arrived.path,
            &arrived.protection,
        );
        if !arrived.verified {
            line.push_str("\n  its sender named no hash: whether it is undamaged is not known");
        }
        self.say(&line);
    }

    /// Something was offered and is not taken.
    pub fn refused(&self, from: &str, name: &str, reason: &Reason) {
        let why = reason.text.as_deref().unwrap_or_default();
        if self.mode == Mode::Json {
            return self
                .event(&json!({"event": "refused", "from": from, "name": name, "why": why}));
        }
        let (name, from) = (printable(name), printable(from));
        self.say(&format!("not taken: {name} from {from}: {why}"));
    }

    /// What of many things is not sent.
    pub(super) fn all_left_out(&self, what: &[Skipped]) {
        for what in what.iter().take(TOLD_MAX) {
            self.left_out(what);
        }
    }

    /// Something is not sent.
    pub fn left_out(&self, what: &Skipped) {
        let (path, why) = match what {
            Skipped::Link(path) => (path, "links are not sent".to_owned()),
            Skipped::Special(path) => (path, "it is neither file nor folder".to_owned()),
            Skipped::Unfinished(path) => (path, "it is not whole".to_owned()),
            Skipped::Refused(path) => (
                path,
                "another file has its name there, and stays".to_owned(),
            ),
            Skipped::Fault(error) => (&error.path, error.problem.to_string()),
        };
        let failed = what.is_failure();
        if self.mode == Mode::Json {
            let path = path.to_string_lossy();
            return self
                .event(&json!({"event": "left-out", "path": path, "why": why, "failed": failed}));
        }
        let line = format!("left out {}: {why}", printable(&path.to_string_lossy()));
        if failed {
            self.complain(&line);
        } else {
            self.say(&line);
        }
    }

    /// Something failed, and the rest goes on.
    pub fn problem(&self, problem: &Problem) {
        match self.mode {
            Mode::Json => self.events.line(&problem.to_json()),
            Mode::Quiet | Mode::Lines | Mode::Bars => self.complain(&problem.to_string()),
        }
    }

    /// We wait for files.
    pub fn waiting(&self, address: &str, inbox: &Inbox) {
        if self.mode == Mode::Json {
            let into = inbox.place();
            return self.event(&json!({"event": "ready", "address": address, "into": into}));
        }
        self.say(&format!(
            "ready: {address} puts what is sent into {}",
            inbox.place()
        ));
    }

    /// We share files.
    pub fn sharing(&self, address: &str, shelf: &Shelf) {
        let path = shelf.path().display().to_string();
        if self.mode == Mode::Json {
            return self.event(&json!({"event": "ready", "address": address, "shares": path}));
        }
        self.say(&format!("ready: {address} gives what is in {path}"));
    }

    /// Contacts see what we share.
    pub fn published(&self, count: usize, more: bool) {
        if self.mode == Mode::Json {
            return self.event(&json!({"event": "published", "files": count, "more": more}));
        }
        let more = match more {
            true => "; further ones can be had by their names",
            false => "",
        };
        self.say(&format!("contacts see {count} files{more}"));
    }

    /// Nobody sees what we share.
    pub fn unpublished(&self, error: &StanzaError) {
        let why = error.to_string();
        if self.mode == Mode::Json {
            return self.event(&json!({"event": "unpublished", "why": why}));
        }
        self.say(&format!(
            "contacts cannot list what is shared ({why}); it can be had by name"
        ));
    }

    /// What somebody shares.
    pub fn listed(&self, listed: &[Listed]) {
        for Listed { file, from } in listed {
            let name = file.name.as_deref().unwrap_or_default();
            let date = file.date.map(|date| date.to_string());
            if self.mode == Mode::Json {
                self.event(&json!({
                    "event": "listed", "name": name, "size": file.size, "date": date, "from": from.as_str(),
                }));
                continue;
            }
            let size = file
                .size
                .map_or_else(String::new, |size| HumanBytes(size).to_string());
            let date = date.unwrap_or_default();
            Events::Output.line(&format!(
                "{size:>12}  {date:20}  {from}:{}",
                printable(name)
            ));
        }
    }

    fn event(&self, event: &Value) {
        if self.mode == Mode::Json {
            self.events.line(&event.to_string());
        }
    }

    /// For those who watch.
    fn say(&self, text: &str) {
        if self.mode != Mode::Quiet && self.mode != Mode::Json {
            self.complain(text);
        }
    }

    /// For everybody.
    fn complain(&self, text: &str) {
        self.bars.suspend(|| {
            // Who closed it does not want to know.
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }
}

impl Events {
    fn line(self, text: &str) {
        // Who closed it does not want to know.
        let _ = match self {
            Self::Output => line_to(io::stdout().lock(), text),
            Self::Error => line_to(io::stderr().lock(), text),
        };
    }
}

fn line_to(mut out: impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "{text}")?;
    out.flush()
}

/// What others write does not steer a terminal, nor look like a line of ours.
pub(super) fn printable(text: &str) -> String {
    let plain = |c: char| match misleads(c) {
        true => char::REPLACEMENT_CHARACTER,
        false => c,
    };
    text.chars().map(plain).collect()
}

fn count(
    line: &mut String,
    folder: Option<((u64, u64), u64)>,
    bytes: u64,
    offset: u64,
    took: Duration,
) {
    if let Some(((moved, there), refused)) = folder {
        let _ = write!(line, "{moved} files, ");
        if there > 0 {
            let _ = write!(line, "{there} there already, ");
        }
        if refused > 0 {
            let _ = write!(line, "{refused} not taken as others have their names, ");
        }
    }
    let seconds = took.as_secs_f64();
    let rate = bytes as f64 / seconds.max(1e-6);
    let _ = write!(
        line,
        "{} in {seconds:.2} s ({}/s)",
        HumanBytes(bytes),
        HumanBytes(rate as u64)
    );
    if offset > 0 {
        let _ = write!(line, ", from {} on", HumanBytes(offset));
    }
}

fn how(line: &mut String, hash: Option<&Hash>, path: &str, protection: &str) {
    if let Some(hash) = hash {
        let _ = write!(line, "\n  sha-256 {}", hex(hash));
    }
    let _ = write!(line, "\n  {protection}");
    if !path.is_empty() {
        let _ = write!(line, "; {path}");
    }
}

/// A digest in hexadecimal, as `sha256sum` prints it.
fn hex(hash: &Hash) -> String {
    let digits = |text: &mut String, byte: &u8| {
        let _ = write!(text, "{byte:02x}");
    };
    let mut text = String::new();
    hash.value().iter().for_each(|byte| digits(&mut text, byte));
    text
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let (template, bar) = match bytes {
        None | Some(0) => ("{msg}  {bytes}  {bytes_per_sec}", ProgressBar::no_length()),
        Some(bytes) => (
            "{msg}  {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}",
            ProgressBar::new(bytes),
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("━━─")),
        Err(_) => bar,
    }
}

async fn tick(bar: ProgressBar, name: String, meter: Arc<Meter>) {
    let mut ticks = tokio::time::interval(TICK);
    let mut there = 0;
    loop {
        ticks.tick().await;
        let now = meter.there();
        if std::mem::replace(&mut there, now) != now {
            // What was there already says nothing of how fast the rest is.
            bar.set_position(meter.bytes().0);
            bar.reset_eta();
        }
        let (done, all) = meter.files();
        let message = match all {
            0 | 1 => name.clone(),
            all => format!("{name} [{done}/{all}] {}", printable(&meter.current())),
        };
        bar.set_message(message);
        bar.set_position(meter.bytes().0);
    }
}

async fn tell(events: Events, name: String, meter: Arc<Meter>) {
    let mut ticks = tokio::time::interval(EVENT_EVERY);
    ticks.tick().await;
    let mut before = 0;
    loop {
        ticks.tick().await;
        let event = progress(&name, &meter, &mut before);
        events.line(&event.to_string());
    }
}

/// How far something is, and what has moved of it since `before`. Of what is not known nothing is made up.
fn progress(name: &str, meter: &Meter, before: &mut u64) -> Value {
    let ((bytes, total), (done, files)) = (meter.bytes(), meter.files());
    let moved = bytes.saturating_sub(meter.there());
    let rate = moved.saturating_sub(std::mem::replace(before, moved));
    let left = total.and_then(|total| total.saturating_sub(bytes).checked_div(rate));
    let eta = left.map(|seconds| HumanDuration(Duration::from_secs(seconds)).to_string());
    json!({
        "event": "progress", "name": name, "done": bytes, "bytes": total, "rate": rate,
        "seconds_left": left, "left": eta, "files_done": done, "files": files,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_size_has_no_end_in_sight() {
        let meter = Meter::default();
        meter.expect(1, None);
        meter.add(300);
        let mut before = 100;
        let told = progress("stdin", &meter, &mut before);
        assert_eq!((&told["done"], &told["rate"]), (&300.into(), &200.into()));
        assert_eq!(
            (&told["bytes"], &told["seconds_left"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!((&told["left"], before), (&Value::Null, 300));
        meter.expect(1, Some(900));
        meter.add(100);
        let told = progress("file", &meter, &mut before);
        assert_eq!(
            (&told["bytes"], &told["seconds_left"]),
            (&900.into(), &5.into())
        );
    }
}
