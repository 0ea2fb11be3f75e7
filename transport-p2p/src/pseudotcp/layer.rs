//! The stream layer: PseudoTCP above any datagram channel.

use super::{Config, Error, Event, PseudoTcp, State};
use crate::below::{self, Finish, Path};
use bytes::Bytes;
use session_core::{
    Batch, ChannelLayer, ChannelOutput, Role, SendError, TransportChannel, TransportContext,
    TransportError,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Most bytes in one [`ChannelOutput::Packet`]: what fits into one write to a disk.
const READ_MAX: usize = 64 * 1024;

/// Makes a stream of a datagram channel.
///
/// The session's initiator connects when the path is first writable (libjingle does the same); the responder answers
/// when its own path is. The channel is writable from the moment the stream is open.
///
/// # What a finished stream means
/// If both sides know FIN, [`finish`](TransportChannel::finish) ends our direction only, the peer is told behind the
/// last byte, and a peer's end comes as [`ChannelOutput::Finished`]. Towards a libjingle without FIN there is no such
/// word: `finish` refuses further sends, [`ChannelOutput::Delivered`] comes when everything is acknowledged, and the
/// end of the session is the end of the stream.
#[derive(Clone, Debug, Default)]
pub struct PseudoTcpLayer {
    config: Config,
}

impl PseudoTcpLayer {
    /// A layer whose streams are set up with `config`.
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl ChannelLayer for PseudoTcpLayer {
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        Box::new(StreamChannel {
            inner,
            config: self.config.clone(),
            calls: context.role == Role::Initiator,
            stream: None,
            outputs: VecDeque::new(),
            unsent: None,
            carries: false,
            path: Path::default(),
            open: false,
            writable: false,
            paused: false,
            finish: Finish::No,
            peer_finished: false,
            failed: false,
            remains: None,
        })
    }
}

/// A channel above another.
struct StreamChannel {
    inner: Box<dyn TransportChannel>,
    config: Config,
    /// Whether we connect.
    calls: bool,
    /// There from `connect` on, and with it the time of the last call.
    stream: Option<(PseudoTcp, Instant)>,
    outputs: VecDeque<ChannelOutput>,
    /// Segments that the channel below has refused.
    unsent: Option<Batch>,
    /// Whether the channel below takes datagrams.
    carries: bool,
    path: Path,
    open: bool,
    /// What was told above.
    writable: bool,
    paused: bool,
    finish: Finish,
    peer_finished: bool,
    failed: bool,
    /// The stream of a channel that failed while it was paused: what had arrived can still be read.
    remains: Option<(PseudoTcp, Instant)>,
}

impl StreamChannel {
    /// Notes the time of a call and does what waits for it.
    fn at(&mut self, now: Instant) {
        if let Some((_, at)) = &mut self.stream {
            *at = now;
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else a channel wants is for those above"
    )]
    /// The next output of the channel below, or nothing if it has none that concerns those above.
    fn poll_inner(&mut self) -> Option<ChannelOutput> {
        while let Some(output) = self.inner.poll_output() {
            match output {
                ChannelOutput::Packet(batch) => self.on_segments(batch),
                ChannelOutput::Writable(writable) => self.on_writable(writable),
                ChannelOutput::Path(path) => {
                    self.path.explicit = true;
                    self.on_path(path);
                }
                // A channel of datagrams has no end.
                ChannelOutput::Finished | ChannelOutput::Delivered => {}
                ChannelOutput::Failed(error) => self.fail(error),
                other => return Some(other),
            }
        }
        None
    }

    fn on_segments(&mut self, batch: Batch) {
        if let Some((stream, now)) = &mut self.stream {
            stream.handle_batch(batch.payload, batch.segment_size, *now);
        }
    }

    fn on_writable(&mut self, writable: bool) {
        self.carries = writable;
        if let Some((stream, now)) = &mut self.stream
            && writable
            && self.calls
            && stream.state() == State::Listen
        {
            // In LISTEN this cannot fail.
            let _ = stream.connect(*now);
        }
        if !self.path.explicit {
            self.on_path(writable);
        }
    }

    fn on_path(&mut self, path: bool) {
        let came = path && !self.path.up;
        self.path.up = path;
        if let Some((stream, now)) = &mut self.stream
            && came
        {
            stream.handle_path_up(*now);
        }
        self.tell_path();
    }

    /// A path without an open stream is of no use to those above.
    fn tell_path(&mut self) {
        if self.open {
            self.outputs.extend(self.path.tell(self.path.up));
        }
    }

    fn poll_stream(&mut self) -> Option<ChannelOutput> {
        while let Some(event) = self.stream.as_mut().and_then(|(s, _)| s.poll_event()) {
            self.on_event(event);
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let (stream, now) = self.stream.as_mut()?;
        if !self.paused
            && let Some(bytes) = stream.read_joined(READ_MAX, *now)
        {
            return Some(ChannelOutput::Packet(bytes.into()));
        }
        if stream.is_finished() && !self.peer_finished {
            self.peer_finished = true;
            return Some(ChannelOutput::Finished);
        }
        if self.finish == Finish::Wanted && self.open && stream.is_delivered() {
            self.finish = Finish::Told;
            return Some(ChannelOutput::Delivered);
        }
        if let Some(error) = stream.error() {
            self.fail(transport_error(error));
        }
        self.outputs.pop_front()
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Open => {
                self.open = true;
                self.tell_path();
                self.tell_writable(true);
                self.close_stream();
            }
            Event::Writable => self.tell_writable(true),
            // The getters tell, when everything that came before was handed out.
            Event::Readable | Event::PeerClosed | Event::Closed(_) => {}
        }
    }

    fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    /// Passes a wanted end on to a stream that is open. One that has no FIN stays open, for the peer's direction.
    fn close_stream(&mut self) {
        if let Some((stream, now)) = &mut self.stream
            && self.finish == Finish::Wanted
            && self.open
            && stream.has_fin()
        {
            stream.close(*now);
        }
    }

    /// Hands segments to the channel below. Returns whether anything happened.
    fn transmit(&mut self) -> bool {
        let Some((stream, now)) = &mut self.stream else {
            return false;
        };
        if !self.carries {
            return false;
        }
        let batch = self
            .unsent
            .take()
            .or_else(|| stream.poll_transmit(*now, super::MAX_BATCH_SEGMENTS));
        let Some(batch) = batch else { return false };
        match self.inner.send_batch(batch.clone(), *now) {
            Ok(()) => {}
            Err(SendError::TooLarge) => stream.handle_too_large(*now),
            Err(SendError::NotWritable) => {
                // Some of it may have been taken: then it arrives twice, which harms nothing.
                self.carries = false;
                self.unsent = Some(batch);
            }
            Err(SendError::NoSuchChannel | SendError::Finished) => {
                self.fail(TransportError::Closed);
            }
        }
        true
    }

    fn fail(&mut self, error: TransportError) {
        if !self.failed {
            self.failed = true;
            self.remains = self.stream.take();
            self.unsent = None;
            if !self.paused {
                self.hand_out_remains();
            }
            self.outputs.push_back(ChannelOutput::Failed(error));
        }
    }

    fn hand_out_remains(&mut self) {
        let Some((mut stream, now)) = self.remains.take() else {
            return;
        };
        while let Some(bytes) = stream.read_joined(READ_MAX, now) {
            self.outputs.push_back(ChannelOutput::Packet(bytes.into()));
        }
        if stream.is_finished() && !self.peer_finished {
            self.peer_finished = true;
            self.outputs.push_back(ChannelOutput::Finished);
        }
    }
}

impl TransportChannel for StreamChannel {
    fn connect(&mut self, now: Instant) {
        self.stream = Some((PseudoTcp::new(self.config.clone(), now), now));
        self.inner.connect(now);
    }

    crate::below::passes_below!();

    fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        if let Some((stream, _)) = &mut self.stream
            && stream.poll_timeout().is_some_and(|at| at <= now)
        {
            stream.handle_timeout(now);
        }
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.at(now);
        if self.finish != Finish::No {
            return Err(SendError::Finished);
        }
        let Some((stream, _)) = &mut self.stream else {
            return Err(if self.failed {
                SendError::NoSuchChannel
            } else {
                SendError::NotWritable
            });
        };
        if !self.open {
            return Err(SendError::NotWritable);
        }
        match stream.send_whole(packet, now) {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.tell_writable(false);
                Err(SendError::NotWritable)
            }
            Err(_) => Err(SendError::NoSuchChannel),
        }
    }

    /// The batch is one piece of the stream.
    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.send(batch.payload, now)
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        self.at(now);
        self.paused = paused;
        if !paused {
            self.hand_out_remains();
        }
    }

    fn finish(&mut self, now: Instant) {
        self.at(now);
        if self.finish == Finish::No {
            self.finish = Finish::Wanted;
            self.close_stream();
        }
    }

    fn close(&mut self) {
        self.failed = true;
        self.outputs.clear();
        self.inner.close();
        self.outputs.extend(below::last_words(&mut *self.inner));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let stream = self.stream.as_ref().map(|(stream, _)| stream);
        [
            self.inner.poll_timeout(),
            stream.and_then(PseudoTcp::poll_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
        .filter(|_| !self.failed)
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.failed {
                return None;
            }
            if let Some(output) = self.poll_inner().or_else(|| self.poll_stream()) {
                return Some(output);
            }
            if self.outputs.is_empty() && !self.transmit() {
                return None;
            }
        }
    }

    fn describe(&self) -> Option<String> {
        let stream = self
            .stream
            .as_ref()
            .and_then(|(stream, _)| describe(stream));
        below::describe(&*self.inner, stream)
    }
}

/// A line for people about a stream that has measured something.
fn describe(stream: &PseudoTcp) -> Option<String> {
    let rtt = stream.srtt()?;
    let stats = stream.stats();
    let again = 100.0 * stats.bytes_retransmitted as f64 / stats.bytes_sent.max(1) as f64;
    Some(format!(
        "PseudoTCP, round trip {} ms, {again:.1} % sent again",
        (rtt + Duration::from_micros(500)).as_millis()
    ))
}

fn transport_error(error: Error) -> TransportError {
    match error {
        Error::Reset => TransportError::Closed,
        Error::TimedOut | Error::ConnectTimedOut | Error::PathTooSmall | Error::Aborted => {
            TransportError::Unreachable(error.to_string().into())
        }
    }
}
