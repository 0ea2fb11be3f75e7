//! [`Stranger`]: the interpreter of a persona.

mod requests;
mod sessions;

use super::{Persona, Reaction, call, file::Transfer, plane::Plane, wire};
use crate::{
    ChannelOutput, Datagram, Dialect, Element, ElementRef, LocalSocket, Peer, Role, SeededEntropy,
    StreamEvent, TransportChannel, TransportContext, TransportFactory, testing::Delivery,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    task::Waker,
    time::Instant,
};

/// More outputs of a channel at once than this are endless.
const OUTPUTS_MAX: usize = 10_000;

/// What a session is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A call, in sound.
    Call,
    /// A file.
    File {
        /// Its name.
        name: String,
        /// What is in it; empty with whom receives it.
        bytes: Bytes,
    },
}

/// What the person in front of the client does with an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Accepts.
    Accept,
    /// Declines.
    Decline,
    /// Is in another call.
    Busy,
    /// Does not hear it.
    Silent,
}

/// How a [`Stranger`] is used.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// What it does with an offer.
    pub verdict: Verdict,
    /// Tells candidates before the answer, where it is up to it.
    pub early: bool,
    /// Tells candidates of kinds that not everybody knows, too.
    pub odd: bool,
    /// Tells what it does beside: that it rings, that it is muted, as far as it does that.
    pub infos: bool,
    /// The hash of bytes in Base64, by the algorithm's name.
    pub hash: fn(&str, &[u8]) -> Option<String>,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Whether the persona ended it.
    pub by_persona: bool,
    /// The reason that was said, or why nothing was.
    pub reason: String,
}

/// What a [`Stranger`] wants.
#[derive(Debug)]
pub enum StrangerOutput {
    /// Say this stanza.
    Stanza(Element),
    /// Do this for a channel's socket. What it gets comes back by [`Stranger::handle_delivery`], with the same number.
    Network(u32, ChannelOutput),
}

/// What a request of ours asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Session,
    Replace,
    Info,
    Transport(u32, u32),
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Offered,
    Accepted,
    Over,
}

/// The session that the stranger has.
pub(super) struct Leg {
    pub(super) sid: String,
    pub(super) role: Role,
    pub(super) phase: Phase,
    pub(super) content: String,
    /// Our description, as it was offered or answered.
    pub(super) medium: Medium,
    pub(super) plane: Plane,
    /// Another transport that was offered and not answered.
    pub(super) next: Option<Plane>,
    /// Transports that were not tried, best first.
    pub(super) left: Vec<&'static str>,
    /// Of the peer's offer or answer: user fragment and password.
    pub(super) credentials: Option<[String; 2]>,
    /// What waits until candidates may be told.
    pub(super) infos: Vec<(u32, Element)>,
    /// The answer, which waits until the first candidates were told.
    pub(super) answer: Option<Element>,
    pub(super) transfer: Transfer,
    pub(super) connected: bool,
    pub(super) packets: Vec<Bytes>,
}

/// One of the clients of [`catalogue`](super::catalogue), in front of one peer, with one session at a time.
///
/// It is driven like everything here: it takes stanzas and what its sockets get, and is asked for outputs until there is
/// none.
pub struct Stranger {
    pub(super) persona: Persona,
    pub(super) script: Script,
    pub(super) own: Peer,
    pub(super) peer: Peer,
    pub(super) factories: Vec<Box<dyn TransportFactory>>,
    pub(super) entropy: SeededEntropy,
    pub(super) outbox: VecDeque<StrangerOutput>,
    pub(super) asked: BTreeMap<String, Asked>,
    /// Requests for channels that answer later.
    pub(super) waiting: BTreeMap<(u32, u32), Element>,
    /// The sockets that channels have.
    pub(super) sockets: Vec<(u32, LocalSocket)>,
    pub(super) count: u32,
    pub(super) leg: Option<Leg>,
    pub(super) announced: Option<call::Announced>,
    pub(super) ending: Option<Ending>,
    pub(super) objections: Vec<String>,
    pub(super) heard: Vec<String>,
}

impl Stranger {
    /// A persona at `own`, which will talk to `peer`, over these transports.
    pub fn new(persona: Persona, script: Script, own: Peer, peer: Peer, seed: u64) -> Self {
        Self {
            persona,
            script,
            own,
            peer,
            factories: Vec::new(),
            entropy: SeededEntropy::new(seed),
            outbox: VecDeque::new(),
            asked: BTreeMap::new(),
            waiting: BTreeMap::new(),
            sockets: Vec::new(),
            count: 0,
            leg: None,
            announced: None,
            ending: None,
            objections: Vec::new(),
            heard: Vec::new(),
        }
    }

    /// Gives it a transport.
    #[must_use]
    pub fn with_transport(mut self, factory: impl TransportFactory + 'static) -> Self {
        self.factories.push(Box::new(factory));
        self
    }

