//! TCP BBR version 1 as Linux has it, for the competition.

use super::super::{Ack, Congestion, Loss, rate::DeliveryRate};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];

#[derive(Clone, Debug, PartialEq)]
enum Mode {
    Startup,
    Drain,
    ProbeBw(usize),
    ProbeRtt(Option<Instant>),
}

#[derive(Clone, Debug)]
pub(super) struct Bbr {
    packet: f64,
    rate: DeliveryRate,
    /// Best rates of the last ten rounds.
    rounds: VecDeque<u64>,
    round_end: u64,
    least: Duration,
    least_at: Instant,
    mode: Mode,
    since: Instant,
    full: (u64, u32),
    lost: bool,
}

impl Bbr {
    pub(super) fn new(packet: u64, now: Instant) -> Self {
        Self {
            packet: packet as f64,
            rate: DeliveryRate::new(now),
            rounds: [0].into(),
            round_end: 0,
            least: Duration::MAX,
            least_at: now,
            mode: Mode::Startup,
            since: now,
            full: (0, 0),
            lost: false,
        }
    }

    fn best(&self) -> u64 {
        self.rounds.iter().copied().max().unwrap_or(0)
    }

    fn product(&self) -> f64 {
        self.best() as f64 * self.least.min(Duration::from_secs(1)).as_secs_f64()
    }

    fn step(&mut self, ack: &Ack, round: bool, old: bool) {
        let in_flight = ack.in_flight as f64;
        let elapsed = ack.now - self.since;
        match self.mode {
            Mode::Startup if round => {
                let best = self.best();
                if best as f64 >= self.full.0 as f64 * 1.25 {
                    self.full = (best, 0);
                } else {
                    self.full.1 += 1;
                }
                if self.full.1 >= 3 {
                    self.mode = Mode::Drain;
                }
            }
            Mode::Drain if in_flight <= self.product() => {
                self.mode = Mode::ProbeBw(2);
                self.since = ack.now;
            }
            Mode::ProbeBw(index) => {
                let done = match index {
                    0 => elapsed > self.least && (self.lost || in_flight >= 1.25 * self.product()),
                    1 => elapsed > self.least || in_flight <= self.product(),
                    _ => elapsed > self.least,
                };
                if done {
                    self.mode = Mode::ProbeBw((index + 1) % 8);
                    self.since = ack.now;
                    self.lost = false;
                }
            }
            Mode::ProbeRtt(None) if in_flight <= 4.0 * self.packet => {
                self.mode = Mode::ProbeRtt(Some(ack.now + Duration::from_millis(200)));
            }
            Mode::ProbeRtt(Some(until)) if ack.now >= until => {
                self.least_at = ack.now;
                self.mode = Mode::ProbeBw(2);
                self.since = ack.now;
            }
            Mode::Startup | Mode::Drain | Mode::ProbeRtt(_) => {}
        }
        if old && !matches!(self.mode, Mode::ProbeRtt(_)) {
            self.mode = Mode::ProbeRtt(None);
        }
    }
}

impl Congestion for Bbr {
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        self.rate.on_sent(now, in_flight <= bytes);
    }

    fn on_ack(&mut self, ack: &Ack) {
        let rtt = ack.rtt.unwrap_or_default();
        let old = ack.now - self.least_at > Duration::from_secs(10);
        if rtt <= self.least || old {
            self.least = rtt;
            self.least_at = ack.now;
        }
        let Some(sample) = self.rate.on_ack(ack, Some(self.least)) else {
            return;
        };
        let round = sample.delivered_before >= self.round_end;
        if round {
            self.round_end = self.rate.delivered();
            self.rounds.push_front(0);
            self.rounds.truncate(10);
        }
        if let Some(rate) = sample.rate {
            self.rounds[0] = self.rounds[0].max(rate);
        }
        self.step(ack, round, old);
    }

    fn on_loss(&mut self, _loss: &Loss) {
        self.lost = true;
    }

    fn on_timeout(&mut self, _now: Instant) {}
    fn on_limited(&mut self, _in_flight: u64) {}
    fn set_packet_size(&mut self, _bytes: u64) {}

    fn window(&self) -> u64 {
        let gain = match self.mode {
            Mode::ProbeRtt(_) => return (4.0 * self.packet) as u64,
            Mode::Startup => 2.89,
            Mode::Drain | Mode::ProbeBw(_) => 2.0,
        };
        (gain * self.product()).max(10.0 * self.packet) as u64
    }

    fn pacing_rate(&self) -> Option<u64> {
        let gain = match self.mode {
            Mode::Startup => 2.89,
            Mode::Drain => 0.35,
            Mode::ProbeBw(index) => CYCLE[index],
            Mode::ProbeRtt(_) => 1.0,
        };
        let best = self.best();
        (best > 0).then_some((best as f64 * gain * 0.99) as u64)
    }

    fn clone_box(&self) -> Box<dyn Congestion> {
        Box::new(self.clone())
    }
}
