//! A client, a server and what lies between them, in virtual time.

pub mod server;

use bytes::Bytes;
use server::{PASSWORD, Server};
use session_core::{Datagram, LocalSocket, SocketError, StreamEvent};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use transport_relay::{
    RelayFactory, RelayOutput, RelaySource,
    turn::{
        Credentials, Deframer, Frame, SharedCredentials, TurnConfig, TurnFactory, TurnProtocol,
        TurnServer,
    },
};

/// One way between client and server.
const DELAY: Duration = Duration::from_millis(20);
const DAY: Duration = Duration::from_secs(86_400);

pub struct World {
    pub now: Instant,
    pub source: Box<dyn RelaySource>,
    pub server: Server,
    pub credentials: SharedCredentials,
    /// Of datagrams, between 0 and 1.
    pub loss: f64,
    pub doubled: f64,
    /// Nothing of the server arrives.
    pub loss_to_client: bool,
    pub jitter: Duration,
    pub relayed: Vec<SocketAddr>,
    pub losses: Vec<String>,
    pub failed: Option<String>,
    pub received: Vec<(SocketAddr, Vec<u8>)>,
    protocol: TurnProtocol,
    address: SocketAddr,
    sockets: BTreeMap<LocalSocket, SocketAddr>,
    streams: BTreeMap<SocketAddr, Deframer>,
    next_client: u16,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    random: u64,
}

enum Event {
    ToServer(SocketAddr, Bytes),
    ToClient(SocketAddr, Bytes),
    Opened(LocalSocket, bool),
    Broken(SocketAddr),
}

pub fn peer(number: u8) -> SocketAddr {
    SocketAddr::new([198, 51, 100, number].into(), 4_000)
}

/// An address of the client.
pub fn home(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, number))
}

impl World {
    pub fn new(protocol: TurnProtocol, seed: u64, now: Instant) -> Self {
        Self::start(protocol, seed, now, &[home(1)], DAY)
    }

    /// From these addresses, with so long a search for another allocation.
    pub fn start(
        protocol: TurnProtocol,
        seed: u64,
        now: Instant,
        local: &[IpAddr],
        recover_for: Duration,
    ) -> Self {
        let address = SocketAddr::new([203, 0, 113, 1].into(), 3478);
        let credentials = SharedCredentials::new(Credentials::new("alice", PASSWORD));
        let turn = TurnServer::new(address, protocol.clone(), credentials.clone());
        let mut config = TurnConfig::new(vec![turn]);
        config.recover_for = recover_for;
        let mut source = TurnFactory::new(config).create([seed as u8; 32]);
        source.start(local, now);
        let mut this = Self {
            now,
            source,
            server: Server::new(protocol != TurnProtocol::Udp),
            credentials,
            loss: 0.0,
            doubled: 0.0,
            loss_to_client: false,
            jitter: Duration::ZERO,
            relayed: Vec::new(),
            losses: Vec::new(),
            failed: None,
            received: Vec::new(),
            protocol,
            address,
            sockets: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_client: 20_000,
            queue: BTreeMap::new(),
            sequence: 0,
            random: seed,
        };
        this.drain();
        this
    }

