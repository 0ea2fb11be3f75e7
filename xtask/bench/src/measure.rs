//! Two things measured in turn, so that whatever else the machine does meets both.

use std::{env, process::Command, time::Duration};

use cpu_time::ThreadTime;

/// How long one sample takes at least; long enough for the clock, short enough to be repeated often.
const SAMPLE: Duration = Duration::from_millis(2);

/// How many samples are taken of each.
const SAMPLES: usize = 101;

/// The CPU time of one call in nanoseconds, or what else was measured several times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Time {
    pub(crate) median: f64,
    /// Half the distance between the quartiles, as a share of the median.
    pub(crate) spread: f64,
}

/// Measures ours and a peer's, A B A B, by the CPU time of this thread, and prints the figure.
pub(crate) fn compare(name: &str, ours: impl FnMut(), peer: impl FnMut()) {
    let (ours, peer) = measure(ours, peer);
    print(name, ours, peer, "");
}

/// The same for a peer that takes its samples itself, in a process of its own: `peer` is the CPU time of one call of
/// this one, in nanoseconds.
pub(crate) fn compare_with(
    name: &str,
    who: &str,
    mut ours: impl FnMut(),
    peer: impl FnMut() -> f64,
) {
    let (ours, peer) = in_turn(sampled(&mut ours), peer);
    print(name, ours, peer, &format!(" peer_is={who}"));
}

fn print(name: &str, ours: Time, peer: Time, behind: &str) {
    println!(
        "bench {name} ours={:.0}ns peer={:.0}ns ratio={:.2} spread={:.0}%/{:.0}%{behind}",
        ours.median,
        peer.median,
        peer.median / ours.median,
        100.0 * ours.spread,
        100.0 * peer.spread,
    );
}

/// Measures with memory in huge pages, for ours and for the peer, as who serves thousands of calls has it: with small ones, what
/// a virtual machine does to find a page is a large part of what is measured, and another part each time. glibc takes that
/// only from the environment of a process that begins, so this one begins again, unless tunables are set already. Whether pages
/// are large below a virtual machine, too, is not ours to say.
pub(crate) fn in_huge_pages(name: &str, measure: impl FnOnce()) {
    const TUNABLES: &str = "GLIBC_TUNABLES";
    if env::var_os(TUNABLES).is_some() {
        return measure();
    }
    let program = env::current_exe().expect("this program");
    let mut again = Command::new(program);
    let again = again.arg(name).env(TUNABLES, "glibc.malloc.hugetlb=1");
    let status = again.status();
    assert!(
        status.as_ref().is_ok_and(|status| status.success()),
        "{name}: {status:?}"
    );
}

/// The medians of ours and a peer's in nanoseconds, measured in turn.
pub(crate) fn medians(ours: impl FnMut(), peer: impl FnMut()) -> (f64, f64) {
    let (ours, peer) = measure(ours, peer);
    (ours.median, peer.median)
}

fn measure(mut ours: impl FnMut(), mut peer: impl FnMut()) -> (Time, Time) {
    in_turn(sampled(&mut ours), sampled(&mut peer))
}

/// Also warms up.
fn sampled(call: &mut impl FnMut()) -> impl FnMut() -> f64 {
    let calls = calls_per_sample(call);
    move || sample(call, calls)
}

fn in_turn(mut ours: impl FnMut() -> f64, mut peer: impl FnMut() -> f64) -> (Time, Time) {
    let (ours, peer) = (0..SAMPLES).map(|_| (ours(), peer())).unzip();
    (summarise(ours), summarise(peer))
}

/// Measures ours alone, where there is no peer.
pub(crate) fn alone(name: &str, mut ours: impl FnMut()) {
    let mut sample = sampled(&mut ours);
    let time = summarise((0..SAMPLES).map(|_| sample()).collect());
    println!(
        "bench {name} ours={:.0}ns peer=none ratio=1 spread={:.0}%",
        time.median,
        100.0 * time.spread
    );
}

fn calls_per_sample(call: &mut impl FnMut()) -> u32 {
    let mut calls = 1;
    loop {
        let start = ThreadTime::now();
        (0..calls).for_each(|_| call());
        let time = start.elapsed();
        if time >= SAMPLE {
            return calls;
        }
        calls *= 2;
    }
}

fn sample(call: &mut impl FnMut(), calls: u32) -> f64 {
    let start = ThreadTime::now();
    (0..calls).for_each(|_| call());
    start.elapsed().as_nanos() as f64 / f64::from(calls)
}

/// Of samples, of which there is one at least.
pub(crate) fn summarise(mut samples: Vec<f64>) -> Time {
    samples.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
    let median = at(0.5);
    Time {
        median,
        spread: (at(0.75) - at(0.25)) / 2.0 / median,
    }
}

/// Thousands of sockets are more than many systems allow at first.
pub(crate) fn allow_sockets() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // What is not allowed shows when a socket is wanted.
    let _ = setrlimit(Resource::Nofile, limit);
}
