//! To the server: names, addresses, connections and TLS.

use super::{LoginError, Options, Secured, Server};
use crate::endpoint::{default_tls_config, rustls};
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How long one address may have the field to itself before the next is tried beside it (RFC 8305 §5).
const HEAD_START: Duration = Duration::from_millis(250);

/// The port of servers (RFC 6120 §14.7).
const PORT: u16 = 5222;

/// What a direct TLS connection is for (XEP-0368 §2).
const ALPN: &[u8] = b"xmpp-client";

/// How long one server may take at most where others can be tried.
const TARGET_MAX: Duration = Duration::from_secs(8);

/// The most addresses of one server that are tried.
const ADDRESSES_MAX: usize = 16;

/// A connection that stands.
pub(super) enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    #[cfg(feature = "websocket")]
    WebSocket(tokio::io::DuplexStream),
}

/// A connection to the server, and what is known of its TLS.
pub(super) struct Connected {
    pub(super) connection: Connection,
    pub(super) secured: Option<Secured>,
}

/// A place where a server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) direct_tls: bool,
}

/// Why a text gives no authorities.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// It is not PEM, or holds no certificate.
    #[error("no certificate in PEM: {0}")]
    Pem(Arc<str>),
    /// A certificate that cannot be an authority's.
    #[error("not the certificate of an authority: {0}")]
    Certificate(Arc<str>),
}

/// Whose word for a server's certificate is taken.
#[derive(Clone, Debug, Default)]
pub struct Authorities(Vec<CertificateDer<'static>>);

impl Authorities {
    /// The certificates in a text of PEM: of a private authority, say.
    ///
    /// # Errors
    /// [`AuthorityError::Pem`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, AuthorityError> {
        let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates =
            certificates.map_err(|error| AuthorityError::Pem(error.to_string().into()))?;
        if certificates.is_empty() {
            return Err(AuthorityError::Pem("there is none".into()));
        }
        Ok(Self(certificates))
    }

    /// A TLS configuration that trusts these and nobody else.
    ///
    /// # Errors
    /// [`AuthorityError::Certificate`].
    pub fn only(self) -> Result<Arc<ClientConfig>, AuthorityError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.0 {
            let added = roots.add(certificate);
            added.map_err(|error| AuthorityError::Certificate(error.to_string().into()))?;
        }
        Ok(default_tls_config(roots).into())
    }
}

/// Finds the server and connects to it.
///
/// # Errors
/// [`LoginError::UnknownHost`], [`LoginError::Unreachable`], and those of TLS.
pub(super) async fn connect(options: &Options) -> Result<Connected, LoginError> {
    let ascii = idna::domain_to_ascii(&options.login.domain);
    let ascii = ascii.map_err(|error| unknown(options, error.to_string()))?;
    match &options.server {
        Server::At {
            host,
            port,
            direct_tls,
        } => {
            let target = Target {
                host: host.clone(),
                port: *port,
                direct_tls: *direct_tls,
            };
            // Nothing follows it: it has all the time.
            reach(&target, options).await
        }
        #[cfg(feature = "websocket")]
        Server::WebSocket { url } => super::websocket::connect(url, options).await,
        Server::Discover => {
            let found = match discover(&ascii).await {
                Ok(targets) => try_all(targets, options).await,
                Err(error) => Err(error),
            };
            found_by_web(found, options).await
        }
    }
}

/// Where no server could be reached: by the WebSocket that the domain's web server names (XEP-0156).
#[cfg(feature = "websocket")]
async fn found_by_web(
    found: Result<Connected, LoginError>,
    options: &Options,
) -> Result<Connected, LoginError> {
    let nobody = matches!(
        found,
        Err(LoginError::UnknownHost { .. } | LoginError::Unreachable(_))
    );
    if !nobody {
        return found;
    }
    let Some(url) = super::hostmeta::websocket(options, super::hostmeta::HTTPS).await else {
        return found;
    };
    super::websocket::connect(&url, options).await
}

#[cfg(not(feature = "websocket"))]
async fn found_by_web(
    found: Result<Connected, LoginError>,
    _: &Options,
) -> Result<Connected, LoginError> {
    std::future::ready(found).await
}

/// Connects to the first of these that can be reached. Each has a share of the time of the login, so that one which does not
/// answer leaves enough to the others and to the web (RFC 6120 §3.2.1).
async fn try_all(targets: Vec<Target>, options: &Options) -> Result<Connected, LoginError> {
    // One share for the search that found them, and one for the web.
    let shares = u32::try_from(targets.len()).map_or(u32::MAX, |count| count.saturating_add(2));
    let share = (options.login.login_timeout / shares).min(TARGET_MAX);
    let mut last = unknown(options, "it has no server".to_owned());
    for target in targets {
        let reached = timeout(share, reach(&target, options)).await;
        last = match reached {
            Ok(Err(error @ (LoginError::UnknownHost { .. } | LoginError::Unreachable(_)))) => error,
            Ok(reached) => return reached,
            Err(_) => {
                let why = format!("{} port {} does not answer", target.host, target.port);
                LoginError::Unreachable(why.into())
            }
        };
    }
    Err(last)
}

