//! How a connection is set up.

use super::control::Gate;
use super::seeded::{Names, NoTokens, ResetKey, derive, first_name};
use quinn_proto::{
    ClientConfig, EndpointConfig, MtuDiscoveryConfig, NoneTokenStore, ServerConfig,
    TransportConfig, ValidationTokenConfig, VarInt,
    congestion::{self, ControllerFactory},
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use std::{sync::Arc, time::Duration};
use thiserror::Error;

/// The smallest datagrams that QUIC works with, in bytes (RFC 9000 §14).
pub const DATAGRAM_MIN: u16 = 1_200;

/// What is kept before the peer is known to have the whole handshake: what arrives before that is of no use to it, and
/// quinn-proto counts it against the window that the rest of the handshake needs.
const UNCONFIRMED_WINDOW: u64 = 8 * DATAGRAM_MIN as u64;

/// The largest datagram that Ethernet carries, beside the headers of IPv6 and UDP.
const ETHERNET: usize = 1_500 - 48;

/// The largest datagram that Ethernet's jumbo frames carry, and of which a system sends several at a time.
const JUMBO: u16 = 9_000 - 48;

/// The first guess at the round trip. A lost first packet is sent again after three times this.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// 1 Gbit/s over 30 ms. It is also what a socket's buffer holds where the system grants 4 MiB: a burst of more loses some
/// of it where both ends are on one host.
const WINDOW: u32 = 4 << 20;

/// How long datagrams stay small after several bursts of them were lost, as if the path had become narrower. Often it was
/// a buffer that was full, and the search costs little.
const NARROW_FOR: Duration = Duration::from_secs(1);

/// How far back packets may come in, seen from the latest, before one that is missing counts as lost. Batches may overtake
/// each other.
const REORDERING: u32 = 3;

/// Handshake messages that are kept out of order, in bytes: a chain of one small certificate.
const HANDSHAKE_BYTES: usize = 8 * 1024;

/// Bytes of a connection that nobody has taken yet.
const INCOMING_BYTES: u64 = 16 * 1024;

/// What is to be set up how. `Config::default()` suits a file between two computers.
#[derive(Clone, Debug)]
pub struct Config {
    /// Most bytes that the peer may have under way, and that wait here while reading is paused. From 64 KiB to 1 GiB.
    pub receive_window: u32,
    /// Most bytes that are kept until the peer has acknowledged them. It is used as far as the path needs it. From 64 KiB
    /// to 1 GiB.
    pub send_window: u32,
    /// The largest datagram that is tried, in bytes, from [`DATAGRAM_MIN`] to 65,000. It begins with the smallest and finds
    /// out. What the channel below refuses as too large is not tried again for a while.
    ///
    /// A [`QuicLayer`](super::QuicLayer) tries what leaves this host at all
    /// ([`TransportChannel::datagram_max`](session_core::TransportChannel::datagram_max)), and where that is not known,
    /// what Ethernet carries. Each side tells it to the other (RFC 9000 §18.2), so that none tries what the other does
    /// not expect. A [`QuicStream`](super::QuicStream) by itself tries up to this value: 1,452 saves it some probes where the
    /// path is known to be Ethernet's.
    pub datagram_max: u16,
    /// What decides how much may be on its way.
    pub control: Control,
    /// How long the peer may be silent while there is a path. After half of it, the peer is asked whether it is there.
    pub patience: Duration,
}

/// A congestion controller. It is the sender's private choice: the peer need not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Control {
    /// [`Model`](crate::congestion::Model).
    #[default]
    Model,
    /// quinn-proto's CUBIC (RFC 9438).
    Cubic,
    /// quinn-proto's BBR, which it calls experimental.
    Bbr,
}

/// A value out of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{field} is out of its range")]
pub struct ConfigError {
    /// The field.
    pub field: &'static str,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_window: WINDOW,
            send_window: WINDOW,
            datagram_max: JUMBO,
            control: Control::default(),
            patience: Duration::from_secs(60),
        }
    }
}

