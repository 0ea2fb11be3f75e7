//! The window beside somebody who keeps the queue full.

use super::{Ack, Loss};
use std::time::{Duration, Instant};

/// Aggressiveness, in packets per cubic second (RFC 9438 §5).
const C: f64 = 0.4;
/// What remains of the window after a loss. RFC 9438 §4.6 has 0.7; beside CUBIC this gets the same share on a simulated link, and
/// beside BBR, which causes losses all the time, a third more of it.
const BETA: f64 = 0.8;

/// Reductions are at least this far apart, in time and in round trips. Who does not heed losses (BBR) causes them all
/// the time, and would be left alone with the link.
const LEAST_APART: Duration = Duration::from_millis(2500);
const APART_ROUNDS: u32 = 10;

/// CUBIC's window (RFC 9438).
#[derive(Clone, Debug)]
pub(super) struct Compete {
    window: f64,
    /// Window at the last loss.
    peak: f64,
    epoch: Instant,
    /// Losses of packets that were sent before this belong to the last one.
    reduced_at: Option<Instant>,
}

impl Compete {
    pub(super) fn new(window: f64, now: Instant) -> Self {
        Self {
            window,
            peak: window,
            epoch: now,
            reduced_at: None,
        }
    }

    pub(super) fn window(&self) -> f64 {
        self.window
    }

    pub(super) fn on_ack(&mut self, ack: &Ack, round: Duration, packet: u64, floor: f64) {
        let packet = packet as f64;
        let t = (ack.now.saturating_duration_since(self.epoch) + round).as_secs_f64();
        let start = self.peak.min(self.window);
        let to_peak = ((self.peak * (1.0 - BETA)).max(0.0) / packet / C).cbrt();
        let target = self.peak + C * (t - to_peak).powi(3) * packet;
        let target = target.clamp(start, self.window * 1.5);
        if target > self.window {
            self.window += (target - self.window) / self.window * ack.bytes as f64;
        }
        self.window = self.window.max(floor);
    }

    pub(super) fn on_loss(&mut self, loss: &Loss, round: Duration, floor: f64) {
        let apart = LEAST_APART.max(round * APART_ROUNDS);
        if self
            .reduced_at
            .is_some_and(|at| loss.sent <= at || loss.now < at + apart)
        {
            return;
        }
        self.reduced_at = Some(loss.now);
        self.peak = self.window;
        self.window = (self.window * BETA).max(floor);
        self.epoch = loss.now;
    }
}
