//! Stanzas out of a byte stream.
//!
//! A [`Splitter`] takes the bytes of a connection as they arrive, cut anywhere, and gives the stream's start tag, each
//! complete stanza, and the stream's end. It looks only as closely as finding those ends takes; what is between them is
//! for [`xml::parse`] to judge. What it refuses at once: what RFC 6120 §11.1 forbids, text between
//! stanzas, and stanzas that are too long or too deep, before they are in memory. Whose stream carries what others write
//! can have such stanzas skipped instead ([`Splitter::next_part`]).
//!
//! The result, errors and their positions included, does not depend on how the bytes are cut. Each byte is looked at a
//! constant number of times.
//!
//! ```
//! use session_core::ElementLimits;
//! use session_xmpp::splitter::{Frame, Framing, Splitter};
//! let mut splitter = Splitter::new(Framing::Stream, &ElementLimits::default());
//! splitter.push(b"<?xml version='1.0'?><stream:stream to='example.org'> <presence/><iq ");
//! assert_eq!(splitter.next_frame()?, Some(Frame::Open(b"<stream:stream to='example.org'>")));
//! assert_eq!(splitter.next_frame()?, Some(Frame::Stanza(b"<presence/>")));
//! assert_eq!(splitter.next_frame()?, None);
//! splitter.push(b"id='1'/></stream:stream>");
//! assert_eq!(splitter.next_frame()?, Some(Frame::Stanza(b"<iq id='1'/>")));
//! assert_eq!(splitter.next_frame()?, Some(Frame::Close));
//! # Ok::<(), session_xmpp::xml::XmlError>(())
//! ```

use std::ops::Range;

use memchr::{memchr, memchr2};
use session_core::{ElementLimit, ElementLimits};

use crate::xml::{self, XmlError, XmlErrorKind};

/// An empty buffer of more bytes than this is given back, so that an idle connection does not hold the memory of its
/// largest stanza.
const BUFFER_KEPT: usize = 16 * 1024;

/// What surrounds the stanzas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// A stream of RFC 6120 §4: an optional XML declaration, a start tag, stanzas, an end tag.
    Stream,
    /// Nothing: one stanza after another, perhaps with white space between.
    Bare,
}

/// A part of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The start tag of the stream, for [`xml::parse_header`].
    Open(&'a [u8]),
    /// A complete element of the first level, for [`xml::parse`].
    Stanza(&'a [u8]),
    /// The end tag of the stream.
    Close,
}

/// A frame, or what takes the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// As [`Splitter::next_frame`] gives it.
    Frame(Frame<'a>),
    /// A stanza that was skipped to its end.
    Skipped {
        /// Its start tag; of one in which the limit was broken, the first bytes.
        tag: &'a [u8],
        /// Which limit it broke.
        limit: ElementLimit,
    },
}

/// Cuts a byte stream into stanzas. See the [module](self).
///
/// After each [`Self::push`], call [`Self::next_frame`] or [`Self::next_part`] until it gives `None`. Then the memory held is at
/// most the limit for a stanza and one push.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    limits: ElementLimits,
    buffer: Vec<u8>,
    /// How many bytes came before the buffer.
    origin: u64,
    /// Where in the buffer the frame at hand starts; what is before was given away.
    start: usize,
    /// The next byte to look at; not before `start`.
    at: usize,
    /// How far behind `start` the tag at hand begins.
    tag: usize,
    stage: Stage,
    state: State,
    /// How many elements of the stanza at hand are open.
    depth: usize,
    /// How far behind `start` the start tag of the stanza at hand ends, once it has.
    head: usize,
    /// Whether the stanza at hand has broken a limit, and is skipped.
    skipping: bool,
    /// The start tag of the stanza that was skipped last, and why it was.
    skipped: (Vec<u8>, ElementLimit),
    /// The name in the start tag of the stream, with prefix.
    name: Vec<u8>,
    /// Where the frame given last started.
    frame: u64,
    failed: Option<XmlError>,
}

/// How far the stream has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was seen; only here, an XML declaration may be.
    Start,
    /// Before the start tag of the stream.
    Prolog,
    /// Among the stanzas.
    Open,
    /// The start tag was an empty element: the end tag is to be reported.
    Closing,
    /// After the end tag.
    Closed,
}

