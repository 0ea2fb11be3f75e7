//! A call of ours: sessions, ICE, keys by DTLS, RTP, SRTP and a jitter buffer on both sides.

use super::{Call, FRAME, PAYLOAD};
use crate::room::Room;
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
type Packets = Arc<Mutex<Vec<MediaPacket>>>;

const SECOND: Duration = Duration::from_secs(1);

/// One certificate for the whole process, as a program has one.
static LAYER: LazyLock<Arc<DtlsLayer>> = LazyLock::new(|| {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]);
    let made = made.expect("a certificate");
    let identity = Identity::new(made.cert.der(), &made.signing_key.serialize_der());
    Arc::new(DtlsLayer::srtp(identity))
});

pub(super) struct Phones {
    room: Room,
    sessions: [SessionId; 2],
    streams: [MediaStream; 2],
    packets: [Packets; 2],
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

impl Call for Phones {
    fn connect(number: usize) -> Self {
        let packets = [Packets::default(), Packets::default()];
        let side = |side: usize| {
            let packets = packets[side].clone();
            let address = Ipv4Addr::new(10, 0, 0, 1 + side as u8).into();
            manager((2 * number + side) as u64, address, move |_, packet| {
                lock(&packets).push(packet);
            })
        };
        let mut room = Room::new([side(0), side(1)], epoch());
        let alice = &mut room.sides[0];
        let id = alice
            .create_session("alice@a.example/1".into(), RTP, epoch())
            .expect("room");
        Client::dial(alice, id, "bob@b.example/2".into(), epoch()).expect("new");
        room.advance(epoch() + 2 * SECOND);
        let bobs = room.sides[1].find_client::<Client>();
        let bobs = bobs.and_then(|client| client.sessions().next());
        let sessions = [id, bobs.expect("it was called")];
        let now = room.now;
        let streams = [0, 1].map(|side: usize| {
            stream(&mut room.sides[side], sessions[side], now).expect("the call stands")
        });
        Self {
            room,
            sessions,
            streams,
            packets,
        }
    }

    fn frame(&mut self) -> usize {
        let now = self.room.now + FRAME;
        self.room.advance(now);
        for side in 0..2 {
            self.speak(side);
        }
        self.room.run();
        (0..2).map(|side| self.listen(side)).sum()
    }

    fn idle(&mut self, time: Duration) {
        self.room.advance(self.room.now + time);
    }
}

impl Phones {
    /// One side sends a frame, and whatever else is due now.
    pub(super) fn speak(&mut self, side: usize) {
        let now = self.room.now;
        let (manager, session) = (&mut self.room.sides[side], self.sessions[side]);
        let stream = &mut self.streams[side];
        let packet = stream
            .send_frame(&[5; PAYLOAD], FRAME, now)
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

    /// One side takes what has come, and plays a frame; how many frames have come.
    pub(super) fn listen(&mut self, side: usize) -> usize {
        let (now, mut played) = (self.room.now, 0);
        let (stream, packets) = (&mut self.streams[side], &self.packets[side]);
        for packet in lock(packets).drain(..) {
            match packet {
                MediaPacket::Rtp(packet) => {
                    stream.handle_rtp(packet, now).expect("the peer's");
                    played += 1;
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
        played
    }

    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }
}

fn lock(packets: &Packets) -> std::sync::MutexGuard<'_, Vec<MediaPacket>> {
    packets.lock().unwrap_or_else(PoisonError::into_inner)
}
