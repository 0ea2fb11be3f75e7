//! In-band bytestreams between two managers, and against peers and strangers that do not keep to the rules.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::{
    Condition, Config, ContentSpec, Element, ErrorKind, Input, Output, Peer, RequestId,
    RequestKind, SendError, Session, SessionId, SessionManager, StanzaError, State,
    testing::{
        Answer, Callback, Conditions, Envelope, Note, Parcel, RECORDER_NAMESPACE, Recorder, World,
    },
};
use session_xmpp::xml::Context;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use transport_relay::ibb::{Ibb, IbbConfig, IbbStanza, NAMESPACE, STREAM_NAMESPACE};

const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] = ["alice@a.example/1", "bob@b.example/2", "eve@e.example/3"];

fn world(configs: [IbbConfig; 2]) -> World {
    let mut world = World::new(1);
    for (name, config) in NAMES.into_iter().zip(configs) {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(Ibb::with_config(config))?;
            let recorder = Recorder::new().with_channel("data");
            manager.add_client(recorder.with_answer(Answer::Accept))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world
}

/// Where the server takes large stanzas.
fn roomy() -> IbbConfig {
    IbbConfig {
        stanza_max: 1 << 20,
        ..IbbConfig::default()
    }
}

fn sized(block_size: u16) -> IbbConfig {
    IbbConfig {
        block_size,
        ..roomy()
    }
}

/// Alice has called Bob, and the stream stands.
fn connected(configs: [IbbConfig; 2]) -> (World, [SessionId; 2]) {
    let mut world = world(configs);
    let ids = call(&mut world);
    (world, ids)
}

fn call(world: &mut World) -> [SessionId; 2] {
    let before = world.sessions(1);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(SECOND);
    let new = |id: &SessionId| !before.contains(id);
    let other = world.sessions(1).into_iter().find(new).unwrap();
    assert!(writable(world, 0, id) && writable(world, 1, other));
    [id, other]
}

fn writable(world: &World, host: usize, id: SessionId) -> bool {
    let session = world.manager(host).peek(id);
    session.is_some_and(|s| s.channel("data").is_some_and(|channel| s.writable(channel)))
}

fn send(world: &mut World, host: usize, id: SessionId, bytes: Vec<u8>) -> Result<(), SendError> {
    let bytes = Bytes::from(bytes);
    let sent = world.with_session(host, id, |session, now| match session.channel("data") {
        Some(channel) => session.send(channel, bytes, now),
        None => Err(SendError::NoSuchChannel),
    });
    sent.unwrap_or(Err(SendError::NoSuchChannel))
}

/// Sends all of it, as the stream takes it.
fn send_all(world: &mut World, host: usize, id: SessionId, bytes: &[u8]) {
    for piece in bytes.chunks(10_000) {
        while let Err(error) = send(world, host, id, piece.to_vec()) {
            assert_eq!(error, SendError::NotWritable);
            assert!(world.step(), "stuck");
        }
    }
}

fn received(world: &World, host: usize, id: SessionId) -> Vec<u8> {
    let session = world.manager(host).peek(id).unwrap();
    world
        .log(host)
        .received(id, session.channel("data").unwrap())
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .flat_map(|n| n.to_le_bytes())
        .take(length)
        .collect()
}

/// The stanzas of the stream that are on their way.
fn words(world: &World) -> Vec<Element> {
    let payload = |envelope: &Envelope| match &envelope.parcel {
        Parcel::Request { payload, .. } => Some(payload.clone()),
        Parcel::Message { .. } | Parcel::Reply { .. } => None,
    };
    world.held().iter().filter_map(payload).collect()
}

/// The first answer that is on its way arrives.
fn deliver_answer(world: &mut World) {
    let answer = |e: &Envelope| matches!(e.parcel, Parcel::Reply { .. });
    let at = world.held().iter().position(answer).unwrap();
    world.deliver(at);
}

#[test]
fn the_smaller_block_size_is_used_by_both() {
    for (ours, theirs) in [(4_096, 1_000), (1_000, 4_096)] {
        let (mut world, ids) = connected([sized(ours), sized(theirs)]);
        let data = pattern(5_000);
        world.hold(true);
        for (host, id) in ids.into_iter().enumerate() {
            send(&mut world, host, id, data.clone()).unwrap();
        }
        let sizes: Vec<_> = words(&world)
            .iter()
            .map(|word| word.text_content().len())
            .collect();
        // 1,000 bytes are 1,336 characters.
        assert_eq!(sizes, [1_336; 10], "{ours} and {theirs}");
        world.deliver_all();
        world.hold(false);
        world.run_for(SECOND);
        for (host, id) in ids.into_iter().enumerate() {
            assert_eq!(received(&world, host, id), data);
        }
    }
}

/// 65,537 blocks and more in each direction.
#[test]
fn the_numbers_of_blocks_wrap() {
    let config = IbbConfig {
        block_size: 64,
        window: 64,
        ..roomy()
    };
    let (mut world, ids) = connected([config.clone(), config]);
    world.set_wire(Conditions::default());
    let data = pattern(64 * 66_000);
    send_all(&mut world, 0, ids[0], &data);
    world.run_for(10 * SECOND);
    assert!(received(&world, 1, ids[1]) == data);
    world.check();
}

#[test]
fn no_more_blocks_are_under_way_than_the_window_has() {
    for window in [1, 3, 8] {
        let config = IbbConfig { window, ..roomy() };
        let (mut world, ids) = connected([config.clone(), config]);
        world.hold(true);
        send(&mut world, 0, ids[0], pattern(100_000)).unwrap();
        assert_eq!(words(&world).len(), window);
        world.deliver(0);
        world.settle();
        assert_eq!(words(&world).len(), window - 1, "the answer is on its way");
        deliver_answer(&mut world);
        assert_eq!(words(&world).len(), window, "and lets the next go");
    }
}

/// Bytes of a stanza with this in it.
fn stanza_length(payload: &Element, from: &str, to: &str) -> usize {
    // The server adds who sent it, and counts what it got.
    let stanza = Element::new("jabber:client", "iq")
        .with("type", "set")
        .with("id", u64::MAX)
        .with("from", from)
        .with("to", to)
        .child(payload.clone());
    {
        let mut bytes = Vec::new();
        session_xmpp::xml::write(&stanza, &Context::NONE, &mut bytes).unwrap();
        bytes.len()
    }
}

/// Servers may count all that they read at once as one stanza, and need not take more than 10,000 bytes.
#[test]
fn all_that_awaits_answers_stays_below_what_the_server_takes() {
    let long = "a".repeat(900);
    let odd = "&".repeat(100);
    for (stanza_max, device, blocks) in [
        (10_000, "desk", 2),
        (0, "desk", 2),
        (10_000, &*long, 2),
        (10_000, &*odd, 2),
        (20_000, "desk", 2),
        (30_000, "desk", 4),
        (262_144, "desk", 8),
    ] {
        let mut world = World::new(1);
        let names = [NAMES[0].to_owned(), format!("bob@b.example/{device}")];
        for name in &names {
            let config = IbbConfig {
                stanza_max,
                ..IbbConfig::default()
            };
            world.add_host(name, Config::default(), |manager| {
                manager.add_transport(Ibb::with_config(config))?;
                let recorder = Recorder::new().with_channel("data");
                manager.add_client(recorder.with_answer(Answer::Accept))
            });
        }
        let [id, other] = call(&mut world);
        let data = pattern(200_000);
        world.hold(true);
        send(&mut world, 0, id, data[..100_000].to_vec()).unwrap();
        let sum = |world: &World| {
            let lengths = words(world).into_iter();
            let lengths = lengths.map(|word| stanza_length(&word, &names[0], &names[1]));
            lengths.collect::<Vec<_>>()
        };
        for _ in 0..12 {
            let lengths = sum(&world);
            assert_eq!(lengths.len(), blocks, "{stanza_max} {device:.10}");
            let max = stanza_max.max(10_000);
            assert!(lengths.iter().sum::<usize>() <= max / 5 * 4, "{lengths:?}");
            world.deliver(0);
            world.settle();
            deliver_answer(&mut world);
        }
        world.deliver_all();
        world.hold(false);
        send_all(&mut world, 0, id, &data[100_000..]);
        world.run_for(60 * SECOND);
        assert!(received(&world, 1, other) == data);
    }
}

/// What is learned later counts for streams that run.
#[test]
fn a_limit_that_is_learned_lets_more_go_at_once() {
    let ibb = Ibb::new();
    let limit = ibb.stanza_limit();
    let mut world = World::new(1);
    for (name, ibb) in NAMES.into_iter().zip([ibb, Ibb::new()]) {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(ibb)?;
            let recorder = Recorder::new().with_channel("data");
            manager.add_client(recorder.with_answer(Answer::Accept))
        });
    }
    let [id, _] = call(&mut world);
    world.hold(true);
    send(&mut world, 0, id, pattern(50_000)).unwrap();
    assert_eq!(words(&world).len(), 2);
    let answered = |world: &mut World| {
        world.deliver(0);
        world.settle();
        deliver_answer(world);
        words(world).len()
    };
    limit.set(262_144);
    assert_eq!(answered(&mut world), 8);
    limit.set(0);
    let left: Vec<usize> = (0..8).map(|_| answered(&mut world)).collect();
    assert_eq!(left, [7, 6, 5, 4, 3, 2, 1, 2], "what is under way stays so");
}

