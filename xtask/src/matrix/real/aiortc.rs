//! Voice calls with aiortc (ICE, DTLS-SRTP, RTP, codecs) and slixmpp (XMPP).

use super::{
    Row,
    jingle::{Begins, Place, SECONDS, Talk, Talked, row},
};
use crate::lab;
use crate::setup::Python;
use serde_json::Value;
use std::path::Path;

pub(super) const NAME: &str = "aiortc";
/// How long they talk when contents come and go meanwhile.
const LONGER: &str = "15";

pub(super) fn missing() -> Option<String> {
    lab::missing(NAME, &[("prosody", "prosody")]).or_else(|| {
        Python::JINGLE
            .missing()
            .map(|why| format!("{NAME} not run: {why}"))
    })
}

pub(super) fn meet(folder: &Path) -> Result<Vec<Row>, String> {
    let engine = ["--engine", "aiortc"].map(str::to_owned);
    let place = Place::new(folder, Python::JINGLE, engine.into())?;
    let version = format!(
        "{}, over Prosody {}",
        Python::JINGLE.version(),
        lab::prosody_version()
    );
    let mut rows = Vec::new();
    let cases: [(_, _, &[&str]); 3] = [
        ("call", "opus", &[]),
        ("call, PCMU", "pcmu", &[]),
        ("call, contents", "opus", &["--contents"]),
    ];
    for (case, codec, peer) in cases {
        for begins in Begins::BOTH {
            let seconds = if peer.is_empty() { SECONDS } else { LONGER };
            let talk = Talk {
                codec,
                peer,
                seconds,
            };
            let came = place.talk(begins, talk).and_then(|talked| {
                if !peer.is_empty() {
                    let all = |why| format!("{why}\ncall: {}\npeer: {}", talked.here, talked.there);
                    judge_contents(&talked).map_err(all)?;
                }
                Ok(talked.how())
            });
            rows.push(row(NAME, &version, case, begins, came));
        }
    }
    Ok(rows)
}

/// Whether what the peer did with contents was told here, and answered with a reason: there is only sound.
fn judge_contents(talked: &Talked) -> Result<(), String> {
    let rejected = lab::event(&talked.there, "rejected").ok_or("nothing was rejected")?;
    lab::event(&talked.there, "alone").ok_or("it was not left to speak alone")?;
    let count = |event: &str, key: &str, value: &str| talked.count(event, key, &Value::from(value));
    for name in ["camera", "screen", "board"] {
        if rejected[name] != "unsupported-applications" {
            return Err(format!("{name} was rejected so: {}", rejected[name]));
        }
        let events = ["content-added", "content-declined"].map(|event| count(event, "name", name));
        if events != [1, 1] {
            return Err(format!("of {name} it was told {events:?} times"));
        }
    }
    if count("content-added", "media", "video") < 2 || count("content-added", "media", "audio") > 0
    {
        return Err("it was told of other media than were added".to_owned());
    }
    let both = count("content-senders", "senders", "both");
    let one = count("content-senders", "senders", "initiator")
        + count("content-senders", "senders", "responder");
    match (one, both) {
        (1, 1) => Ok(()),
        other => Err(format!("who sends was told {other:?} times")),
    }
}
