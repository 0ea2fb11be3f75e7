//! Packets and streams.

use super::pattern::{Pattern, packet, pick};
use super::{
    Breach,
    pair::{Pair, Setup},
};
use crate::{
    Batch, ChannelOutput, Datagram, DirectPath, SeededEntropy, SendError, Transmit,
    TransportChannel, testing::Conditions,
};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// Sends a list of packets from each end at once; on a good network all arrive, in order.
fn exchange(pair: &mut Pair, sizes: &[usize]) -> Result<(), Breach> {
    for end in 0..2 {
        pair.ends[end].channels[0].packets.clear();
    }
    for (number, size) in sizes.iter().enumerate() {
        for end in 0..2 {
            if let Err(error) = pair.send(end, 0, packet(end, number, *size)) {
                let what = format!("writable, and a datagram of {size} bytes is refused: {error}");
                return Err(Breach::new("writable", what));
            }
        }
        pair.run_for(Duration::from_millis(1))?;
    }
    pair.run_for(SECOND)?;
    for end in 0..2 {
        let packets = &pair.ends[1 - end].channels[0].packets;
        for (number, size) in sizes.iter().enumerate() {
            if packets.get(number) != Some(&packet(end, number, *size)) {
                let found = packets.get(number).map(Bytes::len);
                let what = format!(
                    "datagram {number} of {size} bytes arrived as {found:?} bytes, or changed"
                );
                return Err(Breach::new("datagrams", what));
            }
        }
        if packets.len() != sizes.len() {
            let what = format!(
                "{} datagrams were sent, {} arrived",
                sizes.len(),
                packets.len()
            );
            return Err(Breach::new("datagrams", what));
        }
    }
    Ok(())
}

pub(super) fn sizes(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::new(setup));
    pair.create_channel(0, "data")?;
    if pair.send(0, 0, packet(0, 0, 10)).is_ok() {
        let what = "a send was taken before connect".into();
        return Err(Breach::new("writable", what));
    }
    *slot = None;
    let pair = slot.insert(Pair::connected(setup)?);
    let most = setup.options.datagram_max;
    let mut sizes = vec![
        1, 2, 11, 12, 13, 19, 20, 21, 100, 127, 128, 160, 255, 256, 576,
    ];
    sizes.extend([most / 2, most - 1, most]);
    if setup.options.empty_datagrams {
        sizes.insert(3, 0);
    }
    exchange(pair, &sizes)
}

pub(super) fn batches(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    for coalescing in [false, true] {
        let pair = slot.insert(Pair::connected(setup)?);
        pair.network.set_coalescing(coalescing);
        for (count, size, last) in [(10, 100, 37), (1, 500, 500), (3, 33, 33), (2, 17, 1)] {
            let expected: Vec<Bytes> = (0..count)
                .map(|number| packet(0, number, if number + 1 < count { size } else { last }))
                .collect();
            let mut payload = BytesMut::new();
            expected.iter().for_each(|p| payload.extend_from_slice(p));
            let batch = Batch {
                payload: payload.freeze(),
                segment_size: size,
            };
            pair.ends[1].channels[0].packets.clear();
            let sent = pair.with_channel(0, 0, |inner, now| inner.send_batch(batch, now));
            if let Err(error) = sent {
                let what =
                    format!("writable, and a batch of {count} by {size} is refused: {error}");
                return Err(Breach::new("batch", what));
            }
            pair.run_for(SECOND)?;
            let found = &pair.ends[1].channels[0].packets;
            if *found != expected {
                let sizes: Vec<_> = found.iter().map(Bytes::len).collect();
                let what = format!(
                    "{count} datagrams of {size} bytes, the last of {last}, arrived as {sizes:?} (joined: {coalescing})"
                );
                return Err(Breach::new("batch", what));
            }
        }
    }
    Ok(())
}

/// A channel that knows a direct path does with data nothing else than that.
pub(super) fn direct(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    for end in 0..2 {
        pair.with_channel(end, 0, |channel, now| match channel.direct() {
            Some(path) => follow(channel, path, now),
            None => Ok(()),
        })
        .map_err(|what| Breach::new("direct", what))?;
    }
    Ok(())
}

