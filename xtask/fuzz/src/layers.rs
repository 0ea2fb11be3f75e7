//! What a peer of a protected channel, or anybody on the way to it, may do: what is said in signalling, and datagrams.

use bytes::Bytes;
use session_core::{
    Batch, ChannelLayer, ChannelOutput, Datagram, Dialect, ElementLimits, LayeredTransport,
    LocalSocket, Role, Transport, TransportChannel, TransportContext, TransportFactory as _,
    testing::epoch,
};
use session_xmpp::xml::{self, Context};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, LazyLock},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::{
    dtls::{self, DtlsLayer},
    quic::{self, QuicLayer},
    raw_udp::RawUdp,
};

/// What the peer sends, whole, and nobody else could.
const PEER_SAYS: &[u8] = b"peer";
/// More outputs of one call, or datagrams in flight, are endless.
const MOST: usize = 10_000;

static CERTIFICATE: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]);
    let made = made.expect("a certificate and its key");
    (made.cert.der().to_vec(), made.signing_key.serialize_der())
});

/// Datagrams as records.
pub fn dtls(data: &[u8]) {
    let (certificate, key) = &*CERTIFICATE;
    let identity = dtls::Identity::new(certificate, key);
    run(&(Arc::new(DtlsLayer::data(identity)) as _), data);
}

/// A stream.
pub fn quic(data: &[u8]) {
    let (certificate, key) = &*CERTIFICATE;
    let identity = quic::Identity::new(certificate, key).expect("a certificate and its key");
    let layer = QuicLayer::new(identity, quic::Config::default());
    run(&(Arc::new(layer) as _), data);
}

/// The first byte says what the rest is: an element, or what happens to two ends.
fn run(layer: &Arc<dyn ChannelLayer>, data: &[u8]) {
    match data.split_first() {
        Some((0, rest)) => element(layer, rest),
        Some((kind, rest)) => datagrams(layer, *kind, rest),
        None => {}
    }
}

/// An element as an offer, an answer and a transport-info.
fn element(layer: &Arc<dyn ChannelLayer>, bytes: &[u8]) {
    let limits = ElementLimits::default();
    let Ok(element) = xml::parse(bytes, &Context::CLIENT, &limits) else {
        return;
    };
    for role in [Role::Initiator, Role::Responder] {
        let mut end = End::new(layer, role);
        if let Ok(parts) = end.transport.split_info(&element) {
            for (_, part) in parts {
                let _ = end.channel.handle_info(&part, epoch());
            }
        }
        let agreed = match role {
            Role::Initiator => {
                end.transport.offer();
                end.transport.accept_answer(&element)
            }
            Role::Responder => end.transport.accept_offer(&element).map(drop),
        };
        // Again, or after a refusal.
        let _ = end.transport.accept_offer(&element);
        end.channel.connect(epoch());
        end.drain(epoch());
        assert!(agreed.is_ok() || !end.open, "open without agreement");
    }
}

/// Two ends, what they send to each other, and what somebody between does to it.
fn datagrams(layer: &Arc<dyn ChannelLayer>, kind: u8, mut rest: &[u8]) {
    let mut now = epoch();
    let (roles, victim) = ([Role::Initiator, Role::Responder], usize::from(kind & 1));
    let mut ends = roles.map(|role| End::new(layer, role));
    connect(&mut ends, now);
    while let [step, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        match step % 8 {
            0..=2 => {
                for _ in 0..=*length {
                    for to in 0..2 {
                        let packet = ends[1 - to].out.pop_front();
                        if let Some(packet) = packet {
                            ends[to].arrive(packet, now);
                        }
                    }
                }
            }
            3 => {
                if let Some(packet) = ends[1 - victim].out.pop_front() {
                    let mut packet = packet.to_vec();
                    let at = usize::from(*length) % packet.len().max(1);
                    if let Some(byte) = packet.get_mut(at) {
                        *byte ^= bytes.first().copied().unwrap_or(1).max(1);
                    }
                    ends[victim].arrive(packet.into(), now);
                }
            }
            4 => ends[victim].arrive(Bytes::copy_from_slice(bytes), now),
            5 => {
                let _ = ends[1 - victim]
                    .channel
                    .send(Bytes::from_static(PEER_SAYS), now);
                let _ = ends[victim].channel.send(Bytes::from_static(b"ours"), now);
            }
            6 => {
                now += Duration::from_millis(u64::from(*length) * 10);
                for end in &mut ends {
                    if end.channel.poll_timeout().is_some_and(|at| at <= now) {
                        end.channel.handle_timeout(now);
                    }
                }
            }
            _ => {
                // Once more, or late.
                let again = ends[1 - victim].out.front().cloned();
                if let Some(packet) = again {
                    ends[victim].arrive(packet, now);
                }
                ends[1 - victim]
                    .out
                    .rotate_left(usize::from(!ends[1 - victim].out.is_empty()));
            }
        }
        ends.iter_mut().for_each(|end| end.drain(now));
        let heard = &ends[victim].heard;
        let whole = heard
            .chunks(PEER_SAYS.len())
            .all(|part| PEER_SAYS.starts_with(part));
        assert!(whole, "{heard:?} is not what the peer says");
    }
}

