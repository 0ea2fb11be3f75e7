//! How calls sound on networks that lose and delay: our engine beside a buffer of a fixed length, in virtual time, by
//! PESQ-WB, with the bit rate of each. Figures are medians over networks of different seeds; ratio is that of the scores,
//! and does not know of delay. A row's condition holds from its first second on; what is judged begins when both sides have learned of it.

mod fixed;
mod network;
mod speech;

use crate::Figure;
use fixed::Fixed;
use network::{CLEAN, Network, Ways};
use session_core::testing::epoch;
use session_voice::{
    AudioCodec, EngineConfig, EngineStats, LibOpus, LossPattern, MediaConfig, MediaOutput,
    MediaStream, PayloadType, Protection, RtpPacket, VoiceEngine,
};
use speech::{Judge, Judgement, RATE};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub(super) const FIGURES: &[Figure] = &[
    ("voice.pesq.clean", |name| row(name, CLEAN, (3.95, 80.0))),
    ("voice.pesq.loss5", |name| row(name, loss(5), (3.2, 90.0))),
    ("voice.pesq.loss10", |name| {
        row(name, loss(10), (3.05, 90.0))
    }),
    ("voice.pesq.jit30", |name| {
        row(name, jitter(30, CLEAN), (3.93, 160.0));
    }),
    ("voice.pesq.loss5jit30", |name| {
        row(name, jitter(30, loss(5)), (3.2, 150.0));
    }),
    ("voice.pesq.loss10jit30", |name| {
        row(name, jitter(30, loss(10)), (2.48, 148.0));
    }),
    ("voice.pesq.burst7", |name| {
        row(name, bursts(7), (2.65, 0.0))
    }),
    ("voice.pesq.burst13", |name| {
        row(name, bursts(13), (2.4, 0.0))
    }),
    ("voice.networks", networks),
];

/// Of what is spoken; the first of it is not judged.
const SECONDS: usize = 48;
const SKIP: usize = 16;
/// Networks of each kind.
const SEEDS: u64 = 5;
const TICK: Duration = Duration::from_millis(1);
/// How much the microphone gives and the loudspeaker takes at a time.
const PIECE: Duration = Duration::from_millis(10);
const PIECE_SAMPLES: usize = RATE as usize / 100;
const FRAME_SAMPLES: usize = 2 * PIECE_SAMPLES;
/// That of Opus.
const PAYLOAD_TYPE: u8 = 111;

fn loss(percent: u32) -> Network {
    Network {
        loss: f64::from(percent) / 100.0,
        ..CLEAN
    }
}

fn bursts(percent: u32) -> Network {
    Network {
        burst: 5.0,
        ..loss(percent)
    }
}

fn jitter(milliseconds: u64, network: Network) -> Network {
    Network {
        jitter: Duration::from_millis(milliseconds),
        ..network
    }
}

/// What one player has heard, and how it came about.
struct Heard {
    sound: Vec<f32>,
    concealed: u64,
    late: u64,
    /// Bits per second of all payloads that it was sent.
    rate: f64,
}

/// All players on one network.
struct Heards {
    ours: Heard,
    /// With each of the waits that were asked for.
    fixed: Vec<Heard>,
}

/// A packet on its way: to us, to the peers, or back.
enum Parcel {
    Ours(MediaOutput),
    Theirs(bytes::Bytes, Instant),
    Back(MediaOutput),
}

/// The call of one seed.
struct Line {
    caller: VoiceEngine,
    callee: VoiceEngine,
    /// What the peers hear where our packets may have no copies: the same speech at the same rate, with copies in all.
    copies: Option<Copies>,
    fixed: Vec<Fixed>,
    ways: Ways,
    /// What arrives when, and in which order.
    way: BTreeMap<(Instant, u64), Parcel>,
    sent: u64,
    bits: [f64; 2],
}

/// A stream with a copy in each packet, whatever the network does.
struct Copies {
    codec: LibOpus,
    stream: MediaStream,
    frame: Vec<f32>,
}

