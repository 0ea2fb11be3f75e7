//! Two accounts with several devices each, and servers between them that copy, delay and reorder.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use super::*;
use proptest::prelude::*;

const ALICE: &str = "alice@a.example";
const BOB: &str = "bob@b.example";

fn full(account: &str, device: usize) -> Peer {
    Peer::from(format!("{account}/{device}").as_str())
}

fn media() -> Vec<Element> {
    vec![Element::new("urn:xmpp:jingle:apps:rtp:1", "description").with("media", "audio")]
}

fn busy() -> Reason {
    Reason::new(ReasonCondition::Busy)
}

struct Device {
    jmi: Jmi,
    /// What has happened here, in order.
    told: Vec<JmiOutput>,
    /// What is on its way here: who sent it, and the message or the carbon.
    queue: VecDeque<Envelope>,
}

/// All devices, and the clock.
struct World {
    devices: Vec<Device>,
    now: Instant,
    carbons: bool,
}

impl World {
    #[allow(clippy::disallowed_methods, reason = "a test's beginning of time")]
    fn new(carbons: bool) -> Self {
        let accounts = [ALICE, ALICE, BOB, BOB, BOB];
        let device = |(number, account): (usize, &&str)| Device {
            jmi: Jmi::new(full(account, number), JmiConfig::default()),
            told: Vec::new(),
            queue: VecDeque::new(),
        };
        Self {
            devices: accounts.iter().enumerate().map(device).collect(),
            now: Instant::now(),
            carbons,
        }
    }

    /// Lets a device act, and carries off what it says.
    fn act<R>(&mut self, at: usize, f: impl FnOnce(&mut Jmi, Instant) -> R) -> R {
        let now = self.now;
        let result = f(&mut self.devices[at].jmi, now);
        while let Some(output) = self.devices[at].jmi.poll_output() {
            match output {
                JmiOutput::Send(message) => self.route(at, &message),
                told => self.devices[at].told.push(told),
            }
        }
        result
    }

    /// As servers do: to the device or to all of the account, and copies to the others of both (XEP-0280).
    fn route(&mut self, sender: usize, message: &Element) {
        let from = self.devices[sender].jmi.own.clone();
        let to = Peer::from(message.attribute("to").unwrap());
        let stanza = message.clone().with("from", from.as_str());
        for (number, device) in self.devices.iter_mut().enumerate() {
            let own = device.jmi.own.clone();
            let direct = own == to || (to.device().is_none() && own.account() == to.as_str());
            let direction = match number {
                _ if direct || !self.carbons => "",
                _ if number != sender && own.account() == from.account() => "sent",
                _ if own.account() == to.account() => "received",
                _ => "",
            };
            if direct {
                device.queue.push_back(Envelope {
                    from: from.clone(),
                    to: to.clone(),
                    stanza: stanza.clone(),
                });
            } else if !direction.is_empty() {
                let forwarded =
                    Element::new("urn:xmpp:forward:0", "forwarded").child(stanza.clone());
                let carbon = Element::new("urn:xmpp:carbons:2", direction).child(forwarded);
                device.queue.push_back(Envelope {
                    from: own.account().into(),
                    to: own.clone(),
                    stanza: Element::new(crate::ns::CLIENT, "message").child(carbon),
                });
            }
        }
    }

    /// Delivers what waits first at a device. Returns whether there was something.
    fn deliver(&mut self, at: usize) -> bool {
        let Some(message) = self.devices[at].queue.pop_front() else {
            return false;
        };
        self.act(at, |jmi, now| jmi.handle_message(&message, None, now));
        true
    }

    fn settle(&mut self) {
        while (0..self.devices.len()).any(|at| self.deliver(at)) {}
    }

    fn told(&mut self, at: usize) -> Vec<JmiOutput> {
        std::mem::take(&mut self.devices[at].told)
    }

    fn is_ringing(&self, at: usize) -> bool {
        let mut calls = self.devices[at].jmi.calls.values();
        calls.any(|call| matches!(call.state, State::Called { .. }))
    }
}

