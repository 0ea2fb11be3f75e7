//! Logins by WebSocket at real servers.

use crate::{
    ejabberd, lab,
    lab::{Running, SCRAM},
    prosody::{self, Wishes},
};
use session_xmpp::{
    client::{Client, ClientLink, ClientState, LoginError, Mechanism, Options, Password, Server},
    endpoint::{Link, LinkEvent},
};
use std::time::Duration;
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

fn by_web(mut options: Options, port: u16, path: &str) -> Options {
    options.server = Server::WebSocket {
        url: format!("wss://127.0.0.1:{port}/{path}"),
    };
    // The port of the web opens after those that a test waits for.
    options.insist = true;
    options
}

async fn hear(link: &mut ClientLink, wanted: &str) -> String {
    let hearing = async {
        loop {
            match link.next_event().await {
                Some(LinkEvent::Stanza(stanza)) => {
                    let text = String::from_utf8(stanza.to_vec()).unwrap();
                    if text.contains(wanted) {
                        return text;
                    }
                }
                Some(_) => {}
                None => panic!("it ended before {wanted}"),
            }
        }
    };
    timeout(LONG, hearing).await.unwrap()
}

async fn logins(server: &Running, port: u16, path: &str) {
    let (client, mut link) = Client::start(by_web(server.options("alice", SCRAM), port, path));
    let alice = timeout(LONG, client.online()).await;
    let alice = alice
        .unwrap_or_else(|_| panic!("{:?}", client.state()))
        .unwrap();
    let ClientState::Online {
        mechanism, secured, ..
    } = client.state()
    else {
        panic!("{:?}", client.state());
    };
    assert!(
        secured && matches!(mechanism, Mechanism::Scram { .. }),
        "{mechanism:?}"
    );
    let (other, mut bob) = Client::start(server.options("bob", SCRAM));
    let address = timeout(LONG, other.online()).await.unwrap().unwrap();
    // Longer than one piece of the way.
    let body = "ü".repeat(40_000);
    let message =
        format!("<message to='{address}' type='chat' id='there'><body>{body}</body></message>");
    link.send(message.into()).unwrap();
    assert!(hear(&mut bob, "id='there'").await.contains(&body));
    let back = format!("<message to='{alice}' type='chat' id='back'><body>{body}</body></message>");
    bob.send(back.into()).unwrap();
    let heard = hear(&mut link, "back").await;
    assert!(heard.starts_with("<message") && heard.contains(&body));
    drop(link);

    let mut wrong = by_web(server.options("alice", SCRAM), port, path);
    wrong.login.credentials = session_xmpp::client::Credentials::Password {
        user: "alice".to_owned(),
        password: Password::new("no"),
    };
    let (client, _link) = Client::start(wrong);
    let refused = timeout(LONG, client.online()).await.unwrap().unwrap_err();
    assert!(
        matches!(refused, LoginError::WrongPassword(_)),
        "{refused:?}"
    );
    let mut plain = server.options("alice", SCRAM);
    plain.server = Server::WebSocket {
        url: "http://localhost/".to_owned(),
    };
    let (client, _link) = Client::start(plain);
    let refused = timeout(LONG, client.online()).await.unwrap().unwrap_err();
    assert!(matches!(refused, LoginError::Unreachable(_)), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let (port, _) = lab::free_ports();
    let settings = format!(
        "http_ports = {{ }}\nhttps_ports = {{ {port} }}\nhttps_interfaces = {{ \"127.0.0.1\"; \"::1\" }}\n\
         http_default_host = \"{SCRAM}\""
    );
    let wishes = Wishes {
        modules: "\"http\"; \"websocket\";",
        settings: settings.leak(),
        ..Wishes::default()
    };
    let Some(server) = prosody::start("websocket-prosody", wishes) else {
        return;
    };
    logins(&server, port, "xmpp-websocket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let (port, _) = lab::free_ports();
    let listener = format!(
        "  - {{ port: {port}, ip: \"127.0.0.1\", module: ejabberd_http, tls: true, request_handlers: {{ \"/ws\": ejabberd_http_ws }} }}\n"
    );
    let wishes = ejabberd::Wishes {
        listeners: listener.leak(),
        ..ejabberd::Wishes::default()
    };
    let Some(server) = ejabberd::start_with("websocket-ejabberd", wishes) else {
        return;
    };
    logins(&server, port, "ws").await;
}
