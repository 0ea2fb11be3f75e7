//! The backend by OpenSSL: DTLS 1.2, for peers whose certificates have RSA keys.
//!
//! It reads the clock for its retransmissions by itself, as OpenSSL does, and is told the time only to look there.

use super::{
    DtlsConfig, Identity, Usage, Versions,
    backend::{DtlsError, Endpoint, Event},
};
use openssl::{
    error::ErrorStack,
    pkey::PKey,
    ssl::{
        ErrorCode, Ssl, SslContext, SslMethod, SslOptions, SslStream, SslVerifyMode, SslVersion,
    },
    x509::X509,
};
use session_core::{HandshakeSide, KeyingMaterial, SrtpKeys, SrtpProfile};
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    time::{Duration, Instant},
};

/// How often it is looked whether OpenSSL has something to send again.
const LOOK: Duration = Duration::from_millis(50);
/// How many datagrams wait in one direction; what is beyond it is lost, as on a network.
const WAITING_MAX: usize = 64;
/// Suites with forward secrecy that authenticate what they encrypt.
const SUITES: &str = "ECDHE+AESGCM:ECDHE+CHACHA20";
const PROFILES: &str = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80";
/// Bytes of a record's header (RFC 6347 §4.1).
const HEADER: usize = 13;
/// Bytes that a sealed record has at least: nonce and tag, or the tag alone (RFC 7905).
const LEAST_GCM: usize = 8 + 16;
const LEAST_CHACHA: usize = 16;
const LABEL: &str = "EXTRACTOR-dtls_srtp";

pub(super) struct OpensslEndpoint {
    stream: SslStream<Wire>,
    connected: bool,
    /// When the handshake has to be over.
    deadline: Instant,
    now: Instant,
    /// Bytes that a sealed record has at least.
    least: usize,
    events: VecDeque<Told>,
}

enum Told {
    Certificate(Vec<u8>),
    Keys(SrtpKeys),
    Connected,
    Data(Vec<u8>),
    Closed,
}

/// What OpenSSL takes for a socket.
#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let datagram = self.incoming.pop_front().ok_or(io::ErrorKind::WouldBlock)?;
        let size = datagram.len().min(buffer.len());
        buffer[..size].copy_from_slice(&datagram[..size]);
        Ok(size)
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        if self.outgoing.len() < WAITING_MAX {
            self.outgoing.push_back(datagram.to_vec());
        }
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl OpensslEndpoint {
    /// # Errors
    /// When the identity or the configuration is of no use.
    pub(super) fn new(
        identity: &Identity,
        config: &DtlsConfig,
        usage: Usage,
        side: HandshakeSide,
        now: Instant,
    ) -> Result<Self, DtlsError> {
        if config.versions == Versions::Dtls13 {
            return Err(DtlsError("OpenSSL has no DTLS 1.3".into()));
        }
        let stream = stream(identity, config, usage, side).map_err(error)?;
        let deadline = now.checked_add(config.handshake_timeout).unwrap_or(now);
        Ok(Self {
            stream,
            connected: false,
            deadline,
            now,
            least: LEAST_GCM,
            events: VecDeque::new(),
        })
    }

    fn drive(&mut self) -> Result<(), DtlsError> {
        if !self.connected {
            match self.stream.do_handshake() {
                Ok(()) => self.established()?,
                Err(cause) if is_pending(cause.code()) => return Ok(()),
                Err(cause) => return Err(error(cause)),
            }
        }
        let mut buffer = [0; 1 << 14];
        loop {
            match self.stream.ssl_read(&mut buffer) {
                Ok(bytes) => self.events.push_back(Told::Data(buffer[..bytes].to_vec())),
                Err(cause) if is_pending(cause.code()) => return Ok(()),
                Err(cause) if cause.code() == ErrorCode::ZERO_RETURN => {
                    self.events.push_back(Told::Closed);
                    return Ok(());
                }
                Err(cause) => return Err(error(cause)),
            }
        }
    }

    fn established(&mut self) -> Result<(), DtlsError> {
        self.connected = true;
        let ssl = self.stream.ssl();
        let cipher = ssl.current_cipher().map_or("", |cipher| cipher.name());
        if cipher.contains("CHACHA20") {
            self.least = LEAST_CHACHA;
        }
        if let Some(certificate) = ssl.peer_certificate() {
            let certificate = certificate.to_der().map_err(error)?;
            self.events.push_back(Told::Certificate(certificate));
        }
        let profile = ssl.selected_srtp_profile().map(|profile| profile.id());
        let profile = profile.and_then(|id| u16::try_from(id.as_raw()).ok());
        if let Some((profile, bytes)) = profile.and_then(sized) {
            let mut material = vec![0; bytes];
            ssl.export_keying_material(&mut material, LABEL, None)
                .map_err(error)?;
            let material = KeyingMaterial::new(material);
            let keys = SrtpKeys { profile, material };
            self.events.push_back(Told::Keys(keys));
        }
        self.events.push_back(Told::Connected);
        Ok(())
    }
}

