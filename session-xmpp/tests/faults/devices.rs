//! A server that drops carbons, says things twice and in another order to each device: who answers a call is still one.

use crate::{
    Device, LONG, attribute, device_with,
    nasty::{Nasty, Wrong},
    next_stanza,
};
use session_core::{Element, Peer, Reason, ReasonCondition};
use session_xmpp::{
    endpoint::{LinkState, Router, RouterLink},
    jmi::{JmiEnd, JmiOutput},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Each message comes once or twice, late by another time.
const MESSAGES: Wrong = Wrong {
    which: |stanza| stanza.starts_with("<message"),
    copies: 1..=2,
    late: 0..=40,
};
/// By then all of them have come.
const SETTLED: Duration = Duration::from_millis(160);

/// Bob's account: what is for it goes to both devices, and copies of what they say are promised and never sent.
async fn account(router: Router, mut link: RouterLink) {
    loop {
        let stanza = next_stanza(&mut link).await;
        if stanza.starts_with("<iq") {
            let (id, from) = (attribute(&stanza, "id"), attribute(&stanza, "from"));
            let result = format!("<iq type='result' id='{id}' from='bob@x' to='{from}'/>");
            router.deliver(&Peer::from(&*from), result);
            continue;
        }
        for device in ["bob@x/phone", "bob@x/desk"] {
            router.deliver(&device.into(), stanza.clone());
        }
    }
}

/// Somebody whose messages come late and twice.
async fn start(router: &Router, address: &str, seed: u64) -> Device {
    let device = device_with(Nasty::new(router.link(address), seed, MESSAGES));
    let (running, held) = (device.calls.clone(), device.endpoint.clone());
    tokio::spawn(async move { running.run(&held).await });
    let up = async {
        while device.endpoint.link_state() != LinkState::Up(Peer::from(address)) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, up).await.unwrap();
    device
}

async fn hear(device: &mut Device) -> JmiOutput {
    timeout(LONG, device.told.recv()).await.unwrap().unwrap()
}

fn media() -> Vec<Element> {
    vec![Element::new("urn:xmpp:jingle:apps:rtp:1", "description").with("media", "audio")]
}

/// Both answer at once, or only the phone.
async fn a_call(seed: u64, both: bool) {
    let router = Router::new();
    let server = tokio::spawn(account(router.clone(), router.link("bob@x")));
    let mut alice = start(&router, "alice@x/1", seed).await;
    let mut phone = start(&router, "bob@x/phone", seed + 1).await;
    let mut desk = start(&router, "bob@x/desk", seed + 2).await;
    let propose = alice
        .calls
        .update(|jmi, now| jmi.propose("call", &"bob@x".into(), media(), now));
    propose.unwrap();
    for device in [&mut phone, &mut desk] {
        let proposed = hear(device).await;
        assert!(
            matches!(proposed, JmiOutput::Proposed { .. }),
            "{proposed:?}"
        );
    }
    phone
        .calls
        .update(|jmi, now| jmi.accept("call", now))
        .unwrap();
    if both {
        // It may have heard of the other already.
        let _ = desk.calls.update(|jmi, now| jmi.accept("call", now));
    }
    let proceed = hear(&mut alice).await;
    let JmiOutput::Proceed { with, .. } = proceed else {
        panic!("{proceed:?}");
    };
    // The messages that are late have all come by then.
    sleep(SETTLED).await;
    let keeps = |device: &Device| device.calls.update(|jmi, _| jmi.calls().count());
    assert!(
        keeps(&phone) + keeps(&desk) <= 1,
        "both devices keep it, {seed}"
    );
    if !both {
        assert_eq!(with.as_str(), "bob@x/phone");
        let end = JmiEnd::AnsweredElsewhere("bob@x/phone".into());
        let over = JmiOutput::Over {
            id: "call".into(),
            end,
        };
        assert_eq!(hear(&mut desk).await, over, "{seed}");
    }
    let done = Reason::new(ReasonCondition::Success);
    alice
        .calls
        .update(|jmi, _| jmi.finish("call", &done))
        .unwrap();
    sleep(SETTLED).await;
    for device in [&alice, &phone, &desk] {
        assert_eq!(keeps(device), 0, "a call is left, {seed}");
    }
    // What came twice was told once.
    let mut told = Vec::new();
    for device in [&mut alice, &mut phone, &mut desk] {
        told.push(std::iter::from_fn(|| device.told.try_recv().ok()).count());
    }
    let most = if both { [1, 1, 1] } else { [1, 1, 0] };
    let few = told.iter().zip(most).all(|(told, most)| *told <= most);
    assert!(few, "{told:?}, {seed}");
    server.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_is_one_whatever_the_server_does_to_messages() {
    for seed in 0..24 {
        a_call(seed * 31, seed % 3 == 0).await;
    }
}
