//! When to play what: an adaptive jitter buffer of encoded frames, in whatever time it is told.
//!
//! It decodes nothing. The player asks for the next frame when it needs one, and is told: this packet; this later packet, which carries a copy of the missing frame; nothing, make something up. It is
//! also told whether to play a little shorter or longer than what it got, so that the delay follows the network.

mod delay;
mod queue;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use delay::DelayModel;
use queue::Queue;
use std::{
    mem::offset_of,
    ops::AddAssign,
    time::{Duration, Instant},
};

/// How a [`JitterBuffer`] behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct JitterConfig {
    /// Timestamps per second.
    pub clock_rate: u32,
    /// How long a frame is until packets say otherwise. Default 20 ms.
    pub frame: Duration,
    /// How many of the frames before it a packet carries copies of, where [`JitterBuffer::insert`] is not told: copies
    /// are worth waiting for when packets get lost. Default 1 (Opus in-band FEC).
    pub copies: u32,
    /// The share of frames that may come too late, 0 to 1. Less costs delay. Default 0.01.
    pub late_share: f64,
    /// The delay is never aimed below this. Default 0.
    pub delay_min: Duration,
    /// Nor above this. Default 1 s.
    pub delay_max: Duration,
    /// What is aimed at before anything is known. Default 40 ms.
    pub delay_start: Duration,
    /// Frames kept at most. Default 256.
    pub frames_max: usize,
}

impl JitterConfig {
    /// The defaults, with this clock rate.
    pub fn new(clock_rate: u32) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            frame: Duration::from_millis(20),
            copies: 1,
            late_share: 0.01,
            delay_min: Duration::ZERO,
            delay_max: Duration::from_secs(1),
            delay_start: Duration::from_millis(40),
            frames_max: 256,
        }
    }
}

/// A frame as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JitterFrame {
    /// That of RTP. Which round it belongs to is found out.
    pub timestamp: u32,
    /// What the codec understands.
    pub payload: Bytes,
    /// How long it sounds, in units of the clock; 0 where that is not known.
    pub length: u32,
    /// How many of the frames before it have a copy in it.
    pub copies: u32,
    /// What it means.
    pub kind: FrameKind,
}

/// What a frame means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameKind {
    /// Sound.
    #[default]
    Sound,
    /// Sound behind which nobody speaks: what does not come after it is not missing.
    Last,
    /// What the background sounds like while nobody speaks (RFC 3389).
    Noise,
}

/// What to play next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Playout {
    /// This packet.
    Packet(Bytes),
    /// Nobody speaks: noise as this packet describes it.
    Noise(Bytes),
    /// The frame did not come in time; this later packet may carry a copy of it.
    Recover {
        /// The packet.
        from: Bytes,
        /// How many frames before it the missing one is: 1 is where in-band FEC has it, more is for deeper redundancy.
        distance: u32,
    },
    /// Nothing is there: something that sounds like what was before.
    Conceal,
    /// Nobody speaks: silence, or comfort noise.
    Silence,
}

/// Whether to change the length of what is played now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stretch {
    /// As it is.
    Keep,
    /// Shorter, if the sound allows it: there is more delay than is needed.
    Shorten,
    /// Longer, if the sound allows it: there is less delay than is needed.
    Lengthen,
}

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JitterStats {
    /// Packets that came, each once.
    pub received: u64,
    /// Of those, packets that came after their time.
    pub late: u64,
    /// Packets that came again, or that there was no room for.
    pub dropped: u64,
    /// Frames played from their own packet.
    pub played: u64,
    /// Frames that a later packet may have had a copy of.
    pub recovered: u64,
    /// Frames that were made up.
    pub concealed: u64,
    /// Frames that were not there when they should have sounded, and how many times in a row that began.
    pub missing: (u64, u64),
}

