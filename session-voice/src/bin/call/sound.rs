//! What is said and heard, at 48 kHz.

use crate::{How, failed};
use session_voice::audio::{
    AudioError, Resampler, SoundSink, SoundSource, Tone, WavSink, WavSource,
};
use session_xmpp::cli::Problem;
use std::{
    fs::File,
    io::{BufReader, BufWriter},
};

/// Samples per second of files that are written.
const RATE: u32 = 48_000;

/// Both directions.
pub(crate) struct Sound {
    source: Box<dyn SoundSource>,
    sink: Option<Box<dyn SoundSink>>,
    /// Between the source and the codec, and between the codec and the sink.
    spoken: Option<Resampler>,
    heard: Option<Resampler>,
    waiting: Vec<f32>,
    /// The source is at its end.
    pub(crate) is_over: bool,
}

impl Sound {
    /// Opens what the options name.
    pub(crate) fn open(how: &How) -> Result<Self, Problem> {
        let source: Box<dyn SoundSource> = match &how.play {
            Some(path) => {
                let what = format!("play {}", path.display());
                let file = File::open(path).map_err(|error| {
                    failed("play", &what, error, "name a WAV file that is there")
                })?;
                let source = WavSource::new(BufReader::new(file));
                Box::new(source.map_err(|error| failed("play", &what, error, ""))?)
            }
            None => microphone(),
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
            None => loudspeaker(),
        };
        Ok(Self {
            source,
            sink,
            spoken: None,
            heard: None,
            waiting: Vec::new(),
            is_over: false,
        })
    }

    /// What is said in ten milliseconds, at a codec's rate. At the source's end, silence.
    pub(crate) fn speak(&mut self, rate: u32) -> Result<Vec<f32>, AudioError> {
        let from = self.source.sample_rate();
        if self
            .spoken
            .as_ref()
            .is_none_or(|spoken| spoken.to_rate() != rate)
        {
            self.spoken = Some(Resampler::new(from, rate)?);
        }
        let mut piece = vec![0.0; (from / 100) as usize];
        if !self.is_over {
            self.is_over = self.source.read(&mut piece)? < piece.len();
        }
        let mut spoken = Vec::new();
        if let Some(resampler) = &mut self.spoken {
            resampler.push(&piece, &mut spoken)?;
        }
        Ok(spoken)
    }

    /// What was heard.
    pub(crate) fn hear(&mut self, sound: &[f32], rate: u32) -> Result<(), AudioError> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        if self
            .heard
            .as_ref()
            .is_none_or(|heard| heard.from_rate() != rate)
        {
            self.heard = Some(Resampler::new(rate, sink.sample_rate())?);
        }
        self.waiting.clear();
        if let Some(resampler) = &mut self.heard {
            resampler.push(sound, &mut self.waiting)?;
        }
        sink.write(&self.waiting)
    }

    /// Files are whole after it.
    pub(crate) fn finish(&mut self) -> Result<(), AudioError> {
        self.sink.as_mut().map_or(Ok(()), |sink| sink.finish())
    }
}

#[cfg(feature = "devices")]
fn microphone() -> Box<dyn SoundSource> {
    match session_voice::audio::Microphone::open() {
        Ok(microphone) => Box::new(microphone),
        Err(error) => {
            eprintln!("call: {error}; a tone is sent");
            Box::new(Tone::new(440.0))
        }
    }
}

#[cfg(not(feature = "devices"))]
fn microphone() -> Box<dyn SoundSource> {
    eprintln!(
        "call: this build has no devices (feature devices); a tone is sent, --play names a file"
    );
    Box::new(Tone::new(440.0))
}

#[cfg(feature = "devices")]
fn loudspeaker() -> Option<Box<dyn SoundSink>> {
    match session_voice::audio::Loudspeaker::open() {
        Ok(loudspeaker) => Some(Box::new(loudspeaker)),
        Err(error) => {
            eprintln!("call: {error}; nothing is heard");
            None
        }
    }
}

#[cfg(not(feature = "devices"))]
fn loudspeaker() -> Option<Box<dyn SoundSink>> {
    None
}
