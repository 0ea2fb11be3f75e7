//! Writing behind.

use super::{DiskError, Meter, Partial, partial::write_pieces};
use crate::{HashAlgorithm, Hasher};
use bytes::Bytes;
use std::{io::Write as _, path::PathBuf};
use tokio::sync::mpsc;

/// Where bytes go.
#[derive(Debug)]
pub enum Sink {
    /// Into a file.
    File(Box<Partial>),
    /// To standard output.
    Stream(Hasher),
}

/// What has arrived.
#[derive(Debug)]
pub struct Landed {
    /// Where.
    pub sink: Sink,
    /// Why not all of it could be written.
    pub fault: Option<DiskError>,
}

impl Sink {
    /// How many bytes are there.
    pub fn offset(&self) -> u64 {
        match self {
            Self::File(partial) => partial.offset(),
            Self::Stream(hasher) => hasher.length(),
        }
    }

    /// The hasher of what is there.
    pub fn hasher(&self) -> &Hasher {
        match self {
            Self::File(partial) => partial.hasher(),
            Self::Stream(hasher) => hasher,
        }
    }

    /// Writes whatever comes, until nothing more does. On a thread that may wait.
    pub fn fill(self, input: mpsc::Receiver<Vec<Bytes>>, meter: &Meter) -> Landed {
        match self {
            Self::File(partial) => {
                let (partial, fault) = into_file(partial, input, meter);
                Landed {
                    sink: Self::File(partial),
                    fault,
                }
            }
            Self::Stream(hasher) => {
                let (hasher, fault) = into_stream(hasher, input, meter);
                Landed {
                    sink: Self::Stream(hasher),
                    fault,
                }
            }
        }
    }
}

/// Writes into a file. After a fault what comes is not taken, and what was written before stays, put down in the journal as
/// far as that is still possible.
pub fn into_file(
    mut partial: Box<Partial>,
    mut input: mpsc::Receiver<Vec<Bytes>>,
    meter: &Meter,
) -> (Box<Partial>, Option<DiskError>) {
    while let Some(pieces) = input.blocking_recv() {
        if let Err(fault) = partial.write(&pieces).and_then(|()| partial.note_if_due()) {
            input.close();
            // There may be no room for that either.
            let _ = partial.note();
            return (partial, Some(fault));
        }
        meter.add(pieces.iter().map(|piece| piece.len() as u64).sum());
    }
    (partial, None)
}

/// Writes to standard output.
pub fn into_stream(
    mut hasher: Hasher,
    mut input: mpsc::Receiver<Vec<Bytes>>,
    meter: &Meter,
) -> (Hasher, Option<DiskError>) {
    let fail = |error: &std::io::Error| {
        Some(DiskError::io(
            "write",
            PathBuf::from("standard output"),
            error,
        ))
    };
    let mut out = std::io::stdout();
    while let Some(pieces) = input.blocking_recv() {
        // Held no longer than that: others may have something to say there.
        if let Err(error) = write_pieces(&mut out.lock(), &pieces) {
            input.close();
            return (hasher, fail(&error));
        }
        for piece in &pieces {
            hasher.update(piece);
        }
        meter.add(pieces.iter().map(|piece| piece.len() as u64).sum());
    }
    match out.flush() {
        Ok(()) => (hasher, None),
        Err(error) => (hasher, fail(&error)),
    }
}

impl Default for Sink {
    fn default() -> Self {
        Self::Stream(Hasher::new([HashAlgorithm::Sha256]))
    }
}
