//! PseudoTCP over UDP, ours against libnice's: one stream from memory to memory, socket calls included.

use crate::{
    Figure,
    link::{Conditions, HOSTS, Link},
};
use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::{BufRead, BufReader, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use transport_p2p::pseudotcp::{Config, PseudoTcp, State};

pub(crate) const FIGURES: &[Figure] = &[
    ("file.pseudotcp", throughput),
    ("file.pseudotcp_far", far),
    ("stream.interop", interop),
];

/// Bytes that each run on loopback carries.
const BYTES: u64 = 256 << 20;
/// And one over the slow link.
const FAR_BYTES: u64 = 96 << 20;
/// Runs of each, in turn.
const RUNS: usize = 5;
/// The stream carries 0, 1, … 250, 0, 1, …
const PERIOD: u64 = 251;
const SOCKET_BUFFER: usize = 4 << 20;
/// No run takes so long.
const LIMIT: Duration = Duration::from_secs(120);

fn throughput(name: &str) {
    let nice = crate::c_peer("nice_stream", "nice");
    let peer_name = if nice.is_some() {
        "libnice"
    } else {
        "a-plain-udp-loop(libnice-dev-is-not-installed)"
    };
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        ours.push(ours_to_ours(None, BYTES));
        peer.push(match &nice {
            Some(program) => nice_to_nice(program, None, BYTES),
            None => plain_udp(),
        });
    }
    let (a, b) = (median(ours), median(peer));
    println!(
        "bench {name} ours={a:.0}MiB/s peer={b:.0}MiB/s ratio={:.2} peer_is={peer_name}",
        a / b
    );
}

/// The same over a link of 100 Mbit/s with a round trip of 50 ms.
fn far(name: &str) {
    let link = match Link::new(Conditions::usual(0.0)) {
        Ok(link) => link,
        Err(why) => return println!("check {name} skipped: {why}"),
    };
    let ours = ours_to_ours(Some(&link), FAR_BYTES);
    let Some(program) = crate::c_peer("nice_stream", "nice") else {
        let why = "libnice-dev-is-not-installed";
        return println!("bench {name} ours={ours:.2}MiB/s peer=none({why}) ratio=1");
    };
    // It takes as long for a tenth as ours for all.
    let peer = nice_to_nice(&program, Some(&link), FAR_BYTES / 10);
    println!(
        "bench {name} ours={ours:.2}MiB/s peer={peer:.2}MiB/s ratio={:.1} peer_is=libnice",
        ours / peer
    );
}

/// Not a figure of speed: bytes cross in both directions between ours and libnice's, and are compared.
fn interop(name: &str) {
    let Some(program) = crate::c_peer("nice_stream", "nice") else {
        println!("check {name} skipped: libnice's headers are not installed (Debian: libnice-dev)");
        return;
    };
    let config = Config {
        mtu: 1500,
        ..Config::default()
    };
    let (local, remote) = addresses(None);
    let listens = Command::new(&program);
    let child = nice(listens, "listen", remote, local, BYTES / 4, BYTES / 4);
    let mut end = End::new(local, remote, &config, true, BYTES / 4, BYTES / 4);
    let ours = end.run();
    let theirs = finish(child);
    println!(
        "check {name} equal both ways between ours and libnice, {ours:.0} and {theirs:.0} MiB/s at once"
    );
}

fn ours_to_ours(link: Option<&Link>, bytes: u64) -> f64 {
    let (a, b) = addresses(link);
    let sender = move || End::new(a, b, &Config::default(), true, bytes, 0).run();
    let receiver = move || End::new(b, a, &Config::default(), false, 0, bytes).run();
    let [receiver, sender] = match link {
        Some(link) => [link.run(1, receiver), link.run(0, sender)],
        None => [std::thread::spawn(receiver), std::thread::spawn(sender)],
    };
    sender.join().expect("everything is acknowledged");
    receiver.join().expect("the receiver compares what it gets")
}

/// One end of our stream and its socket.
struct End {
    socket: UdpSocket,
    state: UdpSocketState,
    remote: SocketAddr,
    stream: PseudoTcp,
    to_send: u64,
    sent: u64,
    to_receive: u64,
    received: u64,
    pattern: Bytes,
}

