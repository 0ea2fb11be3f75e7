//! What a channel wants, and whether it may.

use super::{Asker, Key, OUTPUTS_MAX, Pair, Signalling, SocketState};
use crate::{ChannelOutput, Element, LocalSocket, Peer, RequestKind};
use std::sync::Arc;

impl Pair {
    /// Takes all outputs, as a session does after every call.
    pub(super) fn drain(&mut self, end: usize, channel: usize) {
        let mut infos = Vec::new();
        for count in 0.. {
            let Some(output) = self.ends[end].channels[channel].inner.poll_output() else {
                break;
            };
            if count > OUTPUTS_MAX {
                self.breach("drain", format!("more than {OUTPUTS_MAX} outputs at once"));
                break;
            }
            self.take_output(end, channel, output, &mut infos);
        }
        if let Some(output) = self.ends[end].channels[channel].inner.poll_output() {
            self.breach("drain", format!("{output:?} came after None"));
        }
        let inner = &self.ends[end].channels[channel].inner;
        if inner.poll_timeout() != inner.poll_timeout() {
            self.breach("timers", "poll_timeout says two things at once".into());
        }
        if !infos.is_empty() {
            let info = self.ends[end].transport.wrap_info(infos);
            self.ends[end].sent.push(info.clone());
            for _ in 0..self.copies {
                let info = info.clone();
                let to = 1 - end;
                self.wire
                    .push(self.now + self.wire_delay, Signalling::Info { to, info });
            }
        }
    }

    fn take_output(
        &mut self,
        end: usize,
        channel: usize,
        output: ChannelOutput,
        infos: &mut Vec<(Arc<str>, Element)>,
    ) {
        self.digest(end, &output);
        let this = &mut self.ends[end].channels[channel];
        if let Some(error) = &this.failed {
            let what = format!("{output:?} after Failed({error})");
            self.breach("failed-is-last", what);
            return;
        }
        let key = |socket| Key {
            end,
            channel,
            socket,
        };
        let now = self.now;
        match output {
            ChannelOutput::Info(info) => infos.push((Arc::clone(&this.name), info)),
            ChannelOutput::Request {
                token,
                to,
                payload,
                kind,
                ..
            } => self.take_request(end, channel, token, (to, payload), kind),
            ChannelOutput::Answer { token, answer } => {
                self.answer_later(end, channel, token, answer)
            }
            ChannelOutput::Bind(socket, kind, address) => {
                if self.open_socket(end, channel, socket) {
                    self.network.bind(end, key(socket), kind, address, now);
                }
            }
            ChannelOutput::Connect(socket, target) => {
                if self.open_socket(end, channel, socket) {
                    self.network.connect(end, key(socket), &target, now);
                }
            }
            ChannelOutput::Write(socket, bytes) => {
                self.use_socket(end, channel, socket, "Write");
                self.network.write(key(socket), bytes, now);
            }
            ChannelOutput::Hold(socket, held) => {
                self.use_socket(end, channel, socket, "Hold");
                self.network.hold(key(socket), held, now);
            }
            ChannelOutput::Inquire(number, inquiry) => {
                self.network
                    .inquire(end, key(LocalSocket(number)), &inquiry, now);
            }
            ChannelOutput::Shutdown(socket) => {
                self.use_socket(end, channel, socket, "Shutdown");
                self.network.shutdown(key(socket), now);
            }
            ChannelOutput::Close(socket) => self.take_close(key(socket)),
            ChannelOutput::Transmit(transmit) => self.take_transmit(end, channel, transmit),
            ChannelOutput::Gathered | ChannelOutput::Secured(_) => {}
            ChannelOutput::Packet(batch) => self.take_packets(end, channel, batch),
            ChannelOutput::Writable(writable) => {
                this.writable = writable;
                this.writable_told += u32::from(writable);
            }
            ChannelOutput::Path(path) => this.path = Some(path),
            ChannelOutput::Finished => this.finished += 1,
            ChannelOutput::Delivered => self.take_delivered(end, channel),
            ChannelOutput::Failed(error) => {
                this.writable = false;
                this.failed = Some(error);
            }
        }
    }

