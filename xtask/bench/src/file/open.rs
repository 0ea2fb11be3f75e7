//! How long a data channel takes to open when both sides know each other's candidates, in virtual time: 25 ms from here to
//! there. With DTLS 1.2 a str0m that is its client has taken 250 ms or more: it waits for the nomination, and heeds no INIT
//! beside its own.

use super::{
    data_channels,
    said::{Said, candidate_line},
};
use bytes::Bytes;
use session_core::{
    Batch, ChannelOutput, Datagram, Dialect, LayeredTransport, LocalSocket, Role, Transport,
    TransportChannel, TransportContext, TransportFactory,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::Waker,
    time::{Duration, Instant},
};
use str0m::{
    Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig,
    channel::{ChannelConfig, SctpInitData},
    config::DtlsVersion,
    crypto::Fingerprint,
    net::{Protocol, Receive},
};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    sctp::DataChannelConfig,
};

const DELAY: Duration = Duration::from_millis(25);
/// No channel takes so long.
const LIMIT: Duration = Duration::from_secs(10);
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)),
];

/// Between two of ours and towards str0m, against two of str0m's.
pub(super) fn open(name: &str) {
    let ours = |role| Box::new(Ours::new(role)) as Box<dyn Side>;
    let theirs = |stock, role| Box::new(Theirs::new(stock, role)) as Box<dyn Side>;
    let (a, b) = (Role::Initiator, Role::Responder);
    let own = took(ours(a), ours(b));
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let stock = |suffix: &str, version, signals_init, called| {
        let stock = Stock {
            version,
            signals_init,
        };
        (format!("{name}{suffix}"), stock, called)
    };
    for (name, stock, called) in [
        stock("", DtlsVersion::Dtls12, false, "DTLS-1.2"),
        stock("_dtls13", DtlsVersion::Dtls13, false, "DTLS-1.3"),
        stock("_snap", DtlsVersion::Dtls12, true, "DTLS-1.2-with-SNAP"),
    ] {
        let to = took(ours(a), theirs(stock, b));
        let from = took(theirs(stock, a), ours(b));
        let peer = took(theirs(stock, a), theirs(stock, b));
        println!(
            "bench {name} ours={:.0}ms peer={:.0}ms ratio={:.2} to_a_stock_peer={:.0}ms from_one={:.0}ms peer_is=str0m-{called}",
            ms(own),
            ms(peer),
            ms(peer) / ms(own),
            ms(to),
            ms(from),
        );
    }
}

trait Side {
    /// What it tells: the offer, or the answer to one.
    fn say(&mut self, offer: Option<&Said>, now: Instant) -> Said;
    /// What the other tells.
    fn hear(&mut self, said: &Said, now: Instant);
    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, packet: Bytes, now: Instant);
    fn due(&mut self) -> Option<Instant>;
    fn tick(&mut self, now: Instant);
    /// What it sends: from, to and what.
    fn leave(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Bytes)>;
    fn is_open(&self) -> bool;
}

/// From the moment at which both know everything until the offerer, who has the file, may send.
fn took(mut offerer: Box<dyn Side>, mut answerer: Box<dyn Side>) -> Duration {
    let start = Instant::now();
    let offer = offerer.say(None, start);
    let answer = answerer.say(Some(&offer), start);
    answerer.hear(&offer, start);
    offerer.hear(&answer, start);
    let mut sides = [offerer, answerer];
    let mut now = start;
    let mut wire = Vec::new();
    loop {
        for (number, side) in sides.iter_mut().enumerate() {
            leave(&mut wire, number, &mut **side, now);
        }
        if sides[0].is_open() {
            return now - start;
        }
        let dues = sides.iter_mut().filter_map(|side| side.due());
        let arrivals = wire.iter().map(|(at, ..)| *at);
        let next = dues.chain(arrivals).min().expect("more is to come");
        now = now.max(next);
        assert!(now - start < LIMIT, "it does not open");
        let (here, later) = wire.into_iter().partition(|(at, ..)| *at <= now);
        wire = later;
        let here: Vec<_> = here;
        for (_, number, from, to, packet) in here {
            sides[number].arrive(from, to, packet, now);
            // str0m wants to be asked after each packet.
            leave(&mut wire, number, &mut *sides[number], now);
        }
        for side in &mut sides {
            if side.due().is_some_and(|at| at <= now) {
                side.tick(now);
            }
        }
    }
}

