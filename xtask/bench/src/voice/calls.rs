//! How many endpoints of calls one thread serves, with a socket of the kernel for each: frames leave when they are due,
//! and what arrives is taken when the kernel says so. No codec.

use super::{Calls, FRAME, PAYLOAD, ours::Phones};
use cpu_time::ThreadTime;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use session_core::{SessionId, SocketId};
use std::{
    collections::HashMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// Endpoints: what is promised for one core.
const ENDPOINTS: usize = 2_200;
/// The most that a frame may be late, but for one in a hundred.
const LATE: f64 = 10.0;
/// What is measured, and what comes before it.
const TIME: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);

/// Bytes of a packet with its header and its tag.
const PACKET: usize = 12 + PAYLOAD + 16;
/// Times that each socket sends and receives, to see what the kernel takes.
const ROUNDS: usize = 50;
/// Calls between two questions to the kernel what has come.
const AT_ONCE: usize = 8;

/// All calls, of which each has two sockets.
struct Exchange {
    phones: Phones,
    lines: Vec<[Line; 2]>,
    /// Whose line a session is.
    places: [HashMap<SessionId, usize>; 2],
    epoll: OwnedFd,
    /// What the room's clock said when it was begun to serve.
    begun: Instant,
}

/// One side of a call.
struct Line {
    socket: UdpSocket,
    /// The socket as the manager knows it, and the peer's address there.
    id: SocketId,
    peer: SocketAddr,
    /// When this side speaks next, since the beginning.
    next: Duration,
}

/// What has happened.
#[derive(Default)]
struct Counts {
    sent: u64,
    heard: u64,
    /// By how many milliseconds each frame left too late.
    late: Vec<f64>,
}

pub(super) fn calls(name: &str) {
    crate::measure::allow_sockets();
    let mut exchange = Exchange::new();
    let start = Instant::now();
    exchange.serve(start, WARM_UP);
    let (cpu, from) = (ThreadTime::now(), start.elapsed());
    let mut counts = exchange.serve(start, WARM_UP + TIME);
    let wall = (start.elapsed() - from).as_secs_f64();
    let busy = cpu.elapsed().as_secs_f64() / wall;
    let arrived = counts.heard as f64 / counts.sent as f64;
    let kernel = exchange.kernel();
    counts.late.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| counts.late[((counts.late.len() - 1) as f64 * share) as usize];
    // By what was heard, not by who was there: whoever is served too late is not served.
    let per_core = counts.heard as f64 * FRAME.as_secs_f64() / (busy * wall);
    println!(
        "bench {name} ours={per_core:.0} peer={ENDPOINTS} ratio={:.2} endpoints={ENDPOINTS} busy={:.0}% \
         heard={:.1}% late_p50={:.1}ms late_p99={:.1}ms reach={LATE}ms us_per_packet={:.2} \
         us_of_kernel_alone={kernel:.2} peer_is=our-limit",
        per_core / ENDPOINTS as f64,
        100.0 * busy,
        100.0 * arrived,
        at(0.5),
        at(0.99),
        1e6 * busy * wall / counts.heard as f64,
    );
    assert!(
        arrived > 0.99,
        "{:.1} % of the frames were heard in time, and 99 % should be: the machine is too slow for {ENDPOINTS} endpoints now. Try \
         again when nothing else runs, and compare us_of_kernel_alone",
        100.0 * arrived
    );
}

impl Exchange {
    fn new() -> Self {
        let mut phones = Phones::connect(ENDPOINTS / 2);
        let places = [0, 1]
            .map(|side| (0..).zip(phones.sessions(side)))
            .map(|sessions| sessions.map(|(at, session)| (session, at)).collect());
        let places: [HashMap<SessionId, usize>; 2] = places;
        phones.room().carry();
        let known = [0, 1].map(|side| {
            let sockets = phones.room().sockets(side);
            let sockets = sockets.map(|(id, address)| (places[side][&id.session()], (id, address)));
            sockets.collect::<HashMap<_, _>>()
        });
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a kernel with epoll");
        let lines = (0..ENDPOINTS / 2).map(|at| {
            let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
            let mut sockets = [Some(socket()), Some(socket())];
            let addresses = sockets.each_ref().map(|socket| {
                let socket = socket.as_ref().expect("just made");
                socket.local_addr().expect("bound")
            });
            [0, 1].map(|side| {
                let socket = sockets[side].take().expect("once");
                socket.connect(addresses[1 - side]).expect("it is there");
                socket.set_nonblocking(true).expect("a socket");
                let number = 2 * at + side;
                let data = epoll::EventData::new_u64(number as u64);
                let added = epoll::add(&epoll, &socket, data, epoll::EventFlags::IN);
                added.expect("room for one more");
                Line {
                    socket,
                    id: known[side][&at].0,
                    peer: known[1 - side][&at].1,
                    // As evenly as callers are who know nothing of each other.
                    next: FRAME * (number * 617 % ENDPOINTS) as u32 / ENDPOINTS as u32,
                }
            })
        });
        let lines = lines.collect();
        let begun = phones.room().now;
        Self {
            begun,
            phones,
            lines,
            places,
            epoll,
        }
    }

