//! Real servers for a test: configurations are generated, everything listens on loopback, and who was started is stopped.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use session_xmpp::{
    address,
    client::{Authorities, Options, Password, Server},
};
use std::{
    fs::{self, File},
    io,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Where servers offer SCRAM-SHA-256 among others.
pub(crate) const SCRAM: &str = "scram.test";
/// Where they offer SCRAM-SHA-1 alone.
pub(crate) const SHA1: &str = "sha1.test";
/// Where they offer PLAIN alone.
pub(crate) const PLAIN: &str = "plain.test";
/// Where they let in anybody.
pub(crate) const ANONYMOUS: &str = "anonymous.test";
/// All of them.
pub(crate) const DOMAINS: &[&str] = &[SCRAM, SHA1, PLAIN, ANONYMOUS];

/// The accounts of each domain but the last.
pub(crate) const ACCOUNTS: &[(&str, &str)] =
    &[("alice", "alice's secret, with =,"), ("bob", "pencil")];

/// How long a server may take to start, on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

/// A folder of its own, which goes away with it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A private authority, and what it has certified.
pub(crate) struct Certificates {
    pub(crate) authority: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Certificates {
    pub(crate) fn new(domains: &[&str]) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = &mut params.distinguished_name;
        name.push(DnType::CommonName, "an authority for tests");
        params.not_after = rcgen::date_time_ymd(2049, 1, 1);
        let authority_key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(params, authority_key);
        // Web servers are asked for by the name of their host, which is an address here.
        let names = domains.iter().copied().chain(["127.0.0.1"]);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        // The default, the year 4096, is more than Erlang's timers can wait for.
        params.not_after = rcgen::date_time_ymd(2049, 1, 1);
        Self {
            authority,
            certificate: params.signed_by(&key, &issuer).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// A server that runs.
pub(crate) struct Running {
    pub(crate) starttls: u16,
    pub(crate) direct: u16,
    pub(crate) certificates: Certificates,
    child: Option<Child>,
    command: Box<dyn Fn(&Path) -> Command + Send>,
    folder: Folder,
}

impl Running {
    /// Runs what `command` makes in the folder, until both ports are open.
    pub(crate) fn start(
        folder: Folder,
        certificates: Certificates,
        (starttls, direct): (u16, u16),
        command: impl Fn(&Path) -> Command + Send + 'static,
    ) -> Self {
        let mut running = Self {
            starttls,
            direct,
            certificates,
            child: None,
            command: Box::new(command),
            folder,
        };
        running.restart();
        running
    }

    /// Starts it, again perhaps.
    pub(crate) fn restart(&mut self) {
        self.stop();
        let log = File::create(self.folder.path().join("output")).unwrap();
        let mut command = (self.command)(self.folder.path());
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap());
        self.child = Some(command.stderr(log).spawn().unwrap());
        let begun = Instant::now();
        for port in [self.starttls, self.direct] {
            while TcpStream::connect(("127.0.0.1", port)).is_err() {
                let child = self.child.as_mut().unwrap();
                let ended = child.try_wait().unwrap();
                let late = Instant::now().duration_since(begun) > START_MAX;
                assert!(
                    ended.is_none() && !late,
                    "the server does not start: {}",
                    self.log()
                );
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    /// Ends it, by its id and nobody else.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        let id = child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let begun = Instant::now();
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now().duration_since(begun) > Duration::from_secs(5) {
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has to say.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
        let start = text.len().saturating_sub(4_000);
        text.get(start..).unwrap_or_default().to_owned()
    }

    /// A login by STARTTLS that trusts the private authority.
    pub(crate) fn options(&self, user: &str, domain: &str) -> Options {
        let password = ACCOUNTS.iter().find(|(name, _)| *name == user);
        let password = Password::new(password.map_or("", |(_, password)| *password));
        let mut options = if domain == ANONYMOUS {
            Options::anonymous(domain)
        } else {
            let address = address::parse(&format!("{user}@{domain}/{user}-desk")).unwrap();
            Options::new(&address, password)
        };
        options.server = self.server(false);
        let authorities = Authorities::from_pem(self.certificates.authority.as_bytes());
        options.tls = Some(authorities.unwrap().only().unwrap());
        options
    }

    /// Where it is.
    pub(crate) fn server(&self, direct_tls: bool) -> Server {
        Server::At {
            host: "127.0.0.1".to_owned(),
            port: if direct_tls {
                self.direct
            } else {
                self.starttls
            },
            direct_tls,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// Two ports of loopback that are free at this moment.
pub(crate) fn free_ports() -> (u16, u16) {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = listeners.map(|listener| listener.local_addr().unwrap().port());
    (ports[0], ports[1])
}

/// Whether a program is installed. Says what to do if it is not.
pub(crate) fn is_installed(program: &str, package: &str) -> bool {
    let found = Command::new(program)
        .arg("--help")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let missing = matches!(&found, Err(error) if error.kind() == io::ErrorKind::NotFound);
    if let Ok(mut child) = found {
        let _ = child.kill();
        let _ = child.wait();
    }
    if missing {
        eprintln!("SKIPPED: {program} is not installed (Debian: apt-get install {package})");
    }
    !missing
}
