//! A login that stands.

use super::{LoginError, Output, Phase, Stream};
use crate::{
    client::{ns, skipped},
    xml::{self, Context},
};
use bytes::Bytes;
use session_core::{Element, Peer};
use std::time::Instant;

/// Asks the server how many stanzas have arrived (XEP-0198 §4).
const ASK: &[u8] = b"<r xmlns='urn:xmpp:sm:3'/>";

/// Stanzas that are kept when they come before the login is complete.
const EARLY_MAX: usize = 64;

impl Stream {
    /// Stanzas flow from here on.
    pub(super) fn online(&mut self, now: Instant) {
        self.phase = Phase::Online;
        self.heard(now);
    }

    /// The server is there.
    pub(super) fn heard(&mut self, now: Instant) {
        self.probing = false;
        self.deadline = now.checked_add(self.login.idle);
    }

    /// The server has been silent: it is asked for something to answer. Without stream management, white space at least
    /// makes the system notice that nobody takes it (RFC 6120 §4.6.1).
    pub(super) fn probe(&mut self, now: Instant) {
        self.deadline = now.checked_add(self.login.idle);
        if self.management.is_some() {
            self.probing = true;
            self.outbox.extend_from_slice(ASK);
        } else {
            self.outbox.push(b' ');
        }
    }

    /// Sends what waits, and asks whether it arrived.
    pub(super) fn flush(&mut self) {
        let Some(books) = &mut self.management else {
            return;
        };
        while let Some(stanza) = books.next_unsent() {
            self.outbox.extend_from_slice(stanza);
        }
        if books.take_ask() {
            self.outbox.extend_from_slice(ASK);
        }
    }

    /// Says how many stanzas have arrived, if the server waits for it.
    pub(super) fn tell_count(&mut self) {
        let books = self.management.as_ref();
        if let Some(books) = books.filter(|_| std::mem::take(&mut self.owes_count)) {
            let count = format!("<a xmlns='{}' h='{}'/>", ns::SM, books.handled());
            self.outbox.extend_from_slice(count.as_bytes());
        }
    }

    /// A stanza arrived.
    pub(super) fn stanza(&mut self, stanza: Bytes) {
        if let Some(books) = &mut self.management {
            books.count_handled();
        }
        self.outputs.push_back(Output::Stanza(stanza));
    }

    /// A stanza arrived that breaks a limit: nobody gets it, and who asks is refused.
    pub(super) fn skipped(&mut self, stanza: &Bytes) {
        if self.is_online()
            && let Some(books) = &mut self.management
        {
            books.count_handled();
        }
        let own = self.address.as_ref().map(Peer::account);
        if let Some(refusal) = skipped::refusal(stanza, own) {
            // As with any answer: whoever asks learns it later in another way.
            let _ = self.send(refusal);
        }
    }

    /// A stanza that comes before the login is complete: it waits.
    pub(super) fn early(&mut self, element: &Element) -> Result<(), LoginError> {
        if let Some(bytes) = rewritten(element)? {
            if self.early.len() == EARLY_MAX {
                return Err(LoginError::protocol(
                    "too much before the login is complete",
                ));
            }
            self.early.push(bytes);
        }
        Ok(())
    }

    /// What is no stanza, or is written in another way than usual.
    pub(super) fn other(&mut self, element: &Element) -> Result<(), LoginError> {
        if element.namespace() != ns::SM {
            if let Some(bytes) = rewritten(element)? {
                self.stanza(bytes);
            }
            return Ok(());
        }
        let Some(books) = &mut self.management else {
            return Ok(());
        };
        match element.name() {
            "r" => self.owes_count = true,
            "a" => {
                let count = element.attribute("h").and_then(|count| count.parse().ok());
                if count.is_none_or(|count| books.confirm(count).is_err()) {
                    return Err(LoginError::protocol("a count that cannot be"));
                }
                self.flush();
            }
            _ => {}
        }
        Ok(())
    }
}

/// A stanza as it would stand in the stream of [`Context::CLIENT`]; `None` for what is none.
fn rewritten(element: &Element) -> Result<Option<Bytes>, LoginError> {
    if element.namespace() != crate::ns::CLIENT {
        return Ok(None);
    }
    let mut out = Vec::new();
    let written = xml::write(element, &Context::CLIENT, &mut out);
    written.map_err(|error| LoginError::protocol(error.to_string()))?;
    Ok(Some(out.into()))
}
