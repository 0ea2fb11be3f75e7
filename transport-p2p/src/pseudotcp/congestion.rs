//! Congestion control: how much may be on its way. The sender's own choice, invisible on the wire.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// An acknowledgement, as seen by a controller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) now: Instant,
    /// Bytes that are newly known to have arrived.
    pub(crate) delivered: u64,
    /// A fresh round trip, if this acknowledgement gave one.
    pub(crate) rtt: Option<Duration>,
    /// Whether the window, and not the application or the peer, has held the sender back.
    pub(crate) limited: bool,
    /// Whether losses are being repaired.
    pub(crate) recovering: bool,
    /// Whether everything that had been sent when the last round began has arrived.
    pub(crate) round: bool,
}

/// A congestion controller of one connection, in bytes.
pub(crate) trait Controller: fmt::Debug + Send {
    /// Most bytes that may be on their way.
    fn window(&self) -> u64;
    /// Data arrived.
    fn on_ack(&mut self, ack: &Ack);
    /// Data was lost: at most once per round trip.
    fn on_congestion(&mut self, now: Instant);
    /// The last loss was none: the data was only late.
    fn on_spurious(&mut self);
    /// The retransmission timer ran out.
    fn on_timeout(&mut self, now: Instant);
    /// Nothing was sent for longer than a timeout.
    fn on_idle(&mut self);
    /// The segment size changed.
    fn set_mss(&mut self, mss: u64);
}

/// Segments that may be sent before the first acknowledgement (RFC 6928).
const INITIAL_SEGMENTS: u64 = 10;
/// Fewest segments of a window after a loss.
const LEAST_SEGMENTS: u64 = 2;
/// Aggressiveness, in segments per cubic second (RFC 9438 §5).
const C: f64 = 0.4;
/// What remains of the window after a loss (RFC 9438 §4.6).
const BETA: f64 = 0.7;
/// Bounds of the rise of the round trip that ends slow start (RFC 9406 §4.2).
const RISE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(16));
/// Samples that a round needs for its judgement (RFC 9406 §4.2).
const SAMPLES: u32 = 8;

/// CUBIC (RFC 9438) whose slow start ends at the first sign of a queue (HyStart++, RFC 9406).
#[derive(Debug)]
pub(crate) struct Cubic {
    mss: u64,
    window: f64,
    threshold: f64,
    /// Window at the last loss.
    peak: f64,
    epoch: Option<Epoch>,
    round: Round,
    before: Option<Saved>,
}

/// The time since the last loss.
#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Instant,
    /// Seconds until the window is back at the peak.
    to_peak: f64,
    /// The window that NewReno would have.
    reno: f64,
}

/// Round trips of this round and of the one before.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    before: Option<Duration>,
    least: Option<Duration>,
    samples: u32,
}

/// What a loss that was none is taken back to.
#[derive(Clone, Copy, Debug)]
struct Saved {
    window: f64,
    threshold: f64,
    peak: f64,
}

impl Cubic {
    pub(crate) fn new(mss: u64) -> Self {
        Self {
            mss,
            window: (INITIAL_SEGMENTS * mss) as f64,
            threshold: f64::INFINITY,
            peak: 0.0,
            epoch: None,
            round: Round::default(),
            before: None,
        }
    }

    fn least(&self) -> f64 {
        (LEAST_SEGMENTS * self.mss) as f64
    }

    /// Ends slow start when this round's shortest round trip rose above the last one's.
    fn watch_queue(&mut self, ack: &Ack) {
        if ack.round {
            self.round = Round {
                before: self.round.least,
                ..Round::default()
            };
        }
        let Some(rtt) = ack.rtt else { return };
        let round = &mut self.round;
        round.samples += 1;
        let least = round.least.map_or(rtt, |least| least.min(rtt));
        round.least = Some(least);
        if let Some(before) = round.before
            && round.samples >= SAMPLES
            && least >= before + (before / 8).clamp(RISE.0, RISE.1)
        {
            self.threshold = self.window;
        }
    }

    fn grow(&mut self, ack: &Ack) {
        let mss = self.mss as f64;
        let delivered = ack.delivered as f64;
        let window = self.window;
        if self.epoch.is_none() {
            self.peak = self.peak.max(window);
        }
        let peak = self.peak;
        let epoch = self.epoch.get_or_insert_with(|| Epoch {
            start: ack.now,
            to_peak: ((peak - window) / mss / C).cbrt(),
            reno: window,
        });
        let rtt = ack.rtt.unwrap_or_default();
        let elapsed = ack.now.saturating_duration_since(epoch.start) + rtt;
        let distance = elapsed.as_secs_f64() - epoch.to_peak;
        let target = peak + C * mss * distance.powi(3);
        // RFC 9438 §4.3: never slower than a NewReno that takes the same share.
        let gain = if epoch.reno < peak {
            3.0 * (1.0 - BETA) / (1.0 + BETA)
        } else {
            1.0
        };
        epoch.reno += gain * mss * delivered / window;
        let goal = target.clamp(window, 1.5 * window);
        self.window += (goal - window) * delivered / window;
        self.window = self.window.max(epoch.reno);
    }

    fn reduce(&mut self) {
        self.before = Some(Saved {
            window: self.window,
            threshold: self.threshold,
            peak: self.peak,
        });
        // RFC 9438 §4.7: release bandwidth faster when the peak keeps falling.
        self.peak = if self.window < self.peak {
            self.window * (1.0 + BETA) / 2.0
        } else {
            self.window
        };
        self.threshold = (self.window * BETA).max(self.least());
        self.epoch = None;
    }
}

impl Controller for Cubic {
    fn window(&self) -> u64 {
        self.window as u64
    }

