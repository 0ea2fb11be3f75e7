//! What live peers write that the specifications do not have, and what is answered to what nobody can understand.

#![allow(clippy::unwrap_used)]

use session_core::{
    Action, Condition, Dialect, Element, ElementLimits, ErrorKind, JingleCondition, Message, Peer,
    PeerError, Reason, ReasonCondition, Role, Senders, StanzaError,
};
use session_xmpp::ns;
use session_xmpp::stanza::{self, Incoming, Request};
use session_xmpp::xml::{self, Context};

fn local() -> Peer {
    Peer::from("bob@example.org/lap")
}

fn parse(stanza: &str) -> Element {
    xml::parse(
        stanza.as_bytes(),
        &Context::CLIENT,
        &ElementLimits::default(),
    )
    .unwrap()
}

fn decode(stanza: &str) -> Incoming {
    stanza::decode(parse(stanza), &local())
}

fn set(payload: &str) -> String {
    format!(
        "<iq type='set' id='7' from='alice@example.org/desk' to='bob@example.org/lap'>{payload}</iq>"
    )
}

fn jingle(attributes: &str, children: &str) -> String {
    set(&format!(
        "<jingle xmlns='urn:xmpp:jingle:1' {attributes}>{children}</jingle>"
    ))
}

fn session(attributes: &str, children: &str) -> String {
    set(&format!(
        "<session xmlns='http://www.google.com/session' {attributes}>{children}</session>"
    ))
}

fn message(stanza: &str) -> Message {
    let incoming = decode(stanza);
    let Incoming::Message { message, .. } = incoming else {
        panic!("{incoming:?}")
    };
    message
}

fn refusal(stanza: &str) -> (Request, &'static Dialect, StanzaError) {
    let incoming = decode(stanza);
    let Incoming::Refused {
        request,
        dialect,
        error,
    } = incoming
    else {
        panic!("{incoming:?}")
    };
    (request, dialect, error)
}

fn reason(children: &str) -> Option<Reason> {
    message(&jingle("action='session-terminate' sid='1'", children)).reason
}

#[test]
fn reasons_are_taken_as_they_are_spelled() {
    let condition = |name: &str| {
        reason(&format!("<reason><{name}/></reason>"))
            .unwrap()
            .condition
    };
    // Dino.
    assert_eq!(
        condition("failed_application"),
        ReasonCondition::FailedApplication
    );
    assert_eq!(
        condition("failed_transport"),
        ReasonCondition::FailedTransport
    );
    // Conversations.
    assert_eq!(
        condition("application-error"),
        ReasonCondition::Other("application-error".into())
    );
    assert_eq!(
        condition("no_such"),
        ReasonCondition::Other("no_such".into())
    );
    let carries = |children| {
        reason(&format!("<reason>{children}</reason>"))
            .unwrap()
            .condition
    };
    for spelling in ["alternative-session", "alternative_session"] {
        let with_sid = carries(format!("<{spelling}><sid> b8 </sid></{spelling}>"));
        assert_eq!(
            with_sid,
            ReasonCondition::AlternativeSession(Some("b8".into()))
        );
        let without = carries(format!("<{spelling}/>"));
        assert_eq!(without, ReasonCondition::AlternativeSession(None));
    }
}

#[test]
fn reasons_may_say_little() {
    assert_eq!(reason(""), None);
    assert_eq!(reason("<reason/>"), None);
    let text = reason("<reason><text>bye</text></reason>");
    assert_eq!(
        text,
        Some(Reason::from(ReasonCondition::GeneralError).with_text("bye"))
    );
    let extra = reason("<reason><x xmlns='urn:x'/><text/><busy/></reason>").unwrap();
    assert_eq!(extra.condition, ReasonCondition::Busy);
    assert_eq!(extra.text.as_deref(), Some(""));
    assert_eq!(extra.extra, Some(Element::new("urn:x", "x")));
}

#[test]
fn contents_may_lack_nearly_everything() {
    let part = |attributes: &str| {
        let content = format!("<content {attributes}/>");
        message(&jingle("action='content-modify' sid='1'", &content))
            .contents
            .remove(0)
    };
    let bare = part("");
    assert_eq!((bare.creator, &*bare.name, bare.senders), (None, "", None));
    assert_eq!(part("creator='nobody'").creator, None);
    assert_eq!(part("creator='responder'").creator, Some(Role::Responder));
    assert_eq!(part("senders='none'").senders, Some(Senders::None));
    let (_, dialect, error) = refusal(&jingle(
        "action='content-modify' sid='1'",
        "<content senders='all'/>",
    ));
    assert_eq!(
        (dialect, error.condition),
        (Dialect::JINGLE, Condition::BadRequest)
    );
    assert!(error.text.unwrap().contains("senders"));
}

