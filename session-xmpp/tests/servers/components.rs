//! Services of our own beside real servers: external components (XEP-0114), over one connection and over several.

use crate::{
    ejabberd, lab,
    lab::{Running, SCRAM},
    probe::{self, Over, Seen, Side},
    prosody::{self, Wishes},
};
use session_core::{Peer, Reason, ReasonCondition, State};
use session_xmpp::client::{
    Client, Component, ComponentLink, ComponentOptions, LoginError, Password,
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(60);

const SERVICE: &str = "service.test";
const SECRET: &str = "a secret";

fn options(port: u16, connections: usize) -> ComponentOptions {
    let mut options = ComponentOptions::new(SERVICE, Password::new(SECRET), "127.0.0.1", port);
    options.connections = connections;
    options
}

async fn start(port: u16, connections: usize) -> (Component, ComponentLink) {
    let (component, link) = Component::start(options(port, connections));
    let address = timeout(LONG, component.online()).await.unwrap().unwrap();
    assert_eq!(address.as_str(), SERVICE);
    let all = async {
        while component.state().connections < connections {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, all).await.unwrap();
    (component, link)
}

/// Many addresses of the service have sessions with an account, in both directions.
async fn sessions_with_many_addresses(server: &Running, port: u16, connections: usize) {
    let (component, link) = start(port, connections).await;
    let (manager, seen) = probe::manager(Over::Udp, false);
    let mut service = Side::linked(link, Peer::from(SERVICE), manager, seen).await;
    let (client, link) = Client::start(server.options("alice", SCRAM));
    let address = timeout(LONG, client.online()).await.unwrap().unwrap();
    let (manager, seen) = probe::manager(Over::Udp, false);
    let mut alice = Side::linked(link, address, manager, seen).await;
    for number in 0..12 {
        let room = Peer::from(format!("room{number}@{SERVICE}/{number}"));
        let id = alice.offer(&room);
        alice.until_seen(&Seen::State(State::InProgress)).await;
        let reason = Reason::new(ReasonCondition::Success);
        alice.endpoint.update(|manager, now| {
            let session = manager.session(id).unwrap();
            assert_eq!(*session.remote_name(), room);
            session.terminate(reason.clone(), now).unwrap();
        });
        service.until_seen(&Seen::Ended(Some(reason))).await;
    }
    assert_eq!(component.state().connections, connections);
    let gone = Reason::new(ReasonCondition::Gone);
    assert!(service.endpoint.shutdown(gone, LONG).await);
    let ended = async {
        while !component.state().ended {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, ended).await.unwrap();

    let mut wrong = options(port, 1);
    wrong.secret = Password::new("another");
    let (component, _link) = Component::start(wrong);
    let refused = timeout(LONG, component.online())
        .await
        .unwrap()
        .unwrap_err();
    let is_end = !refused.is_temporary() || matches!(refused, LoginError::Closed);
    assert!(is_end, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let (port, _) = lab::free_ports();
    let settings =
        format!("component_ports = {{ {port} }}\ncomponent_interfaces = {{ \"127.0.0.1\" }}");
    let hosts = format!("Component \"{SERVICE}\"\n  component_secret = \"{SECRET}\"\n");
    let wishes = Wishes {
        settings: settings.leak(),
        hosts: hosts.leak(),
        ..Wishes::default()
    };
    let Some(server) = prosody::start("components-prosody", wishes) else {
        return;
    };
    sessions_with_many_addresses(&server, port, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let (port, _) = lab::free_ports();
    let listener = format!(
        "  - {{ port: {port}, ip: \"127.0.0.1\", module: ejabberd_service, hosts: {{ \"{SERVICE}\": {{ password: \"{SECRET}\" }} }} }}\n\
         domain_balancing:\n  \"{SERVICE}\": {{ type: source, component_number: 3 }}\n"
    );
    let wishes = ejabberd::Wishes {
        listeners: listener.leak(),
        ..ejabberd::Wishes::default()
    };
    let Some(server) = ejabberd::start_with("components-ejabberd", wishes) else {
        return;
    };
    sessions_with_many_addresses(&server, port, 3).await;
}