fn follow(
    channel: &mut dyn TransportChannel,
    path: DirectPath,
    now: Instant,
) -> Result<(), String> {
    let DirectPath { socket, remote, .. } = path;
    let payload = Bytes::from(vec![path.first_byte; 40]);
    let due = channel.poll_timeout();
    let sent = channel
        .send(payload.clone(), now)
        .map(|()| channel.poll_output());
    let transmit = ChannelOutput::Transmit(Transmit {
        socket,
        destination: remote,
        payload: payload.clone(),
        segment_size: 0,
    });
    if sent != Ok(Some(transmit)) {
        return Err(format!("a datagram for {path:?} becomes {sent:?}"));
    }
    let datagram = Datagram {
        socket,
        source: remote,
        payload: payload.clone(),
        segment_size: 0,
    };
    channel.handle_datagram(datagram, now);
    let received = channel.poll_output();
    if received != Some(ChannelOutput::Packet(payload.into())) {
        return Err(format!("a datagram along {path:?} becomes {received:?}"));
    }
    let (more, later) = (channel.poll_output(), channel.poll_timeout());
    if more.is_some() || later != due {
        return Err(format!(
            "after data there is {more:?}, due was {due:?} and is {later:?}"
        ));
    }
    if channel.direct() != Some(path) {
        return Err(format!(
            "after data the path is {:?}, not {path:?}",
            channel.direct()
        ));
    }
    Ok(())
}

pub(super) fn too_large(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    for size in [65_536, 1 << 24] {
        let result = pair.send(0, 0, Bytes::from(vec![0; size]));
        if result != Err(SendError::TooLarge) {
            let what = format!("a datagram of {size} bytes: {result:?}");
            return Err(Breach::new("too-large", what));
        }
    }
    exchange(pair, &[100, 200])
}

/// Sends without a poll in between, until it is refused.
pub(super) fn burst(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    const MOST: usize = 20_000;
    let pair = slot.insert(Pair::connected(setup)?);
    let told = pair.ends[0].channels[0].writable_told;
    let taken = pair.with_channel(0, 0, |inner, now| {
        (0..MOST)
            .take_while(|number| inner.send(packet(0, *number, 60), now).is_ok())
            .count()
    });
    if taken == 0 {
        let what = "writable, and the first send is refused".into();
        return Err(Breach::new("writable", what));
    }
    pair.run_for(SECOND)?;
    let found = pair.ends[1].channels[0].packets.clone();
    for (number, found) in found.iter().enumerate() {
        if *found != packet(0, number, 60) {
            let what = format!("of a burst of {taken}, number {number} is wrong or missing");
            return Err(Breach::new("datagrams", what));
        }
    }
    if found.len() != taken {
        let what = format!(
            "{taken} datagrams were taken at once, {} arrived",
            found.len()
        );
        return Err(Breach::new("datagrams", what));
    }
    if taken < MOST && pair.ends[0].channels[0].writable_told == told {
        let what = format!("after {taken} datagrams a send was refused, and nothing followed");
        return Err(Breach::new("writable", what));
    }
    exchange(pair, &[100])
}

pub(super) fn bad_network(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    const COUNT: usize = 300;
    let pair = slot.insert(connected_badly(setup)?);
    let mut sent = [0; 2];
    for number in 0..COUNT {
        for (end, sent) in sent.iter_mut().enumerate() {
            *sent += usize::from(pair.send(end, 0, packet(end, number, 200)).is_ok());
        }
        pair.run_for(Duration::from_millis(20))?;
    }
    pair.run_for(SECOND)?;
    for (end, sent) in sent.into_iter().enumerate() {
        let channel = &pair.ends[1 - end].channels[0];
        let known = |found: &Bytes| (0..COUNT).any(|number| *found == packet(end, number, 200));
        if !channel.packets.iter().all(known) {
            let what = "a datagram arrived that nobody sent".into();
            return Err(Breach::new("datagrams", what));
        }
        let found = channel.packets.len();
        // One in ten is lost and one in twenty doubled.
        if found < sent * 7 / 10 || found > sent * 12 / 10 || sent < COUNT / 2 {
            let what = format!("of {COUNT} datagrams {sent} were taken and {found} arrived");
            return Err(Breach::new("datagrams", what));
        }
    }
    Ok(())
}

