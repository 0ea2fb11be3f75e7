//! How a call sounds, by what was measured of its way: the E-model (ITU-T G.107, G.113).

use std::time::Duration;

/// What the E-model needs to know of a codec (ITU-T G.113 appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodecQuality {
    /// Ie: what the codec itself takes away, 0 to 95.
    pub impairment: f64,
    /// Bpl: how well it hides what is lost, 1 to 40.
    pub robustness: f64,
}

impl CodecQuality {
    /// G.711 with concealment (G.113: Ie 0, Bpl 25.1).
    pub const G711: Self = Self {
        impairment: 0.0,
        robustness: 25.1,
    };

    /// G.711 without concealment (G.113: Ie 0, Bpl 4.3).
    pub const G711_BARE: Self = Self {
        impairment: 0.0,
        robustness: 4.3,
    };

    /// Opus with its own concealment. The recommendation has no figure for it: it is taken to be as good as G.711.
    pub const OPUS: Self = Self::G711;

    /// G.722 with concealment. In narrow-band terms it is taken to be as good as G.711.
    pub const G722: Self = Self::G711;

    /// G.729A with silence suppression (G.113: Ie 11, Bpl 19).
    pub const G729A: Self = Self {
        impairment: 11.0,
        robustness: 19.0,
    };
}

/// What was measured of the way from the peer's mouth to our ear.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// From mouth to ear: network, jitter buffer, packetisation.
    pub delay: Duration,
    /// The share of packets that were not there when they should have sounded, 0 to 1: lost, or too late.
    pub loss: f64,
    /// How many packets are lost in a row, as a multiple of what chance would give; 1 is chance.
    pub burstiness: f64,
}

/// R factor and mean opinion score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// 0 to 93.2 for narrow-band speech.
    pub r_factor: f64,
    /// The mean opinion that people would have of a conversation, 1 to 4.5.
    pub mos: f64,
}

/// R of a call without any flaw but the default ones of G.107.
const R_DEFAULT: f64 = 93.2;

impl Quality {
    /// Rates a way with a codec. Out of range is taken as the nearest that is in it.
    ///
    /// ```
    /// use session_voice::{CodecQuality, Quality, Way};
    /// use std::time::Duration;
    ///
    /// let way = Way { delay: Duration::from_millis(80), loss: 0.0, burstiness: 1.0 };
    /// assert!(Quality::rate(CodecQuality::G711, way).mos > 4.3);
    /// ```
    pub fn rate(codec: CodecQuality, way: Way) -> Self {
        let loss = percent(way.loss);
        let burstiness = way.burstiness.clamp(1.0, 10.0);
        // G.107 §7.4: loss beyond what the codec hides.
        let effective = codec.impairment
            + (95.0 - codec.impairment) * loss / (loss / burstiness + codec.robustness.max(1.0));
        let r_factor = (R_DEFAULT - delay_impairment(way.delay) - effective).clamp(0.0, 100.0);
        Self {
            r_factor,
            mos: mos(r_factor),
        }
    }
}

fn percent(share: f64) -> f64 {
    if share.is_finite() {
        share.clamp(0.0, 1.0) * 100.0
    } else {
        100.0
    }
}

/// Idd of G.107 §7.3, without echo: nothing up to 100 ms.
fn delay_impairment(delay: Duration) -> f64 {
    let milliseconds = delay.as_secs_f64() * 1_000.0;
    if milliseconds <= 100.0 {
        return 0.0;
    }
    let x = (milliseconds / 100.0).ln() / 2.0_f64.ln();
    let root = |base: f64| (1.0 + base.powi(6)).powf(1.0 / 6.0);
    25.0 * (root(x) - 3.0 * root(x / 3.0) + 2.0)
}

/// G.107 annex B.
fn mos(r: f64) -> f64 {
    if r <= 0.0 {
        return 1.0;
    }
    if r >= 100.0 {
        return 4.5;
    }
    // The polynomial dips below 1 for very small R.
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7.0e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn way(delay: u64, loss: f64) -> Way {
        Way {
            delay: Duration::from_millis(delay),
            loss,
            burstiness: 1.0,
        }
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 0.05
    }

    /// G.107 annex B, table B.1, and the two worked limits of it.
    #[test]
    fn scores_of_the_recommendation() {
        for (r, expected) in [
            (90.0, 4.34),
            (80.0, 4.03),
            (70.0, 3.60),
            (60.0, 3.10),
            (50.0, 2.58),
        ] {
            assert!(near(mos(r), expected), "{r}: {}", mos(r));
        }
        assert!(near(mos(R_DEFAULT), 4.41));
    }

    /// G.107: 93.2 without a flaw; Idd of 150, 200, 400 ms.
    #[test]
    fn delay_costs_what_the_recommendation_says() {
        assert!(near(
            Quality::rate(CodecQuality::G711, way(0, 0.0)).r_factor,
            93.2
        ));
        for (delay, cost) in [(100, 0.0), (200, 3.0), (400, 24.1)] {
            let lost = R_DEFAULT - Quality::rate(CodecQuality::G711, way(delay, 0.0)).r_factor;
            assert!((lost - cost).abs() < 1.0, "{delay} ms: {lost}");
        }
    }

    #[test]
    fn loss_costs_what_the_codec_cannot_hide() {
        // 5 % of G.711: 95 * 5 / (5 + 25.1) with concealment, / (5 + 4.3) without.
        assert!(near(
            Quality::rate(CodecQuality::G711, way(0, 0.05)).r_factor,
            93.2 - 15.78
        ));
        assert!(near(
            Quality::rate(CodecQuality::G711_BARE, way(0, 0.05)).r_factor,
            93.2 - 51.08
        ));
        assert!(near(
            Quality::rate(CodecQuality::G729A, way(0, 0.0)).r_factor,
            82.2
        ));
    }

    proptest! {
        #[test]
        fn more_delay_or_loss_is_never_better(delay in 0..3_000_u64, more in 0..500_u64, loss in 0.0..1.0_f64, worse in 0.0..0.5_f64) {
            let rate = |delay, loss| Quality::rate(CodecQuality::G711, way(delay, loss));
            let here = rate(delay, loss);
            prop_assert!((0.0..=100.0).contains(&here.r_factor) && (1.0..=4.5).contains(&here.mos));
            prop_assert!(rate(delay + more, loss).r_factor <= here.r_factor + 1e-9);
            prop_assert!(rate(delay, loss + worse).r_factor <= here.r_factor + 1e-9);
        }
    }
}
