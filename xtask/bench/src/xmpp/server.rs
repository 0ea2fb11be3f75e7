//! A private Prosody that has nothing but components.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// What it shares with each of its components.
pub(super) const SECRET: &str = "a secret";
/// The component that begins sessions, that which answers, and two that only ask and answer.
pub(super) const OURS: &str = "ours.bench";
pub(super) const OTHERS: &str = "others.bench";
pub(super) const ASKING: &str = "asking.bench";
pub(super) const ANSWERING: &str = "answering.bench";

/// Ends with this value, and its folder with it.
pub(super) struct Prosody {
    child: Child,
    folder: PathBuf,
    pub(super) port: u16,
}

impl Prosody {
    /// `None` where it is not installed.
    pub(super) fn start() -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("bench-xmpp-{}", std::process::id()));
        fs::create_dir_all(folder.join("data")).expect("a folder for its state");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("loopback has a free port")
            .port();
        let at = folder.display();
        let mut config = format!(
            "run_as_root = true\ndaemonize = false\npidfile = \"{at}/pid\"\ndata_path = \"{at}/data\"\n\
             interfaces = {{ \"127.0.0.1\" }}\nlocal_interfaces = {{ \"127.0.0.1\" }}\n\
             network_settings = {{ nagle = false }}\nmodules_enabled = {{ \"disco\"; \"posix\" }}\n\
             modules_disabled = {{ \"s2s\"; \"c2s\"; \"offline\"; \"s2s_auth_certs\" }}\n\
             component_ports = {{ {port} }}\ncomponent_interfaces = {{ \"127.0.0.1\" }}\n\
             log = {{ {{ levels = {{ min = \"warn\" }}, to = \"console\" }} }}\nVirtualHost \"bench.invalid\"\n"
        );
        for component in [OURS, OTHERS, ASKING, ANSWERING] {
            config += &format!("Component \"{component}\"\n  component_secret = \"{SECRET}\"\n");
        }
        let path = folder.join("prosody.cfg.lua");
        fs::write(&path, config).expect("the folder takes files");
        let log = fs::File::create(folder.join("log")).expect("the folder takes files");
        let child = Command::new("prosody")
            .args(["-F", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let server = Self {
            child,
            folder,
            port,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it starts");
            sleep(Duration::from_millis(50));
        }
        Some(server)
    }
}

impl Drop for Prosody {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
