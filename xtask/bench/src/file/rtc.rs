//! Stock rtc (webrtc-rs) with a socket, on a thread: one data channel, and bytes through it.

use super::{ends::Wire, said::Said};
use bytes::BytesMut;
use quinn_udp::UdpSocketState;
use rtc::{
    data_channel::RTCDataChannelId,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::RTCConfigurationBuilder,
        event::{RTCDataChannelEvent, RTCPeerConnectionEvent},
        message::RTCMessage,
        sdp::RTCSessionDescription,
        transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate},
    },
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// Bytes of a message, and how many may wait to leave.
const MESSAGE: usize = 60_000;
const WAITING: usize = 1 << 20;
const SOCKET_BUFFER: usize = 4 << 20;

struct End {
    pc: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    open: Option<RTCDataChannelId>,
    received: u64,
}

/// Offers, sends, and says when the first byte could be sent.
pub(super) fn send(wire: &Wire, bytes: u64) -> Instant {
    let mut end = End::new(wire);
    end.pc
        .create_data_channel("data", None)
        .expect("a new connection");
    let offer = end.pc.create_offer(None).expect("an offer");
    end.pc
        .set_local_description(Instant::now(), offer)
        .expect("an own offer");
    let offer = end.pc.local_description().expect("set above");
    wire.tell(end.with_candidate(Said::from_sdp(&offer.sdp)));
    let answer = RTCSessionDescription::answer(wire.hear().to_sdp()).expect("an answer");
    end.pc
        .set_remote_description(Instant::now(), answer)
        .expect("an answer");
    let piece = BytesMut::from(&vec![0xA5; MESSAGE][..]);
    let (mut begun, mut left) = (None, bytes);
    while !wire.is_over() {
        if let Some(id) = end.open {
            begun.get_or_insert_with(Instant::now);
            while left > 0
                && let Some(mut channel) = end.pc.data_channel(id)
                && channel.outstanding_bytes() < WAITING
            {
                let size = (MESSAGE as u64).min(left) as usize;
                if channel.send(Instant::now(), piece[..size].into()).is_err() {
                    break;
                }
                left -= size as u64;
            }
        }
        end.turn();
    }
    begun.expect("what arrived was sent")
}

/// Answers, and says when the last byte had come.
pub(super) fn receive(wire: &Wire, bytes: u64) -> Instant {
    let mut end = End::new(wire);
    let offer = RTCSessionDescription::offer(wire.hear().to_sdp()).expect("an offer");
    end.pc
        .set_remote_description(Instant::now(), offer)
        .expect("an offer");
    let answer = end.pc.create_answer(None).expect("an answer");
    end.pc
        .set_local_description(Instant::now(), answer)
        .expect("an own answer");
    let answer = end.pc.local_description().expect("set above");
    wire.tell(end.with_candidate(Said::from_sdp(&answer.sdp)));
    while end.received < bytes {
        assert!(!wire.is_late(), "{} of {bytes} bytes arrived", end.received);
        end.turn();
    }
    Instant::now()
}

impl End {
    fn new(wire: &Wire) -> Self {
        let socket = UdpSocket::bind((wire.address, 0)).expect("a port");
        // What comes in a burst is not to be lost before it is read.
        UdpSocketState::new((&socket).into())
            .and_then(|state| state.set_recv_buffer_size((&socket).into(), SOCKET_BUFFER))
            .expect("a receive buffer");
        socket.set_nonblocking(true).expect("a socket");
        let local = socket.local_addr().expect("bound");
        let mut pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .build(Instant::now())
            .expect("a connection");
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = candidate.new_candidate_host().expect("an address");
        let candidate = RTCIceCandidate::from(&candidate).to_json().expect("text");
        pc.add_local_candidate(candidate).expect("a candidate");
        Self {
            pc,
            socket,
            local,
            open: None,
            received: 0,
        }
    }

    /// Whether the candidate stands in the description or not.
    fn with_candidate(&self, mut said: Said) -> Said {
        let (ip, port) = (self.local.ip(), self.local.port());
        said.candidates = vec![format!("candidate:1 1 udp 2130706431 {ip} {port} typ host")];
        said
    }

    /// What leaves, what has come, and what is due.
    fn turn(&mut self) {
        while let Some(packet) = self.pc.poll_write() {
            let to = packet.transport.peer_addr;
            while let Err(error) = self.socket.send_to(&packet.message, to)
                && error.kind() == ErrorKind::WouldBlock
            {
                self.wait(PollFlags::OUT, Duration::from_millis(1));
            }
        }
        while let Some(event) = self.pc.poll_event() {
            if let RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(id)) = event {
                self.open = Some(id);
            }
        }
        while let Some(message) = self.pc.poll_read() {
            if let RTCMessage::DataChannelMessage(_, message) = message.message {
                self.received += message.data.len() as u64;
            }
        }
        let now = Instant::now();
        let due = self.pc.poll_timeout();
        let wait = due.map_or(Duration::from_millis(5), |at| {
            at.saturating_duration_since(now)
        });
        self.wait(PollFlags::IN, wait.min(Duration::from_millis(5)));
        self.arrive();
        let now = Instant::now();
        if self.pc.poll_timeout().is_some_and(|at| at <= now) {
            self.pc.handle_timeout(now).expect("a connection");
        }
    }

    fn wait(&self, flags: PollFlags, time: Duration) {
        let time = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        let _ = poll(&mut [PollFd::new(&self.socket, flags)], Some(&time));
    }

    fn arrive(&mut self) {
        let mut buffer = [0; 2048];
        for _ in 0..64 {
            let Ok((size, from)) = self.socket.recv_from(&mut buffer) else {
                break;
            };
            let packet = TaggedBytesMut {
                now: Instant::now(),
                transport: TransportContext {
                    local_addr: self.local,
                    peer_addr: from,
                    ecn: None,
                    transport_protocol: TransportProtocol::UDP,
                },
                message: BytesMut::from(&buffer[..size]),
            };
            // What it does not understand it says of itself.
            let _ = self.pc.handle_read(packet);
        }
    }
}
