//! What all sessions of a manager share.

use crate::{Clocks, Dialect, Entropy, Limits, Peer, SessionId};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

/// How a [`SessionManager`](crate::SessionManager) and its sessions behave.
#[derive(Clone, Debug)]
pub struct Config {
    /// Bounds.
    pub limits: Limits,
    /// Times.
    pub clocks: Clocks,
    /// The dialect of sessions that we initiate, unless a policy or the session says otherwise.
    pub dialect: &'static Dialect,
    /// Whether channels connect while the peer is still ringing (as libjingle does). It makes data flow at the moment
    /// of acceptance, and it tells the peer our addresses before that.
    pub speculative: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            clocks: Clocks::default(),
            dialect: Dialect::JINGLE,
            speculative: true,
        }
    }
}

type RedirectPolicy = Box<dyn Fn(&Peer, &Peer) -> bool + Send>;
type SpeculationPolicy = Box<dyn Fn(&Peer) -> bool + Send>;
type DialectPolicy = Box<dyn Fn(&Peer) -> &'static Dialect + Send>;

/// One per manager, behind an `Arc`.
pub(crate) struct Shared {
    pub(crate) config: Config,
    entropy: Mutex<Box<dyn Entropy>>,
    redirects: Mutex<Option<RedirectPolicy>>,
    dialects: Mutex<Option<DialectPolicy>>,
    speculation: Mutex<Option<SpeculationPolicy>>,
    wakes: Mutex<Wakes>,
}

struct Wakes {
    sessions: Vec<SessionId>,
    bell: Waker,
}

impl Shared {
    pub(crate) fn new(config: Config, entropy: Box<dyn Entropy>) -> Self {
        Self {
            config,
            entropy: Mutex::new(entropy),
            redirects: Mutex::new(None),
            dialects: Mutex::new(None),
            speculation: Mutex::new(None),
            wakes: Mutex::new(Wakes {
                sessions: Vec::new(),
                bell: Waker::noop().clone(),
            }),
        }
    }

    pub(crate) fn fill(&self, buffer: &mut [u8]) {
        lock(&self.entropy).fill(buffer);
    }

    pub(crate) fn seed(&self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        seed
    }

    /// A session id for the wire: 128 random bits, or a decimal 32-bit number where the dialect expects one.
    pub(crate) fn sid(&self, dialect: &Dialect) -> Arc<str> {
        let seed = self.seed();
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| seed[at + i]));
        match dialect.errors {
            crate::ErrorStyle::Google => (number(0) as u32).to_string().into(),
            crate::ErrorStyle::Jingle => format!("{:016x}{:016x}", number(0), number(8)).into(),
        }
    }

    /// Whether a session goes on at another address: by default only within the same account.
    pub(crate) fn follows(&self, from: &Peer, to: &Peer) -> bool {
        match &*lock(&self.redirects) {
            Some(policy) => policy(from, to),
            None => from.account() == to.account(),
        }
    }

    pub(crate) fn set_redirect_policy(&self, policy: RedirectPolicy) {
        *lock(&self.redirects) = Some(policy);
    }

    /// The dialect to speak to a peer first.
    pub(crate) fn dialect_for(&self, peer: &Peer) -> &'static Dialect {
        lock(&self.dialects)
            .as_ref()
            .map_or(self.config.dialect, |policy| policy(peer))
    }

    pub(crate) fn set_dialect_policy(&self, policy: DialectPolicy) {
        *lock(&self.dialects) = Some(policy);
    }

    /// Whether channels to a peer connect before the session is accepted.
    pub(crate) fn speculates(&self, peer: &Peer) -> bool {
        self.config.speculative
            && lock(&self.speculation)
                .as_ref()
                .is_none_or(|policy| policy(peer))
    }

    pub(crate) fn set_speculation_policy(&self, policy: SpeculationPolicy) {
        *lock(&self.speculation) = Some(policy);
    }

    pub(crate) fn set_bell(&self, bell: Waker) {
        lock(&self.wakes).bell = bell;
    }

    /// The sessions that were woken since the last call.
    pub(crate) fn woken(&self) -> Vec<SessionId> {
        std::mem::take(&mut lock(&self.wakes).sessions)
    }

    /// What a transport of this session wakes.
    pub(crate) fn waker(self: &Arc<Self>, session: SessionId) -> Waker {
        Waker::from(Arc::new(SessionWaker {
            shared: Arc::clone(self),
            session,
        }))
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

struct SessionWaker {
    shared: Arc<Shared>,
    session: SessionId,
}

impl Wake for SessionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut wakes = lock(&self.shared.wakes);
        if !wakes.sessions.contains(&self.session) {
            wakes.sessions.push(self.session);
        }
        let bell = wakes.bell.clone();
        drop(wakes);
        bell.wake();
    }
}

/// What the locks guard is never left half-changed, so a panic elsewhere does not matter here.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
