//! Every order in which messages can arrive, for the short stories of two peers.
//!
//! A story is a few acts. Before and after each, any message that is under way may arrive: every sequence of choices is
//! tried, each in a world of its own. Two kinds of wire: one that keeps the order in each direction, as XMPP does, and
//! one that does not.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use session_core::{
    Config, Dialect, Modification, ReasonCondition, SeededEntropy, Session, SessionDescription,
    State,
    testing::{
        Callback, Deed, Envelope, MemoryDatagram, MemoryStream, Note, Parcel, RECORDER_NAMESPACE,
        Recorder, World,
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

/// More messages under way than this at once are not tried in every order.
const IN_FLIGHT: usize = 8;

/// Takes each path through a tree of choices once (as TigerBeetle's exhaustigen): the last choice that has an
/// alternative takes it, those after it begin anew. Where there are too many paths, they are drawn instead.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
    drawn: Option<SeededEntropy>,
}

impl Choices {
    fn choose(&mut self, count: usize) -> usize {
        if self.at == self.taken.len() {
            let drawn = self.drawn.as_mut().map(|e| e.next_u64() as usize % count);
            self.taken.push((drawn.unwrap_or(0), count));
        }
        let (choice, of) = self.taken[self.at];
        assert_eq!(of, count, "the same choices lead to the same place");
        self.at += 1;
        choice
    }

    fn next_path(&mut self) -> bool {
        self.at = 0;
        if self.drawn.is_some() {
            self.taken.clear();
            return true;
        }
        while let Some((choice, count)) = self.taken.pop() {
            if choice + 1 < count {
                self.taken.push((choice + 1, count));
                return true;
            }
        }
        false
    }
}

/// Something that an application does; `false` when it makes no sense now.
type Act = fn(&mut World) -> bool;
/// What Bob's client does by itself.
type Reaction = fn(&mut Session, &Callback, Instant);

struct Story {
    name: &'static str,
    acts: &'static [Act],
    reaction: Reaction,
    /// Whether acknowledgements arrive at once: in the longest stories, where they say nothing new.
    quick: bool,
    /// Whether Bob does not connect before he accepts, so that candidates are early; and cannot do without them.
    early: bool,
    /// What the two may come to on a wire that keeps the order.
    ends: &'static [&'static [End]],
}

/// How a session stands that both sides have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// In progress on both sides, over the same transport.
    Talking,
    /// Nobody has answered.
    Ringing,
}

fn call(world: &mut World, from: usize) -> bool {
    let note = Note("call".into());
    world
        .call(from, 1 - from, RECORDER_NAMESPACE, &note)
        .is_ok()
}

fn deed(world: &mut World, host: usize, deed: &Deed) -> bool {
    match world.sessions(host).first() {
        Some(&id) => world.act(host, id, deed),
        None => false,
    }
}

const ALICE_CALLS: Act = |world| call(world, 0);
const BOB_CALLS: Act = |world| call(world, 1);
const BOB_ACCEPTS: Act = |world| deed(world, 1, &Deed::Accept);
const BOB_REJECTS: Act = |world| deed(world, 1, &Deed::Reject);
const ALICE_ENDS: Act = |world| deed(world, 0, &Deed::Terminate(ReasonCondition::Success));
const BOB_ENDS: Act = |world| deed(world, 1, &Deed::Terminate(ReasonCondition::Gone));
const ALICE_REPLACES: Act = |world| deed(world, 0, &Deed::ReplaceTransport(0, 1));
const ALICE_ADDS: Act = |world| deed(world, 0, &Deed::AddContent(1));
const BOB_ADDS: Act = |world| deed(world, 1, &Deed::AddContent(1));

const NOTHING: Reaction = |_, _, _| {};
const ACCEPTS: Reaction = |session, callback, now| {
    if *callback == Callback::State(State::ReceivedInitiate) {
        let _ = session.accept(&Note("at once".into()), now);
    }
};
const REDIRECTS: Reaction = |session, callback, now| {
    if *callback == Callback::State(State::ReceivedInitiate) {
        let _ = session.redirect("bob@b.example/3".into(), None, now);
    }
};
const ACCEPTS_CONTENTS: Reaction = |session, callback, now| {
    ACCEPTS(session, callback, now);
    if let Callback::Modify(Modification::ContentAdded { name }) = callback {
        let _ = session.accept_content(name, Note("added".into()).to_element(), now);
        let _ = session.create_channel_in(name, "data", None, now);
    }
};

const TALKING: &[End] = &[End::Talking];
const RINGING: &[End] = &[End::Ringing];
const OVER: &[End] = &[];

