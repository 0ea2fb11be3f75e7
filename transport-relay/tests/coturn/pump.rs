//! A driver in a few lines: carries out what a source wants, and keeps what it says.

use session_core::{Datagram, LocalSocket, SocketError, StreamEvent};
use std::{
    collections::BTreeMap,
    io::{ErrorKind, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};
use transport_relay::{RelayFactory, RelayOutput, RelaySource, turn::TurnFactory};

pub struct Pump {
    pub source: Box<dyn RelaySource>,
    udp: BTreeMap<LocalSocket, UdpSocket>,
    tcp: BTreeMap<LocalSocket, TcpStream>,
    pub relayed: Vec<SocketAddr>,
    pub lost: Vec<String>,
    pub failed: Option<String>,
    pub received: Vec<(SocketAddr, Vec<u8>)>,
    /// First bytes of what was sent to the server.
    pub sent: Vec<[u8; 2]>,
}

impl Pump {
    pub fn start(factory: &TurnFactory, seed: u8) -> Self {
        let mut this = Self {
            source: factory.create([seed; 32]),
            udp: BTreeMap::new(),
            tcp: BTreeMap::new(),
            relayed: Vec::new(),
            lost: Vec::new(),
            failed: None,
            received: Vec::new(),
            sent: Vec::new(),
        };
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        this.source.start(&[local], Instant::now());
        this.drain();
        this
    }

    pub fn send(&mut self, peer: SocketAddr, text: &[u8]) {
        let now = Instant::now();
        self.source.permit(peer, now);
        let batch = bytes::Bytes::copy_from_slice(text).into();
        self.source.send(peer, batch, now);
        self.drain();
    }

    pub fn sockets(&self) -> usize {
        self.udp.len() + self.tcp.len()
    }

    /// Whatever there is to do now; whether there was something.
    pub fn turn(&mut self) -> bool {
        let mut busy = false;
        let mut buffer = [0; 65_536];
        let sockets: Vec<_> = self.udp.keys().copied().collect();
        for socket in sockets {
            while let Some(Ok((size, source))) =
                self.udp.get(&socket).map(|s| s.recv_from(&mut buffer))
            {
                let datagram = Datagram {
                    socket,
                    source,
                    payload: bytes::Bytes::copy_from_slice(&buffer[..size]),
                    segment_size: 0,
                };
                self.source.handle_datagram(datagram, Instant::now());
                self.drain();
                busy = true;
            }
        }
        let sockets: Vec<_> = self.tcp.keys().copied().collect();
        for socket in sockets {
            while let Some(result) = self.tcp.get_mut(&socket).map(|s| s.read(&mut buffer)) {
                let event = match result {
                    Ok(0) => StreamEvent::Finished,
                    Ok(size) => StreamEvent::Data(bytes::Bytes::copy_from_slice(&buffer[..size])),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => StreamEvent::Closed(Some(failure(&error))),
                };
                let over = !matches!(event, StreamEvent::Data(_));
                if over {
                    self.tcp.remove(&socket);
                }
                self.source.handle_stream(socket, event, Instant::now());
                self.drain();
                busy = true;
            }
        }
        let now = Instant::now();
        if self.source.poll_timeout().is_some_and(|at| at <= now) {
            self.source.handle_timeout(now);
            self.drain();
        }
        busy
    }

    pub fn drain(&mut self) {
        while let Some(output) = self.source.poll_output() {
            match output {
                RelayOutput::Bind(number, address) => {
                    let socket = UdpSocket::bind(address).unwrap();
                    socket.set_nonblocking(true).unwrap();
                    let address = socket.local_addr().unwrap();
                    self.udp.insert(number, socket);
                    self.source
                        .handle_bound(number, Ok(address), Instant::now());
                }
                RelayOutput::Connect(number, target) => {
                    assert_eq!(target.tls, None, "this driver has no TLS");
                    let result = TcpStream::connect(target.address).map(|stream| {
                        stream.set_nonblocking(true).unwrap();
                        let address = stream.local_addr().unwrap();
                        self.tcp.insert(number, stream);
                        address
                    });
                    let event = StreamEvent::Connected(result.map_err(|error| failure(&error)));
                    self.source.handle_stream(number, event, Instant::now());
                }
                RelayOutput::Write(number, payload) => {
                    self.note(&payload);
                    if let Some(stream) = self.tcp.get_mut(&number) {
                        stream.set_nonblocking(false).unwrap();
                        // A connection that is broken says so when it is read.
                        let _ = stream.write_all(&payload);
                        stream.set_nonblocking(true).unwrap();
                    }
                    let event = StreamEvent::Buffered(0);
                    self.source.handle_stream(number, event, Instant::now());
                }
                RelayOutput::Close(number) => {
                    self.udp.remove(&number);
                    self.tcp.remove(&number);
                }
                RelayOutput::Transmit(transmit) => {
                    self.note(&transmit.payload);
                    let size = match transmit.segment_size {
                        0 => transmit.payload.len(),
                        size => size,
                    };
                    for packet in transmit.payload.chunks(size) {
                        let _ = self.udp[&transmit.socket].send_to(packet, transmit.destination);
                    }
                }
                RelayOutput::Allocated { relayed, .. } => self.relayed.push(relayed),
                RelayOutput::Received { peer, batch } => {
                    self.received
                        .extend(batch.map(|packet| (peer, packet.to_vec())));
                }
                RelayOutput::Lost { relayed, why } => {
                    self.relayed.retain(|known| *known != relayed);
                    self.lost.push(why.to_string());
                }
                RelayOutput::Failed(why) => self.failed = Some(why.to_string()),
            }
        }
    }

    fn note(&mut self, payload: &[u8]) {
        self.sent.push([payload[0], payload[1]]);
    }
}

fn failure(error: &std::io::Error) -> SocketError {
    SocketError {
        what: "connection",
        why: error.to_string().into(),
    }
}

/// Drives all until something holds.
pub fn run_until(
    pumps: &mut [&mut Pump],
    seconds: u64,
    mut done: impl FnMut(&[&mut Pump]) -> bool,
) {
    let until = Instant::now() + Duration::from_secs(seconds);
    while !done(pumps) {
        for pump in pumps.iter() {
            let state = (&pump.relayed, &pump.lost, &pump.failed, pump.received.len());
            assert!(
                Instant::now() < until,
                "it does not come to pass: {state:?}"
            );
        }
        let mut busy = false;
        for pump in pumps.iter_mut() {
            busy |= pump.turn();
        }
        if !busy {
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}