    fn take_close(&mut self, key: Key) {
        let sockets = &mut self.ends[key.end].channels[key.channel].sockets;
        if sockets.insert(key.socket, SocketState::Closed).is_none() {
            let what = format!("Close of socket {}, which was never opened", key.socket.0);
            self.breach("sockets", what);
        }
        self.network.close(key, self.now);
    }

    fn take_request(
        &mut self,
        end: usize,
        channel: usize,
        token: u32,
        (to, payload): (Option<Peer>, Element),
        kind: RequestKind,
    ) {
        let now = self.now;
        let asker = Asker {
            end,
            channel,
            token: (kind == RequestKind::Query).then_some(token),
        };
        let request = Signalling::Request { asker, to, payload };
        self.wire.push(now + self.wire_delay, request);
        if kind == RequestKind::Notice {
            // It has left, and that is all that is known.
            let left = Signalling::Response {
                to: end,
                channel,
                token,
                response: Ok(None),
            };
            self.wire.push(now, left);
        }
    }

    fn take_transmit(&mut self, end: usize, channel: usize, transmit: crate::Transmit) {
        self.use_socket(end, channel, transmit.socket, "Transmit");
        self.transmits += 1;
        let key = Key {
            end,
            channel,
            socket: transmit.socket,
        };
        let source = self.network.reached_at(key);
        if let (Some(tap), Some(source)) = (&mut self.tap, source) {
            tap.push((transmit.destination, source, transmit.payload.clone()));
        }
        let now = self.now;
        self.network.transmit(
            key,
            transmit.destination,
            transmit.payload,
            transmit.segment_size,
            now,
        );
    }

    fn take_packets(&mut self, end: usize, channel: usize, batch: crate::Batch) {
        let this = &mut self.ends[end].channels[channel];
        if this.finished > 0 {
            self.breach("finish", "bytes after Finished".into());
        } else if this.paused && this.expected.is_some() {
            self.breach("pause", "a packet while paused".into());
        } else {
            for packet in batch {
                match &mut this.expected {
                    Some(pattern) => {
                        if let Err(problem) = pattern.check(&packet) {
                            self.breach("stream", problem);
                            return;
                        }
                    }
                    None => this.packets.push(packet),
                }
            }
        }
    }

    fn take_delivered(&mut self, end: usize, channel: usize) {
        let received = self.ends[1 - end].channels.get(channel);
        let received = received
            .and_then(|c| c.expected.as_ref())
            .map(|p| p.position);
        let this = &mut self.ends[end].channels[channel];
        this.delivered += 1;
        if let Some(sent) = this.finished_at
            && received != Some(sent)
        {
            let what = format!("Delivered when {received:?} of {sent} bytes had arrived");
            self.breach("delivered", what);
        } else if this.finished_at.is_none() {
            self.breach("delivered", "Delivered without finish".into());
        }
    }

    fn open_socket(&mut self, end: usize, channel: usize, socket: LocalSocket) -> bool {
        let this = &mut self.ends[end].channels[channel];
        this.asked_for_sockets = true;
        if socket.0 >= LocalSocket::FIRST_ACCEPTED {
            let what = format!("number {} belongs to accepted connections", socket.0);
            self.breach("sockets", what);
            return false;
        }
        let before = this.sockets.insert(socket, SocketState::Wanted);
        if matches!(before, Some(SocketState::Wanted | SocketState::Open)) {
            let what = format!("number {} was asked for twice", socket.0);
            self.breach("sockets", what);
            return false;
        }
        true
    }

    fn use_socket(&mut self, end: usize, channel: usize, socket: LocalSocket, what: &str) {
        let state = self.ends[end].channels[channel].sockets.get(&socket);
        if state != Some(&SocketState::Open) {
            let what = format!("{what} on socket {}, which is {state:?}", socket.0);
            self.breach("sockets", what);
        }
    }
}
