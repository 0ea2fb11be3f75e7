//! The layer above channels that are joined by the test.

use crate::sctp::{
    Association, ChannelEvent, Config, DataChannelConfig, DataChannelLayer, DataChannels,
    INIT_NAMESPACE, NAMESPACE,
};
use bytes::{Bytes, BytesMut};
use session_core::{
    Batch, ChannelLayer, ChannelOutput, Datagram, Dialect, Element, LayerNegotiation, LocalSocket,
    Role, SendError, SocketError, TransportChannel, TransportContext, TransportError,
    testing::epoch,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Waker,
    time::{Duration, Instant},
};

/// What the test and a channel below share.
#[derive(Default)]
struct Below {
    outputs: VecDeque<ChannelOutput>,
    sent: VecDeque<Batch>,
    round_trip: Option<Duration>,
    datagram_max: Option<usize>,
}

struct BelowChannel(Arc<Mutex<Below>>);

impl TransportChannel for BelowChannel {
    fn connect(&mut self, _: Instant) {}

    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.send_batch(packet.into(), now)
    }

    fn send_batch(&mut self, batch: Batch, _: Instant) -> Result<(), SendError> {
        self.0.lock().unwrap().sent.push_back(batch);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.0.lock().unwrap().outputs.pop_front()
    }

    fn datagram_max(&self) -> Option<usize> {
        self.0.lock().unwrap().datagram_max
    }

    fn round_trip(&self) -> Option<Duration> {
        self.0.lock().unwrap().round_trip
    }
}

/// A protection that protects nothing and says nothing.
struct Bare;

impl ChannelLayer for Bare {
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        inner
    }
}

fn context(role: Role) -> TransportContext {
    TransportContext {
        role,
        local: "a@a.example/1".into(),
        remote: "b@b.example/2".into(),
        sid: "sid".into(),
        content: "content".into(),
        dialect: Dialect::JINGLE,
        seed: [1 + role as u8; 32],
        waker: Waker::noop().clone(),
    }
}

fn negotiation(role: Role, config: DataChannelConfig) -> Box<dyn LayerNegotiation> {
    DataChannelLayer::new(Arc::new(Bare), config)
        .negotiate(&context(role))
        .expect("it negotiates")
}

fn transport(children: Vec<Element>) -> Element {
    Element::new("urn:xmpp:jingle:transports:ice-udp:1", "transport").children_from(children)
}

struct End {
    below: Arc<Mutex<Below>>,
    channel: Box<dyn TransportChannel>,
    received: BytesMut,
    outputs: Vec<ChannelOutput>,
    to_send: Bytes,
    writable: bool,
}

impl End {
    /// As much as there is room for.
    fn send(&mut self, now: Instant) {
        while self.writable && !self.to_send.is_empty() {
            let piece = self.to_send.slice(..self.to_send.len().min(100_000));
            if self.channel.send(piece.clone(), now).is_err() {
                break;
            }
            self.to_send = self.to_send.slice(piece.len()..);
        }
    }
}

struct World {
    ends: [End; 2],
    now: Instant,
    wire: VecDeque<(Instant, usize, Batch)>,
    /// The largest packet that has left.
    largest: usize,
}

const DELAY: Duration = Duration::from_millis(25);

impl World {
    /// Two ends that have agreed.
    fn new(configs: [DataChannelConfig; 2]) -> Self {
        let [a, b] = configs;
        let mut sides = [
            negotiation(Role::Initiator, a),
            negotiation(Role::Responder, b),
        ];
        let offer = transport(sides[0].offer());
        assert_eq!(transport(sides[0].offer()), offer, "says the same again");
        let answer = transport(sides[1].accept_offer(&offer).expect("acceptable"));
        sides[0].accept_answer(&answer).expect("acceptable");
        let mut roles = [Role::Initiator, Role::Responder].into_iter();
        let ends = sides.map(|mut side| {
            let below = Arc::new(Mutex::new(Below::default()));
            let inner = Box::new(BelowChannel(Arc::clone(&below)));
            End {
                channel: side.wrap(inner, &context(roles.next().expect("two"))),
                below,
                received: BytesMut::new(),
                outputs: Vec::new(),
                to_send: Bytes::new(),
                writable: false,
            }
        });
        let mut world = Self {
            ends,
            now: epoch(),
            wire: VecDeque::new(),
            largest: 0,
        };
        let now = world.now;
        for end in &mut world.ends {
            end.channel.connect(now);
            end.below
                .lock()
                .unwrap()
                .outputs
                .push_back(ChannelOutput::Writable(true));
        }
        world
    }

