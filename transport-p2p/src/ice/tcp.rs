//! Datagrams over TCP connections (RFC 6544): their framing (RFC 4571 §2), and the connections of a component.

use super::seldom::Nothing;
use super::{component::Component, pair::Base};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use session_core::{Batch, ChannelOutput, LocalSocket, StreamTarget};
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// The first number of a connection that we open. Sockets and those of relays have lower ones.
const FIRST_CONNECTION: u32 = 1 << 18;
/// Connections that others opened and that have not shown to be the peer's.
const STRANGERS_MAX: usize = 16;
/// Bytes that wait to leave before datagrams are dropped, as a full socket would.
const BUFFERED_MAX: usize = 1 << 18;
/// How often a simultaneous open is tried again. Where no firewall swallows what comes too early, it is refused.
const SIMULTANEOUS_TRIES: u8 = 8;
/// A refusal that comes within this time is an answer of the other side's system.
const PROMPT: Duration = Duration::from_secs(1);
/// Bytes before each datagram: its length.
const HEADER: usize = 2;

/// A TCP connection that carries datagrams.
pub(super) struct Connection {
    pub(super) number: LocalSocket,
    /// The local candidate that it belongs to: [`Base::TcpActive`], [`Base::TcpPassive`] or [`Base::TcpSimultaneous`].
    pub(super) origin: Base,
    pub(super) remote: SocketAddr,
    pub(super) state: ConnectionState,
    /// The port of ours that the peer knows, of a simultaneous open, and how often it may be tried again.
    from: Option<SocketAddr>,
    tries: u8,
    /// When the attempt began that is under way.
    begun: Option<Instant>,
    inbox: BytesMut,
    /// Bytes written that have not left.
    buffered: usize,
}

pub(super) enum ConnectionState {
    /// Opened with the first check, which then waits.
    Idle,
    Connecting(Bytes),
    Open,
}

/// A listener for connections of the peer, or a port from which connections are opened.
pub(super) struct Listener {
    pub(super) number: LocalSocket,
    pub(super) ip: IpAddr,
}

/// TCP of a component.
#[derive(Default)]
pub(super) struct Tcp {
    pub(super) listeners: Vec<Listener>,
    /// Ports from which both sides connect at once.
    pub(super) reserved: Vec<Listener>,
    pub(super) connections: Vec<Connection>,
    opened: u32,
}

impl Nothing for Tcp {
    fn nothing() -> &'static Self {
        static NOTHING: Tcp = Tcp {
            listeners: Vec::new(),
            reserved: Vec::new(),
            connections: Vec::new(),
            opened: 0,
        };
        &NOTHING
    }
}

impl Connection {
    fn new(number: LocalSocket, origin: Base, remote: SocketAddr, state: ConnectionState) -> Self {
        Self {
            number,
            origin,
            remote,
            state,
            from: None,
            tries: 0,
            begun: None,
            inbox: BytesMut::new(),
            buffered: 0,
        }
    }

    /// The next datagram of what has arrived.
    pub(super) fn next_datagram(&mut self) -> Option<Bytes> {
        let length = usize::from(u16::from_be_bytes(*self.inbox.first_chunk::<HEADER>()?));
        if self.inbox.len() < HEADER + length {
            return None;
        }
        self.inbox.advance(HEADER);
        Some(self.inbox.split_to(length).freeze())
    }

    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.inbox.extend_from_slice(bytes);
    }

    pub(super) fn left(&mut self, buffered: usize) {
        self.buffered = buffered;
    }
}

/// Datagrams, each behind its length (RFC 4571 §2). What is longer than that can say is left out.
fn frame(batch: Batch) -> Bytes {
    let count = batch.len();
    let mut bytes = BytesMut::with_capacity(batch.payload.len() + count * HEADER);
    for packet in batch {
        if let Ok(length) = u16::try_from(packet.len()) {
            bytes.put_u16(length);
            bytes.put_slice(&packet);
        }
    }
    bytes.freeze()
}

impl Component {
    /// A connection to be opened with the first check.
    pub(super) fn prepare_connection(
        &mut self,
        origin: Base,
        from: SocketAddr,
        remote: SocketAddr,
    ) -> Base {
        let number = LocalSocket(FIRST_CONNECTION + self.tcp.opened);
        self.tcp.opened += 1;
        let mut connection = Connection::new(number, origin, remote, ConnectionState::Idle);
        if matches!(origin, Base::TcpSimultaneous(_)) {
            connection.from = Some(from);
            connection.tries = SIMULTANEOUS_TRIES;
        }
        self.tcp.connections.push(connection);
        Base::Tcp(number)
    }

    /// Somebody connected to a listener. Too many of whom nobody knows who they are: the oldest goes.
    pub(super) fn accept(
        &mut self,
        listener: LocalSocket,
        number: LocalSocket,
        remote: SocketAddr,
        is_known: impl Fn(Base) -> bool,
    ) {
        let origin = Base::TcpPassive(listener);
        let strange = |c: &&Connection| {
            matches!(c.origin, Base::TcpPassive(_)) && !is_known(Base::Tcp(c.number))
        };
        if self.tcp.connections.iter().filter(strange).count() >= STRANGERS_MAX
            && let Some(oldest) = self.tcp.connections.iter().find(strange)
        {
            let oldest = oldest.number;
            self.close_connection(oldest);
        }
        let connection = Connection::new(number, origin, remote, ConnectionState::Open);
        self.tcp.connections.push(connection);
    }

