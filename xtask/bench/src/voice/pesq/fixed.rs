//! The peer: a buffer that holds each frame for the same time, and takes the copy in the next packet where one is missing.
//! Its decoder is ours, with the same concealment, so that nothing but the buffer makes the difference.

use super::network::LINK;
use session_voice::{AudioCodec, LibOpus, RtpPacket};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const FRAME: Duration = Duration::from_millis(20);
const SAMPLES: usize = 960;
/// So many frames too late in a row, and it begins anew where the network is now.
const LATE_MAX: u32 = 25;

pub(super) struct Fixed {
    codec: LibOpus,
    frames: BTreeMap<u32, Vec<u8>>,
    /// The timestamp of the first frame, and when it is played.
    begin: Option<(u32, Instant)>,
    /// The number of the frame that is to be played next.
    next: u32,
    wait: Duration,
    late: u32,
    pub(super) concealed: u32,
    pub(super) late_all: u32,
    sound: Vec<f32>,
}

impl Fixed {
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            codec: LibOpus::new().expect("memory"),
            frames: BTreeMap::new(),
            begin: None,
            next: 0,
            wait,
            late: 0,
            concealed: 0,
            late_all: 0,
            sound: Vec::new(),
        }
    }

    /// `sent` is when the packet left, which tells the shortest way as a perfect estimate would.
    pub(super) fn handle_rtp(&mut self, packet: &[u8], sent: Instant, now: Instant) {
        let rtp = RtpPacket::parse(packet).expect("ours");
        let begin = (rtp.timestamp(), sent + LINK + self.wait);
        let (first, _) = *self.begin.get_or_insert(begin);
        let ahead = rtp.timestamp().wrapping_sub(first).cast_signed() / SAMPLES as i32;
        let Ok(number) = u32::try_from(ahead) else {
            // It was sent before the first that came.
            return;
        };
        if number < self.next {
            self.late += 1;
            self.late_all += 1;
            if self.late >= LATE_MAX {
                self.begin = Some((rtp.timestamp(), now + self.wait));
                self.frames.clear();
                (self.next, self.late) = (0, 0);
                self.frames.insert(0, rtp.payload().to_vec());
            }
            return;
        }
        self.late = 0;
        self.frames.insert(number, rtp.payload().to_vec());
    }

    /// Fills what is played from now on.
    pub(super) fn play(&mut self, sound: &mut [f32], now: Instant) {
        while self.sound.len() < sound.len() {
            let ready = FRAME.mul_f64(self.sound.len() as f64 / SAMPLES as f64);
            self.next_frame(now + ready);
        }
        let rest = self.sound.split_off(sound.len());
        sound.copy_from_slice(&self.sound);
        self.sound = rest;
    }

    fn next_frame(&mut self, now: Instant) {
        let due = self.begin.filter(|(_, at)| *at + FRAME * self.next <= now);
        if due.is_none() {
            // Its time has not come: a little silence, so that it begins to the millisecond.
            self.sound.resize(self.sound.len() + SAMPLES / 20, 0.0);
            return;
        }
        let own = self.frames.remove(&self.next);
        let later = self.frames.get(&(self.next + 1));
        self.next += 1;
        let made = match (&own, later) {
            (Some(payload), _) => self.codec.decode(payload, &mut self.sound).is_ok(),
            (None, Some(later)) => self.codec.recover(later, 1, SAMPLES, &mut self.sound),
            (None, None) => false,
        };
        if !made {
            self.concealed += 1;
            self.codec.conceal(SAMPLES, &mut self.sound);
        }
    }
}
