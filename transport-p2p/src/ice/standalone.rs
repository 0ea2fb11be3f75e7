//! The agent by itself, without sessions and without XMPP.

use super::agent::{self, Output as Inner};
use super::candidate::{Candidate, Credentials};
use super::config::IceConfig;
use super::description::Description;
use super::report::{PairReport, SelectedPair, Stats};
use super::sdp::{Attribute, AttributeError};
use bytes::Bytes;
use session_core::{
    Batch, BindKind, ChannelOutput, Datagram, Finding, Inquiry, LocalSocket, Role, SendError,
    SocketError, StreamEvent, StreamTarget, Transmit, TransportError,
};
use std::{fmt, net::SocketAddr, sync::Arc, task::Waker, time::Instant};

/// The component that an agent has from the beginning.
const FIRST: u16 = 1;
/// The numbers of a component's sockets have this many bits; above them stands the component.
const SOCKET_BITS: u32 = 20;

/// An ICE agent (RFC 8445) that does no I/O: it is told what arrives and what time it is, and asked what to do.
///
/// # The run loop
/// 1. Call [`gather`](Self::gather) once. Tell the peer [`local_credentials`](Self::local_credentials).
/// 2. Drain [`poll_output`](Self::poll_output), and do what each [`Output`] says: open sockets, send datagrams, tell the
///    peer a candidate, take a packet.
/// 3. Wait until [`poll_timeout`](Self::poll_timeout), or until something arrives, whichever is first.
/// 4. Tell the agent: [`handle_datagram`](Self::handle_datagram), [`handle_bound`](Self::handle_bound),
///    [`handle_timeout`](Self::handle_timeout), [`add_remote_candidate`](Self::add_remote_candidate) … Go on with 2.
///
/// Who has many packets to carry need not have them carried by the agent: [`send_direct`](Self::send_direct) and
/// [`receive_direct`](Self::receive_direct).
///
/// `examples/two_agents.rs` does it over real sockets. All randomness comes from the seed, so that the same calls have
/// the same results.
///
/// # Signalling
/// Credentials and candidates travel to the peer by whatever there is. They are typed values ([`Credentials`],
/// [`Candidate`]) and can be written and read as attributes of SDP: `candidate.to_string()`, and
/// [`handle_remote_attribute`](Self::handle_remote_attribute).
///
/// # Security
/// Who does not know the credentials gets no answer, changes nothing, and cannot hand in data. They must therefore travel
/// unseen. ICE does not encrypt: that is for what runs above it.
///
/// ```
/// use session_core::{Role, testing::epoch};
/// use std::net::{IpAddr, Ipv4Addr};
/// use transport_p2p::{Agent, ice::{IceConfig, Output}};
///
/// let config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]);
/// let mut agent = Agent::new(config, Role::Initiator, [7; 32]);
/// agent.gather(epoch());
/// let Some(Output::Bind(socket, _, address)) = agent.poll_output() else { panic!() };
/// // The driver has opened the socket; the system gave it port 4000.
/// agent.handle_bound(socket, Ok((address.ip(), 4000).into()), epoch());
/// let Some(Output::Candidate(candidate)) = agent.poll_output() else { panic!() };
/// assert_eq!(candidate.to_string(), "candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host");
/// agent.handle_remote_attribute("a=ice-ufrag:9b36", epoch())?;
/// agent.handle_remote_attribute("a=ice-pwd:YH75Fviy6338Vbrhrlp8Yh", epoch())?;
/// agent.handle_remote_attribute("a=candidate:1 1 udp 2130706431 198.51.100.1 9 typ host", epoch())?;
/// let Some(Output::Transmit(check)) = agent.poll_output() else { panic!() };
/// assert_eq!(check.destination, "198.51.100.1:9".parse().unwrap());
/// # Ok::<(), transport_p2p::ice::AttributeError>(())
/// ```
pub struct Agent {
    inner: agent::Agent,
    components: Vec<u16>,
    /// Of the credentials that the application knows.
    told: Arc<str>,
    /// What follows new credentials.
    held: Option<Box<(u16, Inner)>>,
    /// Half of the peer's credentials, as attributes bring them.
    ufrag: Option<Box<str>>,
    password: Option<Box<str>>,
}

