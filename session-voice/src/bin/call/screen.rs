//! What is shown: a line for people or an object for programs, and a live line that is written over.

use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    sync::atomic::{AtomicBool, Ordering},
};

/// Where it is shown.
#[derive(Debug, Default)]
pub(crate) struct Screen {
    json: bool,
    quiet: bool,
    /// The terminal does not begin a new line by itself.
    is_raw: bool,
    /// A live line stands at the bottom.
    is_live: AtomicBool,
}

impl Screen {
    /// `keys_are_raw` is whether the terminal gives each key at once, and then takes each character as it is.
    pub(crate) fn new(json: bool, quiet: bool, keys_are_raw: bool) -> Self {
        Self {
            json,
            quiet,
            is_raw: keys_are_raw && std::io::stdout().is_terminal(),
            is_live: AtomicBool::new(false),
        }
    }

    /// Tells that something happened: to programs its name and facts, which are an object; to people the text.
    pub(crate) fn tell(&self, event: &str, mut facts: Value, text: &str) {
        if self.json {
            if let Some(facts) = facts.as_object_mut() {
                facts.insert("event".to_owned(), json!(event));
            }
            self.write(&format!("{facts}"), "\n");
        } else if !self.quiet && !text.is_empty() {
            let first = if self.is_live.swap(false, Ordering::Relaxed) {
                "\r\x1b[K"
            } else {
                ""
            };
            self.write(&format!("{first}{text}"), "\n");
        }
    }

    /// Tells that something was switched here.
    pub(crate) fn switched(&self, what: &str, on: bool) {
        let text = format!("{what} {}", if on { "on" } else { "off" });
        self.tell("switched", json!({ "what": what, "on": on }), &text);
    }

    /// Tells that what was pressed is not done.
    pub(crate) fn refused(&self, why: &str) {
        self.tell("refused", json!({ "why": why }), why);
    }

    /// Shows how it goes: to people in the place of what it showed before.
    pub(crate) fn show(&self, event: &str, facts: Value, text: &str) {
        if self.json {
            self.tell(event, facts, "");
        } else if !self.quiet && std::io::stdout().is_terminal() {
            self.is_live.store(true, Ordering::Relaxed);
            self.write(&format!("\r\x1b[K{text}"), "");
        }
    }

    fn write(&self, text: &str, end: &str) {
        let mut text = format!("{text}{end}");
        if self.is_raw {
            text = text.replace('\n', "\r\n");
        }
        let mut out = std::io::stdout().lock();
        // Who does not listen any more is told nothing; what is shown late is of no use.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
