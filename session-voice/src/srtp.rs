//! SRTP and SRTCP: what DTLS or signalling gave keys for, protected in place (RFC 3711, RFC 7714).

mod cipher;
mod galois;
mod mac;
mod replay;
#[cfg(test)]
mod tests;

use crate::Crypto;
use crate::encryption::{AES_CM_128_HMAC_SHA1_32, AES_CM_128_HMAC_SHA1_80};
use crate::lines::{self, Start};
use crate::rtp::{self, HEADER_BYTES, RtpError, SequenceExtender};
use bytes::{BufMut, BytesMut};
use cipher::{Cipher, Keystream};
use galois::GaloisKey;
use replay::ReplayWindow;
use smallvec::SmallVec;
use std::{fmt, mem::offset_of};
use thiserror::Error;

/// Most sources that one side follows. Each has a place of its own only after an authentic packet.
pub const SOURCES_MAX: usize = 64;

/// The most packets under one key: 2⁴⁸ for SRTP (RFC 3711 §9.2), of which sequence numbers take care.
const RTP_INDEX_END: u64 = 1 << 48;

/// The most for SRTCP.
const RTCP_INDEX_END: u32 = 1 << 31;

/// Bytes of the SRTCP index and its flag.
const INDEX_BYTES: usize = 4;

/// The flag that says: encrypted (RFC 3711 §3.4).
const ENCRYPTED: u32 = 1 << 31;

/// Bytes of an RTCP header that stay in clear.
const RTCP_CLEAR: usize = 8;

/// How packets are protected. What [`session_core::SrtpProfile`] has by its number alone, from which and to which it converts,
/// this knows the inside of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// AES in counter mode with 80-bit tags: the one that everybody has (RFC 5764 §4.1.2, number 1).
    Aes128CmSha1_80,
    /// The same with 32-bit tags for RTP (number 2).
    Aes128CmSha1_32,
    /// AES-128 in Galois counter mode (RFC 7714, number 7).
    AeadAes128Gcm,
    /// AES-256 in Galois counter mode (RFC 7714, number 8).
    AeadAes256Gcm,
}

impl SrtpProfile {
    /// Its number in DTLS's `use_srtp` (RFC 5764 §4.1.2, RFC 7714 §14.2).
    pub fn number(self) -> u16 {
        match self {
            Self::Aes128CmSha1_80 => 1,
            Self::Aes128CmSha1_32 => 2,
            Self::AeadAes128Gcm => 7,
            Self::AeadAes256Gcm => 8,
        }
    }

    /// The profile with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        [
            Self::Aes128CmSha1_80,
            Self::Aes128CmSha1_32,
            Self::AeadAes128Gcm,
            Self::AeadAes256Gcm,
        ]
        .into_iter()
        .find(|profile| profile.number() == number)
    }

    /// Bytes of its master key.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 | Self::AeadAes128Gcm => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of its master salt.
    pub fn salt_bytes(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 14,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
        }
    }

    /// Bytes by which an RTP packet grows.
    pub fn rtp_tag(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 => 10,
            Self::Aes128CmSha1_32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Bytes of an RTCP packet's tag, to which four of the index come.
    pub fn rtcp_tag(self) -> usize {
        match self {
            Self::Aes128CmSha1_80 | Self::Aes128CmSha1_32 => 10,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }
}

/// A profile of DTLS that is none of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the SRTP profile {0:#06x} is not known")]
pub struct UnknownProfile(pub u16);

impl TryFrom<session_core::SrtpProfile> for SrtpProfile {
    type Error = UnknownProfile;

    fn try_from(profile: session_core::SrtpProfile) -> Result<Self, UnknownProfile> {
        Self::from_number(profile.0).ok_or(UnknownProfile(profile.0))
    }
}

impl From<SrtpProfile> for session_core::SrtpProfile {
    fn from(profile: SrtpProfile) -> Self {
        Self(profile.number())
    }
}

/// Why a packet was not protected, or not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SrtpError {
    /// A key or a salt of another size than the profile's.
    #[error("the {0} has another size than the profile wants")]
    KeySize(&'static str),
    /// It is no RTP.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// It is too short to be what it should be.
    #[error("the packet ends before its tag")]
    Truncated,
    /// Changed on the way, or made by somebody who does not have the key.
    #[error("the packet's tag is wrong")]
    Forged,
    /// Seen before, or too old to tell.
    #[error("the packet came before, or is too old to tell")]
    Replayed,
    /// [`SOURCES_MAX`] are followed already.
    #[error("more than {SOURCES_MAX} sources")]
    TooManySources,
    /// The key has served its time (RFC 3711 §9.2).
    #[error("the key has protected as many packets as it may")]
    KeyExhausted,
    /// An RTCP packet that is not encrypted, which we never send and never take.
    #[error("the packet is not encrypted")]
    NotEncrypted,
}

/// One direction's keys. [`SrtpSender`] and [`SrtpReceiver`] are made of them.
// In this order, so that what each packet touches is at the beginning.
#[repr(C)]
struct Keys {
    profile: SrtpProfile,
    /// Reports are rare: what their keys are made of is small, and what is made of it is not. Boxed, because packets of
    /// sound walk past it.
    master: Box<SrtpMaster>,
    rtp: Cipher,
}

impl Keys {
    fn rtcp(&self) -> Cipher {
        let SrtpMaster { profile, key, salt } = &*self.master;
        Cipher::derive(*profile, key, salt, 3)
    }
}

/// A master key with its salt, and what for. [`Debug`] shows neither.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpMaster {
    profile: SrtpProfile,
    key: Vec<u8>,
    salt: Vec<u8>,
}

