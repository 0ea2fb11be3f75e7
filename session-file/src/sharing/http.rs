//! As much of HTTP/1.1 as a share needs (RFC 9112): requests without bodies, and bodies with a length, in chunks, or up to the
//! end.

use bytes::Bytes;
use thiserror::Error;

/// Most bytes of a head.
const HEAD_MAX: usize = 8 * 1_024;

/// Most bytes of the line in front of a chunk.
const LINE_MAX: usize = 256;

/// What a peer said is no HTTP that makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum HttpError {
    #[error("a head of more than {HEAD_MAX} bytes")]
    Long,
    #[error("no head of HTTP")]
    Head,
    #[error("no length that can be")]
    Length,
    #[error("no chunk that can be")]
    Chunk,
    #[error("it ends too early")]
    Short,
}

/// Collects a head.
#[derive(Debug, Default)]
pub(super) struct HeadReader(Vec<u8>);

impl HeadReader {
    /// Takes what belongs to the head off the front of `input`; the head, when it is whole.
    pub(super) fn push(&mut self, input: &mut Bytes) -> Result<Option<String>, HttpError> {
        while !input.is_empty() {
            let byte = input.split_to(1)[0];
            self.0.push(byte);
            if self.0.ends_with(b"\r\n\r\n") || self.0.ends_with(b"\n\n") {
                let head = std::mem::take(&mut self.0);
                return String::from_utf8(head)
                    .map(Some)
                    .map_err(|_| HttpError::Head);
            }
            if self.0.len() > HEAD_MAX {
                return Err(HttpError::Long);
            }
        }
        Ok(None)
    }
}

/// What a request wants; `None` for another method than GET.
pub(super) fn target(head: &str) -> Result<Option<&str>, HttpError> {
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("GET"), Some(target), Some(version), None) if version.starts_with("HTTP/1.") => {
            Ok(Some(target))
        }
        (Some(_), Some(_), Some(version), None) if version.starts_with("HTTP/1.") => Ok(None),
        _ => Err(HttpError::Head),
    }
}

/// The request for a target.
pub(super) fn request(target: &str, host: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: Keep-Alive\r\n\r\n")
}

/// The head of an answer that has something; without a length it comes in chunks.
pub(super) fn found(kind: &str, bytes: Option<u64>) -> String {
    let framing = match bytes {
        Some(bytes) => format!("Content-Length: {bytes}"),
        None => "Transfer-Encoding: chunked".to_owned(),
    };
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n\r\n")
}

/// The whole of an answer that has nothing.
pub(super) fn without(code: u16, why: &str) -> String {
    format!("HTTP/1.1 {code} {why}\r\nContent-Length: 0\r\n\r\n")
}

/// An answer's body, as it is read.
#[derive(Debug)]
pub(super) struct Body {
    state: State,
    /// It is what was asked for, and not what is said instead.
    pub(super) found: bool,
    /// How many bytes it has; `None` when that is not known.
    pub(super) bytes: Option<u64>,
}

#[derive(Debug)]
enum State {
    /// So many bytes are left.
    Length(u64),
    /// Up to the end of the channel.
    Close,
    /// The line in front of a chunk.
    Size(Vec<u8>),
    /// So many bytes are left of a chunk.
    Chunk(u64),
    /// The end of its line.
    Behind(u8),
    /// Lines behind the last chunk: how many bytes the present one has, and how many all have.
    Trailer(usize, usize),
    Done,
}

impl Body {
    /// The body of an answer with this head; `None` when the answer is still to come.
    pub(super) fn of(head: &str) -> Result<Option<Self>, HttpError> {
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let code = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1));
        let code: u16 = code
            .and_then(|code| code.parse().ok())
            .ok_or(HttpError::Head)?;
        let (state, bytes) = match code {
            100..200 => return Ok(None),
            200 => framing(lines)?,
            // These have none, whatever they say (RFC 9112 §6.3).
            204 | 304 => (State::Done, Some(0)),
            // Nobody wants it: where it ends matters only to what comes behind.
            _ => framing(lines).unwrap_or((State::Close, None)),
        };
        Ok(Some(Self {
            state,
            found: code == 200,
            bytes,
        }))
    }

    /// Whether it has no end but that of the channel.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Close)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Nothing more will come.
    pub(super) fn end(&mut self) -> Result<(), HttpError> {
        match self.state {
            State::Close | State::Done => {
                self.state = State::Done;
                Ok(())
            }
            State::Length(_)
            | State::Size(_)
            | State::Chunk(_)
            | State::Behind(_)
            | State::Trailer(..) => Err(HttpError::Short),
        }
    }

    /// The next of its bytes off the front of what came; `None` when more has to come first, or it is done.
    pub(super) fn take(&mut self, input: &mut Bytes) -> Result<Option<Bytes>, HttpError> {
        while !input.is_empty() {
            match &mut self.state {
                State::Length(left) | State::Chunk(left) => {
                    let count = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(input.len());
                    *left -= count as u64;
                    let piece = input.split_to(count);
                    if let State::Length(0) = self.state {
                        self.state = State::Done;
                    } else if let State::Chunk(0) = self.state {
                        self.state = State::Behind(0);
                    }
                    return Ok(Some(piece));
                }
                State::Close => return Ok(Some(input.split_to(input.len()))),
                State::Done => return Ok(None),
                State::Size(line) => {
                    line.push(input.split_to(1)[0]);
                    if line.len() > LINE_MAX {
                        return Err(HttpError::Chunk);
                    }
                    if line.ends_with(b"\n") {
                        self.state = match chunk(line)? {
                            0 => State::Trailer(0, 0),
                            bytes => State::Chunk(bytes),
                        };
                    }
                }
                State::Behind(seen) => match (input.split_to(1)[0], *seen) {
                    (b'\r', 0) => *seen = 1,
                    (b'\n', _) => self.state = State::Size(Vec::new()),
                    _ => return Err(HttpError::Chunk),
                },
                State::Trailer(line, all) => {
                    *all += 1;
                    if *all > HEAD_MAX {
                        return Err(HttpError::Long);
                    }
                    match input.split_to(1)[0] {
                        b'\n' if *line == 0 => self.state = State::Done,
                        b'\n' => *line = 0,
                        b'\r' => {}
                        _ => *line += 1,
                    }
                }
            }
        }
        Ok(None)
    }
}