#[test]
fn children_come_in_any_order_and_are_kept() {
    let all = message(&jingle(
        "action='session-initiate' sid='1'",
        "<a xmlns='urn:a'/><reason><busy/></reason><reason><gone/></reason><b xmlns='urn:b'/>
         <content creator='initiator' name='c'><z xmlns='urn:z'/><transport xmlns='urn:t'/>
         <security xmlns='urn:xmpp:jingle:jet:0'/><description xmlns='urn:d'/>
         <transport xmlns='urn:t2'/><security xmlns='urn:s2'/><description xmlns='urn:d2'/></content>",
    ));
    let names = |elements: &[Element]| {
        elements
            .iter()
            .map(|element| element.namespace().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&all.extra), ["urn:a", "urn:xmpp:jingle:1", "urn:b"]);
    assert_eq!(all.reason.unwrap().condition, ReasonCondition::Busy);
    let part = &all.contents[0];
    assert_eq!(part.description.as_ref().unwrap().namespace(), "urn:d");
    assert_eq!(
        part.security.as_ref().unwrap().namespace(),
        "urn:xmpp:jingle:jet:0"
    );
    assert_eq!(names(&part.transports), ["urn:t", "urn:t2"]);
    assert_eq!(names(&part.extra), ["urn:z", "urn:s2", "urn:d2"]);
}

#[test]
fn prefixes_do_not_matter() {
    let plain = jingle(
        "action='session-accept' sid='1'",
        "<content creator='initiator' name='c'><description xmlns='urn:d'/></content>",
    );
    let prefixed = set(
        "<jin:jingle xmlns:jin='urn:xmpp:jingle:1' action='session-accept' sid='1'>\
         <jin:content creator='initiator' name='c'><p:description xmlns:p='urn:d'/></jin:content></jin:jingle>",
    );
    assert_eq!(message(&plain), message(&prefixed));
}

#[test]
fn names_of_people_are_hints() {
    let hints = |attributes: &str| {
        let head = format!("action='session-info' sid='1' {attributes}");
        let message = message(&jingle(&head, ""));
        (message.initiator, message.responder)
    };
    let alice = Peer::from("alice@example.org/desk");
    assert_eq!(hints(""), (None, None));
    assert_eq!(hints("initiator='@' responder=''"), (None, None));
    assert_eq!(
        hints("initiator='ALICE@example.org/desk'"),
        (Some(alice), None)
    );
    assert_eq!(
        hints("responder='bob@example.org/lap'"),
        (None, Some(local()))
    );
}

#[test]
fn an_ending_needs_no_name() {
    assert_eq!(&*message(&jingle("action='session-terminate'", "")).sid, "");
    assert_eq!(&*message(&session("type='terminate'", "")).sid, "");
    for (stanza, field) in [
        (jingle("action='session-accept'", ""), "sid"),
        (jingle("action='session-info' sid=''", ""), "sid"),
        (session("type='accept'", ""), "id"),
    ] {
        let (_, _, error) = refusal(&stanza);
        assert_eq!(error.condition, Condition::BadRequest);
        assert_eq!(error.text.unwrap(), format!("{field}: is missing").into());
    }
}

#[test]
fn what_nobody_defined_is_refused() {
    let (_, dialect, error) = refusal(&jingle("action='session-ping' sid='1'", ""));
    assert_eq!(
        (dialect, error.condition),
        (Dialect::JINGLE, Condition::FeatureNotImplemented)
    );
    let (_, dialect, error) = refusal(&jingle("sid='1'", ""));
    assert_eq!(
        (dialect, error.condition),
        (Dialect::JINGLE, Condition::BadRequest)
    );
    for head in ["type='modify' id='1'", "type='' id='1'", "id='1'"] {
        let (_, dialect, error) = refusal(&session(head, ""));
        assert_eq!(
            (dialect, error.condition),
            (Dialect::GTALK_LATE, Condition::BadRequest)
        );
        assert_eq!(error.kind, ErrorKind::Modify);
    }
}

