//! Sessions whose stream is QUIC: managers, signalling and a network, all in virtual time.
#![cfg(feature = "quic")]
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use session_core::{
    Cause, ChannelId, ChannelLayer, Config, HandshakeSide, Input, LayerChoice, ReasonCondition,
    Secured, SendError, SessionId, State, TransportFactory,
    testing::{
        Answer, Callback, Conditions, Deed, MemoryDatagram, Note, RECORDER_NAMESPACE, Recorder,
        World,
    },
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, LazyLock},
    time::Duration,
};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory, Interfaces},
    pseudotcp::PseudoTcpLayer,
    quic::{self, Identity, QuicLayer},
};

static IDENTITIES: LazyLock<[Identity; 2]> = LazyLock::new(|| {
    [(), ()].map(|()| {
        let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
        Identity::new(made.cert.der(), &made.signing_key.serialize_der()).unwrap()
    })
});

type Layer = Arc<dyn ChannelLayer>;

fn quic(host: usize) -> Layer {
    Arc::new(QuicLayer::new(
        IDENTITIES[host].clone(),
        quic::Config::default(),
    ))
}

fn pseudotcp() -> Layer {
    Arc::new(PseudoTcpLayer::default())
}

fn address(host: usize, number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, host as u8 + 1, 0, number))
}

struct Call {
    world: World,
    ids: [SessionId; 2],
}

impl Call {
    fn over(
        factories: [Box<dyn TransportFactory>; 2],
        layers: [Layer; 2],
        network: Conditions,
    ) -> Self {
        let mut world = World::new(7);
        for (host, (factory, layer)) in factories.into_iter().zip(layers).enumerate() {
            let name = ["alice@a.example/1", "bob@b.example/2"][host];
            world.add_host(name, Config::default(), |manager| {
                manager.add_transport(Boxed(factory))?;
                let recorder = Recorder::new().with_stream("data", layer);
                manager.add_client(recorder.with_answer(Answer::Accept))
            });
        }
        world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
        world.set_network(network);
        let alice = world
            .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
            .unwrap();
        world.run_for(Duration::from_secs(4));
        // It may be over already.
        let bob = world.sessions(1).first().copied().unwrap_or(alice);
        Self {
            world,
            ids: [alice, bob],
        }
    }

    fn over_memory(layers: [Layer; 2]) -> Self {
        let factories = [(), ()].map(|()| Box::new(MemoryDatagram::new()) as _);
        Self::over(factories, layers, delay())
    }

    fn over_ice(layers: [Layer; 2], interfaces: &[Interfaces; 2], network: Conditions) -> Self {
        let ice = |interfaces: &Interfaces| {
            Box::new(IceTransportFactory::new(IceConfig::new(interfaces.clone()))) as _
        };
        Self::over([ice(&interfaces[0]), ice(&interfaces[1])], layers, network)
    }

    fn channel(&self, host: usize) -> ChannelId {
        let session = self.world.manager(host).peek(self.ids[host]).unwrap();
        session.channel("data").unwrap()
    }

    fn describe(&self, host: usize) -> String {
        let session = self.world.manager(host).peek(self.ids[host]).unwrap();
        session
            .describe_channel(self.channel(host))
            .unwrap_or_default()
    }

    fn secured(&self, host: usize) -> Option<Secured> {
        let session = self.world.manager(host).peek(self.ids[host]).unwrap();
        session.secured(self.channel(host)).cloned()
    }

    fn send(&mut self, host: usize, bytes: Bytes) -> Result<(), SendError> {
        let (id, channel) = (self.ids[host], self.channel(host));
        self.world
            .with_session(host, id, |session, now| session.send(channel, bytes, now))
            .unwrap()
    }

    fn finish(&mut self, host: usize) {
        let (id, channel) = (self.ids[host], self.channel(host));
        self.world
            .with_session(host, id, |session, now| session.finish(channel, now));
    }

    fn received(&self, host: usize) -> Vec<u8> {
        self.world
            .log(host)
            .received(self.ids[host], self.channel(host))
    }

    /// Bytes cross in both directions.
    fn assert_carries(&mut self) {
        for host in 0..2 {
            let before = self.received(1 - host).len();
            let sent: Bytes = (0..100_000u32).map(|at| (at % 251) as u8).collect();
            self.send(host, sent.clone()).unwrap();
            self.world.run_for(Duration::from_secs(3));
            assert_eq!(
                self.received(1 - host)[before..],
                sent,
                "{}",
                self.describe(host)
            );
        }
    }

    fn saw(&self, host: usize, wanted: impl Fn(&Callback) -> bool) -> usize {
        let entries = self.world.log(host).entries();
        entries
            .iter()
            .filter(|entry| wanted(&entry.callback))
            .count()
    }

