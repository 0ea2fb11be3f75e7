//! [`Tape`]: what went into a manager and what came out, to be played again.
//!
//! A manager is a function of its configuration, its entropy, its inputs and the calls on it. A [`Taped`] manager
//! notes the inputs, in order and with their instants, and the outputs. Calls are code, so that only their places are
//! noted: whoever replays makes them again.
//!
//! A bug report is a [`Tape`] whose inputs are printed with `{:?}`, and the seed.

use crate::{Input, Output, SessionManager};
use std::{fmt, time::Instant};

/// A manager whose inputs and outputs are noted.
#[derive(Debug)]
pub struct Taped {
    manager: SessionManager,
    tape: Tape,
}

/// What went into a manager, and what came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tape {
    /// What happened to it.
    pub events: Vec<(Instant, Event)>,
    /// What it wanted, all [`Output::Wait`]s included.
    pub outputs: Vec<Output>,
}

/// What happens to a manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An input.
    Input(Box<Input>),
    /// The nth call of the application, counted from 0.
    Call(usize),
}

/// Where a replay went another way than the tape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// After so many events, counted from 1.
    pub event: usize,
    /// The number of the output, counted from 0.
    pub output: usize,
    /// What the tape has; `None` at its end.
    pub expected: Option<Output>,
    /// What the manager wanted now.
    pub found: Output,
}

impl Taped {
    /// Notes from now on: the manager is as [`Tape::replay`] will get one.
    pub fn new(manager: SessionManager) -> Self {
        Self {
            manager,
            tape: Tape::default(),
        }
    }

    /// As [`SessionManager::handle_input`].
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        self.tape
            .events
            .push((now, Event::Input(Box::new(input.clone()))));
        self.manager.handle_input(input, now);
    }

    /// A call of the application. On replay the same must be done at the same place.
    pub fn call<R>(
        &mut self,
        now: Instant,
        f: impl FnOnce(&mut SessionManager, Instant) -> R,
    ) -> R {
        let is_call = |event: &&(Instant, Event)| matches!(event.1, Event::Call(_));
        let number = self.tape.events.iter().filter(is_call).count();
        self.tape.events.push((now, Event::Call(number)));
        f(&mut self.manager, now)
    }

    /// As [`SessionManager::poll_output`].
    pub fn poll_output(&mut self, now: Instant) -> Output {
        let output = self.manager.poll_output(now);
        self.tape.outputs.push(output.clone());
        output
    }

    /// What was noted so far.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// The manager and the tape.
    pub fn into_parts(self) -> (SessionManager, Tape) {
        (self.manager, self.tape)
    }
}

impl Tape {
    /// Does to a fresh manager what was done to the recorded one, and compares what it wants. After each event the
    /// outputs are drained, as every driver does.
    ///
    /// # Errors
    /// The first difference.
    pub fn replay(
        &self,
        manager: &mut SessionManager,
        mut call: impl FnMut(usize, &mut SessionManager, Instant),
    ) -> Result<(), Box<Divergence>> {
        let mut outputs = self.outputs.iter();
        let mut output = 0;
        for (event, (now, what)) in self.events.iter().enumerate() {
            match what {
                Event::Input(input) => manager.handle_input(Input::clone(input), *now),
                Event::Call(number) => call(*number, manager, *now),
            }
            loop {
                let found = manager.poll_output(*now);
                let expected = outputs.next();
                if expected != Some(&found) {
                    return Err(Box::new(Divergence {
                        event: event + 1,
                        output,
                        expected: expected.cloned(),
                        found,
                    }));
                }
                output += 1;
                if let Output::Wait(_) = found {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after event {}, output {}: {:?}, and on the tape {:?}",
            self.event, self.output, self.found, self.expected
        )
    }
}

impl std::error::Error for Divergence {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Config, Peer, RequestId, SeededEntropy, SocketId,
        testing::{MemoryDatagram, Note, RECORDER_NAMESPACE, Recorder, epoch},
    };
    use std::time::Duration;

    fn manager(seed: u64) -> SessionManager {
        let mut entropy = SeededEntropy::new(seed);
        let fill = move |bytes: &mut [u8]| crate::Entropy::fill(&mut entropy, bytes);
        let mut manager = SessionManager::new(Config::default(), fill);
        manager.add_transport(MemoryDatagram::new()).unwrap();
        let recorder = Recorder::new().with_channel("data");
        manager.add_client(recorder).unwrap();
        manager
    }

    fn call(manager: &mut SessionManager, now: Instant) {
        let local = Peer::from("alice@a.example/1");
        let id = manager
            .create_session(local, RECORDER_NAMESPACE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        let note = Note("call".into());
        session
            .initiate("bob@b.example/2".into(), Vec::new(), &note, now)
            .unwrap();
    }

    fn drain(taped: &mut Taped, now: Instant) -> (Vec<RequestId>, Vec<SocketId>) {
        let (mut asked, mut wanted) = (Vec::new(), Vec::new());
        loop {
            let output = taped.poll_output(now);
            if let Output::Message { id, .. } = output {
                asked.push(id);
            } else if let Output::Bind { socket, .. } = output {
                wanted.push(socket);
            } else {
                assert!(matches!(output, Output::Wait(_)), "{output:?}");
                return (asked, wanted);
            }
        }
    }

    #[test]
    fn a_tape_played_to_the_same_manager_is_the_same_and_to_another_is_not() {
        let now = epoch();
        let mut taped = Taped::new(manager(1));
        taped.call(now, call);
        let (asked, wanted) = drain(&mut taped, now);
        let later = now + Duration::from_millis(20);
        let bound = Input::Bound {
            socket: wanted[0],
            address: Ok("127.0.0.1:4000".parse().unwrap()),
        };
        let acknowledged = Input::Reply {
            id: asked[0],
            reply: Ok(None),
        };
        for input in [bound, acknowledged, Input::Timeout] {
            taped.handle_input(input, later);
            drain(&mut taped, later);
        }
        let (_, tape) = taped.into_parts();
        assert_eq!(tape.events.len(), 4);
        let again = |number: usize, manager: &mut SessionManager, now| {
            assert_eq!(number, 0);
            call(manager, now);
        };
        assert_eq!(tape.replay(&mut manager(1), again), Ok(()));
        let divergence = tape.replay(&mut manager(2), again).unwrap_err();
        assert_eq!(
            divergence.event, 1,
            "the session is named otherwise: {divergence}"
        );
    }
}
