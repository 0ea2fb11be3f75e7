//! What a stranger does with sessions.

use super::{Asked, Leg, Medium, Phase, Stranger, Verdict, first};
use crate::{
    Action, Element, Role,
    testing::persona::{
        Dtls, Midway, Reaction, Replaces, Wire, call, call::google, file, file::Transfer, wire,
    },
};
use std::time::Instant;

/// The digest of a certificate that nobody has.
const FINGERPRINT: &str = "A1:B2:C3:D4:E5:F6:07:18:29:3A:4B:5C:6D:7E:8F:90:A1:B2:C3:D4:E5:F6:07:18:29:3A:4B:5C:6D:7E:8F:90";

/// Speaking.
impl Stranger {
    /// A message of its session.
    pub(super) fn message(
        &self,
        action: Action,
        parts: impl IntoIterator<Item = Element>,
    ) -> Element {
        let leg = self.leg.as_ref();
        let sid = leg.map(|leg| &*leg.sid);
        let sid = sid.filter(|_| !(self.persona.omits_sid && action == Action::SessionTerminate));
        let (initiator, responder) = match leg.map(|leg| leg.role) {
            Some(Role::Responder) => (&self.peer, Some(&self.own)),
            Some(Role::Initiator) | None => (&self.own, None),
        };
        let responder = responder.filter(|_| action == Action::SessionAccept);
        Element::new(wire::JINGLE, "jingle")
            .with("action", action.as_str())
            .with("initiator", initiator.as_str())
            .with_opt("responder", responder.map(crate::Peer::as_str))
            .with_opt("sid", sid)
            .children_from(parts)
    }

    pub(super) fn send(&mut self, message: Element, asked: Asked) {
        let message = match self.wire() {
            Wire::GoogleSession => {
                let declines = self
                    .leg
                    .as_ref()
                    .is_some_and(|leg| leg.role == Role::Responder && leg.phase == Phase::Offered);
                google::write(&message, declines)
            }
            Wire::Jingle | Wire::GoogleJingle => message,
        };
        let peer = self.peer.clone();
        self.ask(&peer, message, asked);
    }

    pub(super) fn content(&self, parts: impl IntoIterator<Item = Element>) -> Element {
        let leg = self.leg.as_ref();
        let senders = leg.map(|leg| match leg.medium {
            Medium::Call => "both",
            Medium::File { .. } => "initiator",
        });
        Element::new(wire::JINGLE, "content")
            .with("creator", wire::role(Role::Initiator))
            .with("name", leg.map_or("", |leg| &*leg.content))
            .with_opt("senders", senders)
            .children_from(parts)
    }

    /// A transport with what DTLS needs, unless it says so itself.
    fn sealed(&self, mut transport: Element, setup: &str) -> Element {
        let dtls = self.persona.call.map(|habits| habits.dtls);
        let is_ice = transport.namespace() == wire::ICE;
        let own = transport.find(wire::DTLS, "fingerprint").is_some();
        if is_ice && !own && matches!(dtls, Some(Dtls::Required | Dtls::Offered)) {
            transport.push(fingerprint(setup));
        }
        transport
    }

    pub(in super::super) fn terminate(&mut self, reason: &str) {
        if self.leg.as_ref().is_none_or(|leg| leg.phase == Phase::Over) {
            return self.withdraw_announced(reason);
        }
        let reason_element = wire::reason(&self.persona, reason);
        let message = self.message(Action::SessionTerminate, [reason_element]);
        self.send(message, Asked::Transport(0, 0));
        self.over(true, reason);
        self.finish_announced(reason);
    }

    /// Declines a change.
    pub(super) fn decline(&mut self, action: Action, jingle: &Element) {
        let (action, name) = match action == Action::TransportReplace {
            true => (Action::TransportReject, "transport"),
            false => (Action::ContentReject, "description"),
        };
        let Some(content) = first(jingle) else { return };
        let part = wire::part(content, name).map(crate::ElementRef::to_element);
        let content = Element::new(wire::JINGLE, "content")
            .with_opt("creator", content.attribute("creator"))
            .with_opt("name", content.attribute("name"))
            .children_from(part);
        let message = self.message(action, [content]);
        self.send(message, Asked::Info);
    }