/// What the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// White space outside of stanzas.
    Between,
    /// Text in a stanza.
    Text,
    /// What follows a `<`.
    Less,
    /// What follows `<!`, and this many bytes of [`CDATA`].
    Bang(usize),
    /// A CDATA section, after this many `]` in a row, up to two.
    CData(u8),
    /// What follows `<?`, and this many bytes of [`XML`].
    Question(usize),
    /// The rest of an XML declaration.
    Declaration,
    /// A start tag, outside of quotes; whether the last byte was a `/`.
    Tag { slash: bool },
    /// An attribute's value in these quotes.
    Quote(u8),
    /// An end tag.
    End,
}

/// What follows `<!` in the only markup of that kind that is allowed.
const CDATA: &[u8] = b"[CDATA[";
/// What follows `<?` in an XML declaration.
const XML: &[u8] = b"xml";

/// Of a start tag that is too long itself, the bytes that are kept: a name is among them.
const TAG_KEPT: usize = 1_024;

/// A frame, as a range of the buffer.
enum Found {
    Open(Range<usize>),
    Stanza(Range<usize>),
    Skipped,
    Close,
}

/// An error's kind, and where in the buffer it is.
type Fault = (XmlErrorKind, usize);

impl Splitter {
    /// A splitter at the start of a stream. Of the limits, [`ElementLimits::bytes`] and [`ElementLimits::depth`] apply
    /// here: to each stanza, and the former to the start tag of the stream as well.
    pub fn new(framing: Framing, limits: &ElementLimits) -> Self {
        Self {
            framing,
            limits: *limits,
            buffer: Vec::new(),
            origin: 0,
            start: 0,
            at: 0,
            tag: 0,
            stage: Stage::first(framing),
            state: State::Between,
            depth: 0,
            head: 0,
            skipping: false,
            skipped: (Vec::new(), ElementLimit::Bytes),
            name: Vec::new(),
            frame: 0,
            failed: None,
        }
    }

