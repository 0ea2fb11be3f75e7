//! Compound packets, one after another in one buffer.

use super::{COUNT_MAX, VoipMetrics, kind};
use crate::rtp::ReceptionReport;
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of the longest text: one byte counts them.
const TEXT_MAX: usize = 255;

/// Writes a compound packet. It begins with a report (RFC 3550 §6.1), unless the peers agreed on reduced size (RFC 5506).
#[derive(Debug, Default)]
pub struct RtcpWriter {
    buffer: BytesMut,
}

impl RtcpWriter {
    /// With nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// The compound, ready to be encrypted and sent.
    pub fn finish(self) -> Bytes {
        self.buffer.freeze()
    }

    /// What we sent and received. Of more than [`COUNT_MAX`] blocks the rest is left out.
    pub fn sender_report(
        &mut self,
        ssrc: u32,
        ntp: u64,
        rtp: u32,
        sent: (u32, u32),
        reports: &[ReceptionReport],
    ) {
        let reports = &reports[..reports.len().min(COUNT_MAX)];
        self.packet(kind::SENDER_REPORT, reports.len() as u8, |buffer| {
            buffer.put_u32(ssrc);
            buffer.put_u64(ntp);
            buffer.put_u32(rtp);
            buffer.put_u32(sent.0);
            buffer.put_u32(sent.1);
            reports.iter().for_each(|report| put_report(buffer, report));
        });
    }

    /// What we received, when we sent nothing.
    pub fn receiver_report(&mut self, ssrc: u32, reports: &[ReceptionReport]) {
        let reports = &reports[..reports.len().min(COUNT_MAX)];
        self.packet(kind::RECEIVER_REPORT, reports.len() as u8, |buffer| {
            buffer.put_u32(ssrc);
            reports.iter().for_each(|report| put_report(buffer, report));
        });
    }

    /// Our canonical name, cut at 255 bytes.
    pub fn source_description(&mut self, ssrc: u32, cname: &str) {
        let cname = cut(cname);
        self.packet(kind::SOURCE_DESCRIPTION, 1, |buffer| {
            buffer.put_u32(ssrc);
            buffer.put_slice(&[1, cname.len() as u8]);
            buffer.put_slice(cname.as_bytes());
            // At least one zero, then to the boundary.
            buffer.put_u8(0);
        });
    }

    /// Sources that leave, and why; more than [`COUNT_MAX`] are left out, and a reason is cut at 255 bytes.
    pub fn goodbye(&mut self, sources: &[u32], reason: &str) {
        let (sources, reason) = (&sources[..sources.len().min(COUNT_MAX)], cut(reason));
        self.packet(kind::GOODBYE, sources.len() as u8, |buffer| {
            sources.iter().for_each(|ssrc| buffer.put_u32(*ssrc));
            if !reason.is_empty() {
                buffer.put_u8(reason.len() as u8);
                buffer.put_slice(reason.as_bytes());
            }
        });
    }

    /// Asks for packets again; in rising order they take the least room.
    pub fn nack(&mut self, sender: u32, media: u32, lost: impl IntoIterator<Item = u16>) {
        self.packet(kind::TRANSPORT_FEEDBACK, kind::GENERIC_NACK, |buffer| {
            buffer.put_u32(sender);
            buffer.put_u32(media);
            let mut entry: Option<(u16, u16)> = None;
            for sequence in lost {
                if let Some((first, mask)) = &mut entry {
                    let ahead = sequence.wrapping_sub(*first);
                    if (1..=16).contains(&ahead) {
                        *mask |= 1 << (ahead - 1);
                        continue;
                    }
                    buffer.put_u16(*first);
                    buffer.put_u16(*mask);
                }
                entry = Some((sequence, 0));
            }
            if let Some((first, mask)) = entry {
                buffer.put_u16(first);
                buffer.put_u16(mask);
            }
        });
    }

