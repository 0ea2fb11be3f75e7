//! What channels want from the world and tell the application, moved into the session's queues.

use super::{Outgoing, Session, SessionEvent};
use crate::{ChannelId, ChannelOutput, LocalSocket, Output, SocketId, TransportError};
use std::{ops::ControlFlow, time::Instant};

impl Session {
    /// Moves what a channel wants into the session's queues.
    pub(super) fn collect(&mut self, at: usize, now: Instant) {
        self.stir();
        let mut paths_changed = false;
        loop {
            let channel = &mut self.channels[at];
            let output = channel
                .implementation
                .as_mut()
                .and_then(|c| c.poll_output());
            let Some(output) = output else { break };
            let before = channel.path;
            if self.take_output(at, output, now).is_break() {
                return;
            }
            paths_changed |= self.channels[at].path != before;
        }
        if paths_changed {
            self.review_clocks(now);
        }
    }

    /// Breaks when the channel's implementation is gone.
    fn take_output(&mut self, at: usize, output: ChannelOutput, now: Instant) -> ControlFlow<()> {
        let channel = &mut self.channels[at];
        let id = channel.id;
        match output {
            ChannelOutput::Packet(batch) => {
                self.events
                    .extend(batch.map(|packet| SessionEvent::Packet(id, packet)));
            }
            ChannelOutput::Writable(writable) => {
                channel.writable = writable;
                if !channel.says_path {
                    channel.set_path(writable, now);
                }
                self.events.push_back(SessionEvent::Writable(id, writable));
            }
            ChannelOutput::Path(path) => {
                channel.says_path = true;
                channel.set_path(path, now);
            }
            ChannelOutput::Info(info) => {
                let (name, content) = (channel.wire_name.clone(), channel.content.clone());
                self.tell(&content, (name, info));
            }
            ChannelOutput::Request {
                token,
                to,
                payload,
                kind,
                patience,
            } => {
                let to = to.unwrap_or_else(|| self.remote.clone());
                let (channel, epoch) = (id, channel.epoch);
                let request = Outgoing::Request {
                    channel,
                    epoch,
                    token,
                    to,
                    payload,
                    kind,
                    patience,
                };
                return self.take_request(at, request, now);
            }
            ChannelOutput::Answer { token, answer } => {
                let epoch = channel.epoch;
                self.answer_deferred(id, epoch, token, answer);
            }
            ChannelOutput::Secured(secured) => {
                let kept = channel.secured.insert(Box::new(secured)).clone();
                self.events.push_back(SessionEvent::Secured(id, kept));
            }
            ChannelOutput::Gathered => channel.gathered = true,
            ChannelOutput::Finished => self.events.push_back(SessionEvent::Finished(id)),
            ChannelOutput::Delivered => self.events.push_back(SessionEvent::Delivered(id)),
            ChannelOutput::Failed(error) => {
                self.take_failure(at, error, now);
                return ControlFlow::Break(());
            }
            sockets @ (ChannelOutput::Transmit(_)
            | ChannelOutput::Write(..)
            | ChannelOutput::Hold(..)
            | ChannelOutput::Shutdown(_)
            | ChannelOutput::Bind(..)
            | ChannelOutput::Connect(..)
            | ChannelOutput::Inquire(..)
            | ChannelOutput::Close(_)) => self.take_socket_output(at, id, sockets),
        }
        ControlFlow::Continue(())
    }

    fn take_failure(&mut self, at: usize, error: TransportError, now: Instant) {
        let channel = &self.channels[at];
        let (id, content, name) = (channel.id, channel.content.clone(), channel.name.clone());
        let over = self.ends_by_failure(at);
        self.collect_rest(at, now);
        self.release(at);
        if over {
            // Peers close a stream as soon as they have all of it, which arrives before their word does. No other
            // transport could go on with it either.
            self.events.push_back(SessionEvent::ChannelGone(id, name));
            self.review_clocks(now);
        } else {
            // What it said of its end goes before what takes its place: Dino 0.4 refuses a replacement that comes before
            // our candidate-error.
            self.flush_infos(now);
            self.transport_failed(&content, error, now);
        }
    }

    fn take_request(&mut self, at: usize, request: Outgoing, now: Instant) -> ControlFlow<()> {
        if self.asked >= self.limits().transport_requests {
            let content = self.channels[at].content.clone();
            let error = TransportError::NoResource("too many requests at once".into());
            self.release(at);
            self.transport_failed(&content, error, now);
            return ControlFlow::Break(());
        }
        self.asked += 1;
        self.ask(request, now);
        ControlFlow::Continue(())
    }

    pub(super) fn take_socket_output(&mut self, at: usize, id: ChannelId, output: ChannelOutput) {
        let (session, room) = (
            self.passing.id,
            self.data.len() < self.limits().queued_outputs,
        );
        let channel = &mut self.channels[at];
        let epoch = channel.epoch;
        let on = |socket| SocketId {
            session,
            channel: id,
            epoch,
            socket,
        };
        let output = match output {
            // A driver that does not keep up loses datagrams, as a full socket does.
            ChannelOutput::Transmit(_) if !room => return,
            ChannelOutput::Transmit(t) => Output::Transmit {
                socket: on(t.socket),
                destination: t.destination,
                payload: t.payload,
                segment_size: t.segment_size,
            },
            ChannelOutput::Write(socket, payload) => Output::Write {
                socket: on(socket),
                payload,
            },
            ChannelOutput::Hold(socket, held) => Output::Hold {
                socket: on(socket),
                held,
            },
            ChannelOutput::Shutdown(socket) => Output::Shutdown { socket: on(socket) },
            ChannelOutput::Bind(socket, kind, address) => {
                channel.sockets.push(socket);
                Output::Bind {
                    socket: on(socket),
                    kind,
                    address,
                }
            }
            ChannelOutput::Connect(socket, target) => {
                channel.sockets.push(socket);
                Output::Connect {
                    socket: on(socket),
                    target,
                }
            }
            ChannelOutput::Inquire(number, inquiry) => Output::Inquire {
                id: on(LocalSocket(number)),
                inquiry,
            },
            ChannelOutput::Close(socket) => {
                channel.sockets.retain(|s| *s != socket);
                Output::Close { socket: on(socket) }
            }
            ChannelOutput::Packet(_)
            | ChannelOutput::Writable(_)
            | ChannelOutput::Path(_)
            | ChannelOutput::Gathered
            | ChannelOutput::Info(_)
            | ChannelOutput::Request { .. }
            | ChannelOutput::Answer { .. }
            | ChannelOutput::Finished
            | ChannelOutput::Delivered
            | ChannelOutput::Secured(_)
            | ChannelOutput::Failed(_) => return,
        };
        self.data.push_back(output);
    }

    /// What a stream that failed had received belongs to the application, whether it was held back or not.
    fn collect_rest(&mut self, at: usize, now: Instant) {
        let channel = &mut self.channels[at];
        let id = channel.id;
        let Some(implementation) = &mut channel.implementation else {
            return;
        };
        // The client has not said that its peer may go on: what takes over begins paused.
        if channel.paused {
            implementation.pause(false, now);
        }
        while let Some(output) = implementation.poll_output() {
            if let ChannelOutput::Packet(batch) = output {
                let packets = batch.map(|packet| SessionEvent::Packet(id, packet));
                self.events.extend(packets);
            } else if output == ChannelOutput::Finished {
                self.events.push_back(SessionEvent::Finished(id));
            }
        }
    }
}
