//! Calls of ours: sessions, ICE, keys by DTLS, RTP, SRTP and a jitter buffer on both sides. As in a program, there is one
//! manager for all calls; there are two, so that they have somebody to talk to.

use super::{Calls, FRAME, PAYLOAD};
use crate::room::Room;
use bytes::BytesMut;
use session_core::{Config, Role, SeededEntropy, SessionId, SessionManager, testing::epoch};
use session_voice::{
    CallConfig, CallVerdict, JingleForm, Media, MediaConfig, MediaOutput, MediaPacket, MediaStream,
    PayloadType, Playout, RTP, RtpDescription, VoiceClient,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};
use transport_p2p::{
    dtls::{DtlsLayer, Identity},
    ice::{IceConfig, IceTransportFactory},
};

pub(super) type Client = VoiceClient<JingleForm>;
type Packets = Arc<Mutex<Vec<(SessionId, MediaPacket)>>>;

/// How soon a call stands.
const LIMIT: Duration = Duration::from_secs(10);

/// One certificate for the whole process, as a program has one.
static LAYER: LazyLock<Arc<DtlsLayer>> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]);
    let made = made.expect("a certificate");
    let identity = Identity::new(made.cert.der(), &made.signing_key.serialize_der());
    Arc::new(DtlsLayer::srtp(identity))
});

pub(super) struct Phones {
    room: Room,
    calls: Vec<Call>,
    packets: [Packets; 2],
    /// Of the packets that leave.
    memory: BytesMut,
}

struct Call {
    sessions: [SessionId; 2],
    streams: [MediaStream; 2],
}

/// A manager for calls by ICE, which answers at once, and hands the packets of its calls to `sink`.
pub(super) fn manager(
    seed: u64,
    address: IpAddr,
    sink: impl FnMut(SessionId, MediaPacket) + Send + 'static,
) -> SessionManager {
    let mut audio = RtpDescription::new(Media::Audio);
    audio.payload_types = vec![PayloadType::new(0, "PCMU", 8_000)];
    audio.rtcp_mux = true;
    let mut client = Client::new(CallConfig {
        layer: Some(LAYER.clone()),
        calls_max: usize::MAX,
        ..CallConfig::new(audio)
    });
    let mut sink = sink;
    client.set_policy(|_| CallVerdict::Answer);
    client.set_sink(move |session, packet, _| sink(session, packet));
    let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(seed));
    manager.add_client(client).expect("the only client");
    let transport = IceTransportFactory::new(IceConfig::new(vec![address]));
    manager
        .add_transport(transport)
        .expect("the only transport");
    manager
}

/// The stream of a call that stands.
pub(super) fn stream(
    manager: &mut SessionManager,
    session: SessionId,
    now: Instant,
) -> Option<MediaStream> {
    let call = manager.find_client::<Client>()?.call(session)?;
    let protection = call.protection().filter(|_| call.may_send())?;
    let config = MediaConfig::new(0, 8_000, "bench");
    // The two of a call need different names, and no more.
    let seed = [1 + u8::from(call.role() == Role::Responder); 16];
    Some(MediaStream::new(config, protection, seed, now))
}

impl Calls for Phones {
    fn connect(count: usize) -> Self {
        let packets = [Packets::default(), Packets::default()];
        let side = |side: usize| {
            let packets = packets[side].clone();
            let address = Ipv4Addr::new(10, 0, 0, 1 + side as u8).into();
            manager(side as u64, address, move |session, packet| {
                lock(&packets).push((session, packet));
            })
        };
        let mut this = Self {
            room: Room::new([side(0), side(1)], epoch()),
            calls: Vec::with_capacity(count),
            packets,
            memory: BytesMut::new(),
        };
        for number in 0..count {
            let call = this.call(number);
            this.calls.push(call);
        }
        this
    }

    fn frame(&mut self) -> usize {
        self.room.advance(self.room.now + FRAME);
        let mut heard = 0;
        for call in 0..self.calls.len() {
            for side in 0..2 {
                self.prefetch(call + 1, side);
            }
            for side in 0..2 {
                self.speak(call, side);
            }
            self.room.run();
            heard += (0..2).map(|side| self.listen(call, side)).sum::<usize>();
        }
        heard
    }

