//! Whether somebody speaks.

use std::time::Duration;

/// How far above the background speech is, in power.
const ABOVE: f32 = 6.0;

/// What is taken for speech at the least: some -60 dB of full scale.
const LEAST: f32 = 1e-6;

/// How long after speech its end is still part of it.
const HANGOVER: Duration = Duration::from_millis(240);

/// Tells speech from its background by the power of frames: what codecs without DTX of their own need for it.
///
/// ```
/// use session_voice::SpeechActivity;
/// use std::time::Duration;
/// let frame = Duration::from_millis(20);
/// let mut activity = SpeechActivity::new();
/// let hum = |loud: f32| (0..160).map(|at| (at as f32).sin() * loud).collect::<Vec<f32>>();
/// for _ in 0..50 {
///     activity.is_speech(&hum(0.001), frame);
/// }
/// assert!(!activity.is_speech(&hum(0.001), frame));
/// assert!(activity.is_speech(&hum(0.1), frame));
/// ```
#[derive(Clone, Debug)]
pub struct SpeechActivity {
    /// The power of the background.
    floor: f32,
    /// How long it is still speech.
    left: Duration,
}

impl SpeechActivity {
    /// It takes what comes first for speech.
    pub fn new() -> Self {
        Self {
            floor: LEAST,
            left: HANGOVER,
        }
    }

    /// Whether the next frame, of this length, belongs to speech.
    pub fn is_speech(&mut self, frame: &[f32], length: Duration) -> bool {
        let power = frame.iter().map(|s| s * s).sum::<f32>() / frame.len().max(1) as f32;
        if power < self.floor {
            // A background is what is left when speech pauses: it follows down fast, and up slowly.
            self.floor += (power - self.floor) * 0.3;
        } else {
            self.floor = (self.floor * 1.02).min(power);
        }
        if power > (self.floor * ABOVE).max(LEAST) {
            self.left = HANGOVER;
            return true;
        }
        let before = self.left;
        self.left = before.saturating_sub(length);
        !before.is_zero()
    }
}

impl Default for SpeechActivity {
    fn default() -> Self {
        Self::new()
    }
}
