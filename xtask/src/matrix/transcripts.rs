//! Recorded conversations of other people's programs, read again by our codec and taken up by our sessions.
//!
//! They are runs of our own, cut down to what sessions said; `<` is what the recording side received. Libervia's was
//! recorded at its server, so that both sides stand there as received.

use super::ours;
use session_core::{
    Action, Config, ElementLimits, Input, Output, Peer, RequestId, SeededEntropy, SessionManager,
    State, testing::epoch, testing::persona::catalogue,
};
use session_file::{Acceptance, Decision, FileClient, FileVerdict, TunnelClient, TunnelConfig};
use session_voice::{CallVerdict, JingleForm, VoiceClient};
use session_xmpp::{
    jmi::{Jmi, JmiConfig, JmiOutput},
    stanza::{self, Incoming},
    xml::{self, Context},
};
use std::sync::Arc;
use transport_p2p::pseudotcp::PseudoTcpLayer;

const ALL: [(&str, &str); 7] = [
    ("call", include_str!("transcripts/slixmpp-aiortc-call.txt")),
    (
        "announced call",
        include_str!("transcripts/slixmpp-aiortc-announced-call.txt"),
    ),
    (
        "relayed call",
        include_str!("transcripts/slixmpp-aiortc-relayed-call.txt"),
    ),
    (
        "data channel",
        include_str!("transcripts/slixmpp-aiortc-data-channel.txt"),
    ),
    (
        "Google tunnel",
        include_str!("transcripts/libjingle-google-tunnel.txt"),
    ),
    (
        "Jingle tunnel",
        include_str!("transcripts/libjingle-jingle-tunnel.txt"),
    ),
    (
        "Libervia",
        include_str!("transcripts/libervia-file-s5b.txt"),
    ),
];

/// The stanzas: whether the recording side received it, and its bytes.
fn stanzas(text: &str) -> impl Iterator<Item = (bool, &[u8])> {
    text.lines().filter_map(|line| {
        let (mark, stanza) = line.split_once(' ')?;
        (mark != "#").then_some((mark == "<", stanza.as_bytes()))
    })
}

fn decode(bytes: &[u8], own: &str) -> Incoming {
    let stanza = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()).unwrap();
    stanza::decode(stanza, &Peer::from(own))
}

