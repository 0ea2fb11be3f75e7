//! Who connects to our listeners.

use super::attempts::Early;
use crate::socks5::{Destination, Server, Step};
use bytes::Bytes;
use session_core::{ChannelOutput, LocalSocket, StreamEvent};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Connections that may be open before one has named the stream.
const STRANGERS_MAX: usize = 8;
/// How long a connection may take to name it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections that were accepted: those that have not said what they want, and the one that has.
#[derive(Default)]
pub(super) struct Visitors {
    strangers: Vec<(LocalSocket, Server, Option<Instant>)>,
    guest: Option<(LocalSocket, Early)>,
}

impl Visitors {
    pub(super) fn accept(
        &mut self,
        socket: LocalSocket,
        now: Instant,
        outputs: &mut VecDeque<ChannelOutput>,
    ) {
        if self.strangers.len() >= STRANGERS_MAX {
            // The oldest had its time: whoever only occupies our places must not keep the peer out.
            let (oldest, ..) = self.strangers.remove(0);
            outputs.push_back(ChannelOutput::Close(oldest));
        }
        let due = now.checked_add(PATIENCE);
        self.strangers.push((socket, Server::default(), due));
    }

    pub(super) fn handle(
        &mut self,
        socket: LocalSocket,
        event: StreamEvent,
        accepts: &[Destination],
        outputs: &mut VecDeque<ChannelOutput>,
    ) {
        if let Some((guest, early)) = self.guest.as_mut().filter(|(guest, _)| *guest == socket) {
            let fine = match event {
                StreamEvent::Data(bytes) => early.push(bytes),
                StreamEvent::Finished => {
                    early.ended = true;
                    true
                }
                StreamEvent::Closed(_) => {
                    self.guest = None;
                    return;
                }
                StreamEvent::Connected(_)
                | StreamEvent::Accepted { .. }
                | StreamEvent::Buffered(_)
                | _ => true,
            };
            if !fine {
                outputs.push_back(ChannelOutput::Close(*guest));
                self.guest = None;
            }
            return;
        }
        let Some(at) = self
            .strangers
            .iter()
            .position(|(known, ..)| *known == socket)
        else {
            return;
        };
        match event {
            StreamEvent::Data(bytes) => self.listen_to(at, bytes, accepts, outputs),
            StreamEvent::Finished => {
                self.strangers.remove(at);
                outputs.push_back(ChannelOutput::Close(socket));
            }
            StreamEvent::Closed(_) => {
                self.strangers.remove(at);
            }
            StreamEvent::Connected(_)
            | StreamEvent::Accepted { .. }
            | StreamEvent::Buffered(_)
            | _ => {}
        }
    }

    fn listen_to(
        &mut self,
        at: usize,
        mut bytes: Bytes,
        accepts: &[Destination],
        outputs: &mut VecDeque<ChannelOutput>,
    ) {
        let taken = self.guest.is_some();
        let (socket, server, _) = &mut self.strangers[at];
        let socket = *socket;
        loop {
            // Once: whoever comes with the same hash while the first is there is refused.
            let accepts = |asked: &Destination| !taken && accepts.contains(asked);
            match server.handle_input(&mut bytes, accepts) {
                Ok(Step::Wait) => return,
                Ok(Step::Write(reply)) => outputs.push_back(ChannelOutput::Write(socket, reply)),
                Ok(Step::Done(reply)) => {
                    self.strangers.remove(at);
                    outputs.push_back(ChannelOutput::Write(socket, reply));
                    outputs.push_back(ChannelOutput::Hold(socket, true));
                    let mut early = Early::default();
                    early.push(bytes);
                    self.guest = Some((socket, early));
                    return;
                }
                Err(error) => {
                    self.strangers.remove(at);
                    let refusal = Server::refusal(error);
                    if !refusal.is_empty() {
                        outputs.push_back(ChannelOutput::Write(socket, refusal));
                    }
                    outputs.push_back(ChannelOutput::Close(socket));
                    return;
                }
            }
        }
    }

    pub(super) fn timeout(&self) -> Option<Instant> {
        self.strangers.iter().filter_map(|(.., due)| *due).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, outputs: &mut VecDeque<ChannelOutput>) {
        let gone = |(_, _, due): &mut (LocalSocket, Server, Option<Instant>)| {
            due.is_some_and(|due| due <= now)
        };
        let gone = self.strangers.extract_if(.., gone);
        outputs.extend(gone.map(|(socket, ..)| ChannelOutput::Close(socket)));
    }

    /// The one that named the stream, to become it.
    pub(super) fn take_guest(&mut self) -> Option<(LocalSocket, Early)> {
        self.guest.take()
    }

    /// Everybody out.
    pub(super) fn close(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        let guest = self.guest.take().map(|(socket, _)| socket);
        let strangers = self.strangers.drain(..).map(|(socket, ..)| socket);
        outputs.extend(strangers.chain(guest).map(ChannelOutput::Close));
    }
}