impl Copies {
    fn new(network: Network, now: Instant) -> Self {
        let mut codec = LibOpus::new().expect("memory");
        codec.adapt(LossPattern {
            loss: network.loss.max(0.05),
            burst: 1.0,
        });
        let config = MediaConfig::new(PAYLOAD_TYPE, RATE, "peer");
        Self {
            codec,
            stream: MediaStream::new(config, Protection::Plain, [3; 16], now),
            frame: Vec::new(),
        }
    }

    fn record(&mut self, sound: &[f32], now: Instant) -> Option<bytes::Bytes> {
        self.frame.extend_from_slice(sound);
        if self.frame.len() < FRAME_SAMPLES {
            return None;
        }
        let mut payload = Vec::new();
        self.codec.encode(&self.frame, &mut payload).expect("20 ms");
        self.frame.clear();
        self.stream.send_frame(&payload, 2 * PIECE, now)
    }
}

impl Line {
    fn new(network: Network, seed: u64, waits: &[Duration], now: Instant) -> Self {
        let config = EngineConfig::new(vec![PayloadType::opus(PAYLOAD_TYPE)], "x");
        let engine = |seed| {
            let engine = VoiceEngine::new(&config, Protection::Plain, [seed; 16], now);
            engine.expect("Opus is built in")
        };
        Self {
            caller: engine(1),
            callee: engine(2),
            copies: network.is_unsteady().then(|| Copies::new(network, now)),
            fixed: waits.iter().map(|wait| Fixed::new(*wait)).collect(),
            ways: Ways::new(network, seed),
            way: BTreeMap::new(),
            sent: 0,
            bits: [0.0; 2],
        }
    }

    fn put(&mut self, at: Instant, parcel: Parcel) {
        self.sent += 1;
        self.way.insert((at, self.sent), parcel);
    }

    fn record(&mut self, sound: &[f32], since_begin: Duration, now: Instant) {
        self.caller.record(sound, now);
        let other = self.copies.as_mut().map(|copies| copies.record(sound, now));
        while let Some(output) = self.caller.poll_output() {
            let ways = self.ways.next(since_begin);
            let MediaOutput::Rtp(packet) = &output else {
                // Reports are lost as well.
                if let Some(way) = ways[0] {
                    self.put(now + way, Parcel::Ours(output));
                }
                continue;
            };
            let theirs = match &other {
                Some(other) => other.clone().expect("a frame for each of ours"),
                None => packet.clone(),
            };
            for (bits, packet) in self.bits.iter_mut().zip([packet, &theirs]) {
                let rtp = RtpPacket::parse(packet).expect("ours");
                *bits += rtp.payload().len() as f64 * 8.0;
            }
            for way in ways.into_iter().flatten() {
                self.put(now + way, Parcel::Ours(output.clone()));
                self.put(now + way, Parcel::Theirs(theirs.clone(), now));
            }
        }
    }

    fn arrive(&mut self, now: Instant) {
        while let Some(first) = self.way.first_entry().filter(|first| first.key().0 <= now) {
            match first.remove() {
                Parcel::Ours(MediaOutput::Rtp(packet)) => {
                    self.callee.handle_rtp(packet, now).expect("the caller's");
                }
                Parcel::Ours(MediaOutput::Rtcp(packet)) => {
                    self.callee.handle_rtcp(packet, now).expect("the caller's");
                }
                Parcel::Theirs(packet, sent) => {
                    for fixed in &mut self.fixed {
                        fixed.handle_rtp(&packet, sent, now);
                    }
                }
                Parcel::Back(MediaOutput::Rtp(packet)) => {
                    self.caller.handle_rtp(packet, now).expect("the callee's");
                }
                Parcel::Back(MediaOutput::Rtcp(packet)) => {
                    self.caller.handle_rtcp(packet, now).expect("the callee's");
                }
            }
        }
    }

    /// Reports, in both directions.
    fn keep_time(&mut self, since_begin: Duration, now: Instant) {
        for engine in [&mut self.caller, &mut self.callee] {
            if engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
        }
        while let Some(output) = self.callee.poll_output() {
            if let [Some(way), _] = self.ways.next(since_begin) {
                self.put(now + way, Parcel::Back(output));
            }
        }
    }
}