/// How a body is framed, and how many bytes it has, where that is known.
fn framing<'a>(lines: impl Iterator<Item = &'a str>) -> Result<(State, Option<u64>), HttpError> {
    let (mut state, mut bytes) = (State::Close, None);
    for (key, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if key.eq_ignore_ascii_case("content-length") {
            let length = value.parse().map_err(|_| HttpError::Length)?;
            // Said twice it has to be the same (RFC 9112 §6.3).
            if bytes.is_some_and(|known| known != length) {
                return Err(HttpError::Length);
            }
            bytes = Some(length);
        } else if key.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(HttpError::Chunk);
            }
            state = State::Size(Vec::new());
        }
    }
    match (&state, bytes) {
        // Who says both means to smuggle something.
        (State::Size(_), Some(_)) => return Err(HttpError::Length),
        (State::Close, Some(0)) => state = State::Done,
        (State::Close, Some(length)) => state = State::Length(length),
        (_, _) => {}
    }
    Ok((state, bytes))
}

/// The bytes of a chunk, from the line in front of it.
fn chunk(line: &[u8]) -> Result<u64, HttpError> {
    let text = std::str::from_utf8(line).map_err(|_| HttpError::Chunk)?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let size = u64::from_str_radix(digits, 16).ok().filter(|_| plain);
    size.ok_or(HttpError::Chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8], piece: usize) -> Result<(Option<Vec<u8>>, bool), HttpError> {
        let (mut head, mut body, mut found) = (HeadReader::default(), None, Vec::new());
        for piece in text.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            if body.is_none() {
                let Some(head) = head.push(&mut input)? else {
                    continue;
                };
                match Body::of(&head)? {
                    Some(read) => body = Some(read),
                    None => continue,
                }
            }
            if let Some(body) = &mut body {
                while let Some(some) = body.take(&mut input)? {
                    found.extend_from_slice(&some);
                }
            }
        }
        let done = body.as_ref().is_some_and(Body::is_done);
        Ok((body.filter(|body| body.found).map(|_| found), done))
    }

    #[test]
    fn bodies_are_read_however_they_are_cut() {
        let long = format!("{}hello", found("text/plain", Some(5)));
        let chunks = format!(
            "{}2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nA: b\r\n\r\n",
            found("x/y", None)
        );
        for text in [long.as_bytes(), chunks.as_bytes()] {
            for piece in [1, 2, 3, 1_000] {
                assert_eq!(read(text, piece), Ok((Some(b"hello".to_vec()), true)));
            }
        }
        let open = b"HTTP/1.0 200 OK\n\nhello";
        assert_eq!(read(open, 4), Ok((Some(b"hello".to_vec()), false)));
        assert_eq!(
            read(without(404, "Not Found").as_bytes(), 9),
            Ok((None, true))
        );
        let nothing = "HTTP/1.1 404 Not Found\r\n";
        for (rest, done) in [
            ("Content-Length: 5\r\n\r\nhello", true),
            ("Content-Length: 5\r\n\r\nhell", false),
            (
                "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
                true,
            ),
            ("Transfer-Encoding: gzip\r\n\r\nhello", false),
            ("\r\nhello", false),
        ] {
            let text = format!("{nothing}{rest}");
            assert_eq!(read(text.as_bytes(), 1_000), Ok((None, done)), "{rest}");
        }
        let unchanged = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(read(unchanged, 9), Ok((None, true)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, error) in [
            ("hello\r\n\r\n", HttpError::Head),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
                HttpError::Length,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
                HttpError::Length,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                HttpError::Length,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n",
                HttpError::Chunk,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
                HttpError::Chunk,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                HttpError::Chunk,
            ),
        ] {
            assert_eq!(read(text.as_bytes(), 7), Err(error), "{text}");
        }
        let endless = vec![b'x'; HEAD_MAX + 2];
        assert_eq!(read(&endless, 100), Err(HttpError::Long));
        let line = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            "0".repeat(300)
        );
        assert_eq!(read(line.as_bytes(), 100), Err(HttpError::Chunk));
        assert_eq!(target("GET /a HTTP/1.1\r\n\r\n"), Ok(Some("/a")));
        assert_eq!(target("PUT /a HTTP/1.1\r\n\r\n"), Ok(None));
        assert_eq!(target("GET /a b HTTP/1.1\r\n\r\n"), Err(HttpError::Head));
    }

    proptest! {
        #[test]
        fn nothing_that_arrives_is_a_panic(text in proptest::collection::vec(any::<u8>(), 0..300), piece in 1_usize..20) {
            let _ = read(&text, piece);
            let chunked = [found("x/y", None).as_bytes(), &text].concat();
            let _ = read(&chunked, piece);
        }
    }
}
