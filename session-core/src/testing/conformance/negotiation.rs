//! Offers, answers, channels and how they connect.

use super::pattern::mutate;
use super::{
    Breach,
    pair::{Pair, Setup},
};
use crate::{Element, SeededEntropy};
use std::time::Duration;

pub(super) fn names(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    let namespace = setup.factory.namespace();
    let breach = |what| Err(Breach::new("namespace", what));
    if namespace.is_empty() {
        return breach("the factory's is empty".into());
    }
    for end in &mut pair.ends {
        let found = end.transport.namespace();
        if found != namespace {
            return breach(format!("the transport says {found:?}, not {namespace:?}"));
        }
    }
    let offer = pair.ends[0].transport.offer();
    if !offer.is(namespace, "transport") {
        return breach(format!("the offer is {offer:?}"));
    }
    let again = pair.ends[0].transport.offer();
    if !again.is(namespace, "transport") {
        return Err(Breach::new("offer", format!("made again it is {again:?}")));
    }
    let answer = pair.accept_offer(&again)?;
    if !answer.is(namespace, "transport") {
        return breach(format!("the answer is {answer:?}"));
    }
    pair.accept_answer(&answer)
}

pub(super) fn connect(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    slot.insert(Pair::new(setup))
        .establish(setup.options.connect_within)
}

/// The initiator connects at once; the answer takes five seconds, and the infos overtake it.
pub(super) fn early(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    pair.create_channel(0, "data")?;
    pair.connect(0, 0);
    pair.run_for(Duration::from_secs(1))?;
    let offer = pair.ends[0].transport.offer();
    let answer = pair.accept_offer(&offer)?;
    pair.create_channel(1, "data")?;
    pair.connect(1, 0);
    pair.run_for(Duration::from_secs(5))?;
    pair.accept_answer(&answer)?;
    pair.await_writable(setup.options.connect_within)
}

/// Nothing begins before all is agreed; the responder is the first.
pub(super) fn late(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    let offer = pair.ends[0].transport.offer();
    let answer = pair.accept_offer(&offer)?;
    pair.accept_answer(&answer)?;
    pair.create_channel(1, "data")?;
    pair.connect(1, 0);
    pair.run_for(Duration::from_secs(1))?;
    pair.create_channel(0, "data")?;
    pair.connect(0, 0);
    pair.await_writable(setup.options.connect_within)
}

pub(super) fn twice(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    pair.copies = 2;
    pair.establish(setup.options.connect_within)?;
    let infos: Vec<_> = pair.ends.iter().map(|end| end.sent.clone()).collect();
    for (end, infos) in infos.into_iter().enumerate() {
        for info in infos {
            pair.handle_info(1 - end, &info);
        }
    }
    pair.run_for(Duration::from_secs(5))?;
    for end in &pair.ends {
        let channel = &end.channels[0];
        if !channel.refused.is_empty() || !channel.writable {
            return Err(Breach::new("info-again", channel.summary()));
        }
    }
    Ok(())
}

pub(super) fn two_channels(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    for end in 0..2 {
        pair.create_channel(end, "a")?;
    }
    let room = (0..2).all(|end| pair.try_create_channel(end, "b").is_ok());
    if !room {
        return Ok(());
    }
    let offer = pair.ends[0].transport.offer();
    let answer = pair.accept_offer(&offer)?;
    pair.accept_answer(&answer)?;
    for end in 0..2 {
        for channel in 0..2 {
            pair.connect(end, channel);
        }
    }
    pair.await_writable(setup.options.connect_within)?;
    both_carry(pair, 2)
}

/// A channel that is created after its sibling connected, and at the peer later still.
pub(super) fn late_channel(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    if pair.try_create_channel(0, "late").is_err() {
        return Ok(());
    }
    pair.connect(0, 1);
    pair.run_for(Duration::from_secs(2))?;
    pair.create_channel(1, "late")?;
    pair.connect(1, 1);
    pair.await_writable(setup.options.connect_within)?;
    both_carry(pair, 2)
}

/// Something of its own on each channel, both ways.
fn both_carry(pair: &mut Pair, channels: usize) -> Result<(), Breach> {
    let text = |end: usize, channel: usize| format!("from {end} on channel {channel}");
    for end in 0..2 {
        for channel in 0..channels {
            let packet = text(end, channel).into_bytes().into();
            if let Err(error) = pair.send(end, channel, packet) {
                return Err(Breach::new("writable", format!("writable, and {error}")));
            }
        }
    }
    pair.run_for(Duration::from_secs(5))?;
    for end in 0..2 {
        for channel in 0..channels {
            let packets = &pair.ends[end].channels[channel].packets;
            let found = String::from_utf8_lossy(&packets.concat()).into_owned();
            if found != text(1 - end, channel) {
                let what = format!("channel {channel} got {found:?}");
                return Err(Breach::new("channel", what));
            }
        }
    }
    Ok(())
}

/// Offers and answers with something wrong in them: whatever is refused leaves no trace.
pub(super) fn bad_offers(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(setup.seed);
    for _ in 0..12 {
        let pair = slot.insert(Pair::new(setup));
        pair.create_channel(0, "data")?;
        pair.connect(0, 0);
        let offer = pair.ends[0].transport.offer();
        let bad = bad(&offer, &mut entropy);
        let refused = match pair.ends[1].transport.accept_offer(&bad) {
            Ok(_) => pair.ends[1].transport.split_info(&bad).is_err(),
            Err(_) => true,
        };
        if !refused {
            continue;
        }
        let answer = pair.accept_offer(&offer)?;
        pair.create_channel(1, "data")?;
        pair.connect(1, 0);
        let bad = self::bad(&answer, &mut entropy);
        if pair.ends[0].transport.accept_answer(&bad).is_ok() {
            continue;
        }
        pair.accept_answer(&answer)?;
        pair.await_writable(setup.options.connect_within)?;
    }
    Ok(())
}

fn bad(element: &Element, entropy: &mut SeededEntropy) -> Element {
    let mut element = mutate(element, entropy);
    while entropy.next_u64().is_multiple_of(2) {
        element = mutate(&element, entropy);
    }
    element
}
