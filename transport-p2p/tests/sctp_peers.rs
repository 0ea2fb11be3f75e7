//! Our SCTP with sctp-proto's, which str0m uses: both ways, with losses, in virtual time.

use bytes::Bytes;
use sctp_proto::{
    AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ServerConfig, StreamEvent, TransportConfig, generate_snap_token,
};
use session_core::testing::epoch;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use transport_p2p::sctp::{Association, Config, Delivery, State};

const MINUTE: Duration = Duration::from_secs(60);
const STREAM: u16 = 2;

/// The peer, as an application of sctp-proto has it.
struct Peer {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, sctp_proto::Association)>,
    /// What it has received, and which streams were reset.
    received: Vec<Bytes>,
    finished: Vec<u16>,
    unsent: Vec<Bytes>,
}

fn transport() -> TransportConfig {
    TransportConfig::default()
        .with_max_receive_buffer_size(1 << 20)
        .with_max_send_message_size(256 * 1024)
        .with_max_receive_message_size(256 * 1024)
}

fn address() -> SocketAddr {
    "192.0.2.1:5000".parse().expect("an address")
}

impl Peer {
    fn new() -> Self {
        let mut server = ServerConfig::default();
        server.transport = Arc::new(transport());
        Self {
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), Some(Arc::new(server))),
            association: None,
            received: Vec::new(),
            finished: Vec::new(),
            unsent: Vec::new(),
        }
    }

    fn connect(&mut self, snap: Option<(Bytes, Bytes)>) {
        let mut config = ClientConfig::default();
        config.transport = Arc::new(transport());
        let config = match snap {
            Some((local, remote)) => config.with_snap(local, remote),
            None => config,
        };
        self.association = Some(self.endpoint.connect(config, address()).expect("connects"));
    }

    fn handle(&mut self, packet: Bytes, now: Instant) {
        match self.endpoint.handle(now, address(), None, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.association = Some((handle, association));
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.association {
                    association.handle_event(event);
                }
            }
            None => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only what the tests look at"
    )]
    fn poll(&mut self, now: Instant) -> Vec<Bytes> {
        let mut packets = Vec::new();
        let mut payloads = |payload| match payload {
            Payload::RawEncode(raw) => packets.extend(raw),
            Payload::PartialDecode(_) => {}
        };
        while let Some(transmit) = self.endpoint.poll_transmit() {
            payloads(transmit.payload);
        }
        let Some((handle, association)) = &mut self.association else {
            return packets;
        };
        while let Some(event) = association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    let mut stream = association.stream(id).expect("a stream");
                    while let Ok(Some(chunks)) = stream.read_sctp() {
                        let mut message = vec![0; chunks.len()];
                        chunks.read(&mut message).expect("a message");
                        self.received.push(message.into());
                    }
                }
                Event::Stream(StreamEvent::Finished { id }) => self.finished.push(id),
                _ => {}
            }
        }
        while let Some(message) = self.unsent.first()
            && !association.is_handshaking()
        {
            if association.stream(STREAM).is_err() {
                association
                    .open_stream(STREAM, PayloadProtocolIdentifier::Binary)
                    .expect("a stream");
            }
            let mut stream = association.stream(STREAM).expect("a stream");
            match stream.write_sctp(message, PayloadProtocolIdentifier::Binary) {
                Ok(_) => drop(self.unsent.remove(0)),
                Err(_) => break,
            }
        }
        while let Some(transmit) = association.poll_transmit(now) {
            payloads(transmit.payload);
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(*handle, event);
        }
        packets
    }

    fn timeout(&self) -> Option<Instant> {
        self.association
            .as_ref()
            .and_then(|(_, association)| association.poll_timeout())
    }
}

struct World {
    ours: Association,
    theirs: Peer,
    now: Instant,
    loss: f64,
    wire: BinaryHeap<Reverse<(Instant, u64, bool, Bytes)>>,
    count: u64,
    received: Vec<Bytes>,
}

impl World {
    fn new(loss: f64) -> Self {
        let now = epoch();
        Self {
            ours: Association::new(Config::default(), [5; 32], now),
            theirs: Peer::new(),
            now,
            loss,
            wire: BinaryHeap::new(),
            count: 0,
            received: Vec::new(),
        }
    }