/// A packet under way: when it arrives and at which side, from, to and what.
type Flying = (Instant, usize, SocketAddr, SocketAddr, Bytes);

fn leave(wire: &mut Vec<Flying>, number: usize, side: &mut dyn Side, now: Instant) {
    let packets = side.leave(now).into_iter();
    wire.extend(packets.map(|(from, to, packet)| (now + DELAY, 1 - number, from, to, packet)));
}

struct Ours {
    transport: LayeredTransport,
    channel: Box<dyn TransportChannel>,
    address: SocketAddr,
    socket: Option<LocalSocket>,
    candidates: Vec<String>,
    packets: Vec<(SocketAddr, SocketAddr, Bytes)>,
    open: bool,
}

impl Ours {
    fn new(role: Role) -> Self {
        let address = ADDRESSES[usize::from(role == Role::Responder)];
        let context = TransportContext {
            role,
            local: "alice@bench.example/a".into(),
            remote: "bob@bench.example/b".into(),
            sid: "bench".into(),
            content: "file".into(),
            dialect: Dialect::JINGLE,
            seed: [address.to_string().len() as u8 + u8::from(role == Role::Responder); 32],
            waker: Waker::noop().clone(),
        };
        let ice = IceTransportFactory::new(IceConfig::new(vec![address]));
        let layer = data_channels(DataChannelConfig::default());
        let mut transport = LayeredTransport::new(ice.create(&context), &layer, &context);
        let channel = transport.create_channel("data").expect("the first");
        Self {
            transport,
            channel,
            address: SocketAddr::new(address, 4_000),
            socket: None,
            candidates: Vec::new(),
            packets: Vec::new(),
            open: false,
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else there is does not occur between two hosts"
    )]
    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.channel.poll_output() {
            match output {
                ChannelOutput::Bind(number, ..) => {
                    self.socket = Some(number);
                    self.channel.handle_bound(number, Ok(self.address), now);
                }
                ChannelOutput::Transmit(transmit) => {
                    let to = transmit.destination;
                    let packets = Batch {
                        payload: transmit.payload,
                        segment_size: transmit.segment_size,
                    };
                    self.packets
                        .extend(packets.map(|packet| (self.address, to, packet)));
                }
                ChannelOutput::Info(info) => {
                    let info = self.transport.wrap_info(vec![("data".into(), info)]);
                    self.candidates
                        .extend(info.children().filter_map(candidate_line));
                }
                ChannelOutput::Writable(writable) => self.open = writable,
                ChannelOutput::Failed(error) => panic!("our channel: {error}"),
                _ => {}
            }
        }
    }
}

impl Side for Ours {
    fn say(&mut self, offer: Option<&Said>, now: Instant) -> Said {
        let said = match offer {
            None => self.transport.offer(),
            Some(offer) => {
                let answer = self.transport.accept_offer(&offer.to_xml());
                answer.expect("an offer")
            }
        };
        self.channel.connect(now);
        self.drain(now);
        let init = said.find(transport_p2p::sctp::INIT_NAMESPACE, "init");
        Said {
            candidates: self.candidates.clone(),
            init: init.map(|init| init.text_content().into_owned()),
            ..Said::from_xml(&said)
        }
    }

    fn hear(&mut self, said: &Said, now: Instant) {
        let said_in_xml = said.to_xml();
        if said.setup != "actpass" {
            let heard = self.transport.accept_answer(&said_in_xml);
            heard.expect("an answer");
        }
        for (_, info) in self.transport.split_info(&said_in_xml).expect("candidates") {
            self.channel.handle_info(&info, now).expect("a candidate");
        }
        self.drain(now);
    }

    fn arrive(&mut self, from: SocketAddr, _: SocketAddr, packet: Bytes, now: Instant) {
        let datagram = Datagram {
            socket: self.socket.expect("bound"),
            source: from,
            payload: packet,
            segment_size: 0,
        };
        self.channel.handle_datagram(datagram, now);
        self.drain(now);
    }

    fn due(&mut self) -> Option<Instant> {
        self.channel.poll_timeout()
    }

    fn tick(&mut self, now: Instant) {
        self.channel.handle_timeout(now);
    }

