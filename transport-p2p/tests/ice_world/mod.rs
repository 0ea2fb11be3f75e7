//! Two hosts behind NATs, a STUN server and a relay, in virtual time.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "test tools, of which each test uses a part"
)]

mod internet;
mod relay;
mod setup;
mod tcp;

pub use internet::{Internet, Nat, Shared, home};
pub use setup::Setup;

use bytes::Bytes;
use session_core::testing::epoch;
use session_core::{
    BindKind, ChannelOutput, Datagram, Dialect, Element, Finding, InfoTarget, Inquiry, LocalSocket,
    PeerError, SeededEntropy, SocketError, StanzaError, StreamEvent, Transmit, Transport,
    TransportChannel, TransportError,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use transport_p2p::ice::Interfaces;
use transport_p2p::stun::{Attribute, Class, MessageBuilder, Method, Scan};

pub const STUN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), 3_478);
pub const RELAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 3_478);
/// The same on the port that firewalls leave open.
pub const RELAY_WEB: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), 443);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub end: usize,
    pub channel: usize,
    pub socket: LocalSocket,
}

enum Event {
    Bound(Key, Result<SocketAddr, SocketError>),
    /// In the network where it was sent to an address.
    Datagram {
        network: usize,
        source: SocketAddr,
        to: SocketAddr,
        payload: Bytes,
    },
    Stream(Key, StreamEvent),
    Found(Key, Finding),
    /// What a relay's client wrote.
    Relay(Key, Bytes),
    Info {
        to: usize,
        info: Element,
    },
    /// One that was acknowledged long ago.
    Late {
        to: usize,
        info: Element,
    },
    /// The answer to one.
    Reply {
        to: usize,
        info: Element,
        refused: Option<StanzaError>,
    },
}

pub struct End {
    pub transport: Box<dyn Transport>,
    pub channels: Vec<Box<dyn TransportChannel>>,
    pub interfaces: Interfaces,
    pub packets: Vec<Vec<u8>>,
    pub writable: Vec<bool>,
    pub paths: Vec<Vec<bool>>,
    pub failed: Vec<Option<TransportError>>,
    pub connected_after: Option<Duration>,
    /// What was said to the peer.
    pub told: Vec<Element>,
    /// Whether the router gives ports to who asks.
    pub maps_ports: bool,
    early: Vec<Element>,
    nat: Nat,
    ports: u16,
}

pub struct World {
    pub now: Instant,
    pub start: Instant,
    pub ends: Vec<End>,
    pub delay: Duration,
    pub jitter: Duration,
    pub loss: f64,
    pub cut: bool,
    /// From where nothing gets to where.
    pub unreachable: BTreeSet<(IpAddr, IpAddr)>,
    pub signalling: Duration,
    /// No signalling arrives.
    pub silent: bool,
    /// Who hears no signalling.
    pub deaf: Option<usize>,
    /// Who refuses to restart.
    pub refuses_restarts: Option<usize>,
    /// Who acknowledges restarts and does nothing, for so long.
    pub ignores_restarts: Option<(usize, Duration)>,
    /// How many times binding an address fails.
    pub unready: Option<(IpAddr, u32)>,
    /// Restarts that were refused because they crossed.
    pub tie_breaks: u32,
    /// Whether both are on one local network, as far as names go.
    pub one_lan: bool,
    names: Vec<(Arc<str>, IpAddr)>,
    pub transmits: u64,
    random: SeededEntropy,
    agenda: BTreeMap<(Instant, u64), Event>,
    serial: u64,
    pub internet: Internet,
    sockets: BTreeMap<SocketAddr, Key>,
    streams: tcp::Streams,
    relayed: BTreeMap<SocketAddr, (Key, BTreeSet<IpAddr>)>,
}

