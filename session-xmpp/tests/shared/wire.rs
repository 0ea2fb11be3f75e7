//! Two managers that talk through real stanza bytes, over a virtual network.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use session_core::testing::{Conditions, Delivery, MemoryDatagram, Network, SocketKey, epoch};
use session_core::{
    ChannelId, Config, Dialect, Element, ElementLimits, GOOGLE_P2P, Input, LocalSocket, Message,
    Output, Peer, Reason, RequestId, SeededEntropy, Session, SessionClient, SessionId,
    SessionManager, SocketId, State,
};
use session_xmpp::stanza::{self, Incoming, Request};
use session_xmpp::xml::{self, Context};

/// A socket of one of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key(usize, SocketId);

impl SocketKey for Key {
    fn accepted(self, connection: LocalSocket) -> Self {
        Self(self.0, self.1.sibling(connection))
    }
}

/// Creates its channels, accepts what is offered with the same descriptions, and remembers what arrived.
pub(crate) struct Client {
    pub(crate) session_type: &'static str,
    /// Content and channel.
    pub(crate) channels: &'static [(&'static str, &'static str)],
    pub(crate) packets: Vec<(String, Bytes)>,
    pub(crate) states: Vec<State>,
    pub(crate) reason: Option<Reason>,
}

impl SessionClient for Client {
    fn namespace(&self) -> &str {
        self.session_type
    }

    fn on_session_create(&mut self, session: &mut Session, received: bool, now: Instant) {
        if !received {
            return;
        }
        if let [(_, channel)] = self.channels {
            session.create_channel(channel, now).unwrap();
        }
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        self.states.push(state);
        if state != State::ReceivedInitiate {
            return;
        }
        if self.channels.len() > 1 {
            for (content, channel) in self.channels {
                session
                    .create_channel_in(content, channel, None, now)
                    .unwrap();
            }
        }
        let offered: Vec<_> = session
            .contents()
            .map(|content| {
                (
                    content.name().clone(),
                    content.remote_description().unwrap().clone(),
                )
            })
            .collect();
        for (name, description) in &offered[1..] {
            session.set_answer(name, description.clone()).unwrap();
        }
        session.accept_with(offered[0].1.clone(), now).unwrap();
    }

    fn on_packet(&mut self, session: &mut Session, channel: ChannelId, packet: Bytes, _: Instant) {
        let name = session.channel_name(channel).unwrap().to_owned();
        self.packets.push((name, packet));
    }

    fn on_terminate_reason(&mut self, _: &mut Session, reason: Option<&Reason>, _: Instant) {
        self.reason = reason.cloned();
    }
}

/// One of the two.
pub(crate) struct Side {
    pub(crate) manager: SessionManager,
    pub(crate) address: Peer,
    asked: Vec<Option<Request>>,
    /// Which of the two vocabularies it reads in a hybrid request; `None` means both.
    pub(crate) reads: Option<&'static str>,
    /// What it was told, in order.
    pub(crate) heard: Vec<Message>,
}

/// The two, and what is between them.
pub(crate) struct Wire {
    pub(crate) sides: [Side; 2],
    network: Network<Key>,
    stanzas: Vec<(usize, Vec<u8>)>,
    pub(crate) now: Instant,
    /// Takes the transports out of offers, as one would who never heard of them.
    pub(crate) drops_transports: bool,
    unanswered: BTreeMap<(usize, String), u32>,
}

impl Wire {
    pub(crate) fn new(
        dialect: &'static Dialect,
        session_type: &'static str,
        channels: &'static [(&'static str, &'static str)],
    ) -> Self {
        let side = |seed, address: &str| {
            let config = Config {
                dialect,
                ..Config::default()
            };
            let mut manager = SessionManager::new(config, SeededEntropy::new(seed));
            let client = Client {
                session_type,
                channels,
                packets: vec![],
                states: vec![],
                reason: None,
            };
            manager.add_client(client).unwrap();
            manager
                .add_transport(MemoryDatagram::new().with_namespace(GOOGLE_P2P))
                .unwrap();
            let address = Peer::from(address);
            Side {
                manager,
                address,
                asked: vec![],
                reads: None,
                heard: vec![],
            }
        };
        Self {
            sides: [
                side(1, "alice@example.org/desk"),
                side(2, "bob@example.org/lap"),
            ],
            network: Network::new(Conditions::default(), 7),
            stanzas: vec![],
            now: epoch(),
            drops_transports: false,
            unanswered: BTreeMap::new(),
        }
    }

    /// Runs until nothing happens for a second.
    pub(crate) fn settle(&mut self) {
        let mut end = self.now + Duration::from_secs(1);
        loop {
            let mut next = self.drain();
            while !self.stanzas.is_empty() {
                self.deliver_stanzas();
                next = self.drain();
            }
            while let Some((key, delivery)) = self.network.poll_output(self.now) {
                self.deliver(key, delivery);
                next = self.drain();
                end = self.now + Duration::from_secs(1);
            }
            if !self.stanzas.is_empty() {
                continue;
            }
            let at = self.network.poll_timeout().into_iter().chain(next).min();
            match at.filter(|at| *at <= end) {
                None => break,
                Some(at) => self.now = at.max(self.now),
            }
            self.sides
                .iter_mut()
                .for_each(|s| s.manager.handle_input(Input::Timeout, self.now));
        }
        assert_eq!(
            self.unanswered,
            BTreeMap::new(),
            "each request has one answer"
        );
    }

