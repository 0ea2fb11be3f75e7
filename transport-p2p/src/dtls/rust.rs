//! The backend in Rust alone: dimpl.

use super::{
    DtlsConfig, Identity, Versions,
    backend::{DtlsError, Endpoint, Event},
    ciphers,
};
use dimpl::{Config, Dtls, DtlsCertificate, Output, ProtocolVersion, UnexpectedMessageError};
use session_core::{HandshakeSide, KeyingMaterial, SrtpKeys, SrtpProfile};
use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// What is due later than this is never due: dimpl always names an instant.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a flight of the handshake is sent again. The whole has a timeout of its own.
const RETRIES: usize = 6;

/// What all endpoints of a layer share. Made when the first is: dimpl tries every key exchange then, which takes longer than a
/// handshake.
#[derive(Clone, Debug, Default)]
pub(super) struct Shared(OnceLock<Arc<Config>>);

impl Shared {
    fn settings(&self, config: &DtlsConfig) -> Result<Arc<Config>, DtlsError> {
        if let Some(settings) = self.0.get() {
            return Ok(Arc::clone(settings));
        }
        let settings = Config::builder()
            .with_crypto_provider(ciphers::provider())
            .mtu(config.mtu)
            .handshake_timeout(config.handshake_timeout)
            // Whoever speaks to us has passed the checks of the path: a cookie would prove no more, and cost a round trip.
            .use_server_cookie(false)
            .flight_retries(RETRIES)
            .build()
            .map_err(error)?;
        Ok(Arc::clone(self.0.get_or_init(|| Arc::new(settings))))
    }
}

pub(super) struct RustEndpoint {
    dtls: Dtls,
    now: Instant,
}

impl RustEndpoint {
    /// # Errors
    /// When the configuration is of no use.
    pub(super) fn new(
        shared: &Shared,
        identity: &Identity,
        config: &DtlsConfig,
        side: HandshakeSide,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        let settings = shared.settings(config)?;
        let certificate = DtlsCertificate {
            certificate: identity.certificate().to_vec(),
            private_key: identity.private_key().to_vec(),
        };
        let mut dtls = match config.versions {
            Versions::Any => Dtls::new_auto(settings, certificate, now),
            Versions::Dtls12 => Dtls::new_12(settings, certificate, now),
            Versions::Dtls13 => Dtls::new_13(settings, certificate, now),
        };
        dtls.set_active(side == HandshakeSide::Client);
        Ok(Self { dtls, now })
    }
}

impl Endpoint for RustEndpoint {
    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        self.now = now;
        self.dtls.handle_timeout(now).map_err(error)
    }

    fn handle_datagram(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        match self.dtls.handle_packet(datagram) {
            // Not an answer to our greeting: anybody can have sent it, and nothing has changed.
            Err(dimpl::Error::UnexpectedMessage(
                UnexpectedMessageError::UnrecognizedAutoServerResponse,
            )) => Ok(()),
            result => result.map_err(error),
        }
    }

    fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        self.dtls
            .send_application_data(data)
            .map(|_| ())
            .map_err(error)
    }

    fn close(&mut self) {
        // Who is gone already needs not be told.
        let _ = self.dtls.close();
    }

    fn poll(&mut self, buffer: &mut [u8]) -> Event {
        loop {
            return match self.dtls.poll_output(buffer) {
                Output::Packet(datagram) => Event::Datagram(datagram.len()),
                Output::PeerCert(certificate) => Event::Certificate(certificate.len()),
                Output::Connected => Event::Connected,
                Output::KeyingMaterial(material, profile) => match number(profile) {
                    Some(profile) => Event::Keys(SrtpKeys {
                        profile,
                        material: KeyingMaterial::new(material.to_vec()),
                    }),
                    None => continue,
                },
                Output::ApplicationData(data) => Event::Data(data.len()),
                Output::CloseNotify => Event::Closed,
                Output::BufferTooSmall { needed } => Event::TooSmall(needed),
                Output::Timeout(at) => {
                    let soon = at.saturating_duration_since(self.now) < NEVER;
                    Event::Idle(soon.then_some(at))
                }
                _ => continue,
            };
        }
    }

    fn version(&self) -> &'static str {
        match self.dtls.protocol_version() {
            Some(ProtocolVersion::DTLS1_2) => "DTLS 1.2",
            Some(ProtocolVersion::DTLS1_3) => "DTLS 1.3",
            _ => "DTLS",
        }
    }
}

fn number(profile: dimpl::SrtpProfile) -> Option<SrtpProfile> {
    Some(match profile {
        dimpl::SrtpProfile::AES128_CM_SHA1_80 => SrtpProfile::AES128_CM_HMAC_SHA1_80,
        dimpl::SrtpProfile::AEAD_AES_128_GCM => SrtpProfile::AEAD_AES_128_GCM,
        dimpl::SrtpProfile::AEAD_AES_256_GCM => SrtpProfile::AEAD_AES_256_GCM,
        _ => return None,
    })
}

fn error(error: dimpl::Error) -> DtlsError {
    DtlsError(error.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtls::DtlsLayer;

    #[test]
    fn what_is_shared_is_made_once_and_anew_for_another_configuration() {
        let made = |layer: &DtlsLayer| {
            let settings = &layer.settings;
            settings.shared.settings(&settings.config).unwrap()
        };
        let layer = DtlsLayer::srtp(Identity::new(b"", b""));
        let first = made(&layer);
        assert!(Arc::ptr_eq(&first, &made(&layer)));
        assert!(Arc::ptr_eq(&first, &made(&layer.clone().optional())));
        let smaller = DtlsConfig {
            mtu: first.mtu() - 100,
            ..DtlsConfig::default()
        };
        let other = made(&layer.with_config(smaller));
        assert_eq!(other.mtu(), first.mtu() - 100);
    }
}
