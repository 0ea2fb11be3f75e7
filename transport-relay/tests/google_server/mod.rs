//! A relay of Google's kind, written from the description: bindings by user name, one address outside for each, and the
//! lock. Its web server, and connections that pretend TLS.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::{Bytes, BytesMut};
use session_core::LocalSocket;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use transport_relay::{
    google::{CLIENT_HELLO, GoogleAccess, GoogleProtocol, GoogleRelay, MAGIC_COOKIE, SERVER_HELLO},
    stun::Scan,
};

pub const IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 50));
pub const UDP: u16 = 19_295;
pub const TCP: u16 = 19_294;
pub const SSL: u16 = 443;
pub const WEB: u16 = 80;
pub const TOKEN: &str = "CAES0123";
const FIRST_OUTSIDE: u16 = 30_000;

/// A client's socket: which client, and which of its sockets.
pub type Key = (usize, LocalSocket);

/// What a server does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// To a client, on the socket that it came from.
    Client(Key, Bytes),
    /// Ends the connection of a client.
    Hang(Key),
    /// From an address outside to a peer.
    Peer {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Bytes,
    },
}

/// Where a client is, and how it speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Line {
    Udp,
    Tcp,
    Ssl,
    Web,
}

struct Binding {
    username: Vec<u8>,
    outside: SocketAddr,
    inside: Key,
    lock: Option<SocketAddr>,
    /// Who outside has shown the user name, or was sent something.
    known: BTreeSet<SocketAddr>,
    until: Instant,
}

pub struct Server {
    bindings: Vec<Binding>,
    streams: BTreeMap<Key, (Line, BytesMut)>,
    /// What answers.
    pub lines: Vec<Line>,
    pub lifetime: Duration,
    /// Whether the lock is granted.
    pub locks: bool,
    /// Status of the web server, and whether it names addresses.
    pub status: u16,
    pub names_addresses: bool,
    /// Allocations that were asked for, refreshes too.
    pub allocations: u32,
    /// Packets that came wrapped, and that came as they are.
    pub wrapped: u32,
    pub raw: u32,
    sessions: u32,
}

impl Server {
    pub fn new() -> Self {
        Self {
            bindings: Vec::new(),
            streams: BTreeMap::new(),
            lines: vec![Line::Udp, Line::Tcp, Line::Ssl, Line::Web],
            lifetime: Duration::from_secs(900),
            locks: true,
            status: 200,
            names_addresses: true,
            allocations: 0,
            wrapped: 0,
            raw: 0,
            sessions: 0,
        }
    }

    /// Forgets everything, as one does that was started anew.
    pub fn forget(&mut self) {
        self.bindings.clear();
    }

    /// What a client has to know.
    pub fn relay() -> GoogleRelay {
        let at = |port| SocketAddr::new(IP, port);
        GoogleRelay {
            name: "relay.example".into(),
            web: vec![at(WEB)],
            ways: vec![
                (GoogleProtocol::Udp, at(UDP)),
                (GoogleProtocol::Tcp, at(TCP)),
                (GoogleProtocol::SslTcp, at(SSL)),
            ],
        }
    }

    pub fn access(token: bool) -> GoogleAccess {
        match token {
            true => GoogleAccess::Token(TOKEN.into()),
            false => GoogleAccess::Open,
        }
    }

    pub fn line(address: SocketAddr) -> Option<Line> {
        match (address.ip() == IP, address.port()) {
            (true, UDP) => Some(Line::Udp),
            (true, TCP) => Some(Line::Tcp),
            (true, SSL) => Some(Line::Ssl),
            (true, WEB) => Some(Line::Web),
            _ => None,
        }
    }

    /// Whether a connection comes about.
    pub fn connects(&mut self, key: Key, address: SocketAddr) -> bool {
        let line = Self::line(address).filter(|line| self.lines.contains(line));
        if let Some(line) = line {
            self.streams.insert(key, (line, BytesMut::new()));
        }
        line.is_some()
    }

