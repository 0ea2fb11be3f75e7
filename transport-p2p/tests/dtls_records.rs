//! Records between two who speak DTLS: how large they are, and datagrams that a stranger throws among them, as whoever can
//! forge the sender's address can.
#![cfg(feature = "dtls")]
#![allow(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use session_core::{testing::epoch, *};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::dtls::{DtlsConfig, DtlsLayer, Identity, Versions};

/// What the test and a channel below share.
#[derive(Default)]
struct Wire {
    outputs: VecDeque<ChannelOutput>,
    sent: VecDeque<Bytes>,
    datagram_max: Option<usize>,
}

struct Below(Arc<Mutex<Wire>>);

impl TransportChannel for Below {
    fn connect(&mut self, _: Instant) {}

    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, packet: Bytes, _: Instant) -> Result<(), SendError> {
        self.0.lock().unwrap().sent.push_back(packet);
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
}

struct Pair {
    channels: [Box<dyn TransportChannel>; 2],
    wires: [Arc<Mutex<Wire>>; 2],
    now: Instant,
    received: [Vec<Bytes>; 2],
    failed: [Option<TransportError>; 2],
    /// Everything that was sent.
    seen: Vec<Bytes>,
}

impl Pair {
    fn new(config: &DtlsConfig) -> Self {
        let layers = [0, 1].map(|_| {
            let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
            let identity = Identity::new(made.cert.der(), &made.signing_key.serialize_der());
            DtlsLayer::data(identity).with_config(config.clone())
        });
        let contexts = [Role::Initiator, Role::Responder].map(|role| TransportContext {
            role,
            local: "a@a.example/1".into(),
            remote: "b@b.example/2".into(),
            sid: "sid".into(),
            content: "content".into(),
            dialect: Dialect::JINGLE,
            seed: [1 + role as u8; 32],
            waker: Waker::noop().clone(),
        });
        let mut sides = [0, 1].map(|side| layers[side].negotiate(&contexts[side]).unwrap());
        let transport = |children| Element::new("urn:example", "transport").children_from(children);
        let offer = transport(sides[0].offer());
        let answer = transport(sides[1].accept_offer(&offer).unwrap());
        sides[0].accept_answer(&answer).unwrap();
        let wires = [0, 1].map(|_| Arc::new(Mutex::new(Wire::default())));
        let channels = [0, 1].map(|side| {
            let below = Box::new(Below(Arc::clone(&wires[side])));
            sides[side].wrap(below, &contexts[side])
        });
        let mut pair = Self {
            channels,
            wires,
            now: epoch(),
            received: Default::default(),
            failed: Default::default(),
            seen: Vec::new(),
        };
        for side in 0..2 {
            pair.channels[side].connect(pair.now);
            pair.give(side, ChannelOutput::Writable(true));
        }
        pair
    }

    fn give(&self, side: usize, output: ChannelOutput) {
        self.wires[side].lock().unwrap().outputs.push_back(output);
    }

    /// A datagram reaches a side, whoever sent it.
    fn throw(&mut self, side: usize, datagram: Bytes) {
        self.give(side, ChannelOutput::Packet(datagram.into()));
        self.drain(side);
    }

    fn drain(&mut self, side: usize) {
        self.channels[side].handle_timeout(self.now);
        while let Some(output) = self.channels[side].poll_output() {
            if let ChannelOutput::Packet(batch) = output {
                self.received[side].extend(batch);
            } else if let ChannelOutput::Failed(error) = output {
                self.failed[side] = Some(error);
            }
        }
    }

    /// Lets them speak for a second, while `stranger` says something now and then.
    fn run(&mut self, mut stranger: impl FnMut(&mut Self)) {
        for _ in 0..20 {
            for side in 0..2 {
                self.drain(side);
                let sent = std::mem::take(&mut self.wires[side].lock().unwrap().sent);
                for datagram in sent {
                    self.seen.push(datagram.clone());
                    self.throw(1 - side, datagram);
                }
            }
            stranger(self);
            self.now += Duration::from_millis(50);
        }
    }

