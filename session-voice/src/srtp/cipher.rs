//! Session keys, and what is done with them.

use super::SrtpProfile;
use super::galois::{GaloisKey, NONCE_BYTES, TAG_BYTES};
use super::mac::{MAC_BYTES, MacKey};
use crate::lines::{self, Lines, Start};
use aes::{
    Aes128Enc, Aes256Enc,
    cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher},
};
use ctr::{Ctr128BE, CtrCore};
use subtle::ConstantTimeEq;

/// Bytes of an RTCP packet that are authenticated in clear, with the index word behind.
const RTCP_CLEAR_BYTES: usize = 12;

/// The keys of RTP or of RTCP.
// In this order, so that what each packet touches is at the beginning.
#[repr(u8)]
#[allow(
    clippy::large_enum_variant,
    reason = "the large one is what calls have; what is boxed is another page of memory with each packet"
)]
pub(super) enum Cipher {
    Counter {
        salt: [u8; 14],
        /// Boxed: it is larger still, and rarer.
        key: Box<Lines<(Aes128Enc, MacKey)>>,
    },
    Galois {
        salt: [u8; NONCE_BYTES],
        key: GaloisKey,
    },
}

/// How the bytes are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keystream {
    Counter,
    Galois,
}

impl Cipher {
    /// Derives session keys (RFC 3711 §4.3.1 with a rate of zero, RFC 7714 §11): `first` is the label of the
    /// encryption key, behind which come those of the authentication key and of the salt.
    pub(super) fn derive(profile: SrtpProfile, key: &[u8], salt: &[u8], first: u8) -> Self {
        let mut master_salt = [0; 14];
        let length = salt.len().min(14);
        master_salt[..length].copy_from_slice(&salt[..length]);
        let fill = |label: u8, out: &mut [u8]| derive(key, &master_salt, first + label, out);
        let mut session_key = [0; 32];
        fill(0, &mut session_key[..profile.key_bytes()]);
        let (key128, _) = session_key.split_at(16);
        match profile {
            SrtpProfile::Aes128CmSha1_80 | SrtpProfile::Aes128CmSha1_32 => {
                let (mut mac_key, mut salt) = ([0; MAC_BYTES], [0; 14]);
                fill(1, &mut mac_key);
                fill(2, &mut salt);
                Self::counter(key128, salt, &mac_key)
            }
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => {
                let mut salt = [0; NONCE_BYTES];
                fill(2, &mut salt);
                Self::galois(&session_key[..profile.key_bytes()], salt)
            }
        }
    }

    pub(super) fn counter(key: &[u8], salt: [u8; 14], mac_key: &[u8]) -> Self {
        Self::Counter {
            key: Box::new(Lines::new((
                Aes128Enc::new(&array(key).into()),
                MacKey::new(mac_key),
            ))),
            salt,
        }
    }

    pub(super) fn galois(key: &[u8], salt: [u8; NONCE_BYTES]) -> Self {
        Self::Galois {
            key: GaloisKey::new(key),
            salt,
        }
    }

    pub(super) fn stream(&self) -> Keystream {
        match self {
            Self::Counter { .. } => Keystream::Counter,
            Self::Galois { .. } => Keystream::Galois,
        }
    }

    /// Asks the processor for what each packet touches here, and for the bytes between `start` and here, which are so many.
    #[inline]
    pub(super) fn prefetch(&self, start: &Start, between: usize) {
        match self {
            Self::Counter { key, .. } => {
                // Which of the two it is, its salt, and where its key is.
                lines::prefetch(start, 0..between + size_of::<[u64; 3]>());
                key.prefetch(0..size_of_val(&***key));
            }
            Self::Galois { .. } => lines::prefetch(start, 0..between + size_of::<Self>()),
        }
    }

    /// Encrypts or decrypts in counter mode (RFC 3711 §4.1.1).
    pub(super) fn apply(&self, ssrc: u32, index: u64, data: &mut [u8]) {
        let Self::Counter { key, salt } = self else {
            return;
        };
        let mut iv = [0; 16];
        iv[..14].copy_from_slice(salt);
        xor(&mut iv[4..8], &ssrc.to_be_bytes());
        xor(&mut iv[8..14], &index.to_be_bytes()[2..]);
        let core = CtrCore::inner_iv_init(&key.0, &iv.into());
        Ctr128BE::from_core(core).apply_keystream(data);
    }

