//! Digits: as packets beside the sound (RFC 4733), and as a message (XEP-0181).

use session_core::{Element, PeerError};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use thiserror::Error;

/// The namespace of XEP-0181.
pub const DTMF: &str = "urn:xmpp:jingle:dtmf:0";

/// Most digits that wait to be sent (libjingle `call.cc`).
pub const DIGITS_MAX: usize = 30;

/// Bytes of an event's payload (RFC 4733 §2.3).
pub const EVENT_BYTES: usize = 4;

/// How long a digit sounds.
const TONE: Duration = Duration::from_millis(160);

/// From the beginning of a digit to that of the next (libjingle `call.cc`).
const SPACING: Duration = Duration::from_millis(300);

/// How often an event is told while it lasts (RFC 4733 §2.5.1.2).
const INTERVAL: Duration = Duration::from_millis(20);

/// How often its end is told, since nobody acknowledges it (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;

/// The level at which we say our digits sound, in -dBm0 (RFC 4733 §2.3.4).
const VOLUME: u8 = 10;

/// A key of a telephone: `0` to `9`, `*`, `#`, `A` to `D` (RFC 4733 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digit(u8);

/// The letters in the order of their events.
const KEYS: &[u8; 16] = b"0123456789*#ABCD";

/// Why a digit was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DigitError {
    /// There is no such key.
    #[error("{0:?} is no key of a telephone")]
    NoKey(char),
    /// No payload type for digits was agreed on, in the clock rate of the codec: a message (XEP-0181) may be a way.
    #[error("no payload type for digits was agreed on")]
    NoPayloadType,
    /// [`DIGITS_MAX`] wait already.
    #[error("{DIGITS_MAX} digits wait already")]
    TooMany,
}

impl Digit {
    /// The key with this letter; small ones too.
    ///
    /// # Errors
    /// [`DigitError::NoKey`].
    pub fn new(key: char) -> Result<Self, DigitError> {
        let upper = key.to_ascii_uppercase();
        let at = KEYS.iter().position(|known| char::from(*known) == upper);
        at.map(|at| Self(at as u8)).ok_or(DigitError::NoKey(key))
    }

    /// The key of an event, 0 to 15.
    pub fn from_event(event: u8) -> Option<Self> {
        (usize::from(event) < KEYS.len()).then_some(Self(event))
    }

    /// The number of its event.
    pub fn event(self) -> u8 {
        self.0
    }

    /// Its letter.
    pub fn key(self) -> char {
        char::from(KEYS[usize::from(self.0)])
    }
}

/// A digit in a message (XEP-0181 §3), for peers without media that could carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigitMessage {
    /// Which.
    pub digit: Digit,
    /// How long, in milliseconds.
    pub duration: Option<u32>,
    /// How loud, 0 to 63, in -dBm0.
    pub volume: Option<u8>,
}

impl DigitMessage {
    /// The element for a session-info.
    pub fn to_element(&self) -> Element {
        Element::new(DTMF, "dtmf")
            .with("code", self.digit.key())
            .with_opt("duration", self.duration)
            .with_opt("volume", self.volume)
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`PeerError::Malformed`], with the attribute.
    pub fn from_element(element: &Element) -> Result<Self, PeerError> {
        let malformed = |field, problem| PeerError::Malformed { field, problem };
        let code = element.attribute("code").unwrap_or_default();
        let mut letters = code.chars();
        let (Some(Ok(digit)), None) = (letters.next().map(Digit::new), letters.next()) else {
            return Err(malformed("dtmf code", "not one key of a telephone"));
        };
        let volume = crate::description::number::<u8>(element.attribute("volume"), "dtmf volume")?;
        if volume.is_some_and(|volume| volume > 63) {
            return Err(malformed("dtmf volume", "more than 63"));
        }
        Ok(Self {
            digit,
            duration: crate::description::number(element.attribute("duration"), "dtmf duration")?,
            volume,
        })
    }
}

