//! Google's ICE through a relay of Google's kind: candidates bear the relay's user name, and so do the pings that open it.
#![cfg(feature = "gtalk")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

#[path = "../../transport-relay/tests/google_server/mod.rs"]
mod google_server;

use bytes::Bytes;
use google_server::{Act, Line, Server, UDP};
use session_core::{
    Batch, ChannelOutput, Datagram, Dialect, Element, LocalSocket, Role, SocketError, StreamEvent,
    Transport, TransportChannel, TransportContext, TransportFactory, testing::epoch,
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::ice::{GoogleIceFactory, IceConfig};
use transport_relay::google::{GoogleRelayConfig, GoogleRelayFactory};

/// A peer, and its sockets: those of connections with where they lead.
struct End {
    transport: Box<dyn Transport>,
    channel: Box<dyn TransportChannel>,
    ip: IpAddr,
    sockets: BTreeMap<LocalSocket, Option<SocketAddr>>,
    packets: Vec<Bytes>,
    infos: Vec<Element>,
    writable: bool,
}

impl End {
    fn new(role: Role, number: u8, relay_only: bool, token: bool) -> Self {
        let ip = IpAddr::V4(Ipv4Addr::new(203, 0, 113, number));
        let mut config = IceConfig::new(vec![ip]);
        config.relay_only = relay_only;
        if relay_only {
            let relay = GoogleRelayConfig::new(vec![Server::relay()], Server::access(token));
            config.relays.push(Arc::new(GoogleRelayFactory::new(relay)));
        }
        let mut transport = GoogleIceFactory::new(config).create(&TransportContext {
            role,
            local: "a@example.org/1".into(),
            remote: "b@example.org/2".into(),
            sid: "sid".into(),
            content: "main".into(),
            dialect: Dialect::GTALK,
            seed: [number; 32],
            waker: Waker::noop().clone(),
        });
        let channel = transport.create_channel("tcp").unwrap();
        Self {
            transport,
            channel,
            ip,
            sockets: BTreeMap::new(),
            packets: Vec::new(),
            infos: Vec::new(),
            writable: false,
        }
    }

    fn address(&self, socket: LocalSocket) -> SocketAddr {
        SocketAddr::new(self.ip, 40_000 + (socket.0 % 1_000) as u16)
    }

    fn socket_at(&self, address: SocketAddr) -> Option<LocalSocket> {
        let mut sockets = self.sockets.iter();
        let found = sockets.find(|(s, to)| to.is_none() && self.address(**s) == address);
        found.map(|(socket, _)| *socket)
    }
}

enum News {
    Bound(LocalSocket),
    Datagram(LocalSocket, SocketAddr, Bytes),
    Stream(LocalSocket, StreamEvent),
    Info(Element),
}

struct Play {
    now: Instant,
    server: Server,
    ends: [End; 2],
    under_way: VecDeque<(usize, News)>,
}

impl Play {
    fn new(relay_only: [bool; 2], token: bool, lines: &[Line]) -> Self {
        let mut server = Server::new();
        server.lines = lines.to_vec();
        let [a, b] = relay_only;
        let ends = [
            End::new(Role::Initiator, 1, a, token),
            End::new(Role::Responder, 2, b, token),
        ];
        let mut play = Self {
            now: epoch(),
            server,
            ends,
            under_way: VecDeque::new(),
        };
        for end in 0..2 {
            play.ends[end].channel.connect(play.now);
            play.drain(end);
        }
        play
    }

    fn act(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Client((end, socket), bytes) => {
                    let bytes = self.server.framed((end, socket), bytes);
                    let news = match self.ends[end].sockets[&socket] {
                        None => {
                            let from = SocketAddr::new(google_server::IP, UDP);
                            News::Datagram(socket, from, bytes)
                        }
                        Some(_) => News::Stream(socket, StreamEvent::Data(bytes)),
                    };
                    self.under_way.push_back((end, news));
                }
                Act::Hang((end, socket)) => {
                    let news = News::Stream(socket, StreamEvent::Finished);
                    self.under_way.push_back((end, news));
                }
                Act::Peer { from, to, bytes } => self.arrive(from, to, bytes),
            }
        }
    }

    /// A datagram on the network.
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, bytes: Bytes) {
        if to.ip() == google_server::IP {
            let acts = self.server.outside(to, from, &bytes, self.now);
            return self.act(acts);
        }
        for end in 0..2 {
            if let Some(socket) = self.ends[end].socket_at(to) {
                let news = News::Datagram(socket, from, bytes.clone());
                self.under_way.push_back((end, news));
            }
        }
    }

    fn drain(&mut self, end: usize) {
        while let Some(output) = self.ends[end].channel.poll_output() {
            match output {
                ChannelOutput::Bind(socket, ..) => {
                    self.ends[end].sockets.insert(socket, None);
                    self.under_way.push_back((end, News::Bound(socket)));
                }
                ChannelOutput::Connect(socket, target) => {
                    let to = target.address;
                    self.ends[end].sockets.insert(socket, Some(to));
                    let own = self.ends[end].address(socket);
                    let stands = self.server.connects((end, socket), to);
                    let result = stands.then_some(own).ok_or_else(|| SocketError {
                        what: "a connection",
                        why: "refused".into(),
                    });
                    let news = News::Stream(socket, StreamEvent::Connected(result));
                    self.under_way.push_back((end, news));
                }
                ChannelOutput::Write(socket, bytes) => {
                    let acts = self.server.stream((end, socket), &bytes, self.now);
                    self.act(acts);
                }
                ChannelOutput::Close(socket) => drop(self.ends[end].sockets.remove(&socket)),
                ChannelOutput::Transmit(transmit) => {
                    let (socket, to) = (transmit.socket, transmit.destination);
                    let from = self.ends[end].address(socket);
                    let batch = Batch {
                        payload: transmit.payload,
                        segment_size: transmit.segment_size,
                    };
                    for bytes in batch {
                        match Server::line(to) {
                            Some(Line::Udp) if !self.server.lines.contains(&Line::Udp) => {}
                            Some(_) => {
                                let acts = self.server.inside((end, socket), &bytes, self.now);
                                self.act(acts);
                            }
                            None => self.arrive(from, to, bytes),
                        }
                    }
                }
                ChannelOutput::Info(info) => {
                    self.ends[end].infos.push(info.clone());
                    self.under_way.push_back((1 - end, News::Info(info)));
                }
                ChannelOutput::Packet(batch) => self.ends[end].packets.extend(batch),
                ChannelOutput::Writable(writable) => self.ends[end].writable = writable,
                _ => {}
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            while let Some((end, news)) = self.under_way.pop_front() {
                let (now, address) = (self.now, |socket| self.ends[end].address(socket));
                match news {
                    News::Bound(socket) => {
                        let address = address(socket);
                        let channel = &mut self.ends[end].channel;
                        channel.handle_bound(socket, Ok(address), now);
                    }
                    News::Datagram(socket, source, payload) => {
                        let datagram = Datagram {
                            socket,
                            source,
                            payload,
                            segment_size: 0,
                        };
                        self.ends[end].channel.handle_datagram(datagram, now);
                    }
                    News::Stream(socket, event) => {
                        self.ends[end].channel.handle_stream(socket, event, now);
                    }
                    News::Info(info) => {
                        let end = &mut self.ends[end];
                        let wrapped = end.transport.wrap_info(vec![("tcp".into(), info)]);
                        for (_, info) in end.transport.split_info(&wrapped).unwrap() {
                            end.channel.handle_info(&info, now).unwrap();
                        }
                    }
                }
                self.drain(end);
            }
            self.now += Duration::from_millis(10);
            for end in 0..2 {
                let due = self.ends[end].channel.poll_timeout();
                if due.is_some_and(|at| at <= self.now) {
                    self.ends[end].channel.handle_timeout(self.now);
                }
                self.drain(end);
            }
        }
    }

    /// Data both ways, and as it is once the lock holds.
    fn talk(&mut self, what: &str) {
        for end in 0..2 {
            assert!(self.ends[end].writable, "{what}: {end} has a path");
        }
        for round in 0..20_u8 {
            for end in 0..2 {
                let bytes = Bytes::from(vec![round; 30]);
                self.ends[end].channel.send(bytes, self.now).unwrap();
                self.drain(end);
            }
            self.run(Duration::from_millis(20));
        }
        for end in &self.ends {
            let expected: Vec<_> = (0..20_u8).map(|n| Bytes::from(vec![n; 30])).collect();
            assert_eq!(end.packets, expected, "{what}");
        }
        assert!(
            self.server.raw > 15,
            "{what}: {} as they are",
            self.server.raw
        );
    }
}

#[test]
fn two_peers_meet_through_a_relay_by_whatever_way_leads_there() {
    for token in [true, false] {
        for relay_only in [[true, true], [true, false], [false, true]] {
            for lines in [
                [Line::Udp, Line::Web],
                [Line::Tcp, Line::Web],
                [Line::Ssl, Line::Web],
            ] {
                let mut play = Play::new(relay_only, token, &lines);
                play.run(Duration::from_secs(8));
                play.talk(&format!("{token} {relay_only:?} {lines:?}"));
            }
        }
    }
}

#[test]
fn a_relayed_candidate_bears_the_name_that_opens_the_relay() {
    let mut play = Play::new([true, false], true, &[Line::Udp, Line::Web]);
    play.run(Duration::from_secs(2));
    let [info] = &play.ends[0].infos[..] else {
        panic!("{:?}", play.ends[0].infos);
    };
    assert_eq!(info.attribute("type"), Some("relay"));
    assert_eq!(info.attribute("username"), Some("session000000001"));
    let own = play.ends[1].infos[0].attribute("username").unwrap();
    assert!(!own.starts_with("session"), "others keep theirs");
}
