//! Stanzas and dialects of Jingle and of Google Talk, and the tokio driver.
//!
//! # What it is
//! Everything between the bytes of an XMPP stream and the core's [`Message`](session_core::Message)s:
//! - [`xml`] and [`splitter`]: bytes and [`Element`](session_core::Element)s, with the XML that RFC 6120 §11 allows and no
//!   other;
//! - [`stanza`]: requests, answers and the rest, with their addresses;
//! - [`dialect`]: `<jingle/>` (XEP-0166) and libjingle's `<session/>` in its variants;
//! - [`address`]: JIDs, and nowhere else;
//! - [`jmi`]: calls that ring on all devices of an account (XEP-0353);
//! - `endpoint` (a feature, on by default): the driver, which runs a manager over stanzas, sockets and the clock;
//! - `client` (a feature): a login at a server, as a link for the driver, which `srv` (DNS) and `websocket` (RFC 7395) find
//!   and reach in more places;
//! - `mdns`, `port-mapping` (features, for the driver): names in place of addresses, ports of the router;
//! - `trace` (a feature): everything that happens as lines of JSON, secrets masked;
//! - `cli` (a feature): accounts for programs: options, configuration, login, transports; `keyring`: their passwords in the
//!   system's keyring.
//!
//! # What it is not
//! It keeps no sessions and knows no descriptions, transports or candidates: those are elements, which it hands on as they
//! are. Without features it opens no sockets, starts no tasks and reads no clock.
//!
//! # Where it sits
//! ```text
//!   session-core ............... the agreement: Message, Reply, Element
//!        |  dialect ............ what the words mean      (here)
//!        |  stanza, address .... who says it to whom      (here)
//!        |  xml, splitter ...... how it is spelled        (here)
//!   a stream of bytes
//! ```
//!
//! # The run loop
//! 1. Bytes arrive: [`Splitter::push`](splitter::Splitter::push), then for each stanza [`xml::parse`] and
//!    [`stanza::decode`].
//! 2. What it is decides: a session's message and an answer go to the manager as
//!    [`Input`](session_core::Input), a refused request is answered at once by [`stanza::encode_reply`].
//! 3. What the manager wants said ([`Output`](session_core::Output)) goes out by [`stanza::encode_message`],
//!    [`stanza::encode_iq`] and [`stanza::encode_reply`].
//!
//! Here a message arrives for a session that nobody knows:
//!
//! ```
//! use session_core::{Config, ElementLimits, Input, Output, RequestId, SeededEntropy, SessionManager};
//! use session_xmpp::splitter::{Frame, Framing, Splitter};
//! use session_xmpp::stanza::{self, Incoming};
//! use session_xmpp::xml::{self, Context};
//! use session_xmpp::address;
//!
//! let local = address::parse("bob@example.org/lap")?;
//! let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
//! let now = std::time::Instant::now();
//! let (mut requests, mut out) = (Vec::new(), Vec::new());
//!
//! let mut splitter = Splitter::new(Framing::Bare, &ElementLimits::default());
//! splitter.push(b"<iq type='set' id='x1' from='alice@example.org/desk' to='bob@example.org/lap'>");
//! splitter.push(b"<jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='s1'/></iq>");
//! while let Some(frame) = splitter.next_frame()? {
//!     let Frame::Stanza(bytes) = frame else { break };
//!     let stanza = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default())?;
//!     match stanza::decode(stanza, &local) {
//!         Incoming::Message { request, message } => {
//!             let id = RequestId(requests.len() as u64);
//!             requests.push(request);
//!             manager.handle_input(Input::Message { id, message }, now);
//!         }
//!         Incoming::Refused { request, dialect, error } => {
//!             stanza::encode_reply(&request, dialect, &Err(error), &Context::CLIENT, &mut out)?;
//!         }
//!         _ => {} // Answers, other requests, presence: not here.
//!     }
//! }
//! loop {
//!     match manager.poll_output(now) {
//!         Output::Reply { id, dialect, reply, .. } => {
//!             let request = &requests[id.0 as usize];
//!             stanza::encode_reply(request, dialect, &reply, &Context::CLIENT, &mut out)?;
//!         }
//!         Output::Message { id, message } => {
//!             stanza::encode_message(&id.0.to_string(), &message, &Context::CLIENT, &mut out)?;
//!         }
//!         Output::Wait(_) => break,
//!         _ => {} // Sockets and timers: not here.
//!     }
//! }
//! let answer = String::from_utf8(out)?;
//! assert!(answer.starts_with("<iq from='bob@example.org/lap' id='x1' to='alice@example.org/desk' type='error'>"));
//! assert!(answer.contains("<unknown-session xmlns='urn:xmpp:jingle:errors:1'/>"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod address;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod dialect;
#[cfg(feature = "endpoint")]
pub mod endpoint;
#[doc(hidden)]
pub mod fuzz;
pub mod jmi;
pub mod ns;
pub mod splitter;
pub mod stanza;
#[cfg(feature = "trace")]
pub mod trace;
pub mod xml;

#[cfg(feature = "endpoint")]
pub use endpoint::{Endpoint, Link, Router};
