//! The controller: a model of the path, and beside others their own way.

use super::{
    Ack, Congestion, Loss,
    compete::Compete,
    rate::{DeliveryRate, Sample},
};
use std::time::{Duration, Instant};

/// Packets that may leave before the first acknowledgement, spread over a part of the round trip, which is known from what
/// came before: a handshake.
const INITIAL_PACKETS: u64 = 32;
/// The same at once, where it is not known (RFC 6928).
const UNPACED_PACKETS: u64 = 10;
/// Fewest packets of a window.
const LEAST_PACKETS: u64 = 4;
/// Pace of the start: doubles what is delivered with each round trip (4 ln 2).
const STARTUP_GAIN: f64 = 2.77;
/// Windows, in products of rate and round trip.
const WINDOW_GAIN: f64 = 2.0;
/// Pace while it is tried whether there is more.
const UP_GAIN: f64 = 1.25;
/// Pace while what that left in the queue drains.
const DOWN_GAIN: f64 = 0.75;
/// Pace otherwise: a little below the rate, so that no queue stands for the error of measurement.
const CRUISE_GAIN: f64 = 0.99;
/// Round trips between two trials.
const CRUISE_ROUNDS: u32 = 6;
/// Rounds in which the rate must have grown by a quarter for the start to go on.
const FULL_ROUNDS: u32 = 3;
/// For how long a shortest round trip is believed.
const LEAST_AGE: Duration = Duration::from_secs(10);
/// How long little is on its way, so that the queue drains and the shortest round trip shows.
const PROBE_RTT: Duration = Duration::from_millis(200);
/// Time on top of the window's product: acknowledgements and wake-ups that come in groups.
const SLACK: Duration = Duration::from_millis(3);
/// It is shorter where the round trip is, down to this: on one host what is on its way is in the processor's caches, or not.
const LEAST_SLACK: Duration = Duration::from_millis(1);
/// Round trips that it is then.
const SLACK_ROUNDS: u32 = 4;
/// Part of a round's bytes that may be lost before a trial ends.
const TOLERATED_LOSS: f64 = 0.05;
/// Rounds without an empty queue after which somebody else keeps it full.
const FULL_QUEUE_ROUNDS: u32 = 20;
/// Part of what arrives in a round trip that the window of a competitor keeps, whatever is lost: who causes losses all the time
/// and heeds none (BBR) would be left alone with the link. Where others yield, the rate falls, and this with it.
const KEPT: f64 = 0.95;
/// What still counts as an empty queue: this above the shortest round trip, or an eighth of it.
const EMPTY: Duration = Duration::from_millis(2);

/// What the controller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Startup,
    /// What the start left in the queue drains; also after a trial.
    Down,
    Cruise,
    Up,
    /// Little is on its way until then.
    ProbeRtt {
        until: Option<Instant>,
    },
}

/// A round: from a packet's departure to its acknowledgement.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// It ends when a packet is acknowledged that left after so much had arrived.
    end: u64,
    /// Rounds so far.
    count: u64,
    lost: u64,
    delivered: u64,
    /// Shortest round trip in this one and in the one before.
    least: Option<Duration>,
    before: Option<Duration>,
    samples: u32,
}

/// A model-based controller.
///
/// It measures at what rate data arrives and how long the shortest round trip is, and sends at that rate. Now and then
/// it tries a quarter more for one round trip, and drains what that left in the queue. A loss is no reason to slow
/// down by itself. When the queue is never empty, somebody else fills it: then the window follows the losses as
/// CUBIC's does (RFC 9438), down to what arrives in a round trip, so that both get their share, until the queue is seen
/// empty again.
///
/// # Figures
/// The module's tests hold it, on a simulated link of 100 Mbit/s with a round trip of 50 ms, to at least 97 % of the
/// link, 15 ms of queue after the start, 96 % of the link at 1 % loss, and 25 to 75 % beside CUBIC or BBR where the
/// buffer holds what a round trip carries, or more. (Half of that: CUBIC is left 17 %, by BBR as by this.)
/// Between two hosts with such a link (`cargo xtask bench file.beside`) a file was seen to get 56 % beside Linux's CUBIC, and
/// 27 to 28 % beside its BBR.
#[derive(Clone, Debug)]
pub struct Model {
    packet: u64,
    rate: DeliveryRate,
    /// The best rates of this cycle and of the one before, in bytes a second.
    best: [u64; 2],
    least: Option<Duration>,
    least_at: Instant,
    smoothed: Duration,
    /// What it was before anything of ours was acknowledged, as somebody else measured it.
    assumed: Duration,
    phase: Phase,
    since: Instant,
    /// The round in which the phase began.
    since_round: u64,
    round: Round,
    /// What the start has reached, and for how many rounds it has not grown.
    full: (u64, u32),
    /// Round in which the queue was last seen empty.
    empty_round: u64,
    compete: Option<Compete>,
    /// Rate when the trial began.
    trial: u64,
}