    fn assert_carries(&mut self, what: &str) {
        self.received = Default::default();
        let packet = Bytes::from(vec![7; 900]);
        for channel in &mut self.channels {
            channel.send(packet.clone(), self.now).expect(what);
        }
        self.run(|_| {});
        assert_eq!(self.failed, [None, None], "{what}");
        assert_eq!(self.received, [[packet.clone()], [packet]], "{what}");
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }
}

/// Noise, records of every kind with headers that look right, and datagrams that were seen, damaged or as they were.
fn forged(random: &mut Random, seen: &[Bytes]) -> Bytes {
    let mut datagram = match random.below(4) {
        0 => (0..random.below(80)).map(|_| random.next() as u8).collect(),
        1 => {
            let length = random.below(60);
            let epoch = random.below(3) as u8;
            let version = [[254, 253], [254, 255]][random.below(2)];
            let kind = 20 + random.below(7) as u8;
            let mut record = vec![kind, version[0], version[1], 0, epoch, 0, 0, 0, 0];
            record.extend([0, random.below(40) as u8, 0, length as u8]);
            record.extend((0..length).map(|_| random.below(26) as u8));
            record
        }
        _ => seen
            .get(random.below(seen.len()))
            .map(|datagram| datagram.to_vec())
            .unwrap_or_default(),
    };
    match random.below(3) {
        0 => datagram.truncate(random.below(datagram.len())),
        1 if !datagram.is_empty() => {
            let at = random.below(datagram.len());
            datagram[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    // What is not DTLS's is dropped before.
    if let Some(first) = datagram.first_mut()
        && !(20..64).contains(first)
    {
        *first = 20 + *first % 44;
    }
    datagram.into()
}

fn strangers_change_nothing(config: &DtlsConfig) {
    for seed in 0..40 {
        let mut random = Random(seed);
        let mut pair = Pair::new(config);
        pair.run(|_| {});
        pair.assert_carries("before");
        for _ in 0..200 {
            let datagram = forged(&mut random, &pair.seen);
            pair.throw(random.below(2), datagram.clone());
            let what = format!("{config:?}, seed {seed}: {datagram:02x?}");
            assert_eq!(pair.failed, [None, None], "{what}");
        }
        pair.assert_carries("after");
    }
}

/// The backends and versions there are.
fn configs() -> Vec<DtlsConfig> {
    let of = |versions| DtlsConfig {
        versions,
        ..DtlsConfig::default()
    };
    let configs = [Versions::Dtls12, Versions::Dtls13].map(of).to_vec();
    #[cfg(feature = "dtls-openssl")]
    let configs = [
        configs,
        vec![DtlsConfig {
            backend: transport_p2p::dtls::Backend::Openssl,
            ..of(Versions::Dtls12)
        }],
    ]
    .concat();
    configs
}

#[test]
fn what_strangers_throw_among_the_records_changes_nothing() {
    configs().iter().for_each(strangers_change_nothing);
}

/// The size of the handshake's datagrams is no limit for those of data.
#[test]
fn a_packet_of_any_size_is_one_record_in_one_datagram() {
    for config in configs() {
        let mut pair = Pair::new(&config);
        pair.wires[0].lock().unwrap().datagram_max = Some(8_972);
        pair.run(|_| {});
        assert_eq!(pair.channels[0].datagram_max(), Some(8_972 - 37));
        for size in [1, 1_435, 8_972 - 37, 16_000] {
            pair.seen.clear();
            pair.received = Default::default();
            let packet = Bytes::from(vec![7; size]);
            let now = pair.now;
            pair.channels[0].send(packet.clone(), now).unwrap();
            pair.run(|_| {});
            assert_eq!(pair.received[1], [packet], "{config:?}");
            let sizes: Vec<_> = pair.seen.iter().map(Bytes::len).collect();
            assert!(
                matches!(sizes[..], [one] if one > size && one <= size + 37),
                "{config:?}: {size} became {sizes:?}"
            );
        }
    }
}
