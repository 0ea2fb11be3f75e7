//! Pure state machines of a peer-to-peer session: libjingle's session layer, without I/O.
//!
//! # What it is
//! Two peers agree, over messages that somebody else carries, on *what* they exchange (a description) and *how* (a
//! transport); then data flows over channels. This crate holds that agreement: [`Session`], [`SessionManager`], the
//! traits [`SessionClient`], [`SessionDescription`], [`TransportFactory`], [`Transport`] and [`TransportChannel`], and
//! nothing that touches the world. Time and randomness are arguments. The same inputs give the same outputs.
//!
//! # What it is not
//! It knows no XML and no XMPP: payloads are [`Element`]s, which it carries and of which it reads only names. It has no
//! sockets, no tasks and no clock. It holds no transport of its own but those for tests.
//!
//! # Where it sits
//! ```text
//!   pcp, call, your application
//!        |  session-file, session-voice ........ what is sent        (impl SessionClient)
//!   session-core ............................... the agreement       (this crate)
//!        |  transport-p2p, transport-relay ..... how it is sent      (impl TransportFactory)
//!   session-xmpp ............................... stanzas, sockets, the clock: drives this crate
//! ```
//!
//! # The run loop
//! 1. Something happens: [`SessionManager::handle_input`], or a call on a [`Session`].
//! 2. [`SessionManager::poll_output`] until it returns [`Output::Wait`], which is always the last; do what each says.
//! 3. Wait until that instant ([`Input::Timeout`]), or for the next thing to happen.
//!
//! `session_xmpp::Endpoint` is this loop over real sockets. Here it is over two variables:
//!
//! ```
//! use session_core::{testing::{MemoryDatagram, epoch}, *};
//! use std::time::Instant;
//!
//! /// Accepts whatever is offered.
//! struct Greeter;
//! impl SessionClient for Greeter {
//!     fn namespace(&self) -> &str { "https://example.org/greeting" }
//!     fn on_session_create(&mut self, _: &mut Session, _received: bool, _: Instant) {}
//!     fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
//!         if state == State::ReceivedInitiate {
//!             let answer = Element::new("https://example.org/greeting", "description").text("hello yourself");
//!             session.accept_with(answer, now).expect("it was just offered");
//!         }
//!     }
//! }
//!
//! let manager = |seed| -> Result<SessionManager, Misuse> {
//!     let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(seed));
//!     manager.add_client(Greeter)?;
//!     manager.add_transport(MemoryDatagram::new())?;
//!     Ok(manager)
//! };
//! let (mut alice, mut bob, now) = (manager(1)?, manager(2)?, epoch());
//!
//! let id = alice.create_session("alice@example.org/desk".into(), "https://example.org/greeting", now)?;
//! let offer = Element::new("https://example.org/greeting", "description").text("hello");
//! alice.session(id).expect("just created").initiate_with("bob@example.org/lap".into(), vec![], offer, now)?;
//!
//! // Messages and replies cross the room until nobody has anything more to say. Nothing here opens sockets,
//! // because no channel was created.
//! loop {
//!     let mut quiet = true;
//!     for (from, to) in [(0, 1), (1, 0)] {
//!         let mut sides = [&mut alice, &mut bob];
//!         loop {
//!             match sides[from].poll_output(now) {
//!                 Output::Message { id, message } => sides[to].handle_input(Input::Message { id, message }, now),
//!                 Output::Reply { id, reply, .. } => sides[to].handle_input(Input::Reply { id, reply }, now),
//!                 Output::Wait(_) => break,
//!                 other => unreachable!("{other:?}"),
//!             }
//!             quiet = false;
//!         }
//!     }
//!     if quiet { break }
//! }
//! let session = alice.session(id).expect("alive");
//! assert_eq!(session.state(), State::InProgress);
//! assert_eq!(session.remote_description().expect("answered").text_content(), "hello yourself");
//! # Ok::<(), Misuse>(())
//! ```
//!
//! # Features
//! - `testing`: [`testing`], a virtual network and clock, transports in memory, the suite that every transport must
//!   pass, and strategies for property tests of your own protocol logic.
//!
//! # Rules that hold everywhere
//! - The state changes in one function, from one table: [`state::TRANSITIONS`].
//! - Signals announce, getters tell: see [`Signal`].
//! - Everything has a limit with a name: [`Limits`]. Every wait has a clock with a name: [`Clocks`].
//! - Errors say who is at fault: [`PeerError`] becomes the answer to the peer, [`Misuse`] goes back to the caller,
//!   [`SessionError`] is announced. Nothing that a peer sends reaches a panic.
//! - Every request of the peer gets exactly one [`Output::Reply`], before anything that it caused; a transport may
//!   answer its own later.

mod client;
mod description;
mod dialect;
pub mod element;
mod entropy;
mod error;
mod id;
mod inquiry;
mod io;
mod layer;
mod limits;
mod manager;
mod message;
mod registry;
mod secured;
mod session;
mod session_map;
mod shared;
mod signal;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
mod transport;

pub use client::{Modification, SessionClient};
pub use description::SessionDescription;
pub use dialect::{ContentCapacity, Dialect, ErrorStyle, GOOGLE_P2P, Offers, TransportAnswer};
pub use element::{
    Element, ElementLimit, ElementLimits, ElementRef, NamespaceId, TreeBuilder, TreeError,
};
pub use entropy::{Entropy, SeededEntropy};
pub use error::{
    Cause, Condition, ErrorCode, ErrorKind, GOOGLE_SESSION, JingleCondition, Misuse, PeerError,
    SendError, SessionError, StanzaError, TransportError,
};
pub use id::{ChannelId, LocalSocket, Peer, RequestId, Role, SessionId, SocketId};
pub use inquiry::{Finding, Inquiry};
pub use io::{BindKind, Input, Output, SocketError};
pub use layer::{ChannelLayer, LayerChoice, LayerNegotiation, LayeredTransport};
pub use limits::{Clocks, Limits};
pub use manager::SessionManager;
pub use message::{
    Action, ContentPart, Group, Message, Reason, ReasonCondition, Redirect, Senders,
};
pub use registry::TransportRegistry;
pub use secured::{Fingerprint, HandshakeSide, KeyingMaterial, Secured, SrtpKeys, SrtpProfile};
pub use session::{
    Content, ContentSpec, ContentState, DEFAULT_CONTENT, Pong, Session, TRANSPORT_FAILED,
};
pub use session_map::SessionMap;
pub use shared::Config;
pub use signal::{Notice, SIGNAL_CAPACITY, Signal, Slot};
pub use state::{Event, State};
pub use transport::{
    Batch, ChannelOutput, Datagram, DirectPath, InfoTarget, PathReport, RequestAnswer, RequestKind,
    StreamEvent, StreamTarget, TlsTarget, Transmit, Transport, TransportChannel, TransportContext,
    TransportFactory, TransportKind,
};
