//! What happens to a session that has its path: roaming, restarts that cross, silence, role conflicts.

#![allow(clippy::unwrap_used)]

mod ice_world;

use ice_world::{Nat, Setup, World, home};
use session_core::{Role, TransportError};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use transport_p2p::ice::IceConfig;

fn other_address(end: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 200 + end))
}

/// The only address goes, another comes.
fn roam(world: &World, end: usize) {
    world.ends[end]
        .interfaces
        .update(vec![other_address(end as u8)]);
}

#[test]
fn both_controlling_or_both_controlled_settle_their_roles() {
    for role in [Role::Initiator, Role::Responder] {
        for seed in 0..40 {
            let mut setup = Setup::new(Nat::Port, Nat::Address);
            setup.roles = [role, role];
            setup.seed = seed;
            let mut world = World::connected(&setup);
            world.run_for(Duration::from_secs(60));
            world.assert_carries();
            assert!(world.ends.iter().all(|end| end.paths[0] == [true]));
        }
    }
}

#[test]
fn who_roams_keeps_the_session() {
    for end in 0..2 {
        let mut world = World::connected(&Setup::new(Nat::None, Nat::None));
        world.run_for(Duration::from_secs(10));
        roam(&world, end);
        world.run_for(Duration::from_secs(2));
        assert!(world.all_writable(), "{:?}", world.describe());
        assert_eq!(world.ends[end].paths[0], [true, false, true]);
        assert_eq!(
            world.ends[1 - end].paths[0],
            [true],
            "the other one sends on the old path until there is a new one"
        );
        assert!(
            world.describe()[end].contains("203.0.113.20"),
            "{:?}",
            world.describe()
        );
        world.assert_carries();
        // And consent holds on the new path.
        world.run_for(Duration::from_secs(120));
        world.assert_carries();
    }
}

#[test]
fn restarts_that_cross_become_one() {
    for late in [0, 10, 49, 60, 120] {
        for first in 0..2 {
            let mut world = World::connected(&Setup::new(Nat::None, Nat::None));
            world.run_for(Duration::from_secs(10));
            roam(&world, first);
            world.run_for(Duration::from_millis(late));
            roam(&world, 1 - first);
            world.run_for(Duration::from_secs(4));
            assert!(world.all_writable(), "{late} ms: {:?}", world.describe());
            // Stanzas take 50 ms: what was sent later than that does not cross.
            assert_eq!(world.tie_breaks, u32::from(late < 50), "{late} ms");
            world.assert_carries();
            world.run_for(Duration::from_secs(60));
            world.assert_carries();
        }
    }
}

/// The responder lets the initiator go first, and then restarts by itself: the initiator may not have noticed.
#[test]
fn the_responder_restarts_when_the_initiator_does_not() {
    let mut setup = Setup::new(Nat::None, Nat::None);
    setup.configure = |end, config| {
        if end == 0 {
            config.consent_for = Duration::from_secs(3_600);
        }
    };
    let mut world = World::connected(&setup);
    world.run_for(Duration::from_secs(5));
    world.cut = true;
    assert!(world.run_until(Duration::from_secs(60), |world| !world.ends[1].writable[0]));
    world.cut = false;
    world.run_for(Duration::from_millis(1_900));
    assert!(!world.ends[1].writable[0]);
    assert!(world.run_until(Duration::from_secs(1), World::all_writable));
    assert_eq!(world.ends[0].paths[0], [true]);
    world.assert_carries();
}

/// Most clients cannot restart, but go on answering checks with the credentials that they know.
#[test]
fn who_roams_keeps_the_session_with_a_peer_that_refuses_to_restart() {
    for end in 0..2 {
        let mut world = World::connected(&Setup::new(Nat::None, Nat::None));
        world.refuses_restarts = Some(1 - end);
        world.run_for(Duration::from_secs(10));
        roam(&world, end);
        world.run_for(Duration::from_secs(2));
        assert!(world.all_writable(), "{:?}", world.describe());
        world.assert_carries();
        world.run_for(Duration::from_secs(120));
        world.assert_carries();
    }
}

/// After two minutes both can send, and no credentials follow each other for ever.
fn settles(world: &mut World, end: usize) {
    world.run_for(Duration::from_secs(120));
    assert!(world.all_writable(), "{end}: {:?}", world.describe());
    world.assert_carries();
    let said = world.ends.iter().flat_map(|end| &end.told);
    let names: std::collections::BTreeSet<_> =
        said.filter_map(|info| info.attribute("ufrag")).collect();
    assert!(names.len() <= 4, "it goes on for ever: {names:?}");
}

/// Some acknowledge whatever they are told, and know but the first credentials; others take their time.
#[test]
fn who_roams_keeps_the_session_with_a_peer_that_ignores_a_restart() {
    let for_ever = Duration::from_secs(3_600);
    for end in 0..2 {
        for time in [for_ever, Duration::from_secs(8)] {
            let mut world = World::connected(&Setup::new(Nat::None, Nat::None));
            world.ignores_restarts = Some((1 - end, time));
            world.run_for(Duration::from_secs(10));
            roam(&world, end);
            world.run_for(Duration::from_secs(7));
            assert!(world.ends[end].writable[0], "{end}: {:?}", world.describe());
            // The other one sends where nobody is any more, until that has no consent.
            settles(&mut world, end);
        }
    }
}

/// The late answer to one restart meets the next.
#[test]
fn who_roams_again_before_the_late_answer_settles_on_one_restart() {
    for end in 0..2 {
        let mut world = World::connected(&Setup::new(Nat::None, Nat::None));
        world.ignores_restarts = Some((1 - end, Duration::from_secs(8)));
        world.run_for(Duration::from_secs(10));
        roam(&world, end);
        world.run_for(Duration::from_secs(7));
        assert!(world.ends[end].writable[0], "{end}: {:?}", world.describe());
        let again = vec![other_address(10 + end as u8)];
        world.ends[end].interfaces.update(again);
        settles(&mut world, end);
    }
}

