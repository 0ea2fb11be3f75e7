//! Folders as they travel in a share: tar archives (POSIX.1-1988 ustar, with the long names of GNU and of POSIX.1-2001).

use crate::TreePath;
use bytes::Bytes;
use thiserror::Error;

/// Bytes of a block, of which an archive consists.
pub const TAR_BLOCK: usize = 512;

/// Most bytes of a long name, and of what is said in front of a file.
const NAME_MAX: u64 = 8 * 1_024;

/// Entries of one archive, at most.
pub const TAR_ENTRIES_MAX: u64 = 100_000;

/// Something of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TarEvent {
    /// A folder. It leads nowhere but into the folder that is received.
    Folder(TreePath),
    /// A file of so many bytes, which follow.
    File(TreePath, u64),
    /// Bytes of the last file.
    Bytes(Bytes),
    /// Neither file nor folder, such as a link: what there was of it is left out.
    LeftOut(Option<TreePath>),
}

/// Why something is no archive that is taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TarError {
    /// A header whose sum or numbers are wrong.
    #[error("a header of the archive is damaged")]
    Header,
    /// A name that leads elsewhere, or is none on some system.
    #[error("the archive names {0:?}, which is no path in a folder")]
    Name(String),
    /// More than is taken.
    #[error("more than {max} {limit} in an archive")]
    TooMany {
        /// What there are too many of.
        limit: &'static str,
        /// How many are taken.
        max: u64,
    },
    /// Something is missing.
    #[error("the archive ends too early")]
    Short,
}

/// The header of an entry: a file of so many bytes, or a folder without any. What follows a file is its bytes, and zeros up to
/// a whole block ([`tar_padding`]). An archive ends with two blocks of zeros.
///
/// A path that does not fit stands in front, in GNU's way, so that the header may have several blocks.
pub fn tar_header(path: &TreePath, bytes: Option<u64>) -> Vec<u8> {
    let slash = if bytes.is_none() { "/" } else { "" };
    let name = format!("{path}{slash}");
    let mut blocks = Vec::new();
    if name.len() > 100 {
        blocks.extend(header(b"././@LongLink", b'L', name.len() as u64 + 1));
        blocks.extend_from_slice(name.as_bytes());
        blocks.push(0);
        blocks.resize(blocks.len().next_multiple_of(TAR_BLOCK), 0);
    }
    let (kind, size) = match bytes {
        Some(bytes) => (b'0', bytes),
        None => (b'5', 0),
    };
    // A short form for who does not know the long one; it may be cut within a letter, and nobody reads it.
    let short = &name.as_bytes()[..name.len().min(100)];
    blocks.extend(header(short, kind, size));
    blocks
}

/// The zeros behind a file of so many bytes.
pub fn tar_padding(bytes: u64) -> usize {
    let over = (bytes % TAR_BLOCK as u64) as usize;
    (TAR_BLOCK - over) % TAR_BLOCK
}