    fn chance(&mut self) -> f64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.random >> 40) as f64 / (1_u64 << 24) as f64
    }

    pub fn is_stream(&self) -> bool {
        self.protocol != TurnProtocol::Udp
    }

    fn post(&mut self, delay: Duration, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), event);
    }

    /// Across the network; in a stream in order and safely.
    fn cross(&mut self, make: impl Fn() -> Event) {
        if self.is_stream() {
            return self.post(DELAY, make());
        }
        let copies = if self.chance() < self.loss {
            0
        } else {
            1 + u32::from(self.chance() < self.doubled)
        };
        for _ in 0..copies {
            let delay = DELAY + self.jitter.mul_f64(self.chance());
            self.post(delay, make());
        }
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.source.poll_output() {
            match output {
                RelayOutput::Bind(socket, address) => {
                    assert!(self.protocol == TurnProtocol::Udp);
                    self.next_client += 1;
                    let address = SocketAddr::new(address.ip(), self.next_client);
                    assert!(
                        self.sockets.insert(socket, address).is_none(),
                        "a number twice"
                    );
                    self.source.handle_bound(socket, Ok(address), self.now);
                }
                RelayOutput::Connect(socket, target) => {
                    assert_eq!(target.address, self.address);
                    self.next_client += 1;
                    let address = SocketAddr::new([10, 0, 0, 1].into(), self.next_client);
                    assert!(
                        self.sockets.insert(socket, address).is_none(),
                        "a number twice"
                    );
                    let up = !self.server.down;
                    self.post(DELAY, Event::Opened(socket, up));
                }
                RelayOutput::Write(socket, bytes) => {
                    let client = self.sockets[&socket];
                    self.cross(|| Event::ToServer(client, bytes.clone()));
                }
                RelayOutput::Close(socket) => {
                    let client = self.sockets.remove(&socket).expect("it was open");
                    if self.is_stream() {
                        self.post(DELAY, Event::Broken(client));
                    }
                }
                RelayOutput::Transmit(transmit) => {
                    assert_eq!(transmit.destination, self.address);
                    let client = self.sockets[&transmit.socket];
                    let size = match transmit.segment_size {
                        0 => transmit.payload.len(),
                        size => size,
                    };
                    for packet in transmit.payload.chunks(size) {
                        let packet = transmit.payload.slice_ref(packet);
                        self.cross(|| Event::ToServer(client, packet.clone()));
                    }
                }
                RelayOutput::Allocated { relayed, .. } => {
                    assert!(self.relayed.is_empty(), "one at a time");
                    self.relayed.push(relayed);
                }
                RelayOutput::Received { peer, batch } => {
                    self.received
                        .extend(batch.map(|packet| (peer, packet.to_vec())));
                }
                RelayOutput::Lost { relayed, why } => {
                    assert_eq!(self.relayed, [relayed], "it was told before");
                    self.relayed.clear();
                    self.losses.push(why.to_string());
                }
                RelayOutput::Failed(why) => {
                    assert!(self.failed.is_none());
                    self.failed = Some(why.to_string());
                }
            }
        }
    }

    pub fn restart(&mut self) {
        self.server.restart();
        if self.is_stream() {
            let clients: Vec<_> = self.sockets.values().copied().collect();
            for client in clients {
                self.post(DELAY, Event::Broken(client));
            }
        }
    }

    pub fn send(&mut self, to: u8, data: &[u8]) {
        self.source.permit(peer(to), self.now);
        let batch = Bytes::copy_from_slice(data).into();
        self.source.send(peer(to), batch, self.now);
        self.drain();
    }

    /// The addresses of the client are others now.
    pub fn moves(&mut self, local: &[IpAddr]) {
        self.source.update_local(local, self.now);
        self.drain();
    }

    /// A peer sends to where we say that we are.
    pub fn peer_sends(&mut self, from: u8, data: &[u8]) {
        let Some(relayed) = self.relayed.first().copied() else {
            return;
        };
        let passed = self.server.pass_on(peer(from), relayed, data, self.now);
        if let Some((client, bytes)) = passed {
            self.cross(|| Event::ToClient(client, bytes.clone()));
        }
    }

    pub fn run(&mut self, time: Duration) {
        let until = self.now + time;
        let mut idle_calls = 0;
        loop {
            let event = self.queue.keys().next().map(|(at, _)| *at);
            let timer = self.source.poll_timeout();
            let next = event.into_iter().chain(timer).min();
            let Some(next) = next.filter(|next| *next <= until) else {
                self.now = until;
                return;
            };
            idle_calls = if next <= self.now { idle_calls + 1 } else { 0 };
            assert!(idle_calls < 10_000, "time stands still");
            self.now = self.now.max(next);
            if timer.is_some_and(|at| at <= self.now) {
                self.source.handle_timeout(self.now);
                self.drain();
            }
            while let Some(entry) = self.queue.first_entry() {
                if entry.key().0 > self.now {
                    break;
                }
                let event = entry.remove();
                self.happen(event);
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::ToServer(client, bytes) if self.is_stream() => {
                let Some(deframer) = self.streams.get_mut(&client) else {
                    return;
                };
                deframer.push(bytes);
                let mut frames = Vec::new();
                while let Some(frame) = deframer.next_frame().expect("a client writes frames") {
                    frames.push(frame);
                }
                frames
                    .into_iter()
                    .for_each(|frame| self.serve(client, frame));
            }
            Event::ToServer(client, bytes) => {
                let frame = Frame::of_datagram(bytes).expect("a client writes frames");
                self.serve(client, frame);
            }
            Event::ToClient(..) if self.loss_to_client => {}
            Event::ToClient(client, payload) => {
                let mut sockets = self.sockets.iter();
                let Some((&socket, _)) = sockets.find(|(_, address)| **address == client) else {
                    return;
                };
                if self.is_stream() {
                    let event = StreamEvent::Data(payload);
                    self.source.handle_stream(socket, event, self.now);
                } else {
                    let datagram = Datagram {
                        socket,
                        source: self.address,
                        payload,
                        segment_size: 0,
                    };
                    self.source.handle_datagram(datagram, self.now);
                }
                self.drain();
            }
            Event::Opened(socket, up) => {
                let Some(&client) = self.sockets.get(&socket) else {
                    return;
                };
                let result = if up {
                    self.streams.insert(client, Deframer::default());
                    Ok(client)
                } else {
                    Err(SocketError {
                        what: "connect",
                        why: "refused".into(),
                    })
                };
                let event = StreamEvent::Connected(result);
                self.source.handle_stream(socket, event, self.now);
                self.drain();
            }
            Event::Broken(client) => {
                self.server.disconnected(client);
                self.streams.remove(&client);
                let mut sockets = self.sockets.iter();
                let found = sockets.find(|(_, address)| **address == client);
                if let Some((&socket, _)) = found {
                    self.source
                        .handle_stream(socket, StreamEvent::Closed(None), self.now);
                    self.drain();
                }
            }
        }
    }

    fn serve(&mut self, client: SocketAddr, frame: Frame) {
        if let Some(answer) = self.server.handle(client, frame, self.now) {
            self.cross(|| Event::ToClient(client, answer.clone()));
        }
    }
}
