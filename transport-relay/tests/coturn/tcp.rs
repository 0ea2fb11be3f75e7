//! Connections to peers through a real coturn (RFC 6062).

use crate::server::Coturn;
use bytes::Bytes;
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};
use transport_relay::turn::{
    Allocation, AllocationConfig, AllocationOutput, Credentials, DataConnection, DataOutput,
    Framing, Relayed, TurnError,
};

pub struct Control {
    server: SocketAddr,
    stream: TcpStream,
    pub allocation: Allocation,
    pub relayed: Option<SocketAddr>,
    pub data: Vec<Data>,
    pub refused: Option<TurnError>,
}

pub struct Data {
    stream: TcpStream,
    connection: DataConnection,
    pub peer: SocketAddr,
    pub incoming: bool,
    pub bound: bool,
    pub received: Vec<u8>,
}

impl Control {
    pub fn start(server: &Coturn, credentials: Credentials, seed: u8) -> Self {
        let config = AllocationConfig {
            relayed: Relayed::Connections,
            ..AllocationConfig::new(Framing::Stream)
        };
        let mut allocation = Allocation::new(config, credentials, [seed; 32]);
        allocation.start(Instant::now());
        Self {
            server: server.address,
            stream: open(server.address),
            allocation,
            relayed: None,
            data: Vec::new(),
            refused: None,
        }
    }

    fn turn(&mut self) {
        let now = Instant::now();
        for bytes in read(&mut self.stream) {
            self.allocation.handle_bytes(bytes, now);
        }
        if self.allocation.poll_timeout().is_some_and(|at| at <= now) {
            self.allocation.handle_timeout(now);
        }
        while let Some(output) = self.allocation.poll_output() {
            match output {
                AllocationOutput::Transmit(batch) => self.stream.write_all(&batch.payload).unwrap(),
                AllocationOutput::Allocated { relayed, .. } => self.relayed = Some(relayed[0]),
                AllocationOutput::Connection { id, peer, incoming } => {
                    let mut connection = self.allocation.bind(id, now);
                    connection.start();
                    self.data.push(Data {
                        stream: open(self.server),
                        connection,
                        peer,
                        incoming,
                        bound: false,
                        received: Vec::new(),
                    });
                }
                AllocationOutput::NotConnected(_, error) => self.refused = Some(error),
                other => panic!("{other:?}"),
            }
        }
        self.data.iter_mut().for_each(Data::turn);
    }
}

impl Data {
    fn turn(&mut self) {
        for bytes in read(&mut self.stream) {
            self.connection.handle_bytes(bytes);
        }
        while let Some(output) = self.connection.poll_output() {
            match output {
                DataOutput::Transmit(bytes) => self.stream.write_all(&bytes).unwrap(),
                DataOutput::Bound => self.bound = true,
                DataOutput::Data(bytes) => self.received.extend_from_slice(&bytes),
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        assert!(self.bound);
        self.stream.write_all(bytes).unwrap();
    }
}

pub fn run(controls: &mut [&mut Control], mut done: impl FnMut(&[&mut Control]) -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !done(controls) {
        assert!(Instant::now() < until, "it does not come to pass");
        controls.iter_mut().for_each(|control| control.turn());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn open(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_nonblocking(true).unwrap();
    stream
}

fn read(stream: &mut TcpStream) -> Vec<Bytes> {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return all,
            Ok(size) => all.push(Bytes::copy_from_slice(&buffer[..size])),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
            Err(error) => panic!("{error}"),
        }
    }
}