/// A receiver that does not read is not asked to hold more, however long it takes.
#[test]
fn a_receiver_holds_its_peer_back_by_not_answering() {
    let (mut world, ids) = connected([IbbConfig::default(), IbbConfig::default()]);
    world.with_session(1, ids[1], |session, now| {
        let channel = session.channel("data").unwrap();
        session.pause(channel, true, now);
    });
    let mut sent = 0;
    let mut last = 0;
    for second in 0..600 {
        while send(&mut world, 0, ids[0], pattern(4_096)).is_ok() {
            sent += 4_096;
        }
        world.run_for(SECOND);
        if second == 10 {
            assert!(sent < 300_000, "{sent} bytes were taken");
        }
        last = second;
    }
    assert_eq!(last, 599);
    assert!(sent < 4 << 20, "{sent} bytes were taken");
    assert_eq!(
        world.state(0, ids[0]),
        Some(State::InProgress),
        "it is slow, not broken"
    );
    world.with_session(1, ids[1], |session, now| {
        let channel = session.channel("data").unwrap();
        session.pause(channel, false, now);
    });
    world.run_for(60 * SECOND);
    assert_eq!(received(&world, 1, ids[1]).len(), sent);
}

#[test]
fn blocks_in_messages_arrive_and_end() {
    let config = IbbConfig {
        stanza: IbbStanza::Message,
        ..IbbConfig::default()
    };
    // The responder's own preference does not matter: the offer says it.
    let (mut world, ids) = connected([config, IbbConfig::default()]);
    world.hold(true);
    send(&mut world, 1, ids[1], b"first".to_vec()).unwrap();
    let is_notice = |envelope: &Envelope| {
        matches!(
            &envelope.parcel,
            Parcel::Request {
                kind: RequestKind::Notice,
                ..
            }
        )
    };
    assert!(world.held().iter().all(is_notice), "{:?}", world.held());
    world.deliver_all();
    world.hold(false);
    let data = pattern(300_000);
    send_all(&mut world, 0, ids[0], &data);
    world.with_session(0, ids[0], |session, now| {
        let channel = session.channel("data").unwrap();
        session.finish(channel, now);
    });
    world.run_for(10 * SECOND);
    assert!(received(&world, 1, ids[1]) == data);
    assert_eq!(received(&world, 0, ids[0]), b"first");
    let entries = [world.log(0).entries(), world.log(1).entries()];
    let delivered = |c: &Callback| matches!(c, Callback::Delivered(_));
    let finished = |c: &Callback| matches!(c, Callback::Finished(_));
    assert_eq!(
        entries[0].iter().filter(|e| delivered(&e.callback)).count(),
        1
    );
    assert_eq!(
        entries[1].iter().filter(|e| finished(&e.callback)).count(),
        1
    );
    world.check();
}

