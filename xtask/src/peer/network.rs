//! Sockets by number, and what arrives on them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use session_core::{
    Batch, Datagram, LocalSocket, SocketError, StreamEvent, StreamTarget, Transmit,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinHandle;

use super::Happened;

/// Bytes of the largest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Pieces of bytes that wait for a connection.
const WRITES_MAX: usize = 1 << 12;

/// What the network says.
pub(super) enum Event {
    Datagram(Datagram),
    Stream(LocalSocket, StreamEvent),
}

pub(super) struct Network {
    events: Sender<Happened>,
    datagrams: BTreeMap<LocalSocket, (Arc<UdpSocket>, Task)>,
    streams: BTreeMap<LocalSocket, (Sender<Bytes>, Task)>,
}

/// Ends with whoever holds it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says what happens to one connection.
struct Teller {
    events: Sender<Happened>,
    number: LocalSocket,
}

impl Teller {
    async fn tell(&self, event: StreamEvent) {
        let event = Happened::Network(Event::Stream(self.number, event));
        // Nobody listens only when the program has ended.
        let _ = self.events.send(event).await;
    }
}

impl Network {
    pub(super) fn new(events: Sender<Happened>) -> Self {
        Self {
            events,
            datagrams: BTreeMap::new(),
            streams: BTreeMap::new(),
        }
    }

    pub(super) async fn bind(
        &mut self,
        number: LocalSocket,
        address: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        let refused = |error: std::io::Error| failure("bind", &error);
        let socket = Arc::new(UdpSocket::bind(address).await.map_err(refused)?);
        let bound = socket.local_addr().map_err(refused)?;
        let (reader, events) = (Arc::clone(&socket), self.events.clone());
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; DATAGRAM_MAX];
            loop {
                // Errors are those of earlier datagrams, which found no receiver.
                let Ok((length, source)) = reader.recv_from(&mut buffer).await else {
                    continue;
                };
                let datagram = Datagram {
                    socket: number,
                    source,
                    payload: Bytes::copy_from_slice(&buffer[..length]),
                    segment_size: 0,
                };
                let event = Happened::Network(Event::Datagram(datagram));
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
        self.datagrams.insert(number, (socket, Task(task)));
        Ok(bound)
    }

    pub(super) fn connect(&mut self, number: LocalSocket, target: &StreamTarget) {
        let (writes, queue) = channel(WRITES_MAX);
        let address = target.address;
        let teller = Teller {
            events: self.events.clone(),
            number,
        };
        let task = tokio::spawn(async move {
            let closed = match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Each message waits for its answer.
                    let _ = stream.set_nodelay(true);
                    let local = stream.local_addr();
                    let local = local.map_err(|error| failure("connect", &error));
                    teller.tell(StreamEvent::Connected(local)).await;
                    carry(stream, queue, &teller).await
                }
                Err(error) => {
                    let error = failure("connect", &error);
                    teller.tell(StreamEvent::Connected(Err(error))).await;
                    return;
                }
            };
            teller.tell(StreamEvent::Closed(closed)).await;
        });
        self.streams.insert(number, (writes, Task(task)));
    }

    pub(super) fn write(&mut self, number: LocalSocket, payload: Bytes) {
        let sent = self
            .streams
            .get(&number)
            .map(|(writes, _)| writes.try_send(payload));
        // A gap would spoil the stream. One that ended by itself has said so.
        if let Some(Err(_)) = sent {
            self.streams.remove(&number);
        }
    }

    pub(super) fn close(&mut self, number: LocalSocket) {
        self.datagrams.remove(&number);
        self.streams.remove(&number);
    }

    pub(super) async fn transmit(&self, transmit: &Transmit) {
        let Some((socket, _)) = self.datagrams.get(&transmit.socket) else {
            return;
        };
        let batch = Batch {
            payload: transmit.payload.clone(),
            segment_size: transmit.segment_size,
        };
        for datagram in batch {
            // A datagram that cannot be sent is lost, as on the way.
            let _ = socket.send_to(&datagram, transmit.destination).await;
        }
    }
}

/// Carries bytes both ways until either end is over.
async fn carry(
    stream: TcpStream,
    mut queue: Receiver<Bytes>,
    teller: &Teller,
) -> Option<SocketError> {
    let (mut reader, mut writer) = stream.into_split();
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(DATAGRAM_MAX);
        tokio::select! {
            read = reader.read_buf(&mut buffer) => match read {
                Ok(0) => return None,
                Ok(_) => {
                    teller.tell(StreamEvent::Data(buffer.split().freeze())).await;
                }
                Err(error) => return Some(failure("read", &error)),
            },
            payload = queue.recv() => {
                if let Err(error) = writer.write_all(&payload?).await {
                    return Some(failure("write", &error));
                }
                teller.tell(StreamEvent::Buffered(0)).await;
            }
        }
    }
}

fn failure(what: &'static str, error: &std::io::Error) -> SocketError {
    SocketError {
        what,
        why: error.to_string().into(),
    }
}
