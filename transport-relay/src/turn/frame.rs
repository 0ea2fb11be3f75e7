//! How packets stand on the way to a TURN server: ChannelData (RFC 8656 §12.4), and messages in a stream (§12.5).

use crate::stun::HEADER_SIZE;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::ops::RangeInclusive;
use thiserror::Error;

/// Bytes before the data of a ChannelData message.
pub const CHANNEL_HEADER: usize = 4;
/// The numbers that channels may have (RFC 8656 §12).
pub const CHANNEL_NUMBERS: RangeInclusive<u16> = 0x4000..=0x4fff;
/// The largest frame in a stream.
pub const FRAME_MAX: usize = HEADER_SIZE + 0xfffc;

/// What stands in a datagram or a stream between a client and a TURN server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A STUN message, or what begins like one.
    Stun(Bytes),
    /// The data of a channel.
    Channel(u16, Bytes),
}

/// A stream that is not one of TURN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("byte {0:#04x} where a message should begin")]
pub struct FrameError(pub u8);

impl Frame {
    /// What a datagram holds; `None` for what is neither. What follows the data of a channel is padding.
    pub fn of_datagram(packet: Bytes) -> Option<Self> {
        match packet.first()? {
            0..=3 => Some(Self::Stun(packet)),
            0x40..=0x4f => {
                let (number, length) = channel_header(&packet)?;
                let end = CHANNEL_HEADER + length;
                (end <= packet.len())
                    .then(|| Self::Channel(number, packet.slice(CHANNEL_HEADER..end)))
            }
            _ => None,
        }
    }
}

/// Number and length of the data.
pub(super) fn channel_header(packet: &[u8]) -> Option<(u16, usize)> {
    let &[a, b, c, d] = packet.first_chunk()?;
    let number = u16::from_be_bytes([a, b]);
    CHANNEL_NUMBERS
        .contains(&number)
        .then(|| (number, usize::from(u16::from_be_bytes([c, d]))))
}

/// Appends a ChannelData message; `padded` to a multiple of four as in a stream. Whether the data fits: at most 65,535
/// bytes. What does not is left out.
pub fn write_channel_data(buffer: &mut BytesMut, number: u16, data: &[u8], padded: bool) -> bool {
    let Ok(length) = u16::try_from(data.len()) else {
        return false;
    };
    let padding = if padded {
        data.len().next_multiple_of(4) - data.len()
    } else {
        0
    };
    buffer.reserve(CHANNEL_HEADER + data.len() + padding);
    buffer.put_u16(number);
    buffer.put_u16(length);
    buffer.put_slice(data);
    buffer.put_bytes(0, padding);
    true
}

/// Cuts a stream into frames. What lies whole in one piece is not copied; at most [`FRAME_MAX`] bytes and a piece are
/// kept.
///
/// ```
/// use transport_relay::turn::{Deframer, Frame};
/// let mut deframer = Deframer::default();
/// deframer.push(b"\x40\x01\x00\x05hel".as_slice().into());
/// assert_eq!(deframer.next_frame(), Ok(None));
/// deframer.push(b"lo\0\0\0".as_slice().into());
/// assert_eq!(deframer.next_frame(), Ok(Some(Frame::Channel(0x4001, "hello".into()))));
/// assert_eq!(deframer.next_frame(), Ok(None));
/// ```
#[derive(Debug, Default)]
pub struct Deframer {
    /// The beginning of a frame that came in several pieces.
    partial: BytesMut,
    piece: Bytes,
    broken: Option<FrameError>,
}

impl Deframer {
    /// The next bytes of the stream. All frames of the ones before should have been taken out.
    pub fn push(&mut self, piece: Bytes) {
        if self.piece.is_empty() {
            self.piece = piece;
        } else {
            let mut both = BytesMut::from(&self.piece[..]);
            both.extend_from_slice(&piece);
            self.piece = both.freeze();
        }
    }

