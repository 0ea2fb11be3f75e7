//! The layer above a channel that does what a test wants.

use super::network::pattern;
use crate::pseudotcp::{Config, PseudoTcpLayer};
use bytes::{Bytes, BytesMut};
use session_core::testing::epoch;
use session_core::{
    Batch, ChannelLayer, ChannelOutput, Datagram, Dialect, Element, LocalSocket, Role, SendError,
    SocketError, TransportChannel, TransportContext, TransportError,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Waker,
    time::{Duration, Instant},
};

/// What the test and the channel below share.
#[derive(Default)]
struct Below {
    outputs: VecDeque<ChannelOutput>,
    sent: VecDeque<Batch>,
    /// Batches that are taken before one is refused.
    credit: usize,
    largest: usize,
    silent: bool,
}

struct BelowChannel(Arc<Mutex<Below>>);

impl TransportChannel for BelowChannel {
    fn connect(&mut self, _: Instant) {}

    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, datagram: Datagram, _: Instant) {
        let packet = ChannelOutput::Packet(datagram.batch());
        self.0.lock().unwrap().outputs.push_back(packet);
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.send_batch(packet.into(), now)
    }

    fn send_batch(&mut self, batch: Batch, _: Instant) -> Result<(), SendError> {
        let below = &mut *self.0.lock().unwrap();
        if batch.segment_size > below.largest {
            return Err(SendError::TooLarge);
        }
        if below.credit == 0 {
            return Err(SendError::NotWritable);
        }
        below.credit -= 1;
        if !below.silent {
            below.sent.push_back(batch);
        }
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.0.lock().unwrap().outputs.pop_front()
    }
}

struct End {
    below: Arc<Mutex<Below>>,
    channel: Box<dyn TransportChannel>,
    received: BytesMut,
    outputs: Vec<ChannelOutput>,
}

impl End {
    fn new(role: Role, config: Config) -> Self {
        let below = Arc::new(Mutex::new(Below {
            credit: usize::MAX,
            largest: 65_507,
            ..Below::default()
        }));
        let context = TransportContext {
            role,
            local: "a@a.example/1".into(),
            remote: "b@b.example/2".into(),
            sid: "sid".into(),
            content: "content".into(),
            dialect: Dialect::JINGLE,
            seed: [0; 32],
            waker: Waker::noop().clone(),
        };
        let inner = Box::new(BelowChannel(Arc::clone(&below)));
        Self {
            below,
            channel: PseudoTcpLayer::new(config).wrap(inner, &context),
            received: BytesMut::new(),
            outputs: Vec::new(),
        }
    }

    fn says(&mut self, output: ChannelOutput, now: Instant) {
        self.below.lock().unwrap().outputs.push_back(output);
        self.channel.handle_timeout(now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            if let ChannelOutput::Packet(batch) = output {
                self.received.extend_from_slice(&batch.payload);
            } else {
                self.outputs.push(output);
            }
        }
    }
}

struct Pair {
    ends: [End; 2],
    now: Instant,
}

impl Pair {
    fn new(configs: [Config; 2]) -> Self {
        let [a, b] = configs;
        let mut pair = Self {
            ends: [End::new(Role::Initiator, a), End::new(Role::Responder, b)],
            now: epoch(),
        };
        for end in &mut pair.ends {
            end.channel.connect(pair.now);
            end.drain();
        }
        pair
    }

    fn open(configs: [Config; 2]) -> Self {
        let mut pair = Self::new(configs);
        for end in &mut pair.ends {
            end.says(ChannelOutput::Writable(true), pair.now);
        }
        pair.run(Duration::from_millis(100));
        for end in &mut pair.ends {
            assert_eq!(
                std::mem::take(&mut end.outputs),
                [ChannelOutput::Path(true), ChannelOutput::Writable(true)]
            );
        }
        pair
    }

    /// Moves datagrams with 5 ms delay until nothing moves and no timer is due within `time`.
    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let mut flying = Vec::new();
            for (index, end) in self.ends.iter().enumerate() {
                let sent = std::mem::take(&mut end.below.lock().unwrap().sent);
                flying.extend(sent.into_iter().map(|batch| (1 - index, batch)));
            }
            let timers = self
                .ends
                .iter()
                .filter_map(|end| end.channel.poll_timeout());
            let next = if flying.is_empty() {
                timers.min().filter(|at| *at <= until)
            } else {
                Some(self.now + Duration::from_millis(5))
            };
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            for (to, batch) in flying {
                let datagram = Datagram {
                    socket: LocalSocket(0),
                    source: SocketAddr::from(([192, 0, 2, 1], 9)),
                    payload: batch.payload,
                    segment_size: batch.segment_size,
                };
                self.ends[to].channel.handle_datagram(datagram, self.now);
                self.ends[to].drain();
            }
            for end in &mut self.ends {
                end.channel.handle_timeout(self.now);
                end.drain();
            }
        }
        self.now = self.now.max(until);
    }
}

