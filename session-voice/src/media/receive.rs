//! What the peer's packets do.

use super::{MediaError, MediaEvent, MediaStream, Redundancy, Source};
use crate::{
    DigitReceiver, FrameKind, JitterFrame, LossRuns, Reception, Rtcp, RtcpPacket, RtpPacket,
    TelephoneEvent, codec::opus_packet, lines::Lines, rtcp::ReceivedMap,
};
use bytes::{Buf, Bytes, BytesMut};
use std::time::Instant;

impl MediaStream {
    /// A packet of RTP came. It is copied and decrypted in memory of the stream, which comes back when the frame was
    /// played.
    ///
    /// # Errors
    /// [`MediaError`]; it is counted, and nothing else has changed.
    pub fn handle_rtp(
        &mut self,
        packet: Bytes,
        now: Instant,
    ) -> Result<Option<MediaEvent>, MediaError> {
        let receiver = &mut self.receiver;
        let opened = self.memory.keep(&packet, |packet| match receiver {
            Some(receiver) => receiver.unprotect_rtp(packet),
            None => Ok(()),
        });
        let result = match opened {
            Ok(packet) => self.take_rtp(packet, now),
            Err(error) => Err(error.into()),
        };
        self.arrivals.refused += u64::from(result.is_err());
        result
    }

    /// A compound of RTCP came.
    ///
    /// # Errors
    /// [`MediaError`]; it is counted, and nothing else has changed.
    pub fn handle_rtcp(
        &mut self,
        packet: Bytes,
        now: Instant,
    ) -> Result<Option<MediaEvent>, MediaError> {
        let result = self.take_rtcp(packet, now);
        self.arrivals.refused += u64::from(result.is_err());
        result
    }

    fn take_rtp(&mut self, bytes: Bytes, now: Instant) -> Result<Option<MediaEvent>, MediaError> {
        let rtp = RtpPacket::parse(&bytes)?;
        let (ssrc, sequence, timestamp) = (rtp.ssrc(), rtp.sequence(), rtp.timestamp());
        if ssrc == self.sending.ssrc {
            self.rename(now);
            return Err(MediaError::Looped);
        }
        let payload_type = rtp.payload_type();
        let kind = 1 << payload_type;
        let is_digit = self.kinds.digits & kind != 0;
        if (self.kinds.sound | self.kinds.digits | self.kinds.noise) & kind == 0 {
            return Err(MediaError::PayloadType(payload_type));
        }
        let (header, length) = (rtp.header_bytes(), rtp.payload().len());
        let mut payload = bytes;
        payload.advance(header);
        payload.truncate(length);
        let changed = self
            .source
            .as_ref()
            .is_some_and(|source| source.ssrc != ssrc);
        if changed || self.source.is_none() {
            self.leave_source();
            self.source = Some(Box::new(Lines::new(Source {
                ssrc,
                reception: Reception::new(self.config.receive_rate),
                arrived: ReceivedMap::new(),
                jitter: self.new_jitter(),
            })));
            self.counted = crate::JitterStats::default();
            // Another source counts its digits otherwise.
            self.digits_in = DigitReceiver::default();
        }
        self.begin_reports(now);
        let frame = self.frame(timestamp, payload_type, payload);
        let Some(source) = &mut self.source else {
            return Ok(None);
        };
        self.arrivals.taken += 1;
        let extended = source.reception.on_packet(sequence, timestamp, now);
        source.arrived.insert(extended);
        if is_digit {
            let event = TelephoneEvent::from_bytes(&frame.payload);
            let digit = event.and_then(|event| {
                source.jitter.pause_at(timestamp);
                self.digits_in.on_packet(timestamp, event)
            });
            return Ok(digit.map(MediaEvent::Digit));
        }
        source.jitter.insert_frame(frame, now);
        Ok(changed.then_some(MediaEvent::SourceChanged))
    }

