//! As much of SOCKS5 as bytestreams need (RFC 1928, XEP-0065 §5.3.2 and §6): no authentication, and a connection to a
//! name that is a hash.
//!
//! Both ends are small readers over bytes, which come in any pieces: [`Client`] connects, [`Server`] is what a listener
//! runs on each connection that it accepts. Neither keeps more than one message.

use bytes::{Buf, Bytes};
use sha1::{Digest, Sha1};
use std::fmt;

const VERSION: u8 = 5;
/// RFC 1928 §3: no authentication required.
const NO_AUTHENTICATION: u8 = 0;
/// RFC 1928 §3: no acceptable methods.
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;
/// A digest in hexadecimal digits.
const HASH: usize = 40;

/// The destination of a bytestream: the SHA-1 of its name and of both ends, in lower-case hexadecimal (XEP-0065 §5.3.2).
///
/// Whoever knows it may have the stream, so it is not shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Destination([u8; HASH]);

impl Destination {
    /// Of the stream `sid`, from who offers the way to who takes it.
    pub fn new(sid: &str, requester: &str, target: &str) -> Self {
        let mut sha1 = Sha1::new();
        for part in [sid, requester, target] {
            sha1.update(part.as_bytes());
        }
        let mut text = [0; HASH];
        for (digits, byte) in text.chunks_exact_mut(2).zip(sha1.finalize()) {
            let digit = |value: u8| char::from_digit(value.into(), 16).map_or(b'0', |c| c as u8);
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        Self(text)
    }

    /// As a peer wrote it; `None` when it is no SHA-1 in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; HASH] = text.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then(|| Self(bytes.map(|byte| byte.to_ascii_lowercase())))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        // Hexadecimal digits, and nothing else, are in it.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn is(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(&self.0)
    }
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Destination(..)")
    }
}

/// Why the other end is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Socks5Error {
    /// It does not speak SOCKS 5.
    #[error("the other end does not speak SOCKS 5")]
    Version,
    /// It wants to be told who we are, or does not let us go without.
    #[error("the other end wants authentication")]
    Authentication,
    /// It refuses the connection, with this code of RFC 1928 §6.
    #[error("the connection was refused with code {0}")]
    Refused(u8),
    /// It says that it connected to something else than was asked for.
    #[error("the connection is to another destination than was asked for")]
    WrongDestination,
    /// It asks for something else than a connection to a name.
    #[error("this is no request of a bytestream")]
    WrongRequest,
}

/// What a reader wants next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// More bytes.
    Wait,
    /// These to be sent.
    Write(Bytes),
    /// The stream begins. These are to be sent before anything else; what was not read is of the stream.
    Done(Bytes),
}

/// Bytes of a message that has not come in full.
#[derive(Clone, Default)]
struct Reader {
    // The longest message is a request or an answer with a name of 255 bytes.
    held: Vec<u8>,
}

impl Reader {
    /// Takes from `bytes` until `length` of the message, told by what is held, are there.
    fn fill(&mut self, bytes: &mut Bytes, length: usize) -> bool {
        let count = length.saturating_sub(self.held.len()).min(bytes.len());
        self.held.extend_from_slice(&bytes[..count]);
        bytes.advance(count);
        self.held.len() >= length
    }

    /// A request or an answer (RFC 1928 §4, §6), as soon as it is there: the second byte, and the name when it is one.
    #[allow(clippy::type_complexity, reason = "used at two places below")]
    fn message(
        &mut self,
        bytes: &mut Bytes,
    ) -> Result<Option<(u8, Option<Vec<u8>>, u16)>, Socks5Error> {
        if !self.fill(bytes, 5) {
            return match self.held.first() {
                Some(&version) if version != VERSION => Err(Socks5Error::Version),
                Some(_) | None => Ok(None),
            };
        }
        let [version, code, _, kind, first, ..] = self.held[..] else {
            return Ok(None);
        };
        if version != VERSION {
            return Err(Socks5Error::Version);
        }
        let length = match kind {
            IPV4 => 4 + 4 + 2,
            IPV6 => 4 + 16 + 2,
            NAME => 4 + 1 + usize::from(first) + 2,
            _ => return Err(Socks5Error::WrongRequest),
        };
        if !self.fill(bytes, length) {
            return Ok(None);
        }
        let message = std::mem::take(&mut self.held);
        let (body, port) = message.split_at(length - 2);
        let name = (kind == NAME).then(|| body[5..].to_vec());
        Ok(Some((code, name, u16::from_be_bytes([port[0], port[1]]))))
    }
}

