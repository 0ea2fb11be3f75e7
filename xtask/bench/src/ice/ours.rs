//! Two of our agents in memory.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use session_core::{Datagram, LocalSocket, Role, Transmit};
use transport_p2p::{Agent, ice::IceConfig, ice::Output};

use super::{Reaches, address, arrives};

pub(super) struct Agents {
    ends: [End; 2],
    count: usize,
    reaches: Reaches,
    now: Instant,
    wire: VecDeque<(usize, SocketAddr, Transmit)>,
    /// Until both had a nominated pair.
    pub(super) took: Duration,
}

struct End {
    agent: Agent,
    sockets: Vec<(LocalSocket, SocketAddr)>,
}

impl Agents {
    /// Until both have nominated.
    pub(super) fn connect(count: usize, reaches: Reaches) -> Self {
        let now = Instant::now();
        let end = |number: usize, role| {
            let interfaces: Vec<IpAddr> = (0..count).map(|n| address(number, n).ip()).collect();
            let config = Arc::new(IceConfig::new(interfaces));
            End {
                agent: Agent::shared(config, role, [number as u8 + 1; 32], Waker::noop()),
                sockets: Vec::with_capacity(count),
            }
        };
        let mut agents = Self {
            ends: [end(0, Role::Initiator), end(1, Role::Responder)],
            count,
            reaches,
            now,
            wire: VecDeque::new(),
            took: Duration::ZERO,
        };
        for end in 0..2 {
            let credentials = agents.ends[1 - end].agent.local_credentials().clone();
            agents.ends[end]
                .agent
                .set_remote_credentials(credentials, now);
            agents.ends[end].agent.gather(now);
        }
        agents.drain();
        let limit = now + Duration::from_secs(60);
        while !agents.are_nominated() {
            assert!(agents.step(limit), "they must connect");
        }
        agents.took = agents.now.duration_since(now);
        agents
    }

    /// Lets this much time pass.
    pub(super) fn idle(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = until;
        // The network is nobody's heap.
        self.wire.shrink_to_fit();
    }

    fn are_nominated(&self) -> bool {
        self.ends.iter().all(|end| end.agent.is_nominated(1))
    }

    /// Delivers what is on its way, else lets time pass until something is due.
    fn step(&mut self, until: Instant) -> bool {
        if let Some((to, source, transmit)) = self.wire.pop_front() {
            let end = &mut self.ends[to];
            let at = |(_, at): &&(LocalSocket, SocketAddr)| *at == transmit.destination;
            if let Some((socket, _)) = end.sockets.iter().find(at)
                && arrives(
                    self.reaches,
                    self.count,
                    1 - to,
                    source,
                    transmit.destination,
                )
            {
                let datagram = Datagram {
                    socket: *socket,
                    source,
                    payload: transmit.payload,
                    segment_size: 0,
                };
                end.agent.handle_datagram(datagram, self.now);
                self.drain();
            }
            return true;
        }
        let next = self.ends.iter().filter_map(|end| end.agent.poll_timeout());
        let Some(at) = next.min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        for end in &mut self.ends {
            if end.agent.poll_timeout().is_some_and(|at| at <= self.now) {
                end.agent.handle_timeout(self.now);
            }
        }
        self.drain();
        true
    }

    fn drain(&mut self) {
        for number in [0, 1, 0] {
            while let Some(output) = self.ends[number].agent.poll_output() {
                let end = &mut self.ends[number];
                match output {
                    Output::Bind(socket, _, wanted) => {
                        let address = SocketAddr::new(wanted.ip(), 4_000);
                        end.sockets.push((socket, address));
                        end.agent.handle_bound(socket, Ok(address), self.now);
                    }
                    Output::Candidate(candidate) => {
                        self.ends[1 - number]
                            .agent
                            .add_remote_candidate(candidate, self.now);
                    }
                    Output::Transmit(transmit) => {
                        let of =
                            |(socket, _): &&(LocalSocket, SocketAddr)| *socket == transmit.socket;
                        if let Some((_, source)) = end.sockets.iter().find(of) {
                            self.wire.push_back((1 - number, *source, transmit));
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}
