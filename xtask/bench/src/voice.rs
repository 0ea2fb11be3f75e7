//! Calls: what a packet costs in few and in many of them, what an idle one holds, and how soon one is there. No codec
//! but G.711, which costs nothing beside the rest.

mod calls;
mod ours;
mod pesq;
mod setup;
mod srtp;
mod theirs;

use crate::{
    Figure,
    measure::{in_huge_pages, summarise},
};
use cpu_time::ThreadTime;
use std::time::Duration;

pub(crate) const PESQ: &[Figure] = pesq::FIGURES;

pub(crate) const FIGURES: &[Figure] = &[
    ("voice.srtp", srtp::counter),
    ("voice.srtp_gcm", srtp::galois),
    ("voice.srtp_libsrtp", srtp::counter_libsrtp),
    ("voice.srtp_gcm_libsrtp", srtp::galois_libsrtp),
    ("voice.packet_40", |name| {
        in_huge_pages(name, || packet(name, COUNTS[0]))
    }),
    ("voice.packet_2000", |name| {
        in_huge_pages(name, || packet(name, COUNTS[1]))
    }),
    ("voice.packet_growth", |name| {
        in_huge_pages(name, || growth(name))
    }),
    ("voice.idle_bytes", idle_bytes),
    ("voice.calls", |name| {
        in_huge_pages(name, || calls::calls(name))
    }),
    ("voice.setup", setup::setup),
];

/// One frame of sound.
const FRAME: Duration = Duration::from_millis(20);
/// Its bytes: what Opus makes of it at 32 kbit/s.
const PAYLOAD: usize = 80;
/// Packets of one sample.
const PACKETS: usize = 40_000;
/// Samples of each, in turn.
const SAMPLES: usize = 5;
/// Pairs of samples that are set against each other.
const PAIRS: usize = 11;
/// Endpoints in few calls and in many.
const COUNTS: [usize; 2] = [40, 2_000];
/// Until everything that happens after the beginning has happened.
const SETTLE: Duration = Duration::from_secs(10);

/// Calls between pairs of connected endpoints that speak and listen.
trait Calls {
    fn connect(count: usize) -> Self;

    /// One frame each way in each of them, one after the other, from the payload to the jitter buffer's output; how many
    /// arrived.
    fn frame(&mut self) -> usize;

    /// Time passes, and nothing is said.
    fn idle(&mut self, time: Duration);
}

/// CPU time per packet, from the payload on one side to the payload on the other, with this many endpoints, of which
/// each speaks in its turn. No sockets. The peer is str0m, whose application gets packets as they come: it has no
/// jitter buffer in this mode.
fn packet(name: &str, endpoints: usize) {
    let mut ours: ours::Phones = connect(endpoints / 2);
    let mut theirs: theirs::Phones = connect(endpoints / 2);
    let (mut mine, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..SAMPLES {
        mine.push(sample(&mut ours, endpoints));
        peers.push(sample(&mut theirs, endpoints));
    }
    let (mine, peers) = (median(mine), median(peers));
    println!(
        "bench {name} ours={mine:.0}ns peer={peers:.0}ns ratio={:.2} peer_is=str0m",
        peers / mine
    );
}

/// By how much a packet costs more with 2,000 endpoints than with 40: what their memory costs, as it does not fit into the cache.
/// Both are measured in turn, so that whatever else the machine does meets both.
fn growth(name: &str) {
    let mut ours: [ours::Phones; 2] = COUNTS.map(|endpoints| connect(endpoints / 2));
    let mut theirs: [theirs::Phones; 2] = COUNTS.map(|endpoints| connect(endpoints / 2));
    let (mut mine, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        mine.push(grown(&mut ours));
        peers.push(grown(&mut theirs));
    }
    let (mine, peers) = (summarise(mine), summarise(peers));
    println!(
        "bench {name} ours={:.2} peer={:.2} ratio={:.2} spread={:.0}%/{:.0}% peer_is=str0m",
        mine.median,
        peers.median,
        peers.median / mine.median,
        100.0 * mine.spread,
        100.0 * peers.spread,
    );
}

/// What a packet costs in the second of these, measured in what it costs in the first.
fn grown(calls: &mut [impl Calls; 2]) -> f64 {
    let [few, many] = [0, 1].map(|which| {
        let calls = &mut calls[which];
        // The others had the cache.
        calls.frame();
        sample(calls, COUNTS[which])
    });
    many / few
}

/// Heap bytes of one endpoint with an encrypted session that nobody uses. The peer is str0m.
fn idle_bytes(name: &str) {
    let (ours, theirs) = (live_bytes::<ours::Phones>(), live_bytes::<theirs::Phones>());
    println!(
        "bench {name} ours={ours}B peer={theirs}B ratio={:.2} peer_is=str0m",
        theirs as f64 / ours as f64
    );
}

fn live_bytes<C: Calls>() -> i64 {
    const CALLS: usize = 50;
    // Whatever is made once for all is made now.
    drop(connect::<C>(1));
    let mut kept = None;
    let info = allocation_counter::measure(|| {
        kept.insert(C::connect(CALLS)).idle(6 * SETTLE);
    });
    drop(kept);
    info.bytes_current / (2 * CALLS as i64)
}

fn connect<C: Calls>(count: usize) -> C {
    let mut calls = C::connect(count);
    calls.idle(SETTLE);
    // The first packets find out where they come from.
    for _ in 0..20 {
        calls.frame();
    }
    calls
}

/// Nanoseconds for each packet.
fn sample(calls: &mut impl Calls, endpoints: usize) -> f64 {
    let rounds = PACKETS / endpoints;
    let start = ThreadTime::now();
    let arrived: usize = (0..rounds).map(|_| calls.frame()).sum();
    let time = start.elapsed().as_nanos() as f64;
    assert_eq!(arrived, rounds * endpoints, "nothing is lost");
    time / arrived as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
