//! How a call went, over time: a line, JSON, and a page without anything from elsewhere.

use crate::failed;
use session_voice::EngineStats;
use session_xmpp::cli::Problem;
use std::{fmt::Write, fs, io, path::Path, time::Duration};

/// One look at a call.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// Since it was answered, in seconds.
    at: f64,
    /// There and back, in milliseconds.
    round_trip: Option<f64>,
    /// The share of frames that were made up lately, in percent.
    loss: f64,
    /// In milliseconds.
    jitter: f64,
    /// The jitter buffer's delay, in milliseconds.
    buffer: f64,
    mos: Option<f64>,
    /// In decibels below full scale.
    level_in: f64,
    level_out: f64,
}

impl Moment {
    pub(crate) fn new(at: Duration, stats: &EngineStats) -> Self {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let level = |level: f32| 20.0 * f64::from(level).max(1e-5).log10();
        let media = &stats.media;
        Self {
            at: at.as_secs_f64(),
            round_trip: media.round_trip.map(milliseconds),
            loss: media.loss_here * 100.0,
            jitter: milliseconds(media.jitter),
            buffer: milliseconds(media.buffer),
            mos: media.quality.map(|quality| quality.mos),
            level_in: level(stats.level_in),
            level_out: level(stats.level_out),
        }
    }

    pub(crate) fn text(&self) -> String {
        let known = |value: Option<f64>, digits| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!(
            "{:.0} s  RTT {} ms  loss {:.1} %  jitter {:.1} ms  buffer {:.0} ms  MOS {}  heard {:.0} dB",
            self.at,
            known(self.round_trip, 0),
            self.loss,
            self.jitter,
            self.buffer,
            known(self.mos, 1),
            self.level_in
        )
    }

    pub(crate) fn json(&self, path: &str) -> serde_json::Value {
        serde_json::json!({
            "event": "quality", "at": self.at, "round_trip_ms": self.round_trip, "loss_percent": self.loss,
            "jitter_ms": self.jitter, "buffer_ms": self.buffer, "mos": self.mos, "level_in_db": self.level_in,
            "level_out_db": self.level_out, "path": path,
        })
    }
}

/// Whether a page can be written there, which is better known before a call than after it. Nothing changes.
///
/// # Errors
/// It cannot.
pub(crate) fn check(path: &Path) -> Result<(), Problem> {
    // A link that leads nowhere is there, too, and stays; a pipe would wait for its reader.
    let was_there = path.symlink_metadata().is_ok();
    if path
        .metadata()
        .is_ok_and(|meta| !meta.is_file() && !meta.is_dir())
    {
        return Ok(());
    }
    let opened = fs::OpenOptions::new().append(true).create(true).open(path);
    opened.map_err(|error| unwritten(path, &error))?;
    if !was_there {
        // It comes again at the end.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

pub(crate) fn unwritten(path: &Path, error: &io::Error) -> Problem {
    let what = format!("write {}", path.display());
    failed(
        "report",
        &what,
        error,
        "choose a folder that is there and yours",
    )
}

/// A page that stands by itself.
pub(crate) fn page(peer: &str, security: &str, path: &str, moments: &[Moment]) -> String {
    let mut page = String::from(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>Call</title>\
         <style>body{font-family:sans-serif;margin:2em}svg{display:block}text{font-size:12px}</style>",
    );
    let _ = write!(
        page,
        "<h1>Call with {}</h1><p>{}<br>{}</p>",
        escaped(peer),
        escaped(security),
        escaped(path)
    );
    type Series = (&'static str, fn(&Moment) -> Option<f64>, f64);
    let plots: [Series; 5] = [
        ("round trip, ms", |moment| moment.round_trip, 0.0),
        ("loss, %", |moment| Some(moment.loss), 0.0),
        ("jitter buffer, ms", |moment| Some(moment.buffer), 0.0),
        ("heard, dB", |moment| Some(moment.level_in), -100.0),
        ("spoken, dB", |moment| Some(moment.level_out), -100.0),
    ];
    for (name, value, least) in plots {
        plot(&mut page, name, moments, value, least);
    }
    page.push_str("</html>\n");
    page
}

fn plot(
    page: &mut String,
    name: &str,
    moments: &[Moment],
    value: fn(&Moment) -> Option<f64>,
    least: f64,
) {
    const WIDTH: f64 = 800.0;
    const HEIGHT: f64 = 120.0;
    let last = moments.last().map_or(1.0, |moment| moment.at.max(1.0));
    let values = || moments.iter().filter_map(value);
    let most = values().fold(least + 1.0, f64::max);
    let _ = write!(
        page,
        "<svg width=\"900\" height=\"150\"><text x=\"0\" y=\"12\">{name}, up to {most:.1}, over {last:.0} s</text>\
         <rect x=\"0\" y=\"20\" width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#ccc\"/>\
         <polyline fill=\"none\" stroke=\"#06c\" points=\""
    );
    for moment in moments {
        if let Some(value) = value(moment) {
            let (x, y) = (
                moment.at / last * WIDTH,
                20.0 + HEIGHT * (1.0 - (value.max(least) - least) / (most - least)),
            );
            let _ = write!(page, "{x:.1},{y:.1} ");
        }
    }
    page.push_str("\"/></svg>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_shows_each_series_and_nothing_of_a_peers_that_is_markup() {
        let moment = |at| Moment {
            at,
            loss: 5.0,
            ..Moment::default()
        };
        let page = page("<script>", "DTLS", "", &[moment(1.0), moment(2.0)]);
        assert_eq!(page.matches("<polyline").count(), 5);
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
        assert!(
            page.contains("800.0,"),
            "the last moment stands at the right"
        );
    }
}
