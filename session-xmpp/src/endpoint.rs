//! The driver: the one place where sockets, the clock and stanza bytes meet a [`SessionManager`].
//!
//! An [`Endpoint`] owns a manager and runs it on tokio. There is one way in, [`Endpoint::update`]: it locks, lets the
//! caller act on the manager, carries out everything that the manager wants from the world, and unlocks. Applications and
//! the driver's own tasks use the same one, so that nothing that was done to the manager can be left undone.
//!
//! Stanzas travel over a [`Link`]: a login at a server, or a [`Router`] that connects the endpoints of one process.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use session_core::{Config, Reason, ReasonCondition, SeededEntropy, SessionManager};
//! use session_xmpp::endpoint::{Endpoint, Router};
//! use std::time::Duration;
//!
//! let router = Router::new();
//! let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
//! let juliet = Endpoint::spawn(manager, router.link("juliet@capulet.example/balcony"));
//! assert_eq!(juliet.update(|manager, _now| manager.session_count()), 0);
//! let reason = Reason::new(ReasonCondition::Gone);
//! assert!(juliet.shutdown(reason, Duration::from_secs(5)).await);
//! # });
//! ```

mod codec;
mod core;
pub(crate) mod head;
mod inquiries;
mod link;
#[cfg(feature = "mdns")]
mod names;
mod observer;
mod pool;
#[cfg(feature = "port-mapping")]
mod ports;
mod queries;
mod requests;
mod router;
#[cfg(feature = "srv")]
mod servers;
mod sockets;
mod stats;
mod tcp;
mod tls;
mod udp;

pub use link::{Link, LinkError, LinkEvent};
#[cfg(feature = "mdns")]
pub use names::LocalNames;
pub use observer::Observer;
#[cfg(feature = "port-mapping")]
pub use ports::{MappedPort, PortError, PortMapper};
pub use queries::{QueryKind, Service};
pub use router::{
    Passed, ROUTER_QUEUE_BYTES, ROUTER_QUEUE_STANZAS, ROUTER_TAP_STANZAS, Router, RouterLink, Tap,
};
#[cfg(feature = "srv")]
pub use servers::{IceServer, IceService, ice_servers};
pub use sockets::ACCEPTED_CONNECTIONS;
pub use stats::Stats;
/// The TLS library whose configuration [`Options`] takes.
pub use tokio_rustls::rustls;

use self::core::Core;
use crate::xml::WriteError;
use pool::Pool;
use session_core::{Element, ElementLimits, Peer, Reason, SessionManager, Slot, StanzaError};
use stats::Counters;
use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};
use tls::Trust;
#[cfg(feature = "client")]
pub(crate) use tls::default_config as default_tls_config;
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{sleep, timeout_at},
};

/// How many events of the link are handled in one go, before timers and others have their turn.
const LINK_BATCH: usize = 32;

/// A running [`SessionManager`]. Cheap to clone; when the last clone is dropped, the peers of live sessions are told
/// (as far as that needs no waiting) and everything is closed.
#[derive(Clone)]
#[must_use = "an endpoint that nobody holds ends"]
pub struct Endpoint(Arc<Shared>);

/// What an [`Endpoint`] can be told when it starts.
#[derive(Default)]
#[non_exhaustive]
pub struct Options {
    /// Whom TLS connections trust. `None`: the roots of Mozilla's programme.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Looks up and announces names of the local network for channels that ask for it: ICE, which finds browsers that hide
    /// their addresses, and can hide ours. `None`: there are no such names.
    #[cfg(feature = "mdns")]
    pub local_names: Option<LocalNames>,
    /// Asks the router in front of us for ports, for channels that want one: ICE with `map_ports`. `None`: no router is asked.
    #[cfg(feature = "port-mapping")]
    pub port_mapper: Option<PortMapper>,
    /// The limits on stanzas that are received.
    pub stanza_limits: ElementLimits,
    /// Takes what is not for sessions. `None`: requests go to the transports, and the rest is ignored.
    pub service: Option<Box<dyn Service>>,
    /// Sees what the manager and the world tell each other: for traces. `None`: nobody.
    pub observer: Option<Box<dyn Observer>>,
}

/// Whether the way for stanzas is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// There is none, for this reason. It may come back.
    Down(Arc<str>),
    /// It is there, under this address of ours.
    Up(Peer),
    /// It will not come back.
    Ended,
}