impl AddAssign for JitterStats {
    fn add_assign(&mut self, more: Self) {
        self.received += more.received;
        self.late += more.late;
        self.dropped += more.dropped;
        self.played += more.played;
        self.recovered += more.recovered;
        self.concealed += more.concealed;
        self.missing.0 += more.missing.0;
        self.missing.1 += more.missing.1;
    }
}

/// Frames between two that came that are looked for in copies: what is longer than this is another talk spurt.
const COPIES_MAX: u32 = 50;

/// Frames of made-up sound before it is taken for silence: what is made up does not get better.
const CONCEALED_MAX: u32 = 10;

/// A gap of more than this is the beginning of something new.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Packets that claim to be of times long gone, before the sender is believed to have begun anew.
const STRAYS_MAX: u32 = 10;

/// The adaptive jitter buffer of one source.
///
/// ```
/// use session_voice::{JitterBuffer, JitterConfig, Playout};
/// use std::time::Duration;
/// # let mut now = session_core::testing::epoch();
/// let mut buffer = JitterBuffer::new(JitterConfig::new(48_000));
/// buffer.insert(0, b"first"[..].into(), now);
/// // It waits a little, so that the next ones are in time as well.
/// assert_eq!(buffer.pull(now).0, Playout::Silence);
/// now += Duration::from_millis(40);
/// assert_eq!(buffer.pull(now).0, Playout::Packet(b"first"[..].into()));
/// ```
// In this order, so that what each packet touches lies together.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct JitterBuffer {
    /// What has happened, but for what happens with every packet.
    rare: JitterStats,
    /// By the timestamp, with its rounds.
    frames: Queue,
    // From within this on, what each packet touches.
    delay: DelayModel,
    received: u64,
    played: u64,
    /// The timestamp of the frame that is to be played next; none before the first one and in silence.
    cursor: Option<u64>,
    /// Everything before it is late.
    played_to: Option<u64>,
    highest: Option<u64>,
    /// The frame's length in timestamps.
    frame: u64,
    clock_rate: u32,
    /// [`JitterConfig::copies`].
    copies: u32,
    /// [`JitterConfig::frames_max`].
    frames_max: usize,
    /// [`JitterConfig::frame`].
    usual: Duration,
    /// Frames made up since the cursor has moved last.
    waited: u32,
    /// Frames made up in a row.
    concealed: u32,
    strays: u32,
    /// The newest frame was the last of a talk spurt.
    pauses: bool,
    /// The frame before was missing.
    misses: bool,
}

/// A frame that waits for its time.
#[derive(Clone, Debug, Default)]
struct Waiting {
    payload: Bytes,
    length: u32,
    copies: u16,
    kind: FrameKind,
    /// It is no frame: sound ends here, and something else takes its place.
    pauses: bool,
}

impl JitterBuffer {
    /// From here to its end is what each packet touches.
    pub(crate) const TOUCHED_FROM: usize = offset_of!(Self, delay) + DelayModel::TOUCHED_FROM;

    /// An empty one.
    pub fn new(config: JitterConfig) -> Self {
        Self {
            rare: JitterStats::default(),
            received: 0,
            played: 0,
            frames: Queue::default(),
            cursor: None,
            played_to: None,
            highest: None,
            frame: units(config.frame, config.clock_rate).max(1),
            clock_rate: config.clock_rate,
            copies: config.copies,
            frames_max: config.frames_max.max(1),
            usual: config.frame,
            waited: 0,
            concealed: 0,
            strays: 0,
            pauses: false,
            misses: false,
            delay: DelayModel::new(&config),
        }
    }

    /// Asks the processor for what the next frame touches, beside the buffer itself.
    pub(crate) fn prefetch(&self) {
        self.delay.prefetch();
        self.frames.prefetch();
    }

    /// A packet came, with as many copies as [`JitterConfig::copies`] says. `timestamp` is that of RTP; which round it
    /// belongs to is found out here.
    pub fn insert(&mut self, timestamp: u32, payload: Bytes, now: Instant) {
        let frame = JitterFrame {
            timestamp,
            payload,
            length: 0,
            copies: self.copies,
            kind: FrameKind::Sound,
        };
        self.insert_frame(frame, now);
    }

