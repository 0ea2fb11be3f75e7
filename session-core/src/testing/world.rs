//! [`World`]: managers, the way of signalling between them, a network and a clock, all in the hand of a test.
//!
//! ```
//! use session_core::testing::{MemoryDatagram, Note, Recorder, RECORDER_NAMESPACE, World, Answer};
//! use session_core::{Config, State};
//!
//! let mut world = World::new(1);
//! for name in ["alice@a.example/1", "bob@b.example/2"] {
//!     world.add_host(name, Config::default(), |manager| {
//!         manager.add_transport(MemoryDatagram::new())?;
//!         manager.add_client(Recorder::new().with_channel("data").with_answer(Answer::Accept))
//!     });
//! }
//! let id = world.call(0, 1, RECORDER_NAMESPACE, &Note("hello".into())).unwrap();
//! assert!(world.run_until_state(0, id, State::InProgress));
//! world.check();
//! ```
//!
//! While it runs, a world checks what must always hold: see [`World::check`].

mod checks;
mod wire;

use super::{
    epoch,
    netem::Conditions,
    network::{Delivery, Network, SocketKey},
    recorder::{Log, Recorder},
};
use crate::{
    Config, Input, LocalSocket, Misuse, Output, Peer, RequestKind, SeededEntropy, Session,
    SessionDescription, SessionId, SessionManager, SocketId, StanzaError, State,
};
use checks::Checks;
use std::{
    fmt,
    time::{Duration, Instant},
};
use wire::Wire;

pub use wire::{Envelope, Parcel};

/// More outputs of one drain than this are endless.
const OUTPUTS_MAX: usize = 100_000;
/// How often a manager may want to be called again at the same instant.
const REPEATS_MAX: u32 = 32;

/// A socket of one of the hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostSocket {
    /// Whose.
    pub host: usize,
    /// Which.
    pub socket: SocketId,
}

impl SocketKey for HostSocket {
    fn accepted(self, connection: LocalSocket) -> Self {
        Self {
            socket: self.socket.sibling(connection),
            ..self
        }
    }
}

/// One manager and what the world knows of it.
struct Host {
    name: Peer,
    manager: SessionManager,
    log: Log,
    wait: Option<Instant>,
    repeats: (Instant, u32),
    /// Whether signalling can leave, as far as the host was told.
    link: bool,
}

/// Managers, wire, network and clock.
///
/// Nothing happens but by a call: [`step`](Self::step) lets the next thing happen, [`run_for`](Self::run_for) and its
/// siblings more of them. [`update`](Self::update) is what `Endpoint::update` is over real sockets.
pub struct World {
    now: Instant,
    start: Instant,
    seed: u64,
    hosts: Vec<Host>,
    network: Network<HostSocket>,
    wire: Wire,
    checks: Checks,
}

/// Building.
impl World {
    /// An empty world with a perfect network, and signalling that takes no time.
    pub fn new(seed: u64) -> Self {
        let start = epoch();
        Self {
            now: start,
            start,
            seed,
            hosts: Vec::new(),
            network: Network::new(Conditions::default(), seed),
            wire: Wire::new(seed),
            checks: Checks::default(),
        }
    }

    /// Adds a manager. `configure` registers transports and clients; its [`Recorder`], if there is one, becomes the
    /// host's [`log`](Self::log).
    ///
    /// # Panics
    /// When `configure` fails.
    pub fn add_host(
        &mut self,
        name: &str,
        config: Config,
        configure: impl FnOnce(&mut SessionManager) -> Result<(), Misuse>,
    ) -> usize {
        let index = self.hosts.len();
        let seed = self.seed.wrapping_mul(31).wrapping_add(index as u64 + 1);
        let mut entropy = SeededEntropy::new(seed);
        let fill = move |buffer: &mut [u8]| crate::Entropy::fill(&mut entropy, buffer);
        let mut manager = SessionManager::new(config, fill);
        if let Err(misuse) = configure(&mut manager) {
            panic!("host {name} cannot be configured: {misuse}");
        }
        let log = manager.find_client::<Recorder>();
        let log = log.map(|recorder| recorder.log()).unwrap_or_default();
        self.hosts.push(Host {
            name: name.into(),
            manager,
            log,
            wait: None,
            repeats: (self.start, 0),
            link: true,
        });
        self.drain(index);
        index
    }

    /// How bad the network for data is.
    pub fn set_network(&mut self, conditions: Conditions) {
        self.network.set_conditions(conditions);
    }

    /// How bad the way of signalling is: each message, request and reply is a payload of one byte.
    pub fn set_wire(&mut self, conditions: Conditions) {
        self.wire.set_conditions(conditions);
    }

    /// Whether signalling waits for the test ([`deliver`](Self::deliver) and its siblings) instead of travelling.
    pub fn hold(&mut self, hold: bool) {
        self.wire.hold = hold;
    }
}