    /// Takes bytes that have arrived. They are ignored after an error.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.compact();
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next part of the stream, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// [`XmlError`] with the position since the splitter was made or [reset](Self::reset), and that same error ever
    /// after.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, XmlError> {
        match self.find(false)? {
            None => Ok(None),
            Some(Found::Open(range)) => Ok(Some(Frame::Open(&self.buffer[range]))),
            Some(Found::Stanza(range)) => Ok(Some(Frame::Stanza(&self.buffer[range]))),
            // Only where `next_part` has begun to skip.
            Some(Found::Skipped) => {
                let kind = XmlErrorKind::Limit(self.skipped.1);
                Err(self.fail((kind, self.start)))
            }
            Some(Found::Close) => Ok(Some(Frame::Close)),
        }
    }

    /// As [`Self::next_frame`], but a stanza that is too long or too deep is no error: its bytes are dropped as they arrive,
    /// and it is reported once its end has. What is no XML is an error there as well, as far as this looks.
    ///
    /// # Errors
    /// As [`Self::next_frame`].
    pub fn next_part(&mut self) -> Result<Option<Part<'_>>, XmlError> {
        Ok(self.find(true)?.map(|found| match found {
            Found::Open(range) => Part::Frame(Frame::Open(&self.buffer[range])),
            Found::Stanza(range) => Part::Frame(Frame::Stanza(&self.buffer[range])),
            Found::Skipped => Part::Skipped {
                tag: &self.skipped.0,
                limit: self.skipped.1,
            },
            Found::Close => Part::Frame(Frame::Close),
        }))
    }

    fn find(&mut self, may_skip: bool) -> Result<Option<Found>, XmlError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let found = self.scan(may_skip).map_err(|fault| self.fail(fault))?;
        if let Some(Found::Open(range) | Found::Stanza(range)) = &found {
            self.frame = self.origin + range.start as u64;
        }
        Ok(found)
    }

    fn fail(&mut self, (kind, at): Fault) -> XmlError {
        let error = XmlError::new(kind, at).offset_by(self.origin);
        self.buffer = Vec::new();
        (self.start, self.at) = (0, 0);
        self.failed = Some(error);
        error
    }

    /// Where the frame given last started, in bytes since the splitter was made or reset: what
    /// [`XmlError::offset_by`] needs to turn the position of an error in that frame into one in the stream.
    pub fn frame_position(&self) -> u64 {
        self.frame
    }

    /// How many bytes are held that no frame has been made of.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Expects a new stream on the same connection, as after SASL (RFC 6120 §6.4.6). What was pushed and not given out
    /// yet is the beginning of it. Call this before asking for the frame after the one that ends the old stream.
    pub fn restart(&mut self) {
        self.stage = Stage::first(self.framing);
        self.state = State::Between;
        self.depth = 0;
        self.head = 0;
        self.skipping = false;
        self.at = self.start;
        self.name.clear();
    }

    /// Forgets everything, an error as well, and expects a new stream on a new connection or inside a new layer, as
    /// after STARTTLS (RFC 6120 §5.4.3.3).
    ///
    /// Gives the number of bytes dropped. If it is not zero after STARTTLS, somebody has put plain text before the TLS
    /// negotiation, perhaps to have it taken for protected, and the connection should be given up.
    pub fn reset(&mut self) -> usize {
        let dropped = self.held();
        *self = Self::new(self.framing, &self.limits);
        dropped
    }

    /// Gives up what was taken from the buffer.
    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.origin += self.start as u64;
        self.at -= self.start;
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > BUFFER_KEPT {
            self.buffer = Vec::new();
        }
    }

    fn scan(&mut self, may_skip: bool) -> Result<Option<Found>, Fault> {
        if self.stage == Stage::Closing {
            self.stage = Stage::Closed;
            return Ok(Some(Found::Close));
        }
        loop {
            // Not to look further than a frame may reach keeps errors in the order of their positions, however the
            // bytes were cut.
            let reach = match self.skipping {
                true => usize::MAX,
                false => self.start.saturating_add(self.limits.bytes),
            };
            let end = self.buffer.len().min(reach);
            let step = if self.at < end {
                self.step(end)
            } else if self.buffer.len() > reach {
                Err((XmlErrorKind::Limit(ElementLimit::Bytes), reach))
            } else {
                self.drop_skipped();
                return Ok(None);
            };
            match step {
                Err((XmlErrorKind::Limit(limit), _)) if may_skip && self.is_in_stanza() => {
                    self.skip(limit);
                }
                Err(fault) => return Err(fault),
                Ok(Some(Found::Stanza(_))) if self.skipping => {
                    self.skipping = false;
                    return Ok(Some(Found::Skipped));
                }
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
            }
        }
    }

    fn is_in_stanza(&self) -> bool {
        let in_tag = matches!(self.state, State::Tag { .. } | State::Quote(_));
        self.stage == Stage::Open && (self.depth > 0 || in_tag)
    }

    /// The stanza at hand has broken a limit: only its end is looked for.
    fn skip(&mut self, limit: ElementLimit) {
        let length = match self.head {
            0 => TAG_KEPT.min(self.at - self.start),
            head => head,
        };
        let tag = self.buffer[self.start..self.start + length].to_vec();
        self.skipped = (tag, limit);
        self.skipping = true;
        self.frame = self.origin + self.start as u64;
    }

    /// Gives up what was looked at of a stanza that is skipped, but for markup whose kind is not known yet.
    fn drop_skipped(&mut self) {
        if !self.skipping {
            return;
        }
        self.start = match self.state {
            State::Less | State::Bang(_) | State::Question(_) => self.start + self.tag,
            State::Between
            | State::Text
            | State::CData(_)
            | State::Declaration
            | State::Tag { .. }
            | State::Quote(_)
            | State::End => self.at,
        };
        self.tag = 0;
    }

    /// Looks at one byte or more, up to `end`.
    fn step(&mut self, end: usize) -> Result<Option<Found>, Fault> {
        match self.state {
            State::Between => self.between(end)?,
            State::Text => match memchr(b'<', &self.buffer[self.at..end]) {
                Some(found) => self.less(self.at + found),
                None => self.at = end,
            },
            State::Less => self.after_less()?,
            State::Bang(seen) => self.bang(seen)?,
            State::CData(brackets) => self.cdata(brackets, end),
            State::Question(seen) => self.question(seen)?,
            State::Declaration => return self.declaration(end).map(|()| None),
            State::Tag { slash } => return self.tag(slash, end),
            State::Quote(quote) => self.quote(quote, end)?,
            State::End => return self.end(end),
        }
        Ok(None)
    }

    fn between(&mut self, end: usize) -> Result<(), Fault> {
        let bytes = &self.buffer[self.at..end];
        let space = bytes
            .iter()
            .position(|&byte| !xml::is_space(byte))
            .unwrap_or(bytes.len());
        if space > 0 && self.stage == Stage::Start {
            self.stage = Stage::Prolog;
        }
        self.at += space;
        self.start = self.at;
        match self.buffer[self.at..end].first() {
            None => Ok(()),
            Some(b'<') if self.stage == Stage::Closed => Err((XmlErrorKind::SecondRoot, self.at)),
            Some(b'<') => {
                self.less(self.at);
                Ok(())
            }
            Some(_) => Err((XmlErrorKind::TextOutside, self.at)),
        }
    }

    /// There is a `<` at this place.
    fn less(&mut self, at: usize) {
        self.tag = at - self.start;
        self.at = at + 1;
        self.state = State::Less;
    }

    fn after_less(&mut self) -> Result<(), Fault> {
        let tag = self.start + self.tag;
        self.state = match self.buffer[self.at] {
            b'/' if self.stage != Stage::Open => return Err((XmlErrorKind::EndTag, tag)),
            b'/' if self.depth == 0 && self.framing == Framing::Bare => {
                return Err((XmlErrorKind::EndTag, tag));
            }
            b'/' => State::End,
            b'!' => State::Bang(0),
            b'?' => State::Question(0),
            byte if is_name_start(byte) => {
                let deep = self.depth >= self.limits.depth && !self.skipping;
                if self.stage == Stage::Open && deep {
                    return Err((XmlErrorKind::Limit(ElementLimit::Depth), tag));
                }
                State::Tag { slash: false }
            }
            _ => return Err((XmlErrorKind::Name, self.at)),
        };
        self.at += 1;
        Ok(())
    }

    fn bang(&mut self, seen: usize) -> Result<(), Fault> {
        let tag = self.start + self.tag;
        let byte = self.buffer[self.at];
        if byte != CDATA[seen] {
            let kind = match (seen, byte) {
                (0, b'-') => XmlErrorKind::Comment,
                (0, b'D' | b'd') => XmlErrorKind::Doctype,
                _ => XmlErrorKind::Markup,
            };
            return Err((kind, tag));
        }
        if self.depth == 0 {
            return Err((XmlErrorKind::TextOutside, tag));
        }
        self.at += 1;
        self.state = if seen + 1 == CDATA.len() {
            State::CData(0)
        } else {
            State::Bang(seen + 1)
        };
        Ok(())
    }

    fn cdata(&mut self, brackets: u8, end: usize) {
        if brackets == 0 {
            match memchr(b']', &self.buffer[self.at..end]) {
                Some(found) => {
                    self.at += found + 1;
                    self.state = State::CData(1);
                }
                None => self.at = end,
            }
            return;
        }
        self.state = match self.buffer[self.at] {
            b']' => State::CData(2),
            b'>' if brackets == 2 => State::Text,
            _ => State::CData(0),
        };
        self.at += 1;
    }

    fn question(&mut self, seen: usize) -> Result<(), Fault> {
        let tag = self.start + self.tag;
        let byte = self.buffer[self.at];
        let expected = XML.get(seen);
        let is_declaration = match expected {
            Some(&expected) => byte == expected,
            None => xml::is_space(byte) || byte == b'?',
        };
        if !is_declaration {
            return Err((XmlErrorKind::ProcessingInstruction, tag));
        }
        if expected.is_none() && self.stage != Stage::Start {
            return Err((XmlErrorKind::Declaration, tag));
        }
        self.at += 1;
        self.state = if expected.is_some() {
            State::Question(seen + 1)
        } else {
            State::Declaration
        };
        Ok(())
    }

    fn declaration(&mut self, end: usize) -> Result<(), Fault> {
        // No value that is allowed here has a `>`.
        let Some(found) = memchr(b'>', &self.buffer[self.at..end]) else {
            self.at = end;
            return Ok(());
        };
        self.at += found + 1;
        xml::check_declaration(&self.buffer[self.start..self.at])
            .map_err(|error| (error.kind, self.start))?;
        self.stage = Stage::Prolog;
        self.state = State::Between;
        self.start = self.at;
        Ok(())
    }

    fn tag(&mut self, mut slash: bool, end: usize) -> Result<Option<Found>, Fault> {
        for at in self.at..end {
            let byte = self.buffer[at];
            match byte {
                b'>' => {
                    self.at = at + 1;
                    return Ok(self.end_of_tag(slash));
                }
                b'<' => return Err((XmlErrorKind::LessThan, at)),
                _ if slash => return Err((XmlErrorKind::Tag, at)),
                b'\'' | b'"' => {
                    self.at = at + 1;
                    self.state = State::Quote(byte);
                    return Ok(None);
                }
                _ => slash = byte == b'/',
            }
        }
        self.at = end;
        self.state = State::Tag { slash };
        Ok(None)
    }

    fn end_of_tag(&mut self, empty: bool) -> Option<Found> {
        if self.stage != Stage::Open {
            let tag = &self.buffer[self.start + 1..self.at];
            let name = tag
                .iter()
                .take_while(|&&b| !xml::is_space(b) && b != b'/' && b != b'>');
            self.name = name.copied().collect();
            self.stage = if empty { Stage::Closing } else { Stage::Open };
            return Some(Found::Open(self.take_frame()));
        }
        if !empty {
            if self.depth == 0 {
                self.head = self.at - self.start;
            }
            self.depth += 1;
            self.state = State::Text;
            None
        } else if self.depth == 0 {
            Some(Found::Stanza(self.take_frame()))
        } else {
            self.state = State::Text;
            None
        }
    }

    fn quote(&mut self, quote: u8, end: usize) -> Result<(), Fault> {
        match xml::find_any([quote, b'<'], &self.buffer[self.at..end]) {
            Some(found) => {
                self.at += found;
                if self.buffer[self.at] == b'<' {
                    return Err((XmlErrorKind::LessThan, self.at));
                }
                self.at += 1;
                self.state = State::Tag { slash: false };
            }
            None => self.at = end,
        }
        Ok(())
    }

    fn end(&mut self, end: usize) -> Result<Option<Found>, Fault> {
        let Some(found) = memchr2(b'>', b'<', &self.buffer[self.at..end]) else {
            self.at = end;
            return Ok(None);
        };
        self.at += found;
        if self.buffer[self.at] == b'<' {
            return Err((XmlErrorKind::LessThan, self.at));
        }
        self.at += 1;
        if self.depth == 0 {
            return self.end_of_stream().map(Some);
        }
        self.depth -= 1;
        if self.depth == 0 {
            return Ok(Some(Found::Stanza(self.take_frame())));
        }
        self.state = State::Text;
        Ok(None)
    }

    fn end_of_stream(&mut self) -> Result<Found, Fault> {
        let name = &self.buffer[self.start + "</".len()..self.at - ">".len()];
        if name.trim_ascii_end() != self.name {
            return Err((XmlErrorKind::EndTag, self.start));
        }
        self.take_frame();
        self.stage = Stage::Closed;
        Ok(Found::Close)
    }

    /// The frame that ends here.
    fn take_frame(&mut self) -> Range<usize> {
        let frame = self.start..self.at;
        self.start = self.at;
        self.head = 0;
        self.state = State::Between;
        frame
    }
}

impl Stage {
    fn first(framing: Framing) -> Self {
        match framing {
            Framing::Stream => Self::Start,
            Framing::Bare => Self::Open,
        }
    }
}

/// Whether a byte can be the first of an element's name, as far as one byte tells.
fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests;
