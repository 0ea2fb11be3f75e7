//! STUN servers and relays as Google Talk's servers told of them (`google:jingleinfo`).
//!
//! Some servers still do, for clients of the Google dialects: the account asks itself, and gets STUN servers, and relays with
//! a token that opens them. Relays of this kind are no TURN servers; whoever has a client for them gets hosts, ports and token
//! here.

use crate::{
    address,
    endpoint::{Endpoint, QueryKind, Service, lock},
    stanza::Request,
};
use session_core::{
    Condition, Element, ElementRef, ErrorKind, Peer, SessionManager, Signal, Slot, StanzaError,
};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// The namespace.
pub const JINGLEINFO: &str = "google:jingleinfo";

/// Servers of each kind that are read of one answer.
const SERVERS_MAX: usize = 16;

/// The longest token that is taken, in bytes.
const TOKEN_MAX: usize = 4_096;

/// How long the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// What a server tells.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JingleInfo {
    /// STUN servers: names or addresses, with their UDP ports.
    pub stun: Vec<(String, u16)>,
    /// Relays.
    pub relays: Vec<GoogleRelay>,
    /// What opens the relays, where there is one. It lasts for this login.
    pub token: Option<Arc<str>>,
}

/// A relay of Google's kind: the ports at which it listens, by protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GoogleRelay {
    /// A name or an address.
    pub host: String,
    /// UDP.
    pub udp: Option<u16>,
    /// TCP.
    pub tcp: Option<u16>,
    /// TCP that begins as if it were TLS (`tcpssl`).
    pub ssl_tcp: Option<u16>,
}

impl JingleInfo {
    /// Reads a `<query/>`. What cannot be read is left out, and the rest stays.
    pub fn read(query: ElementRef<'_>) -> Self {
        let servers = |parent: &str| {
            let parent = query.find(JINGLEINFO, parent);
            let children = parent.into_iter().flat_map(ElementRef::children);
            let servers = children.filter(|child| child.is(JINGLEINFO, "server"));
            servers.take(SERVERS_MAX).filter_map(|server| {
                let host = server.attribute("host").filter(|host| !host.is_empty())?;
                Some((host.to_owned(), server))
            })
        };
        let port = |server: ElementRef<'_>, name| {
            let port = server.attribute(name)?.parse().ok();
            port.filter(|port: &u16| *port != 0)
        };
        let stun = servers("stun").filter_map(|(host, server)| Some((host, port(server, "udp")?)));
        let relays = servers("relay").map(|(host, server)| GoogleRelay {
            host,
            udp: port(server, "udp"),
            tcp: port(server, "tcp"),
            ssl_tcp: port(server, "tcpssl"),
        });
        let relays = relays.filter(|relay| [relay.udp, relay.tcp, relay.ssl_tcp] != [None; 3]);
        let token = query
            .find(JINGLEINFO, "relay")
            .and_then(|relay| relay.find(JINGLEINFO, "token"));
        let token = token.map(|token| token.text_content().trim().to_owned());
        Self {
            stun: stun.collect(),
            relays: relays.collect(),
            token: token
                .filter(|token| !token.is_empty() && token.len() <= TOKEN_MAX)
                .map(Into::into),
        }
    }
}

/// Without the token.
impl fmt::Debug for JingleInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JingleInfo")
            .field("stun", &self.stun)
            .field("relays", &self.relays)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Asks the server of an account, by way of the account itself.
///
/// # Errors
/// The server's, as of [`Endpoint::query`]: `service-unavailable` from nearly all of today.
pub async fn fetch(endpoint: &Endpoint, account: &Peer) -> Result<JingleInfo, StanzaError> {
    let query = Element::new(JINGLEINFO, "query");
    let answer = endpoint
        .query(QueryKind::Get, account.clone(), query, ANSWER_MAX)
        .await?;
    Ok(answer.map_or_else(JingleInfo::default, |answer| {
        JingleInfo::read(answer.view())
    }))
}

/// Takes what the server tells without being asked, when its servers or the token change in mid-session: its
/// [`service`](Self::service) goes into an endpoint's [`Options`](crate::endpoint::Options). Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Updates(Arc<Mutex<Signal<JingleInfo>>>);

impl Updates {
    /// Before anything was told.
    pub fn new() -> Self {
        Self::default()
    }

    /// What takes them in an endpoint.
    pub fn service(&self) -> Box<dyn Service> {
        Box::new(Receiver(self.clone()))
    }

