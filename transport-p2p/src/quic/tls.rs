//! TLS 1.3 for two peers who know each other's fingerprints, and nobody else.

use super::identity::{Fingerprint, Identity};
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        ring::{self, cipher_suite},
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::SingleCertAndKey,
    time_provider::TimeProvider,
    version::TLS13,
};
use std::sync::Arc;

/// What is spoken inside, so that nobody mistakes it for something else (RFC 7301).
pub(super) const ALPN: &[u8] = b"session-stream/1";

/// Every certificate is judged by its fingerprint alone, and TLS wants a name (RFC 2606 §2).
pub(super) const SERVER_NAME: &str = "peer.invalid";

/// The side that calls. `None` only if the cryptography lacks what QUIC requires.
pub(super) fn client(identity: &Identity, peer: Fingerprint) -> Option<Arc<QuicClientConfig>> {
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(NoTime));
    let mut config = builder
        .with_protocol_versions(&[&TLS13])
        .ok()?
        .dangerous()
        .with_custom_certificate_verifier(Pinned::new(peer))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).ok().map(Arc::new)
}

/// The side that is called. `None` as in [`client`].
pub(super) fn server(identity: &Identity, peer: Fingerprint) -> Option<Arc<QuicServerConfig>> {
    let builder = ServerConfig::builder_with_details(provider(), Arc::new(NoTime));
    let mut config = builder
        .with_protocol_versions(&[&TLS13])
        .ok()?
        .with_client_cert_verifier(Pinned::new(peer))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).ok().map(Arc::new)
}

/// AES with 128 bits first: QUIC needs it anyway, and it is the fastest where the processor knows AES.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        ..ring::default_provider()
    })
}

/// A fingerprint does not expire.
#[derive(Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::ZERO))
    }
}

/// Takes the one certificate that was told of in signalling, whatever it says, and its key's signature.
#[derive(Debug)]
struct Pinned {
    peer: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn new(peer: Fingerprint) -> Arc<Self> {
        Arc::new(Self {
            peer,
            algorithms: ring::default_provider().signature_verification_algorithms,
        })
    }

    fn judge(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        if Fingerprint::of(certificate) == self.peer {
            Ok(())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }
}

/// What both sides ask of a verifier in the same words: whether a signature is the certificate's.
macro_rules! judges_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("QUIC has no TLS 1.2".into()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signature, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.judge(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    judges_signatures!();
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    judges_signatures!();
}
