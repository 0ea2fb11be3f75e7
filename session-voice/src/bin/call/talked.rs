//! How a call was, told at its end.

use crate::{
    How, outcome,
    report::{self, Moment},
    screen::Screen,
};
use session_core::{Cause, Peer};
use session_voice::EngineStats;
use session_xmpp::cli::Problem;
use std::time::Duration;

/// How a call was.
#[derive(Debug, Default)]
pub(crate) struct Talked {
    pub(crate) cause: Option<Cause>,
    /// From dialling or answering to the first sound that was heard.
    pub(crate) first_sound: Option<Duration>,
    pub(crate) lasted: Duration,
    /// Of the last session.
    pub(crate) stats: EngineStats,
    /// Empty if nothing was ever said.
    pub(crate) codec: &'static str,
    pub(crate) security: String,
    pub(crate) path: String,
    /// Of the peer's, the first.
    pub(crate) digits: String,
    /// Digits that were pressed here and not sent.
    pub(crate) unsent: usize,
    pub(crate) moments: Vec<Moment>,
    pub(crate) hung_up: bool,
}

impl Talked {
    /// Says how it was, in words, in JSON and as a page; and whether there was a call at all.
    pub(crate) fn tell(self, screen: &Screen, peer: &Peer, how: &How) -> Result<(), Problem> {
        screen.tell("done", self.json(peer), &self.text(peer));
        if let Some(path) = &how.report {
            let page = report::page(peer.as_str(), &self.security, &self.path, &self.moments);
            std::fs::write(path, page).map_err(|error| report::unwritten(path, &error))?;
        }
        if self.hung_up {
            return Ok(());
        }
        match (self.codec.is_empty(), &self.cause) {
            (true, cause) => Err(outcome::no_call(peer, cause.as_ref())),
            (false, Some(cause)) if !outcome::is_farewell(cause) => {
                Err(outcome::cut_off(peer, cause))
            }
            (false, _) => Ok(()),
        }
    }

    fn json(&self, peer: &Peer) -> serde_json::Value {
        let media = &self.stats.media;
        serde_json::json!({
            "peer": peer.as_str(), "seconds": self.lasted.as_secs_f64(),
            "setup_seconds": self.first_sound.map(|time| time.as_secs_f64()), "codec": self.codec,
            "security": self.security, "path": self.path, "sent": media.sent.0, "received": media.received,
            "concealed": media.playout.concealed, "recovered": media.playout.recovered, "late": media.playout.late,
            "round_trip_ms": media.round_trip.map(|time| time.as_secs_f64() * 1e3),
            "mos": media.quality.map(|quality| quality.mos), "digits": self.digits,
            "digits_unsent": self.unsent,
            "cause": self.cause.as_ref().map(ToString::to_string),
        })
    }

    /// Nothing, if nothing was ever said.
    fn text(&self, peer: &Peer) -> String {
        if self.codec.is_empty() {
            return String::new();
        }
        let media = &self.stats.media;
        let mos = media.quality.map(|quality| format!("{:.1}", quality.mos));
        let mut text = format!(
            "{:.1} s with {peer}: {}, {}\n{} packets sent, {} received, {} frames made up, {} recovered; MOS {}",
            self.lasted.as_secs_f64(),
            self.codec,
            self.security,
            media.sent.0,
            media.received,
            media.playout.concealed,
            media.playout.recovered,
            mos.as_deref().unwrap_or("unknown")
        );
        if !self.digits.is_empty() {
            text += &format!("\ndigits: {}", self.digits);
        }
        if self.unsent > 0 {
            text += &format!("\n{} digits were never sent", self.unsent);
        }
        text
    }
}
