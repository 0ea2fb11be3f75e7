//! One allocation on one server, seen from the client: what travels on one 5-tuple (RFC 8656 §3).

mod answers;
mod connect;
mod data;
mod peers;
mod requests;

use super::{
    Credentials,
    frame::{Deframer, Frame},
};
use crate::random::Random;
use crate::stun::{IntegrityKey, Retransmission, Scan, Timing, TransactionId};
use bytes::{Bytes, BytesMut};
pub use connect::{DataConnection, DataOutput};
use peers::{Peers, Permissions};
use session_core::Batch;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use thiserror::Error;

/// What relayed addresses to ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Families {
    /// One of IPv4, which every server has.
    #[default]
    V4,
    /// One of IPv6 (REQUESTED-ADDRESS-FAMILY, RFC 8656 §7.1).
    V6,
    /// One of each (ADDITIONAL-ADDRESS-FAMILY, RFC 8656 §7.1). A server that cannot gives one of IPv4.
    Both,
}

/// What the relayed address is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Relayed {
    /// Datagrams.
    #[default]
    Datagrams,
    /// Connections from and to peers (RFC 6062), each of which is a [`DataConnection`]. The way to the server must be a
    /// stream, and nothing can be [sent](Allocation::send).
    Connections,
}

/// What packets travel in between us and the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// UDP: each is a datagram, requests are repeated.
    Datagram,
    /// TCP or TLS: one after another, and the stream sees to it that they arrive.
    Stream,
}

/// What can be chosen about an [`Allocation`].
#[derive(Clone, Debug)]
pub struct AllocationConfig {
    /// What travels to the server.
    pub framing: Framing,
    /// What to ask for.
    pub families: Families,
    /// And for what. Default datagrams.
    pub relayed: Relayed,
    /// The lifetime to ask for, in whole seconds. The server may give another. Default 10 min.
    pub lifetime: Duration,
    /// Whether what is sent by indication is not to be fragmented on its way to the peer (RFC 8656 §15). A server that
    /// cannot is used without. Default no.
    pub dont_fragment: bool,
    /// How the requests that lead to an allocation are repeated. Over a stream they are sent once and awaited for half
    /// as long.
    pub timing: Timing,
    /// How requests are repeated while the allocation stands: when one is given up and nothing else was heard, the
    /// server is taken for gone. Default 500 ms, five times, 8 s in all.
    pub alive: Timing,
    /// When something was sent and nothing heard for so long, the server is asked whether it is still there.
    /// Default 3 s.
    pub probe: Duration,
    /// How long nothing may be sent until the mapping of a NAT is kept alive. Default 20 s.
    pub keepalive: Duration,
    /// Peers at a time, each with a channel of its own; at most 4,096. Default 256.
    pub peers_max: usize,
}

impl AllocationConfig {
    /// The defaults.
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            families: Families::V4,
            relayed: Relayed::Datagrams,
            lifetime: Duration::from_secs(600),
            dont_fragment: false,
            timing: Timing::default(),
            alive: Timing {
                rto: Duration::from_millis(500),
                requests: 4,
                last: 8,
            },
            probe: Duration::from_secs(3),
            keepalive: Duration::from_secs(20),
            peers_max: 256,
        }
    }
}

/// What an [`Allocation`] wants or says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AllocationOutput {
    /// For the server: datagrams of equal size, or bytes of the stream.
    Transmit(Batch),
    /// The server made it.
    Allocated {
        /// Where peers reach us: one address, or one of each family.
        relayed: Vec<SocketAddr>,
        /// Where the server sees us.
        mapped: Option<SocketAddr>,
        /// Why there is none of the second family that was asked for.
        missing: Option<TurnError>,
    },
    /// From a peer.
    Received {
        /// Who.
        peer: SocketAddr,
        /// What.
        batch: Batch,
    },
    /// There is a connection to a peer, which another connection of ours to the server is to be bound to within 30 s
    /// (RFC 6062 §5.4): see [`Allocation::bind`].
    Connection {
        /// The server's number for it.
        id: u32,
        /// Whose.
        peer: SocketAddr,
        /// Whether the peer began it.
        incoming: bool,
    },
    /// A connection that we asked for does not come about.
    NotConnected(SocketAddr, TurnError),
    /// There is none, or no longer. Nothing follows.
    Failed(TurnError),
    /// It was closed. Nothing follows.
    Closed,
}

