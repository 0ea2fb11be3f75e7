//! One socket or connection to a relay.

use crate::{
    google::{
        GoogleProtocol,
        framing::{CLIENT_HELLO, Unframed, Unframer, write_frame},
    },
    source::RelayOutput,
    stun::Timing,
};
use bytes::{Bytes, BytesMut};
use session_core::{LocalSocket, Transmit};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub(super) struct Link {
    pub(super) socket: LocalSocket,
    protocol: GoogleProtocol,
    pub(super) server: SocketAddr,
    /// Our own address of it, where it is known.
    pub(super) local: Option<IpAddr>,
    unframer: Unframer,
    /// Bytes that wait to leave a connection.
    pub(super) buffered: usize,
}

/// What came on a link.
pub(super) enum Heard {
    /// It can be used.
    Ready,
    /// A message, or a datagram of a peer.
    Message(Bytes),
    /// Nobody at the other end understands us.
    Broken,
}

impl Link {
    pub(super) fn new(socket: LocalSocket, protocol: GoogleProtocol, server: SocketAddr) -> Self {
        Self {
            socket,
            protocol,
            server,
            local: None,
            unframer: Unframer::new(protocol == GoogleProtocol::SslTcp),
            buffered: 0,
        }
    }

    pub(super) fn is_udp(&self) -> bool {
        self.protocol == GoogleProtocol::Udp
    }

    /// What is said first, where something is.
    pub(super) fn hello(&self) -> Option<RelayOutput> {
        let hello = Bytes::from_static(&CLIENT_HELLO);
        (self.protocol == GoogleProtocol::SslTcp).then(|| RelayOutput::Write(self.socket, hello))
    }

    /// How requests are repeated: on a connection not at all.
    pub(super) fn timing(&self, datagrams: Timing, connections: Duration) -> Timing {
        match self.protocol {
            GoogleProtocol::Udp => datagrams,
            GoogleProtocol::Tcp | GoogleProtocol::SslTcp => Timing {
                rto: connections,
                requests: 1,
                last: 1,
            },
        }
    }

    /// Bytes of a connection.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Vec<Heard> {
        self.unframer.push(bytes);
        let mut heard = Vec::new();
        loop {
            heard.push(match self.unframer.next() {
                Ok(Unframed::Wait) => return heard,
                Ok(Unframed::Ready) => Heard::Ready,
                Ok(Unframed::Message(message)) => Heard::Message(message),
                Err(_) => {
                    heard.push(Heard::Broken);
                    return heard;
                }
            });
        }
    }

    /// One message; `None` when it is too long.
    pub(super) fn write(&self, message: &Bytes) -> Option<RelayOutput> {
        self.write_batch(message.clone(), 0)
    }

    /// One message, or several of equal size.
    pub(super) fn write_batch(&self, payload: Bytes, segment_size: usize) -> Option<RelayOutput> {
        if self.is_udp() {
            return Some(RelayOutput::Transmit(Transmit {
                socket: self.socket,
                destination: self.server,
                payload,
                segment_size,
            }));
        }
        let size = match segment_size {
            0 => payload.len().max(1),
            size => size,
        };
        let mut framed = BytesMut::with_capacity(payload.len() + 2 * payload.len().div_ceil(size));
        let whole = payload
            .chunks(size)
            .all(|piece| write_frame(&mut framed, piece));
        whole.then(|| RelayOutput::Write(self.socket, framed.freeze()))
    }
}
