//! What others use, over a server of OpenSSH on loopback with keys of its own.

use super::succeed;
use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const SSHD: &str = "/usr/sbin/sshd";

/// A server that runs, and how to reach it.
pub(super) struct Ssh {
    folder: PathBuf,
    port: u16,
    server: Child,
}

impl Ssh {
    /// `None` where it is not installed.
    pub(super) fn start(folder: &Path) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            return None;
        }
        fs::create_dir_all(folder).expect("room");
        for name in ["host", "user"] {
            let key = folder.join(name);
            let _ = fs::remove_file(&key);
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            succeed(command.arg(key));
        }
        let free = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        // As root it wants a folder of its own; as anybody else it cannot change who it is, and needs none.
        let _ = fs::create_dir_all("/run/sshd");
        let path = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PidFile none\nPermitRootLogin prohibit-password\nSubsystem sftp internal-sftp\n",
            path("host"),
            path("user.pub"),
        );
        fs::write(folder.join("sshd_config"), config).expect("room");
        let mut server = Command::new(SSHD);
        server.arg("-D").arg("-f").arg(folder.join("sshd_config"));
        let server = server.stderr(Stdio::null()).spawn().expect("installed");
        let ssh = Self {
            folder: folder.to_owned(),
            port,
            server,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(10), "sshd listens");
            thread::sleep(Duration::from_millis(20));
        }
        Some(ssh)
    }

    /// Whether a program is there.
    pub(super) fn has(&self, program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    }

    fn options(&self) -> String {
        let key = self.folder.join("user");
        format!(
            "-p {} -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
            self.port,
            key.display()
        )
    }

    /// How long a copy takes.
    pub(super) fn copy(&self, program: &str, what: &Path, into: &Path) -> Duration {
        let mut command = Command::new(program);
        let to = format!("127.0.0.1:{}/", into.display());
        match program {
            "rsync" => {
                let shell = format!("ssh {}", self.options());
                command.args(["-a", "-e", &shell]).arg(what).arg(to);
            }
            _ => {
                let options = self.options().replacen("-p", "-P", 1);
                command.args(["-q", "-r"]).args(options.split(' '));
                command.arg(what).arg(to);
            }
        }
        let begun = Instant::now();
        succeed(&mut command);
        begun.elapsed()
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