    pub(super) fn connection(&mut self, number: LocalSocket) -> Option<&mut Connection> {
        let mut connections = self.tcp.connections.iter_mut();
        connections.find(|connection| connection.number == number)
    }

    pub(super) fn close_connection(&mut self, number: LocalSocket) {
        let gone = self.tcp.connections.iter().position(|c| c.number == number);
        if let Some(at) = gone {
            let connection = self.tcp.connections.remove(at);
            if !matches!(connection.state, ConnectionState::Idle) {
                self.push(ChannelOutput::Close(number));
            }
        }
    }

    /// Closes the connections that we opened and that nobody uses.
    pub(super) fn close_connections(&mut self, is_used: impl Fn(Base) -> bool) {
        let path = self.path.as_ref().map(|path| path.base);
        let unused: Vec<_> = self
            .tcp
            .connections
            .iter()
            .filter(|c| matches!(c.origin, Base::TcpActive(_) | Base::TcpSimultaneous(_)))
            .map(|c| c.number)
            .filter(|number| !is_used(Base::Tcp(*number)) && path != Some(Base::Tcp(*number)))
            .collect();
        for number in unused {
            self.close_connection(number);
        }
    }

    /// The local candidate's base of what leaves from here.
    pub(super) fn origin_of(&self, base: Base) -> Base {
        let Base::Tcp(number) = base else {
            return base;
        };
        let mut connections = self.tcp.connections.iter();
        let known = connections.find(|connection| connection.number == number);
        known.map_or(base, |connection| connection.origin)
    }

    /// Sends datagrams over a connection, which is opened if need be; then only the last of them waits.
    pub(super) fn write_datagrams(&mut self, number: LocalSocket, batch: Batch, now: Instant) {
        let Some(connection) = self.connection(number) else {
            return;
        };
        let bytes = frame(batch);
        match &mut connection.state {
            ConnectionState::Idle => {
                connection.state = ConnectionState::Connecting(bytes);
                connection.begun = Some(now);
                let target = StreamTarget {
                    from: connection.from,
                    ..StreamTarget::new(connection.remote)
                };
                self.push(ChannelOutput::Connect(number, target));
            }
            ConnectionState::Connecting(waiting) => *waiting = bytes,
            ConnectionState::Open if connection.buffered >= BUFFERED_MAX => {}
            ConnectionState::Open => {
                connection.buffered += bytes.len();
                self.push(ChannelOutput::Write(number, bytes));
            }
        }
    }

    /// The connection did not come about; whether it is tried once more with the next check. The other side may not have
    /// been as far, and its system said so, at once. Silence is not asked again.
    pub(super) fn reopen(&mut self, number: LocalSocket, now: Instant) -> bool {
        let Some(connection) = self.connection(number) else {
            return false;
        };
        let prompt = |begun: Instant| now.saturating_duration_since(begun) < PROMPT;
        if connection.tries == 0
            || !matches!(connection.state, ConnectionState::Connecting(_))
            || !connection.begun.is_some_and(prompt)
        {
            return false;
        }
        connection.tries -= 1;
        connection.state = ConnectionState::Idle;
        self.push(ChannelOutput::Close(number));
        true
    }

    /// The connection stands: what waited leaves.
    pub(super) fn connection_opened(&mut self, number: LocalSocket) {
        let Some(connection) = self.connection(number) else {
            return;
        };
        let before = std::mem::replace(&mut connection.state, ConnectionState::Open);
        if let ConnectionState::Connecting(bytes) = before {
            connection.buffered += bytes.len();
            self.push(ChannelOutput::Write(number, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn connection() -> Connection {
        let number = LocalSocket(FIRST_CONNECTION);
        let remote = SocketAddr::from(([192, 0, 2, 1], 9));
        Connection::new(
            number,
            Base::TcpActive(number),
            remote,
            ConnectionState::Open,
        )
    }

    proptest! {
        #[test]
        fn datagrams_arrive_whole_in_whatever_pieces(
            packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            cuts in prop::collection::vec(1..20_usize, 1..8),
        ) {
            let mut bytes = BytesMut::new();
            for packet in &packets {
                bytes.extend_from_slice(&frame(Bytes::copy_from_slice(packet).into()));
            }
            let mut connection = connection();
            let mut arrived: VecDeque<Bytes> = VecDeque::new();
            for cut in cuts.iter().cycle() {
                if bytes.is_empty() {
                    break;
                }
                let cut = (*cut).min(bytes.len());
                connection.received(&bytes.split_to(cut));
                arrived.extend(std::iter::from_fn(|| connection.next_datagram()));
            }
            prop_assert_eq!(arrived, packets);
            prop_assert!(connection.inbox.is_empty());
        }
    }

    #[test]
    fn a_batch_is_framed_packet_by_packet() {
        let batch = Batch {
            payload: Bytes::from_static(b"abcde"),
            segment_size: 2,
        };
        assert_eq!(&frame(batch)[..], b"\0\x02ab\0\x02cd\0\x01e");
    }
}
