//! What a TURN server that does not mean well can say: in datagrams, and in a stream that is cut anywhere.

use bytes::{Bytes, BytesMut};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use transport_relay::turn::{
    Allocation, AllocationConfig, AllocationOutput, Credentials, Deframer, FRAME_MAX, Frame,
    Framing, write_channel_data,
};

/// The first byte says how `data` is cut and taken.
pub fn turn(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let pieces = usize::from(first >> 1) + 1;
    check_frames(rest, pieces);
    let framing = if first & 1 == 0 {
        Framing::Datagram
    } else {
        Framing::Stream
    };
    drive(framing, rest, pieces);
}

/// However a stream is cut, it consists of the same frames, and these written again are the stream.
fn check_frames(stream: &[u8], pieces: usize) {
    let whole = frames(stream, stream.len().max(1));
    assert_eq!(whole, frames(stream, pieces), "cut by {pieces}");
    let mut again = BytesMut::new();
    for frame in &whole.0 {
        match frame {
            Frame::Channel(number, data) => {
                assert!(write_channel_data(&mut again, *number, data, true));
            }
            Frame::Stun(message) => again.extend_from_slice(message),
        }
    }
    assert!(again.len() <= stream.len());
    // Padding may be anything; what is written again has zeros there.
    for (frame, part) in whole.0.iter().zip(ends(&whole.0)) {
        let data = match frame {
            Frame::Channel(_, data) => data,
            Frame::Stun(message) => message,
        };
        assert!(data.len() <= FRAME_MAX);
        assert_eq!(&stream[part - data.len()..part], &data[..]);
    }
    for packet in stream.chunks(pieces) {
        if let Some(Frame::Channel(_, data)) = Frame::of_datagram(Bytes::copy_from_slice(packet)) {
            assert_eq!(&packet[4..4 + data.len()], &data[..]);
        }
    }
}

/// Where the data of each frame ends in the stream.
fn ends(frames: &[Frame]) -> Vec<usize> {
    let mut at = 0;
    let mut ends = Vec::new();
    for frame in frames {
        let (end, next) = match frame {
            Frame::Channel(_, data) => (4 + data.len(), 4 + data.len().next_multiple_of(4)),
            Frame::Stun(message) => (message.len(), message.len()),
        };
        ends.push(at + end);
        at += next;
    }
    ends
}

fn frames(stream: &[u8], piece: usize) -> (Vec<Frame>, bool) {
    let (mut deframer, mut frames) = (Deframer::default(), Vec::new());
    for piece in stream.chunks(piece) {
        deframer.push(Bytes::copy_from_slice(piece));
        loop {
            match deframer.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

/// A client hears pieces of `data`: as they are, and as answers to what it asked last.
fn drive(framing: Framing, data: &[u8], piece: usize) {
    let mut now = Instant::now();
    let peer: SocketAddr = ([192, 0, 2, 1], 4000).into();
    let mut client = Allocation::new(
        AllocationConfig::new(framing),
        Credentials::new("alice", "sesame"),
        [7; 32],
    );
    client.start(now);
    let mut asked = Bytes::new();
    let mut ended = false;
    for (number, piece) in data.chunks(piece).enumerate() {
        let mut outputs = 0;
        while let Some(output) = client.poll_output() {
            assert!(!ended, "nothing follows the end");
            outputs += 1;
            assert!(outputs < 1_000, "outputs without end");
            match output {
                AllocationOutput::Transmit(batch) if batch.payload[0] < 4 => asked = batch.payload,
                AllocationOutput::Failed(_) | AllocationOutput::Closed => ended = true,
                _ => {}
            }
        }
        let heard = match (number % 3, asked.len() >= 20) {
            (0, true) => answer(&asked, piece),
            _ => Bytes::copy_from_slice(piece),
        };
        match framing {
            Framing::Datagram => client.handle_batch(heard.into(), now),
            Framing::Stream => client.handle_bytes(heard, now),
        }
        client.permit(peer, now);
        client.send(peer, Bytes::from_static(b"hello").into(), now);
        now += Duration::from_millis(u64::from(piece[0]) * 50);
        let mut calls = 0;
        while client.poll_timeout().is_some_and(|at| at <= now) {
            client.handle_timeout(now);
            calls += 1;
            assert!(calls < 100, "time stands still");
        }
    }
}

/// The attributes in `piece` as an answer, whose class its first byte chooses.
fn answer(asked: &[u8], piece: &[u8]) -> Bytes {
    let mut answer = asked[..20].to_vec();
    answer[0] |= 1;
    if piece[0] & 1 == 1 {
        answer[1] |= 0x10;
    }
    let length = piece.len() / 4 * 4;
    answer[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    answer.extend_from_slice(&piece[..length]);
    answer.into()
}