impl Endpoint for OpensslEndpoint {
    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        self.now = now;
        if self.connected {
            return Ok(());
        }
        if now >= self.deadline {
            return Err(DtlsError("the handshake took too long".into()));
        }
        self.drive()
    }

    fn handle_datagram(&mut self, datagram: &[u8]) -> Result<(), DtlsError> {
        if has_short_record(datagram, self.least) {
            // OpenSSL would break off, and whoever can forge an address can send it.
            return Ok(());
        }
        let incoming = &mut self.stream.get_mut().incoming;
        if incoming.len() < WAITING_MAX {
            incoming.push_back(datagram.to_vec());
        }
        self.drive()
    }

    fn send(&mut self, data: &[u8]) -> Result<(), DtlsError> {
        match self.stream.ssl_write(data) {
            Ok(_) => Ok(()),
            // It is a datagram, which may be lost.
            Err(cause) if is_pending(cause.code()) => Ok(()),
            Err(cause) => Err(error(cause)),
        }
    }

    fn close(&mut self) {
        // Who is gone already needs not be told.
        let _ = self.stream.shutdown();
    }

    fn poll(&mut self, buffer: &mut [u8]) -> Event {
        let outgoing = &mut self.stream.get_mut().outgoing;
        if let Some(datagram) = outgoing.front() {
            let size = datagram.len();
            if size > buffer.len() {
                return Event::TooSmall(size);
            }
            buffer[..size].copy_from_slice(datagram);
            outgoing.pop_front();
            return Event::Datagram(size);
        }
        if let Some(Told::Certificate(bytes) | Told::Data(bytes)) = self.events.front()
            && bytes.len() > buffer.len()
        {
            return Event::TooSmall(bytes.len());
        }
        let mut fill = |bytes: &[u8]| {
            buffer[..bytes.len()].copy_from_slice(bytes);
            bytes.len()
        };
        match self.events.pop_front() {
            Some(Told::Certificate(certificate)) => Event::Certificate(fill(&certificate)),
            Some(Told::Data(data)) => Event::Data(fill(&data)),
            Some(Told::Keys(keys)) => Event::Keys(keys),
            Some(Told::Connected) => Event::Connected,
            Some(Told::Closed) => Event::Closed,
            None => {
                let look = self.now.checked_add(LOOK).filter(|_| !self.connected);
                Event::Idle(look)
            }
        }
    }

    fn version(&self) -> &'static str {
        "DTLS 1.2"
    }
}

fn stream(
    identity: &Identity,
    config: &DtlsConfig,
    usage: Usage,
    side: HandshakeSide,
) -> Result<SslStream<Wire>, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::dtls())?;
    context.set_min_proto_version(Some(SslVersion::DTLS1_2))?;
    context.set_cipher_list(SUITES)?;
    context.set_options(SslOptions::NO_QUERY_MTU);
    let certificate = X509::from_der(identity.certificate())?;
    context.set_certificate(&certificate)?;
    let key = PKey::private_key_from_der(identity.private_key())?;
    context.set_private_key(&key)?;
    // Nobody has signed these certificates: their digests are compared.
    let mode = SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT;
    context.set_verify_callback(mode, |_, _| true);
    if usage == Usage::Srtp {
        context.set_tlsext_use_srtp(PROFILES)?;
    }
    let mut ssl = Ssl::new(&context.build())?;
    ssl.set_mtu(u32::try_from(config.mtu).unwrap_or(u32::MAX))?;
    match side {
        HandshakeSide::Client => ssl.set_connect_state(),
        HandshakeSide::Server => ssl.set_accept_state(),
    }
    SslStream::new(ssl, Wire::default())
}

/// Whether a datagram has a sealed record with less than `least` bytes, which cannot be the peer's.
fn has_short_record(mut datagram: &[u8], least: usize) -> bool {
    while let Some(&[_, _, _, epoch0, epoch1, _, _, _, _, _, _, length0, length1]) =
        datagram.first_chunk::<HEADER>()
    {
        let length = usize::from(u16::from_be_bytes([length0, length1]));
        if [epoch0, epoch1] != [0; 2] && length < least {
            return true;
        }
        datagram = datagram.get(HEADER + length..).unwrap_or_default();
    }
    false
}

/// The profile with this number, and how much is exported for it.
fn sized(number: u16) -> Option<(SrtpProfile, usize)> {
    let profile = SrtpProfile(number);
    let bytes = match profile {
        SrtpProfile::AES128_CM_HMAC_SHA1_80 => 2 * (16 + 14),
        SrtpProfile::AEAD_AES_128_GCM => 2 * (16 + 12),
        SrtpProfile::AEAD_AES_256_GCM => 2 * (32 + 12),
        _ => return None,
    };
    Some((profile, bytes))
}

fn is_pending(code: ErrorCode) -> bool {
    code == ErrorCode::WANT_READ || code == ErrorCode::WANT_WRITE
}

fn error(error: impl std::fmt::Display) -> DtlsError {
    DtlsError(error.to_string().into())
}