    fn on_ack(&mut self, ack: &Ack) {
        if self.window < self.threshold {
            self.watch_queue(ack);
        }
        if ack.recovering && self.window >= self.threshold || !ack.limited {
            return;
        }
        if self.window < self.threshold {
            self.window = (self.window + ack.delivered as f64).min(self.threshold);
        } else {
            self.grow(ack);
        }
    }

    fn on_congestion(&mut self, _: Instant) {
        self.reduce();
        self.window = self.threshold;
    }

    fn on_spurious(&mut self) {
        if let Some(saved) = self.before.take() {
            self.window = self.window.max(saved.window);
            self.threshold = saved.threshold;
            self.peak = saved.peak;
            self.epoch = None;
        }
    }

    fn on_timeout(&mut self, _: Instant) {
        self.reduce();
        self.before = None;
        self.window = self.mss as f64;
    }

    fn on_idle(&mut self) {
        self.window = self.window.min((INITIAL_SEGMENTS * self.mss) as f64);
        self.epoch = None;
    }

    fn set_mss(&mut self, mss: u64) {
        self.mss = mss;
        self.window = self.window.max(self.least());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::testing::epoch;

    const MSS: u64 = 1000;
    const RTT: Duration = Duration::from_millis(100);

    /// A round trip in which the whole window arrives, in ten pieces.
    fn round(cubic: &mut Cubic, now: &mut Instant, rtt: Duration) {
        let piece = cubic.window() / 10;
        for part in 0..10 {
            *now += rtt / 10;
            cubic.on_ack(&Ack {
                now: *now,
                delivered: piece,
                rtt: Some(rtt),
                limited: true,
                recovering: false,
                round: part == 0,
            });
        }
    }

    fn segments(cubic: &Cubic) -> u64 {
        cubic.window() / MSS
    }

    /// Past slow start, at 70 of 100 segments.
    fn after_loss(now: Instant) -> Cubic {
        let mut cubic = Cubic::new(MSS);
        cubic.window = 100_000.0;
        cubic.on_congestion(now);
        cubic
    }

    #[test]
    fn slow_start_doubles_until_a_queue_builds() {
        let mut now = epoch();
        let mut cubic = Cubic::new(MSS);
        assert_eq!(segments(&cubic), 10);
        for expected in [20, 40, 80] {
            round(&mut cubic, &mut now, RTT);
            assert_eq!(segments(&cubic), expected);
        }
        round(&mut cubic, &mut now, RTT + Duration::from_millis(20));
        let full = segments(&cubic);
        assert!(full < 160, "{full}");
        round(&mut cubic, &mut now, RTT);
        assert!(segments(&cubic) <= full + 2);
    }

    #[test]
    fn loss_takes_three_tenths_and_time_brings_them_back() {
        let mut now = epoch();
        let mut cubic = after_loss(now);
        assert_eq!(segments(&cubic), 70);
        // RFC 9438 §4.2: the cube root of (100 - 70) / 0.4 segments, in seconds.
        let back = now + Duration::from_millis(4217);
        let mut before = cubic.window();
        while now < back {
            round(&mut cubic, &mut now, RTT);
            assert!(cubic.window() >= before);
            before = cubic.window();
        }
        assert!(
            (98..=104).contains(&segments(&cubic)),
            "{}",
            segments(&cubic)
        );
        for _ in 0..40 {
            round(&mut cubic, &mut now, RTT);
        }
        assert!(segments(&cubic) > 115, "convex beyond the peak");
    }

    #[test]
    fn short_round_trips_grow_as_newreno_would() {
        let mut now = epoch();
        let mut cubic = after_loss(now);
        for _ in 0..100 {
            round(&mut cubic, &mut now, Duration::from_millis(1));
        }
        // 0.53 segments a round trip up to the peak, one beyond (RFC 9438 §4.3).
        assert!(
            (118..=146).contains(&segments(&cubic)),
            "{}",
            segments(&cubic)
        );
    }

    #[test]
    fn timeout_starts_over_and_a_window_that_is_not_used_does_not_grow() {
        let mut now = epoch();
        let mut cubic = after_loss(now);
        cubic.on_timeout(now);
        assert_eq!(segments(&cubic), 1);
        for expected in [2, 4, 8, 16, 32, 49] {
            round(&mut cubic, &mut now, RTT);
            assert_eq!(segments(&cubic), expected, "slow start up to seven tenths");
        }
        let before = cubic.window();
        let mut unused = Ack {
            now,
            delivered: 10_000,
            rtt: Some(RTT),
            limited: false,
            recovering: false,
            round: true,
        };
        cubic.on_ack(&unused);
        unused.limited = true;
        unused.recovering = true;
        cubic.on_ack(&unused);
        assert_eq!(cubic.window(), before);
        cubic.on_idle();
        assert_eq!(segments(&cubic), 10);
    }

    #[test]
    fn loss_that_was_none_is_taken_back_once() {
        let now = epoch();
        let mut cubic = after_loss(now);
        cubic.on_spurious();
        assert_eq!(segments(&cubic), 100);
        cubic.on_congestion(now);
        cubic.on_timeout(now);
        cubic.on_spurious();
        assert_eq!(segments(&cubic), 1, "a timeout is believed");
    }

    #[test]
    fn falling_peaks_make_room_for_others() {
        let now = epoch();
        let mut cubic = after_loss(now);
        cubic.on_congestion(now);
        assert_eq!(segments(&cubic), 49);
        assert!((cubic.peak - 59_500.0).abs() < 1.0, "{}", cubic.peak);
        for _ in 0..20 {
            cubic.on_congestion(now);
        }
        assert_eq!(segments(&cubic), LEAST_SEGMENTS);
        cubic.set_mss(5000);
        assert_eq!(cubic.window(), 10_000);
    }
}
