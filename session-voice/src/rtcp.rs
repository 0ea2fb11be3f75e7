//! RTCP packets (RFC 3550 §6, RFC 4585, RFC 3611), read where they lie and written in place.

mod loss;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use loss::ReceivedMap;
pub use loss::{LossCount, LossRuns};
pub use write::RtcpWriter;

use crate::rtp::ReceptionReport;
use thiserror::Error;

/// Most report blocks, sources or chunks in one packet: five bits count them.
pub const COUNT_MAX: usize = 31;

const BLOCK_BYTES: usize = 24;

pub(crate) mod kind {
    pub(crate) const SENDER_REPORT: u8 = 200;
    pub(crate) const RECEIVER_REPORT: u8 = 201;
    pub(crate) const SOURCE_DESCRIPTION: u8 = 202;
    pub(crate) const GOODBYE: u8 = 203;
    pub(crate) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(crate) const PAYLOAD_FEEDBACK: u8 = 206;
    pub(crate) const EXTENDED_REPORT: u8 = 207;
    pub(crate) const GENERIC_NACK: u8 = 1;
    pub(crate) const PICTURE_LOSS: u8 = 1;
    pub(crate) const LOSS_RLE: u8 = 1;
    pub(crate) const VOIP_METRICS: u8 = 7;
}

/// Why bytes are no RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RtcpError {
    /// Another version than 2.
    #[error("RTCP has version 2, not {0}")]
    Version(u8),
    /// It ends before the part that is named.
    #[error("the packet ends within its {0}")]
    Truncated(&'static str),
    /// The padding does not fit, or stands in another packet than the last (RFC 3550 §6.4.1).
    #[error("padding does not fit")]
    Padding,
}

/// The packets of a compound, or the one of a reduced-size packet (RFC 5506). After an error there is nothing more.
///
/// ```
/// use session_voice::{Rtcp, RtcpPacket, RtcpWriter};
///
/// let mut writer = RtcpWriter::new();
/// writer.receiver_report(1, &[]);
/// writer.goodbye(&[1], "hung up");
/// let bytes = writer.finish();
/// let packets: Vec<_> = Rtcp::new(&bytes).collect::<Result<_, _>>().unwrap();
/// assert!(matches!(packets[1], RtcpPacket::Goodbye { reason: Some("hung up"), .. }));
/// ```
#[derive(Clone, Debug)]
pub struct Rtcp<'a> {
    rest: &'a [u8],
}

/// One packet of a compound.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RtcpPacket<'a> {
    /// What a source sent, and what it received (RFC 3550 §6.4.1).
    SenderReport {
        /// Who.
        ssrc: u32,
        /// The time by its clock, in 1/2³² s since 1900.
        ntp: u64,
        /// The same moment by the timestamps of its packets.
        rtp: u32,
        /// Packets sent.
        packets: u32,
        /// Bytes of payload sent.
        bytes: u32,
        /// What it received.
        reports: Reports<'a>,
    },
    /// What a source received (RFC 3550 §6.4.2).
    ReceiverReport {
        /// Who.
        ssrc: u32,
        /// What it received.
        reports: Reports<'a>,
    },
    /// Who sources are (RFC 3550 §6.5): the canonical name of the first chunk that has one.
    SourceDescription {
        /// Whose name it is.
        ssrc: u32,
        /// Bytes, which should be UTF-8.
        cname: &'a [u8],
    },
    /// Sources that leave (RFC 3550 §6.6).
    Goodbye {
        /// Which.
        sources: Sources<'a>,
        /// Why, if they said so in UTF-8.
        reason: Option<&'a str>,
    },
    /// Packets that did not arrive and are wanted again (RFC 4585 §6.2.1).
    Nack {
        /// Who asks.
        sender: u32,
        /// Whose packets.
        media: u32,
        /// Which.
        lost: Lost<'a>,
    },
    /// A picture was lost, a whole one is wanted (RFC 4585 §6.3.1).
    PictureLoss {
        /// Who asks.
        sender: u32,
        /// Whose pictures.
        media: u32,
    },
    /// Other feedback, for an application that knows it.
    Feedback {
        /// 205, transport, or 206, payload.
        kind: u8,
        /// What kind of that.
        format: u8,
        /// Who says it.
        sender: u32,
        /// Of whose media.
        media: u32,
        /// The rest.
        control: &'a [u8],
    },
    /// How well the peer hears us (RFC 3611 §4.7).
    VoipMetrics(VoipMetrics),
    /// Which packets the peer did not get (RFC 3611 §4.1).
    LossRuns(LossRuns<'a>),
    /// Something else, well formed.
    Other {
        /// Its type.
        kind: u8,
        /// Everything behind its first four bytes.
        body: &'a [u8],
    },
}

