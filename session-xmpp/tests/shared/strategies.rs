//! Arbitrary messages, within what each dialect can say.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use session_core::element::strategy::{element, text};
use session_core::{
    Action, Condition, ContentPart, Dialect, Element, ErrorKind, Group, JingleCondition, Message,
    Peer, Reason, ReasonCondition, Redirect, Role, Senders, StanzaError,
};
use session_xmpp::ns;

pub(crate) fn peer() -> impl Strategy<Value = Peer> {
    let known = [
        "alice@example.org/desk",
        "bob@example.org",
        "é@bücher.example/a b/c@d",
        "[::1]",
    ];
    select(known.to_vec()).prop_map(Peer::from)
}

fn sid() -> impl Strategy<Value = String> {
    prop_oneof!["[0-9]{1,10}", text()]
}

/// An element of this name in any namespace but the one given, with anything in it.
fn named(name: &'static str, not_in: &'static str) -> impl Strategy<Value = Element> {
    let namespace = select(vec![
        "urn:x",
        ns::JINGLE,
        ns::GOOGLE_SESSION,
        ns::GOOGLE_P2P,
        "",
    ]);
    let namespace = namespace.prop_filter("reserved", move |namespace| *namespace != not_in);
    (namespace, option::of(text()), vec(element(), 0..3)).prop_map(move |(namespace, id, inner)| {
        Element::new(namespace, name)
            .with_opt("id", id)
            .children_from(inner)
    })
}

/// An element that has no place of its own anywhere.
pub(crate) fn foreign() -> impl Strategy<Value = Element> {
    prop_oneof![
        named("other", "-"),
        named("store", "-"),
        named("text", ns::JINGLE)
    ]
}

fn condition() -> impl Strategy<Value = ReasonCondition> {
    prop_oneof![
        4 => select(ReasonCondition::PLAIN.to_vec()),
        1 => option::of("[a-z0-9]{1,8}")
            .prop_map(|sid| ReasonCondition::AlternativeSession(sid.map(Into::into))),
        1 => "[a-z]{1,8}_x".prop_map(|name| ReasonCondition::Other(name.into())),
    ]
}

fn reason(reserved: &'static str) -> impl Strategy<Value = Reason> {
    let spoken = text().prop_filter("white space means nothing", |text| !text.trim().is_empty());
    let extra = prop_oneof![named("other", reserved), named("sid", reserved)];
    (condition(), option::of(spoken), option::of(extra)).prop_map(|(condition, text, extra)| {
        Reason {
            condition,
            text: text.map(Into::into),
            extra,
        }
    })
}

fn head(dialect: &'static Dialect, action: Action) -> impl Strategy<Value = Message> {
    (peer(), peer(), sid(), peer(), vec(foreign(), 0..3)).prop_map(
        move |(from, to, sid, initiator, extra)| Message {
            initiator: Some(initiator),
            extra,
            ..Message::new(from, to, sid, dialect, action)
        },
    )
}

fn jingle_content() -> impl Strategy<Value = ContentPart> {
    let role = select(vec![Role::Initiator, Role::Responder]);
    let senders = select(vec![
        Senders::Both,
        Senders::Initiator,
        Senders::None,
        Senders::Responder,
    ]);
    (
        (role, text(), option::of(senders), option::of(text())),
        option::of(named("description", "-")),
        option::of(named("transport", "-")),
        option::of(named("security", "-")),
        vec(foreign(), 0..2),
    )
        .prop_map(
            |((creator, name, senders, disposition), description, transport, security, extra)| {
                ContentPart {
                    creator: Some(creator),
                    name: name.into(),
                    senders,
                    disposition: disposition.map(Into::into),
                    description,
                    transports: transport.into_iter().collect(),
                    security,
                    extra,
                }
            },
        )
}

fn group() -> impl Strategy<Value = Group> {
    (option::of(text()), vec(text(), 0..3)).prop_map(|(semantics, contents)| Group {
        semantics: semantics.unwrap_or_default().into(),
        contents: contents.into_iter().map(Into::into).collect(),
    })
}