/// Why there is no allocation.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TurnError {
    /// Nothing came back.
    #[error("the server does not answer")]
    NoAnswer,
    /// Answers came that were sealed with another password than ours.
    #[error("the server's answers are not sealed with our credentials")]
    WrongSeal,
    /// 401 or 441: it does not know us, or not by this password, or not any more.
    #[error("the server refuses the credentials ({code} {reason})")]
    Credentials {
        /// The number.
        code: u16,
        /// The server's words.
        reason: Arc<str>,
    },
    /// 486: too many allocations of this user.
    #[error("the user's quota of allocations is used up (486 {0})")]
    Quota(Arc<str>),
    /// 508: the server is full.
    #[error("the server has no capacity left (508 {0})")]
    Capacity(Arc<str>),
    /// 437: another allocation has the same 5-tuple.
    #[error("the server takes us for another client (437 {0})")]
    Mismatch(Arc<str>),
    /// 300: it sends us elsewhere (RFC 8489 §10).
    #[error("the server sends us to {0}")]
    Redirected(SocketAddr, Option<Arc<str>>),
    /// Any other error.
    #[error("the server refuses ({code} {reason})")]
    Refused {
        /// The number.
        code: u16,
        /// The server's words.
        reason: Arc<str>,
    },
    /// The server does not know the allocation any more: it was restarted, or dropped it.
    #[error("the server has lost the allocation ({code} {reason})")]
    Gone {
        /// The number.
        code: u16,
        /// The server's words.
        reason: Arc<str>,
    },
    /// Its time ran out before it was refreshed: this host was asleep, perhaps.
    #[error("the allocation ran out")]
    Expired,
    /// It says what a server does not say.
    #[error("the server's answer makes no sense: {0}")]
    Nonsense(&'static str),
    /// The connection to the server broke, or could not be had.
    #[error("no connection to the server: {0}")]
    Connection(Arc<str>),
}

/// The client's side of an allocation. It lives once: after [`AllocationOutput::Failed`] another is made.
///
/// # The run loop
/// Call something, drain [`poll_output`](Self::poll_output), call [`handle_timeout`](Self::handle_timeout) at
/// [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Allocation {
    config: AllocationConfig,
    random: Random,
    login: Login,
    /// The ones before, as long as it is not sure that the server takes the new ones.
    old_login: Option<Login>,
    /// Counts the logins.
    logins: u32,
    state: State,
    /// It is not wanted any more.
    closing: bool,
    pending: Vec<Pending>,
    relayed: Vec<SocketAddr>,
    expires_at: Option<Instant>,
    refresh_at: Option<Instant>,
    permissions: Permissions,
    peers: Peers,
    outputs: VecDeque<AllocationOutput>,
    /// What is sent is written here, and what came in batches is put together there.
    buffer: BytesMut,
    inbound: BytesMut,
    deframer: Deframer,
    /// Of everything but `probe_at` and `keepalive_at`.
    timer: Option<Instant>,
    probe_at: Option<Instant>,
    keepalive_at: Option<Instant>,
    heard: Option<Instant>,
    spoke: Option<Instant>,
    wrong_seal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    New,
    Allocating,
    Standing,
    Ended,
}

/// Credentials, and what the server said about them.
#[derive(Clone, Debug)]
struct Login {
    credentials: Credentials,
    challenge: Option<Challenge>,
}

#[derive(Clone, Debug)]
struct Challenge {
    realm: Arc<str>,
    nonce: Bytes,
    key: IntegrityKey,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Allocate,
    /// With the lifetime to ask for in seconds.
    Refresh(u32),
    Permission(SocketAddr),
    /// The index of the peer.
    Channel(usize),
    Connect(SocketAddr),
}

/// A request without answer.
#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    transaction: TransactionId,
    bytes: Bytes,
    /// What it was sealed with.
    key: Option<IntegrityKey>,
    /// By which login.
    login: u32,
    clock: Retransmission,
    since: Instant,
    /// How often it was refused for our credentials, and for the nonce.
    refused: u32,
    stale: u32,
}

impl Allocation {
    /// One that has asked nothing yet. All its randomness comes from `seed`.
    pub fn new(config: AllocationConfig, credentials: Credentials, seed: [u8; 32]) -> Self {
        Self {
            peers: Peers::new(config.peers_max),
            permissions: Permissions::new(config.peers_max),
            config,
            random: Random::new(&seed),
            login: Login {
                credentials,
                challenge: None,
            },
            old_login: None,
            logins: 0,
            state: State::New,
            closing: false,
            pending: Vec::new(),
            relayed: Vec::new(),
            expires_at: None,
            refresh_at: None,
            outputs: VecDeque::new(),
            buffer: BytesMut::new(),
            inbound: BytesMut::new(),
            deframer: Deframer::default(),
            timer: None,
            probe_at: None,
            keepalive_at: None,
            heard: None,
            spoke: None,
            wrong_seal: false,
        }
    }