    fn out_of_order(&mut self, request: &Element, what: &str) {
        let kind = self.persona.out_of_order;
        self.object(format!("{what} is out of order"));
        self.say(wire::error(
            request,
            kind,
            "unexpected-request",
            Some("out-of-order"),
        ));
        if self.persona.errors_end {
            self.terminate("failed-application");
        }
    }

    /// Tells candidates, if it is time.
    pub(super) fn tell_candidates(&mut self) {
        let (early, call) = (self.script.early, self.persona.call);
        let one = call.is_some_and(|habits| habits.one_candidate);
        let Some(leg) = &mut self.leg else { return };
        let is_time = leg.phase == Phase::Accepted || (leg.phase == Phase::Offered && early);
        if !is_time || leg.infos.is_empty() {
            return;
        }
        let mut infos = std::mem::take(&mut leg.infos);
        if self.script.odd
            && leg.plane.namespace() == wire::ICE
            && let Some((number, like)) = infos.last().cloned()
        {
            infos.extend(call::odd_candidates(&like).map(|info| (number, info)));
        }
        let is_google = self.wire() != Wire::Jingle;
        let groups: Vec<Vec<(u32, Element)>> = match one || is_google {
            true => infos.into_iter().map(|info| vec![info]).collect(),
            false => vec![infos],
        };
        for group in groups {
            let Some(leg) = &mut self.leg else { return };
            let plane = leg.next.as_mut().unwrap_or(&mut leg.plane);
            let transport = plane.wrap(group);
            let content = self.content([transport]);
            let message = self.message(Action::TransportInfo, [content]);
            self.send(message, Asked::Info);
        }
        if let Some(answer) = self.leg.as_mut().and_then(|leg| leg.answer.take()) {
            self.accept(answer);
        }
    }
}

/// Beginning.
impl Stranger {
    /// Offers a session.
    pub(in super::super) fn initiate(&mut self, sid: String, medium: Medium, now: Instant) {
        let is_call = medium == Medium::Call;
        let mut left = self.namespaces(is_call);
        if left.is_empty() {
            return self.over(true, "it has no transport for this");
        }
        let content = if is_call { "0" } else { "a-file" };
        let namespace = left.remove(0);
        let plane = self.make_plane(namespace, Role::Initiator, &sid, content, is_call);
        let Some(mut plane) = plane else { return };
        let transport = self.sealed(plane.offer(), "actpass");
        let description = match &medium {
            Medium::Call => call::offer(self.persona.call),
            Medium::File { name, bytes } => {
                file::offer(self.persona.file, name, bytes, self.script.hash)
            }
        };
        self.leg = Some(Leg {
            sid,
            role: Role::Initiator,
            phase: Phase::Offered,
            content: content.to_owned(),
            transfer: Transfer::sending(&medium),
            medium,
            plane,
            next: None,
            left,
            credentials: None,
            infos: Vec::new(),
            answer: None,
            connected: false,
            packets: Vec::new(),
        });
        let content = self.content([description, transport]);
        let message = self.message(Action::SessionInitiate, [content]);
        self.send(message, Asked::Session);
        self.connect(now);
    }