impl World {
    pub fn new(setup: &Setup) -> Self {
        let start = epoch();
        let ends = (0..2).map(|number| End::new(setup, number)).collect();
        Self {
            now: start,
            start,
            ends,
            delay: Duration::from_millis(25),
            jitter: Duration::ZERO,
            loss: 0.0,
            cut: false,
            unreachable: BTreeSet::new(),
            signalling: Duration::from_millis(50),
            silent: false,
            deaf: None,
            refuses_restarts: None,
            ignores_restarts: None,
            unready: None,
            tie_breaks: 0,
            one_lan: true,
            names: Vec::new(),
            transmits: 0,
            random: SeededEntropy::new(setup.seed),
            agenda: BTreeMap::new(),
            serial: 0,
            internet: Internet::new(setup.nats, setup.shared),
            sockets: BTreeMap::new(),
            streams: tcp::Streams::default(),
            relayed: BTreeMap::new(),
        }
    }

    /// Offer, answer, channels.
    pub fn negotiate(&mut self, channels: usize) {
        let offer = self.ends[0].transport.offer();
        let answer = self.ends[1].transport.accept_offer(&offer).unwrap();
        self.ends[0].transport.accept_answer(&answer).unwrap();
        for end in 0..2 {
            for channel in 0..channels {
                self.add_channel(end, &format!("channel {channel}"));
            }
        }
    }

    pub fn add_channel(&mut self, number: usize, name: &str) {
        let end = &mut self.ends[number];
        let mut channel = end.transport.create_channel(name).unwrap();
        channel.connect(self.now);
        end.channels.push(channel);
        end.writable.push(false);
        end.paths.push(Vec::new());
        end.failed.push(None);
        let channel = self.ends[number].channels.len() - 1;
        self.drain(number, channel);
        for info in std::mem::take(&mut self.ends[number].early) {
            self.info(number, &info);
        }
    }

    pub fn connected(setup: &Setup) -> Self {
        let mut world = Self::new(setup);
        world.negotiate(setup.channels);
        assert!(
            world.run_until(Duration::from_secs(20), Self::all_writable),
            "{:?}: {:?}",
            setup.nats,
            world.describe()
        );
        world
    }

    pub fn all_writable(&self) -> bool {
        self.ends
            .iter()
            .all(|end| !end.writable.is_empty() && end.writable.iter().all(|writable| *writable))
    }

    pub fn describe(&self) -> Vec<String> {
        self.ends
            .iter()
            .flat_map(|end| end.channels.iter().filter_map(|channel| channel.describe()))
            .collect()
    }

    pub fn send(&mut self, end: usize, channel: usize, packet: &[u8]) -> bool {
        let now = self.now;
        let sent = self.ends[end].channels[channel]
            .send(Bytes::copy_from_slice(packet), now)
            .is_ok();
        self.drain(end, channel);
        sent
    }