/// Makes the call, and hears it on each player.
fn call(said: &[f32], network: Network, seed: u64, waits: &[Duration]) -> Heards {
    let begin = epoch();
    let mut line = Line::new(network, seed, waits, begin);
    // When the loudspeaker asks, between two pieces of the microphone.
    let offset = Duration::from_millis(seed % 10);
    let mut heard: Vec<Vec<f32>> =
        vec![vec![0.0; offset.as_millis() as usize * 48]; 1 + waits.len()];
    let (mut pieces, mut played, mut now) = (said.chunks_exact(PIECE_SAMPLES), 0, begin);
    let mut spoken = 0;
    let end = begin + Duration::from_secs(SECONDS as u64 + 1);
    while now < end {
        now += TICK;
        let since = now - begin;
        line.arrive(now);
        let clock = since.mul_f64(1.0 + network.drift / 1e6);
        while PIECE * (spoken + 1) <= clock {
            spoken += 1;
            if let Some(piece) = pieces.next() {
                line.record(piece, since, now);
            }
        }
        line.keep_time(since, now);
        if now >= begin + offset + PIECE * played {
            played += 1;
            let mut sound = [0.0; PIECE_SAMPLES];
            line.callee.play(&mut sound, now);
            heard[0].extend(sound);
            for (fixed, heard) in line.fixed.iter_mut().zip(&mut heard[1..]) {
                fixed.play(&mut sound, now);
                heard.extend(sound);
            }
        }
    }
    tell(&line, heard, now)
}

fn tell(line: &Line, heard: Vec<Vec<f32>>, now: Instant) -> Heards {
    let EngineStats { media, .. } = line.callee.stats(now);
    let mut heard = heard.into_iter();
    let ours = Heard {
        sound: heard.next().unwrap_or_default(),
        concealed: media.playout.concealed,
        late: media.playout.late,
        rate: line.bits[0] / SECONDS as f64,
    };
    let fixed = line.fixed.iter().zip(heard).map(|(fixed, sound)| Heard {
        sound,
        concealed: fixed.concealed.into(),
        late: fixed.late_all.into(),
        rate: line.bits[1] / SECONDS as f64,
    });
    Heards {
        ours,
        fixed: fixed.collect(),
    }
}

/// How one player did over all seeds.
struct Outcome {
    judged: Vec<Judgement>,
    concealed: u64,
    late: u64,
    rate: f64,
}

impl Outcome {
    fn score(&self) -> f64 {
        super::median(self.judged.iter().map(|judged| judged.score).collect())
    }

    fn delay(&self) -> f64 {
        super::median(self.judged.iter().map(|judged| judged.delay).collect())
    }

    /// Half of what lies between the best and the worst.
    fn spread(&self) -> f64 {
        let scores = || self.judged.iter().map(|judged| judged.score);
        (scores().fold(f64::MIN, f64::max) - scores().fold(f64::MAX, f64::min)) / 2.0
    }
}

/// Ours first, then each fixed buffer; none where PESQ is not installed.
fn measure(network: Network, seeds: u64, waits: &[Duration]) -> Option<Vec<Outcome>> {
    let python = speech::python()?;
    let said = speech::speech(SECONDS);
    let mut judge = Judge::new(&said);
    let mut results: Vec<Outcome> = (0..=waits.len())
        .map(|_| Outcome {
            judged: Vec::new(),
            concealed: 0,
            late: 0,
            rate: 0.0,
        })
        .collect();
    let first = if speech::is_tuning() { 1_000 } else { 1 };
    for seed in first..first + seeds {
        let heards = call(&said, network, seed, waits);
        for (result, heard) in results
            .iter_mut()
            .zip([heards.ours].into_iter().chain(heards.fixed))
        {
            judge.hear(&heard.sound);
            result.concealed += heard.concealed;
            result.late += heard.late;
            result.rate += heard.rate / seeds as f64;
        }
    }
    let count = results.len();
    for (number, judged) in judge.judge(&python, SKIP).into_iter().enumerate() {
        results[number % count].judged.push(judged);
    }
    Some(results)
}