/// Asks Bob something as `from`; what he answers.
fn ask(world: &mut World, from: &str, payload: Element) -> Result<Option<Element>, StanzaError> {
    let id = RequestId(u64::MAX - 1);
    let (from, to) = (Peer::from(from), world.name(1).clone());
    let mut replies = Vec::new();
    world.update(1, |manager, now| {
        let input = Input::Request {
            id,
            from,
            to,
            payload,
        };
        manager.handle_input(input, now);
        // The reply comes before anything that it caused.
        if let Output::Reply {
            id: found, reply, ..
        } = manager.poll_output(now)
        {
            assert_eq!(found, id);
            replies.push(reply);
        }
    });
    assert_eq!(replies.len(), 1, "exactly one answer");
    replies.remove(0)
}

fn data(sid: &str, seq: &str, text: &str) -> Element {
    Element::new(STREAM_NAMESPACE, "data")
        .with("seq", seq)
        .with("sid", sid)
        .text(text)
}

/// The name of the stream that Alice sends on, and the number of its next block.
fn next_block(world: &mut World, id: SessionId) -> (String, u16) {
    next_block_of(world, id, "main")
}

/// The same of a content's stream.
fn next_block_of(world: &mut World, id: SessionId, content: &str) -> (String, u16) {
    world.hold(true);
    world.with_session(0, id, |session, now| {
        let channel = session.channel_in(content, "data").unwrap();
        session
            .send(channel, Bytes::from_static(b"x"), now)
            .unwrap();
    });
    let word = words(world).pop().unwrap();
    world.deliver_all();
    world.hold(false);
    world.run_for(SECOND);
    let seq: u16 = word.attribute("seq").unwrap().parse().unwrap();
    (word.attribute("sid").unwrap().to_owned(), seq + 1)
}