impl Model {
    /// A controller for packets of at most `packet` bytes.
    pub fn new(packet: u64, now: Instant) -> Self {
        Self {
            packet: packet.max(1),
            rate: DeliveryRate::new(now),
            best: [0; 2],
            least: None,
            least_at: now,
            smoothed: Duration::ZERO,
            assumed: Duration::ZERO,
            phase: Phase::Startup,
            since: now,
            since_round: 0,
            round: Round::default(),
            full: (0, 0),
            empty_round: 0,
            compete: None,
            trial: 0,
        }
    }

    /// The bottleneck's rate as far as known, in bytes a second.
    pub fn bandwidth(&self) -> u64 {
        self.best[0].max(self.best[1])
    }

    /// The shortest round trip of the last seconds.
    pub fn min_rtt(&self) -> Option<Duration> {
        self.least
    }

    /// Whether somebody else keeps the queue full, so that the window follows the losses.
    pub fn competes(&self) -> bool {
        self.compete.is_some()
    }

    /// `gain` products of rate and shortest round trip.
    fn product(&self, gain: f64) -> f64 {
        let least = self.least.unwrap_or_default();
        gain * self.bandwidth() as f64 * least.as_secs_f64()
    }

    fn enter(&mut self, phase: Phase, now: Instant) {
        self.phase = phase;
        self.since = now;
        self.since_round = self.round.count;
    }

    fn rounds(&self) -> u64 {
        self.round.count - self.since_round
    }

    fn measure(&mut self, ack: &Ack) {
        let Some(rtt) = ack.rtt else { return };
        self.smoothed = if self.smoothed.is_zero() {
            rtt
        } else {
            (self.smoothed * 7 + rtt) / 8
        };
        self.round.least = Some(self.round.least.map_or(rtt, |least| least.min(rtt)));
        self.round.samples += 1;
        match self.least {
            Some(least) if rtt > least => {
                if rtt <= least + least / 32 {
                    self.least_at = ack.now;
                }
            }
            Some(_) | None => {
                self.least = Some(rtt);
                self.least_at = ack.now;
            }
        }
        if self.queue(rtt) <= self.empty() {
            self.empty_round = self.round.count;
            self.compete = None;
        }
    }

    fn queue(&self, rtt: Duration) -> Duration {
        rtt.saturating_sub(self.least.unwrap_or(rtt))
    }

    fn empty(&self) -> Duration {
        (self.least.unwrap_or_default() / 8).max(EMPTY)
    }

    /// Whether a round has ended.
    fn count_round(&mut self, ack: &Ack, sample: &Sample) -> bool {
        self.round.delivered += ack.bytes;
        if sample.delivered_before < self.round.end {
            return false;
        }
        self.round.end = self.rate.delivered();
        self.round.count += 1;
        true
    }

    fn begin_round(&mut self) {
        self.round.lost = 0;
        self.round.delivered = 0;
        self.round.before = self.round.least.take();
        self.round.samples = 0;
    }

    fn is_lossy(&self) -> bool {
        let all = self.round.lost + self.round.delivered;
        self.round.lost > 8 * self.packet && self.round.lost as f64 > all as f64 * TOLERATED_LOSS
    }

    /// Whether the start has found the end: no more growth, a queue, or losses.
    fn is_full(&mut self, round: bool, sample: &Sample) -> bool {
        let best = self.bandwidth();
        if round && !sample.limited {
            if best as f64 >= self.full.0 as f64 * 1.25 {
                self.full = (best, 0);
            } else {
                self.full.1 += 1;
            }
        }
        // RFC 9406 §4.2: the round trip rises above that of the round before.
        let rises = match (self.round.before, self.round.least) {
            (Some(before), Some(least)) if self.round.samples >= 8 => {
                let rise = before / 8;
                let bounds = (Duration::from_millis(4), Duration::from_millis(16));
                least >= before + rise.clamp(bounds.0, bounds.1)
            }
            _ => false,
        };
        self.full.1 >= FULL_ROUNDS || rises || self.is_lossy()
    }