    fn drain(&mut self) {
        for at in 0..2 {
            let end = &mut self.ends[at];
            end.send(self.now);
            while let Some(output) = end.channel.poll_output() {
                if let ChannelOutput::Packet(batch) = output {
                    end.received.extend_from_slice(&batch.payload);
                    continue;
                }
                if let ChannelOutput::Writable(writable) = output {
                    end.writable = writable;
                    end.send(self.now);
                }
                end.outputs.push(output);
            }
            let sent = std::mem::take(&mut end.below.lock().unwrap().sent);
            let arrival = self.now + DELAY;
            let sizes = sent.iter().map(|batch| match batch.segment_size {
                0 => batch.payload.len(),
                size => size,
            });
            self.largest = sizes.fold(self.largest, usize::max);
            self.wire
                .extend(sent.into_iter().map(|batch| (arrival, 1 - at, batch)));
        }
    }

    fn run_until(&mut self, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + Duration::from_secs(60);
        let mut turns = 0;
        loop {
            turns += 1;
            assert!(turns < 100_000, "it turns in a circle");
            self.drain();
            if done(self) || self.now > end {
                return done(self);
            }
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let deadlines = self
                .ends
                .iter()
                .filter_map(|end| end.channel.poll_timeout());
            let Some(next) = deadlines.chain(arrival).min() else {
                return done(self);
            };
            self.now = self.now.max(next);
            while self.wire.front().is_some_and(|(at, ..)| *at <= self.now)
                && let Some((_, to, batch)) = self.wire.pop_front()
            {
                self.ends[to]
                    .below
                    .lock()
                    .unwrap()
                    .outputs
                    .push_back(ChannelOutput::Packet(batch));
            }
            let now = self.now;
            self.ends
                .iter_mut()
                .for_each(|end| end.channel.handle_timeout(now));
        }
    }

    fn has(&self, end: usize, output: &ChannelOutput) -> bool {
        self.ends[end].outputs.contains(output)
    }
}

fn plain() -> DataChannelConfig {
    DataChannelConfig {
        signal_init: false,
        ..DataChannelConfig::default()
    }
}

#[test]
fn who_fills_the_buffer_at_once_does_not_hold_the_cookie_back() {
    for configs in [[plain(), plain()], Default::default()] {
        let mut world = World::new(configs);
        for end in &mut world.ends {
            end.to_send = vec![7; 9_000_000].into();
        }
        let all = |end: &End| end.received.len() == 9_000_000;
        assert!(world.run_until(|world| world.ends.iter().all(all)));
    }
}

#[test]
fn bytes_and_ends_go_both_ways() {
    let small = DataChannelConfig {
        association: Config {
            send_buffer: 100_000,
            receive_buffer: 600_000,
            ..Config::default()
        },
        message_size: 5_000,
        ..DataChannelConfig::default()
    };
    for configs in [
        [DataChannelConfig::default(), plain()],
        [small, DataChannelConfig::default()],
    ] {
        let mut world = World::new(configs);
        let bytes: Bytes = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
        world
            .ends
            .iter_mut()
            .for_each(|end| end.to_send = bytes.clone());
        let size = bytes.len();
        assert!(world.run_until(|world| world.ends.iter().all(|end| end.received.len() == size)));
        assert!(world.ends.iter().all(|end| end.received == bytes));
        let now = world.now;
        world.ends[0].channel.finish(now);
        let refused = world.ends[0].channel.send("more".into(), now);
        assert_eq!(refused, Err(SendError::Finished));
        assert!(world.run_until(|world| {
            world.has(0, &ChannelOutput::Delivered) && world.has(1, &ChannelOutput::Finished)
        }));
        assert!(!world.has(0, &ChannelOutput::Finished));
        // The other direction goes on.
        world.ends[1].to_send = "and more".into();
        assert!(world.run_until(|world| world.ends[0].received.len() == size + 8));
        let now = world.now;
        world.ends[1].channel.finish(now);
        assert!(world.run_until(|world| {
            world.has(1, &ChannelOutput::Delivered) && world.has(0, &ChannelOutput::Finished)
        }));
        for end in &world.ends {
            let failed = |output: &ChannelOutput| matches!(output, ChannelOutput::Failed(_));
            assert!(!end.outputs.iter().any(failed), "{:?}", end.outputs);
        }
        let now = world.now;
        world.ends[0].channel.close();
        world.ends[0].channel.handle_timeout(now);
        assert!(
            world.run_until(|world| world.has(1, &ChannelOutput::Failed(TransportError::Closed)))
        );
    }
}