    /// Asks for the allocation. The way to the server stands. Once.
    pub fn start(&mut self, now: Instant) {
        if self.state == State::New {
            self.state = State::Allocating;
            self.request(Purpose::Allocate, now);
            self.rearm();
        }
    }

    /// Whether it stands.
    pub fn is_standing(&self) -> bool {
        self.state == State::Standing
    }

    /// Datagrams of the server.
    pub fn handle_batch(&mut self, batch: Batch, now: Instant) {
        self.heard = Some(now);
        if let Some(batch) = self.channel_batch(&batch, now) {
            self.outputs.push_back(batch);
            return;
        }
        for packet in batch {
            if let Some(frame) = Frame::of_datagram(packet) {
                self.handle_frame(frame, now);
            }
        }
    }

    /// Bytes of the server, from the stream.
    pub fn handle_bytes(&mut self, bytes: Bytes, now: Instant) {
        self.heard = Some(now);
        self.deframer.push(bytes);
        loop {
            match self.deframer.next_frame() {
                Ok(Some(frame)) => self.handle_frame(frame, now),
                Ok(None) => return,
                Err(_) => {
                    self.fail(TurnError::Nonsense(
                        "its stream does not consist of messages",
                    ));
                    return;
                }
            }
        }
    }

    /// The way to the server is gone.
    pub fn handle_closed(&mut self, why: &str) {
        if self.closing {
            self.end(AllocationOutput::Closed);
        } else {
            self.fail(TurnError::Connection(why.into()));
        }
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Allocating && self.state != State::Standing {
            return;
        }
        self.repeat_requests(now);
        if self.state == State::Standing && !self.closing {
            self.maintain(now);
        }
        self.rearm();
    }

    /// Uses other credentials from the next request on. A server that does not take them for this allocation (441)
    /// hears the old ones as long as these are good for it.
    pub fn set_credentials(&mut self, credentials: Credentials) {
        if credentials == self.login.credentials {
            return;
        }
        let challenge = self.login.challenge.as_ref().map(|old| Challenge {
            key: credentials.key(&old.realm),
            ..old.clone()
        });
        let new = Login {
            credentials,
            challenge,
        };
        let old = std::mem::replace(&mut self.login, new);
        self.old_login.get_or_insert(old);
        self.logins += 1;
    }

    /// Gives it back: the server forgets it. Ends in [`AllocationOutput::Closed`].
    pub fn close(&mut self, now: Instant) {
        if self.closing || self.state == State::Ended {
            return;
        }
        self.closing = true;
        match self.state {
            State::Standing => {
                self.pending.clear();
                self.request(Purpose::Refresh(0), now);
            }
            // What was asked for with our name may still be given.
            State::Allocating if self.pending.iter().any(|p| p.key.is_some()) => {}
            State::New | State::Allocating | State::Ended => self.end(AllocationOutput::Closed),
        }
        self.rearm();
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timer, self.probe_at, self.keepalive_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The next thing that it wants or says.
    pub fn poll_output(&mut self) -> Option<AllocationOutput> {
        self.outputs.pop_front()
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) {
        match frame {
            Frame::Channel(number, data) => self.handle_channel(number, data, now),
            Frame::Stun(message) => {
                if let Ok(scan) = Scan::new(&message) {
                    self.handle_message(&message, &scan, now);
                    self.rearm();
                }
            }
        }
    }

    fn fail(&mut self, error: TurnError) {
        self.end(AllocationOutput::Failed(error));
    }

    fn end(&mut self, last: AllocationOutput) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.pending.clear();
            (self.timer, self.probe_at, self.keepalive_at) = (None, None, None);
            self.outputs.push_back(last);
        }
    }

    /// Finds out when something is due next.
    fn rearm(&mut self) {
        if self.state == State::Ended {
            return;
        }
        let requests = self
            .pending
            .iter()
            .map(|pending| pending.clock.poll_timeout());
        let standing = self.state == State::Standing && !self.closing;
        let maintenance = [
            self.refresh_at,
            self.expires_at,
            self.permissions.next(),
            self.peers.next(),
        ];
        let maintenance = maintenance.into_iter().flatten().filter(|_| standing);
        self.timer = requests.chain(maintenance).min();
        if !standing {
            (self.probe_at, self.keepalive_at) = (None, None);
        }
    }
}

#[cfg(test)]
mod tests;
