//! One component: its sockets, its relays, its candidates, its queue, its path.

use super::agent::{Group, Output};
use super::candidate::Candidate;
use super::description::Description;
use super::pair::{Base, Path};
use super::relay::{RELAY_SOCKETS_MAX, RelayOutput, RelaySource};
use super::seldom::Seldom;
use super::tcp::Tcp;
use crate::stun::{Retransmission, TransactionId};
use bytes::Bytes;
use session_core::{
    Batch, BindKind, ChannelOutput, LocalSocket, SendError, SocketError, Transmit, TransportError,
};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// After this, an address that cannot be bound during a handover is asked for again.
pub(super) const BIND_AGAIN: Duration = Duration::from_secs(2);
/// How many times it is asked for again.
pub(super) const BIND_AGAIN_MAX: u8 = 3;
/// Datagrams of the application that wait to be polled.
const SEND_QUEUE_MAX: usize = 1 << 12;
/// As many of the agent's own on top.
const CONTROL_QUEUE_MAX: usize = 1 << 10;
/// Room for outputs that an idle component keeps.
const OUTPUTS_KEPT: usize = 1;
/// The largest payload of a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

pub(super) struct Component {
    pub(super) id: u16,
    pub(super) connected: bool,
    pub(super) sockets: Vec<Socket>,
    pub(super) next_socket: u32,
    pub(super) relays: Vec<Relay>,
    pub(super) tcp: Seldom<Tcp>,
    pub(super) locals: Vec<Local>,
    pub(super) gathers: Vec<Gather>,
    pub(super) keepalive_at: Option<Instant>,
    pub(super) told_end: bool,
    /// Said once that all candidates are known.
    pub(super) told_gathered: bool,
    pub(super) path: Option<Path>,
    /// When the first pair was valid, and when the best of them is nominated at the latest.
    pub(super) commit_at: Option<Instant>,
    /// The pair that we nominate just now.
    pub(super) nominating: Option<u32>,
    /// A pair was nominated in this generation.
    pub(super) completed: bool,
    pub(super) had_path: bool,
    pub(super) failed: bool,
    /// Why, for people.
    pub(super) why: Option<String>,
    /// What relays said and the agent has not heard yet.
    pub(super) relay_events: VecDeque<(usize, RelayOutput)>,
    outputs: VecDeque<Output>,
    queued: usize,
    writable: bool,
}

pub(super) struct Socket {
    pub(super) number: LocalSocket,
    pub(super) ip: IpAddr,
    pub(super) state: SocketState,
    /// How many times it was asked for before.
    pub(super) tries: u8,
    /// When it is asked for again.
    pub(super) again_at: Option<Instant>,
}

pub(super) enum SocketState {
    Binding,
    Open(SocketAddr),
    Failed(SocketError),
}

pub(super) struct Relay {
    pub(super) source: Box<dyn RelaySource>,
    pub(super) relayed: Option<SocketAddr>,
    pub(super) failed: Option<Arc<str>>,
}

/// A local candidate, and from where its datagrams leave.
pub(super) struct Local {
    pub(super) candidate: Arc<Candidate>,
    pub(super) group: Group,
    pub(super) base: Base,
    /// Host and relayed ones are paired; what is reflexive leaves from its base (RFC 8445 §6.1.2.4).
    pub(super) paired: bool,
}

/// A question to a STUN server.
pub(super) struct Gather {
    pub(super) socket: LocalSocket,
    pub(super) server: SocketAddr,
    pub(super) state: GatherState,
}

pub(super) enum GatherState {
    Asking {
        transaction: TransactionId,
        bytes: Bytes,
        clock: Retransmission,
    },
    Answered,
    Failed,
}

impl Component {
    pub(super) fn new(id: u16) -> Self {
        Self {
            id,
            connected: false,
            sockets: Vec::new(),
            next_socket: 0,
            relays: Vec::new(),
            tcp: Seldom::default(),
            locals: Vec::new(),
            gathers: Vec::new(),
            keepalive_at: None,
            told_end: false,
            told_gathered: false,
            path: None,
            commit_at: None,
            nominating: None,
            completed: false,
            had_path: false,
            failed: false,
            why: None,
            relay_events: VecDeque::new(),
            outputs: VecDeque::new(),
            queued: 0,
            writable: false,
        }
    }

    /// The channel's number for a relay's socket.
    pub(super) fn relay_socket(relay: usize, socket: LocalSocket) -> Option<LocalSocket> {
        let first = (relay as u32 + 1) * RELAY_SOCKETS_MAX;
        (socket.0 < RELAY_SOCKETS_MAX).then(|| LocalSocket(first + socket.0))
    }

