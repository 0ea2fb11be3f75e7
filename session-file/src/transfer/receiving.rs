//! What a receiver makes of what arrives.

use super::{Check, Direction, Fault, Integrity, Judgement, Outcome, Sealed, Transfer, outcome};
use crate::{Change, Completeness, File, FileInfo, Phase, Read};
use bytes::Bytes;
use session_core::Session;
use std::time::Instant;

impl Transfer {
    /// Bytes of the peer.
    ///
    /// # Errors
    /// They are not what was announced.
    pub(crate) fn receive(
        &mut self,
        mut bytes: Bytes,
        session: &mut Session,
        now: Instant,
    ) -> Result<(), Fault> {
        let (mut carried, expected) = (bytes.len(), self.bytes());
        let Some(check) = self.check.as_mut().filter(|_| self.phase == Phase::Open) else {
            return Ok(());
        };
        match self.direction {
            Direction::Receive => {
                if let Some(sealed) = &mut self.sealed {
                    bytes = sealed.open(&bytes, expected)?;
                }
                check.skip(&mut bytes)?;
                if self.sealed.is_none() {
                    // What came again does not count.
                    carried = bytes.len();
                }
                check.arrive(&bytes)?;
            }
            // What flows back is the other side of a tree.
            Direction::Send if self.duplex => {}
            Direction::Send => return Ok(()),
        }
        if self.flow.receive_as(bytes, carried, session, now) {
            self.signal.emit(Change::Readable);
        }
        Ok(())
    }

    /// What the peer says of the hash, while it sends or after that.
    ///
    /// # Errors
    /// It differs from what arrived.
    pub(crate) fn told(&mut self, file: &File) -> Result<(), Fault> {
        match (&mut self.check, self.direction) {
            (Some(check), Direction::Receive) => check.told(file),
            (None, _) | (_, Direction::Send) => Ok(()),
        }
    }

    /// Whether every byte has arrived, as far as we can know.
    pub(crate) fn is_complete(&self) -> bool {
        let is_proven = self.sealed.as_ref().is_none_or(Sealed::is_proven);
        let ended = self.flow.has_peer_finished();
        let check = self.check.as_ref();
        is_proven && check.is_some_and(|check| check.is_complete(ended))
    }

    /// Whether nothing is to come but the end and the hash, and neither has: its sender hashes what we have, perhaps.
    pub(crate) fn is_silent(&self) -> bool {
        let is_all_here = self.offset() > 0 && self.bytes() == Some(0);
        is_all_here && self.integrity.is_none() && !self.flow.has_peer_finished()
    }

    /// Judges a file that is complete. `Some` is how long the peer may take to name a hash.
    ///
    /// # Errors
    /// It is another than announced.
    pub(crate) fn judge(
        &mut self,
        patience: [std::time::Duration; 2],
    ) -> Result<Option<std::time::Duration>, Fault> {
        let Some(check) = self.check.as_ref().filter(|_| self.integrity.is_none()) else {
            return Ok(None);
        };
        if check.awaits() {
            return Ok(None);
        }
        // The hashes of what was encrypted, which some name instead, say nothing of what is in front of a part.
        let whole = self.sealed.as_ref().filter(|_| self.offset() == 0);
        let wire = whole.map_or_else(Vec::new, Sealed::wire_hashes);
        match check.judge(&wire) {
            Judgement::Equal(algorithm) => {
                self.settle(Integrity::Verified(algorithm));
                Ok(None)
            }
            Judgement::EqualPart(_) if self.has_unproven_front() => Err(Fault::Unproven),
            Judgement::EqualPart(algorithm) => {
                self.settle(Integrity::Part(algorithm));
                Ok(None)
            }
            Judgement::Differs(algorithm) => Err(Fault::WrongHash(algorithm)),
            // Each file of a tree has its own hash, in the stream.
            Judgement::Open { .. } if self.duplex => {
                self.settle(Integrity::Unverified);
                Ok(None)
            }
            Judgement::Open { announced } => Ok(Some(patience[usize::from(announced)])),
        }
    }

    /// Whether what is in front of this part came under another key, the tag of which never did.
    fn has_unproven_front(&self) -> bool {
        self.sealed.is_some() && self.offset() > 0
    }

    /// No hash will be named any more.
    ///
    /// # Errors
    /// [`Fault::Unproven`]: it would have been the only proof.
    pub(crate) fn settle_unnamed(&mut self) -> Result<(), Fault> {
        if self.has_unproven_front() {
            return Err(Fault::Unproven);
        }
        self.settle(match self.sealed {
            Some(_) => Integrity::Authenticated,
            None => Integrity::Unverified,
        });
        Ok(())
    }

    pub(crate) fn settle(&mut self, integrity: Integrity) {
        self.integrity = Some(integrity);
        self.verdict_due = None;
        self.signal.emit(Change::Readable);
    }

    /// The peer said that nothing more follows.
    ///
    /// # Errors
    /// Something was to follow.
    pub(crate) fn peer_finished(&mut self) -> Result<(), Fault> {
        if self.direction == Direction::Send || !self.flow.peer_finished() {
            return Ok(());
        }
        self.see_end()
    }

    /// The stream has come to its end. An application that hashes by itself waits for nothing else.
    ///
    /// # Errors
    /// Something was to follow.
    pub(crate) fn see_end(&mut self) -> Result<(), Fault> {
        self.signal.emit(Change::Readable);
        // From here on a hash can be late.
        self.verdict_due = None;
        match self.check.as_ref().map(Check::missing) {
            Some(Some((received, expected))) => Err(Fault::TooLittle { received, expected }),
            Some(None) | None => self.sealed.as_mut().map_or(Ok(()), Sealed::end),
        }
    }

    /// The next bytes, and whether the peer may go on now.
    pub(crate) fn read(&mut self, max: usize) -> (Read, bool) {
        if let Some((bytes, resume)) = self.flow.read(max) {
            return (Read::Bytes(bytes), resume);
        }
        let read = match (&self.outcome, self.integrity) {
            (Some(Outcome::Failed(fault)), _) => Read::Broken(outcome::cause_of(fault)),
            (_, Some(_)) => Read::End(self.completeness()),
            (_, None) => Read::Pending,
        };
        (read, false)
    }

    /// Our application has read the end. Whether that is news.
    pub(crate) fn acknowledge(&mut self) -> bool {
        !std::mem::replace(&mut self.acknowledged, true)
    }

    /// What tells the peer that we have the file.
    pub(crate) fn received_info(&self) -> FileInfo {
        FileInfo::Received {
            creator: Some(self.creator),
            content: Some(self.content.clone()),
        }
    }

    fn completeness(&self) -> Completeness {
        let known = self
            .check
            .as_ref()
            .is_some_and(|check| check.is_complete(self.flow.has_peer_finished()));
        if known {
            Completeness::Verified
        } else {
            Completeness::Unverified
        }
    }
}
