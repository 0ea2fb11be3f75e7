//! What is sent: a file, or random data, in pieces that are hashed as they are read.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use session_file::sanitize_name;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::tools::Failure;

/// Bytes of one piece.
const PIECE: usize = 256 * 1024;

/// The name of what has none.
const RANDOM_NAME: &str = "random.bin";

/// Something to send.
pub(super) struct Source {
    name: String,
    size: u64,
    reader: Box<dyn Read + Send>,
}

impl Source {
    /// A file.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let what = format!("open {}", path.display());
        let fail = |error: io::Error| {
            let hint = if error.kind() == io::ErrorKind::PermissionDenied {
                "choose a file that you may read"
            } else {
                "give a path to a file, or none for random data"
            };
            Failure::new(what.clone(), error.to_string(), hint)
        };
        let file = File::open(path).map_err(fail)?;
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() {
            return Err(Failure::new(
                what,
                "it is not a regular file",
                "pack a folder into an archive first",
            ));
        }
        let name = path.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        if let Err(error) = sanitize_name(&name) {
            return Err(Failure::new(
                format!("send {name:?}"),
                format!("its receiver would refuse the name: {error}"),
                "give the file a name that every system takes",
            ));
        }
        Ok(Self {
            name,
            size: metadata.len(),
            reader: Box::new(file),
        })
    }

    /// So many bytes that nobody has seen before.
    pub(super) fn random(size: u64) -> Self {
        let noise = Noise(RandomState::new().hash_one("noise"));
        Self {
            name: RANDOM_NAME.to_owned(),
            size,
            reader: Box::new(noise.take(size)),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Bytes that there are, as far as is known beforehand.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Reads to the end, on a thread that may wait for a disk. Answers the hash of what was handed out.
    pub(super) fn read_all(mut self, pieces: &mpsc::Sender<Bytes>) -> io::Result<String> {
        let mut hasher = Sha256::new();
        let mut buffer = BytesMut::new();
        loop {
            buffer.resize(PIECE, 0);
            let count = match self.reader.read(&mut buffer) {
                Ok(0) => return Ok(hex(&hasher.finalize())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..count]);
            let piece = buffer.split_to(count).freeze();
            if pieces.blocking_send(piece).is_err() {
                return Err(io::Error::other("nobody takes the file any more"));
            }
        }
    }
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A stream of numbers without a pattern (SplitMix64).
struct Noise(u64);

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for chunk in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let bytes = (z ^ (z >> 31)).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
        Ok(buffer.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces_of(source: Source) -> (Vec<u8>, String) {
        let (sender, mut receiver) = mpsc::channel(64);
        let hash = source.read_all(&sender).unwrap();
        drop(sender);
        let mut bytes = Vec::new();
        while let Some(piece) = receiver.blocking_recv() {
            bytes.extend_from_slice(&piece);
        }
        (bytes, hash)
    }

    #[test]
    fn random_data_has_its_size_and_is_new_each_time() {
        let (first, hash) = pieces_of(Source::random(1_000_003));
        assert_eq!(first.len(), 1_000_003);
        assert_eq!(hash, hex(&Sha256::digest(&first)));
        let (second, _) = pieces_of(Source::random(1_000_003));
        assert_ne!(first, second);
        let (none, hash) = pieces_of(Source::random(0));
        assert!(none.is_empty());
        assert!(hash.starts_with("e3b0c44298fc1c14"), "the hash of nothing");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_with_a_reason() {
        let missing = Source::open(Path::new("/no/such/file")).err().unwrap();
        assert!(missing.to_string().contains("give a path to a file"));
        let folder = Source::open(Path::new(env!("CARGO_MANIFEST_DIR")))
            .err()
            .unwrap();
        assert!(folder.to_string().contains("not a regular file"));
    }
}
