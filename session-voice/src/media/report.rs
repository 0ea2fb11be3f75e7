//! What we tell the peer of how it goes (RFC 3550 §6).

use super::{MediaOutput, MediaStream};
use crate::{Quality, ReceptionReport, RtcpWriter, VoipMetrics, Way};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};

/// What RFC 3611 has for a number that is not known.
const UNKNOWN: u8 = 127;

impl MediaStream {
    /// Says that we are gone, when the call ends. Nothing is to be sent after it.
    pub fn goodbye(&mut self, reason: &str, now: Instant) -> Option<Bytes> {
        let mut writer = RtcpWriter::new();
        self.write_report(&mut writer, now);
        writer.goodbye(&[self.sending.ssrc], reason);
        self.sending.report_at = None;
        self.protect(writer)
    }

    /// The first packet in either direction starts the reports.
    pub(super) fn begin_reports(&mut self, now: Instant) {
        if self.sending.report_at.is_none() {
            // The first one sooner, so that the peer knows us.
            self.sending.report_at = Some(now + self.config.report_every / 4);
        }
    }

    pub(super) fn report(&mut self, now: Instant) {
        // Between half and one and a half, so that sides do not fall into step.
        let share = (self.next_random() % 1_001) as u32;
        self.sending.report_at = Some(now + self.config.report_every * (500 + share) / 1_000);
        self.rate(now);
        let mut writer = RtcpWriter::new();
        self.write_report(&mut writer, now);
        writer.source_description(self.sending.ssrc, &self.config.cname);
        if self.config.metrics
            && let Some(metrics) = self.metrics(now)
        {
            writer.voip_metrics(&metrics);
            self.write_runs(&mut writer);
        }
        if let Some(compound) = self.protect(writer) {
            self.push(MediaOutput::Rtcp(compound));
        }
    }

    /// Another has our name, or our packets come back to us: we leave under this one and go on under the next
    /// (RFC 3550 §8.2).
    pub(super) fn rename(&mut self, now: Instant) {
        if let Some(compound) = self.goodbye("collision", now) {
            self.push(MediaOutput::Rtcp(compound));
        }
        self.sending.ssrc = self.next_random() as u32;
        // Reports count from the beginning of a name (RFC 3550 §6.4.1).
        let (packets, bytes) = std::mem::take(&mut self.sending.sent);
        self.stats.sent.0 += packets;
        self.stats.sent.1 += bytes;
        self.sending.marker = true;
        self.begin_reports(now);
    }

    /// Now, in the time of our reports: since the stream was made, and never zero, which would mean none.
    pub(super) fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.born) + Duration::from_secs(1);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        (elapsed.as_secs() << 32) | fraction
    }

    fn write_report(&mut self, writer: &mut RtcpWriter, now: Instant) {
        let ntp = self.ntp(now);
        let report = self.source.as_mut().map(|source| {
            let ssrc = source.ssrc;
            source.reception.report(ssrc, now)
        });
        let reports: &[ReceptionReport] = report.as_slice();
        let (packets, bytes) = self.sending.sent;
        if packets == 0 {
            writer.receiver_report(self.sending.ssrc, reports);
            return;
        }
        let since = now.saturating_duration_since(self.sending.spoken_at);
        let spoken = self
            .sending
            .timestamp
            .wrapping_sub(self.units(self.config.frame));
        let rtp = spoken.wrapping_add(self.units(since));
        writer.sender_report(
            self.sending.ssrc,
            ntp,
            rtp,
            (packets as u32, bytes as u32),
            reports,
        );
    }

    /// How the peer sounded since the report before.
    fn rate(&mut self, now: Instant) {
        let Some(source) = &self.source else {
            return;
        };
        let (all, before) = (source.jitter.stats(), self.counted);
        self.counted = all;
        if all.played == 0 {
            return;
        }
        // Behind which nothing has come: nobody speaks, as it seems, and then nothing is missing.
        let made_up = (all.concealed - before.concealed).saturating_sub(source.jitter.trailing());
        let frames = made_up + (all.played - before.played) + (all.recovered - before.recovered);
        let loss = made_up as f64 / frames.max(1) as f64;
        self.stats.loss_here = loss;
        let network = self.stats.round_trip.unwrap_or_default() / 2;
        let buffer = source.jitter.delay(now);
        let buffer = buffer.unwrap_or_else(|| source.jitter.target());
        let delay = network + buffer + 2 * self.config.frame;
        let way = Way {
            delay,
            loss,
            burstiness: 1.0,
        };
        self.stats.quality = Some(Quality::rate(self.config.quality, way));
    }

    fn metrics(&self, now: Instant) -> Option<VoipMetrics> {
        let source = self.source.as_ref()?;
        let stats = source.jitter.stats();
        let share = |part: u64, of: u64| (part * 256).checked_div(of).unwrap_or(0).min(255) as u8;
        let expected = source.reception.expected();
        let lost = expected.saturating_sub(source.reception.received());
        let milliseconds = |time: Duration| u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
        let buffer = source.jitter.delay(now).unwrap_or_default();
        let quality = self.stats.quality;
        let mos = quality.map_or(UNKNOWN, |quality| (quality.mos * 10.0) as u8);
        Some(VoipMetrics {
            sender: self.sending.ssrc,
            source: source.ssrc,
            loss_rate: share(lost, expected),
            discard_rate: share(stats.late, expected),
            round_trip: milliseconds(self.stats.round_trip.unwrap_or_default()),
            end_system_delay: milliseconds(buffer + 2 * self.config.frame),
            r_factor: quality.map_or(UNKNOWN, |quality| quality.r_factor as u8),
            mos_listening: mos,
            mos_conversational: mos,
            jitter_buffer: milliseconds(buffer),
            jitter_buffer_max: milliseconds(Duration::from_secs(1)),
        })
    }

    fn write_runs(&mut self, writer: &mut RtcpWriter) {
        let ours = self.sending.ssrc;
        let Some(source) = &mut self.source else {
            return;
        };
        let ssrc = source.ssrc;
        if let Some((begin, arrived)) = source.arrived.report() {
            writer.loss_runs(ours, ssrc, begin as u16, arrived);
        }
    }

    fn protect(&mut self, writer: RtcpWriter) -> Option<Bytes> {
        let compound = writer.finish();
        let sender = match &mut self.control {
            Some(control) => control.sender.as_mut(),
            None => self.sender.as_mut(),
        };
        let Some(sender) = sender else {
            return Some(compound);
        };
        let mut packet = compound
            .try_into_mut()
            .unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        sender.protect_rtcp(&mut packet).ok()?;
        Some(packet.freeze())
    }
}