#[test]
fn signalled_inits_save_a_round_trip() {
    let opens = |configs| {
        let mut world = World::new(configs);
        let start = world.now;
        let open = ChannelOutput::Writable(true);
        assert!(world.run_until(|world| world.has(0, &open) && world.has(1, &open)));
        world.now - start
    };
    let both = DataChannelConfig::default();
    assert_eq!(opens([both.clone(), both.clone()]), Duration::ZERO);
    assert_eq!(opens([both, plain()]), 2 * DELAY);
}

/// What was measured below spares the rounds in which a start that knows nothing feels its way.
#[test]
fn a_start_makes_use_of_the_round_trip_that_is_known_below() {
    let takes = |round_trip| {
        let mut world = World::new(Default::default());
        for end in &mut world.ends {
            end.below.lock().unwrap().round_trip = round_trip;
        }
        let start = world.now;
        world.ends[0].to_send = vec![7; 34_000].into();
        assert!(world.run_until(|world| world.ends[1].received.len() == 34_000));
        world.now - start
    };
    // One that is unknown is measured first, with fewer packets than that.
    assert!(takes(None) >= 3 * DELAY);
    let known = takes(Some(2 * DELAY));
    assert!(known > DELAY && known < 2 * DELAY, "{known:?}");
}

#[test]
fn packets_are_as_large_as_the_channel_below_takes() {
    for (most, expected) in [(1_000, 1_000), (1_435, 1_180), (5_000, 5_000)] {
        let mut world = World::new(Default::default());
        for end in &mut world.ends {
            end.below.lock().unwrap().datagram_max = Some(most);
            end.to_send = vec![7; 3_000_000].into();
        }
        let all = |end: &End| end.received.len() == 3_000_000;
        assert!(world.run_until(|world| world.ends.iter().all(all)));
        assert_eq!(world.largest, expected);
    }
}

#[test]
fn what_is_sent_as_soon_as_it_may_be_leaves_with_the_cookie() {
    let mut world = World::new([plain(), plain()]);
    let start = world.now;
    assert!(world.run_until(|world| world.has(0, &ChannelOutput::Writable(true))));
    assert_eq!(world.now - start, 2 * DELAY);
    let now = world.now;
    let sent = world.ends[0].channel.send("first".into(), now);
    sent.expect("it is writable");
    assert!(world.run_until(|world| world.ends[1].received == "first"));
    assert_eq!(world.now - start, 3 * DELAY);
}

/// Others read a datagram into a buffer of their own size, and are confused by what is left of it.
#[test]
fn only_who_signals_its_init_is_asked_for_larger_packets() {
    let both = DataChannelConfig::default;
    for (configs, large) in [([both(), both()], true), ([both(), plain()], false)] {
        let mut world = World::new(configs);
        world.ends[0].to_send = vec![7; 3_000_000].into();
        assert!(world.run_until(|world| world.ends[1].received.len() == 3_000_000));
        let limit = Config::default().max_packet;
        assert_eq!(world.largest > limit, large, "{}", world.largest);
    }
}

#[test]
fn a_paused_reader_holds_the_sender_back() {
    let small = DataChannelConfig {
        association: Config {
            send_buffer: 100_000,
            receive_buffer: 600_000,
            ..Config::default()
        },
        ..DataChannelConfig::default()
    };
    let mut world = World::new([small.clone(), small]);
    let now = world.now;
    world.ends[1].channel.pause(true, now);
    world.ends[0].to_send = vec![7; 5_000_000].into();
    let later = now + Duration::from_secs(20);
    world.run_until(|world| world.now > later);
    assert_eq!(world.ends[1].received.len(), 0);
    assert!(world.ends[0].to_send.len() > 4_000_000);
    assert!(world.has(0, &ChannelOutput::Writable(false)));
    let now = world.now;
    world.ends[1].channel.pause(false, now);
    assert!(world.run_until(|world| world.ends[1].received.len() == 5_000_000));
}