impl SrtpMaster {
    /// A key and a salt of the profile's sizes.
    ///
    /// # Errors
    /// [`SrtpError::KeySize`].
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Result<Self, SrtpError> {
        if key.len() != profile.key_bytes() {
            return Err(SrtpError::KeySize("key"));
        }
        if salt.len() != profile.salt_bytes() {
            return Err(SrtpError::KeySize("salt"));
        }
        Ok(Self {
            profile,
            key: key.to_vec(),
            salt: salt.to_vec(),
        })
    }

    /// Both directions out of what DTLS exports under `EXTRACTOR-dtls_srtp` (RFC 5764 §4.2): the DTLS client's, then
    /// the server's.
    ///
    /// # Errors
    /// [`SrtpError::KeySize`] when the material is too short.
    pub fn from_dtls(profile: SrtpProfile, material: &[u8]) -> Result<[Self; 2], SrtpError> {
        let (key, salt) = (profile.key_bytes(), profile.salt_bytes());
        let (keys, salts) = material
            .split_at_checked(2 * key)
            .ok_or(SrtpError::KeySize("key"))?;
        let salts = salts.get(..2 * salt).ok_or(SrtpError::KeySize("salt"))?;
        Ok([
            Self::new(profile, &keys[..key], &salts[..salt])?,
            Self::new(profile, &keys[key..], &salts[salt..])?,
        ])
    }

    /// Out of a key in signalling (RFC 4568 §6.1). `None` when it is of no suite that we have.
    pub fn from_crypto(crypto: &Crypto) -> Option<Self> {
        let profile = match &*crypto.suite {
            AES_CM_128_HMAC_SHA1_80 => SrtpProfile::Aes128CmSha1_80,
            AES_CM_128_HMAC_SHA1_32 => SrtpProfile::Aes128CmSha1_32,
            _ => return None,
        };
        let bytes = crypto.key()?;
        let (key, salt) = bytes.split_at(profile.key_bytes());
        Self::new(profile, key, salt).ok()
    }

    fn keys(&self) -> Keys {
        Keys {
            profile: self.profile,
            rtp: Cipher::derive(self.profile, &self.key, &self.salt, 0),
            master: Box::new(self.clone()),
        }
    }
}

impl fmt::Debug for SrtpMaster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpMaster")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// Protects what is sent.
///
/// ```
/// use bytes::BytesMut;
/// use session_voice::{RtpHeader, SrtpMaster, SrtpProfile, SrtpReceiver, SrtpSender};
///
/// let master = SrtpMaster::new(SrtpProfile::Aes128CmSha1_80, &[1; 16], &[2; 14]).unwrap();
/// let (mut sender, mut receiver) = (SrtpSender::new(&master), SrtpReceiver::new(&master));
/// let mut packet = BytesMut::new();
/// RtpHeader { payload_type: 111, sequence: 7, ..RtpHeader::default() }.write(&mut packet);
/// packet.extend_from_slice(b"sound");
/// let clear = packet.clone();
/// sender.protect_rtp(&mut packet).unwrap();
/// assert_ne!(packet, clear);
/// receiver.unprotect_rtp(&mut packet).unwrap();
/// assert_eq!(packet, clear);
/// ```
// In this order, so that what each packet touches lies together.
#[repr(C)]
pub struct SrtpSender {
    start: Start,
    rtcp_index: u32,
    /// Most often there is one.
    sources: SmallVec<[(u32, SequenceExtender); 1]>,
    keys: Keys,
}

impl SrtpSender {
    /// With the keys of our direction.
    pub fn new(master: &SrtpMaster) -> Self {
        Self {
            start: [],
            keys: master.keys(),
            sources: SmallVec::new(),
            rtcp_index: 0,
        }
    }

    /// The key with which it was made.
    pub(crate) fn master(&self) -> &SrtpMaster {
        &self.keys.master
    }

