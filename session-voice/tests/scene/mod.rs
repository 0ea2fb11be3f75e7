//! Two phones with everything but a driver: managers, ICE, DTLS, and the sound of the call, in virtual time.

use session_core::testing::{Conditions, MemoryDatagram, World};
use session_core::{Config, SessionId};
use session_voice::{
    Call, CallConfig, CallVerdict, EngineConfig, JingleForm, Media, MediaOutput, MediaPacket,
    PayloadType, Protection, RTP, RtpDescription, VoiceClient, VoiceEngine,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use transport_p2p::{
    dtls::{DtlsConfig, DtlsLayer, Identity, Versions},
    ice::{IceConfig, IceTransportFactory, Interfaces},
};

pub type Client = VoiceClient<JingleForm>;

pub const ALICE: usize = 0;
pub const BOB: usize = 1;
pub const TICK: Duration = Duration::from_millis(10);

/// What a phone has beside its manager: the engine, its keys, and when packets came that it took.
#[derive(Default)]
pub struct Line {
    pub engine: Option<VoiceEngine>,
    pub keys: Option<Protection>,
    /// When each packet of sound came that was taken.
    pub taken: Vec<Instant>,
    pub refused: usize,
    /// Everything that came, as it came.
    pub came: Vec<bytes::Bytes>,
    pub heard: Vec<f32>,
}

pub struct Scene {
    pub world: World,
    pub interfaces: [Interfaces; 2],
    pub sessions: [Option<SessionId>; 2],
    pub lines: [Arc<Mutex<Line>>; 2],
    ticks: u32,
}

pub fn address(host: usize, number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, host as u8 + 1, 0, number))
}

pub fn audio() -> RtpDescription {
    let mut audio = RtpDescription::new(Media::Audio);
    audio.payload_types = vec![PayloadType::new(0, "PCMU", 8_000)];
    audio.rtcp_mux = true;
    audio
}

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    Identity::new(made.cert.der(), &made.signing_key.serialize_der())
}

impl Scene {
    /// Two phones of which Bob's answers as `verdict` says, each with ICE and one in memory of this name besides; 25 ms for packets
    /// and 50 ms for stanzas.
    pub fn new(verdict: &CallVerdict, more: Option<&'static str>) -> Self {
        Self::with(verdict, more, |_| ())
    }

    /// As [`new`](Self::new), with something of the configuration otherwise.
    pub fn with(
        verdict: &CallVerdict,
        more: Option<&'static str>,
        change: impl Fn(&mut CallConfig),
    ) -> Self {
        let mut world = World::new(3);
        let interfaces = [ALICE, BOB].map(|host| Interfaces::from(vec![address(host, 1)]));
        let lines: [Arc<Mutex<Line>>; 2] = Default::default();
        for host in [ALICE, BOB] {
            let name = ["alice@a.example/desk", "bob@b.example/lap"][host];
            let line = Arc::clone(&lines[host]);
            let mut config = CallConfig {
                layer: Some(Arc::new(DtlsLayer::srtp(identity()))),
                ..CallConfig::new(audio())
            };
            change(&mut config);
            let ice = IceTransportFactory::new(IceConfig::new(interfaces[host].clone()));
            world.add_host(name, Config::default(), |manager| {
                manager.add_transport(ice)?;
                if let Some(namespace) = more {
                    manager.add_transport(MemoryDatagram::new().with_namespace(namespace))?;
                }
                let mut client = Client::new(config);
                let verdict = verdict.clone();
                client.set_policy(move |_| verdict.clone());
                client.set_sink(move |_, packet, now| lock(&line).take(packet, now));
                manager.add_client(client)
            });
        }
        world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
        world.set_network(Conditions::with_delay(Duration::from_millis(25)));
        Self {
            world,
            interfaces,
            sessions: [None, None],
            lines,
            ticks: 0,
        }
    }

    /// Two phones, of which Bob's answers, whose DTLS is of these versions.
    pub fn speaking(versions: Versions) -> Self {
        Self::with(&CallVerdict::Answer, None, |config| {
            let dtls = DtlsConfig {
                versions,
                ..DtlsConfig::default()
            };
            let layer = DtlsLayer::srtp(identity()).with_config(dtls);
            config.layer = Some(Arc::new(layer));
        })
    }

