//! A relay in a few lines: over one connection, each write is one frame.

use bytes::Bytes;
use session_core::{Batch, Datagram, LocalSocket, SocketError, StreamEvent, StreamTarget};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    time::Instant,
};
use transport_p2p::ice::{RelayFactory, RelayOutput, RelaySource};

pub struct FakeRelayFactory(pub SocketAddr);

impl RelayFactory for FakeRelayFactory {
    fn create(&self, _: [u8; 32]) -> Box<dyn RelaySource> {
        Box::new(FakeRelay {
            server: Some(self.0),
            ..FakeRelay::default()
        })
    }
}

#[derive(Default)]
pub struct FakeRelay {
    server: Option<SocketAddr>,
    outputs: VecDeque<RelayOutput>,
    mapped: Option<SocketAddr>,
    allocated: bool,
    permitted: Vec<SocketAddr>,
}

const SOCKET: LocalSocket = LocalSocket(0);

impl RelaySource for FakeRelay {
    fn start(&mut self, _: &[IpAddr], _: Instant) {
        let target = StreamTarget::new(self.server.unwrap());
        self.outputs.push_back(RelayOutput::Connect(SOCKET, target));
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_stream(&mut self, _: LocalSocket, event: StreamEvent, _: Instant) {
        match event {
            StreamEvent::Connected(Ok(address)) => {
                self.mapped = Some(address);
                self.write(Bytes::from_static(b"allocate"));
            }
            StreamEvent::Data(data) => {
                let Frame::Send(address, payload) = parse(&data) else {
                    return;
                };
                self.outputs.push_back(if self.allocated {
                    RelayOutput::Received {
                        peer: address,
                        batch: payload.into(),
                    }
                } else {
                    RelayOutput::Allocated {
                        relayed: address,
                        mapped: self.mapped,
                    }
                });
                self.allocated = true;
            }
            other => self
                .outputs
                .push_back(RelayOutput::Failed(format!("{other:?}").into())),
        }
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn permit(&mut self, peer: SocketAddr, _: Instant) {
        if !self.permitted.contains(&peer) {
            self.permitted.push(peer);
            self.write(format!("permit {peer}").into());
        }
    }

    fn send(&mut self, peer: SocketAddr, batch: Batch, _: Instant) {
        for packet in batch {
            self.write(frame(peer, &packet));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<RelayOutput> {
        self.outputs.pop_front()
    }
}

impl FakeRelay {
    fn write(&mut self, frame: Bytes) {
        self.outputs.push_back(RelayOutput::Write(SOCKET, frame));
    }
}

pub enum Frame {
    Allocate,
    Permit(SocketAddr),
    Send(SocketAddr, Bytes),
}

pub fn frame(address: SocketAddr, payload: &[u8]) -> Bytes {
    let mut frame = format!("{address}\n").into_bytes();
    frame.extend_from_slice(payload);
    frame.into()
}

pub fn parse(frame: &[u8]) -> Frame {
    if frame == b"allocate" {
        return Frame::Allocate;
    }
    if let Some(peer) = frame.strip_prefix(b"permit ") {
        return Frame::Permit(std::str::from_utf8(peer).unwrap().parse().unwrap());
    }
    let end = frame.iter().position(|byte| *byte == b'\n').unwrap();
    let address = std::str::from_utf8(&frame[..end]).unwrap().parse().unwrap();
    Frame::Send(address, Bytes::copy_from_slice(&frame[end + 1..]))
}