/// The payload of an event (RFC 4733 §2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelephoneEvent {
    /// 0 to 15 are digits.
    pub event: u8,
    /// It has ended, and lasted so long.
    pub end: bool,
    /// 0 to 63, in -dBm0.
    pub volume: u8,
    /// In units of the clock rate, since its beginning: the packet's timestamp.
    pub duration: u16,
}

impl TelephoneEvent {
    /// The payload.
    pub fn to_bytes(self) -> [u8; EVENT_BYTES] {
        let [a, b] = self.duration.to_be_bytes();
        [
            self.event,
            u8::from(self.end) << 7 | self.volume.min(63),
            a,
            b,
        ]
    }

    /// Reads the first event of a payload; none when it is too short.
    pub fn from_bytes(payload: &[u8]) -> Option<Self> {
        let &[event, flags, a, b] = payload.first_chunk()?;
        Some(Self {
            event,
            end: flags & 0x80 != 0,
            volume: flags & 0x3F,
            duration: u16::from_be_bytes([a, b]),
        })
    }
}

/// A packet that [`DigitSender`] wants sent, under the id of `telephone-event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigitPacket {
    /// The first of its digit: the marker bit.
    pub marker: bool,
    /// When its digit began: the packets of one digit share a timestamp.
    pub began: Instant,
    /// The payload.
    pub event: TelephoneEvent,
}

/// Makes packets of digits: each sounds for 160 ms, is told every 20 ms and its end three times; the next begins
/// 300 ms after the one before.
///
/// ```
/// use session_voice::{Digit, DigitSender};
/// # let now = session_core::testing::epoch();
/// let mut sender = DigitSender::new(8_000);
/// sender.press(Digit::new('5').unwrap(), now).unwrap();
/// let packet = sender.poll(now).unwrap();
/// assert!(packet.marker && packet.event.event == 5);
/// assert_eq!(sender.poll(now), None);
/// assert!(sender.next_at().unwrap() > now);
/// ```
#[derive(Clone, Debug)]
pub struct DigitSender {
    clock_rate: u32,
    waiting: VecDeque<Digit>,
    sounding: Option<Sounding>,
    /// Before this no digit begins.
    free_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Sounding {
    digit: Digit,
    began: Instant,
    next: Instant,
    first: bool,
    ends: u8,
}

impl DigitSender {
    /// For a `telephone-event` of this clock rate, which is that of the codec.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate,
            waiting: VecDeque::new(),
            sounding: None,
            free_at: None,
        }
    }

    /// Adds a digit behind those that wait.
    ///
    /// # Errors
    /// [`DigitError::TooMany`].
    pub fn press(&mut self, digit: Digit, now: Instant) -> Result<(), DigitError> {
        if self.waiting.len() >= DIGITS_MAX {
            return Err(DigitError::TooMany);
        }
        self.waiting.push_back(digit);
        self.begin(now);
        Ok(())
    }

    /// Whether a digit sounds, so that no sound is to be sent (RFC 4733 §2.5.1.1).
    pub fn is_sounding(&self) -> bool {
        self.sounding.is_some()
    }

    /// When the digit began that sounds.
    pub(crate) fn sounding_since(&self) -> Option<Instant> {
        self.sounding.map(|sounding| sounding.began)
    }

    /// When [`poll`](Self::poll) has something next.
    pub fn next_at(&self) -> Option<Instant> {
        match &self.sounding {
            Some(sounding) => Some(sounding.next),
            None => self.free_at.filter(|_| !self.waiting.is_empty()),
        }
    }

    /// The packet that is due, if one is.
    pub fn poll(&mut self, now: Instant) -> Option<DigitPacket> {
        self.begin(now);
        let sounding = self.sounding.as_mut()?;
        if sounding.next > now {
            return None;
        }
        let lasted = now.saturating_duration_since(sounding.began);
        let end = lasted >= TONE;
        // What sounds until the next packet is told with this one: of none at all, receivers take no notice (RFC 4733 §2.3.5).
        let lasted = (lasted + INTERVAL).min(TONE);
        let packet = DigitPacket {
            marker: sounding.first,
            began: sounding.began,
            event: TelephoneEvent {
                event: sounding.digit.event(),
                end,
                volume: VOLUME,
                duration: units(lasted, self.clock_rate),
            },
        };
        sounding.first = false;
        sounding.next = (sounding.next + INTERVAL).max(now);
        if end {
            sounding.ends += 1;
            if sounding.ends >= ENDS {
                self.sounding = None;
            }
        }
        Some(packet)
    }

    fn begin(&mut self, now: Instant) {
        if self.sounding.is_some() || self.free_at.is_some_and(|at| at > now) {
            return;
        }
        let Some(digit) = self.waiting.pop_front() else {
            return;
        };
        self.free_at = Some(now + SPACING);
        self.sounding = Some(Sounding {
            digit,
            began: now,
            next: now,
            first: true,
            ends: 0,
        });
    }
}