    fn carry(&mut self, to_us: bool, packet: Bytes) {
        self.count += 1;
        // A fixed sequence that looks random.
        let chance =
            (self.count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as f64 / f64::from(1 << 24);
        if chance >= self.loss {
            let at = self.now + Duration::from_millis(10);
            self.wire.push(Reverse((at, self.count, to_us, packet)));
        }
    }

    fn drain(&mut self) {
        while let Some(batch) = self.ours.poll_transmit(self.now, 16) {
            for packet in batch {
                self.carry(false, packet);
            }
        }
        while self.ours.poll_event().is_some() {}
        while let Some(message) = self.ours.read(self.now) {
            self.received.push(message.payload);
        }
        for packet in self.theirs.poll(self.now) {
            self.carry(true, packet);
        }
    }

    fn run(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + most;
        loop {
            self.drain();
            if done(self) || self.now > end {
                return done(self);
            }
            let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
            let next = arrival
                .into_iter()
                .chain(self.ours.poll_timeout())
                .chain(self.theirs.timeout());
            let Some(next) = next.min() else {
                return done(self);
            };
            self.now = self.now.max(next);
            while let Some(Reverse((at, ..))) = self.wire.peek()
                && *at <= self.now
                && let Some(Reverse((_, _, to_us, packet))) = self.wire.pop()
            {
                if to_us {
                    self.ours.handle_packet(&packet, self.now);
                } else {
                    self.theirs.handle(packet, self.now);
                }
            }
            self.ours.handle_timeout(self.now);
            if let Some((_, association)) = &mut self.theirs.association {
                association.handle_timeout(self.now);
            }
        }
    }

    fn is_open(&self) -> bool {
        let theirs = self.theirs.association.as_ref();
        self.ours.state() == State::Established
            && theirs.is_some_and(|(_, peer)| !peer.is_handshaking())
    }
}

fn messages(count: usize) -> Vec<Bytes> {
    (0..count)
        .map(|i| Bytes::from(vec![i as u8; 1 + i * 7919 % 60_000]))
        .collect()
}

/// Messages in both directions, in order.
fn exchange(world: &mut World) {
    let messages = messages(60);
    for message in &messages {
        let delivery = Delivery::default();
        world
            .ours
            .send(STREAM, 53, message.clone(), &delivery, world.now)
            .expect("room");
    }
    world.theirs.unsent = messages.clone();
    let count = messages.len();
    let done = world.run(20 * MINUTE, |world| {
        world.received.len() >= count && world.theirs.received.len() >= count
    });
    assert!(
        done,
        "{} and {} of {count}",
        world.received.len(),
        world.theirs.received.len()
    );
    assert!(world.received == messages, "what we got is what was sent");
    assert!(
        world.theirs.received == messages,
        "what the peer got is what was sent"
    );
}

#[test]
fn we_connect() {
    for loss in [0.0, 0.05] {
        let mut world = World::new(loss);
        world.ours.connect(world.now);
        assert!(world.run(MINUTE, World::is_open), "open at {loss}");
        exchange(&mut world);
    }
}

#[test]
fn the_peer_connects() {
    for loss in [0.0, 0.05] {
        let mut world = World::new(loss);
        world.theirs.connect(None);
        assert!(world.run(MINUTE, World::is_open), "open at {loss}");
        exchange(&mut world);
    }
}

#[test]
fn both_connect_at_once() {
    let mut world = World::new(0.0);
    world.ours.connect(world.now);
    world.theirs.connect(None);
    assert!(world.run(MINUTE, World::is_open));
    exchange(&mut world);
}

#[test]
fn inits_come_through_signalling() {
    let mut world = World::new(0.02);
    let theirs = generate_snap_token(&transport()).expect("a token");
    assert!(world.ours.connect_with(&theirs, world.now));
    world
        .theirs
        .connect(Some((theirs, world.ours.init_chunk())));
    assert!(world.is_open(), "without a packet");
    exchange(&mut world);
}

#[test]
fn a_stream_that_we_reset_is_finished_there() {
    let mut world = World::new(0.05);
    world.ours.connect(world.now);
    assert!(world.run(MINUTE, World::is_open));
    exchange(&mut world);
    world.ours.reset_streams(&[STREAM]);
    assert!(world.run(MINUTE, |world| world.theirs.finished.contains(&STREAM)));
}

#[test]
fn messages_of_limited_life_are_skipped_there() {
    let mut world = World::new(0.0);
    world.ours.connect(world.now);
    assert!(world.run(MINUTE, World::is_open));
    world.loss = 1.0;
    let brief = Delivery {
        max_retransmits: Some(0),
        ..Delivery::default()
    };
    let lost = Bytes::from(vec![1; 5000]);
    world
        .ours
        .send(STREAM, 53, lost, &brief, world.now)
        .expect("room");
    world.drain();
    world.loss = 0.0;
    exchange(&mut world);
}
