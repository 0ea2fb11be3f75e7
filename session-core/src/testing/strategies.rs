//! Strategies of proptest: elements, messages of each dialect, and operations.

use super::{
    netem::Conditions,
    operation::{CHANNELS, CONTENTS, Deed, Operation},
};
use crate::{
    Action, ContentCapacity, ContentPart, Dialect, Element, Group, Message, Offers, Peer, Reason,
    ReasonCondition, Redirect, Role, Senders,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use std::{sync::Arc, time::Duration};

pub use crate::element::strategy::{element, name, namespace, text};

/// Sequences of up to `most` operations on a world of `hosts` hosts, of which most make sense.
pub fn operations(hosts: usize, most: usize) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(hosts), 1..most)
}

/// One operation.
pub fn operation(hosts: usize) -> impl Strategy<Value = Operation> {
    let host = 0..hosts;
    prop_oneof![
        4 => host.clone().prop_map(|host| Operation::Call { host }),
        20 => (host.clone(), 0..4_usize, deed(hosts)).prop_map(|(host, session, action)| {
            Operation::Session { host, session, action }
        }),
        1 => host.clone().prop_map(|host| Operation::TerminateAll { host }),
        2 => (host.clone(), any::<bool>()).prop_map(|(host, up)| Operation::Link { host, up }),
        2 => (host, any::<bool>()).prop_map(|(from, cut)| Operation::Cut { from, cut }),
        1 => conditions().prop_map(Operation::Wire),
        12 => wait().prop_map(Operation::Wait),
    ]
}

/// What to do with a session: mostly what leads somewhere.
pub fn deed(hosts: usize) -> impl Strategy<Value = Deed> {
    let content = || 0..CONTENTS.len();
    let channel = || 0..CHANNELS.len();
    prop_oneof![
        10 => Just(Deed::Accept),
        2 => Just(Deed::Reject),
        1 => (0..hosts).prop_map(Deed::Redirect),
        2 => reason_condition().prop_map(Deed::Terminate),
        1 => Just(Deed::Destroy),
        2 => (0..4_usize).prop_map(Deed::Info),
        4 => channel().prop_map(Deed::Send),
        1 => channel().prop_map(Deed::Finish),
        1 => (channel(), any::<bool>()).prop_map(|(channel, paused)| Deed::Pause(channel, paused)),
        2 => channel().prop_map(Deed::CreateChannel),
        1 => channel().prop_map(Deed::DestroyChannel),
        3 => content().prop_map(Deed::AddContent),
        4 => content().prop_map(Deed::AcceptContent),
        2 => content().prop_map(Deed::RejectContent),
        1 => content().prop_map(Deed::RemoveContent),
        2 => (content(), senders()).prop_map(|(content, senders)| Deed::SetSenders(content, senders)),
        2 => content().prop_map(Deed::Modify),
        2 => (content(), 0..4_usize)
            .prop_map(|(content, transport)| Deed::ReplaceTransport(content, transport)),
    ]
}

/// Conditions from perfect to hardly usable.
pub fn conditions() -> impl Strategy<Value = Conditions> {
    let share = || prop_oneof![2 => Just(0.0), 3 => 0.0..0.4_f64];
    (0..2_000_u64, 0..2_000_u64, share(), share(), share()).prop_map(
        |(delay, jitter, loss, duplicate, reorder)| Conditions {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            loss,
            duplicate,
            reorder,
            reorder_delay: Duration::from_secs(3),
            ..Conditions::default()
        },
    )
}

