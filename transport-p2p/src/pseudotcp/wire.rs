//! The bytes of a segment: the 24-byte header, the CONNECT options and the selective-acknowledgement blocks.
//!
//! ```text
//!  0               4               8               12      13     14        16      20      24
//!  | conversation  | sequence      | acknowledged  | control| flags| window  | tsval | tsecr | payload …
//! ```
//! All fields are big-endian (libjingle pseudotcp.cc). `control` is always 0 and ignored on receipt.

/// Bytes of the fixed header.
pub(super) const HEADER: usize = 24;

/// The sender has no more data; consumes one sequence number (libnice's FIN-ACK extension).
pub(super) const FLAG_FIN: u8 = 0x01;
/// The payload is a control message instead of data (libjingle).
pub(super) const FLAG_CTL: u8 = 0x02;
/// The connection is gone (libjingle).
pub(super) const FLAG_RST: u8 = 0x04;
/// The payload is a list of selectively acknowledged ranges; only after both sides have offered [`OPTION_SACK`].
pub(super) const FLAG_SACK: u8 = 0x08;

/// First byte of the control message that opens a connection.
pub(super) const CTL_CONNECT: u8 = 0;

const OPTION_END: u8 = 0;
const OPTION_NOOP: u8 = 1;
const OPTION_SCALE: u8 = 3;
const OPTION_FIN: u8 = 254;
/// RFC 6994's first experimental kind; the value is an experiment identifier, so that others' use of 253 is not
/// mistaken for ours.
pub(super) const OPTION_SACK: u8 = 253;
const SACK_ID: [u8; 2] = *b"SK";

/// The largest shift that RFC 7323 §2.3 permits; a larger offer counts as this.
pub(super) const MAX_SCALE: u8 = 14;

/// Most selectively acknowledged ranges in one segment.
pub(super) const MAX_BLOCKS: usize = 128;

/// The fixed header, in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) conversation: u32,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) tsval: u32,
    pub(super) tsecr: u32,
}

impl Header {
    /// The header at the start of `segment`, or `None` if the segment is shorter than a header.
    pub(super) fn decode(segment: &[u8]) -> Option<Self> {
        let bytes = segment.first_chunk::<HEADER>()?;
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Some(Self {
            conversation: word(0),
            sequence: word(4),
            acknowledged: word(8),
            flags: bytes[13],
            window: u16::from_be_bytes([bytes[14], bytes[15]]),
            tsval: word(16),
            tsecr: word(20),
        })
    }

    pub(super) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.conversation.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.acknowledged.to_be_bytes());
        bytes[13] = self.flags;
        bytes[14..16].copy_from_slice(&self.window.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.tsval.to_be_bytes());
        bytes[20..24].copy_from_slice(&self.tsecr.to_be_bytes());
        bytes
    }
}

/// What a CONNECT message offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    /// The shift of the window field; `None` when the option is absent, which forbids scaling in both directions.
    pub(super) scale: Option<u8>,
    pub(super) fin: bool,
    pub(super) sack: bool,
}

impl Options {
    /// The CONNECT message: its command byte and the options, in the order in which libnice writes them.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut message = vec![CTL_CONNECT];
        if let Some(scale) = self.scale {
            message.extend([OPTION_SCALE, 1, scale]);
        }
        if self.fin {
            message.extend([OPTION_FIN, 1, 0]);
        }
        if self.sack {
            message.extend([OPTION_SACK, 2, SACK_ID[0], SACK_ID[1]]);
        }
        message
    }

    /// The options of a CONNECT message, or `None` if the message is not a CONNECT.
    ///
    /// Unknown kinds are skipped, and a truncated option ends the list, as in libjingle.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (&CTL_CONNECT, mut rest) = message.split_first()? else {
            return None;
        };
        let mut options = Self::default();
        while let Some((&kind, after)) = rest.split_first() {
            match kind {
                OPTION_END => break,
                OPTION_NOOP => rest = after,
                _ => {
                    let Some((&length, after)) = after.split_first() else {
                        break;
                    };
                    let Some((value, after)) = after.split_at_checked(length.into()) else {
                        break;
                    };
                    options.apply(kind, value);
                    rest = after;
                }
            }
        }
        Some(options)
    }

    fn apply(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (OPTION_SCALE, [shift]) => self.scale = Some((*shift).min(MAX_SCALE)),
            (OPTION_FIN, _) => self.fin = true,
            (OPTION_SACK, id) if id == SACK_ID => self.sack = true,
            _ => {}
        }
    }
}

