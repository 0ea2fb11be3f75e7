//! What a dialect has no words for is a typed error, and the buffer stays as it was.

#![allow(clippy::unwrap_used)]

use session_core::{
    Action, ContentPart, Dialect, Element, Group, Message, Peer, ReasonCondition, Role, Senders,
};
use session_xmpp::dialect::EncodeError;
use session_xmpp::xml::Context;
use session_xmpp::{ns, stanza};

const ALL_OF_GOOGLE: [&Dialect; 3] = [Dialect::GTALK, Dialect::GTALK_COMPAT, Dialect::GTALK_LATE];

fn alice() -> Peer {
    Peer::from("alice@example.org/desk")
}

fn message(dialect: &'static Dialect, action: Action) -> Message {
    let bob = Peer::from("bob@example.org/lap");
    Message {
        initiator: Some(alice()),
        ..Message::new(alice(), bob, "7", dialect, action)
    }
}

fn content(name: &str, description: Option<Element>, transports: Vec<Element>) -> ContentPart {
    ContentPart {
        description,
        transports,
        ..ContentPart::named(name)
    }
}

fn with(mut message: Message, description: Option<Element>, transports: Vec<Element>) -> Message {
    message
        .contents
        .push(content("main", description, transports));
    message
}

fn tunnel() -> Option<Element> {
    Some(Element::new(
        "http://www.google.com/talk/tunnel",
        "description",
    ))
}

fn offer(dialect: &'static Dialect) -> Message {
    with(message(dialect, Action::SessionInitiate), tunnel(), vec![])
}

fn p2p(children: impl IntoIterator<Item = Element>) -> Element {
    Element::new(ns::GOOGLE_P2P, "transport").children_from(children)
}

fn candidate(channel: &str) -> Element {
    Element::new(ns::GOOGLE_P2P, "candidate").with("name", channel)
}

fn error(message: &Message) -> EncodeError {
    let mut out = b"before".to_vec();
    let error = stanza::encode_message("x", message, &Context::CLIENT, &mut out).unwrap_err();
    assert_eq!(out, b"before");
    error
}

#[track_caller]
fn cannot(message: &Message, what: &'static str) {
    assert_eq!(
        error(message),
        EncodeError::Cannot {
            dialect: message.dialect.name,
            what
        }
    );
}

#[track_caller]
fn missing(message: &Message, field: &'static str) {
    assert_eq!(
        error(message),
        EncodeError::Invalid {
            field,
            problem: "is missing"
        }
    );
}

#[test]
fn actions_without_a_word() {
    let changes = [
        Action::ContentAccept,
        Action::ContentAdd,
        Action::ContentModify,
        Action::ContentReject,
        Action::ContentRemove,
        Action::SecurityInfo,
        Action::TransportReject,
        Action::TransportReplace,
    ];
    for dialect in ALL_OF_GOOGLE {
        // S19: libjingle wrote it with an empty type.
        cannot(
            &message(dialect, Action::DescriptionInfo),
            "description-info",
        );
        for action in changes {
            cannot(&message(dialect, action), "changes of a running session");
        }
    }
    cannot(
        &message(Dialect::GTALK_LATE, Action::Redirect),
        "redirect: it is an error reply",
    );
    cannot(
        &message(Dialect::GTALK_LATE, Action::TransportAccept),
        "transport-accept",
    );
    cannot(
        &message(Dialect::GTALK_COMPAT, Action::TransportAccept),
        "transport-accept",
    );
    let reject = "reject: it is a session-terminate with a reason";
    cannot(&message(Dialect::JINGLE, Action::Reject), reject);
    cannot(
        &message(Dialect::JINGLE, Action::Redirect),
        "redirect: it is an error reply",
    );
}

#[test]
fn several_contents() {
    for dialect in ALL_OF_GOOGLE {
        cannot(&with(offer(dialect), tunnel(), vec![]), "several contents");
    }
    let medium = |name: &str, namespace| {
        let codec = Element::new(namespace, "payload-type");
        content(
            name,
            Some(Element::new(ns::GOOGLE_VIDEO, "description").child(codec)),
            vec![],
        )
    };
    let both = |dialect| Message {
        contents: vec![
            medium("audio", ns::GOOGLE_PHONE),
            medium("video", ns::GOOGLE_VIDEO),
        ],
        ..message(dialect, Action::SessionInitiate)
    };
    cannot(&both(Dialect::GTALK), "several contents");
    let mut out = Vec::new();
    stanza::encode_message("x", &both(Dialect::GTALK_LATE), &Context::CLIENT, &mut out).unwrap();

    let single = with(
        message(Dialect::GTALK_LATE, Action::SessionInitiate),
        Some(Element::new(ns::GOOGLE_VIDEO, "description")),
        vec![],
    );
    cannot(&single, "video without audio");
}

#[test]
fn audio_and_video_that_could_not_be_told_apart() {
    let spoken = Element::new(ns::GOOGLE_VIDEO, "description")
        .child(Element::new(ns::GOOGLE_PHONE, "payload-type"));
    let seen = Element::new(ns::GOOGLE_VIDEO, "description")
        .child(Element::new(ns::GOOGLE_VIDEO, "payload-type"));
    let other = tunnel().unwrap();
    for (audio, video) in [
        (spoken.clone().with("id", 1), seen.clone()),
        (spoken.clone().text("x"), seen.clone()),
        (seen.clone(), seen.clone()),
        (spoken.clone(), spoken.clone()),
        (other.clone(), seen),
        (spoken, other),
    ] {
        let contents = vec![
            content("audio", Some(audio), vec![]),
            content("video", Some(video), vec![]),
        ];
        let offer = Message {
            contents,
            ..message(Dialect::GTALK_LATE, Action::SessionInitiate)
        };
        cannot(
            &offer,
            "descriptions of audio and video that are not Google's own",
        );
    }
}

