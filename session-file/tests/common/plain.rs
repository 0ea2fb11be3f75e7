//! A stream over datagrams that neither lose nor reorder: acknowledgements and a window, but no mark at the end.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use session_core::{
    ChannelLayer, ChannelOutput, Datagram, Element, LocalSocket, SendError, SocketError,
    TransportChannel, TransportContext, TransportError,
};
use std::{collections::VecDeque, net::SocketAddr, time::Instant};

const DATA: u8 = 0;
const ACKNOWLEDGE: u8 = 1;

/// Most bytes that the peer's application has not been given, and so the most that a receiver holds.
pub const WINDOW: u64 = 32 * 1024;

pub struct Plain;

impl ChannelLayer for Plain {
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        Box::new(PlainChannel {
            inner,
            out: VecDeque::new(),
            held: VecDeque::new(),
            sent: 0,
            acknowledged: 0,
            taken: 0,
            received: 0,
            handed: 0,
            path: false,
            writable: false,
            paused: false,
            finished: false,
            delivered: false,
        })
    }
}

struct PlainChannel {
    inner: Box<dyn TransportChannel>,
    out: VecDeque<ChannelOutput>,
    held: VecDeque<Bytes>,
    sent: u64,
    /// Of those, received by the peer's end of the stream.
    acknowledged: u64,
    /// Of those, given to the peer's application.
    taken: u64,
    received: u64,
    /// Of those, given to the application.
    handed: u64,
    path: bool,
    writable: bool,
    paused: bool,
    finished: bool,
    delivered: bool,
}

impl PlainChannel {
    /// Passes on what the channel below wants, and takes in what it received.
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "a layer passes on what it has nothing to do with"
    )]
    fn collect(&mut self, now: Instant) {
        while let Some(output) = self.inner.poll_output() {
            match output {
                ChannelOutput::Packet(batch) => {
                    for packet in batch {
                        self.handle_packet(packet, now);
                    }
                }
                ChannelOutput::Writable(path) => {
                    self.path = path;
                    self.out.push_back(ChannelOutput::Path(path));
                }
                other => self.out.push_back(other),
            }
        }
        let writable = self.path && self.sent - self.taken < WINDOW;
        if writable != self.writable {
            self.writable = writable;
            self.out.push_back(ChannelOutput::Writable(writable));
        }
        if self.finished && self.sent == self.acknowledged && !self.delivered {
            self.delivered = true;
            self.out.push_back(ChannelOutput::Delivered);
        }
    }

    fn handle_packet(&mut self, mut packet: Bytes, now: Instant) {
        let kind = packet.split_to(1)[0];
        match kind {
            DATA => {
                self.received += packet.len() as u64;
                self.held.push_back(packet);
                self.hand_out();
                self.acknowledge(now);
            }
            ACKNOWLEDGE => {
                self.acknowledged = packet.get_u64();
                self.taken = packet.get_u64();
            }
            other => panic!("kind {other}"),
        }
    }

    /// What was received is acknowledged, handed out or not: as TCP does.
    fn acknowledge(&mut self, now: Instant) {
        let mut packet = BytesMut::new();
        packet.put_u8(ACKNOWLEDGE);
        packet.put_u64(self.received);
        packet.put_u64(self.handed);
        self.inner.send(packet.freeze(), now).unwrap();
    }

    fn hand_out(&mut self) {
        if self.paused {
            return;
        }
        for packet in self.held.drain(..) {
            self.handed += packet.len() as u64;
            self.out.push_back(ChannelOutput::Packet(packet.into()));
        }
    }
}

impl TransportChannel for PlainChannel {
    fn connect(&mut self, now: Instant) {
        self.inner.connect(now);
        self.collect(now);
    }
    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        let result = self.inner.handle_info(info, now);
        self.collect(now);
        result
    }
    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.inner.handle_bound(socket, address, now);
        self.collect(now);
    }
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        self.inner.handle_datagram(datagram, now);
        self.collect(now);
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
        self.collect(now);
    }
    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        if !self.writable {
            return Err(SendError::NotWritable);
        }
        if packet.len() > 8 * 1024 {
            return Err(SendError::TooLarge);
        }
        let mut framed = BytesMut::new();
        framed.put_u8(DATA);
        framed.put_slice(&packet);
        self.sent += packet.len() as u64;
        self.inner.send(framed.freeze(), now).unwrap();
        self.collect(now);
        Ok(())
    }
    fn pause(&mut self, paused: bool, now: Instant) {
        self.paused = paused;
        self.hand_out();
        self.acknowledge(now);
        self.collect(now);
    }
    fn finish(&mut self, now: Instant) {
        self.finished = true;
        self.collect(now);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }
    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.out.pop_front()
    }
}
