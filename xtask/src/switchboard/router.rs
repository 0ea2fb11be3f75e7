//! Who is there, and how stanzas reach them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use session_core::Element;
use session_xmpp::xml::{self, Context};
use tokio::sync::mpsc::{self, error::TrySendError};

/// Stanzas that may wait for one client. Who reads more slowly than others write to him is dropped.
const QUEUE_MAX: usize = 512;

const CARBONS: &str = "urn:xmpp:carbons:2";
const FORWARD: &str = "urn:xmpp:forward:0";
const CLIENT: &str = "jabber:client";

/// A client that is logged in.
struct Port {
    queue: mpsc::Sender<Bytes>,
    /// Its presence, when it has shown itself.
    presence: Option<Element>,
    carbons: bool,
    serial: u64,
}

/// See the [module](self).
#[derive(Default)]
pub(super) struct Router(Mutex<Ports>);

#[derive(Default)]
struct Ports {
    ports: BTreeMap<String, Port>,
    serial: u64,
}

/// A client's place; it leaves with it.
pub(super) struct Seat<'a> {
    router: &'a Router,
    pub(super) address: String,
    serial: u64,
}

impl Router {
    /// Gives a client its place. Who was there before under this address is put out (RFC 6120 §7.7.2.2).
    pub(super) fn join(&self, address: &str) -> (Seat<'_>, mpsc::Receiver<Bytes>) {
        let (queue, stanzas) = mpsc::channel(QUEUE_MAX);
        self.leave(address, None);
        let mut inner = self.lock();
        inner.serial += 1;
        let serial = inner.serial;
        let port = Port {
            queue,
            presence: None,
            carbons: false,
            serial,
        };
        inner.ports.insert(address.to_owned(), port);
        let seat = Seat {
            router: self,
            address: address.to_owned(),
            serial,
        };
        (seat, stanzas)
    }

    /// Whether there is a client with this address.
    pub(super) fn has(&self, address: &str) -> bool {
        self.lock().ports.contains_key(address)
    }

    /// Copies of what other devices of the account say and hear (XEP-0280).
    pub(super) fn set_carbons(&self, address: &str, carbons: bool) {
        if let Some(port) = self.lock().ports.get_mut(address) {
            port.carbons = carbons;
        }
    }

    /// Hands a stanza, stamped with its sender, to whom it is for. Returns whether anybody took it.
    pub(super) fn route(&self, stanza: &Element) -> bool {
        let from = stanza.attribute("from").unwrap_or_default();
        let to = stanza.attribute("to").unwrap_or_default();
        let mut inner = self.lock();
        let is_message = stanza.name() == "message";
        let direct: Vec<String> = if inner.ports.contains_key(to) {
            vec![to.to_owned()]
        } else if is_message && account(to) == to || is_chat(stanza) {
            let shown = inner.ports.iter().filter(|(address, port)| {
                account(address) == account(to) && port.presence.is_some()
            });
            shown.map(|(address, _)| address.clone()).collect()
        } else {
            Vec::new()
        };
        let delivered = direct
            .iter()
            .filter(|address| inner.send(address, stanza))
            .count()
            > 0;
        if delivered && is_chat(stanza) {
            let others = inner.ports.iter().filter(|(address, port)| {
                port.carbons && address.as_str() != from && !direct.contains(address)
            });
            let copies: Vec<_> = others
                .filter_map(|(address, _)| {
                    let name = match account(address) {
                        own if own == account(from) => "sent",
                        own if own == account(to) => "received",
                        _ => return None,
                    };
                    Some((address.clone(), carbon(name, address, stanza)))
                })
                .collect();
            for (address, copy) in copies {
                inner.send(&address, &copy);
            }
        }
        delivered
    }

    /// Shows a client to all, and all to it: everybody is in everybody's roster.
    pub(super) fn show(&self, from: &str, presence: &Element) {
        let mut inner = self.lock();
        let gone = presence.attribute("type") == Some("unavailable");
        let Some(port) = inner.ports.get_mut(from) else {
            return;
        };
        let was_shown = port.presence.is_some();
        port.presence = (!gone).then(|| presence.detach());
        let shown = inner
            .ports
            .iter()
            .filter(|(_, port)| port.presence.is_some() || gone);
        let others: Vec<_> = shown
            .map(|(address, port)| (address.clone(), port.presence.clone()))
            .collect();
        for (address, theirs) in others {
            let ours = presence.clone().with("to", account(&address));
            inner.send(&address, &ours);
            if let Some(theirs) = theirs.filter(|_| !was_shown && !gone && address != from) {
                inner.send(from, &theirs.with("to", from));
            }
        }
    }

    fn leave(&self, address: &str, serial: Option<u64>) {
        let is_it = |port: &Port| serial.is_none_or(|serial| port.serial == serial);
        let shown = {
            let inner = self.lock();
            let port = inner.ports.get(address).filter(|port| is_it(port));
            port.map(|port| port.presence.is_some())
        };
        if shown == Some(true) {
            let gone = Element::new(CLIENT, "presence")
                .with("from", address)
                .with("type", "unavailable");
            self.show(address, &gone);
        }
        if shown.is_some() {
            self.lock().ports.remove(address);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.router.leave(&self.address, Some(self.serial));
    }
}

impl Ports {
    /// Whether the client with exactly this address took a stanza. One whose queue is full is put out.
    fn send(&mut self, address: &str, stanza: &Element) -> bool {
        let mut bytes = Vec::new();
        let Some(port) = self.ports.get(address) else {
            return false;
        };
        if xml::write(stanza, &Context::CLIENT, &mut bytes).is_err() {
            return false;
        }
        match port.queue.try_send(bytes.into()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                // Its connection sees the end of the queue.
                self.ports.remove(address);
                false
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

/// An address without its device.
pub(super) fn account(address: &str) -> &str {
    address.split('/').next().unwrap_or_default()
}

fn is_chat(stanza: &Element) -> bool {
    stanza.name() == "message" && stanza.attribute("type") == Some("chat")
}

fn carbon(name: &str, address: &str, stanza: &Element) -> Element {
    let forwarded = Element::new(FORWARD, "forwarded").child(stanza.clone());
    Element::new(CLIENT, "message")
        .with("from", account(address))
        .with("to", address)
        .with("type", "chat")
        .child(Element::new(CARBONS, name).child(forwarded))
}