/// Signalling that arrives, so that both know the other's fingerprint and address.
fn connect(ends: &mut [End; 2], now: Instant) {
    let offer = ends[0].transport.offer();
    let answer = ends[1]
        .transport
        .accept_offer(&offer)
        .expect("our own offer");
    ends[0]
        .transport
        .accept_answer(&answer)
        .expect("our own answer");
    for end in ends.iter_mut() {
        end.channel.connect(now);
        end.drain(now);
    }
    for from in 0..2 {
        for info in std::mem::take(&mut ends[from].infos) {
            let heard = ends[1 - from].channel.handle_info(&info, now);
            heard.expect("our own address");
        }
    }
    ends.iter_mut().for_each(|end| end.drain(now));
}

struct End {
    transport: LayeredTransport,
    channel: Box<dyn TransportChannel>,
    address: SocketAddr,
    peer: SocketAddr,
    open: bool,
    infos: Vec<session_core::Element>,
    out: VecDeque<Bytes>,
    heard: Vec<u8>,
}

impl End {
    fn new(layer: &Arc<dyn ChannelLayer>, role: Role) -> Self {
        let addresses = [([192, 0, 2, 1], 4_000), ([192, 0, 2, 2], 4_000)].map(SocketAddr::from);
        let [address, peer] = match role {
            Role::Initiator => addresses,
            Role::Responder => [addresses[1], addresses[0]],
        };
        let context = TransportContext {
            role,
            local: "a@example.org/1".into(),
            remote: "b@example.org/2".into(),
            sid: "sid".into(),
            content: "data".into(),
            dialect: Dialect::JINGLE,
            seed: [role as u8; 32],
            waker: Waker::noop().clone(),
        };
        let raw = RawUdp::new(address).create(&context);
        let mut transport = LayeredTransport::new(raw, layer, &context);
        let channel = transport.create_channel("data").expect("the first");
        Self {
            transport,
            channel,
            address,
            peer,
            open: false,
            infos: Vec::new(),
            out: VecDeque::new(),
            heard: Vec::new(),
        }
    }

    fn arrive(&mut self, payload: Bytes, now: Instant) {
        let datagram = Datagram {
            socket: LocalSocket(0),
            source: self.peer,
            payload,
            segment_size: 0,
        };
        self.channel.handle_datagram(datagram, now);
        self.drain(now);
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else there is is for a session"
    )]
    fn drain(&mut self, now: Instant) {
        for count in 0.. {
            assert!(count < MOST, "outputs without end");
            let Some(output) = self.channel.poll_output() else {
                break;
            };
            match output {
                ChannelOutput::Bind(socket, ..) => {
                    self.channel.handle_bound(socket, Ok(self.address), now);
                }
                ChannelOutput::Info(info) => self.infos.push(info),
                ChannelOutput::Transmit(transmit) => self.out.extend(Batch {
                    payload: transmit.payload,
                    segment_size: transmit.segment_size,
                }),
                ChannelOutput::Writable(writable) => self.open = writable,
                ChannelOutput::Packet(batch) => self.heard.extend_from_slice(&batch.payload),
                _ => {}
            }
        }
        assert!(self.out.len() < MOST, "datagrams without end");
    }
}
