//! Connections: in order, whole, and late.

use super::{CONNECT_TIMEOUT, Delivery, Happening, Network, Socket, SocketKey, SocketRole};
use crate::{LocalSocket, SocketError, StreamEvent};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Two sides; `to[side]` is what travels to it.
#[derive(Debug)]
pub(super) struct Connection<K> {
    pub(super) keys: [Option<K>; 2],
    hosts: [usize; 2],
    pub(super) to: [Pipe; 2],
}

#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Waits for the link.
    held: VecDeque<Piece>,
    /// Bytes that have not left.
    pub(super) waiting: usize,
    busy_until: Option<Instant>,
    row_until: Option<Instant>,
    finished: bool,
    /// Its reader does not read.
    pub(super) is_held: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Data(Bytes),
    /// Nothing more comes, and the sender still reads.
    Shutdown,
    End,
}

impl<K: SocketKey> Network<K> {
    /// A connection attempt arrives where it is meant for.
    pub(super) fn accept(&mut self, key: K, host: usize, to: SocketAddr, now: Instant) {
        let Some(attempt) = self.connecting.iter().position(|other| *other == key) else {
            // It was closed meanwhile.
            return;
        };
        self.connecting.swap_remove(attempt);
        let listener = self.listeners.get(&to).copied();
        let listening = listener.and_then(|key| Some((key, self.sockets.get_mut(&key)?)));
        let Some((listener, socket)) = listening else {
            self.connection_failed(key, "connection refused", now + self.conditions.delay);
            return;
        };
        let other = socket.host;
        if self.cut.contains(&(host, other)) || self.cut.contains(&(other, host)) {
            self.connection_failed(key, "timed out", now + CONNECT_TIMEOUT);
            return;
        }
        let SocketRole::Listener { accepted } = &mut socket.role else {
            return;
        };
        let number = LocalSocket(LocalSocket::FIRST_ACCEPTED + *accepted);
        *accepted += 1;
        let near = SocketAddr::new(Self::address_of(host), self.free_port());
        let accepted_key = listener.accepted(number);
        let connection = self.connections.len();
        for (side, (key, host, reached_at)) in [(key, host, near), (accepted_key, other, to)]
            .into_iter()
            .enumerate()
        {
            let role = SocketRole::Stream { connection, side };
            let socket = Socket {
                host,
                reached_at,
                role,
            };
            self.sockets.insert(key, socket);
        }
        self.connections.push(Connection {
            keys: [Some(key), Some(accepted_key)],
            hosts: [host, other],
            to: [Pipe::default(), Pipe::default()],
        });
        let event = StreamEvent::Accepted {
            connection: number,
            remote: near,
        };
        self.arrived.push_back((listener, Delivery::Stream(event)));
        let connected = Delivery::Stream(StreamEvent::Connected(Ok(near)));
        let at = now + self.conditions.delay;
        self.connections[connection].to[0].row_until = Some(at);
        self.agenda.push(at, Happening::Deliver(key, connected));
    }

    pub(super) fn connection_failed(&mut self, key: K, why: &str, at: Instant) {
        let error = SocketError {
            what: "connect",
            why: why.into(),
        };
        let failed = Delivery::Stream(StreamEvent::Connected(Err(error)));
        self.agenda.push(at, Happening::Deliver(key, failed));
    }

    pub(super) fn write_piece(&mut self, key: K, piece: Piece, now: Instant) {
        let Some(SocketRole::Stream { connection, side }) =
            self.sockets.get(&key).map(|socket| socket.role)
        else {
            return;
        };
        let pipe = &mut self.connections[connection].to[1 - side];
        if pipe.finished {
            return;
        }
        match &piece {
            Piece::Data(bytes) => pipe.waiting += bytes.len(),
            Piece::Shutdown | Piece::End => pipe.finished = true,
        }
        pipe.held.push_back(piece);
        self.pump(connection, 1 - side, now);
    }

    /// Sends what is held, unless the link is cut or nobody reads.
    pub(super) fn pump(&mut self, connection: usize, to: usize, now: Instant) {
        let end = &mut self.connections[connection];
        if end.to[to].is_held || self.cut.contains(&(end.hosts[1 - to], end.hosts[to])) {
            return;
        }
        let pipe = &mut end.to[to];
        let mut written = false;
        while let Some(piece) = pipe.held.pop_front() {
            let bytes = match &piece {
                Piece::Data(bytes) => bytes.len(),
                Piece::Shutdown | Piece::End => 0,
            };
            let mut departure = pipe.busy_until.map_or(now, |busy| busy.max(now));
            if let Some(rate) = self.conditions.rate {
                departure += Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            }
            pipe.busy_until = Some(departure);
            written |= bytes > 0;
            if departure > now && bytes > 0 {
                let departed = Happening::Departed {
                    connection,
                    to,
                    bytes,
                };
                self.agenda.push(departure, departed);
            } else {
                pipe.waiting -= bytes;
            }
            let arrival = departure + self.conditions.delay;
            let arrival = pipe.row_until.map_or(arrival, |row| row.max(arrival));
            pipe.row_until = Some(arrival);
            let arrived = Happening::Arrived {
                connection,
                to,
                piece,
            };
            self.agenda.push(arrival, arrived);
        }
        let waiting = pipe.waiting;
        if written {
            self.tell(connection, 1 - to, StreamEvent::Buffered(waiting), now);
        }
    }

    pub(super) fn tell(
        &mut self,
        connection: usize,
        side: usize,
        event: StreamEvent,
        now: Instant,
    ) {
        if let Some(key) = self.connections[connection].keys[side] {
            let delivery = Delivery::Stream(event);
            self.agenda.push(now, Happening::Deliver(key, delivery));
        }
    }
}