    /// Bytes of a connection.
    pub fn stream(&mut self, key: Key, bytes: &[u8], now: Instant) -> Vec<Act> {
        let Some((line, buffer)) = self.streams.get_mut(&key) else {
            return Vec::new();
        };
        buffer.extend_from_slice(bytes);
        let mut acts = Vec::new();
        match line {
            Line::Web => return self.web(key),
            Line::Ssl => {
                if buffer.len() < CLIENT_HELLO.len() {
                    return acts;
                }
                assert_eq!(buffer.split_to(CLIENT_HELLO.len())[..], CLIENT_HELLO);
                acts.push(Act::Client(key, Bytes::from_static(&SERVER_HELLO)));
                *line = Line::Tcp;
            }
            Line::Udp | Line::Tcp => {}
        }
        loop {
            let (_, buffer) = self.streams.get_mut(&key).unwrap();
            let Some(&[high, low]) = buffer.first_chunk::<2>() else {
                return acts;
            };
            let length = usize::from(u16::from_be_bytes([high, low]));
            if buffer.len() < 2 + length {
                return acts;
            }
            let message = buffer.split_to(2 + length).freeze().slice(2..);
            acts.extend(self.inside(key, &message, now));
        }
    }

    fn web(&mut self, key: Key) -> Vec<Act> {
        let (_, buffer) = &self.streams[&key];
        let text = String::from_utf8(buffer.to_vec()).unwrap();
        if !text.ends_with("\r\n\r\n") {
            return Vec::new();
        }
        assert!(text.starts_with("GET /create_session HTTP/1.0\r\nHost: relay.example\r\n"));
        let opens = text.contains(&format!("X-Talk-Google-Relay-Auth: {TOKEN}\r\n"));
        let status = if opens { self.status } else { 401 };
        self.sessions += 1;
        let places = match self.names_addresses {
            true => format!(
                "relay.ip={IP}\nrelay.udp_port={UDP}\nrelay.tcp_port={TCP}\nrelay.ssltcp_port={SSL}\n"
            ),
            false => String::new(),
        };
        let body = format!("{places}username=session{:09}\npassword=p\n", self.sessions);
        let answer = format!("HTTP/1.1 {status} X\r\n\r\n{body}");
        vec![Act::Client(key, answer.into()), Act::Hang(key)]
    }

    /// A message or a packet of a client.
    pub fn inside(&mut self, key: Key, bytes: &Bytes, now: Instant) -> Vec<Act> {
        let bound = self
            .bindings
            .iter()
            .position(|b| b.inside == key && b.until > now);
        let marked = bytes.get(24..28) == Some(&MAGIC_COOKIE[..]);
        if !marked {
            self.raw += 1;
            let binding = bound.map(|at| &self.bindings[at]);
            let Some((binding, to)) = binding.and_then(|b| Some((b, b.lock?))) else {
                return Vec::new();
            };
            let (from, bytes) = (binding.outside, bytes.clone());
            return vec![Act::Peer { from, to, bytes }];
        }
        let kind = u16::from_be_bytes([bytes[0], bytes[1]]);
        let id = &bytes[4..20];
        let Some(username) = value(bytes, 6).map(<[u8]>::to_vec) else {
            let code = (9, &[0, 0, 1, 176][..]);
            return vec![Act::Client(key, answer(kind | 0x110, id, &[code]))];
        };
        match kind {
            3 => vec![Act::Client(key, self.allocate(key, id, username, now))],
            4 => self.send(bound, key, bytes, now),
            _ => Vec::new(),
        }
    }

    fn allocate(&mut self, key: Key, id: &[u8], username: Vec<u8>, now: Instant) -> Bytes {
        self.allocations += 1;
        let until = now + self.lifetime;
        let known = self
            .bindings
            .iter()
            .position(|b| b.username == username && b.until > now);
        let at = known.unwrap_or_else(|| {
            let port = FIRST_OUTSIDE + self.bindings.len() as u16;
            self.bindings.push(Binding {
                username,
                outside: SocketAddr::new(IP, port),
                inside: key,
                lock: None,
                known: BTreeSet::new(),
                until,
            });
            self.bindings.len() - 1
        });
        let binding = &mut self.bindings[at];
        (binding.inside, binding.until) = (key, until);
        let lifetime = (self.lifetime.as_secs() as u32).to_be_bytes();
        let place = place(binding.outside);
        answer(0x103, id, &[(1, &place), (13, &lifetime)])
    }

