//! What the peer learns of our addresses, and what we learn of those that it hides; ports of the router.

#![allow(clippy::unwrap_used)]

mod ice_world;

use ice_world::{Nat, Setup, World};
use session_core::Element;
use std::time::Duration;
use transport_p2p::ice::IceConfig;

/// Everything that an end has told, as text.
fn told(world: &World, end: usize) -> String {
    let text = |info: &Element| {
        let candidates = info.children();
        let line = candidates.map(|c| {
            c.attributes()
                .map(|a| format!("{}={} ", a.name, a.value))
                .collect::<String>()
        });
        line.collect::<String>()
    };
    world.ends[end].told.iter().map(text).collect()
}

fn no_relay(nats: [Nat; 2], configure: fn(usize, &mut IceConfig)) -> Setup {
    let mut setup = Setup::new(nats[0], nats[1]);
    setup.relay = false;
    setup.configure = configure;
    setup
}

#[test]
fn names_stand_for_addresses_and_are_looked_up() {
    // One side hides, or both do.
    for hiding in [1, 2, 3] {
        let configure: fn(usize, &mut IceConfig) = match hiding {
            1 => |end, config| config.hide_by_name = end == 0,
            2 => |end, config| config.hide_by_name = end == 1,
            _ => |_, config| config.hide_by_name = true,
        };
        let mut world = World::connected(&no_relay([Nat::None, Nat::None], configure));
        world.assert_carries();
        for end in 0..2 {
            let text = told(&world, end);
            let hides = hiding & (end + 1) != 0;
            assert_eq!(text.contains("ip=hidden-"), hides, "{text}");
            assert_eq!(text.contains("ip=203.0.113."), !hides, "{text}");
            assert!(!text.contains("rel-addr"), "{text}");
        }
    }
}

#[test]
fn names_that_nobody_knows_are_no_way_and_no_harm() {
    let configure: fn(usize, &mut IceConfig) = |_, config| config.hide_by_name = true;
    let mut world = World::new(&no_relay([Nat::Full, Nat::Port], configure));
    world.one_lan = false;
    world.negotiate(1);
    assert!(world.run_until(Duration::from_secs(1), World::all_writable));
    world.assert_carries();
    for end in 0..2 {
        let text = told(&world, end);
        assert!(
            text.contains("type=srflx") && text.contains("ip=hidden-"),
            "{text}"
        );
        assert!(!text.contains("10.0."), "{text}");
    }
}

#[test]
fn names_are_not_looked_up_by_who_does_not_want_to() {
    let configure: fn(usize, &mut IceConfig) = |end, config| {
        config.hide_by_name = end == 0;
        config.look_up_names = end == 0;
    };
    let mut world = World::connected(&no_relay([Nat::None, Nat::None], configure));
    // Only one knew where to; the other saw it come.
    assert!(
        world.describe()[1].contains("prflx"),
        "{:?}",
        world.describe()
    );
    world.assert_carries();
}

#[test]
fn private_addresses_are_not_told_but_used() {
    let configure: fn(usize, &mut IceConfig) = |_, config| config.tell_private = false;
    for nats in [[Nat::Port, Nat::Port], [Nat::None, Nat::Symmetric]] {
        let mut world = World::connected(&no_relay(nats, configure));
        world.assert_carries();
        for end in 0..2 {
            let text = told(&world, end);
            assert!(
                !text.contains("10.0.") && text.contains("203.0.113."),
                "{text}"
            );
        }
    }
}

#[test]
fn before_the_answer_only_relays_are_told_and_used() {
    let mut setup = Setup::new(Nat::Port, Nat::Port);
    setup.configure = |end, config| config.relay_until_answer = end == 0;
    let mut world = World::new(&setup);
    let offer = world.ends[0].transport.offer();
    let answer = world.ends[1].transport.accept_offer(&offer).unwrap();
    world.add_channel(0, "channel 0");
    world.add_channel(1, "channel 0");
    // Long enough for the peer's candidates, and for checks to them.
    world.run_for(Duration::from_secs(5));
    let early = told(&world, 0);
    assert!(early.contains("type=relay"), "{early}");
    for kind in ["type=host", "type=srflx", "rel-addr", "10.0."] {
        assert!(!early.contains(kind), "{kind}: {early}");
    }
    assert!(
        !world.describe()[1].contains("prflx"),
        "{:?}",
        world.describe()
    );
    world.ends[0].transport.accept_answer(&answer).unwrap();
    let direct = |world: &World| {
        let paths = world.describe();
        world.all_writable() && paths.iter().all(|path| !path.contains("relay"))
    };
    assert!(
        world.run_until(Duration::from_secs(20), direct),
        "{:?}",
        world.describe()
    );
    world.assert_carries();
    let late = told(&world, 0);
    assert!(
        late.contains("type=host") && late.contains("type=srflx"),
        "{late}"
    );
}

#[test]
fn a_restart_tells_as_little_as_the_start() {
    let configure: fn(usize, &mut IceConfig) = |_, config| config.hide_by_name = true;
    let mut world = World::connected(&no_relay([Nat::Port, Nat::Port], configure));
    world.run_for(Duration::from_secs(5));
    world.cut = true;
    world.run_for(Duration::from_secs(40));
    world.cut = false;
    assert!(world.run_until(Duration::from_secs(20), World::all_writable));
    world.assert_carries();
    for end in 0..2 {
        let text = told(&world, end);
        assert!(
            text.contains("generation=1") && !text.contains("10.0."),
            "{text}"
        );
        assert!(!text.contains("hidden-2"), "the name stays: {text}");
    }
}

/// Two symmetric NATs cannot be crossed, unless one of them gives a port to who asks.
#[test]
fn a_mapped_port_makes_a_way_through_symmetric_nats() {
    let configure: fn(usize, &mut IceConfig) = |_, config| config.map_ports = true;
    for mapping in 0..3 {
        let mut world = World::new(&no_relay([Nat::Symmetric, Nat::Symmetric], configure));
        for end in 0..2 {
            world.ends[end].maps_ports = mapping & (end + 1) != 0;
        }
        world.negotiate(1);
        let connected = world.run_until(Duration::from_secs(20), World::all_writable);
        assert_eq!(connected, mapping != 0, "{mapping}: {:?}", world.describe());
        if connected {
            world.assert_carries();
        }
    }
}
