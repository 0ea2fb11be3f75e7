//! A client that tells what it sees, and endpoints that carry it.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "several tests share it, none needs all"
)]

use bytes::Bytes;
use session_core::{
    ChannelId, Config, Element, Peer, PeerError, Reason, SeededEntropy, Session, SessionClient,
    SessionId, SessionManager, State,
    testing::{MemoryDatagram, MemoryStream},
};
use session_xmpp::endpoint::{Endpoint, Link, LinkState, Router};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};

/// The kind of its sessions.
pub const TYPE: &str = "https://example.org/probe";
/// The name of the one channel that each session has.
pub const CHANNEL: &str = "data";

/// What a probe sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    Created(SessionId),
    State(State),
    Writable(bool),
    Packet(Bytes),
    Finished,
    Timer,
    Info(String),
    Ended(Option<Reason>),
    Destroyed,
}

/// Accepts what is offered.
struct Probe {
    seen: mpsc::Sender<Seen>,
    /// Sends back what arrives.
    echo: bool,
}

impl Probe {
    fn tell(&self, seen: Seen) {
        // A test that has ended does not look any more.
        let told = self.seen.try_send(seen);
        assert!(!matches!(told, Err(mpsc::error::TrySendError::Full(_))));
    }
}

impl SessionClient for Probe {
    fn namespace(&self) -> &str {
        TYPE
    }
    fn on_session_create(&mut self, session: &mut Session, _: bool, now: Instant) {
        session.create_channel(CHANNEL, now).unwrap();
        self.tell(Seen::Created(session.id()));
    }
    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        if state == State::ReceivedInitiate {
            session.accept_with(description(), now).unwrap();
        }
        self.tell(Seen::State(state));
    }
    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
        if self.echo {
            session.send(channel, packet, now).unwrap();
        } else {
            self.tell(Seen::Packet(packet));
        }
    }
    fn on_writable(&mut self, _: &mut Session, _: ChannelId, writable: bool, _: Instant) {
        self.tell(Seen::Writable(writable));
    }
    fn on_finished(&mut self, _: &mut Session, _: ChannelId, _: Instant) {
        self.tell(Seen::Finished);
    }
    fn on_timer(&mut self, _: &mut Session, _: Instant) {
        self.tell(Seen::Timer);
    }
    fn on_info(&mut self, _: &mut Session, info: &[Element], _: Instant) -> Result<(), PeerError> {
        let names: Vec<_> = info.iter().map(Element::name).collect();
        self.tell(Seen::Info(names.join(" ")));
        Ok(())
    }
    fn on_terminate_reason(&mut self, _: &mut Session, reason: Option<&Reason>, _: Instant) {
        self.tell(Seen::Ended(reason.cloned()));
    }
    fn on_session_destroy(&mut self, _: &mut Session, _: Instant) {
        self.tell(Seen::Destroyed);
    }
}

pub fn description() -> Element {
    Element::new(TYPE, "description")
}

/// Which transport a side has.
#[derive(Clone, Copy)]
pub enum Over {
    Udp,
    Tcp,
}

/// One side.
pub struct Side {
    pub endpoint: Endpoint,
    pub address: Peer,
    seen: mpsc::Receiver<Seen>,
}

/// A manager with a probe and no transport.
pub fn bare_manager(echo: bool) -> (SessionManager, mpsc::Receiver<Seen>) {
    bare_manager_with(Config::default(), echo)
}

fn bare_manager_with(config: Config, echo: bool) -> (SessionManager, mpsc::Receiver<Seen>) {
    let (sender, seen) = mpsc::channel(1_000_000);
    // No two of them may draw the same names for their sessions.
    static SEED: AtomicU64 = AtomicU64::new(0);
    let entropy = SeededEntropy::new(SEED.fetch_add(1, Ordering::Relaxed));
    let mut manager = SessionManager::new(config, entropy);
    manager.add_client(Probe { seen: sender, echo }).unwrap();
    (manager, seen)
}