/// The block of RFC 3611 §4.7 that says how a call sounds. 127 is the protocol's "not known" for the scores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VoipMetrics {
    /// Who measured.
    pub sender: u32,
    /// Whose sound.
    pub source: u32,
    /// Of 256 packets, how many were lost since the beginning.
    pub loss_rate: u8,
    /// Of 256 packets, how many came too late.
    pub discard_rate: u8,
    /// In milliseconds.
    pub round_trip: u16,
    /// In milliseconds.
    pub end_system_delay: u16,
    /// R factor, 0 to 100.
    pub r_factor: u8,
    /// Ten times the listening score, 10 to 50.
    pub mos_listening: u8,
    /// Ten times the conversational score, 10 to 50.
    pub mos_conversational: u8,
    /// The jitter buffer's delay now, in milliseconds.
    pub jitter_buffer: u16,
    /// The most that it would become.
    pub jitter_buffer_max: u16,
}

/// The report blocks of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reports<'a>(&'a [u8]);

/// The sources of a goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sources<'a>(&'a [u8]);

/// The sequence numbers of a NACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost<'a>(&'a [u8]);

impl<'a> Rtcp<'a> {
    /// Reads what has been decrypted.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn packet(&mut self) -> Result<RtcpPacket<'a>, RtcpError> {
        let &[first, kind, a, b] = self
            .rest
            .first_chunk()
            .ok_or(RtcpError::Truncated("header"))?;
        if first >> 6 != 2 {
            return Err(RtcpError::Version(first >> 6));
        }
        let length = usize::from(u16::from_be_bytes([a, b])) * 4;
        let mut body = self
            .rest
            .get(4..4 + length)
            .ok_or(RtcpError::Truncated("body"))?;
        self.rest = &self.rest[4 + length..];
        if first & 0x20 != 0 {
            let padding = usize::from(body.last().copied().unwrap_or(0));
            if padding == 0 || padding > body.len() || !self.rest.is_empty() {
                return Err(RtcpError::Padding);
            }
            body = &body[..body.len() - padding];
        }
        parse(kind, first & 0x1F, body)
    }
}

impl<'a> Iterator for Rtcp<'a> {
    type Item = Result<RtcpPacket<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = self.packet();
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

fn parse(kind: u8, count: u8, body: &[u8]) -> Result<RtcpPacket<'_>, RtcpError> {
    let word = |at: usize| read_word(body, at);
    let blocks = |at: usize| {
        let end = at + usize::from(count) * BLOCK_BYTES;
        body.get(at..end)
            .map(Reports)
            .ok_or(RtcpError::Truncated("report blocks"))
    };
    let other = || Ok(RtcpPacket::Other { kind, body });
    match kind {
        kind::SENDER_REPORT => Ok(RtcpPacket::SenderReport {
            ssrc: word(0)?,
            ntp: u64::from(word(4)?) << 32 | u64::from(word(8)?),
            rtp: word(12)?,
            packets: word(16)?,
            bytes: word(20)?,
            reports: blocks(24)?,
        }),
        kind::RECEIVER_REPORT => Ok(RtcpPacket::ReceiverReport {
            ssrc: word(0)?,
            reports: blocks(4)?,
        }),
        kind::SOURCE_DESCRIPTION => match canonical_name(body, count)? {
            Some((ssrc, cname)) => Ok(RtcpPacket::SourceDescription { ssrc, cname }),
            None => other(),
        },
        kind::GOODBYE => goodbye(body, count),
        kind::TRANSPORT_FEEDBACK | kind::PAYLOAD_FEEDBACK => {
            let (sender, media) = (word(0)?, word(4)?);
            let control = &body[8..];
            Ok(match (kind, count) {
                (kind::TRANSPORT_FEEDBACK, kind::GENERIC_NACK) => RtcpPacket::Nack {
                    sender,
                    media,
                    lost: Lost(control),
                },
                (kind::PAYLOAD_FEEDBACK, kind::PICTURE_LOSS) => {
                    RtcpPacket::PictureLoss { sender, media }
                }
                (_, format) => RtcpPacket::Feedback {
                    kind,
                    format,
                    sender,
                    media,
                    control,
                },
            })
        }
        kind::EXTENDED_REPORT => Ok(extended(body)?.unwrap_or(RtcpPacket::Other { kind, body })),
        _ => other(),
    }
}

fn goodbye(body: &[u8], count: u8) -> Result<RtcpPacket<'_>, RtcpError> {
    let end = usize::from(count) * 4;
    let sources = body.get(..end).ok_or(RtcpError::Truncated("sources"))?;
    let reason = match body[end..] {
        [] => None,
        [length, ref text @ ..] => {
            let text = text
                .get(..usize::from(length))
                .ok_or(RtcpError::Truncated("reason"))?;
            std::str::from_utf8(text).ok()
        }
    };
    Ok(RtcpPacket::Goodbye {
        sources: Sources(sources),
        reason,
    })
}

