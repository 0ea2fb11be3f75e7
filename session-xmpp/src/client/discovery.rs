//! [`Discovery`]: tells others what we can, and finds out what they can.

use super::{
    directory::{Directory, Question},
    disco::{DISCO_INFO, Info},
};
use crate::{
    address,
    endpoint::{Endpoint, QueryKind, Service, lock},
    stanza::{Envelope, Request},
};
use session_core::{Condition, Element, ErrorKind, Peer, SessionManager, StanzaError};
use std::{
    fmt,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How long a device may take to say what it can.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// The most devices of one account that are asked.
const QUESTIONS_MAX: usize = 16;

pub(crate) const PING: &str = "urn:xmpp:ping";

/// Presence, service discovery and pings, for an [`Endpoint`]: [`Self::service`] goes into its
/// [`Options`](crate::endpoint::Options). Cheap to clone.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    node: String,
    info: Info,
    directory: Mutex<Directory>,
}

impl Discovery {
    /// For somebody who is and can this. `node` is an address that names the program, as XEP-0115 §4 has it. What stands in
    /// it from a `#` on is not told: Gajim 1.7.3 takes what follows the first one for the hash, and believes nothing then.
    pub fn new(node: &str, info: Info) -> Self {
        let (node, _) = node.split_once('#').unwrap_or((node, ""));
        Self(Arc::new(Inner {
            node: node.to_owned(),
            info,
            directory: Mutex::new(Directory::new()),
        }))
    }

    /// What answers in an endpoint.
    pub fn service(&self) -> Box<dyn Service> {
        Box::new(Answers(self.clone()))
    }

    /// The presence that tells what we can; to be sent after each login, and to whoever should know us.
    pub fn presence(&self, to: Option<&Peer>) -> Element {
        Element::new(crate::ns::CLIENT, "presence")
            .with_opt("to", to.map(Peer::as_str))
            .child(self.0.info.caps(&self.0.node))
    }

    /// Looks at what is known.
    pub fn with<R>(&self, f: impl FnOnce(&mut Directory) -> R) -> R {
        f(&mut lock(&self.0.directory))
    }

    /// The device of an account to which something can be offered that needs these features: those that have not said
    /// what they can are asked. `None` when there is no such device.
    pub async fn find(
        &self,
        endpoint: &Endpoint,
        account: &Peer,
        features: &[&str],
    ) -> Option<(Peer, Arc<Info>)> {
        let questions = self.with(|directory| directory.questions(&address::bare(account)));
        let mut asked = JoinSet::new();
        for Question { device, node } in questions.into_iter().take(QUESTIONS_MAX) {
            let (endpoint, discovery) = (endpoint.clone(), self.clone());
            asked.spawn(async move {
                let info = ask(&endpoint, &device, node.as_deref()).await;
                discovery.with(|directory| directory.learn(&device, info));
            });
        }
        while asked.join_next().await.is_some() {}
        self.with(|directory| directory.choose(account, features))
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discovery")
            .field("node", &self.0.node)
            .finish_non_exhaustive()
    }
}

/// Asks anybody, a server say, what it is and can. `None` when it does not tell.
pub async fn ask(endpoint: &Endpoint, whom: &Peer, node: Option<&str>) -> Option<Info> {
    let query = Element::new(DISCO_INFO, "query").with_opt("node", node);
    let answer = endpoint.query(QueryKind::Get, whom.clone(), query, ANSWER_MAX);
    let answer = answer.await.ok().flatten()?;
    answer.is(DISCO_INFO, "query").then_some(())?;
    Some(Info::read(answer.view()))
}

struct Answers(Discovery);

impl Service for Answers {
    fn handle_request(
        &mut self,
        request: &Request,
        _: &mut SessionManager,
        _: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        let payload = request.payload().filter(|_| request.is_get())?;
        if payload.is(PING, "ping") {
            return Some(Ok(None));
        }
        if !payload.is(DISCO_INFO, "query") {
            return None;
        }
        let Inner { node, info, .. } = &*self.0.0;
        let asked = payload.attribute("node");
        let ours = asked.is_none_or(|asked| {
            let ver = asked.strip_prefix(node.as_str());
            let ver = ver.and_then(|rest| rest.strip_prefix('#'));
            ver.is_some() && ver == info.hash("sha-1").as_deref()
        });
        Some(if ours {
            Ok(Some(info.to_element(asked)))
        } else {
            Err(StanzaError::new(Condition::ItemNotFound, ErrorKind::Cancel))
        })
    }

    fn handle_other(&mut self, other: &Envelope, _: &mut SessionManager, _: Instant) -> bool {
        self.0.with(|directory| directory.handle_presence(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_first_hash_sign_is_the_hash() {
        for node in [
            "https://example.org/x",
            "https://example.org/x#y",
            "urn:x:y#z#",
        ] {
            let info = Info::new("client", "pc", "x", ["urn:example:x"]);
            let ver = info.caps("").attribute("ver").map(str::to_owned);
            let presence = Discovery::new(node, info).presence(None);
            let caps = presence.find(crate::client::disco::CAPS, "c");
            let caps = caps.unwrap_or_else(|| panic!("{node}: no capabilities"));
            let told = caps.attribute("node").unwrap_or_default();
            assert!(!told.is_empty() && !told.contains('#'), "{node}: {told}");
            assert_eq!(caps.attribute("ver").map(str::to_owned), ver, "{node}");
        }
    }
}