impl End {
    fn new(
        local: SocketAddr,
        remote: SocketAddr,
        config: &Config,
        connect: bool,
        to_send: u64,
        to_receive: u64,
    ) -> Self {
        let socket = UdpSocket::bind(local).expect("a port that was free a moment ago");
        let state = UdpSocketState::new((&socket).into()).expect("UDP options");
        state
            .set_recv_buffer_size((&socket).into(), SOCKET_BUFFER)
            .expect("a receive buffer");
        state
            .set_send_buffer_size((&socket).into(), SOCKET_BUFFER)
            .expect("a send buffer");
        let now = Instant::now();
        let mut stream = PseudoTcp::new(config.clone(), now);
        if connect {
            stream.connect(now).expect("it is new");
        }
        Self {
            socket,
            state,
            remote,
            stream,
            to_send,
            sent: 0,
            to_receive,
            received: 0,
            pattern: (0..PERIOD * 4096 + PERIOD)
                .map(|i| (i % PERIOD) as u8)
                .collect(),
        }
    }

    /// Until everything has come and gone; MiB/s of what was received, or sent.
    fn run(&mut self) -> f64 {
        let mut start = None;
        let mut buffer = BytesMut::new();
        let mut held = None;
        let begun = Instant::now();
        loop {
            let now = Instant::now();
            assert!(now - begun < LIMIT, "our stream stalls");
            self.read(now);
            self.write(now);
            if self.received > 0 || self.sent > 0 {
                start.get_or_insert(now);
            }
            let blocked = !self.transmit(&mut held, now);
            let done = self.received >= self.to_receive
                && self.sent >= self.to_send
                && self.stream.unacknowledged() == 0;
            if done || self.stream.state() == State::Closed {
                assert!(done, "{:?}", self.stream.error());
                break;
            }
            self.wait(blocked);
            self.receive(&mut buffer);
        }
        let seconds = start.map_or(0.0, |start: Instant| start.elapsed().as_secs_f64());
        // The last acknowledgement may be delayed or lost: stay for what the peer repeats.
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            self.transmit(&mut held, Instant::now());
            std::thread::sleep(Duration::from_millis(1));
            self.receive(&mut buffer);
        }
        self.to_send.max(self.to_receive) as f64 / f64::from(1 << 20) / seconds
    }

    fn read(&mut self, now: Instant) {
        while let Some(data) = self.stream.read(now) {
            let at = (self.received % PERIOD) as usize;
            for part in data.chunks(PERIOD as usize * 4096) {
                let at = (at + (part.as_ptr() as usize - data.as_ptr() as usize)) % PERIOD as usize;
                assert_eq!(
                    part,
                    &self.pattern[at..at + part.len()],
                    "after {} bytes",
                    self.received
                );
            }
            self.received += data.len() as u64;
        }
    }

    fn write(&mut self, now: Instant) {
        while self.sent < self.to_send {
            let at = (self.sent % PERIOD) as usize;
            let size = (self.to_send - self.sent).min(PERIOD * 1024) as usize;
            let mut chunk = self.pattern.slice(at..at + size);
            match self.stream.send(&mut chunk, now) {
                Ok(0) | Err(_) => break,
                Ok(taken) => self.sent += taken as u64,
            }
        }
    }

    /// Whether everything left.
    fn transmit(&mut self, held: &mut Option<(Bytes, usize)>, now: Instant) -> bool {
        let gso = self.state.max_gso_segments();
        loop {
            let next = held.take().or_else(|| {
                self.stream
                    .poll_transmit(now, gso)
                    .map(|batch| (batch.payload, batch.segment_size))
            });
            let Some((payload, segment)) = next else {
                return true;
            };
            let transmit = Transmit {
                destination: self.remote,
                ecn: None,
                contents: &payload,
                segment_size: (segment > 0 && segment < payload.len()).then_some(segment),
                src_ip: None,
            };
            match self.state.try_send((&self.socket).into(), &transmit) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    *held = Some((payload, segment));
                    return false;
                }
                // A refused connection is an answer to an earlier datagram.
                Ok(()) | Err(_) => {}
            }
        }
    }

    fn wait(&self, blocked: bool) {
        let until = self
            .stream
            .poll_timeout()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let until = until
            .unwrap_or(Duration::from_millis(100))
            .min(Duration::from_millis(100));
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(until.subsec_nanos()),
        };
        let flags = if blocked {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        let _ = poll(&mut [PollFd::new(&self.socket, flags)], Some(&time));
    }

    fn receive(&mut self, buffer: &mut BytesMut) {
        for _ in 0..64 {
            buffer.resize(65_536, 0);
            let mut meta = [RecvMeta::default()];
            let received = {
                let mut slices = [IoSliceMut::new(buffer)];
                self.state
                    .recv((&self.socket).into(), &mut slices, &mut meta)
            };
            let now = Instant::now();
            match received {
                Ok(count) if count > 0 => {
                    let payload = buffer.split_to(meta[0].len).freeze();
                    self.stream.handle_batch(payload, meta[0].stride, now);
                    *buffer = BytesMut::with_capacity(65_536);
                }
                Ok(_) => break,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        let now = Instant::now();
        if self.stream.poll_timeout().is_some_and(|at| at <= now) {
            self.stream.handle_timeout(now);
        }
    }
}

fn nice(
    mut program: Command,
    role: &str,
    local: SocketAddr,
    remote: SocketAddr,
    send: u64,
    receive: u64,
) -> Child {
    program
        .args([
            role.to_owned(),
            local.to_string(),
            remote.to_string(),
            send.to_string(),
            receive.to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the peer that was just built")
}

/// What the peer reports; closing its input ends it.
fn finish(mut child: Child) -> f64 {
    let output = child.stdout.take().expect("piped");
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("text");
        // Who gave up does not hear it.
        let _ = tell.send(line);
    });
    let line = told.recv_timeout(LIMIT).unwrap_or_else(|_| {
        // It may be over by itself.
        let _ = child.kill();
        "nothing".to_owned()
    });
    drop(child.stdin.take());
    let _ = child.wait();
    let mut words = line.split_whitespace();
    assert_eq!(words.next(), Some("received"), "the peer says: {line}");
    let bytes: f64 = words.next().and_then(|w| w.parse().ok()).expect("bytes");
    let seconds: f64 = words.next().and_then(|w| w.parse().ok()).expect("seconds");
    bytes / f64::from(1 << 20) / seconds
}

fn nice_to_nice(program: &Path, link: Option<&Link>, bytes: u64) -> f64 {
    let (a, b) = addresses(link);
    let on = |host| match link {
        Some(link) => link.command(host, &program.to_string_lossy()),
        None => Command::new(program),
    };
    let receiver = nice(on(1), "listen", b, a, 0, bytes);
    std::thread::sleep(Duration::from_millis(20));
    let mut sender = nice(on(0), "connect", a, b, bytes, 0);
    let figure = finish(receiver);
    drop(sender.stdin.take());
    let _ = sender.wait();
    figure
}

/// Datagrams of 1,200 bytes one by one, as fast as they are taken.
fn plain_udp() -> f64 {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let target = receiver.local_addr().expect("bound");
    receiver
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("an option");
    let sender = std::thread::spawn(move || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        for _ in 0..BYTES / 1200 {
            let _ = socket.send_to(&[0; 1200], target);
        }
    });
    let (mut buffer, mut bytes, mut last) = ([0; 2048], 0, Instant::now());
    let start = Instant::now();
    while let Ok(size) = receiver.recv(&mut buffer) {
        bytes += size;
        last = Instant::now();
    }
    let _ = sender.join();
    bytes as f64 / f64::from(1 << 20) / last.duration_since(start).as_secs_f64()
}

/// Where the two ends are: on a link's hosts, which have nobody else, or on free ports of this one.
fn addresses(link: Option<&Link>) -> (SocketAddr, SocketAddr) {
    if link.is_some() {
        let on = |host: usize| SocketAddr::new(IpAddr::V4(HOSTS[host]), 5_000);
        return (on(0), on(1));
    }
    let port = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = socket.local_addr().expect("bound");
        (socket, address)
    };
    let (a, b) = (port(), port());
    (a.1, b.1)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
