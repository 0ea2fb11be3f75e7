//! Two managers that hear each other, without sockets and on a clock of their own: nothing is lost, nothing takes time.

use bytes::Bytes;
use session_core::{Finding, Input, Output, SessionManager, SocketId};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

pub(crate) struct Room {
    pub(crate) sides: [SessionManager; 2],
    pub(crate) now: Instant,
    /// Whose each address is, by the number that is in it.
    sockets: Vec<Option<Plug>>,
    addresses: HashMap<(usize, SocketId), SocketAddr>,
    /// Where datagrams go instead, if somebody carries them.
    carried: Option<Vec<Carried>>,
    /// When each wants to be called again.
    waits: [Option<Instant>; 2],
}

/// A socket of one side.
struct Plug {
    socket: SocketId,
    side: u8,
    /// The number of who sent to it last, so that it need not be looked for among all.
    heard: u32,
}

/// A datagram that somebody carries: the side and the socket that it comes from.
pub(crate) struct Carried {
    pub(crate) side: usize,
    pub(crate) socket: SocketId,
    pub(crate) payload: Bytes,
}

impl Room {
    pub(crate) fn new(sides: [SessionManager; 2], now: Instant) -> Self {
        Self {
            sides,
            now,
            sockets: Vec::new(),
            addresses: HashMap::new(),
            carried: None,
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
        self.sockets = Vec::new();
        self.addresses = HashMap::new();
    }

    /// The sockets of one side, with their addresses, in no order.
    pub(crate) fn sockets(&self, side: usize) -> impl Iterator<Item = (SocketId, SocketAddr)> {
        let all = self.addresses.iter();
        all.filter(move |((at, _), _)| *at == side)
            .map(|((_, socket), address)| (*socket, *address))
    }

    /// From now on others carry the datagrams, of which each is one packet.
    pub(crate) fn carry(&mut self) {
        self.carried = Some(Vec::new());
    }

    /// What is to be carried.
    pub(crate) fn carried(&mut self) -> impl Iterator<Item = Carried> {
        self.carried
            .iter_mut()
            .flat_map(|carried| carried.drain(..))
    }

    /// A datagram was carried to one side.
    pub(crate) fn deliver(
        &mut self,
        side: usize,
        socket: SocketId,
        source: SocketAddr,
        payload: Bytes,
    ) {
        let input = Input::Datagram {
            socket,
            source,
            payload,
            segment_size: 0,
        };
        self.sides[side].handle_input(input, self.now);
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
                    if let Some(address) = self.addresses.remove(&(side, socket)) {
                        self.sockets[number_of(address)] = None;
                    }
                }
                Output::Transmit {
                    socket,
                    destination,
                    payload,
                    segment_size,
                } => {
                    if let Some(carried) = &mut self.carried {
                        carried.push(Carried {
                            side,
                            socket,
                            payload,
                        });
                        continue;
                    }
                    if let Some((side, target, source)) = self.route(side, socket, destination) {
                        let input = Input::Datagram {
                            socket: target,
                            source,
                            payload,
                            segment_size,
                        };
                        self.sides[side].handle_input(input, now);
                    }
                }
                other => unreachable!("{other:?}"),
            }
            busy = true;
        }
    }

    /// Whose socket it is that something is sent to, and from where it comes.
    fn route(
        &mut self,
        side: usize,
        socket: SocketId,
        destination: SocketAddr,
    ) -> Option<(usize, SocketId, SocketAddr)> {
        let target = number_of(destination);
        let heard = self.sockets.get(target)?.as_ref()?.heard;
        let is_same = |plug: &Plug| usize::from(plug.side) == side && plug.socket == socket;
        let known = self.sockets.get(heard as usize).and_then(Option::as_ref);
        let source = match known {
            Some(plug) if is_same(plug) => address_of(heard),
            Some(_) | None => self.addresses[&(side, socket)],
        };
        let plug = self.sockets.get_mut(target)?.as_mut()?;
        plug.heard = number_of(source) as u32;
        Some((usize::from(plug.side), plug.socket, source))
    }

    fn bind(&mut self, side: usize, socket: SocketId) {
        let address = address_of(self.sockets.len() as u32);
        self.sockets.push(Some(Plug {
            socket,
            side: side as u8,
            heard: u32::MAX,
        }));
        self.addresses.insert((side, socket), address);
        let input = Input::Bound {
            socket,
            address: Ok(address),
        };
        self.sides[side].handle_input(input, self.now);
    }
}

fn address_of(number: u32) -> SocketAddr {
    let [a, b, c, d] = number.to_be_bytes();
    SocketAddr::from(([10, a, b, c], 1024 + u16::from(d)))
}

/// The number that an address of the room has in it.
fn number_of(address: SocketAddr) -> usize {
    match address.ip() {
        IpAddr::V4(ip) => {
            let [_, a, b, c] = ip.octets();
            let d = address.port().wrapping_sub(1024) as u8;
            u32::from_be_bytes([a, b, c, d]) as usize
        }
        IpAddr::V6(_) => usize::MAX,
    }
}