fn over(id: &str, end: JmiEnd) -> JmiOutput {
    JmiOutput::Over { id: id.into(), end }
}

#[test]
fn one_answers_and_the_others_stop_ringing() {
    for carbons in [true, false] {
        let mut world = World::new(carbons);
        let propose = |jmi: &mut Jmi, now| jmi.propose("c1", &BOB.into(), media(), now);
        world.act(0, propose).unwrap();
        world.settle();
        for at in 2..5 {
            let proposed = JmiOutput::Proposed {
                id: "c1".into(),
                from: full(ALICE, 0),
                descriptions: media(),
                continues: None,
            };
            assert_eq!(world.told(at), [proposed]);
        }
        world.act(2, |jmi, _| jmi.ring("c1")).unwrap();
        world.act(3, |jmi, now| jmi.accept("c1", now)).unwrap();
        world.settle();
        let (id, by) = ("c1".into(), full(BOB, 2));
        let ringing = JmiOutput::Ringing { id, by };
        let (id, with) = ("c1".into(), full(BOB, 3));
        assert_eq!(world.told(0), [ringing, JmiOutput::Proceed { id, with }]);
        for at in [2, 4] {
            let end = JmiEnd::AnsweredElsewhere(full(BOB, 3));
            assert_eq!(world.told(at), [over("c1", end)], "carbons: {carbons}");
        }
        assert_eq!(world.told(1), []);
        assert_eq!(
            world.act(4, |jmi, now| jmi.accept("c1", now)),
            Err(JmiError::NoCall)
        );
        let done = Reason::new(ReasonCondition::Success);
        world.act(0, |jmi, _| jmi.finish("c1", &done)).unwrap();
        world.settle();
        assert_eq!(world.told(3), [over("c1", JmiEnd::Finished(Some(done)))]);
        // What comes again begins nothing.
        world.act(0, propose).unwrap_err();
        assert!(
            world
                .devices
                .iter()
                .all(|device| device.jmi.calls.is_empty())
        );
    }
}

#[test]
fn a_call_is_declined_withdrawn_or_forgotten() {
    let mut world = World::new(true);
    let propose = |world: &mut World, id: &str| {
        world
            .act(0, |jmi, now| jmi.propose(id, &BOB.into(), media(), now))
            .unwrap();
        world.settle();
        (0..5).for_each(|at| drop(world.told(at)));
    };
    propose(&mut world, "c1");
    world.act(2, |jmi, _| jmi.reject("c1", &busy())).unwrap();
    world.settle();
    assert_eq!(world.told(0), [over("c1", JmiEnd::Rejected(Some(busy())))]);
    assert_eq!(world.told(3), [over("c1", JmiEnd::RejectedElsewhere)]);
    propose(&mut world, "c2");
    let cancel = Reason::new(ReasonCondition::Cancel);
    world.act(0, |jmi, _| jmi.retract("c2", &cancel)).unwrap();
    world.settle();
    assert_eq!(world.told(4), [over("c2", JmiEnd::Retracted(Some(cancel)))]);
    world.told(0);
    propose(&mut world, "c3");
    let due = world.devices[0].jmi.poll_timeout().unwrap();
    assert_eq!(due, world.now + Duration::from_secs(45));
    world.now = due;
    world.act(0, Jmi::handle_timeout);
    world.settle();
    assert_eq!(world.told(0), [over("c3", JmiEnd::Unanswered)]);
    let timeout = Reason::new(ReasonCondition::Timeout);
    assert_eq!(
        world.told(2).last(),
        Some(&over("c3", JmiEnd::Retracted(Some(timeout))))
    );
    assert_eq!(world.devices[0].jmi.poll_timeout(), None);
}