impl Endpoint {
    /// Runs a manager on the current runtime, with the default [`Options`].
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn spawn(manager: SessionManager, link: impl Link) -> Self {
        Self::spawn_with(manager, link, Options::default())
    }

    /// Runs a manager on the current runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub fn spawn_with(manager: SessionManager, link: impl Link, options: Options) -> Self {
        let bell = Arc::<Bell>::default();
        let counters = Arc::<Counters>::default();
        let trust = Trust::new(options.tls.clone());
        #[cfg(feature = "mdns")]
        let names = options.local_names.clone();
        #[cfg(feature = "port-mapping")]
        let ports = options.port_mapper.clone();
        let mut core = Core::new(manager, Box::new(link), options, counters.clone());
        core.manager.set_waker(Waker::from(bell.clone()));
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            bell: bell.clone(),
            pool: Arc::default(),
            counters,
            runtime: Handle::current(),
            trust,
            #[cfg(feature = "mdns")]
            names,
            #[cfg(feature = "port-mapping")]
            ports,
        });
        lock(&shared.core).input(&shared, session_core::Input::Link(false));
        shared.runtime.spawn(drive(Arc::downgrade(&shared), bell));
        Self(shared)
    }

    /// Lets `f` act on the manager, and then does everything that the manager wants: what was sent inside has left, as
    /// far as the system takes it, when this returns.
    ///
    /// It never waits for anything but other callers, and works outside of the runtime: from an audio callback, say.
    /// Timers of the manager go off up to one millisecond late, which is what tokio's timers can do.
    ///
    /// It must not be called from within `f`, from a session client, or from a [`Link`]: that would wait for ever.
    pub fn update<R>(&self, f: impl FnOnce(&mut SessionManager, Instant) -> R) -> R {
        self.0.update(f)
    }

    /// Whether stanzas can be exchanged now, and under which address.
    pub fn link_state(&self) -> LinkState {
        lock(&self.0.core).link_state()
    }

    /// Announces changes of [`link_state`](Self::link_state).
    pub fn connect_link_state(&self) -> Slot<LinkState> {
        lock(&self.0.core).link_signal.connect()
    }

    /// What could not be used so far.
    pub fn stats(&self) -> Stats {
        self.0.counters.stats()
    }

    /// Asks somebody something that is not for a session, and waits for the answer: service discovery, credentials for
    /// a relay (XEP-0215), the address of a proxy (XEP-0065).
    ///
    /// # Errors
    /// The other side's error; `remote-server-timeout` when there is no answer in time, also because the link is down;
    /// `resource-constraint` when too much is under way.
    pub async fn query(
        &self,
        kind: QueryKind,
        to: Peer,
        payload: Element,
        timeout: Duration,
    ) -> Result<Option<Element>, StanzaError> {
        let deadline = tokio::time::Instant::now() + timeout;
        let answer = lock(&self.0.core).query(kind, to, &payload)?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) | Err(_) => Err(queries::no_answer()),
        }
    }

    /// Sends a stanza that is neither a request nor an answer: a message or a presence. Returns whether the link took it.
    ///
    /// # Errors
    /// When it holds what XML cannot carry.
    pub fn send_stanza(&self, stanza: &Element) -> Result<bool, WriteError> {
        let bytes = codec::stanza(stanza)?;
        Ok(lock(&self.0.core).send(bytes).is_ok())
    }

    /// A handle that does not keep the endpoint alive.
    pub fn downgrade(&self) -> WeakEndpoint {
        WeakEndpoint(Arc::downgrade(&self.0))
    }

    /// Ends all sessions for this reason, waits until their peers have confirmed it and everything written has left, and
    /// closes. Returns whether all of that came to pass in time.
    ///
    /// Afterwards the endpoint still holds its manager, and nothing that is done to it has an effect on the world.
    pub async fn shutdown(&self, reason: Reason, timeout: Duration) -> bool {
        let deadline = tokio::time::Instant::now() + timeout;
        let (had_sessions, started) = self.update(|manager, now| {
            let had_sessions = manager.session_count() > 0;
            manager.terminate_all(reason, now);
            (had_sessions, now)
        });
        let confirmed = timeout_at(deadline, self.confirmed(had_sessions, started)).await;
        let (link, connections) = lock(&self.0.core).close(&self.0);
        self.0.bell.wake_by_ref();
        let closed = async {
            if let Some(mut link) = link {
                poll_fn(|cx| link.poll_close(cx)).await;
            }
            if let Some(mut connections) = connections {
                connections.recv().await;
            }
        };
        timeout_at(deadline, closed).await.is_ok() && confirmed.unwrap_or(false)
    }

    /// Waits until everybody has confirmed what was said since `started`, or that there is nobody.
    async fn confirmed(&self, had_sessions: bool, started: Instant) -> bool {
        loop {
            // Before looking, so that nothing is missed in between.
            let progress = self.0.bell.progress.notified();
            {
                let core = lock(&self.0.core);
                match core.link_state() {
                    LinkState::Ended => return !had_sessions,
                    LinkState::Down(_) if !had_sessions => return true,
                    LinkState::Up(_) if !core.awaits_answers_since(started) => return true,
                    LinkState::Down(_) | LinkState::Up(_) => {}
                }
            }
            progress.await;
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("stanza_limits", &self.stanza_limits)
            .finish_non_exhaustive()
    }
}