/// A pair on a network that does everything wrong, from the start if the transport is to stand that.
fn connected_badly(setup: &Setup<'_>) -> Result<Pair, Breach> {
    let bad = Setup {
        conditions: Conditions::bad(),
        ..*setup
    };
    if setup.options.connects_despite_loss {
        return Pair::connected(&bad);
    }
    let mut pair = Pair::connected(setup)?;
    pair.network.set_conditions(bad.conditions);
    Ok(pair)
}

/// Sends so many bytes from each end, as fast as they are taken.
pub(super) fn pump(
    pair: &mut Pair,
    bytes: [u64; 2],
    within: Duration,
    seed: u64,
) -> Result<(), Breach> {
    let mut entropy = SeededEntropy::new(seed);
    let mut sources = [0, 1].map(Pattern::new);
    let begin: [u64; 2] = [0, 1].map(|end| expect(pair, end));
    for end in 0..2 {
        sources[end].position = begin[end];
    }
    let until = pair.now + within;
    let mut blocked = [false; 2];
    loop {
        for end in 0..2 {
            let left = begin[end] + bytes[end] - sources[end].position;
            blocked[end] = left == 0 || write(pair, end, &mut sources[end], left, &mut entropy)?;
        }
        let arrived = |pair: &Pair, end: usize| {
            let expected = pair.ends[1 - end].channels[0].expected.as_ref();
            expected.map_or(0, |pattern| pattern.position)
        };
        if (0..2).all(|end| arrived(pair, end) == begin[end] + bytes[end]) {
            return Ok(());
        }
        let told = [0, 1].map(|end| pair.ends[end].channels[0].writable_told);
        let resumed = pair.run_until(until.saturating_duration_since(pair.now), |pair| {
            (0..2).any(|end| {
                pair.ends[end].channels[0].writable_told != told[end]
                    || !blocked[end]
                    || pair.ends[end].channels[0].failed.is_some()
            }) || (0..2).all(|end| arrived(pair, end) == begin[end] + bytes[end])
        })?;
        let failed = (0..2).find(|end| pair.ends[*end].channels[0].failed.is_some());
        if !resumed || failed.is_some() {
            let done = [0, 1].map(|end| arrived(pair, end) - begin[end]);
            let sent = [0, 1].map(|end| sources[end].position - begin[end]);
            let states = [0, 1].map(|end| pair.ends[end].channels[0].summary());
            let what = format!(
                "of {bytes:?} bytes {sent:?} were taken and {done:?} arrived within {within:?}: {states:?}"
            );
            let stuck = (0..2).all(|end| done[end] == sent[end]);
            return Err(Breach::new(if stuck { "writable" } else { "stream" }, what));
        }
    }
}

/// From now on, bytes at the other end are checked as they come. Where the stream is now.
fn expect(pair: &mut Pair, end: usize) -> u64 {
    let channel = &mut pair.ends[1 - end].channels[0];
    let expected = channel
        .expected
        .get_or_insert_with(|| Pattern::new(end as u64));
    expected.position
}

/// Writes until it is refused (`true`) or nothing is left.
fn write(
    pair: &mut Pair,
    end: usize,
    source: &mut Pattern,
    mut left: u64,
    entropy: &mut SeededEntropy,
) -> Result<bool, Breach> {
    let mut first = pair.ends[end].channels[0].writable;
    while left > 0 {
        let size = match pick(entropy, 4) {
            0 => 1 + pick(entropy, 40),
            1 => 1_200,
            _ => 1 + pick(entropy, 16 * 1024),
        };
        let piece = source.peek(size.min(left as usize));
        let size = piece.len() as u64;
        match pair.send(end, 0, piece) {
            Ok(()) => {
                source.position += size;
                left -= size;
                first = false;
            }
            Err(SendError::NotWritable) if first => {
                let what = format!("Writable(true), and a send of {size} bytes is refused");
                return Err(Breach::new("writable", what));
            }
            Err(SendError::NotWritable) => return Ok(true),
            Err(error) => return Err(Breach::new("stream", format!("{size} bytes: {error}"))),
        }
    }
    Ok(true)
}