    /// Asks the processor for what each packet touches.
    pub(crate) fn prefetch(&self) {
        let between = offset_of!(Self, keys) + offset_of!(Keys, rtp);
        self.keys.rtp.prefetch(&self.start, between);
    }

    /// Encrypts a packet in place and adds its tag: [`SrtpProfile::rtp_tag`] bytes, for which a buffer with room is
    /// not moved.
    ///
    /// # Errors
    /// [`SrtpError`]; then nothing was changed.
    pub fn protect_rtp(&mut self, packet: &mut BytesMut) -> Result<(), SrtpError> {
        let (header, _) = rtp::header_of(packet)?;
        let (ssrc, sequence) = source_and_sequence(packet);
        let at = match self.sources.iter().position(|(known, _)| *known == ssrc) {
            Some(at) => at,
            None if self.sources.len() >= SOURCES_MAX => return Err(SrtpError::TooManySources),
            None => {
                self.sources.push((ssrc, SequenceExtender::default()));
                self.sources.len() - 1
            }
        };
        let index = self.sources[at].1.guess(sequence);
        if index >= RTP_INDEX_END {
            return Err(SrtpError::KeyExhausted);
        }
        self.sources[at].1.accept(index);
        let keys = &self.keys.rtp;
        match keys.stream() {
            Keystream::Counter => {
                keys.apply(ssrc, index, &mut packet[header..]);
                let tag = keys.tag(packet, Some((index >> 16) as u32));
                packet.put_slice(&tag[..self.keys.profile.rtp_tag()]);
            }
            Keystream::Galois => {
                let (clear, body) = packet.split_at_mut(header);
                let tag = keys.seal(ssrc, index, clear, &[], body);
                packet.put_slice(&tag);
            }
        }
        Ok(())
    }

    /// Encrypts a compound in place, and adds the index and the tag.
    ///
    /// # Errors
    /// [`SrtpError`]; then nothing was changed.
    pub fn protect_rtcp(&mut self, packet: &mut BytesMut) -> Result<(), SrtpError> {
        if packet.len() < RTCP_CLEAR {
            return Err(SrtpError::Truncated);
        }
        if self.rtcp_index + 1 >= RTCP_INDEX_END {
            return Err(SrtpError::KeyExhausted);
        }
        self.rtcp_index += 1;
        let index = self.rtcp_index;
        let ssrc = sender_of(packet);
        let word = (ENCRYPTED | index).to_be_bytes();
        let keys = self.keys.rtcp();
        match keys.stream() {
            Keystream::Counter => {
                keys.apply(ssrc, u64::from(index), &mut packet[RTCP_CLEAR..]);
                packet.put_slice(&word);
                let tag = keys.tag(packet, None);
                packet.put_slice(&tag[..self.keys.profile.rtcp_tag()]);
            }
            Keystream::Galois => {
                let (clear, body) = packet.split_at_mut(RTCP_CLEAR);
                let tag = keys.seal(ssrc, u64::from(index), clear, &word, body);
                packet.put_slice(&tag);
                packet.put_slice(&word);
            }
        }
        Ok(())
    }
}

/// Takes what the peer protected, once.
// In this order, so that what each packet touches lies together.
#[repr(C)]
pub struct SrtpReceiver {
    start: Start,
    /// Most often there is one.
    sources: SmallVec<[Source; 1]>,
    keys: Keys,
}

struct Source {
    ssrc: u32,
    sequence: SequenceExtender,
    rtp: ReplayWindow,
    rtcp: ReplayWindow,
}

// In thousands of calls each line more is felt.
const _: () = assert!(size_of::<SrtpSender>() - size_of::<GaloisKey>() <= 2 * lines::LINE);
const _: () = assert!(size_of::<SrtpReceiver>() - size_of::<GaloisKey>() <= 3 * lines::LINE);

impl SrtpReceiver {
    /// With the keys of the peer's direction.
    pub fn new(master: &SrtpMaster) -> Self {
        Self {
            start: [],
            keys: master.keys(),
            sources: SmallVec::new(),
        }
    }

    /// The key with which it was made.
    pub(crate) fn master(&self) -> &SrtpMaster {
        &self.keys.master
    }

    /// Asks the processor for what each packet touches.
    pub(crate) fn prefetch(&self) {
        let between = offset_of!(Self, keys) + offset_of!(Keys, rtp);
        self.keys.rtp.prefetch(&self.start, between);
    }

