//! Personas by themselves: what they answer, and that nothing makes them fall over.

use proptest::prelude::*;
use session_core::{
    Element,
    testing::{
        epoch,
        persona::{Persona, Reaction, Script, Stranger, StrangerOutput, Verdict, catalogue},
        strategies,
    },
};

const OURS: &str = "romeo@ours.example/desk";
const THEIRS: &str = "juliet@theirs.example/phone";

fn stranger(persona: Persona) -> Stranger {
    let script = Script {
        verdict: Verdict::Accept,
        early: true,
        odd: true,
        infos: true,
        hash: |_, _| None,
    };
    Stranger::new(persona, script, THEIRS.into(), OURS.into(), 1)
}

fn request(kind: &str, payload: Element) -> Element {
    Element::new("jabber:client", "iq")
        .with("from", OURS)
        .with("id", "1")
        .with("to", THEIRS)
        .with("type", kind)
        .child(payload)
}

fn jingle(action: &str) -> Element {
    Element::new("urn:xmpp:jingle:1", "jingle")
        .with("action", action)
        .with("sid", "s1")
}

/// What it says to one stanza.
fn said(persona: Persona, stanza: &Element) -> Vec<Element> {
    let mut stranger = stranger(persona);
    stranger.handle_stanza(stanza, epoch());
    let outputs = std::iter::from_fn(|| stranger.poll_output());
    let stanzas = outputs.filter_map(|output| match output {
        StrangerOutput::Stanza(stanza) => Some(stanza),
        StrangerOutput::Network(..) => None,
    });
    stanzas.collect()
}

fn answer(reaction: Reaction) -> Option<&'static str> {
    match reaction {
        Reaction::Silence => None,
        Reaction::Error(..) => Some("error"),
        Reaction::Handle | Reaction::Ack | Reaction::Decline | Reaction::End(_) => Some("result"),
    }
}

#[test]
fn what_is_unknown_gets_the_answer_that_the_client_gives() {
    for persona in catalogue::ALL {
        let unknown = said(persona, &request("set", jingle("session-teleport")));
        let types: Vec<_> = unknown.iter().map(|iq| iq.attribute("type")).collect();
        let wanted: Vec<_> = answer(persona.unknown_action)
            .map(Some)
            .into_iter()
            .collect();
        assert_eq!(types, wanted, "{}", persona.name);

        let unknown = said(persona, &request("set", jingle("session-info")));
        let types: Vec<_> = unknown.iter().map(|iq| iq.attribute("type")).collect();
        let wanted: Vec<_> = answer(persona.unknown_session)
            .map(Some)
            .into_iter()
            .collect();
        assert_eq!(types, wanted, "{}", persona.name);
    }
    // The two that stand out.
    assert_eq!(catalogue::ASTERISK.unknown_action, Reaction::Silence);
    assert_eq!(catalogue::MOVIM.unknown_session, Reaction::Ack);
}

#[test]
fn capabilities_are_told_to_who_asks() {
    let query = Element::new("http://jabber.org/protocol/disco#info", "query");
    for persona in catalogue::ALL {
        let answers = said(persona, &request("get", query.clone()));
        let query = answers[0].children().next().unwrap();
        let told: Vec<_> = query
            .children()
            .filter_map(|f| f.attribute("var"))
            .collect();
        assert_eq!(told, persona.features, "{}", persona.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_stanza_makes_a_stranger_fall_over(
        elements in prop::collection::vec(strategies::element(), 1..6),
        actions in prop::collection::vec(0..session_core::Action::JINGLE.len(), 1..6),
        who in 0..catalogue::ALL.len(),
    ) {
        let mut stranger = stranger(catalogue::ALL[who]);
        let now = epoch();
        for (element, action) in elements.into_iter().zip(actions) {
            let action = session_core::Action::JINGLE[action].as_str();
            stranger.handle_stanza(&element, now);
            let content = Element::new("urn:xmpp:jingle:1", "content").child(element.clone());
            stranger.handle_stanza(&request("set", jingle(action).child(content)), now);
            stranger.handle_stanza(&request("set", element), now);
            stranger.handle_timeout(now);
        }
        while stranger.poll_output().is_some() {}
    }
}
