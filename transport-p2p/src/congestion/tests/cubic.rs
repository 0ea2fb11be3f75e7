//! TCP cubic as Linux has it (RFC 9438, HyStart), for the competition.

use super::super::{Ack, Congestion, Loss};
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub(super) struct Cubic {
    packet: f64,
    window: f64,
    threshold: f64,
    peak: f64,
    epoch: Option<Instant>,
    reno: f64,
    reduced_at: Option<Instant>,
    least: Duration,
    smoothed: Duration,
}

impl Cubic {
    pub(super) fn new(packet: u64) -> Self {
        Self {
            packet: packet as f64,
            window: 10.0 * packet as f64,
            threshold: f64::INFINITY,
            peak: 0.0,
            epoch: None,
            reno: 0.0,
            reduced_at: None,
            least: Duration::MAX,
            smoothed: Duration::ZERO,
        }
    }
}

impl Congestion for Cubic {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, _in_flight: u64) {}

    fn on_ack(&mut self, ack: &Ack) {
        let rtt = ack.rtt.unwrap_or_default();
        self.least = self.least.min(rtt);
        self.smoothed = if self.smoothed.is_zero() {
            rtt
        } else {
            (self.smoothed * 7 + rtt) / 8
        };
        let bytes = ack.bytes as f64;
        if self.window < self.threshold {
            self.window += bytes;
            let rise = (self.least / 8).clamp(Duration::from_millis(4), Duration::from_millis(16));
            if self.smoothed > self.least + rise {
                self.threshold = self.window;
            }
            return;
        }
        let epoch = *self.epoch.get_or_insert_with(|| {
            self.peak = self.peak.max(self.window);
            self.reno = self.window;
            ack.now
        });
        let t = (ack.now - epoch + self.least).as_secs_f64();
        let k = ((self.peak - self.window.min(self.peak * 0.7).max(self.peak * 0.7))
            / self.packet
            / 0.4)
            .cbrt();
        let target = self.peak + 0.4 * (t - k).powi(3) * self.packet;
        let target = target.clamp(self.window, self.window * 1.5);
        self.window += (target - self.window) / self.window * bytes;
        let alpha = if self.reno < self.peak { 0.529 } else { 1.0 };
        self.reno += alpha * self.packet * bytes / self.window;
        self.window = self.window.max(self.reno);
    }

    fn on_loss(&mut self, loss: &Loss) {
        if self.reduced_at.is_some_and(|at| loss.sent <= at) {
            return;
        }
        self.reduced_at = Some(loss.now);
        // Fast convergence.
        self.peak = if self.window < self.peak {
            self.window * 0.85
        } else {
            self.window
        };
        self.window = (self.window * 0.7).max(2.0 * self.packet);
        self.threshold = self.window;
        self.epoch = None;
    }

    fn on_timeout(&mut self, _now: Instant) {
        self.threshold = self.window / 2.0;
        self.window = 2.0 * self.packet;
    }

    fn on_limited(&mut self, _in_flight: u64) {}
    fn set_packet_size(&mut self, _bytes: u64) {}

    fn window(&self) -> u64 {
        self.window as u64
    }

    fn pacing_rate(&self) -> Option<u64> {
        None
    }

    fn clone_box(&self) -> Box<dyn Congestion> {
        Box::new(self.clone())
    }
}
