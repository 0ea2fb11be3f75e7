//! Calls: descriptions, demands, and announcements.

pub(super) mod google;

use super::{
    CallHabits, Dtls, Reaction, Stranger, Wire,
    stranger::{Ending, Medium},
    wire,
};
use crate::{Element, ElementRef, Role};
use std::time::Instant;

/// A call that was announced and has no session yet.
#[derive(Clone, Debug)]
pub(super) struct Announced {
    pub(super) id: String,
    /// Who announced it.
    pub(super) role: Role,
    pub(super) media: Vec<String>,
}

/// What it calls with: most preferred first.
const CODECS: [(&str, &str, &str, Option<&str>); 4] = [
    ("111", "opus", "48000", Some("2")),
    ("9", "G722", "8000", None),
    ("0", "PCMU", "8000", None),
    ("8", "PCMA", "8000", None),
];

pub(super) fn offer(habits: Option<CallHabits>) -> Element {
    let narrow = habits.is_some_and(|habits| habits.codec == Some("PCMU"));
    let wanted = CODECS
        .iter()
        .filter(|(_, name, ..)| !narrow || name.starts_with("PCM"));
    let google = habits.is_some_and(|habits| habits.wire == Wire::GoogleSession);
    let namespace = if google {
        wire::GOOGLE_PHONE
    } else {
        wire::RTP
    };
    let description = match google {
        true => Element::new(namespace, "description"),
        false => Element::new(namespace, "description").with("media", "audio"),
    };
    let mut description = description.children_from(wanted.map(|(id, name, clock, channels)| {
        Element::new(namespace, "payload-type")
            .with_opt("channels", *channels)
            .with("clockrate", clock)
            .with("id", id)
            .with("name", name)
    }));
    if !google && !narrow {
        description.push(Element::new(namespace, "rtcp-mux"));
    }
    description
}

/// Of the peer's payload types those that it has, or only the first of them.
pub(super) fn answer(habits: Option<CallHabits>, offer: &Element) -> Element {
    let one = habits.is_some_and(|habits| habits.one_payload);
    let known = |payload: &ElementRef<'_>| {
        let id = payload.attribute("id");
        payload.name() == "payload-type"
            && CODECS
                .iter()
                .any(|(own, name, ..)| match payload.attribute("name") {
                    Some(named) => named.eq_ignore_ascii_case(name),
                    None => id == Some(own),
                })
    };
    let shared = offer
        .children()
        .filter(known)
        .take(if one { 1 } else { usize::MAX });
    let mux = offer.children().filter(|child| child.name() == "rtcp-mux");
    let narrow = habits.is_some_and(|habits| habits.codec == Some("PCMU"));
    let children = shared
        .chain(mux.filter(|_| !narrow))
        .map(ElementRef::to_element);
    Element::new(offer.namespace(), "description")
        .with_opt("media", offer.attribute("media"))
        .children_from(children)
}

/// What no client offends against, and not all of them use: TCP, a name, a kind of the future.
pub(super) fn odd_candidates(like: &Element) -> impl Iterator<Item = Element> {
    let candidate = |id: &str, ip: &str, protocol: &str, kind: &str| {
        Element::new(wire::ICE, "candidate")
            .with("component", 1)
            .with("foundation", 77)
            .with("generation", 0)
            .with("id", id)
            .with("ip", ip)
            .with("network", 0)
            .with("port", 9)
            .with("priority", 1_000)
            .with("protocol", protocol)
            .with("type", kind)
    };
    let [ufrag, pwd] = ["ufrag", "pwd"].map(|key| like.attribute(key).map(str::to_owned));
    let odd = [
        candidate("odd1", "10.0.0.2", "tcp", "host").with("tcptype", "active"),
        candidate("odd2", "0c1f1d6e-hidden.local", "udp", "host"),
        candidate("odd3", "10.0.0.2", "ssltcp", "host"),
        candidate("odd4", "10.0.0.2", "udp", "quantum"),
    ];
    odd.into_iter().map(move |candidate| {
        Element::new(wire::ICE, "transport")
            .with_opt("pwd", pwd.as_deref())
            .with_opt("ufrag", ufrag.as_deref())
            .child(candidate)
    })
}

