//! A call rings on two devices of an account; one answers, and the other stops.

use crate::{
    ejabberd,
    lab::{Running, SCRAM},
    prosody::{self, Wishes},
};
use session_core::{Config, Element, Peer, Reason, ReasonCondition, SeededEntropy, SessionManager};
use session_xmpp::{
    address,
    client::{Calls, Client, Discovery, Info},
    endpoint::{Endpoint, Options, Service},
    jmi::{JMI, JmiConfig, JmiEnd, JmiOutput},
};
use std::time::Duration;
use tokio::{sync::mpsc, time::timeout};

const LONG: Duration = Duration::from_secs(30);

struct Device {
    endpoint: Endpoint,
    calls: Calls,
    told: mpsc::Receiver<JmiOutput>,
    address: Peer,
}

impl Device {
    async fn new(server: &Running, user: &str, resource: &str) -> Self {
        let mut options = server.options(user, SCRAM);
        options.login.resource = Some(resource.to_owned());
        let (client, link) = Client::start(options);
        let (calls, told) = Calls::new(JmiConfig::default());
        let discovery = Discovery::new(
            "https://example.org/x",
            Info::new("client", "pc", "x", [JMI]),
        );
        let services: Vec<Box<dyn Service>> = vec![discovery.service(), calls.service()];
        let mut options = Options::default();
        options.service = Some(Box::new(services));
        let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        let endpoint = Endpoint::spawn_with(manager, link, options);
        let (running, held) = (calls.clone(), endpoint.clone());
        tokio::spawn(async move { running.run(&held).await });
        let address = timeout(LONG, client.online()).await.unwrap().unwrap();
        // Messages for an account go to the devices that have shown themselves; the answer to what follows tells that the
        // server has seen it, and has been asked for carbons before.
        assert_eq!(endpoint.send_stanza(&discovery.presence(None)), Ok(true));
        let domain = Peer::from(SCRAM);
        session_xmpp::client::discovery::ask(&endpoint, &domain, None)
            .await
            .unwrap();
        Self {
            endpoint,
            calls,
            told,
            address,
        }
    }

    async fn next(&mut self) -> JmiOutput {
        timeout(LONG, self.told.recv()).await.unwrap().unwrap()
    }

    async fn proposed(&mut self) -> String {
        match self.next().await {
            JmiOutput::Proposed { id, .. } => id.to_string(),
            other => panic!("{other:?}"),
        }
    }
}

fn media() -> Vec<Element> {
    vec![Element::new("urn:xmpp:jingle:apps:rtp:1", "description").with("media", "audio")]
}

async fn one_answers(server: &Running) {
    let mut alice = Device::new(server, "alice", "desk").await;
    let mut phone = Device::new(server, "bob", "phone").await;
    let mut desk = Device::new(server, "bob", "desk").await;
    let bob = address::bare(&phone.address);
    let id = "ca3cf894-5325-482f-a412-a6e9f832298d";
    let propose = |device: &Device, id: &str| {
        let proposed = device
            .calls
            .update(|jmi, now| jmi.propose(id, &bob, media(), now));
        proposed.unwrap();
    };
    propose(&alice, id);
    assert_eq!(
        (phone.proposed().await, desk.proposed().await),
        (id.to_owned(), id.to_owned())
    );
    phone.calls.update(|jmi, _| jmi.ring(id)).unwrap();
    let (by, with) = (phone.address.clone(), phone.address.clone());
    assert_eq!(alice.next().await, JmiOutput::Ringing { id: id.into(), by });
    phone.calls.update(|jmi, now| jmi.accept(id, now)).unwrap();
    assert_eq!(
        alice.next().await,
        JmiOutput::Proceed {
            id: id.into(),
            with
        }
    );
    let end = JmiEnd::AnsweredElsewhere(phone.address.clone());
    assert_eq!(desk.next().await, JmiOutput::Over { id: id.into(), end });
    let done = Reason::new(ReasonCondition::Success);
    alice.calls.update(|jmi, _| jmi.finish(id, &done)).unwrap();
    let over = JmiOutput::Over {
        id: id.into(),
        end: JmiEnd::Finished(Some(done)),
    };
    assert_eq!(phone.next().await, over);
    assert!(matches!(
        alice.next().await,
        JmiOutput::Over {
            end: JmiEnd::Ours,
            ..
        }
    ));

    // One declines for both.
    propose(&alice, "second");
    phone.proposed().await;
    desk.proposed().await;
    let busy = Reason::new(ReasonCondition::Busy);
    desk.calls
        .update(|jmi, _| jmi.reject("second", &busy))
        .unwrap();
    let rejected = |output| {
        matches!(
            output,
            JmiOutput::Over {
                end: JmiEnd::Rejected(_),
                ..
            }
        )
    };
    assert!(rejected(alice.next().await));
    let elsewhere = |output| {
        matches!(
            output,
            JmiOutput::Over {
                end: JmiEnd::RejectedElsewhere,
                ..
            }
        )
    };
    assert!(elsewhere(phone.next().await));
    for device in [&alice, &phone, &desk] {
        assert_eq!(device.calls.update(|jmi, _| jmi.calls().count()), 0);
        let gone = Reason::new(ReasonCondition::Gone);
        assert!(device.endpoint.shutdown(gone, LONG).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let Some(server) = prosody::start("calls-prosody", Wishes::default()) else {
        return;
    };
    one_answers(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let Some(server) = ejabberd::start("calls-ejabberd") else {
        return;
    };
    one_answers(&server).await;
}