/// Connects to one, with TLS where that begins at once.
async fn reach(target: &Target, options: &Options) -> Result<Connected, LoginError> {
    let addresses = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let addresses =
        addresses.map_err(|error| unknown(options, format!("{}: {error}", target.host)))?;
    let stream = race(&interleave(addresses.collect())).await;
    let stream = stream.map_err(|error| {
        let why = format!("{} port {}: {error}", target.host, target.port);
        LoginError::Unreachable(why.into())
    })?;
    // Signalling is small messages that wait for one another.
    let _ = stream.set_nodelay(true);
    if !target.direct_tls {
        return Ok(Connected {
            connection: Connection::Plain(stream),
            secured: None,
        });
    }
    let (tls, secured) = secure(stream, options, true).await?;
    Ok(Connected {
        connection: Connection::Tls(Box::new(tls)),
        secured: Some(secured),
    })
}

fn unknown(options: &Options, why: String) -> LoginError {
    LoginError::UnknownHost {
        domain: options.login.domain.as_str().into(),
        why: why.into(),
    }
}

#[cfg(feature = "srv")]
async fn discover(domain: &str) -> Result<Vec<Target>, LoginError> {
    super::srv::targets(domain).await
}

#[cfg(not(feature = "srv"))]
async fn discover(domain: &str) -> Result<Vec<Target>, LoginError> {
    std::future::ready(Ok(vec![fallback(domain)])).await
}

/// Where a server is without any record of it (RFC 6120 §3.2.2).
pub(super) fn fallback(domain: &str) -> Target {
    Target {
        host: domain.to_owned(),
        port: PORT,
        direct_tls: false,
    }
}

/// The first connection to a host that stands.
///
/// # Errors
/// [`LoginError::UnknownHost`], [`LoginError::Unreachable`].
#[cfg(feature = "websocket")]
pub(super) async fn race_to(host: &str, port: u16, domain: &str) -> Result<TcpStream, LoginError> {
    let addresses = tokio::net::lookup_host((host, port)).await;
    let addresses = addresses.map_err(|error| LoginError::UnknownHost {
        domain: domain.into(),
        why: format!("{host}: {error}").into(),
    })?;
    let stream = race(&interleave(addresses.collect())).await;
    let stream = stream
        .map_err(|error| LoginError::Unreachable(format!("{host} port {port}: {error}").into()))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// TLS on a connection to a web server, with a certificate for this host.
///
/// # Errors
/// As of [`secure`].
#[cfg(feature = "websocket")]
pub(super) async fn tls_for(
    stream: TcpStream,
    options: &Options,
    host: &str,
) -> Result<(TlsStream<TcpStream>, Secured), LoginError> {
    handshake(stream, options, host, Vec::new()).await
}

/// TLS on a connection, with a certificate for the account's domain; what a login can be bound to.
///
/// # Errors
/// [`LoginError::UntrustedCertificate`], [`LoginError::Tls`].
pub(super) async fn secure(
    stream: TcpStream,
    options: &Options,
    direct: bool,
) -> Result<(TlsStream<TcpStream>, Secured), LoginError> {
    let alpn = if direct {
        vec![ALPN.to_vec()]
    } else {
        Vec::new()
    };
    handshake(stream, options, &options.login.domain, alpn).await
}

async fn handshake(
    stream: TcpStream,
    options: &Options,
    host: &str,
    alpn: Vec<Vec<u8>>,
) -> Result<(TlsStream<TcpStream>, Secured), LoginError> {
    let ascii = idna::domain_to_ascii(host).unwrap_or_else(|_| host.to_owned());
    let name = ServerName::try_from(ascii)
        .map_err(|error| LoginError::Tls(format!("{host}: {error}").into()))?;
    let mut config = options.tls.clone().unwrap_or_else(|| {
        let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
        default_tls_config(RootCertStore { roots }).into()
    });
    if config.alpn_protocols != alpn {
        Arc::make_mut(&mut config).alpn_protocols = alpn;
    }
    let tls = TlsConnector::from(config).connect(name, stream).await;
    let tls = tls.map_err(|error| tls_error(&error))?;
    let secured = bindings(&tls);
    Ok((tls, secured))
}

/// What a login can be bound to.
fn bindings(tls: &TlsStream<TcpStream>) -> Secured {
    let session = tls.get_ref().1;
    let mut secured = Secured::default();
    if session.protocol_version() == Some(ProtocolVersion::TLSv1_3) {
        let exported =
            session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
        secured.exporter = exported.ok().map(|exported| exported.to_vec());
    }
    secured
}

fn tls_error(error: &io::Error) -> LoginError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => {
            LoginError::UntrustedCertificate(why.to_string().into())
        }
        Some(why) => LoginError::Tls(why.to_string().into()),
        None => LoginError::Tls(error.to_string().into()),
    }
}