/// The end that connects.
#[derive(Clone)]
pub struct Client {
    destination: Destination,
    asked: bool,
    reader: Reader,
}

impl Client {
    /// The reader, and what is to be sent first, in one piece: Prosody's proxy reads it at once or not at all.
    pub fn new(destination: Destination) -> (Self, Bytes) {
        let client = Self {
            destination,
            asked: false,
            reader: Reader::default(),
        };
        (client, Bytes::from_static(&[VERSION, 1, NO_AUTHENTICATION]))
    }

    /// Takes what it needs off the front of `bytes`. To be called until it waits or is done.
    ///
    /// # Errors
    /// The connection is of no use.
    pub fn handle_input(&mut self, bytes: &mut Bytes) -> Result<Step, Socks5Error> {
        if !self.asked {
            if !self.reader.fill(bytes, 2) {
                return Ok(Step::Wait);
            }
            let held = std::mem::take(&mut self.reader.held);
            if held[0] != VERSION {
                return Err(Socks5Error::Version);
            }
            if held[1] != NO_AUTHENTICATION {
                return Err(Socks5Error::Authentication);
            }
            self.asked = true;
            return Ok(Step::Write(message(CONNECT, &self.destination.0)));
        }
        // A refusal may be cut short: its code is enough.
        if !bytes.is_empty() || self.reader.held.len() >= 2 {
            self.reader.fill(bytes, 2);
            if let [VERSION, code, ..] = self.reader.held[..]
                && code != 0
            {
                return Err(Socks5Error::Refused(code));
            }
        }
        match self.reader.message(bytes)? {
            None => Ok(Step::Wait),
            // XEP-0065 §5.3.2 has it echo the name. An address says nothing about the stream, and some write one.
            Some((_, Some(name), _)) if !self.destination.is(&name) => {
                Err(Socks5Error::WrongDestination)
            }
            Some(_) => Ok(Step::Done(Bytes::new())),
        }
    }
}

/// The end that was connected to.
#[derive(Clone, Default)]
pub struct Server {
    greeted: bool,
    reader: Reader,
}

impl Server {
    /// Takes what it needs off the front of `bytes`. `accepts` judges a destination by its digits.
    ///
    /// # Errors
    /// The connection is of no use. What [`refusal`](Self::refusal) says is to be sent before it is closed.
    pub fn handle_input(
        &mut self,
        bytes: &mut Bytes,
        accepts: impl Fn(&Destination) -> bool,
    ) -> Result<Step, Socks5Error> {
        if !self.greeted {
            if !self.reader.fill(bytes, 2) {
                return match self.reader.held.first() {
                    Some(&version) if version != VERSION => Err(Socks5Error::Version),
                    Some(_) | None => Ok(Step::Wait),
                };
            }
            let [version, count, ..] = self.reader.held[..] else {
                return Ok(Step::Wait);
            };
            if version != VERSION {
                return Err(Socks5Error::Version);
            }
            if !self.reader.fill(bytes, 2 + usize::from(count)) {
                return Ok(Step::Wait);
            }
            let methods = std::mem::take(&mut self.reader.held);
            if !methods[2..].contains(&NO_AUTHENTICATION) {
                return Err(Socks5Error::Authentication);
            }
            self.greeted = true;
            return Ok(Step::Write(Bytes::from_static(&[
                VERSION,
                NO_AUTHENTICATION,
            ])));
        }
        let Some((command, name, port)) = self.reader.message(bytes)? else {
            return Ok(Step::Wait);
        };
        let Some(name) = name.filter(|_| command == CONNECT && port == 0) else {
            return Err(Socks5Error::WrongRequest);
        };
        let destination = std::str::from_utf8(&name).ok().and_then(Destination::parse);
        match destination.filter(|destination| accepts(destination)) {
            // As it was written: it may compare.
            Some(_) => Ok(Step::Done(message(0, &name))),
            None => Err(Socks5Error::WrongDestination),
        }
    }

