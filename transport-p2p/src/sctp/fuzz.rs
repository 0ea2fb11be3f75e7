//! An entry for fuzzers: bytes to calls.

use super::{Association, Config, Delivery, wire};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};

/// Drives an open association with what `data` says: chunks that claim to come from its peer, messages, reads, resets
/// and time. Nothing of it may panic, and what the end holds must stay within its buffers.
///
/// # Panics
/// When the end breaks its promises.
pub fn fuzz_chunks(data: &[u8]) {
    let mut now = epoch();
    let config = Config {
        receive_buffer: 20_000,
        send_buffer: 20_000,
        max_message_size: 4_000,
        streams: 0x8000,
        interleave: data.first().is_some_and(|first| first & 1 != 0),
        ..Config::default()
    };
    let mut end = Association::new(config.clone(), [1; 32], now);
    let peer = Association::new(config, [2; 32], now);
    if data.first().is_some_and(|first| first & 2 != 0) {
        end.connect(now);
    } else {
        end.connect_with(&peer.init_chunk(), now);
    }
    let header = wire::Header {
        tag: end.local_tag,
        ..end.header()
    };
    let base = (end.inbound.next() - 1) as u32;
    let mut rest = data.get(1..).unwrap_or_default();
    while let [step, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        match step % 8 {
            0..=3 => {
                let mut packet = BytesMut::new();
                let tag = if bytes.first() == Some(&wire::kind::INIT) {
                    0
                } else {
                    header.tag
                };
                wire::begin_packet(&mut packet, wire::Header { tag, ..header });
                packet.extend_from_slice(bytes);
                // Small numbers of data chunks lie near what is awaited.
                if step & 4 == 0 && packet.len() >= wire::HEADER + 8 {
                    let at = wire::HEADER + 4;
                    let number = wire::u32_at(&packet, at).unwrap_or(0).wrapping_add(base);
                    packet[at..at + 4].copy_from_slice(&number.to_be_bytes());
                }
                wire::end_packet(&mut packet, 0, false);
                end.handle_packet(&packet, now);
            }
            4 => {
                let stream = u16::from(bytes.first().copied().unwrap_or(0));
                let delivery = Delivery {
                    unordered: *length & 1 != 0,
                    max_retransmits: (*length & 2 != 0).then_some(1),
                    lifetime: None,
                };
                let _ = end.send(stream, 53, Bytes::copy_from_slice(bytes), &delivery, now);
            }
            5 => while end.read(now).is_some() {},
            6 => end.reset_streams(&[u16::from(*length)]),
            _ => {
                now += Duration::from_millis(u64::from(*length) * 10);
                end.handle_timeout(now);
            }
        }
        while end.poll_event().is_some() {}
        for _ in 0..1000 {
            if end.poll_transmit(now, 8).is_none() {
                break;
            }
        }
        assert!(
            end.received() <= 20_000 + 2 * 4_000 + 2_000,
            "{}",
            end.received()
        );
        assert!(end.replies.len() <= 64);
        assert!(end.poll_transmit(now, 8).is_none(), "sends for ever");
    }
}

/// The zero of the virtual clock.
#[allow(
    clippy::disallowed_methods,
    reason = "an instant to count from, of which nothing depends"
)]
fn epoch() -> Instant {
    Instant::now()
}
