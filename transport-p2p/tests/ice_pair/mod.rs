//! Two standalone agents and a network of which addresses reach each other, in virtual time.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use session_core::{Datagram, LocalSocket, Role, Transmit, TransportError, testing::epoch};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use transport_p2p::{
    Agent,
    ice::{Candidate, Credentials, IceConfig, Output},
};

/// One agent, its sockets, and what it said.
pub struct End {
    pub agent: Agent,
    pub sockets: BTreeMap<LocalSocket, SocketAddr>,
    pub candidates: Vec<Candidate>,
    pub credentials: Vec<Credentials>,
    pub packets: Vec<(u16, Bytes)>,
    pub failed: Option<TransportError>,
    pub writable: bool,
    next_port: u16,
}

pub struct Pair {
    pub ends: [End; 2],
    pub now: Instant,
    pub delay: Duration,
    /// Whether a datagram between these two arrives.
    pub reaches: fn(IpAddr, IpAddr) -> bool,
    /// Whether candidates and credentials travel by themselves.
    pub signalling: bool,
    pub transmits: usize,
    wire: VecDeque<(Instant, usize, Transmit, SocketAddr)>,
}

pub fn address(end: usize, number: usize) -> IpAddr {
    IpAddr::from([203, 0, 112 + end as u8, number as u8 + 1])
}

impl Pair {
    /// Each with so many addresses.
    pub fn new(count: usize, configure: impl Fn(&mut IceConfig)) -> Self {
        let end = |number: usize, role| {
            let mut config =
                IceConfig::new((0..count).map(|n| address(number, n)).collect::<Vec<_>>());
            configure(&mut config);
            End {
                agent: Agent::new(config, role, [number as u8 + 1; 32]),
                sockets: BTreeMap::new(),
                candidates: Vec::new(),
                credentials: Vec::new(),
                packets: Vec::new(),
                failed: None,
                writable: false,
                next_port: 4_000,
            }
        };
        Self {
            ends: [end(0, Role::Initiator), end(1, Role::Responder)],
            now: epoch(),
            delay: Duration::from_millis(10),
            reaches: |_, _| true,
            signalling: true,
            transmits: 0,
            wire: VecDeque::new(),
        }
    }

    /// Two of two addresses each, which have found each other and are at rest.
    pub fn at_rest() -> Self {
        let mut pair = Self::new(2, |_| {});
        pair.start();
        assert!(pair.run_until(Duration::from_secs(1), Self::selected));
        pair.run_for(Duration::from_millis(100));
        pair
    }

    /// Both begin, and know each other's credentials.
    pub fn start(&mut self) {
        for end in 0..2 {
            let credentials = self.ends[1 - end].agent.local_credentials().clone();
            let now = self.now;
            self.ends[end]
                .agent
                .set_remote_credentials(credentials, now);
            self.ends[end].agent.gather(now);
        }
        self.drain();
    }

    pub fn drain(&mut self) {
        for end in [0, 1, 0, 1] {
            while let Some(output) = self.ends[end].agent.poll_output() {
                self.carry_out(end, output);
            }
            let mut told = BTreeSet::new();
            for pair in self.ends[end].agent.pairs() {
                let fresh = told.insert((pair.component, pair.local, pair.remote));
                assert!(fresh, "told twice: {pair}");
            }
        }
    }

    fn carry_out(&mut self, number: usize, output: Output) {
        let now = self.now;
        let other = &mut self.ends[1 - number].agent;
        match &output {
            Output::Candidate(candidate) if self.signalling => {
                other.add_remote_candidate(candidate.clone(), now);
            }
            Output::Credentials(credentials) if self.signalling => {
                other.set_remote_credentials(credentials.clone(), now);
            }
            _ => {}
        }
        let end = &mut self.ends[number];
        match output {
            Output::Bind(socket, _, wanted) => {
                let address = SocketAddr::new(wanted.ip(), end.next_port);
                end.next_port += 1;
                end.sockets.insert(socket, address);
                end.agent.handle_bound(socket, Ok(address), now);
            }
            Output::Transmit(transmit) => {
                let source = end.sockets[&transmit.socket];
                self.transmits += 1;
                self.wire
                    .push_back((now + self.delay, 1 - number, transmit, source));
            }
            Output::Candidate(candidate) => end.candidates.push(candidate),
            Output::Credentials(credentials) => end.credentials.push(credentials),
            Output::Packet(component, batch) => {
                end.packets.extend(batch.map(|packet| (component, packet)));
            }
            Output::Writable(_, writable) => end.writable = writable,
            Output::Failed(_, error) => end.failed = Some(error),
            _ => {}
        }
    }

    fn next(&self) -> Option<Instant> {
        let timers = self.ends.iter().filter_map(|end| end.agent.poll_timeout());
        timers.chain(self.wire.front().map(|(at, ..)| *at)).min()
    }

    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + limit;
        while !done(self) {
            let Some(at) = self.next().filter(|at| *at <= until) else {
                self.now = until;
                return done(self);
            };
            self.now = self.now.max(at);
            while self.wire.front().is_some_and(|(at, ..)| *at <= self.now) {
                let (_, to, transmit, source) = self.wire.pop_front().unwrap();
                self.arrive(to, transmit, source);
            }
            for end in &mut self.ends {
                if end.agent.poll_timeout().is_some_and(|at| at <= self.now) {
                    end.agent.handle_timeout(self.now);
                }
            }
            self.drain();
        }
        true
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    fn arrive(&mut self, to: usize, transmit: Transmit, source: SocketAddr) {
        let end = &mut self.ends[to];
        let at = end
            .sockets
            .iter()
            .find(|(_, at)| **at == transmit.destination);
        let Some((socket, address)) = at else { return };
        if (self.reaches)(source.ip(), address.ip()) {
            let datagram = Datagram {
                socket: *socket,
                source,
                payload: transmit.payload,
                segment_size: transmit.segment_size,
            };
            end.agent.handle_datagram(datagram, self.now);
            self.drain();
        }
    }

    pub fn connected(&self) -> bool {
        self.ends.iter().all(|end| end.writable)
    }

    /// Both have settled on a pair.
    pub fn selected(&self) -> bool {
        let nominated = |end: &End| end.agent.pairs().iter().any(|pair| pair.nominated);
        self.connected() && self.ends.iter().all(nominated)
    }
}