fn plain() -> [Config; 2] {
    [Config::default(), Config::default()]
}

#[test]
fn responder_answers_when_its_own_path_is_there() {
    let mut pair = Pair::new(plain());
    pair.ends[0].says(ChannelOutput::Writable(true), pair.now);
    assert_eq!(
        pair.ends[0]
            .channel
            .send(Bytes::from_static(b"x"), pair.now),
        Err(SendError::NotWritable)
    );
    pair.run(Duration::from_millis(900));
    assert!(pair.ends[0].outputs.is_empty(), "not open: not writable");
    let begun = pair.now;
    pair.ends[1].says(ChannelOutput::Writable(true), pair.now);
    pair.run(Duration::from_millis(50));
    assert!(
        pair.ends[0]
            .outputs
            .contains(&ChannelOutput::Writable(true))
    );
    assert!(
        pair.now - begun < Duration::from_millis(100),
        "without a timeout"
    );
}

#[test]
fn refused_segments_are_sent_when_the_channel_takes_them() {
    let mut pair = Pair::open(plain());
    let data = pattern(3_000_000, 4);
    pair.ends[0].below.lock().unwrap().credit = 3;
    pair.ends[0]
        .channel
        .send(data.clone().into(), pair.now)
        .unwrap();
    pair.ends[0].drain();
    for _ in 0..2000 {
        pair.run(Duration::from_millis(10));
        pair.ends[0].below.lock().unwrap().credit = 3;
        pair.ends[0].says(ChannelOutput::Writable(true), pair.now);
    }
    assert!(pair.ends[1].received == data);
    assert!(!pair.ends[0].outputs.contains(&ChannelOutput::Path(false)));
}

#[test]
fn segments_shrink_until_the_path_carries_them() {
    let mut pair = Pair::open(plain());
    pair.ends[0].below.lock().unwrap().largest = 600;
    let data = pattern(100_000, 4);
    pair.ends[0]
        .channel
        .send(data.clone().into(), pair.now)
        .unwrap();
    pair.ends[0].drain();
    pair.run(Duration::from_secs(5));
    assert!(pair.ends[1].received == data);
}

#[test]
fn full_buffer_refuses_and_tells_when_there_is_space() {
    let config = Config {
        send_buffer: 50_000,
        ..Config::default()
    };
    let mut pair = Pair::open([config.clone(), config]);
    pair.ends[1].channel.pause(true, pair.now);
    let mut taken = 0;
    let mut refused = 0;
    for _ in 0..1000 {
        match pair.ends[0].channel.send(vec![7; 20_000].into(), pair.now) {
            Ok(()) => taken += 20_000,
            Err(error) => {
                assert_eq!(error, SendError::NotWritable);
                refused += 1;
            }
        }
        pair.ends[0].drain();
        pair.run(Duration::from_millis(50));
    }
    // What was promised, and a piece that exceeds each buffer.
    assert!(taken <= (4 << 20) + 50_000 + 20_000, "{taken}");
    assert!(refused > 500);
    assert_eq!(
        pair.ends[0].outputs.last(),
        Some(&ChannelOutput::Writable(false))
    );
    pair.ends[1].channel.pause(false, pair.now);
    pair.ends[1].drain();
    pair.run(Duration::from_secs(100));
    assert_eq!(
        pair.ends[0].outputs.last(),
        Some(&ChannelOutput::Writable(true))
    );
    assert_eq!(pair.ends[1].received.len(), taken);
}

#[test]
fn finish_without_fin_keeps_the_other_direction() {
    let libjingle = Config {
        fin: false,
        ..Config::default()
    };
    let mut pair = Pair::open([Config::default(), libjingle]);
    let (a, b) = (pattern(30_000, 1), pattern(40_000, 2));
    pair.ends[0]
        .channel
        .send(a.clone().into(), pair.now)
        .unwrap();
    pair.ends[0].channel.finish(pair.now);
    pair.ends[0].drain();
    assert_eq!(
        pair.ends[0]
            .channel
            .send(Bytes::from_static(b"x"), pair.now),
        Err(SendError::Finished)
    );
    pair.run(Duration::from_secs(120));
    assert_eq!(pair.ends[0].outputs, [ChannelOutput::Delivered]);
    pair.ends[1]
        .channel
        .send(b.clone().into(), pair.now)
        .unwrap();
    pair.ends[1].drain();
    pair.run(Duration::from_secs(1));
    assert!(pair.ends[1].received == a && pair.ends[0].received == b);
    assert!(
        pair.ends[1].outputs.is_empty(),
        "nothing on the wire says it"
    );
}

