//! Two sessions over ICE: managers, signalling, sockets, all in virtual time.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use session_core::testing::{
    Answer, Callback, Conditions, Deed, Note, RECORDER_NAMESPACE, Recorder, World,
};
use session_core::{
    ChannelId, Config, Input, Output, ReasonCondition, SessionId, SessionManager, State,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use transport_p2p::{
    ice::{ICE_UDP, IceConfig, IceTransportFactory, Interfaces},
    pseudotcp::PseudoTcpLayer,
};

fn address(host: u8, number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, host, 0, number))
}

struct Call {
    world: World,
    interfaces: [Interfaces; 2],
    ids: [SessionId; 2],
}

fn call(network: Conditions, recorder: impl Fn() -> Recorder) -> Call {
    let mut world = World::new(7);
    let interfaces = [1, 2].map(|host| Interfaces::from(vec![address(host, 1), address(host, 2)]));
    for (name, interfaces) in ["alice@a.example/1", "bob@b.example/2"]
        .into_iter()
        .zip(&interfaces)
    {
        let factory = IceTransportFactory::new(IceConfig::new(interfaces.clone()));
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(factory)?;
            manager.add_client(recorder())
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(network);
    let alice = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(Duration::from_secs(1));
    let bob = world.sessions(1)[0];
    assert!(world.act(1, bob, &Deed::Accept));
    assert!(world.run_until_state(0, alice, State::InProgress));
    world.run_for(Duration::from_secs(3));
    Call {
        world,
        interfaces,
        ids: [alice, bob],
    }
}

impl Call {
    fn channel(&self, host: usize) -> ChannelId {
        let session = self.world.manager(host).peek(self.ids[host]).unwrap();
        assert_eq!(session.transport(), Some(ICE_UDP));
        session.channel("data").unwrap()
    }

    fn send(&mut self, host: usize, text: &str) -> bool {
        let (id, channel) = (self.ids[host], self.channel(host));
        let packet = text.as_bytes().to_vec().into();
        self.world
            .with_session(host, id, |session, now| session.send(channel, packet, now))
            .unwrap()
            .is_ok()
    }

    fn assert_carries(&mut self) {
        for host in 0..2 {
            self.world.log(1 - host).take();
            assert!(self.send(host, "hello"));
            self.world.run_for(Duration::from_millis(500));
            let log = self.world.log(1 - host).entries();
            let packets = |entry: &&session_core::testing::Entry| matches!(&entry.callback, Callback::Packet(_, packet) if packet == "hello");
            assert_eq!(log.iter().filter(packets).count(), 1, "{log:?}");
        }
    }
}

#[test]
fn a_session_finds_its_way_and_ends_without_a_trace() {
    let delay = Conditions::with_delay(Duration::from_millis(25));
    let mut call = call(delay, || Recorder::new().with_channel("data"));
    call.assert_carries();
    let channel = call.channel(0);
    let session = call.world.manager(0).peek(call.ids[0]).unwrap();
    let text = session.describe_channel(channel).unwrap();
    assert!(text.starts_with("ice host 10.1.0.1:"), "{text}");
    call.world.run_for(Duration::from_secs(120));
    call.assert_carries();
    call.world
        .act(0, call.ids[0], &Deed::Terminate(ReasonCondition::Success));
    call.world.run_for(Duration::from_secs(100));
    call.world.check_empty();
}

#[test]
fn a_session_survives_a_bad_network() {
    let call = &mut call(Conditions::bad(), || Recorder::new().with_channel("data"));
    call.world.run_for(Duration::from_secs(60));
    call.world.set_network(Conditions::default());
    call.world.run_for(Duration::from_secs(1));
    call.assert_carries();
    call.world.check();
}

#[test]
fn a_session_survives_roaming() {
    for host in 0..2 {
        let delay = Conditions::with_delay(Duration::from_millis(25));
        let mut call = call(delay, || Recorder::new().with_channel("data"));
        call.assert_carries();
        call.interfaces[host].update(vec![address(host as u8 + 1, 9)]);
        // What the driver does when it is woken.
        call.world.update(host, |manager, now| {
            manager.handle_input(Input::Timeout, now)
        });
        call.world.run_for(Duration::from_secs(2));
        call.assert_carries();
        assert_eq!(call.world.state(0, call.ids[0]), Some(State::InProgress));
        call.world.check();
    }
}

#[test]
fn a_session_survives_both_roaming_at_once() {
    for late in [0, 20, 49, 51, 120] {
        let delay = Conditions::with_delay(Duration::from_millis(25));
        let mut call = call(delay, || Recorder::new().with_channel("data"));
        for host in 0..2 {
            call.interfaces[host].update(vec![address(host as u8 + 1, 9)]);
            call.world.update(host, |manager, now| {
                manager.handle_input(Input::Timeout, now)
            });
            call.world.run_for(Duration::from_millis(late));
        }
        call.world.run_for(Duration::from_secs(3));
        for (host, id) in call.ids.into_iter().enumerate() {
            assert_eq!(call.world.state(host, id), Some(State::InProgress));
        }
        call.assert_carries();
        call.world.run_for(Duration::from_secs(90));
        call.assert_carries();
        call.world.check();
    }
}

#[test]
fn several_channels_are_components_of_one_agent() {
    let recorder = || Recorder::new().with_channel("data").with_channel("rtcp");
    let mut call = call(Conditions::default(), recorder);
    call.assert_carries();
    let rtcp = {
        let session = call.world.manager(0).peek(call.ids[0]).unwrap();
        session.channel("rtcp").unwrap()
    };
    let writable = |call: &Call| {
        call.world
            .manager(0)
            .peek(call.ids[0])
            .unwrap()
            .writable(rtcp)
    };
    assert!(writable(&call));
    // With rtcp-mux the second component goes, and the first does not notice.
    call.world.with_session(0, call.ids[0], |session, now| {
        session.destroy_channel(rtcp, now)
    });
    call.world.run_for(Duration::from_secs(60));
    call.assert_carries();
}

#[test]
fn a_stream_layer_works_above_it() {
    let recorder = || Recorder::new().with_stream("data", Arc::new(PseudoTcpLayer::default()));
    let mut call = call(Conditions::bad(), recorder);
    call.world.run_for(Duration::from_secs(10));
    let channel = call.channel(1);
    assert!(call.send(0, "over whatever way there is"));
    call.world.run_for(Duration::from_secs(20));
    let received = call.world.log(1).received(call.ids[1], channel);
    assert_eq!(received, b"over whatever way there is");
}

#[test]
fn who_answers_itself_is_connected_as_well() {
    let mut world = World::new(3);
    for (name, host) in [("alice@a.example/1", 1), ("bob@b.example/2", 2)] {
        let config = IceConfig::new(vec![address(host, 1)]);
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(IceTransportFactory::new(config))?;
            manager.add_client(
                Recorder::new()
                    .with_channel("data")
                    .with_answer(Answer::Accept),
            )
        });
    }
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(Duration::from_secs(1));
    let session = world.manager(0).peek(id).unwrap();
    assert!(session.writable(session.channel("data").unwrap()));
}