    fn idle(&mut self, time: Duration) {
        self.room.advance(self.room.now + time);
    }
}

impl Phones {
    /// Somebody calls and is answered.
    fn call(&mut self, number: usize) -> Call {
        let (begun, room) = (self.room.now, &mut self.room);
        let alice = format!("alice{number}@a.example/1").into();
        let sides = &mut room.sides;
        let id = sides[0].create_session(alice, RTP, begun).expect("room");
        Client::dial(&mut sides[0], id, "bob@b.example/2".into(), begun).expect("new");
        loop {
            let now = room.now + FRAME;
            assert!(now < begun + LIMIT, "it does not connect");
            room.advance(now);
            let bobs = room.sides[1].find_client::<Client>();
            let Some(bobs) = bobs.and_then(|client| client.sessions().last()) else {
                continue;
            };
            let sessions = [id, bobs];
            let streams = [0, 1].map(|side| stream(&mut room.sides[side], sessions[side], now));
            if let [Some(alice), Some(bob)] = streams {
                let streams = [alice, bob];
                return Call { sessions, streams };
            }
        }
    }

    /// One side of a call will have its turn soon.
    pub(super) fn prefetch(&mut self, call: usize, side: usize) {
        if let Some(call) = self.calls.get(call) {
            call.streams[side].prefetch();
            Client::prefetch(&mut self.room.sides[side], call.sessions[side]);
        }
    }

    /// One side of a call sends a frame, and whatever else of it is due now.
    pub(super) fn speak(&mut self, call: usize, side: usize) {
        let now = self.room.now;
        let call = &mut self.calls[call];
        let (manager, session) = (&mut self.room.sides[side], call.sessions[side]);
        let stream = &mut call.streams[side];
        let packet = stream
            .send_frame_in(&mut self.memory, &[5; PAYLOAD], FRAME, now)
            .expect("no digit sounds");
        Client::send_rtp(manager, session, packet, now).expect("there is a path");
        if stream.poll_timeout().is_some_and(|at| at <= now) {
            stream.handle_timeout(now);
            while let Some(output) = stream.poll_output() {
                let sent = match output {
                    MediaOutput::Rtp(packet) => Client::send_rtp(manager, session, packet, now),
                    MediaOutput::Rtcp(packet) => Client::send_rtcp(manager, session, packet, now),
                };
                sent.expect("there is a path");
            }
        }
    }

    /// One side of a call takes what has come for it, and plays a frame; how many frames have come.
    pub(super) fn listen(&mut self, call: usize, side: usize) -> usize {
        let (now, mut heard) = (self.room.now, 0);
        let call = &mut self.calls[call];
        let (stream, session) = (&mut call.streams[side], call.sessions[side]);
        for (whose, packet) in lock(&self.packets[side]).drain(..) {
            assert_eq!(whose, session, "nobody else has spoken");
            match packet {
                MediaPacket::Rtp(packet) => {
                    stream.handle_rtp(packet, now).expect("the peer's");
                    heard += 1;
                }
                MediaPacket::Rtcp(packet) => {
                    stream.handle_rtcp(packet, now).expect("the peer's");
                }
                MediaPacket::Other(_) => {}
            }
        }
        // What is played stands for what was heard some frames ago.
        let (playout, _) = stream.pull(now);
        std::hint::black_box(matches!(playout, Playout::Packet(_)));
        heard
    }

    /// How many calls there are, and whose session each has on one side.
    pub(super) fn sessions(&self, side: usize) -> impl Iterator<Item = SessionId> {
        self.calls.iter().map(move |call| call.sessions[side])
    }

    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }
}

fn lock(packets: &Packets) -> std::sync::MutexGuard<'_, Vec<(SessionId, MediaPacket)>> {
    packets.lock().unwrap_or_else(PoisonError::into_inner)
}
