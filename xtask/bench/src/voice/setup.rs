//! How soon a call is there: from the moment of dialling until the callee, who answers at once, has decoded sound. With
//! sockets on loopback and the real clock.

use super::{
    FRAME, median,
    ours::{self, Client},
};
use session_core::SessionId;
use session_voice::{AudioCodec, G711, Law, MediaPacket, MediaStream, Playout, RTP};
use session_xmpp::endpoint::{Endpoint, Router};
use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Calls, one after the other.
const RUNS: u64 = 21;
/// What is promised.
const LIMIT: Duration = Duration::from_millis(150);
/// How often this program looks whether there is something to do.
const TICK: Duration = Duration::from_millis(1);

pub(super) fn setup(name: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut times: Vec<f64> = (0..RUNS)
        .map(|run| runtime.block_on(once(run)).as_secs_f64() * 1e3)
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    let worst = times.last().copied().unwrap_or_default();
    let middle = median(times);
    let limit = LIMIT.as_secs_f64() * 1e3;
    println!(
        "bench {name} ours={middle:.1}ms peer={limit:.0}ms ratio={:.2} ours_worst={worst:.1}ms peer_is=our-limit",
        limit / middle
    );
}

struct Phone {
    endpoint: Endpoint,
    packets: Arc<Mutex<Vec<(SessionId, MediaPacket)>>>,
    session: Option<SessionId>,
    stream: Option<MediaStream>,
    next: Instant,
}

impl Phone {
    fn new(router: &Router, name: &str, seed: u64) -> Self {
        let packets = Arc::<Mutex<Vec<_>>>::default();
        let sink = packets.clone();
        let manager = ours::manager(seed, Ipv4Addr::LOCALHOST.into(), move |session, packet| {
            let mut packets = sink.lock().unwrap_or_else(PoisonError::into_inner);
            packets.push((session, packet));
        });
        Self {
            endpoint: Endpoint::spawn(manager, router.link(name)),
            packets,
            session: None,
            stream: None,
            next: Instant::now(),
        }
    }

    /// Speaks as soon as it may, and listens; whether something was heard.
    fn turn(&mut self, codec: &mut dyn AudioCodec) -> bool {
        let Self {
            session, stream, ..
        } = self;
        self.endpoint.update(|manager, now| {
            if session.is_none() {
                *session = manager
                    .find_client::<Client>()
                    .and_then(|client| client.sessions().next());
            }
            let Some(id) = *session else {
                return;
            };
            if stream.is_none() {
                *stream = ours::stream(manager, id, now);
                self.next = now;
            }
            if let Some(stream) = stream.as_mut().filter(|_| self.next <= now) {
                self.next += FRAME;
                let packet = stream.send_frame(&[0x55; 160], FRAME, now);
                // Before the path stands a packet is lost, as it would be on any network.
                let sent = Client::send_rtp(manager, id, packet.expect("no digit"), now);
                std::hint::black_box(sent).ok();
            }
        });
        let now = Instant::now();
        let packets: Vec<_> = self
            .packets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
            .collect();
        let Some(stream) = &mut self.stream else {
            return false;
        };
        for (_, packet) in packets {
            if let MediaPacket::Rtp(packet) = packet {
                stream.handle_rtp(packet, now).ok();
            }
        }
        let (Playout::Packet(frame), _) = stream.pull(now) else {
            return false;
        };
        let mut sound = Vec::new();
        codec.decode(&frame, &mut sound).is_ok() && !sound.is_empty()
    }
}

async fn once(run: u64) -> Duration {
    let router = Router::new();
    let mut alice = Phone::new(&router, "alice@a.example/1", 2 * run);
    let mut bob = Phone::new(&router, "bob@b.example/2", 2 * run + 1);
    let mut codec = G711::new(Law::Mu);
    let start = Instant::now();
    alice.session = Some(alice.endpoint.update(|manager, now| {
        let id = manager.create_session("alice@a.example/1".into(), RTP, now);
        let id = id.expect("room");
        Client::dial(manager, id, "bob@b.example/2".into(), now).expect("new");
        id
    }));
    loop {
        tokio::time::sleep(TICK).await;
        alice.turn(&mut codec);
        if bob.turn(&mut codec) {
            return start.elapsed();
        }
        assert!(start.elapsed() < 100 * LIMIT, "nothing is heard");
    }
}