pub fn manager(over: Over, echo: bool) -> (SessionManager, mpsc::Receiver<Seen>) {
    manager_with(Config::default(), over, echo)
}

pub fn manager_with(
    config: Config,
    over: Over,
    echo: bool,
) -> (SessionManager, mpsc::Receiver<Seen>) {
    let (mut manager, seen) = bare_manager_with(config, echo);
    match over {
        Over::Udp => manager.add_transport(MemoryDatagram::new()).unwrap(),
        Over::Tcp => manager.add_transport(MemoryStream::new()).unwrap(),
    }
    (manager, seen)
}

impl Side {
    pub async fn new(router: &Router, address: &str, over: Over) -> Self {
        Self::with(router, address, over, false).await
    }

    pub async fn with(router: &Router, address: &str, over: Over, echo: bool) -> Self {
        let (manager, seen) = manager(over, echo);
        Self::around(router, address, manager, seen).await
    }

    pub async fn around(
        router: &Router,
        address: &str,
        manager: SessionManager,
        seen: mpsc::Receiver<Seen>,
    ) -> Self {
        Self::linked(router.link(address), address.into(), manager, seen).await
    }

    /// A side with any link, which comes up under this address.
    pub async fn linked(
        link: impl Link,
        address: Peer,
        manager: SessionManager,
        seen: mpsc::Receiver<Seen>,
    ) -> Self {
        let endpoint = Endpoint::spawn(manager, link);
        let side = Self {
            endpoint,
            address,
            seen,
        };
        side.up().await;
        side
    }

    /// Waits for the link.
    pub async fn up(&self) {
        let mut slot = self.endpoint.connect_link_state();
        while self.endpoint.link_state() != LinkState::Up(self.address.clone()) {
            soon(slot.next()).await;
        }
    }

    /// Offers a session.
    pub fn offer(&self, to: &Peer) -> SessionId {
        self.endpoint.update(|manager, now| {
            let id = manager
                .create_session(self.address.clone(), TYPE, now)
                .unwrap();
            let session = manager.session(id).unwrap();
            session
                .initiate_with(to.clone(), vec![], description(), now)
                .unwrap();
            id
        })
    }

    /// Sends; whether it was taken.
    pub fn send(&self, id: SessionId, bytes: impl Into<Bytes>) -> bool {
        self.endpoint.update(|manager, now| {
            let session = manager.session(id).unwrap();
            let channel = session.channel(CHANNEL).unwrap();
            session.send(channel, bytes.into(), now).is_ok()
        })
    }

    /// What is seen next.
    pub async fn next(&mut self) -> Seen {
        soon(self.seen.recv()).await.unwrap()
    }

    /// What is seen next that fits; the rest is skipped.
    pub async fn until<T>(&mut self, fits: impl Fn(&Seen) -> Option<T>) -> T {
        loop {
            if let Some(found) = fits(&self.next().await) {
                return found;
            }
        }
    }

    pub async fn until_seen(&mut self, wanted: &Seen) {
        self.until(|seen| (seen == wanted).then_some(())).await;
    }

    /// Waits for all of these, in whatever order they come: a path may be there before the answer or after it.
    pub async fn until_all(&mut self, wanted: &[Seen]) {
        let mut left: Vec<_> = wanted.iter().collect();
        while !left.is_empty() {
            let seen = self.next().await;
            left.retain(|one| **one != seen);
        }
    }

    pub async fn packet(&mut self) -> Bytes {
        let packet = |seen: &Seen| match seen {
            Seen::Packet(packet) => Some(packet.clone()),
            _ => None,
        };
        self.until(packet).await
    }

    pub async fn session(&mut self) -> SessionId {
        let created = |seen: &Seen| match seen {
            Seen::Created(id) => Some(*id),
            _ => None,
        };
        self.until(created).await
    }

    /// What has been seen and not been taken.
    pub fn left(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }
}

/// A test that waits longer than this has failed.
pub async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(60), future)
        .await
        .expect("it takes too long")
}