    /// Calls the peer, or offers it a file: with an announcement where the client does that.
    pub fn begin(&mut self, medium: Medium, now: Instant) {
        match (&medium, self.persona.call.and_then(|habits| habits.jmi)) {
            (Medium::Call, Some(_)) => self.announce(),
            (Medium::Call | Medium::File { .. }, _) => {
                let sid = self.fresh_id();
                self.initiate(sid, medium, now);
            }
        }
        self.drain(now);
    }

    /// The person hangs up, for this reason.
    pub fn hang_up(&mut self, reason: &str, now: Instant) {
        self.terminate(reason);
        self.drain(now);
    }

    /// Takes a stanza that was sent to it.
    pub fn handle_stanza(&mut self, stanza: &Element, now: Instant) {
        match (stanza.name(), stanza.attribute("type")) {
            ("iq", Some("set" | "get")) => self.handle_request(stanza, now),
            ("iq", Some("result" | "error")) => self.handle_reply(stanza, now),
            ("message", _) => self.handle_message(stanza, now),
            (_, _) => {}
        }
        self.drain(now);
    }

    /// Takes what happened to a socket of the channel with this number.
    pub fn handle_delivery(
        &mut self,
        number: u32,
        socket: LocalSocket,
        delivery: Delivery,
        now: Instant,
    ) {
        if let Delivery::Stream(StreamEvent::Accepted { connection, .. }) = &delivery {
            self.sockets.push((number, *connection));
        }
        if let Some(channel) = self.channel(number) {
            match delivery {
                Delivery::Bound(address) => channel.handle_bound(socket, address, now),
                Delivery::Stream(event) => channel.handle_stream(socket, event, now),
                Delivery::Found(finding) => channel.handle_finding(socket.0, finding, now),
                Delivery::Datagram {
                    source,
                    payload,
                    segment_size,
                } => channel.handle_datagram(
                    Datagram {
                        socket,
                        source,
                        payload,
                        segment_size,
                    },
                    now,
                ),
            }
        }
        self.drain(now);
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(leg) = &mut self.leg {
            leg.plane.handle_timeout(now);
            if let Some(next) = &mut leg.next {
                next.handle_timeout(now);
            }
            if leg.transfer.patience.is_some_and(|at| at <= now) {
                leg.transfer.patience = None;
                self.close_file(now);
            }
        }
        self.drain(now);
    }

    /// When it wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let leg = self.leg.as_ref()?;
        let planes = [Some(&leg.plane), leg.next.as_ref()];
        let planes = planes.into_iter().flatten();
        planes
            .filter_map(Plane::poll_timeout)
            .chain(leg.transfer.patience)
            .min()
    }

    /// What it wants next.
    pub fn poll_output(&mut self) -> Option<StrangerOutput> {
        self.outbox.pop_front()
    }

    /// What of the peer's did not meet its demands, in its own order.
    pub fn objections(&self) -> &[String] {
        &self.objections
    }

    /// How its session ended, or its announcement.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// What it was told beside: infos and announcements, by name.
    pub fn heard(&self) -> &[String] {
        &self.heard
    }

    /// Whether its session was accepted and has a path.
    pub fn is_connected(&self) -> bool {
        let leg = self.leg.as_ref();
        leg.is_some_and(|leg| leg.connected && leg.phase == Phase::Accepted)
    }

    /// What it received: packets of a call, the bytes of a file.
    pub fn received(&self) -> &[Bytes] {
        self.leg.as_ref().map_or(&[], |leg| &leg.packets)
    }

    /// The transport that it uses.
    pub fn transport(&self) -> Option<&str> {
        self.leg.as_ref().map(|leg| leg.plane.namespace())
    }

    /// Whether a hash that it received is that of the bytes; `None` without one.
    pub fn verified(&self) -> Option<bool> {
        self.leg.as_ref()?.transfer.verified
    }
}

impl Stranger {
    pub(super) fn fresh_id(&mut self) -> String {
        let mut bytes = [0; 8];
        crate::Entropy::fill(&mut self.entropy, &mut bytes);
        format!("{:016x}", u64::from_be_bytes(bytes))
    }

    fn channel(&mut self, number: u32) -> Option<&mut dyn TransportChannel> {
        let leg = self.leg.as_mut()?;
        let planes = [Some(&mut leg.plane), leg.next.as_mut()];
        let mut planes = planes.into_iter().flatten();
        planes.find_map(|plane| plane.channel_of(number))
    }