pub(crate) fn jingle() -> impl Strategy<Value = Message> {
    (
        select(Action::JINGLE.to_vec()).prop_flat_map(|action| head(Dialect::JINGLE, action)),
        any::<bool>(),
        option::of(peer()),
        vec(jingle_content(), 0..3),
        vec(group(), 0..2),
        option::of(reason(ns::JINGLE)),
    )
        .prop_map(
            |(head, says_initiator, responder, contents, groups, reason)| Message {
                initiator: head.initiator.clone().filter(|_| says_initiator),
                responder,
                contents,
                groups,
                reason,
                ..head
            },
        )
}

fn single(description: Option<Element>, transports: Vec<Element>) -> Vec<ContentPart> {
    vec![ContentPart {
        description,
        transports,
        ..ContentPart::default()
    }]
}

/// A transport with candidates for the channels of one content.
fn candidates(channels: Vec<&'static str>) -> impl Strategy<Value = Element> {
    let candidate = (
        select(channels),
        option::of(text()),
        option::of(text()),
        vec(element(), 0..2),
    );
    let candidate = candidate.prop_map(|(channel, port, other, inner)| {
        Element::new(ns::GOOGLE_P2P, "candidate")
            .with("name", channel)
            .with_opt("port", port)
            .with_ns("urn:x", "other", other.unwrap_or_default())
            .children_from(inner)
    });
    vec(candidate, 1..4)
        .prop_map(|all| Element::new(ns::GOOGLE_P2P, "transport").children_from(all))
}

fn pair(parts: [(&str, Option<Element>, Vec<Element>); 2]) -> Vec<ContentPart> {
    let part = |(name, description, transports)| ContentPart {
        description,
        transports,
        ..ContentPart::named(name)
    };
    parts.map(part).into()
}

fn media_pair() -> impl Strategy<Value = Vec<ContentPart>> {
    let medium = |namespace: &'static str| {
        vec((text(), vec(named("parameter", "-"), 0..2)), 0..3).prop_map(move |codecs| {
            let codecs = codecs.into_iter().map(|(name, inner)| {
                Element::new(namespace, "payload-type")
                    .with("name", name)
                    .children_from(inner)
            });
            Element::new(ns::GOOGLE_VIDEO, "description").children_from(codecs)
        })
    };
    (
        medium(ns::GOOGLE_PHONE),
        medium(ns::GOOGLE_VIDEO),
        option::of(text()),
    )
        .prop_map(|(audio, video, attribute)| {
            let video = video.with_opt("id", attribute);
            pair([
                ("audio", Some(audio), vec![]),
                ("video", Some(video), vec![]),
            ])
        })
}

fn with_contents(
    head: impl Strategy<Value = Message>,
    contents: impl Strategy<Value = Vec<ContentPart>>,
) -> impl Strategy<Value = Message> {
    (head, contents).prop_map(|(head, contents)| Message { contents, ..head })
}

/// What is said alike in all of Google's variants.
pub(crate) fn google_common() -> impl Strategy<Value = Message> {
    let dialect = Dialect::GTALK_LATE;
    let ending = select(vec![Action::SessionTerminate, Action::Reject]);
    let ending = (
        ending.prop_flat_map(move |action| head(dialect, action)),
        reason(ns::GOOGLE_SESSION),
    );
    let description = named("description", "-");
    prop_oneof![
        head(dialect, Action::SessionInfo),
        ending.prop_map(|(head, reason)| Message {
            reason: Some(reason),
            ..head
        }),
        select(vec![Action::SessionTerminate, Action::Reject])
            .prop_flat_map(move |action| head(dialect, action))
            .prop_map(|head| Message {
                extra: vec![],
                ..head
            }),
        with_contents(
            select(vec![Action::SessionInitiate, Action::SessionAccept])
                .prop_flat_map(move |action| head(dialect, action)),
            prop_oneof![
                description.prop_map(|description| single(Some(description), vec![])),
                media_pair(),
            ],
        ),
    ]
}