    fn namespaces(&self, is_call: bool) -> Vec<&'static str> {
        let wanted: &[&'static str] = match (is_call, self.wire(), self.persona.file) {
            (true, Wire::Jingle, _) => &[wire::ICE],
            (true, Wire::GoogleJingle | Wire::GoogleSession, _) => &[wire::GOOGLE_P2P],
            (false, _, Some(habits)) => habits.transports,
            (false, _, None) => &[],
        };
        let has = |namespace: &str| self.factories.iter().any(|f| f.namespace() == namespace);
        wanted
            .iter()
            .copied()
            .filter(|namespace| has(namespace))
            .collect()
    }

    fn connect(&mut self, now: Instant) {
        let Some(leg) = &mut self.leg else { return };
        let (number, connected) = (leg.plane.number, leg.plane.connect(now));
        if let Err(error) = connected {
            self.transport_failed(number, &error.to_string(), now);
        }
    }

    pub(super) fn receive_initiate(&mut self, request: &Element, jingle: &Element, now: Instant) {
        if self
            .leg
            .as_ref()
            .is_some_and(|leg| leg.phase != Phase::Over)
        {
            let error = Reaction::Error("conflict", Some("tie-break"));
            return self.react(request, error);
        }
        let offer = first(jingle).and_then(|content| wire::part(content, "description"));
        let offer = offer.map(crate::ElementRef::to_element);
        let is_call = offer
            .as_ref()
            .is_some_and(|offer| offer.namespace() != wire::FILE);
        let judged = match (&offer, is_call) {
            (Some(_), true) => self.judge_call(jingle, true),
            (Some(offer), false) => file::judge_offer(self.persona.file, jingle, offer),
            (None, _) => Err((
                "no description".to_owned(),
                Reaction::Error("bad-request", None),
            )),
        };
        let sid = jingle.attribute("sid").unwrap_or_default().to_owned();
        let content = first(jingle).and_then(|c| c.attribute("name"));
        let content = content.unwrap_or_default().to_owned();
        let transport = first(jingle).and_then(|c| wire::part(c, "transport"));
        let transport = transport.map(crate::ElementRef::to_element);
        let namespaces = self.namespaces(is_call);
        let namespace = transport
            .as_ref()
            .map(|t| t.namespace().to_owned())
            .unwrap_or_default();
        let role = Role::Responder;
        let plane = match namespaces.contains(&&*namespace) {
            true => self.make_plane(&namespace, role, &sid, &content, is_call),
            false => None,
        };
        let medium = match (&offer, is_call) {
            (Some(offer), false) => file::medium(offer),
            (_, _) => Medium::Call,
        };
        let (Some(plane), Some(transport)) = (plane, transport) else {
            self.object(format!("no use for the transport {namespace:?}"));
            return self.react(request, Reaction::Error("bad-request", None));
        };
        self.leg = Some(Leg {
            transfer: Transfer::receiving(&medium, offer.as_ref()),
            sid,
            role,
            phase: Phase::Offered,
            content,
            medium,
            plane,
            next: None,
            left: Vec::new(),
            credentials: credentials(&transport),
            infos: Vec::new(),
            answer: None,
            connected: false,
            packets: Vec::new(),
        });
        if let Err((what, reaction)) = judged {
            self.object(what);
            self.react(request, reaction);
            if matches!(reaction, Reaction::Error(..)) {
                self.over(true, "refused");
            }
            return;
        }
        self.react(request, Reaction::Ack);
        self.decide(offer, &transport, now);
    }

    /// What the person does.
    fn decide(&mut self, offer: Option<Element>, transport: &Element, now: Instant) {
        let Some(leg) = &mut self.leg else { return };
        let answered = leg.plane.accept_offer(transport);
        let habits = self.persona.call;
        let is_call = leg.medium == Medium::Call;
        let transport = match answered {
            Ok(transport) => transport,
            Err(error) => {
                self.object(format!("the transport: {error}"));
                return self.terminate("failed-transport");
            }
        };
        match self.script.verdict {
            Verdict::Accept => {}
            Verdict::Decline => return self.terminate("decline"),
            Verdict::Busy => return self.terminate("busy"),
            Verdict::Silent => return,
        }
        if is_call && self.script.infos && habits.is_some_and(|habits| habits.rings) {
            self.info(Element::new(wire::RTP_INFO, "ringing"));
        }
        if is_call && habits.is_some_and(|habits| habits.fingerprint_first) {
            let own = transport.find(wire::DTLS, "fingerprint");
            let mut early =
                own.map_or_else(|| fingerprint("actpass"), crate::ElementRef::to_element);
            early.set_attribute("setup", "actpass");
            let early = Element::new(wire::ICE, "transport").child(early);
            let content = self.content([early]);
            let message = self.message(Action::TransportInfo, [content]);
            self.send(message, Asked::Info);
        }
        let description = match (offer, is_call) {
            (Some(offer), true) => {
                let answer = call::answer(habits, &offer);
                self.narrow_if(answer.view());
                answer
            }
            (Some(offer), false) => file::answer(self.persona.file, &offer),
            (None, _) => return,
        };
        let transport = self.sealed(transport, "active");
        let answer = self.content([description, transport]);
        if self.script.early && is_call {
            self.connect(now);
            if let Some(leg) = &mut self.leg {
                leg.answer = Some(answer);
            }
        } else {
            self.accept(answer);
            self.connect(now);
        }
    }

    /// RTCP goes with RTP where both say so.
    fn narrow_if(&mut self, description: crate::ElementRef<'_>) {
        let shared = description
            .children()
            .any(|child| child.name() == "rtcp-mux");
        if let Some(leg) = self.leg.as_mut().filter(|_| shared) {
            leg.plane.narrow();
        }
    }

    fn accept(&mut self, answer: Element) {
        let message = self.message(Action::SessionAccept, [answer]);
        self.send(message, Asked::Session);
        if let Some(leg) = &mut self.leg {
            leg.phase = Phase::Accepted;
        }
        self.accepted();
    }

    pub(super) fn receive_accept(&mut self, request: &Element, jingle: &Element, now: Instant) {
        let Some(leg) = &self.leg else { return };
        if leg.role != Role::Initiator || leg.phase != Phase::Offered {
            return self.out_of_order(request, "session-accept");
        }
        if leg.medium == Medium::Call
            && let Err((what, reaction)) = self.judge_call(jingle, false)
        {
            self.object(what);
            return self.react(request, reaction);
        }
        self.react(request, Reaction::Ack);
        let transport = first(jingle).and_then(|content| wire::part(content, "transport"));
        let transport = transport.map(crate::ElementRef::to_element);
        if let Some(answer) = first(jingle).and_then(|c| wire::part(c, "description")) {
            self.narrow_if(answer);
        }
        let Some(leg) = &mut self.leg else { return };
        leg.phase = Phase::Accepted;
        leg.credentials = transport.as_ref().and_then(credentials);
        let taken = match transport {
            Some(transport) => leg.plane.accept_answer(&transport, now),
            None => Ok(()),
        };
        if let Err(error) = taken {
            self.object(format!("the answer: {error}"));
            return self.terminate("failed-transport");
        }
        self.accepted();
    }

    /// What it does as soon as there is a session.
    fn accepted(&mut self) {
        let mutes = self.persona.call.is_some_and(|habits| habits.mutes);
        let is_call = self
            .leg
            .as_ref()
            .is_some_and(|leg| leg.medium == Medium::Call);
        if is_call && mutes && self.script.infos {
            let name = self.leg.as_ref().map(|leg| leg.content.clone());
            let mute = Element::new(wire::RTP_INFO, "mute")
                .with("creator", wire::role(Role::Initiator))
                .with_opt("name", name);
            self.info(mute);
        }
    }

    pub(in super::super) fn info(&mut self, info: Element) {
        let message = self.message(Action::SessionInfo, [info]);
        self.send(message, Asked::Info);
    }
}

