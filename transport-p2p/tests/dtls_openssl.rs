//! Our DTLS with OpenSSL's, over real sockets on loopback, both roles. Skips with a line that says so where the program
//! `openssl` is not installed.
#![cfg(feature = "dtls")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test with sockets and a clock names only what it looks for"
)]

use bytes::Bytes;
use session_core::*;
use std::{
    collections::VecDeque,
    fmt::Write as _,
    io::{self, BufRead, BufReader},
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::dtls::{DtlsLayer, Identity, NAMESPACE};

/// What a loaded machine may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// The channel below: a path that is there from the beginning.
#[derive(Clone, Default)]
struct Below(Arc<Mutex<Queues>>);

#[derive(Default)]
struct Queues {
    outputs: VecDeque<ChannelOutput>,
    sent: Vec<Bytes>,
}

impl TransportChannel for Below {
    fn connect(&mut self, _: Instant) {
        let outputs = &mut self.0.lock().unwrap().outputs;
        outputs.push_back(ChannelOutput::Writable(true));
    }
    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }
    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}
    fn handle_datagram(&mut self, datagram: Datagram, _: Instant) {
        let outputs = &mut self.0.lock().unwrap().outputs;
        outputs.push_back(ChannelOutput::Packet(datagram.batch()));
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn send(&mut self, packet: Bytes, _: Instant) -> Result<(), SendError> {
        self.0.lock().unwrap().sent.push(packet);
        Ok(())
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.0.lock().unwrap().outputs.pop_front()
    }
}

/// Certificates in files, for a program; gone with the value.
struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("dtls-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn certificate(&self) -> PathBuf {
        self.0.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.0.join("key.pem")
    }
}

fn openssl(arguments: &[&str], files: &Files) -> io::Result<Child> {
    Command::new("openssl")
        .args(arguments)
        .args(["-cert".as_ref(), files.certificate().as_os_str()])
        .args(["-key".as_ref(), files.key().as_os_str()])
        .args(["-use_srtp", "SRTP_AES128_CM_SHA1_80"])
        .args(["-keymatexport", LABEL, "-keymatexportlen", "60"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
}

fn is_installed() -> bool {
    let found = Command::new("openssl").arg("version").output().is_ok();
    if !found {
        eprintln!("not tested: the program openssl is not installed");
    }
    found
}

/// The keys that the program says it has exported, once it does.
fn exported(program: &mut Child) -> Arc<Mutex<Option<String>>> {
    let found = Arc::new(Mutex::new(None));
    let (lines, keys) = (
        BufReader::new(program.stdout.take().unwrap()),
        Arc::clone(&found),
    );
    std::thread::spawn(move || {
        for line in lines.lines().map_while(Result::ok) {
            if let Some((_, hex)) = line.split_once("Keying material: ") {
                *keys.lock().unwrap() = Some(hex.trim().to_owned());
            }
        }
    });
    found
}

/// Our channel, agreed on with a peer of this certificate.
fn channel(setup: &str, theirs: &Identity) -> (Box<dyn TransportChannel>, Below) {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    let ours = Identity::new(made.cert.der(), &made.signing_key.serialize_der());
    let layer = DtlsLayer::srtp(ours);
    let context = TransportContext {
        role: Role::Responder,
        local: "ours@example.org/a".into(),
        remote: "openssl@example.org/b".into(),
        sid: "sid".into(),
        content: "audio".into(),
        dialect: Dialect::JINGLE,
        seed: [1; 32],
        waker: Waker::noop().clone(),
    };
    let mut negotiation = layer.negotiate(&context).unwrap();
    let digest = theirs.fingerprint().to_string();
    let fingerprint = Element::new(NAMESPACE, "fingerprint")
        .with("hash", "sha-256")
        .with("setup", setup)
        .text(digest.strip_prefix("sha-256 ").unwrap());
    let offer = Element::new("urn:example:transport", "transport").child(fingerprint);
    negotiation.accept_offer(&offer).unwrap();
    let below = Below::default();
    (negotiation.wrap(Box::new(below.clone()), &context), below)
}

/// Drives our side until it has its keys, or has failed.
fn run(
    mut channel: Box<dyn TransportChannel>,
    below: &Below,
    socket: &UdpSocket,
    mut peer: Option<SocketAddr>,
    done: impl Fn(&Secured) -> bool,
) -> Result<Secured, TransportError> {
    socket
        .set_read_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let start = Instant::now();
    let mut buffer = [0; 4_096];
    let mut found = None;
    channel.connect(start);
    while start.elapsed() < PATIENCE {
        while let Some(output) = channel.poll_output() {
            match output {
                ChannelOutput::Secured(secured) => found = Some(secured),
                ChannelOutput::Failed(error) => return Err(error),
                _ => {}
            }
        }
        if let Some(peer) = peer {
            for datagram in below.0.lock().unwrap().sent.drain(..) {
                socket.send_to(&datagram, peer).unwrap();
            }
        }
        if let Some(secured) = found.as_ref().filter(|secured| done(secured)) {
            return Ok(secured.clone());
        }
        // A refused port is one that is not open yet.
        if let Ok((bytes, from)) = socket.recv_from(&mut buffer) {
            peer = Some(from);
            let datagram = Datagram {
                socket: LocalSocket(0),
                source: from,
                payload: Bytes::copy_from_slice(&buffer[..bytes]),
                segment_size: 0,
            };
            channel.handle_datagram(datagram, Instant::now());
        }
        let now = Instant::now();
        if channel.poll_timeout().is_some_and(|due| due <= now) {
            channel.handle_timeout(now);
        }
    }
    panic!("neither keys nor an error in {PATIENCE:?}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02X}");
        text
    })
}

