//! `cargo xtask trace FILE`: what a trace holds, for people: who said what to whom, what became of it, and why it ended.
//!
//! A trace is what `--trace` of the programs and of `demo` writes; `session_xmpp::trace` says what its lines are.

mod svg;
mod text;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use serde_json::Value;
use session_core::Peer;

use crate::demo::{Blocks, describe};
use crate::tools::{Failure, Outcome};

/// The most rows that are drawn.
const ROWS_MAX: usize = 20_000;

/// The most participants that have a column of their own; the others share the last.
const COLUMNS_MAX: usize = 6;

/// The most that is read of one line, in bytes.
const LINE_MAX: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The trace
    file: PathBuf,
    /// Also draw it into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Show sockets and every pair of candidates, too
    #[arg(long)]
    all: bool,
}

/// Shows a trace.
pub(crate) fn run(args: &Args) -> Outcome {
    let failed = |what: String, why: String| {
        Failure::new(
            what,
            why,
            "give a file that --trace of a program or of demo has written",
        )
    };
    let name = args.file.display().to_string();
    let file = File::open(&args.file)
        .map_err(|error| failed(format!("open {name}"), error.to_string()))?;
    let diagram = Diagram::read(BufReader::new(file), args.all)
        .map_err(|why| failed(format!("read {name}"), why))?;
    if diagram.rows.is_empty() {
        return Err(failed(
            format!("read {name}"),
            "there is nothing in it".to_owned(),
        ));
    }
    print!("{}", text::draw(&diagram));
    let mut summary = diagram.summary();
    if let Some(path) = &args.svg {
        let written = fs::write(path, svg::draw(&diagram));
        written.map_err(|error| {
            Failure::new(
                format!("write {}", path.display()),
                error.to_string(),
                "choose another place",
            )
        })?;
        summary += &format!("; drawn in {}", path.display());
    }
    Ok(summary)
}

/// A sequence diagram.
#[derive(Debug, Default)]
struct Diagram {
    /// Who takes part, from left to right.
    columns: Vec<String>,
    rows: Vec<Row>,
    /// Why each session ended, with who says so.
    ends: Vec<String>,
    stanzas: usize,
    /// Rows that were not drawn.
    more: usize,
    /// Lines that nobody understands.
    odd: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Row {
    /// Seconds since the beginning.
    time: String,
    what: What,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    /// Somebody says something to somebody.
    Arrow {
        from: usize,
        to: usize,
        text: String,
    },
    /// Something happens to somebody.
    Note { at: usize, text: String },
}

/// What has to be remembered from line to line.
#[derive(Default)]
struct Reader {
    diagram: Diagram,
    /// The addresses of those who tell.
    own: BTreeMap<String, String>,
    /// The column of each address or name.
    known: BTreeMap<String, usize>,
    blocks: BTreeMap<String, Blocks>,
    all: bool,
}

impl Diagram {
    fn read(lines: impl BufRead, all: bool) -> Result<Self, String> {
        let mut parsed = Vec::new();
        let mut reader = Reader {
            all,
            ..Reader::default()
        };
        for line in lines.lines() {
            let line = line.map_err(|error| error.to_string())?;
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str::<Value>(&line) {
                Ok(line_value) if line.len() <= LINE_MAX && line_value["event"].is_string() => {
                    if parsed.len() < 10 * ROWS_MAX {
                        parsed.push(line_value);
                    } else {
                        reader.diagram.more += 1;
                    }
                }
                Ok(_) | Err(_) => reader.diagram.odd += 1,
            }
        }
        if parsed.is_empty() && reader.diagram.odd > 0 {
            return Err("its lines are no objects with an event".to_owned());
        }
        // Who tells has a name here, and an address for the others.
        for line in &parsed {
            let who = text_of(line, "who");
            if line["event"] == "link" && !text_of(line, "address").is_empty() {
                reader
                    .own
                    .insert(text_of(line, "address").to_owned(), who.to_owned());
            }
            if !who.is_empty() {
                reader.column(who);
            }
        }
        for line in &parsed {
            reader.line(line);
        }
        Ok(reader.diagram)
    }

    fn summary(&self) -> String {
        let Self {
            stanzas,
            rows,
            more,
            odd,
            ..
        } = self;
        let mut text = format!("{stanzas} stanzas, {} rows", rows.len());
        if *more > 0 {
            text += &format!(", {more} more not shown");
        }
        if *odd > 0 {
            text += &format!(", {odd} lines not understood");
        }
        text
    }
}

impl Reader {
    /// The column of somebody, by name or address.
    fn column(&mut self, whom: &str) -> usize {
        let name = self.own.get(whom).map_or(whom, String::as_str);
        let name = if name.is_empty() { "server" } else { name };
        if let Some(at) = self.known.get(name) {
            return *at;
        }
        let columns = &mut self.diagram.columns;
        let at = if columns.len() < COLUMNS_MAX {
            columns.push(name.to_owned());
            columns.len() - 1
        } else {
            "others".clone_into(&mut columns[COLUMNS_MAX - 1]);
            COLUMNS_MAX - 1
        };
        self.known.insert(name.to_owned(), at);
        at
    }

    fn row(&mut self, line: &Value, what: What) {
        if self.diagram.rows.len() >= ROWS_MAX {
            self.diagram.more += 1;
            return;
        }
        let time = format!("{:.3}", line["t"].as_f64().unwrap_or_default());
        self.diagram.rows.push(Row { time, what });
    }

