//! How signalling travels, and how a test takes it into its own hand.

use super::{World, unavailable};
use crate::{
    Element, Input, Message, Peer, RequestId, RequestKind, StanzaError,
    testing::netem::{Conditions, Netem},
};
use std::{collections::BTreeMap, fmt, time::Instant};

/// Something on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// From which host.
    pub from: usize,
    /// To which host.
    pub to: usize,
    /// What.
    pub parcel: Parcel,
}

/// What signalling carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parcel {
    /// A message of a session.
    Message {
        /// The sender's number.
        id: RequestId,
        /// The message.
        message: Box<Message>,
    },
    /// A request of a transport.
    Request {
        /// The sender's number.
        id: RequestId,
        /// Who asks.
        from: Peer,
        /// Whom.
        to: Peer,
        /// What.
        payload: Element,
        /// Whether it is answered.
        kind: RequestKind,
    },
    /// An answer to either.
    Reply {
        /// The number of the one who asked.
        id: RequestId,
        /// The answer.
        reply: Result<Option<Element>, StanzaError>,
    },
}

impl fmt::Display for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} ", self.from, self.to)?;
        match &self.parcel {
            Parcel::Message { id, message } => {
                write!(f, "{} {} #{}", message.action, message.sid, id.0)
            }
            Parcel::Request { id, payload, .. } => {
                write!(f, "request {} #{}", payload.name(), id.0)
            }
            Parcel::Reply { id, reply: Ok(_) } => write!(f, "result #{}", id.0),
            Parcel::Reply {
                id,
                reply: Err(error),
            } => write!(f, "error {error} #{}", id.0),
        }
    }
}

pub(super) struct Wire {
    pub(super) hold: bool,
    conditions: Conditions,
    seed: u64,
    links: BTreeMap<(usize, usize), Netem<Envelope>>,
    held: Vec<Envelope>,
    /// Who waits for the answer to what a host was given, by the number that it was given under.
    askers: BTreeMap<(usize, RequestId), (usize, RequestId)>,
    next: u64,
}

impl Wire {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hold: false,
            conditions: Conditions::default(),
            seed,
            links: BTreeMap::new(),
            held: Vec::new(),
            askers: BTreeMap::new(),
            next: 0,
        }
    }

    pub(super) fn set_conditions(&mut self, conditions: Conditions) {
        for link in self.links.values_mut() {
            link.set_conditions(conditions.clone());
        }
        self.conditions = conditions;
    }

    pub(super) fn request_id(&mut self) -> RequestId {
        self.next += 1;
        RequestId(self.next)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.links.values().filter_map(Netem::poll_timeout).min()
    }

    pub(super) fn poll_output(&mut self, now: Instant) -> Option<Envelope> {
        let due = self
            .links
            .values_mut()
            .filter(|link| link.poll_timeout().is_some_and(|at| at <= now));
        let first = due.min_by_key(|link| link.poll_timeout())?;
        first.poll_output(now)
    }

    fn send(&mut self, envelope: Envelope, now: Instant) {
        if self.hold {
            self.held.push(envelope);
            return;
        }
        let pair = (envelope.from, envelope.to);
        let seed = self.seed ^ ((pair.0 as u64) << 20) ^ ((pair.1 as u64) << 40) ^ 0x5167;
        let link = self
            .links
            .entry(pair)
            .or_insert_with(|| Netem::new(self.conditions.clone(), seed));
        link.handle_input(envelope, 1, now);
    }
}

/// Signalling in the test's hand, while [`World::hold`] is on.
impl World {
    /// What waits, oldest first.
    pub fn held(&self) -> &[Envelope] {
        &self.wire.held
    }

    /// Hands what waits at this place to whom it is for.
    ///
    /// # Panics
    /// When nothing is there.
    pub fn deliver(&mut self, index: usize) {
        let envelope = self.wire.held.remove(index);
        self.deliver_envelope(envelope);
    }

    /// Loses what waits at this place.
    ///
    /// # Panics
    /// When nothing is there.
    pub fn discard(&mut self, index: usize) -> Envelope {
        self.wire.held.remove(index)
    }

    /// What waits at this place will arrive once more.
    ///
    /// # Panics
    /// When nothing is there.
    pub fn duplicate(&mut self, index: usize) {
        let copy = self.wire.held[index].clone();
        self.wire.held.push(copy);
    }

    /// Puts something on the wire that nobody sent.
    pub fn forge(&mut self, envelope: Envelope) {
        self.deliver_envelope(envelope);
    }

    /// Hands over everything that waits, in order, and what follows from it, until nothing waits any more.
    ///
    /// # Panics
    /// When there is no end to it.
    pub fn deliver_all(&mut self) {
        for _ in 0..10_000 {
            self.settle();
            if self.wire.held.is_empty() {
                return;
            }
            self.deliver(0);
        }
        panic!("the two talk without end: {:?}", self.wire.held);
    }

    pub(super) fn deliver_envelope(&mut self, envelope: Envelope) {
        let Envelope { from, to, parcel } = envelope;
        if !self.hosts[to].link {
            return;
        }
        let input = match parcel {
            Parcel::Message { id, message } => Input::Message {
                id: self.incoming(from, to, id),
                message: *message,
            },
            Parcel::Request {
                id,
                from: asker,
                to: asked,
                payload,
                kind,
            } => Input::Request {
                id: match kind {
                    RequestKind::Query => self.incoming(from, to, id),
                    RequestKind::Notice => self.wire.request_id(),
                },
                from: asker,
                to: asked,
                payload,
            },
            Parcel::Reply { id, reply } => Input::Reply { id, reply },
        };
        self.handle_input(to, input);
    }

    /// The number under which a host is given what another sent under its own.
    fn incoming(&mut self, from: usize, to: usize, id: RequestId) -> RequestId {
        let number = self.wire.request_id();
        self.wire.askers.insert((to, number), (from, id));
        number
    }

    pub(super) fn post(&mut self, from: usize, to: Peer, parcel: Parcel) {
        let exact = self.hosts.iter().position(|host| host.name == to);
        let of_account = || {
            let same = |name: &Peer| to.device().is_none() && name.account() == to.account();
            self.hosts.iter().position(|host| same(&host.name))
        };
        let now = self.now;
        match exact.or_else(of_account) {
            Some(to) => self.wire.send(Envelope { from, to, parcel }, now),
            None => {
                // The sender's own server answers for whom nobody knows.
                let (Parcel::Message { id, .. } | Parcel::Request { id, .. }) = parcel else {
                    return;
                };
                let parcel = Parcel::Reply {
                    id,
                    reply: Err(unavailable()),
                };
                let to = from;
                self.wire.send(Envelope { from, to, parcel }, now);
            }
        }
    }

    pub(super) fn post_reply(
        &mut self,
        from: usize,
        id: RequestId,
        reply: Result<Option<Element>, StanzaError>,
    ) {
        if let Some((to, id)) = self.wire.askers.remove(&(from, id)) {
            let parcel = Parcel::Reply { id, reply };
            self.wire.send(Envelope { from, to, parcel }, self.now);
        }
    }
}