/// Acting.
impl World {
    /// Does something with a manager, and lets the driver carry out what follows.
    pub fn update<R>(
        &mut self,
        host: usize,
        f: impl FnOnce(&mut SessionManager, Instant) -> R,
    ) -> R {
        let result = f(&mut self.hosts[host].manager, self.now);
        self.drain(host);
        result
    }

    /// Does something with a session; `None` when it is gone.
    pub fn with_session<R>(
        &mut self,
        host: usize,
        session: SessionId,
        f: impl FnOnce(&mut Session, Instant) -> R,
    ) -> Option<R> {
        self.update(host, |manager, now| {
            manager.session(session).map(|session| f(session, now))
        })
    }

    /// Creates a session at one host and offers it to another.
    ///
    /// # Errors
    /// As [`SessionManager::create_session`] and [`Session::initiate`].
    pub fn call(
        &mut self,
        from: usize,
        to: usize,
        session_type: &str,
        description: &impl SessionDescription,
    ) -> Result<SessionId, Misuse> {
        let (local, remote) = (self.hosts[from].name.clone(), self.hosts[to].name.clone());
        let description = description.to_element();
        self.update(from, |manager, now| {
            let id = manager.create_session(local, session_type, now)?;
            match manager.session(id) {
                Some(session) => session.initiate_with(remote, Vec::new(), description, now)?,
                None => return Err(Misuse::NoSuchSession(id)),
            }
            Ok(id)
        })
    }

    /// Tells a host that its way of signalling is there, or is not. While it is not, what is sent to it is lost.
    pub fn set_link(&mut self, host: usize, up: bool) {
        self.hosts[host].link = up;
        self.handle_input(host, Input::Link(up));
    }

    /// Gives a host an input that comes from nowhere in this world.
    pub fn handle_input(&mut self, host: usize, input: Input) {
        let now = self.now;
        if let Input::Message { id, .. } | Input::Request { id, .. } = &input {
            self.checks.asked(host, *id);
        }
        self.hosts[host].manager.handle_input(input, now);
        self.drain(host);
    }

    /// A number for a request that comes from nowhere in this world.
    pub fn request_id(&mut self) -> crate::RequestId {
        self.wire.request_id()
    }
}

/// The clock.
impl World {
    /// Lets the next thing happen, whenever that is. `false` when nothing is to happen ever.
    pub fn step(&mut self) -> bool {
        let Some(at) = self.next_event() else {
            return false;
        };
        self.now = self.now.max(at);
        self.happen();
        true
    }

    /// Lets everything happen that happens within this time.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        self.run_until_instant(until, |_| false);
        self.now = until;
    }

    /// Lets things happen until `done`, or until nothing is left to happen within this time. Whether it is done.
    pub fn run_until(&mut self, within: Duration, done: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + within;
        self.run_until_instant(until, done)
    }

    /// Lets things happen for at most ten minutes until a session is in a state.
    pub fn run_until_state(&mut self, host: usize, session: SessionId, state: State) -> bool {
        self.run_until(Duration::from_secs(600), |world| {
            world.state(host, session) == Some(state)
        })
    }

    /// Lets everything happen that takes no time: all that is due now and what follows from it.
    pub fn settle(&mut self) {
        while self.next_event().is_some_and(|at| at <= self.now) {
            self.happen();
        }
    }

    /// When the next thing happens.
    pub fn next_event(&self) -> Option<Instant> {
        let waits = self.hosts.iter().filter_map(|host| host.wait);
        waits
            .chain(self.network.poll_timeout())
            .chain(self.wire.poll_timeout())
            .min()
    }

    /// The time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The time since the world began.
    pub fn time(&self) -> Duration {
        self.now - self.start
    }

    fn run_until_instant(
        &mut self,
        until: Instant,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if self.next_event().is_none_or(|at| at > until) {
                return false;
            }
            self.step();
        }
    }

    /// Everything that is due now, once.
    fn happen(&mut self) {
        while let Some(envelope) = self.wire.poll_output(self.now) {
            self.deliver_envelope(envelope);
        }
        while let Some((key, delivery)) = self.network.poll_output(self.now) {
            self.deliver_data(key, delivery);
        }
        for host in 0..self.hosts.len() {
            let this = &mut self.hosts[host];
            if this.wait.is_some_and(|at| at <= self.now) {
                this.repeats = match this.repeats {
                    (at, count) if at == self.now => (at, count + 1),
                    _ => (self.now, 1),
                };
                if this.repeats.1 > REPEATS_MAX {
                    let what = "waits for an instant that has been handled".into();
                    self.checks.breach(host, self.now - self.start, what);
                    this.wait = None;
                    continue;
                }
                self.handle_input(host, Input::Timeout);
            }
        }
    }
}