const STORIES: &[Story] = &[
    Story {
        name: "a call is accepted",
        acts: &[ALICE_CALLS, BOB_ACCEPTS],
        reaction: NOTHING,
        quick: false,
        early: false,
        ends: &[TALKING],
    },
    Story {
        name: "a call is accepted at once: the accept comes with the first candidates",
        acts: &[ALICE_CALLS],
        reaction: ACCEPTS,
        quick: false,
        early: false,
        ends: &[TALKING],
    },
    Story {
        name: "a call is accepted, and the candidates were there before",
        acts: &[ALICE_CALLS, BOB_ACCEPTS],
        reaction: NOTHING,
        quick: false,
        early: true,
        ends: &[TALKING],
    },
    Story {
        name: "a call is declined",
        acts: &[ALICE_CALLS, BOB_REJECTS],
        reaction: NOTHING,
        quick: false,
        early: false,
        ends: &[OVER],
    },
    Story {
        name: "a call is redirected",
        acts: &[ALICE_CALLS],
        reaction: REDIRECTS,
        quick: false,
        early: false,
        ends: &[RINGING],
    },
    Story {
        name: "both call",
        acts: &[ALICE_CALLS, BOB_CALLS],
        reaction: NOTHING,
        quick: false,
        early: false,
        // Two when Bob called although he had heard of Alice's call.
        ends: &[RINGING, &[End::Ringing, End::Ringing]],
    },
    Story {
        name: "the caller gives up while the other accepts",
        acts: &[ALICE_CALLS, BOB_ACCEPTS, ALICE_ENDS],
        reaction: NOTHING,
        quick: false,
        early: false,
        ends: &[OVER],
    },
    Story {
        name: "both end",
        acts: &[ALICE_CALLS, ALICE_ENDS, BOB_ENDS],
        reaction: ACCEPTS,
        quick: false,
        early: false,
        ends: &[OVER],
    },
    Story {
        name: "another transport is proposed while the call is accepted",
        acts: &[ALICE_CALLS, ALICE_REPLACES, BOB_ACCEPTS],
        reaction: NOTHING,
        quick: false,
        early: false,
        ends: &[TALKING],
    },
    Story {
        name: "both propose a content of the same name",
        acts: &[ALICE_CALLS, ALICE_ADDS, BOB_ADDS],
        reaction: ACCEPTS_CONTENTS,
        quick: true,
        early: false,
        ends: &[TALKING],
    },
];

fn world(dialect: &'static Dialect, story: &Story) -> World {
    let (reaction, early) = (story.reaction, story.early);
    let mut world = World::new(1);
    for (index, name) in ["alice@a.example/1", "bob@b.example/2", "bob@b.example/3"]
        .into_iter()
        .enumerate()
    {
        let config = Config {
            dialect,
            speculative: !early || index == 0,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            for namespace in ["urn:example:one", "urn:example:two"] {
                if early {
                    manager.add_transport(MemoryStream::new().with_namespace(namespace))?;
                } else {
                    manager.add_transport(MemoryDatagram::new().with_namespace(namespace))?;
                }
            }
            let recorder = Recorder::new().with_channel("data");
            match index {
                0 => manager.add_client(recorder.with_reaction(|session, callback, now| {
                    if let Callback::Modify(_) = callback {
                        ACCEPTS_CONTENTS(session, callback, now);
                    }
                })),
                1 => manager.add_client(recorder.with_reaction(reaction)),
                _ => manager.add_client(recorder),
            }
        });
    }
    world.hold(true);
    world
}

/// Which of the messages under way may arrive next.
fn deliverable(world: &World, in_order: bool) -> Vec<usize> {
    let held = world.held();
    let mut ways = BTreeSet::new();
    (0..held.len())
        .filter(|&at| ways.insert((held[at].from, held[at].to)) || !in_order)
        .take(IN_FLIGHT)
        .collect()
}

fn is_result(envelope: &Envelope) -> bool {
    matches!(envelope.parcel, Parcel::Reply { reply: Ok(_), .. })
}

/// One way through a story; `None` when an act came where it makes no sense.
fn tell(
    story: &Story,
    dialect: &'static Dialect,
    in_order: bool,
    choices: &mut Choices,
) -> Option<World> {
    let mut world = world(dialect, story);
    let mut acts = story.acts.iter();
    let mut next = acts.next();
    loop {
        world.settle();
        if let Some(at) = world
            .held()
            .iter()
            .position(|e| story.quick && is_result(e))
        {
            world.deliver(at);
            continue;
        }
        let ready = deliverable(&world, in_order);
        if ready.is_empty() && next.is_none() {
            return Some(world);
        }
        let choice = choices.choose(ready.len() + usize::from(next.is_some()));
        match (ready.get(choice), next) {
            (Some(&at), _) => world.deliver(at),
            (None, Some(act)) => {
                if !act(&mut world) {
                    return None;
                }
                next = acts.next();
            }
            (None, None) => unreachable!("a choice among nothing"),
        }
        assert!(choices.at < 100, "{}: they talk without end", story.name);
    }
}