    fn send(&mut self, bound: Option<usize>, key: Key, bytes: &Bytes, _: Instant) -> Vec<Act> {
        self.wrapped += 1;
        let id = &bytes[4..20];
        let (Some(at), Some(to), Some(data)) = (bound, value(bytes, 17), value(bytes, 19)) else {
            let code = (9, &[0, 0, 1, 144][..]);
            return vec![Act::Client(key, answer(0x114, id, &[code]))];
        };
        let to = address(to);
        let binding = &mut self.bindings[at];
        binding.known.insert(to);
        let mut acts = vec![Act::Peer {
            from: binding.outside,
            to,
            bytes: Bytes::copy_from_slice(data),
        }];
        let wants = value(bytes, 0x8001).is_some_and(|options| options[3] & 1 == 1);
        if wants && self.locks {
            binding.lock = Some(to);
            let options = (0x8001, &[0, 0, 0, 1][..]);
            acts.push(Act::Client(key, answer(0x104, id, &[options])));
        }
        acts
    }

    /// A packet from outside.
    pub fn outside(
        &mut self,
        to: SocketAddr,
        from: SocketAddr,
        bytes: &Bytes,
        now: Instant,
    ) -> Vec<Act> {
        let found = self
            .bindings
            .iter_mut()
            .find(|b| b.outside == to && b.until > now);
        let Some(binding) = found else {
            return Vec::new();
        };
        if !binding.known.contains(&from) {
            let scan = Scan::new(bytes).or_else(|_| Scan::legacy(bytes));
            let name = scan
                .ok()
                .and_then(|scan| scan.username().map(<[u8]>::to_vec));
            if !name.is_some_and(|name| name.starts_with(&binding.username)) {
                return Vec::new();
            }
            binding.known.insert(from);
        }
        if binding.lock == Some(from) {
            return vec![Act::Client(binding.inside, bytes.clone())];
        }
        let place = place(from);
        let message = answer(0x115, &[3; 16], &[(18, &place), (19, bytes)]);
        vec![Act::Client(binding.inside, message)]
    }

    /// How a message has to travel to a client.
    pub fn framed(&self, key: Key, bytes: Bytes) -> Bytes {
        match self.streams.get(&key) {
            Some((Line::Tcp, _)) if bytes[..] != SERVER_HELLO => {
                [&(bytes.len() as u16).to_be_bytes()[..], &bytes]
                    .concat()
                    .into()
            }
            _ => bytes,
        }
    }
}

fn answer(kind: u16, id: &[u8], attributes: &[(u16, &[u8])]) -> Bytes {
    let mut body = vec![0, 15, 0, 4];
    body.extend(MAGIC_COOKIE);
    for (kind, value) in attributes {
        body.extend(kind.to_be_bytes());
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    let mut bytes = kind.to_be_bytes().to_vec();
    bytes.extend((body.len() as u16).to_be_bytes());
    bytes.extend(id);
    bytes.extend(body);
    bytes.into()
}

fn value(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = &bytes[20..];
    while let Some((&[a, b, c, d], body)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([c, d]));
        if u16::from_be_bytes([a, b]) == wanted {
            return body.get(..length);
        }
        rest = body.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn place(address: SocketAddr) -> [u8; 8] {
    let SocketAddr::V4(address) = address else {
        unreachable!("no IPv6 here")
    };
    let ([a, b, c, d], [high, low]) = (address.ip().octets(), address.port().to_be_bytes());
    [0, 1, high, low, a, b, c, d]
}

fn address(value: &[u8]) -> SocketAddr {
    let ip = Ipv4Addr::new(value[4], value[5], value[6], value[7]);
    SocketAddr::new(ip.into(), u16::from_be_bytes([value[2], value[3]]))
}
