//! How often memory is asked for while a call goes on: not for a frame.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use bytes::BytesMut;
use session_core::testing::epoch;
use session_voice::{
    EngineConfig, MediaOutput, PayloadType, Protection, SrtpMaster, SrtpProfile, VoiceEngine,
};
use std::time::{Duration, Instant};

const FRAME: Duration = Duration::from_millis(20);
/// Samples of a frame of G.711.
const SAMPLES: usize = 160;
/// Frames of half a minute.
const FRAMES: u64 = 1_500;

/// Two engines that speak to each other, and what a driver has: memory that it receives into, again and again.
struct Talk {
    now: Instant,
    engines: [VoiceEngine; 2],
    /// More than are on their way at once.
    received: [BytesMut; 8],
    next: usize,
    heard: u64,
}

impl Talk {
    fn new(profile: SrtpProfile, report_every: Duration) -> Self {
        let now = epoch();
        let master = |byte: u8| {
            let (key, salt) = (
                vec![byte; profile.key_bytes()],
                vec![byte; profile.salt_bytes()],
            );
            SrtpMaster::new(profile, &key, &salt).unwrap()
        };
        let engine = |ours, theirs| {
            let agreed = vec![PayloadType::of_id(8).unwrap()];
            let config = EngineConfig {
                report_every,
                ..EngineConfig::new(agreed, "b7c1")
            };
            let protection = Protection::Srtp {
                ours: master(ours),
                theirs: master(theirs),
            };
            VoiceEngine::new(&config, protection, [ours; 16], now).unwrap()
        };
        Self {
            now,
            engines: [engine(1, 2), engine(2, 1)],
            received: Default::default(),
            next: 0,
            heard: 0,
        }
    }

    /// As from a socket: a copy in memory that was used before.
    fn carry(&mut self, packet: &[u8]) -> Bytes {
        let count = self.received.len();
        let memory = &mut self.received[self.next];
        self.next = (self.next + 1) % count;
        memory.reserve(2_048);
        memory.extend_from_slice(packet);
        memory.split().freeze()
    }

    /// Both speak a frame and hear one.
    fn frame(&mut self) {
        let (spoken, mut sound) = ([0.25; SAMPLES], [0.0; SAMPLES]);
        self.now += FRAME;
        for side in 0..2 {
            self.engines[side].record(&spoken, self.now);
            if self.engines[side]
                .poll_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.engines[side].handle_timeout(self.now);
            }
            while let Some(output) = self.engines[side].poll_output() {
                match output {
                    MediaOutput::Rtp(packet) => {
                        let packet = self.carry(&packet);
                        let event = self.engines[1 - side].handle_rtp(packet, self.now);
                        assert_eq!(event.unwrap(), None);
                    }
                    MediaOutput::Rtcp(packet) => {
                        let packet = self.carry(&packet);
                        let event = self.engines[1 - side].handle_rtcp(packet, self.now);
                        assert_eq!(event.unwrap(), None);
                    }
                }
            }
            self.engines[side].play(&mut sound, self.now);
            self.heard += u64::from((sound[0] - 0.25).abs() < 0.02);
        }
    }

    /// How often memory was asked for in [`FRAMES`], after everything has grown to its size.
    fn allocations(&mut self) -> u64 {
        (0..100).for_each(|_| self.frame());
        self.heard = 0;
        let count = allocation_counter::measure(|| (0..FRAMES).for_each(|_| self.frame()));
        assert_eq!(self.heard, 2 * FRAMES, "all of it was heard");
        count.count_total
    }
}

#[test]
fn a_frame_allocates_nothing_in_either_direction() {
    for profile in [
        SrtpProfile::Aes128CmSha1_80,
        SrtpProfile::Aes128CmSha1_32,
        SrtpProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm,
    ] {
        let mut talk = Talk::new(profile, 100 * FRAMES as u32 * FRAME);
        assert_eq!(talk.allocations(), 0, "{profile:?}");
    }
}

/// A report has memory of its own, every five seconds or so: its parts, and its keys.
#[test]
fn a_report_allocates_a_little() {
    let mut talk = Talk::new(SrtpProfile::AeadAes128Gcm, Duration::from_secs(5));
    let (count, reports) = (talk.allocations(), 2 * 30 / 5);
    assert!(
        count > 0 && count < 40 * reports,
        "{count} for some {reports} reports"
    );
}