/// Makes digits of packets: each once, whatever is lost or comes again, and however long its key is held.
#[derive(Clone, Copy, Debug, Default)]
pub struct DigitReceiver {
    /// The digit that came last.
    last: Option<Heard>,
}

/// A digit, or a segment of one that is longer than a packet can say.
#[derive(Clone, Copy, Debug)]
struct Heard {
    timestamp: u32,
    event: u8,
    /// The longest that was told.
    duration: u16,
    ended: bool,
}

impl DigitReceiver {
    /// The digit of a packet that is the first to arrive of it.
    pub fn on_packet(&mut self, timestamp: u32, event: TelephoneEvent) -> Option<Digit> {
        let heard = Heard {
            timestamp,
            event: event.event,
            duration: event.duration,
            ended: event.end,
        };
        let Some(last) = &mut self.last else {
            let digit = Digit::from_event(event.event)?;
            self.last = Some(heard);
            return Some(digit);
        };
        let later = timestamp.wrapping_sub(last.timestamp);
        if later == 0 {
            last.duration = last.duration.max(heard.duration);
            last.ended |= heard.ended;
            return None;
        }
        // One that is older than the last was overtaken by it, and was heard of already or is too late to matter.
        if later.cast_signed() < 0 {
            return None;
        }
        let digit = Digit::from_event(event.event)?;
        let goes_on = last.is_followed_by(later, event.event);
        self.last = Some(heard);
        (!goes_on).then_some(digit)
    }
}

impl Heard {
    /// Whether what begins so much later is its next segment (RFC 4733 §2.5.1.3): it begins where this one ends.
    fn is_followed_by(&self, later: u32, event: u8) -> bool {
        let ends = [self.duration, u16::MAX].map(u32::from);
        !self.ended && event == self.event && ends.contains(&later)
    }
}