    /// What is said to a connection before it is closed (RFC 1928 §3, §6).
    pub fn refusal(error: Socks5Error) -> Bytes {
        match error {
            Socks5Error::Version => Bytes::new(),
            Socks5Error::Authentication => Bytes::from_static(&[VERSION, NO_METHOD]),
            // 2: not allowed by the rules; 7: the command is not supported.
            Socks5Error::WrongDestination | Socks5Error::Refused(_) => {
                Bytes::from_static(&[VERSION, 2, 0, IPV4, 0, 0, 0, 0, 0, 0])
            }
            Socks5Error::WrongRequest => {
                Bytes::from_static(&[VERSION, 7, 0, IPV4, 0, 0, 0, 0, 0, 0])
            }
        }
    }
}

/// A request or an answer about a name, with port 0.
fn message(code: u8, name: &[u8]) -> Bytes {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let mut message = vec![VERSION, code, 0, NAME, length];
    message.extend_from_slice(&name[..usize::from(length)]);
    message.extend_from_slice(&[0, 0]);
    message.into()
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("greeted", &self.greeted)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// XEP-0260 §2.2 and §2.3.
    #[test]
    fn the_examples_of_the_specification() {
        let (romeo, juliet) = ("romeo@montague.lit/orchard", "juliet@capulet.lit/balcony");
        let there = Destination::new("vj3hs98y", romeo, juliet);
        assert_eq!(there.as_str(), "972b7bf47291ca609517f67f86b5081086052dad");
        let back = Destination::new("vj3hs98y", juliet, romeo);
        assert_eq!(back.as_str(), "1a12fb7bc625e55f3ed5b29a53dbe0e4aa7d80ba");
        assert_eq!(Destination::parse(there.as_str()), Some(there));
        assert_eq!(
            Destination::parse("972B7BF47291ca609517f67f86b5081086052dad"),
            Some(there)
        );
        assert_eq!(Destination::parse(&there.as_str()[1..]), None);
        assert_eq!(Destination::parse(&"g".repeat(40)), None);
        assert_eq!(format!("{there:?}"), "Destination(..)");
    }

    /// What goes to a proxy is 3 and then 47 bytes (jingle-peers §3.10).
    #[test]
    fn the_bytes_of_a_client() {
        let destination = Destination::new("s", "a", "b");
        let (mut client, first) = Client::new(destination);
        assert_eq!(first, &[5, 1, 0][..]);
        let Step::Write(request) = client
            .handle_input(&mut Bytes::from_static(&[5, 0]))
            .unwrap()
        else {
            panic!("no request");
        };
        assert_eq!((request.len(), &request[..5]), (47, &[5, 1, 0, 3, 40][..]));
        assert_eq!(&request[45..], [0, 0]);
        let mut echo = request.to_vec();
        echo[1] = 0;
        echo.extend_from_slice(b"stream");
        let mut echo = Bytes::from(echo);
        assert_eq!(client.handle_input(&mut echo), Ok(Step::Done(Bytes::new())));
        assert_eq!(echo, "stream", "what follows is not ours");
    }

    fn asked() -> Client {
        let (mut client, _) = Client::new(Destination::new("s", "a", "b"));
        client
            .handle_input(&mut Bytes::from_static(&[5, 0]))
            .unwrap();
        client
    }

    #[test]
    fn a_proxy_that_refuses_or_lies() {
        let (mut client, _) = Client::new(Destination::new("s", "a", "b"));
        let input = client.handle_input(&mut Bytes::from_static(&[5, 0xff]));
        assert_eq!(input, Err(Socks5Error::Authentication));
        let (mut client, _) = Client::new(Destination::new("s", "a", "b"));
        let input = client.handle_input(&mut Bytes::from_static(b"HT"));
        assert_eq!(input, Err(Socks5Error::Version));
        let input = asked().handle_input(&mut Bytes::from_static(&[5, 5]));
        assert_eq!(input, Err(Socks5Error::Refused(5)));
        let mut other = message(0, Destination::new("t", "a", "b").as_str().as_bytes());
        let input = asked().handle_input(&mut other);
        assert_eq!(input, Err(Socks5Error::WrongDestination));
        let address = [5, 0, 0, 1, 127, 0, 0, 1, 0, 80];
        let input = asked().handle_input(&mut Bytes::copy_from_slice(&address));
        assert_eq!(input, Ok(Step::Done(Bytes::new())));
    }

    #[test]
    fn a_listener_takes_nothing_but_its_destination() {
        let mine = Destination::new("s", "a", "b");
        let greeted = || {
            let mut server = Server::default();
            let step = server.handle_input(&mut Bytes::from_static(&[5, 2, 2, 0]), |_| false);
            assert_eq!(step, Ok(Step::Write(Bytes::from_static(&[5, 0]))));
            server
        };
        let ask = |bytes: &[u8]| {
            greeted().handle_input(&mut Bytes::copy_from_slice(bytes), |d| *d == mine)
        };
        let right = message(CONNECT, mine.as_str().as_bytes());
        assert_eq!(
            ask(&right),
            Ok(Step::Done(message(0, mine.as_str().as_bytes())))
        );
        let upper = message(CONNECT, mine.as_str().to_uppercase().as_bytes());
        assert!(matches!(ask(&upper), Ok(Step::Done(_))));
        let other = message(CONNECT, Destination::new("t", "a", "b").as_str().as_bytes());
        assert_eq!(ask(&other), Err(Socks5Error::WrongDestination));
        let wrong = Err(Socks5Error::WrongRequest);
        assert_eq!(
            ask(&[5, 1, 0, 1, 10, 0, 0, 1, 0, 0]),
            wrong,
            "no open relay"
        );
        let bind = message(2, mine.as_str().as_bytes());
        assert_eq!(ask(&bind), wrong);
        let mut port = right.to_vec();
        port[46] = 80;
        assert_eq!(ask(&port), wrong);
        let mut server = Server::default();
        let password = server.handle_input(&mut Bytes::from_static(&[5, 1, 2]), |_| true);
        assert_eq!(password, Err(Socks5Error::Authentication));
        let mut server = Server::default();
        let http = server.handle_input(&mut Bytes::from_static(b"G"), |_| true);
        assert_eq!(http, Err(Socks5Error::Version));
    }

    /// Runs a client against a server, with the bytes cut into pieces.
    fn handshake(cut: usize, wrong: bool) -> (Result<(), Socks5Error>, Result<(), Socks5Error>) {
        let mine = Destination::new("s", "a", "b");
        let theirs = Destination::new(if wrong { "t" } else { "s" }, "a", "b");
        let (mut client, first) = Client::new(mine);
        let mut server = Server::default();
        let mut to_server = first.to_vec();
        let mut to_client = Vec::new();
        let (mut served, mut done) = (Ok(()), Ok(false));
        for _ in 0..1_000 {
            let count = cut.min(to_server.len());
            let mut piece = Bytes::from(to_server.drain(..count).collect::<Vec<_>>());
            while served.is_ok() && !piece.is_empty() {
                match server.handle_input(&mut piece, |d| *d == theirs) {
                    Ok(Step::Wait) => break,
                    Ok(Step::Write(bytes) | Step::Done(bytes)) => {
                        to_client.extend_from_slice(&bytes)
                    }
                    Err(error) => {
                        to_client.extend_from_slice(&Server::refusal(error));
                        served = Err(error);
                    }
                }
            }
            let count = cut.min(to_client.len());
            let mut piece = Bytes::from(to_client.drain(..count).collect::<Vec<_>>());
            while done == Ok(false) && !piece.is_empty() {
                match client.handle_input(&mut piece) {
                    Ok(Step::Wait) => break,
                    Ok(Step::Write(bytes)) => to_server.extend_from_slice(&bytes),
                    Ok(Step::Done(_)) => done = Ok(true),
                    Err(error) => done = Err(error),
                }
            }
            if done != Ok(false) {
                break;
            }
        }
        assert_ne!(done, Ok(false), "came to no end");
        (done.map(|_| ()), served)
    }

    #[test]
    fn a_handshake_in_any_pieces() {
        for cut in 1..60 {
            assert_eq!(handshake(cut, false), (Ok(()), Ok(())), "cut at {cut}");
            let refused = Err(Socks5Error::Refused(2));
            let wrong = Err(Socks5Error::WrongDestination);
            assert_eq!(handshake(cut, true), (refused, wrong), "cut at {cut}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..600), cut in 1..50_usize, greet: bool) {
            crate::fuzz::socks5(&[&[u8::from(greet), cut as u8][..], &bytes].concat());
        }
    }
}