    /// What one side has to say leaves.
    fn drain(&mut self, side: usize) {
        let room = self.phones.room();
        room.drain(side);
        for carried in room.carried() {
            let at = self.places[carried.side][&carried.socket.session()];
            // What the kernel does not take is lost.
            let _ = self.lines[at][carried.side].socket.send(&carried.payload);
        }
    }

    fn speak(&mut self, at: usize, side: usize) {
        let room = self.phones.room();
        if room.due(side).is_some_and(|due| due <= room.now) {
            room.wake();
        }
        self.phones.speak(at, side);
        self.drain(side);
    }

    fn hear(&mut self, at: usize, side: usize) -> usize {
        let mut buffer = [0; 2_048];
        let line = &self.lines[at][side];
        // One at a time, which is what there is, most often: the kernel says so again if there is more.
        match line.socket.recv(&mut buffer) {
            Ok(size) => {
                let packet = bytes::Bytes::copy_from_slice(&buffer[..size]);
                self.phones.room().deliver(side, line.id, line.peer, packet);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        self.drain(side);
        self.phones.listen(at, side)
    }

    /// The microseconds that the kernel takes for a packet in and out by these sockets, with nobody above them: a large part
    /// of what a packet costs, which differs much between machines.
    fn kernel(&mut self) -> f64 {
        let (packet, mut buffer) = ([0; PACKET], [0; 2_048]);
        // What is still on its way is nobody's any more.
        for line in self.lines.iter().flatten() {
            while line.socket.recv(&mut buffer).is_ok() {}
        }
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        let patience = Timespec::try_from(Duration::from_secs(1)).expect("short");
        let start = ThreadTime::now();
        for calls in (0..ROUNDS).flat_map(|_| self.lines.chunks(AT_ONCE)) {
            for line in calls.iter().flatten() {
                line.socket.send(&packet).expect("room for a packet");
            }
            let mut missing = 2 * calls.len();
            while missing > 0 {
                events.clear();
                let room = spare_capacity(&mut events);
                let count = epoll::wait(&self.epoll, room, Some(&patience)).expect("ours");
                assert!(count > 0, "the kernel loses nothing on its way to itself");
                for event in &events {
                    let number = event.data.u64() as usize;
                    let line = &self.lines[number / 2][number % 2];
                    line.socket.recv(&mut buffer).expect("the kernel says so");
                    missing -= 1;
                }
            }
        }
        let time = start.elapsed().as_secs_f64();
        1e6 * time / (ROUNDS * 2 * self.lines.len()) as f64
    }

    /// Until so long after the beginning.
    fn serve(&mut self, start: Instant, until: Duration) -> Counts {
        let mut counts = Counts::default();
        let begun = self.begun;
        // Whoever is due first, first: everybody speaks once in each frame, always in the same order.
        let mut order: Vec<(usize, usize)> = (0..self.lines.len())
            .flat_map(|at| [(at, 0), (at, 1)])
            .collect();
        order.sort_unstable_by_key(|&(at, side)| self.lines[at][side].next);
        let mut turn = 0;
        let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
        loop {
            let mut now = start.elapsed();
            if now >= until {
                return counts;
            }
            for _ in 0..256 {
                let (at, side) = order[turn];
                let due = self.lines[at][side].next;
                if due > now {
                    break;
                }
                turn = (turn + 1) % order.len();
                self.phones.prefetch(order[turn].0, order[turn].1);
                self.phones.room().now = begun + now;
                self.speak(at, side);
                now = start.elapsed();
                counts.late.push((now - due).as_secs_f64() * 1e3);
                counts.sent += 1;
                self.lines[at][side].next = due + FRAME;
            }
            let (at, side) = order[turn];
            let wait = self.lines[at][side].next.saturating_sub(start.elapsed());
            let wait = Timespec::try_from(wait).expect("a frame is short");
            events.clear();
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&wait)).expect("ours");
            self.phones.room().now = begun + start.elapsed();
            let numbers = |event: &epoll::Event| event.data.u64() as usize;
            for (at, event) in events.iter().enumerate() {
                if let Some(next) = events.get(at + 1).map(numbers) {
                    self.phones.prefetch(next / 2, next % 2);
                }
                let number = numbers(event);
                counts.heard += self.hear(number / 2, number % 2) as u64;
            }
        }
    }
}
