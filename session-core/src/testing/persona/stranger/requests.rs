//! Who asks what: requests, answers, and which session they are for.

use super::{Asked, Phase, Stranger, first};
use crate::{
    Action, Condition, Element, ErrorKind, Peer, PeerError, RequestAnswer, Role, StanzaError,
    testing::persona::{Lookup, Reaction, call::google, wire},
};
use std::time::Instant;

impl Stranger {
    pub(super) fn handle_request(&mut self, request: &Element, now: Instant) {
        let Some(payload) = request.children().next() else {
            return self.react(request, Reaction::Error("bad-request", None));
        };
        if payload.is(wire::JINGLE, "jingle") {
            let jingle = payload.to_element();
            return self.handle_jingle(request, &jingle, now);
        }
        if payload.is(wire::GOOGLE_SESSION, "session") {
            return match google::read(payload) {
                Some(jingle) => self.handle_jingle(request, &jingle, now),
                None => self.react(request, Reaction::Ack),
            };
        }
        if payload.is(wire::DISCO, "query") {
            let features = self.persona.features.iter();
            let features =
                features.map(|feature| Element::new(wire::DISCO, "feature").with("var", feature));
            let query = Element::new(wire::DISCO, "query").children_from(features);
            return self.say(wire::answer(request, "result").child(query));
        }
        self.handle_stream_request(request, now);
    }

    /// A request for a transport.
    fn handle_stream_request(&mut self, request: &Element, now: Instant) {
        let payload = request.children().next().map(crate::ElementRef::to_element);
        let from: Peer = request.attribute("from").unwrap_or_default().into();
        let leg = self.leg.as_mut().filter(|leg| leg.phase != Phase::Over);
        let mut answer = None;
        if let (Some(leg), Some(payload)) = (leg, payload) {
            for plane in [Some(&mut leg.plane), leg.next.as_mut()]
                .into_iter()
                .flatten()
            {
                let said = plane.channels().find_map(|(number, channel)| {
                    Some((number, channel.handle_request(&from, &payload, now)?))
                });
                if said.is_some() {
                    answer = said;
                    break;
                }
            }
        }
        match answer {
            None => self.react(request, Reaction::Error("service-unavailable", None)),
            Some((_, RequestAnswer::Now(said))) => self.answer_stream(request, said),
            Some((number, RequestAnswer::Later(token))) => {
                self.waiting.insert((number, token), request.clone());
            }
        }
    }

    pub(super) fn answer_later(
        &mut self,
        number: u32,
        token: u32,
        said: Result<Option<Element>, PeerError>,
    ) {
        if let Some(request) = self.waiting.remove(&(number, token)) {
            self.answer_stream(&request, said);
        }
    }

    fn answer_stream(&mut self, request: &Element, said: Result<Option<Element>, PeerError>) {
        match said {
            Ok(payload) => {
                self.say(wire::answer(request, "result").children_from(payload));
            }
            Err(error) => {
                let error = error.to_stanza_error(crate::Dialect::JINGLE);
                self.say(wire::error(
                    request,
                    "cancel",
                    error.condition.as_str(),
                    None,
                ));
            }
        }
    }

    pub(super) fn handle_reply(&mut self, reply: &Element, now: Instant) {
        let id = reply.attribute("id").unwrap_or_default();
        let Some(asked) = self.asked.remove(id) else {
            return;
        };
        let failed = reply.attribute("type") == Some("error");
        if let Asked::Transport(number, token) = asked {
            let payload = reply.children().next().map(crate::ElementRef::to_element);
            let answer = match failed {
                false => Ok(payload),
                true => Err(StanzaError::new(
                    Condition::NotAcceptable,
                    ErrorKind::Cancel,
                )),
            };
            if let Some(channel) = self.channel(number) {
                channel.handle_response(token, answer, now);
            }
            return;
        }
        if !failed {
            return;
        }
        let condition = wire::condition(reply);
        match asked {
            Asked::Replace => {
                if let Some(leg) = &mut self.leg {
                    leg.next = None;
                }
            }
            Asked::Session => self.over(false, format!("error {condition}")),
            Asked::Info if self.persona.errors_end => {
                self.object(format!("any error ends its session: {condition}"));
                self.terminate("failed-application");
            }
            Asked::Info => self.heard.push(format!("error {condition}")),
            Asked::Transport(..) => {}
        }
    }

