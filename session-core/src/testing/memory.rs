//! Two small, complete transports: [`MemoryDatagram`] and [`MemoryStream`].
//!
//! They are what a transport is when nothing is in its way: one candidate, no fallback, no encryption. Tests of
//! sessions and clients run over them, on a virtual [`Network`](super::Network) or on real sockets, and an author of a
//! transport may begin with a copy. Neither allocates for a packet.
//!
//! On the wire:
//! - A channel says where it is by `<candidate address='IP:PORT' key='32 HEX DIGITS'/>`. The key is drawn for the
//!   channel; who knows it is the peer.
//! - **Datagram**: a datagram that begins with the key of its receiver is control (a ping, which also carries the
//!   sender's key, or its answer); anything else is the application's, as it is. A path is there while answers come.
//! - **Stream**: the initiator listens, the responder connects and shows the key. Then frames: one byte of kind, four
//!   of length, the content. A receiver grants credit, so that one that is paused holds its peer back.

mod datagram;
mod stream;

use crate::{
    Element, Entropy, InfoTarget, LocalSocket, Role, SeededEntropy, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{fmt::Write as _, net::SocketAddr, sync::Arc, time::Duration};

/// The namespace of [`MemoryDatagram`] unless it is given another.
pub const DATAGRAM_NAMESPACE: &str = "https://pcp.example/ns/memory-datagram";
/// The namespace of [`MemoryStream`] unless it is given another.
pub const STREAM_NAMESPACE: &str = "https://pcp.example/ns/memory-stream";

/// What goes wrong with a transport, on purpose: to test who falls back, and who gives up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mishap {
    /// Nothing.
    #[default]
    None,
    /// It refuses every offer of the peer.
    RefusesOffers,
    /// It refuses every answer of the peer.
    RefusesAnswers,
    /// It has no room for a channel.
    RefusesChannels,
    /// Its channels fail as soon as they are to connect.
    FailsOnConnect,
    /// Its channels fail this long after they were to connect.
    FailsAfter(Duration),
    /// Its channels never say where they are and hear nothing.
    NeverConnects,
}

#[derive(Clone, Debug)]
struct Settings {
    namespace: Arc<str>,
    address: SocketAddr,
    keepalive: Duration,
    patience: Duration,
    mishap: Mishap,
}

macro_rules! factory {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $namespace:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(Arc<Settings>);

        impl $name {
            /// Sockets at the host's own address and a free port; a path counts as lost after 10 s of silence.
            pub fn new() -> Self {
                Self(Arc::new(Settings {
                    namespace: $namespace.into(),
                    address: SocketAddr::from(([127, 0, 0, 1], 0)),
                    keepalive: Duration::from_secs(2),
                    patience: Duration::from_secs(10),
                    mishap: Mishap::None,
                }))
            }

            /// Another namespace: a test of the choice among transports registers several.
            #[must_use]
            pub fn with_namespace(mut self, namespace: &str) -> Self {
                Arc::make_mut(&mut self.0).namespace = namespace.into();
                self
            }

            /// Where to open sockets. The peer is told the address that the driver reports, so that it must be one that
            /// the peer can reach.
            #[must_use]
            pub fn with_address(mut self, address: SocketAddr) -> Self {
                Arc::make_mut(&mut self.0).address = address;
                self
            }

            /// How often to send something on an idle path, and after how long a silence it counts as lost.
            #[must_use]
            pub fn with_keepalive(mut self, every: Duration, patience: Duration) -> Self {
                let settings = Arc::make_mut(&mut self.0);
                settings.keepalive = every;
                settings.patience = patience;
                self
            }

            /// What goes wrong.
            #[must_use]
            pub fn with_mishap(mut self, mishap: Mishap) -> Self {
                Arc::make_mut(&mut self.0).mishap = mishap;
                self
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl TransportFactory for $name {
            fn namespace(&self) -> &str {
                &self.0.namespace
            }

            fn kind(&self) -> TransportKind {
                TransportKind::$kind
            }

            fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
                Box::new(MemoryTransport {
                    settings: Arc::clone(&self.0),
                    kind: TransportKind::$kind,
                    role: context.role,
                    keys: SeededEntropy::new(u64::from_le_bytes(
                        context.seed.first_chunk().copied().unwrap_or_default(),
                    )),
                })
            }
        }
    };
}

