//! The client of Google's relays, in front of one that is written from the description, with whatever of it broken.
#![cfg(feature = "gtalk")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

mod google_server;

use bytes::Bytes;
use google_server::*;
use proptest::prelude::*;
use session_core::{Batch, Datagram, LocalSocket, SocketError, StreamEvent, testing::epoch};
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use transport_relay::{
    RelayFactory, RelayOutput, RelaySource,
    google::{GoogleRelayConfig, GoogleRelayFactory, MAGIC_COOKIE},
    stun::{Class, MessageBuilder, Method, TransactionId},
};

const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
const DELAY: Duration = Duration::from_millis(20);

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 5_000))
}

/// What is on its way to the client.
enum News {
    Bound(LocalSocket),
    Datagram(LocalSocket, SocketAddr, Bytes),
    Stream(LocalSocket, StreamEvent),
}

struct Play {
    now: Instant,
    server: Server,
    source: Box<dyn RelaySource>,
    under_way: VecDeque<(Instant, News)>,
    /// Sockets and where they lead.
    sockets: Vec<(LocalSocket, Option<SocketAddr>)>,
    told: Vec<RelayOutput>,
    received: Vec<(SocketAddr, Bytes)>,
    /// What peers got: from where, to whom, what.
    out: Vec<(SocketAddr, SocketAddr, Bytes)>,
    lossy: Option<u32>,
}

impl Play {
    fn new(token: bool, adjust: impl Fn(&mut Server)) -> Self {
        let mut server = Server::new();
        adjust(&mut server);
        let config = GoogleRelayConfig::new(vec![Server::relay()], Server::access(token));
        let mut play = Self {
            now: epoch(),
            server,
            source: GoogleRelayFactory::new(config).create([5; 32]),
            under_way: VecDeque::new(),
            sockets: Vec::new(),
            told: Vec::new(),
            received: Vec::new(),
            out: Vec::new(),
            lossy: None,
        };
        play.source.start(&[OWN], play.now);
        play.drain();
        play
    }

    fn post(&mut self, news: News) {
        self.under_way.push_back((self.now + DELAY, news));
    }