    /// A transport of this namespace, if it has one.
    fn make_plane(
        &mut self,
        namespace: &str,
        role: Role,
        sid: &str,
        content: &str,
        is_call: bool,
    ) -> Option<Plane> {
        let mut seed = [0; 32];
        crate::Entropy::fill(&mut self.entropy, &mut seed);
        self.count += 1;
        let google = self.wire() == super::Wire::GoogleSession && is_call;
        let context = TransportContext {
            role,
            local: self.own.clone(),
            remote: self.peer.clone(),
            sid: sid.into(),
            content: content.into(),
            dialect: match google {
                true => Dialect::GTALK_LATE,
                false => Dialect::JINGLE,
            },
            seed,
            waker: Waker::noop().clone(),
        };
        let names: &[&str] = if is_call { &["rtp", "rtcp"] } else { &["file"] };
        let factory = self.factories.iter().find(|f| f.namespace() == namespace)?;
        Some(Plane::new(self.count, names, &**factory, &context))
    }

    pub(super) fn wire(&self) -> super::Wire {
        let call = self.persona.call;
        call.map_or(super::Wire::Jingle, |habits| habits.wire)
    }

    pub(super) fn object(&mut self, what: impl Into<String>) {
        self.objections.push(what.into());
    }

    pub(super) fn say(&mut self, stanza: Element) {
        self.outbox.push_back(StrangerOutput::Stanza(stanza));
    }

    fn ask(&mut self, to: &Peer, payload: Element, asked: Asked) {
        let id = self.fresh_id();
        let kind = match payload.name() == "query" && payload.children().next().is_none() {
            true => "get",
            false => "set",
        };
        let request = wire::iq(kind, &id, &self.own, to).child(payload);
        self.asked.insert(id, asked);
        self.say(request);
    }

    /// The session is over for it.
    pub(super) fn over(&mut self, by_persona: bool, reason: impl Into<String>) {
        if let Some(leg) = &mut self.leg {
            leg.phase = Phase::Over;
            for plane in [Some(&mut leg.plane), leg.next.as_mut()]
                .into_iter()
                .flatten()
            {
                plane.close();
            }
        }
        let reason = reason.into();
        self.ending.get_or_insert(Ending { by_persona, reason });
    }

    fn react(&mut self, request: &Element, reaction: Reaction) {
        match reaction {
            Reaction::Handle | Reaction::Ack | Reaction::Decline => {
                self.say(wire::answer(request, "result"));
            }
            Reaction::Error(condition, special) => {
                self.say(wire::error(request, "cancel", condition, special));
            }
            Reaction::Silence => {}
            Reaction::End(reason) => {
                self.say(wire::answer(request, "result"));
                self.terminate(reason);
            }
        }
    }

    /// Takes what its channels want, until they want nothing.
    fn drain(&mut self, now: Instant) {
        for _ in 0..OUTPUTS_MAX {
            let Some(leg) = &mut self.leg else { return };
            let mut output = leg.plane.poll_output();
            if let (None, Some(next)) = (&output, &mut leg.next) {
                output = next.poll_output();
            }
            match output {
                Some((number, output)) => self.carry_out(number, output, now),
                None if self.push_bytes(now) => {}
                None => return self.tell_candidates(),
            }
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "what is not signalling is the network's"
    )]
    fn carry_out(&mut self, number: u32, output: ChannelOutput, now: Instant) {
        match output {
            ChannelOutput::Info(info) => {
                if let Some(leg) = &mut self.leg {
                    leg.infos.push((number, info));
                }
            }
            ChannelOutput::Request {
                token, to, payload, ..
            } => {
                let to = to.unwrap_or_else(|| self.peer.clone());
                self.ask(&to, payload, Asked::Transport(number, token));
            }
            ChannelOutput::Answer { token, answer } => self.answer_later(number, token, answer),
            ChannelOutput::Packet(batch) => {
                for packet in batch {
                    self.take_packet(packet, now);
                }
            }
            ChannelOutput::Writable(writable) => self.set_writable(number, writable, now),
            ChannelOutput::Failed(error) => self.transport_failed(number, &error.to_string(), now),
            ChannelOutput::Finished => self.stream_ended(number, now),
            ChannelOutput::Delivered => {}
            ChannelOutput::Gathered | ChannelOutput::Path(_) => {}
            other => {
                if let ChannelOutput::Bind(socket, ..) | ChannelOutput::Connect(socket, _) = &other
                {
                    self.sockets.push((number, *socket));
                }
                self.outbox
                    .push_back(StrangerOutput::Network(number, other));
            }
        }
    }

    /// Closes what channels have, as whoever drives them does when they go.
    pub(super) fn close_sockets(&mut self, gone: impl Fn(u32) -> bool) {
        let gone = self.sockets.extract_if(.., |(number, _)| gone(*number));
        let close =
            |(number, socket)| StrangerOutput::Network(number, ChannelOutput::Close(socket));
        self.outbox.extend(gone.map(close));
    }
}

/// The first content of a message.
fn first(jingle: &Element) -> Option<ElementRef<'_>> {
    wire::contents(jingle).next()
}

impl fmt::Debug for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stranger")
            .field("persona", &self.persona.name)
            .field("ending", &self.ending)
            .field("objections", &self.objections)
            .finish_non_exhaustive()
    }
}
