//! Names that peers give to files. A name is never a path.

use std::{fmt, sync::Arc};
use thiserror::Error;

/// Most bytes of a file name: what common file systems take in one component.
pub const NAME_BYTES_MAX: usize = 255;

/// A name that can stand for a file in a directory of our choice: one component on every system, and nothing else.
///
/// It can be made only by [`sanitize_name`] and [`FileName::last_of`]. What it cannot promise is that the name is free,
/// or that the file is harmless: see [`is_hidden`](Self::is_hidden).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Arc<str>);

/// Why a name is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// There is none.
    #[error("the name is empty")]
    Empty,
    /// More than [`NAME_BYTES_MAX`].
    #[error("the name has {0} bytes, more than {NAME_BYTES_MAX}")]
    TooLong(usize),
    /// `.` or `..`.
    #[error("the name means a directory")]
    Directory,
    /// A separator, a control character, one that turns the reading direction, or one that some system reserves.
    #[error("the name contains {0:?}")]
    Character(char),
    /// A space at either end, or a dot at the end, which some systems drop.
    #[error("the name begins or ends with {0:?}")]
    Edge(char),
    /// The name of a device, whatever follows the first dot.
    #[error("the name is that of a device")]
    Device,
}

/// Judges a name that a peer gave.
///
/// The rules of all systems are applied on every system, because files travel on. The name is refused, never mended:
/// two names that differ stay different.
///
/// # Errors
/// What is wrong with it.
///
/// ```
/// use session_file::{NameError, sanitize_name};
/// assert_eq!(sanitize_name("photo.jpg").unwrap().as_str(), "photo.jpg");
/// assert_eq!(sanitize_name("../.ssh/authorized_keys"), Err(NameError::Character('/')));
/// assert_eq!(sanitize_name("nul.txt"), Err(NameError::Device));
/// ```
pub fn sanitize_name(name: &str) -> Result<FileName, NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some(character) = name.chars().find(|&c| is_refused(c)) {
        return Err(NameError::Character(character));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    if matches!(name, "." | "..") {
        return Err(NameError::Directory);
    }
    let edge = |c: char| c.is_whitespace();
    if let Some(character) = name.chars().next().filter(|&c| edge(c)) {
        return Err(NameError::Edge(character));
    }
    if let Some(character) = name.chars().next_back().filter(|&c| edge(c) || c == '.') {
        return Err(NameError::Edge(character));
    }
    if is_device(name) {
        return Err(NameError::Device);
    }
    Ok(FileName(name.into()))
}

impl FileName {
    /// The name in what may be a path: what follows the last separator, of whatever system. libjingle's `pcp` sends
    /// `recv:` with the path that its user typed.
    ///
    /// # Errors
    /// As [`sanitize_name`], about that part.
    pub fn last_of(path: &str) -> Result<Self, NameError> {
        let last = path.rsplit(['/', '\\']).next().unwrap_or_default();
        sanitize_name(last)
    }

    /// A name that was judged as part of a path.
    pub(crate) fn of_path(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it begins with a dot: a file that is not shown, and may configure a program.
    pub fn is_hidden(&self) -> bool {
        self.0.starts_with('.')
    }
}

impl AsRef<str> for FileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_refused(character: char) -> bool {
    matches!(
        character,
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|'
    ) || misleads(character)
}

/// Whether a character steers what it is shown on.
pub(crate) fn misleads(character: char) -> bool {
    match character {
        // What turns the reading direction makes a name look like another; what separates lines breaks a listing.
        '\u{61c}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}'
        | '\u{feff}' => true,
        other => other.is_control(),
    }
}

/// The device names of Windows, which it sees in front of any extension, also behind spaces.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end();
    let equals = |device: &str| stem.eq_ignore_ascii_case(device);
    if ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .into_iter()
        .any(equals)
    {
        return true;
    }
    let mut characters = stem.chars();
    let number = characters.next_back();
    let port = characters.as_str();
    (port.eq_ignore_ascii_case("com") || port.eq_ignore_ascii_case("lpt"))
        && number.is_some_and(|n| n.is_ascii_digit() || matches!(n, '¹' | '²' | '³'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn names_of_files_are_taken_as_they_are() {
        for name in [
            "a",
            "photo.jpg",
            ".profile",
            "a..b",
            "...a",
            "Ünïcødé 名前.txt",
            "-rf",
            "console.log",
            "com",
            "com10",
            "lpt",
            "nulls",
            "a'b`c$(d)&;",
            "COM¹0",
        ] {
            assert_eq!(sanitize_name(name).unwrap().as_str(), name);
        }
        assert!(sanitize_name(".profile").unwrap().is_hidden());
        assert!(!sanitize_name("profile.").is_ok_and(|n| n.is_hidden()));
        assert!(sanitize_name(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn what_is_more_than_a_name_is_refused() {
        use NameError::{Character, Device, Directory, Edge, Empty, TooLong};
        for (name, error) in [
            ("", Empty),
            (".", Directory),
            ("..", Directory),
            ("/etc/passwd", Character('/')),
            ("..\\x", Character('\\')),
            ("C:x", Character(':')),
            ("file:stream", Character(':')),
            ("a\0b", Character('\0')),
            ("a\nb", Character('\n')),
            ("a\u{85}b", Character('\u{85}')),
            ("a\u{7f}", Character('\u{7f}')),
            ("gpj.\u{202e}exe", Character('\u{202e}')),
            ("\u{2067}x", Character('\u{2067}')),
            (" x", Edge(' ')),
            ("x ", Edge(' ')),
            ("x.", Edge('.')),
            ("...", Edge('.')),
            ("\u{a0}x", Edge('\u{a0}')),
            ("CON", Device),
            ("aux.c", Device),
            ("Com1", Device),
            ("lpt9.tar.gz", Device),
            ("COM³", Device),
            ("NUL .txt", Device),
            ("conin$", Device),
        ] {
            assert_eq!(sanitize_name(name), Err(error), "{name:?}");
        }
        assert_eq!(sanitize_name(&"x".repeat(256)), Err(TooLong(256)));
        assert_eq!(sanitize_name(&"ü".repeat(128)), Err(TooLong(256)));
    }

    #[test]
    fn of_a_path_only_the_name_is_taken() {
        for (path, name) in [
            ("/tmp/a.txt", Ok("a.txt")),
            ("C:\\Users\\x\\b.txt", Ok("b.txt")),
            ("c.txt", Ok("c.txt")),
            ("dir/", Err(NameError::Empty)),
            ("/tmp/..", Err(NameError::Directory)),
            ("C:d.txt", Err(NameError::Character(':'))),
        ] {
            let found = FileName::last_of(path);
            assert_eq!(found.as_ref().map(FileName::as_str), name.as_ref().copied());
        }
    }

    proptest! {
        /// Whatever is taken is one ordinary component of a path, and stays in the directory that it is joined to.
        #[test]
        fn a_name_is_one_component(name in prop_oneof!["[./\\\\ a:~\0]{0,6}", "\\PC{0,12}", any::<String>()]) {
            if let Ok(name) = sanitize_name(&name) {
                let components: Vec<_> = Path::new(name.as_str()).components().collect();
                prop_assert_eq!(components, vec![Component::Normal(name.as_str().as_ref())]);
                let inside = Path::new("base").join(name.as_str());
                prop_assert_eq!(inside.parent(), Some(Path::new("base")));
                prop_assert_eq!(sanitize_name(name.as_str()), Ok(name.clone()));
            }
        }
    }
}
