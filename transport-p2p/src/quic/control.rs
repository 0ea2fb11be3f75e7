//! This crate's congestion controller for quinn-proto.
//!
//! quinn-proto asks a controller for a window and spreads one window over a round trip; ours says at which rate to send,
//! and keeps a window for emergencies. So [`Gate`] stands before quinn-proto: it permits a number of datagrams, and
//! while it permits none the window is 0, which leaves acknowledgements and probes alone.

use crate::congestion::{Ack, Congestion, Loss, Model, Pacer};
use quinn_proto::{
    RttEstimator,
    congestion::{Controller, ControllerFactory},
};
use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

/// Shorter packets acknowledge, and are not on their way in the sense of congestion control.
const DATA_MIN: u64 = 80;

/// Before quinn-proto's connection: how much may leave now.
#[derive(Debug)]
pub(super) struct Gate {
    shared: Arc<Shared>,
    pacer: Option<Pacer>,
    packet: u64,
    /// When more may leave, if it is for the pace that none may.
    wait: Option<Instant>,
}

/// What gate and controller know of each other. quinn-proto owns the controller.
#[derive(Debug, Default)]
struct Shared {
    is_open: AtomicBool,
    window: AtomicU64,
    in_flight: AtomicU64,
    /// Bytes a second; 0 is none.
    rate: AtomicU64,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
            pacer: None,
            packet: 0,
            wait: None,
        }
    }

    /// For quinn-proto.
    pub(super) fn factory(&self) -> Arc<dyn ControllerFactory + Send + Sync> {
        Arc::new(Factory(self.shared.clone()))
    }

    /// How many datagrams of this size may leave now. With 0, still one may that must.
    ///
    /// In a handshake everything must: quinn-proto does not probe for what it holds back.
    pub(super) fn permit(&mut self, size: u64, handshake: bool, now: Instant) -> usize {
        let pacer = self.pacer.get_or_insert_with(|| Pacer::new(size, now));
        if self.packet != size {
            self.packet = size;
            pacer.set_packet_size(size);
        }
        let window = self.shared.window.load(Relaxed);
        let room = window.saturating_sub(self.shared.in_flight.load(Relaxed));
        let budget = pacer.budget(self.shared.rate(), now);
        self.wait = match budget {
            0 => pacer.next(self.shared.rate()),
            _ => None,
        };
        let count = (room.min(budget) / size.max(1)).max(handshake.into());
        self.shared.is_open.store(count > 0, Relaxed);
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    /// They have left. Acknowledgements take nothing from the pace: they would wait with what they come with.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        if let Some(pacer) = self.pacer.as_mut().filter(|_| bytes >= DATA_MIN) {
            pacer.on_sent(bytes);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.wait.take_if(|at| *at <= now);
    }

    /// When [`permit`](Self::permit) is worth another try.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.wait
    }

    /// Most bytes that may be on their way.
    pub(super) fn window(&self) -> u64 {
        self.shared.window.load(Relaxed)
    }
}

impl Shared {
    fn rate(&self) -> Option<u64> {
        Some(self.rate.load(Relaxed)).filter(|rate| *rate > 0)
    }
}

struct Factory(Arc<Shared>);

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let controller = Adapter {
            shared: self.0.clone(),
            inner: Box::new(Model::new(u64::from(current_mtu), now)),
            initial: 0,
            acknowledged: None,
        };
        controller.publish(0);
        Box::new(Adapter {
            initial: controller.inner.window(),
            ..controller
        })
    }
}

struct Adapter {
    shared: Arc<Shared>,
    inner: Box<dyn Congestion>,
    initial: u64,
    /// Of the acknowledgement that is being read: bytes, and when the newest of them left.
    acknowledged: Option<(u64, Instant)>,
}

impl Adapter {
    fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Relaxed)
    }

    fn publish(&self, in_flight: u64) {
        self.shared.in_flight.store(in_flight, Relaxed);
        self.shared.window.store(self.inner.window(), Relaxed);
        let rate = self.inner.pacing_rate().unwrap_or(0);
        self.shared.rate.store(rate, Relaxed);
    }
}

impl Controller for Adapter {
    fn on_sent(&mut self, now: Instant, bytes: u64, _last_packet_number: u64) {
        if bytes >= DATA_MIN {
            let in_flight = self.in_flight() + bytes;
            self.inner.on_sent(now, bytes, in_flight);
            self.publish(in_flight);
        }
    }

    fn on_ack(
        &mut self,
        _now: Instant,
        sent: Instant,
        bytes: u64,
        _app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        let (before, newest) = self.acknowledged.unwrap_or((0, sent));
        self.acknowledged = Some((before + bytes, newest.max(sent)));
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        if let Some((bytes, sent)) = self.acknowledged.take() {
            // A packet number is used once: there is no doubt which one was acknowledged.
            self.inner.on_ack(&Ack {
                now,
                sent,
                bytes,
                rtt: Some(now.saturating_duration_since(sent)),
                in_flight,
            });
        }
        if app_limited {
            self.inner.on_limited(in_flight);
        }
        self.publish(in_flight);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        let in_flight = self.in_flight().saturating_sub(lost_bytes);
        if lost_bytes > 0 {
            self.inner.on_loss(&Loss {
                now,
                sent,
                bytes: lost_bytes,
                in_flight,
            });
        }
        if is_persistent_congestion {
            self.inner.on_timeout(now);
        }
        self.publish(in_flight);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.set_packet_size(u64::from(new_mtu));
        self.publish(self.in_flight());
    }

    /// Everything or nothing: the gate counts. So large a window has quinn-proto keep no pace of its own.
    fn window(&self) -> u64 {
        match self.shared.is_open.load(Relaxed) {
            true => u64::MAX,
            false => 0,
        }
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            shared: self.shared.clone(),
            inner: self.inner.clone_box(),
            initial: self.initial,
            acknowledged: self.acknowledged,
        })
    }

    fn initial_window(&self) -> u64 {
        self.initial
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