#[test]
fn what_others_said_is_read_and_written_again_without_a_loss() {
    for (name, text) in ALL {
        let mut messages = 0;
        for (_, bytes) in stanzas(text) {
            match decode(bytes, "bob@lab.test/here") {
                Incoming::Message { message, .. } => {
                    messages += 1;
                    let mut again = Vec::new();
                    let written =
                        stanza::encode_message("1", &message, &Context::CLIENT, &mut again);
                    // What a peer leaves out, we do not leave out.
                    written.unwrap_or_else(|error| panic!("{name}: {}: {error}", message.action));
                    match decode(&again, message.to.as_str()) {
                        Incoming::Message { message: other, .. } => {
                            assert_eq!(other, message, "{name}")
                        }
                        other => panic!("{name}: {other:?}"),
                    }
                }
                Incoming::Request(_) | Incoming::Other(_) => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(messages >= 4, "{name}: {messages}");
    }
}

/// Takes up what was received by an address, and says which states its session went through. Choices between candidates of
/// the recorded side are left out: ours are others.
fn take_up(text: &str, own: &str) -> Vec<State> {
    let now = epoch();
    let mut entropy = SeededEntropy::new(3);
    let fill = move |buffer: &mut [u8]| session_core::Entropy::fill(&mut entropy, buffer);
    let mut manager = SessionManager::new(Config::default(), fill);
    let address = std::net::IpAddr::from([127, 0, 0, 1]);
    let packets = Arc::default();
    ours::equip(
        &mut manager,
        &catalogue::CONVERSATIONS,
        address,
        true,
        &packets,
    );
    let mut tunnels = TunnelClient::new(TunnelConfig::new(Arc::new(PseudoTcpLayer::default())));
    tunnels.set_policy(|_: &_| session_file::Verdict::Accept);
    manager.add_client(tunnels).unwrap();
    let calls = manager.find_client::<VoiceClient<JingleForm>>().unwrap();
    calls.set_policy(|_| CallVerdict::Answer);
    let files = manager.find_client::<FileClient>().unwrap();
    files.set_policy(|offer| {
        let accept = |file: &session_file::OfferedFile| {
            (
                file.content.clone(),
                Decision::Accept(Acceptance::default()),
            )
        };
        FileVerdict::Decide(offer.files.iter().map(accept).collect())
    });
    let mut states = Vec::new();
    for (number, (_, bytes)) in stanzas(text).filter(|(received, _)| *received).enumerate() {
        let Incoming::Message { message, .. } = decode(bytes, own) else {
            continue;
        };
        let action = message.action;
        let mut parts = message.contents.iter().flat_map(|part| &part.transports);
        let chooses = parts.any(|part| part.namespace() == transport_relay::s5b::NAMESPACE);
        if message.to.as_str() != own || (chooses && action == Action::TransportInfo) {
            continue;
        }
        let id = RequestId(number as u64);
        manager.handle_input(Input::Message { id, message }, now);
        let mut answered = false;
        loop {
            match manager.poll_output(now) {
                Output::Reply {
                    id: answer, reply, ..
                } => {
                    assert_eq!(answer, id);
                    assert!(reply.is_ok(), "{action}: {reply:?}");
                    answered = true;
                }
                // They were answered when they were recorded.
                Output::Message { id, .. } | Output::Request { id, .. } => {
                    manager.handle_input(
                        Input::Reply {
                            id,
                            reply: Ok(None),
                        },
                        now,
                    );
                }
                Output::Wait(_) => break,
                _ => {}
            }
        }
        assert!(answered, "{action}");
        let sessions = manager.session_ids();
        states.extend(
            sessions
                .first()
                .and_then(|id| manager.peek(*id))
                .map(|s| s.state()),
        );
        states.extend(sessions.is_empty().then_some(State::Deinit));
    }
    states
}

#[test]
fn recorded_sessions_are_taken_up_and_end_as_they_ended() {
    let cases = [
        (ALL[0].1, "bob@lab.test/pyjingle"),
        (ALL[1].1, "bob@lab.test/pyjingle"),
        (ALL[2].1, "bob@lab.test/pyjingle"),
        (ALL[4].1, "bob@localhost/pcp"),
        (ALL[5].1, "bob@localhost/pcp"),
    ];
    for (text, own) in cases {
        let states = take_up(text, own);
        assert_eq!(
            states.first(),
            Some(&State::InProgress),
            "{own}: {states:?}\n{text}"
        );
        assert_eq!(
            states.last(),
            Some(&State::Deinit),
            "{own}: {states:?}\n{text}"
        );
    }
    // Libervia's receiver ends it, so that its sender's words alone leave it open.
    let states = take_up(ALL[6].1, "bob@lab.test/libervia");
    assert!(
        states.len() == 2 && states.iter().all(|state| *state == State::InProgress),
        "{states:?}"
    );
}

#[test]
fn a_recorded_announcement_is_taken_up() {
    let own = Peer::from("bob@lab.test/pyjingle");
    let mut jmi = Jmi::new(own.clone(), JmiConfig::default());
    for (_, bytes) in stanzas(ALL[1].1).filter(|(received, _)| *received) {
        if let Incoming::Other(envelope) = decode(bytes, own.as_str()) {
            jmi.handle_message(&envelope, None, epoch());
        }
    }
    let proposed = std::iter::from_fn(|| jmi.poll_output()).find_map(|output| match output {
        JmiOutput::Proposed {
            id, descriptions, ..
        } => Some((id, descriptions.len())),
        _ => None,
    });
    let (id, media) = proposed.expect("it was proposed");
    assert_eq!((&*id, media), ("7bd1d5d9b6effaea", 1));
}