type Judged = Result<(), (String, Reaction)>;

fn bad(what: impl Into<String>) -> Judged {
    Err((what.into(), Reaction::Error("bad-request", None)))
}

fn insecure(what: &str) -> Judged {
    Err((what.to_owned(), Reaction::End("security-error")))
}

/// What it demands of offers and answers (jingle-peers §3.0).
impl Stranger {
    pub(super) fn judge_call(&self, jingle: &Element, is_offer: bool) -> Judged {
        let Some(habits) = self.persona.call else {
            return Err((
                "it has no calls".into(),
                Reaction::End("unsupported-applications"),
            ));
        };
        if is_offer && !habits.direct && self.announced(Role::Initiator).is_none() {
            return Err((
                "the call was not announced".into(),
                Reaction::Error("not-acceptable", None),
            ));
        }
        if is_offer && habits.wire == Wire::Jingle && jingle.attribute("initiator").is_none() {
            return bad("no initiator");
        }
        let contents: Vec<_> = wire::contents(jingle).collect();
        let mut media: Vec<String> = Vec::new();
        for content in &contents {
            self.judge_content(*content, habits, is_offer)?;
            let description = wire::part(*content, "description");
            media.extend(
                description
                    .and_then(|d| d.attribute("media"))
                    .map(Into::into),
            );
        }
        if let Some(announced) = self.announced(Role::Initiator).filter(|_| is_offer)
            && announced.media != media
        {
            return insecure("the media are not those that were announced");
        }
        Ok(())
    }

    fn judge_content(&self, content: ElementRef<'_>, habits: CallHabits, is_offer: bool) -> Judged {
        let name = content.attribute("name").unwrap_or_default();
        let google = habits.wire == Wire::GoogleSession;
        if name.is_empty() && !google {
            return bad("a content without a name");
        }
        if habits
            .name_max
            .is_some_and(|max| name.len() > max || name.contains(' '))
        {
            return bad(format!("the content name {name:?}"));
        }
        let creator = content.attribute("creator");
        if self.persona.strict_creator && creator != Some(Role::Initiator.as_str()) {
            return bad(format!("a content of the creator {creator:?}"));
        }
        let Some(description) = wire::part(content, "description") else {
            return bad("a content without a description");
        };
        let payloads: Vec<_> = description
            .children()
            .filter(|c| c.name() == "payload-type")
            .collect();
        if payloads.is_empty() || payloads.iter().any(|p| p.attribute("id").is_none()) {
            return bad("payload types without numbers, or none");
        }
        let named = |wanted: &str| {
            payloads.iter().any(|p| {
                p.attribute("name")
                    .is_some_and(|name| name.eq_ignore_ascii_case(wanted))
                    || (wanted == "PCMU" && p.attribute("id") == Some("0"))
            })
        };
        if let Some(codec) = habits.codec.filter(|codec| is_offer && !named(codec)) {
            return Err((format!("no {codec}"), Reaction::End("failed-application")));
        }
        let valueless = description.children().any(|source| {
            source.name() == "source"
                && source
                    .children()
                    .any(|p| p.name() == "parameter" && p.attribute("value").is_none())
        });
        if valueless {
            return bad("a parameter of a source without a value");
        }
        let Some(transport) = wire::part(content, "transport") else {
            return bad("a content without a transport");
        };
        if transport.namespace() != wire::ICE {
            return Ok(());
        }
        judge_transport(transport, habits.dtls, is_offer)
    }