#[test]
fn an_answer_that_is_lost_ends_by_time() {
    for begun in [false, true] {
        let mut world = World::new(true);
        let propose = |jmi: &mut Jmi, now| jmi.propose("c1", &BOB.into(), media(), now);
        world.act(0, propose).unwrap();
        world.settle();
        world.act(2, |jmi, now| jmi.accept("c1", now)).unwrap();
        // What the device says is lost with its link.
        world
            .devices
            .iter_mut()
            .for_each(|device| device.queue.clear());
        assert_eq!(world.devices[2].jmi.expected().count(), 1);
        if begun {
            world.act(2, |jmi, _| jmi.begun("c1"));
            assert_eq!(world.devices[2].jmi.expected().count(), 0);
        }
        world.told(2);
        world.now += JmiConfig::default().offer;
        world.act(2, Jmi::handle_timeout);
        let ended = (!begun).then(|| over("c1", JmiEnd::Unanswered));
        assert_eq!(world.told(2), Vec::from_iter(ended));
        assert_eq!(world.devices[2].jmi.calls().count(), usize::from(begun));
        assert_eq!(world.devices[2].jmi.poll_timeout(), None);
    }
}

#[test]
fn who_calls_at_once_has_one_call() {
    for (ours, theirs) in [("a1", "b1"), ("b1", "a1"), ("c1", "c1")] {
        let mut world = World::new(true);
        world
            .act(0, |jmi, now| jmi.propose(ours, &BOB.into(), media(), now))
            .unwrap();
        world
            .act(2, |jmi, now| {
                jmi.propose(theirs, &ALICE.into(), media(), now)
            })
            .unwrap();
        world.settle();
        // The lower id goes on; with equal ids, the lower address: alice's.
        let (winner, loser) = if ours <= theirs { (0, 2) } else { (2, 0) };
        let lower = ours.min(theirs);
        let lost: Vec<_> = world.devices[loser].told.iter().collect();
        let tie = |told: &&&JmiOutput| {
            matches!(
                told,
                JmiOutput::Over {
                    end: JmiEnd::TieBreak { .. },
                    ..
                }
            )
        };
        assert_eq!(lost.iter().filter(tie).count(), 1, "{lost:?}");
        assert!(world.is_ringing(loser), "{ours} {theirs}");
        world.act(loser, |jmi, now| jmi.accept(lower, now)).unwrap();
        world.settle();
        let proceeds = |told: &JmiOutput| matches!(told, JmiOutput::Proceed { .. });
        assert!(world.devices[winner].told.iter().any(proceeds));
        assert_eq!(
            world
                .devices
                .iter()
                .filter(|device| device.told.iter().any(proceeds))
                .count(),
            1
        );
    }
}

/// Bob speaks with alice's first device, and her second calls him.
fn moving() -> World {
    let mut world = World::new(true);
    world
        .act(0, |jmi, now| jmi.propose("c1", &BOB.into(), media(), now))
        .unwrap();
    world.settle();
    world.act(2, |jmi, now| jmi.accept("c1", now)).unwrap();
    world.settle();
    world.told(2);
    world
        .act(1, |jmi, now| jmi.propose("c2", &BOB.into(), media(), now))
        .unwrap();
    world.settle();
    let told = world.told(2);
    assert!(
        matches!(&told[..], [JmiOutput::Proposed { continues: Some(old), .. }] if &**old == "c1"),
        "{told:?}"
    );
    world
}

#[test]
fn a_call_moves_to_another_device() {
    let mut world = moving();
    world.act(2, |jmi, now| jmi.accept("c2", now)).unwrap();
    world.settle();
    let over = over("c1", JmiEnd::Migrated("c2".into()));
    assert_eq!(world.told(2), std::slice::from_ref(&over));
    assert_eq!(world.told(0).last(), Some(&over));
    let proceed = JmiOutput::Proceed {
        id: "c2".into(),
        with: full(BOB, 2),
    };
    assert_eq!(world.told(1).last(), Some(&proceed));
}

