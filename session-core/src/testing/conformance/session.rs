//! The transport within sessions of two managers, as an application has it.

use super::{
    Breach,
    pair::{Pair, Setup},
    pattern::Pattern,
};
use crate::{
    Config, Dialect, ReasonCondition, SendError, SessionId, State, Transport, TransportContext,
    TransportFactory, TransportKind,
    testing::{
        netem::Conditions,
        recorder::{Answer, Callback, Note, RECORDER_NAMESPACE, Recorder},
        world::World,
    },
};
use std::{sync::Arc, time::Duration};

/// How much each side sends as a stream.
const STREAM: u64 = 60_000;

/// The same factory in two managers.
struct Shared(Arc<dyn TransportFactory>);

impl TransportFactory for Shared {
    fn namespace(&self) -> &str {
        self.0.namespace()
    }

    fn kind(&self) -> TransportKind {
        self.0.kind()
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        self.0.create(context)
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        self.0.supports(dialect)
    }
}

/// A call, data both ways, the end, and nothing left open; once with and once without connecting before the answer.
pub(super) fn session(setup: &Setup<'_>, _: &mut Option<Pair>) -> Result<(), Breach> {
    for speculative in [true, false] {
        let breach = |what: String| {
            let what = format!("speculative: {speculative}: {what}");
            Breach::new("session", what)
        };
        let mut world = world(setup, speculative);
        let id = world
            .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
            .map_err(|misuse| breach(format!("cannot be offered: {misuse}")))?;
        let connected = world.run_until(setup.options.connect_within, |world| {
            (0..2).all(|host| {
                let ids = world.sessions(host);
                ids.len() == 1 && ids.iter().all(|&id| is_writable(world, host, id))
            })
        });
        let other = world.sessions(1).first().copied();
        let (true, Some(other)) = (connected, other) else {
            return Err(breach(format!(
                "not writable on both sides: {}",
                log(&world)
            )));
        };
        let streams = setup.options.streams(&**setup.factory);
        exchange(&mut world, [id, other], streams).map_err(breach)?;
        world.with_session(0, id, |session, now| {
            session.terminate(ReasonCondition::Success.into(), now)
        });
        world.run_for(Duration::from_secs(200));
        let left = [world.breaches(), &world.leftovers()].concat();
        if !left.is_empty() {
            return Err(breach(left.join("; ")));
        }
    }
    Ok(())
}

fn world(setup: &Setup<'_>, speculative: bool) -> World {
    let mut world = World::new(setup.seed);
    for name in ["alice@a.example/1", "bob@b.example/2"] {
        let config = Config {
            dialect: setup.options.dialect,
            speculative,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            manager.add_transport(Shared(Arc::clone(setup.factory)))?;
            let recorder = Recorder::new().with_answer(Answer::Accept);
            manager.add_client(match &setup.options.layer {
                Some(layer) => recorder.with_stream("data", Arc::clone(layer)),
                None => recorder.with_channel("data"),
            })
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(setup.conditions.clone());
    world
}

fn is_writable(world: &World, host: usize, id: SessionId) -> bool {
    world.manager(host).peek(id).is_some_and(|session| {
        let channel = session.channel("data");
        session.state() == State::InProgress && channel.is_some_and(|c| session.writable(c))
    })
}

fn exchange(world: &mut World, ids: [SessionId; 2], streams: bool) -> Result<(), String> {
    let size = if streams { STREAM } else { 1_000 };
    let mut sent = [0, 1].map(Pattern::new);
    for _ in 0..1_000 {
        for host in 0..2 {
            while sent[host].position < size {
                let piece = sent[host].peek((size - sent[host].position).min(1_000) as usize);
                let length = piece.len() as u64;
                match send(world, host, ids[host], piece) {
                    Ok(()) => sent[host].position += length,
                    Err(SendError::NotWritable) => break,
                    Err(error) => return Err(format!("a send was refused: {error}")),
                }
            }
        }
        world.run_for(Duration::from_millis(100));
        if sent.iter().all(|sent| sent.position == size) && arrived(world, ids) == [size; 2] {
            break;
        }
    }
    let found = arrived(world, ids);
    if found != [size; 2] {
        return Err(format!(
            "of {size} bytes each way {found:?} arrived: {}",
            log(world)
        ));
    }
    for (host, id) in ids.into_iter().enumerate() {
        let mut expected = Pattern::new((1 - host) as u64);
        expected.check(&received(world, host, id))?;
    }
    Ok(())
}

fn send(
    world: &mut World,
    host: usize,
    id: SessionId,
    piece: bytes::Bytes,
) -> Result<(), SendError> {
    let sent = world.with_session(host, id, |session, now| match session.channel("data") {
        Some(channel) => session.send(channel, piece, now),
        None => Err(SendError::NoSuchChannel),
    });
    sent.unwrap_or(Err(SendError::NoSuchChannel))
}

fn received(world: &World, host: usize, id: SessionId) -> Vec<u8> {
    let session = world.manager(host).peek(id);
    let channel = session.and_then(|session| session.channel("data"));
    channel.map_or_else(Vec::new, |channel| world.log(host).received(id, channel))
}

fn arrived(world: &World, ids: [SessionId; 2]) -> [u64; 2] {
    [0, 1].map(|host| received(world, host, ids[host]).len() as u64)
}

/// What the two clients saw, without the data.
fn log(world: &World) -> String {
    let mut lines = Vec::new();
    for host in 0..2 {
        for entry in world.log(host).entries() {
            if !matches!(entry.callback, Callback::Packet(..)) {
                lines.push(format!("{host} {:?}", entry.callback));
            }
        }
    }
    lines.join("; ")
}
