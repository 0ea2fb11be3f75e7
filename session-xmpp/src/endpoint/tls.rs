//! Connections, with TLS where it is wanted.

use super::tcp::{self, socket_error};
use session_core::{SocketError, StreamTarget, TlsTarget};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring::default_provider, pki_types::ServerName},
};

/// A connection that stands.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whom to trust. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Trust(Arc<OnceLock<Arc<ClientConfig>>>);

impl Trust {
    /// Whom this configuration trusts; without one, the roots of Mozilla's programme.
    pub(super) fn new(config: Option<Arc<ClientConfig>>) -> Self {
        Self(Arc::new(config.map_or_else(OnceLock::new, OnceLock::from)))
    }

    fn config(&self) -> Arc<ClientConfig> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        let config = || default_config(RootCertStore { roots }).into();
        self.0.get_or_init(config).clone()
    }
}

/// Connects; the connection and our own address.
///
/// # Errors
/// What was tried and why it failed, a certificate that does not fit included.
pub(super) async fn connect(
    target: &StreamTarget,
    trust: &Trust,
) -> Result<(Connection, SocketAddr), SocketError> {
    let failed = |error| socket_error("connect", &error);
    let stream = match target.from {
        None => TcpStream::connect(target.address).await,
        Some(from) => tcp::connect_from(from, target.address).await,
    };
    let stream = stream.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let local = stream.local_addr().map_err(failed)?;
    let connection = match &target.tls {
        None => Connection::Plain(stream),
        Some(tls) => Connection::Tls(Box::new(handshake(stream, tls, trust).await?)),
    };
    Ok((connection, local))
}

async fn handshake(
    stream: TcpStream,
    target: &TlsTarget,
    trust: &Trust,
) -> Result<TlsStream<TcpStream>, SocketError> {
    let name =
        ServerName::try_from(target.server_name.to_string()).map_err(|error| SocketError {
            what: "the server's name",
            why: error.to_string().into(),
        })?;
    let mut config = trust.config();
    if !target.alpn.is_empty() {
        let alpn = target.alpn.iter().map(|name| name.as_bytes().to_vec());
        Arc::make_mut(&mut config).alpn_protocols = alpn.collect();
    }
    let connecting = TlsConnector::from(config).connect(name, stream).await;
    connecting.map_err(|error| socket_error("TLS", &error))
}

/// These roots, TLS 1.2 and 1.3.
pub(crate) fn default_config(roots: RootCertStore) -> ClientConfig {
    ClientConfig::builder_with_provider(default_provider().into())
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of both versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests;