    fn line(&mut self, line: &Value) {
        let who = text_of(line, "who").to_owned();
        let at = self.column(&who);
        let words = |keys: &[&str]| {
            let words = keys
                .iter()
                .map(|key| text_of(line, key))
                .filter(|word| !word.is_empty());
            words.collect::<Vec<_>>().join(" ")
        };
        let text = match text_of(line, "event") {
            "stanza" => return self.stanza(line, &who, at),
            "end" => {
                let id = text_of(line, "id");
                let why = text_of(line, "why");
                self.diagram
                    .ends
                    .push(format!("{who}, session {id}: {why}"));
                format!("end: {why}")
            }
            "session" => format!(
                "session {} with {}",
                words(&["id"]),
                words(&["peer", "role", "dialect"])
            ),
            "pair" if !self.all && !text_of(line, "state").contains("nominated") => return,
            "socket" if !self.all => return,
            "pair" => format!(
                "pair {} – {} {}",
                text_of(line, "local"),
                text_of(line, "remote"),
                words(&["state", "detail"])
            ),
            "socket" => words(&["what", "kind", "address", "why"]),
            "link" => format!("link {}", words(&["state", "address", "why"])),
            "state" => words(&["state"]),
            "transport" => format!("transport {}", words(&["content", "transport", "state"])),
            "path" => format!("path {}", words(&["channel", "path"])),
            "error" => format!("error: {}", words(&["error"])),
            "note" => words(&["text"]),
            other => other.to_owned(),
        };
        self.row(line, What::Note { at, text });
    }

    fn stanza(&mut self, line: &Value, who: &str, at: usize) {
        let peer = text_of(line, "peer");
        let is_sent = text_of(line, "dir") == "out";
        // Both ends tell: what another one of us has sent is drawn once.
        if !is_sent && self.own.contains_key(peer) && self.own.len() > 1 {
            return;
        }
        self.diagram.stanzas += 1;
        let xml = text_of(line, "xml");
        let own = self.own.iter().find(|(_, name)| *name == who);
        let own = own.map_or(who, |(address, _)| address.as_str());
        let to = Peer::from(if is_sent { peer } else { own });
        let blocks = self.blocks.entry(who.to_owned()).or_default();
        let Some(text) = describe(xml.as_bytes(), &to, blocks) else {
            return;
        };
        let other = self.column(peer);
        let (from, to) = if is_sent { (at, other) } else { (other, at) };
        self.row(line, What::Arrow { from, to, text });
    }
}

fn text_of<'a>(line: &'a Value, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const TRACE: &str = concat!(
        r#"{"t":0.0,"who":"alice","event":"link","state":"up","address":"a@x/1"}"#,
        "\n",
        r#"{"t":0.0,"who":"bob","event":"link","state":"up","address":"b@x/1"}"#,
        "\n",
        r#"{"t":0.5,"who":"alice","event":"stanza","dir":"out","peer":"b@x/1","xml":"<iq type='set' id='1' from='a@x/1' to='b@x/1'><jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='s'><reason><success/></reason></jingle></iq>"}"#,
        "\n",
        r#"{"t":0.6,"who":"bob","event":"stanza","dir":"in","peer":"a@x/1","xml":"<iq type='set' id='1' from='a@x/1' to='b@x/1'><jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='s'><reason><success/></reason></jingle></iq>"}"#,
        "\n",
        r#"{"t":0.7,"who":"bob","event":"stanza","dir":"out","peer":"","xml":"<presence/>"}"#,
        "\n",
        r#"{"t":0.8,"who":"bob","event":"pair","local":"host 1","remote":"host 2","state":"Waiting"}"#,
        "\n",
        r#"{"t":0.9,"who":"bob","event":"end","id":"0.1","why":"ended by the peer: success & <more>"}"#,
        "\n",
        "no JSON\n",
    );

    #[test]
    fn a_stanza_is_drawn_once_between_those_who_tell() {
        let diagram = Diagram::read(TRACE.as_bytes(), false).unwrap();
        assert_eq!(diagram.columns, ["alice", "bob", "server"]);
        assert_eq!((diagram.stanzas, diagram.odd), (2, 1));
        let arrows: Vec<_> = diagram
            .rows
            .iter()
            .filter_map(|row| match &row.what {
                What::Arrow { from, to, text } => Some((*from, *to, text.as_str())),
                What::Note { .. } => None,
            })
            .collect();
        assert_eq!(arrows[0].0..arrows[0].1, 0..1);
        assert!(
            arrows[0].2.starts_with("session-terminate  sid=s"),
            "{arrows:?}"
        );
        assert_eq!(arrows[1], (1, 2, "presence"));
        assert_eq!(
            diagram.ends,
            ["bob, session 0.1: ended by the peer: success & <more>"]
        );
        let all = Diagram::read(TRACE.as_bytes(), true).unwrap();
        assert_eq!(all.rows.len(), diagram.rows.len() + 1);
    }

    #[test]
    fn what_is_no_trace_is_said() {
        assert!(Diagram::read("some\ntext\n".as_bytes(), false).is_err());
        let missing = Args {
            file: "/no/such/trace".into(),
            svg: None,
            all: false,
        };
        assert!(run(&missing).is_err());
    }

    #[test]
    fn many_participants_share_a_column() {
        let lines: String = (0..20)
            .map(|number| {
                format!("{{\"t\":1,\"who\":\"me\",\"event\":\"stanza\",\"dir\":\"out\",\"peer\":\"p{number}@x\",\"xml\":\"<message/>\"}}\n")
            })
            .collect();
        let diagram = Diagram::read(lines.as_bytes(), false).unwrap();
        assert_eq!(diagram.columns.len(), COLUMNS_MAX);
        assert_eq!(diagram.columns[COLUMNS_MAX - 1], "others");
        assert_eq!(diagram.rows.len(), 20);
    }
}