#[test]
fn google_reasons_come_in_several_forms() {
    let reason = |children| {
        message(&session("type='terminate' id='1'", children))
            .reason
            .unwrap()
    };
    // libjingle 0.4 takes the name from any namespace.
    let debug = reason("<call-ended xmlns='urn:x'><hung-up/></call-ended>");
    assert_eq!(debug.condition, ReasonCondition::Other("call-ended".into()));
    assert_eq!(debug.text.as_deref(), Some("hung-up"));
    let text = reason("<success>that was all<x xmlns='urn:x'/></success>");
    assert_eq!(text.text.as_deref(), Some("that was all"));
    assert_eq!(text.extra, Some(Element::new("urn:x", "x")));
    assert_eq!(reason("<success> \n </success>").text, None);
    let several = message(&session("type='reject' id='1'", "<busy/><gone/>"));
    assert_eq!(several.reason, Some(ReasonCondition::Busy.into()));
    assert_eq!(several.extra, [Element::new(ns::GOOGLE_SESSION, "gone")]);
    // Written, this would be read as a remark.
    let own = Reason {
        extra: Some(Element::new(ns::GOOGLE_SESSION, "x")),
        ..Reason::from(ReasonCondition::Busy)
    };
    let ending = Message {
        initiator: Some(local()),
        reason: Some(own),
        ..Message::new(
            local(),
            local(),
            "1",
            Dialect::GTALK,
            Action::SessionTerminate,
        )
    };
    assert!(stanza::encode_message("x", &ending, &Context::CLIENT, &mut Vec::new()).is_err());
}

#[test]
fn google_transports_that_go_without_saying_say_nothing() {
    let empty = "<transport xmlns='http://www.google.com/transport/p2p'/>";
    let description = "<description xmlns='http://www.google.com/talk/tunnel'/>";
    let accept = message(&session(
        "type='accept' id='1'",
        &format!("{description}{empty}"),
    ));
    assert!(accept.contents[0].transports.is_empty());
    let initiate = message(&session(
        "type='initiate' id='1'",
        &format!("{empty}{description}"),
    ));
    assert_eq!(initiate.contents[0].transports.len(), 1);
    assert_eq!(initiate.dialect, Dialect::GTALK);
    // Only the variant without transports has video.
    let video = "<description xmlns='http://www.google.com/session/video'/>";
    let initiate = message(&session(
        "type='initiate' id='1'",
        &format!("{video}{empty}"),
    ));
    assert_eq!(initiate.dialect, Dialect::GTALK_LATE);
    assert!(
        initiate
            .contents
            .iter()
            .all(|part| part.transports.is_empty())
    );
    assert_eq!(initiate.contents.len(), 2);
}

#[test]
fn a_redirection_needs_an_address() {
    for (children, problem) in [
        ("", "is missing"),
        ("<target/>", "is missing"),
        ("<target name='@'/>", "is no address"),
    ] {
        let (_, _, error) = refusal(&session("type='redirect' id='1'", children));
        assert_eq!(
            error.text.unwrap(),
            format!("target name: {problem}").into()
        );
    }
}

fn error(children: &str) -> StanzaError {
    let stanza = format!("<iq type='error' id='7' from='alice@example.org/desk'>{children}</iq>");
    let incoming = decode(&stanza);
    let Incoming::Reply(reply) = incoming else {
        panic!("{incoming:?}")
    };
    reply.reply.unwrap_err()
}

const STANZAS: &str = "xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'";

#[test]
fn errors_may_say_little() {
    let nothing = StanzaError::new(Condition::UndefinedCondition, ErrorKind::Cancel);
    assert_eq!(error(""), nothing);
    assert_eq!(error("<error/>"), nothing);
    assert_eq!(
        error("<error type='x' code='999'><y/></error>").condition,
        nothing.condition
    );
    let old = error("<error code='404'>Not Found</error>");
    assert_eq!(
        (old.condition, old.kind),
        (Condition::ItemNotFound, ErrorKind::Cancel)
    );
    let unknown = error(&format!(
        "<error type='wait'><too-green {STANZAS}/></error>"
    ));
    assert_eq!(
        (unknown.condition, unknown.kind),
        (Condition::UndefinedCondition, ErrorKind::Wait)
    );
    assert_eq!(unknown.extra.unwrap().name(), "too-green");
}

#[test]
fn what_was_asked_may_precede_the_error() {
    let echoed = error(&format!(
        "<error type='auth'/><jingle xmlns='urn:xmpp:jingle:1'/>\
         <error type='modify'><undefined-condition {STANZAS}/><gone {STANZAS}/>\
         <y xmlns='urn:y'/><z xmlns='urn:z'/><text {STANZAS}>t</text>\
         <odd xmlns='urn:xmpp:jingle:errors:1'/><tie-break xmlns='urn:xmpp:jingle:errors:1'/></error>"
    ));
    let expected = StanzaError {
        condition: Condition::Gone,
        kind: ErrorKind::Modify,
        jingle: Some(JingleCondition::TieBreak),
        extra: Some(Element::new("urn:y", "y")),
        text: Some("t".into()),
    };
    assert_eq!(echoed, expected);
}