    /// What was told last, if anything was.
    pub fn last(&self) -> Option<JingleInfo> {
        lock(&self.0).last().cloned()
    }

    /// Announces what is told from now on.
    pub fn connect(&self) -> Slot<JingleInfo> {
        lock(&self.0).connect()
    }
}

struct Receiver(Updates);

impl Service for Receiver {
    fn handle_request(
        &mut self,
        request: &Request,
        _: &mut SessionManager,
        _: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        let query = request
            .payload()
            .filter(|query| query.is(JINGLEINFO, "query"))?;
        let own = request.to();
        // The server speaks for the account, or for itself; from anybody else it would be a detour past a stranger.
        let known = [own.account(), address::domain(own)];
        if request.is_get() || !known.contains(&request.from().as_str()) {
            let refused = StanzaError::new(Condition::ServiceUnavailable, ErrorKind::Cancel);
            return Some(Err(refused));
        }
        lock(&self.0.0).emit(JingleInfo::read(query));
        Some(Ok(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        endpoint::{Options, Router},
        xml::{self, Context},
    };
    use session_core::{Config, ElementLimits, Notice, SeededEntropy};

    #[tokio::test]
    async fn the_server_tells_news_in_mid_session_and_nobody_else() {
        let router = Router::new();
        let updates = Updates::new();
        let options = Options {
            service: Some(updates.service()),
            ..Options::default()
        };
        let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        let own = "alice@gmail.test/home";
        let endpoint = Endpoint::spawn_with(manager, router.link(own), options);
        let mut told = updates.connect();
        let ask = async |from: &str, host: &str| {
            let mut link = router.link(from);
            let push = format!(
                "<iq type='set' id='1' to='{own}'><query xmlns='{JINGLEINFO}'>\
                 <stun><server host='{host}' udp='19302'/></stun></query></iq>"
            );
            link.next_event().await;
            crate::endpoint::Link::send(&mut link, push.into()).unwrap();
            format!("{:?}", link.next_event().await)
        };
        let refused = ask("mallory@gmail.test/1", "evil.test").await;
        assert!(refused.contains("service-unavailable"), "{refused}");
        assert_eq!(updates.last(), None);
        for (from, host) in [("alice@gmail.test", "one.test"), ("gmail.test", "two.test")] {
            let taken = ask(from, host).await;
            assert!(taken.contains("type='result'"), "{taken}");
            let stun = updates.last().unwrap().stun;
            assert_eq!(stun, [(host.to_owned(), 19_302)]);
        }
        assert!(matches!(
            told.next().await,
            Some(Notice::Value(_) | Notice::Snapshot { .. })
        ));
        drop(endpoint);
    }

    fn read(inner: &str) -> JingleInfo {
        let text = format!("<query xmlns='{JINGLEINFO}'>{inner}</query>");
        let element = xml::parse(text.as_bytes(), &Context::NONE, &ElementLimits::default());
        JingleInfo::read(element.unwrap().view())
    }

    #[test]
    fn servers_ports_and_the_token_are_told() {
        let info = read(
            "<stun><server host='stun.example' udp='19302'/><server host='x' udp='0'/><server udp='1'/></stun>\
             <relay><token> OPEN </token><server host='relay.example' udp='19295' tcp='19294' tcpssl='443'/>\
             <server host='none'/><server host='tcp.example' tcp='1' udp='x'/></relay><other/>",
        );
        assert_eq!(info.stun, [("stun.example".to_owned(), 19_302)]);
        assert_eq!(info.token.as_deref(), Some("OPEN"));
        let ports: Vec<_> = info
            .relays
            .iter()
            .map(|it| (&*it.host, it.udp, it.tcp, it.ssl_tcp))
            .collect();
        let first = ("relay.example", Some(19_295), Some(19_294), Some(443));
        assert_eq!(ports, [first, ("tcp.example", None, Some(1), None)]);
        assert!(!format!("{info:?}").contains("OPEN"));
        assert_eq!(read(""), JingleInfo::default());
        let long = format!(
            "<relay><token>{}</token></relay>",
            "x".repeat(TOKEN_MAX + 1)
        );
        assert_eq!(read(&long).token, None);
        let many = format!("<stun>{}</stun>", "<server host='a' udp='1'/>".repeat(100));
        assert_eq!(read(&many).stun.len(), SERVERS_MAX);
    }
}
