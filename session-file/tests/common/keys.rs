//! An end-to-end encryption for tests of XEP-0391, which is none.
#![allow(dead_code, unreachable_pub)]

use session_core::{Element, Peer};
use session_file::{JetError, JetKeys, JetSecret};
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

/// The namespace of the specification's examples.
pub const STUB: &str = "urn:xmpp:encryption:stub:0";

/// Says in clear what the secret is and whom it is for, with something added that both sides know.
#[derive(Clone, Default)]
pub struct Stub {
    added: u8,
    sealed: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Stub {
    pub fn new(added: u8) -> Self {
        Self {
            added,
            ..Self::default()
        }
    }

    /// Every secret that was sealed.
    pub fn secrets(&self) -> Vec<Vec<u8>> {
        self.sealed.lock().unwrap().clone()
    }
}

impl JetKeys for Stub {
    fn kind(&self) -> &str {
        STUB
    }

    fn seal(&mut self, to: &Peer, secret: &JetSecret) -> Result<Element, JetError> {
        let bytes = secret.as_bytes();
        self.sealed.lock().unwrap().push(bytes.to_vec());
        let hex = bytes
            .iter()
            .map(|byte| format!("{:02x}", byte.wrapping_add(self.added)));
        let payload = Element::new(STUB, "payload").text(&hex.collect::<String>());
        Ok(Element::new(STUB, "encrypted")
            .with("for", to)
            .child(payload))
    }

    fn open(&mut self, from: &Peer, envelope: &Element) -> Result<Zeroizing<Vec<u8>>, JetError> {
        let none = || JetError::Keys(format!("{from} sealed nothing").into());
        let payload = envelope.find(STUB, "payload").ok_or_else(none)?;
        let bytes = hex(&payload.text_content()).ok_or_else(none)?;
        let bytes = bytes.into_iter().map(|byte| byte.wrapping_sub(self.added));
        Ok(bytes.collect::<Vec<_>>().into())
    }
}

pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
