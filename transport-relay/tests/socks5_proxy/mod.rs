//! A SOCKS5 proxy as a model (XEP-0065 §6), with its failures.

use bytes::Bytes;
use session_core::{
    Condition, Element, ErrorKind, LocalSocket, SocketError, StanzaError, StreamEvent,
    TransportError,
};
use std::collections::{BTreeMap, VecDeque};
use transport_relay::{
    s5b::BYTESTREAMS,
    socks5::{Destination, Server, Step},
};

pub(crate) const JID: &str = "proxy.example";
pub(crate) const ADDRESS: &str = "192.0.2.77:7777";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Temper {
    Honest,
    RefusesConnections,
    RefusesRequests,
    LiesAboutTheDestination,
    RefusesActivation,
    /// It serves the first that comes, who is the guest, and not its owner after that.
    RefusesItsOwner,
    /// It takes the guest, and closes the connection before the owner is there.
    HangsUp,
}

type Key = (usize, LocalSocket);

pub(crate) struct Proxy {
    temper: Temper,
    pub(crate) owner: usize,
    shaking: BTreeMap<Key, Server>,
    /// Who waits for activation, by what they asked for.
    waiting: Vec<(String, Key)>,
    linked: BTreeMap<Key, Key>,
    events: VecDeque<(usize, LocalSocket, StreamEvent)>,
    pub(crate) activations: usize,
    pub(crate) failed: [Option<TransportError>; 2],
}

impl Proxy {
    pub(crate) fn new(temper: Temper) -> Self {
        Self {
            temper,
            owner: 0,
            shaking: BTreeMap::new(),
            waiting: Vec::new(),
            linked: BTreeMap::new(),
            events: VecDeque::new(),
            activations: 0,
            failed: [None, None],
        }
    }

    pub(crate) fn event(&mut self) -> Option<(usize, LocalSocket, StreamEvent)> {
        self.events.pop_front()
    }

    fn tell(&mut self, (host, socket): Key, event: StreamEvent) {
        self.events.push_back((host, socket, event));
    }

    pub(crate) fn connect(&mut self, host: usize, socket: LocalSocket) {
        let key = (host, socket);
        let served = !self.waiting.is_empty();
        let refuses = match self.temper {
            Temper::RefusesConnections => true,
            Temper::RefusesItsOwner => served,
            _ => false,
        };
        if refuses {
            let error = SocketError {
                what: "connect",
                why: "refused".into(),
            };
            return self.tell(key, StreamEvent::Connected(Err(error)));
        }
        self.shaking.insert(key, Server::default());
        let here = "198.51.100.1:1".parse().unwrap();
        self.tell(key, StreamEvent::Connected(Ok(here)));
    }

    pub(crate) fn write(&mut self, host: usize, socket: LocalSocket, mut bytes: Bytes) {
        let key = (host, socket);
        if let Some(other) = self.linked.get(&key).copied() {
            return self.tell(other, StreamEvent::Data(bytes));
        }
        let Some(mut server) = self.shaking.remove(&key) else {
            return;
        };
        let refuses = self.temper == Temper::RefusesRequests;
        loop {
            match server.handle_input(&mut bytes, |_| !refuses) {
                Ok(Step::Wait) => {
                    self.shaking.insert(key, server);
                    return;
                }
                Ok(Step::Write(reply)) => self.tell(key, StreamEvent::Data(reply)),
                Ok(Step::Done(reply)) => return self.admit(key, reply),
                Err(error) => {
                    self.tell(key, StreamEvent::Data(Server::refusal(error)));
                    self.tell(key, StreamEvent::Finished);
                    return;
                }
            }
        }
    }

    fn admit(&mut self, key: Key, reply: Bytes) {
        let mut reply = reply.to_vec();
        let asked = String::from_utf8(reply[5..45].to_vec()).unwrap();
        if self.temper == Temper::LiesAboutTheDestination {
            reply[5] ^= 1;
        }
        let first = self.waiting.is_empty();
        self.waiting.push((asked, key));
        self.tell(key, StreamEvent::Data(reply.into()));
        if self.temper == Temper::HangsUp && first {
            self.waiting.clear();
            self.tell(key, StreamEvent::Finished);
            self.tell(key, StreamEvent::Closed(None));
        }
    }

    pub(crate) fn close(&mut self, host: usize, socket: LocalSocket) {
        let key = (host, socket);
        self.shaking.remove(&key);
        self.waiting.retain(|(_, other)| *other != key);
        if let Some(other) = self.linked.remove(&key) {
            self.linked.remove(&other);
            self.tell(other, StreamEvent::Finished);
        }
    }

    pub(crate) fn activate(
        &mut self,
        from: &str,
        payload: &Element,
    ) -> Result<Option<Element>, StanzaError> {
        let sid = payload.attribute("sid").unwrap_or_default();
        let target = payload.find(BYTESTREAMS, "activate").unwrap();
        let target = target.text_content();
        let asked = Destination::new(sid, from, &target);
        let both: Vec<Key> = self
            .waiting
            .iter()
            .filter(|(known, _)| *known == asked.as_str())
            .map(|(_, key)| *key)
            .collect();
        let [first, second] = both[..] else {
            return Err(StanzaError::new(Condition::ItemNotFound, ErrorKind::Cancel));
        };
        if self.temper == Temper::RefusesActivation {
            return Err(StanzaError::new(Condition::NotAllowed, ErrorKind::Cancel));
        }
        self.linked.insert(first, second);
        self.linked.insert(second, first);
        self.activations += 1;
        Ok(None)
    }
}