/// What is declined, withdrawn or left to others costs nobody the call that runs.
#[test]
fn a_call_that_does_not_move_goes_on() {
    type Refusal = fn(&mut Jmi) -> Result<(), JmiError>;
    let refusals: [(usize, Refusal); 3] = [
        (2, |jmi| jmi.reject("c2", &busy())),
        (2, |jmi| jmi.ignore("c2")),
        (1, |jmi| jmi.retract("c2", &busy())),
    ];
    for (at, refuse) in refusals {
        let mut world = moving();
        world.act(at, |jmi, _| refuse(jmi)).unwrap();
        world.settle();
        for device in &world.devices[..3] {
            let is_over =
                |told: &JmiOutput| matches!(told, JmiOutput::Over { id, .. } if &**id == "c1");
            assert!(!device.told.iter().any(is_over), "{:?}", device.told);
        }
        world.act(0, |jmi, _| jmi.finish("c1", &busy())).unwrap();
    }
}

/// A device that has no time for a call leaves it to the others of its account, which know nothing of that.
#[test]
fn what_one_device_ignores_rings_at_the_others() {
    let mut world = World::new(true);
    world
        .act(0, |jmi, now| jmi.propose("c1", &BOB.into(), media(), now))
        .unwrap();
    assert!(!world.devices[2].jmi.is_called_by(&ALICE.into()));
    world.settle();
    assert!(world.devices[2].jmi.is_called_by(&full(ALICE, 1)));
    assert!(!world.devices[0].jmi.is_called_by(&BOB.into()));
    world.act(2, |jmi, _| jmi.ignore("c1")).unwrap();
    assert_eq!(
        world.act(2, |jmi, _| jmi.ignore("c1")),
        Err(JmiError::NoCall)
    );
    assert!(!world.devices[2].jmi.is_called_by(&ALICE.into()));
    world.settle();
    assert!(world.is_ringing(3) && world.is_ringing(4));
    world.act(3, |jmi, now| jmi.accept("c1", now)).unwrap();
    world.settle();
    let proceed = |told: &JmiOutput| matches!(told, JmiOutput::Proceed { .. });
    assert!(world.told(0).iter().any(proceed));
}

#[test]
fn old_and_forged_words_are_not_taken() {
    let mut world = World::new(true);
    let proposal = |id: &str, from: &str| {
        let stanza = wire::message(Verb::Propose, id, &BOB.into(), media()).with("from", from);
        Envelope {
            from: from.into(),
            to: BOB.into(),
            stanza,
        }
    };
    let late = Some(Duration::from_secs(61));
    world.act(2, |jmi, now| {
        jmi.handle_message(&proposal("c1", "alice@a.example/0"), late, now)
    });
    assert!(!world.is_ringing(2), "a minute old");
    // A carbon that our own account did not send.
    let real = proposal("c2", "alice@a.example/0");
    let forwarded =
        Element::new("urn:xmpp:forward:0", "forwarded").child(real.stanza.with("to", BOB));
    let carbon = Element::new("urn:xmpp:carbons:2", "received").child(forwarded);
    let forged = Envelope {
        from: "mallory@m.example/1".into(),
        to: full(BOB, 2),
        stanza: Element::new(crate::ns::CLIENT, "message").child(carbon),
    };
    world.act(2, |jmi, now| jmi.handle_message(&forged, None, now));
    assert!(!world.is_ringing(2));
    let genuine = Envelope {
        from: BOB.into(),
        ..forged
    };
    world.act(2, |jmi, now| jmi.handle_message(&genuine, None, now));
    assert!(world.is_ringing(2));
    // A stranger cannot end it.
    let stanza = wire::message(Verb::Retract, "c2", &BOB.into(), Vec::new());
    let stranger = Envelope {
        from: "mallory@m.example/1".into(),
        to: BOB.into(),
        stanza,
    };
    world.act(2, |jmi, now| jmi.handle_message(&stranger, None, now));
    assert!(world.is_ringing(2));
    // Nor can one fill us with calls.
    for number in 0..2 * CALLS_MAX {
        let from = format!("m{}@m.example/1", number / 8);
        let id = format!("x{number}");
        world.act(3, |jmi, now| {
            jmi.handle_message(&proposal(&id, &from), None, now)
        });
    }
    let calls = &world.devices[3].jmi.calls;
    assert_eq!(calls.len(), CALLS_MAX.min(16 * CALLS_PER_ACCOUNT_MAX));
}

