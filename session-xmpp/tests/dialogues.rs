//! Whole sessions over real stanza bytes, in each pairing of vocabularies (the dialogues of libjingle's own tests).

#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "shared/wire.rs"]
mod wire;

use bytes::Bytes;
use session_core::{
    Action, ContentSpec, Dialect, Element, GOOGLE_P2P, Reason, ReasonCondition, State,
};
use session_xmpp::ns;

use wire::Wire;

const TUNNEL: &str = "http://www.google.com/talk/tunnel";

fn tunnel() -> Element {
    Element::new(TUNNEL, "description").child(Element::new(TUNNEL, "type").text("recv:x"))
}

/// Offers a tunnel, waits until both are in it, sends both ways, and ends it.
fn dialogue(wire: &mut Wire) {
    let (now, bob) = (wire.now, wire.sides[1].address.clone());
    let alice = wire.sides[0].address.clone();
    let manager = &mut wire.sides[0].manager;
    let id = manager.create_session(alice, TUNNEL, now).unwrap();
    let session = manager.session(id).unwrap();
    session.create_channel("tcp", now).unwrap();
    session.initiate_with(bob, vec![], tunnel(), now).unwrap();
    wire.settle();
    talk(wire, &["tcp"]);
}

/// Both are in progress: data goes both ways, and the end is understood.
fn talk(wire: &mut Wire, channels: &[&str]) {
    for at in 0..2 {
        assert_eq!(wire.session(at).state(), State::InProgress);
        assert_eq!(wire.session(at).transport(), Some(GOOGLE_P2P));
        for name in channels {
            let now = wire.now;
            let session = wire.session(at);
            let named = |channel: &_| session.channel_name(*channel) == Some(name);
            let channel = session.channel_ids().find(named).unwrap();
            assert!(session.writable(channel), "{name}");
            session
                .send(channel, Bytes::from(format!("{name} {at}")), now)
                .unwrap();
        }
    }
    wire.settle();
    for at in 0..2 {
        let mut packets = wire.client(at).packets.clone();
        packets.sort();
        let expected: Vec<_> = channels
            .iter()
            .map(|name| ((*name).into(), Bytes::from(format!("{name} {}", 1 - at))))
            .collect();
        assert_eq!(packets, expected);
    }
    let now = wire.now;
    wire.session(0)
        .terminate(Reason::new(ReasonCondition::Success), now)
        .unwrap();
    wire.settle();
    assert_eq!(
        wire.client(1).reason,
        Some(Reason::new(ReasonCondition::Success))
    );
    assert_eq!(wire.client(1).states.last(), Some(&State::Deinit));
}

#[test]
fn each_pairing_settles_where_the_original_did() {
    // What the initiator speaks, what the responder reads of a hybrid, what the initiator ends up with.
    let pairings = [
        (Dialect::JINGLE, None, &["jingle"][..]),
        (Dialect::GTALK_LATE, None, &["gtalk-late"]),
        (Dialect::GTALK_COMPAT, None, &["gtalk-compat"]),
        (Dialect::GTALK, None, &["gtalk"]),
        (Dialect::HYBRID, None, &["jingle"]),
        (Dialect::HYBRID, Some("jingle"), &["jingle"]),
        // Either word may come first; both leave transports unsaid.
        (
            Dialect::HYBRID,
            Some("session"),
            &["gtalk-late", "gtalk-compat"],
        ),
    ];
    for (dialect, reads, settled) in pairings {
        let mut wire = Wire::new(dialect, TUNNEL, &[("main", "tcp")]);
        wire.sides[1].reads = reads;
        dialogue(&mut wire);
        let last = wire.sides[1].heard.last().unwrap();
        assert_eq!(last.action, Action::SessionTerminate);
        let spoken = if settled.contains(&"jingle") {
            "jingle"
        } else {
            "gtalk-late"
        };
        assert_eq!(last.dialect.name, spoken, "{dialect} {reads:?}");
        let candidates = wire.sides[1]
            .heard
            .iter()
            .find(|m| m.action == Action::TransportInfo);
        let form = match settled {
            ["jingle"] => "jingle",
            ["gtalk"] => "gtalk",
            _ => "gtalk-compat",
        };
        assert_eq!(
            candidates.unwrap().dialect.name,
            form,
            "{dialect} {reads:?}"
        );
    }
}

#[test]
fn a_responder_without_transports_changes_the_initiators_way() {
    let mut wire = Wire::new(Dialect::GTALK, TUNNEL, &[("main", "tcp")]);
    wire.drops_transports = true;
    dialogue(&mut wire);
    let said = |at: usize| {
        let heard = wire.sides[1 - at].heard.iter();
        heard
            .map(|message| (message.action, message.dialect.name))
            .collect::<Vec<_>>()
    };
    assert!(
        !said(1)
            .iter()
            .any(|(action, _)| *action == Action::TransportAccept)
    );
    assert!(said(1).contains(&(Action::TransportInfo, "gtalk-compat")));
    // First as transport-info, and once more as candidates when it shows that transports play no part.
    assert!(said(0).contains(&(Action::TransportInfo, "gtalk")));
    assert!(said(0).contains(&(Action::TransportInfo, "gtalk-compat")));
}

#[test]
fn audio_and_video_share_one_google_description() {
    let channels = &[("audio", "rtp"), ("video", "video_rtp")];
    for dialect in [Dialect::GTALK_LATE, Dialect::GTALK_COMPAT, Dialect::JINGLE] {
        let mut wire = Wire::new(dialect, ns::GOOGLE_VIDEO, channels);
        let (now, bob) = (wire.now, wire.sides[1].address.clone());
        let alice = wire.sides[0].address.clone();
        let medium = |namespace| {
            Element::new(ns::GOOGLE_VIDEO, "description")
                .child(Element::new(namespace, "payload-type").with("id", 0))
        };
        let manager = &mut wire.sides[0].manager;
        let id = manager
            .create_session(alice, ns::GOOGLE_VIDEO, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        session.set_content_name("audio").unwrap();
        session
            .add_content(ContentSpec::new("video", medium(ns::GOOGLE_VIDEO)), now)
            .unwrap();
        for (content, channel) in channels {
            session
                .create_channel_in(content, channel, None, now)
                .unwrap();
        }
        session
            .initiate_with(bob, vec![], medium(ns::GOOGLE_PHONE), now)
            .unwrap();
        wire.settle();
        let names: Vec<_> = wire
            .session(1)
            .contents()
            .map(|c| c.name().to_string())
            .collect();
        assert_eq!(names, ["audio", "video"], "{dialect}");
        talk(&mut wire, &["rtp", "video_rtp"]);
    }
}
