//! What is said and heard, at 48 kHz.

use crate::{How, failed, screen::Screen};
use serde_json::json;
use session_voice::audio::{
    AudioError, Resampler, SoundSink, SoundSource, Tone, WavSink, WavSource,
};
use session_xmpp::cli::Problem;
use std::{
    fs::File,
    io::{BufReader, BufWriter},
    path::{Path, PathBuf},
};

/// Samples per second of files that are written.
const RATE: u32 = 48_000;

/// Both directions.
pub(crate) struct Sound {
    source: Box<dyn SoundSource>,
    sink: Option<Box<dyn SoundSink>>,
    /// Between the source and the codec, and between the codec and the sink.
    spoken: Fitted,
    heard: Fitted,
    waiting: Vec<f32>,
    /// Where the loudspeaker is heard by the microphone.
    room: Option<Room>,
    /// The source is at its end.
    is_over: bool,
}

/// A resampler for whatever rates there are.
#[derive(Default)]
struct Fitted(Option<Resampler>);

impl Fitted {
    /// Adds the sound of one rate to that of the other.
    fn push(
        &mut self,
        (from, to): (u32, u32),
        sound: &[f32],
        made: &mut Vec<f32>,
    ) -> Result<(), AudioError> {
        let fits = |known: &Resampler| (known.from_rate(), known.to_rate()) == (from, to);
        let resampler = match self.0.take().filter(fits) {
            Some(resampler) => resampler,
            None => Resampler::new(from, to)?,
        };
        self.0.insert(resampler).push(sound, made)
    }
}

impl Sound {
    /// Opens what the options name.
    pub(crate) fn open(how: &How) -> Result<Self, Problem> {
        let (source, is_live): (Box<dyn SoundSource>, bool) = match &how.play {
            Some(path) => (Box::new(open(path)?), false),
            None => microphone(how.account.json),
        };
        let sink: Option<Box<dyn SoundSink>> = match &how.record {
            Some(path) => {
                let what = format!("record {}", path.display());
                let file = File::create(path).map_err(|error| {
                    failed(
                        "record",
                        &what,
                        error,
                        "choose a folder that is there and yours",
                    )
                })?;
                let sink = WavSink::new(BufWriter::new(file), RATE);
                Some(Box::new(
                    sink.map_err(|error| failed("record", &what, error, ""))?,
                ))
            }
            None => loudspeaker(how.account.json),
        };
        let room = room(is_live && !how.raw);
        Ok(Self {
            source,
            sink,
            spoken: Fitted::default(),
            heard: Fitted::default(),
            waiting: Vec::new(),
            room,
            is_over: false,
        })
    }

    /// A file that is played again and again, and nothing to be heard.
    pub(crate) fn repeating(path: &Path) -> Result<Self, Problem> {
        let source = open(path)?;
        Ok(Self {
            source: Box::new(Repeating {
                path: path.to_owned(),
                source,
            }),
            sink: None,
            spoken: Fitted::default(),
            heard: Fitted::default(),
            waiting: Vec::new(),
            room: None,
            is_over: false,
        })
    }

    /// What is said in ten milliseconds, at a codec's rate. At the source's end, silence.
    pub(crate) fn speak(&mut self, rate: u32) -> Result<Vec<f32>, AudioError> {
        let mut from = self.source.sample_rate();
        let mut piece = vec![0.0; (from / 100) as usize];
        if !self.is_over {
            self.is_over = self.source.read(&mut piece)? < piece.len();
        }
        if let Some(room) = &mut self.room {
            piece = room.spoken(from, &piece)?;
            from = RATE;
        }
        let mut spoken = Vec::new();
        self.spoken.push((from, rate), &piece, &mut spoken)?;
        Ok(spoken)
    }

    /// What was heard.
    pub(crate) fn hear(&mut self, sound: &[f32], rate: u32) -> Result<(), AudioError> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        if let Some(room) = &mut self.room {
            room.heard(rate, sound)?;
        }
        self.waiting.clear();
        let rates = (rate, sink.sample_rate());
        self.heard.push(rates, sound, &mut self.waiting)?;
        sink.write(&self.waiting)
    }

    /// Files are whole after it.
    pub(crate) fn finish(&mut self) -> Result<(), AudioError> {
        self.sink.as_mut().map_or(Ok(()), |sink| sink.finish())
    }
}

/// Opens a file that is to be played.
fn open(path: &Path) -> Result<WavSource<BufReader<File>>, Problem> {
    let what = format!("play {}", path.display());
    let file = File::open(path)
        .map_err(|error| failed("play", &what, error, "name a WAV file that is there"))?;
    WavSource::new(BufReader::new(file)).map_err(|error| failed("play", &what, error, ""))
}

/// A file that begins anew at its end.
struct Repeating {
    path: PathBuf,
    source: WavSource<BufReader<File>>,
}

impl SoundSource for Repeating {
    fn sample_rate(&self) -> u32 {
        self.source.sample_rate()
    }

    fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError> {
        let mut filled = self.source.read(sound)?;
        if filled < sound.len()
            && let Ok(again) = open(&self.path)
            && again.sample_rate() == self.source.sample_rate()
        {
            self.source = again;
            filled += self.source.read(&mut sound[filled..])?;
        }
        Ok(filled)
    }
}

/// What a microphone hears of a loudspeaker and of the room, taken out again: with the feature `enhance`.
#[cfg(feature = "enhance")]
#[derive(Default)]
struct Room {
    enhancer: session_voice::audio::Enhancer,
    spoken: Fitted,
    heard: Fitted,
    waiting: Vec<f32>,
}