/// While it lasts.
impl Stranger {
    pub(super) fn receive_transport_info(
        &mut self,
        request: &Element,
        jingle: &Element,
        now: Instant,
    ) {
        let transport = first(jingle).and_then(|content| wire::part(content, "transport"));
        let Some(transport) = transport.map(crate::ElementRef::to_element) else {
            return self.react(request, Reaction::Error("bad-request", None));
        };
        if let Some((what, reaction)) = self.judge_candidates(&transport) {
            self.object(what);
            return self.react(request, reaction);
        }
        let Some(leg) = &mut self.leg else { return };
        let next = leg
            .next
            .as_mut()
            .filter(|next| next.namespace() == transport.namespace());
        let plane = match next {
            Some(next) => Some(next),
            None => Some(&mut leg.plane).filter(|p| p.namespace() == transport.namespace()),
        };
        let taken = plane.map(|plane| plane.handle_info(&transport, now));
        match taken {
            Some(Err(error)) => {
                self.object(format!("transport-info: {error}"));
                self.react(request, Reaction::Error("bad-request", None));
            }
            Some(Ok(())) | None => self.react(request, Reaction::Ack),
        }
    }

    pub(super) fn receive_info(&mut self, request: &Element, jingle: &Element, now: Instant) {
        let infos: Vec<_> = jingle
            .children()
            .map(crate::ElementRef::to_element)
            .collect();
        let names = infos.iter().map(|info| info.name().to_owned());
        self.heard.extend(names);
        let of_files = infos.iter().any(|info| info.namespace() == wire::FILE);
        let reaction = match (of_files, self.persona.file) {
            (true, Some(habits)) => habits.infos,
            (_, _) => Reaction::Ack,
        };
        self.react(request, reaction);
        if reaction == Reaction::Handle {
            self.take_checksums(&infos, now);
        }
    }

