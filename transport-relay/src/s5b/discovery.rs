//! Finding proxies: whom to ask what, and what to believe (XEP-0065 §4, XEP-0030).

use super::{BYTESTREAMS, candidate::is_usable};
use session_core::{Element, Peer};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

const ITEMS: &str = "http://jabber.org/protocol/disco#items";
const INFO: &str = "http://jabber.org/protocol/disco#info";

/// Services of a server that are asked what they are.
const SERVICES_MAX: usize = 32;

/// Finds the proxies of a server, without I/O: a driver sends each [`question`](Self::question) as an iq of type `get`,
/// and hands in what [comes back](Self::answer).
///
/// ```
/// use session_core::{Element, Peer};
/// use transport_relay::s5b::Discovery;
///
/// let mut discovery = Discovery::new(Peer::from("example.org"));
/// let (whom, question) = discovery.question().unwrap();
/// assert_eq!((whom.as_str(), question.namespace()), ("example.org", "http://jabber.org/protocol/disco#items"));
/// let items = Element::new("http://jabber.org/protocol/disco#items", "query").child(
///     Element::new("http://jabber.org/protocol/disco#items", "item").with("jid", "proxy.example.org"));
/// discovery.answer(&whom, Some(&items));
/// assert_eq!(discovery.question().unwrap().0.as_str(), "proxy.example.org");
/// ```
#[derive(Clone, Debug)]
pub struct Discovery {
    questions: VecDeque<(Peer, Element)>,
    asked: Vec<(Peer, Arc<str>)>,
    loopback: bool,
    proxies: Vec<Proxy>,
    refused: Vec<(Peer, DiscoveryError)>,
}

/// A proxy, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Whom to tell that a stream begins.
    pub jid: Peer,
    /// Where to connect to.
    pub host: Host,
    /// At which port.
    pub port: u16,
}

/// Where a proxy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// At this address.
    Address(std::net::IpAddr),
    /// At the addresses of this name, which a driver has to look up.
    Name(Arc<str>),
}

/// Why a proxy's answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DiscoveryError {
    /// It names another proxy than the one that was asked.
    #[error("{0} was asked, and describes another")]
    Another(Peer),
    /// It names no address, or one that is no proxy's.
    #[error("{0} names an address that is no proxy's")]
    Address(Peer),
}

impl Proxy {
    /// What `asked` says about itself.
    ///
    /// # Errors
    /// [`DiscoveryError`].
    pub fn from_answer(
        asked: &Peer,
        answer: &Element,
        loopback: bool,
    ) -> Result<Self, DiscoveryError> {
        let wrong = || DiscoveryError::Address(asked.clone());
        let host = answer
            .find(BYTESTREAMS, "streamhost")
            .filter(|_| answer.is(BYTESTREAMS, "query"))
            .ok_or_else(wrong)?;
        let jid = host.attribute("jid").unwrap_or_default();
        // ejabberd names the node of its cluster in a resource.
        let rest = jid.strip_prefix(asked.as_str());
        if !rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Err(DiscoveryError::Another(asked.clone()));
        }
        let port = host.attribute("port").and_then(|port| port.parse().ok());
        let port = port.filter(|port| *port != 0).ok_or_else(wrong)?;
        let name = host.attribute("host").unwrap_or_default();
        let host = match name.parse() {
            Ok(ip) if is_usable(SocketAddr::new(ip, port), loopback) => Host::Address(ip),
            Err(_) if is_name(name) => Host::Name(name.into()),
            Ok(_) | Err(_) => return Err(wrong()),
        };
        Ok(Self {
            jid: jid.into(),
            host,
            port,
        })
    }
}

/// Whether it could be a name of the domain name system.
fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= 253 && name.trim_end_matches('.').split('.').all(label)
}

impl Discovery {
    /// Among the services of this server.
    pub fn new(server: Peer) -> Self {
        let mut discovery = Self {
            questions: VecDeque::new(),
            asked: Vec::new(),
            loopback: false,
            proxies: Vec::new(),
            refused: Vec::new(),
        };
        discovery.ask(server, ITEMS);
        discovery
    }

    /// Takes proxies on this machine, too: for tests and for servers at home.
    #[must_use]
    pub fn with_loopback(mut self) -> Self {
        self.loopback = true;
        self
    }

    /// The next question, and whom to ask it.
    pub fn question(&mut self) -> Option<(Peer, Element)> {
        self.questions.pop_front()
    }