/// A time in units of a clock rate; what does not fit stays at the most (RFC 4733 §2.3.5).
fn units(time: Duration, clock_rate: u32) -> u16 {
    let units = time.as_micros() * u128::from(clock_rate) / 1_000_000;
    u16::try_from(units).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// All packets, each with its time since the beginning.
    fn run(sender: &mut DigitSender, start: Instant) -> Vec<(u128, DigitPacket)> {
        let (mut now, mut packets) = (start, Vec::new());
        loop {
            while let Some(packet) = sender.poll(now) {
                packets.push(((now - start).as_millis(), packet));
            }
            match sender.next_at() {
                Some(at) => now = at,
                None => return packets,
            }
        }
    }

    #[test]
    fn a_digit_by_the_book() {
        let start = session_core::testing::epoch();
        let mut sender = DigitSender::new(8_000);
        sender.press(Digit::new('#').unwrap(), start).unwrap();
        let packets = run(&mut sender, start);
        let durations: Vec<_> = packets.iter().map(|(_, p)| p.event.duration).collect();
        assert_eq!(
            durations,
            [
                160, 320, 480, 640, 800, 960, 1_120, 1_280, 1_280, 1_280, 1_280
            ]
        );
        let ends: Vec<_> = packets.iter().map(|(_, p)| p.event.end).collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 3);
        assert!(ends.ends_with(&[true; 3]));
        assert_eq!(packets.iter().filter(|(_, p)| p.marker).count(), 1);
        assert!(
            packets
                .iter()
                .all(|(_, p)| p.event.event == 11 && p.began == start)
        );
    }

    proptest! {
        /// Whatever is lost of each digit, as long as one packet arrives, and whatever comes twice: each digit once.
        #[test]
        fn digits_arrive_once_in_order(keys in prop::collection::vec(0..16_u8, 1..=30), lost in prop::collection::vec(any::<bool>(), 600), clock: u32) {
            let start = session_core::testing::epoch();
            let mut sender = DigitSender::new(48_000);
            for key in &keys {
                sender.press(Digit::from_event(*key).unwrap(), start).unwrap();
            }
            let (mut receiver, mut heard, mut begins) = (DigitReceiver::default(), Vec::new(), Vec::new());
            let packets = run(&mut sender, start);
            for (number, (_, packet)) in packets.iter().enumerate() {
                if packet.marker {
                    begins.push(packet.began);
                }
                let last = packet.event.end && packets.get(number + 1).is_none_or(|(_, next)| next.marker);
                if lost[number % lost.len()] && !last {
                    continue;
                }
                let at = units_of(packet.began - start);
                for _ in 0..2 {
                    heard.extend(receiver.on_packet(clock.wrapping_add(at), TelephoneEvent::from_bytes(&packet.event.to_bytes()).unwrap()));
                }
            }
            prop_assert_eq!(heard.into_iter().map(Digit::event).collect::<Vec<_>>(), keys);
            prop_assert!(begins.windows(2).all(|pair| pair[1] - pair[0] >= SPACING));
        }
    }

    /// RFC 4733 §2.5.1.3: what is longer than a packet can say comes in segments.
    #[test]
    fn a_key_that_is_held_is_one_digit() {
        let mut receiver = DigitReceiver::default();
        let event = |event, duration, end| TelephoneEvent {
            event,
            duration,
            end,
            volume: 10,
        };
        let key = |key| Digit::from_event(key);
        assert_eq!(receiver.on_packet(100, event(5, 960, false)), key(5));
        assert_eq!(receiver.on_packet(100, event(5, u16::MAX, false)), None);
        let second = 100 + u32::from(u16::MAX);
        assert_eq!(receiver.on_packet(second, event(5, 960, false)), None);
        assert_eq!(receiver.on_packet(second, event(5, 1_920, true)), None);
        // The same key again, and another one right behind.
        assert_eq!(
            receiver.on_packet(second + 1_920, event(5, 960, false)),
            key(5)
        );
        assert_eq!(
            receiver.on_packet(second + 2_880, event(6, 960, false)),
            key(6)
        );
    }

    fn units_of(time: Duration) -> u32 {
        (time.as_millis() * 48) as u32
    }

    #[test]
    fn thirty_wait_and_no_more() {
        let start = session_core::testing::epoch();
        let mut sender = DigitSender::new(8_000);
        let digit = Digit::new('1').unwrap();
        // One sounds at once.
        for _ in 0..=DIGITS_MAX {
            sender.press(digit, start).unwrap();
        }
        assert_eq!(sender.press(digit, start), Err(DigitError::TooMany));
    }

    #[test]
    fn messages_come_back_or_name_the_attribute() {
        for key in KEYS {
            let message = DigitMessage {
                digit: Digit::new(char::from(*key)).unwrap(),
                duration: Some(400),
                volume: Some(42),
            };
            assert_eq!(
                DigitMessage::from_element(&message.to_element()),
                Ok(message)
            );
        }
        let element = |code: &str, volume: &str| {
            Element::new(DTMF, "dtmf")
                .with("code", code)
                .with("volume", volume)
        };
        for (bad, field) in [
            (element("", "1"), "dtmf code"),
            (element("12", "1"), "dtmf code"),
            (element("x", "1"), "dtmf code"),
            (element("1", "64"), "dtmf volume"),
            (element("1", "x"), "dtmf volume"),
        ] {
            let error = DigitMessage::from_element(&bad);
            assert!(
                matches!(error, Err(PeerError::Malformed { field: named, .. }) if named == field),
                "{error:?}"
            );
        }
        assert_eq!(Digit::new('d').map(Digit::key), Ok('D'));
        assert_eq!(Digit::from_event(16), None);
    }
}
