//! Data through a relay, against webrtc-rs: what a datagram costs the client, socket calls included, with a real coturn
//! between it and a sink, all on loopback. Streams by other means are in [`streams`].

mod streams;

use crate::Figure;
use bytes::Bytes;
use cpu_time::ThreadTime;
use quinn_udp::{Transmit, UdpSocketState};
use session_core::{Batch, Datagram, LocalSocket};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};
use transport_relay::{
    RelayFactory, RelayOutput, RelaySource,
    turn::{Credentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer},
};
use turn::client::{Client, ClientConfig};
use webrtc_util::Conn;

pub(crate) use streams::s5b;

pub(crate) const FIGURES: &[Figure] = &[
    ("relay.cpu", cpu),
    ("relay.cpu_gso", cpu_gso),
    ("relay.ibb", streams::ibb),
    ("relay.ibb_unknown", streams::ibb_unknown),
    ("relay.s5b", streams::s5b),
    ("relay.throughput", throughput),
];

/// Bytes of a datagram of the application.
const SIZE: usize = 1_200;
/// Datagrams sent at a time, with a pause after each, so that the server keeps up.
const BLOCK: usize = 32;
const PAUSE: Duration = Duration::from_micros(600);
const BLOCKS: usize = 400;
const RUNS: usize = 5;

fn cpu(name: &str) {
    compare(name, 1);
}

fn cpu_gso(name: &str) {
    compare(name, BLOCK);
}

/// CPU time of the sending thread for each datagram: ours in batches of `batch`, and webrtc-rs's.
fn compare(name: &str, batch: usize) {
    let Some(server) = Coturn::start() else {
        println!("check {name} skipped: turnserver is not installed (Debian: coturn)");
        return;
    };
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    let (mut arrived, mut sent) = (0, 0);
    for _ in 0..RUNS {
        for (times, run) in [(&mut ours, Some(batch)), (&mut peer, None)] {
            let sink = Sink::start();
            times.push(match run {
                Some(batch) => our_cpu(&server, &sink, batch),
                None => webrtc_cpu(&server, &sink),
            });
            sleep(Duration::from_millis(50));
            arrived += sink.count();
            sent += (BLOCK * BLOCKS) as u64;
        }
    }
    let (a, b) = (median(ours), median(peer));
    println!(
        "bench {name} ours={a:.0}ns peer={b:.0}ns ratio={:.2} peer_is=webrtc-turn arrived={:.1}%",
        b / a,
        100.0 * arrived.min(sent) as f64 / sent as f64
    );
}

/// How many datagrams a second arrive when ours sends as fast as it can, and when a bare socket does.
fn throughput(name: &str) {
    let Some(server) = Coturn::start() else {
        println!("check {name} skipped: turnserver is not installed (Debian: coturn)");
        return;
    };
    let (mut ours, mut peer) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for (rates, bare) in [(&mut ours, false), (&mut peer, true)] {
            let sink = Sink::start();
            let mut client = Ours::connect(&server, &sink);
            let (before, started) = (sink.count(), Instant::now());
            while started.elapsed() < Duration::from_secs(1) {
                if bare {
                    client.send_bare();
                } else {
                    client.send(BLOCK);
                }
            }
            rates.push((sink.count() - before) as f64 / started.elapsed().as_secs_f64());
        }
    }
    let (a, b) = (median(ours), median(peer));
    println!(
        "bench {name} ours={a:.0}/s peer={b:.0}/s ratio={:.2} peer_is=a-bare-socket-with-ready-frames",
        a / b
    );
}

fn our_cpu(server: &Coturn, sink: &Sink, batch: usize) -> f64 {
    let mut client = Ours::connect(server, sink);
    let start = ThreadTime::now();
    for _ in 0..BLOCKS {
        for _ in 0..BLOCK / batch {
            client.send(batch);
        }
        sleep(PAUSE);
    }
    start.elapsed().as_nanos() as f64 / (BLOCK * BLOCKS) as f64
}

/// A client of ours with its socket.
struct Ours {
    source: Box<dyn RelaySource>,
    socket: UdpSocket,
    state: UdpSocketState,
    server: SocketAddr,
    peer: SocketAddr,
    payload: Bytes,
    /// The last that it sent.
    frames: Bytes,
    segment: usize,
    channel: bool,
    relayed: bool,
}

