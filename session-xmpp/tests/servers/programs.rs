//! What programs share, at real servers: accounts that share no roster find each other, and a relay that the server tells of
//! is used with the credentials that it hands out.

use crate::{
    coturn::{self, Coturn, own_address},
    ejabberd,
    lab::{self, ACCOUNTS, Folder, Running, SCRAM},
    prosody::{self, Wishes},
};
use bytes::Bytes;
use session_core::{Misuse, Reason, ReasonCondition, SessionManager};
use session_file::{Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
use session_xmpp::cli::{AccountArgs, Exit, Online, Problem, Program, TransportName};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio::time::timeout;
use transport_p2p::pseudotcp::PseudoTcpLayer;

const LONG: Duration = Duration::from_secs(60);

const PROGRAM: Program = Program {
    name: "things",
    node: "https://example.org/things",
    kind: "console",
    features: &[TUNNEL],
    calls: false,
};

/// The account of somebody; both let each other in, and nobody else.
fn args(server: &Running, folder: &Folder, user: &str) -> AccountArgs {
    let (_, password) = ACCOUNTS.iter().find(|(name, _)| *name == user).unwrap();
    let mut args = AccountArgs::default();
    args.jid = Some(format!("{user}@{SCRAM}"));
    args.password_file = Some(folder.write(user, password));
    args.server = Some(format!("127.0.0.1:{}", server.starttls));
    args.ca = Some(folder.write("ca.pem", &server.certificates.authority));
    args.config = Some(folder.write("config.toml", ""));
    args.accept = vec![format!("alice@{SCRAM}"), format!("bob@{SCRAM}")];
    args.trace = Some(folder.path().join(format!("{user}.trace")));
    args
}

fn setup(manager: &mut SessionManager) -> Result<(), Misuse> {
    let layer = Arc::new(PseudoTcpLayer::default());
    let mut tunnels = TunnelClient::new(TunnelConfig::new(layer));
    tunnels.set_policy(|_| Verdict::Accept);
    manager.add_client(tunnels)
}

async fn login(args: AccountArgs) -> Result<Online, Problem> {
    let account = args.resolve(&PROGRAM)?;
    timeout(LONG, account.login(&PROGRAM, setup)).await.unwrap()
}

async fn send(sender: &Online, to: &str, text: &'static str) {
    let found = timeout(LONG, sender.find(&to.into(), &[TUNNEL]))
        .await
        .unwrap()
        .unwrap();
    let from = sender.address.clone();
    let opened = sender.endpoint.update(|manager, now| {
        let id = manager.create_session(from, TUNNEL, now)?;
        let tunnel = Tunnel::receive("hello.txt").unwrap();
        TunnelClient::open(manager, id, found.device, &tunnel, now)?;
        TunnelClient::write(manager, id, &mut Bytes::from_static(text.as_bytes()), now)?;
        TunnelClient::finish(manager, id, now)
    });
    opened.unwrap();
}

async fn receive(receiver: &Online) -> String {
    let mut sessions = receiver
        .endpoint
        .update(|manager, _| manager.signal_session_create().connect());
    let (id, _) = timeout(LONG, sessions.wait_for(|_| true))
        .await
        .unwrap()
        .unwrap();
    let mut changes = receiver
        .endpoint
        .update(|manager, _| {
            Some(
                manager
                    .find_client::<TunnelClient>()?
                    .stream(id)?
                    .signal()
                    .connect(),
            )
        })
        .unwrap();
    let mut text = String::new();
    loop {
        let read = receiver
            .endpoint
            .update(|manager, now| TunnelClient::read(manager, id, usize::MAX, now));
        match read.unwrap() {
            Read::Bytes(bytes) => text += std::str::from_utf8(&bytes).unwrap(),
            Read::Pending => drop(timeout(LONG, changes.next()).await.unwrap()),
            Read::End(_) => return text,
            Read::Broken(cause) => panic!("{cause}"),
        }
    }
}

/// Sends something between the two; what alice's trace says of it.
async fn exchange(alice: Online, bob: Online, trace: &Path) -> String {
    let to = format!("bob@{SCRAM}");
    let ((), text) = tokio::join!(send(&alice, &to, "over a real server"), receive(&bob));
    assert_eq!(text, "over a real server");
    let done = Reason::new(ReasonCondition::Success);
    alice.finish(done.clone()).await.unwrap();
    bob.finish(done).await.unwrap();
    fs::read_to_string(trace).unwrap()
}

async fn strangers_find_each_other(server: &Running, name: &str) {
    let folder = Folder::new(&format!("{name}-files"));
    let mut wrong = args(server, &folder, "alice");
    wrong.password_file = Some(folder.write("wrong", "no"));
    let problem = login(wrong).await.err().unwrap();
    assert_eq!(
        (problem.exit, problem.code),
        (Exit::NoLogin, "wrong-password")
    );
    let bob = login(args(server, &folder, "bob")).await.unwrap();
    let alice = login(args(server, &folder, "alice")).await.unwrap();
    let trace = exchange(alice, bob, &folder.path().join("alice.trace")).await;
    assert!(trace.contains("\"event\":\"end\"") && trace.contains("session-initiate"));
}

/// Whoever names his own account means another device of it, not the one that he sits at.
async fn devices_of_one_account_find_each_other(server: &Running, name: &str) {
    let folder = Folder::new(&format!("{name}-devices"));
    let alice = || login(args(server, &folder, "alice"));
    let there = alice().await.unwrap();
    let here = alice().await.unwrap();
    let to = format!("alice@{SCRAM}");
    let ((), text) = tokio::join!(send(&here, &to, "from desk to desk"), receive(&there));
    assert_eq!(text, "from desk to desk");
    let done = Reason::new(ReasonCondition::Success);
    here.finish(done.clone()).await.unwrap();
    there.finish(done).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let Some(server) = prosody::start("programs-prosody", Wishes::default()) else {
        return;
    };
    strangers_find_each_other(&server, "programs-prosody").await;
    devices_of_one_account_find_each_other(&server, "programs-prosody").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let Some(server) = ejabberd::start("programs-ejabberd") else {
        return;
    };
    strangers_find_each_other(&server, "programs-ejabberd").await;
    devices_of_one_account_find_each_other(&server, "programs-ejabberd").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_prosody_tells_of_is_used_with_its_credentials() {
    if !lab::is_installed("turnserver", "coturn") {
        return;
    }
    let folder = Folder::new("programs-relay-files");
    let (ip, (port, _)) = (own_address(), lab::free_ports());
    let settings = coturn::settings(ip, port);
    let wishes = Wishes {
        modules: "\"external_services\";",
        settings: settings.leak(),
        ..Wishes::default()
    };
    let Some(server) = prosody::start("programs-relay", wishes) else {
        return;
    };
    let _relay = Coturn::start(&folder, ip, port);
    let relayed = |user| {
        let mut args = args(&server, &folder, user);
        args.relay_only = true;
        args.transports = vec![TransportName::Ice];
        args
    };
    let bob = login(relayed("bob")).await.unwrap();
    let alice = login(relayed("alice")).await.unwrap();
    let trace = exchange(alice, bob, &folder.path().join("alice.trace")).await;
    let path = trace
        .lines()
        .rfind(|line| line.contains("\"event\":\"path\""));
    assert!(path.is_some_and(|path| path.contains("relay")), "{path:?}");
    let told = trace
        .lines()
        .filter(|line| line.contains("<candidate") || line.contains("typ"));
    assert!(
        told.clone().count() > 0 && told.clone().all(|line| !line.contains("type='host'")),
        "{trace}"
    );
    // The answer with credentials was there, and the password is not in the trace.
    assert!(
        trace.contains("extdisco") && trace.contains("password='…'"),
        "{trace}"
    );
}
