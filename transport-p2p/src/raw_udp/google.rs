//! The vocabulary of libjingle 0.4.

use super::{
    Bind, Settings, address,
    channel::{Latch, RawChannel, Said, Words},
    expect_transport,
};
use session_core::{
    Dialect, Element, ErrorStyle, InfoTarget, Offers, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{net::SocketAddr, sync::Arc};

/// The namespace of libjingle's raw transport (rawtransport.cc). Its own session tests spell it `…/transport/raw`.
pub const GOOGLE_NAMESPACE: &str = "http://www.google.com/transport/raw-udp";

const BEHIND: &str = "behind-symmetric-nat";
const RECEIVES: &str = "can-receive-from-symmetric-nat";

/// How many channels may share a range of ports.
const CHANNELS_MAX: u16 = 64;

/// Raw UDP for Google's dialects. See the [module](super) for what it says and takes.
///
/// An offer says whether its sender is behind a symmetric NAT, and whether it can receive from somebody who is. It is
/// accepted only when the answers are no and yes (libjingle rawtransport.cc). libjingle itself always said yes and
/// no, so that two of them never agreed.
#[derive(Clone, Debug)]
pub struct GoogleRawUdp {
    bind: Bind,
    advertised: Option<SocketAddr>,
    behind: bool,
    receives: bool,
}

impl GoogleRawUdp {
    /// Sockets at `bind`; with port 0 the system chooses. Unless [`with_advertised`](Self::with_advertised) is used,
    /// the address must be one that peers can reach, not the unspecified one.
    pub fn new(bind: SocketAddr) -> Self {
        Self {
            bind: Bind::new(bind),
            advertised: None,
            behind: false,
            receives: true,
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

    /// Whether we are behind a symmetric NAT, which gives each destination another port of ours. Default no; our
    /// offers are refused if so.
    #[must_use]
    pub fn with_symmetric_nat(mut self, behind: bool) -> Self {
        self.behind = behind;
        self
    }

    /// Whether we take datagrams from the host that the peer has named, but another port: the first of them decides
    /// about the port. Default yes; our offers are refused if not, and then only the very address is taken.
    #[must_use]
    pub fn with_symmetric_peers(mut self, receives: bool) -> Self {
        self.receives = receives;
        self
    }
}

impl TransportFactory for GoogleRawUdp {
    fn namespace(&self) -> &str {
        GOOGLE_NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(GoogleTransport {
            factory: self.clone(),
            settings: Settings {
                bind: self.bind.get(),
                advertised: self.advertised,
            },
            channels: 0,
        })
    }

    /// Only the dialect of libjingle 0.4 names transports.
    fn supports(&self, dialect: &Dialect) -> bool {
        dialect.errors == ErrorStyle::Google && dialect.offers == Offers::All
    }
}

struct GoogleTransport {
    factory: GoogleRawUdp,
    settings: Settings,
    channels: u16,
}

impl Transport for GoogleTransport {
    fn namespace(&self) -> &str {
        GOOGLE_NAMESPACE
    }

    fn offer(&mut self) -> Element {
        Element::new(GOOGLE_NAMESPACE, "transport")
            .with(BEHIND, self.factory.behind)
            .with(RECEIVES, self.factory.receives)
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        expect_transport(GOOGLE_NAMESPACE, offer)?;
        if flag(offer, BEHIND)? {
            return Err(TransportError::Unacceptable(
                "the peer is behind a symmetric NAT",
            ));
        }
        if !flag(offer, RECEIVES)? {
            return Err(TransportError::Unacceptable(
                "the peer cannot receive from a symmetric NAT",
            ));
        }
        Ok(Element::new(GOOGLE_NAMESPACE, "transport"))
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        expect_transport(GOOGLE_NAMESPACE, answer)?;
        if answer.is_empty() {
            return Ok(());
        }
        Err(TransportError::Malformed {
            field: "transport",
            problem: "an answer is empty",
        })
    }

    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        let index = self.channels;
        if index == CHANNELS_MAX {
            return Err(TransportError::NoResource("more than 64 channels".into()));
        }
        self.channels += 1;
        let latch = if self.factory.receives {
            Latch::Open
        } else {
            Latch::Never
        };
        Ok(Box::new(RawChannel::new(
            Channels,
            self.settings,
            index,
            latch,
        )))
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        expect_transport(GOOGLE_NAMESPACE, info)?;
        info.children()
            .filter(|child| child.namespace() == GOOGLE_NAMESPACE)
            .map(|child| {
                let child = child.to_element();
                self.settings.judge(read(&child)?.address)?;
                let name: Arc<str> = child
                    .attribute("name")
                    .ok_or(TransportError::Malformed {
                        field: "name",
                        problem: "missing",
                    })?
                    .into();
                Ok((InfoTarget::Channel(name), child))
            })
            .collect()
    }
}

/// A `<channel/>` for each channel; its name is written and read by the transport.
struct Channels;

impl Words for Channels {
    fn say(&self, address: SocketAddr) -> Option<Element> {
        let channel = Element::new(GOOGLE_NAMESPACE, "channel")
            .with("address", address.ip())
            .with("port", address.port());
        Some(channel)
    }

    fn read(&self, info: &Element) -> Result<Option<Said>, TransportError> {
        read(info).map(Some)
    }
}

fn read(channel: &Element) -> Result<Said, TransportError> {
    if !channel.is(GOOGLE_NAMESPACE, "channel") {
        return Err(TransportError::Malformed {
            field: "channel",
            problem: "another name or namespace",
        });
    }
    Ok(Said {
        address: address(channel, "address", "port")?,
        generation: 0,
    })
}

fn flag(offer: &Element, name: &'static str) -> Result<bool, TransportError> {
    match offer.attribute(name) {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) => Err(TransportError::Malformed {
            field: name,
            problem: "neither true nor false",
        }),
        None => Err(TransportError::Malformed {
            field: name,
            problem: "missing",
        }),
    }
}
