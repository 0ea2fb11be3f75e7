//! Two processes of ours.

use super::PATIENCE;
use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A place on a memory file system, and a server.
pub(super) struct Place {
    folder: PathBuf,
    program: String,
    server: String,
    authority: String,
}

/// What a copy took.
pub(super) struct Copied {
    pub(super) wall: Duration,
    pub(super) sender_mib: f64,
    pub(super) receiver_mib: f64,
}

impl Place {
    pub(super) fn new() -> Self {
        let told = |name: &str| env::var(name).expect("`cargo xtask bench file` runs this");
        let base = match Path::new("/dev/shm").is_dir() {
            true => PathBuf::from("/dev/shm"),
            false => env::temp_dir(),
        };
        let folder = base.join(format!("pcp-bench-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("room");
        fs::write(folder.join("config.toml"), "").expect("room");
        fs::write(folder.join("password"), "secret\n").expect("room");
        Self {
            folder,
            program: told("BENCH_PCP"),
            server: told("BENCH_SERVER"),
            authority: told("BENCH_AUTHORITY"),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn command(&self, subcommand: &str, user: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args([
                subcommand,
                "--jid",
                user,
                "--server",
                &self.server,
                "--ca",
                &self.authority,
            ])
            .arg("--password-file")
            .arg(self.path("password"))
            .arg("--config")
            .arg(self.path("config.toml"))
            .args(["--accept", "any", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command
    }

    /// From the sender's start until both have ended. The receiver waits already, as a server of others does.
    pub(super) fn copy(&self, what: &Path, into: &Path) -> Copied {
        let mut receiving = self.command("receive", "bob@localhost");
        receiving.arg("--into").arg(into).args(["--count", "1"]);
        let mut receiver = receiving.spawn().expect("pcp is built");
        let mut lines = BufReader::new(receiver.stdout.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("\"ready\"") {
            line.clear();
            let count = lines.read_line(&mut line).expect("text");
            assert!(count > 0, "it is ready before it ends");
        }
        thread::spawn(move || {
            let mut rest = String::new();
            lines.read_to_string(&mut rest)
        });
        let begun = Instant::now();
        let mut sending = self.command("send", "alice@localhost");
        sending.arg(what).arg("bob@localhost");
        let mut sender = sending.spawn().expect("pcp is built");
        let mut lines = BufReader::new(sender.stdout.take().expect("piped"));
        thread::spawn(move || {
            let mut rest = String::new();
            lines.read_to_string(&mut rest)
        });
        let mut peaks = [0.0_f64; 2];
        let ended = |child: &mut Child| child.try_wait().expect("ours").is_some();
        loop {
            let over = (ended(&mut sender), ended(&mut receiver));
            for (child, peak) in [&sender, &receiver].into_iter().zip(&mut peaks) {
                *peak = peak.max(peak_mib(child.id()));
            }
            if over == (true, true) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "it comes to an end");
            thread::sleep(Duration::from_millis(2));
        }
        let wall = begun.elapsed();
        for child in [&mut sender, &mut receiver] {
            let status = child.wait().expect("ours");
            assert!(status.success(), "{status}");
        }
        Copied {
            wall,
            sender_mib: peaks[0],
            receiver_mib: peaks[1],
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The most memory that a process has had, as far as it is still there.
fn peak_mib(id: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.map_or(0.0, |kib: f64| kib / 1_024.0)
}

/// Writes bytes that do not compress.
pub(super) fn random(path: &Path, size: u64) {
    let mut file = fs::File::create(path).expect("room");
    let mut state = size | 0x9E37_79B9_7F4A_7C15;
    let mut piece = vec![0; 1 << 20];
    let mut left = size;
    while left > 0 {
        for chunk in piece.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            chunk.copy_from_slice(&state.to_le_bytes());
        }
        let count = left.min(piece.len() as u64);
        file.write_all(&piece[..count as usize]).expect("room");
        left -= count;
    }
}

/// Whether two files or folders have the same content.
pub(super) fn same(one: &Path, other: &Path) -> bool {
    let mut command = Command::new("diff");
    command.args(["-rq"]).args([one, other]);
    command.status().is_ok_and(|status| status.success())
}