/// The first connection that stands. Each address has a [head start](HEAD_START) on the next, or less if it fails sooner
/// (RFC 8305 §5).
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut waiting = addresses.iter().copied();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            attempts.spawn(TcpStream::connect(address));
        }
        loop {
            let joined = if is_last {
                attempts.join_next().await
            } else {
                match timeout(HEAD_START, attempts.join_next()).await {
                    Ok(joined) => joined,
                    Err(_) => break,
                }
            };
            match joined {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None if is_last => return Err(last),
                None => break,
            }
            if !is_last {
                break;
            }
        }
    }
}

/// Both families in turns, beginning with that of the first address (RFC 8305 §4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first = addresses.first().map(SocketAddr::is_ipv4);
    let (mut ours, mut others): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| Some(address.is_ipv4()) == first);
    let mut out = Vec::new();
    ours.reverse();
    others.reverse();
    while out.len() < ADDRESSES_MAX && !(ours.is_empty() && others.is_empty()) {
        out.extend(ours.pop());
        out.extend(others.pop());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn families_take_turns() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let given = ["[::1]:1", "[::2]:1", "1.1.1.1:1", "[::3]:1", "1.1.1.2:1"];
        let turns = interleave(given.map(parse).to_vec());
        let wanted = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"];
        assert_eq!(turns, wanted.map(parse));
        assert!(interleave(Vec::new()).is_empty());
        let many = vec![parse("1.1.1.1:1"); 100];
        assert_eq!(interleave(many).len(), ADDRESSES_MAX);
    }

    #[tokio::test]
    async fn an_address_that_fails_costs_no_time() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = gone.local_addr().unwrap();
        drop(gone);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let stream = race(&[dead, dead, live]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
        let refused = race(&[dead, dead]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn an_address_that_is_silent_is_overtaken() {
        // A listener with a full backlog does not answer; TEST-NET-1 may be unroutable, which fails at once. Either way
        // the second address wins.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let silent = "192.0.2.1:5222".parse().unwrap();
        let stream = timeout(Duration::from_secs(5), race(&[silent, live])).await;
        assert_eq!(stream.unwrap().unwrap().peer_addr().unwrap(), live);
    }

    /// A login that lasts so long at most.
    fn options(login_timeout: Duration) -> Options {
        let mut options = Options::anonymous("a.example");
        options.login.login_timeout = login_timeout;
        options
    }

    fn target(address: SocketAddr, direct_tls: bool) -> Target {
        Target {
            host: address.ip().to_string(),
            port: address.port(),
            direct_tls,
        }
    }

    #[tokio::test]
    async fn a_server_that_is_silent_leaves_time_to_the_next() {
        let [silent, listener] = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let live = listener.local_addr().unwrap();
        // It is there, and never says a word of TLS.
        let silent = target(silent.local_addr().unwrap(), true);
        let time = Duration::from_secs(4);
        let options = options(time);
        let found = try_all(vec![silent, target(live, false)], &options);
        let found = timeout(time, found).await.expect("within the login's time");
        let Ok(Connection::Plain(stream)) = found.map(|found| found.connection) else {
            panic!("the live one is there");
        };
        assert_eq!(stream.peer_addr().unwrap(), live);
    }

    #[tokio::test(start_paused = true)]
    async fn servers_that_are_silent_leave_time_to_the_web() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = target(listener.local_addr().unwrap(), true);
        for (count, seconds) in [(1, 8), (4, 20), (30, 28)] {
            let start = tokio::time::Instant::now();
            let options = options(Duration::from_secs(30));
            let found = timeout(
                options.login.login_timeout,
                try_all(vec![silent.clone(); count], &options),
            );
            let why = found.await.expect("within the login's time").err();
            assert!(matches!(why, Some(LoginError::Unreachable(_))), "{why:?}");
            assert_eq!(start.elapsed().as_secs(), seconds, "{count}");
        }
    }

    #[test]
    fn authorities_are_certificates() {
        assert!(matches!(
            Authorities::from_pem(b""),
            Err(AuthorityError::Pem(_))
        ));
        let pem = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        assert!(matches!(
            Authorities::from_pem(pem),
            Err(AuthorityError::Pem(_))
        ));
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let odd = Authorities::from_pem(pem).unwrap();
        assert!(matches!(odd.only(), Err(AuthorityError::Certificate(_))));
        let certified = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
        let authorities = Authorities::from_pem(certified.cert.pem().as_bytes()).unwrap();
        assert!(authorities.only().is_ok());
    }
}
