//! The same by str0m, in the mode that hands out RTP packets.

use super::{Calls, FRAME, PAYLOAD};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use str0m::{
    Candidate, Event, Input, Output, Rtc, RtcConfig,
    format::{Codec, PayloadParams},
    media::{MediaKind, Pt},
    net::{Protocol, Receive},
    rtp::{RtpWrite, Ssrc},
};

const LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Phones(Vec<Call>);

struct Call {
    ends: [End; 2],
    now: Instant,
}

struct End {
    rtc: Rtc,
    address: SocketAddr,
    ssrc: Ssrc,
    payload_type: Pt,
    sequence: u64,
    due: Instant,
    heard: usize,
}

impl End {
    fn new(side: u8, now: Instant) -> Self {
        let address = SocketAddr::from(([10, 0, 0, 1 + side], 4_000));
        let mut rtc = RtcConfig::new().set_rtp_mode(true).build(now);
        rtc.add_local_candidate(host(address));
        rtc.add_remote_candidate(host(([10, 0, 0, 2 - side], 4_000).into()));
        let opus = |params: &PayloadParams| params.spec().codec == Codec::Opus;
        let payload_type = rtc.codec_config().find(opus).expect("Opus").pt();
        Self {
            rtc,
            address,
            ssrc: (1 + u32::from(side)).into(),
            payload_type,
            sequence: 1,
            due: now,
            heard: 0,
        }
    }
}

fn host(address: SocketAddr) -> Candidate {
    Candidate::host(address, "udp").expect("an address")
}

impl Calls for Phones {
    fn connect(count: usize) -> Self {
        Self((0..count).map(|_| Call::connect()).collect())
    }

    fn frame(&mut self) -> usize {
        self.0.iter_mut().map(Call::frame).sum()
    }

    fn idle(&mut self, time: Duration) {
        self.0.iter_mut().for_each(|call| call.idle(time));
    }
}

impl Call {
    fn connect() -> Self {
        let now = Instant::now();
        let mut ends = [End::new(0, now), End::new(1, now)];
        let [first, second] = &mut ends;
        let says = [first, second].map(|end| {
            let api = end.rtc.direct_api();
            (
                api.local_ice_credentials(),
                api.local_dtls_fingerprint().clone(),
            )
        });
        for (side, end) in ends.iter_mut().enumerate() {
            let (credentials, fingerprint) = says[1 - side].clone();
            let mut api = end.rtc.direct_api();
            api.set_remote_fingerprint(fingerprint);
            api.set_remote_ice_credentials(credentials);
            api.set_ice_controlling(side == 0);
            api.start_dtls(side == 0).expect("the first time");
            api.declare_media("aud".into(), MediaKind::Audio);
            api.declare_stream_tx(end.ssrc, None, "aud".into(), None);
            api.expect_stream_rx((2 - side as u32).into(), None, "aud".into(), None);
        }
        let mut this = Self { ends, now };
        while !this.ends.iter().all(|end| end.rtc.is_connected()) {
            assert!(this.now < now + LIMIT, "it does not connect");
            this.idle(Duration::from_millis(10));
        }
        this
    }

    fn frame(&mut self) -> usize {
        self.idle(FRAME);
        for end in &mut self.ends {
            end.sequence += 1;
            let timestamp = (end.sequence * 960) as u32;
            let mut api = end.rtc.direct_api();
            let stream = api.stream_tx(&end.ssrc).expect("declared");
            stream.write_rtp(RtpWrite::new(
                end.payload_type,
                end.sequence.into(),
                timestamp,
                self.now,
                vec![5; PAYLOAD],
            ));
        }
        for end in &mut self.ends {
            end.rtc
                .handle_input(Input::Timeout(self.now))
                .expect("a connection");
        }
        self.carry();
        self.ends
            .iter_mut()
            .map(|end| std::mem::take(&mut end.heard))
            .sum()
    }

    fn idle(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            self.carry();
            let at = self.ends.iter().map(|end| end.due).min();
            let at = at.expect("there are two").max(self.now);
            if at > until {
                break;
            }
            // What is due at once and stays due is due a little later.
            self.now = at.max(self.now + Duration::from_micros(1));
            for end in &mut self.ends {
                if end.due <= self.now {
                    end.rtc
                        .handle_input(Input::Timeout(self.now))
                        .expect("a connection");
                }
            }
        }
        self.now = until;
    }

    /// Until neither has anything left to say now.
    fn carry(&mut self) {
        loop {
            let mut quiet = true;
            for side in 0..2 {
                let [first, second] = &mut self.ends;
                let (from, to) = if side == 0 {
                    (first, second)
                } else {
                    (second, first)
                };
                loop {
                    match from.rtc.poll_output().expect("a connection") {
                        Output::Timeout(at) => {
                            from.due = at;
                            break;
                        }
                        Output::Event(Event::RtpPacket(packet)) => {
                            std::hint::black_box(packet);
                            from.heard += 1;
                        }
                        Output::Event(_) => {}
                        Output::Transmit(packet) => {
                            quiet = false;
                            let receive = Receive::new(
                                Protocol::Udp,
                                from.address,
                                to.address,
                                &packet.contents,
                            );
                            let receive = receive.expect("a packet");
                            to.rtc
                                .handle_input(Input::Receive(self.now, receive))
                                .expect("a connection");
                        }
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }
}