    fn handle_jingle(&mut self, request: &Element, jingle: &Element, now: Instant) {
        let name = jingle.attribute("action").unwrap_or_default();
        let Some(action) = Action::from_jingle(name) else {
            return self.react(request, self.persona.unknown_action);
        };
        if action == Action::SessionInitiate {
            return self.receive_initiate(request, jingle, now);
        }
        if !self.is_known(request, jingle) {
            return self.react(request, self.persona.unknown_session);
        }
        let reaction = self.persona.reaction(action);
        if reaction != Reaction::Handle {
            self.react(request, reaction);
            if reaction == Reaction::Decline {
                self.decline(action, jingle);
            }
            return;
        }
        if let Some((what, reaction)) = self.judge_contents(action, jingle) {
            self.object(what);
            return self.react(request, reaction);
        }
        self.act(request, action, jingle, now);
    }

    fn act(&mut self, request: &Element, action: Action, jingle: &Element, now: Instant) {
        match action {
            Action::SessionAccept => self.receive_accept(request, jingle, now),
            Action::SessionTerminate => {
                self.react(request, Reaction::Ack);
                self.over(false, wire::reason_of(jingle));
                self.finish_announced("success");
            }
            Action::SessionInfo => self.receive_info(request, jingle, now),
            Action::TransportInfo => self.receive_transport_info(request, jingle, now),
            Action::TransportReplace => self.receive_replace(request, jingle, now),
            Action::TransportAccept => self.receive_replaced(request, jingle, now),
            Action::TransportReject => self.receive_unreplaced(request, now),
            Action::ContentAdd => {
                self.react(request, Reaction::Ack);
                self.decline(action, jingle);
            }
            Action::ContentAccept
            | Action::ContentModify
            | Action::ContentReject
            | Action::ContentRemove
            | Action::DescriptionInfo
            | Action::SecurityInfo => self.react(request, Reaction::Ack),
            Action::SessionInitiate | Action::Reject | Action::Redirect => {
                self.react(request, Reaction::Error("bad-request", None));
            }
        }
    }

    fn is_known(&self, request: &Element, jingle: &Element) -> bool {
        let leg = self.leg.as_ref().filter(|leg| leg.phase != Phase::Over);
        let named = jingle.attribute("sid");
        let named = leg.is_some_and(|leg| named == Some(&*leg.sid));
        let from = request.attribute("from") == Some(self.peer.as_str());
        named && (from || self.persona.lookup == Lookup::Sid)
    }

    /// What it demands of contents outside of offers.
    fn judge_contents(&self, action: Action, jingle: &Element) -> Option<(String, Reaction)> {
        let leg = self.leg.as_ref()?;
        let is_one = matches!(
            action,
            Action::ContentAdd
                | Action::ContentModify
                | Action::DescriptionInfo
                | Action::TransportInfo
                | Action::TransportReplace
                | Action::TransportAccept
                | Action::TransportReject
        );
        if is_one && self.persona.one_content && wire::contents(jingle).count() != 1 {
            let reaction = Reaction::Error("feature-not-implemented", None);
            return Some((format!("{action} of several contents"), reaction));
        }
        let google = self.wire() == crate::testing::persona::Wire::GoogleSession;
        let content = first(jingle).filter(|_| action != Action::ContentAdd && !google)?;
        if content.attribute("name") != Some(&leg.content) {
            let reaction = Reaction::Error("item-not-found", None);
            return Some((format!("{action} of an unknown content"), reaction));
        }
        let creator = content.attribute("creator");
        if self.persona.strict_creator && creator != Some(Role::Initiator.as_str()) {
            let reaction = Reaction::Error("item-not-found", None);
            return Some((format!("{action} with the creator {creator:?}"), reaction));
        }
        None
    }
}
