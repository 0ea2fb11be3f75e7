//! [`Router`]: an XMPP server in miniature, for endpoints of one process.

use super::{Link, LinkError, LinkEvent, head::Head, lock};
use bytes::Bytes;
use session_core::Peer;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};
use tokio::sync::mpsc;

/// Stanzas that wait for one recipient. Past it their senders get an error.
pub const ROUTER_QUEUE_STANZAS: usize = 65_536;

/// Bytes of stanzas that wait for one recipient. Past it their senders get an error.
pub const ROUTER_QUEUE_BYTES: usize = 16 << 20;

/// Stanzas that wait for one observer. Past it they are counted instead.
pub const ROUTER_TAP_STANZAS: usize = 4_096;

/// Passes stanzas between the links that are attached to it, as a server does: it stamps who sent a stanza, and answers
/// for recipients that are not there. Cheap to clone.
///
/// A link's address may be a full one (`juliet@capulet.example/balcony`), an account or a whole domain. A stanza goes
/// to the link with exactly the address that it is for, else to that of the account, else to that of the domain.
/// Addresses are compared as text: in the normal form that [`address::parse`](crate::address::parse) gives them.
#[derive(Clone, Default)]
pub struct Router(Arc<Mutex<Switch>>);

impl Router {
    /// A router without links.
    pub fn new() -> Self {
        Self::default()
    }

    /// Attaches a link, which is up at once. One that has the address already ends (RFC 6120 §7.7.2.2).
    pub fn link(&self, address: impl Into<Peer>) -> RouterLink {
        let address = address.into();
        let mut switch = lock(&self.0);
        switch.serial += 1;
        let serial = switch.serial;
        let port = Port {
            serial,
            up: true,
            queue: VecDeque::from([LinkEvent::Up(address.clone())]),
            bytes: 0,
            waker: None,
        };
        let replaced = switch.ports.insert(address.clone(), port);
        drop(switch);
        wake(replaced.and_then(|port| port.waker));
        RouterLink {
            router: self.clone(),
            address,
            serial,
        }
    }

    /// An observer of every stanza that is sent from now on.
    pub fn tap(&self) -> Tap {
        let (sender, stanzas) = mpsc::channel(ROUTER_TAP_STANZAS);
        let missed = Arc::<AtomicU64>::default();
        lock(&self.0).taps.push((sender, missed.clone()));
        Tap { stanzas, missed }
    }

    /// Takes the link with this address down, or up again. While it is down, nobody reaches it and it reaches nobody;
    /// what was queued for it is lost. Returns whether there is such a link.
    pub fn set_up(&self, address: &Peer, up: bool) -> bool {
        let mut switch = lock(&self.0);
        let Some(port) = switch.ports.get_mut(address) else {
            return false;
        };
        if port.up != up {
            port.up = up;
            port.queue.clear();
            port.bytes = 0;
            port.queue.push_back(if up {
                LinkEvent::Up(address.clone())
            } else {
                LinkEvent::Down("taken down".into())
            });
            let waker = port.waker.take();
            drop(switch);
            wake(waker);
        }
        true
    }

    /// Puts bytes before a link as if a server had sent them, whatever they are. Returns whether they were taken.
    pub fn deliver(&self, to: &Peer, stanza: impl Into<Bytes>) -> bool {
        let mut switch = lock(&self.0);
        let delivered = switch.enqueue(to, stanza.into());
        drop(switch);
        match delivered {
            Ok(waker) => {
                wake(waker);
                true
            }
            Err(_) => false,
        }
    }

    fn route(&self, sender: &Peer, serial: u64, stanza: &Bytes) -> Result<(), LinkError> {
        let mut switch = lock(&self.0);
        let port = switch.ports.get(sender);
        if !port.is_some_and(|port| port.serial == serial && port.up) {
            return Err(LinkError::Down);
        }
        let Some(head) = Head::parse(stanza) else {
            // A server would end the stream (RFC 6120 §4.9.3.13); an observer sees what was wrong.
            switch.observe(sender, &Peer::from(""), stanza, false);
            return Ok(());
        };
        let claimed = head.attribute("from");
        let from = match claimed {
            Some(claimed) if covers(sender.as_str(), &claimed) => Peer::from(&*claimed),
            _ => sender.clone(),
        };
        // Without a recipient a stanza is for the sender's account, for which a server answers (RFC 6120 §10.3).
        let to = head.attribute("to").map_or_else(
            || Peer::from(sender.account()),
            |address| Peer::from(&*address),
        );
        let stamped = head.stamped(from.as_str());
        let outcome = switch.enqueue(&to, stamped.clone());
        switch.observe(&from, &to, &stamped, outcome.is_ok());
        let waker = match outcome {
            Ok(waker) => waker,
            Err(refusal) => {
                let (kind, condition) = refusal;
                let error = head.error(from.as_str(), kind, condition);
                error.and_then(|error| {
                    switch.observe(&to, &from, &error, true);
                    switch.enqueue(sender, error).ok().flatten()
                })
            }
        };
        drop(switch);
        wake(waker);
        Ok(())
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.0).ports.keys()).finish()
    }
}