    /// The peer wants another transport.
    pub(super) fn receive_replace(&mut self, request: &Element, jingle: &Element, now: Instant) {
        let Some(leg) = &self.leg else { return };
        let (role, phase, sid) = (leg.role, leg.phase, leg.sid.clone());
        let (content, is_call) = (leg.content.clone(), leg.medium == Medium::Call);
        if role == Role::Initiator && leg.next.is_some() {
            return self.react(request, Reaction::Error("conflict", Some("tie-break")));
        }
        let rule = self.persona.file.map(|habits| habits.replaces);
        if rule == Some(Replaces::AfterAccept)
            && (role == Role::Initiator || phase != Phase::Accepted)
        {
            return self.out_of_order(request, "transport-replace");
        }
        let midway = self.midway();
        match midway {
            Some(Midway::OutOfOrder) => return self.out_of_order(request, "transport-replace"),
            Some(Midway::Refuses) => {
                self.react(request, Reaction::Ack);
                return self.decline(Action::TransportReplace, jingle);
            }
            Some(Midway::Ignores) => return self.react(request, Reaction::Ack),
            Some(Midway::Ends | Midway::Appends | Midway::Restarts) | None => {}
        }
        self.react(request, Reaction::Ack);
        let transport = first(jingle).and_then(|content| wire::part(content, "transport"));
        let transport = transport.map(crate::ElementRef::to_element);
        let namespace = transport.as_ref().map_or("", |t| t.namespace()).to_owned();
        let judged = transport
            .as_ref()
            .map(|t| file::judge_transport(self.persona.file, t.view()));
        if let Some(Err((what, _))) = judged {
            self.object(what);
        }
        let fits = rule != Some(Replaces::ToInBand) || namespace == wire::IBB;
        let known = self.namespaces(is_call).contains(&&*namespace);
        let plane = match fits && known {
            true => self.make_plane(&namespace, role, &sid, &content, is_call),
            false => None,
        };
        let (Some(mut plane), Some(transport)) = (plane, transport) else {
            return self.decline(Action::TransportReplace, jingle);
        };
        match plane.accept_offer(&transport) {
            Ok(answer) => {
                let content = self.content([answer]);
                let message = self.message(Action::TransportAccept, [content]);
                self.send(message, Asked::Info);
                if midway == Some(Midway::Ends) {
                    return self.terminate("connectivity-error");
                }
                self.go_over(plane, now);
            }
            Err(error) => {
                self.object(format!("transport-replace: {error}"));
                self.decline(Action::TransportReplace, jingle);
            }
        }
    }