    /// A frame came.
    pub fn insert_frame(&mut self, frame: JitterFrame, now: Instant) {
        let extended = self.extend(frame.timestamp);
        let gap = units(GAP_MAX, self.clock_rate);
        if self.highest.is_some_and(|highest| extended > highest + gap) {
            self.begin_anew();
        }
        if self.highest.is_some_and(|highest| extended + gap < highest) {
            self.strays += 1;
            if self.strays < STRAYS_MAX {
                self.rare.dropped += 1;
                return;
            }
            self.begin_anew();
        }
        self.strays = 0;
        match self.frames.get(extended) {
            // There is sound after all.
            Some(there) if there.pauses => drop(self.frames.remove(extended)),
            Some(_) => {
                self.rare.dropped += 1;
                return;
            }
            None => {}
        }
        self.learn(extended, &frame, now);
        self.received += 1;
        if self.frames.len() >= self.frames_max {
            self.make_room();
        }
        if self.played_to.is_some_and(|played| extended < played) {
            self.rare.late += 1;
            return;
        }
        let waiting = Waiting {
            payload: frame.payload,
            length: frame.length,
            copies: u16::try_from(frame.copies).unwrap_or(u16::MAX),
            kind: frame.kind,
            pauses: false,
        };
        self.frames.insert(extended, waiting);
    }

    /// From this timestamp on something else takes the place of sound, such as a digit (RFC 4733): what does not come is not
    /// missing, and is not made up, until the next frame ends it. What comes before is played to its end. May be said again
    /// as often as packets say it; of sound that has come since it says nothing.
    pub fn pause_at(&mut self, timestamp: u32) {
        let at = self.extend(timestamp);
        let Some(highest) = self.highest else {
            return;
        };
        // Where it would be further off, nobody speaks before it comes.
        let reach = u64::from(CONCEALED_MAX) * self.frame;
        if at <= highest || at > highest + reach || self.frames.ends_with_pause() {
            return;
        }
        if self.frames.is_empty() {
            match self.cursor {
                // Nobody speaks, and it stays so.
                None => return,
                // Before it there is no room for a frame.
                Some(cursor) if at < cursor + self.frame => return self.pause(),
                Some(_) => {}
            }
        }
        self.pauses = true;
        if self.frames.len() >= self.frames_max {
            self.make_room();
        }
        let pause = Waiting {
            pauses: true,
            ..Waiting::default()
        };
        self.frames.insert(at, pause);
    }

    /// What to play next, for a player that needs it now; and whether to make it shorter or longer.
    pub fn pull(&mut self, now: Instant) -> (Playout, Stretch) {
        if self.cursor.is_none() {
            self.begin(now);
        }
        let Some(cursor) = self.cursor else {
            return (Playout::Silence, Stretch::Keep);
        };
        self.skip_made_up(cursor, now);
        let cursor = self.cursor.unwrap_or(cursor);
        let stretch = self.stretch(cursor, now);
        if self.frames.begins_with_pause(cursor + self.frame) {
            self.frames.pop_first();
            self.pause();
            return (Playout::Silence, Stretch::Keep);
        }
        if let Some(frame) = self.frames.remove(cursor) {
            return (self.play(cursor, frame), stretch);
        }
        if !std::mem::replace(&mut self.misses, true) {
            self.rare.missing.1 += 1;
        }
        self.rare.missing.0 += 1;
        match self.frames.first() {
            Some(first) => self.bridge(cursor, first, stretch),
            None => self.wait(),
        }
    }

    /// From the moment at which a frame would be here on the shortest way to the one at which the player needs it: what
    /// is aimed at.
    pub fn target(&self) -> Duration {
        self.delay.target()
    }

