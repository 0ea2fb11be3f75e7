//! Data both ways. After a while no memory is allocated here: what is sent is written into one buffer, which is used
//! again as soon as it has left.

use super::{Allocation, AllocationOutput, Framing, Relayed, State};
use crate::turn::{
    frame::{CHANNEL_HEADER, channel_header, write_channel_data},
    wire::{send_size, write_send},
};
use bytes::Bytes;
use session_core::Batch;
use std::{net::SocketAddr, time::Instant};

/// The largest datagram that a batch may make, so that the headers do not push it past what the system takes.
const BATCH_MAX: usize = 65_000;
/// The room that the buffer has at least, once something is sent.
const BUFFER: usize = 1 << 14;

impl Allocation {
    /// Sends datagrams of equal size to a peer, which should be [permitted](Self::permit) before. What cannot be sent
    /// is lost, as a datagram is: without an allocation, to a peer that the server refuses, or when it is too large.
    pub fn send(&mut self, peer: SocketAddr, batch: Batch, now: Instant) {
        let datagrams = self.config.relayed == Relayed::Datagrams;
        if self.state != State::Standing || self.closing || !datagrams {
            return;
        }
        let family = |relayed: &SocketAddr| relayed.is_ipv4() == peer.is_ipv4();
        if !self.relayed.iter().any(family) {
            return;
        }
        let Some(index) = self.peers.find(peer, batch.len(), now) else {
            return;
        };
        if self.peers.has_channel(index) {
            self.send_in_channel(index, batch, now);
        } else if !self.permissions.is_refused(peer.ip()) {
            self.permit(peer, now);
            self.send_by_indication(peer, batch, now);
            self.bind_if_due(index, now);
        }
        self.probe_at.get_or_insert(now + self.config.probe);
    }

    fn send_in_channel(&mut self, peer: usize, batch: Batch, now: Instant) {
        let number = self.peers.number(peer);
        let padded = self.config.framing == Framing::Stream;
        self.pack(batch, CHANNEL_HEADER, now, |this, packet| {
            write_channel_data(&mut this.buffer, number, packet, padded);
        });
    }

    fn send_by_indication(&mut self, peer: SocketAddr, batch: Batch, now: Instant) {
        let dont_fragment = self.config.dont_fragment;
        let header = send_size(peer, 0, dont_fragment) + 3;
        self.pack(batch, header, now, |this, packet| {
            let id = this.random.transaction();
            // What does not fit is lost, as a datagram of that size is.
            let _ = write_send(&mut this.buffer, id, peer, packet, dont_fragment);
        });
    }

    /// Writes each packet of a batch with a header before it, and hands over as much at a time as one send may take.
    fn pack(
        &mut self,
        batch: Batch,
        header: usize,
        now: Instant,
        mut write: impl FnMut(&mut Self, &[u8]),
    ) {
        let size = match batch.segment_size {
            0 => batch.payload.len(),
            size => size.min(batch.payload.len()),
        };
        let at_once = (BATCH_MAX / (size + header)).max(1);
        let mut packets = batch;
        loop {
            let count = packets.len().min(at_once);
            if count == 0 {
                return;
            }
            self.buffer.reserve((count * (size + header)).max(BUFFER));
            let mut segment = 0;
            for packet in packets.by_ref().take(count) {
                write(self, &packet);
                if segment == 0 {
                    segment = self.buffer.len();
                }
            }
            let payload = self.buffer.split().freeze();
            let single = count == 1 || self.config.framing == Framing::Stream;
            if !payload.is_empty() {
                self.spoke = Some(now);
                self.outputs.push_back(AllocationOutput::Transmit(Batch {
                    payload,
                    segment_size: if single { 0 } else { segment },
                }));
            }
        }
    }

    /// Data of a channel.
    pub(super) fn handle_channel(&mut self, number: u16, data: Bytes, now: Instant) {
        if self.state != State::Standing {
            return;
        }
        if let Some(peer) = self.peers.of_channel(number, now) {
            let batch = Batch::from(data);
            self.outputs
                .push_back(AllocationOutput::Received { peer, batch });
        }
    }

    /// Several datagrams of one channel, all of one size, stay one batch: the headers between them are taken out.
    pub(super) fn channel_batch(
        &mut self,
        batch: &Batch,
        now: Instant,
    ) -> Option<AllocationOutput> {
        let segment = batch.segment_size;
        if segment <= CHANNEL_HEADER || batch.payload.len() <= segment {
            return None;
        }
        let (number, size) = channel_header(&batch.payload)?;
        if size + CHANNEL_HEADER != segment || size == 0 {
            return None;
        }
        let alike = |packet: &[u8]| {
            let header = channel_header(packet);
            header.is_some_and(|(n, s)| n == number && s > 0 && s + CHANNEL_HEADER == packet.len())
        };
        if self.state != State::Standing || !batch.payload.chunks(segment).all(alike) {
            return None;
        }
        let peer = self.peers.of_channel(number, now)?;
        self.inbound.reserve(batch.payload.len());
        for packet in batch.payload.chunks(segment) {
            self.inbound.extend_from_slice(&packet[CHANNEL_HEADER..]);
        }
        let batch = Batch {
            payload: self.inbound.split().freeze(),
            segment_size: size,
        };
        Some(AllocationOutput::Received { peer, batch })
    }
}