/// Candidates are the answer to a restart; who may tell none says its new credentials without.
#[test]
fn a_restart_is_answered_by_who_tells_no_addresses() {
    for end in 0..2 {
        let mut setup = Setup::new(Nat::None, Nat::None);
        setup.nats[1 - end] = Nat::Port;
        setup.relay = false;
        setup.configure = if end == 0 {
            |end, config| tell_nothing(end == 1, config)
        } else {
            |end, config| tell_nothing(end == 0, config)
        };
        let mut world = World::connected(&setup);
        world.run_for(Duration::from_secs(10));
        roam(&world, end);
        world.run_for(Duration::from_secs(2));
        assert!(world.all_writable(), "{end}: {:?}", world.describe());
        world.assert_carries();
    }
}

fn tell_nothing(it: bool, config: &mut IceConfig) {
    config.tell_private = !it;
    config.stun_servers.clear();
}

/// An IPv6 address can be bound about a second after it has come (RFC 4862 §5.4).
#[test]
fn who_roams_to_an_address_that_is_not_ready_yet_waits_for_it() {
    for end in 0..2 {
        let mut setup = Setup::new(Nat::None, Nat::None);
        setup.relay = false;
        let mut world = World::connected(&setup);
        world.unready = Some((other_address(end as u8), 1));
        world.run_for(Duration::from_secs(10));
        roam(&world, end);
        world.run_for(Duration::from_secs(4));
        assert!(world.all_writable(), "{end}: {:?}", world.describe());
        world.assert_carries();
    }
}

/// The first address of a new network cannot be had at all, and another one comes later.
#[test]
fn an_address_that_comes_later_is_used() {
    let mut setup = Setup::new(Nat::None, Nat::None);
    setup.relay = false;
    let mut world = World::connected(&setup);
    world.unready = Some((other_address(0), 100));
    world.run_for(Duration::from_secs(10));
    roam(&world, 0);
    world.run_for(Duration::from_secs(3));
    let both = vec![other_address(0), other_address(1)];
    world.ends[0].interfaces.update(both);
    world.run_for(Duration::from_secs(4));
    assert!(world.all_writable(), "{:?}", world.describe());
    world.assert_carries();
}

#[test]
fn an_address_more_changes_nothing_and_its_loss_neither() {
    let mut world = World::connected(&Setup::new(Nat::None, Nat::None));
    world.run_for(Duration::from_secs(5));
    let both = vec![home(0, Nat::None), other_address(0)];
    world.ends[0].interfaces.update(both);
    world.run_for(Duration::from_secs(5));
    world.ends[0].interfaces.update(vec![home(0, Nat::None)]);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.ends[0].paths[0], [true]);
    world.assert_carries();
}

#[test]
fn silence_takes_the_path_after_thirty_seconds_and_a_restart_brings_it_back() {
    for silence in [15, 300] {
        let mut world = World::connected(&Setup::new(Nat::Port, Nat::Port));
        world.run_for(Duration::from_secs(7));
        world.cut = true;
        world.run_for(Duration::from_secs(20));
        assert!(world.all_writable(), "consent holds for 30 s");
        world.run_for(Duration::from_secs(18));
        assert!(world.ends.iter().all(|end| end.paths[0] == [true, false]));
        assert!(!world.send(0, 0, b"no consent, no data"));
        world.run_for(Duration::from_secs(silence));
        world.cut = false;
        let back = world.run_until(Duration::from_secs(20), World::all_writable);
        let failed = &world.ends[0].failed[0];
        if silence == 15 {
            assert!(back, "{:?}", world.describe());
            world.assert_carries();
        } else {
            // The initiator gives up 39.5 s after its restart, and the session can try another transport.
            assert!(
                matches!(failed, Some(TransportError::Unreachable(_))),
                "{failed:?}"
            );
        }
    }
}

#[test]
fn idle_sessions_cost_little() {
    let mut world = World::connected(&Setup::new(Nat::Port, Nat::Port));
    world.run_for(Duration::from_secs(10));
    let before = world.transmits;
    world.run_for(Duration::from_secs(600));
    let per_minute = (world.transmits - before) / 10;
    // Two ends, each a check every 4 to 6 s and its answer.
    assert!(
        (40..=60).contains(&per_minute),
        "{per_minute} datagrams a minute"
    );
    world.assert_carries();
}

#[test]
fn an_unreachable_peer_costs_a_bounded_number_of_datagrams() {
    let mut setup = Setup::new(Nat::None, Nat::None);
    setup.relay = false;
    let mut flood = session_core::Element::new("urn:xmpp:jingle:transports:ice-udp:1", "transport");
    for number in 0..2_000_u32 {
        flood.push(
            session_core::Element::new("urn:xmpp:jingle:transports:ice-udp:1", "candidate")
                .with("component", 1)
                .with("foundation", number)
                .with("generation", 0)
                .with("ip", Ipv4Addr::from(0x0b00_0000 + number))
                .with("port", 9)
                .with("priority", 0x7e00_0000 + number)
                .with("protocol", "udp")
                .with("type", "host"),
        );
    }
    let mut world = World::new(&setup);
    world.negotiate(1);
    world.cut = true;
    world.run_for(Duration::from_millis(200));
    world.info(0, &flood);
    let before = world.transmits;
    world.run_for(Duration::from_secs(120));
    let sent = world.transmits - before;
    // 64 candidates, 7 checks each, from either side's one address; a few of keeping alive.
    assert!(sent <= 64 * 7 + 7 + 30, "{sent} datagrams");
}
