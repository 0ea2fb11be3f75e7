//! Our data channels towards those that know nothing of our sessions: a channel with its layers, and its sockets.

use super::{
    data_channels,
    ends::Wire,
    said::{Said, candidate_line},
};
use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use session_core::{
    ChannelOutput, Datagram, Dialect, LayeredTransport, LocalSocket, Role, Transport,
    TransportChannel, TransportContext, TransportFactory,
};
use std::{
    collections::BTreeMap,
    io::IoSliceMut,
    net::{IpAddr, UdpSocket},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    sctp::DataChannelConfig,
};

const PIECE: usize = 256 * 1024;

struct Solo {
    transport: LayeredTransport,
    channel: Box<dyn TransportChannel>,
    sockets: BTreeMap<LocalSocket, (UdpSocket, UdpSocketState)>,
    candidates: Vec<String>,
    writable: bool,
}

/// Offers, sends, and says when the first byte could be sent.
pub(super) fn send(wire: &Wire, bytes: u64) -> Instant {
    let context = TransportContext {
        role: Role::Initiator,
        local: "alice@bench.example/a".into(),
        remote: "bob@bench.example/b".into(),
        sid: "bench".into(),
        content: "file".into(),
        dialect: Dialect::JINGLE,
        seed: seed(),
        waker: Waker::noop().clone(),
    };
    let ice = IceTransportFactory::new(IceConfig::new(vec![IpAddr::V4(wire.address)]));
    let layer = data_channels(DataChannelConfig::default());
    let mut transport = LayeredTransport::new(ice.create(&context), &layer, &context);
    let channel = transport.create_channel("data").expect("the first");
    let offer = transport.offer();
    let mut solo = Solo {
        transport,
        channel,
        sockets: BTreeMap::new(),
        candidates: Vec::new(),
        writable: false,
    };
    solo.channel.connect(Instant::now());
    while solo.candidates.is_empty() {
        solo.turn();
    }
    wire.tell(Said {
        candidates: solo.candidates.clone(),
        ..Said::from_xml(&offer)
    });
    let answer = wire.hear().to_xml();
    solo.transport.accept_answer(&answer).expect("an answer");
    for (_, info) in solo.transport.split_info(&answer).expect("candidates") {
        let heard = solo.channel.handle_info(&info, Instant::now());
        heard.expect("a candidate");
    }
    let piece = Bytes::from(vec![0xA5; PIECE]);
    let (mut begun, mut left) = (None, bytes);
    while !wire.is_over() {
        if solo.writable {
            begun.get_or_insert_with(Instant::now);
        }
        while solo.writable && left > 0 {
            let size = (PIECE as u64).min(left) as usize;
            match solo.channel.send(piece.slice(..size), Instant::now()) {
                Ok(()) => left -= size as u64,
                Err(_) => break,
            }
        }
        solo.turn();
    }
    begun.expect("what arrived was sent")
}

fn seed() -> [u8; 32] {
    use std::hash::{BuildHasher, RandomState};
    let mut seed = [0; 32];
    for (at, chunk) in seed.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&RandomState::new().hash_one(at).to_le_bytes());
    }
    seed
}

impl Solo {
    /// Does what the channel wants, waits for what comes, and hands it in.
    fn turn(&mut self) {
        self.drain();
        let now = Instant::now();
        let due = self.channel.poll_timeout();
        let wait = due.map_or(Duration::from_millis(5), |at| {
            at.saturating_duration_since(now)
        });
        let wait = wait.min(Duration::from_millis(5));
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(wait.subsec_nanos()),
        };
        let sockets = self.sockets.values();
        let mut polled: Vec<_> = sockets
            .map(|(socket, _)| PollFd::new(socket, PollFlags::IN))
            .collect();
        let _ = poll(&mut polled, Some(&time));
        self.arrive();
        let now = Instant::now();
        if self.channel.poll_timeout().is_some_and(|at| at <= now) {
            self.channel.handle_timeout(now);
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else there is does not occur between two hosts"
    )]
    fn drain(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            match output {
                ChannelOutput::Bind(number, _, address) => {
                    let socket = UdpSocket::bind(address).expect("a port");
                    let state = UdpSocketState::new((&socket).into()).expect("UDP options");
                    let bound = socket.local_addr().expect("bound");
                    self.sockets.insert(number, (socket, state));
                    self.channel.handle_bound(number, Ok(bound), Instant::now());
                }
                ChannelOutput::Transmit(transmit) => {
                    let Some((socket, state)) = self.sockets.get(&transmit.socket) else {
                        continue;
                    };
                    let size = transmit.segment_size;
                    let transmit = Transmit {
                        destination: transmit.destination,
                        ecn: None,
                        contents: &transmit.payload,
                        segment_size: (size > 0 && size < transmit.payload.len()).then_some(size),
                        src_ip: None,
                    };
                    // What finds no room is lost, as on any path.
                    let _ = state.try_send(socket.into(), &transmit);
                }
                ChannelOutput::Info(info) => {
                    let info = self.transport.wrap_info(vec![("data".into(), info)]);
                    let lines = info.children().filter_map(candidate_line);
                    self.candidates.extend(lines);
                }
                ChannelOutput::Writable(writable) => self.writable = writable,
                ChannelOutput::Failed(error) => panic!("our channel: {error}"),
                _ => {}
            }
        }
    }

    fn arrive(&mut self) {
        for (number, (socket, state)) in &self.sockets {
            for _ in 0..16 {
                let mut buffer = BytesMut::zeroed(65_536);
                let mut meta = [RecvMeta::default()];
                let received = {
                    let mut slices = [IoSliceMut::new(&mut buffer)];
                    state.recv(socket.into(), &mut slices, &mut meta)
                };
                if received.is_err() {
                    break;
                }
                let datagram = Datagram {
                    socket: *number,
                    source: meta[0].addr,
                    payload: buffer.split_to(meta[0].len).freeze(),
                    segment_size: meta[0].stride,
                };
                self.channel.handle_datagram(datagram, Instant::now());
            }
        }
    }
}
