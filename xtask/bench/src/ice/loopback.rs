//! Over loopback, with sockets and the real clock: from the start until both sides have selected.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use sansio::Protocol as _;
use session_core::{Datagram, LocalSocket, Role};
use transport_p2p::{Agent, ice::IceConfig, ice::Output};

use super::rtc_agents;

/// Establishments of each, in turn.
const RUNS: usize = 1_000;
/// One that takes longer counts as this.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) fn loopback(name: &str) {
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(ours_once());
        peer.push(peer_once());
    }
    let (ours, peer) = (Summary::new(ours), Summary::new(peer));
    println!(
        "bench {name} ours={:.3}ms peer={:.3}ms ratio={:.2} ours_p99={:.3}ms peer_p99={:.3}ms",
        ours.median,
        peer.median,
        peer.median / ours.median,
        ours.p99,
        peer.p99,
    );
}

/// In milliseconds.
struct Summary {
    median: f64,
    p99: f64,
}

impl Summary {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
        Self {
            median: at(50),
            p99: at(99),
        }
    }
}

pub(super) fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.set_nonblocking(true).expect("an option");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

/// Two of our agents and their sockets, one each.
pub(super) struct Ours {
    pub(super) agents: [Agent; 2],
    pub(super) sockets: [(UdpSocket, SocketAddr); 2],
    pub(super) number: LocalSocket,
}

impl Ours {
    fn new() -> Self {
        let agent = |role, seed| {
            let config = IceConfig::new(vec![Ipv4Addr::LOCALHOST.into()]);
            Agent::new(config, role, [seed; 32])
        };
        Self {
            agents: [agent(Role::Initiator, 1), agent(Role::Responder, 2)],
            sockets: [socket(), socket()],
            number: LocalSocket(0),
        }
    }

    /// Until both have nominated, or the limit.
    pub(super) fn connect() -> (Self, Duration) {
        let mut this = Self::new();
        let start = Instant::now();
        for end in 0..2 {
            let credentials = this.agents[1 - end].local_credentials().clone();
            this.agents[end].set_remote_credentials(credentials, start);
            this.agents[end].gather(start);
        }
        while !this.agents.iter().all(|agent| agent.is_nominated(1)) && start.elapsed() < LIMIT {
            for end in 0..2 {
                this.drain(end);
                this.receive(end);
                let now = Instant::now();
                if this.agents[end].poll_timeout().is_some_and(|at| at <= now) {
                    this.agents[end].handle_timeout(now);
                }
            }
        }
        let took = start.elapsed();
        for end in [0, 1, 0, 1] {
            this.drain(end);
            this.receive(end);
        }
        (this, took)
    }

    fn drain(&mut self, end: usize) {
        let now = Instant::now();
        while let Some(output) = self.agents[end].poll_output() {
            match output {
                Output::Bind(number, ..) => {
                    self.number = number;
                    let address = self.sockets[end].1;
                    self.agents[end].handle_bound(number, Ok(address), now);
                }
                Output::Candidate(candidate) => {
                    self.agents[1 - end].add_remote_candidate(candidate, now);
                }
                Output::Transmit(transmit) => {
                    let socket = &self.sockets[end].0;
                    let _ = socket.send_to(&transmit.payload, transmit.destination);
                }
                _ => {}
            }
        }
    }

    fn receive(&mut self, end: usize) {
        let mut buffer = [0; 2_048];
        while let Ok((size, source)) = self.sockets[end].0.recv_from(&mut buffer) {
            let datagram = Datagram {
                socket: self.number,
                source,
                payload: Bytes::copy_from_slice(&buffer[..size]),
                segment_size: 0,
            };
            self.agents[end].handle_datagram(datagram, Instant::now());
            self.drain(end);
        }
    }
}

fn ours_once() -> Duration {
    Ours::connect().1
}

fn peer_once() -> Duration {
    let sockets = [socket(), socket()];
    let start = Instant::now();
    let candidates = [[sockets[0].1], [sockets[1].1]];
    let mut agents = rtc_agents::Agents::start([&candidates[0], &candidates[1]], start);
    let mut buffer = [0; 2_048];
    while agents.selected != [true; 2] && start.elapsed() < LIMIT {
        for (end, (socket, local)) in sockets.iter().enumerate() {
            send(&mut agents, end, socket);
            while let Ok((size, source)) = socket.recv_from(&mut buffer) {
                let bytes = BytesMut::from(&buffer[..size]);
                let message = rtc_agents::received(Instant::now(), *local, source, bytes);
                let _ = agents.ends[end].handle_read(message);
                send(&mut agents, end, socket);
            }
            let now = Instant::now();
            if agents.ends[end].poll_timeout().is_some_and(|at| at <= now) {
                let _ = agents.ends[end].handle_timeout(now);
            }
        }
    }
    start.elapsed()
}

fn send(agents: &mut rtc_agents::Agents, end: usize, socket: &UdpSocket) {
    while let Some(message) = agents.ends[end].poll_write() {
        let _ = socket.send_to(&message.message, message.transport.peer_addr);
    }
    agents.hear(end);
}