/// A handle of an [`Endpoint`] that does not keep it alive.
#[derive(Clone)]
pub struct WeakEndpoint(Weak<Shared>);

impl WeakEndpoint {
    /// The endpoint, if it is still there.
    pub fn upgrade(&self) -> Option<Endpoint> {
        self.0.upgrade().map(Endpoint)
    }
}

impl fmt::Debug for WeakEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WeakEndpoint").finish_non_exhaustive()
    }
}

/// What the handles hold together. Tasks hold it weakly, so that it ends with the last handle.
struct Shared {
    core: Mutex<Core>,
    bell: Arc<Bell>,
    pool: Arc<Pool>,
    counters: Arc<Counters>,
    runtime: Handle,
    trust: Trust,
    #[cfg(feature = "mdns")]
    names: Option<LocalNames>,
    #[cfg(feature = "port-mapping")]
    ports: Option<PortMapper>,
}

/// Wakes the driver's task. On its own, because the manager keeps a waker and must not keep itself alive through it.
#[derive(Default)]
struct Bell {
    ring: Notify,
    /// An answer to one of our requests arrived, or the link came or went for good.
    progress: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring.notify_one();
    }
}

impl Shared {
    fn update<R>(self: &Arc<Self>, f: impl FnOnce(&mut SessionManager, Instant) -> R) -> R {
        let mut core = lock(&self.core);
        let now = Instant::now();
        let result = f(&mut core.manager, now);
        core.drain(self, now);
        result
    }

    /// When the driver is to wake up, which it promises to do.
    fn arm(&self) -> Option<Instant> {
        let mut core = lock(&self.core);
        core.armed = core.deadline;
        core.deadline
    }

    /// The timer went off, perhaps for a deadline that has moved since.
    fn timeout(self: &Arc<Self>) {
        let mut core = lock(&self.core);
        if core.deadline.is_some_and(|due| due <= Instant::now()) {
            core.input(self, session_core::Input::Timeout);
        }
    }

    /// Handles what the link has; ready when there was something.
    fn poll_link(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut core = lock(&self.core);
        for handled in 0..LINK_BATCH {
            if core.poll_link(self, cx).is_pending() {
                return if handled == 0 {
                    Poll::Pending
                } else {
                    Poll::Ready(())
                };
            }
        }
        Poll::Ready(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let core = self.core.get_mut().unwrap_or_else(PoisonError::into_inner);
            core.abandon(Instant::now());
        }
        self.bell.wake_by_ref();
    }
}

/// The driver's task: stanzas, time, and whoever rings.
async fn drive(weak: Weak<Shared>, bell: Arc<Bell>) {
    let mut timer = pin!(sleep(Duration::ZERO));
    while let Some(deadline) = weak.upgrade().map(|shared| shared.arm()) {
        if let Some(deadline) = deadline
            && timer.deadline().into_std() != deadline
        {
            timer.as_mut().reset(deadline.into());
        }
        let link = poll_fn(|cx| {
            let shared = weak.upgrade();
            shared.map_or(Poll::Ready(()), |shared| shared.poll_link(cx))
        });
        let rung = tokio::select! {
            () = bell.ring.notified() => Some(true),
            () = &mut timer, if deadline.is_some() => Some(false),
            () = link => None,
        };
        let Some(shared) = weak.upgrade() else { return };
        match rung {
            Some(true) => shared.update(|_, _| ()),
            Some(false) => shared.timeout(),
            None => {}
        }
    }
}

/// Locks what no panic of ours leaves half done: a caller's closure may have panicked, and the manager goes on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