fn header(name: &[u8], kind: u8, size: u64) -> [u8; TAR_BLOCK] {
    let mut block = [0; TAR_BLOCK];
    block[..name.len()].copy_from_slice(name);
    let mode = if kind == b'5' {
        "0000755\0"
    } else {
        "0000644\0"
    };
    block[100..108].copy_from_slice(mode.as_bytes());
    for zero in [108, 116] {
        block[zero..zero + 8].copy_from_slice(b"0000000\0");
    }
    if size < 1 << 33 {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        // In base 256, as GNU has it.
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum = format!("{:06o}\0 ", sum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    block
}

/// The sum of a header's bytes, in which that of the sum itself counts as spaces.
fn sum(block: &[u8; TAR_BLOCK]) -> u64 {
    let all = block.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let own = block[148..156]
        .iter()
        .map(|byte| u64::from(*byte))
        .sum::<u64>();
    all - own + 8 * 0x20
}

/// Reads an archive, piece by piece.
#[derive(Debug, Default)]
pub struct TarReader {
    block: Vec<u8>,
    state: State,
    /// The name that stands in front of an entry.
    long: Option<String>,
    /// The size that stands in front of an entry.
    size: Option<u64>,
    entries: u64,
    /// Blocks of zeros in a row.
    zeros: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Header,
    /// So many bytes are left of a file, and so many zeros behind.
    File(u64, usize),
    /// So many bytes are left of something that nobody wants.
    Over(u64),
    /// So many are left of what stands in front of an entry, and of the zeros behind; GNU's way or POSIX's.
    Front(Vec<u8>, u64, usize, bool),
    Done,
}

impl TarReader {
    /// The next event off the front of what came; `None` when more has to come first.
    ///
    /// # Errors
    /// [`TarError`]; nothing more of it is to be read.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<TarEvent>, TarError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Done => input.clear(),
                State::File(0, padding) => {
                    let count = (*padding).min(input.len());
                    *padding -= count;
                    let _ = input.split_to(count);
                    if *padding == 0 {
                        self.state = State::Header;
                    }
                }
                State::File(left, _) => {
                    let count = at_most(*left, input.len());
                    *left -= count as u64;
                    return Ok(Some(TarEvent::Bytes(input.split_to(count))));
                }
                State::Over(left) => {
                    let count = at_most(*left, input.len());
                    *left -= count as u64;
                    let _ = input.split_to(count);
                    if *left == 0 {
                        self.state = State::Header;
                    }
                }
                State::Front(text, left, padding, gnu) => {
                    let count = at_most(*left, input.len());
                    *left -= count as u64;
                    text.extend_from_slice(&input.split_to(count));
                    if *left == 0 {
                        let (text, padding, gnu) = (std::mem::take(text), *padding as u64, *gnu);
                        self.state = match padding {
                            0 => State::Header,
                            padding => State::Over(padding),
                        };
                        self.front(&text, gnu)?;
                    }
                }
                State::Header => {
                    let count = (TAR_BLOCK - self.block.len()).min(input.len());
                    self.block.extend_from_slice(&input.split_to(count));
                    if self.block.len() == TAR_BLOCK
                        && let Some(event) = self.header()?
                    {
                        return Ok(Some(event));
                    }
                }
            }
        }
        Ok(None)
    }

    /// Nothing more will come.
    ///
    /// # Errors
    /// [`TarError::Short`] when something is missing. That the blocks of zeros at the end are is forgiven.
    pub fn finish(&self) -> Result<(), TarError> {
        match self.state {
            State::Header if self.block.is_empty() => Ok(()),
            State::Done => Ok(()),
            State::Header | State::File(..) | State::Over(_) | State::Front(..) => {
                Err(TarError::Short)
            }
        }
    }

    fn header(&mut self) -> Result<Option<TarEvent>, TarError> {
        let block: [u8; TAR_BLOCK] = self.block[..].try_into().map_err(|_| TarError::Header)?;
        self.block.clear();
        if block.iter().all(|byte| *byte == 0) {
            self.zeros += 1;
            if self.zeros == 2 {
                self.state = State::Done;
            }
            return Ok(None);
        }
        self.zeros = 0;
        if number(&block[148..156]) != Some(sum(&block)) {
            return Err(TarError::Header);
        }
        self.entries += 1;
        if self.entries > TAR_ENTRIES_MAX {
            return Err(TarError::TooMany {
                limit: "entries",
                max: TAR_ENTRIES_MAX,
            });
        }
        let size = number(&block[124..136]).ok_or(TarError::Header)?;
        let padding = tar_padding(size);
        match block[156] {
            kind @ (b'L' | b'x') => {
                if size == 0 || size > NAME_MAX {
                    let max = NAME_MAX;
                    return Err(TarError::TooMany {
                        limit: "bytes of a name",
                        max,
                    });
                }
                self.state = State::Front(Vec::new(), size, padding, kind == b'L');
                Ok(None)
            }
            // What is said of all files that follow changes nothing here.
            b'g' | b'K' => {
                self.over(size);
                Ok(None)
            }
            kind => self.entry(kind, &block, size),
        }
    }

    fn entry(
        &mut self,
        kind: u8,
        block: &[u8; TAR_BLOCK],
        size: u64,
    ) -> Result<Option<TarEvent>, TarError> {
        let name = match self.long.take() {
            Some(name) => name,
            None => short(block)?,
        };
        let size = self.size.take().unwrap_or(size);
        let plain = name.strip_prefix("./").unwrap_or(&name);
        let folder = kind == b'5' || matches!(kind, b'0' | 0) && plain.ends_with('/');
        let plain = plain.trim_end_matches('/');
        if folder && (plain.is_empty() || plain == ".") {
            // The folder itself.
            self.over(size);
            return Ok(None);
        }
        let path = TreePath::new(plain).map_err(|_| TarError::Name(name.clone()));
        Ok(Some(match kind {
            _ if folder => {
                self.over(size);
                TarEvent::Folder(path?)
            }
            b'0' | b'7' | 0 => {
                self.state = match (size, tar_padding(size)) {
                    (0, _) => State::Header,
                    (size, padding) => State::File(size, padding),
                };
                TarEvent::File(path?, size)
            }
            // Links and devices.
            _ => {
                self.over(if matches!(kind, b'1'..=b'6') { 0 } else { size });
                TarEvent::LeftOut(path.ok())
            }
        }))
    }

    fn over(&mut self, size: u64) {
        self.state = match size.saturating_add(tar_padding(size) as u64) {
            0 => State::Header,
            bytes => State::Over(bytes),
        };
    }

    /// What stands in front of an entry.
    fn front(&mut self, text: &[u8], gnu: bool) -> Result<(), TarError> {
        let text = std::str::from_utf8(text).map_err(|_| TarError::Header)?;
        if gnu {
            self.long = Some(text.trim_end_matches('\0').to_owned());
            return Ok(());
        }
        // Records of "LENGTH KEY=VALUE\n".
        let mut rest = text;
        while !rest.is_empty() {
            let (length, _) = rest.split_once(' ').ok_or(TarError::Header)?;
            let bytes: usize = length.parse().map_err(|_| TarError::Header)?;
            let record = rest.get(length.len() + 1..bytes).ok_or(TarError::Header)?;
            let record = record.strip_suffix('\n').ok_or(TarError::Header)?;
            match record.split_once('=') {
                Some(("path", path)) => self.long = Some(path.to_owned()),
                Some(("size", size)) => {
                    self.size = Some(size.parse().map_err(|_| TarError::Header)?);
                }
                Some(_) => {}
                None => return Err(TarError::Header),
            }
            rest = &rest[bytes..];
        }
        Ok(())
    }
}