    fn step(&mut self, ack: &Ack, round: bool, sample: &Sample) {
        let least = self.least.unwrap_or_default();
        let elapsed = ack.now.saturating_duration_since(self.since);
        match self.phase {
            Phase::Startup => {
                if self.is_full(round, sample) {
                    self.enter(Phase::Down, ack.now);
                }
            }
            Phase::Down => {
                let drained = (ack.in_flight as f64) <= self.product(1.0).max(self.floor());
                if drained || self.rounds() >= 3 {
                    self.enter(Phase::Cruise, ack.now);
                }
            }
            Phase::Cruise => {
                if elapsed >= least * CRUISE_ROUNDS && self.rounds() >= u64::from(CRUISE_ROUNDS) {
                    self.best = [
                        0,
                        self.best[0].max(if sample.limited { self.best[1] } else { 0 }),
                    ];
                    self.trial = self.bandwidth();
                    self.enter(Phase::Up, ack.now);
                }
            }
            Phase::Up => {
                let tried = elapsed >= least && self.rounds() >= 1;
                let queue = ack
                    .rtt
                    .is_some_and(|rtt| self.queue(rtt) >= (least / 5).max(EMPTY * 2));
                let reached =
                    self.rounds() >= 2 || queue || ack.in_flight as f64 >= self.product(UP_GAIN);
                if self.is_lossy() || tried && reached && !self.trial_goes_on(sample) {
                    self.enter(Phase::Down, ack.now);
                }
            }
            Phase::ProbeRtt { until } => self.probe_rtt(ack, until),
        }
        let old = ack.now.saturating_duration_since(self.least_at) > LEAST_AGE;
        if old && !matches!(self.phase, Phase::ProbeRtt { .. } | Phase::Startup) {
            self.enter(Phase::ProbeRtt { until: None }, ack.now);
        }
    }

    /// A trial that finds more goes on.
    fn trial_goes_on(&mut self, sample: &Sample) -> bool {
        let best = self.bandwidth();
        let more = best as f64 > self.trial as f64 * 1.1 && !sample.limited;
        self.trial = best;
        more
    }

    fn probe_rtt(&mut self, ack: &Ack, until: Option<Instant>) {
        match until {
            None if ack.in_flight as f64 <= self.product(0.5).max(self.floor()) => {
                let least = self.least.unwrap_or_default();
                self.phase = Phase::ProbeRtt {
                    until: Some(ack.now + PROBE_RTT.max(least)),
                };
                // What is measured from here on replaces what was.
                self.least = ack.rtt.or(Some(self.smoothed));
                self.least_at = ack.now;
            }
            Some(until) if ack.now >= until => {
                self.least_at = ack.now;
                self.enter(Phase::Cruise, ack.now);
            }
            None | Some(_) => {}
        }
    }

    /// What may be on its way before the path is known, in bytes.
    fn initial(&self) -> f64 {
        let packets = match self.round_trip().is_zero() {
            true => UNPACED_PACKETS,
            false => INITIAL_PACKETS,
        };
        (packets * self.packet) as f64
    }

    /// As far as it is known; zero when it is not.
    fn round_trip(&self) -> Duration {
        match self.smoothed.is_zero() {
            true => self.assumed,
            false => self.smoothed,
        }
    }

    fn floor(&self) -> f64 {
        (LEAST_PACKETS * self.packet) as f64
    }

    fn watch_competition(&mut self, ack: &Ack) {
        let rounds = self.round.count - self.empty_round;
        let started = self.phase != Phase::Startup;
        if self.compete.is_none() && started && rounds > u64::from(FULL_QUEUE_ROUNDS) {
            let window = self.bandwidth() as f64 * self.smoothed.as_secs_f64();
            self.compete = Some(Compete::new(window.max(self.floor()), ack.now));
        }
        let (floor, smoothed, packet) = (self.floor(), self.smoothed, self.packet);
        if let Some(compete) = &mut self.compete {
            compete.on_ack(ack, smoothed, packet, floor);
        }
    }

    /// Beside others.
    fn competing_window(&self, compete: &Compete) -> f64 {
        let arrives = self.bandwidth() as f64 * self.smoothed.as_secs_f64();
        compete.window().max(arrives * KEPT)
    }

