//! Which characters and names XML allows.

/// The byte may begin a name without prefix.
const START: u8 = 1;
/// The byte may continue a name without prefix.
const CONTINUE: u8 = 2;

/// For ASCII, the productions of names.
const CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => START | CONTINUE,
            b'0'..=b'9' | b'-' | b'.' => CONTINUE,
            _ => 0,
        };
        byte += 1;
    }
    classes
};

/// What [`survey`] found in a text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Survey {
    /// There is a tab, line feed or carriage return.
    pub(super) line_space: bool,
    /// There is a `]`.
    pub(super) bracket: bool,
}

/// Looks through a whole text at once, so that most of its parts need no second look. The error is the first character
/// that XML 1.0 §2.2 does not allow, and where it is.
pub(super) fn survey(text: &str) -> Result<Survey, (char, usize)> {
    // Without a branch within a block, for the compiler to turn it into vector instructions.
    let (mut control, mut bracket, mut last_of_plane) = (0, 0, 0);
    for block in text.as_bytes().chunks(64) {
        for &byte in block {
            control |= u8::from(byte < b' ');
            bracket |= u8::from(byte == b']');
            // U+FFFE and U+FFFF begin with this, as do many others.
            last_of_plane |= u8::from(byte == 0xef);
        }
    }
    if (control | last_of_plane) != 0
        && let Some((at, character)) = text.char_indices().find(|&(_, c)| !is_character(c))
    {
        return Err((character, at));
    }
    Ok(Survey {
        line_space: control != 0,
        bracket: bracket != 0,
    })
}

/// Production `Char` of XML 1.0 §2.2.
pub(super) fn is_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// Production `S` of XML 1.0 §2.3.
pub(crate) fn is_space(byte: u8) -> bool {
    byte <= b' ' && matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// Where the first of a few bytes is. For what is mostly short (values of attributes are): a call of `memchr` then costs
/// more than it saves, so eight bytes at a time are looked at in place.
#[inline]
pub(crate) fn find_any<const N: usize>(needles: [u8; N], bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (blocks, rest) = bytes.as_chunks::<8>();
    for (index, block) in blocks.iter().enumerate() {
        let block = u64::from_le_bytes(*block);
        // The top bit of each byte that equals `needle`, and perhaps of some above such a byte, but of none below.
        let equal = |needle: u8| {
            let difference = block ^ (ONES * u64::from(needle));
            difference.wrapping_sub(ONES) & !difference & TOPS
        };
        let hits = needles.iter().fold(0, |hits, &needle| hits | equal(needle));
        if hits != 0 {
            return Some(8 * index + hits.trailing_zeros() as usize / 8);
        }
    }
    let in_rest = rest.iter().position(|byte| needles.contains(byte));
    in_rest.map(|at| 8 * blocks.len() + at)
}

/// Where the name without prefix (`NCName` of Namespaces in XML 1.0 §3) ends that starts at `start`; `start` if none does.
#[inline]
pub(super) fn name_end(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = match bytes.get(start) {
        Some(&first) if CLASSES[usize::from(first)] & START != 0 => start + 1,
        Some(128..) => start + exotic_len(text, start, START),
        _ => start,
    };
    while at > start {
        let rest = bytes.get(at..).unwrap_or_default();
        let end = rest
            .iter()
            .position(|&byte| CLASSES[usize::from(byte)] & CONTINUE == 0);
        at += end.unwrap_or(rest.len());
        match bytes.get(at) {
            Some(128..) => match exotic_len(text, at, CONTINUE) {
                0 => break,
                len => at += len,
            },
            _ => break,
        }
    }
    at
}

/// Whether all of `text` is a name without prefix.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && name_end(text, 0) == text.len()
}

/// The length of the character beyond ASCII at `at`, if it can be in a name there; else 0.
#[cold]
fn exotic_len(text: &str, at: usize, class: u8) -> usize {
    let next = text.get(at..).and_then(|rest| rest.chars().next());
    next.filter(|&c| is_exotic(c, class))
        .map_or(0, char::len_utf8)
}

/// Beyond ASCII, the productions of names: `NameStartChar` and `NameChar` of XML 1.0 §2.3.
fn is_exotic(c: char, class: u8) -> bool {
    let start = matches!(c,
        '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}' | '\u{370}'..='\u{37d}'
        | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
        | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}'
        | '\u{fdf0}'..='\u{fffd}' | '\u{10000}'..='\u{effff}');
    let only_later = matches!(c, '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}');
    start || (class == CONTINUE && only_later)
}