proptest! {
    /// Whatever the order in which things arrive: nobody rings for a call that is answered or over, and never do two
    /// devices of an account both believe that they have the call.
    #[test]
    fn all_devices_come_to_agree(
        steps in proptest::collection::vec((0_usize..5, 0_u8..10), 1..120),
        carbons: bool,
    ) {
        let mut world = World::new(carbons);
        let mut next = 0;
        for (at, step) in steps {
            let calls: Vec<_> = world.devices[at].jmi.calls().cloned().collect();
            match (step, calls.first()) {
                (0, _) => {
                    next += 1;
                    let to = if at < 2 { BOB } else { ALICE };
                    let _ = world.act(at, |jmi, now| jmi.propose(&format!("{:x}-{next}", next * 7919 % 251), &to.into(), media(), now));
                }
                (1, Some(id)) => drop(world.act(at, |jmi, now| {
                    let accepted = jmi.accept(id, now);
                    jmi.begun(id);
                    accepted
                })),
                (2, Some(id)) => drop(world.act(at, |jmi, _| jmi.reject(id, &busy()))),
                (3, Some(id)) => drop(world.act(at, |jmi, _| jmi.retract(id, &busy()))),
                (4, Some(id)) => drop(world.act(at, |jmi, _| jmi.finish(id, &busy()))),
                (5, Some(id)) => drop(world.act(at, |jmi, _| jmi.ring(id))),
                (6, Some(id)) => drop(world.act(at, |jmi, _| jmi.ignore(id))),
                _ => drop(world.deliver(at)),
            }
        }
        world.settle();
        // Time passes until every call is answered or over.
        world.now += Duration::from_secs(200);
        for at in 0..5 {
            world.act(at, Jmi::handle_timeout);
        }
        world.settle();
        let mut holders: BTreeMap<Arc<str>, Vec<Peer>> = BTreeMap::new();
        for device in &world.devices {
            for (id, call) in &device.jmi.calls {
                prop_assert!(matches!(call.state, State::Answered { .. }), "{id}: {call:?}");
                holders.entry(id.clone()).or_default().push(device.jmi.own.clone());
            }
            let mut ends = BTreeMap::new();
            for told in &device.told {
                if let JmiOutput::Over { id, .. } = told {
                    *ends.entry(id).or_insert(0) += 1;
                }
            }
            prop_assert!(ends.values().all(|&times| times == 1), "{:?}", device.told);
        }
        for (id, holders) in holders {
            let alices = holders.iter().filter(|peer| peer.account() == ALICE).count();
            let bobs = holders.len() - alices;
            prop_assert!(alices <= 1 && bobs <= 1, "{id}: {holders:?}");
        }
    }
}

#[test]
fn a_proposal_that_comes_back_ends_its_call_and_no_other() {
    let mut world = World::new(true);
    let bob = Peer::from(BOB);
    world
        .act(0, |jmi, now| jmi.propose("one", &bob, media(), now))
        .unwrap();
    let mut back = |from: &str, id: &str| {
        let stanza = Element::new(crate::ns::CLIENT, "message")
            .with("type", "error")
            .with("id", id);
        let (from, to) = (Peer::from(from), full(ALICE, 0));
        let message = Envelope { from, to, stanza };
        world.act(0, |jmi, now| jmi.handle_message(&message, None, now));
        world.devices[0].told.clone()
    };
    assert_eq!(back("mallory@m.example", "jm-propose-one"), []);
    assert_eq!(back(BOB, "jm-propose-two"), []);
    assert_eq!(back(BOB, "jm-ringing-one"), []);
    let over = JmiOutput::Over {
        id: "one".into(),
        end: JmiEnd::Unreachable,
    };
    for _ in 0..2 {
        let told = back(BOB, "jm-propose-one");
        assert_eq!(told, std::slice::from_ref(&over), "once");
    }
}
