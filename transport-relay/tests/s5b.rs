//! SOCKS5 bytestreams, call by call: proxies that work, refuse and lie, strangers at the listener, and peers that do not
//! keep to the rules.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod socks5_proxy;

use bytes::Bytes;
use session_core::{
    ChannelOutput, Dialect, Element, LocalSocket, Peer, Role, StreamEvent, Transport,
    TransportChannel, TransportContext, TransportError, TransportFactory, testing::epoch,
};
use socks5_proxy::{ADDRESS, JID, Proxy, Temper};
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};
use transport_relay::{
    s5b::{NAMESPACE, S5b, S5bConfig},
    socks5::Destination,
};

const NAMES: [&str; 2] = ["alice@a.example/1", "bob@b.example/2"];
const LISTENER: LocalSocket = LocalSocket(0);

fn context(role: Role) -> TransportContext {
    let (local, remote) = match role {
        Role::Initiator => (NAMES[0], NAMES[1]),
        Role::Responder => (NAMES[1], NAMES[0]),
    };
    TransportContext {
        role,
        local: local.into(),
        remote: remote.into(),
        sid: "session".into(),
        content: "main".into(),
        dialect: Dialect::JINGLE,
        seed: [role as u8 + 1; 32],
        waker: std::task::Waker::noop().clone(),
    }
}

/// One side, whose channel is driven by hand.
struct End {
    transport: Box<dyn Transport>,
    channel: Option<Box<dyn TransportChannel>>,
    outputs: Vec<ChannelOutput>,
    now: Instant,
}

impl End {
    fn new(role: Role, factory: &S5b) -> Self {
        Self {
            transport: factory.create(&context(role)),
            channel: None,
            outputs: Vec::new(),
            now: epoch(),
        }
    }

    fn connect(&mut self) {
        self.channel = Some(self.transport.create_channel("data").unwrap());
        self.call(|channel, now| channel.connect(now));
    }

    fn call<R>(&mut self, call: impl FnOnce(&mut dyn TransportChannel, Instant) -> R) -> R {
        let channel = self.channel.as_mut().unwrap();
        let result = call(channel.as_mut(), self.now);
        while let Some(output) = channel.poll_output() {
            self.outputs.push(output);
        }
        result
    }

    fn info(&mut self, info: &Element) -> Result<(), TransportError> {
        for (_, part) in self.transport.split_info(info)? {
            self.call(|channel, now| channel.handle_info(&part, now))?;
        }
        Ok(())
    }

    fn event(&mut self, socket: LocalSocket, event: StreamEvent) {
        self.call(|channel, now| channel.handle_stream(socket, event, now));
    }

    /// Lets time pass, handling timers.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(due) = self.channel.as_ref().unwrap().poll_timeout()
            && due <= until
        {
            self.now = self.now.max(due);
            self.call(|channel, now| channel.handle_timeout(now));
        }
        self.now = until;
    }

    fn take(&mut self) -> Vec<ChannelOutput> {
        std::mem::take(&mut self.outputs)
    }

    fn failed(&self) -> bool {
        let failed = |output: &ChannelOutput| matches!(output, ChannelOutput::Failed(_));
        self.outputs.iter().any(failed)
    }
}

fn listening() -> S5b {
    S5b::new(S5bConfig {
        listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ..S5bConfig::default()
    })
}

fn accept(end: &mut End, number: u32) -> LocalSocket {
    let connection = LocalSocket(LocalSocket::FIRST_ACCEPTED + number);
    let remote = "192.0.2.66:6666".parse().unwrap();
    end.event(LISTENER, StreamEvent::Accepted { connection, remote });
    connection
}

/// What was written to a socket, and whether it was closed after that.
fn written(outputs: &[ChannelOutput], to: LocalSocket) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let mut closed = false;
    for output in outputs {
        match output {
            ChannelOutput::Write(socket, piece) if *socket == to => bytes.extend_from_slice(piece),
            ChannelOutput::Close(socket) if *socket == to => closed = true,
            _ => {}
        }
    }
    (bytes, closed)
}

fn request(destination: &str) -> Bytes {
    let mut bytes = vec![5, 1, 0, 3, destination.len() as u8];
    bytes.extend_from_slice(destination.as_bytes());
    bytes.extend_from_slice(&[0, 0]);
    bytes.into()
}

/// A visitor who greets and asks; what it was told, and whether it was thrown out.
fn visit(end: &mut End, number: u32, destination: &str) -> (Vec<u8>, bool) {
    let socket = accept(end, number);
    end.take();
    end.event(socket, StreamEvent::Data(Bytes::from_static(&[5, 1, 0])));
    end.event(socket, StreamEvent::Data(request(destination)));
    let outputs = end.take();
    written(&outputs, socket)
}

