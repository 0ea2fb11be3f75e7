//! A channel's sockets and relays, and what it wants from the world.

use crate::ice::{
    component::{BIND_AGAIN, BIND_AGAIN_MAX},
    pair::Base,
    relay::{RELAY_SOCKETS_MAX, RelayOutput, RelaySource},
};
use session_core::{Batch, BindKind, ChannelOutput, LocalSocket, SendError, SocketError, Transmit};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

/// Datagrams of the application that wait to be polled.
const SEND_QUEUE_MAX: usize = 1 << 12;
/// As many of the channel's own on top.
const CONTROL_QUEUE_MAX: usize = 1 << 10;
/// The largest payload of a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

#[derive(Default)]
pub(super) struct Outlet {
    pub(super) sockets: Vec<Socket>,
    pub(super) relays: Vec<Relay>,
    /// What relays said and the channel has not heard yet.
    pub(super) relay_events: VecDeque<(usize, RelayOutput)>,
    next_socket: u32,
    outputs: VecDeque<ChannelOutput>,
    queued: usize,
    has_path: bool,
    had_path: bool,
    writable: bool,
    failed: bool,
}

pub(super) struct Socket {
    pub(super) number: LocalSocket,
    pub(super) ip: IpAddr,
    pub(super) address: Option<Result<SocketAddr, SocketError>>,
    /// How many times it was asked for before.
    tries: u8,
    /// When it is asked for again.
    again_at: Option<Instant>,
}

impl Socket {
    /// Why it cannot be had, once nobody asks for it again.
    pub(super) fn error(&self) -> Option<&SocketError> {
        let bound = self.address.as_ref().filter(|_| self.again_at.is_none());
        bound?.as_ref().err()
    }
}

pub(super) struct Relay {
    pub(super) source: Box<dyn RelaySource>,
    pub(super) failed: bool,
}

impl Outlet {
    /// Asks for sockets at addresses that have none, also where it could not be had before.
    pub(super) fn open_all(&mut self, addresses: &[IpAddr]) {
        let failed = |socket: &Socket| matches!(socket.address, Some(Err(_)));
        self.sockets.retain(|socket| !failed(socket));
        for ip in addresses {
            if !self.sockets.iter().any(|socket| socket.ip == *ip) {
                self.open(*ip, 0);
            }
        }
    }

    /// Asks again for sockets that failed.
    pub(super) fn open_again(&mut self, now: Instant) {
        let is_due = |socket: &mut Socket| socket.again_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self.sockets.extract_if(.., is_due).collect();
        for socket in due {
            self.open(socket.ip, socket.tries + 1);
        }
    }

    /// What binding came to. Returns the address of a socket that is open now.
    pub(super) fn bound(
        &mut self,
        number: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) -> Option<SocketAddr> {
        let mut sockets = self.sockets.iter_mut();
        let socket = sockets.find(|known| known.number == number && known.address.is_none())?;
        // An address that has just come may not be ready yet (RFC 4862 §5.4).
        let again = address.is_err() && self.had_path && socket.tries < BIND_AGAIN_MAX;
        socket.again_at = again.then(|| now + BIND_AGAIN);
        let open = address.as_ref().ok().copied();
        socket.address = Some(address);
        open
    }

    /// Asks for a socket at an address.
    fn open(&mut self, ip: IpAddr, tries: u8) {
        if self.next_socket >= RELAY_SOCKETS_MAX {
            return;
        }
        let number = LocalSocket(self.next_socket);
        self.next_socket += 1;
        self.sockets.push(Socket {
            number,
            ip,
            address: None,
            tries,
            again_at: None,
        });
        let address = SocketAddr::new(ip, 0);
        self.push(ChannelOutput::Bind(number, BindKind::Udp, address));
    }

    /// The address of an open socket.
    pub(super) fn address(&self, number: LocalSocket) -> Option<SocketAddr> {
        let socket = self.sockets.iter().find(|socket| socket.number == number)?;
        socket.address.as_ref()?.as_ref().ok().copied()
    }

    /// The relay that a number belongs to, and its own number for it.
    pub(super) fn relay_of(&self, socket: LocalSocket) -> Option<(usize, LocalSocket)> {
        let relay = (socket.0 / RELAY_SOCKETS_MAX).checked_sub(1)? as usize;
        (relay < self.relays.len()).then_some((relay, LocalSocket(socket.0 % RELAY_SOCKETS_MAX)))
    }

    /// Hands a packet of the channel's own to the network. With a full queue it is as good as lost there.
    pub(super) fn control(
        &mut self,
        base: Base,
        to: SocketAddr,
        payload: bytes::Bytes,
        now: Instant,
    ) {
        if self.queued < SEND_QUEUE_MAX + CONTROL_QUEUE_MAX {
            self.transmit(base, to, payload.into(), now);
        }
    }