/// Messages as a well-behaved peer writes them in this dialect.
pub fn message(dialect: &'static Dialect) -> impl Strategy<Value = Message> {
    let google = dialect.has_reject;
    let actions: Vec<Action> = Action::JINGLE
        .into_iter()
        .chain([Action::Reject, Action::Redirect])
        .filter(|action| match action {
            Action::Reject => dialect.has_reject,
            Action::Redirect => dialect.has_redirect,
            Action::ContentAccept
            | Action::ContentAdd
            | Action::ContentModify
            | Action::ContentReject
            | Action::ContentRemove
            | Action::SecurityInfo
            | Action::TransportReject
            | Action::TransportReplace => dialect.has_modify,
            Action::DescriptionInfo
            | Action::SessionAccept
            | Action::SessionInfo
            | Action::SessionInitiate
            | Action::SessionTerminate
            | Action::TransportAccept
            | Action::TransportInfo => true,
        })
        .filter(|action| !google || *action != Action::DescriptionInfo)
        .collect();
    (select(actions), address(), address(), sid(google)).prop_flat_map(
        move |(action, from, to, sid)| {
            (
                contents(dialect, action),
                option::of(reason()),
                groups(action),
                vec(payload(), usize::from(action == Action::SessionInfo)..3),
                redirect(),
                any::<bool>(),
            )
                .prop_map(move |(contents, reason, groups, extra, redirect, ours)| {
                    let initiator = if ours { from.clone() } else { to.clone() };
                    let ends = matches!(
                        action,
                        Action::SessionTerminate
                            | Action::Reject
                            | Action::ContentReject
                            | Action::ContentRemove
                            | Action::TransportReject
                    );
                    Message {
                        initiator: Some(initiator),
                        contents,
                        groups: if dialect.has_modify {
                            groups
                        } else {
                            Vec::new()
                        },
                        reason: reason.filter(|_| ends),
                        redirect: Some(redirect).filter(|_| action == Action::Redirect),
                        extra: if action == Action::SessionInfo {
                            extra
                        } else {
                            Vec::new()
                        },
                        ..Message::new(from.clone(), to.clone(), &*sid, dialect, action)
                    }
                })
        },
    )
}

/// Messages as nobody should write them: any field with any value.
pub fn any_message() -> impl Strategy<Value = Message> {
    let actions: Vec<Action> = Action::JINGLE
        .into_iter()
        .chain([Action::Reject, Action::Redirect])
        .collect();
    let head = (
        select(Dialect::ALL.to_vec()),
        select(actions),
        address(),
        address(),
        prop_oneof![3 => sid(true), 1 => Just(String::new()), 1 => text()],
    );
    let body = (
        vec(any_content(), 0..4),
        option::of(reason()),
        vec(any_group(), 0..2),
        vec(element(), 0..3),
        option::of(redirect()),
        option::of(address()),
        option::of(address()),
    );
    (head, body).prop_map(|((dialect, action, from, to, sid), body)| {
        let (contents, reason, groups, extra, redirect, initiator, responder) = body;
        Message {
            initiator,
            responder,
            contents,
            groups,
            reason,
            redirect,
            extra,
            ..Message::new(from, to, &*sid, dialect, action)
        }
    })
}

/// Reasons, with or without a text and an application's own condition.
pub fn reason() -> impl Strategy<Value = Reason> {
    (
        reason_condition(),
        option::of(text()),
        option::of(payload()),
    )
        .prop_map(|(condition, text, extra)| Reason {
            condition,
            text: text.map(Arc::from),
            extra,
        })
}

/// Conditions of reasons: XEP-0166's and unknown ones.
pub fn reason_condition() -> impl Strategy<Value = ReasonCondition> {
    prop_oneof![
        8 => select(ReasonCondition::PLAIN.to_vec()),
        1 => option::of("[a-z0-9]{1,8}")
            .prop_map(|sid| ReasonCondition::AlternativeSession(sid.map(Arc::from))),
        1 => "[a-z]{1,8}-unheard-of".prop_map(|name| ReasonCondition::Other(name.into())),
    ]
}

/// Addresses: a few, so that they meet.
pub fn address() -> impl Strategy<Value = Peer> {
    select(vec![
        "alice@a.example/1",
        "bob@b.example/2",
        "bob@b.example/3",
        "bob@b.example",
        "eve@e.example/x",
    ])
    .prop_map(Peer::from)
}

fn contents(dialect: &'static Dialect, action: Action) -> BoxedStrategy<Vec<ContentPart>> {
    let none = matches!(
        action,
        Action::SessionTerminate | Action::SessionInfo | Action::Reject | Action::Redirect
    );
    if none {
        return Just(Vec::new()).boxed();
    }
    let names: Vec<&'static str> = match dialect.contents {
        ContentCapacity::Many => vec!["main", "audio", "video"],
        ContentCapacity::One => vec![""],
        ContentCapacity::AudioVideo => vec!["main"],
    };
    let most = if dialect.contents == ContentCapacity::Many {
        names.len()
    } else {
        1
    };
    (1..=most, any::<bool>())
        .prop_flat_map(move |(count, initiator)| {
            let parts: Vec<_> = names
                .iter()
                .take(count)
                .map(|name| content(dialect, action, name, initiator))
                .collect();
            parts
        })
        .boxed()
}

