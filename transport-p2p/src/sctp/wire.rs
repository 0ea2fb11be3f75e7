//! Bytes of packets, chunks and parameters (RFC 9260 §3, RFC 8260 §2, RFC 3758 §3, RFC 6525 §4).

use bytes::{BufMut, BytesMut};

/// Bytes before the first chunk.
pub(super) const HEADER: usize = 12;
/// Bytes before the value of a chunk or parameter.
pub(super) const CHUNK_HEADER: usize = 4;
/// Bytes of a DATA chunk before its data.
pub(super) const DATA_HEADER: usize = 16;
/// Bytes of an I-DATA chunk before its data.
pub(super) const IDATA_HEADER: usize = 20;

pub(super) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const INIT: u8 = 1;
    pub(crate) const INIT_ACK: u8 = 2;
    pub(crate) const SACK: u8 = 3;
    pub(crate) const HEARTBEAT: u8 = 4;
    pub(crate) const HEARTBEAT_ACK: u8 = 5;
    pub(crate) const ABORT: u8 = 6;
    pub(crate) const SHUTDOWN: u8 = 7;
    pub(crate) const SHUTDOWN_ACK: u8 = 8;
    pub(crate) const ERROR: u8 = 9;
    pub(crate) const COOKIE_ECHO: u8 = 10;
    pub(crate) const COOKIE_ACK: u8 = 11;
    pub(crate) const SHUTDOWN_COMPLETE: u8 = 14;
    pub(crate) const I_DATA: u8 = 64;
    pub(crate) const RE_CONFIG: u8 = 130;
    pub(crate) const PAD: u8 = 132;
    pub(crate) const FORWARD_TSN: u8 = 192;
    pub(crate) const I_FORWARD_TSN: u8 = 194;
}

pub(super) mod parameter {
    pub(crate) const STATE_COOKIE: u16 = 7;
    pub(crate) const OUTGOING_RESET: u16 = 13;
    pub(crate) const INCOMING_RESET: u16 = 14;
    pub(crate) const TSN_RESET: u16 = 15;
    pub(crate) const RESET_RESPONSE: u16 = 16;
    pub(crate) const ADD_OUTGOING: u16 = 17;
    pub(crate) const ADD_INCOMING: u16 = 18;
    pub(crate) const ZERO_CHECKSUM: u16 = 0x8001;
    pub(crate) const EXTENSIONS: u16 = 0x8008;
    pub(crate) const FORWARD_TSN: u16 = 0xc000;
}

/// Causes of errors (RFC 9260 §3.3.10).
pub(super) mod cause {
    pub(crate) const INVALID_STREAM: u16 = 1;
    pub(crate) const STALE_COOKIE: u16 = 3;
    pub(crate) const UNRECOGNIZED_CHUNK: u16 = 6;
    pub(crate) const USER_ABORT: u16 = 12;
    pub(crate) const PROTOCOL_VIOLATION: u16 = 13;
}

/// Flags of DATA and I-DATA.
pub(super) const END: u8 = 1;
pub(super) const BEGIN: u8 = 2;
pub(super) const UNORDERED: u8 = 4;
pub(super) const IMMEDIATE: u8 = 8;
/// Flag of ABORT and SHUTDOWN COMPLETE: the tag is the receiver of the offending packet's own.
pub(super) const REFLECTED: u8 = 1;

/// The common header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) source: u16,
    pub(super) destination: u16,
    pub(super) tag: u32,
}

/// A chunk of a packet, without its header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) value: &'a [u8],
}

/// Reads a packet's header; `None` if it is damaged. A checksum of zero counts if `zero` (RFC 9653).
pub(super) fn read_header(packet: &[u8], zero: bool) -> Option<Header> {
    let header = packet.get(..HEADER)?;
    let told = u32::from_le_bytes([header[8], header[9], header[10], header[11]]);
    if !(zero && told == 0) && told != checksum(packet) {
        return None;
    }
    Some(Header {
        source: u16_at(header, 0)?,
        destination: u16_at(header, 2)?,
        tag: u32_at(header, 4)?,
    })
}

/// The chunks of a packet; ends at the first that does not fit.
pub(super) fn chunks(packet: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = packet.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, flags) = (*rest.first()?, *rest.get(1)?);
        let length = usize::from(u16_at(rest, 2)?);
        let value = rest.get(CHUNK_HEADER..length)?;
        rest = rest.get(padded(length)..).unwrap_or_default();
        Some(Chunk { kind, flags, value })
    })
}

/// Parameters or causes behind each other: type and value.
pub(super) fn parameters(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let kind = u16_at(rest, 0)?;
        let length = usize::from(u16_at(rest, 2)?);
        let value = rest.get(CHUNK_HEADER..length)?;
        rest = rest.get(padded(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// CRC32c of a packet whose checksum counts as zero (RFC 9260 appendix A).
fn checksum(packet: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&packet[..8]);
    let sum = crc32c::crc32c_append(sum, &[0; 4]);
    crc32c::crc32c_append(sum, &packet[HEADER..])
}

/// Begins a packet at the end of `buffer`.
pub(super) fn begin_packet(buffer: &mut BytesMut, header: Header) {
    buffer.put_u16(header.source);
    buffer.put_u16(header.destination);
    buffer.put_u32(header.tag);
    buffer.put_u32(0);
}

/// Completes the packet that begins at `start`.
pub(super) fn end_packet(buffer: &mut BytesMut, start: usize, zero: bool) {
    if !zero {
        let sum = crc32c::crc32c(&buffer[start..]);
        buffer[start + 8..start + HEADER].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Appends a chunk whose value `write` writes, padded.
pub(super) fn put_chunk(
    buffer: &mut BytesMut,
    kind: u8,
    flags: u8,
    write: impl FnOnce(&mut BytesMut),
) {
    let start = buffer.len();
    buffer.put_u8(kind);
    buffer.put_u8(flags);
    buffer.put_u16(0);
    write(buffer);
    finish(buffer, start);
}

/// Appends a parameter or cause, padded.
pub(super) fn put_parameter(buffer: &mut BytesMut, kind: u16, value: &[u8]) {
    let start = buffer.len();
    buffer.put_u16(kind);
    buffer.put_u16(0);
    buffer.put_slice(value);
    finish(buffer, start);
}

fn finish(buffer: &mut BytesMut, start: usize) {
    let length = buffer.len() - start;
    let field = u16::try_from(length).unwrap_or(u16::MAX);
    buffer[start + 2..start + 4].copy_from_slice(&field.to_be_bytes());
    buffer.put_bytes(0, padded(length) - length);
}