    /// Sends data along a path.
    pub(super) fn send(
        &mut self,
        path: Option<(Base, SocketAddr)>,
        batch: Batch,
        now: Instant,
    ) -> Result<(), SendError> {
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
        let Some((base, to)) = path.filter(|_| self.has_path) else {
            return Err(SendError::NotWritable);
        };
        if self.queued >= SEND_QUEUE_MAX {
            self.tell_writable(false);
            return Err(SendError::NotWritable);
        }
        self.transmit(base, to, batch, now);
        Ok(())
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
            // Google's words know only TCP to its own relays.
            Base::TcpActive(_) | Base::TcpPassive(_) | Base::TcpSimultaneous(_) | Base::Tcp(_) => {}
        }
    }

    /// The name by which peers have to ask at a relay.
    pub(super) fn relay_username(&self, number: usize) -> Option<std::sync::Arc<str>> {
        self.relays.get(number)?.source.username()
    }

    /// Calls a relay's client and does what it wants; what it says waits in `relay_events`.
    pub(super) fn with_relay(&mut self, number: usize, call: impl FnOnce(&mut dyn RelaySource)) {
        let Some(relay) = self.relays.get_mut(number).filter(|relay| !relay.failed) else {
            return;
        };
        call(relay.source.as_mut());
        while let Some(output) = self.relays[number].source.poll_output() {
            let first = (number as u32 + 1) * RELAY_SOCKETS_MAX;
            let on = |socket: LocalSocket| {
                (socket.0 < RELAY_SOCKETS_MAX).then(|| LocalSocket(first + socket.0))
            };
            let wanted = match output {
                RelayOutput::Bind(socket, address) => {
                    on(socket).map(|socket| ChannelOutput::Bind(socket, BindKind::Udp, address))
                }
                RelayOutput::Connect(socket, target) => {
                    on(socket).map(|socket| ChannelOutput::Connect(socket, target))
                }
                RelayOutput::Write(socket, payload) => {
                    on(socket).map(|socket| ChannelOutput::Write(socket, payload))
                }
                RelayOutput::Close(socket) => on(socket).map(ChannelOutput::Close),
                RelayOutput::Transmit(transmit) => {
                    let full = self.queued >= SEND_QUEUE_MAX + CONTROL_QUEUE_MAX;
                    if let Some(socket) = on(transmit.socket).filter(|_| !full) {
                        self.push_transmit(Transmit { socket, ..transmit });
                    }
                    None
                }
                RelayOutput::Allocated { .. }
                | RelayOutput::Received { .. }
                | RelayOutput::Lost { .. }
                | RelayOutput::Failed(_) => {
                    self.relay_events.push_back((number, output));
                    None
                }
            };
            if let Some(wanted) = wanted {
                self.push(wanted);
            }
        }
    }

    fn push_transmit(&mut self, transmit: Transmit) {
        if !self.failed {
            self.queued += 1;
            self.outputs.push_back(ChannelOutput::Transmit(transmit));
        }
    }

    pub(super) fn push(&mut self, output: ChannelOutput) {
        if !self.failed {
            self.outputs.push_back(output);
        }
    }

    pub(super) fn poll_output(&mut self) -> Option<ChannelOutput> {
        let output = self.outputs.pop_front();
        if matches!(output, Some(ChannelOutput::Transmit(_))) {
            self.queued -= 1;
            if self.has_path && self.queued <= SEND_QUEUE_MAX / 2 {
                self.tell_writable(true);
            }
        }
        output
    }

    fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.push(ChannelOutput::Writable(writable));
        }
    }

    /// The path came or went.
    pub(super) fn tell_path(&mut self, has: bool) {
        if self.has_path != has {
            self.has_path = has;
            self.had_path |= has;
            self.push(ChannelOutput::Path(has));
            self.tell_writable(has);
        }
    }

    /// Nothing follows but what was received.
    pub(super) fn fail(&mut self, error: session_core::TransportError) {
        if self.failed {
            return;
        }
        self.tell_path(false);
        self.outputs.retain(|output| {
            matches!(
                output,
                ChannelOutput::Packet(_) | ChannelOutput::Path(_) | ChannelOutput::Writable(_)
            )
        });
        self.queued = 0;
        self.push(ChannelOutput::Failed(error));
        self.failed = true;
        self.relay_events.clear();
    }

    /// Gives back what it holds on relays; nothing else follows.
    pub(super) fn close(&mut self, now: Instant) {
        self.failed = false;
        self.outputs.clear();
        self.queued = 0;
        for number in 0..self.relays.len() {
            self.with_relay(number, |source| source.close(now));
        }
        self.outputs.retain(|output| {
            matches!(
                output,
                ChannelOutput::Transmit(_) | ChannelOutput::Write(..)
            )
        });
        self.failed = true;
        self.has_path = false;
        self.relays.clear();
        self.relay_events.clear();
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    pub(super) fn has_path(&self) -> bool {
        self.has_path
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let relays = self.relays.iter().filter(|relay| !relay.failed);
        let sockets = self.sockets.iter().filter_map(|socket| socket.again_at);
        let relays = relays.filter_map(|relay| relay.source.poll_timeout());
        relays.chain(sockets).min()
    }
}
