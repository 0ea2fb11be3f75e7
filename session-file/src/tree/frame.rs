//! The frames of a tree's stream. Numbers are LEB128; a file is known by its place among the entries, from 0.

use super::{EntryKind, TreeEntry, TreeError, TreePath, path::PATH_BYTES_MAX};
use crate::{Hash, HashAlgorithm};
use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Most bytes of a file in one frame.
pub(super) const DATA_MAX: usize = 64 * 1024;

const FOLDER: u8 = 1;
const FILE: u8 = 2;
const HASHED_FILE: u8 = 3;
const END: u8 = 4;
const DATA: u8 = 5;
const DONE: u8 = 6;
const GONE: u8 = 7;
const FINISHED: u8 = 8;
const WANT: u8 = 16;
const SKIP: u8 = 17;
const REFUSE: u8 = 18;

const DIGEST: usize = 32;

/// What is said in a stream. The sender says what stands above `Want`, the receiver the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The next entry.
    Entry(TreeEntry),
    /// There are no more entries.
    End,
    /// The next bytes of a file.
    Data(u64, Bytes),
    /// All bytes of a file were sent; its hash.
    Done(u64, Hash),
    /// A file is not there any more, or is another.
    Gone(u64),
    /// Nothing more follows.
    Finished,
    /// A file is wanted from this byte on.
    Want(u64, u64),
    /// A file is there already.
    Skip(u64),
    /// A file is not taken.
    Refuse(u64),
}

/// Why nothing was read.
enum Stop {
    /// More bytes are needed.
    More,
    Wrong(TreeError),
}

impl Frame {
    pub(super) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Entry(entry) => write_entry(entry, out),
            Self::End => out.put_u8(END),
            Self::Data(file, bytes) => {
                out.put_u8(DATA);
                number(*file, out);
                number(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Self::Done(file, hash) => {
                out.put_u8(DONE);
                number(*file, out);
                out.extend_from_slice(hash.value());
            }
            Self::Gone(file) => {
                out.put_u8(GONE);
                number(*file, out);
            }
            Self::Finished => out.put_u8(FINISHED),
            Self::Want(file, offset) => {
                out.put_u8(WANT);
                number(*file, out);
                number(*offset, out);
            }
            Self::Skip(file) => {
                out.put_u8(SKIP);
                number(*file, out);
            }
            Self::Refuse(file) => {
                out.put_u8(REFUSE);
                number(*file, out);
            }
        }
    }

    /// Takes the first frame off the buffer; `None` when it is not there as a whole yet.
    ///
    /// # Errors
    /// [`TreeError`]; the buffer is of no use then.
    pub(super) fn read(buffer: &mut BytesMut) -> Result<Option<Self>, TreeError> {
        let mut reader = Reader {
            bytes: buffer,
            at: 0,
        };
        match reader.frame() {
            Ok((frame, data)) => {
                let at = reader.at;
                buffer.advance(at);
                Ok(Some(match data {
                    Some((file, length)) => Self::Data(file, buffer.split_to(length).freeze()),
                    None => frame,
                }))
            }
            Err(Stop::More) => Ok(None),
            Err(Stop::Wrong(error)) => Err(error),
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// A frame; for data, of which file and how many bytes, which stand behind it.
    fn frame(&mut self) -> Result<(Frame, Option<(u64, usize)>), Stop> {
        let frame = match self.byte()? {
            kind @ (FOLDER | FILE | HASHED_FILE) => Frame::Entry(self.entry(kind)?),
            END => Frame::End,
            DATA => {
                let (file, length) = (self.number()?, self.number()?);
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if length == 0 || length > DATA_MAX {
                    return Err(wrong("data", "not between 1 and 65,536 bytes"));
                }
                if self.bytes.len() - self.at < length {
                    return Err(Stop::More);
                }
                return Ok((Frame::End, Some((file, length))));
            }
            DONE => {
                let file = self.number()?;
                Frame::Done(file, self.hash()?)
            }
            GONE => Frame::Gone(self.number()?),
            FINISHED => Frame::Finished,
            WANT => Frame::Want(self.number()?, self.number()?),
            SKIP => Frame::Skip(self.number()?),
            REFUSE => Frame::Refuse(self.number()?),
            _ => return Err(wrong("frame", "of no known kind")),
        };
        Ok((frame, None))
    }

    fn entry(&mut self, kind: u8) -> Result<TreeEntry, Stop> {
        let mode = (self.number()? & 0o777) as u16;
        let modified = match self.byte()? {
            0 => None,
            1 => {
                let seconds = self.number()?;
                let nanoseconds = u32::try_from(self.number()?)
                    .ok()
                    .filter(|n| *n < 1_000_000_000);
                let nanoseconds =
                    nanoseconds.ok_or_else(|| wrong("modified", "more than a second"))?;
                // Zigzag, so that small numbers of either sign are short.
                let seconds = (seconds >> 1) as i64 ^ -((seconds & 1) as i64);
                Some((seconds, nanoseconds))
            }
            _ => return Err(wrong("modified", "neither there nor not there")),
        };
        let kind = match kind {
            FOLDER => EntryKind::Folder,
            FILE => EntryKind::File {
                size: self.number()?,
                hash: None,
            },
            _ => EntryKind::File {
                size: self.number()?,
                hash: Some(self.hash()?),
            },
        };
        let length = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if length > PATH_BYTES_MAX {
            return Err(Stop::Wrong(super::PathError::TooLong(length).into()));
        }
        let text = std::str::from_utf8(self.take(length)?);
        let text = text.map_err(|_| wrong("path", "not UTF-8"))?;
        let path = TreePath::new(text).map_err(|error| Stop::Wrong(error.into()))?;
        Ok(TreeEntry {
            path,
            kind,
            mode,
            modified,
        })
    }

    fn hash(&mut self) -> Result<Hash, Stop> {
        let digest = self.take(DIGEST)?;
        Hash::new(HashAlgorithm::Sha256, digest).ok_or_else(|| wrong("hash", "of the wrong length"))
    }

    fn number(&mut self) -> Result<u64, Stop> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(wrong("number", "more than 64 bits"))
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Stop> {
        let end = self.at + count;
        let bytes = self.bytes.get(self.at..end).ok_or(Stop::More)?;
        self.at = end;
        Ok(bytes)
    }
}

fn write_entry(entry: &TreeEntry, out: &mut BytesMut) {
    out.put_u8(match &entry.kind {
        EntryKind::Folder => FOLDER,
        EntryKind::File { hash: None, .. } => FILE,
        EntryKind::File { hash: Some(_), .. } => HASHED_FILE,
    });
    number(u64::from(entry.mode & 0o777), out);
    match entry.modified {
        None => out.put_u8(0),
        Some((seconds, nanoseconds)) => {
            out.put_u8(1);
            number(((seconds << 1) ^ (seconds >> 63)) as u64, out);
            number(u64::from(nanoseconds), out);
        }
    }
    if let EntryKind::File { size, hash } = &entry.kind {
        number(*size, out);
        if let Some(hash) = hash {
            out.extend_from_slice(hash.value());
        }
    }
    number(entry.path.as_str().len() as u64, out);
    out.extend_from_slice(entry.path.as_str().as_bytes());
}

fn number(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn wrong(field: &'static str, problem: &'static str) -> Stop {
    Stop::Wrong(TreeError::Malformed { field, problem })
}
