//! What is said, and how it is judged: speech by espeak-ng, PESQ by the package of PyPI. `cargo xtask bench` sees to both.

use session_voice::audio::{Resampler, SoundSource, WavSource};
use std::{
    env, fs,
    io::Cursor,
    path::{Path, PathBuf},
    process::Command,
};

/// Samples per second of what is said.
pub(super) const RATE: u32 = 48_000;
/// The same of what is judged.
const JUDGED: u32 = 16_000;

/// Who speaks, and what: the figures are of these.
const SAID: [(&str, &str); 4] = [
    (
        "en-gb",
        "The ferry leaves the harbour at a quarter past nine. Most of the crates were loaded before dawn. She asked \
         whether the bridge would open in time. Nobody on the pier had seen the captain.",
    ),
    (
        "en-us+f3",
        "Please send the second letter to my old address. A yellow kite hung in the branches of the oak. The committee \
         has chosen a much simpler plan. Fresh bread is sold behind the station.",
    ),
    (
        "en-us",
        "Five musicians share the house by the river. The cook forgot the pepper and the thyme. Heavy rain washed the \
         chalk from the wall. His brother repairs clocks in a small shop.",
    ),
    (
        "en-gb-scotland+f2",
        "Every morning the gardener waters the roses. The judge will hear both sides on Thursday. Just beyond the hill \
         there is a quiet village. A silver coin lay under the carpet.",
    ),
];

/// The same for whoever changes how calls sound, and does not want to do so for the very speech of the figures.
const OTHER: [(&str, &str); 4] = [
    (
        "en-us+f2",
        "A dozen sheep were grazing near the windmill. The pilot spoke calmly to the tower. We painted the fence twice \
         last summer. Their youngest child plays the violin.",
    ),
    (
        "en-gb-x-rp",
        "The library closes early on the day of the festival. Thick fog covered the whole valley. He measured the table \
         and wrote it down. You can borrow my umbrella until Friday.",
    ),
    (
        "en-us+m3",
        "The baker sold his last cake to a stranger. Both engines stopped above the desert. A narrow path leads to the \
         chapel. They keep the spare key in a blue jar.",
    ),
    (
        "en-gb+f4",
        "Cold water runs through these pipes all winter. The teacher gave each pupil a pencil. Smoke rose slowly from \
         the chimney. It was the third time that the phone rang.",
    ),
];

/// Whether somebody tunes; other seeds are used as well then.
pub(super) fn is_tuning() -> bool {
    env::var_os("BENCH_TUNING").is_some()
}

/// The interpreter that has PESQ; none where nobody has installed it.
pub(super) fn python() -> Option<PathBuf> {
    env::var_os("BENCH_PESQ").map(PathBuf::from)
}

/// Speech of so many seconds, which changes speaker every eight of them.
pub(super) fn speech(seconds: usize) -> Vec<f32> {
    let said = if is_tuning() { OTHER } else { SAID };
    let spoken: Vec<Vec<f32>> = said
        .iter()
        .map(|(voice, text)| speak(voice, text))
        .collect();
    let turn = 8 * RATE as usize;
    let mut places = [0; 4];
    let mut sound = Vec::with_capacity(seconds * RATE as usize);
    for number in 0..seconds.div_ceil(8) {
        let (voice, at) = (&spoken[number % 4], &mut places[number % 4]);
        for _ in 0..turn {
            sound.push(voice[*at % voice.len()]);
            *at += 1;
        }
    }
    sound.truncate(seconds * RATE as usize);
    sound
}

fn speak(voice: &str, text: &str) -> Vec<f32> {
    let made = Command::new("espeak-ng")
        .args(["-v", voice, "-s", "150", "--stdout", text])
        .output()
        .expect("espeak-ng is installed (cargo xtask setup)");
    assert!(made.status.success(), "espeak-ng knows {voice}");
    // Its length stands not in what it writes to a pipe.
    let mut file = made.stdout;
    let all = file.len() as u32;
    file[4..8].copy_from_slice(&(all - 8).to_le_bytes());
    file[40..44].copy_from_slice(&(all - 44).to_le_bytes());
    let mut wav = WavSource::new(Cursor::new(file)).expect("it writes WAV");
    let mut sound = vec![0.0; wav.remaining() as usize];
    let read = wav.read(&mut sound).expect("whole");
    sound.truncate(read);
    let mut louder = resampled(&sound, wav.sample_rate(), RATE);
    let power = louder.iter().map(|s| s * s).sum::<f32>() / louder.len() as f32;
    // -26 dB of full scale, at which codecs are judged (ITU-T P.56).
    let gain = 0.05 / power.sqrt();
    louder.iter_mut().for_each(|sample| *sample *= gain);
    louder
}

fn resampled(sound: &[f32], from: u32, to: u32) -> Vec<f32> {
    let mut made = Vec::new();
    let mut resampler = Resampler::new(from, to).expect("usual rates");
    resampler.push(sound, &mut made).expect("usual rates");
    made
}

/// What a listener heard of what was said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Judgement {
    /// By PESQ-WB: 1 is bad, 4.6 is all of it.
    pub(super) score: f64,
    /// From being spoken to being heard, in milliseconds.
    pub(super) delay: f64,
}

/// What is to be judged, in a folder of its own.
pub(super) struct Judge {
    folder: PathBuf,
    said: PathBuf,
    heard: Vec<PathBuf>,
}

impl Judge {
    pub(super) fn new(said: &[f32]) -> Self {
        let folder = env::temp_dir().join(format!("pesq.{}", std::process::id()));
        fs::create_dir_all(&folder).expect("room on the disk");
        let file = folder.join("said");
        write(&file, said);
        Self {
            folder,
            said: file,
            heard: Vec::new(),
        }
    }

    /// Adds a recording that began when the speech did.
    pub(super) fn hear(&mut self, heard: &[f32]) {
        let file = self.folder.join(self.heard.len().to_string());
        write(&file, heard);
        self.heard.push(file);
    }

    /// How each recording sounds, without its first seconds.
    pub(super) fn judge(self, python: &Path, skip: usize) -> Vec<Judgement> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new(python);
        command.arg(here.join("peers/pesq_score.py"));
        command.arg("--skip").arg(skip.to_string());
        for heard in &self.heard {
            command.args([&self.said, heard]);
        }
        let made = command.output().expect("python runs");
        let text = String::from_utf8_lossy(&made.stdout);
        let error = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "PESQ failed: {error}");
        fs::remove_dir_all(&self.folder).ok();
        let judged: Vec<_> = text.lines().filter_map(judgement).collect();
        assert_eq!(judged.len(), self.heard.len(), "a line for each: {text}");
        judged
    }
}

fn judgement(line: &str) -> Option<Judgement> {
    let (score, delay) = line.split_once(' ')?;
    Some(Judgement {
        score: score.parse().ok()?,
        delay: delay.parse().ok()?,
    })
}

fn write(file: &Path, sound: &[f32]) {
    let bytes: Vec<u8> = resampled(sound, RATE, JUDGED)
        .into_iter()
        .flat_map(f32::to_le_bytes)
        .collect();
    fs::write(file, bytes).expect("room on the disk");
}