    /// What it demands of candidates.
    pub(super) fn judge_candidates(&self, transport: &Element) -> Option<(String, Reaction)> {
        let habits = self.persona.call?;
        let ours = [wire::ICE, wire::GOOGLE_P2P].contains(&transport.namespace());
        let candidates = transport
            .children()
            .filter(|child| child.name() == "candidate");
        let candidates: Vec<_> = candidates.filter(|_| ours).collect();
        let bad = |what: String| Some((what, Reaction::Error("bad-request", None)));
        if habits.one_candidate && candidates.len() > 1 {
            return bad(format!("{} candidates in one stanza", candidates.len()));
        }
        for candidate in candidates {
            let missing = habits.candidate_attributes.iter();
            let missing = missing
                .copied()
                .find(|key| candidate.attribute(key).is_none());
            if let Some(key) = missing {
                return Some((
                    format!("a candidate without {key}"),
                    Reaction::End("general-error"),
                ));
            }
            let related = matches!(
                candidate.attribute("type"),
                Some("srflx" | "prflx" | "relay")
            );
            if related && candidate.attribute("rel-addr").is_none() {
                return bad("a reflexive candidate without rel-addr".into());
            }
            if habits.refuses_tcp && candidate.attribute("protocol") != Some("udp") {
                return bad("a candidate that is not UDP".into());
            }
        }
        let credentials = [transport.attribute("ufrag"), transport.attribute("pwd")];
        if habits.same_credentials && transport.namespace() == wire::ICE {
            let known = self.leg.as_ref().and_then(|leg| leg.credentials.as_ref());
            if credentials.iter().any(Option::is_none) {
                return bad("candidates without credentials".into());
            }
            if known.is_some_and(|known| known.iter().map(|k| Some(&**k)).ne(credentials)) {
                let reaction = Reaction::Error("not-authorized", None);
                return Some(("other credentials than the description's".into(), reaction));
            }
        }
        None
    }
}

fn judge_transport(transport: ElementRef<'_>, dtls: Dtls, is_offer: bool) -> Judged {
    if transport.attribute("ufrag").is_none() || transport.attribute("pwd").is_none() {
        return bad("a transport without credentials");
    }
    let fingerprint = transport.find(wire::DTLS, "fingerprint");
    let setup = fingerprint.and_then(|fingerprint| fingerprint.attribute("setup"));
    let wanted: &[&str] = match is_offer {
        true => &["actpass"],
        false => &["active", "passive"],
    };
    match (dtls, fingerprint) {
        (Dtls::Required, None) => insecure("no fingerprint"),
        (Dtls::Required, Some(_)) if !setup.is_some_and(|setup| wanted.contains(&setup)) => {
            insecure(&format!("the setup {setup:?}"))
        }
        (Dtls::Required, Some(print)) if print.attribute("hash").is_none() => {
            insecure("a fingerprint without its hash")
        }
        (_, _) => Ok(()),
    }
}

/// Announcements (XEP-0353).
impl Stranger {
    fn announced(&self, by: Role) -> Option<&Announced> {
        self.announced
            .as_ref()
            .filter(|announced| announced.role == by)
    }

    fn jmi(
        &self,
        verb: &str,
        id: &str,
        to: &crate::Peer,
        children: Vec<Element>,
    ) -> Option<Element> {
        let habits = self.persona.call?.jmi?;
        let kind = if verb == "proceed" {
            habits.kind
        } else {
            "chat"
        };
        let mut message = Element::new(wire::CLIENT, "message")
            .with("from", self.own.as_str())
            .with("id", format!("jm-{verb}-{id}"))
            .with("to", to.as_str())
            .with("type", kind)
            .child(
                Element::new(wire::JMI, verb)
                    .with("id", id)
                    .children_from(children),
            );
        if habits.store {
            message.push(Element::new(wire::HINTS, "store"));
        }
        Some(message)
    }

    fn say_jmi(&mut self, verb: &str, id: &str, to: &crate::Peer, children: Vec<Element>) {
        if let Some(message) = self.jmi(verb, id, to, children) {
            self.say(message);
        }
    }

