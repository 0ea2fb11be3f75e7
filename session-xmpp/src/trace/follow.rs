//! What becomes of an endpoint's sessions and sockets.

use super::Trace;
use crate::endpoint::Observer;
use serde_json::{Value, json};
use session_core::{
    Input, Notice, Output, Reason, Role, Session, SessionError, SessionId, SessionManager, Slot,
    SocketId, State, StreamEvent,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A while, and how often paths are looked at in it, beside whenever a session changes: a fast transfer is not held up.
const WHILE: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 32;

/// Sessions that are followed at a time. Past it, later ones are not.
const FOLLOWED_MAX: usize = 1_024;

impl Trace {
    /// What tells of an endpoint's sessions: their states, transports, paths and errors, their sockets, and why they end. It
    /// goes into the endpoint's [`Options`](crate::endpoint::Options). `None` where nobody hears it.
    pub fn observer(&self, who: &str) -> Option<Box<dyn Observer>> {
        self.is_on().then(|| -> Box<dyn Observer> {
            Box::new(Teller {
                trace: self.clone(),
                who: who.to_owned(),
                created: None,
                followed: BTreeMap::new(),
                looked: None,
            })
        })
    }
}

struct Teller {
    trace: Trace,
    who: String,
    created: Option<Slot<(SessionId, bool)>>,
    followed: BTreeMap<SessionId, Follower>,
    /// Since when looks are counted, and how many there were.
    looked: Option<(Instant, u32)>,
}

impl Observer for Teller {
    fn output(&mut self, output: &Output) {
        let (socket, what) = match output {
            Output::Bind {
                socket,
                kind,
                address,
            } => (
                socket,
                json!({ "what": "bind", "kind": format!("{kind:?}"), "address": address.to_string() }),
            ),
            Output::Connect { socket, target } => {
                let tls = target.tls.is_some();
                (
                    socket,
                    json!({ "what": "connect", "address": target.address.to_string(), "tls": tls }),
                )
            }
            Output::Close { socket } => (socket, json!({ "what": "close" })),
            Output::Message { .. }
            | Output::Request { .. }
            | Output::Reply { .. }
            | Output::Write { .. }
            | Output::Hold { .. }
            | Output::Inquire { .. }
            | Output::Shutdown { .. }
            | Output::Transmit { .. }
            | Output::Wait(_)
            | _ => return,
        };
        self.socket(*socket, what);
    }

    fn input(&mut self, input: &Input) {
        let address = |what, address: &Result<_, _>| match address {
            Ok::<std::net::SocketAddr, session_core::SocketError>(address) => {
                json!({ "what": what, "address": address.to_string() })
            }
            Err(error) => json!({ "what": what, "why": error.to_string() }),
        };
        match input {
            Input::Bound {
                socket,
                address: bound,
            } => self.socket(*socket, address("bound", bound)),
            Input::Stream {
                socket,
                event: StreamEvent::Connected(local),
            } => {
                self.socket(*socket, address("connected", local));
            }
            Input::Message { .. }
            | Input::Request { .. }
            | Input::Reply { .. }
            | Input::Stream { .. }
            | Input::Found { .. }
            | Input::Datagram { .. }
            | Input::Link(_)
            | Input::Interrupted(_)
            | Input::Timeout
            | _ => {}
        }
    }

    fn drained(&mut self, manager: &SessionManager, now: Instant) {
        let created = self
            .created
            .get_or_insert_with(|| manager.signal_session_create().connect());
        while let Some(notice) = created.try_next() {
            let (Notice::Value((id, _))
            | Notice::Snapshot {
                last: Some((id, _)),
                ..
            }) = notice
            else {
                continue;
            };
            if let Some(session) = manager
                .peek(id)
                .filter(|_| self.followed.len() < FOLLOWED_MAX)
            {
                let (follower, what) = Follower::new(session);
                self.trace.event(&self.who, "session", what);
                self.followed.insert(id, follower);
            }
        }
        let is_old = |at: Instant| now.saturating_duration_since(at) >= WHILE;
        let (since, count) = self
            .looked
            .filter(|(at, _)| !is_old(*at))
            .unwrap_or((now, 0));
        let looks = count < LOOKS_MAX;
        self.looked = Some((since, count + u32::from(looks)));
        let (trace, who) = (&self.trace, &*self.who);
        self.followed.retain(|id, follower| {
            let changed = follower.hear(*id, trace, who);
            let session = manager.peek(*id);
            if let Some(session) = session.filter(|_| looks || changed) {
                follower.look(*id, session, trace, who);
            }
            if follower.last != Some(State::Deinit) && session.is_some() {
                return true;
            }
            follower.end(*id, trace, who);
            false
        });
    }
}

impl Teller {
    fn socket(&self, socket: SocketId, mut what: Value) {
        what["socket"] = json!(socket.to_string());
        self.trace.event(&self.who, "socket", what);
    }
}

/// What is known of one session.
struct Follower {
    states: Slot<State>,
    errors: Slot<SessionError>,
    reasons: Slot<Option<Reason>>,
    /// What was told last of each transport, path and pair.
    told: BTreeMap<String, Value>,
    why: Option<String>,
    last: Option<State>,
}

impl Follower {
    fn new(session: &Session) -> (Self, Value) {
        let what = json!({
            "id": session.id().to_string(),
            "sid": &**session.sid(),
            "peer": session.remote_name().as_str(),
            "role": match session.role() { Role::Initiator => "initiator", Role::Responder => "responder" },
            "dialect": session.dialect().name,
        });
        let follower = Self {
            states: session.signal_state().connect(),
            errors: session.signal_error().connect(),
            reasons: session.signal_received_terminate_reason().connect(),
            told: BTreeMap::new(),
            why: None,
            last: None,
        };
        (follower, what)
    }

    /// Tells what its signals say; whether they said anything.
    fn hear(&mut self, id: SessionId, trace: &Trace, who: &str) -> bool {
        let mut heard = false;
        let id = id.to_string();
        while let Some(notice) = self.errors.try_next() {
            if let Notice::Value(error)
            | Notice::Snapshot {
                last: Some(error), ..
            } = notice
            {
                let text = error.to_string();
                let what = json!({ "id": id, "error": &text, "fatal": error.fatal });
                trace.event(who, "error", what);
                if error.fatal {
                    self.why = Some(text);
                }
                heard = true;
            }
        }
        while let Some(notice) = self.reasons.try_next() {
            if let Notice::Value(reason)
            | Notice::Snapshot {
                last: Some(reason), ..
            } = notice
            {
                let reason = reason
                    .map(|reason| format!(": {reason}"))
                    .unwrap_or_default();
                self.why = Some(format!("ended by the peer{reason}"));
                heard = true;
            }
        }
        while let Some(notice) = self.states.try_next() {
            let (Notice::Value(state)
            | Notice::Snapshot {
                last: Some(state), ..
            }) = notice
            else {
                continue;
            };
            // A session that ends is often gone before it can be looked at.
            let ends = match state {
                State::SentTerminate => Some("ended here"),
                State::SentReject => Some("declined here"),
                State::ReceivedReject => Some("declined by the peer"),
                State::Init
                | State::SentInitiate
                | State::ReceivedInitiate
                | State::SentAccept
                | State::ReceivedAccept
                | State::SentModify
                | State::ReceivedModify
                | State::SentRedirect
                | State::InProgress
                | State::ReceivedTerminate
                | State::Deinit => None,
            };
            if self.why.is_none() {
                self.why = ends.map(str::to_owned);
            }
            if self.last.replace(state) != Some(state) {
                trace.event(
                    who,
                    "state",
                    json!({ "id": id, "state": state.to_string() }),
                );
                heard = true;
            }
        }
        heard
    }

    /// Tells what is new of transports and paths.
    fn look(&mut self, id: SessionId, session: &Session, trace: &Trace, who: &str) {
        if let Some(cause) = session.cause() {
            self.why = Some(cause.to_string());
        }
        let mut news = transports(session);
        news.extend(paths(session));
        for (event, key, what) in news {
            if self.told.get(&key) == Some(&what) {
                continue;
            }
            self.told.insert(key, what.clone());
            let mut line = json!({ "id": id.to_string() });
            if let (Value::Object(line), Value::Object(what)) = (&mut line, what) {
                line.extend(what);
            }
            trace.event(who, event, line);
        }
    }

    fn end(&self, id: SessionId, trace: &Trace, who: &str) {
        let why = self.why.as_deref().unwrap_or("let go without a word");
        trace.event(who, "end", json!({ "id": id.to_string(), "why": why }));
    }
}

type News = (&'static str, String, Value);

fn transports(session: &Session) -> Vec<News> {
    let contents = session.contents().map(|content| {
        let name = content.name();
        let what = json!({
            "content": &**name,
            "transport": content.transport(),
            "state": format!("{:?}", content.state()),
        });
        ("transport", format!("content {name}"), what)
    });
    contents.collect()
}

fn paths(session: &Session) -> Vec<News> {
    let mut news = Vec::new();
    for channel in session.channel_ids() {
        let name = session.channel_name(channel).unwrap_or_default();
        if let Some(path) = session.describe_channel(channel) {
            let key = format!("path {name}");
            news.push(("path", key, json!({ "channel": name, "path": path })));
        }
        for pair in session.report_channel(channel) {
            let key = format!("pair {name} {} {}", pair.local, pair.remote);
            let what = json!({
                "channel": name,
                "local": pair.local,
                "remote": pair.remote,
                "state": pair.state,
                "detail": pair.detail,
            });
            news.push(("pair", key, what));
        }
    }
    news
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::super::tests::Page;
    use super::*;
    use crate::endpoint::{Endpoint, Options, Router};
    use bytes::Bytes;
    use session_core::{Config, Peer, ReasonCondition, SeededEntropy};
    use session_file::{TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
    use std::sync::Arc;
    use tokio::time::{sleep, timeout};
    use transport_p2p::{pseudotcp::PseudoTcpLayer, raw_udp::RawUdp};

    fn endpoint(router: &Router, trace: &Trace, address: &str) -> Endpoint {
        let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        manager
            .add_transport(RawUdp::new(([127, 0, 0, 1], 0).into()))
            .expect("the first");
        let mut tunnels = TunnelClient::new(TunnelConfig::new(Arc::new(PseudoTcpLayer::default())));
        tunnels.set_policy(|_| Verdict::Accept);
        manager.add_client(tunnels).expect("the first");
        let options = Options {
            observer: trace.observer(address),
            ..Options::default()
        };
        Endpoint::spawn_with(manager, router.link(address), options)
    }

    #[tokio::test]
    async fn a_session_is_told_from_its_beginning_to_its_end() {
        let page = Page::default();
        let trace = Trace::to(page.clone());
        let router = Router::new();
        let (alice, bob) = (
            endpoint(&router, &trace, "a@x/1"),
            endpoint(&router, &Trace::default(), "b@x/1"),
        );
        alice.update(|manager, now| {
            let id = manager
                .create_session(Peer::from("a@x/1"), TUNNEL, now)
                .unwrap();
            let tunnel = Tunnel::receive("x").unwrap();
            TunnelClient::open(manager, id, "b@x/1".into(), &tunnel, now).unwrap();
            TunnelClient::write(manager, id, &mut Bytes::from_static(b"x"), now).unwrap();
        });
        let wait = async {
            while !page.lines().iter().any(|line| line["event"] == "path") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let told = timeout(Duration::from_secs(60), wait).await;
        assert!(told.is_ok(), "{:?}", page.lines());
        let gone = Reason::new(ReasonCondition::Gone);
        assert!(bob.shutdown(gone, Duration::from_secs(60)).await);
        let wait = async {
            while !page.lines().iter().any(|line| line["event"] == "end") {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let told = timeout(Duration::from_secs(60), wait).await;
        assert!(told.is_ok(), "{:?}", page.lines());
        let lines = page.lines();
        let has = |event: &str, key: &str, value: &str| {
            lines
                .iter()
                .any(|line| line["event"] == event && line[key].as_str() == Some(value))
        };
        assert!(has("session", "peer", "b@x/1"), "{lines:?}");
        assert!(has("state", "state", "InProgress"), "{lines:?}");
        assert!(has("end", "why", "ended by the peer: gone"), "{lines:?}");
        assert!(has("socket", "what", "bound"), "{lines:?}");
    }
}