pub(crate) fn gtalk() -> impl Strategy<Value = Message> {
    let dialect = Dialect::GTALK;
    let cookie = (peer(), option::of(vec(element(), 0..2))).prop_map(|(target, cookie)| Redirect {
        target,
        cookie: cookie.map(|inner| Element::new(ns::GOOGLE_SESSION, "cookie").children_from(inner)),
    });
    prop_oneof![
        with_contents(
            head(dialect, Action::SessionInitiate),
            (
                named("description", "-"),
                vec(named("transport", "-"), 1..3)
            )
                .prop_map(|(description, transports)| single(Some(description), transports)),
        ),
        with_contents(
            select(vec![Action::TransportInfo, Action::TransportAccept])
                .prop_flat_map(move |action| head(dialect, action)),
            vec(named("transport", "-"), 1..3).prop_map(|transports| single(None, transports)),
        ),
        (head(dialect, Action::Redirect), cookie).prop_map(|(head, redirect)| Message {
            redirect: Some(redirect),
            ..head
        }),
    ]
}

pub(crate) fn compat() -> impl Strategy<Value = Message> {
    let empty = || Element::new(ns::GOOGLE_P2P, "transport");
    let audio = || candidates(vec!["rtp", "rtcp"]);
    let video = || candidates(vec!["video_rtp", "video_rtcp"]);
    with_contents(
        head(Dialect::GTALK_COMPAT, Action::TransportInfo),
        prop_oneof![
            candidates(vec!["tcp", "rtp", "private-1"]).prop_map(|all| single(None, vec![all])),
            Just(single(None, vec![empty()])),
            (audio(), video())
                .prop_map(|(a, v)| pair([("audio", None, vec![a]), ("video", None, vec![v])])),
            video().prop_map(|transport| {
                vec![ContentPart {
                    transports: vec![transport],
                    ..ContentPart::named("video")
                }]
            }),
        ],
    )
}

/// What the hybrid form says twice, or in Jingle only.
pub(crate) fn hybrid() -> impl Strategy<Value = Message> {
    let dialect = Dialect::HYBRID;
    let content = |description, transports: Vec<Element>| {
        vec![ContentPart {
            creator: Some(Role::Initiator),
            description,
            transports,
            ..ContentPart::named("main")
        }]
    };
    let ending = select(vec![Action::SessionTerminate, Action::Reject]);
    let ending = (
        ending.prop_flat_map(move |action| head(dialect, action)),
        reason(ns::GOOGLE_SESSION),
    );
    let ending = ending.prop_filter("Jingle's own", |(_, reason)| {
        reason
            .extra
            .as_ref()
            .is_none_or(|extra| extra.namespace() != ns::JINGLE)
    });
    prop_oneof![
        with_contents(
            head(dialect, Action::SessionInitiate),
            named("description", "-").prop_map(move |description| {
                content(
                    Some(description),
                    vec![Element::new(ns::GOOGLE_P2P, "transport")],
                )
            }),
        ),
        with_contents(
            head(dialect, Action::TransportInfo),
            candidates(vec!["tcp", "rtp"]).prop_map(move |all| content(None, vec![all])),
        ),
        ending.prop_map(|(head, reason)| Message {
            reason: Some(reason),
            ..head
        }),
        with_contents(
            select(vec![
                Action::SessionAccept,
                Action::ContentAdd,
                Action::DescriptionInfo
            ])
            .prop_flat_map(move |action| head(dialect, action)),
            vec(jingle_content(), 0..3),
        ),
    ]
}

pub(crate) fn stanza_error() -> impl Strategy<Value = StanzaError> {
    let redirected = peer().prop_map(|target| StanzaError {
        extra: Some(Element::new(ns::GOOGLE_SESSION, "redirect").text(&format!("xmpp:{target}"))),
        ..StanzaError::new(Condition::Redirect, ErrorKind::Modify)
    });
    let plain = (select(Condition::ALL.to_vec()), option::of(foreign()));
    let plain = plain.prop_map(|(condition, extra)| StanzaError {
        extra,
        ..StanzaError::new(condition, ErrorKind::Cancel)
    });
    (
        prop_oneof![1 => redirected, 4 => plain],
        select(ErrorKind::ALL.to_vec()),
        option::of(select(JingleCondition::ALL.to_vec())),
        option::of(text()),
    )
        .prop_map(|(error, kind, jingle, text)| StanzaError {
            kind,
            jingle,
            text: text.map(Into::into),
            ..error
        })
}