    fn error(&self, host: usize) -> Option<Cause> {
        let entries = self.world.log(host).entries().into_iter();
        let error = |callback| match callback {
            Callback::Error(error) => Some(error.cause),
            _ => None,
        };
        entries.filter_map(|entry| error(entry.callback)).next()
    }
}

/// One of several kinds, as one.
struct Boxed(Box<dyn TransportFactory>);

impl TransportFactory for Boxed {
    fn namespace(&self) -> &str {
        self.0.namespace()
    }

    fn kind(&self) -> session_core::TransportKind {
        self.0.kind()
    }

    fn create(&self, context: &session_core::TransportContext) -> Box<dyn session_core::Transport> {
        self.0.create(context)
    }
}

fn delay() -> Conditions {
    Conditions::with_delay(Duration::from_millis(25))
}

fn interfaces() -> [Interfaces; 2] {
    [0, 1].map(|host| Interfaces::from(vec![address(host, 1), address(host, 2)]))
}

#[test]
fn both_prove_who_they_are_and_bytes_cross() {
    let over_memory = Call::over_memory([quic(0), quic(1)]);
    let over_ice = Call::over_ice([quic(0), quic(1)], &interfaces(), delay());
    for mut call in [over_memory, over_ice] {
        for (host, side) in [(0, HandshakeSide::Client), (1, HandshakeSide::Server)] {
            let secured = call.secured(host).unwrap();
            let told = |host: usize| Some(IDENTITIES[host].fingerprint().into());
            assert_eq!((&*secured.protocol, secured.side), ("QUIC", side));
            assert_eq!(secured.local_fingerprint, told(host));
            assert_eq!(secured.peer_fingerprint, told(1 - host));
            assert!(
                call.describe(host).contains("QUIC, round trip "),
                "{}",
                call.describe(host)
            );
        }
        call.assert_carries();
        call.world.check();
    }
}

#[test]
fn a_finished_stream_is_told_and_the_session_ends_for_the_reason_that_was_given() {
    let mut call = Call::over_ice([quic(0), quic(1)], &interfaces(), delay());
    call.send(0, Bytes::from_static(b"all of it")).unwrap();
    call.finish(0);
    call.world.run_for(Duration::from_secs(1));
    assert_eq!(call.received(1), b"all of it");
    assert_eq!(call.saw(1, |c| matches!(c, Callback::Finished(_))), 1);
    assert_eq!(call.saw(0, |c| matches!(c, Callback::Delivered(_))), 1);
    assert_eq!(
        call.send(0, Bytes::from_static(b"more")),
        Err(SendError::Finished)
    );
    call.world
        .act(0, call.ids[0], &Deed::Terminate(ReasonCondition::Success));
    call.world.run_for(Duration::from_secs(100));
    assert_eq!([call.error(0), call.error(1)], [None, None]);
    call.world.check_empty();
}

/// The peer's last datagram is faster than its last stanza, which says more.
#[test]
fn who_cancels_in_the_middle_is_heard_by_the_reason() {
    for host in 0..2 {
        let mut call = Call::over_ice([quic(0), quic(1)], &interfaces(), delay());
        call.assert_carries();
        call.world.act(
            host,
            call.ids[host],
            &Deed::Terminate(ReasonCondition::Cancel),
        );
        call.world.run_for(Duration::from_millis(40));
        let other = 1 - host;
        assert!(
            !call
                .world
                .manager(other)
                .peek(call.ids[other])
                .unwrap()
                .writable(call.channel(other))
        );
        call.world.run_for(Duration::from_secs(100));
        let reasons = |c: &Callback| matches!(c, Callback::TerminateReason(Some(reason)) if reason.condition == ReasonCondition::Cancel);
        assert_eq!(
            call.saw(other, reasons),
            1,
            "{:?}",
            call.world.log(other).entries()
        );
        call.world.check_empty();
    }
}

#[test]
fn the_path_may_move_and_vanish_for_a_while() {
    for host in 0..2 {
        let interfaces = interfaces();
        let mut call = Call::over_ice([quic(0), quic(1)], &interfaces, delay());
        call.assert_carries();
        interfaces[host].update(vec![address(host, 9)]);
        // What the driver does when it is woken.
        call.world.update(host, |manager, now| {
            manager.handle_input(Input::Timeout, now)
        });
        call.world.run_for(Duration::from_secs(2));
        call.assert_carries();
        call.world.set_network(Conditions {
            loss: 1.0,
            ..delay()
        });
        call.world.run_for(Duration::from_secs(20));
        call.world.set_network(delay());
        call.world.run_for(Duration::from_secs(10));
        call.assert_carries();
        assert_eq!(call.world.state(0, call.ids[0]), Some(State::InProgress));
        call.world.check();
    }
}

