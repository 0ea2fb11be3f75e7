//! Connecting to candidates: one attempt each, side by side.

use super::candidate::Candidate;
use crate::socks5::{Client, Destination, Step};
use bytes::Bytes;
use session_core::{ChannelOutput, LocalSocket, StreamEvent, StreamTarget};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bytes that may come before it is known which connection is the one: reading is held, but some may be under way.
const EARLY_MAX: usize = 1024 * 1024;

/// What came on a connection that may become the stream.
#[derive(Default)]
pub(super) struct Early {
    pub(super) bytes: VecDeque<Bytes>,
    length: usize,
    pub(super) ended: bool,
}

impl Early {
    /// Whether there was room for it.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        self.length += bytes.len();
        if !bytes.is_empty() {
            self.bytes.push_back(bytes);
        }
        self.length <= EARLY_MAX
    }
}

enum State {
    Waiting,
    Connecting,
    Shaking(Client),
    /// The other end passes bytes on to our peer, or is it.
    Ready(Early),
    Gone,
}

/// One candidate that we connect to.
pub(super) struct Attempt {
    pub(super) candidate: Candidate,
    socket: LocalSocket,
    /// What to ask for, and what to ask for when that is refused: clients differ in whose name comes first.
    destinations: VecDeque<Destination>,
    start: Instant,
    due: Option<Instant>,
    time: Duration,
    state: State,
}

impl Attempt {
    pub(super) fn new(
        candidate: Candidate,
        socket: LocalSocket,
        destinations: impl IntoIterator<Item = Destination>,
        start: Instant,
        time: Duration,
    ) -> Self {
        Self {
            candidate,
            socket,
            destinations: destinations.into_iter().collect(),
            start,
            due: None,
            time,
            state: State::Waiting,
        }
    }

    pub(super) fn socket(&self) -> LocalSocket {
        self.socket
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Whether it may still come to something.
    pub(super) fn is_pending(&self) -> bool {
        match self.state {
            State::Waiting | State::Connecting | State::Shaking(_) => true,
            State::Ready(_) | State::Gone => false,
        }
    }

    /// What is left of it when it becomes the stream.
    pub(super) fn into_early(self) -> Option<Early> {
        match self.state {
            State::Ready(early) => Some(early),
            State::Waiting | State::Connecting | State::Shaking(_) | State::Gone => None,
        }
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting => Some(self.start),
            State::Connecting | State::Shaking(_) => self.due,
            State::Ready(_) | State::Gone => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, outputs: &mut VecDeque<ChannelOutput>) {
        if self.timeout().is_none_or(|due| due > now) {
            return;
        }
        if let State::Waiting = self.state {
            self.due = now.checked_add(self.time);
            self.dial(outputs);
        } else {
            self.close(outputs);
        }
    }

    fn dial(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        self.state = State::Connecting;
        let target = StreamTarget::new(self.candidate.address);
        outputs.push_back(ChannelOutput::Connect(self.socket, target));
    }

    /// Lets go of it.
    pub(super) fn close(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Connecting | State::Shaking(_) | State::Ready(_) => {
                outputs.push_back(ChannelOutput::Close(self.socket));
            }
            State::Waiting | State::Gone => {}
        }
    }

    /// The other end did not like what we asked for: there may be another way to ask.
    fn refused(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        self.close(outputs);
        if !self.destinations.is_empty() {
            self.socket = LocalSocket(self.socket.0 + 1);
            self.dial(outputs);
        }
    }

    pub(super) fn handle(&mut self, event: StreamEvent, outputs: &mut VecDeque<ChannelOutput>) {
        match (&mut self.state, event) {
            (State::Connecting, StreamEvent::Connected(Ok(_))) => {
                let Some(destination) = self.destinations.pop_front() else {
                    return self.close(outputs);
                };
                let (client, first) = Client::new(destination);
                self.state = State::Shaking(client);
                outputs.push_back(ChannelOutput::Write(self.socket, first));
            }
            (State::Connecting, StreamEvent::Connected(Err(_))) => self.state = State::Gone,
            (State::Shaking(_), StreamEvent::Data(bytes)) => self.shake(bytes, outputs),
            (State::Ready(early), StreamEvent::Data(bytes)) => {
                if !early.push(bytes) {
                    self.close(outputs);
                }
            }
            (State::Ready(early), StreamEvent::Finished) => early.ended = true,
            (State::Shaking(_), StreamEvent::Finished) => self.refused(outputs),
            (State::Shaking(_), StreamEvent::Closed(_)) => self.refused(outputs),
            (_, StreamEvent::Closed(_)) => self.state = State::Gone,
            (
                State::Waiting
                | State::Connecting
                | State::Shaking(_)
                | State::Ready(_)
                | State::Gone,
                StreamEvent::Connected(_)
                | StreamEvent::Accepted { .. }
                | StreamEvent::Data(_)
                | StreamEvent::Buffered(_)
                | StreamEvent::Finished
                | _,
            ) => {}
        }
    }

    fn shake(&mut self, mut bytes: Bytes, outputs: &mut VecDeque<ChannelOutput>) {
        while let State::Shaking(client) = &mut self.state {
            match client.handle_input(&mut bytes) {
                Ok(Step::Wait) => return,
                Ok(Step::Write(request)) => {
                    outputs.push_back(ChannelOutput::Write(self.socket, request));
                }
                Ok(Step::Done(_)) => {
                    let mut early = Early::default();
                    early.push(std::mem::take(&mut bytes));
                    outputs.push_back(ChannelOutput::Hold(self.socket, true));
                    self.state = State::Ready(early);
                }
                Err(_) => self.refused(outputs),
            }
        }
    }
}