    /// What a payload says of itself.
    fn frame(&self, timestamp: u32, payload_type: u8, payload: Bytes) -> JitterFrame {
        let is_opus = self.kinds.redundancy == Redundancy::Opus;
        let copies = match self.kinds.redundancy {
            Redundancy::None => 0,
            Redundancy::Next => 1,
            Redundancy::Opus if opus_packet::has_extension(&payload) => DEEP,
            Redundancy::Opus => u32::from(opus_packet::has_copy(&payload)),
        };
        let kind = if self.kinds.noise >> payload_type & 1 != 0 {
            FrameKind::Noise
        } else if is_opus && opus_packet::is_silence(&payload) {
            FrameKind::Last
        } else {
            FrameKind::Sound
        };
        let length = match self.kinds.redundancy {
            _ if kind == FrameKind::Noise => 0,
            Redundancy::Opus => opus_packet::samples(&payload),
            Redundancy::None | Redundancy::Next => {
                let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                bytes.checked_div(self.kinds.unit_bytes).unwrap_or(0)
            }
        };
        JitterFrame {
            timestamp,
            payload,
            length,
            copies,
            kind,
        }
    }

    /// Halves what is known of bursts with every report, so that it follows the network.
    fn learn_bursts(&mut self, runs: &LossRuns<'_>) {
        let count = runs.count();
        let (lost, begun) = self.runs;
        self.runs = (
            lost / 2.0 + f64::from(count.lost),
            begun / 2.0 + f64::from(count.runs),
        );
        self.stats.burst_there = Some(self.runs.0 / self.runs.1.max(1.0));
    }

    fn take_rtcp(&mut self, packet: Bytes, now: Instant) -> Result<Option<MediaEvent>, MediaError> {
        let mut packet = writable(packet);
        let receiver = match &mut self.control {
            Some(control) => control.receiver.as_mut(),
            None => self.receiver.as_mut(),
        };
        if let Some(receiver) = receiver {
            receiver.unprotect_rtcp(&mut packet)?;
        }
        // Looked through whole before any of it counts.
        for part in Rtcp::new(&packet) {
            part?;
        }
        let mut event = None;
        let ntp = self.ntp(now);
        for part in Rtcp::new(&packet).flatten() {
            let reports = match part {
                RtcpPacket::SenderReport {
                    ssrc, ntp, reports, ..
                } => {
                    if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == ssrc)
                    {
                        source.reception.on_sender_report(ntp, now);
                    }
                    reports
                }
                RtcpPacket::ReceiverReport { reports, .. } => reports,
                RtcpPacket::Goodbye { sources, .. } => {
                    let ours = self.source.as_ref().map(|source| source.ssrc);
                    if sources.iter().any(|ssrc| Some(ssrc) == ours) {
                        event = Some(MediaEvent::Goodbye);
                    }
                    continue;
                }
                RtcpPacket::LossRuns(runs) => {
                    if runs.source == self.sending.ssrc {
                        self.learn_bursts(&runs);
                    }
                    continue;
                }
                RtcpPacket::SourceDescription { .. }
                | RtcpPacket::Nack { .. }
                | RtcpPacket::PictureLoss { .. }
                | RtcpPacket::Feedback { .. }
                | RtcpPacket::VoipMetrics(_)
                | RtcpPacket::Other { .. } => continue,
            };
            for report in reports
                .iter()
                .filter(|report| report.ssrc == self.sending.ssrc)
            {
                self.stats.loss_there = Some(f64::from(report.fraction_lost) / 256.0);
                self.stats.round_trip = report.round_trip(ntp).or(self.stats.round_trip);
            }
        }
        Ok(event)
    }
}

/// How many frames back the deep redundancy of Opus reaches at most: a second of 20 ms.
const DEEP: u32 = 50;

/// The same bytes, to be changed; copied only if somebody else has them too.
fn writable(packet: Bytes) -> BytesMut {
    packet
        .try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(&shared[..]))
}