    /// The next frame, when it is complete.
    ///
    /// # Errors
    /// What stands in the stream is neither a STUN message nor ChannelData. There is no way to find the next one, so
    /// that the error stays.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let next = self.cut_next();
        self.broken = next.as_ref().err().copied();
        next
    }

    /// What was not taken out: the stream goes on as something else.
    pub(super) fn take(&mut self) -> Bytes {
        if self.partial.is_empty() {
            return std::mem::take(&mut self.piece);
        }
        let mut rest = std::mem::take(&mut self.partial);
        rest.extend_from_slice(&std::mem::take(&mut self.piece));
        rest.freeze()
    }

    fn cut_next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_empty() {
            match frame_size(&self.piece)? {
                Some(size) if size <= self.piece.len() => {
                    return Ok(Some(cut(self.piece.split_to(size))));
                }
                Some(size) => self.partial.reserve(size),
                None => {}
            }
        }
        if !self.keep(CHANNEL_HEADER) {
            return Ok(None);
        }
        match frame_size(&self.partial)? {
            Some(size) if self.keep(size) => Ok(Some(cut(self.partial.split_to(size).freeze()))),
            Some(_) | None => Ok(None),
        }
    }

    /// Moves bytes over until the partial frame has this many; whether it has.
    fn keep(&mut self, size: usize) -> bool {
        let missing = size.saturating_sub(self.partial.len());
        let taken = missing.min(self.piece.len());
        self.partial.put_slice(&self.piece[..taken]);
        self.piece.advance(taken);
        self.partial.len() >= size
    }
}

/// The size of the frame that begins here, once its header is there.
fn frame_size(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    if !matches!(first, 0..=3 | 0x40..=0x4f) {
        return Err(FrameError(first));
    }
    let Some(&[_, _, c, d]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([c, d]));
    Ok(Some(if first < 4 {
        HEADER_SIZE + length
    } else {
        CHANNEL_HEADER + length.next_multiple_of(4)
    }))
}

/// A whole frame, whose header was looked at.
fn cut(frame: Bytes) -> Frame {
    match channel_header(&frame) {
        Some((number, length)) if frame[0] >= 0x40 => {
            Frame::Channel(number, frame.slice(CHANNEL_HEADER..CHANNEL_HEADER + length))
        }
        _ => Frame::Stun(frame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(deframer: &mut Deframer) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = deframer.next_frame()? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn frame() -> impl Strategy<Value = Frame> {
        let data = || prop::collection::vec(any::<u8>(), 0..200);
        prop_oneof![
            (CHANNEL_NUMBERS, data())
                .prop_map(|(number, data)| Frame::Channel(number, data.into())),
            data().prop_map(|mut data| {
                let mut message = vec![1, 1];
                data.truncate(data.len() / 4 * 4);
                message.extend((data.len() as u16).to_be_bytes());
                message.extend([7; 16]);
                message.append(&mut data);
                Frame::Stun(message.into())
            }),
        ]
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in prop::collection::vec(frame(), 0..20),
            cuts in prop::collection::vec(1_usize..300, 1..50),
        ) {
            let mut stream = BytesMut::new();
            for frame in &frames {
                match frame {
                    Frame::Channel(number, data) => {
                        prop_assert!(write_channel_data(&mut stream, *number, data, true));
                    }
                    Frame::Stun(message) => stream.extend_from_slice(message),
                }
            }
            let (mut stream, mut cuts) = (stream.freeze(), cuts.into_iter().cycle());
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            while !stream.is_empty() {
                let size = cuts.next().unwrap().min(stream.len());
                deframer.push(stream.split_to(size));
                got.extend(all(&mut deframer).unwrap());
            }
            prop_assert_eq!(got, frames);
        }

        #[test]
        fn datagrams_hold_one_frame(number in CHANNEL_NUMBERS, data: Vec<u8>, padded: bool) {
            let mut packet = BytesMut::new();
            prop_assert!(write_channel_data(&mut packet, number, &data, padded));
            let packet = packet.freeze();
            let frame = Frame::of_datagram(packet.clone());
            prop_assert_eq!(frame, Some(Frame::Channel(number, data.clone().into())));
            if !data.is_empty() && !padded {
                prop_assert_eq!(Frame::of_datagram(packet.slice(..packet.len() - 1)), None);
            }
        }
    }

    #[test]
    fn what_is_no_frame_ends_the_stream() {
        let mut deframer = Deframer::default();
        deframer.push(Bytes::from_static(b"\x50\x00\x00\x00"));
        assert_eq!(all(&mut deframer), Err(FrameError(0x50)));
        deframer.push(Bytes::from_static(b"\x40\x00\x00\x00"));
        assert_eq!(all(&mut deframer), Err(FrameError(0x50)), "it stays broken");
        assert_eq!(
            Frame::of_datagram(Bytes::from_static(b"\x50\x00\x00\x00")),
            None
        );
        assert_eq!(Frame::of_datagram(Bytes::new()), None);
        let mut buffer = BytesMut::new();
        assert!(!write_channel_data(
            &mut buffer,
            0x4000,
            &[0; 65_536],
            false
        ));
        assert!(buffer.is_empty());
    }
}