impl Config {
    /// Whether every value is in its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), ConfigError> {
        let windows = 64 << 10..=1 << 30;
        for (field, is_good) in [
            ("receive_window", windows.contains(&self.receive_window)),
            ("send_window", windows.contains(&self.send_window)),
            (
                "datagram_max",
                (DATAGRAM_MIN..=65_000).contains(&self.datagram_max),
            ),
            ("patience", self.patience >= Duration::from_secs(1)),
        ] {
            if !is_good {
                return Err(ConfigError { field });
            }
        }
        Ok(())
    }

    /// For a path on which datagrams of this size leave the host, if that is known.
    pub(super) fn on(mut self, datagram_max: Option<usize>) -> Self {
        let most = datagram_max
            .unwrap_or(ETHERNET)
            .min(self.datagram_max.into());
        let most = u16::try_from(most).unwrap_or(u16::MAX);
        self.datagram_max = most.max(DATAGRAM_MIN);
        self
    }

    pub(super) fn endpoint(&self, seed: [u8; 32]) -> Arc<EndpointConfig> {
        let mut config = EndpointConfig::new(Arc::new(ResetKey(derive(&seed, "reset", 0))));
        config.cid_generator(move || Box::new(Names::new(seed)));
        config.grease_quic_bit(false);
        config.rng_seed(Some(derive(&seed, "quinn", 0)));
        // It is in its range: `check` and the type see to it.
        let _ = config.max_udp_payload_size(self.datagram_max);
        Arc::new(config)
    }

    pub(super) fn client(
        &self,
        tls: Arc<QuicClientConfig>,
        seed: [u8; 32],
        gate: Option<&Gate>,
    ) -> ClientConfig {
        let mut config = ClientConfig::new(tls);
        config.transport_config(self.transport(gate));
        config.token_store(Arc::new(NoneTokenStore));
        config.initial_dst_cid_provider(Arc::new(first_name(seed)));
        config
    }

    pub(super) fn server(
        &self,
        tls: Arc<QuicServerConfig>,
        gate: Option<&Gate>,
    ) -> Arc<ServerConfig> {
        let mut config = ServerConfig::new(tls, Arc::new(NoTokens));
        let mut tokens = ValidationTokenConfig::default();
        tokens.sent(0);
        config
            .transport_config(self.transport(gate))
            .validation_token_config(tokens)
            .migration(false)
            .time_source(Arc::new(NoTokens))
            .max_incoming(1)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES);
        Arc::new(config)
    }

    /// What holds a connection back beside quinn-proto, if anything does.
    pub(super) fn gate(&self) -> Option<Gate> {
        (self.control == Control::Model).then(Gate::new)
    }

    fn transport(&self, gate: Option<&Gate>) -> Arc<TransportConfig> {
        let cubic = || Arc::new(congestion::CubicConfig::default());
        let factory: Arc<dyn ControllerFactory + Send + Sync> = match (self.control, gate) {
            (Control::Bbr, _) => Arc::new(congestion::BbrConfig::default()),
            (Control::Cubic, _) | (Control::Model, None) => cubic(),
            (Control::Model, Some(gate)) => gate.factory(),
        };
        let mut mtu = MtuDiscoveryConfig::default();
        mtu.upper_bound(self.datagram_max)
            .black_hole_cooldown(NARROW_FOR);
        let window = VarInt::from_u32(self.receive_window);
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(1))
            .stream_receive_window(window)
            .receive_window(window)
            .send_window(UNCONFIRMED_WINDOW.min(u64::from(self.send_window)))
            // The session and the channel below have clocks for that, which know when there is no path.
            .max_idle_timeout(None)
            .keep_alive_interval(None)
            .datagram_receive_buffer_size(None)
            .crypto_buffer_size(HANDSHAKE_BYTES)
            .initial_rtt(INITIAL_RTT)
            .initial_mtu(DATAGRAM_MIN)
            .min_mtu(DATAGRAM_MIN)
            .mtu_discovery_config((self.datagram_max > DATAGRAM_MIN).then_some(mtu))
            .packet_threshold(REORDERING)
            .congestion_controller_factory(factory);
        Arc::new(config)
    }
}
