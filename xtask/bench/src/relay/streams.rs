//! Streams through a relay's means: SOCKS5 bytestreams against TCP by itself, and in-band bytestreams against the same
//! stanzas, ready-made, through the same server.

use crate::file::{
    bytes, plain, report,
    sides::{Side, Sides},
};
use bytes::Bytes;
use rcgen::CertifiedKey;
use session_core::{Peer, SessionManager};
use session_file::TunnelConfig;
use session_xmpp::{
    client::{Authorities, Client, ClientLink, Options, Server},
    endpoint::{Link, LinkEvent},
};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use tokio::runtime::{Builder, Runtime};
use transport_relay::{
    ibb::{Ibb, IbbConfig},
    s5b::{S5b, S5bConfig},
};

const RUNS: usize = 5;
/// Bytes of a run in stanzas.
const IN_BAND_BYTES: u64 = 8 << 20;
const DOMAIN: &str = "bench.example";

/// A tunnel over a direct connection, against a plain copy over TCP.
pub(crate) fn s5b(name: &str) {
    let bytes = bytes();
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let add = |manager: &mut SessionManager| {
            let s5b = S5b::new(S5bConfig {
                listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                ..S5bConfig::default()
            });
            manager.add_transport(s5b).expect("the first of its kind");
            TunnelConfig::default()
        };
        ours.push(Sides::new(add).run(bytes));
        peer.push(plain::tcp(bytes));
    }
    report(name, "plain-tcp", bytes, ours, peer);
}

/// A tunnel in stanzas through Prosody, whose limit is known to be large; against stanzas of the same content that nobody
/// encodes or reads, as many at a time.
pub(super) fn ibb(name: &str) {
    let config = IbbConfig {
        stanza_max: 262_144,
        ..IbbConfig::default()
    };
    let size = usize::from(config.block_size);
    stanzas(name, &config, (config.window, size));
}

/// The same where nothing is known of the server, so that no more is under way than every server takes.
pub(super) fn ibb_unknown(name: &str) {
    stanzas(name, &IbbConfig::default(), (2, 2_700));
}

fn stanzas(name: &str, config: &IbbConfig, peer_is: (usize, usize)) {
    let Some(server) = Prosody::start() else {
        println!("check {name} skipped: prosody is not installed (Debian: prosody)");
        return;
    };
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(in_band(&server, config));
        peer.push(ready_made(&server, peer_is));
    }
    let (a, b) = (super::median(ours), super::median(peer));
    println!(
        "bench {name} ours={a:.0}KiB/s peer={b:.0}KiB/s ratio={:.2} peer_is=ready-made-stanzas-through-the-same-server",
        a / b
    );
}

fn in_band(server: &Prosody, config: &IbbConfig) -> f64 {
    let add = |manager: &mut SessionManager| {
        let ibb = Ibb::with_config(config.clone());
        manager.add_transport(ibb).expect("the first of its kind");
        TunnelConfig::default()
    };
    let side = || Side::new(|runtime| server.login(runtime), add);
    let run = Sides::of(side(), side()).run(IN_BAND_BYTES);
    IN_BAND_BYTES as f64 / 1024.0 / run.wall.as_secs_f64()
}

/// So many blocks at a time of so many bytes through the server, each answered.
fn ready_made(server: &Prosody, shape: (usize, usize)) -> f64 {
    let runtime = || Builder::new_current_thread().enable_all().build();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = runtime().expect("a runtime");
            let (mut link, address) = server.login(&runtime);
            tell.send(address).expect("awaited");
            runtime.block_on(answer(&mut link));
        });
        let to = told.recv().expect("a login");
        let runtime = runtime().expect("a runtime");
        let (mut link, _) = server.login(&runtime);
        let rate = runtime.block_on(ask(&mut link, &to, shape));
        // The last word ends the other thread.
        let end = format!("<message to='{to}'/>");
        link.send(end.into()).expect("a login");
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(50)).await });
        rate
    })
}

