//! Traces: everything that happens, one JSON object a line, secrets masked (feature `trace`).
//!
//! A [`Trace`] takes lines; [`Trace::link`] wraps a [`Link`] so that its stanzas are told, and [`Trace::observer`] tells what
//! becomes of an endpoint's sessions. `cargo xtask trace FILE` draws the result for people.
//!
//! # The lines
//! Each has `t`, the seconds since the trace began; `who`, the name of the side that tells; and `event`:
//!
//! | event | with |
//! |---|---|
//! | `stanza` | `dir` (`in`, `out`), `peer`, `xml` |
//! | `link` | `state` (`up`, `down`, `ended`), `address` or `why` |
//! | `session` | `id`, `sid`, `peer`, `role`, `dialect` |
//! | `state` | `id`, `state` |
//! | `transport` | `id`, `content`, `transport`, `state` |
//! | `path` | `id`, `channel`, `path` |
//! | `pair` | `id`, `channel`, `local`, `remote`, `state`, and what else a transport tells of it |
//! | `socket` | `socket`, `what` (`bind`, `bound`, `connect`, `connected`, `closed`), `address`, `why` |
//! | `error` | `id`, `error`, `fatal` |
//! | `end` | `id`, `why`: why did it end, in one line |
//! | `note` | whatever a program tells, in `text` |
//!
//! # What is masked
//! What lets somebody else in: SASL's messages, passwords, ICE passwords, credentials of relays, tokens, keys of SRTP; and
//! the content of in-band bytestreams, of which the length is told. See [`mask`].

mod follow;
mod mask;

pub use mask::{Masked, mask};

use crate::endpoint::{Link, LinkError, LinkEvent, lock};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{
    fmt,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Instant,
};

/// The most that a trace may grow to, in bytes. Past it there is one last line, `{"event":"full"}`.
pub const TRACE_MAX: u64 = 1 << 30;

/// Takes what happens. Cheap to clone; all clones are one. The default takes nothing, and costs nothing.
#[derive(Clone, Default)]
pub struct Trace(Option<Arc<Inner>>);

struct Inner {
    begun: Instant,
    sink: Mutex<Sink>,
}

struct Sink {
    out: Box<dyn Write + Send>,
    written: u64,
    failed: Option<io::Error>,
}

impl Trace {
    /// One that writes to a new file.
    ///
    /// # Errors
    /// When there can be no such file.
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self::to(BufWriter::new(File::create(path)?)))
    }

    /// One that writes wherever you like. Time begins now.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self(Some(Arc::new(Inner {
            begun: Instant::now(),
            sink: Mutex::new(Sink {
                out: Box::new(out),
                written: 0,
                failed: None,
            }),
        })))
    }

    /// Whether anybody hears it.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Something that happens: an object of whatever else is to be told.
    pub fn event(&self, who: &str, event: &str, what: Value) {
        let Some(inner) = &self.0 else { return };
        let seconds = Instant::now()
            .saturating_duration_since(inner.begun)
            .as_micros() as f64
            / 1e6;
        let mut line = Map::new();
        line.insert("t".to_owned(), json!(seconds));
        line.insert("who".to_owned(), json!(who));
        line.insert("event".to_owned(), json!(event));
        if let Value::Object(what) = what {
            line.extend(what);
        }
        lock(&inner.sink).write(&Value::Object(line));
    }

    /// A stanza that leaves or arrives, with its secrets masked.
    pub fn stanza(&self, who: &str, is_sent: bool, stanza: &[u8]) {
        if !self.is_on() {
            return;
        }
        let masked = mask(stanza);
        let what = json!({
            "dir": if is_sent { "out" } else { "in" },
            "peer": if is_sent { &masked.to } else { &masked.from },
            "xml": masked.xml,
        });
        self.event(who, "stanza", what);
    }

    /// Something that a program tells.
    pub fn note(&self, who: &str, text: &str) {
        self.event(who, "note", json!({ "text": text }));
    }

    /// A link whose stanzas are told.
    pub fn link<L: Link>(&self, who: &str, link: L) -> TracedLink<L> {
        TracedLink {
            link,
            who: who.into(),
            trace: self.clone(),
        }
    }

    /// Writes what waits, also into the file.
    ///
    /// # Errors
    /// The first thing that went wrong: from then on the trace is not whole.
    pub fn finish(&self) -> io::Result<()> {
        let Some(inner) = &self.0 else { return Ok(()) };
        let mut sink = lock(&inner.sink);
        let flushed = sink.out.flush();
        sink.failed.take().map_or(flushed, Err)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("on", &self.is_on()).finish()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = lock(&self.sink).out.flush();
    }
}