/// Each side knows how large packets leave by its own interface, or does not; the smaller counts.
#[test]
fn datagrams_are_as_large_as_the_interfaces_of_both_take() {
    let size = |call: &Call, host| {
        let text = call.describe(host);
        let rest = text.split("datagrams of ").nth(1).unwrap();
        rest.split(' ').next().unwrap().parse::<usize>().unwrap()
    };
    let jumbo = 9_000 - 48;
    for (mtus, path, expected) in [
        ([Some(65_536), Some(65_536)], None, jumbo - 20..=jumbo),
        ([Some(9_000), Some(1_500)], None, 1_452..=1_472),
        ([Some(9_000), None], None, 1_432..=1_452),
        ([None, None], None, 1_432..=1_452),
        ([Some(1_228), Some(9_000)], None, 1_200..=1_200),
        // Where the interfaces promise more than the path carries, it is found out.
        ([Some(9_000), Some(9_000)], Some(1_400), 1_200..=1_400),
    ] {
        let interfaces = interfaces();
        for (host, mtu) in mtus.into_iter().enumerate() {
            let of = |number| Some((address(host, number), mtu?));
            interfaces[host].set_mtus([1, 2].into_iter().filter_map(of).collect());
        }
        let network = Conditions {
            mtu: path,
            ..delay()
        };
        let mut call = Call::over_ice([quic(0), quic(1)], &interfaces, network);
        for _ in 0..8 {
            call.assert_carries();
        }
        for host in 0..2 {
            let found = size(&call, host);
            assert!(expected.contains(&found), "{mtus:?} {path:?}: {found}");
        }
        // The path is suddenly another.
        call.world.set_network(Conditions {
            mtu: Some(1_200),
            ..delay()
        });
        call.world.run_for(Duration::from_secs(5));
        for host in 0..2 {
            let before = call.received(1 - host).len();
            call.send(host, Bytes::from(vec![7; 100_000])).unwrap();
            call.world.run_for(Duration::from_secs(30));
            assert_eq!(call.received(1 - host).len() - before, 100_000);
        }
        call.world.check();
    }
}

#[test]
fn a_bad_network_delays_and_does_no_harm() {
    let mut call = Call::over_ice([quic(0), quic(1)], &interfaces(), Conditions::bad());
    call.world.run_for(Duration::from_secs(60));
    for host in 0..2 {
        call.send(host, Bytes::from(vec![host as u8; 50_000]))
            .unwrap();
        call.finish(host);
    }
    call.world.run_for(Duration::from_secs(120));
    for host in 0..2 {
        assert_eq!(call.received(host), vec![1 - host as u8; 50_000]);
        assert_eq!(call.saw(host, |c| matches!(c, Callback::Delivered(_))), 1);
    }
}

#[test]
fn a_peer_without_quic_is_refused_or_spoken_to_otherwise() {
    let choice = |host| -> Layer { Arc::new(LayerChoice::new([quic(host), pseudotcp()])) };
    let mut call = Call::over_memory([choice(0), pseudotcp()]);
    call.assert_carries();
    assert!(
        call.describe(0).contains("PseudoTCP"),
        "{}",
        call.describe(0)
    );
    let mut call = Call::over_memory([pseudotcp(), choice(1)]);
    call.assert_carries();
    let mut call = Call::over_memory([choice(0), choice(1)]);
    call.assert_carries();
    assert!(call.describe(0).contains("QUIC"), "{}", call.describe(0));
    let call = Call::over_memory([quic(0), pseudotcp()]);
    let why = |c: &Callback| format!("{c:?}").contains("does not offer QUIC");
    assert_eq!(call.saw(0, why), 1, "{:?}", call.world.log(0).entries());
    assert_eq!(call.saw(0, |c| matches!(c, Callback::Writable(_, true))), 0);
}

/// What `pcp` offers without plaintext: QUIC between two of ours, and data channels for everybody else.
#[cfg(feature = "dtls")]
#[test]
fn a_peer_that_has_only_data_channels_gets_those() {
    use transport_p2p::{
        dtls::{self, DtlsLayer},
        sctp::{DataChannelConfig, DataChannelLayer},
    };
    let sctp = || -> Layer {
        let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
        let key = made.signing_key.serialize_der();
        let records = DtlsLayer::data(dtls::Identity::new(made.cert.der(), &key));
        let config = DataChannelConfig::default();
        Arc::new(DataChannelLayer::new(Arc::new(records), config))
    };
    let choice = |host| -> Layer { Arc::new(LayerChoice::new([quic(host), sctp()])) };
    for (layers, stream, protection) in [
        ([choice(0), choice(1)], "QUIC", "QUIC"),
        ([choice(0), sctp()], "SCTP", "DTLS"),
        ([sctp(), choice(1)], "SCTP", "DTLS"),
    ] {
        let mut call = Call::over_ice(layers, &interfaces(), delay());
        call.assert_carries();
        for host in 0..2 {
            let description = call.describe(host);
            assert!(description.contains(stream), "{stream}: {description}");
            let secured = call.secured(host).unwrap();
            assert!(secured.protocol.starts_with(protection), "{secured:?}");
        }
    }
}