#[test]
fn redirections_have_one_form_here() {
    let expected = Element::new(ns::GOOGLE_SESSION, "redirect").text("xmpp:bob@example.org/a b");
    for form in [
        format!("<error type='modify'><redirect {STANZAS}>\n xmpp:BOB@example.org/a%20b \n</redirect></error>"),
        "<error code='302'><redirect xmlns='http://www.google.com/session'>xmpp:bob@example.org/a b</redirect></error>".to_owned(),
        format!(
            "<error type='modify'><redirect {STANZAS}/>\
             <redirect xmlns='http://www.google.com/session'>bob@example.org/a b</redirect></error>"
        ),
    ] {
        let error = error(&form);
        assert_eq!((error.condition, error.kind), (Condition::Redirect, ErrorKind::Modify), "{form}");
        assert_eq!(error.extra.as_ref(), Some(&expected), "{form}");
    }
    assert_eq!(error("<error code='302'/>").condition, Condition::Redirect);
    let nowhere = error(&format!(
        "<error type='modify'><redirect {STANZAS}>xmpp:@</redirect></error>"
    ));
    assert_eq!(
        (nowhere.condition, nowhere.extra),
        (Condition::Redirect, None)
    );
}

fn replied(asked: &str, dialect: &Dialect, reply: &Result<Option<Element>, StanzaError>) -> String {
    let request = match decode(asked) {
        Incoming::Message { request, .. }
        | Incoming::Request(request)
        | Incoming::Refused { request, .. } => request,
        Incoming::Reply(_) | Incoming::Other(_) | Incoming::Unusable(_) => panic!("{asked}"),
    };
    let mut out = Vec::new();
    stanza::encode_reply(&request, dialect, reply, &Context::CLIENT, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn replies_have_the_form_of_their_dialect() {
    let head = "<iq from='bob@example.org/lap' id='7' to='alice@example.org/desk'";
    let asked = session("type='info' id='1'", "<x xmlns='urn:x'/>");
    for dialect in Dialect::ALL {
        assert_eq!(
            replied(&asked, dialect, &Ok(None)),
            format!("{head} type='result'/>")
        );
    }
    let unknown = PeerError::UnknownSession;
    assert_eq!(
        replied(
            &asked,
            Dialect::JINGLE,
            &Err(unknown.to_stanza_error(Dialect::JINGLE))
        ),
        format!(
            "{head} type='error'><error type='cancel'><item-not-found {STANZAS}/>\
             <text {STANZAS}>there is no such session</text>\
             <unknown-session xmlns='urn:xmpp:jingle:errors:1'/></error></iq>"
        )
    );
    // libjingle: what was asked, the condition, the application's own, the text.
    let echo = "<session xmlns='http://www.google.com/session' type='info' id='1'><x xmlns='urn:x'/></session>";
    let unknown = PeerError::UnknownChannel {
        name: "video_rtp".into(),
        namespace: "http://www.google.com/transport/p2p".into(),
    };
    let error = StanzaError {
        text: Some("no".into()),
        ..unknown.to_stanza_error(Dialect::GTALK)
    };
    assert_eq!(
        replied(&asked, Dialect::GTALK, &Err(error)),
        format!(
            "{head} type='error'>{echo}<error type='modify'><bad-request {STANZAS}/>\
             <unknown-channel-name xmlns='http://www.google.com/transport/p2p' name='video_rtp'/>\
             <text {STANZAS} xml:lang='en'>no</text></error></iq>"
        )
    );
}

#[test]
fn redirections_are_written_for_both_kinds_of_reader() {
    let asked = session("type='info' id='1'", "");
    let redirect = PeerError::Redirect("bob@example.org/a b".into());
    let redirect = |dialect| StanzaError {
        text: None,
        ..redirect.to_stanza_error(dialect)
    };
    let target = "xmpp:bob@example.org/a%20b</redirect>";
    let expected = format!(
        "<redirect {STANZAS}>{target}<redirect xmlns='http://www.google.com/session'>{target}</error></iq>"
    );
    let jingle = replied(&asked, Dialect::JINGLE, &Err(redirect(Dialect::JINGLE)));
    assert!(
        jingle.ends_with(&format!("<error type='modify'>{expected}")),
        "{jingle}"
    );
    let google = replied(
        &asked,
        Dialect::GTALK_LATE,
        &Err(redirect(Dialect::GTALK_LATE)),
    );
    assert!(
        google.ends_with(&format!("<error code='302' type='modify'>{expected}")),
        "{google}"
    );
}

#[test]
fn replies_go_back_as_they_were_addressed() {
    let asked = "<iq type='get' id='7' from='Alice@Example.org./desk' to='BOB@example.org'><x xmlns='urn:x'/></iq>";
    let expected = "<iq from='BOB@example.org' id='7' to='Alice@Example.org./desk' type='result'/>";
    assert_eq!(replied(asked, Dialect::JINGLE, &Ok(None)), expected);
    let server = "<iq type='get' id='7'><x xmlns='urn:x'/></iq>";
    assert_eq!(
        replied(server, Dialect::JINGLE, &Ok(None)),
        "<iq id='7' type='result'/>"
    );
}

#[test]
fn addresses_are_filled_in() {
    let Incoming::Request(request) = decode("<iq type='get' id='7'><x xmlns='urn:x'/></iq>") else {
        panic!()
    };
    assert_eq!(request.from().as_str(), "bob@example.org");
    assert_eq!(request.to(), &local());
    assert!(request.is_get() && request.payload().unwrap().is("urn:x", "x"));
    // S20: by meaning, not by text.
    let spelled = set("<jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='1'/>")
        .replace("alice@example.org", "ALICE@EXAMPLE.ORG.");
    assert_eq!(message(&spelled).from, Peer::from("alice@example.org/desk"));
}

#[test]
fn what_cannot_be_answered_is_unusable() {
    for stanza in [
        "<iq type='set' from='alice@example.org'/>",
        "<iq type='set' id='' from='alice@example.org'/>",
        "<iq type='set' id='7' from='@'/>",
        "<iq type='set' id='7' to='a b@c'/>",
        "<iq xmlns='urn:x' type='set' id='7'/>",
        "<query id='7'/>",
        "<message from='@'/>",
    ] {
        assert!(matches!(decode(stanza), Incoming::Unusable(_)), "{stanza}");
    }
    let (_, _, error) = refusal("<iq type='put' id='7'/>");
    assert_eq!(error.condition, Condition::BadRequest);
    let (_, _, error) = refusal("<iq id='7'/>");
    assert_eq!(error.condition, Condition::BadRequest);
}

#[test]
fn streams_of_servers_and_components_are_understood() {
    for namespace in [
        "jabber:client",
        "jabber:server",
        "jabber:component:accept",
        "",
    ] {
        let stanza = Element::new(namespace, "presence").with("from", "a@b/c");
        let Incoming::Other(envelope) = stanza::decode(stanza, &local()) else {
            panic!()
        };
        assert!(!envelope.is_message() && envelope.kind().is_none() && envelope.id().is_none());
    }
    let mut out = Vec::new();
    let message = Message {
        initiator: None,
        ..Message::new(local(), local(), "1", Dialect::JINGLE, Action::SessionInfo)
    };
    stanza::encode_message("7", &message, &Context::COMPONENT, &mut out).unwrap();
    let element = xml::parse(&out, &Context::COMPONENT, &ElementLimits::default()).unwrap();
    assert!(element.is("jabber:component:accept", "iq"));
}

#[test]
fn messages_and_presence_are_written() {
    let alice = Peer::from("alice@example.org");
    let head = stanza::Head {
        kind: Some("chat"),
        id: None,
        from: None,
        to: Some(&alice),
    };
    let mut out = Vec::new();
    let payloads = [
        Element::new("urn:xmpp:jingle-message:0", "propose").with("id", "s"),
        Element::new("urn:xmpp:hints", "store"),
    ];
    stanza::encode_chat(head, &payloads, &Context::CLIENT, &mut out).unwrap();
    let written = String::from_utf8(out).unwrap();
    assert_eq!(
        written,
        "<message to='alice@example.org' type='chat'><propose xmlns='urn:xmpp:jingle-message:0' id='s'/>\
         <store xmlns='urn:xmpp:hints'/></message>"
    );
    let Incoming::Other(envelope) = decode(&written) else {
        panic!()
    };
    assert!(envelope.is_message() && envelope.kind() == Some("chat"));
    let mut out = Vec::new();
    stanza::encode_presence(stanza::Head::default(), None, &Context::CLIENT, &mut out).unwrap();
    assert_eq!(out, b"<presence/>");
}
