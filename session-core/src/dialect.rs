//! What a signalling vocabulary can say, as data.
//!
//! The core speaks one general model. Where vocabularies differ, it asks the session's [`Dialect`], and only that:
//! the spelling is `session-xmpp`'s business, the differences in meaning are all here.

use std::fmt;

/// The rules of one vocabulary. There are a few constants of it and they are compared by name.
#[derive(Debug)]
pub struct Dialect {
    /// A short name, unique.
    pub name: &'static str,
    /// How many of the potential transports an offer carries.
    pub offers: Offers,
    /// The transport that an offer without any means (libjingle.md: the "candidates" form).
    pub implied_transport: Option<&'static str>,
    /// Where the answer to the transports travels.
    pub transport_answer: TransportAnswer,
    /// How many contents a session may have.
    pub contents: ContentCapacity,
    /// Whether declining has an action of its own; otherwise it is a terminate with a reason.
    pub has_reject: bool,
    /// Whether redirecting has an action of its own; otherwise it is an error reply to the initiate.
    pub has_redirect: bool,
    /// Whether a running session can be changed (content-*, description-info, transport-replace).
    pub has_modify: bool,
    /// Whether several candidates may travel in one message; otherwise one each (jingle-peers §3.0).
    pub batches_candidates: bool,
    /// Whether candidates wait until the initiate was acknowledged (libjingle 0.5 and later).
    pub candidates_wait: bool,
    /// Whether crossing offers are resolved by XEP-0166 §7.2.16; otherwise both sessions live.
    pub breaks_ties: bool,
    /// Which conditions refusals carry.
    pub errors: ErrorStyle,
    /// The dialects that a session of this one turns into when the peer speaks them.
    ///
    /// `accept`, `reject`, `terminate` and `info` look the same in all of Google's: they are read as `gtalk-late`, which
    /// therefore only an undecided session turns into. What shows that transports play no part is `gtalk-compat`.
    pub settles_into: &'static [&'static str],
}

/// How many of the potential transports an offer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offers {
    /// All, most preferred first; the responder picks (Google).
    All,
    /// The most preferred; the next ones by transport-replace (Jingle).
    First,
    /// None is written: [`Dialect::implied_transport`] is meant.
    Implied,
}

/// Where the answer to the transports travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransportAnswer {
    /// In session-accept (Jingle).
    InAccept,
    /// In a message of its own, as soon as the offer has arrived (Google 0.4).
    Own,
    /// Nowhere: sending candidates is the answer.
    Implied,
}

/// How many contents a session may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentCapacity {
    /// Any number within the limits.
    Many,
    /// One.
    One,
    /// One, or exactly `audio` and `video`, which are merged into one description on the wire.
    AudioVideo,
}

/// Which conditions refusals carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorStyle {
    /// XEP-0166 §7.5 and RFC 6120 §8.3.
    Jingle,
    /// The catalogue of libjingle: nearly everything is bad-request or not-allowed.
    Google,
}

/// The transport that Google's dialects mean when they name none.
pub const GOOGLE_P2P: &str = "http://www.google.com/transport/p2p";

impl Dialect {
    /// XEP-0166.
    pub const JINGLE: &'static Self = &Self {
        name: "jingle",
        offers: Offers::First,
        implied_transport: None,
        transport_answer: TransportAnswer::InAccept,
        contents: ContentCapacity::Many,
        has_reject: false,
        has_redirect: false,
        has_modify: true,
        batches_candidates: false,
        candidates_wait: true,
        breaks_ties: true,
        errors: ErrorStyle::Jingle,
        settles_into: &[],
    };

    /// libjingle 0.4's `<session/>`: several transports offered, transport-accept, reject, redirect.
    pub const GTALK: &'static Self = &Self {
        name: "gtalk",
        offers: Offers::All,
        implied_transport: Some(GOOGLE_P2P),
        transport_answer: TransportAnswer::Own,
        contents: ContentCapacity::One,
        has_reject: true,
        has_redirect: true,
        has_modify: false,
        batches_candidates: true,
        candidates_wait: false,
        breaks_ties: false,
        errors: ErrorStyle::Google,
        settles_into: &["gtalk-compat"],
    };

    /// The form before transports existed: no `<transport/>` anywhere, candidates under `<session/>`.
    pub const GTALK_COMPAT: &'static Self = &Self {
        name: "gtalk-compat",
        offers: Offers::Implied,
        implied_transport: Some(GOOGLE_P2P),
        transport_answer: TransportAnswer::Implied,
        contents: ContentCapacity::AudioVideo,
        has_reject: true,
        has_redirect: true,
        has_modify: false,
        batches_candidates: true,
        candidates_wait: false,
        breaks_ties: false,
        errors: ErrorStyle::Google,
        settles_into: &[],
    };

    /// libjingle 0.5 and later: `<session/>` without transports, with reasons, audio and video merged.
    pub const GTALK_LATE: &'static Self = &Self {
        name: "gtalk-late",
        offers: Offers::Implied,
        implied_transport: Some(GOOGLE_P2P),
        transport_answer: TransportAnswer::Implied,
        contents: ContentCapacity::AudioVideo,
        has_reject: true,
        has_redirect: false,
        has_modify: false,
        batches_candidates: true,
        candidates_wait: true,
        breaks_ties: false,
        errors: ErrorStyle::Google,
        settles_into: &[],
    };

    /// Both vocabularies in one stanza, until the peer's first message shows which it speaks (libjingle 0.5+).
    ///
    /// RFC 6120 allows one child in a request, and servers refuse two: only for peers that are known to need it.
    pub const HYBRID: &'static Self = &Self {
        name: "hybrid",
        offers: Offers::First,
        implied_transport: Some(GOOGLE_P2P),
        transport_answer: TransportAnswer::InAccept,
        contents: ContentCapacity::AudioVideo,
        has_reject: true,
        has_redirect: false,
        has_modify: false,
        batches_candidates: true,
        candidates_wait: true,
        breaks_ties: false,
        errors: ErrorStyle::Google,
        settles_into: &["jingle", "gtalk", "gtalk-late", "gtalk-compat"],
    };

    /// All of them.
    pub const ALL: [&'static Self; 5] = [
        Self::JINGLE,
        Self::GTALK,
        Self::GTALK_COMPAT,
        Self::GTALK_LATE,
        Self::HYBRID,
    ];

    /// The dialect with this name.
    pub fn from_name(name: &str) -> Option<&'static Self> {
        Self::ALL.into_iter().find(|dialect| dialect.name == name)
    }

    /// Whether a session that speaks this dialect goes on in `other` once the peer speaks that.
    pub fn settles_into(&self, other: &Self) -> bool {
        self.settles_into.contains(&other.name)
    }
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Dialect {}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