/// How the sessions stand, or what the two do not agree on.
fn ends(world: &World) -> Result<Vec<End>, String> {
    let mut sides = BTreeMap::<_, Vec<_>>::new();
    for host in 0..world.host_count() {
        for id in world.sessions(host) {
            let session = world.manager(host).peek(id).unwrap();
            let mut contents: Vec<_> = session
                .contents()
                .map(|c| (c.name().clone(), c.state(), c.transport().map(String::from)))
                .collect();
            contents.sort();
            let writable = session.channel("data").is_some_and(|c| session.writable(c));
            if session.state() == State::InProgress && !writable {
                return Err(format!("host {host} has no path in {}", session.sid()));
            }
            let side = (session.state(), contents);
            sides.entry(session.sid().clone()).or_default().push(side);
        }
    }
    let mut ends = Vec::new();
    for sides in sides.values() {
        ends.push(match sides.as_slice() {
            [(State::InProgress, one), (State::InProgress, two)] if one == two => End::Talking,
            [(State::SentInitiate, _), (State::ReceivedInitiate, _)]
            | [(State::ReceivedInitiate, _), (State::SentInitiate, _)] => End::Ringing,
            other => return Err(format!("{other:?}")),
        });
    }
    Ok(ends)
}

/// Tells a story in every order, or in `draw` of them. How many there were and what they came to.
fn every_order(
    story: &Story,
    dialect: &'static Dialect,
    draw: Option<usize>,
) -> (usize, BTreeSet<Vec<End>>) {
    let in_order = draw.is_none();
    let mut choices = Choices {
        drawn: draw.map(|_| SeededEntropy::new(1)),
        ..Choices::default()
    };
    let mut all = BTreeSet::new();
    let mut told = 0;
    loop {
        if let Some(mut world) = tell(story, dialect, in_order, &mut choices) {
            told += 1;
            world.hold(false);
            if in_order {
                world.run_for(Duration::from_secs(2));
            } else {
                converge(&mut world);
            }
            let found = ends(&world);
            let path = || choices.taken.iter().map(|c| c.0).collect::<Vec<_>>();
            let context = || {
                let (name, path) = (story.name, path());
                let log = log(&world);
                format!("{name} ({dialect}, in order: {in_order}, choices {path:?})\n{log}")
            };
            match found {
                Ok(ends) if !in_order || story.ends.contains(&&*ends) => all.insert(ends),
                found => panic!("{found:?}: {}", context()),
            };
            let breaches = world.breaches().join("\n");
            assert!(breaches.is_empty(), "{breaches}: {}", context());
        }
        if !choices.next_path() || Some(told) == draw {
            return (told, all);
        }
    }
}

/// Where messages overtake each other, one side may believe for a while what is not so: until it asks.
fn converge(world: &mut World) {
    for _ in 0..6 {
        for host in 0..world.host_count() {
            for id in world.sessions(host) {
                world.act(host, id, &Deed::Accept);
                world.act(host, id, &Deed::Info(0));
                world.with_session(host, id, |session, now| {
                    session.set_ringing_timeout(Some(Duration::from_secs(100)), now);
                });
            }
        }
        world.run_for(Duration::from_secs(60));
    }
}

fn log(world: &World) -> String {
    let mut text = String::new();
    for host in 0..world.host_count() {
        for entry in world.log(host).entries() {
            if !matches!(entry.callback, Callback::Writable(..)) {
                let _ = writeln!(text, "  {host} {} {:?}", entry.sid, entry.callback);
            }
        }
    }
    text
}

/// Google's dialects have neither content-add nor transport-replace.
fn has_words(story: &Story, dialect: &Dialect) -> bool {
    let modifies = |act: &Act| {
        [ALICE_ADDS, BOB_ADDS, ALICE_REPLACES]
            .iter()
            .any(|m| std::ptr::fn_addr_eq(*m, *act))
    };
    dialect.has_modify || !story.acts.iter().any(modifies)
}

#[test]
fn every_story_in_every_order_that_xmpp_allows() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        for story in STORIES.iter().filter(|story| has_words(story, dialect)) {
            let (told, ends) = every_order(story, dialect, None);
            println!("{dialect}: {}: {told} orders, {ends:?}", story.name);
            assert!(told > 1, "{}: no order makes sense", story.name);
            if dialect.breaks_ties {
                assert_eq!(ends.len(), story.ends.len(), "{}: {ends:?}", story.name);
            }
        }
    }
}

#[test]
fn every_story_in_any_order_whatever_comes_to_one_view() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        for story in STORIES.iter().filter(|story| has_words(story, dialect)) {
            let (told, ends) = every_order(story, dialect, Some(3_000));
            println!("{dialect}: {}: {told} orders, {ends:?}", story.name);
        }
    }
}