/// Browsers close a channel that somebody else has opened; what is full may not have been told so yet.
#[test]
fn a_channel_that_the_peer_closes_takes_nothing_also_when_it_is_full() {
    let small = |send_buffer, receive_buffer| Config {
        send_buffer,
        receive_buffer,
        ..Config::default()
    };
    let ours = DataChannelConfig {
        association: small(100_000, 1_000_000),
        ..plain()
    };
    let World { ends, mut now, .. } = World::new([ours, plain()]);
    let [mut end, _] = ends;
    let mut association = Association::new(small(100_000, 20_000), [9; 32], now);
    association.connect(now);
    let mut peer = DataChannels::new(association, true);
    let piece = Bytes::from(vec![7; 100_000]);
    let mut theirs = None;
    for step in 0..1_000 {
        now += Duration::from_millis(5);
        match (step, theirs) {
            // The last one that there is room for.
            (100, _) => end.channel.send(vec![7; 5_000_000].into(), now).unwrap(),
            (150, Some(channel)) => peer.close(channel),
            _ => {}
        }
        end.channel.handle_timeout(now);
        while let Some(output) = end.channel.poll_output() {
            if output == ChannelOutput::Writable(true) {
                end.channel.send(piece.clone(), now).unwrap();
            }
        }
        for batch in std::mem::take(&mut end.below.lock().unwrap().sent) {
            peer.association_mut().handle_batch(&batch, now);
        }
        peer.association_mut().handle_timeout(now);
        if theirs.is_none() {
            peer.read(now);
        }
        while let Some(event) = peer.poll_event() {
            if let ChannelEvent::Opened(channel, _) = event {
                theirs = Some(channel);
            }
        }
        while let Some(batch) = peer.association_mut().poll_transmit(now, 10) {
            let arrived = ChannelOutput::Packet(batch);
            end.below.lock().unwrap().outputs.push_back(arrived);
        }
    }
    assert!(theirs.is_some());
    let sent = end.channel.send(piece, now);
    assert_eq!(sent, Err(SendError::NoSuchChannel));
}

/// The peer has opened its channel, sent something or nothing, and closed it before anything of that was read. It may be
/// gone by then.
#[test]
fn a_stream_that_ended_while_its_reader_paused_has_an_end() {
    for (length, leaves) in [(100_000, false), (100_000, true), (0, false), (0, true)] {
        let mut world = World::new([plain(), plain()]);
        let now = world.now;
        world.ends[1].channel.pause(true, now);
        world.ends[0].to_send = vec![7; length].into();
        assert!(world.run_until(|world| {
            world.has(0, &ChannelOutput::Writable(true)) && world.ends[0].to_send.is_empty()
        }));
        let now = world.now;
        world.ends[0].channel.finish(now);
        assert!(world.run_until(|world| world.has(0, &ChannelOutput::Delivered)));
        let later = world.now + Duration::from_secs(20);
        world.run_until(|world| world.now > later);
        if leaves {
            world.ends[0].channel.close();
            world.run_until(|_| false);
        }
        assert_eq!(world.ends[1].received.len(), 0);
        let now = world.now;
        world.ends[1].channel.pause(false, now);
        assert!(
            world.run_until(|world| world.has(1, &ChannelOutput::Finished)),
            "{length} bytes, leaves: {leaves}"
        );
        assert_eq!(world.ends[1].received.len(), length);
    }
}

#[test]
fn only_data_channels_are_agreed_on() {
    let offer = transport(negotiation(Role::Initiator, DataChannelConfig::default()).offer());
    let map = offer.find(NAMESPACE, "sctpmap").expect("a map");
    assert_eq!(map.attribute("number"), Some("5000"));
    assert_eq!(map.attribute("protocol"), Some("webrtc-datachannel"));
    assert!(offer.find(INIT_NAMESPACE, "init").is_some());
    for map in [
        Element::new(NAMESPACE, "sctpmap"),
        Element::new(NAMESPACE, "sctpmap").with("protocol", "webrtc-datachannel"),
        Element::new(NAMESPACE, "sctpmap")
            .with("protocol", "webrtc-datachannel")
            .with("number", "0"),
        Element::new(NAMESPACE, "sctpmap")
            .with("protocol", "webrtc-datachannel")
            .with("number", "70000"),
        Element::new(NAMESPACE, "sctpmap")
            .with("protocol", "other")
            .with("number", "5000"),
        Element::new("urn:other", "sctpmap")
            .with("protocol", "webrtc-datachannel")
            .with("number", "5000"),
    ] {
        let mut side = negotiation(Role::Responder, DataChannelConfig::default());
        assert!(
            side.accept_offer(&transport(vec![map.clone()])).is_err(),
            "{map:?}"
        );
        let mut side = negotiation(Role::Initiator, DataChannelConfig::default());
        assert!(side.accept_answer(&transport(vec![map])).is_err());
    }
    // What is not ours, or cannot be read, does no harm.
    let map = Element::new(NAMESPACE, "sctpmap")
        .with("protocol", "webrtc-datachannel")
        .with("number", "5001");
    let init = Element::new(INIT_NAMESPACE, "init").text("nonsense!");
    let mut side = negotiation(Role::Responder, DataChannelConfig::default());
    let answer = side
        .accept_offer(&transport(vec![map, init]))
        .expect("acceptable");
    assert!(
        answer
            .iter()
            .all(|element| !element.is(INIT_NAMESPACE, "init"))
    );
}