    /// Does what the managers want done, and tells when they want to be woken.
    fn drain(&mut self) -> Option<Instant> {
        let mut wake = None;
        for at in 0..2 {
            loop {
                match self.sides[at].manager.poll_output(self.now) {
                    Output::Wait(until) => {
                        wake = wake.into_iter().chain(until).min();
                        break;
                    }
                    output => self.perform(at, output),
                }
            }
        }
        wake
    }

    fn perform(&mut self, at: usize, output: Output) {
        let mut out = Vec::new();
        match output {
            Output::Message { id, message } => {
                let id = id.0.to_string();
                stanza::encode_message(&id, &message, &Context::CLIENT, &mut out).unwrap();
                *self.unanswered.entry((at, id)).or_default() += 1;
                self.stanzas.push((at, out));
            }
            Output::Reply {
                id, dialect, reply, ..
            } => {
                let request = self.sides[at].asked[id.0 as usize]
                    .take()
                    .expect("one answer each");
                stanza::encode_reply(&request, dialect, &reply, &Context::CLIENT, &mut out)
                    .unwrap();
                self.stanzas.push((at, out));
            }
            Output::Bind {
                socket,
                kind,
                address,
            } => {
                self.network
                    .bind(at, Key(at, socket), kind, address, self.now);
            }
            Output::Transmit {
                socket,
                destination,
                payload,
                segment_size,
            } => {
                self.network.transmit(
                    Key(at, socket),
                    destination,
                    payload,
                    segment_size,
                    self.now,
                );
            }
            Output::Close { socket } => self.network.close(Key(at, socket), self.now),
            other => panic!("{other:?}"),
        }
    }

    fn deliver_stanzas(&mut self) {
        for (from, bytes) in std::mem::take(&mut self.stanzas) {
            let stanza = xml::parse(&bytes, &Context::CLIENT, &ElementLimits::default()).unwrap();
            let stanza = self.filtered(1 - from, &stanza);
            let (now, side) = (self.now, &mut self.sides[1 - from]);
            match stanza::decode(stanza, &side.address) {
                Incoming::Message { request, message } => {
                    let id = RequestId(side.asked.len() as u64);
                    side.asked.push(Some(request));
                    side.heard.push(message.clone());
                    side.manager
                        .handle_input(Input::Message { id, message }, now);
                }
                Incoming::Reply(reply) => {
                    let key = (1 - from, reply.id.to_string());
                    let left = self.unanswered.get_mut(&key).expect("nobody asked");
                    *left -= 1;
                    if *left == 0 {
                        self.unanswered.remove(&key);
                    }
                    let id = RequestId(reply.id.parse().unwrap());
                    side.manager.handle_input(
                        Input::Reply {
                            id,
                            reply: reply.reply,
                        },
                        now,
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// What the receiver's parser sees of it.
    fn filtered(&self, to: usize, stanza: &Element) -> Element {
        let mut seen = Element::new(stanza.namespace(), stanza.name());
        for attribute in stanza.attributes() {
            seen.set_attribute(attribute.name, attribute.value);
        }
        let several = stanza.children().count() > 1;
        let reads = self.sides[to].reads.filter(|_| several);
        for child in stanza
            .children()
            .filter(|child| reads.is_none_or(|name| child.name() == name))
        {
            if self.drops_transports && child.attribute("type") == Some("initiate") {
                let mut without = Element::new(child.namespace(), child.name());
                child
                    .attributes()
                    .for_each(|a| without.set_attribute(a.name, a.value));
                let kept = child.children().filter(|part| part.name() != "transport");
                kept.for_each(|part| without.push(part.to_element()));
                seen.push(without);
            } else {
                seen.push(child.to_element());
            }
        }
        seen
    }

    fn deliver(&mut self, Key(at, socket): Key, delivery: Delivery) {
        let input = match delivery {
            Delivery::Bound(address) => Input::Bound { socket, address },
            Delivery::Stream(event) => Input::Stream { socket, event },
            Delivery::Found(finding) => Input::Found {
                inquiry: socket,
                finding,
            },
            Delivery::Datagram {
                source,
                payload,
                segment_size,
            } => Input::Datagram {
                socket,
                source,
                payload,
                segment_size,
            },
        };
        self.sides[at].manager.handle_input(input, self.now);
    }

    pub(crate) fn id(&self, at: usize) -> SessionId {
        self.sides[at].manager.session_ids()[0]
    }

    pub(crate) fn session(&mut self, at: usize) -> &mut Session {
        let id = self.id(at);
        self.sides[at].manager.session(id).unwrap()
    }

    pub(crate) fn client(&mut self, at: usize) -> &mut Client {
        self.sides[at].manager.find_client().unwrap()
    }
}
