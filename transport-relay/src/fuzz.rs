//! What the fuzz targets of `xtask/fuzz` run: each takes any bytes and panics when a promise is broken.

use crate::socks5::{Client, Destination, Server, Socks5Error, Step};
use bytes::Bytes;

/// SOCKS5 framing: however the bytes are cut, both ends come to the same verdict after the same bytes, say the same, and
/// keep no more than a message.
///
/// The first byte says whether the methods are skipped, the second where to cut.
pub fn socks5(data: &[u8]) {
    let [greet, cut, rest @ ..] = data else {
        return;
    };
    let cut = usize::from(*cut).max(1);
    let prefix: &[u8] = if greet % 2 == 0 { &[] } else { &[5, 1, 0] };
    let asked = [prefix, rest].concat();
    assert_eq!(server(&asked, cut), server(&asked, asked.len().max(1)));
    let prefix: &[u8] = if greet % 2 == 0 { &[] } else { &[5, 0] };
    let answered = [prefix, rest].concat();
    assert_eq!(
        client(&answered, cut),
        client(&answered, answered.len().max(1))
    );
}

/// The client of Google's relays: whatever servers say on any socket, it asks for a bounded number of things, and data comes
/// from peers alone.
///
/// Two bytes say where the bytes that follow arrive, and how many they are.
#[cfg(feature = "gtalk")]
pub fn google_relay(data: &[u8]) {
    google::run(data);
}

#[cfg(feature = "gtalk")]
mod google {
    use crate::{
        RelayFactory, RelayOutput,
        google::{
            GoogleAccess, GoogleProtocol, GoogleRelay, GoogleRelayConfig, GoogleRelayFactory,
        },
    };
    use bytes::Bytes;
    use session_core::{Batch, Datagram, LocalSocket, StreamEvent};
    use std::{
        net::{IpAddr, Ipv4Addr, SocketAddr},
        time::{Duration, Instant},
    };

    /// Outputs between two inputs, at most.
    const OUTPUTS_MAX: usize = 1_000;

    pub(super) fn run(data: &[u8]) {
        let [access, rest @ ..] = data else { return };
        let access = match access % 2 {
            0 => GoogleAccess::Open,
            _ => GoogleAccess::Token("T".into()),
        };
        let server = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 443);
        let protocols = [
            GoogleProtocol::Udp,
            GoogleProtocol::Tcp,
            GoogleProtocol::SslTcp,
        ];
        let relay = GoogleRelay {
            name: "relay.example".into(),
            web: vec![server],
            ways: protocols.map(|protocol| (protocol, server)).to_vec(),
        };
        let config = GoogleRelayConfig::new(vec![relay], access);
        let mut source = GoogleRelayFactory::new(config).create([1; 32]);
        let mut now = session_core::testing::epoch();
        source.start(&[], now);
        let mut asked = Asked::default();
        let mut rest = rest;
        while let [place, count, more @ ..] = rest {
            asked.drain(source.as_mut());
            let (bytes, left) = more.split_at(more.len().min(usize::from(*count)));
            rest = left;
            let socket = LocalSocket(u32::from(place >> 4));
            let payload = asked.answer(place & 8 != 0, bytes);
            now += Duration::from_millis(50);
            step(source.as_mut(), place % 8, (socket, server), payload, now);
        }
        asked.drain(source.as_mut());
    }

    fn step(
        source: &mut dyn crate::RelaySource,
        what: u8,
        (socket, server): (LocalSocket, SocketAddr),
        payload: Bytes,
        now: Instant,
    ) {
        let datagram = Datagram {
            socket,
            source: server,
            payload: payload.clone(),
            segment_size: 0,
        };
        match what {
            0 => source.handle_bound(socket, Ok(server), now),
            1 => source.handle_datagram(datagram, now),
            2 => source.handle_stream(socket, StreamEvent::Connected(Ok(server)), now),
            3 => source.handle_stream(socket, StreamEvent::Data(payload), now),
            4 => source.handle_stream(socket, StreamEvent::Finished, now),
            5 => source.handle_timeout(now + Duration::from_secs(400)),
            6 => source.handle_timeout(now),
            _ => source.send(server, Batch::from(payload), now),
        }
    }

    /// The transaction that was asked last, so that some answers fit.
    #[derive(Default)]
    struct Asked([u8; 16]);

    impl Asked {
        fn drain(&mut self, source: &mut dyn crate::RelaySource) {
            let mut count = 0;
            while let Some(output) = source.poll_output() {
                count += 1;
                assert!(count < OUTPUTS_MAX, "it wants without end");
                let bytes = match output {
                    RelayOutput::Transmit(transmit) => transmit.payload,
                    RelayOutput::Write(_, bytes) => bytes.slice(2.min(bytes.len())..),
                    RelayOutput::Bind(..)
                    | RelayOutput::Connect(..)
                    | RelayOutput::Close(_)
                    | RelayOutput::Allocated { .. }
                    | RelayOutput::Received { .. }
                    | RelayOutput::Lost { .. }
                    | RelayOutput::Failed(_) => continue,
                };
                if let Some(id) = bytes.get(4..20) {
                    self.0.copy_from_slice(id);
                }
            }
        }

        /// With the transaction and the right length in it, if it is to fit.
        fn answer(&self, fits: bool, bytes: &[u8]) -> Bytes {
            let mut bytes = bytes.to_vec();
            let length = bytes.len().saturating_sub(20) as u16;
            if fits && let Some(place) = bytes.get_mut(2..20) {
                place[..2].copy_from_slice(&length.to_be_bytes());
                place[2..].copy_from_slice(&self.0);
            }
            bytes.into()
        }
    }
}

/// What was said, whether it ended and how, and after how many bytes the stream begins.
type Verdict = (Vec<u8>, Option<Result<(), Socks5Error>>, usize);

fn server(bytes: &[u8], cut: usize) -> Verdict {
    let mut server = Server::default();
    run(bytes, cut, |piece| server.handle_input(piece, |_| true))
}

fn client(bytes: &[u8], cut: usize) -> Verdict {
    let (mut client, _) = Client::new(Destination::new("sid", "a@a.example/1", "b@b.example/2"));
    run(bytes, cut, |piece| client.handle_input(piece))
}

fn run(
    bytes: &[u8],
    cut: usize,
    mut step: impl FnMut(&mut Bytes) -> Result<Step, Socks5Error>,
) -> Verdict {
    let mut said = Vec::new();
    let mut read = 0;
    for piece in bytes.chunks(cut) {
        let mut piece = Bytes::copy_from_slice(piece);
        let length = piece.len();
        loop {
            let before = piece.len();
            match step(&mut piece) {
                Ok(Step::Wait) => {
                    assert!(piece.is_empty(), "waits, and has not read all");
                    break;
                }
                Ok(Step::Write(bytes)) => {
                    assert!(piece.len() < before, "says something for nothing");
                    said.extend_from_slice(&bytes);
                }
                Ok(Step::Done(bytes)) => {
                    said.extend_from_slice(&bytes);
                    return (said, Some(Ok(())), read + length - piece.len());
                }
                Err(error) => return (said, Some(Err(error)), 0),
            }
        }
        read += length;
    }
    (said, None, 0)
}
