//! DTLS between two peers (RFC 6347, RFC 9147), agreed on in signalling (XEP-0320): who is at the other end, and keys.
//!
//! [`DtlsLayer`] is a [`ChannelLayer`] over any transport of datagrams. It has two uses:
//!
//! - [`DtlsLayer::srtp`]: the handshake makes keys for SRTP (RFC 5764), which come up as
//!   [`ChannelOutput::Secured`](session_core::ChannelOutput::Secured). Packets of RTP then pass beside DTLS, as they are:
//!   who has the keys protects them. The two are told apart by their first byte (RFC 9443).
//! - [`DtlsLayer::data`]: every datagram is a protected record, for what runs above, such as SCTP.
//!
//! Each side has a certificate, made by its host for this purpose ([`Identity`]), and tells its digest in signalling. The
//! other side's certificate is compared to what was told before any data passes; another one ends the channel. Who
//! can change signalling can put another fingerprint there: where that matters, people compare fingerprints by another way.
//!
//! # Backends
//! dimpl by default: Rust alone, DTLS 1.2 and 1.3, certificates with ECDSA. It draws randomness by itself, which is why
//! all of this stands behind a feature. It refuses certificates with RSA keys, which GStreamer makes: with the feature
//! `dtls-openssl` there is [`Backend`]`::Openssl` for such peers, which speaks DTLS 1.2.

mod backend;
mod channel;
mod ciphers;
mod fingerprint;
mod identity;
mod negotiation;
#[cfg(feature = "dtls-openssl")]
mod openssl;
mod rust;

pub use fingerprint::NAMESPACE;
pub use identity::Identity;

use negotiation::Negotiation;
use session_core::{
    ChannelLayer, LayerNegotiation, TransportChannel, TransportContext, TransportKind,
};
use std::{fmt, sync::Arc, time::Duration};

/// DTLS above channels of datagrams; see the [module](self).
///
/// As initiator it leaves the role in the handshake to the peer (`actpass`), as responder it begins (`active`) unless the
/// peer wants to. Clones are the same layer, but each is one of its own to a session: channels that are to share a
/// negotiation share an `Arc`.
#[derive(Clone)]
pub struct DtlsLayer {
    settings: Arc<Settings>,
}

/// What a layer was made with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    identity: Identity,
    config: DtlsConfig,
    usage: Usage,
    required: bool,
    shared: rust::Shared,
}

/// What passes through a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Usage {
    /// Packets that others protect with keys out of the handshake.
    Srtp,
    /// Records of ours.
    Data,
}

/// How a [`DtlsLayer`] behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtlsConfig {
    /// Which versions are spoken. Default [`Versions::Any`].
    pub versions: Versions,
    /// How long a handshake may take before its channel fails. Default 40 s.
    pub handshake_timeout: Duration,
    /// The largest datagram of a handshake, in bytes. Default 1,150.
    pub mtu: usize,
    /// Whose implementation it is. Default [`Backend::Rust`].
    pub backend: Backend,
}

/// Implementations of DTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Backend {
    /// dimpl: DTLS 1.2 and 1.3, certificates with ECDSA alone.
    #[default]
    Rust,
    /// OpenSSL: DTLS 1.2, certificates with ECDSA or RSA. It reads the clock by itself.
    #[cfg(feature = "dtls-openssl")]
    Openssl,
}

impl Default for DtlsConfig {
    fn default() -> Self {
        Self {
            versions: Versions::Any,
            handshake_timeout: Duration::from_secs(40),
            mtu: 1_150,
            backend: Backend::default(),
        }
    }
}

/// Versions of DTLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versions {
    /// 1.3, and 1.2 with those who do not know it.
    #[default]
    Any,
    /// 1.2 alone.
    Dtls12,
    /// 1.3 alone.
    Dtls13,
}

impl DtlsLayer {
    /// Keys for SRTP; packets pass beside DTLS.
    pub fn srtp(identity: Identity) -> Self {
        Self::new(identity, Usage::Srtp)
    }

    /// Records with what is sent above.
    pub fn data(identity: Identity) -> Self {
        Self::new(identity, Usage::Data)
    }

    /// Another configuration.
    #[must_use]
    pub fn with_config(self, config: DtlsConfig) -> Self {
        let settings = Settings {
            config,
            shared: rust::Shared::default(),
            ..(*self.settings).clone()
        };
        Self {
            settings: Arc::new(settings),
        }
    }

    /// With a peer that does not offer or answer DTLS, the channel is used without. By default that is a failure.
    #[must_use]
    pub fn optional(self) -> Self {
        let settings = Settings {
            required: false,
            ..(*self.settings).clone()
        };
        Self {
            settings: Arc::new(settings),
        }
    }

    /// The digest of our certificate.
    pub fn fingerprint(&self) -> &session_core::Fingerprint {
        self.settings.identity.fingerprint()
    }

    fn new(identity: Identity, usage: Usage) -> Self {
        let settings = Settings {
            identity,
            config: DtlsConfig::default(),
            usage,
            required: true,
            shared: rust::Shared::default(),
        };
        Self {
            settings: Arc::new(settings),
        }
    }
}

impl ChannelLayer for DtlsLayer {
    /// A channel that fails: without the peer's fingerprint nobody can be recognised.
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        Box::new(channel::DtlsChannel::new(
            inner,
            Arc::clone(&self.settings),
            None,
        ))
    }

    fn negotiate(&self, _: &TransportContext) -> Option<Box<dyn LayerNegotiation>> {
        Some(Box::new(Negotiation::new(Arc::clone(&self.settings))))
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }
}

impl fmt::Debug for DtlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DtlsLayer").field(&self.settings).finish()
    }
}