    pub(super) fn announce(&mut self) {
        let id = self.fresh_id();
        let to = wire::bare(&self.peer);
        let description = Element::new(wire::RTP, "description").with("media", "audio");
        self.say_jmi("propose", &id, &to, vec![description]);
        self.announced = Some(Announced {
            id,
            role: Role::Responder,
            media: vec!["audio".into()],
        });
    }

    pub(super) fn handle_message(&mut self, message: &Element, now: Instant) {
        let Some(jmi) = message
            .children()
            .find(|child| child.namespace() == wire::JMI)
        else {
            return;
        };
        let id = jmi.attribute("id").unwrap_or_default().to_owned();
        self.heard.push(jmi.name().to_owned());
        if self.persona.call.is_none_or(|habits| habits.jmi.is_none()) {
            return;
        }
        let mine = self
            .announced
            .as_ref()
            .is_some_and(|announced| announced.id == id);
        match jmi.name() {
            "propose" => {
                if message.attribute("type") != Some("chat") {
                    self.object("an announcement that is no chat message");
                }
                if message.find(wire::HINTS, "store").is_none() {
                    self.object("an announcement that servers do not keep");
                }
                let media = jmi.children().filter_map(|d| d.attribute("media"));
                let media = media.map(Into::into).collect();
                self.announced = Some(Announced {
                    id: id.clone(),
                    role: Role::Initiator,
                    media,
                });
                self.consider(&id);
            }
            "proceed" | "accept" if mine && self.announced(Role::Responder).is_some() => {
                self.initiate(id, Medium::Call, now);
            }
            "reject" if mine => {
                let reason = reason(jmi);
                self.end_announced(false, format!("reject {reason}"));
            }
            "retract" if mine => {
                let reason = reason(jmi);
                self.end_announced(false, format!("retract {reason}"));
            }
            _ => {}
        }
    }

    /// What the person does with an announced call.
    fn consider(&mut self, id: &str) {
        let Some(habits) = self.persona.call.and_then(|habits| habits.jmi) else {
            return;
        };
        let (own, peer) = (wire::bare(&self.own), self.peer.clone());
        if habits.ringing {
            self.say_jmi("ringing", id, &peer, Vec::new());
        }
        let refusal = match self.script.verdict {
            super::Verdict::Accept => {
                if habits.accept {
                    self.say_jmi("accept", id, &own, Vec::new());
                }
                return self.say_jmi("proceed", id, &peer, Vec::new());
            }
            super::Verdict::Silent => return,
            super::Verdict::Decline => "decline",
            super::Verdict::Busy => "busy",
        };
        let reason = wire::reason(&self.persona, refusal);
        self.say_jmi("reject", id, &peer, vec![reason]);
        self.end_announced(true, refusal.to_owned());
    }

    pub(super) fn finish_announced(&mut self, reason: &str) {
        let habits = self.persona.call.and_then(|habits| habits.jmi);
        let Some(announced) = self.announced.as_ref().cloned() else {
            return;
        };
        if habits.is_some_and(|habits| habits.finish) {
            let peer = self.peer.clone();
            let reason = wire::reason(&self.persona, reason);
            self.say_jmi("finish", &announced.id, &peer, vec![reason]);
        }
    }

    pub(super) fn withdraw_announced(&mut self, reason: &str) {
        let Some(announced) = self.announced(Role::Responder).cloned() else {
            return;
        };
        let to = wire::bare(&self.peer);
        let element = wire::reason(&self.persona, reason);
        self.say_jmi("retract", &announced.id, &to, vec![element]);
        self.end_announced(true, reason.to_owned());
    }

    fn end_announced(&mut self, by_persona: bool, reason: String) {
        self.ending.get_or_insert(Ending { by_persona, reason });
    }
}

fn reason(jmi: ElementRef<'_>) -> String {
    wire::reason_of(&jmi.to_element())
}
