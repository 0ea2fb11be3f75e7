//! Sessions over Google's ICE, and which of the two kinds of ICE a session comes to: managers, signalling, sockets, all in
//! virtual time.
#![cfg(feature = "gtalk")]
#![allow(clippy::unwrap_used)]

use session_core::testing::{
    Callback, Conditions, Deed, Note, RECORDER_NAMESPACE, Recorder, World,
};
use session_core::{
    Config, Dialect, GOOGLE_P2P, Input, Misuse, ReasonCondition, SessionId, SessionManager, State,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use transport_p2p::ice::{GoogleIceFactory, ICE_UDP, IceConfig, IceTransportFactory, Interfaces};

fn address(host: u8, number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, host, 0, number))
}

/// What a side can do, most preferred first.
#[derive(Clone, Copy, Debug)]
enum Kinds {
    Standard,
    Google,
    Both,
}

impl Kinds {
    fn register(self, manager: &mut SessionManager, host: u8) -> Result<(), Misuse> {
        let config = IceConfig::new(vec![address(host, 1)]);
        if !matches!(self, Self::Google) {
            manager.add_transport(IceTransportFactory::new(config.clone()))?;
        }
        if !matches!(self, Self::Standard) {
            manager.add_transport(GoogleIceFactory::new(config).with_jingle(true))?;
        }
        manager.add_client(Recorder::new().with_channel("data"))
    }
}

fn world(dialect: &'static Dialect, kinds: [Kinds; 2]) -> World {
    let mut world = World::new(7);
    for (host, name) in ["alice@a.example/1", "bob@b.example/2"]
        .into_iter()
        .enumerate()
    {
        let config = Config {
            dialect,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            kinds[host].register(manager, host as u8 + 1)
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(Conditions::with_delay(Duration::from_millis(25)));
    world
}

/// Alice calls, and Bob accepts what reaches him.
fn call(world: &mut World) -> (SessionId, Option<SessionId>) {
    let alice = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(Duration::from_secs(1));
    let bob = world.sessions(1).first().copied();
    if let Some(bob) = bob {
        world.act(1, bob, &Deed::Accept);
    }
    world.run_for(Duration::from_secs(5));
    (alice, bob)
}

fn transport(world: &World, host: usize, id: SessionId) -> Option<String> {
    let session = world.manager(host).peek(id)?;
    session.transport().map(str::to_owned)
}

fn assert_carries(world: &mut World, ids: [SessionId; 2]) {
    for (host, id) in ids.into_iter().enumerate() {
        world.log(1 - host).take();
        let session = world.manager(host).peek(id).unwrap();
        let channel = session.channel("data").unwrap();
        let packet = b"hello".to_vec().into();
        let sent = world.with_session(host, id, |session, now| session.send(channel, packet, now));
        assert!(sent.unwrap().is_ok());
        world.run_for(Duration::from_millis(500));
        let log = world.log(1 - host).entries();
        let arrived = log
            .iter()
            .filter(|entry| matches!(&entry.callback, Callback::Packet(_, p) if p == "hello"));
        assert_eq!(arrived.count(), 1, "{log:?}");
    }
}

#[test]
fn sessions_of_googles_dialects_find_their_way_and_end_without_a_trace() {
    for dialect in [Dialect::GTALK, Dialect::GTALK_COMPAT, Dialect::GTALK_LATE] {
        let mut world = world(dialect, [Kinds::Both, Kinds::Both]);
        let (alice, bob) = call(&mut world);
        let bob = bob.unwrap();
        assert_eq!(world.state(0, alice), Some(State::InProgress), "{dialect}");
        for (host, id) in [(0, alice), (1, bob)] {
            // Standard ICE is not for these dialects, though both could.
            assert_eq!(
                transport(&world, host, id).as_deref(),
                Some(GOOGLE_P2P),
                "{dialect}"
            );
        }
        assert_carries(&mut world, [alice, bob]);
        let session = world.manager(0).peek(alice).unwrap();
        let channel = session.channel("data").unwrap();
        let text = session.describe_channel(channel).unwrap();
        assert!(text.starts_with("google ice host 10.1.0.1:"), "{text}");
        world.run_for(Duration::from_secs(120));
        assert_carries(&mut world, [alice, bob]);
        world.act(0, alice, &Deed::Terminate(ReasonCondition::Success));
        world.run_for(Duration::from_secs(100));
        world.check_empty();
    }
}

#[test]
fn a_session_survives_a_bad_network() {
    let mut world = world(Dialect::GTALK, [Kinds::Google, Kinds::Google]);
    world.set_network(Conditions::bad());
    let (alice, bob) = call(&mut world);
    world.run_for(Duration::from_secs(60));
    world.set_network(Conditions::default());
    world.run_for(Duration::from_secs(2));
    assert_carries(&mut world, [alice, bob.unwrap()]);
    world.check();
}

#[test]
fn a_session_survives_roaming() {
    for host in 0..2 {
        let interfaces = [1, 2].map(|host| Interfaces::from(vec![address(host, 1)]));
        let mut world = World::new(7);
        for (name, interfaces) in ["alice@a.example/1", "bob@b.example/2"]
            .into_iter()
            .zip(&interfaces)
        {
            let config = Config {
                dialect: Dialect::GTALK,
                ..Config::default()
            };
            let factory = GoogleIceFactory::new(IceConfig::new(interfaces.clone()));
            world.add_host(name, config, |manager| {
                manager.add_transport(factory)?;
                manager.add_client(Recorder::new().with_channel("data"))
            });
        }
        let (alice, bob) = call(&mut world);
        let ids = [alice, bob.unwrap()];
        assert_carries(&mut world, ids);
        interfaces[host].update(vec![address(host as u8 + 1, 9)]);
        // What the driver does when it is woken.
        world.update(host, |manager, now| {
            manager.handle_input(Input::Timeout, now)
        });
        world.run_for(Duration::from_secs(2));
        let session = world.manager(host).peek(ids[host]).unwrap();
        let text = session.describe_channel(session.channel("data").unwrap());
        let expected = address(host as u8 + 1, 9).to_string();
        assert!(text.as_ref().unwrap().contains(&expected), "{text:?}");
        world.run_for(Duration::from_secs(10));
        assert_carries(&mut world, ids);
        world.check();
    }
}

/// The choice of libjingle.md §4.7, which Jingle makes by namespaces: standard ICE where both can, Google's where one
/// can no other, and nothing where they have nothing in common. Who prefers standard ICE is never talked out of it.
#[test]
fn standard_ice_where_both_can_and_googles_where_one_cannot() {
    use Kinds::{Both, Google, Standard};
    for (a, b, expected) in [
        (Both, Both, Some(ICE_UDP)),
        (Both, Standard, Some(ICE_UDP)),
        (Standard, Both, Some(ICE_UDP)),
        (Standard, Standard, Some(ICE_UDP)),
        (Both, Google, Some(GOOGLE_P2P)),
        (Google, Both, Some(GOOGLE_P2P)),
        (Google, Google, Some(GOOGLE_P2P)),
        (Standard, Google, None),
        (Google, Standard, None),
    ] {
        let mut world = world(Dialect::JINGLE, [a, b]);
        let (alice, bob) = call(&mut world);
        assert_eq!(
            transport(&world, 0, alice).as_deref(),
            expected,
            "{a:?} calls {b:?}"
        );
        if expected.is_some() {
            assert_carries(&mut world, [alice, bob.unwrap()]);
        } else {
            assert_ne!(world.state(0, alice), Some(State::InProgress));
        }
        world.check();
    }
}
