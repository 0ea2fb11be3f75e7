//! RTP packets (RFC 3550 §5, RFC 8285), read where they lie and written in place.

mod reception;
mod sequence;
#[cfg(test)]
mod tests;

pub use reception::{Reception, ReceptionReport};
pub use sequence::SequenceExtender;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes of the fixed part of a header.
pub const HEADER_BYTES: usize = 12;

/// The profile of one-byte extension headers (RFC 8285 §4.2).
const ONE_BYTE: u16 = 0xBEDE;

/// The profiles of two-byte extension headers, but for their low four bits (RFC 8285 §4.3).
const TWO_BYTES: u16 = 0x1000;

/// Why bytes are no RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtpError {
    /// Another version than 2.
    #[error("RTP has version 2, not {0}")]
    Version(u8),
    /// It ends before the part that is named.
    #[error("the packet ends within its {0}")]
    Truncated(&'static str),
    /// The padding says it is longer than what there is, or of no length.
    #[error("padding of {0} bytes does not fit")]
    Padding(u8),
}

/// A packet, where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    bytes: &'a [u8],
    extension: Option<RawExtension<'a>>,
    header: usize,
    payload: &'a [u8],
}

/// The header of a packet that is to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    /// The first packet of a talk spurt, or the last of a picture.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Counts packets, and wraps.
    pub sequence: u16,
    /// In units of the clock rate, and wraps.
    pub timestamp: u32,
    /// Who sends.
    pub ssrc: u32,
    /// Whose sound is in it: at most 15, of which more are left out.
    pub contributors: &'a [u32],
    /// Header extensions with their ids: 1 to 255, each at most 255 bytes. What cannot be written is left out.
    pub extensions: &'a [(u8, &'a [u8])],
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet that has been decrypted, or one whose payload is none of our business.
    ///
    /// # Errors
    /// [`RtpError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RtpError> {
        let (header, extension) = header_of(bytes)?;
        let mut end = bytes.len();
        if bytes[0] & 0x20 != 0 {
            let padding = bytes[end - 1];
            if padding == 0 || usize::from(padding) > end - header {
                return Err(RtpError::Padding(padding));
            }
            end -= usize::from(padding);
        }
        Ok(Self {
            bytes,
            extension,
            header,
            payload: &bytes[header..end],
        })
    }

    /// The marker bit.
    pub fn marker(&self) -> bool {
        self.bytes[1] & 0x80 != 0
    }

    /// The payload type, 0 to 127.
    pub fn payload_type(&self) -> u8 {
        self.bytes[1] & 0x7F
    }

    /// The sequence number.
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The timestamp, in units of the clock rate.
    pub fn timestamp(&self) -> u32 {
        word(self.bytes, 4)
    }

    /// The synchronisation source.
    pub fn ssrc(&self) -> u32 {
        word(self.bytes, 8)
    }

    /// The contributing sources.
    pub fn contributors(&self) -> impl ExactSizeIterator<Item = u32> + 'a {
        let (bytes, count) = (self.bytes, usize::from(self.bytes[0] & 0x0F));
        (0..count).map(move |at| word(bytes, HEADER_BYTES + at * 4))
    }

    /// The data of a header extension, by its id in this session.
    pub fn extension(&self, id: u8) -> Option<&'a [u8]> {
        self.extensions()
            .find(|(this, _)| *this == id)
            .map(|(_, data)| data)
    }

    /// All header extensions, in either form (RFC 8285 §4.2, §4.3).
    pub fn extensions(&self) -> Extensions<'a> {
        let (profile, rest) = self.extension.unwrap_or((0, &[]));
        Extensions { profile, rest }
    }

    /// The payload, without padding.
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes of the header with everything in it: where the payload begins.
    pub fn header_bytes(&self) -> usize {
        self.header
    }
}

