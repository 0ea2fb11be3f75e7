//! An entry for fuzzers: bytes to calls.

use super::{Config, Event, PseudoTcp};
use crate::pseudotcp::wire::{CTL_CONNECT, FLAG_CTL, HEADER, Header};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Drives an end with what `data` says: segments that claim to come from its peer, writes, reads and time. Nothing of
/// it may panic, and what the end holds must stay within its buffers.
///
/// # Panics
/// When the end breaks its promises.
pub fn fuzz_segments(data: &[u8]) {
    let mut now = epoch();
    let config = Config {
        receive_buffer: 20_000,
        send_buffer: 20_000,
        ..Config::default()
    };
    let mut end = PseudoTcp::with_start(config, 0xffff_fff0, now);
    let mut input = Input(data);
    let mut last = Header {
        conversation: 0,
        sequence: 0,
        acknowledged: 0,
        flags: FLAG_CTL,
        window: 0xffff,
        tsval: 1,
        tsecr: 0,
    };
    if input.byte() & 1 == 0 {
        let mut call = last.encode().to_vec();
        call.extend([CTL_CONNECT, 3, 1, 2, 254, 1, 0, 253, 2, b'S', b'K']);
        end.handle_segment(&call, now);
        last.sequence = 11;
    } else {
        end.connect(now).unwrap_or_default();
    }
    while !input.0.is_empty() {
        step(&mut end, &mut input, &mut last, now);
        let mut polls = 0;
        while let Some(batch) = end.poll_transmit(now, usize::from(input.byte())) {
            assert!(batch.segment_size > 0 && batch.payload.len() <= 65_507);
            if let Some(header) = Header::decode(&batch.payload) {
                last.acknowledged = header
                    .sequence
                    .wrapping_add((batch.payload.len() - HEADER) as u32);
            }
            polls += 1;
            assert!(polls < 1000, "transmits without end");
        }
        now += Duration::from_millis(u64::from(input.byte()) * u64::from(input.byte()));
        if end.poll_timeout().is_some_and(|at| at <= now) {
            end.handle_timeout(now);
        }
        assert!(end.received() <= 20_000 && end.unacknowledged() <= 20_000);
        while let Some(event) = end.poll_event() {
            if event == Event::PeerClosed && input.byte() & 1 == 0 {
                end.close(now);
            }
        }
    }
}

fn step(end: &mut PseudoTcp, input: &mut Input<'_>, last: &mut Header, now: Instant) {
    match input.byte() % 8 {
        0 => {
            let size = usize::from(input.byte()) * 16;
            end.write(&vec![7; size], now).unwrap_or_default();
        }
        1 => {
            end.read(now);
        }
        2 => end.handle_segment(input.take(200), now),
        3 if input.byte() > 240 => end.close(now),
        3 => end.set_mtu(u16::from(input.byte()) << 4),
        4 if input.byte() > 250 => end.abort(now),
        4 => end.handle_too_large(now),
        // Segments that are nearly right reach deeper than random ones.
        kind => {
            last.flags = match kind {
                5 => 0,
                6 => 8,
                _ => input.byte() & 0xf,
            };
            last.sequence = last.sequence.wrapping_add(u32::from(input.byte()));
            last.acknowledged = last.acknowledged.wrapping_sub(u32::from(input.byte()) * 8);
            last.window = u16::from(input.byte()) << 6;
            let length = usize::from(input.byte());
            let count = usize::from(input.byte() % 4) + 1;
            let mut batch = Vec::new();
            for _ in 0..count {
                batch.extend(last.encode());
                batch.extend_from_slice(input.take(length));
                last.sequence = last.sequence.wrapping_add(length as u32);
            }
            end.handle_batch(Bytes::from(batch), HEADER + length, now);
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise, and only differences to it are used"
)]
fn epoch() -> Instant {
    Instant::now()
}

/// Bytes to decide by; zeros when they run out.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (front, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        front
    }
}