/// Bob does not read, and Alice does not wait for answers: none of what he took is refused, and each is answered once. As
/// many streams as there are in the session.
#[test]
fn blocks_that_were_taken_are_not_refused_however_many_are_unanswered() {
    const BLOCKS: u16 = 600;
    for names in [vec!["main"], vec!["main", "second", "third"]] {
        let (mut world, ids) = connected([IbbConfig::default(), IbbConfig::default()]);
        names[1..]
            .iter()
            .for_each(|name| add_stream(&mut world, ids, name));
        let (from, to) = (world.name(0).clone(), world.name(1).clone());
        let streams: Vec<_> = names
            .iter()
            .map(|name| next_block_of(&mut world, ids[0], name))
            .collect();
        world.with_session(1, ids[1], |session, now| pause(session, &names, true, now));
        // 3,000 bytes each.
        let text = "AAAA".repeat(1_000);
        let mut answers = BTreeMap::new();
        for number in 0..BLOCKS * names.len() as u16 {
            let (sid, first) = &streams[usize::from(number) % names.len()];
            let seq = first + number / names.len() as u16;
            let input = Input::Request {
                id: RequestId((1 << 40) + u64::from(number)),
                from: from.clone(),
                to: to.clone(),
                payload: data(sid, &seq.to_string(), &text),
            };
            take_answers(&mut world, &mut answers, |manager, now| {
                manager.handle_input(input, now);
            });
        }
        let kept = usize::from(BLOCKS) * names.len() - answers.len();
        assert_eq!(
            kept,
            128 * names.len(),
            "each is held back as if it were alone"
        );
        take_answers(&mut world, &mut answers, |manager, now| {
            pause(manager.session(ids[1]).unwrap(), &names, false, now);
        });
        assert_eq!(answers.len(), usize::from(BLOCKS) * names.len());
        assert!(answers.values().all(|count| *count == 1));
        for name in &names {
            let session = world.manager(1).peek(ids[1]).unwrap();
            let channel = session.channel_in(name, "data").unwrap();
            let read = world.log(1).received(ids[1], channel).len();
            assert_eq!(read, 1 + usize::from(BLOCKS) * 3_000, "{name}");
        }
    }
}

