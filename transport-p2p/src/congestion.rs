//! Congestion control: how much may be on its way, and how fast it leaves. The sender's own choice, invisible on the
//! wire, so it helps against peers that know nothing of it too.
//!
//! [`Congestion`] is what a reliable transport (SCTP, PseudoTCP, QUIC) tells a controller and asks of it. [`Model`] is
//! the controller for all of them. It keeps a model of the path (bottleneck rate and shortest round trip, as BBR and
//! Copa do) instead of taking each loss for congestion. [`Pacer`] spreads over time what a controller permits.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use transport_p2p::congestion::{Ack, Congestion, Model};
//!
//! let start = Instant::now();
//! let mut controller = Model::new(1200, start);
//! let allowed = controller.window();
//! controller.on_sent(start, allowed, allowed);
//! let now = start + Duration::from_millis(50);
//! controller.on_ack(&Ack {
//!     now,
//!     sent: start,
//!     bytes: allowed,
//!     rtt: Some(Duration::from_millis(50)),
//!     in_flight: 0,
//! });
//! assert!(controller.window() > allowed);
//! assert!(controller.pacing_rate().is_some());
//! ```

mod compete;
mod model;
mod pacer;
mod rate;

#[cfg(test)]
mod tests;

pub use self::{model::Model, pacer::Pacer};

use std::{
    fmt,
    time::{Duration, Instant},
};

/// What has newly arrived, as one acknowledgement tells it.
#[derive(Clone, Copy, Debug)]
pub struct Ack {
    /// When the acknowledgement came.
    pub now: Instant,
    /// When the newest of the acknowledged packets was sent.
    pub sent: Instant,
    /// Bytes that are newly known to have arrived, whatever was sent again counted once.
    pub bytes: u64,
    /// The round trip of the newest of them; `None` if it was sent more than once and the acknowledgement may be of
    /// either (Karn's rule).
    pub rtt: Option<Duration>,
    /// Bytes that are still thought to be on their way.
    pub in_flight: u64,
}

/// What is newly thought to be lost.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    /// When that was concluded.
    pub now: Instant,
    /// When the newest of the lost packets was sent.
    pub sent: Instant,
    /// Bytes that are newly thought to be lost.
    pub bytes: u64,
    /// Bytes that are still thought to be on their way.
    pub in_flight: u64,
}

/// A congestion controller of one direction of one connection. All amounts are in bytes, headers of the transport
/// included or not, as long as it is always the same.
pub trait Congestion: fmt::Debug + Send + Sync {
    /// A round trip that was measured before the first of our packets left: by a handshake below. Nothing by default.
    fn assume_round_trip(&mut self, _rtt: Duration) {}

    /// `bytes` have left, first or again. `in_flight` includes them.
    fn on_sent(&mut self, now: Instant, bytes: u64, in_flight: u64);

    /// Data arrived: once for each acknowledgement that says something new.
    fn on_ack(&mut self, ack: &Ack);

    /// Data was lost: before [`on_ack`](Self::on_ack) if the same acknowledgement told it.
    fn on_loss(&mut self, loss: &Loss);

    /// The last loss was none: the data was only late. Nothing by default.
    fn on_spurious(&mut self, _now: Instant) {}

    /// The retransmission timer ran out, and everything on its way counts as lost (it is not told to
    /// [`on_loss`](Self::on_loss)).
    fn on_timeout(&mut self, now: Instant);

    /// There was nothing to send, or the peer's window forbade it, while [`window`](Self::window) would have
    /// permitted more: what is measured of the packets on their way says nothing about the path.
    fn on_limited(&mut self, in_flight: u64);

    /// The largest packet is now this long.
    fn set_packet_size(&mut self, bytes: u64);

    /// Most bytes that may be on their way.
    fn window(&self) -> u64;

    /// Bytes a second at which they may leave; `None` leaves the pace to the acknowledgements.
    fn pacing_rate(&self) -> Option<u64>;

    /// The same controller in the same state.
    fn clone_box(&self) -> Box<dyn Congestion>;
}