factory! {
    /// Carries datagrams over one UDP socket for each channel.
    MemoryDatagram, Datagram, DATAGRAM_NAMESPACE
}

factory! {
    /// Carries bytes over one TCP connection for each channel, with frames and credit.
    MemoryStream, Streaming, STREAM_NAMESPACE
}

struct MemoryTransport {
    settings: Arc<Settings>,
    kind: TransportKind,
    role: Role,
    keys: SeededEntropy,
}

impl Transport for MemoryTransport {
    fn namespace(&self) -> &str {
        &self.settings.namespace
    }

    fn offer(&mut self) -> Element {
        Element::new(&self.settings.namespace, "transport")
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        if self.settings.mishap == Mishap::RefusesOffers {
            return Err(TransportError::Unacceptable("refuses every offer"));
        }
        self.check(offer)?;
        Ok(self.offer())
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        if self.settings.mishap == Mishap::RefusesAnswers {
            return Err(TransportError::Unacceptable("refuses every answer"));
        }
        self.check(answer)
    }

    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        if self.settings.mishap == Mishap::RefusesChannels {
            return Err(TransportError::NoResource("refuses every channel".into()));
        }
        let mut key = Key::default();
        self.keys.fill(&mut key.0);
        let settings = Arc::clone(&self.settings);
        Ok(match self.kind {
            TransportKind::Datagram => Box::new(datagram::DatagramChannel::new(settings, key)),
            TransportKind::Streaming => {
                Box::new(stream::StreamChannel::new(settings, key, self.role))
            }
        })
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        self.check(info)?;
        info.children()
            .filter(|child| child.namespace() == &*self.settings.namespace)
            .map(|child| {
                let child = child.to_element();
                let candidate = Candidate::from_element(&self.settings.namespace, &child)?;
                let name = child.attribute("name").ok_or(TransportError::Malformed {
                    field: "name",
                    problem: "a candidate is for a channel",
                })?;
                Ok((
                    InfoTarget::Channel(name.into()),
                    candidate.to_element(&self.settings.namespace),
                ))
            })
            .collect()
    }
}

impl MemoryTransport {
    fn check(&self, element: &Element) -> Result<(), TransportError> {
        if element.is(&self.settings.namespace, "transport") {
            Ok(())
        } else {
            Err(TransportError::Malformed {
                field: "transport",
                problem: "another name or namespace",
            })
        }
    }
}

/// The one socket that a channel asks for first.
const SOCKET: LocalSocket = LocalSocket(0);

/// Who knows a channel's key is its peer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Key([u8; Self::SIZE]);

impl Key {
    const SIZE: usize = 16;

    fn to_hex(self) -> String {
        self.0.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    fn from_hex(hex: &str) -> Option<Self> {
        if hex.len() != 2 * Self::SIZE || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut key = Self::default();
        for (index, byte) in key.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(key)
    }
}

/// Where a channel is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Candidate {
    address: SocketAddr,
    key: Key,
}

impl Candidate {
    fn to_element(self, namespace: &str) -> Element {
        Element::new(namespace, "candidate")
            .with("address", self.address)
            .with("key", self.key.to_hex())
    }

    fn from_element(namespace: &str, element: &Element) -> Result<Self, TransportError> {
        let malformed = |field, problem| TransportError::Malformed { field, problem };
        if !element.is(namespace, "candidate") {
            return Err(malformed("candidate", "another name or namespace"));
        }
        let address = element
            .attribute("address")
            .ok_or_else(|| malformed("address", "missing"))?
            .parse()
            .map_err(|_| malformed("address", "not IP:PORT"))?;
        let key = element
            .attribute("key")
            .and_then(Key::from_hex)
            .ok_or_else(|| malformed("key", "not 32 hexadecimal digits"))?;
        Ok(Self { address, key })
    }
}

/// What the peer of a [`MemoryDatagram`] answers to a datagram, if it is a ping.
pub(super) fn answer_to_ping(datagram: &[u8]) -> Option<bytes::Bytes> {
    datagram::answer_to_ping(datagram)
}