async fn ask(link: &mut ClientLink, to: &Peer, (window, size): (usize, usize)) -> f64 {
    let text = "A".repeat(size.div_ceil(3) * 4);
    let blocks = IN_BAND_BYTES as usize / size;
    let (mut sent, mut answered) = (0, 0);
    let begun = Instant::now();
    while answered < blocks {
        while sent < blocks && sent - answered < window {
            let stanza = format!(
                "<iq type='set' id='b{sent}' to='{to}'><data xmlns='http://jabber.org/protocol/ibb' \
                 seq='{}' sid='ibb-0123456789abcdef0123456789abcdef'>{text}</data></iq>",
                sent % 65_536
            );
            link.send(stanza.into()).expect("a login");
            sent += 1;
        }
        match link.next_event().await {
            Some(LinkEvent::Stanza(stanza)) => {
                answered += usize::from(attribute(&stanza, " type=") == Some("result"));
            }
            Some(LinkEvent::Up(_)) => {}
            other => panic!("after {answered} answers: {other:?}"),
        }
    }
    IN_BAND_BYTES as f64 / 1024.0 / begun.elapsed().as_secs_f64()
}

/// Says yes to every request, until a message comes.
async fn answer(link: &mut ClientLink) {
    while let Some(event) = link.next_event().await {
        let LinkEvent::Stanza(stanza) = event else {
            continue;
        };
        if stanza.starts_with(b"<message") {
            return;
        }
        let id = attribute(&stanza, " id=").expect("a request");
        let from = attribute(&stanza, " from=").expect("a sender");
        let result = format!("<iq type='result' id='{id}' to='{from}'/>");
        link.send(result.into()).expect("a login");
    }
}

/// An attribute of the outermost element: what stands first.
fn attribute<'a>(stanza: &'a Bytes, name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(&stanza[..stanza.len().min(512)]).ok()?;
    let rest = &head[head.find(name)? + name.len()..];
    rest.get(1..)?.split(['\'', '"']).next()
}

/// A server that ends with this, for whoever comes.
struct Prosody {
    child: Child,
    folder: PathBuf,
    port: u16,
    authority: String,
}

impl Prosody {
    fn start() -> Option<Self> {
        // Free again at the end of this line.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|it| it.local_addr());
        let port = address.ok()?.port();
        let folder = std::env::temp_dir().join(format!("bench-prosody.{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed([DOMAIN.to_owned()]).ok()?;
        fs::write(folder.join("server.crt"), cert.pem()).ok()?;
        fs::write(folder.join("server.key"), signing_key.serialize_pem()).ok()?;
        let path = folder.display();
        let configuration = format!(
            "run_as_root = true\ndaemonize = false\npidfile = \"{path}/pid\"\ndata_path = \"{path}/data\"\n\
             interfaces = {{ \"127.0.0.1\" }}\nmodules_enabled = {{ \"saslauth\"; \"tls\"; \"disco\"; \"smacks\" }}\n\
             modules_disabled = {{ \"s2s\"; \"offline\" }}\nc2s_ports = {{ {port} }}\nc2s_direct_tls_ports = {{ }}\n\
             authentication = \"anonymous\"\nnetwork_settings = {{ nagle = false }}\n\
             ssl = {{ certificate = \"{path}/server.crt\"; key = \"{path}/server.key\" }}\n\
             log = {{ {{ levels = {{ min = \"error\" }}, to = \"console\" }} }}\nVirtualHost \"{DOMAIN}\"\n"
        );
        fs::write(folder.join("prosody.cfg.lua"), configuration).ok()?;
        let child = Command::new("prosody")
            .args(["-F", "--config"])
            .arg(folder.join("prosody.cfg.lua"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let this = Self {
            child,
            folder,
            port,
            authority: cert.pem(),
        };
        let until = Instant::now() + Duration::from_secs(20);
        // Where nobody listens yet, a connection may be one to itself.
        let listens = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok();
            stream.is_some_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok())
        };
        while !listens() {
            assert!(Instant::now() < until, "prosody does not start");
            sleep(Duration::from_millis(20));
        }
        Some(this)
    }

    fn login(&self, runtime: &Runtime) -> (ClientLink, Peer) {
        let mut options = Options::anonymous(DOMAIN);
        options.server = Server::At {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            direct_tls: false,
        };
        let authorities = Authorities::from_pem(self.authority.as_bytes());
        let authorities = authorities.expect("a certificate").only();
        options.tls = Some(authorities.expect("a certificate"));
        runtime.block_on(async {
            let (client, link) = Client::start(options);
            let address = client.online().await.expect("a login");
            (link, address)
        })
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