    /// The authentication of a packet and, for RTP, of its rollover counter (RFC 3711 §4.2).
    pub(super) fn tag(&self, packet: &[u8], rollover: Option<u32>) -> [u8; MAC_BYTES] {
        let Self::Counter { key, .. } = self else {
            return [0; MAC_BYTES];
        };
        key.1.mac(packet, rollover)
    }

    /// Encrypts in Galois counter mode (RFC 7714 §8.1), authenticating also what stays in clear.
    pub(super) fn seal(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        behind: &[u8],
        body: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let Self::Galois { key, salt } = self else {
            return [0; TAG_BYTES];
        };
        let mut joined = [0; RTCP_CLEAR_BYTES];
        let clear = join(clear, behind, &mut joined);
        // It fails beyond 64 GiB only, and a packet is shorter.
        let sealed = key.seal(nonce(salt, ssrc, index), clear, body);
        sealed.unwrap_or([0; TAG_BYTES])
    }

    /// Whether the tag was right; then `body` is decrypted.
    pub(super) fn open(
        &self,
        ssrc: u32,
        index: u64,
        clear: &[u8],
        behind: &[u8],
        body: &mut [u8],
        tag: &[u8],
    ) -> bool {
        let Self::Galois { key, salt } = self else {
            return false;
        };
        let mut joined = [0; RTCP_CLEAR_BYTES];
        let clear = join(clear, behind, &mut joined);
        tag.first_chunk::<TAG_BYTES>()
            .is_some_and(|tag| key.open(nonce(salt, ssrc, index), clear, body, *tag))
    }
}

/// Two zeros, the source, and six bytes of the index, over the salt (RFC 7714 §8.1, §9.1).
fn nonce(salt: &[u8; NONCE_BYTES], ssrc: u32, index: u64) -> [u8; NONCE_BYTES] {
    let mut nonce = *salt;
    xor(&mut nonce[2..6], &ssrc.to_be_bytes());
    xor(&mut nonce[6..], &index.to_be_bytes()[2..]);
    nonce
}

/// In time that does not tell where they differ.
pub(super) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

/// What is authenticated in clear, in one piece: an RTP header as it is, the beginning of an RTCP packet with its index.
fn join<'a>(clear: &'a [u8], behind: &[u8], room: &'a mut [u8; RTCP_CLEAR_BYTES]) -> &'a [u8] {
    if behind.is_empty() || clear.len() + behind.len() != RTCP_CLEAR_BYTES {
        return clear;
    }
    let (first, second) = room.split_at_mut(clear.len());
    first.copy_from_slice(clear);
    second.copy_from_slice(behind);
    room
}

/// The pseudo-random function of RFC 3711 §4.3.3: counter mode over the label and the salt.
fn derive(key: &[u8], salt: &[u8; 14], label: u8, out: &mut [u8]) {
    let mut block = [0; 16];
    block[..14].copy_from_slice(salt);
    block[7] ^= label;
    if key.len() == 32 {
        keystream(&Aes256Enc::new(&array(key).into()), block, out);
    } else {
        keystream(&Aes128Enc::new(&array(key).into()), block, out);
    }
}

fn keystream<C>(cipher: &C, mut block: [u8; 16], out: &mut [u8])
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    for (count, chunk) in out.chunks_mut(16).enumerate() {
        block[14..].copy_from_slice(&(count as u16).to_be_bytes());
        let mut stream = block.into();
        cipher.encrypt_block(&mut stream);
        chunk.copy_from_slice(&stream[..chunk.len()]);
    }
}

/// The beginning of a slice that is long enough, as its length was checked where it came in.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

fn xor(target: &mut [u8], with: &[u8]) {
    target
        .iter_mut()
        .zip(with)
        .for_each(|(byte, with)| *byte ^= with);
}