    fn model_window(&self) -> f64 {
        if self.bandwidth() == 0 {
            let grown = self.rate.delivered() as f64;
            return self.initial() + grown;
        }
        let slack = self.least.unwrap_or_default() * SLACK_ROUNDS;
        let slack = self.bandwidth() as f64 * slack.clamp(LEAST_SLACK, SLACK).as_secs_f64();
        match self.phase {
            Phase::Startup => self.product(STARTUP_GAIN).max(self.initial()),
            Phase::ProbeRtt { .. } => self.product(0.5),
            Phase::Down | Phase::Cruise | Phase::Up => self.product(WINDOW_GAIN) + slack,
        }
    }
}

impl Congestion for Model {
    fn assume_round_trip(&mut self, rtt: Duration) {
        self.assumed = rtt;
    }

    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64) {
        self.rate.on_sent(now, in_flight <= bytes);
    }

    fn on_ack(&mut self, ack: &Ack) {
        self.measure(ack);
        let Some(sample) = self.rate.on_ack(ack, self.least) else {
            return;
        };
        if let Some(rate) = sample.rate
            && (!sample.limited || rate > self.bandwidth())
        {
            self.best[0] = self.best[0].max(rate);
        }
        let round = self.count_round(ack, &sample);
        self.step(ack, round, &sample);
        self.watch_competition(ack);
        if round {
            self.begin_round();
        }
    }

    fn on_loss(&mut self, loss: &Loss) {
        self.round.lost += loss.bytes;
        let queue = self.queue(self.smoothed);
        let floor = self.floor();
        let others = self.least.unwrap_or_default() / 4;
        if self.compete.is_none() && self.phase == Phase::Cruise && queue > others.max(EMPTY * 4) {
            let window = self.bandwidth() as f64 * self.smoothed.as_secs_f64();
            self.compete = Some(Compete::new(window.max(floor), loss.now));
        }
        if let Some(compete) = &mut self.compete {
            compete.on_loss(loss, self.smoothed, floor);
        }
    }

    fn on_timeout(&mut self, now: Instant) {
        // Everything is gone: begins anew at half of what was, and looks.
        self.best = [0, self.bandwidth() / 2];
        self.compete = None;
        self.empty_round = self.round.count;
        self.full = (0, 0);
        self.enter(Phase::Cruise, now);
    }

    fn on_limited(&mut self, in_flight: u64) {
        if in_flight < self.window() {
            self.rate.on_limited(in_flight);
        }
    }

    fn set_packet_size(&mut self, bytes: u64) {
        self.packet = bytes.max(1);
    }

    fn window(&self) -> u64 {
        let window = match (&self.compete, self.phase) {
            (Some(compete), Phase::Startup | Phase::Down | Phase::Cruise | Phase::Up) => {
                self.competing_window(compete)
            }
            (None | Some(_), _) => self.model_window(),
        };
        window.max(self.floor()) as u64
    }

    fn pacing_rate(&self) -> Option<u64> {
        if self.bandwidth() == 0 || self.smoothed.is_zero() {
            let known = !self.round_trip().is_zero();
            let round = self.round_trip().max(Duration::from_millis(1));
            let round = round.as_secs_f64();
            return known.then(|| (self.model_window() * STARTUP_GAIN / round) as u64);
        }
        if let Some(compete) = &self.compete {
            let window = self.competing_window(compete);
            return Some((window * 1.25 / self.smoothed.as_secs_f64()) as u64);
        }
        let gain = match self.phase {
            Phase::Startup => STARTUP_GAIN,
            Phase::Down => DOWN_GAIN,
            Phase::Cruise | Phase::ProbeRtt { .. } => CRUISE_GAIN,
            Phase::Up => UP_GAIN,
        };
        let round = self.smoothed.as_secs_f64().max(1e-6);
        let least = match self.phase {
            // A handshake's few bytes say nothing of the path.
            Phase::Startup => self.initial() * gain / round,
            Phase::Down | Phase::Cruise | Phase::Up | Phase::ProbeRtt { .. } => {
                (self.floor() / round).min(1e5)
            }
        };
        Some((self.bandwidth() as f64 * gain).max(least) as u64)
    }

    fn clone_box(&self) -> Box<dyn Congestion> {
        Box::new(self.clone())
    }
}