/// Alice, listening, and the name of her stream.
fn alice() -> (End, String) {
    let mut end = End::new(Role::Initiator, &listening());
    let offer = end.transport.offer();
    end.connect();
    let address = "127.0.0.1:20000".parse().unwrap();
    end.call(|channel, now| channel.handle_bound(LISTENER, Ok(address), now));
    end.take();
    (end, offer.attribute("sid").unwrap().to_owned())
}

fn answer(sid: &str) -> Element {
    Element::new(NAMESPACE, "transport").with("sid", sid)
}

#[test]
fn the_listener_takes_its_own_hash_once_and_throws_out_the_rest() {
    let (mut alice, sid) = alice();
    let mine = Destination::new(&sid, NAMES[0], NAMES[1]);
    let other = Destination::new("another", NAMES[0], NAMES[1]);
    let refused = [&[5, 0][..], &[5, 2, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(
        visit(&mut alice, 1, other.as_str()),
        (refused.clone(), true)
    );
    assert_eq!(visit(&mut alice, 2, "localhost"), (refused.clone(), true));
    let (told, out) = visit(&mut alice, 3, mine.as_str());
    assert_eq!(
        (&told[..4], told.len(), out),
        (&[5, 0, 5, 0][..], 2 + 47, false)
    );
    // Who knows it, too, is late.
    assert_eq!(visit(&mut alice, 4, mine.as_str()), (refused, true));
    let http = accept(&mut alice, 5);
    alice.event(
        http,
        StreamEvent::Data(Bytes::from_static(b"GET / HTTP/1.1\r\n")),
    );
    assert!(written(&alice.take(), http).1);
    let silent = accept(&mut alice, 6);
    alice.pass(Duration::from_secs(6));
    assert!(
        written(&alice.take(), silent).1,
        "whoever says nothing has 5 seconds"
    );

    // Bob says that it was him: the stream stands, and nobody else gets in.
    alice.info(&answer(&sid)).unwrap();
    let cid = alice
        .transport
        .offer()
        .children()
        .next()
        .unwrap()
        .attribute("cid")
        .unwrap()
        .to_owned();
    let used = answer(&sid).child(Element::new(NAMESPACE, "candidate-used").with("cid", cid));
    let late = accept(&mut alice, 7);
    alice.info(&used).unwrap();
    let outputs = alice.take();
    assert!(
        outputs.contains(&ChannelOutput::Close(LISTENER)),
        "{outputs:?}"
    );
    assert!(outputs.contains(&ChannelOutput::Close(late)));
    assert!(outputs.contains(&ChannelOutput::Writable(true)));
    let later = accept(&mut alice, 8);
    assert!(written(&alice.take(), later).1);
    assert!(!alice.failed());
}

#[test]
fn strangers_cannot_keep_the_peer_out() {
    let (mut alice, sid) = alice();
    for number in 0..100 {
        accept(&mut alice, number);
    }
    let closed = alice.take().len();
    assert_eq!(closed, 92, "eight may be silent at a time");
    let mine = Destination::new(&sid, NAMES[0], NAMES[1]);
    let (told, out) = visit(&mut alice, 200, mine.as_str());
    assert_eq!((told.len(), out), (2 + 47, false));
}

#[test]
fn a_peer_that_says_it_is_connected_and_is_not_ends_the_transport() {
    let (mut alice, sid) = alice();
    alice.info(&answer(&sid)).unwrap();
    let cid = alice
        .transport
        .offer()
        .children()
        .next()
        .unwrap()
        .attribute("cid")
        .unwrap()
        .to_owned();
    let unknown = Element::new(NAMESPACE, "candidate-used").with("cid", "unknown");
    assert!(alice.info(&answer(&sid).child(unknown)).is_err());
    let another = answer("another").child(Element::new(NAMESPACE, "candidate-error"));
    assert!(alice.info(&another).is_err());
    assert!(!alice.failed());
    let used = Element::new(NAMESPACE, "candidate-used").with("cid", cid);
    alice.info(&answer(&sid).child(used)).unwrap();
    assert!(alice.failed());
}

fn candidate(host: &str, port: u16, priority: u32) -> Element {
    Element::new(NAMESPACE, "candidate")
        .with("cid", format!("c{priority}"))
        .with("host", host)
        .with("jid", NAMES[1])
        .with("port", port)
        .with("priority", priority)
}

fn connects(outputs: &[ChannelOutput]) -> Vec<String> {
    let target = |output: &ChannelOutput| match output {
        ChannelOutput::Connect(_, target) => Some(target.address.to_string()),
        _ => None,
    };
    outputs.iter().filter_map(target).collect()
}

#[test]
fn a_peer_cannot_make_us_connect_anywhere() {
    let mut alice = End::new(Role::Initiator, &S5b::default());
    let sid = alice.transport.offer().attribute("sid").unwrap().to_owned();
    let many = (0..40).map(|n| candidate(&format!("192.0.2.{n}"), 80, 100 - n));
    let bad = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::ffff:127.0.0.1",
        "localhost",
    ];
    let bad = bad
        .into_iter()
        .zip(1_000..)
        .map(|(host, n)| candidate(host, 80, n));
    let said =
        answer(&sid).children_from(bad.chain([candidate("192.0.2.99", 0, 2_000)]).chain(many));
    alice.transport.accept_answer(&said).unwrap();
    alice.connect();
    alice.pass(Duration::from_secs(60));
    let connects = connects(&alice.take());
    let expected: Vec<_> = (0..connects.len())
        .map(|n| format!("192.0.2.{n}:80"))
        .collect();
    assert_eq!(connects, expected, "none of the bad ones, the best first");
    assert!(connects.len() <= 16);
}

/// A host that moves offers what it has now; what was offered before stays.
#[test]
fn new_streams_offer_the_addresses_of_their_time() {
    let factory = listening();
    let mut early = End::new(Role::Initiator, &factory);
    let other: IpAddr = "192.0.2.44".parse().unwrap();
    factory.addresses().set([other]);
    let mut late = End::new(Role::Initiator, &factory);
    for (end, ip) in [(&mut early, "127.0.0.1"), (&mut late, "192.0.2.44")] {
        let offer = end.transport.offer();
        let hosts = offer
            .children()
            .map(|c| c.attribute("host").unwrap().to_owned());
        assert_eq!(hosts.collect::<Vec<_>>(), [ip]);
        end.connect();
        let binds: Vec<_> = end
            .take()
            .into_iter()
            .filter_map(|output| match output {
                ChannelOutput::Bind(_, _, address) => Some(address.ip().to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(binds, [ip]);
    }
    factory.addresses().set([]);
    let mut none = End::new(Role::Initiator, &factory);
    assert!(none.transport.offer().is_empty());
}

/// Whatever the peer names may be its own, and sees from where we come.
#[test]
fn who_hides_connects_to_proxies_of_its_own_and_to_nothing_else() {
    let strange = [
        candidate("192.0.2.1", 80, 1),
        candidate("192.0.2.2", 80, 2).with("type", "assisted"),
        candidate("192.0.2.3", 80, 3).with("type", "proxy"),
        // The host of our proxy at another port, and another host under its name.
        candidate("203.0.113.5", 5_001, 4).with("type", "proxy"),
        candidate("192.0.2.5", 5_000, 5)
            .with("type", "proxy")
            .with("jid", JID),
    ];
    let ours = candidate("203.0.113.5", 5_000, 0)
        .with("type", "proxy")
        .with("jid", JID);
    for knows in [false, true] {
        let factory = S5b::new(S5bConfig {
            known_proxies_only: true,
            ..S5bConfig::default()
        });
        factory
            .proxies()
            .set([(Peer::from(JID), "203.0.113.5:5000".parse().unwrap())]);
        let mut alice = End::new(Role::Initiator, &factory);
        let sid = alice.transport.offer().attribute("sid").unwrap().to_owned();
        let said = answer(&sid).children_from(strange.clone());
        let said = if knows {
            said.child(ours.clone())
        } else {
            said
        };
        alice.transport.accept_answer(&said).unwrap();
        alice.connect();
        alice.pass(Duration::from_secs(30));
        let outputs = alice.take();
        let expected: &[&str] = if knows { &["203.0.113.5:5000"] } else { &[] };
        assert_eq!(connects(&outputs), expected);
        let error = ChannelOutput::Info(Element::new(NAMESPACE, "candidate-error"));
        assert!(outputs.contains(&error), "{outputs:?}");
    }
}

/// 200 ms apart, each 4 s at most, and then candidate-error.
#[test]
fn attempts_are_staggered_and_bounded() {
    let mut alice = End::new(Role::Initiator, &S5b::default());
    let sid = alice.transport.offer().attribute("sid").unwrap().to_owned();
    let said = answer(&sid)
        .child(candidate("192.0.2.2", 80, 2))
        .child(candidate("192.0.2.3", 80, 3))
        .child(candidate("192.0.2.1", 80, 1).with("type", "proxy"));
    alice.transport.accept_answer(&said).unwrap();
    alice.connect();
    let mut times = Vec::new();
    let error = ChannelOutput::Info(Element::new(NAMESPACE, "candidate-error"));
    let mut said = None;
    for step in 0..60 {
        let outputs = alice.take();
        times.extend(connects(&outputs).into_iter().map(|to| (step * 100, to)));
        if outputs.contains(&error) {
            said.get_or_insert(step * 100);
        }
        alice.pass(Duration::from_millis(100));
    }
    let at = |ms, host: &str| (ms, format!("{host}:80"));
    assert_eq!(
        times,
        [
            at(0, "192.0.2.3"),
            at(200, "192.0.2.2"),
            at(700, "192.0.2.1")
        ]
    );
    assert_eq!(said, Some(4_700), "when the last has had its 4 seconds");
}

/// A better one may still be under way when what was ready breaks: it has the time that it would have had.
#[test]
fn what_breaks_after_it_was_ready_takes_no_time_from_a_better_one() {
    let mut alice = End::new(Role::Initiator, &S5b::default());
    let sid = alice.transport.offer().attribute("sid").unwrap().to_owned();
    let said = answer(&sid)
        .child(candidate("192.0.2.2", 80, 2))
        .child(candidate("192.0.2.3", 80, 3));
    alice.transport.accept_answer(&said).unwrap();
    alice.connect();
    alice.pass(Duration::from_millis(300));
    let sockets: Vec<_> = alice
        .take()
        .into_iter()
        .filter_map(|output| match output {
            ChannelOutput::Connect(socket, _) => Some(socket),
            _ => None,
        })
        .collect();
    let [better, worse] = sockets[..] else {
        panic!("two are tried: {sockets:?}");
    };
    let greet = |alice: &mut End, socket| {
        let own = "192.0.2.9:5000".parse().unwrap();
        alice.event(socket, StreamEvent::Connected(Ok(own)));
        alice.event(socket, StreamEvent::Data(Bytes::from_static(&[5, 0])));
        let (request, _) = written(&alice.take(), socket);
        let mut reply = request[request.len() - 47..].to_vec();
        reply[1] = 0;
        alice.event(socket, StreamEvent::Data(reply.into()));
    };
    greet(&mut alice, worse);
    alice.pass(Duration::from_millis(100));
    alice.event(worse, StreamEvent::Closed(None));
    alice.pass(Duration::from_secs(1));
    greet(&mut alice, better);
    alice.pass(Duration::from_secs(1));
    let used = |output: &ChannelOutput| matches!(output, ChannelOutput::Info(info) if info.name() == "candidate-used" && info.attribute("cid") == Some("c3"));
    let outputs = alice.take();
    assert!(outputs.iter().any(used), "{outputs:?}");
}

/// Some listeners want the name of whose candidate it is first, some the initiator's.
#[test]
fn the_other_order_of_names_is_tried() {
    let mut alice = End::new(Role::Initiator, &S5b::default());
    let sid = alice.transport.offer().attribute("sid").unwrap().to_owned();
    let said = answer(&sid).child(candidate("192.0.2.2", 80, 2));
    alice.transport.accept_answer(&said).unwrap();
    alice.connect();
    let mut asked = Vec::new();
    for _ in 0..2 {
        let socket = alice.take().iter().find_map(|output| match output {
            ChannelOutput::Connect(socket, _) => Some(*socket),
            _ => None,
        });
        let socket = socket.unwrap();
        let here = "192.0.2.1:1".parse().unwrap();
        alice.event(socket, StreamEvent::Connected(Ok(here)));
        alice.event(socket, StreamEvent::Data(Bytes::from_static(&[5, 0])));
        let (bytes, _) = written(&alice.take(), socket);
        asked.push(String::from_utf8(bytes[8..48].to_vec()).unwrap());
        alice.event(socket, StreamEvent::Data(Bytes::from_static(&[5, 2])));
    }
    let hash = |a, b| Destination::new(&sid, a, b).as_str().to_owned();
    assert_eq!(asked, [hash(NAMES[0], NAMES[1]), hash(NAMES[1], NAMES[0])]);
    let error = ChannelOutput::Info(Element::new(NAMESPACE, "candidate-error"));
    assert!(alice.take().contains(&error));
}

/// Two sides that can reach nothing but a proxy.
struct Both {
    ends: [End; 2],
    proxy: Proxy,
    infos: VecDeque<(usize, Element)>,
    received: [Vec<u8>; 2],
}

impl Both {
    /// `owners` offer the proxy.
    fn new(owners: &[usize], temper: Temper) -> Self {
        let mut ends = [0, 1].map(|host| {
            let factory = S5b::default();
            if owners.contains(&host) {
                factory
                    .proxies()
                    .set([(Peer::from(JID), ADDRESS.parse().unwrap())]);
            }
            let role = [Role::Initiator, Role::Responder][host];
            End::new(role, &factory)
        });
        let offer = ends[0].transport.offer();
        let answer = ends[1].transport.accept_offer(&offer).unwrap();
        ends[0].transport.accept_answer(&answer).unwrap();
        ends.iter_mut().for_each(End::connect);
        let mut both = Self {
            ends,
            proxy: Proxy::new(temper),
            infos: VecDeque::new(),
            received: [Vec::new(), Vec::new()],
        };
        both.run();
        both
    }

    /// Until nothing happens for half a minute.
    fn run(&mut self) {
        for _ in 0..60 {
            self.exchange();
            for end in &mut self.ends {
                end.pass(Duration::from_millis(500));
            }
        }
    }

    fn exchange(&mut self) {
        for _ in 0..1_000 {
            let mut quiet = true;
            for host in 0..2 {
                for output in self.ends[host].take() {
                    quiet = false;
                    self.carry_out(host, output);
                }
            }
            while let Some((to, info)) = self.infos.pop_front() {
                quiet = false;
                self.ends[to].info(&info).unwrap();
            }
            while let Some((host, socket, event)) = self.proxy.event() {
                quiet = false;
                self.ends[host].event(socket, event);
            }
            if quiet {
                return;
            }
        }
        panic!("no end to it");
    }

    fn carry_out(&mut self, host: usize, output: ChannelOutput) {
        match output {
            ChannelOutput::Info(info) => {
                let info = self.ends[host]
                    .transport
                    .wrap_info(vec![("data".into(), info)]);
                self.infos.push_back((1 - host, info));
            }
            ChannelOutput::Connect(socket, target) => {
                assert_eq!(target.address.to_string(), ADDRESS);
                self.proxy.connect(host, socket);
            }
            ChannelOutput::Write(socket, bytes) => self.proxy.write(host, socket, bytes),
            ChannelOutput::Close(socket) => self.proxy.close(host, socket),
            ChannelOutput::Request {
                token, to, payload, ..
            } => {
                assert_eq!(to, Some(Peer::from(JID)));
                let reply = self.proxy.activate(NAMES[host], &payload);
                self.ends[host].call(|channel, now| channel.handle_response(token, reply, now));
            }
            ChannelOutput::Packet(batch) => {
                batch.for_each(|bytes| self.received[host].extend_from_slice(&bytes));
            }
            ChannelOutput::Failed(error) => self.proxy.failed[host] = Some(error),
            _ => {}
        }
    }

    fn send(&mut self, host: usize, bytes: &'static [u8]) -> bool {
        let bytes = Bytes::from_static(bytes);
        let sent = self.ends[host].call(|channel, now| channel.send(bytes, now));
        self.run();
        sent.is_ok()
    }
}

#[test]
fn a_proxy_carries_the_stream_whoever_offers_it() {
    for owners in [&[0][..], &[1], &[0, 1]] {
        let mut both = Both::new(owners, Temper::Honest);
        assert_eq!(both.proxy.failed, [None, None], "{owners:?}");
        assert!(
            both.send(0, b"to bob") && both.send(1, b"to alice"),
            "{owners:?}"
        );
        assert_eq!(both.received, [b"to alice".to_vec(), b"to bob".to_vec()]);
        assert_eq!(both.proxy.activations, 1, "{owners:?}");
    }
}

/// Nobody else does it: XEP-0260 §2.4 asks for `proxy-error`, and both go on to another transport.
#[test]
fn a_proxy_that_fails_or_lies_ends_the_transport_on_both_sides() {
    for temper in [
        Temper::RefusesConnections,
        Temper::RefusesRequests,
        Temper::LiesAboutTheDestination,
        Temper::RefusesActivation,
        Temper::RefusesItsOwner,
        Temper::HangsUp,
    ] {
        for owner in 0..2 {
            let mut both = Both::new(&[owner], temper);
            both.proxy.owner = owner;
            let failed = both.proxy.failed.clone();
            assert!(
                failed.iter().all(Option::is_some),
                "{temper:?} {owner}: {failed:?}"
            );
            assert!(!both.send(0, b"x"), "{temper:?}");
        }
    }
}
