//! ICE agents, two at a time: in memory with a clock of their own, and over loopback.

mod datagram;
mod is_agents;
mod loopback;
mod ours;
mod rtc_agents;

use std::time::Duration;

use crate::Figure;
use crate::measure::{compare, medians};

pub(crate) const FIGURES: &[Figure] = &[
    ("ice.cpu_1", |name| cpu(name, 1)),
    ("ice.cpu_4", |name| cpu(name, 4)),
    ("ice.cpu_16", |name| cpu(name, 16)),
    ("ice.worst_4", |name| worst(name, 4)),
    ("ice.worst_16", |name| worst(name, 16)),
    ("ice.loopback", loopback::loopback),
    ("ice.heap_1", |name| heap(name, 1)),
    ("ice.heap_4", |name| heap(name, 4)),
    ("ice.idle_cpu", idle_cpu),
    ("ice.datagram", datagram::datagram),
    ("ice.datagram_queued", datagram::datagram_queued),
    ("ice.datagram_gso", datagram::datagram_gso),
];

/// Whether a datagram gets from this candidate of one side to that of the other; numbers as on the side of agent 0.
type Reaches = fn(usize, usize, usize) -> bool;

const ALL: Reaches = |_, _, _| true;
const LAST: Reaches = |count, a, b| a + 1 == count && b + 1 == count;

/// From two new agents with this many host candidates to a nominated pair on both sides; the pace is kept, on a clock
/// that jumps. The peer is `is`.
fn cpu(name: &str, count: usize) {
    compare(
        name,
        || drop(ours::Agents::connect(count, ALL)),
        || drop(is_agents::Agents::connect(count, ALL)),
    );
}

/// How long, on the virtual clock, until both sides use the only pair that works, which is the last of all. The peer
/// is `is` with its limit of pairs lifted.
fn worst(name: &str, count: usize) {
    let ours = ours::Agents::connect(count, LAST).took;
    let peer = is_agents::Agents::connect(count, LAST).took;
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "bench {name} ours={:.0}ms peer={:.0}ms ratio={:.2}",
        milliseconds(ours),
        milliseconds(peer),
        milliseconds(peer) / milliseconds(ours),
    );
}

/// Bytes on the heap of two connected agents, after an idle minute. The peer is rtc-ice.
fn heap(name: &str, count: usize) {
    let ours = live_bytes(|| {
        let mut agents = ours::Agents::connect(count, ALL);
        agents.idle(Duration::from_secs(60));
        agents
    });
    let peer = live_bytes(|| {
        let mut agents = rtc_agents::Agents::connect(count);
        agents.idle(Duration::from_secs(60));
        agents
    });
    println!(
        "bench {name} ours={ours}B peer={peer}B ratio={:.2}",
        peer as f64 / ours as f64
    );
}

/// What stays allocated of what is made, itself included.
fn live_bytes<T>(make: impl Fn() -> T) -> i64 {
    // Whatever is made once for all is made now.
    drop(make());
    let mut kept = None;
    let info = allocation_counter::measure(|| kept = Some(Box::new(make())));
    drop(kept);
    info.bytes_current
}

/// The CPU time of ten idle seconds of two connected agents, with consent. The peer is `is`.
fn idle_cpu(name: &str) {
    let mut ours = ours::Agents::connect(1, ALL);
    let mut peer = is_agents::Agents::connect(1, ALL);
    let ten = Duration::from_secs(10);
    let (ours, peer) = medians(|| ours.idle(ten), || peer.idle(ten));
    println!(
        "bench {name} ours={:.1}us peer={:.1}us ratio={:.2}",
        ours / 1e3,
        peer / 1e3,
        peer / ours
    );
}

/// The address of a candidate, which no two share.
fn address(end: usize, number: usize) -> std::net::SocketAddr {
    ([10, end as u8, number as u8, 1], 4_000).into()
}

/// Whose candidate an address is.
fn number(address: std::net::SocketAddr) -> usize {
    if let std::net::IpAddr::V4(ip) = address.ip() {
        usize::from(ip.octets()[2])
    } else {
        usize::MAX
    }
}

/// Whether a datagram of this end arrives.
fn arrives(
    reaches: Reaches,
    count: usize,
    end: usize,
    source: std::net::SocketAddr,
    to: std::net::SocketAddr,
) -> bool {
    let (a, b) = if end == 0 { (source, to) } else { (to, source) };
    reaches(count, number(a), number(b))
}