/// What an [`Agent`] wants or says.
#[derive(Debug)]
#[non_exhaustive]
pub enum Output {
    /// Open a UDP socket or a listener at this address; port 0 is any. Answered by [`Agent::handle_bound`].
    Bind(LocalSocket, BindKind, SocketAddr),
    /// Open a connection. Answered by [`Agent::handle_stream`].
    Connect(LocalSocket, StreamTarget),
    /// Bytes for a connection.
    Write(LocalSocket, Bytes),
    /// Stop reading a connection (`true`), or go on.
    Hold(LocalSocket, bool),
    /// Find something out. Answered by [`Agent::handle_finding`] with the same number. Who cannot need not answer.
    Inquire(u32, Inquiry),
    /// Close a socket.
    Close(LocalSocket),
    /// Datagrams for the network.
    Transmit(Transmit),
    /// ICE restarts: tell the peer these credentials before any candidate that follows.
    Credentials(Credentials),
    /// Tell the peer this candidate (RFC 8838).
    Candidate(Candidate),
    /// Tell the peer that no candidate follows. Only with [`IceConfig::tell_end`].
    EndOfCandidates,
    /// Data of the peer, for this component.
    Packet(u16, Batch),
    /// The component has a path (again), or has none any more. See [`Agent::selected_pair`].
    Path(u16, bool),
    /// The component takes data, or does not: without a path, or with a full queue.
    Writable(u16, bool),
    /// The component is of no more use. The reason is one line for people.
    Failed(u16, TransportError),
}

impl Agent {
    /// An agent with one component, 1. All its randomness comes from `seed`, which nobody may know.
    ///
    /// The initiator controls (RFC 8445 §6.1.1), gives up after [`IceConfig::patience`], and restarts when the path is
    /// lost; the responder leaves that to it.
    pub fn new(config: IceConfig, role: Role, seed: [u8; 32]) -> Self {
        Self::with_waker(config, role, seed, Waker::noop())
    }

    /// Like [`new`](Self::new); `waker` is woken when [`Interfaces`](super::Interfaces) change, upon which
    /// [`handle_timeout`](Self::handle_timeout) is due.
    pub fn with_waker(config: IceConfig, role: Role, seed: [u8; 32], waker: &Waker) -> Self {
        Self::shared(Arc::new(config), role, seed, waker)
    }

    /// Like [`with_waker`](Self::with_waker), of a configuration that many agents share.
    pub fn shared(config: Arc<IceConfig>, role: Role, seed: [u8; 32], waker: &Waker) -> Self {
        let mut inner = agent::Agent::new(config, role, &seed, waker);
        inner.add_component(FIRST);
        Self {
            told: inner.local.ufrag.clone(),
            held: None,
            inner,
            components: vec![FIRST],
            ufrag: None,
            password: None,
        }
    }

    /// Adds a component, before [`gather`](Self::gather). False if it is there, or if `id` is not between 1 and
    /// [`IceConfig::components_max`], at most 256.
    pub fn add_component(&mut self, id: u16) -> bool {
        let last = self.inner.config.components_max.min(256);
        let new = (1..=last).contains(&usize::from(id)) && !self.components.contains(&id);
        if new {
            self.inner.add_component(id);
            self.components.push(id);
        }
        new
    }

    /// Begins: asks for sockets, servers and relays. Once.
    pub fn gather(&mut self, now: Instant) {
        for at in 0..self.components.len() {
            self.inner.connect(self.components[at], now);
        }
    }

    /// Our credentials of this generation.
    pub fn local_credentials(&self) -> &Credentials {
        &self.inner.local
    }

    /// The peer's credentials. Others than before mean that the peer restarts (RFC 8445 §9).
    pub fn set_remote_credentials(&mut self, credentials: Credentials, now: Instant) {
        let description = Description {
            credentials: Some(credentials),
            ..Description::default()
        };
        self.inner.acknowledge_restart();
        self.inner.handle_remote(description, now);
    }

    /// A candidate of the peer (RFC 8838), of its present generation.
    pub fn add_remote_candidate(&mut self, candidate: Candidate, now: Instant) {
        let description = Description {
            candidates: vec![candidate],
            has_candidates: true,
            ..Description::default()
        };
        self.inner.handle_remote(description, now);
    }

    /// The peer has no more candidates.
    pub fn end_remote_candidates(&mut self, now: Instant) {
        let description = Description {
            complete: true,
            ..Description::default()
        };
        self.inner.handle_remote(description, now);
    }

