//! Two managers that hear each other, without sockets and on a clock of their own: nothing is lost, nothing takes time.

use session_core::{Finding, Input, Output, SessionManager, SocketId};
use std::{collections::BTreeMap, net::SocketAddr, time::Instant};

pub(crate) struct Room {
    pub(crate) sides: [SessionManager; 2],
    pub(crate) now: Instant,
    sockets: BTreeMap<SocketAddr, (usize, SocketId)>,
    addresses: BTreeMap<(usize, SocketId), SocketAddr>,
    next: u32,
    /// When each wants to be called again.
    waits: [Option<Instant>; 2],
}

impl Room {
    pub(crate) fn new(sides: [SessionManager; 2], now: Instant) -> Self {
        Self {
            sides,
            now,
            sockets: BTreeMap::new(),
            addresses: BTreeMap::new(),
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

    /// Both look at the clock.
    pub(crate) fn wake(&mut self) {
        for side in &mut self.sides {
            side.handle_input(Input::Timeout, self.now);
        }
    }

    /// Of addresses, which are no longer needed when what is measured lies idle.
    pub(crate) fn forget_addresses(&mut self) {
        self.sockets.clear();
        self.addresses.clear();
    }

    fn drain(&mut self, side: usize) -> bool {
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
                    if let Some(address) = self.addresses.remove(&(side, socket)) {
                        self.sockets.remove(&address);
                    }
                }
                Output::Transmit {
                    socket,
                    destination,
                    payload,
                    segment_size,
                } => {
                    let source = self.addresses.get(&(side, socket)).copied();
                    let target = self.sockets.get(&destination).copied();
                    if let (Some(source), Some((to, socket))) = (source, target) {
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
        self.sockets.insert(address, (side, socket));
        self.addresses.insert((side, socket), address);
        let input = Input::Bound {
            socket,
            address: Ok(address),
        };
        self.sides[side].handle_input(input, self.now);
    }
}
