//! Sessions of a service beside a real server: a component (XEP-0114) of Prosody with very many sessions, and how many it can
//! agree on in a second. Everything is private, on loopback, and ends with its holder.
//!
//! The other side is this program again, in a process of its own ([`ECHO`]), so that what is counted is one side.

mod bare;
mod server;
mod sides;

use crate::Figure;
use cpu_time::ProcessTime;
use server::Prosody;
use sides::{Other, Over, Side};
use std::time::{Duration, Instant};

pub(crate) const FIGURES: &[Figure] = &[
    ("xmpp.idle_bytes", idle_bytes),
    ("xmpp.idle_ice_bytes", idle_ice_bytes),
    ("xmpp.negotiations", negotiations),
    ("xmpp.soak", soak),
    (ECHO, sides::echo),
];

/// What the other process runs; nothing otherwise.
const ECHO: &str = "loop.xmpp_echo";

/// How many sessions lie idle.
const IDLE: u64 = 10_000;
/// What an idle session may hold (heap bytes, one side), the driver's part included.
const IDLE_LIMIT: u64 = 8 * 1024;
/// For how long nobody does anything.
const IDLE_TIME: Duration = Duration::from_secs(10);
/// How many sessions are under way at once.
const WINDOW: u64 = 128;
/// How long each run of negotiations takes.
const RUN: Duration = Duration::from_secs(8);
const RUNS: usize = 3;
/// How long a soak takes at least: what ended less than a minute ago is remembered until then, and half-time comes after it.
const SOAK_SECONDS_MIN: u64 = 180;
/// Into how many parts it falls.
const SOAK_PARTS: u32 = 20;

/// Over a transport without sockets: what signalling and the session hold.
fn idle_bytes(name: &str) {
    idle(name, Over::InBand);
}

/// Each with an ICE agent and a socket, whose path is checked for consent every few seconds.
fn idle_ice_bytes(name: &str) {
    idle(name, Over::Ice);
}

fn idle(name: &str, over: Over) {
    let Some(server) = Prosody::start() else {
        return skip(name);
    };
    let mut other = Other::start(&server, over);
    let mut side = Side::start(&server, over);
    let before = side.heap();
    let begun = Instant::now();
    let met = side.run(async |caller| caller.keep(IDLE, WINDOW).await);
    let took = begun.elapsed();
    assert_eq!(met, IDLE, "every session has a path");
    // What only the negotiation needed goes; remembered requests do after a minute and are none of a session's.
    side.rest(Duration::from_secs(2));
    let held = side.heap() - before;
    let cpu = ProcessTime::now();
    let quiet = Instant::now();
    side.rest(IDLE_TIME);
    let share = cpu.elapsed().as_secs_f64() / quiet.elapsed().as_secs_f64();
    assert_eq!(side.sessions(), IDLE, "all of them live on");
    let each = (held.max(0) as u64) / IDLE;
    println!(
        "bench {name} ours={each}B peer={IDLE_LIMIT}B ratio={:.2} peer_is=our-limit sessions={IDLE} cpu={:.2}% \
         other_side={}B rss={}MiB negotiated_in={:.1}s",
        IDLE_LIMIT as f64 / each as f64,
        100.0 * share,
        other.heap() / IDLE as i64,
        resident() >> 20,
        took.as_secs_f64(),
    );
}

/// How many sessions a second come and go through Prosody, and how many requests with their answers it carries by itself. The
/// ratio says which part of that ours uses: each session takes several.
fn negotiations(name: &str) {
    let Some(server) = Prosody::start() else {
        return skip(name);
    };
    let _other = Other::start(&server, Over::InBand);
    let mut side = Side::start(&server, Over::InBand);
    side.run(async |caller| caller.come_and_go(Duration::from_secs(2), WINDOW).await);
    let (mut ours, mut peer, mut requests) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let (begun, stanzas) = (Instant::now(), side.stanzas());
        let count = side.run(async |caller| caller.come_and_go(RUN, WINDOW).await) as f64;
        ours.push(count / begun.elapsed().as_secs_f64());
        requests.push((side.stanzas() - stanzas) as f64 / 2.0 / count);
        peer.push(bare::round_trips(&server, RUN, WINDOW as usize));
    }
    let (ours, peer, requests) = (median(ours), median(peer), median(requests));
    println!(
        "bench {name} ours={ours:.0}/s peer={peer:.0}iq/s ratio={:.2} peer_is=round-trips-of-the-server-alone \
         iqs_per_negotiation={requests:.1} ours_iqs={:.0}/s",
        ours * requests / peer,
        ours * requests,
    );
}

/// Sessions come and go for long, as fast as the server carries them; what both sides hold at the end, and at half-time.
fn soak(name: &str) {
    let seconds = std::env::var("BENCH_SOAK_SECONDS").ok();
    let seconds = seconds.and_then(|text| text.parse::<u64>().ok());
    let Some(seconds) = seconds else {
        println!("check {name} skipped: it takes minutes (cargo xtask bench {name} --soak 600)");
        return;
    };
    let part = Duration::from_secs(seconds.max(SOAK_SECONDS_MIN)) / SOAK_PARTS;
    let Some(server) = Prosody::start() else {
        return skip(name);
    };
    let mut other = Other::start(&server, Over::InBand);
    let mut side = Side::start(&server, Over::InBand);
    let (mut count, mut held) = (0, Vec::new());
    for _ in 0..SOAK_PARTS {
        count += side.run(async |caller| caller.come_and_go(part, WINDOW).await);
        assert_eq!(side.sessions(), 0, "all that came are gone");
        held.push((side.heap(), other.heap(), resident()));
    }
    let (_, late) = held.split_at(held.len() / 2);
    let (half, end) = (late[0], late[late.len() - 1]);
    for (side, half, end) in [("ours", half.0, end.0), ("the other", half.1, end.1)] {
        // A tenth is what the queues of one moment and another differ by.
        let most = half + half / 10 + 64 * 1024;
        assert!(end <= most, "{side} grew from {half} to {end} bytes");
    }
    println!(
        "bench {name} ours={}KiB peer={}KiB ratio={:.2} peer_is=itself-at-half-time seconds={:.0} negotiations={count} \
         other_side={}KiB other_half={}KiB rss={}MiB rss_half={}MiB",
        end.0 >> 10,
        half.0 >> 10,
        half.0 as f64 / end.0 as f64,
        (part * SOAK_PARTS).as_secs_f64(),
        end.1 >> 10,
        half.1 >> 10,
        end.2 >> 20,
        half.2 >> 20,
    );
}

fn skip(name: &str) {
    println!("check {name} skipped: prosody is not installed (cargo xtask setup)");
}

/// Bytes of this process in memory (Linux); 0 where that cannot be read.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0_u64) << 10
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