    /// The same as it is now; none in silence.
    pub fn delay(&self, now: Instant) -> Option<Duration> {
        self.delay.since_best(self.cursor?, now)
    }

    /// How long frames are, as far as their sender has said: what is made up for one that is missing is to be as long.
    pub fn frame(&self) -> Duration {
        let nanos = u128::from(self.frame) * 1_000_000_000 / u128::from(self.clock_rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Frames that were made up since the newest was played: whether they are missing is not known before the next comes.
    pub(crate) fn trailing(&self) -> u64 {
        // The one at which sound was given up was not made up.
        let given_up = u32::from(self.cursor.is_none());
        u64::from(self.waited.saturating_sub(given_up))
    }

    /// Frames that wait.
    pub fn waiting(&self) -> usize {
        self.frames.len()
    }

    /// What has happened so far.
    pub fn stats(&self) -> JitterStats {
        JitterStats {
            received: self.received,
            played: self.played,
            ..self.rare
        }
    }

    /// The round that is nearest to the newest packet.
    fn extend(&self, timestamp: u32) -> u64 {
        let Some(highest) = self.highest else {
            // So that what came just before it is not below zero.
            return u64::from(timestamp) + (1 << 32);
        };
        let ahead = i64::from(timestamp.wrapping_sub(highest as u32).cast_signed());
        highest.saturating_add_signed(ahead)
    }

    /// How long the ways of packets are, also of those that came as a copy in a later one.
    fn learn(&mut self, timestamp: u64, frame: &JitterFrame, now: Instant) {
        let before = self.frame;
        if frame.length > 0 {
            self.frame = u64::from(frame.length);
        }
        let Some(highest) = self.highest else {
            self.highest = Some(timestamp);
            self.delay.on_frame(timestamp, now);
            return;
        };
        // Who falls silent for a while may go on with its timestamps where they were: nothing was that long on its way.
        if self.cursor.is_none() && self.frames.is_empty() {
            self.delay.go_on_at(timestamp, now);
        }
        if timestamp > highest {
            let gap = timestamp - highest;
            // The sender says by its timestamps how long its frames are, as long as none is lost.
            let shortest = units(Duration::from_millis(2), self.clock_rate).max(1);
            if frame.length == 0 && gap < self.frame && gap >= shortest {
                self.frame = gap;
            }
            let lost = match frame.length {
                0 => (gap / self.frame).saturating_sub(1),
                _ => gap.saturating_sub(before) / self.frame,
            };
            let copies = u64::from(frame.copies.min(COPIES_MAX));
            if lost > 0 && lost <= copies && !self.pauses && self.cursor.is_some() {
                for back in 1..=lost {
                    self.delay.on_frame(timestamp - back * self.frame, now);
                }
            }
            self.highest = Some(timestamp);
            self.pauses = frame.kind != FrameKind::Sound;
        }
        self.delay.on_frame(timestamp, now);
    }

    /// Begins with the first frame, if its time has come.
    fn begin(&mut self, now: Instant) {
        let Some(first) = self.frames.first() else {
            return;
        };
        let waited = self.delay.since_best(first, now);
        if waited.is_none_or(|waited| waited >= self.delay.target()) {
            // What comes from before it is late from now on.
            self.advance(first);
            self.concealed = 0;
        }
    }

    /// What was made up has taken the place of as many frames: the rest is played in its time, unless there is less
    /// delay than is needed.
    fn skip_made_up(&mut self, cursor: u64, now: Instant) {
        if self.waited == 0 || self.frames.is_empty() {
            return;
        }
        let Some(first) = self.frames.first() else {
            return;
        };
        let made_up = u64::from(self.waited) * self.frame;
        let skipped = if first > cursor {
            made_up.min(first - cursor)
        } else {
            let needed = self.delay.target();
            let later = self.delay.since_best(cursor + made_up, now);
            if later.is_none_or(|later| later < needed) {
                self.waited = 0;
                return;
            }
            made_up
        };
        self.advance(cursor + skipped);
    }

    fn play(&mut self, cursor: u64, frame: Waiting) -> Playout {
        let length = match frame.length {
            0 => self.frame,
            length => u64::from(length),
        };
        self.advance(cursor + length);
        self.concealed = 0;
        self.misses = false;
        match frame.kind {
            FrameKind::Sound => {}
            FrameKind::Last | FrameKind::Noise => self.cursor = None,
        }
        self.played += u64::from(frame.kind != FrameKind::Noise);
        match frame.kind {
            FrameKind::Sound | FrameKind::Last => Playout::Packet(frame.payload),
            FrameKind::Noise => Playout::Noise(frame.payload),
        }
    }

    /// A frame is missing, and there are later ones.
    fn bridge(&mut self, cursor: u64, first: u64, stretch: Stretch) -> (Playout, Stretch) {
        let distance = u32::try_from((first - cursor).div_ceil(self.frame)).unwrap_or(u32::MAX);
        self.advance((cursor + self.frame).min(first));
        let from = self.frames.get(first);
        let from = from.filter(|frame| u32::from(frame.copies) >= distance);
        if let Some(from) = from {
            self.rare.recovered += 1;
            self.concealed = 0;
            let from = from.payload.clone();
            return (Playout::Recover { from, distance }, stretch);
        }
        self.concealed += 1;
        self.rare.concealed += 1;
        (Playout::Conceal, stretch)
    }

    /// Nothing is there at all: late, lost, or nobody speaks.
    fn wait(&mut self) -> (Playout, Stretch) {
        self.waited += 1;
        self.concealed += 1;
        if self.concealed > CONCEALED_MAX {
            self.cursor = None;
            return (Playout::Silence, Stretch::Keep);
        }
        self.rare.concealed += 1;
        (Playout::Conceal, Stretch::Keep)
    }

    fn advance(&mut self, to: u64) {
        self.cursor = Some(to);
        self.played_to = self.played_to.max(Some(to));
        self.waited = 0;
        let mut pause = None;
        while self.frames.first().is_some_and(|first| first < to) {
            match self.frames.pop_first() {
                Some((_, frame)) if frame.pauses => pause = Some(frame),
                // A sender whose timestamps do not keep to its frames.
                Some(_) | None => self.rare.late += 1,
            }
        }
        // Sound ends behind the frame into which the end fell, unless it goes on there.
        if let Some(pause) = pause {
            self.frames.insert(to, pause);
        }
    }

    /// Sound ends here, and what comes next is known.
    fn pause(&mut self) {
        self.cursor = None;
        (self.waited, self.concealed) = (0, 0);
        self.misses = false;
    }

    fn stretch(&self, cursor: u64, now: Instant) -> Stretch {
        let Some(delay) = self.delay.since_best(cursor, now) else {
            return Stretch::Keep;
        };
        let target = self.delay.target();
        // Too little costs frames; too much by less than a frame is not worth touching the sound.
        if delay < target {
            Stretch::Lengthen
        } else if delay > target + self.usual {
            Stretch::Shorten
        } else {
            Stretch::Keep
        }
    }

    /// The oldest goes: it would be played last, and the player is far behind.
    fn make_room(&mut self) {
        if let Some((oldest, frame)) = self.frames.pop_first()
            && !frame.pauses
        {
            self.rare.dropped += 1;
            if self.cursor.is_some_and(|cursor| cursor <= oldest) {
                self.advance(oldest + self.frame);
            }
        }
    }

    /// The sender has begun anew, with other timestamps.
    fn begin_anew(&mut self) {
        while let Some((_, frame)) = self.frames.pop_first() {
            self.rare.dropped += u64::from(!frame.pauses);
        }
        (self.cursor, self.played_to, self.highest) = (None, None, None);
        self.delay.begin_anew();
        self.strays = 0;
    }
}

fn units(time: Duration, clock_rate: u32) -> u64 {
    (time.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u64
}
