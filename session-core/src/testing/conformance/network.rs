//! What a network, a driver and time can do.

use super::data::pump;
use super::pattern::packet;
use super::{
    Breach,
    pair::{Pair, Setup},
};
use bytes::Bytes;
use std::time::Duration;

/// An idle channel may want to be woken so often in a second, on average.
const WAKES_PER_SECOND: u64 = 100;

pub(super) fn idle(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    pair.run_for(Duration::from_secs(5))?;
    let before = pair.timeouts;
    pair.run_for(Duration::from_secs(60))?;
    let wakes = pair.timeouts - before;
    if wakes > 60 * 2 * WAKES_PER_SECOND {
        let what = format!("two idle channels were woken {wakes} times in a minute");
        return Err(Breach::new("timers", what));
    }
    for end in 0..2 {
        if !pair.ends[end].channels[0].writable {
            let what = format!(
                "idle for a minute: {}",
                pair.ends[end].channels[0].summary()
            );
            return Err(Breach::new("connect", what));
        }
    }
    // Before its time, and when there is none.
    let before = pair.timeouts;
    for _ in 0..100 {
        for end in 0..2 {
            pair.with_channel(end, 0, |inner, now| inner.handle_timeout(now));
        }
    }
    pair.run_for(Duration::from_secs(1))?;
    if pair.timeouts - before > 2 * WAKES_PER_SECOND {
        let what = "early calls of handle_timeout made the timer run faster".into();
        return Err(Breach::new("timers", what));
    }
    still_works(pair, setup)
}

pub(super) fn no_sockets(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    pair.network.set_refusing(0, true);
    pair.network.set_refusing(1, true);
    // Whether it fails or waits is judged below; that it does not connect is no surprise.
    if let Err(breach) = pair.establish(Duration::from_secs(60))
        && breach.rule != "connect"
    {
        return Err(breach);
    }
    for end in &pair.ends {
        let channel = &end.channels[0];
        if channel.asked_for_sockets && channel.failed.is_none() {
            let what = format!("a minute after no socket was had: {}", channel.summary());
            return Err(Breach::new("no-sockets", what));
        }
    }
    pair.run_for(Duration::from_secs(60))
}

pub(super) fn silence(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let Some(within) = setup.options.notices_within else {
        return Ok(());
    };
    let pair = slot.insert(Pair::connected(setup)?);
    pair.run_for(Duration::from_secs(5))?;
    cut(pair, true);
    pair.run_for(within)?;
    for end in &pair.ends {
        let channel = &end.channels[0];
        if channel.writable && channel.path != Some(false) && channel.failed.is_none() {
            let what = format!("after {within:?} of silence: {}", channel.summary());
            return Err(Breach::new("silence", what));
        }
    }
    Ok(())
}

pub(super) fn heal(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    pair.run_for(Duration::from_millis(700 * setup.seed))?;
    cut(pair, true);
    for _ in 0..20 {
        if !setup.options.streams(&**setup.factory) {
            let _ = pair.send(0, 0, packet(0, 0, 100));
        }
        pair.run_for(Duration::from_millis(100))?;
    }
    cut(pair, false);
    pair.await_writable(setup.options.connect_within)
        .map_err(|breach| Breach {
            rule: "heal",
            ..breach
        })?;
    still_works(pair, setup).map_err(|breach| Breach {
        rule: "heal",
        ..breach
    })
}

pub(super) fn dropped(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    for steps in 0..40 {
        let pair = slot.insert(Pair::new(setup));
        pair.create_channel(0, "data")?;
        pair.connect(0, 0);
        let offer = pair.ends[0].transport.offer();
        let answer = pair.accept_offer(&offer)?;
        pair.create_channel(1, "data")?;
        pair.connect(1, 0);
        pair.accept_answer(&answer)?;
        for _ in 0..steps {
            pair.step()?;
        }
        let _ = pair.send(0, 0, Bytes::from_static(b"not to be read"));
        pair.ends[steps % 2].channels.clear();
    }
    *slot = None;
    Ok(())
}

pub(super) fn deterministic(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    if !setup.options.deterministic {
        return Ok(());
    }
    let mut digests = [0; 2];
    for digest in &mut digests {
        let pair = slot.insert(Pair::connected(setup)?);
        still_works(pair, setup)?;
        pair.run_for(Duration::from_secs(30))?;
        *digest = pair.digest;
    }
    if digests[0] != digests[1] {
        let what = "two runs with the same seed differ".into();
        return Err(Breach::new("deterministic", what));
    }
    Ok(())
}

fn cut(pair: &mut Pair, cut: bool) {
    let now = pair.now;
    pair.network.set_cut(0, 1, cut, now);
    pair.network.set_cut(1, 0, cut, now);
}

/// Data still arrives, both ways.
pub(super) fn still_works(pair: &mut Pair, setup: &Setup<'_>) -> Result<(), Breach> {
    if setup.options.streams(&**setup.factory) {
        return pump(pair, [10_000, 10_000], Duration::from_secs(120), setup.seed);
    }
    for end in 0..2 {
        pair.ends[1 - end].channels[0].packets.clear();
        for number in 0..5 {
            if let Err(error) = pair.send(end, 0, packet(end, number, 300)) {
                let what = format!(
                    "a send is refused ({error}): {}",
                    pair.ends[end].channels[0].summary()
                );
                return Err(Breach::new("writable", what));
            }
        }
        pair.run_for(Duration::from_secs(1))?;
        let found = &pair.ends[1 - end].channels[0].packets;
        let expected: Vec<_> = (0..5).map(|number| packet(end, number, 300)).collect();
        if *found != expected {
            let what = format!("of 5 datagrams {} arrived, or changed", found.len());
            return Err(Breach::new("datagrams", what));
        }
    }
    Ok(())
}
