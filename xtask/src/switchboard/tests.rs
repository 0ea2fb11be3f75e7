//! Our own client and slixmpp log in, and talk to each other.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

mod programs;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use session_core::{Config as CoreConfig, Peer, SeededEntropy, SessionManager};
use session_xmpp::address;
use session_xmpp::client::{
    Authorities, Client, ClientLink, ClientState, Discovery, Info, LoginError, Mechanism, Options,
    Password, extdisco,
};
use session_xmpp::endpoint::{Endpoint, Link, LinkEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::server::{Config, Relay, Server};

const LONG: Duration = Duration::from_secs(30);

/// A switchboard that runs, and what it takes to log in.
struct Running {
    port: u16,
    authority: String,
}

impl Running {
    async fn new() -> Self {
        let accounts = [("alice", "secret"), ("bob", "pen,cil=")];
        let accounts = accounts.map(|(name, password)| (name.to_owned(), password.to_owned()));
        let turn = Relay {
            host: "192.0.2.1".to_owned(),
            port: 3478,
            secret: Some("shared".to_owned()),
        };
        let config = Config {
            domain: "localhost".to_owned(),
            accounts: BTreeMap::from(accounts),
            anonymous: true,
            relays: vec![turn],
        };
        let server = Server::bind(([127, 0, 0, 1], 0).into(), config)
            .await
            .unwrap();
        let running = Self {
            port: server.port(),
            authority: server.authority().to_owned(),
        };
        tokio::spawn(server.serve());
        running
    }

    fn options(&self, user: &str, password: &str) -> Options {
        let address = address::parse(&format!("{user}@localhost/{user}")).unwrap();
        self.reach(Options::new(&address, Password::new(password)))
    }

    fn reach(&self, mut options: Options) -> Options {
        options.server = session_xmpp::client::Server::At {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            direct_tls: false,
        };
        let authorities = Authorities::from_pem(self.authority.as_bytes()).unwrap();
        options.tls = Some(authorities.only().unwrap());
        options
    }
}

async fn login(options: Options) -> Result<(Client, ClientLink), LoginError> {
    let (client, link) = Client::start(options);
    timeout(LONG, client.online()).await.unwrap()?;
    Ok((client, link))
}

fn mechanism(client: &Client) -> Mechanism {
    match client.state() {
        ClientState::Online { mechanism, .. } => mechanism,
        other => panic!("{other:?}"),
    }
}

/// The next stanza with this in it.
async fn hear(link: &mut ClientLink, wanted: &str) -> String {
    loop {
        match timeout(LONG, link.next_event()).await.unwrap() {
            Some(LinkEvent::Stanza(stanza)) => {
                let text = String::from_utf8(stanza.to_vec()).unwrap();
                if text.contains(wanted) {
                    return text;
                }
            }
            Some(LinkEvent::Up(_)) => {}
            other => panic!("{other:?} instead of {wanted}"),
        }
    }
}

fn say(link: &mut ClientLink, stanza: &str) {
    link.send(stanza.to_owned().into()).unwrap();
}

#[tokio::test]
async fn logins_are_bound_to_their_connection() {
    let server = Running::new().await;
    let (client, _link) = login(server.options("alice", "secret")).await.unwrap();
    assert_eq!(mechanism(&client).name(), "SCRAM-SHA-256-PLUS");
    let mut strict = server.options("bob", "pen,cil=");
    strict.login.require_channel_binding = true;
    assert!(login(strict).await.is_ok());
    let (client, _link) = login(server.reach(Options::anonymous("localhost")))
        .await
        .unwrap();
    assert_eq!(mechanism(&client), Mechanism::Anonymous);
    for (user, password) in [("alice", "Secret"), ("carol", "secret")] {
        let refused = login(server.options(user, password)).await.map(|_| ());
        assert_eq!(refused, Err(LoginError::WrongPassword(None)), "{user}");
    }
    let mut elsewhere = server.options("alice", "secret");
    elsewhere.login.domain = "example.org".to_owned();
    let refused = login(elsewhere).await.map(|_| ());
    assert!(
        matches!(refused, Err(LoginError::UnknownHost { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn stanzas_find_their_way() {
    let server = Running::new().await;
    let (_a, mut alice) = login(server.options("alice", "secret")).await.unwrap();
    let (_b, mut bob) = login(server.options("bob", "pen,cil=")).await.unwrap();
    let mut second = server.options("bob", "pen,cil=");
    second.login.resource = Some("second".to_owned());
    let (_c, mut second) = login(second).await.unwrap();
    for link in [&mut bob, &mut second] {
        say(
            link,
            "<iq type='set' id='c'><enable xmlns='urn:xmpp:carbons:2'/></iq>",
        );
        hear(link, "id='c'").await;
        say(link, "<presence/>");
    }
    hear(&mut bob, "bob@localhost/second").await;
    say(&mut alice, "<presence><priority>1</priority></presence>");
    assert!(
        hear(&mut bob, "alice@localhost/alice")
            .await
            .contains("<presence")
    );
    assert!(
        hear(&mut alice, "bob@localhost/second")
            .await
            .contains("<presence")
    );
    // To the account: all of its devices. To one device: a copy for the other.
    say(
        &mut alice,
        "<message to='bob@localhost' from='eve@localhost/x' id='m1'/>",
    );
    for link in [&mut bob, &mut second] {
        assert!(
            hear(link, "m1")
                .await
                .contains("from='alice@localhost/alice'")
        );
    }
    say(
        &mut alice,
        "<message type='chat' to='bob@localhost/bob' id='m2'/>",
    );
    hear(&mut bob, "m2").await;
    assert!(
        hear(&mut second, "m2")
            .await
            .contains("<received xmlns='urn:xmpp:carbons:2'>")
    );
    // Requests go to one device, and come back when it is not there.
    say(
        &mut alice,
        "<iq type='get' to='bob@localhost/bob' id='q1'><x xmlns='urn:x'/></iq>",
    );
    assert!(hear(&mut bob, "q1").await.contains("urn:x"));
    say(
        &mut alice,
        "<iq type='get' to='bob@localhost/gone' id='q2'><x xmlns='urn:x'/></iq>",
    );
    assert!(hear(&mut alice, "q2").await.contains("service-unavailable"));
    drop(second);
    assert!(
        hear(&mut bob, "unavailable")
            .await
            .contains("bob@localhost/second")
    );
}

#[tokio::test]
async fn it_tells_of_itself_and_of_relays() {
    let server = Running::new().await;
    let (client, link) = Client::start(server.options("alice", "secret"));
    let manager = SessionManager::new(CoreConfig::default(), SeededEntropy::new(1));
    let endpoint = Endpoint::spawn(manager, link);
    timeout(LONG, client.online()).await.unwrap().unwrap();
    let domain = Peer::from("localhost");
    let info = session_xmpp::client::discovery::ask(&endpoint, &domain, None)
        .await
        .unwrap();
    assert!(info.has(extdisco::EXTDISCO));
    let services = extdisco::fetch(&endpoint, &domain).await.unwrap();
    assert_eq!(
        (services[0].kind.as_str(), services[0].port),
        ("turn", Some(3478))
    );
    assert!(
        services[0]
            .username
            .as_deref()
            .unwrap()
            .ends_with(":alice@localhost")
    );
}

#[tokio::test]
async fn bad_manners_end_a_stream_with_an_error() {
    let server = Running::new().await;
    let head = "<?xml version='1.0'?><stream:stream to='localhost' version='1.0' \
        xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";
    let long = format!("{head}<iq id='{}'", "x".repeat(300 * 1024));
    let cases = [
        ("<!DOCTYPE x>".to_owned(), "restricted-xml"),
        (format!("{head}<!-- x -->"), "restricted-xml"),
        (format!("{head}<iq></message>"), "not-well-formed"),
        (
            format!("{head}<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"),
            "policy-violation",
        ),
        (long, "policy-violation"),
        (head.replace("localhost", "elsewhere"), "host-unknown"),
    ];
    for (said, condition) in cases {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port))
            .await
            .unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut heard = Vec::new();
        let reading = async {
            // The server may be gone before it has read all.
            let _ = reader.read_to_end(&mut heard).await;
        };
        let writing = async { drop(writer.write_all(said.as_bytes()).await) };
        timeout(LONG, async { tokio::join!(reading, writing) })
            .await
            .unwrap();
        let heard = String::from_utf8(heard).unwrap();
        assert!(heard.contains(condition), "{condition}: {heard}");
    }
}

#[tokio::test]
async fn who_does_not_read_is_put_out() {
    let server = Running::new().await;
    let (_a, mut alice) = login(server.options("alice", "secret")).await.unwrap();
    // A client that stops reading: its link is never asked for what arrives.
    let (bob, _unread) = login(server.options("bob", "pen,cil=")).await.unwrap();
    let text = "x".repeat(50_000);
    let flood =
        format!("<iq type='set' to='bob@localhost/bob' id='f'><x xmlns='urn:x'>{text}</x></iq>");
    let refused = async {
        loop {
            say(&mut alice, &flood);
            if let Ok(Some(LinkEvent::Stanza(stanza))) =
                timeout(Duration::from_millis(2), alice.next_event()).await
            {
                return stanza;
            }
        }
    };
    let refused = timeout(LONG, refused).await.unwrap();
    assert!(String::from_utf8_lossy(&refused).contains("service-unavailable"));
    drop(bob);
}

/// Logs in with STARTTLS and SCRAM, says what it can, and answers what it is asked.
const SLIXMPP: &str = r#"
import asyncio, ssl, sys, slixmpp
class Bot(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__("bob@localhost/slixmpp", "pen,cil=")
        self.register_plugin("xep_0030"); self.register_plugin("xep_0115"); self.register_plugin("xep_0199")
        self.ca_certs = sys.argv[2]
        self.add_event_handler("session_start", self.start)
        self.add_event_handler("message", self.on_message)
        self.add_event_handler("failed_all_auth", lambda _: sys.exit("no login"))
    async def start(self, _):
        self["xep_0030"].add_feature("urn:xmpp:jingle:1")
        await self["xep_0115"].update_caps()
        self.send_presence()
        await self.get_roster()
        print("online", slixmpp.__version__, flush=True)
    def on_message(self, message):
        if message["type"] in ("chat", "normal"):
            message.reply("echo " + message["body"]).send()
bot = Bot()
bot.connect("127.0.0.1", int(sys.argv[1])) if slixmpp.__version_info__ >= (1, 9) else bot.connect(("127.0.0.1", int(sys.argv[1])))
asyncio.get_event_loop().run_until_complete(asyncio.sleep(60))
"#;

/// A Python that has slixmpp: of a virtual environment in the target folder, or the system's.
fn python() -> Option<String> {
    let target = crate::tools::target_dir();
    let own = target.join("slixmpp/bin/python").display().to_string();
    let has_it = |python: &str| {
        let mut command = std::process::Command::new(python);
        let found = command
            .args(["-c", "import slixmpp"])
            .stderr(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    };
    let found = [own, "python3".to_owned()]
        .into_iter()
        .find(|python| has_it(python));
    if found.is_none() {
        let place = target.join("slixmpp").display().to_string();
        eprintln!(
            "SKIPPED: slixmpp is not installed (python3 -m venv {place} && {place}/bin/pip install slixmpp)"
        );
    }
    found
}

#[tokio::test]
async fn slixmpp_logs_in_and_talks() {
    let Some(python) = python() else { return };
    let server = Running::new().await;
    let ca = std::env::temp_dir().join(format!("switchboard-{}.pem", std::process::id()));
    std::fs::write(&ca, &server.authority).unwrap();
    let mut peer = tokio::process::Command::new(python)
        .args(["-c", SLIXMPP, &server.port.to_string()])
        .arg(&ca)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = [0; 64];
    let count = timeout(LONG, peer.stdout.as_mut().unwrap().read(&mut said))
        .await
        .unwrap()
        .unwrap();
    let said = String::from_utf8_lossy(&said[..count]).into_owned();
    assert!(said.starts_with("online"), "{said:?}");

    let (client, link) = Client::start(server.options("alice", "secret"));
    let discovery = Discovery::new("https://example.org/x", Info::new("client", "pc", "x", []));
    let mut options = session_xmpp::endpoint::Options::default();
    options.service = Some(discovery.service());
    let manager = SessionManager::new(CoreConfig::default(), SeededEntropy::new(1));
    let endpoint = Endpoint::spawn_with(manager, link, options);
    timeout(LONG, client.online()).await.unwrap().unwrap();
    assert_eq!(endpoint.send_stanza(&discovery.presence(None)), Ok(true));
    let bob = Peer::from("bob@localhost");
    let found = async {
        loop {
            if let Some((device, _)) = discovery
                .find(&endpoint, &bob, &["urn:xmpp:jingle:1"])
                .await
            {
                return device;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let device = timeout(LONG, found).await.unwrap();
    assert_eq!(device.as_str(), "bob@localhost/slixmpp");
    let info = discovery.with(|directory| directory.info(&device)).unwrap();
    assert!(info.has("urn:xmpp:ping"));
    drop(endpoint);

    let (_client, mut link) = login(server.options("alice", "secret")).await.unwrap();
    say(
        &mut link,
        "<message type='chat' to='bob@localhost'><body>hello</body></message>",
    );
    hear(&mut link, "<body>echo hello</body>").await;
    peer.kill().await.unwrap();
    let _ = std::fs::remove_file(ca);
}