    /// Alice calls by the first of her transports.
    pub fn dial(&mut self, transports: &[&str]) {
        let [alice, bob] = [ALICE, BOB].map(|host| self.world.name(host).clone());
        let id = self.world.update(ALICE, |manager, now| {
            let id = manager.create_session(alice, RTP, now).unwrap();
            let session = manager.session(id).unwrap();
            session.set_potential_transports(transports).unwrap();
            Client::dial(manager, id, bob, now).unwrap();
            id
        });
        self.sessions[ALICE] = Some(id);
    }

    /// Both speak and listen for so long.
    pub fn talk(&mut self, time: Duration) {
        let until = self.world.now() + time;
        while self.world.now() < until {
            self.world.run_for(TICK);
            self.ticks += 1;
            for host in [ALICE, BOB] {
                self.step(host);
            }
        }
    }

    pub fn step(&mut self, host: usize) {
        if self.sessions[host].is_none() {
            self.sessions[host] = self.world.update(host, |manager, _| {
                manager.find_client::<Client>()?.sessions().next()
            });
        }
        let Some(id) = self.sessions[host] else {
            return;
        };
        let now = self.world.now();
        let look = self.call(host, |call| {
            (
                call.protection(),
                EngineConfig::early(call, "x"),
                call.may_send(),
            )
        });
        let Some((Some(keys), config, may_send)) = look else {
            return;
        };
        let mut line = lock(&self.lines[host]);
        let line = &mut *line;
        let engine = line.engine.get_or_insert_with(|| {
            VoiceEngine::new(&config, keys.clone(), [host as u8 + 1; 16], now).unwrap()
        });
        if line
            .keys
            .replace(keys.clone())
            .is_some_and(|old| old != keys)
        {
            engine.set_protection(&keys);
        }
        engine.set_sending(may_send);
        // A tone of its own for each.
        let pitch = [0.3_f32, 0.5][host];
        let at = self.ticks * 80;
        let spoken: Vec<f32> = (0..80)
            .map(|n| ((at + n) as f32 * pitch).sin() * 0.4)
            .collect();
        engine.record(&spoken, now);
        if engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        let mut heard = [0.0; 80];
        engine.play(&mut heard, now);
        line.heard.extend(heard);
        let outputs: Vec<_> = std::iter::from_fn(|| engine.poll_output()).collect();
        self.world.update(host, |manager, now| {
            for output in outputs {
                let _ = match output {
                    MediaOutput::Rtp(packet) => Client::send_rtp(manager, id, packet, now),
                    MediaOutput::Rtcp(packet) => Client::send_rtcp(manager, id, packet, now),
                };
            }
        });
    }

    pub fn call<R>(&mut self, host: usize, look: impl FnOnce(&Call) -> R) -> Option<R> {
        let id = self.sessions[host]?;
        self.world.update(host, |manager, _| {
            manager.find_client::<Client>()?.call(id).map(look)
        })
    }

    pub fn line(&self, host: usize) -> std::sync::MutexGuard<'_, Line> {
        lock(&self.lines[host])
    }

    /// The longest time without a packet at a phone since then, up to now.
    pub fn gap(&self, host: usize, since: Instant) -> Duration {
        let line = self.line(host);
        let mut last = since;
        let mut longest = Duration::ZERO;
        for at in line.taken.iter().copied().filter(|at| *at > since) {
            longest = longest.max(at - last);
            last = at;
        }
        longest.max(self.world.now() - last)
    }
}

impl Line {
    fn take(&mut self, packet: MediaPacket, now: Instant) {
        let Some(engine) = &mut self.engine else {
            return;
        };
        let (MediaPacket::Rtp(bytes) | MediaPacket::Rtcp(bytes) | MediaPacket::Other(bytes)) =
            &packet;
        // Of its own: what is decrypted where it lies is not what came.
        self.came.push(bytes::Bytes::copy_from_slice(bytes));
        let result = match packet {
            MediaPacket::Rtp(packet) => {
                let result = engine.handle_rtp(packet, now);
                if result.is_ok() {
                    self.taken.push(now);
                }
                result
            }
            MediaPacket::Rtcp(packet) => engine.handle_rtcp(packet, now),
            MediaPacket::Other(_) => return,
        };
        self.refused += usize::from(result.is_err());
    }
}

fn lock(line: &Mutex<Line>) -> std::sync::MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