/// The header extensions of a packet. See [`RtpPacket::extensions`].
#[derive(Clone, Debug)]
pub struct Extensions<'a> {
    profile: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (id, length, head) = if self.profile == ONE_BYTE {
                let byte = *self.rest.first()?;
                match (byte >> 4, usize::from(byte & 0x0F)) {
                    // Padding, which has no length.
                    (0, _) => (0, 0, 1),
                    // Reserved: nothing behind it can be read.
                    (15, _) => return None,
                    (id, length) => (id, length + 1, 1),
                }
            } else if self.profile & 0xFFF0 == TWO_BYTES {
                match *self.rest {
                    [0, ..] => (0, 0, 1),
                    [id, length, ..] => (id, usize::from(length), 2),
                    _ => return None,
                }
            } else {
                return None;
            };
            let data = self.rest.get(head..head + length)?;
            self.rest = &self.rest[head + length..];
            if id != 0 {
                return Some((id, data));
            }
        }
    }
}

impl RtpHeader<'_> {
    /// Writes the header behind what is there. The payload follows.
    pub fn write(&self, buffer: &mut BytesMut) {
        let contributors = &self.contributors[..self.contributors.len().min(15)];
        let usable = |e: &&(u8, &[u8])| e.0 != 0 && e.1.len() <= 255;
        let has_extensions = self.extensions.iter().any(|e| usable(&e));
        let first = 0x80 | u8::from(has_extensions) << 4 | contributors.len() as u8;
        buffer.put_u8(first);
        buffer.put_u8(u8::from(self.marker) << 7 | self.payload_type & 0x7F);
        buffer.put_u16(self.sequence);
        buffer.put_u32(self.timestamp);
        buffer.put_u32(self.ssrc);
        contributors.iter().for_each(|ssrc| buffer.put_u32(*ssrc));
        if !has_extensions {
            return;
        }
        let short = |e: &(u8, &[u8])| e.0 < 15 && (1..=16).contains(&e.1.len());
        let is_short = self.extensions.iter().filter(usable).all(short);
        buffer.put_u16(if is_short { ONE_BYTE } else { TWO_BYTES });
        let length_at = buffer.len();
        buffer.put_u16(0);
        for (id, data) in self.extensions.iter().filter(usable) {
            if is_short {
                buffer.put_u8(id << 4 | (data.len() - 1) as u8);
            } else {
                buffer.put_slice(&[*id, data.len() as u8]);
            }
            buffer.put_slice(data);
        }
        let bytes = buffer.len() - length_at - 2;
        buffer.put_bytes(0, bytes.next_multiple_of(4) - bytes);
        let words = (bytes.div_ceil(4) as u16).to_be_bytes();
        buffer[length_at..length_at + 2].copy_from_slice(&words);
    }
}

/// The profile of an extension, and its data.
type RawExtension<'a> = (u16, &'a [u8]);

/// Where the payload of a packet begins, encrypted or not, and the extension before it.
pub(crate) fn header_of(bytes: &[u8]) -> Result<(usize, Option<RawExtension<'_>>), RtpError> {
    let first = *bytes.first().ok_or(RtpError::Truncated("header"))?;
    if first >> 6 != 2 {
        return Err(RtpError::Version(first >> 6));
    }
    if bytes.len() < HEADER_BYTES {
        return Err(RtpError::Truncated("header"));
    }
    let mut header = HEADER_BYTES + usize::from(first & 0x0F) * 4;
    if bytes.len() < header {
        return Err(RtpError::Truncated("contributing sources"));
    }
    let mut extension = None;
    if first & 0x10 != 0 {
        let &[a, b, c, d] = bytes
            .get(header..header + 4)
            .and_then(|head| head.first_chunk())
            .ok_or(RtpError::Truncated("extension"))?;
        let length = usize::from(u16::from_be_bytes([c, d])) * 4;
        let data = bytes
            .get(header + 4..header + 4 + length)
            .ok_or(RtpError::Truncated("extension"))?;
        extension = Some((u16::from_be_bytes([a, b]), data));
        header += 4 + length;
    }
    if first & 0x20 != 0 && bytes.len() == header {
        return Err(RtpError::Padding(0));
    }
    Ok((header, extension))
}

/// Whether a packet is RTCP and not RTP, where both share a port (RFC 5761 §4).
pub fn is_rtcp(bytes: &[u8]) -> bool {
    matches!(bytes, [_, 192..=223, ..])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..]
        .first_chunk()
        .map_or(0, |word| u32::from_be_bytes(*word))
}
