//! A login at an XMPP server, as a [`Link`] of an [`Endpoint`](crate::Endpoint).
//!
//! [`stream`] is the login itself, a state machine without I/O: RFC 6120 with STARTTLS or direct TLS (XEP-0368), SASL,
//! binding, and stream management (XEP-0198). [`Client::start`] runs it on tokio: it finds the server, connects, keeps the
//! login up, and comes back after a loss with growing waits. What cannot get better by waiting, a wrong password say, ends
//! it at once with its own [`LoginError`].
//!
//! ```no_run
//! # async fn run(manager: session_core::SessionManager) -> Result<(), Box<dyn std::error::Error>> {
//! use session_xmpp::client::{Client, Options, Password};
//! use session_xmpp::{Endpoint, address};
//!
//! let address = address::parse("juliet@capulet.example/balcony")?;
//! let (client, link) = Client::start(Options::new(&address, Password::new("secret")));
//! let endpoint = Endpoint::spawn(manager, link);
//! println!("logged in as {}", client.online().await?);
//! # drop(endpoint);
//! # Ok(())
//! # }
//! ```

mod backoff;
pub mod calls;
pub mod component;
mod connect;
pub mod directory;
pub mod disco;
pub mod discovery;
mod driver;
mod error;
pub mod extdisco;
mod features;
#[cfg(feature = "websocket")]
mod hostmeta;
pub mod jingleinfo;
mod management;
mod ns;
pub mod policy;
mod sasl;
mod scram;
mod skipped;
#[cfg(feature = "srv")]
mod srv;
pub mod stream;
#[cfg(feature = "websocket")]
mod websocket;

pub use calls::Calls;
pub use component::{Component, ComponentLink, ComponentOptions, ComponentState};
pub use connect::{Authorities, AuthorityError};
pub use disco::Info;
pub use discovery::Discovery;
pub use error::LoginError;
pub use management::{QUEUE_BYTES, QUEUE_STANZAS};
pub use policy::{Policy, Rule, Verdict};
pub use sasl::{Credentials, Mechanism, Password, Secured};
pub use scram::{Hash, ITERATIONS_MAX, ITERATIONS_MIN};
pub use stream::{Login, Stream};

use crate::{
    address,
    endpoint::{Link, LinkError, LinkEvent, rustls},
};
use bytes::Bytes;
use driver::Shared;
#[cfg(feature = "cli")]
pub(crate) use driver::random as driver_random;
use session_core::{Peer, Slot};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Where the server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Server {
    /// Where DNS says: by the SRV records of the domain (RFC 6120 §3.2, XEP-0368) with the feature `srv`, else at the
    /// domain itself, port 5222. Where none of those can be reached, with the feature `websocket`, at the WebSocket that the
    /// domain's web server names (XEP-0156).
    #[default]
    Discover,
    /// Here, whatever DNS says. The server still has to prove that it serves the account's domain.
    At {
        /// A name or an address.
        host: String,
        /// The TCP port.
        port: u16,
        /// Whether TLS begins at once instead of by STARTTLS (XEP-0368).
        direct_tls: bool,
    },
    /// Behind a WebSocket (RFC 7395), as in `wss://example.org:5281/xmpp-websocket`. The certificate has to be for the host in
    /// it; `ws:` leads to this machine alone.
    #[cfg(feature = "websocket")]
    WebSocket {
        /// Where it is.
        url: String,
    },
}

/// What a [`Client`] needs to know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The login.
    pub login: Login,
    /// Where the server is.
    pub server: Server,
    /// Whom to trust; see [`Authorities`]. `None`: the roots of Mozilla's programme.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Whether to go on when the very first login finds no server. Otherwise that is an error as any other, which is what
    /// a person who has mistyped a name wants; after the first login, every loss is waited out.
    pub insist: bool,
}

impl Options {
    /// A login to this account. The device is what `address` says, else what the server makes up.
    pub fn new(address: &Peer, password: Password) -> Self {
        let account = address.account();
        let user = account.split_once('@').map_or("", |(user, _)| user);
        let credentials = Credentials::Password {
            user: user.to_owned(),
            password,
        };
        let mut login = Login::new(address::domain(address), credentials);
        login.resource = address.device().map(str::to_owned);
        Self::with_login(login)
    }

    /// A login as nobody in particular, at a domain that allows this.
    pub fn anonymous(domain: &str) -> Self {
        Self::with_login(Login::new(domain, Credentials::Anonymous))
    }

    fn with_login(login: Login) -> Self {
        Self {
            login,
            server: Server::default(),
            tls: None,
            insist: false,
        }
    }
}

/// How a login stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientState {
    /// An attempt is under way.
    Connecting {
        /// How many have failed since the last login.
        failures: u32,
    },
    /// Logged in.
    Online {
        /// Under this address.
        address: Peer,
        /// By this mechanism.
        mechanism: Mechanism,
        /// Whether an earlier login goes on, and nothing was lost.
        resumed: bool,
        /// Whether TLS protects the connection.
        secured: bool,
    },
    /// The connection is lost, or none could be had.
    Waiting {
        /// Why.
        why: LoginError,
        /// How long until the next attempt.
        wait: Duration,
        /// Whether the login is still there and may be resumed: what is sent meanwhile is kept.
        suspended: bool,
    },
    /// It is over: for this reason, or as it was asked for.
    Ended(Option<LoginError>),
}

/// Tells how a login stands. Cheap to clone; the login itself lasts as long as its [`ClientLink`].
#[derive(Clone, Debug)]
pub struct Client(Arc<Shared>);

impl Client {
    /// Begins to log in, on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn start(options: Options) -> (Self, ClientLink) {
        let shared = Arc::new(Shared::new(&options));
        tokio::spawn(driver::run(shared.clone(), options));
        (Self(shared.clone()), ClientLink(shared))
    }

    /// How the login stands.
    pub fn state(&self) -> ClientState {
        self.0.state()
    }

    /// Bytes of the largest stanza that the server takes, where it says so (XEP-0478).
    pub fn stanza_max(&self) -> Option<usize> {
        self.0.stanza_max()
    }

    /// Announces changes of [`state`](Self::state).
    pub fn connect_state(&self) -> Slot<ClientState> {
        self.0.connect_state()
    }

    /// Waits until there is a login; the address.
    ///
    /// # Errors
    /// Why there will be none.
    pub async fn online(&self) -> Result<Peer, LoginError> {
        let mut changes = self.connect_state();
        loop {
            match self.state() {
                ClientState::Online { address, .. } => return Ok(address),
                ClientState::Ended(why) => return Err(why.unwrap_or(LoginError::Closed)),
                ClientState::Connecting { .. } | ClientState::Waiting { .. } => {}
            }
            if changes.next().await.is_none() {
                return Err(LoginError::Closed);
            }
        }
    }
}

/// The end of a login at which stanzas go in and out. Dropping it ends the login, after what was sent has left.
#[derive(Debug)]
pub struct ClientLink(Arc<Shared>);

impl ClientLink {
    /// What happens next, for those who are no [`Endpoint`](crate::Endpoint). Cancel-safe.
    pub async fn next_event(&mut self) -> Option<LinkEvent> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }
}

impl Link for ClientLink {
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        self.0.send(stanza)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        self.0.poll_event(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_close(cx)
    }
}

impl Drop for ClientLink {
    fn drop(&mut self) {
        self.0.close();
    }
}
