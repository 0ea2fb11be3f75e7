//! A network that loses, delays, doubles and reorders packets, from a seed.

use std::{f64::consts::TAU, time::Duration};

/// The shortest way of a packet.
pub(super) const LINK: Duration = Duration::from_millis(25);

/// What a network does to packets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// The share of packets that are lost.
    pub(super) loss: f64,
    /// How many are lost in a row, on average; 1 is chance.
    pub(super) burst: f64,
    /// The standard deviation of the normal distribution by whose absolute values ways are longer than the shortest.
    pub(super) jitter: Duration,
    /// The share of packets that come 50 ms later than they would, behind others.
    pub(super) reordered: f64,
    /// The share of packets that come twice.
    pub(super) doubled: f64,
    /// By how many millionths the talker's clock is fast.
    pub(super) drift: f64,
    /// When all ways become longer, and by how much.
    pub(super) step: Option<(Duration, Duration)>,
}

pub(super) const CLEAN: Network = Network {
    loss: 0.0,
    burst: 1.0,
    jitter: Duration::ZERO,
    reordered: 0.0,
    doubled: 0.0,
    drift: 0.0,
    step: None,
};

impl Network {
    /// Whether frames may be missing when their time has come, so that copies are of use.
    pub(super) fn is_unsteady(&self) -> bool {
        let late = !self.jitter.is_zero() || self.reordered > 0.0 || self.step.is_some();
        self.loss > 0.0 || late
    }
}

/// The ways of packets, one after the other.
pub(super) struct Ways {
    network: Network,
    random: u64,
    losing: bool,
}

impl Ways {
    pub(super) fn new(network: Network, seed: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut this = Self {
            network,
            random,
            losing: false,
        };
        // The first numbers of seeds that are near each other are near each other.
        for _ in 0..16 {
            this.chance();
        }
        this
    }

    /// How long the packet that leaves then is on its way: once, twice, or never.
    pub(super) fn next(&mut self, since_begin: Duration) -> [Option<Duration>; 2] {
        let network = self.network;
        let (draw, again) = (self.chance(), self.chance());
        // Gilbert's model: runs end by chance, and begin as often as makes the share. With runs of one on average, each
        // packet is lost by itself.
        self.losing = if network.burst <= 1.0 {
            draw < network.loss
        } else if self.losing {
            draw >= 1.0 / network.burst
        } else {
            draw < network.loss / (network.burst * (1.0 - network.loss))
        };
        let mut way = LINK + network.jitter.mul_f64(self.normal().abs());
        if again < network.reordered {
            way += Duration::from_millis(50);
        }
        way += match network.step {
            Some((at, longer)) if since_begin >= at => longer,
            Some(_) | None => Duration::ZERO,
        };
        let second = (self.chance() < network.doubled).then_some(way + Duration::from_millis(5));
        match self.losing {
            true => [None, None],
            false => [Some(way), second],
        }
    }

    /// From 0 to below 1.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Of the normal distribution (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.chance(), self.chance());
        (-2.0 * a.ln()).sqrt() * (TAU * b).cos()
    }
}