    /// Verifies and decrypts a packet in place, and cuts its tag off.
    ///
    /// # Errors
    /// [`SrtpError`]; then the packet is worth nothing, and nothing else has changed.
    pub fn unprotect_rtp(&mut self, packet: &mut BytesMut) -> Result<(), SrtpError> {
        let tag = self.keys.profile.rtp_tag();
        let body_end = packet.len().checked_sub(tag).ok_or(SrtpError::Truncated)?;
        if body_end < HEADER_BYTES {
            return Err(SrtpError::Truncated);
        }
        let (header, _) = rtp::header_of(&packet[..body_end])?;
        let (ssrc, sequence) = source_and_sequence(packet);
        let known = self.sources.iter().position(|source| source.ssrc == ssrc);
        let index = match known {
            Some(at) => self.sources[at].sequence.guess(sequence),
            None if self.sources.len() >= SOURCES_MAX => return Err(SrtpError::TooManySources),
            None => u64::from(sequence),
        };
        if known.is_some_and(|at| !self.sources[at].rtp.is_new(index)) {
            return Err(SrtpError::Replayed);
        }
        let keys = &self.keys.rtp;
        let (rest, received) = packet.split_at_mut(body_end);
        match keys.stream() {
            Keystream::Counter => {
                let expected = keys.tag(rest, Some((index >> 16) as u32));
                if !cipher::equal(&expected[..tag], received) {
                    return Err(SrtpError::Forged);
                }
                keys.apply(ssrc, index, &mut rest[header..]);
            }
            Keystream::Galois => {
                let (clear, body) = rest.split_at_mut(header);
                if !keys.open(ssrc, index, clear, &[], body, received) {
                    return Err(SrtpError::Forged);
                }
            }
        }
        packet.truncate(body_end);
        let source = self.source(ssrc);
        source.sequence.accept(index);
        source.rtp.accept(index);
        Ok(())
    }

    /// Verifies and decrypts a compound in place, and cuts the index and the tag off.
    ///
    /// # Errors
    /// [`SrtpError`]; then the packet is worth nothing, and nothing else has changed.
    pub fn unprotect_rtcp(&mut self, packet: &mut BytesMut) -> Result<(), SrtpError> {
        let tag = self.keys.profile.rtcp_tag();
        let body_end = packet
            .len()
            .checked_sub(tag + INDEX_BYTES)
            .filter(|end| *end >= RTCP_CLEAR)
            .ok_or(SrtpError::Truncated)?;
        let is_aead = self.keys.profile.is_aead();
        let word_at = if is_aead {
            packet.len() - INDEX_BYTES
        } else {
            body_end
        };
        let word: [u8; INDEX_BYTES] = packet[word_at..]
            .first_chunk()
            .copied()
            .ok_or(SrtpError::Truncated)?;
        if u32::from_be_bytes(word) & ENCRYPTED == 0 {
            return Err(SrtpError::NotEncrypted);
        }
        let index = u64::from(u32::from_be_bytes(word) & !ENCRYPTED);
        let ssrc = sender_of(packet);
        match self.sources.iter().find(|source| source.ssrc == ssrc) {
            Some(source) if !source.rtcp.is_new(index) => return Err(SrtpError::Replayed),
            None if self.sources.len() >= SOURCES_MAX => return Err(SrtpError::TooManySources),
            Some(_) | None => {}
        }
        let keys = self.keys.rtcp();
        if is_aead {
            let (rest, received) = packet.split_at_mut(body_end);
            let (clear, body) = rest.split_at_mut(RTCP_CLEAR);
            if !keys.open(ssrc, index, clear, &word, body, &received[..tag]) {
                return Err(SrtpError::Forged);
            }
        } else {
            let (rest, received) = packet.split_at_mut(body_end + INDEX_BYTES);
            let expected = keys.tag(rest, None);
            if !cipher::equal(&expected[..tag], received) {
                return Err(SrtpError::Forged);
            }
            keys.apply(ssrc, index, &mut rest[RTCP_CLEAR..body_end]);
        }
        packet.truncate(body_end);
        self.source(ssrc).rtcp.accept(index);
        Ok(())
    }

    /// The place of a source that has sent an authentic packet.
    fn source(&mut self, ssrc: u32) -> &mut Source {
        let at = match self.sources.iter().position(|source| source.ssrc == ssrc) {
            Some(at) => at,
            None => {
                self.sources.push(Source {
                    ssrc,
                    sequence: SequenceExtender::default(),
                    rtp: ReplayWindow::default(),
                    rtcp: ReplayWindow::default(),
                });
                self.sources.len() - 1
            }
        };
        &mut self.sources[at]
    }
}

impl fmt::Debug for SrtpSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpSender")
            .field("profile", &self.keys.profile)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SrtpReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpReceiver")
            .field("profile", &self.keys.profile)
            .field("sources", &self.sources.len())
            .finish_non_exhaustive()
    }
}

/// Of a packet whose header was checked.
fn source_and_sequence(packet: &[u8]) -> (u32, u16) {
    let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
    (ssrc, u16::from_be_bytes([packet[2], packet[3]]))
}

/// Of a compound that has the bytes that stay in clear.
fn sender_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]])
}