    pub(super) fn receive_replaced(&mut self, request: &Element, jingle: &Element, now: Instant) {
        let transport = first(jingle).and_then(|content| wire::part(content, "transport"));
        let transport = transport.map(crate::ElementRef::to_element);
        let forgets = self
            .persona
            .file
            .is_some_and(|habits| habits.forgets_replacement);
        let Some(leg) = &mut self.leg else { return };
        let (Some(mut next), Some(transport)) = (leg.next.take(), transport) else {
            return self.out_of_order(request, "transport-accept");
        };
        if forgets && transport.namespace() != leg.plane.namespace() {
            // dino#1554: it compares the answer with the transport that failed.
            leg.next = Some(next);
            return self.react(request, Reaction::Error("bad-request", None));
        }
        match next.accept_answer(&transport, now) {
            Ok(()) => {
                self.react(request, Reaction::Ack);
                self.go_over(next, now);
            }
            Err(error) => {
                self.object(format!("transport-accept: {error}"));
                self.react(request, Reaction::Error("bad-request", None));
            }
        }
    }

    pub(super) fn receive_unreplaced(&mut self, request: &Element, now: Instant) {
        self.react(request, Reaction::Ack);
        if self.persona.file.is_some_and(|habits| habits.reject_ends) {
            return self.terminate("failed-transport");
        }
        if let Some(leg) = &mut self.leg {
            leg.next = None;
        }
        self.try_next(now);
    }

    /// What it does about another transport, if bytes of a file have flowed.
    fn midway(&self) -> Option<Midway> {
        let leg = self.leg.as_ref()?;
        let habits = self.persona.file?;
        let flowed = leg.medium != Medium::Call && leg.transfer.has_flowed(&leg.packets);
        flowed.then_some(habits.midway)
    }

    fn go_over(&mut self, plane: super::Plane, now: Instant) {
        let restarts = self.midway() == Some(Midway::Restarts);
        if let Some(leg) = &mut self.leg {
            if restarts {
                leg.packets.clear();
                leg.transfer.restart();
            }
            leg.plane.close();
            let old = std::mem::replace(&mut leg.plane, plane);
            leg.infos.clear();
            leg.connected = false;
            self.close_sockets(|number| old.has(number));
        }
        self.connect(now);
    }

    /// A transport has failed.
    pub(in super::super) fn transport_failed(&mut self, number: u32, _: &str, now: Instant) {
        let Some(leg) = &self.leg else { return };
        if leg.phase == Phase::Over || !leg.plane.has(number) {
            return;
        }
        self.close_sockets(|of| of == number);
        let Some(leg) = &self.leg else { return };
        if leg.medium == Medium::Call {
            return self.terminate("connectivity-error");
        }
        let ends = self.persona.file.is_some_and(|habits| habits.break_ends);
        if ends && self.midway().is_some() {
            return self.terminate("connectivity-error");
        }
        let replaces = self
            .persona
            .file
            .is_some_and(|habits| habits.replaces_as_responder);
        if leg.role == Role::Initiator || replaces {
            self.try_next(now);
        }
    }

    fn try_next(&mut self, _: Instant) {
        let Some(leg) = &mut self.leg else { return };
        let (role, sid, content) = (leg.role, leg.sid.clone(), leg.content.clone());
        if leg.role == Role::Responder && leg.plane.namespace() == wire::S5B {
            leg.left = vec![wire::IBB];
        }
        if leg.left.is_empty() {
            return self.terminate("connectivity-error");
        }
        let namespace = leg.left.remove(0);
        let Some(mut plane) = self.make_plane(namespace, role, &sid, &content, false) else {
            return self.terminate("connectivity-error");
        };
        let offer = plane.offer();
        if let Some(leg) = &mut self.leg {
            leg.next = Some(plane);
        }
        let content = self.content([offer]);
        let message = self.message(Action::TransportReplace, [content]);
        self.send(message, Asked::Replace);
    }
}

fn fingerprint(setup: &str) -> Element {
    Element::new(wire::DTLS, "fingerprint")
        .with("hash", "sha-256")
        .with("setup", setup)
        .text(FINGERPRINT)
}

/// The ICE credentials that a transport has.
fn credentials(transport: &Element) -> Option<[String; 2]> {
    let [ufrag, pwd] = ["ufrag", "pwd"].map(|key| transport.attribute(key).map(Into::into));
    Some([ufrag?, pwd?])
}