impl Sink {
    fn write(&mut self, line: &Value) {
        if self.failed.is_some() || self.written >= TRACE_MAX {
            return;
        }
        let mut text = line.to_string();
        text.push('\n');
        self.written += text.len() as u64;
        if self.written >= TRACE_MAX {
            text = "{\"event\":\"full\"}\n".to_owned();
        }
        if let Err(error) = self.out.write_all(text.as_bytes()) {
            self.failed = Some(error);
        }
    }
}

/// A [`Link`] whose stanzas are told.
pub struct TracedLink<L> {
    link: L,
    who: Arc<str>,
    trace: Trace,
}

impl<L: Link> Link for TracedLink<L> {
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        if !self.trace.is_on() {
            return self.link.send(stanza);
        }
        let sent = self.link.send(stanza.clone());
        match sent {
            Ok(()) => self.trace.stanza(&self.who, true, &stanza),
            Err(error) => {
                let text = format!("a stanza was not sent: {error}");
                self.trace.note(&self.who, &text);
            }
        }
        sent
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        let event = self.link.poll_event(cx);
        if let Poll::Ready(event) = &event {
            let what = match event {
                Some(LinkEvent::Stanza(stanza)) => {
                    self.trace.stanza(&self.who, false, stanza);
                    return Poll::Ready(Some(LinkEvent::Stanza(stanza.clone())));
                }
                Some(LinkEvent::Up(address)) => {
                    json!({ "state": "up", "address": address.as_str() })
                }
                Some(LinkEvent::Down(why)) => json!({ "state": "down", "why": &**why }),
                Some(LinkEvent::Suspended) => json!({ "state": "suspended" }),
                Some(LinkEvent::Resumed) => json!({ "state": "resumed" }),
                None => json!({ "state": "ended" }),
            };
            self.trace.event(&self.who, "link", what);
        }
        event
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.poll_close(cx)
    }
}

impl<L> fmt::Debug for TracedLink<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedLink")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Router;

    /// A writer that a test can read.
    #[derive(Clone, Default)]
    pub(super) struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        pub(super) fn lines(&self) -> Vec<Value> {
            let text = String::from_utf8(lock(&self.0).clone()).unwrap();
            text.lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            lock(&self.0).extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_link_tells_its_stanzas() {
        let page = Page::default();
        let trace = Trace::to(page.clone());
        let router = Router::new();
        let mut alice = trace.link("alice", router.link("alice@x/1"));
        let mut bob = trace.link("bob", router.link("bob@x/1"));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(alice.poll_event(&mut cx).is_ready());
        assert!(bob.poll_event(&mut cx).is_ready());
        let stanza = "<message from='alice@x/1' to='bob@x/1'><body>hi</body></message>";
        alice.send(stanza.into()).unwrap();
        assert!(bob.poll_event(&mut cx).is_ready());
        trace.finish().unwrap();
        let lines = page.lines();
        let told: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line["who"].as_str().unwrap(),
                    line["event"].as_str().unwrap(),
                )
            })
            .collect();
        let expected = [
            ("alice", "link"),
            ("bob", "link"),
            ("alice", "stanza"),
            ("bob", "stanza"),
        ];
        assert_eq!(told, expected);
        assert_eq!(
            (&lines[2]["dir"], &lines[2]["peer"]),
            (&json!("out"), &json!("bob@x/1"))
        );
        assert_eq!(
            (&lines[3]["dir"], &lines[3]["peer"]),
            (&json!("in"), &json!("alice@x/1"))
        );
        assert!(
            lines[3]["xml"]
                .as_str()
                .unwrap()
                .contains("<body>hi</body>")
        );
        let times: Vec<_> = lines
            .iter()
            .map(|line| line["t"].as_f64().unwrap())
            .collect();
        assert!(times.is_sorted(), "{times:?}");
    }

    #[test]
    fn a_trace_that_cannot_be_written_says_so() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let trace = Trace::to(Full);
        trace.note("x", "y");
        trace.note("x", "z");
        assert_eq!(
            trace.finish().unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
        Trace::default().note("x", "nobody hears it");
        assert!(Trace::create(Path::new("/no/such/folder/trace")).is_err());
    }
}
