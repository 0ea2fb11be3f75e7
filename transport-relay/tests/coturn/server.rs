//! A real coturn with a configuration of its own, and nothing outside of a folder of its own.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// The user of [`Coturn::start`] without secret.
pub const USER: (&str, &str) = ("alice", "sesame");
/// The secret of [`Login::Secret`].
pub const SECRET: &str = "north";
/// The name in the server's certificate.
pub const NAME: &str = "turn.example.org";

/// How clients log in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Login {
    LongTerm,
    Secret,
}

/// A server, which ends with this.
pub struct Coturn {
    folder: PathBuf,
    child: Child,
    /// UDP and TCP.
    pub address: SocketAddr,
    pub tls: SocketAddr,
    /// The certificate that it shows, and that nobody else trusts.
    pub certificate: Vec<u8>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Coturn {
    /// Starts one on loopback; `None`, with a line that says so, when coturn is not installed.
    pub fn start(login: Login, extra: &str) -> Option<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), login, extra)
    }

    /// The same at another address of this host.
    pub fn start_at(ip: IpAddr, login: Login, extra: &str) -> Option<Self> {
        if Command::new("turnserver")
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_err()
        {
            eprintln!("SKIPPED: turnserver is not installed (Debian: apt-get install coturn)");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("coturn.{}.{count}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (address, tls) = (free_port(ip), free_port(ip));
        let certificate = certificate(&folder);
        let login = match login {
            Login::LongTerm => format!("lt-cred-mech\nuser={}:{}", USER.0, USER.1),
            Login::Secret => format!("use-auth-secret\nstatic-auth-secret={SECRET}"),
        };
        let path = folder.display();
        let configuration = format!(
            "listening-ip={ip}\nrelay-ip={ip}\nlistening-port={}\ntls-listening-port={}\n\
             realm=example.org\n{login}\nallow-loopback-peers\nno-cli\nno-dtls\nsimple-log\nverbose\n\
             pidfile={path}/pid\nuserdb={path}/db\nlog-file={path}/log\ncert={path}/cert.pem\n\
             pkey={path}/key.pem\n{extra}\n",
            address.port(),
            tls.port(),
        );
        fs::write(folder.join("conf"), configuration).unwrap();
        let mut this = Self {
            child: spawn(&folder),
            folder,
            address,
            tls,
            certificate,
        };
        this.wait();
        Some(this)
    }

    /// Ends the server without a word to its clients.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it anew, with nothing in its memory.
    pub fn restart(&mut self) {
        self.child = spawn(&self.folder);
        self.wait();
    }

    /// What it has written down.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Until both ports accept connections: UDP is opened before.
    fn wait(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        for address in [self.address, self.tls] {
            while TcpStream::connect(address).is_err() {
                assert!(
                    Instant::now() < until,
                    "coturn does not start: {}",
                    self.log()
                );
                assert!(self.child.try_wait().unwrap().is_none(), "{}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn spawn(folder: &std::path::Path) -> Child {
    Command::new("turnserver")
        .arg("-c")
        .arg(folder.join("conf"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn certificate(folder: &std::path::Path) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let key = made.signing_key.serialize_der();
    fs::write(folder.join("cert.pem"), pem("CERTIFICATE", made.cert.der())).unwrap();
    fs::write(folder.join("key.pem"), pem("PRIVATE KEY", &key)).unwrap();
    made.cert.der().to_vec()
}

/// RFC 7468 §2.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(String::from_utf8_lossy)
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A port that nobody has, neither of UDP nor of TCP.
fn free_port(ip: IpAddr) -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((ip, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
