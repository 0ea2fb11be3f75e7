//! What encrypts a file within its stream, or decrypts it (XEP-0391).

use super::Fault;
use crate::{
    Hash, Hasher, JET_BYTES_MAX, JET_TAG_BYTES, JetCipher, JetOpener, JetSealer, JetSecret,
    Progress,
};
use bytes::Bytes;

const TAG: u64 = JET_TAG_BYTES as u64;

/// A stream that is encrypted. Its secret is for this one transfer, in the one direction that a file has.
#[derive(Debug)]
pub(crate) struct Sealed {
    cipher: JetCipher,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// What we send; `None` once its tag was taken.
    Out(Option<Box<JetSealer>>),
    In(Box<Arriving>),
}

/// What arrives.
#[derive(Debug)]
struct Arriving {
    /// `None` once its tag was looked at.
    opener: Option<JetOpener>,
    proven: bool,
    /// Bytes of the stream.
    received: u64,
    /// Of the stream as it came: Conversations names the hashes of that.
    wire: Option<Hasher>,
}

impl Sealed {
    pub(crate) fn sending(secret: &JetSecret) -> Self {
        Self {
            cipher: secret.cipher(),
            way: Way::Out(Some(Box::new(JetSealer::new(secret)))),
        }
    }

    /// `wire`: what hashes the stream as it comes, where the peer may name a hash of that.
    pub(crate) fn receiving(secret: &JetSecret, wire: Option<Hasher>) -> Self {
        let arriving = Arriving {
            opener: Some(JetOpener::new(secret)),
            proven: false,
            received: 0,
            wire,
        };
        Self {
            cipher: secret.cipher(),
            way: Way::In(Box::new(arriving)),
        }
    }

    pub(crate) fn cipher(&self) -> JetCipher {
        self.cipher
    }

    /// Most bytes that one key is for.
    pub(crate) fn most(&self) -> u64 {
        JET_BYTES_MAX
    }

    /// Encrypts what is sent next.
    ///
    /// # Errors
    /// [`Fault::TooMuch`].
    pub(crate) fn seal(&mut self, bytes: Bytes) -> Result<Bytes, Fault> {
        let Way::Out(Some(sealer)) = &mut self.way else {
            return Ok(Bytes::new());
        };
        let mut bytes = Vec::from(bytes);
        let sealed = sealer.seal(&mut bytes);
        sealed.map_err(|_| Fault::TooMuch(JET_BYTES_MAX))?;
        Ok(bytes.into())
    }

    /// What follows the last byte that is sent, once.
    pub(crate) fn tag(&mut self) -> Option<Bytes> {
        match &mut self.way {
            Way::Out(sealer) => Some(sealer.take()?.finish().to_vec().into()),
            Way::In(_) => None,
        }
    }

    /// Decrypts what has arrived of a file that has so many bytes, where that is known.
    ///
    /// # Errors
    /// [`Fault::TooMuch`], and [`Fault::Forged`] when every byte is there and not what the peer has encrypted.
    pub(crate) fn open(&mut self, bytes: &[u8], expected: Option<u64>) -> Result<Bytes, Fault> {
        match &mut self.way {
            Way::Out(_) => Ok(Bytes::new()),
            Way::In(arriving) => arriving.open(bytes, expected),
        }
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Fault::Forged`]: its tag is missing, or proves something else.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        match &mut self.way {
            Way::Out(_) => Ok(()),
            Way::In(arriving) => arriving.end(),
        }
    }

    /// Whether what arrived has proved to be what the peer has encrypted, and all of it.
    pub(crate) fn is_proven(&self) -> bool {
        match &self.way {
            Way::Out(_) => true,
            Way::In(arriving) => arriving.proven,
        }
    }

    /// The hashes of the stream as it came.
    pub(crate) fn wire_hashes(&self) -> Vec<Hash> {
        match &self.way {
            Way::Out(_) => Vec::new(),
            Way::In(arriving) => arriving.wire.as_ref().map_or_else(Vec::new, Hasher::hashes),
        }
    }

    /// What the stream's bytes are of the file's: its tag is none of them.
    pub(crate) fn of_file(&self, stream: Progress) -> Progress {
        let tag = match &self.way {
            Way::Out(Some(_)) => 0,
            Way::Out(None) | Way::In(_) => TAG,
        };
        let written = stream.written.saturating_sub(tag);
        Progress {
            written,
            sent: stream.sent.min(written),
            received: stream.received.saturating_sub(tag),
            read: stream.read,
        }
    }
}

impl Arriving {
    fn open(&mut self, bytes: &[u8], expected: Option<u64>) -> Result<Bytes, Fault> {
        let Some(opener) = &mut self.opener else {
            let most = expected.unwrap_or(JET_BYTES_MAX);
            return Err(Fault::TooMuch(most));
        };
        self.received = self.received.saturating_add(bytes.len() as u64);
        let whole = expected.map(|size| size.saturating_add(TAG));
        if let (Some(whole), Some(size)) = (whole, expected)
            && self.received > whole
        {
            return Err(Fault::TooMuch(size));
        }
        if let Some(wire) = &mut self.wire {
            wire.update(bytes);
        }
        let text = opener.open(bytes);
        let text = text.map_err(|_| Fault::TooMuch(JET_BYTES_MAX))?;
        if whole == Some(self.received) {
            self.end()?;
        }
        Ok(text.into())
    }

    fn end(&mut self) -> Result<(), Fault> {
        if let Some(opener) = self.opener.take() {
            self.proven = opener.finish().is_ok();
        }
        match self.proven {
            true => Ok(()),
            false => Err(Fault::Forged),
        }
    }
}
