//! The transport of XEP-0176 around an agent.

use super::{
    agent::{Agent, Output, Reply},
    config::IceConfig,
    description::Description,
    xml,
};
use session_core::{
    Batch, ChannelOutput, Datagram, Dialect, DirectPath, Element, Finding, InfoTarget, LocalSocket,
    PathReport, SendError, SocketError, StanzaError, StreamEvent, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The namespace of XEP-0176.
pub const ICE_UDP: &str = "urn:xmpp:jingle:transports:ice-udp:1";
/// Messages of STUN begin with less (RFC 7983 §7).
const AFTER_STUN: u8 = 4;

/// The namespace of XEP-0371.
pub const ICE_0: &str = "urn:xmpp:jingle:transports:ice:0";

/// Makes ICE transports for Jingle (XEP-0176).
#[derive(Clone, Debug)]
pub struct IceTransportFactory {
    config: Arc<IceConfig>,
    namespace: &'static str,
}

impl IceTransportFactory {
    /// Transports of this configuration, in the words of XEP-0176, which nearly everybody speaks.
    pub fn new(config: IceConfig) -> Self {
        Self {
            config: Arc::new(config),
            namespace: ICE_UDP,
        }
    }

    /// The same in the words of XEP-0371, which know candidates over TCP ([`IceConfig::tcp`]).
    pub fn with_tcp(config: IceConfig) -> Self {
        Self {
            namespace: ICE_0,
            ..Self::new(config)
        }
    }
}

impl TransportFactory for IceTransportFactory {
    fn namespace(&self) -> &str {
        self.namespace
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        let mut agent = Agent::new(
            self.config.clone(),
            context.role,
            &context.seed,
            &context.waker,
        );
        agent.tcp = self.config.tcp && self.namespace == ICE_0;
        Box::new(IceTransport {
            namespace: self.namespace,
            agent: SharedAgent(Arc::new(Mutex::new(agent))),
            context: context.clone(),
            names: Vec::new(),
        })
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        dialect.name == Dialect::JINGLE.name
    }
}

/// One agent for all channels of a transport. A session is driven by one thread at a time, so that nobody waits.
#[derive(Clone)]
struct SharedAgent(Arc<Mutex<Agent>>);

impl SharedAgent {
    fn lock(&self) -> MutexGuard<'_, Agent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct IceTransport {
    namespace: &'static str,
    agent: SharedAgent,
    context: TransportContext,
    /// Channels by component, from 1. A channel that comes again gets the component that it had.
    names: Vec<Arc<str>>,
}

impl Transport for IceTransport {
    fn namespace(&self) -> &str {
        self.namespace
    }

    fn offer(&mut self) -> Element {
        let agent = self.agent.lock();
        let companion = agent.config.companion.clone();
        let description = Description {
            credentials: Some(agent.local.clone()),
            renomination: agent.renomination || agent.config.renomination,
            ..Description::default()
        };
        let transport = xml::transport(self.namespace, &description);
        drop(agent);
        match companion {
            Some(companion) => transport.children_from(companion.local(&self.context)),
            None => transport,
        }
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        let renomination = self.accept(offer)?;
        self.agent.lock().renomination = renomination;
        Ok(self.offer())
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let renomination = self.accept(answer)?;
        let mut agent = self.agent.lock();
        agent.renomination = renomination && agent.config.renomination;
        agent.handle_remote_answer();
        Ok(())
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        let known = self.names.iter().position(|known| &**known == name);
        let at = known.unwrap_or(self.names.len());
        let mut agent = self.agent.lock();
        if at >= agent.config.components_max.min(256) {
            return Err(TransportError::NoResource("no component is left".into()));
        }
        if known.is_none() {
            self.names.push(name.into());
        }
        let component = at as u16 + 1;
        agent.add_component(component);
        drop(agent);
        Ok(Box::new(IceChannel {
            namespace: self.namespace,
            agent: self.agent.clone(),
            component,
        }))
    }

    /// All of them have the credentials of their generation with them. Only those of the last count.
    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        let mut whole = Element::new(self.namespace, "transport");
        let generation = |info: &Element| info.attribute("ufrag").map(str::to_owned);
        let last = infos.last().and_then(|(_, info)| generation(info));
        for (_, info) in infos.iter().filter(|(_, info)| generation(info) == last) {
            for attribute in info.attributes() {
                whole.set_attribute(attribute.name, attribute.value);
            }
            for child in info.children() {
                whole.push(child.to_element());
            }
        }
        whole
    }

    /// The whole goes to one channel, whichever there is, because the agent is shared.
    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        let remote = xml::parse(self.namespace, info)?;
        if self.agent.lock().is_crossing(&remote) {
            return Err(TransportError::TieBreak);
        }
        self.tell_companion(info)?;
        let first = self.agent.lock().first_component();
        let name = first.and_then(|id| self.names.get(usize::from(id) - 1));
        let target = name.map_or(InfoTarget::All, |name| InfoTarget::Channel(name.clone()));
        Ok(vec![(target, info.detach())])
    }

    fn gathers(&self) -> bool {
        true
    }

    fn handle_info_reply(&mut self, info: &Element, reply: Result<(), &StanzaError>, now: Instant) {
        let reply = match reply {
            Ok(()) => Reply::Taken,
            Err(error) if error.is_tie_break() => Reply::Crossed,
            Err(_) => Reply::Refused,
        };
        if let Some(ufrag) = info.attribute("ufrag") {
            let bare = info.is_empty();
            self.agent.lock().handle_reply(ufrag, bare, reply, now);
        }
    }
}