#[cfg(feature = "enhance")]
impl Room {
    /// What the microphone should have heard, at 48 kHz.
    fn spoken(&mut self, rate: u32, sound: &[f32]) -> Result<Vec<f32>, AudioError> {
        self.waiting.clear();
        self.spoken.push((rate, RATE), sound, &mut self.waiting)?;
        let mut better = Vec::new();
        self.enhancer.spoken(&self.waiting, &mut better);
        Ok(better)
    }

    /// What the loudspeaker gets.
    fn heard(&mut self, rate: u32, sound: &[f32]) -> Result<(), AudioError> {
        self.waiting.clear();
        self.heard.push((rate, RATE), sound, &mut self.waiting)?;
        self.enhancer.heard(&self.waiting);
        Ok(())
    }
}

/// Without the feature there is none.
#[cfg(not(feature = "enhance"))]
enum Room {}

#[cfg(not(feature = "enhance"))]
impl Room {
    fn spoken(&self, _: u32, _: &[f32]) -> Result<Vec<f32>, AudioError> {
        match *self {}
    }

    fn heard(&self, _: u32, _: &[f32]) -> Result<(), AudioError> {
        match *self {}
    }
}

/// Where a microphone is.
#[cfg(feature = "enhance")]
fn room(wanted: bool) -> Option<Room> {
    wanted.then(Room::default)
}

#[cfg(not(feature = "enhance"))]
fn room(_: bool) -> Option<Room> {
    None
}

/// The microphone, or something else that is heard; and whether it is one.
#[cfg(feature = "devices")]
fn microphone(json: bool) -> (Box<dyn SoundSource>, bool) {
    match session_voice::audio::Microphone::open() {
        Ok(microphone) => (Box::new(microphone), true),
        Err(error) => {
            missing(json, "microphone", &error.to_string(), "a tone is sent");
            (Box::new(Tone::new(440.0)), false)
        }
    }
}

#[cfg(not(feature = "devices"))]
fn microphone(json: bool) -> (Box<dyn SoundSource>, bool) {
    let why = "this build has no devices (feature devices), --play names a file";
    missing(json, "microphone", why, "a tone is sent");
    (Box::new(Tone::new(440.0)), false)
}

#[cfg(feature = "devices")]
fn loudspeaker(json: bool) -> Option<Box<dyn SoundSink>> {
    match session_voice::audio::Loudspeaker::open() {
        Ok(loudspeaker) => Some(Box::new(loudspeaker)),
        Err(error) => {
            missing(json, "loudspeaker", &error.to_string(), "nothing is heard");
            None
        }
    }
}

#[cfg(not(feature = "devices"))]
fn loudspeaker(json: bool) -> Option<Box<dyn SoundSink>> {
    let why = "this build has no devices (feature devices), --record names a file";
    missing(json, "loudspeaker", why, "nothing is heard");
    None
}

/// A device is not there: what happens in its place. It is told also to who wants to hear only of problems.
fn missing(json: bool, device: &str, why: &str, instead: &str) {
    if json {
        let facts = json!({ "device": device, "why": why, "instead": instead });
        Screen::new(true, false, false).tell("no-device", facts, "");
    } else {
        eprintln!("call: {why}; {instead}");
    }
}

#[cfg(all(test, feature = "enhance"))]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
mod tests {
    use super::*;
    use session_voice::audio::Babble;
    use std::sync::{Arc, Mutex};

    /// A loudspeaker that the microphone hears: quieter, and 40 ms later.
    #[derive(Clone)]
    struct Echoes(Arc<Mutex<Vec<f32>>>);

    impl SoundSink for Echoes {
        fn sample_rate(&self) -> u32 {
            RATE
        }

        fn write(&mut self, sound: &[f32]) -> Result<(), AudioError> {
            self.0.lock().unwrap().extend_from_slice(sound);
            Ok(())
        }

        fn finish(&mut self) -> Result<(), AudioError> {
            Ok(())
        }
    }

    impl SoundSource for Echoes {
        fn sample_rate(&self) -> u32 {
            RATE
        }

        fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError> {
            let mut heard = self.0.lock().unwrap();
            for (place, sample) in sound.iter_mut().zip(heard.drain(..480)) {
                *place = sample * 0.4;
            }
            Ok(sound.len())
        }
    }

    /// The power of what is left of an echo in the end, against the echo's.
    fn left(room: Option<Room>) -> f32 {
        let echoes = Echoes(Arc::new(Mutex::new(vec![0.0; 1_920])));
        let mut sound = Sound {
            source: Box::new(echoes.clone()),
            sink: Some(Box::new(echoes)),
            spoken: Fitted::default(),
            heard: Fitted::default(),
            waiting: Vec::new(),
            room,
            is_over: false,
        };
        let (mut peer, mut piece) = (Babble::new(1), [0.0; 480]);
        let (mut echo, mut spoken) = (0.0, 0.0);
        for tick in 0..800 {
            peer.read(&mut piece).unwrap();
            sound.hear(&piece, RATE).unwrap();
            let said = sound.speak(RATE).unwrap();
            if tick >= 600 {
                echo += piece.iter().map(|s| s * s * 0.16).sum::<f32>();
                spoken += said.iter().map(|s| s * s).sum::<f32>();
            }
        }
        spoken / echo
    }

    #[test]
    fn the_peer_does_not_hear_itself() {
        assert!(left(None) > 0.8, "{}", left(None));
        let left = left(Some(Room::default()));
        assert!(left < 0.02, "{left}");
    }
}