/// One end at a [`Router`]. Dropping it detaches it.
#[derive(Debug)]
pub struct RouterLink {
    router: Router,
    address: Peer,
    serial: u64,
}

impl RouterLink {
    /// The address that it was made with.
    pub fn address(&self) -> &Peer {
        &self.address
    }

    /// What happens next, for those who are no [`Endpoint`](super::Endpoint). Cancel-safe.
    pub async fn next_event(&mut self) -> Option<LinkEvent> {
        poll_fn(|cx| self.poll_event(cx)).await
    }
}

impl Link for RouterLink {
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        self.router.route(&self.address, self.serial, &stanza)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        let mut switch = lock(&self.router.0);
        let port = switch.ports.get_mut(&self.address);
        let Some(port) = port.filter(|port| port.serial == self.serial) else {
            return Poll::Ready(None);
        };
        match port.queue.pop_front() {
            Some(event) => {
                if let LinkEvent::Stanza(stanza) = &event {
                    port.bytes -= stanza.len();
                }
                Poll::Ready(Some(event))
            }
            None => {
                port.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for RouterLink {
    fn drop(&mut self) {
        let mut switch = lock(&self.router.0);
        let port = switch.ports.get(&self.address);
        if port.is_some_and(|port| port.serial == self.serial) {
            switch.ports.remove(&self.address);
        }
    }
}

/// A stanza that passed a [`Router`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// Who sent it.
    pub from: Peer,
    /// Whom it is for. Empty when that could not be read.
    pub to: Peer,
    /// The stanza as the recipient gets it.
    pub stanza: Bytes,
    /// Whether a link took it.
    pub delivered: bool,
}

/// Observes every stanza that passes a [`Router`].
#[derive(Debug)]
pub struct Tap {
    stanzas: mpsc::Receiver<Passed>,
    missed: Arc<AtomicU64>,
}

impl Tap {
    /// The next stanza; `None` when the router is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Passed> {
        self.stanzas.recv().await
    }

    /// The next stanza that has passed already.
    pub fn try_next(&mut self) -> Option<Passed> {
        self.stanzas.try_recv().ok()
    }

    /// How many stanzas were not observed, because too many waited.
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Switch {
    ports: BTreeMap<Peer, Port>,
    taps: Vec<(mpsc::Sender<Passed>, Arc<AtomicU64>)>,
    serial: u64,
}

struct Port {
    serial: u64,
    up: bool,
    queue: VecDeque<LinkEvent>,
    bytes: usize,
    waker: Option<Waker>,
}

impl Switch {
    /// Queues a stanza for whoever has the address. The error is the type and the condition of RFC 6120 §8.3.
    fn enqueue(
        &mut self,
        to: &Peer,
        stanza: Bytes,
    ) -> Result<Option<Waker>, (&'static str, &'static str)> {
        let unavailable = Err(("cancel", "service-unavailable"));
        let domain = to.account().rsplit('@').next().unwrap_or_default();
        let addresses = [to.as_str(), to.account(), domain];
        let found = addresses
            .into_iter()
            .map(Peer::from)
            .find(|address| self.ports.contains_key(address));
        let Some(port) = found.and_then(|address| self.ports.get_mut(&address)) else {
            return unavailable;
        };
        if !port.up {
            return unavailable;
        }
        let bytes = port.bytes + stanza.len();
        if port.queue.len() >= ROUTER_QUEUE_STANZAS || bytes > ROUTER_QUEUE_BYTES {
            return Err(("wait", "resource-constraint"));
        }
        port.bytes = bytes;
        port.queue.push_back(LinkEvent::Stanza(stanza));
        Ok(port.waker.take())
    }

    fn observe(&mut self, from: &Peer, to: &Peer, stanza: &Bytes, delivered: bool) {
        self.taps.retain(|(tap, missed)| {
            let passed = Passed {
                from: from.clone(),
                to: to.clone(),
                stanza: stanza.clone(),
                delivered,
            };
            match tap.try_send(passed) {
                Ok(()) => true,
                Err(mpsc::error::TrySendError::Full(_)) => {
                    missed.fetch_add(1, Ordering::Relaxed);
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}

/// Whether somebody with the first address may speak for the second: its own, a device of its account, anybody of its
/// domain.
fn covers(own: &str, claimed: &str) -> bool {
    let account = claimed.split('/').next().unwrap_or_default();
    let domain = account.rsplit('@').next().unwrap_or_default();
    own == claimed || own == account || own == domain
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[cfg(test)]
mod tests;
