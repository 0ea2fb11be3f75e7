//! Google's ICE opposite a peer and strangers that do not mean well.

use bytes::Bytes;
use session_core::testing::epoch;
use session_core::{
    ChannelOutput, Datagram, Dialect, Element, GOOGLE_P2P, LocalSocket, Role, Transport,
    TransportChannel, TransportContext, TransportFactory,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::ice::{GoogleIceFactory, IceConfig};
use transport_p2p::stun::{Attribute, Class, MessageBuilder, Method, Scan, TransactionId};

const PEER_NAME: &str = "qwgqNJmDQJxI37OF";
/// Beside one for each datagram that arrives, so many may leave at any time.
const SLACK: u64 = 64;

/// Feeds `data` to a channel as candidates, datagrams and time. Nothing of it may panic; what leaves is bounded by what
/// arrives and by time; data is handed out only from where a ping of the peer came, or an answer to one of ours.
pub fn google_ice(data: &[u8]) {
    let mut end = End::new();
    let mut input = data.iter().copied();
    while let Some(kind) = input.next() {
        let number = input.next().unwrap_or_default();
        let length = usize::from(input.next().unwrap_or_default() % 64);
        let bytes: Vec<u8> = input.by_ref().take(length).collect();
        let source = SocketAddr::from(([192, 0, 2, number % 4], 4_000 + u16::from(number / 64)));
        match kind % 6 {
            0 => end.wait(Duration::from_millis(u64::from(number) * 20)),
            1 => end.receive(source, bytes.into()),
            2 => end.ping(source, &bytes),
            3 => end.answer(source, &bytes),
            4 => end.candidate(source, number, &bytes),
            _ => end.candidate(source, 0, b""),
        }
    }
    end.wait(Duration::from_secs(40));
}

struct End {
    transport: Box<dyn Transport>,
    channel: Box<dyn TransportChannel>,
    begun: Instant,
    now: Instant,
    name: String,
    pinged: Vec<(SocketAddr, Bytes)>,
    /// From where something came that knew the names, or answered.
    met: Vec<SocketAddr>,
    received: u64,
    sent: u64,
}

impl End {
    fn new() -> Self {
        let config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))]);
        let mut transport = GoogleIceFactory::new(config).create(&TransportContext {
            role: Role::Responder,
            local: "a@example.org/1".into(),
            remote: "b@example.org/2".into(),
            sid: "sid".into(),
            content: "main".into(),
            dialect: Dialect::GTALK,
            seed: [9; 32],
            waker: Waker::noop().clone(),
        });
        let channel = transport.create_channel("tcp").expect("there is room");
        let mut end = Self {
            transport,
            channel,
            begun: epoch(),
            now: epoch(),
            name: String::new(),
            pinged: Vec::new(),
            met: Vec::new(),
            received: 0,
            sent: 0,
        };
        end.channel.connect(end.now);
        end.drain(None);
        end
    }

    fn drain(&mut self, source: Option<SocketAddr>) {
        while let Some(output) = self.channel.poll_output() {
            match output {
                ChannelOutput::Bind(socket, _, address) => {
                    let address = SocketAddr::new(address.ip(), 5_000);
                    self.channel.handle_bound(socket, Ok(address), self.now);
                }
                ChannelOutput::Transmit(transmit) => {
                    self.sent += 1;
                    if transmit.payload.starts_with(&[0, 1]) && self.pinged.len() < 1_000 {
                        self.pinged.push((transmit.destination, transmit.payload));
                    }
                }
                ChannelOutput::Info(info) => {
                    self.name = info.attribute("username").unwrap_or_default().to_owned();
                }
                ChannelOutput::Packet(_) => {
                    assert!(source.is_some_and(|source| self.met.contains(&source)));
                }
                _ => {}
            }
        }
        let elapsed = self.now.duration_since(self.begun).as_millis() as u64;
        assert!(self.sent <= 2 * self.received + elapsed / 20 + SLACK);
    }

    fn wait(&mut self, duration: Duration) {
        let until = self.now + duration;
        let mut steps = 0;
        while let Some(at) = self.channel.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.channel.handle_timeout(self.now);
            self.drain(None);
            steps += 1;
            assert!(steps < 10_000, "time stands still");
        }
        self.now = until;
    }

    fn receive(&mut self, source: SocketAddr, payload: Bytes) {
        self.received += 1;
        let datagram = Datagram {
            socket: LocalSocket(0),
            source,
            payload,
            segment_size: 0,
        };
        self.channel.handle_datagram(datagram, self.now);
        self.drain(Some(source));
    }

    /// A ping of the peer; with bytes, they replace as many at its beginning.
    fn ping(&mut self, source: SocketAddr, bytes: &[u8]) {
        let name = format!("{}{PEER_NAME}", self.name);
        let ping = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([3; 12]))
            .username(&name);
        let Ok(ping) = ping.finish(None, false) else {
            return;
        };
        let mut ping = ping.to_vec();
        for (at, byte) in bytes.iter().enumerate().take(ping.len()) {
            ping[at] ^= byte;
        }
        self.met.push(source);
        self.receive(source, ping.into());
    }

    /// The answer to the last ping; an odd byte first makes it a refusal with the rest as its ERROR-CODE.
    fn answer(&mut self, source: SocketAddr, bytes: &[u8]) {
        let Some((to, ping)) = self.pinged.pop() else {
            return;
        };
        let Ok(scan) = Scan::new(&ping) else {
            return;
        };
        let refuses = bytes.first().is_some_and(|byte| byte % 2 == 1);
        let class = if refuses {
            Class::Error
        } else {
            Class::Success
        };
        let answer = MessageBuilder::new(class, Method::BINDING, scan.transaction());
        let answer = if refuses {
            answer.raw(0x0009, bytes.get(1..).unwrap_or_default())
        } else {
            answer.attribute(Attribute::MappedAddress(source))
        };
        let from = if bytes.len() > 40 { source } else { to };
        self.met.push(from);
        if let Ok(answer) = answer.finish(None, false) {
            self.receive(from, answer);
        }
    }

    /// A candidate; with bytes, one of its attributes is what they say.
    fn candidate(&mut self, address: SocketAddr, which: u8, bytes: &[u8]) {
        const FIELDS: [&str; 7] = [
            "address",
            "port",
            "preference",
            "username",
            "protocol",
            "generation",
            "type",
        ];
        let mut candidate = Element::new(GOOGLE_P2P, "candidate")
            .with("name", "tcp")
            .with("address", address.ip())
            .with("port", address.port())
            .with("preference", "0.9")
            .with("username", PEER_NAME)
            .with("protocol", "udp");
        let text = String::from_utf8_lossy(bytes);
        if !text.is_empty() {
            candidate.set_attribute(FIELDS[usize::from(which) % FIELDS.len()], &*text);
        }
        let info = Element::new(GOOGLE_P2P, "transport").child(candidate);
        if let Ok(parts) = self.transport.split_info(&info) {
            for (_, part) in parts {
                let taken = self.channel.handle_info(&part, self.now);
                assert!(taken.is_ok(), "what was understood is taken");
            }
        }
        self.received += 1;
        self.drain(None);
    }
}