    /// Asks for a whole picture.
    pub fn picture_loss(&mut self, sender: u32, media: u32) {
        self.packet(kind::PAYLOAD_FEEDBACK, kind::PICTURE_LOSS, |buffer| {
            buffer.put_u32(sender);
            buffer.put_u32(media);
        });
    }

    /// How the peer sounds here. Fields that we do not measure are written as unknown (RFC 3611 §4.7).
    pub fn voip_metrics(&mut self, metrics: &VoipMetrics) {
        self.packet(kind::EXTENDED_REPORT, 0, |buffer| {
            buffer.put_u32(metrics.sender);
            buffer.put_slice(&[kind::VOIP_METRICS, 0, 0, 8]);
            buffer.put_u32(metrics.source);
            buffer.put_slice(&[metrics.loss_rate, metrics.discard_rate]);
            // Bursts and gaps: densities and durations.
            buffer.put_slice(&[0; 6]);
            buffer.put_u16(metrics.round_trip);
            buffer.put_u16(metrics.end_system_delay);
            // Signal level, noise level, residual echo: not known. Gmin as the document has it.
            buffer.put_slice(&[127, 127, 127, 16]);
            buffer.put_slice(&[metrics.r_factor, 127]);
            buffer.put_slice(&[metrics.mos_listening, metrics.mos_conversational]);
            // An adaptive jitter buffer with ordinary concealment.
            buffer.put_slice(&[0b1111_0000, 0]);
            buffer.put_u16(metrics.jitter_buffer);
            buffer.put_u16(metrics.jitter_buffer_max);
            buffer.put_u16(metrics.jitter_buffer_max);
        });
    }

    /// Which packets of a source arrived, from the sequence number `begin` on, as bit vectors (RFC 3611 §4.1).
    pub fn loss_runs(
        &mut self,
        sender: u32,
        source: u32,
        begin: u16,
        arrived: impl Iterator<Item = bool>,
    ) {
        self.packet(kind::EXTENDED_REPORT, 0, |buffer| {
            buffer.put_u32(sender);
            let start = buffer.len();
            buffer.put_slice(&[kind::LOSS_RLE, 0, 0, 0]);
            buffer.put_u32(source);
            buffer.put_u16(begin);
            buffer.put_u16(0);
            let (mut end, mut chunk, mut bits) = (begin, 0_u16, 0);
            for arrived in arrived {
                chunk = chunk << 1 | u16::from(arrived);
                (end, bits) = (end.wrapping_add(1), bits + 1);
                if bits == 15 {
                    buffer.put_u16(0x8000 | chunk);
                    (chunk, bits) = (0, 0);
                }
            }
            if bits > 0 {
                buffer.put_u16(0x8000 | chunk << (15 - bits));
            }
            if !(buffer.len() - start).is_multiple_of(4) {
                buffer.put_u16(0);
            }
            let words = ((buffer.len() - start) / 4 - 1) as u16;
            buffer[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
            buffer[start + 10..start + 12].copy_from_slice(&end.to_be_bytes());
        });
    }

    fn packet(&mut self, kind: u8, count: u8, body: impl FnOnce(&mut BytesMut)) {
        let start = self.buffer.len();
        self.buffer.put_slice(&[0x80 | count, kind, 0, 0]);
        body(&mut self.buffer);
        let bytes = self.buffer.len() - start;
        self.buffer.put_bytes(0, bytes.next_multiple_of(4) - bytes);
        let words = ((self.buffer.len() - start) / 4 - 1) as u16;
        self.buffer[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
    }
}

fn put_report(buffer: &mut BytesMut, report: &ReceptionReport) {
    buffer.put_u32(report.ssrc);
    let lost = report.lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned() & 0xFF_FFFF;
    buffer.put_u32(u32::from(report.fraction_lost) << 24 | lost);
    buffer.put_u32(report.highest);
    buffer.put_u32(report.jitter);
    buffer.put_u32(report.last_sender_report);
    buffer.put_u32(report.delay);
}

/// At most so many bytes that one byte can count them, and no half character.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