fn content(
    dialect: &'static Dialect,
    action: Action,
    name: &'static str,
    initiator: bool,
) -> impl Strategy<Value = ContentPart> + use<> {
    let describes = matches!(
        action,
        Action::SessionInitiate
            | Action::SessionAccept
            | Action::ContentAdd
            | Action::ContentAccept
            | Action::DescriptionInfo
    );
    let transports = match action {
        Action::TransportInfo | Action::TransportReplace | Action::TransportAccept => 1,
        Action::SessionInitiate => match dialect.offers {
            Offers::All => 2,
            Offers::First => 1,
            Offers::Implied => 0,
        },
        Action::SessionAccept => usize::from(dialect.has_modify),
        Action::ContentAdd | Action::ContentAccept => 1,
        Action::ContentModify
        | Action::ContentReject
        | Action::ContentRemove
        | Action::DescriptionInfo
        | Action::SecurityInfo
        | Action::SessionInfo
        | Action::SessionTerminate
        | Action::TransportReject
        | Action::Reject
        | Action::Redirect => 0,
    };
    let modifies = dialect.has_modify && (describes || action == Action::ContentModify);
    (
        option::of(senders()),
        payload(),
        vec(transport(), transports),
    )
        .prop_map(move |(senders, description, transports)| ContentPart {
            creator: dialect.has_modify.then_some(if initiator {
                Role::Initiator
            } else {
                Role::Responder
            }),
            senders: senders.filter(|_| modifies),
            description: describes.then_some(description),
            transports,
            ..ContentPart::named(name)
        })
}

fn any_content() -> impl Strategy<Value = ContentPart> {
    (
        option::of(select(vec![Role::Initiator, Role::Responder])),
        select(vec!["main", "second", "audio", "", "x"]),
        option::of(senders()),
        option::of(prop_oneof![payload(), element()]),
        vec(prop_oneof![transport(), element()], 0..3),
        option::of(element()),
    )
        .prop_map(
            |(creator, name, senders, description, transports, security)| ContentPart {
                creator,
                senders,
                description,
                transports,
                security,
                ..ContentPart::named(name)
            },
        )
}

/// A description, information, or condition of an application.
fn payload() -> impl Strategy<Value = Element> {
    (
        select(vec!["description", "info", "session"]),
        option::of(text()),
    )
        .prop_map(|(name, text)| {
            let element = Element::new(super::recorder::RECORDER_NAMESPACE, name);
            match text {
                Some(text) => element.text(&text),
                None => element,
            }
        })
}

/// A transport with up to three candidates.
fn transport() -> impl Strategy<Value = Element> {
    let namespace = select(vec![
        super::memory::DATAGRAM_NAMESPACE,
        super::memory::STREAM_NAMESPACE,
    ]);
    let candidate = (any::<[u8; 4]>(), 1..=u16::MAX, any::<u128>());
    (namespace, vec(candidate, 0..3)).prop_map(|(namespace, candidates)| {
        let transport = Element::new(namespace, "transport");
        transport.children_from(candidates.into_iter().map(|(ip, port, key)| {
            Element::new(namespace, "candidate")
                .with("address", std::net::SocketAddr::from((ip, port)))
                .with("key", format!("{key:032x}"))
                .with("name", CHANNELS[0])
        }))
    })
}

fn groups(action: Action) -> BoxedStrategy<Vec<Group>> {
    if !matches!(action, Action::SessionInitiate | Action::SessionAccept) {
        return Just(Vec::new()).boxed();
    }
    vec(any_group(), 0..2).boxed()
}

fn any_group() -> impl Strategy<Value = Group> {
    let names = vec(select(vec!["main", "audio", "video"]), 1..3);
    (select(vec!["BUNDLE", "LS"]), names).prop_map(|(semantics, names)| Group {
        semantics: semantics.into(),
        contents: names.into_iter().map(Arc::from).collect(),
    })
}

fn redirect() -> impl Strategy<Value = Redirect> {
    (address(), option::of(payload())).prop_map(|(target, cookie)| Redirect { target, cookie })
}

fn senders() -> impl Strategy<Value = Senders> {
    select(vec![
        Senders::Both,
        Senders::Initiator,
        Senders::None,
        Senders::Responder,
    ])
}

fn sid(google: bool) -> BoxedStrategy<String> {
    if google {
        return any::<u32>().prop_map(|number| number.to_string()).boxed();
    }
    "[A-Za-z0-9]{1,12}".boxed()
}

fn wait() -> impl Strategy<Value = Duration> {
    prop_oneof![
        4 => 0..200_u64,
        4 => 200..3_000_u64,
        2 => 3_000..20_000_u64,
        1 => 20_000..70_000_u64,
    ]
    .prop_map(Duration::from_millis)
}
