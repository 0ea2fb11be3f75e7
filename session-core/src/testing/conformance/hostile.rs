//! What strangers, attackers and broken peers can do.

use super::network::still_works;
use super::pattern::{garbage, mutate, packet, pick};
use super::{
    Breach,
    pair::{Key, Pair, STRANGER, Setup, socket_error},
};
use crate::{
    BindKind, Condition, Datagram, Element, ErrorKind, LocalSocket, SeededEntropy, StanzaError,
    StreamEvent, StreamTarget,
};
use bytes::Bytes;
use std::{net::SocketAddr, time::Duration};

/// Of so many infos, a flood; the network must not see more than some datagrams for each.
const FLOOD: usize = 2_000;
const TRANSMITS_PER_SECOND: u64 = 2_000;

/// Each bad info before the right one: what is refused leaves no trace, and the connection comes about.
pub(super) fn bad_infos(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(setup.seed);
    let samples = Pair::connected(setup)?.ends.map(|end| end.sent);
    for round in 0..16 {
        let to = round % 2;
        let Some(sample) = samples[1 - to].first() else {
            continue;
        };
        let bad = match round {
            0 | 1 => Element::new(setup.factory.namespace(), "transport")
                .child(Element::new("urn:example:nothing", "nothing").with("name", "data")),
            2 | 3 => Element::new(setup.factory.namespace(), "transport")
                .child(Element::new(setup.factory.namespace(), "candidate")),
            _ => mutate(sample, &mut entropy),
        };
        let pair = slot.insert(Pair::new(setup));
        pair.create_channel(0, "data")?;
        pair.connect(0, 0);
        let offer = pair.ends[0].transport.offer();
        let answer = pair.accept_offer(&offer)?;
        pair.create_channel(1, "data")?;
        pair.connect(1, 0);
        pair.accept_answer(&answer)?;
        let refused = pair.ends[to].channels[0].refused.len();
        pair.handle_info(to, &bad);
        pair.check()?;
        if pair.ends[to].channels[0].refused.len() > refused {
            pair.await_writable(setup.options.connect_within)
                .map_err(|breach| Breach {
                    rule: "refused-info",
                    what: format!("after the refusal of {bad:?}: {}", breach.what),
                    ..breach
                })?;
        } else {
            // Taken for something: then it must at least do no harm beyond this session.
            pair.run_for(Duration::from_secs(10))?;
        }
    }
    Ok(())
}

pub(super) fn flood(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(setup.seed);
    let pair = slot.insert(Pair::connected(setup)?);
    let samples = [0, 1].map(|end| pair.ends[end].sent.clone());
    for round in 0..FLOOD {
        let to = round % 2;
        if let Some(sample) = samples[1 - to].get(pick(&mut entropy, samples[1 - to].len())) {
            let info = mutate(sample, &mut entropy);
            pair.handle_info(to, &info);
            pair.check()?;
        }
    }
    let before = pair.transmits;
    pair.run_for(Duration::from_secs(10))?;
    let transmits = pair.transmits - before;
    if transmits > 10 * TRANSMITS_PER_SECOND {
        let what = format!("{transmits} datagrams in the 10 s after {FLOOD} infos");
        return Err(Breach::new("flood", what));
    }
    alive(pair, "flood")
}

pub(super) fn unknown(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    let address = SocketAddr::from(([192, 0, 2, 1], 9));
    for number in [77, LocalSocket::FIRST_ACCEPTED + 77] {
        let socket = LocalSocket(number);
        let events = [
            StreamEvent::Connected(Ok(address)),
            StreamEvent::Connected(Err(socket_error())),
            StreamEvent::Accepted {
                connection: LocalSocket(LocalSocket::FIRST_ACCEPTED + 78),
                remote: address,
            },
            StreamEvent::Data(Bytes::from_static(b"nobody asked for this")),
            StreamEvent::Buffered(usize::MAX),
            StreamEvent::Finished,
            StreamEvent::Closed(None),
            StreamEvent::Closed(Some(socket_error())),
        ];
        for end in 0..2 {
            pair.with_channel(end, 0, |inner, now| {
                inner.handle_bound(socket, Ok(address), now);
                inner.handle_bound(socket, Err(socket_error()), now);
                for event in events.clone() {
                    inner.handle_stream(socket, event, now);
                }
                inner.handle_datagram(
                    Datagram {
                        socket,
                        source: address,
                        payload: Bytes::from_static(b"nobody asked for this"),
                        segment_size: 5,
                    },
                    now,
                );
                let error = StanzaError::new(Condition::ItemNotFound, ErrorKind::Cancel);
                inner.handle_response(u32::MAX, Ok(None), now);
                inner.handle_response(u32::MAX - 1, Err(error), now);
                let nothing = Element::new("urn:example:nothing", "nothing");
                let _ = inner.handle_request(&"eve@e.example/3".into(), &nothing, now);
            });
            if !pair.ends[end].channels[0].packets.is_empty() {
                let what = "bytes on an unknown socket were handed out".into();
                return Err(Breach::new("unknown", what));
            }
        }
    }
    pair.run_for(Duration::from_secs(1))?;
    alive(pair, "unknown")?;
    still_works(pair, setup).map_err(|breach| Breach {
        rule: "unknown",
        ..breach
    })
}