    /// The relay that a number belongs to, and its own number for it.
    pub(super) fn relay_of(&self, socket: LocalSocket) -> Option<(usize, LocalSocket)> {
        let relay = (socket.0 / RELAY_SOCKETS_MAX).checked_sub(1)? as usize;
        (relay < self.relays.len()).then_some((relay, LocalSocket(socket.0 % RELAY_SOCKETS_MAX)))
    }

    /// Whether data takes this way.
    pub(super) fn is_path(&self, base: Base, remote: SocketAddr) -> bool {
        let on = |path: &Path| path.base == base && path.remote == remote;
        self.path.as_ref().is_some_and(on)
    }

    pub(super) fn is_open(&self, socket: LocalSocket) -> bool {
        self.sockets
            .iter()
            .any(|s| s.number == socket && matches!(s.state, SocketState::Open(_)))
    }

    /// Whether nothing more will be gathered in this generation.
    pub(super) fn has_gathered(&self) -> bool {
        let binding = |s: &Socket| matches!(s.state, SocketState::Binding);
        let asking = |g: &Gather| matches!(g.state, GatherState::Asking { .. });
        self.connected
            && !self.sockets.iter().any(binding)
            && !self.gathers.iter().any(asking)
            && self
                .relays
                .iter()
                .all(|relay| relay.relayed.is_some() || relay.failed.is_some())
    }

    /// Hands a packet of the agent's own to the network. With a full queue it is as good as lost there.
    pub(super) fn control(&mut self, base: Base, to: SocketAddr, payload: Bytes, now: Instant) {
        if self.queued < SEND_QUEUE_MAX + CONTROL_QUEUE_MAX {
            self.transmit(base, to, payload.into(), now);
        }
    }

    /// Sends data along the path.
    pub(super) fn send(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        let largest = match batch.segment_size {
            0 => batch.payload.len(),
            size => size.min(batch.payload.len()),
        };
        if self.failed {
            return Err(SendError::NoSuchChannel);
        }
        if largest > DATAGRAM_MAX {
            return Err(SendError::TooLarge);
        }
        let Some((base, remote)) = self.path.as_ref().map(|path| (path.base, path.remote)) else {
            return Err(SendError::NotWritable);
        };
        if self.queued >= SEND_QUEUE_MAX {
            self.tell_writable(false);
            return Err(SendError::NotWritable);
        }
        self.transmit(base, remote, batch, now);
        Ok(())
    }

    /// Socket and address of the path, for a datagram of this size that waits for no other.
    pub(super) fn direct(&self, size: usize) -> Option<(LocalSocket, SocketAddr)> {
        let free = self.queued == 0 && !self.failed && size <= DATAGRAM_MAX;
        let path = self.path.as_ref().filter(|_| free)?;
        if let Base::Host(socket) = path.base {
            Some((socket, path.remote))
        } else {
            None
        }
    }

    /// The address of this host that datagrams leave from, if they do.
    pub(super) fn address(&self, base: Base) -> Option<IpAddr> {
        let Base::Host(number) = base else {
            return None;
        };
        let socket = self.sockets.iter().find(|s| s.number == number)?;
        Some(socket.ip)
    }

    fn transmit(&mut self, base: Base, to: SocketAddr, batch: Batch, now: Instant) {
        match base {
            Base::Host(socket) => self.push_transmit(Transmit {
                socket,
                destination: to,
                payload: batch.payload,
                segment_size: batch.segment_size,
            }),
            Base::Relay(relay) => self.with_relay(relay, |source| {
                source.permit(to, now);
                source.send(to, batch, now);
            }),
            Base::Tcp(number) => self.write_datagrams(number, batch, now),
            Base::TcpActive(_) | Base::TcpPassive(_) | Base::TcpSimultaneous(_) => {}
        }
    }

    /// Gives back what it holds on relays.
    pub(super) fn close(&mut self, now: Instant) {
        self.failed = true;
        self.outputs.clear();
        self.queued = 0;
        for (number, relay) in self.relays.iter_mut().enumerate() {
            let on = |socket| Self::relay_socket(number, socket);
            relay.source.close(now);
            while let Some(output) = relay.source.poll_output() {
                let output = match output {
                    RelayOutput::Transmit(transmit) => on(transmit.socket)
                        .map(|socket| ChannelOutput::Transmit(Transmit { socket, ..transmit })),
                    RelayOutput::Write(socket, payload) => {
                        on(socket).map(|socket| ChannelOutput::Write(socket, payload))
                    }
                    RelayOutput::Bind(..)
                    | RelayOutput::Connect(..)
                    | RelayOutput::Close(_)
                    | RelayOutput::Allocated { .. }
                    | RelayOutput::Received { .. }
                    | RelayOutput::Lost { .. }
                    | RelayOutput::Failed(_) => None,
                };
                self.queued += usize::from(matches!(output, Some(ChannelOutput::Transmit(_))));
                self.outputs.extend(output.map(Output::Channel));
            }
        }
        self.relays.clear();
    }

