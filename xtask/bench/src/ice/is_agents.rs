//! Two agents of the crate `is` in memory.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use is::{
    Candidate, IceAgent, IceAgentEvent, IceCreds,
    stun::{StunMessage, StunPacket},
};
use str0m_proto::Transmit;

use super::{Reaches, address, arrives};

pub(super) struct Agents {
    ends: [IceAgent; 2],
    nominated: [bool; 2],
    count: usize,
    reaches: Reaches,
    now: Instant,
    wire: VecDeque<(usize, Transmit)>,
    /// Until both had a nominated pair.
    pub(super) took: Duration,
}

impl Agents {
    /// Until both have nominated.
    pub(super) fn connect(count: usize, reaches: Reaches) -> Self {
        let now = Instant::now();
        let credentials = [IceCreds::new(), IceCreds::new()];
        let end = |number: usize| {
            let mut agent = IceAgent::new(credentials[number].clone());
            agent.set_controlling(number == 0);
            // By default it keeps 100, and never finds the last of 256.
            agent.set_max_candidate_pairs(count * count);
            agent.set_remote_credentials(credentials[1 - number].clone());
            for candidate in 0..count {
                let host = Candidate::host(address(number, candidate), "udp");
                let host = host.expect("the address is usual");
                agent.add_local_candidate(host);
            }
            for candidate in 0..count {
                let host = Candidate::host(address(1 - number, candidate), "udp");
                agent.add_remote_candidate(host.expect("the address is usual"));
            }
            agent
        };
        let mut agents = Self {
            ends: [end(0), end(1)],
            nominated: [false; 2],
            count,
            reaches,
            now,
            wire: VecDeque::new(),
            took: Duration::ZERO,
        };
        for end in &mut agents.ends {
            end.handle_timeout(now);
        }
        agents.drain();
        let limit = now + Duration::from_secs(60);
        while agents.nominated != [true; 2] {
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
    }

    fn step(&mut self, until: Instant) -> bool {
        if let Some((to, transmit)) = self.wire.pop_front() {
            let (source, destination) = (transmit.source, transmit.destination);
            if arrives(self.reaches, self.count, 1 - to, source, destination) {
                let message = StunMessage::parse(&transmit.contents).expect("its own");
                let packet = StunPacket {
                    proto: transmit.proto,
                    source,
                    destination,
                    message,
                };
                self.ends[to].handle_packet(self.now, packet);
                self.drain();
            }
            return true;
        }
        let next = self.ends.iter_mut().filter_map(IceAgent::poll_timeout);
        let Some(at) = next.min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        for end in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                end.handle_timeout(self.now);
            }
        }
        self.drain();
        true
    }

    fn drain(&mut self) {
        for number in 0..2 {
            while let Some(transmit) = self.ends[number].poll_transmit() {
                self.wire.push_back((1 - number, transmit));
            }
            while let Some(event) = self.ends[number].poll_event() {
                self.nominated[number] |= matches!(event, IceAgentEvent::NominatedSend { .. });
            }
        }
    }
}
