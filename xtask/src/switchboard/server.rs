//! What all connections share, and the door.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use session_core::Element;
use session_xmpp::endpoint::rustls;
use sha1::Sha1;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::auth::Account;
use super::connection;
use super::router::Router;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 256;

/// How long credentials for a relay last.
const CREDENTIALS: Duration = Duration::from_secs(3_600);

/// What a server is to be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    pub(crate) domain: String,
    /// Names and passwords.
    pub(crate) accounts: BTreeMap<String, String>,
    pub(crate) anonymous: bool,
    pub(crate) relays: Vec<Relay>,
}

/// A STUN server, or a TURN server with the secret that it shares with us.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) secret: Option<String>,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) domain: String,
    pub(super) accounts: BTreeMap<String, Account>,
    pub(super) anonymous: bool,
    pub(super) router: Router,
    pub(super) tls: TlsAcceptor,
    relays: Vec<Relay>,
}

/// See [`super`].
pub(crate) struct Server {
    shared: Arc<Shared>,
    listener: TcpListener,
    authority: String,
}

impl Server {
    /// Opens the door, and makes a certificate.
    pub(crate) async fn bind(address: SocketAddr, config: Config) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (tls, authority) = certify(&config.domain).map_err(io::Error::other)?;
        let accounts = config.accounts.into_iter();
        let accounts = accounts.map(|(name, password)| (name, Account::new(&password)));
        let shared = Shared {
            domain: config.domain,
            accounts: accounts.collect(),
            anonymous: config.anonymous,
            router: Router::default(),
            tls,
            relays: config.relays,
        };
        Ok(Self {
            shared: Arc::new(shared),
            listener,
            authority,
        })
    }

    pub(crate) fn address(&self) -> String {
        let address = self.listener.local_addr();
        address.map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    #[cfg(test)]
    pub(super) fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The certificate of its authority, in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(super) fn accounts(&self) -> Vec<String> {
        let Shared {
            accounts, domain, ..
        } = &*self.shared;
        let names = accounts.keys().map(|name| format!("{name}@{domain}"));
        let anybody = self.shared.anonymous.then(|| "anybody".to_owned());
        names.chain(anybody).collect()
    }

    /// Lets in whoever comes.
    pub(crate) async fn serve(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = self.listener.accept().await else {
                // No more files, say: that may pass.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let shared = self.shared.clone();
            tokio::spawn(async move {
                connection::serve(shared, stream).await;
                drop(place);
            });
        }
    }
}

impl Shared {
    /// The relays that it tells of, with credentials for one user (XEP-0215; draft-uberti-behave-turn-rest).
    pub(super) fn relays(&self, user: &str) -> Element {
        const EXTDISCO: &str = "urn:xmpp:extdisco:2";
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let end = now
            .unwrap_or_default()
            .saturating_add(CREDENTIALS)
            .as_secs();
        let services = self.relays.iter().map(|relay| {
            let service = Element::new(EXTDISCO, "service")
                .with("host", &relay.host)
                .with("port", relay.port)
                .with("transport", "udp");
            let Some(secret) = &relay.secret else {
                return service.with("type", "stun");
            };
            let name = format!("{end}:{user}");
            // HMAC takes keys of any length.
            let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).map(|mut mac| {
                mac.update(name.as_bytes());
                BASE64.encode(mac.finalize().into_bytes())
            });
            service
                .with("type", "turn")
                .with("username", name)
                .with("password", mac.unwrap_or_default())
                .with("restricted", "true")
        });
        Element::new(EXTDISCO, "services").children_from(services)
    }
}

/// A certificate for this domain, and the authority that made it.
fn certify(
    domain: &str,
) -> Result<(TlsAcceptor, String), Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "a switchboard's own authority");
    let authority_key = KeyPair::generate()?;
    let authority = params.self_signed(&authority_key)?;
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new([domain.to_owned()])?.signed_by(&key, &issuer)?;
    let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der())?;
    let chain = vec![certificate.der().clone(), authority.der().clone()];
    let provider = rustls::crypto::ring::default_provider();
    let config = rustls::ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok((TlsAcceptor::from(Arc::new(config)), authority.pem()))
}