/// Looking.
impl World {
    /// A host's manager. What it is made to want is carried out by the next [`update`](Self::update) of the host.
    pub fn manager(&self, host: usize) -> &SessionManager {
        &self.hosts[host].manager
    }

    /// A session's state; `None` when it is gone.
    pub fn state(&self, host: usize, session: SessionId) -> Option<State> {
        self.manager(host).peek(session).map(Session::state)
    }

    /// The live sessions of a host, oldest place first.
    pub fn sessions(&self, host: usize) -> Vec<SessionId> {
        self.manager(host).session_ids()
    }

    /// The session of a host with this name on the wire.
    pub fn find(&self, host: usize, sid: &str) -> Option<SessionId> {
        let named = |id: &SessionId| {
            let session = self.manager(host).peek(*id);
            session.is_some_and(|session| **session.sid() == *sid)
        };
        self.sessions(host).into_iter().find(named)
    }

    /// What a host's [`Recorder`] wrote down.
    pub fn log(&self, host: usize) -> &Log {
        &self.hosts[host].log
    }

    /// A host's address.
    pub fn name(&self, host: usize) -> &Peer {
        &self.hosts[host].name
    }

    /// How many hosts there are.
    pub fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// The network for data: to cut it, and to make it refuse.
    pub fn network(&mut self) -> &mut Network<HostSocket> {
        &mut self.network
    }
}

/// The driver.
impl World {
    fn drain(&mut self, host: usize) {
        self.checks.begin_drain();
        for _ in 0..OUTPUTS_MAX {
            let output = self.hosts[host].manager.poll_output(self.now);
            if let Output::Wait(at) = output {
                self.hosts[host].wait = at;
                self.end_drain(host);
                return;
            }
            self.carry_out(host, output);
        }
        let what = format!("more than {OUTPUTS_MAX} outputs at once");
        self.checks.breach(host, self.now - self.start, what);
    }

    fn carry_out(&mut self, host: usize, output: Output) {
        let now = self.now;
        let key = |socket| HostSocket { host, socket };
        match output {
            Output::Message { id, message } => {
                self.read_log(host);
                let time = now - self.start;
                self.checks.sends(host, time, &message);
                let to = message.to.clone();
                let message = Box::new(message);
                self.post(host, to, Parcel::Message { id, message });
            }
            Output::Request {
                id,
                from,
                to,
                payload,
                kind,
            } => {
                let parcel = Parcel::Request {
                    id,
                    from,
                    to: to.clone(),
                    payload,
                    kind,
                };
                self.post(host, to, parcel);
                if kind == RequestKind::Notice {
                    let reply = Ok(None);
                    let input = Input::Reply { id, reply };
                    self.hosts[host].manager.handle_input(input, now);
                }
            }
            Output::Reply { id, reply, .. } => {
                let time = now - self.start;
                self.checks.replies(host, time, id);
                self.post_reply(host, id, reply);
            }
            Output::Bind {
                socket,
                kind,
                address,
            } => self.network.bind(host, key(socket), kind, address, now),
            Output::Connect { socket, target } => {
                self.network.connect(host, key(socket), &target, now);
            }
            Output::Write { socket, payload } => self.network.write(key(socket), payload, now),
            Output::Hold { socket, held } => self.network.hold(key(socket), held, now),
            Output::Inquire { id, inquiry } => {
                self.network.inquire(host, key(id), &inquiry, now);
            }
            Output::Shutdown { socket } => self.network.shutdown(key(socket), now),
            Output::Close { socket } => self.network.close(key(socket), now),
            Output::Transmit {
                socket,
                destination,
                payload,
                segment_size,
            } => self
                .network
                .transmit(key(socket), destination, payload, segment_size, now),
            Output::Wait(_) => {}
        }
    }

    fn deliver_data(&mut self, key: HostSocket, delivery: Delivery) {
        let socket = key.socket;
        let input = match delivery {
            Delivery::Bound(address) => Input::Bound { socket, address },
            Delivery::Stream(event) => Input::Stream { socket, event },
            Delivery::Found(finding) => Input::Found {
                inquiry: socket,
                finding,
            },
            Delivery::Datagram {
                source,
                payload,
                segment_size,
            } => Input::Datagram {
                socket,
                source,
                payload,
                segment_size,
            },
        };
        self.handle_input(key.host, input);
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<_> = self.hosts.iter().map(|host| &host.name).collect();
        f.debug_struct("World")
            .field("time", &self.time())
            .field("hosts", &hosts)
            .finish_non_exhaustive()
    }
}

/// The answer of a server that knows nobody of this name.
fn unavailable() -> StanzaError {
    StanzaError::new(
        crate::Condition::ServiceUnavailable,
        crate::ErrorKind::Cancel,
    )
}
