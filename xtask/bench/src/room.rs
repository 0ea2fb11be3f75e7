//! Two managers that hear each other, without sockets and on a clock of their own: nothing is lost, nothing takes time.

use bytes::Bytes;
use session_core::{Finding, Input, Output, SessionManager, SocketId};
use std::{net::SocketAddr, time::Instant};

pub(crate) struct Room {
    pub(crate) sides: [SessionManager; 2],
    pub(crate) now: Instant,
    /// Whose each is. There are few, and what this takes is not what is measured.
    sockets: Vec<(SocketAddr, usize, SocketId)>,
    /// Where datagrams go instead, if somebody carries them: each with the side that it comes from.
    carried: Option<Vec<(usize, Bytes)>>,
    next: u32,
    /// When each wants to be called again.
    waits: [Option<Instant>; 2],
}

impl Room {
    pub(crate) fn new(sides: [SessionManager; 2], now: Instant) -> Self {
        Self {
            sides,
            now,
            sockets: Vec::new(),
            carried: None,
            next: 0,
            waits: [None; 2],
        }
    }

    /// Until neither has anything left to say now.
    pub(crate) fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            for side in 0..2 {
                quiet = if self.drain(side) { 0 } else { quiet + 1 };
            }
        }
    }

    /// Lets the time pass, and both do what is due in it.
    pub(crate) fn advance(&mut self, until: Instant) {
        loop {
            self.run();
            let Some(at) = self.waits.iter().flatten().min().copied() else {
                break;
            };
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            self.wake();
        }
        self.now = until;
    }

    /// When one side wants to be called again.
    pub(crate) fn due(&self, side: usize) -> Option<Instant> {
        self.waits[side]
    }

    /// Both look at the clock.
    pub(crate) fn wake(&mut self) {
        for side in &mut self.sides {
            side.handle_input(Input::Timeout, self.now);
        }
    }

    /// Of addresses, which are no longer needed when what is measured lies idle.
    pub(crate) fn forget_addresses(&mut self) {
        self.sockets.clear();
    }

    /// From now on others carry the datagrams, of which each is one packet.
    pub(crate) fn carry(&mut self) {
        self.carried = Some(Vec::new());
    }

    /// What is to be carried.
    pub(crate) fn carried(&mut self) -> impl Iterator<Item = (usize, Bytes)> {
        self.carried
            .iter_mut()
            .flat_map(|carried| carried.drain(..))
    }

    /// A datagram of the other's first socket was carried to this side's.
    pub(crate) fn deliver(&mut self, side: usize, payload: Bytes) {
        let first = |side| self.sockets.iter().find(move |(_, at, _)| *at == side);
        if let (Some((_, _, socket)), Some((source, _, _))) = (first(side), first(1 - side)) {
            let input = Input::Datagram {
                socket: *socket,
                source: *source,
                payload,
                segment_size: 0,
            };
            self.sides[side].handle_input(input, self.now);
        }
    }

    /// What one side has to say now.
    pub(crate) fn drain(&mut self, side: usize) -> bool {
        let (now, other, mut busy) = (self.now, 1 - side, false);
        loop {
            match self.sides[side].poll_output(now) {
                Output::Wait(at) => {
                    self.waits[side] = at;
                    return busy;
                }
                Output::Message { id, message } => {
                    self.sides[other].handle_input(Input::Message { id, message }, now);
                }
                Output::Reply { id, reply, .. } => {
                    self.sides[other].handle_input(Input::Reply { id, reply }, now);
                }
                Output::Bind { socket, .. } => self.bind(side, socket),
                Output::Inquire { id, .. } => {
                    let finding = Finding::Unavailable;
                    let input = Input::Found {
                        inquiry: id,
                        finding,
                    };
                    self.sides[side].handle_input(input, now);
                }
                Output::Close { socket } => {
                    self.sockets
                        .retain(|(_, at, known)| (*at, *known) != (side, socket));
                }
                Output::Transmit {
                    socket,
                    destination,
                    payload,
                    segment_size,
                } => {
                    if let Some(carried) = &mut self.carried {
                        carried.push((side, payload));
                        continue;
                    }
                    let mut all = self.sockets.iter().copied();
                    let source = all
                        .clone()
                        .find(|(_, at, known)| (*at, *known) == (side, socket));
                    let target = all.find(|(address, _, _)| *address == destination);
                    if let (Some((source, _, _)), Some((_, to, socket))) = (source, target) {
                        let input = Input::Datagram {
                            socket,
                            source,
                            payload,
                            segment_size,
                        };
                        self.sides[to].handle_input(input, now);
                    }
                }
                other => unreachable!("{other:?}"),
            }
            busy = true;
        }
    }

    fn bind(&mut self, side: usize, socket: SocketId) {
        self.next += 1;
        let [a, b, c, d] = self.next.to_be_bytes();
        let address = SocketAddr::from(([10, a, b, c], 1024 + u16::from(d)));
        self.sockets.push((address, side, socket));
        let input = Input::Bound {
            socket,
            address: Ok(address),
        };
        self.sides[side].handle_input(input, self.now);
    }
}
