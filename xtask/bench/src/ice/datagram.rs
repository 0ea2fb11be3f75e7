//! Data over a path: what the agent costs beside the system calls, and what batches save.

use std::{
    hint::black_box,
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use session_core::{Batch, Datagram};
use transport_p2p::ice::Output;

use super::loopback::{Ours, socket};
use crate::measure::medians;

const SIZE: usize = 1_200;
/// Datagrams of a batch: what fits into one system call of 64 KiB.
const BATCH: usize = 50;
/// Bytes that a receiving driver sets aside at once.
const BLOCK: usize = 64 << 10;

/// One datagram sent and received by an application that asks the agents for each, against the bare system calls.
pub(super) fn datagram(name: &str) {
    let (mut path, mut plain) = (Path::new(), Plain::new());
    let (ours, peer) = medians(|| path.direct(), || plain.one());
    print(name, ours, peer);
}

/// The same where the agents carry it: in and out of queues, owned at the end.
pub(super) fn datagram_queued(name: &str) {
    let (mut path, mut plain) = (Path::new(), Plain::new());
    let (ours, peer) = medians(|| path.queued(), || plain.one());
    print(name, ours, peer);
}

/// The same of a datagram in a batch, with segmentation offload on both sides, against the bare system calls for one.
pub(super) fn datagram_gso(name: &str) {
    let (mut path, mut plain) = (Path::new(), Plain::new());
    let states = path.offload();
    let (ours, peer) = medians(|| path.batch(&states), || plain.one());
    print(name, ours / BATCH as f64, peer);
}

fn print(name: &str, ours: f64, peer: f64) {
    println!(
        "bench {name} ours={ours:.0}ns peer={peer:.0}ns ratio={:.3} extra={:.1}% peer_is=a-plain-udp-loop",
        peer / ours,
        100.0 * (ours / peer - 1.0),
    );
}

/// Two agents with a path.
struct Path {
    ours: Ours,
    payload: Bytes,
    large: Bytes,
    buffer: BytesMut,
    block: BytesMut,
}

impl Path {
    fn new() -> Self {
        let (ours, _) = Ours::connect();
        Self {
            ours,
            payload: vec![7; SIZE].into(),
            large: vec![7; SIZE * BATCH].into(),
            buffer: BytesMut::zeroed(BLOCK),
            block: BytesMut::new(),
        }
    }

    fn direct(&mut self) {
        black_box(Instant::now());
        let (_, to) = self.ours.agents[0]
            .send_direct(1, SIZE)
            .expect("there is a path");
        let sent = self.ours.sockets[0].0.send_to(black_box(&self.payload), to);
        assert!(sent.is_ok());
        let received = self.ours.sockets[1].0.recv_from(&mut self.buffer[..2_048]);
        let (size, source) = received.expect("it was sent to loopback");
        let payload = &self.buffer[..size];
        let data = self.ours.agents[1].receive_direct(self.ours.number, source, payload);
        assert!(data && size == SIZE);
    }

    fn queued(&mut self) {
        let now = Instant::now();
        self.ours.agents[0]
            .send(1, self.payload.clone(), now)
            .expect("there is a path");
        while let Some(output) = self.ours.agents[0].poll_output() {
            if let Output::Transmit(transmit) = output {
                let sent = self.ours.sockets[0]
                    .0
                    .send_to(&transmit.payload, transmit.destination);
                assert!(sent.is_ok());
            }
        }
        // As the driver does it with what is small: received where room is, and copied to where it may stay.
        let received = self.ours.sockets[1].0.recv_from(&mut self.buffer[..2_048]);
        let (size, source) = received.expect("it was sent to loopback");
        if self.block.capacity() < size {
            self.block.reserve(BLOCK);
        }
        self.block.extend_from_slice(&self.buffer[..size]);
        let payload = self.block.split().freeze();
        self.hand_in(payload, 0, source, SIZE, now);
    }

    /// Sockets with segmentation offload. Its options cost something also where it is not used, which is why single
    /// datagrams go without, like those of the peer.
    fn offload(&self) -> [UdpSocketState; 2] {
        [0, 1].map(|end: usize| {
            let socket = &self.ours.sockets[end].0;
            let state = UdpSocketState::new(socket.into()).expect("UDP options");
            let _ = state.set_recv_buffer_size(socket.into(), 4 << 20);
            state
        })
    }

    fn batch(&mut self, states: &[UdpSocketState; 2]) {
        let now = Instant::now();
        let batch = Batch {
            payload: self.large.clone(),
            segment_size: SIZE,
        };
        self.ours.agents[0]
            .send(1, batch, now)
            .expect("there is a path");
        while let Some(output) = self.ours.agents[0].poll_output() {
            if let Output::Transmit(transmit) = output {
                let transmit = Transmit {
                    destination: transmit.destination,
                    ecn: None,
                    contents: &transmit.payload,
                    segment_size: Some(transmit.segment_size),
                    src_ip: None,
                };
                let socket = (&self.ours.sockets[0].0).into();
                states[0].try_send(socket, &transmit).expect("sent");
            }
        }
        let mut left = SIZE * BATCH;
        while left > 0 {
            if self.buffer.len() < BLOCK {
                self.buffer = BytesMut::zeroed(BLOCK);
            }
            let mut meta = [RecvMeta::default()];
            let mut slices = [IoSliceMut::new(&mut self.buffer)];
            let socket = (&self.ours.sockets[1].0).into();
            let count = states[1].recv(socket, &mut slices, &mut meta);
            assert_eq!(count.ok(), Some(1));
            let payload = self.buffer.split_to(meta[0].len).freeze();
            self.hand_in(payload, meta[0].stride, meta[0].addr, meta[0].len, now);
            left -= meta[0].len;
        }
    }

    /// Gives what was received to the agent, and takes out what the application gets.
    fn hand_in(
        &mut self,
        payload: Bytes,
        stride: usize,
        source: SocketAddr,
        expected: usize,
        now: Instant,
    ) {
        let datagram = Datagram {
            socket: self.ours.number,
            source,
            payload,
            segment_size: stride,
        };
        let agent = &mut self.ours.agents[1];
        agent.handle_datagram(datagram, now);
        let mut bytes = 0;
        while let Some(output) = agent.poll_output() {
            if let Output::Packet(_, batch) = output {
                bytes += batch.payload.len();
                black_box(batch);
            }
        }
        assert_eq!(bytes, expected);
    }
}

/// The bare system calls.
struct Plain {
    sender: UdpSocket,
    receiver: UdpSocket,
    to: SocketAddr,
    payload: Vec<u8>,
    buffer: Vec<u8>,
}

impl Plain {
    fn new() -> Self {
        let ((sender, _), (receiver, to)) = (socket(), socket());
        Self {
            sender,
            receiver,
            to,
            payload: vec![7; SIZE],
            buffer: vec![0; 2_048],
        }
    }

    fn one(&mut self) {
        // Any program that sends and receives knows the time, once a round.
        black_box(Instant::now());
        let sent = self.sender.send_to(black_box(&self.payload), self.to);
        assert!(sent.is_ok());
        let received = self.receiver.recv_from(&mut self.buffer);
        assert!(received.is_ok_and(|(size, _)| size == SIZE));
    }
}
