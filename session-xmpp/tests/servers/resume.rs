//! Connections break, servers restart; logins and sessions go on, or end as they should.

use crate::{
    ejabberd,
    lab::{Running, SCRAM},
    probe::{self, Over, Seen, Side},
    prosody::{self, Wishes},
    wire::Wire,
};
use session_core::{Element, Notice, Reason, ReasonCondition, Slot, State};
use session_xmpp::{
    client::{Client, ClientLink, ClientState},
    endpoint::{Link, LinkEvent, LinkState},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long anything may take, waits between attempts included.
const LONG: Duration = Duration::from_secs(60);

/// Messages that one sends to the other.
const MESSAGES: usize = 400;

/// Somebody logged in over a wire that can be cut.
async fn wired(server: &Running, user: &str, resource: Option<&str>) -> (Client, ClientLink, Wire) {
    let wire = Wire::to(server.starttls).await;
    let mut options = server.options(user, SCRAM);
    options.server = wire.server();
    options.login.resource = resource.map(str::to_owned);
    let (client, link) = Client::start(options);
    timeout(LONG, client.online()).await.unwrap().unwrap();
    (client, link, wire)
}

async fn until(client: &Client, fits: impl Fn(&ClientState) -> bool) -> ClientState {
    let mut changes = client.connect_state();
    let waiting = async {
        loop {
            match changes.next().await.unwrap() {
                Notice::Snapshot {
                    last: Some(state), ..
                }
                | Notice::Value(state)
                    if fits(&state) =>
                {
                    return state;
                }
                Notice::Ended => panic!("the client is gone"),
                _ => {}
            }
        }
    };
    let reached = timeout(LONG, waiting).await;
    reached.unwrap_or_else(|_| panic!("it stays {:?}", client.state()))
}

/// A loss, and after it a new login.
async fn come_back(changes: &mut Slot<ClientState>) {
    let mut lost = false;
    loop {
        match changes.next().await.unwrap() {
            Notice::Value(ClientState::Online { resumed: false, .. }) if lost => return,
            Notice::Snapshot { missed, last } => {
                lost |= missed > 0;
                if lost && matches!(last, Some(ClientState::Online { resumed: false, .. })) {
                    return;
                }
            }
            Notice::Value(ClientState::Ended(why)) => panic!("{why:?}"),
            Notice::Ended => panic!("the client is gone"),
            Notice::Value(_) => lost = true,
        }
    }
}

fn is_resumed(state: &ClientState) -> bool {
    matches!(state, ClientState::Online { resumed: true, .. })
}

/// Whether a server gives the stanzas of one sender to one receiver in their order, a resumption of the receiver's stream included.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    Kept,
    /// ejabberd: what still lies in the process of the former stream when a new one resumes it is routed anew, and what is sent
    /// meanwhile comes between it.
    LostAtResumption,
}

/// Both connections are cut again and again while one sends numbers to the other.
async fn nothing_is_lost_or_said_twice(server: &Running, order: Order) {
    let (alice, mut sender, here) = wired(server, "alice", Some("a")).await;
    let (_bob, mut receiver, there) = wired(server, "bob", Some("b")).await;
    let collecting = tokio::spawn(async move {
        let mut numbers = Vec::new();
        while numbers.len() < MESSAGES {
            match receiver.next_event().await {
                Some(LinkEvent::Stanza(stanza)) => {
                    let text = String::from_utf8(stanza.to_vec()).unwrap();
                    let number = text
                        .split("<body>")
                        .nth(1)
                        .and_then(|rest| rest.split('<').next());
                    numbers.extend(number.and_then(|number| number.parse::<usize>().ok()));
                }
                Some(LinkEvent::Up(_) | LinkEvent::Suspended | LinkEvent::Resumed) => {}
                other => panic!("{other:?}"),
            }
        }
        numbers
    });
    for number in 0..MESSAGES {
        let message =
            format!("<message to='bob@{SCRAM}/b' type='chat'><body>{number}</body></message>");
        sender.send(message.into_bytes().into()).unwrap();
        match number % 100 {
            30 => here.cut(),
            60 => there.cut(),
            90 => {
                here.cut();
                there.cut();
            }
            _ => {}
        }
        sleep(Duration::from_millis(10)).await;
    }
    let mut numbers = timeout(LONG, collecting).await.unwrap().unwrap();
    if order == Order::LostAtResumption {
        numbers.sort_unstable();
    }
    assert_eq!(numbers, (0..MESSAGES).collect::<Vec<_>>());
    assert!(is_resumed(&alice.state()), "{:?}", alice.state());
}