#[test]
fn finish_before_the_stream_is_open_waits_for_it() {
    let mut pair = Pair::new(plain());
    pair.ends[0].channel.finish(pair.now);
    for end in &mut pair.ends {
        end.says(ChannelOutput::Writable(true), pair.now);
    }
    pair.run(Duration::from_secs(1));
    assert!(pair.ends[0].outputs.contains(&ChannelOutput::Delivered));
    assert!(pair.ends[1].outputs.contains(&ChannelOutput::Finished));
}

#[test]
fn interrupted_path_is_told_and_asked_when_it_is_back() {
    let mut pair = Pair::open(plain());
    pair.ends[0].says(ChannelOutput::Path(true), pair.now);
    pair.ends[0].says(ChannelOutput::Path(false), pair.now);
    pair.ends[0].below.lock().unwrap().silent = true;
    pair.ends[0]
        .channel
        .send(Bytes::from_static(b"lost"), pair.now)
        .unwrap();
    pair.ends[0].drain();
    pair.run(Duration::from_secs(40));
    assert_eq!(pair.ends[0].outputs, [ChannelOutput::Path(false)]);
    pair.ends[0].below.lock().unwrap().silent = false;
    pair.ends[0].says(ChannelOutput::Path(true), pair.now);
    pair.run(Duration::from_millis(100));
    assert_eq!(pair.ends[1].received, b"lost"[..]);
}

#[test]
fn silence_fails_the_channel_once_and_last() {
    let mut pair = Pair::open(plain());
    pair.ends[0].below.lock().unwrap().silent = true;
    pair.ends[0]
        .channel
        .send(Bytes::from_static(b"lost"), pair.now)
        .unwrap();
    pair.ends[0].drain();
    pair.run(Duration::from_secs(3600));
    assert!(matches!(
        pair.ends[0].outputs[..],
        [ChannelOutput::Failed(TransportError::Unreachable(_))]
    ));
    assert_eq!(pair.ends[0].channel.poll_timeout(), None);
    assert_eq!(
        pair.ends[0]
            .channel
            .send(Bytes::from_static(b"x"), pair.now),
        Err(SendError::NoSuchChannel)
    );
    pair.ends[0].says(ChannelOutput::Writable(true), pair.now);
    assert_eq!(pair.ends[0].outputs.len(), 1);
}

#[test]
fn what_arrived_before_a_failure_is_handed_out_paused_or_not() {
    for (below_fails, paused) in [(true, true), (true, false), (false, true)] {
        let mut pair = Pair::open(plain());
        pair.ends[1].channel.pause(paused, pair.now);
        pair.ends[0]
            .channel
            .send(pattern(100_000, 1).into(), pair.now)
            .unwrap();
        pair.ends[0].channel.finish(pair.now);
        pair.ends[0].drain();
        pair.run(Duration::from_secs(2));
        assert_eq!(pair.ends[1].received.is_empty(), paused);
        if below_fails {
            let failure = ChannelOutput::Failed(TransportError::Closed);
            pair.ends[1].says(failure, pair.now);
        } else {
            // The stream itself gives up: it sends, and nobody acknowledges.
            pair.ends[1].below.lock().unwrap().silent = true;
            pair.ends[1]
                .channel
                .send(pattern(10, 2).into(), pair.now)
                .unwrap();
            pair.ends[1].drain();
            pair.run(Duration::from_secs(3600));
        }
        let failed = |output: &ChannelOutput| matches!(output, ChannelOutput::Failed(_));
        assert_eq!(pair.ends[1].outputs.iter().filter(|o| failed(o)).count(), 1);
        pair.ends[1].channel.pause(false, pair.now);
        pair.ends[1].drain();
        assert!(pair.ends[1].received == pattern(100_000, 1));
        let finished = pair.ends[1]
            .outputs
            .iter()
            .filter(|o| **o == ChannelOutput::Finished);
        assert_eq!(finished.count(), 1);
    }
}
