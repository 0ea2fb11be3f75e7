//! `cargo xtask demo`: a file between two endpoints of this process, over real sockets, with everything shown; then a call
//! between two programs.
//!
//! The file is also the example of how the crates are put together: [`sides`] makes an endpoint out of a dialect, a transport, a
//! stream layer and a client, and [`transfer`] offers, accepts, writes and reads.

mod call;
mod ceiling;
#[cfg(feature = "turn")]
mod relay;
mod report;
mod sides;
mod source;
mod stanza;
mod transfer;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use session_core::Dialect;

use crate::tools::{self, Failure, Outcome};
use ceiling::Ceiling;
use report::Report;
pub(crate) use sides::entropy;
use source::Source;
pub(crate) use stanza::{Blocks, describe};
use view::{Format, View};

/// Bytes of random data without a file.
const RANDOM_BYTES: u64 = 64 << 20;
/// How long the raw sockets are measured, for each of the two ways.
const CEILING_TIME: Duration = Duration::from_millis(250);
/// How long the tasks may take to end after everything is over.
const ENDING: Duration = Duration::from_secs(1);

/// What `cargo xtask demo` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file to send; without it, random data
    file: Option<PathBuf>,
    /// The vocabulary that the two speak
    #[arg(long, value_enum, default_value_t)]
    dialect: Speech,
    /// One way alone, instead of ICE
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// How much random data: bytes, or with a unit, as 64KiB, 256MiB, 2GiB [default: 64MiB]
    #[arg(long, value_parser = parse_size, conflicts_with = "file")]
    size: Option<u64>,
    /// What is said in the call after the file, a WAV file; without it, something like speech
    #[arg(long, value_name = "WAV", conflicts_with = "only")]
    wav: Option<PathBuf>,
    /// No call after the file
    #[arg(long, conflicts_with = "wav")]
    no_call: bool,
    /// Print one JSON object a line; the last one holds the figures
    #[arg(long)]
    json: bool,
    /// Write everything that happens to this file, a line of JSON each (`cargo xtask trace` shows it)
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Speech {
    /// Jingle (XEP-0166) with ICE (XEP-0176)
    #[default]
    Jingle,
    /// Google Talk (libjingle 0.4) with ICE as Google had it
    Gtalk,
}

/// A transport to be shown by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Raw UDP (XEP-0177, or Google's)
    RawUdp,
    /// A SOCKS5 bytestream (XEP-0260): a TCP connection between the two
    S5b,
    /// An in-band bytestream (XEP-0261): the stanzas carry the file
    Ibb,
    /// ICE through a relay alone (TURN, RFC 8656), which runs beside; compiles that first
    Turn,
}

impl Speech {
    fn dialect(self) -> &'static Dialect {
        match self {
            Self::Jingle => Dialect::JINGLE,
            Self::Gtalk => Dialect::GTALK,
        }
    }
}

/// Sends a file, and compares what was sent with what arrived.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.only == Some(Only::Turn) && !cfg!(feature = "turn") {
        return with_relay();
    }
    let format = if args.json {
        Format::Json
    } else {
        Format::Text
    };
    match demonstrate(args, format).and_then(|report| Ok((report, call_too(args, format)?))) {
        Ok((report, call)) if args.json => {
            let mut figures = report.json();
            figures["call"] = call.map_or(serde_json::Value::Null, |call| call.json());
            Ok(figures.to_string())
        }
        Ok((report, call)) => {
            let call = call.map_or_else(String::new, |call| format!("\n{}", call.text()));
            Ok(format!("{}{call}", report.text()))
        }
        Err(failure) => {
            if args.json {
                let error = failure.to_string();
                view::print(&json!({ "ok": false, "error": error }).to_string());
            }
            Err(failure)
        }
    }
}

/// The call, unless it is not wanted; a transport that is shown by itself is shown by the file alone.
fn call_too(args: &Args, format: Format) -> Result<Option<call::Called>, Failure> {
    if args.no_call || args.only.is_some() {
        return Ok(None);
    }
    let view = View::new(format, None)?;
    call::run(args.wav.as_deref(), args.dialect.dialect(), &view).map(Some)
}

/// This demo once more, by a program that has a relay in it: others need not compile one.
fn with_relay() -> Outcome {
    let mut command = tools::cargo(&["run", "--quiet", "--profile", "test"]);
    command.args(["--package", "xtask", "--features", "turn", "--"]);
    command.args(std::env::args_os().skip(1));
    let hint = "what it says stands above";
    tools::run(&mut command, hint).map(|()| String::new())
}

fn demonstrate(args: &Args, format: Format) -> Result<Report, Failure> {
    let source = match &args.file {
        Some(path) => Source::open(path)?,
        None => Source::random(args.size.unwrap_or(RANDOM_BYTES)),
    };
    let jingle_only = matches!(args.only, Some(Only::S5b | Only::Ibb | Only::Turn));
    if jingle_only && matches!(args.dialect, Speech::Gtalk) {
        return Err(Failure::new(
            "offer this transport",
            "Google's dialects do not know it",
            "leave out --only, or choose --dialect jingle",
        ));
    }
    let view = Arc::new(View::new(format, args.trace.as_deref())?);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let hint = "is the number of threads or files limited (ulimit -a)?";
            Failure::new("start the asynchronous runtime", error.to_string(), hint)
        })?;
    let dialect = args.dialect.dialect();
    let transfer = runtime.block_on(transfer::run(source, dialect, args.only, &view));
    runtime.shutdown_timeout(ENDING);
    let shown = view.finish();
    let transfer = transfer?;
    shown?;
    let ceiling = Ceiling::measure(transfer.sent.datagram, CEILING_TIME)?;
    Report::new(dialect, transfer, &ceiling)
}

/// A number of bytes, with or without a unit.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        unit => return Err(format!("{unit:?} is none of B, KiB, MiB, GiB")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "not a number of bytes, such as 1000000, 64KiB or 256MiB".to_owned())?;
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| "more bytes than can be counted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, size) in [
            ("0", 0),
            ("1000", 1_000),
            ("3B", 3),
            ("64KiB", 65_536),
            ("256MiB", 256 << 20),
            ("2G", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(size), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "-1", "1MB", "99999999999GiB", "1 MiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_file_arrives_in_both_dialects_and_each_way() {
        for (dialect, only, transport) in [
            (Speech::Jingle, None, "ice-udp"),
            (Speech::Gtalk, None, "p2p"),
            (Speech::Jingle, Some(Only::RawUdp), "raw-udp"),
            (Speech::Gtalk, Some(Only::RawUdp), "raw-udp"),
            (Speech::Jingle, Some(Only::S5b), "s5b"),
            (Speech::Jingle, Some(Only::Ibb), "ibb"),
        ] {
            arrives(dialect, only, transport);
        }
        #[cfg(feature = "turn")]
        arrives(Speech::Jingle, Some(Only::Turn), "ice-udp");
    }

    fn arrives(dialect: Speech, only: Option<Only>, transport: &str) {
        let args = Args {
            file: None,
            dialect,
            only,
            size: Some(3_000_000),
            wav: None,
            no_call: true,
            json: false,
            trace: None,
        };
        let report = demonstrate(&args, Format::Silent).unwrap().json();
        assert_eq!(report["bytes"], 3_000_000);
        assert_eq!(report["sha256_sent"], report["sha256_received"]);
        assert_eq!(report["dialect"], dialect.dialect().name);
        let used = report["transport"].as_str().unwrap();
        assert!(used.contains(transport), "{used}");
        assert_eq!(report["complete"], "verified by end-of-stream");
    }
}