/// Another content with a stream of its own.
fn add_stream(world: &mut World, ids: [SessionId; 2], name: &str) {
    let description = || Element::new(RECORDER_NAMESPACE, "description");
    world.with_session(0, ids[0], |session, now| {
        let spec = ContentSpec::new(name, description());
        session.add_content(spec, now).unwrap();
        session.create_channel_in(name, "data", None, now).unwrap();
    });
    world.run_for(SECOND);
    world.with_session(1, ids[1], |session, now| {
        session.accept_content(name, description(), now).unwrap();
        session.create_channel_in(name, "data", None, now).unwrap();
    });
    world.run_for(SECOND);
}

fn pause(session: &mut Session, names: &[&str], paused: bool, now: Instant) {
    for name in names {
        let channel = session.channel_in(name, "data").unwrap();
        session.pause(channel, paused, now);
    }
}

/// Counts what Bob answers to this and to what came before; none of it is an error.
fn take_answers(
    world: &mut World,
    answers: &mut BTreeMap<u64, u32>,
    act: impl FnOnce(&mut SessionManager, Instant),
) {
    world.update(1, |manager, now| {
        act(manager, now);
        loop {
            let output = manager.poll_output(now);
            if let Output::Reply { id, reply, .. } = output {
                assert!(reply.is_ok(), "{id:?}: {reply:?}");
                *answers.entry(id.0).or_insert(0) += 1;
            } else if let Output::Wait(_) = output {
                break;
            }
        }
    });
}

fn condition(answer: Result<Option<Element>, StanzaError>) -> (Condition, ErrorKind) {
    let error = answer.unwrap_err();
    (error.condition, error.kind)
}

const UNKNOWN: (Condition, ErrorKind) = (Condition::ItemNotFound, ErrorKind::Cancel);
const NOT_NEXT: (Condition, ErrorKind) = (Condition::UnexpectedRequest, ErrorKind::Cancel);
const BAD: (Condition, ErrorKind) = (Condition::BadRequest, ErrorKind::Cancel);

/// XEP-0047 §2.2, and streams beside it live on.
#[test]
fn what_strangers_send_is_refused_and_harms_nobody() {
    let (mut world, first) = connected([IbbConfig::default(), IbbConfig::default()]);
    let second = call(&mut world);
    let (sid, next) = next_block(&mut world, first[0]);
    let next = next.to_string();
    let close = Element::new(STREAM_NAMESPACE, "close").with("sid", &sid);
    let open = Element::new(STREAM_NAMESPACE, "open")
        .with("sid", "another")
        .with("block-size", 4_096);
    for (from, payload, expected) in [
        // Another address, even one of the same account, has no part in the stream.
        ("eve@e.example/3", data(&sid, &next, "ZXZpbA=="), UNKNOWN),
        ("alice@a.example/9", data(&sid, &next, "ZXZpbA=="), UNKNOWN),
        ("alice@a.example", data(&sid, &next, "ZXZpbA=="), UNKNOWN),
        ("eve@e.example/3", close, UNKNOWN),
        ("eve@e.example/3", open.clone(), UNKNOWN),
        // The right one, about a stream that is not there.
        (NAMES[0], data("another", &next, "ZXZpbA=="), UNKNOWN),
        (NAMES[0], data("", &next, "ZXZpbA=="), UNKNOWN),
        (NAMES[0], open, UNKNOWN),
        // A copy of a block that was taken.
        (NAMES[0], data(&sid, "0", "eA=="), NOT_NEXT),
        (NAMES[0], data(&sid, "no", "eA=="), BAD),
    ] {
        let text = format!("{from}: {payload:?}");
        assert_eq!(
            condition(ask(&mut world, from, payload)),
            expected,
            "{text}"
        );
    }
    for ids in [first, second] {
        for (host, id) in ids.into_iter().enumerate() {
            send(&mut world, host, id, b"fine".to_vec()).unwrap();
        }
        world.run_for(SECOND);
        for (host, id) in ids.into_iter().enumerate() {
            assert!(received(&world, host, id).ends_with(b"fine"));
        }
    }
    world.check();
}