/// The first message of a session that is to have its candidates in the offer, how long it took, and how many messages
/// followed it; the STUN server does not answer.
fn batched_offer(servers: usize) -> (session_core::Message, Duration, usize) {
    let mut config = IceConfig::new(vec![address(1, 1), address(1, 2)]);
    config.stun_servers = vec!["198.51.100.66:3478".parse().unwrap(); servers];
    let entropy = session_core::SeededEntropy::new(4);
    let mut manager = SessionManager::new(Config::default(), entropy);
    manager
        .add_transport(IceTransportFactory::new(config))
        .unwrap();
    let recorder = Recorder::new().with_channel("data").with_channel("rtcp");
    manager.add_client(recorder).unwrap();
    let start = session_core::testing::epoch();
    let mut now = start;
    manager.handle_input(Input::Link(true), now);
    let id = manager
        .create_session("alice@a.example/1".into(), RECORDER_NAMESPACE, now)
        .unwrap();
    let session = manager.session(id).unwrap();
    session.set_candidates_in_offer(true);
    let note = Note("call".into());
    session
        .initiate("bob@b.example/2".into(), Vec::new(), &note, now)
        .unwrap();
    let (mut offer, mut others) = (None, 0);
    while now < start + Duration::from_secs(10) {
        match manager.poll_output(now) {
            Output::Bind {
                socket, address, ..
            } => {
                let bound = SocketAddr::new(address.ip(), 4_000 + others as u16);
                let address = Ok(bound);
                manager.handle_input(Input::Bound { socket, address }, now);
            }
            Output::Message { id, message } => {
                manager.handle_input(
                    Input::Reply {
                        id,
                        reply: Ok(None),
                    },
                    now,
                );
                match &offer {
                    None => offer = Some((message, now - start)),
                    Some(_) => others += 1,
                }
            }
            Output::Wait(None) => break,
            Output::Wait(Some(at)) => {
                now = at;
                manager.handle_input(Input::Timeout, now);
            }
            _ => {}
        }
    }
    let (message, took) = offer.unwrap();
    (message, took, others)
}

/// XEP-0176 §5.3: for who cannot take them one by one.
#[test]
fn an_offer_waits_for_its_candidates_where_it_has_to_carry_them() {
    for (servers, wait) in [(0, 0), (1, 2_000)] {
        let (offer, took, others) = batched_offer(servers);
        assert_eq!(took, Duration::from_millis(wait));
        assert_eq!(offer.action, session_core::Action::SessionInitiate);
        let transport = &offer.contents[0].transports[0];
        assert!(transport.attribute("ufrag").is_some());
        let count = |component: &str| {
            let candidates = transport.children();
            let of = |c: &session_core::ElementRef<'_>| c.attribute("component") == Some(component);
            candidates.filter(of).count()
        };
        assert_eq!([count("1"), count("2"), others], [2, 2, 0]);
    }
}

/// The whole of it, in whichever direction: nothing but offer and answer is said.
#[test]
fn sessions_without_trickle_connect() {
    let mut world = World::new(9);
    for (name, host) in [("alice@a.example/1", 1), ("bob@b.example/2", 2)] {
        let config = IceConfig::new(vec![address(host, 1)]);
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(IceTransportFactory::new(config))?;
            manager.add_client(Recorder::new().with_channel("data"))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    let note = Note("call".into());
    let id = world.update(0, |manager, now| {
        let id = manager
            .create_session("alice@a.example/1".into(), RECORDER_NAMESPACE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        session.set_candidates_in_offer(true);
        session
            .initiate("bob@b.example/2".into(), Vec::new(), &note, now)
            .unwrap();
        id
    });
    world.run_for(Duration::from_secs(1));
    let bob = world.sessions(1)[0];
    world.with_session(1, bob, |session, _| session.set_candidates_in_offer(true));
    assert!(world.act(1, bob, &Deed::Accept));
    world.run_for(Duration::from_secs(1));
    let session = world.manager(0).peek(id).unwrap();
    assert!(session.writable(session.channel("data").unwrap()));
}
