//! What programs share, at a switchboard: options to a login to a session, and what goes wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use clap::Parser;
use serde_json::Value;
use session_core::{Misuse, Reason, ReasonCondition, SessionManager};
use session_file::{Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
use session_xmpp::cli::{AccountArgs, Exit, Online, Problem, Program};
use tokio::time::timeout;
use transport_p2p::pseudotcp::PseudoTcpLayer;

use super::{LONG, Running};

const PROGRAM: Program = Program {
    name: "things",
    node: "https://example.org/things",
    kind: "console",
    features: &[TUNNEL],
    calls: false,
};

const CALLS: Program = Program {
    features: &[],
    calls: true,
    ..PROGRAM
};

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    account: AccountArgs,
}

/// A switchboard, and files of its own.
struct Place {
    server: Running,
    folder: PathBuf,
}

impl Place {
    async fn new(name: &str) -> Self {
        let server = Running::new().await;
        let folder = crate::tools::target_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), &server.authority).unwrap();
        fs::write(folder.join("alice"), "secret\n").unwrap();
        fs::write(folder.join("bob"), "pen,cil=\n").unwrap();
        fs::write(folder.join("config.toml"), "").unwrap();
        Self { server, folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// The account of somebody, with these options besides.
    fn args(&self, user: &str, more: &[&str]) -> AccountArgs {
        let (ca, password) = (self.path("ca.pem"), self.path(user));
        let (config, server) = (
            self.path("config.toml"),
            format!("127.0.0.1:{}", self.server.port),
        );
        let jid = format!("{user}@localhost");
        let mut words = vec!["things", "--jid", &jid, "--password-file", &password];
        words.extend(["--config", &config, "--server", &server]);
        if !more.contains(&"--ca") {
            words.extend(["--ca", &ca]);
        }
        words.extend(more);
        Args::try_parse_from(words).unwrap().account
    }

    async fn login(&self, user: &str, program: &Program, more: &[&str]) -> Result<Online, Problem> {
        let account = self.args(user, more).resolve(program)?;
        timeout(LONG, account.login(program, setup)).await.unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn setup(manager: &mut SessionManager) -> Result<(), Misuse> {
    let layer = Arc::new(PseudoTcpLayer::default());
    let mut tunnels = TunnelClient::new(TunnelConfig::new(layer));
    tunnels.set_policy(|_| Verdict::Accept);
    manager.add_client(tunnels)
}

async fn send(sender: &Online, to: &str, text: &'static str) -> Result<(), Problem> {
    let found = timeout(LONG, sender.find(&to.into(), &[TUNNEL]))
        .await
        .unwrap()?;
    let from = sender.address.clone();
    let opened = sender.endpoint.update(|manager, now| {
        let id = manager.create_session(from, TUNNEL, now)?;
        let tunnel = Tunnel::receive("hello.txt").unwrap();
        TunnelClient::open(manager, id, found.device, &tunnel, now)?;
        TunnelClient::write(manager, id, &mut Bytes::from_static(text.as_bytes()), now)?;
        TunnelClient::finish(manager, id, now)
    });
    opened.unwrap();
    Ok(())
}

async fn receive(receiver: &Online) -> String {
    let mut sessions = receiver
        .endpoint
        .update(|manager, _| manager.signal_session_create().connect());
    let (id, _) = timeout(LONG, sessions.wait_for(|_| true))
        .await
        .unwrap()
        .unwrap();
    let mut text = String::new();
    let mut changes = receiver.endpoint.update(|manager, _| {
        let tunnels = manager.find_client::<TunnelClient>()?;
        Some(tunnels.stream(id)?.signal().connect())
    });
    let changes = changes.as_mut().unwrap();
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

fn lines(path: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_find_each_other_and_their_traces_tell_all() {
    let place = Place::new("programs").await;
    let (here, there) = (place.path("alice.trace"), place.path("bob.trace"));
    let bob = place
        .login("bob", &PROGRAM, &["--trace", &there])
        .await
        .unwrap();
    let alice = place
        .login("alice", &PROGRAM, &["--trace", &here])
        .await
        .unwrap();
    assert!(
        alice
            .address
            .as_str()
            .starts_with("alice@localhost/things-")
    );
    let (sent, text) = tokio::join!(send(&alice, "bob@localhost", "over there"), receive(&bob));
    sent.unwrap();
    assert_eq!(text, "over there");
    let done = Reason::new(ReasonCondition::Success);
    alice.finish(done.clone()).await.unwrap();
    bob.finish(done).await.unwrap();
    for path in [&here, &there] {
        let lines = lines(path);
        let events = |name: &str| lines.iter().filter(|line| line["event"] == name).count();
        for name in [
            "link",
            "stanza",
            "session",
            "state",
            "transport",
            "pair",
            "path",
            "end",
        ] {
            assert!(events(name) > 0, "{name} in {path}");
        }
        let all = fs::read_to_string(path).unwrap();
        assert!(all.contains("pwd='…'"), "{all}");
        assert!(all.contains("session-initiate"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_has_its_own_name() {
    let place = Place::new("failures").await;
    let refused = async |user: &str, more: &[&str]| {
        let problem = place.login(user, &PROGRAM, more).await.err().unwrap();
        (problem.exit, problem.code)
    };
    fs::write(place.folder.join("wrong"), "no").unwrap();
    let wrong = place.path("wrong");
    let mut args = place.args("alice", &[]);
    args.password_file = Some(wrong.into());
    let account = args.resolve(&PROGRAM).unwrap();
    let problem = timeout(LONG, account.login(&PROGRAM, setup))
        .await
        .unwrap()
        .err()
        .unwrap();
    assert_eq!(
        (problem.exit, problem.code),
        (Exit::NoLogin, "wrong-password")
    );
    assert!(
        problem.to_string().contains("log in as alice@localhost"),
        "{problem}"
    );

    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(place.folder.join("other.pem"), other.cert.pem()).unwrap();
    let ca = place.path("other.pem");
    let untrusted = refused("alice", &["--ca", &ca]).await;
    assert_eq!(untrusted, (Exit::NoLogin, "untrusted-certificate"));

    let mut args = place.args("alice", &[]);
    args.server = Some("no-such-host.invalid:5222".to_owned());
    let account = args.resolve(&PROGRAM).unwrap();
    let problem = timeout(LONG, account.login(&PROGRAM, setup))
        .await
        .unwrap()
        .err()
        .unwrap();
    assert_eq!(
        (problem.exit, problem.code),
        (Exit::NoLogin, "unknown-host")
    );

    let alice = place.login("alice", &PROGRAM, &[]).await.unwrap();
    let offline = send(&alice, "bob@localhost", "").await.unwrap_err();
    assert_eq!((offline.exit, offline.code), (Exit::Failed, "peer-offline"));
    let gone = send(&alice, "bob@localhost/gone", "").await.unwrap_err();
    assert_eq!(gone.code, "peer-offline");
    let bob = place.login("bob", &CALLS, &[]).await.unwrap();
    let cannot = send(&alice, "bob@localhost", "").await.unwrap_err();
    assert_eq!(cannot.code, "peer-cannot");
    let device = bob.address.as_str().to_owned();
    assert_eq!(
        send(&alice, &device, "").await.unwrap_err().code,
        "peer-cannot"
    );
    // Somebody who knows no Jingle at all.
    let (_client, _link) = super::login(place.server.options("bob", "pen,cil="))
        .await
        .unwrap();
    let none = send(&alice, "bob@localhost/bob", "").await.unwrap_err();
    assert_eq!(none.code, "peer-silent");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_learns_nothing() {
    let place = Place::new("strangers").await;
    let bob = place
        .login("bob", &PROGRAM, &["--accept", "carol@localhost"])
        .await
        .unwrap();
    let alice = place.login("alice", &PROGRAM, &[]).await.unwrap();
    let device = bob.address.as_str().to_owned();
    let refused = send(&alice, &device, "").await.unwrap_err();
    assert_eq!(refused.code, "peer-offline", "{refused}");
    assert!(bob.policy.refused() > 0);
    bob.policy.allow(&"alice@localhost".into());
    let (sent, text) = tokio::join!(send(&alice, &device, "now"), receive(&bob));
    sent.unwrap();
    assert_eq!(text, "now");
}
