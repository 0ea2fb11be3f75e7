//! Digits in place of sound (RFC 4733).

use super::{MediaOutput, MediaStream};
use crate::{Digit, DigitError, DigitSender};
use std::time::Instant;

impl MediaStream {
    /// Sends a digit, behind those that wait.
    ///
    /// # Errors
    /// [`DigitError::NoPayloadType`], [`DigitError::TooMany`].
    pub fn press(&mut self, digit: Digit, now: Instant) -> Result<(), DigitError> {
        if self.config.digits.is_none() {
            return Err(DigitError::NoPayloadType);
        }
        let rate = self.sending.clock_rate;
        let digits = self
            .sending
            .digits
            .get_or_insert_with(|| Box::new(DigitSender::new(rate)));
        digits.press(digit, now)
    }

    /// Whether digits can be sent: a payload type for them was agreed on, in the clock rate of the codec.
    pub fn takes_digits(&self) -> bool {
        self.config.digits.is_some()
    }

    /// Whether a digit sounds or waits.
    pub fn is_pressing(&self) -> bool {
        let digits = self.sending.digits.as_ref();
        digits.is_some_and(|digits| digits.next_at().is_some())
    }

    /// When the digit began that takes the place of sound now.
    pub(super) fn sounding_since(&self) -> Option<Instant> {
        let digits = self.sending.digits.as_ref();
        digits.and_then(|digits| digits.sounding_since())
    }

    pub(super) fn send_digits(&mut self, now: Instant) {
        let Some(payload_type) = self.config.digits else {
            return;
        };
        while let Some(digit) = self
            .sending
            .digits
            .as_mut()
            .and_then(|digits| digits.poll(now))
        {
            let at = self.digit_timestamp(digit.began);
            let payload = digit.event.to_bytes();
            if let Some(packet) = self.packet(payload_type, digit.marker, at, &payload) {
                self.push(MediaOutput::Rtp(packet));
            }
        }
    }

    /// The timestamp of a digit that began then: that of the sound whose place it takes, and later than the one before's
    /// by as much as it is, also when no sound is sent.
    pub(super) fn digit_timestamp(&mut self, began: Instant) -> u32 {
        let timestamp = match self.digit {
            Some((before, timestamp)) if before == began => return timestamp,
            Some((before, timestamp)) => {
                let since = self.units(began.saturating_duration_since(before));
                let least = timestamp.wrapping_add(since);
                let is_ahead = self.sending.timestamp.wrapping_sub(least).cast_signed() > 0;
                if is_ahead {
                    self.sending.timestamp
                } else {
                    least
                }
            }
            None => self.sending.timestamp,
        };
        self.digit = Some((began, timestamp));
        timestamp
    }
}