async fn side(link: ClientLink, client: &Client) -> Side {
    let (manager, seen) = probe::manager(Over::Udp, false);
    let address = client.online().await.unwrap();
    Side::linked(link, address, manager, seen).await
}

fn info(side: &Side, id: session_core::SessionId, name: &str) {
    side.endpoint.update(|manager, now| {
        let info = vec![Element::new("urn:example:info", name)];
        manager.session(id).unwrap().send_info(info, now).unwrap();
    });
}

/// What is said during a loss arrives after it, and the session knows nothing of the loss.
async fn a_session_outlives_a_cut(server: &Running) {
    let (client, link, wire) = wired(server, "alice", Some("a")).await;
    let mut alice = side(link, &client).await;
    let (other, link, _there) = wired(server, "bob", Some("b")).await;
    let mut bob = side(link, &other).await;
    let id = alice.offer(&bob.address);
    let ready = [Seen::State(State::InProgress), Seen::Writable(true)];
    alice.until_all(&ready).await;
    bob.until_seen(&Seen::State(State::InProgress)).await;

    wire.part();
    let lost = |state: &ClientState| {
        matches!(
            state,
            ClientState::Waiting {
                suspended: true,
                ..
            }
        )
    };
    until(&client, lost).await;
    info(&alice, id, "meanwhile");
    assert!(alice.send(id, "media goes on"), "the path is another one");
    assert_eq!(bob.packet().await, "media goes on");
    assert_eq!(
        alice.endpoint.link_state(),
        LinkState::Up(alice.address.clone())
    );
    wire.join();
    until(&client, is_resumed).await;
    bob.until_seen(&Seen::Info("meanwhile".to_owned())).await;
    let gone = Reason::new(ReasonCondition::Success);
    assert!(alice.endpoint.shutdown(gone.clone(), LONG).await);
    bob.until_seen(&Seen::Ended(Some(gone))).await;
}

/// A server that restarts has forgotten the logins: they come back, and sessions go on where the address is the same.
async fn a_server_restarts(server: &mut Running) {
    let (client, link, _wire) = wired(server, "alice", Some("a")).await;
    let mut alice = side(link, &client).await;
    let (other, link, _there) = wired(server, "bob", Some("b")).await;
    let mut bob = side(link, &other).await;
    // This one's address is new at each login.
    let (third, link, _third_wire) = wired(server, "bob", None).await;
    let mut moving = side(link, &third).await;
    let id = alice.offer(&bob.address);
    alice.until_seen(&Seen::State(State::InProgress)).await;
    bob.until_seen(&Seen::State(State::InProgress)).await;
    moving.offer(&alice.address);
    moving.until_seen(&Seen::State(State::InProgress)).await;
    let before = moving.address.clone();

    let clients = [&client, &other, &third];
    let mut slots = clients.map(Client::connect_state);
    for slot in &mut slots {
        // How it stands before.
        slot.next().await.unwrap();
    }
    tokio::task::block_in_place(|| server.restart());
    for mut slot in slots {
        timeout(LONG, come_back(&mut slot)).await.unwrap();
    }
    alice.up().await;
    bob.up().await;
    info(&alice, id, "afterwards");
    bob.until_seen(&Seen::Info("afterwards".to_owned())).await;
    assert_ne!(third.online().await.unwrap(), before);
    moving.until_seen(&Seen::Destroyed).await;
    let gone = Reason::new(ReasonCondition::Success);
    assert!(alice.endpoint.shutdown(gone.clone(), LONG).await);
    bob.until_seen(&Seen::Ended(Some(gone))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let Some(mut server) = prosody::start("resume-prosody", Wishes::default()) else {
        return;
    };
    nothing_is_lost_or_said_twice(&server, Order::Kept).await;
    a_session_outlives_a_cut(&server).await;
    a_server_restarts(&mut server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let Some(mut server) = ejabberd::start("resume-ejabberd") else {
        return;
    };
    nothing_is_lost_or_said_twice(&server, Order::LostAtResumption).await;
    a_session_outlives_a_cut(&server).await;
    a_server_restarts(&mut server).await;
}
