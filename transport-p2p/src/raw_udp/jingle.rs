//! The vocabulary of XEP-0177.

use super::{
    Bind, Settings, address,
    channel::{Latch, RawChannel, Said, Words},
    expect_transport,
};
use session_core::{
    Dialect, Element, ElementRef, ErrorStyle, InfoTarget, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, sync::Arc};

/// The namespace of XEP-0177.
pub const NAMESPACE: &str = "urn:xmpp:jingle:transports:raw-udp:1";

/// The component of RTCP (XEP-0177 §4.2, RFC 8445 §13).
const RTCP: u8 = 2;

/// Raw UDP for Jingle (XEP-0177). See the [module](super) for what it says and takes.
#[derive(Clone, Debug)]
pub struct RawUdp {
    bind: Bind,
    advertised: Option<SocketAddr>,
}

impl RawUdp {
    /// Sockets at `bind`; with port 0 the system chooses. Unless [`with_advertised`](Self::with_advertised) is used,
    /// the address must be one that peers can reach, not the unspecified one.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind: Bind::new(bind),
            advertised: None,
        }
    }

    /// What peers are told instead of the socket's own address; with port 0 the socket's own port.
    #[must_use]
    pub fn with_advertised(mut self, address: SocketAddr) -> Self {
        self.advertised = Some(address);
        self
    }

    /// Where new transports open their sockets: to be set when this host has another address.
    pub fn bind(&self) -> Bind {
        self.bind.clone()
    }
}

impl TransportFactory for RawUdp {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        let mut id = String::new();
        for byte in &context.seed[..8] {
            let _ = write!(id, "{byte:02x}");
        }
        Box::new(RawUdpTransport {
            settings: Settings {
                bind: self.bind.get(),
                advertised: self.advertised,
            },
            id: id.into(),
            channels: BTreeMap::new(),
            known: BTreeMap::new(),
            has_said: false,
        })
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        dialect.errors == ErrorStyle::Jingle
    }
}

struct RawUdpTransport {
    settings: Settings,
    /// What our candidates' identifiers begin with.
    id: Arc<str>,
    /// The channels' components by name.
    channels: BTreeMap<Arc<str>, u8>,
    /// What the peer has said about components that have no channel yet.
    known: BTreeMap<u8, Said>,
    /// The first component's candidate was in the offer or answer.
    has_said: bool,
}

impl RawUdpTransport {
    fn transport(&mut self) -> Element {
        let transport = Element::new(NAMESPACE, "transport");
        let Some(address) = self.settings.foretold(0) else {
            return transport;
        };
        self.has_said = true;
        transport.child(candidate(&self.id, 1, address))
    }

    /// The component that a new channel of this name gets.
    fn component(&self, name: &str) -> Option<u8> {
        let taken = |component: &u8| self.channels.values().any(|taken| taken == component);
        if name.ends_with("rtcp") && !taken(&RTCP) {
            return Some(RTCP);
        }
        (1..=u8::MAX).find(|component| !taken(component))
    }
}

impl Transport for RawUdpTransport {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn offer(&mut self) -> Element {
        self.transport()
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        self.check(offer)?;
        Ok(self.transport())
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        self.check(answer)
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        let component = self
            .component(name)
            .ok_or_else(|| TransportError::NoResource("more than 255 components".into()))?;
        self.channels.insert(name.into(), component);
        let words = Candidates {
            id: Arc::clone(&self.id),
            component,
            has_said: self.has_said && component == 1,
        };
        let index = u16::from(component - 1);
        let mut channel = RawChannel::new(words, self.settings, index, Latch::Never);
        if let Some(said) = self.known.remove(&component) {
            channel.learn(said)?;
        }
        Ok(Box::new(channel))
    }

    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        Element::new(NAMESPACE, "transport").children_from(infos.into_iter().map(|(_, info)| info))
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        self.check(info)?;
        let mut infos = Vec::new();
        for child in own(info) {
            let child = child.to_element();
            let (component, said) = read(&child)?;
            match self.channels.iter().find(|(_, of)| **of == component) {
                Some((name, _)) => infos.push((InfoTarget::Channel(Arc::clone(name)), child)),
                None => {
                    self.known.insert(component, said);
                }
            }
        }
        Ok(infos)
    }
}

impl RawUdpTransport {
    /// Everything in it can be read, and the addresses be used.
    fn check(&self, transport: &Element) -> Result<(), TransportError> {
        expect_transport(NAMESPACE, transport)?;
        own(transport).try_for_each(|child| {
            let (_, said) = read(&child.to_element())?;
            self.settings.judge(said.address)
        })
    }
}

/// Children of other namespaces are for others, or of a peer that says more than we know.
fn own(transport: &Element) -> impl Iterator<Item = ElementRef<'_>> {
    transport.children().filter(|c| c.namespace() == NAMESPACE)
}

/// One component's candidates.
struct Candidates {
    id: Arc<str>,
    component: u8,
    has_said: bool,
}

impl Words for Candidates {
    fn say(&self, address: SocketAddr) -> Option<Element> {
        (!self.has_said).then(|| candidate(&self.id, self.component, address))
    }

    fn read(&self, info: &Element) -> Result<Option<Said>, TransportError> {
        let (component, said) = read(info)?;
        Ok((component == self.component).then_some(said))
    }
}

fn candidate(id: &str, component: u8, address: SocketAddr) -> Element {
    Element::new(NAMESPACE, "candidate")
        .with("component", component)
        .with("generation", 0)
        .with("id", format_args!("{id}{component}"))
        .with("ip", address.ip())
        .with("port", address.port())
}

/// A `<candidate/>` (XEP-0177 §4.2). `id` and `generation` are required there, and not by everybody who writes it.
fn read(candidate: &Element) -> Result<(u8, Said), TransportError> {
    let malformed = |field, problem| TransportError::Malformed { field, problem };
    if !candidate.is(NAMESPACE, "candidate") {
        return Err(malformed("candidate", "another name or namespace"));
    }
    let component = candidate
        .attribute("component")
        .ok_or_else(|| malformed("component", "missing"))?
        .parse()
        .ok()
        .filter(|component| *component > 0)
        .ok_or_else(|| malformed("component", "not a number from 1 to 255"))?;
    let generation = match candidate.attribute("generation") {
        None => 0,
        Some(text) => text
            .parse()
            .map_err(|_| malformed("generation", "not a number"))?,
    };
    let address = address(candidate, "ip", "port")?;
    Ok((
        component,
        Said {
            address,
            generation,
        },
    ))
}
