//! By every method, and refusals that are told apart.

use crate::{
    ejabberd,
    lab::{ANONYMOUS, Certificates, PLAIN, Running, SCRAM, SHA1},
    prosody::{self, Wishes},
};
use session_core::Peer;
use session_xmpp::{
    client::{Authorities, Client, ClientLink, ClientState, LoginError, Options, Password, Server},
    endpoint::{Link, LinkEvent},
};
use std::time::Duration;
use tokio::time::timeout;

/// How long a login may take on a busy machine.
const LOGIN_MAX: Duration = Duration::from_secs(30);

async fn login(options: Options) -> Result<(Client, ClientLink, Peer), LoginError> {
    let (client, link) = Client::start(options);
    let address = timeout(LOGIN_MAX, client.online()).await.unwrap()?;
    Ok((client, link, address))
}

/// The name of the mechanism by which a login came to be.
async fn mechanism(options: Options) -> &'static str {
    let (client, _link, _) = login(options).await.unwrap();
    match client.state() {
        ClientState::Online {
            mechanism,
            secured: true,
            ..
        } => mechanism.name(),
        other => panic!("{other:?}"),
    }
}

async fn refusal(options: Options) -> LoginError {
    login(options).await.map(|_| ()).unwrap_err()
}

/// Asks the server something, and gets the answer.
async fn ping(link: &mut ClientLink, domain: &str) {
    let ping = format!("<iq type='get' id='p1' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>");
    link.send(ping.into_bytes().into()).unwrap();
    loop {
        match timeout(LOGIN_MAX, link.next_event()).await.unwrap() {
            Some(LinkEvent::Stanza(stanza)) => {
                let text = String::from_utf8(stanza.to_vec()).unwrap();
                if text.contains("p1") {
                    assert!(text.contains("result"), "{text}");
                    return;
                }
            }
            Some(LinkEvent::Up(_)) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// What holds at every server.
async fn every_method(server: &Running, best: &str) {
    let (client, mut link, address) = login(server.options("alice", SCRAM)).await.unwrap();
    assert_eq!(address.as_str(), "alice@scram.test/alice-desk");
    ping(&mut link, SCRAM).await;
    drop(link);
    let mut states = client.connect_state();
    let ended = async {
        while client.state() != ClientState::Ended(None) {
            states.next().await;
        }
    };
    timeout(LOGIN_MAX, ended).await.unwrap();

    assert_eq!(mechanism(server.options("alice", SCRAM)).await, best);
    assert_eq!(mechanism(server.options("bob", SHA1)).await, "SCRAM-SHA-1");
    assert_eq!(mechanism(server.options("bob", PLAIN)).await, "PLAIN");
    assert_eq!(mechanism(server.options("", ANONYMOUS)).await, "ANONYMOUS");
    let mut direct = server.options("alice", SCRAM);
    direct.server = server.server(true);
    assert_eq!(mechanism(direct).await, best);
    // The server makes up a resource.
    let mut anywhere = server.options("bob", SCRAM);
    anywhere.login.resource = None;
    let (_client, mut link, address) = login(anywhere).await.unwrap();
    assert_eq!(address.account(), "bob@scram.test");
    ping(&mut link, SCRAM).await;
}

/// What is refused, and how it is told.
async fn every_refusal(server: &Running) {
    for domain in [SCRAM, PLAIN] {
        let address = session_xmpp::address::parse(&format!("alice@{domain}")).unwrap();
        let mut wrong = Options::new(&address, Password::new("not this"));
        wrong.server = server.server(false);
        wrong.tls = server.options("alice", domain).tls;
        // Also one that insists ends at once.
        wrong.insist = true;
        let error = refusal(wrong).await;
        assert!(matches!(error, LoginError::WrongPassword(_)), "{error}");
    }
    let nobody = server.options("nobody", SCRAM);
    let error = refusal(nobody).await;
    assert!(matches!(error, LoginError::WrongPassword(_)), "{error}");

    // Nobody vouches for it, or somebody else, or for another name.
    for direct in [false, true] {
        let mut stranger = server.options("alice", SCRAM);
        stranger.server = server.server(direct);
        stranger.tls = None;
        let error = refusal(stranger).await;
        assert!(
            matches!(error, LoginError::UntrustedCertificate(_)),
            "{error}"
        );
    }
    let mut other = server.options("alice", SCRAM);
    let authority = Certificates::new(&[SCRAM]).authority;
    let authority = Authorities::from_pem(authority.as_bytes()).unwrap();
    other.tls = Some(authority.only().unwrap());
    let error = refusal(other).await;
    assert!(
        matches!(error, LoginError::UntrustedCertificate(_)),
        "{error}"
    );

    // The server knows no such domain, or the name leads nowhere.
    let error = refusal(server.options("alice", "elsewhere.test")).await;
    let told = matches!(
        error,
        LoginError::UnknownHost { .. } | LoginError::UntrustedCertificate(_)
    );
    assert!(told, "{error}");
    let mut nowhere = server.options("alice", SCRAM);
    nowhere.server = Server::At {
        host: "no-such-host.invalid".to_owned(),
        port: 5222,
        direct_tls: false,
    };
    let error = refusal(nowhere).await;
    assert!(matches!(error, LoginError::UnknownHost { .. }), "{error}");
    let mut closed = server.options("alice", SCRAM);
    closed.server = Server::At {
        host: "127.0.0.1".to_owned(),
        port: crate::lab::free_ports().0,
        direct_tls: false,
    };
    let error = refusal(closed).await;
    assert!(matches!(error, LoginError::Unreachable(_)), "{error}");

    // What was asked for and is not offered.
    let mut bound = server.options("bob", PLAIN);
    bound.login.require_channel_binding = true;
    let error = refusal(bound).await;
    assert!(matches!(error, LoginError::NoMechanism(_)), "{error}");
    let nobody = server.options("alice", ANONYMOUS);
    let mut named = server.options("alice", SCRAM);
    named.login.domain = nobody.login.domain;
    let error = refusal(named).await;
    // ejabberd offers PLAIN there, and knows nobody.
    let told = matches!(
        error,
        LoginError::NoMechanism(_) | LoginError::WrongPassword(_)
    );
    assert!(told, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let Some(server) = prosody::start("login-prosody", Wishes::default()) else {
        return;
    };
    every_method(&server, "SCRAM-SHA-256").await;
    every_refusal(&server).await;
}

/// SASL and binding in one step (XEP-0388, XEP-0386), as the community modules for Prosody have them.
#[tokio::test(flavor = "multi_thread")]
async fn prosody_in_one_step() {
    let modules = std::path::Path::new("/usr/lib/prosody/modules/mod_sasl2_bind2");
    if !modules.exists() {
        eprintln!("SKIPPED: no mod_sasl2 (Debian: apt-get install prosody-modules)");
        return;
    }
    let wishes = Wishes {
        modules: "\"test\"; \"sasl2\"; \"sasl2_bind2\";",
        // They are for the next version: what they ask a connection for has another name in this one. And no other SASL is
        // offered, so that this one is used.
        lua: "module:hook('stream-features', function (event)\n\
              local methods = getmetatable(event.origin.conn).__index\n\
              if type(methods) == 'table' and not methods.ssl_info then\n\
              methods.ssl_info = function (conn) local s = conn:socket(); return s and s.info and s:info() end\n\
              end end, 100)\n\
              module:hook('stream-features', function (event)\n\
              event.features:remove_children('mechanisms', 'urn:ietf:params:xml:ns:xmpp-sasl')\n\
              end, -100)",
        ..Wishes::default()
    };
    let Some(server) = prosody::start("login-prosody-sasl2", wishes) else {
        return;
    };
    every_method(&server, "SCRAM-SHA-256").await;
    every_refusal(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let Some(server) = ejabberd::start("login-ejabberd") else {
        return;
    };
    every_method(&server, "SCRAM-SHA-256").await;
    every_refusal(&server).await;
}
