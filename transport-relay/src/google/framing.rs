//! Messages on a connection: each has its length before it, in two bytes. A connection that pretends to be one of TLS
//! begins with two messages that are always the same (libjingle base/socketadapters.cc).

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

/// The longest message.
pub const FRAME_MAX: usize = 0xffff;

/// What a client says first where it pretends TLS: a CLIENT-HELLO of SSL 2 that offers SSL 3.1, with a challenge that never
/// changes.
pub const CLIENT_HELLO: [u8; 72] = [
    0x80, 0x46, 0x01, 0x03, 0x01, 0x00, 0x2d, 0x00, 0x00, 0x00, 0x10, // header and lengths
    0x01, 0x00, 0x80, 0x03, 0x00, 0x80, 0x07, 0x00, 0xc0, 0x06, 0x00, 0x40, 0x02, 0x00,
    0x80, //
    0x04, 0x00, 0x80, 0x00, 0x00, 0x04, 0x00, 0xfe, 0xff, 0x00, 0x00, 0x0a, 0x00, 0xfe,
    0xfe, //
    0x00, 0x00, 0x09, 0x00, 0x00, 0x64, 0x00, 0x00, 0x62, 0x00, 0x00, 0x03, 0x00, 0x00,
    0x06, //
    0x1f, 0x17, 0x0c, 0xa6, 0x2f, 0x00, 0x78, 0xfc, 0x46, 0x55, 0x2e, 0xb1, 0x83, 0x39, 0xf1, 0xea,
];

/// What a relay answers: a SERVER-HELLO of TLS 1.0 that chooses RSA with RC4 and MD5, and no certificate follows.
pub const SERVER_HELLO: [u8; 79] = [
    0x16, 0x03, 0x01, 0x00, 0x4a, 0x02, 0x00, 0x00, 0x46, 0x03, 0x01, // headers and version
    0x42, 0x85, 0x45, 0xa7, 0x27, 0xa9, 0x5d, 0xa0, 0xb3, 0xc5, 0xe7, 0x53, 0xda, 0x48, 0x2b, 0x3f,
    0xc6, 0x5a, 0xca, 0x89, 0xc1, 0x58, 0x52, 0xa1, 0x78, 0x3c, 0x5b, 0x17, 0x46, 0x00, 0x85, 0x3f,
    0x20, // a session of 32 bytes
    0x0e, 0xd3, 0x06, 0x72, 0x5b, 0x5b, 0x1b, 0x5f, 0x15, 0xac, 0x13, 0xf9, 0x88, 0x53, 0x9d, 0x9b,
    0xe8, 0x3d, 0x7b, 0x0c, 0x30, 0x32, 0x6e, 0x38, 0x4d, 0xa2, 0x75, 0x57, 0x41, 0x6c, 0x34, 0x5c,
    0x00, 0x04, 0x00, // cipher and compression
];

/// Appends a message with its length. Whether it is short enough; otherwise nothing was written.
pub fn write_frame(out: &mut BytesMut, message: &[u8]) -> bool {
    let Ok(length) = u16::try_from(message.len()) else {
        return false;
    };
    out.reserve(2 + message.len());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(message);
    true
}

/// What is taken out of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unframed {
    /// The answer to our hello: the connection can be used.
    Ready,
    /// A message.
    Message(Bytes),
    /// More bytes are needed.
    Wait,
}

/// The stream does not begin as a relay's does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the connection does not begin as one of a relay does")]
pub struct NotARelay;

/// Cuts messages out of a stream. It keeps less than one message and what came with it.
#[derive(Debug, Default)]
pub struct Unframer {
    buffer: BytesMut,
    awaits_hello: bool,
}

impl Unframer {
    /// Of a connection; `hello` when it is one that pretends TLS.
    pub fn new(hello: bool) -> Self {
        Self {
            buffer: BytesMut::new(),
            awaits_hello: hello,
        }
    }

    /// Bytes arrived. To be followed by [`next`](Self::next) until it waits.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What comes next.
    ///
    /// # Errors
    /// [`NotARelay`]: then nothing follows that could be understood.
    #[allow(
        clippy::should_implement_trait,
        reason = "it is not an iterator: it waits, and it fails"
    )]
    pub fn next(&mut self) -> Result<Unframed, NotARelay> {
        if self.awaits_hello {
            let count = self.buffer.len().min(SERVER_HELLO.len());
            if self.buffer[..count] != SERVER_HELLO[..count] {
                return Err(NotARelay);
            }
            if count < SERVER_HELLO.len() {
                return Ok(Unframed::Wait);
            }
            self.buffer.advance(count);
            self.awaits_hello = false;
            return Ok(Unframed::Ready);
        }
        let Some(&[high, low]) = self.buffer.first_chunk::<2>() else {
            return Ok(Unframed::Wait);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if self.buffer.len() < 2 + length {
            return Ok(Unframed::Wait);
        }
        self.buffer.advance(2);
        Ok(Unframed::Message(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(unframer: &mut Unframer) -> Result<Vec<Unframed>, NotARelay> {
        let mut found = Vec::new();
        loop {
            match unframer.next()? {
                Unframed::Wait => return Ok(found),
                other @ (Unframed::Ready | Unframed::Message(_)) => found.push(other),
            }
        }
    }

    #[test]
    fn the_hellos_are_records_of_the_length_that_they_say() {
        assert_eq!(usize::from(CLIENT_HELLO[1]) + 2, CLIENT_HELLO.len());
        assert_eq!(usize::from(CLIENT_HELLO[6]) + 11 + 16, CLIENT_HELLO.len());
        assert_eq!(usize::from(SERVER_HELLO[4]) + 5, SERVER_HELLO.len());
        assert_eq!(usize::from(SERVER_HELLO[8]) + 9, SERVER_HELLO.len());
        assert_eq!(SERVER_HELLO[43], 32);
    }

    #[test]
    fn another_hello_is_no_relay() {
        let mut unframer = Unframer::new(true);
        unframer.push(&SERVER_HELLO[..20]);
        assert_eq!(unframer.next(), Ok(Unframed::Wait));
        unframer.push(b"HTTP/1.1 400");
        assert_eq!(unframer.next(), Err(NotARelay));
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8),
            cut in 1..100_usize,
            hello: bool,
        ) {
            let mut stream = BytesMut::new();
            if hello {
                stream.extend_from_slice(&SERVER_HELLO);
            }
            for message in &messages {
                prop_assert!(write_frame(&mut stream, message));
            }
            let mut unframer = Unframer::new(hello);
            let mut found = Vec::new();
            for piece in stream.chunks(cut) {
                unframer.push(piece);
                found.extend(all(&mut unframer).unwrap());
            }
            let expected = messages.into_iter().map(|m| Unframed::Message(m.into()));
            let ready = hello.then_some(Unframed::Ready);
            prop_assert_eq!(found, ready.into_iter().chain(expected).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_too_long_is_not_written() {
        let mut out = BytesMut::new();
        assert!(!write_frame(&mut out, &[0; FRAME_MAX + 1]));
        assert!(out.is_empty());
    }
}
