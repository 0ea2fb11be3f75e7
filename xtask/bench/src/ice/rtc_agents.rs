//! Two agents of rtc-ice: in memory for the heap, and over sockets.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_ice::{
    agent::{Agent, Event, agent_config::AgentConfig},
    candidate::{CandidateConfig, candidate_host::CandidateHostConfig},
    crypto,
};
use rtc_shared::{TransportContext, TransportMessage, TransportProtocol};
use sansio::Protocol as _;

use super::address;

pub(super) type Message = TransportMessage<BytesMut>;

pub(super) struct Agents {
    pub(super) ends: [Agent; 2],
    pub(super) selected: [bool; 2],
    now: Instant,
    wire: VecDeque<(usize, Message)>,
}

impl Agents {
    /// Agents with these candidates that have begun.
    pub(super) fn start(candidates: [&[SocketAddr]; 2], now: Instant) -> Self {
        let end = |number: usize| {
            let config = AgentConfig {
                is_controlling: number == 0,
                ..AgentConfig::default()
            };
            let provider = crypto::default_provider().expect("one is built in");
            let mut agent =
                Agent::new(now, Arc::new(config), provider).expect("the configuration is usual");
            for address in candidates[number] {
                let host = host(*address);
                agent.add_local_candidate(host).expect("it is usual");
            }
            for address in candidates[1 - number] {
                let host = host(*address);
                agent.add_remote_candidate(host).expect("it is usual");
            }
            agent
        };
        let mut ends = [end(0), end(1)];
        for number in 0..2 {
            let remote = ends[1 - number].get_local_credentials();
            let (ufrag, password) = (remote.ufrag.clone(), remote.pwd.clone());
            ends[number]
                .start_connectivity_checks(now, number == 0, ufrag, password)
                .expect("credentials are usual");
        }
        Self {
            ends,
            selected: [false; 2],
            now,
            wire: VecDeque::new(),
        }
    }

    /// In memory, until both have selected.
    pub(super) fn connect(count: usize) -> Self {
        let of = |end| (0..count).map(|n| address(end, n)).collect::<Vec<_>>();
        let now = Instant::now();
        let mut agents = Self::start([&of(0), &of(1)], now);
        agents.drain();
        let limit = now + Duration::from_secs(60);
        while agents.selected != [true; 2] {
            assert!(agents.step(limit), "they must connect");
        }
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

    fn step(&mut self, until: Instant) -> bool {
        if let Some((to, message)) = self.wire.pop_front() {
            let received = received(
                self.now,
                message.transport.peer_addr,
                message.transport.local_addr,
                message.message,
            );
            let _ = self.ends[to].handle_read(received);
            self.drain();
            return true;
        }
        let next = self.ends.iter_mut().filter_map(|end| end.poll_timeout());
        let Some(at) = next.min().filter(|at| *at <= until) else {
            return false;
        };
        self.now = self.now.max(at);
        for end in &mut self.ends {
            if end.poll_timeout().is_some_and(|at| at <= self.now) {
                let _ = end.handle_timeout(self.now);
            }
        }
        self.drain();
        true
    }

    fn drain(&mut self) {
        for number in 0..2 {
            while let Some(message) = self.ends[number].poll_write() {
                self.wire.push_back((1 - number, message));
            }
            self.hear(number);
        }
    }

    /// Takes note of what an agent says.
    pub(super) fn hear(&mut self, number: usize) {
        while let Some(told) = self.ends[number].poll_event() {
            self.selected[number] |= matches!(told.event, Event::SelectedCandidatePairChange(..));
        }
    }
}

/// What arrived at `local` from `peer`.
pub(super) fn received(
    now: Instant,
    local: SocketAddr,
    peer: SocketAddr,
    message: BytesMut,
) -> Message {
    TransportMessage {
        now,
        transport: TransportContext {
            local_addr: local,
            peer_addr: peer,
            transport_protocol: TransportProtocol::UDP,
            ecn: None,
        },
        message,
    }
}

fn host(address: SocketAddr) -> rtc_ice::candidate::Candidate {
    let config = CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".to_owned(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..CandidateConfig::default()
        },
        ..CandidateHostConfig::default()
    };
    config.new_candidate_host().expect("the address is usual")
}