    /// Calls a relay's client and does what it wants; what it says waits in `relay_events`.
    pub(super) fn with_relay(&mut self, number: usize, call: impl FnOnce(&mut dyn RelaySource)) {
        let Some(relay) = self.relays.get_mut(number) else {
            return;
        };
        if relay.failed.is_some() || self.failed {
            return;
        }
        call(relay.source.as_mut());
        while let Some(output) = self.relays[number].source.poll_output() {
            let on = |socket| Self::relay_socket(number, socket);
            match output {
                RelayOutput::Bind(socket, address) => {
                    if let Some(socket) = on(socket) {
                        self.push(ChannelOutput::Bind(socket, BindKind::Udp, address));
                    }
                }
                RelayOutput::Connect(socket, target) => {
                    if let Some(socket) = on(socket) {
                        self.push(ChannelOutput::Connect(socket, target));
                    }
                }
                RelayOutput::Write(socket, payload) => {
                    if let Some(socket) = on(socket) {
                        self.push(ChannelOutput::Write(socket, payload));
                    }
                }
                RelayOutput::Close(socket) => {
                    if let Some(socket) = on(socket) {
                        self.push(ChannelOutput::Close(socket));
                    }
                }
                RelayOutput::Transmit(transmit) => {
                    if let Some(socket) = on(transmit.socket)
                        && self.queued < SEND_QUEUE_MAX + CONTROL_QUEUE_MAX
                    {
                        self.push_transmit(Transmit { socket, ..transmit });
                    }
                }
                RelayOutput::Allocated { .. }
                | RelayOutput::Received { .. }
                | RelayOutput::Lost { .. }
                | RelayOutput::Failed(_) => self.relay_events.push_back((number, output)),
            }
        }
    }

    pub(super) fn push_transmit(&mut self, transmit: Transmit) {
        self.queued += 1;
        let transmit = ChannelOutput::Transmit(transmit);
        self.outputs.push_back(Output::Channel(transmit));
    }

    pub(super) fn push(&mut self, output: ChannelOutput) {
        if !self.failed {
            self.outputs.push_back(Output::Channel(output));
        }
    }

    /// Tells the peer's agent something.
    pub(super) fn tell(&mut self, description: Description) {
        if !self.failed {
            let description = Box::new(description);
            self.outputs.push_back(Output::Tell(description));
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if matches!(output, Some(Output::Channel(ChannelOutput::Transmit(_)))) {
            self.queued -= 1;
            if self.path.is_some() && self.queued <= SEND_QUEUE_MAX / 2 {
                self.tell_writable(true);
            }
        }
        output
    }

    /// Gives back memory that is not in use.
    pub(super) fn shrink(&mut self) {
        self.sockets.shrink_to_fit();
        self.locals.shrink_to_fit();
        self.gathers.shrink_to_fit();
        if self.outputs.is_empty() {
            self.outputs.shrink_to(OUTPUTS_KEPT);
        }
    }

    pub(super) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    pub(super) fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.push(ChannelOutput::Writable(writable));
        }
    }

    /// The path came, changed or went.
    pub(super) fn set_path(&mut self, path: Option<Path>) {
        let (had, has) = (self.path.is_some(), path.is_some());
        self.path = path;
        self.had_path |= has;
        if had != has {
            self.push(ChannelOutput::Path(has));
            self.tell_writable(has);
        }
    }

    pub(super) fn fail(&mut self, error: TransportError) {
        if !self.failed {
            self.set_path(None);
            self.outputs.retain(|output| {
                matches!(
                    output,
                    Output::Channel(
                        ChannelOutput::Packet(_)
                            | ChannelOutput::Path(_)
                            | ChannelOutput::Writable(_)
                    )
                )
            });
            self.queued = 0;
            self.why = Some(error.to_string());
            self.push(ChannelOutput::Failed(error));
            self.failed = true;
            self.gathers.clear();
            self.relay_events.clear();
        }
    }
}
