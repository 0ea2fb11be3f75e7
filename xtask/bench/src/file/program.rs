//! The program `pcp`, whole: from a command line to a file that is there, verified, beside what else copies files.
//! `cargo xtask bench` builds it, runs a server for it, and says where both are.

mod others;
mod pcp;
mod wormhole;

use super::median;
use crate::Figure;
use others::Ssh;
use pcp::{Place, random, same};
use std::{fs, path::Path, process::Command, time::Duration};
use wormhole::Wormhole;

pub(crate) const FIGURES: &[Figure] = &[
    ("file.one_big", one_big),
    ("file.many_small", many_small),
    ("file.peak_memory", peak_memory),
];

/// Runs of each, in turn.
const RUNS: usize = 3;

/// Most that either side may take of memory, in MiB, whatever the file.
const MEMORY_LIMIT: f64 = 32.0;

/// 1 GiB from a memory file system to another place of it, against the best of what is installed of magic-wormhole, scp and
/// rsync.
fn one_big(name: &str) {
    let place = Place::new();
    let file = place.path("big");
    random(&file, super::bytes());
    let others = ["scp", "rsync", wormhole::NAME];
    versus(name, &place, &file, "big", &others);
}

/// 10,000 files, 17 MB, against rsync.
fn many_small(name: &str) {
    let place = Place::new();
    let folder = place.path("many");
    for number in 0..10_000_u64 {
        let below = folder.join((number % 100).to_string());
        fs::create_dir_all(&below).expect("room");
        random(&below.join(number.to_string()), 200 + number * 37 % 3_000);
    }
    versus(name, &place, &folder, "many", &["rsync"]);
}

/// Ours against the best of some others, in turn.
fn versus(name: &str, place: &Place, what: &Path, arrives: &str, others: &[&'static str]) {
    let ssh = Ssh::start(&place.path("ssh"));
    if ssh.is_none() {
        println!("SKIPPED {name} against scp and rsync: sshd is not installed (cargo xtask setup)");
    }
    let wormhole = match others.contains(&wormhole::NAME) {
        true => Wormhole::start(&place.path("wormhole")),
        false => None,
    };
    // Who can copy, by its name.
    let copy = |other: &str, into: &Path| match other {
        wormhole::NAME => wormhole.as_ref().map(|wormhole| wormhole.copy(what, into)),
        _ => ssh.as_ref().map(|ssh| ssh.copy(other, what, into)),
    };
    let is_there = |other: &&&str| match **other {
        wormhole::NAME => wormhole.is_some(),
        other => ssh.as_ref().is_some_and(|ssh| ssh.has(other)),
    };
    let others: Vec<_> = others.iter().filter(is_there).collect();
    if others.is_empty() {
        println!("SKIPPED {name}: none of its peers is installed (cargo xtask setup)");
        return;
    }
    let mut ours = Vec::new();
    let mut theirs = vec![Vec::new(); others.len()];
    for _ in 0..RUNS {
        let into = place.path("in");
        ours.push(place.copy(what, &into).wall.as_secs_f64());
        assert!(same(what, &into.join(arrives)), "pcp copies what is there");
        fs::remove_dir_all(&into).expect("it is there");
        for (other, times) in others.iter().zip(&mut theirs) {
            fs::create_dir_all(&into).expect("room");
            times.extend(copy(other, &into).map(|time| time.as_secs_f64()));
            assert!(same(what, &into.join(arrives)), "{other} copies, too");
            fs::remove_dir_all(&into).expect("it is there");
        }
    }
    let ours = median(ours);
    let theirs = theirs.into_iter().map(median);
    let mut theirs: Vec<_> = theirs.zip(others).collect();
    theirs.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (peer, peer_is) = theirs[0];
    let slower = theirs[1..]
        .iter()
        .map(|(time, who)| format!(" {who}={time:.2}s"));
    println!(
        "bench {name} ours={ours:.2}s peer={peer:.2}s ratio={:.2} peer_is={peer_is}{}",
        peer / ours,
        slower.collect::<String>()
    );
}

/// The memory of either side at its peak, for a file of 5 GiB that is mostly holes.
fn peak_memory(name: &str) {
    let place = Place::new();
    let path = place.path("holes");
    let file = fs::File::create(&path).expect("room");
    file.set_len(5 << 30)
        .expect("a memory file system has holes");
    let into = place.path("in");
    let copied = place.copy(&path, &into);
    let ours = copied.sender_mib.max(copied.receiver_mib);
    println!(
        "bench {name} ours={ours:.1}MiB peer={MEMORY_LIMIT:.0}MiB ratio={:.2} sender={:.1}MiB receiver={:.1}MiB \
         seconds={:.1} peer_is=limit",
        MEMORY_LIMIT / ours,
        copied.sender_mib,
        copied.receiver_mib,
        copied.wall.as_secs_f64(),
    );
}

/// How long a copy may take.
const PATIENCE: Duration = Duration::from_secs(300);

fn succeed(command: &mut Command) {
    let status = command.status();
    assert!(
        status.as_ref().is_ok_and(std::process::ExitStatus::success),
        "{command:?}: {status:?}"
    );
}