pub(super) fn stream(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    pump(pair, [2_000_000, 1_000_000], SECOND * 600, setup.seed)?;
    pump(pair, [1, 0], SECOND * 60, setup.seed)?;
    pump(pair, [0, 100_000], SECOND * 60, setup.seed)
}

pub(super) fn stream_bad(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(connected_badly(setup)?);
    pump(pair, [150_000, 100_000], SECOND * 1_800, setup.seed)
}

pub(super) fn pause(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    const MOST: u64 = 64 << 20;
    let pair = slot.insert(Pair::connected(setup)?);
    pump(pair, [10_000, 10_000], SECOND * 60, setup.seed)?;
    pair.pause(1, 0, true);
    let mut entropy = SeededEntropy::new(setup.seed);
    let mut source = Pattern::new(0);
    source.position = expect(pair, 0);
    let begin = source.position;
    // A stream may take what it has buffers for, then no more.
    for _ in 0..100 {
        let left = begin + MOST - source.position;
        if left == 0 {
            let what = format!("{MOST} bytes were taken while the peer was paused");
            return Err(Breach::new("pause", what));
        }
        write(pair, 0, &mut source, left, &mut entropy)?;
        pair.run_for(Duration::from_millis(100))?;
    }
    let held = source.position - begin;
    pump(pair, [0, 50_000], SECOND * 60, setup.seed).map_err(|breach| Breach {
        what: format!("while one direction was paused, the other: {}", breach.what),
        ..breach
    })?;
    pair.pause(1, 0, false);
    let arrived = pair.run_until(SECOND * 120, |pair| {
        pair.ends[1].channels[0]
            .expected
            .as_ref()
            .is_some_and(|pattern| pattern.position == begin + held)
    })?;
    if !arrived {
        let what = format!("of {held} bytes sent during a pause, not all arrived after it");
        return Err(Breach::new("pause", what));
    }
    pump(pair, [300_000, 0], SECOND * 120, setup.seed)
}

pub(super) fn finish(setup: &Setup<'_>, slot: &mut Option<Pair>) -> Result<(), Breach> {
    let pair = slot.insert(Pair::connected(setup)?);
    let breach = |what: &str| Err(Breach::new("finish", what.into()));
    pump(pair, [20_000, 20_000], SECOND * 60, setup.seed)?;
    let last = Pattern::new(0);
    let tail = {
        let mut source = last;
        source.position = expect(pair, 0);
        source.peek(5_000)
    };
    let end = expect(pair, 0) + 5_000;
    if let Err(error) = pair.send(0, 0, tail) {
        return breach(&format!("writable, and {error}"));
    }
    pair.finish(0, 0, end);
    if pair.send(0, 0, Bytes::from_static(b"late")) != Err(SendError::Finished) {
        return breach("a send after finish is not refused as Finished");
    }
    let told = pair.run_until(SECOND * 60, |pair| pair.ends[1].channels[0].finished > 0)?;
    let position = pair.ends[1].channels[0]
        .expected
        .as_ref()
        .map(|p| p.position);
    if !told || position != Some(end) {
        return breach(&format!(
            "the peer was told: {told}; it has {position:?} of {end} bytes"
        ));
    }
    pump(pair, [0, 50_000], SECOND * 60, setup.seed).map_err(|breach| Breach {
        what: format!("half closed, the other direction: {}", breach.what),
        ..breach
    })?;
    let back = expect(pair, 1);
    pair.finish(1, 0, back);
    pair.run_for(SECOND * 30)?;
    let counts = [0, 1].map(|end| pair.ends[end].channels[0].finished);
    if counts != [1, 1] {
        return breach(&format!(
            "Finished was said {counts:?} times, not once each"
        ));
    }
    let counts = [0, 1].map(|end| pair.ends[end].channels[0].delivered);
    if counts != [1, 1] {
        let what = format!("Delivered was said {counts:?} times, not once each");
        return Err(Breach::new("delivered", what));
    }
    Ok(())
}
