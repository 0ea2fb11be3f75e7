//! An external component (XEP-0114) as a [`Link`]: a service with a domain of its own beside a server, over one connection or
//! over several at once.
//!
//! [`Component::start`] connects and stays connected. With several connections, as a clustered server takes them (ejabberd
//! does; Prosody takes one for each component), what is said between two addresses stays on one of them, in order; when one is lost, the others take over.
//!
//! There is no TLS in XEP-0114: the server is on this machine, or the way to it is trusted
//! ([`ComponentOptions::allow_unencrypted`]). Nothing is resumed: what is under way when a connection breaks is lost, as it is
//! for the core when a link goes down.
//!
//! ```no_run
//! # async fn run(manager: session_core::SessionManager) -> Result<(), Box<dyn std::error::Error>> {
//! use session_xmpp::client::{Component, ComponentOptions, Password};
//! use session_xmpp::Endpoint;
//!
//! let options = ComponentOptions::new("files.example.org", Password::new("secret"), "127.0.0.1", 5347);
//! let (component, link) = Component::start(options);
//! let endpoint = Endpoint::spawn(manager, link);
//! println!("serving {}", component.online().await?);
//! # drop(endpoint);
//! # Ok(())
//! # }
//! ```

mod lanes;
mod stream;

pub use stream::{ComponentOutput, ComponentStream};

use super::{LoginError, Password};
use crate::endpoint::{Link, LinkError, LinkEvent};
use bytes::Bytes;
use lanes::Lanes;
use session_core::{ElementLimits, Peer, Slot};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Connections that one component has at most.
pub const CONNECTIONS_MAX: usize = 64;

/// Bytes that may wait for one connection. Past it, nothing more is taken for it.
pub const COMPONENT_OUTBOX_BYTES: usize = 8 << 20;

/// What a [`Component`] needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ComponentOptions {
    /// Its domain, as the server's configuration names it.
    pub domain: String,
    /// What it shares with the server.
    pub secret: Password,
    /// Where the server listens for components: a name or an address.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// How many connections at once; between 1 and [`CONNECTIONS_MAX`].
    pub connections: usize,
    /// Whether to connect to another machine, without TLS. Default no.
    pub allow_unencrypted: bool,
    /// What a stanza may be.
    pub limits: ElementLimits,
    /// How long a connection may take until it stands, the handshake included.
    pub login_timeout: Duration,
}

impl ComponentOptions {
    /// One connection, with the default limits.
    pub fn new(
        domain: impl Into<String>,
        secret: Password,
        host: impl Into<String>,
        port: u16,
    ) -> Self {
        Self {
            domain: domain.into(),
            secret,
            host: host.into(),
            port,
            connections: 1,
            allow_unencrypted: false,
            limits: ElementLimits::default(),
            login_timeout: Duration::from_secs(30),
        }
    }
}

/// How a component stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ComponentState {
    /// Connections that stand.
    pub connections: usize,
    /// Why the last one broke, or did not come to be.
    pub why: Option<LoginError>,
    /// Whether it is over.
    pub ended: bool,
}

/// Tells how a component stands. Cheap to clone; the connections last as long as the [`ComponentLink`].
#[derive(Clone, Debug)]
pub struct Component(Arc<Lanes>);

impl Component {
    /// Begins to connect, on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn start(options: ComponentOptions) -> (Self, ComponentLink) {
        let lanes = Lanes::start(options);
        (Self(lanes.clone()), ComponentLink(lanes))
    }

    /// How it stands.
    pub fn state(&self) -> ComponentState {
        self.0.state()
    }

    /// Announces changes of [`state`](Self::state).
    pub fn connect_state(&self) -> Slot<ComponentState> {
        self.0.connect_state()
    }

    /// Waits until a connection stands; the component's address.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn online(&self) -> Result<Peer, LoginError> {
        let mut changes = self.connect_state();
        loop {
            let state = self.state();
            if state.connections > 0 {
                return Ok(self.0.address().clone());
            }
            if state.ended {
                return Err(state.why.unwrap_or(LoginError::Closed));
            }
            if changes.next().await.is_none() {
                return Err(LoginError::Closed);
            }
        }
    }
}

/// The end of a component at which stanzas go in and out. Stanzas without a sender get the component's address, as a server
/// takes none without. Dropping it ends the connections, after what was sent has left.
#[derive(Debug)]
pub struct ComponentLink(Arc<Lanes>);

impl ComponentLink {
    /// What happens next, for those who are no [`Endpoint`](crate::Endpoint). Cancel-safe.
    pub async fn next_event(&mut self) -> Option<LinkEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }
}

impl Link for ComponentLink {
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        self.0.send(&stanza)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        self.0.poll_event(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_close(cx)
    }
}

impl Drop for ComponentLink {
    fn drop(&mut self) {
        self.0.close();
    }
}
