//! What a transport hears of the words that it sent: taken, refused, or refused because they crossed the peer's.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Fake, fake};
use session_core::testing::{Answer, Note, RECORDER_NAMESPACE, Recorder, World};
use session_core::{
    Condition, Config, Element, InfoTarget, StanzaError, State, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const NAMESPACE: &str = "urn:example:told";

type Heard = Arc<Mutex<Vec<(Element, Result<(), StanzaError>)>>>;

/// Refuses every info for this reason, and writes down what it hears of its own.
#[derive(Clone)]
struct Told {
    refuses: Option<TransportError>,
    heard: Heard,
    inner: Fake,
}

impl TransportFactory for Told {
    fn namespace(&self) -> &str {
        NAMESPACE
    }
    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }
    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(self.clone())
    }
}

impl Transport for Told {
    fn namespace(&self) -> &str {
        NAMESPACE
    }
    fn offer(&mut self) -> Element {
        self.inner.offer()
    }
    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        self.inner.accept_offer(offer)
    }
    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        self.inner.accept_answer(answer)
    }
    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        self.inner.create_channel(name)
    }
    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        match &self.refuses {
            // An offer is split as well.
            Some(error) if !info.is_empty() => Err(error.clone()),
            Some(_) | None => self.inner.split_info(info),
        }
    }
    fn handle_info_reply(&mut self, info: &Element, reply: Result<(), &StanzaError>, _: Instant) {
        let reply = reply.map_err(StanzaError::clone);
        self.heard.lock().unwrap().push((info.clone(), reply));
    }
}

/// What the caller's transport hears when the callee's refuses like this.
fn heard_when(refuses: Option<TransportError>) -> Vec<(Element, Result<(), StanzaError>)> {
    let mut world = World::new(5);
    let heard = [Heard::default(), Heard::default()];
    for (host, name) in ["alice@a.example/1", "bob@b.example/2"]
        .into_iter()
        .enumerate()
    {
        let told = Told {
            refuses: refuses.clone().filter(|_| host == 1),
            heard: heard[host].clone(),
            inner: fake(NAMESPACE),
        };
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(told)?;
            let recorder = Recorder::new().with_channel("data");
            manager.add_client(recorder.with_answer(Answer::Accept))
        });
    }
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.state(0, id), Some(State::InProgress));
    let heard = heard[0].lock().unwrap();
    heard.clone()
}

#[test]
fn a_transport_hears_what_became_of_its_words() {
    let [(info, reply)] = &heard_when(None)[..] else {
        panic!("one candidate, one answer");
    };
    assert_eq!(info.namespace(), NAMESPACE);
    assert_eq!(info.children().count(), 1, "the whole of what was said");
    assert_eq!(*reply, Ok(()));

    for (error, condition, tie_break) in [
        (TransportError::TieBreak, Condition::Conflict, true),
        (
            TransportError::Unacceptable("no"),
            Condition::BadRequest,
            false,
        ),
    ] {
        let heard = heard_when(Some(error));
        let Some(Err(refusal)) = heard.first().map(|(_, reply)| reply) else {
            panic!("{heard:?}");
        };
        assert_eq!(refusal.condition, condition);
        assert_eq!(refusal.is_tie_break(), tie_break);
    }
}