fn at_most(left: u64, there: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(there)
}

/// A name as old archives have it: in two parts, where it is long.
fn short(block: &[u8; TAR_BLOCK]) -> Result<String, TarError> {
    let text = |field: &[u8]| {
        let end = field
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(field.len());
        let text = String::from_utf8(field[..end].to_vec());
        text.map_err(|error| TarError::Name(String::from_utf8_lossy(error.as_bytes()).into_owned()))
    };
    let name = text(&block[..100])?;
    let prefix = match &block[257..263] {
        b"ustar\0" => text(&block[345..500])?,
        _ => String::new(),
    };
    Ok(match prefix.is_empty() {
        true => name,
        false => format!("{prefix}/{name}"),
    })
}

/// A number of a header: in octal digits, or in base 256 as GNU has it.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let bytes: [u8; 8] = field[field.len() - 8..].try_into().ok()?;
        let front = &field[1..field.len() - 8];
        let small = field[0] == 0x80 && front.iter().all(|byte| *byte == 0);
        return small.then(|| u64::from_be_bytes(bytes));
    }
    let text = std::str::from_utf8(field).ok()?;
    let digits = text.trim_matches(|letter| letter == ' ' || letter == '\0');
    match digits {
        "" => Some(0),
        digits => u64::from_str_radix(digits, 8).ok(),
    }
}