/// The ranges in a [`FLAG_SACK`] payload, as wire sequence numbers; at most [`MAX_BLOCKS`], a trailing fragment is
/// ignored.
pub(super) fn blocks(payload: &[u8]) -> impl Iterator<Item = (u32, u32)> + '_ {
    payload
        .chunks_exact(8)
        .take(MAX_BLOCKS)
        .map(|block| match *block {
            [a, b, c, d, e, f, g, h] => (
                u32::from_be_bytes([a, b, c, d]),
                u32::from_be_bytes([e, f, g, h]),
            ),
            _ => (0, 0),
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn header_is_libjingles() {
        let header = Header {
            conversation: 0x0102_0304,
            sequence: 0x1112_1314,
            acknowledged: 0x2122_2324,
            flags: FLAG_CTL,
            window: 0xf000,
            tsval: 0x3132_3334,
            tsecr: 0x4142_4344,
        };
        let bytes = header.encode();
        assert_eq!(
            bytes,
            [
                1, 2, 3, 4, 0x11, 0x12, 0x13, 0x14, 0x21, 0x22, 0x23, 0x24, 0, 2, 0xf0, 0, 0x31,
                0x32, 0x33, 0x34, 0x41, 0x42, 0x43, 0x44
            ]
        );
        assert_eq!(Header::decode(&bytes), Some(header));
        // libjingle compared with 12 and read 24 bytes.
        for length in 0..HEADER {
            assert_eq!(Header::decode(&bytes[..length]), None);
        }
    }

    #[test]
    fn connect_of_libjingle_071_and_of_libnice() {
        let plain = Options {
            scale: Some(0),
            ..Options::default()
        };
        assert_eq!(plain.encode(), [0, 3, 1, 0]);
        assert_eq!(Options::decode(&[0, 3, 1, 0]), Some(plain));
        let nice = Options { fin: true, ..plain };
        assert_eq!(nice.encode(), [0, 3, 1, 0, 0xfe, 1, 0]);
        assert_eq!(
            Options::decode(&[0, 3, 1, 0, 0xfe, 1, 0]),
            Some(nice),
            "seen from libnice 0.1.21"
        );
        assert_eq!(
            Options::decode(&[0]),
            Some(Options::default()),
            "libjingle 0.4.0"
        );
        let all = Options { sack: true, ..nice };
        assert_eq!(Options::decode(&all.encode()), Some(all));
    }

    #[test]
    fn odd_options_are_skipped_or_end_the_list() {
        let with_scale = |message: &[u8]| Options::decode(message).unwrap().scale;
        assert_eq!(with_scale(&[0, 1, 1, 3, 1, 5]), Some(5));
        assert_eq!(with_scale(&[0, 2, 2, 5, 100, 3, 1, 5]), Some(5));
        assert_eq!(with_scale(&[0, 3, 1, 200]), Some(MAX_SCALE));
        assert_eq!(with_scale(&[0, 3, 2, 1, 1]), None);
        assert_eq!(with_scale(&[0, 0, 3, 1, 5]), None);
        assert_eq!(with_scale(&[0, 3]), None);
        assert_eq!(with_scale(&[0, 3, 9, 1]), None);
        assert!(
            !Options::decode(&[0, OPTION_SACK, 2, b'X', b'Y'])
                .unwrap()
                .sack
        );
        assert_eq!(Options::decode(&[]), None);
        assert_eq!(Options::decode(&[255]), None);
    }

    #[test]
    fn blocks_are_bounded() {
        let payload = vec![1; 8 * (MAX_BLOCKS + 5) + 3];
        assert_eq!(blocks(&payload).count(), MAX_BLOCKS);
        assert_eq!(blocks(&payload[..15]).count(), 1);
    }
}
