//! Two hosts, and between them a link with a rate, a delay, a buffer and losses: network namespaces, each with a device
//! whose packets a thread of ours carries to the other. Every protocol and every program meets the same link. (The kernel's
//! own emulator is not built into every kernel.) It takes root.

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::File,
    net::Ipv4Addr,
    os::fd::AsFd,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};
use tun_rs::{DeviceBuilder, SyncDevice};

/// The hosts' addresses (RFC 5737).
pub(crate) const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];

/// The largest packet that it carries, in bytes.
pub(crate) const MTU: usize = 1_500;

/// What a link is like, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// Bytes a second.
    pub(crate) rate: f64,
    /// One way.
    pub(crate) delay: Duration,
    /// Bytes that wait at most; what comes then is dropped.
    pub(crate) buffer: f64,
    /// Part of the packets that is lost.
    pub(crate) loss: f64,
}

impl Conditions {
    /// 100 Mbit/s, 50 ms there and back, a buffer of what is on its way then.
    pub(crate) fn usual(loss: f64) -> Self {
        Self {
            rate: 12.5e6,
            delay: Duration::from_millis(25),
            buffer: 625e3,
            loss,
        }
    }
}

/// A link that stands. Its names go with it, its threads and devices with the process.
pub(crate) struct Link {
    names: [String; 2],
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in &self.names {
            // What cannot be removed was not made.
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

impl Link {
    /// # Errors
    /// What is missing: mostly the right to make namespaces.
    pub(crate) fn new(conditions: Conditions) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |host| format!("bench{}x{count}{host}", std::process::id());
        let link = Self {
            names: [name("a"), name("b")],
        };
        let mut devices = Vec::new();
        for (host, address) in HOSTS.iter().enumerate() {
            let name = &link.names[host];
            ip(&["netns", "add", name])?;
            let made = link.run(host, || DeviceBuilder::new().name("link").build_sync());
            let made = made.join().map_err(|_| "a thread ended".to_owned())?;
            devices.push(Arc::new(
                made.map_err(|why| format!("/dev/net/tun: {why}"))?,
            ));
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            let network = format!("{address}/24");
            ip(&["-n", name, "address", "add", &network, "dev", "link"])?;
            ip(&[
                "-n",
                name,
                "link",
                "set",
                "dev",
                "link",
                "mtu",
                &MTU.to_string(),
                "up",
            ])?;
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let (from, to, seed) = (Arc::clone(&devices[from]), Arc::clone(&devices[to]), from);
            thread::spawn(move || carry(&from, to, conditions, seed as u64));
        }
        Ok(link)
    }

    /// Runs something on a host, in a thread of its own.
    pub(crate) fn run<R: Send + 'static>(
        &self,
        host: usize,
        job: impl FnOnce() -> R + Send + 'static,
    ) -> thread::JoinHandle<R> {
        let path = format!("/run/netns/{}", self.names[host]);
        thread::spawn(move || {
            let space = File::open(path).expect("the namespace that was made");
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("who made a namespace may enter it");
            job()
        })
    }

    /// A command that runs a program on a host.
    pub(crate) fn command(&self, host: usize, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host], program]);
        command
    }
}

/// Runs `ip` of iproute2.
pub(crate) fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.map_err(|why| format!("ip (Debian: iproute2): {why}"))?;
    if output.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("ip {}: {why}", arguments.join(" ")))
}

/// What comes out of one device goes into the other, in time.
fn carry(from: &SyncDevice, to: Arc<SyncDevice>, conditions: Conditions, seed: u64) {
    let (tell, told) = channel();
    thread::spawn(move || deliver(&to, &told));
    let mut random = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut free_at = Instant::now();
    let mut buffer = [0; 2048];
    while let Ok(size) = from.recv(&mut buffer) {
        let now = Instant::now();
        // xorshift64*.
        random ^= random >> 12;
        random ^= random << 25;
        random ^= random >> 27;
        let chance =
            (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64;
        let waiting = free_at.saturating_duration_since(now).as_secs_f64() * conditions.rate;
        if chance < conditions.loss || waiting + size as f64 > conditions.buffer {
            continue;
        }
        let time = Duration::from_secs_f64(size as f64 / conditions.rate);
        free_at = free_at.max(now) + time;
        if tell
            .send((free_at + conditions.delay, buffer[..size].to_vec()))
            .is_err()
        {
            return;
        }
    }
}

fn deliver(to: &SyncDevice, told: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((at, packet)) = told.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        // A device without room loses what comes, as a network does.
        let _ = to.send(&packet);
    }
}