impl Ours {
    /// With a channel to the sink.
    fn connect(server: &Coturn, sink: &Sink) -> Self {
        let credentials = Credentials::new("alice", "sesame");
        let turn = TurnServer::new(server.address, TurnProtocol::Udp, credentials);
        let mut source = TurnFactory::new(TurnConfig::new(vec![turn])).create([7; 32]);
        source.start(&[Ipv4Addr::LOCALHOST.into()], Instant::now());
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let state = UdpSocketState::new((&socket).into()).expect("UDP options");
        let _ = state.set_send_buffer_size((&socket).into(), 4 << 20);
        socket
            .set_read_timeout(Some(Duration::from_millis(5)))
            .expect("an option");
        socket.set_nonblocking(false).expect("an option");
        let mut this = Self {
            source,
            socket,
            state,
            server: server.address,
            peer: sink.address,
            payload: vec![7; SIZE * BLOCK].into(),
            frames: Bytes::new(),
            segment: 0,
            channel: false,
            relayed: false,
        };
        this.drain();
        let until = Instant::now() + Duration::from_secs(10);
        while !this.channel {
            assert!(Instant::now() < until, "no channel comes about");
            this.receive();
            if this.relayed {
                this.send(1);
            }
        }
        this
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2048];
        if let Ok((size, source)) = self.socket.recv_from(&mut buffer) {
            let datagram = Datagram {
                socket: LocalSocket(0),
                source,
                payload: Bytes::copy_from_slice(&buffer[..size]),
                segment_size: 0,
            };
            self.source.handle_datagram(datagram, Instant::now());
        }
        self.source.handle_timeout(Instant::now());
        self.drain();
    }

    fn send(&mut self, count: usize) {
        let now = Instant::now();
        let batch = Batch {
            payload: self.payload.slice(..SIZE * count),
            segment_size: if count > 1 { SIZE } else { 0 },
        };
        self.source.permit(self.peer, now);
        self.source.send(self.peer, batch, now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.source.poll_output() {
            match output {
                RelayOutput::Bind(socket, _) => {
                    let address = self.socket.local_addr().expect("bound");
                    let now = Instant::now();
                    self.source.handle_bound(socket, Ok(address), now);
                }
                RelayOutput::Transmit(transmit) => {
                    self.channel |= transmit.payload[0] == 0x40;
                    (self.frames, self.segment) = (transmit.payload, transmit.segment_size);
                    self.transmit();
                }
                RelayOutput::Allocated { .. } => self.relayed = true,
                RelayOutput::Failed(why) => panic!("{why}"),
                _ => {}
            }
        }
    }

    /// The last frames once more.
    fn send_bare(&self) {
        if self.segment == 0 {
            // The first is one datagram alone.
            for _ in 0..BLOCK {
                self.transmit();
            }
        } else {
            self.transmit();
        }
    }

    fn transmit(&self) {
        let transmit = Transmit {
            destination: self.server,
            ecn: None,
            contents: &self.frames,
            segment_size: (self.segment > 0 && self.segment < self.frames.len())
                .then_some(self.segment),
            src_ip: None,
        };
        // A full buffer loses it, as the network would.
        let _ = self.state.try_send((&self.socket).into(), &transmit);
    }
}

fn webrtc_cpu(server: &Coturn, sink: &Sink) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let client = Client::new(ClientConfig {
            stun_serv_addr: String::new(),
            turn_serv_addr: server.address.to_string(),
            username: "alice".into(),
            password: "sesame".into(),
            realm: "example.org".into(),
            software: String::new(),
            rto_in_ms: 0,
            conn: Arc::new(socket),
            vnet: None,
        })
        .await
        .expect("a client");
        client.listen().await.expect("it listens");
        let relay = client.allocate().await.expect("an allocation");
        let payload = vec![7; SIZE];
        // The first ones ask for a permission and a channel.
        for _ in 0..20 {
            let _ = relay.send_to(&payload, sink.address).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let start = ThreadTime::now();
        for _ in 0..BLOCKS {
            for _ in 0..BLOCK {
                relay
                    .send_to(&payload, sink.address)
                    .await
                    .expect("it takes it");
            }
            sleep(PAUSE);
        }
        let time = start.elapsed().as_nanos() as f64 / (BLOCK * BLOCKS) as f64;
        let _ = client.close().await;
        time
    })
}

/// Counts what arrives, in a thread of its own that ends with it.
struct Sink {
    address: SocketAddr,
    count: Arc<AtomicU64>,
    ends: Arc<()>,
}

impl Sink {
    fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let state = UdpSocketState::new((&socket).into()).expect("UDP options");
        let _ = state.set_recv_buffer_size((&socket).into(), 4 << 20);
        socket.set_nonblocking(false).expect("an option");
        socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("an option");
        let address = socket.local_addr().expect("bound");
        let (count, ends) = (Arc::<AtomicU64>::default(), Arc::new(()));
        let (counter, lives) = (count.clone(), Arc::downgrade(&ends));
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while lives.strong_count() > 0 {
                if let Ok(size) = socket.recv(&mut buffer) {
                    // What came together was offloaded.
                    counter.fetch_add(size.div_ceil(SIZE) as u64, Ordering::Relaxed);
                }
            }
        });
        Self {
            address,
            count,
            ends,
        }
    }

    fn count(&self) -> u64 {
        debug_assert!(Arc::strong_count(&self.ends) == 1);
        self.count.load(Ordering::Relaxed)
    }
}

/// A server that ends with this.
struct Coturn {
    child: Child,
    folder: PathBuf,
    address: SocketAddr,
}

impl Coturn {
    fn start() -> Option<Self> {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .ok()?
            .local_addr()
            .ok()?;
        let folder = std::env::temp_dir().join(format!("bench-coturn.{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        let path = folder.display();
        let configuration = format!(
            "listening-ip=127.0.0.1\nrelay-ip=127.0.0.1\nlistening-port={}\nrealm=example.org\n\
             lt-cred-mech\nuser=alice:sesame\nallow-loopback-peers\nno-cli\nno-tls\nno-dtls\n\
             simple-log\npidfile={path}/pid\nuserdb={path}/db\nlog-file={path}/log\n",
            port.port()
        );
        fs::write(folder.join("conf"), configuration).ok()?;
        let child = Command::new("turnserver")
            .arg("-c")
            .arg(folder.join("conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let this = Self {
            child,
            folder,
            address: port,
        };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(this.address).is_err() {
            assert!(Instant::now() < until, "coturn does not start");
            sleep(Duration::from_millis(20));
        }
        Some(this)
    }
}

impl Drop for Coturn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