/// Chunks hold items and end at a word boundary behind a zero (RFC 3550 §6.5).
fn canonical_name(body: &[u8], count: u8) -> Result<Option<(u32, &[u8])>, RtcpError> {
    const CNAME: u8 = 1;
    let mut at = 0;
    for _ in 0..count {
        let ssrc = read_word(body, at)?;
        at += 4;
        loop {
            let item = *body
                .get(at)
                .ok_or(RtcpError::Truncated("source description"))?;
            if item == 0 {
                at = (at + 1).next_multiple_of(4);
                break;
            }
            let length = *body
                .get(at + 1)
                .ok_or(RtcpError::Truncated("source description"))?;
            let end = at + 2 + usize::from(length);
            let text = body
                .get(at + 2..end)
                .ok_or(RtcpError::Truncated("source description"))?;
            if item == CNAME {
                return Ok(Some((ssrc, text)));
            }
            at = end;
        }
    }
    Ok(None)
}

/// The first block of an extended report that is understood.
fn extended(body: &[u8]) -> Result<Option<RtcpPacket<'_>>, RtcpError> {
    let sender = read_word(body, 0)?;
    let mut rest = &body[4..];
    let mut found = None;
    while let Some(&[block, _, a, b]) = rest.first_chunk() {
        let length = usize::from(u16::from_be_bytes([a, b])) * 4;
        let data = rest
            .get(4..4 + length)
            .ok_or(RtcpError::Truncated("report block"))?;
        rest = &rest[4 + length..];
        if found.is_none() {
            found = match block {
                kind::VOIP_METRICS => voip_metrics(sender, data),
                kind::LOSS_RLE => loss_runs(sender, data),
                _ => None,
            };
        }
    }
    Ok(found)
}

fn voip_metrics(sender: u32, data: &[u8]) -> Option<RtcpPacket<'_>> {
    let data = data.first_chunk::<32>()?;
    let half = |at: usize| u16::from_be_bytes([data[at], data[at + 1]]);
    Some(RtcpPacket::VoipMetrics(VoipMetrics {
        sender,
        source: read_word(data, 0).ok()?,
        loss_rate: data[4],
        discard_rate: data[5],
        round_trip: half(12),
        end_system_delay: half(14),
        r_factor: data[20],
        mos_listening: data[22],
        mos_conversational: data[23],
        jitter_buffer: half(26),
        jitter_buffer_max: half(28),
    }))
}

fn loss_runs(sender: u32, data: &[u8]) -> Option<RtcpPacket<'_>> {
    let (head, chunks) = data.split_first_chunk::<8>()?;
    let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    Some(RtcpPacket::LossRuns(LossRuns {
        sender,
        source: read_word(head, 0).ok()?,
        begin: half(4),
        end: half(6),
        chunks,
    }))
}

fn read_word(bytes: &[u8], at: usize) -> Result<u32, RtcpError> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map(|word| u32::from_be_bytes(*word))
        .ok_or(RtcpError::Truncated("fixed part"))
}

impl<'a> Reports<'a> {
    /// The blocks.
    pub fn iter(&self) -> impl Iterator<Item = ReceptionReport> + 'a {
        let (chunks, _) = self.0.as_chunks::<BLOCK_BYTES>();
        chunks.iter().map(|block| {
            let word = |at: usize| {
                u32::from_be_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
            };
            ReceptionReport {
                ssrc: word(0),
                fraction_lost: block[4],
                // Twenty-four bits with a sign.
                lost: (word(4) << 8).cast_signed() >> 8,
                highest: word(8),
                jitter: word(12),
                last_sender_report: word(16),
                delay: word(20),
            }
        })
    }
}

impl<'a> Sources<'a> {
    /// The sources.
    pub fn iter(&self) -> impl Iterator<Item = u32> + 'a {
        self.0
            .as_chunks::<4>()
            .0
            .iter()
            .map(|word| u32::from_be_bytes(*word))
    }
}

impl<'a> Lost<'a> {
    /// The sequence numbers, in the order in which they are listed: at most 17 per word.
    pub fn iter(&self) -> impl Iterator<Item = u16> + 'a {
        self.0.as_chunks::<4>().0.iter().flat_map(|&[a, b, c, d]| {
            let (first, mask) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
            let follows = (0..16_u16).filter(move |bit| mask >> bit & 1 != 0);
            std::iter::once(first).chain(follows.map(move |bit| first.wrapping_add(bit + 1)))
        })
    }
}
