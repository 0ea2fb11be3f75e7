//! Datagram transports between two peers, and reliable streams above them; pure state machines.
//!
//! # What it is
//! - Transports that a session can negotiate, each a [`TransportFactory`]: [`ice`], which finds the way to any peer, and
//!   [`raw_udp`], in the words of Jingle and of libjingle.
//! - Layers that make a stream of whatever carries datagrams, each a [`ChannelLayer`]: [`pseudotcp`], which libjingle
//!   and libnice speak.
//! - [`sctp`], WebRTC's data channels above any channel that protects datagrams.
//! - [`congestion`], how fast such streams send: one controller for all of them.
//!
//! Each part can be used without the others: [`pseudotcp::PseudoTcp`] needs nothing but segments and the time, and
//! [`Agent`] is ICE by itself, without sessions and XMPP: its page has the run loop, `examples/two_agents.rs` does it
//! over real sockets.
//!
//! # What it is not
//! It opens no socket, reads no clock, draws no randomness and looks up no address: those are arguments and outputs.
//! It has no relays and no transports through servers (`transport-relay` has), and it does not encrypt by itself:
//! what PseudoTCP and raw UDP carry is readable on the way.
//!
//! # Where it sits
//! ```text
//!   session-file, session-voice ........ what is sent
//!        |  a stream, or packets
//!   pseudotcp .......................... a stream above a datagram channel     (impl ChannelLayer)
//!        |  datagrams
//!   ice, raw_udp ....................... how they get there                    (impl TransportFactory)
//!        |  Bind, Transmit, Info ...
//!   session-core: Session .............. passes these on
//!        |
//!   session_xmpp::Endpoint ............. sockets, the clock, stanzas
//! ```
//!
//! # The run loop
//! A session does this for each channel; a test or another program can do it by itself:
//! 1. Call something: [`connect`](session_core::TransportChannel::connect),
//!    [`handle_datagram`](session_core::TransportChannel::handle_datagram),
//!    [`send`](session_core::TransportChannel::send) ...
//! 2. Drain [`poll_output`](session_core::TransportChannel::poll_output) and do what each output says.
//! 3. Ask [`poll_timeout`](session_core::TransportChannel::poll_timeout), wait until then or for the next thing to
//!    happen, and begin again.
//!
//! ```
//! use session_core::{testing::epoch, *};
//! use std::{collections::VecDeque, net::SocketAddr, task::Waker, time::Duration};
//! use transport_p2p::{pseudotcp::PseudoTcpLayer, raw_udp::RawUdp};
//!
//! let addresses: [SocketAddr; 2] = ["192.0.2.1:4000".parse()?, "198.51.100.2:5000".parse()?];
//! let mut channels = Vec::new();
//! for (role, address) in [Role::Initiator, Role::Responder].into_iter().zip(addresses) {
//!     let context = TransportContext {
//!         role,
//!         local: "a@example.org/desk".into(),
//!         remote: "b@example.org/lap".into(),
//!         sid: "sid".into(),
//!         content: "file".into(),
//!         dialect: Dialect::JINGLE,
//!         seed: [7; 32],
//!         waker: Waker::noop().clone(),
//!     };
//!     let mut transport = RawUdp::new(address).create(&context);
//!     let datagrams = transport.create_channel("data")?;
//!     channels.push(PseudoTcpLayer::default().wrap(datagrams, &context));
//! }
//!
//! // What a session, a driver and the network do, with 10 ms from here to there.
//! let mut now = epoch();
//! let mut received = Vec::new();
//! let mut wire = VecDeque::new();
//! channels.iter_mut().for_each(|channel| channel.connect(now));
//! for _ in 0..100 {
//!     for end in 0..2 {
//!         while let Some(output) = channels[end].poll_output() {
//!             match output {
//!                 ChannelOutput::Bind(socket, _, address) => channels[end].handle_bound(socket, Ok(address), now),
//!                 ChannelOutput::Info(info) => channels[1 - end].handle_info(&info, now)?,
//!                 ChannelOutput::Transmit(transmit) => wire.push_back((1 - end, transmit)),
//!                 ChannelOutput::Writable(true) if end == 0 => {
//!                     channels[0].send("a whole file".into(), now)?;
//!                     channels[0].finish(now);
//!                 }
//!                 ChannelOutput::Packet(batch) => received.extend_from_slice(&batch.payload),
//!                 ChannelOutput::Delivered => assert_eq!(received, b"a whole file"),
//!                 _ => {}
//!             }
//!         }
//!     }
//!     now += Duration::from_millis(10);
//!     for (to, transmit) in std::mem::take(&mut wire) {
//!         let datagram = Datagram {
//!             socket: LocalSocket(0),
//!             source: addresses[1 - to],
//!             payload: transmit.payload,
//!             segment_size: transmit.segment_size,
//!         };
//!         channels[to].handle_datagram(datagram, now);
//!     }
//!     for channel in &mut channels {
//!         if channel.poll_timeout().is_some_and(|at| at <= now) {
//!             channel.handle_timeout(now);
//!         }
//!     }
//! }
//! assert_eq!(received, b"a whole file");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//! - `gtalk`: `ice::GoogleIceFactory`, ICE as libjingle had it, for the dialects of Google Talk.
//! - `dtls`: `dtls::DtlsLayer`, who is at the other end, keys for SRTP, or protected datagrams (XEP-0320).
//! - `dtls-openssl`: the same by OpenSSL, for peers with RSA keys.
//! - `quic`: `quic::QuicLayer`, an encrypted stream between two of ours.
//! - `testing`: entry points for fuzzers.
//!
//! [`ChannelLayer`]: session_core::ChannelLayer
//! [`TransportChannel`]: session_core::TransportChannel
//! [`TransportFactory`]: session_core::TransportFactory

mod below;
pub mod congestion;
#[cfg(feature = "dtls")]
pub mod dtls;
pub mod ice;
pub mod pseudotcp;
#[cfg(feature = "quic")]
pub mod quic;
pub mod raw_udp;
pub mod sctp;

pub use ice::Agent;
pub use transport_relay::stun;
