//! The stream, once it stands: bytes to and from one connection.

use bytes::Bytes;
use session_core::{ChannelOutput, LocalSocket, SendError, StreamEvent};
use std::collections::VecDeque;

/// Above this many bytes in the driver's hands, a send is refused.
const DRIVER_BUFFER: usize = 512 * 1024;
/// The largest piece that a single send takes.
const SEND_MAX: usize = 8 * 1024 * 1024;

/// A connection that carries the stream.
pub(super) struct Pipe {
    socket: LocalSocket,
    /// Arrived, and not handed out.
    waiting: VecDeque<Bytes>,
    paused: bool,
    /// The driver does not read.
    held: bool,
    in_driver: usize,
    writable: bool,
    finished: bool,
    peer_finished: bool,
    end_told: bool,
    delivered: bool,
    /// The connection is gone, after all that mattered.
    gone: bool,
}

impl Pipe {
    /// `early` is what came before it was known that this connection is the one, on which reading was held.
    pub(super) fn new(socket: LocalSocket, early: VecDeque<Bytes>, ended: bool) -> Self {
        Self {
            socket,
            waiting: early,
            paused: false,
            held: true,
            in_driver: 0,
            writable: false,
            finished: false,
            peer_finished: ended,
            end_told: false,
            delivered: false,
            gone: false,
        }
    }

    pub(super) fn socket(&self) -> LocalSocket {
        self.socket
    }

    /// Everything that is possible now.
    pub(super) fn flow(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        if !self.paused {
            let packets = self.waiting.drain(..);
            outputs.extend(packets.map(|bytes| ChannelOutput::Packet(bytes.into())));
            if self.peer_finished && !std::mem::replace(&mut self.end_told, true) {
                outputs.push_back(ChannelOutput::Finished);
            }
        }
        if self.held != self.paused && !self.gone {
            self.held = self.paused;
            outputs.push_back(ChannelOutput::Hold(self.socket, self.held));
        }
        let most = if self.writable {
            DRIVER_BUFFER
        } else {
            DRIVER_BUFFER / 2
        };
        let writable = self.in_driver < most && !self.gone;
        if self.writable != writable {
            self.writable = writable;
            outputs.push_back(ChannelOutput::Writable(writable));
        }
        // TCP tells nobody that the last byte arrived: that the peer ended its side, too, is as near as it gets.
        if self.finished && self.peer_finished && self.in_driver == 0 && !self.delivered {
            self.delivered = true;
            outputs.push_back(ChannelOutput::Delivered);
        }
    }

    /// What happened to the connection. An `Err` when it broke.
    pub(super) fn handle(
        &mut self,
        event: StreamEvent,
        outputs: &mut VecDeque<ChannelOutput>,
    ) -> Result<(), ()> {
        match event {
            StreamEvent::Data(bytes) if !self.peer_finished => self.waiting.push_back(bytes),
            StreamEvent::Buffered(bytes) => self.in_driver = bytes,
            StreamEvent::Finished => self.peer_finished = true,
            StreamEvent::Closed(_) if self.peer_finished && self.finished => self.gone = true,
            StreamEvent::Closed(_) => return Err(()),
            StreamEvent::Data(_) | StreamEvent::Connected(_) | StreamEvent::Accepted { .. } | _ => {
            }
        }
        self.flow(outputs);
        Ok(())
    }

    pub(super) fn send(
        &mut self,
        packet: Bytes,
        outputs: &mut VecDeque<ChannelOutput>,
    ) -> Result<(), SendError> {
        if self.finished {
            return Err(SendError::Finished);
        }
        if self.gone {
            return Err(SendError::NoSuchChannel);
        }
        if packet.len() > SEND_MAX {
            return Err(SendError::TooLarge);
        }
        if self.in_driver >= DRIVER_BUFFER {
            return Err(SendError::NotWritable);
        }
        if !packet.is_empty() {
            self.in_driver += packet.len();
            outputs.push_back(ChannelOutput::Write(self.socket, packet));
            self.flow(outputs);
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, paused: bool, outputs: &mut VecDeque<ChannelOutput>) {
        self.paused = paused;
        self.flow(outputs);
    }

    pub(super) fn finish(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        if !std::mem::replace(&mut self.finished, true) && !self.gone {
            outputs.push_back(ChannelOutput::Shutdown(self.socket));
        }
        self.flow(outputs);
    }

    /// What it had received and held back, when it broke.
    pub(super) fn rest(&mut self, outputs: &mut VecDeque<ChannelOutput>) {
        let packets = self.waiting.drain(..);
        outputs.extend(packets.map(|bytes| ChannelOutput::Packet(bytes.into())));
    }
}