    /// Data of its own each way on each channel.
    pub fn assert_carries(&mut self) {
        for end in 0..2 {
            self.ends[end].packets.clear();
        }
        for end in 0..2 {
            for channel in 0..self.ends[end].channels.len() {
                assert!(self.send(end, channel, format!("{end} {channel}").as_bytes()));
            }
        }
        self.run_for(Duration::from_millis(500));
        for end in 0..2 {
            let expected: Vec<_> = (0..self.ends[end].channels.len())
                .map(|channel| format!("{} {channel}", 1 - end).into_bytes())
                .collect();
            assert_eq!(self.ends[end].packets, expected, "{:?}", self.describe());
        }
    }

    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(duration, |_| false);
    }

    /// Whether it came true within the time.
    pub fn run_until(&mut self, within: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + within;
        let mut steps = 0_u64;
        loop {
            if done(self) {
                return true;
            }
            steps += 1;
            assert!(steps < 2_000_000, "time stands still");
            match self.next() {
                Some(at) if at <= until => self.step(at),
                Some(_) | None => {
                    self.now = until;
                    return false;
                }
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        self.ends
            .iter()
            .flat_map(|end| {
                end.channels
                    .iter()
                    .filter_map(|channel| channel.poll_timeout())
            })
            .chain(self.agenda.keys().next().map(|(at, _)| *at))
            .min()
    }

    fn step(&mut self, at: Instant) {
        self.now = self.now.max(at);
        while let Some(entry) = self.agenda.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.handle(event);
        }
        for end in 0..2 {
            for channel in 0..self.ends[end].channels.len() {
                let this = &mut self.ends[end].channels[channel];
                if this.poll_timeout().is_some_and(|at| at <= self.now) {
                    this.handle_timeout(self.now);
                    self.drain(end, channel);
                }
            }
        }
    }

    fn push(&mut self, after: Duration, event: Event) {
        self.serial += 1;
        self.agenda.insert((self.now + after, self.serial), event);
    }

    fn travel_time(&mut self) -> Duration {
        let share = (self.random.next_u64() % 1_000) as u32;
        self.delay + self.jitter * share / 1_000
    }

    fn is_lost(&mut self) -> bool {
        self.cut || (self.random.next_u64() % 10_000) as f64 / 10_000.0 < self.loss
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Bound(key, address) => {
                self.with_channel(key, |channel, now| {
                    channel.handle_bound(key.socket, address, now);
                });
            }
            Event::Stream(key, event) => {
                self.with_channel(key, |channel, now| {
                    channel.handle_stream(key.socket, event, now)
                });
            }
            Event::Found(key, finding) => {
                let number = key.socket.0;
                self.with_channel(key, |channel, now| {
                    channel.handle_finding(number, finding, now);
                });
            }
            Event::Relay(key, frame) => self.relay_frame(key, &frame),
            Event::Late { to, info } => drop(self.info(to, &info)),
            Event::Info { to, info } => {
                // The answer goes before anything that the request causes.
                self.serial += 1;
                let at = (self.now + self.signalling, self.serial);
                let refused = match self.ignores_restarts {
                    Some((who, time)) if who == to && !self.is_first(to, &info) => {
                        self.push(
                            time,
                            Event::Late {
                                to,
                                info: info.clone(),
                            },
                        );
                        None
                    }
                    _ => self.info(to, &info),
                };
                let to = 1 - to;
                if !self.silent {
                    self.agenda.insert(at, Event::Reply { to, info, refused });
                }
            }
            Event::Reply { to, info, refused } => self.reply(to, &info, refused.as_ref()),
            Event::Datagram {
                network,
                source,
                to,
                payload,
            } => self.arrive(network, source, to, payload),
        }
    }

    fn with_channel(&mut self, key: Key, call: impl FnOnce(&mut dyn TransportChannel, Instant)) {
        let now = self.now;
        if let Some(channel) = self.ends[key.end].channels.get_mut(key.channel) {
            call(channel.as_mut(), now);
            self.drain(key.end, key.channel);
        }
    }

    /// Whether the peer says this with its first credentials.
    fn is_first(&self, to: usize, info: &Element) -> bool {
        let first = self.ends[1 - to].told.first();
        first.is_none_or(|first| first.attribute("ufrag") == info.attribute("ufrag"))
    }

    /// A `<transport/>` of the peer; how it is refused.
    pub fn info(&mut self, to: usize, info: &Element) -> Option<StanzaError> {
        if self.refuses_restarts == Some(to) && info.is_empty() {
            let error = PeerError::NotImplemented("restart");
            return Some(error.to_stanza_error(Dialect::JINGLE));
        }
        let parts = match self.ends[to].transport.split_info(info) {
            Ok(parts) => parts,
            Err(TransportError::TieBreak) => {
                self.tie_breaks += 1;
                return Some(PeerError::TieBreak.to_stanza_error(Dialect::JINGLE));
            }
            Err(error) => panic!("{error}"),
        };
        for (target, part) in parts {
            match target {
                // Named after the first channel of this side, whichever it is.
                InfoTarget::Channel(_) => self.with_channel(
                    Key {
                        end: to,
                        channel: 0,
                        socket: LocalSocket(0),
                    },
                    |channel, now| channel.handle_info(&part, now).unwrap(),
                ),
                InfoTarget::All => self.ends[to].early.push(part),
            }
        }
        None
    }

    fn reply(&mut self, to: usize, info: &Element, refused: Option<&StanzaError>) {
        let now = self.now;
        let reply = refused.map_or(Ok(()), Err);
        self.ends[to].transport.handle_info_reply(info, reply, now);
        for channel in 0..self.ends[to].channels.len() {
            self.drain(to, channel);
        }
    }

    fn drain(&mut self, end: usize, channel: usize) {
        while let Some(output) = self.ends[end].channels[channel].poll_output() {
            self.perform(end, channel, output);
        }
        let connected = self.ends[end].writable.iter().all(|writable| *writable);
        if connected && self.ends[end].connected_after.is_none() {
            self.ends[end].connected_after = Some(self.now - self.start);
        }
    }

    /// What a host knows: names of its local network, ports of its router.
    fn find(&mut self, end: usize, channel: usize, inquiry: &Inquiry) -> Finding {
        match inquiry {
            Inquiry::HideAddress(ip) => {
                let name: Arc<str> = format!("hidden-{}.local", self.names.len()).into();
                self.names.push((name.clone(), *ip));
                Finding::Name(name)
            }
            Inquiry::LocalName(wanted) if self.one_lan => {
                let known = self.names.iter().find(|(name, _)| name == wanted);
                known.map_or(Finding::Unavailable, |(_, ip)| Finding::Address(*ip))
            }
            Inquiry::MapPort(socket) if self.ends[end].maps_ports => {
                let key = Key {
                    end,
                    channel,
                    socket: *socket,
                };
                let inside = *self.sockets.iter().find(|(_, k)| **k == key).unwrap().0;
                let mapped = self.internet.map_port(end, inside);
                mapped.map_or(Finding::Unavailable, Finding::Mapped)
            }
            _ => Finding::Unavailable,
        }
    }

    fn perform(&mut self, number: usize, channel: usize, output: ChannelOutput) {
        let this = number;
        let on = |socket| Key {
            end: number,
            channel,
            socket,
        };
        let end = &mut self.ends[number];
        assert!(end.failed[channel].is_none(), "{output:?} after Failed");
        match output {
            ChannelOutput::Bind(socket, kind, address) => {
                end.ports += 1;
                let address = SocketAddr::new(address.ip(), end.ports);
                match kind {
                    BindKind::Udp => drop(self.sockets.insert(address, on(socket))),
                    BindKind::TcpListener => self.streams.listeners.push((address, on(socket))),
                    BindKind::TcpReserved => {}
                }
                let ready = match &mut self.unready {
                    Some((ip, times)) if *ip == address.ip() && *times > 0 => {
                        *times -= 1;
                        Err(refused())
                    }
                    _ => Ok(address),
                };
                self.push(Duration::ZERO, Event::Bound(on(socket), ready));
            }
            ChannelOutput::Close(socket) => self.close(on(socket)),
            ChannelOutput::Transmit(transmit) => self.transmit(on(transmit.socket), transmit),
            ChannelOutput::Connect(socket, target) => match target.from {
                Some(from) => self.open_simultaneously(on(socket), from, target.address),
                None => self.connect(on(socket), target.address),
            },
            ChannelOutput::Write(socket, bytes) => {
                if !self.write(on(socket), bytes.clone()) {
                    self.push(self.delay, Event::Relay(on(socket), bytes));
                }
            }
            ChannelOutput::Inquire(number, inquiry) => {
                let finding = self.find(this, channel, &inquiry);
                let delay = self.delay;
                self.push(delay, Event::Found(on(LocalSocket(number)), finding));
            }
            ChannelOutput::Info(info) => {
                let name: Arc<str> = format!("channel {channel}").into();
                let info = end.transport.wrap_info(vec![(name, info)]);
                end.told.push(info.clone());
                if !self.silent && self.deaf != Some(1 - number) {
                    self.push(
                        self.signalling,
                        Event::Info {
                            to: 1 - number,
                            info,
                        },
                    );
                }
            }
            ChannelOutput::Gathered => {}
            ChannelOutput::Packet(batch) => end.packets.extend(batch.map(|p| p.to_vec())),
            ChannelOutput::Writable(writable) => end.writable[channel] = writable,
            ChannelOutput::Path(path) => end.paths[channel].push(path),
            ChannelOutput::Failed(error) => end.failed[channel] = Some(error),
            other => panic!("{other:?}"),
        }
    }

    fn transmit(&mut self, key: Key, transmit: Transmit) {
        self.transmits += 1;
        let inside = *self.sockets.iter().find(|(_, k)| **k == key).unwrap().0;
        if !self.ends[key.end].nat.has_udp() {
            return;
        }
        let sockets = &self.sockets;
        let homes = [0, 1].map(|end| self.internet.home_of(end));
        let is_home = |ip: IpAddr, network| {
            let mut at = sockets.iter().filter(|(at, _)| at.ip() == ip);
            at.any(|(at, key)| network_of(homes[key.end], at.ip()) == network)
        };
        let to = transmit.destination;
        let (network, source) = match network_of(homes[key.end], inside.ip()) {
            0 => (0, inside),
            _ => self.internet.leave(key.end, inside, to, is_home),
        };
        let way = (source.ip(), transmit.destination.ip());
        if !self.is_lost() && !self.unreachable.contains(&way) {
            let (to, payload) = (transmit.destination, transmit.payload);
            let after = self.travel_time();
            self.push(
                after,
                Event::Datagram {
                    network,
                    source,
                    to,
                    payload,
                },
            );
        }
    }

    /// The network that an address of an end is in.
    fn network_of(&self, end: usize, ip: IpAddr) -> usize {
        network_of(self.internet.home_of(end), ip)
    }

    /// A datagram reaches an address of a network.
    pub fn arrive(&mut self, network: usize, source: SocketAddr, to: SocketAddr, payload: Bytes) {
        if to == STUN {
            return self.stun_server(source, &payload);
        }
        if let Some((key, permitted)) = self.relayed.get(&to) {
            if permitted.contains(&source.ip()) {
                let (key, frame) = (*key, relay::frame(source, &payload));
                self.push(self.delay, Event::Stream(key, StreamEvent::Data(frame)));
            }
            return;
        }
        let Some((network, inside)) = self.internet.enter(network, source, to) else {
            return;
        };
        if let Some(key) = self.sockets.get(&inside).copied()
            && self.network_of(key.end, inside.ip()) == network
            && self.ends[key.end].nat.has_udp()
        {
            let socket = key.socket;
            let datagram = Datagram {
                socket,
                source,
                payload,
                segment_size: 0,
            };
            self.with_channel(key, |channel, now| channel.handle_datagram(datagram, now));
        }
    }

    fn stun_server(&mut self, source: SocketAddr, payload: &[u8]) {
        let Some(scan) = Scan::new(payload)
            .ok()
            .filter(|scan| scan.class() == Class::Request)
        else {
            return;
        };
        let payload = MessageBuilder::new(Class::Success, Method::BINDING, scan.transaction())
            .attribute(Attribute::XorMappedAddress(source))
            .finish(None, true)
            .unwrap();
        let after = self.travel_time();
        self.push(
            after,
            Event::Datagram {
                network: 0,
                source: STUN,
                to: source,
                payload,
            },
        );
    }

    fn relay_frame(&mut self, key: Key, frame: &[u8]) {
        match relay::parse(frame) {
            relay::Frame::Allocate => {
                let relayed = SocketAddr::new(RELAY.ip(), 60_000 + self.relayed.len() as u16);
                self.relayed.insert(relayed, (key, BTreeSet::new()));
                let frame = relay::frame(relayed, b"");
                self.push(self.delay, Event::Stream(key, StreamEvent::Data(frame)));
            }
            relay::Frame::Permit(peer) => {
                for (owner, permitted) in self.relayed.values_mut() {
                    if *owner == key {
                        permitted.insert(peer.ip());
                    }
                }
            }
            relay::Frame::Send(peer, payload) => {
                let source = *self.relayed.iter().find(|(_, (k, _))| *k == key).unwrap().0;
                if !self.is_lost() {
                    let after = self.travel_time();
                    self.push(
                        after,
                        Event::Datagram {
                            network: 0,
                            source,
                            to: peer,
                            payload,
                        },
                    );
                }
            }
        }
    }
}

/// The network of an address: a public one is on the internet, whatever else its host has.
fn network_of(home: usize, ip: IpAddr) -> usize {
    let private = matches!(ip, IpAddr::V4(v4) if v4.is_private());
    if private { home } else { 0 }
}

/// A relay that nobody hears of.
pub fn dead_relay(server: SocketAddr) -> Arc<dyn transport_p2p::ice::RelayFactory> {
    Arc::new(relay::FakeRelayFactory(server))
}

/// A socket that could not be had.
pub fn refused() -> SocketError {
    SocketError {
        what: "bind",
        why: "refused by the test".into(),
    }
}