    /// An attribute of the peer's SDP (RFC 8839 §5), with or without `a=`. Candidates of kinds that are of no use here
    /// are left out.
    ///
    /// # Errors
    /// [`AttributeError::Unknown`] if it is none of ICE, [`AttributeError::Malformed`].
    pub fn handle_remote_attribute(
        &mut self,
        attribute: &str,
        now: Instant,
    ) -> Result<(), AttributeError> {
        match attribute.parse() {
            Ok(Attribute::Candidate(candidate)) => self.add_remote_candidate(candidate, now),
            Ok(Attribute::Ufrag(ufrag)) => self.ufrag = Some(ufrag.into()),
            Ok(Attribute::Password(password)) => self.password = Some(password.into()),
            Ok(Attribute::EndOfCandidates) => self.end_remote_candidates(now),
            Ok(Attribute::Lite | Attribute::Options) | Err(AttributeError::Unsupported(_)) => {}
            Err(error) => return Err(error),
        }
        if let (Some(ufrag), Some(password)) = (&self.ufrag, &self.password) {
            let credentials = Credentials::new(ufrag, password);
            (self.ufrag, self.password) = (None, None);
            self.set_remote_credentials(credentials, now);
        }
        Ok(())
    }

    /// The answer to [`Output::Bind`]: where the socket is.
    pub fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        let (component, socket) = split(socket);
        self.inner.handle_bound(component, socket, address, now);
    }

    /// One datagram, or a batch, has arrived.
    pub fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        let (component, socket) = split(datagram.socket);
        let datagram = Datagram { socket, ..datagram };
        self.inner.handle_datagram(component, datagram, now);
    }

    /// Something happened to a connection.
    pub fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        let (component, socket) = split(socket);
        self.inner.handle_stream(component, socket, event, now);
    }

    /// The answer to [`Output::Inquire`].
    pub fn handle_finding(&mut self, inquiry: u32, finding: Finding, now: Instant) {
        self.inner.handle_finding(inquiry, finding, now);
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    /// Sends a datagram, or several of equal size, to the peer.
    ///
    /// # Errors
    /// [`SendError::NotWritable`] without a path or with a full queue, [`SendError::TooLarge`],
    /// [`SendError::NoSuchChannel`] if there is no such component, or it failed.
    pub fn send(
        &mut self,
        component: u16,
        packets: impl Into<Batch>,
        now: Instant,
    ) -> Result<(), SendError> {
        self.inner.send(component, packets.into(), now)
    }

    /// The way for one datagram of `size` bytes that the application sends by itself, instead of handing it to
    /// [`send`](Self::send) and taking it from [`poll_output`](Self::poll_output): from this socket, to this address. It
    /// is counted as sent. To be asked for every datagram, because the path may change or lose consent (RFC 7675) with
    /// any other call.
    ///
    /// None where only `send` knows what to do, or what is wrong: the path leads through a relay or a connection, there
    /// is none, something else waits to be sent before, or `size` is too large for a datagram.
    ///
    /// With [`receive_direct`](Self::receive_direct) it is what a program with much traffic uses: nothing is moved,
    /// copied or shared between threads for a packet.
    pub fn send_direct(
        &mut self,
        component: u16,
        size: usize,
    ) -> Option<(LocalSocket, SocketAddr)> {
        let (socket, destination) = self.inner.send_direct(component, size)?;
        Some((join(component, socket), destination))
    }

    /// Whether one datagram that has arrived is data of the peer on the selected path, which the application may use
    /// where it lies. It is counted as received, and nothing is left to be done.
    ///
    /// Everything else (checks, what comes through relays, other pairs, strangers) is answered with false, and to be
    /// given to [`handle_datagram`](Self::handle_datagram).
    pub fn receive_direct(
        &mut self,
        socket: LocalSocket,
        source: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let (component, socket) = split(socket);
        self.inner
            .receive_direct(component, socket, source, payload)
    }

    /// Begins anew with new credentials (RFC 8445 §9), which [`Output::Credentials`] tells. Data flows on along the old
    /// path until there is a new one. Nothing happens before the peer's credentials are known.
    pub fn restart(&mut self, now: Instant) {
        self.inner.begin_restart(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` when nothing is pending.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.components
            .iter()
            .find_map(|id| self.inner.poll_timeout(*id))
    }

    /// The next thing that it wants or says. To be drained after each call.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(held) = self.held.take() {
            let (id, output) = *held;
            if let Some(output) = translate(id, output) {
                return Some(output);
            }
        }
        for at in 0..self.components.len() {
            let id = self.components[at];
            while let Some(output) = self.inner.poll_output(id) {
                if let Some(credentials) = self.new_credentials(&output) {
                    self.held = Some(Box::new((id, output)));
                    return Some(Output::Credentials(credentials));
                }
                if let Some(output) = translate(id, output) {
                    return Some(output);
                }
            }
        }
        None
    }

    /// The credentials of what is to be told, if the application does not know them yet.
    fn new_credentials(&mut self, output: &Inner) -> Option<Credentials> {
        let Inner::Tell(description) = output else {
            return None;
        };
        let credentials = description.credentials.as_ref()?;
        if credentials.ufrag == self.told {
            return None;
        }
        self.told = credentials.ufrag.clone();
        Some(credentials.clone())
    }

    /// The pair that a component's data takes.
    pub fn selected_pair(&self, component: u16) -> Option<SelectedPair> {
        self.inner.selected_pair(component)
    }

    /// Whether the component's pair was nominated in this generation, so that it stays (RFC 8445 §8).
    pub fn is_nominated(&self, component: u16) -> bool {
        self.inner.is_completed(component)
    }

    /// The life of every pair of this generation: first those of the checklist, then those that were given up when
    /// a better one was nominated (the best of them, at most 16).
    pub fn pairs(&self) -> Vec<PairReport> {
        self.inner.pair_reports()
    }

    /// Counts of what happened so far.
    pub fn stats(&self) -> Stats {
        self.inner.stats
    }

    /// Whether we control (RFC 8445 §6.1.1).
    pub fn is_controlling(&self) -> bool {
        self.inner.is_controlling()
    }

    /// The largest datagram that leaves this host on the path of a component, in bytes, as far as
    /// [`Interfaces::set_mtus`](super::Interfaces::set_mtus) said so; the rest of the path may carry less.
    pub fn datagram_max(&self, component: u16) -> Option<usize> {
        self.inner.datagram_max(component)
    }

    /// For people: the path of a component; without one, why there is none, and the table of pairs.
    pub fn describe(&self, component: u16) -> Option<String> {
        self.inner.describe(component)
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("credentials", self.local_credentials())
            .field("components", &self.components)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// The number of a component's socket among those of the agent.
fn join(component: u16, socket: LocalSocket) -> LocalSocket {
    LocalSocket(u32::from(component) << SOCKET_BITS | socket.0)
}

/// The component that a socket belongs to, and its number there.
fn split(socket: LocalSocket) -> (u16, LocalSocket) {
    let own = LocalSocket(socket.0 & ((1 << SOCKET_BITS) - 1));
    ((socket.0 >> SOCKET_BITS) as u16, own)
}

/// None for what an ICE agent never says.
fn translate(id: u16, output: Inner) -> Option<Output> {
    let output = match output {
        Inner::Channel(output) => output,
        Inner::Tell(description) => return told(*description),
    };
    Some(match output {
        ChannelOutput::Transmit(transmit) => Output::Transmit(Transmit {
            socket: join(id, transmit.socket),
            ..transmit
        }),
        ChannelOutput::Packet(batch) => Output::Packet(id, batch),
        ChannelOutput::Bind(socket, kind, address) => Output::Bind(join(id, socket), kind, address),
        ChannelOutput::Connect(socket, target) => Output::Connect(join(id, socket), target),
        ChannelOutput::Write(socket, bytes) => Output::Write(join(id, socket), bytes),
        ChannelOutput::Hold(socket, hold) => Output::Hold(join(id, socket), hold),
        ChannelOutput::Inquire(number, Inquiry::MapPort(socket)) => {
            Output::Inquire(number, Inquiry::MapPort(join(id, socket)))
        }
        ChannelOutput::Inquire(number, inquiry) => Output::Inquire(number, inquiry),
        ChannelOutput::Close(socket) => Output::Close(join(id, socket)),
        ChannelOutput::Path(has) => Output::Path(id, has),
        ChannelOutput::Writable(writable) => Output::Writable(id, writable),
        ChannelOutput::Failed(error) => Output::Failed(id, error),
        ChannelOutput::Info(_)
        | ChannelOutput::Request { .. }
        | ChannelOutput::Finished
        | ChannelOutput::Delivered
        | _ => return None,
    })
}

/// The agent tells one thing at a time: a candidate, the end of them, or credentials alone.
fn told(mut description: Description) -> Option<Output> {
    let complete = description.complete.then_some(Output::EndOfCandidates);
    let candidate = description.candidates.pop();
    candidate.map(Output::Candidate).or(complete)
}
