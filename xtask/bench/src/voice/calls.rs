//! How many endpoints of calls one thread serves, with a socket of the kernel for each: frames leave when they are due,
//! and what arrives is taken when the kernel says so. No codec.

use super::{Call, FRAME, ours::Phones};
use cpu_time::ThreadTime;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
};
use std::{
    io::ErrorKind,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

/// Endpoints: what is promised for one core.
const ENDPOINTS: usize = 2_200;
/// The most that a frame may be late, but for one in a hundred.
const LATE: f64 = 10.0;
/// What is measured, and what comes before it.
const TIME: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(2);

/// A call over two sockets, and when each side speaks next, since the beginning.
struct Line {
    phones: Phones,
    sockets: [UdpSocket; 2],
    next: [Duration; 2],
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
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("a kernel with epoll");
    let mut lines: Vec<Line> = (0..ENDPOINTS / 2)
        .map(|number| Line::new(number, &epoll))
        .collect();
    let begun: Vec<Instant> = lines
        .iter_mut()
        .map(|line| line.phones.room().now)
        .collect();
    let start = Instant::now();
    serve(&mut lines, &epoll, start, &begun, WARM_UP);
    let (cpu, from) = (ThreadTime::now(), start.elapsed());
    let mut counts = serve(&mut lines, &epoll, start, &begun, WARM_UP + TIME);
    let wall = (start.elapsed() - from).as_secs_f64();
    let busy = cpu.elapsed().as_secs_f64() / wall;
    let arrived = counts.heard as f64 / counts.sent as f64;
    assert!(arrived > 0.99, "{arrived} of the frames arrive");
    counts.late.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| counts.late[((counts.late.len() - 1) as f64 * share) as usize];
    // By what was heard, not by who was there: whoever is served too late is not served.
    let per_core = counts.heard as f64 * FRAME.as_secs_f64() / (busy * wall);
    println!(
        "bench {name} ours={per_core:.0} peer={ENDPOINTS} ratio={:.2} endpoints={ENDPOINTS} busy={:.0}% \
         late_p50={:.1}ms late_p99={:.1}ms reach={LATE}ms us_per_packet={:.2} peer_is=our-limit",
        per_core / ENDPOINTS as f64,
        100.0 * busy,
        at(0.5),
        at(0.99),
        1e6 * busy * wall / counts.heard as f64,
    );
}

impl Line {
    fn new(number: usize, epoll: &impl std::os::fd::AsFd) -> Self {
        let mut phones = Phones::connect(number);
        phones.room().carry();
        let socket = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let sockets = [socket(), socket()];
        for side in 0..2 {
            let peer = sockets[1 - side].local_addr().expect("bound");
            sockets[side].connect(peer).expect("it is there");
            sockets[side].set_nonblocking(true).expect("a socket");
            let data = epoll::EventData::new_u64((2 * number + side) as u64);
            let added = epoll::add(epoll, &sockets[side], data, epoll::EventFlags::IN);
            added.expect("room for one more");
        }
        // As evenly as callers are who know nothing of each other.
        let phase =
            |side: usize| FRAME * ((2 * number + side) * 617 % ENDPOINTS) as u32 / ENDPOINTS as u32;
        Self {
            phones,
            sockets,
            next: [phase(0), phase(1)],
        }
    }

    fn speak(&mut self, side: usize) {
        self.phones.speak(side);
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        let room = self.phones.room();
        room.drain(side);
        for (from, packet) in room.carried() {
            // What the kernel does not take is lost.
            let _ = self.sockets[from].send(&packet);
        }
    }

    fn hear(&mut self, side: usize) -> usize {
        let mut buffer = [0; 2_048];
        loop {
            match self.sockets[side].recv(&mut buffer) {
                Ok(size) => {
                    let packet = bytes::Bytes::copy_from_slice(&buffer[..size]);
                    self.phones.room().deliver(side, packet);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.drain(side);
        self.phones.listen(side)
    }
}

/// Until so long after the beginning.
fn serve(
    lines: &mut [Line],
    epoll: &impl std::os::fd::AsFd,
    start: Instant,
    begun: &[Instant],
    until: Duration,
) -> Counts {
    let mut counts = Counts::default();
    // Whoever is due first, first: everybody speaks once in each frame, always in the same order.
    let mut order: Vec<(usize, usize)> =
        (0..lines.len()).flat_map(|at| [(at, 0), (at, 1)]).collect();
    order.sort_unstable_by_key(|(at, side)| lines[*at].next[*side]);
    let mut turn = 0;
    let mut events: Vec<epoll::Event> = Vec::with_capacity(256);
    loop {
        let mut now = start.elapsed();
        if now >= until {
            return counts;
        }
        for _ in 0..256 {
            let (at, side) = order[turn];
            let line = &mut lines[at];
            let due = line.next[side];
            if due > now {
                break;
            }
            let room = line.phones.room();
            room.now = begun[at] + now;
            if room.due(side).is_some_and(|due| due <= room.now) {
                room.wake();
            }
            line.speak(side);
            now = start.elapsed();
            counts.late.push((now - due).as_secs_f64() * 1e3);
            counts.sent += 1;
            line.next[side] = due + FRAME;
            turn = (turn + 1) % order.len();
        }
        let (at, side) = order[turn];
        let wait = lines[at].next[side].saturating_sub(start.elapsed());
        let wait = Timespec::try_from(wait).expect("a frame is short");
        events.clear();
        epoll::wait(epoll, spare_capacity(&mut events), Some(&wait)).expect("ours");
        let now = start.elapsed();
        for event in &events {
            let number = event.data.u64() as usize;
            let line = &mut lines[number / 2];
            line.phones.room().now = begun[number / 2] + now;
            counts.heard += line.hear(number % 2) as u64;
        }
    }
}