/// Garbage from an address that has nothing to do with it, and from a connection of nobody.
pub(super) fn strangers(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(setup.seed);
    let pair = slot.insert(Pair::new(setup));
    let source = SocketAddr::from(([203, 0, 113, 66], 6_666));
    let _ = pair.stranger(0, BindKind::Udp);
    pair.create_channel(0, "data")?;
    pair.connect(0, 0);
    let offer = pair.ends[0].transport.offer();
    let answer = pair.accept_offer(&offer)?;
    pair.create_channel(1, "data")?;
    pair.connect(1, 0);
    pair.accept_answer(&answer)?;
    for round in 0..200 {
        for address in pair.udp_addresses(round % 2) {
            let bytes = garbage(&mut entropy, 1_500);
            pair.network.inject(address, source, bytes, pair.now);
        }
        if round % 40 == 10 {
            intrude(pair, round as u32, &mut entropy);
        }
        pair.run_for(Duration::from_millis(10))?;
    }
    pair.await_writable(setup.options.connect_within)?;
    for end in &pair.ends {
        let packets = end.channels[0].packets.len();
        if packets > 0 && setup.options.rejects_strangers {
            let what = format!("{packets} packets from a stranger were handed out");
            return Err(Breach::new("garbage", what));
        }
    }
    still_works(pair, setup).map_err(|breach| Breach {
        rule: "garbage",
        ..breach
    })
}

/// Connects to whatever listens, and talks nonsense.
fn intrude(pair: &mut Pair, number: u32, entropy: &mut SeededEntropy) {
    let now = pair.now;
    for end in 0..2 {
        for (index, address) in pair.udp_addresses(end).into_iter().enumerate() {
            let key = Key {
                end: STRANGER,
                channel: end,
                socket: LocalSocket(1_000 + number * 100 + index as u32),
            };
            let target = StreamTarget::new(address);
            pair.network.connect(STRANGER, key, &target, now);
            let later = now + Duration::from_millis(5);
            for _ in 0..3 {
                let bytes = garbage(entropy, 200);
                pair.network.write(key, bytes, later);
            }
        }
    }
}

/// Garbage from the very address of the peer. What carries datagrams may take it for datagrams.
pub(super) fn spoofed(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(setup.seed);
    let pair = slot.insert(Pair::connected(setup)?);
    for round in 0..200 {
        let (to, from) = (round % 2, 1 - round % 2);
        for destination in pair.udp_addresses(to) {
            for source in pair.udp_addresses(from) {
                let bytes = garbage(&mut entropy, 1_500);
                pair.network.inject(destination, source, bytes, pair.now);
            }
        }
        pair.run_for(Duration::from_millis(10))?;
    }
    alive(pair, "garbage")?;
    for end in 0..2 {
        pair.ends[end].channels[0].packets.clear();
    }
    still_works(pair, setup).map_err(|breach| Breach {
        rule: "garbage",
        ..breach
    })
}

/// Datagrams of the peer with bits changed, cut short, and made longer: no panic, and no end.
pub(super) fn damaged(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(setup.seed);
    let pair = slot.insert(Pair::connected(setup)?);
    pair.tap = Some(Vec::new());
    for round in 0..100 {
        let from = round % 2;
        let _ = pair.send(from, 0, packet(from, round, 90));
        pair.run_for(Duration::from_millis(20))?;
        for (destination, source, payload) in pair.tap.replace(Vec::new()).unwrap_or_default() {
            let payload = damage(&payload, &mut entropy);
            pair.network.inject(destination, source, payload, pair.now);
        }
    }
    pair.tap = None;
    pair.run_for(Duration::from_secs(1))
}

fn damage(payload: &[u8], entropy: &mut SeededEntropy) -> Bytes {
    let mut bytes = payload.to_vec();
    match pick(entropy, 3) {
        0 => bytes.truncate(pick(entropy, payload.len())),
        1 => bytes.extend_from_slice(&garbage(entropy, 64)),
        _ => {
            for _ in 0..=pick(entropy, 3) {
                let index = pick(entropy, bytes.len());
                if let Some(byte) = bytes.get_mut(index) {
                    *byte ^= 1 << pick(entropy, 8);
                }
            }
        }
    }
    bytes.into()
}

fn alive(pair: &Pair, rule: &'static str) -> Result<(), Breach> {
    for end in &pair.ends {
        let channel = &end.channels[0];
        if channel.failed.is_some() || !channel.writable {
            return Err(Breach::new(rule, channel.summary()));
        }
    }
    Ok(())
}