    fn leave(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Bytes)> {
        self.drain(now);
        std::mem::take(&mut self.packets)
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

/// How str0m is set up.
#[derive(Clone, Copy)]
struct Stock {
    version: DtlsVersion,
    /// draft-hancke-tsvwg-snap, which it has and does not use unless it is told to.
    signals_init: bool,
}

struct Theirs {
    rtc: Rtc,
    init: Option<SctpInitData>,
    role: Role,
    address: SocketAddr,
    due: Option<Instant>,
    open: bool,
}

impl Theirs {
    fn new(stock: Stock, role: Role) -> Self {
        let address = ADDRESSES[usize::from(role == Role::Responder)];
        let address = SocketAddr::new(address, 4_000);
        let config = RtcConfig::new().set_dtls_version(stock.version);
        let mut rtc = config.build(Instant::now());
        let host = Candidate::host(address, "udp").expect("an address");
        rtc.add_local_candidate(host);
        Self {
            rtc,
            init: stock.signals_init.then(SctpInitData::new),
            role,
            address,
            due: None,
            open: false,
        }
    }
}

fn init_of(init: &mut SctpInitData) -> String {
    let text = init.local_init_string();
    text.expect("its own INIT")
}

impl Side for Theirs {
    fn say(&mut self, _: Option<&Said>, _: Instant) -> Said {
        let api = self.rtc.direct_api();
        let creds = api.local_ice_credentials();
        let digest = api.local_dtls_fingerprint().to_string();
        let (hash, fingerprint) = digest.split_once(' ').expect("two words");
        let setup = match self.role {
            Role::Initiator => "actpass",
            Role::Responder => "active",
        };
        let (ip, port) = (self.address.ip(), self.address.port());
        Said {
            ufrag: creds.ufrag,
            password: creds.pass,
            setup: setup.to_owned(),
            hash: hash.to_owned(),
            fingerprint: fingerprint.to_owned(),
            port: "5000".to_owned(),
            candidates: vec![format!("candidate:1 1 udp 2130706431 {ip} {port} typ host")],
            init: self.init.as_mut().map(init_of),
        }
    }

    fn hear(&mut self, said: &Said, _: Instant) {
        for candidate in &said.candidates {
            let words: Vec<&str> = candidate.split(' ').collect();
            let address = format!("{}:{}", words[4], words[5]);
            let address = address.parse().expect("an address");
            let host = Candidate::host(address, "udp").expect("an address");
            self.rtc.add_remote_candidate(host);
        }
        let active = self.role == Role::Responder;
        let mut api = self.rtc.direct_api();
        let digest = format!("{} {}", said.hash, said.fingerprint);
        let digest: Fingerprint = digest.parse().expect("a fingerprint");
        api.set_remote_fingerprint(digest);
        api.set_remote_ice_credentials(IceCreds {
            ufrag: said.ufrag.clone(),
            pass: said.password.clone(),
        });
        api.set_ice_controlling(!active);
        api.start_dtls(active).expect("the first time");
        match (self.init.take(), &said.init) {
            (Some(mut init), Some(theirs)) => {
                init.set_remote_init_string(theirs).expect("an INIT");
                let started = api.start_sctp_with_snap(active, init);
                started.expect("the first time");
            }
            _ => api.start_sctp(active),
        }
        api.create_data_channel(ChannelConfig {
            label: "theirs".to_owned(),
            ..ChannelConfig::default()
        });
    }

    fn arrive(&mut self, from: SocketAddr, to: SocketAddr, packet: Bytes, now: Instant) {
        let receive = Receive::new(Protocol::Udp, from, to, &packet).expect("a packet");
        self.rtc
            .handle_input(Input::Receive(now, receive))
            .expect("a connection");
        self.due = None;
    }

    fn due(&mut self) -> Option<Instant> {
        self.due
    }

    fn tick(&mut self, now: Instant) {
        self.rtc
            .handle_input(Input::Timeout(now))
            .expect("a connection");
    }

    fn leave(&mut self, _: Instant) -> Vec<(SocketAddr, SocketAddr, Bytes)> {
        let mut packets = Vec::new();
        loop {
            match self.rtc.poll_output().expect("a connection") {
                Output::Transmit(packet) => {
                    let contents = Bytes::copy_from_slice(&packet.contents);
                    packets.push((packet.source, packet.destination, contents));
                }
                Output::Event(Event::ChannelOpen(..)) => self.open = true,
                Output::Event(_) => {}
                Output::Timeout(at) => {
                    self.due = Some(at);
                    return packets;
                }
            }
        }
    }

    fn is_open(&self) -> bool {
        self.open
    }
}