/// What breaks a stream breaks this one, and no other.
#[test]
fn a_block_that_is_lost_or_damaged_ends_its_own_stream() {
    let long = format!("{}=", "A".repeat(4_096 * 4));
    for (seq, text, expected) in [
        (1, "eA==", NOT_NEXT),
        (30_000, "eA==", NOT_NEXT),
        (0, "e=A=", BAD),
        (0, "eA", BAD),
        (0, "\u{fc}", BAD),
        (0, &*long, BAD),
    ] {
        let (mut world, first) = connected([IbbConfig::default(), IbbConfig::default()]);
        let second = call(&mut world);
        let (sid, next) = next_block(&mut world, first[0]);
        let seq = next.wrapping_add(seq).to_string();
        let answer = ask(&mut world, NAMES[0], data(&sid, &seq, text));
        assert_eq!(condition(answer), expected, "{seq} {text:.10}");
        let late = ask(&mut world, NAMES[0], data(&sid, &next.to_string(), "eA=="));
        assert_eq!(condition(late), UNKNOWN, "nothing of it is taken any more");
        assert_eq!(received(&world, 1, first[1]), b"x");
        world.run_for(200 * SECOND);
        assert_eq!(
            world.state(1, first[1]),
            None,
            "there was no other transport"
        );
        assert_eq!(world.state(0, first[0]), None, "and both know");
        send(&mut world, 0, second[0], b"fine".to_vec()).unwrap();
        world.run_for(SECOND);
        assert_eq!(received(&world, 1, second[1]), b"fine");
        world.check();
    }
}

#[test]
fn an_answer_with_larger_blocks_or_another_stream_is_refused() {
    use session_core::{Dialect, Role, TransportContext, TransportFactory};
    let context = |role| TransportContext {
        role,
        local: NAMES[0].into(),
        remote: NAMES[1].into(),
        sid: "s".into(),
        content: "c".into(),
        dialect: Dialect::JINGLE,
        seed: [7; 32],
        waker: std::task::Waker::noop().clone(),
    };
    let mut ours = Ibb::new().create(&context(Role::Initiator));
    let offer = ours.offer();
    assert_eq!(offer.attribute("block-size"), Some("4096"));
    assert_eq!(
        offer.attribute("stanza"),
        None,
        "iq is what is meant without"
    );
    let sid = offer.attribute("sid").unwrap();
    let answer = |sid: &str, size: &str| {
        Element::new(NAMESPACE, "transport")
            .with("sid", sid)
            .with("block-size", size)
    };
    for (sid, size) in [
        (sid, "4097"),
        (sid, "65536"),
        (sid, "0"),
        (sid, "-1"),
        (sid, "63"),
        ("x", "64"),
    ] {
        assert!(
            ours.accept_answer(&answer(sid, size)).is_err(),
            "{sid} {size}"
        );
    }
    assert_eq!(ours.accept_answer(&answer(sid, "64")), Ok(()));
    let mut theirs = Ibb::with_config(sized(1_024)).create(&context(Role::Responder));
    let lowered = theirs.accept_offer(&offer).unwrap();
    assert_eq!(lowered.attribute("block-size"), Some("1024"));
    assert_eq!(lowered.attribute("sid"), Some(sid));
}