impl IceTransport {
    /// Whether the peer knows renomination.
    fn accept(&self, element: &Element) -> Result<bool, TransportError> {
        let remote = xml::parse(self.namespace, element)?;
        let Some(credentials) = remote.credentials else {
            return Err(TransportError::Malformed {
                field: "ufrag",
                problem: "missing",
            });
        };
        self.tell_companion(element)?;
        self.agent.lock().handle_remote_credentials(&credentials);
        Ok(remote.renomination)
    }

    fn tell_companion(&self, element: &Element) -> Result<(), TransportError> {
        let companion = self.agent.lock().config.companion.clone();
        let Some(companion) = companion else {
            return Ok(());
        };
        let foreign: Vec<_> = element
            .children()
            .filter(|child| !xml::is_own(self.namespace, *child))
            .map(|child| child.detach())
            .collect();
        if foreign.is_empty() {
            return Ok(());
        }
        companion.remote(&self.context, foreign)
    }
}

struct IceChannel {
    namespace: &'static str,
    agent: SharedAgent,
    component: u16,
}

impl TransportChannel for IceChannel {
    fn connect(&mut self, now: Instant) {
        self.agent.lock().connect(self.component, now);
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        let remote = xml::parse(self.namespace, info)?;
        self.agent.lock().handle_remote(remote, now);
        Ok(())
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.agent
            .lock()
            .handle_bound(self.component, socket, address, now);
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        self.agent
            .lock()
            .handle_datagram(self.component, datagram, now);
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        self.agent
            .lock()
            .handle_stream(self.component, socket, event, now);
    }

    fn handle_finding(&mut self, inquiry: u32, finding: Finding, now: Instant) {
        self.agent.lock().handle_finding(inquiry, finding, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.agent.lock().handle_timeout(now);
    }

    fn send(&mut self, packet: bytes::Bytes, now: Instant) -> Result<(), SendError> {
        self.send_batch(packet.into(), now)
    }

    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.agent.lock().send(self.component, batch, now)
    }

    fn close(&mut self) {
        self.agent.lock().close_component(self.component);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.agent.lock().poll_timeout(self.component)
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        Some(match self.agent.lock().poll_output(self.component)? {
            Output::Channel(output) => output,
            Output::Tell(description) => {
                ChannelOutput::Info(xml::transport(self.namespace, &description))
            }
        })
    }

    fn direct(&self) -> Option<DirectPath> {
        let (socket, remote) = self.agent.lock().direct(self.component)?;
        Some(DirectPath {
            socket,
            remote,
            first_byte: AFTER_STUN,
        })
    }

    fn datagram_max(&self) -> Option<usize> {
        self.agent.lock().datagram_max(self.component)
    }

    fn round_trip(&self) -> Option<Duration> {
        self.agent.lock().round_trip(self.component)
    }

    fn describe(&self) -> Option<String> {
        self.agent.lock().describe(self.component)
    }

    fn report(&self) -> Vec<PathReport> {
        let pairs = self.agent.lock().pair_reports();
        let own = pairs
            .into_iter()
            .filter(|pair| pair.component == self.component);
        own.map(|pair| pair.path()).collect()
    }
}

impl Drop for IceChannel {
    fn drop(&mut self) {
        self.agent.lock().remove_component(self.component);
    }
}