#[test]
fn parts_of_a_content() {
    let changed = |change: fn(&mut ContentPart)| {
        let mut message = offer(Dialect::GTALK_LATE);
        change(&mut message.contents[0]);
        message
    };
    let case = |change, what| cannot(&changed(change), what);
    case(
        |part| part.creator = Some(Role::Responder),
        "a content of the responder",
    );
    case(
        |part| part.senders = Some(Senders::None),
        "a content that not both send",
    );
    case(
        |part| part.disposition = Some("early".into()),
        "a disposition",
    );
    case(
        |part| part.security = Some(Element::new("x", "security")),
        "security preconditions",
    );
    case(
        |part| part.extra = vec![Element::new("x", "y")],
        "elements within a content",
    );
    let two = vec![Element::new("x", "transport"); 2];
    let mut jingle = with(
        message(Dialect::JINGLE, Action::SessionInitiate),
        tunnel(),
        two,
    );
    jingle.contents[0].creator = Some(Role::Initiator);
    cannot(&jingle, "several transports of one content");
}

#[test]
fn transports_that_do_not_go_without_saying() {
    let here = "a transport here, other than the one that is meant";
    let initiate = |transport| {
        with(
            message(Dialect::GTALK_LATE, Action::SessionInitiate),
            tunnel(),
            vec![transport],
        )
    };
    cannot(&initiate(Element::new("x", "transport")), here);
    cannot(&initiate(p2p([candidate("tcp")])), here);
    cannot(&initiate(p2p([]).with("a", 1)), here);
    let accept = message(Dialect::GTALK, Action::SessionAccept);
    cannot(&with(accept, tunnel(), vec![p2p([candidate("tcp")])]), here);

    let info = |transport| {
        with(
            message(Dialect::GTALK_LATE, Action::TransportInfo),
            None,
            vec![transport],
        )
    };
    let other = "candidates of another transport than the one that is meant";
    cannot(&info(Element::new("x", "transport")), other);
    let beside = "parameters of a transport beside candidates";
    cannot(&info(p2p([Element::new(ns::GOOGLE_P2P, "x")])), beside);
    let medium = "a candidate for a channel of the other medium";
    cannot(&info(p2p([candidate("video_rtp")])), medium);
    let mut video = info(p2p([candidate("rtp")]));
    video.contents[0].name = "video".into();
    cannot(&video, medium);
    cannot(
        &with(
            message(Dialect::GTALK, Action::TransportInfo),
            tunnel(),
            vec![p2p([])],
        ),
        "a description here",
    );
}

#[test]
fn what_has_no_place_in_the_message() {
    for dialect in ALL_OF_GOOGLE {
        let ending = message(dialect, Action::SessionTerminate);
        cannot(&with(ending.clone(), None, vec![]), "contents here");
        cannot(
            &Message {
                extra: vec![Element::new("x", "y")],
                ..ending
            },
            "elements without a reason",
        );
        let busy = Some(ReasonCondition::Busy.into());
        let info = Message {
            reason: busy,
            ..message(dialect, Action::SessionInfo)
        };
        cannot(&info, "a reason for something else than an end");
        let carol = Some(Peer::from("carol@example.org"));
        cannot(
            &Message {
                responder: carol,
                ..offer(dialect)
            },
            "a responder who is neither of the two",
        );
        let groups = vec![Group {
            semantics: Group::BUNDLE.into(),
            contents: vec![],
        }];
        cannot(
            &Message {
                groups,
                ..offer(dialect)
            },
            "groups of contents",
        );
    }
    // The sender of the answer is the responder: that needs no words.
    let accept = with(
        message(Dialect::GTALK, Action::SessionAccept),
        tunnel(),
        vec![],
    );
    let accept = Message {
        responder: Some(alice()),
        ..accept
    };
    stanza::encode_message("x", &accept, &Context::CLIENT, &mut Vec::new()).unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let late = |action| message(Dialect::GTALK_LATE, action);
    missing(
        &Message {
            sid: "".into(),
            ..late(Action::SessionInfo)
        },
        "id",
    );
    missing(
        &Message {
            initiator: None,
            ..late(Action::SessionInfo)
        },
        "initiator",
    );
    missing(&late(Action::SessionInitiate), "description");
    missing(&late(Action::TransportInfo), "transport");
    missing(&message(Dialect::GTALK, Action::Redirect), "target");
    let jingle = |action| message(Dialect::JINGLE, action);
    missing(
        &Message {
            sid: "".into(),
            ..jingle(Action::SessionInfo)
        },
        "sid",
    );
    missing(
        &with(jingle(Action::ContentModify), None, vec![]),
        "content creator",
    );
    let nameless = Message {
        contents: vec![ContentPart::default()],
        ..jingle(Action::ContentModify)
    };
    missing(&nameless, "content name");
}

#[test]
fn elements_of_a_wrong_name() {
    let wrong = Some(Element::new("x", "not-description"));
    for dialect in [
        Dialect::JINGLE,
        Dialect::GTALK,
        Dialect::GTALK_LATE,
        Dialect::HYBRID,
    ] {
        let mut offer = with(
            message(dialect, Action::SessionInitiate),
            wrong.clone(),
            vec![],
        );
        offer.contents[0].creator = Some(Role::Initiator);
        let problem = "is an element of another name";
        assert_eq!(
            error(&offer),
            EncodeError::Invalid {
                field: "description",
                problem
            }
        );
    }
    let name = Message {
        reason: Some(ReasonCondition::Other("two words".into()).into()),
        ..message(Dialect::JINGLE, Action::SessionTerminate)
    };
    assert!(matches!(error(&name), EncodeError::Xml(_)));
}