fn write_identity(files: &Files) -> Identity {
    let made = rcgen::generate_simple_self_signed(["openssl.invalid".to_owned()]).unwrap();
    std::fs::write(files.certificate(), made.cert.pem()).unwrap();
    std::fs::write(files.key(), made.signing_key.serialize_pem()).unwrap();
    Identity::new(made.cert.der(), &[])
}

/// Ours has exported what the program says it has.
fn assert_agree(secured: &Secured, theirs: &Mutex<Option<String>>, side: HandshakeSide) {
    let keys = secured.srtp.as_ref().unwrap();
    assert_eq!(keys.profile, SrtpProfile::AES128_CM_HMAC_SHA1_80);
    assert_eq!(Some(hex(keys.material.as_bytes())), *theirs.lock().unwrap());
    assert_eq!((&*secured.protocol, secured.side), ("DTLS 1.2", side));
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

fn end(mut program: Child) {
    let _ = program.kill();
    let _ = program.wait();
}

#[test]
fn we_begin_and_openssl_waits() {
    if !is_installed() {
        return;
    }
    let files = Files::new("server");
    let theirs = write_identity(&files);
    let port = free_port();
    let accept = format!("127.0.0.1:{port}");
    let arguments = ["s_server", "-dtls1_2", "-accept", &accept, "-Verify", "1"];
    let mut program = openssl(&arguments, &files).unwrap();
    let keys = exported(&mut program);
    let (channel, below) = channel("actpass", &theirs);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let peer = accept.parse().unwrap();
    let told = |_: &Secured| keys.lock().unwrap().is_some();
    let secured = run(channel, &below, &socket, Some(peer), told);
    end(program);
    assert_agree(&secured.unwrap(), &keys, HandshakeSide::Client);
}

#[test]
fn openssl_begins_and_we_wait() {
    if !is_installed() {
        return;
    }
    let files = Files::new("client");
    let theirs = write_identity(&files);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connect = socket.local_addr().unwrap().to_string();
    let arguments = ["s_client", "-dtls1_2", "-connect", &connect];
    let mut program = openssl(&arguments, &files).unwrap();
    let keys = exported(&mut program);
    let (channel, below) = channel("active", &theirs);
    let told = |_: &Secured| keys.lock().unwrap().is_some();
    let secured = run(channel, &below, &socket, None, told);
    end(program);
    assert_agree(&secured.unwrap(), &keys, HandshakeSide::Server);
}

#[test]
fn a_peer_with_another_certificate_is_refused() {
    if !is_installed() {
        return;
    }
    let (files, other) = (Files::new("impostor"), Files::new("other"));
    write_identity(&files);
    let expected = write_identity(&other);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connect = socket.local_addr().unwrap().to_string();
    let program = openssl(&["s_client", "-dtls1_2", "-connect", &connect], &files).unwrap();
    let (channel, below) = channel("active", &expected);
    let refused = run(channel, &below, &socket, None, |_| true);
    end(program);
    let what = "the peer's certificate is not the one that signalling named";
    assert_eq!(refused, Err(TransportError::Unacceptable(what)));
}