    fn act(&mut self, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Client((_, socket), bytes) => {
                    let bytes = self.server.framed((0, socket), bytes);
                    let to = self.sockets.iter().find(|(s, _)| *s == socket).unwrap().1;
                    let news = match to {
                        None => {
                            let from = SocketAddr::new(IP, UDP);
                            News::Datagram(socket, from, bytes)
                        }
                        Some(_) => News::Stream(socket, StreamEvent::Data(bytes)),
                    };
                    self.post(news);
                }
                Act::Hang((_, socket)) => self.post(News::Stream(socket, StreamEvent::Finished)),
                Act::Peer { from, to, bytes } => self.out.push((from, to, bytes)),
            }
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.source.poll_output() {
            match output {
                RelayOutput::Bind(socket, address) => {
                    assert_eq!(address.ip(), OWN);
                    self.sockets.push((socket, None));
                    self.post(News::Bound(socket));
                }
                RelayOutput::Connect(socket, target) => {
                    assert_eq!(target.tls, None);
                    self.sockets.push((socket, Some(target.address)));
                    let news = match self.server.connects((0, socket), target.address) {
                        true => StreamEvent::Connected(Ok(SocketAddr::new(OWN, 40_000))),
                        false => StreamEvent::Connected(Err(SocketError {
                            what: "a connection",
                            why: "refused".into(),
                        })),
                    };
                    self.post(News::Stream(socket, news));
                }
                RelayOutput::Write(socket, bytes) => {
                    let acts = self.server.stream((0, socket), &bytes, self.now);
                    self.act(acts);
                }
                RelayOutput::Transmit(transmit) => {
                    assert_eq!(transmit.destination, SocketAddr::new(IP, UDP));
                    let socket = transmit.socket;
                    let batch = Batch {
                        payload: transmit.payload,
                        segment_size: transmit.segment_size,
                    };
                    for bytes in batch {
                        self.lossy = self
                            .lossy
                            .map(|seed| seed.wrapping_mul(1_103_515_245).wrapping_add(12_345));
                        let lost = self
                            .lossy
                            .is_some_and(|seed| (seed >> 16).is_multiple_of(3));
                        if self.server.lines.contains(&Line::Udp) && !lost {
                            let acts = self.server.inside((0, socket), &bytes, self.now);
                            self.act(acts);
                        }
                    }
                }
                RelayOutput::Close(socket) => self.sockets.retain(|(s, _)| *s != socket),
                RelayOutput::Received { peer, batch } => {
                    self.received.extend(batch.map(|bytes| (peer, bytes)));
                }
                told => self.told.push(told),
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..100_000 {
            let news = self.under_way.front().map(|(at, _)| *at);
            let next = news.into_iter().chain(self.source.poll_timeout()).min();
            let Some(at) = next.filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            if news.is_some_and(|at| at <= self.now) {
                let (_, news) = self.under_way.pop_front().unwrap();
                self.hear(news);
            } else {
                self.source.handle_timeout(self.now);
            }
            self.drain();
        }
        panic!("it does not come to rest");
    }

    fn hear(&mut self, news: News) {
        let now = self.now;
        let open = |socket: LocalSocket| self.sockets.iter().any(|(s, _)| *s == socket);
        match news {
            News::Bound(socket) if open(socket) => {
                let address = SocketAddr::new(OWN, 50_000);
                self.source.handle_bound(socket, Ok(address), now);
            }
            News::Datagram(socket, source, payload) if open(socket) => {
                let datagram = Datagram {
                    socket,
                    source,
                    payload,
                    segment_size: 0,
                };
                self.source.handle_datagram(datagram, now);
            }
            News::Stream(socket, event) if open(socket) => {
                self.source.handle_stream(socket, event, now);
            }
            News::Bound(_) | News::Datagram(..) | News::Stream(..) => {}
        }
    }

    fn relayed(&self) -> Option<SocketAddr> {
        self.told.iter().rev().find_map(|told| match told {
            RelayOutput::Allocated { relayed, .. } => Some(*relayed),
            _ => None,
        })
    }

    fn send(&mut self, to: u8, bytes: &[u8]) {
        let batch = Batch::from(Bytes::copy_from_slice(bytes));
        self.source.permit(peer(to), self.now);
        self.source.send(peer(to), batch, self.now);
        self.drain();
    }

    /// A packet of a peer arrives at the relay.
    fn knock(&mut self, from: u8, bytes: impl Into<Bytes>) {
        let relayed = self.relayed().unwrap();
        let acts = self
            .server
            .outside(relayed, peer(from), &bytes.into(), self.now);
        self.act(acts);
    }

    fn ping(&self) -> Bytes {
        let name = self.source.username().unwrap();
        MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
            .username(&format!("{name}theirs"))
            .finish(None, false)
            .unwrap()
    }
}

/// Which line serves.
fn line(play: &Play) -> Option<Line> {
    let (_, address) = play.sockets.last()?;
    match address {
        None => Some(Line::Udp),
        Some(address) => Server::line(*address),
    }
}

#[test]
fn it_gets_an_address_by_whatever_way_there_is() {
    for token in [true, false] {
        for (lines, expected, within) in [
            (
                vec![Line::Udp, Line::Tcp, Line::Ssl, Line::Web],
                Line::Udp,
                1,
            ),
            (vec![Line::Tcp, Line::Ssl, Line::Web], Line::Tcp, 2),
            (vec![Line::Ssl, Line::Web], Line::Ssl, 3),
        ] {
            let mut play = Play::new(token, |server| server.lines = lines.clone());
            play.run(Duration::from_secs(within));
            assert!(play.relayed().is_some(), "{token} {lines:?}");
            play.run(Duration::from_secs(20));
            assert_eq!(play.sockets.len(), 1, "the others are closed");
            assert_eq!(line(&play), Some(expected));
            assert_eq!(play.told.len(), 1);
        }
    }
}

#[test]
fn without_a_way_it_fails_once_and_says_why() {
    for token in [true, false] {
        let mut play = Play::new(token, |server| server.lines = vec![Line::Web]);
        play.run(Duration::from_secs(60));
        let [RelayOutput::Failed(why)] = &play.told[..] else {
            panic!("{:?}", play.told);
        };
        assert!(why.contains("no address on the relay"), "{why}");
        assert_eq!(play.sockets, []);
        assert_eq!(play.source.poll_timeout(), None);
    }
    let mut play = Play::new(true, |server| server.status = 403);
    play.run(Duration::from_secs(60));
    let [RelayOutput::Failed(why)] = &play.told[..] else {
        panic!("{:?}", play.told);
    };
    assert!(why.contains("403") && !why.contains(TOKEN), "{why}");
}

/// Where the session names no address, those that were known before are used.
#[test]
fn a_session_may_leave_out_where_to_go() {
    let mut play = Play::new(true, |server| server.names_addresses = false);
    play.run(Duration::from_secs(1));
    assert!(play.relayed().is_some());
    assert_eq!(play.source.username().as_deref(), Some("session000000001"));
}

#[test]
fn data_is_wrapped_until_the_lock_and_then_travels_as_it_is() {
    for lines in [vec![Line::Udp], vec![Line::Tcp], vec![Line::Ssl]] {
        let mut play = Play::new(false, |server| server.lines = lines.clone());
        play.run(Duration::from_secs(5));
        let ping = play.ping();
        // Who does not know the name is not heard, whoever asks first.
        play.knock(2, &b"no ping"[..]);
        play.knock(1, ping.clone());
        play.run(Duration::from_secs(1));
        assert_eq!(play.received, [(peer(1), ping.clone())]);
        // Pings go to many, and lock nothing.
        play.send(1, &ping);
        play.send(2, &ping);
        play.run(Duration::from_secs(1));
        assert_eq!((play.server.wrapped, play.server.raw), (2, 0));
        play.send(1, b"data");
        play.run(Duration::from_secs(1));
        assert_eq!((play.server.wrapped, play.server.raw), (3, 0));
        play.send(1, b"more");
        assert_eq!((play.server.wrapped, play.server.raw), (3, 1));
        play.knock(1, &b"answer"[..]);
        play.knock(2, ping.clone());
        play.run(Duration::from_secs(1));
        let all = [
            (peer(1), ping.clone()),
            (peer(1), Bytes::from_static(b"answer")),
            (peer(2), ping.clone()),
        ];
        assert_eq!(play.received, all, "{lines:?}");
        // What looks like a message of the relay's own is wrapped, and arrives.
        let mut odd = vec![7; 40];
        odd[24..28].copy_from_slice(&MAGIC_COOKIE);
        play.send(1, &odd);
        assert_eq!((play.server.wrapped, play.server.raw), (4, 1));
        assert_eq!(play.out.last().unwrap().2, odd);
        // Another peer takes the lock over.
        play.send(2, b"you now");
        play.run(Duration::from_secs(1));
        play.send(2, b"as it is");
        play.knock(2, &b"heard"[..]);
        play.knock(1, &b"wrapped"[..]);
        play.run(Duration::from_secs(1));
        assert_eq!(play.server.raw, 2);
        let last = &play.received[3..];
        let expected = [
            (peer(2), Bytes::from_static(b"heard")),
            (peer(1), Bytes::from_static(b"wrapped")),
        ];
        assert_eq!(last, expected, "{lines:?}");
    }
}

#[test]
fn where_the_lock_is_not_granted_everything_stays_wrapped() {
    let mut play = Play::new(false, |server| server.locks = false);
    play.run(Duration::from_secs(1));
    for _ in 0..100 {
        play.send(1, b"data");
    }
    play.run(Duration::from_secs(1));
    assert_eq!((play.server.wrapped, play.server.raw), (100, 0));
    assert_eq!(play.out.len(), 100);
}

#[test]
fn several_datagrams_stay_one_batch_once_the_lock_holds() {
    let mut play = Play::new(false, |_| {});
    play.run(Duration::from_secs(1));
    play.send(1, b"first");
    play.run(Duration::from_secs(1));
    let batch = Batch {
        payload: vec![9; 3_000].into(),
        segment_size: 1_000,
    };
    play.source.send(peer(1), batch, play.now);
    let Some(RelayOutput::Transmit(transmit)) = play.source.poll_output() else {
        panic!("nothing leaves");
    };
    assert_eq!(
        (transmit.payload.len(), transmit.segment_size),
        (3_000, 1_000)
    );
}

#[test]
fn more_time_is_asked_for_and_a_lost_address_is_replaced() {
    let mut play = Play::new(true, |server| server.lifetime = Duration::from_secs(60));
    play.run(Duration::from_secs(1));
    let first = play.relayed().unwrap();
    play.run(Duration::from_secs(600));
    assert_eq!(play.relayed(), Some(first));
    assert!(
        (15..=22).contains(&play.server.allocations),
        "{}",
        play.server.allocations
    );
    assert_eq!(play.told.len(), 1);
    // It was started anew, and gives another address to the same name.
    play.server.forget();
    play.server.outside(first, peer(1), &Bytes::new(), play.now);
    play.run(Duration::from_secs(120));
    assert!(play.relayed().is_some());
    // Silent for good: every replacement is sought, and then it is said.
    play.server.lines.clear();
    play.run(Duration::from_secs(900));
    assert!(
        matches!(play.told.last(), Some(RelayOutput::Failed(_))),
        "{:?}",
        play.told
    );
    let lost = play
        .told
        .iter()
        .filter(|told| matches!(told, RelayOutput::Lost { .. }));
    assert!(lost.count() <= 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever is lost, broken or said by others, there is an address exactly when a way works.
    #[test]
    fn there_is_an_address_when_a_way_works(
        udp: bool, tcp: bool, ssl: bool, web: bool, token: bool,
        seed: Option<u32>,
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..10),
    ) {
        let lines = [(udp, Line::Udp), (tcp, Line::Tcp), (ssl, Line::Ssl), (web, Line::Web)];
        let lines: Vec<_> = lines.into_iter().filter(|(on, _)| *on).map(|(_, line)| line).collect();
        let mut play = Play::new(token, |server| server.lines = lines.clone());
        // One in three is lost, of five that are sent; with connections beside it, it does not matter.
        play.lossy = seed.filter(|_| tcp || ssl);
        play.run(Duration::from_millis(100));
        for bytes in noise {
            let sockets: Vec<_> = play.sockets.clone();
            for (socket, to) in sockets {
                if to.is_none() {
                    play.post(News::Datagram(socket, SocketAddr::new(IP, UDP), bytes.clone().into()));
                    play.post(News::Datagram(socket, peer(9), bytes.clone().into()));
                }
            }
        }
        play.run(Duration::from_secs(60));
        let works = (udp || tcp || ssl) && (web || !token);
        prop_assert_eq!(play.relayed().is_some(), works, "{:?}", play.told);
        if works {
            prop_assert!(play.source.username().is_some());
            play.send(1, b"payload");
            play.run(Duration::from_secs(1));
        } else {
            prop_assert_eq!(play.told.len(), 1);
        }
    }
}