/// The median over all seeds. `limit` is what is promised: a score, at a delay.
fn row(name: &str, network: Network, limit: (f64, f64)) {
    let Some(results) = measure(network, SEEDS, &[Duration::from_millis(60)]) else {
        println!("{name}: PESQ is not installed; `cargo xtask bench {name}` sees to it");
        return;
    };
    let [ours, peer] = &results[..] else {
        unreachable!("there is one fixed buffer");
    };
    let limit = match limit {
        (score, 0.0) => format!("{score}"),
        (score, delay) => format!("{score}@{delay}ms"),
    };
    println!(
        "bench {name} ours={:.2}@{:.0}ms peer={:.2}@{:.0}ms ratio={:.2} spread={:.2}/{:.2} reach={limit} \
         kbit_per_s={:.1}/{:.1} peer_is=fixed-60ms-with-copies",
        ours.score(),
        ours.delay(),
        peer.score(),
        peer.delay(),
        ours.score() / peer.score(),
        ours.spread(),
        peer.spread(),
        ours.rate / 1e3,
        peer.rate / 1e3,
    );
}

/// Networks beside those of the rows.
fn others() -> Vec<(&'static str, Network)> {
    let step = |longer| Network {
        step: Some((Duration::from_secs(30), Duration::from_millis(longer))),
        ..CLEAN
    };
    vec![
        ("loss 2 %", loss(2)),
        ("loss 20 %", loss(20)),
        ("loss 30 %", loss(30)),
        ("bursts 3 %", bursts(3)),
        ("bursts 20 %", bursts(20)),
        ("bursts 30 %", bursts(30)),
        ("jitter 10 ms", jitter(10, CLEAN)),
        ("jitter 60 ms", jitter(60, CLEAN)),
        ("jitter 100 ms", jitter(100, CLEAN)),
        (
            "5 % reordered",
            Network {
                reordered: 0.05,
                ..CLEAN
            },
        ),
        (
            "10 % doubled",
            Network {
                doubled: 0.1,
                ..CLEAN
            },
        ),
        (
            "clock +200 ppm",
            Network {
                drift: 200.0,
                ..CLEAN
            },
        ),
        (
            "clock -200 ppm",
            Network {
                drift: -200.0,
                ..CLEAN
            },
        ),
        ("path +80 ms at 30 s", step(80)),
        (
            "all: 10 %, 30 ms, reordered, doubled, +200 ppm",
            Network {
                reordered: 0.05,
                doubled: 0.1,
                drift: 200.0,
                ..jitter(30, loss(10))
            },
        ),
    ]
}

/// A table of other networks, beside fixed buffers of 60 and 100 ms.
fn networks(name: &str) {
    let waits = [60, 100].map(Duration::from_millis);
    println!(
        "      each: score, delay in ms, frames concealed, packets late; of {} s",
        SECONDS
    );
    println!(
        "      {:48} {:26} {:26} fixed 100 ms",
        "network", "ours", "fixed 60 ms"
    );
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for (what, network) in others() {
        let Some(results) = measure(network, 1, &waits) else {
            println!("{name}: PESQ is not installed; `cargo xtask bench {name}` sees to it");
            return;
        };
        let cells: Vec<String> = results
            .iter()
            .map(|one| {
                let (score, delay) = (one.score(), one.delay());
                format!("{score:.2} {delay:5.0} {:5} {:5}", one.concealed, one.late)
            })
            .collect();
        println!(
            "      {what:48} {:26} {:26} {}",
            cells[0], cells[1], cells[2]
        );
        ours.push(results[0].score());
        peers.push(results[2].score());
    }
    let mean = |scores: &[f64]| scores.iter().sum::<f64>() / scores.len() as f64;
    let (ours, peers) = (mean(&ours), mean(&peers));
    println!(
        "bench {name} ours={ours:.2} peer={peers:.2} ratio={:.2} peer_is=fixed-100ms-with-copies",
        ours / peers
    );
}