    /// What somebody who was asked answered; `None` for an error or for silence.
    pub fn answer(&mut self, from: &Peer, answer: Option<&Element>) {
        let about = answer.map(|answer| answer.namespace().to_owned());
        let known = |(peer, namespace): &(Peer, Arc<str>)| {
            peer == from && about.as_deref().is_none_or(|about| **namespace == *about)
        };
        let Some(at) = self.asked.iter().position(known) else {
            return;
        };
        let (_, namespace) = self.asked.remove(at);
        let Some(answer) = answer else { return };
        match &*namespace {
            ITEMS => {
                let items = answer.children().filter(|item| item.name() == "item");
                let jids = items.filter_map(|item| item.attribute("jid"));
                for jid in jids.take(SERVICES_MAX) {
                    self.ask(jid.into(), INFO);
                }
            }
            INFO => {
                let is_proxy = answer.children().any(|identity| {
                    identity.name() == "identity"
                        && identity.attribute("category") == Some("proxy")
                        && identity.attribute("type") == Some("bytestreams")
                });
                if is_proxy {
                    self.ask(from.clone(), BYTESTREAMS);
                }
            }
            _ => match Proxy::from_answer(from, answer, self.loopback) {
                Ok(proxy) => self.proxies.push(proxy),
                Err(error) => self.refused.push((from.clone(), error)),
            },
        }
    }

    /// Whether nobody is left to be asked, and nobody's answer is awaited.
    pub fn is_done(&self) -> bool {
        self.questions.is_empty() && self.asked.is_empty()
    }

    /// What was found so far.
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }

    /// Whose answer was not believed, and why.
    pub fn refused(&self) -> &[(Peer, DiscoveryError)] {
        &self.refused
    }

    fn ask(&mut self, whom: Peer, namespace: &str) {
        self.asked.push((whom.clone(), namespace.into()));
        self.questions
            .push_back((whom, Element::new(namespace, "query")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(jid: &str, host: &str, port: &str) -> Element {
        Element::new(BYTESTREAMS, "query").child(
            Element::new(BYTESTREAMS, "streamhost")
                .with("jid", jid)
                .with("host", host)
                .with("port", port),
        )
    }

    #[test]
    fn a_proxy_that_lies_about_addresses_is_not_believed() {
        let asked = Peer::from("proxy.example");
        let read = |jid, host, port| Proxy::from_answer(&asked, &answer(jid, host, port), false);
        assert!(read("proxy.example", "192.0.2.1", "7777").is_ok());
        let named = read("proxy.example", "proxy.example", "5000").unwrap();
        assert_eq!(named.host, Host::Name("proxy.example".into()));
        let another = Err(DiscoveryError::Another(asked.clone()));
        for jid in [
            "evil.example",
            "proxy.example.evil.example",
            "proxy.exampl",
            "",
        ] {
            assert_eq!(read(jid, "192.0.2.1", "7777"), another, "{jid}");
        }
        // As ejabberd 23.01 answers.
        let node = read("proxy.example/70306884", "192.0.2.1", "7777").unwrap();
        assert_eq!(node.jid.as_str(), "proxy.example/70306884");
        let address = Err(DiscoveryError::Address(asked.clone()));
        for (host, port) in [
            ("127.0.0.1", "25"),
            ("::1", "25"),
            ("0.0.0.0", "25"),
            ("239.1.2.3", "25"),
            ("192.0.2.1", "0"),
            ("192.0.2.1", "65536"),
            ("", "25"),
            ("a b", "25"),
            ("-/etc/passwd", "25"),
        ] {
            assert_eq!(read("proxy.example", host, port), address, "{host}:{port}");
        }
        assert!(Proxy::from_answer(&asked, &Element::new(BYTESTREAMS, "query"), false).is_err());
        let here = answer("proxy.example", "127.0.0.1", "5000");
        assert!(Proxy::from_answer(&asked, &here, true).is_ok());
    }

    #[test]
    fn a_server_with_two_services_and_one_proxy() {
        let mut discovery = Discovery::new("a.example".into());
        let (server, _) = discovery.question().unwrap();
        let item = |jid: &str| Element::new(ITEMS, "item").with("jid", jid);
        let items = Element::new(ITEMS, "query")
            .child(item("chat.a.example"))
            .child(item("proxy.a.example"));
        discovery.answer(&server, Some(&items));
        let (chat, _) = discovery.question().unwrap();
        let (proxy, question) = discovery.question().unwrap();
        assert!(question.is(INFO, "query"));
        discovery.answer(&chat, None);
        let identity = Element::new(INFO, "identity")
            .with("category", "proxy")
            .with("type", "bytestreams");
        let info = Element::new(INFO, "query").child(identity);
        discovery.answer(&"other.example".into(), Some(&info));
        assert!(discovery.question().is_none(), "nobody asked that one");
        discovery.answer(&proxy, Some(&info));
        let (proxy, question) = discovery.question().unwrap();
        assert!(question.is(BYTESTREAMS, "query"));
        assert!(!discovery.is_done());
        discovery.answer(
            &proxy,
            Some(&answer("proxy.a.example", "192.0.2.9", "5000")),
        );
        assert!(discovery.is_done());
        assert_eq!(discovery.proxies().len(), 1);
    }
}
