//! HMAC-SHA1 over one packet, with a key that is hashed once.

use sha1::block_api::compress;

/// Bytes of an HMAC-SHA1, of which tags are the beginning.
pub(super) const MAC_BYTES: usize = 20;

/// Bytes that SHA-1 takes at a time.
const BLOCK: usize = 64;

/// What SHA-1 begins with (FIPS 180-4 §5.3.1).
const INITIAL: [u32; 5] = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// A key of HMAC-SHA1 (RFC 2104), as what is left when its two blocks are hashed: 40 bytes, and a packet costs no more than the
/// blocks it has. What hashes is the library's; the general form of it carries a buffer of a block, which is copied for each
/// packet.
pub(super) struct MacKey {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl MacKey {
    /// A key of a block at most; what is longer is cut, as RFC 3711 has none (§5.2).
    pub(super) fn new(key: &[u8]) -> Self {
        let padded = |with: u8| {
            let mut block = [with; BLOCK];
            block.iter_mut().zip(key).for_each(|(to, key)| *to ^= key);
            let mut state = INITIAL;
            compress(&mut state, &[block]);
            state
        };
        Self {
            inner: padded(0x36),
            outer: padded(0x5c),
        }
    }

    /// Of a packet and, for RTP, of its rollover counter behind it (RFC 3711 §4.2).
    pub(super) fn mac(&self, packet: &[u8], rollover: Option<u32>) -> [u8; MAC_BYTES] {
        let rollover = rollover.map(u32::to_be_bytes);
        let behind = rollover.as_ref().map_or(&[][..], |bytes| bytes);
        let mut state = self.inner;
        let (blocks, rest) = packet.as_chunks::<BLOCK>();
        compress(&mut state, blocks);
        let mut last = [[0; BLOCK]; 2];
        let end = rest.len() + behind.len();
        let room = last.as_flattened_mut();
        room[..rest.len()].copy_from_slice(rest);
        room[rest.len()..end].copy_from_slice(behind);
        let count = finish(room, end, BLOCK + packet.len() + behind.len());
        compress(&mut state, &last[..count]);
        let inner = bytes(state);
        let mut block = [[0; BLOCK]];
        let room = block.as_flattened_mut();
        room[..MAC_BYTES].copy_from_slice(&inner);
        finish(room, MAC_BYTES, BLOCK + MAC_BYTES);
        let mut state = self.outer;
        compress(&mut state, &block);
        bytes(state)
    }
}

/// Ends a message (FIPS 180-4 §5.1.1) whose last bytes are the first `end` of the room, and which is `length` bytes in all; how
/// many blocks of the room are the message's.
fn finish(room: &mut [u8], end: usize, length: usize) -> usize {
    let count = (end + 1 + size_of::<u64>()).div_ceil(BLOCK);
    room[end] = 0x80;
    let bits = (length as u64 * 8).to_be_bytes();
    room[count * BLOCK - bits.len()..count * BLOCK].copy_from_slice(&bits);
    count
}

fn bytes(state: [u32; 5]) -> [u8; MAC_BYTES] {
    let mut bytes = [0; MAC_BYTES];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *to = word.to_be_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use sha1::Sha1;

    proptest! {
        /// The same as the library's general form makes of it, for packets that end anywhere in a block.
        #[test]
        fn it_is_the_librarys(
            key in prop::collection::vec(any::<u8>(), 0..=BLOCK),
            packet in prop::collection::vec(any::<u8>(), 0..400),
            rollover: Option<u32>,
        ) {
            let mut library = Hmac::<Sha1>::new_from_slice(&key).unwrap();
            library.update(&packet);
            if let Some(rollover) = rollover {
                library.update(&rollover.to_be_bytes());
            }
            let expected: [u8; MAC_BYTES] = library.finalize().into_bytes().into();
            prop_assert_eq!(MacKey::new(&key).mac(&packet, rollover), expected);
        }
    }

    /// RFC 2202 §3, the second case.
    #[test]
    fn rfc_2202() {
        let mac = MacKey::new(b"Jefe").mac(b"what do ya want for nothing?", None);
        let expected = [
            0xef, 0xfc, 0xdf, 0x6a, 0xe5, 0xeb, 0x2f, 0xa2, 0xd2, 0x74, 0x16, 0xd5, 0xf1, 0x84,
            0xdf, 0x9c, 0x25, 0x9a, 0x7c, 0x79,
        ];
        assert_eq!(mac, expected);
    }
}
