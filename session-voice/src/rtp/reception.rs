//! What arrived of a source: loss and jitter as its sender is told (RFC 3550 §6.4.1, appendix A.1, A.3, A.8).

use super::SequenceExtender;
use std::{
    mem::offset_of,
    time::{Duration, Instant},
};

/// Counts the packets of one source.
// In this order, so that what each packet touches lies together.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Reception {
    sequence: SequenceExtender,
    /// Arrival and timestamp of the packet before.
    before: Option<(Instant, u32)>,
    first: u64,
    received: u64,
    /// Sixteen times the jitter, in units of the clock rate.
    jitter: f64,
    clock_rate: u32,
    // From here on, what reports touch.
    /// Packets that there should have been before numbers began anew.
    expected_past: u64,
    /// At the report before.
    expected_before: u64,
    received_before: u64,
    /// The middle of the last sender report's time, and when it came.
    sender_report: Option<(u32, Instant)>,
}

/// A report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceptionReport {
    /// Whose packets.
    pub ssrc: u32,
    /// Of the packets since the report before, how many of 256 were lost.
    pub fraction_lost: u8,
    /// Packets lost in all; negative when more arrived than were sent. 24 bits with a sign.
    pub lost: i32,
    /// The highest sequence number, with its rounds.
    pub highest: u32,
    /// In units of the clock rate.
    pub jitter: u32,
    /// The middle 32 bits of the last sender report's NTP time; 0 before there was one.
    pub last_sender_report: u32,
    /// The time since it came, in 1/65,536 s.
    pub delay: u32,
}

impl Reception {
    /// So many bytes from its beginning are what each packet touches.
    pub(crate) const TOUCHED: usize = offset_of!(Self, expected_past);

    /// Of a source whose timestamps count `clock_rate` times a second, 0 counting as 1.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            sequence: SequenceExtender::default(),
            first: 0,
            expected_past: 0,
            received: 0,
            expected_before: 0,
            received_before: 0,
            before: None,
            jitter: 0.0,
            sender_report: None,
        }
    }

    /// A packet arrived; its sequence number without rounds is returned with them.
    pub fn on_packet(&mut self, sequence: u16, timestamp: u32, now: Instant) -> u64 {
        if self.sequence.highest().is_none() {
            self.first = u64::from(sequence);
        }
        let extended = self.sequence.extend(sequence);
        self.first = self.first.min(extended);
        self.received += 1;
        if let Some((at, before)) = self.before
            && before != timestamp
        {
            let rate = f64::from(self.clock_rate);
            let arrived = now.saturating_duration_since(at).as_secs_f64() * rate;
            let sent = f64::from(timestamp.wrapping_sub(before) as i32);
            self.jitter += ((arrived - sent).abs() - self.jitter) / 16.0;
        }
        if self.before.is_none_or(|(_, before)| before != timestamp) {
            self.before = Some((now, timestamp));
        }
        extended
    }

    /// The next packet may have any number, as after a change of keys: what is between it and those before is no loss. All
    /// that was counted stays.
    pub fn begin_anew(&mut self) {
        self.expected_past = self.expected();
        self.sequence = SequenceExtender::default();
    }

    /// A sender report of this source came.
    pub fn on_sender_report(&mut self, ntp: u64, now: Instant) {
        self.sender_report = Some(((ntp >> 16) as u32, now));
    }

    /// How many packets there should have been.
    pub fn expected(&self) -> u64 {
        let highest = self.sequence.highest();
        self.expected_past + highest.map_or(0, |highest| highest - self.first + 1)
    }

    /// How many there were, repetitions included.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// How much the packets' journeys differ (RFC 3550 §6.4.1).
    pub fn jitter(&self) -> Duration {
        Duration::from_secs_f64(self.jitter / f64::from(self.clock_rate))
    }

    /// The block about this source for the next report; loss is counted anew from here.
    pub fn report(&mut self, ssrc: u32, now: Instant) -> ReceptionReport {
        let expected = self.expected() - self.expected_before;
        let received = self.received - self.received_before;
        self.expected_before += expected;
        self.received_before += received;
        let lost = expected.saturating_sub(received);
        let in_all = self.expected() as i64 - self.received as i64;
        let delay = self.sender_report.map_or(0, |(_, at)| {
            (now.saturating_duration_since(at).as_secs_f64() * 65_536.0) as u32
        });
        ReceptionReport {
            ssrc,
            fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
            lost: in_all.clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest: self.sequence.highest().unwrap_or(0) as u32,
            jitter: self.jitter as u32,
            last_sender_report: self.sender_report.map_or(0, |(ntp, _)| ntp),
            delay,
        }
    }
}

impl ReceptionReport {
    /// The time there and back, from a report about us that came at `ntp` by our own clock (RFC 3550 §6.4.1).
    /// None before the peer has had a report of ours, or when the clocks make no sense.
    pub fn round_trip(&self, ntp: u64) -> Option<Duration> {
        if self.last_sender_report == 0 {
            return None;
        }
        let elapsed = ((ntp >> 16) as u32).wrapping_sub(self.last_sender_report);
        let units = elapsed.checked_sub(self.delay)?;
        // More than a minute is a peer that errs, or lies.
        (units < 60 << 16).then(|| Duration::from_secs_f64(f64::from(units) / 65_536.0))
    }
}
