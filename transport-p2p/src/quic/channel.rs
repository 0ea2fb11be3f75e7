//! The stream above a channel of datagrams.

use super::{Closed, Config, Fingerprint, Identity, QuicStream};
use crate::below::{self, Finish, Path};
use bytes::Bytes;
use session_core::{
    Batch, ChannelOutput, HandshakeSide, Role, Secured, SendError, TransportChannel, TransportError,
};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Most bytes in one [`ChannelOutput::Packet`]: what fits into one write to a disk.
const READ_MAX: usize = 64 * 1024;

/// Most datagrams of one batch: as many as fit.
const BATCH_MAX: usize = 64;

/// How long signalling has to say why a peer let go, before the stream counts as broken.
const GRACE: Duration = Duration::from_secs(3);

/// With what a channel begins.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) role: Role,
    pub(super) identity: Identity,
    pub(super) peer: Fingerprint,
    pub(super) seed: [u8; 32],
}

/// A channel above another.
pub(super) struct QuicChannel {
    inner: Box<dyn TransportChannel>,
    setup: Setup,
    /// The time of the last call, from `connect` on.
    now: Option<Instant>,
    /// There once there is a path, which says how large datagrams can be.
    stream: Option<QuicStream>,
    outputs: VecDeque<ChannelOutput>,
    /// Datagrams that the channel below has refused.
    unsent: Option<Batch>,
    /// Whether the channel below takes datagrams.
    carries: bool,
    path: Path,
    open: bool,
    /// What was told above.
    writable: bool,
    paused: bool,
    wrote: bool,
    finish: Finish,
    peer_finished: bool,
    /// When the peer let go.
    gone: Option<Instant>,
    failed: bool,
    /// When the stream is to be called.
    deadline: Option<Instant>,
}

impl QuicChannel {
    pub(super) fn new(inner: Box<dyn TransportChannel>, setup: Setup) -> Self {
        Self {
            inner,
            setup,
            now: None,
            stream: None,
            outputs: VecDeque::new(),
            unsent: None,
            carries: false,
            path: Path::default(),
            open: false,
            writable: false,
            paused: false,
            wrote: false,
            finish: Finish::No,
            peer_finished: false,
            gone: None,
            failed: false,
            deadline: None,
        }
    }

    /// Notes the time of a call.
    fn at(&mut self, now: Instant) {
        if let Some(at) = &mut self.now {
            *at = now;
        }
    }

    /// The stream and the time; it begins with the first call. Nothing before `connect`, and nothing after it has failed.
    fn begun(&mut self) -> Option<(&mut QuicStream, Instant)> {
        let now = self.now.filter(|_| !self.failed)?;
        if self.stream.is_none() {
            let Setup {
                config,
                role,
                identity,
                peer,
                seed,
            } = &self.setup;
            let config = config.clone().on(self.inner.datagram_max());
            match QuicStream::new(config, *role, identity, *peer, *seed, now) {
                Ok(mut stream) => {
                    stream.suspend();
                    if self.finish == Finish::Wanted {
                        stream.finish();
                    }
                    self.stream = Some(stream);
                }
                Err(error) => self.fail(TransportError::NoResource(error.to_string().into())),
            }
        }
        self.stream.as_mut().map(|stream| (stream, now))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else a channel wants is for those above"
    )]
    /// The next output of the channel below, or nothing if it has none that concerns those above.
    fn poll_inner(&mut self) -> Option<ChannelOutput> {
        while let Some(output) = self.inner.poll_output() {
            match output {
                ChannelOutput::Packet(batch) => {
                    if let Some((stream, now)) = self.begun() {
                        stream.handle_batch(batch.payload, batch.segment_size, now);
                    }
                }
                ChannelOutput::Writable(writable) => {
                    self.carries = writable;
                    if !self.path.explicit {
                        self.on_path(writable);
                    }
                }
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

    fn on_path(&mut self, path: bool) {
        let changed = path != self.path.up;
        self.path.up = path;
        if changed && path {
            if let Some((stream, now)) = self.begun() {
                stream.resume(now);
            }
        } else if changed && let Some(stream) = &mut self.stream {
            stream.suspend();
        }
        self.tell_path();
    }

    /// A path without an open stream is of no use to those above.
    fn tell_path(&mut self) {
        let up = self.path.up && self.gone.is_none();
        if self.open {
            self.outputs.extend(self.path.tell(up));
        }
    }

    fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    fn poll_stream(&mut self) -> Option<ChannelOutput> {
        let stream = self.stream.as_ref()?;
        if !self.open && stream.is_open() {
            self.on_open();
        } else if !self.writable && stream.is_writable() {
            self.tell_writable(true);
        }
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        let stream = self.stream.as_mut()?;
        if !self.paused
            && let Some(bytes) = stream.read(READ_MAX)
        {
            return Some(ChannelOutput::Packet(bytes.into()));
        }
        if stream.is_finished() && !self.peer_finished {
            self.peer_finished = true;
            return Some(ChannelOutput::Finished);
        }
        if self.finish == Finish::Wanted && stream.is_delivered() {
            self.finish = Finish::Told;
            return Some(ChannelOutput::Delivered);
        }
        if let Some(why) = stream.closed().cloned() {
            self.on_closed(&why);
        }
        self.outputs.pop_front()
    }

    fn on_open(&mut self) {
        self.open = true;
        let calls = self.setup.role == Role::Initiator;
        self.outputs.push_back(ChannelOutput::Secured(Secured {
            protocol: "QUIC".into(),
            side: match calls {
                true => HandshakeSide::Client,
                false => HandshakeSide::Server,
            },
            local_fingerprint: Some(self.setup.identity.fingerprint().into()),
            peer_fingerprint: Some(self.setup.peer.into()),
            srtp: None,
        }));
        self.tell_path();
        if let Some(stream) = &self.stream
            && stream.is_writable()
        {
            self.tell_writable(true);
        }
    }

    /// Who lets go says why by signalling, which takes longer. Who has everything needs no reason.
    fn on_closed(&mut self, why: &Closed) {
        if *why != Closed::Gone {
            return self.fail(transport_error(why));
        }
        let Some(now) = self.now else { return };
        let gone = *self.gone.get_or_insert(now);
        self.tell_writable(false);
        self.tell_path();
        let has_all = self.peer_finished && (self.finish == Finish::Told || !self.wrote);
        if !has_all && !self.paused && now.saturating_duration_since(gone) >= GRACE {
            self.fail(TransportError::Closed);
        }
    }

    /// Hands datagrams to the channel below. Returns whether anything happened.
    fn transmit(&mut self) -> bool {
        let (Some(stream), Some(now)) = (&mut self.stream, self.now) else {
            return false;
        };
        if !self.carries {
            return false;
        }
        let fresh = || stream.poll_transmit(BATCH_MAX, now);
        let Some(batch) = self.unsent.take().or_else(fresh) else {
            return false;
        };
        let size = match batch.segment_size {
            0 => batch.payload.len(),
            size => size,
        };
        match self.inner.send_batch(batch.clone(), now) {
            Ok(()) => {}
            Err(SendError::TooLarge) => stream.handle_too_large(size),
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

    /// What the stream has still to say leaves.
    fn flush(&mut self) {
        while !self.failed && self.transmit() {}
        self.outputs.extend(below::last_words(&mut *self.inner));
    }

    fn fail(&mut self, error: TransportError) {
        if self.failed {
            return;
        }
        if error != TransportError::Closed {
            self.flush();
        }
        self.failed = true;
        self.unsent = None;
        if !self.paused {
            self.hand_out_rest();
        }
        self.outputs.push_back(ChannelOutput::Failed(error));
    }

    /// What had arrived on a stream that is no more.
    fn hand_out_rest(&mut self) {
        let Some(mut stream) = self.stream.take() else {
            return;
        };
        while let Some(bytes) = stream.read(READ_MAX) {
            self.outputs.push_back(ChannelOutput::Packet(bytes.into()));
        }
        if stream.is_finished() && !self.peer_finished {
            self.peer_finished = true;
            self.outputs.push_back(ChannelOutput::Finished);
        }
    }

    fn refresh(&mut self) {
        let gone = self.gone.filter(|_| !self.paused).map(|at| at + GRACE);
        let now = self.now;
        let stream = self.stream.as_mut().and_then(|stream| match gone {
            // Nothing more is to be done than to wait for that.
            Some(gone) => Some(gone).filter(|gone| now.is_some_and(|now| *gone > now)),
            None => stream.poll_timeout(),
        });
        self.deadline = stream.filter(|_| !self.failed);
    }
}

impl TransportChannel for QuicChannel {
    fn connect(&mut self, now: Instant) {
        self.now = Some(now);
        if let Err(error) = self.setup.config.check() {
            self.fail(TransportError::NoResource(error.to_string().into()));
        }
        self.inner.connect(now);
    }

    crate::below::passes_below!();

    fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        if let Some(stream) = &mut self.stream
            && self.deadline.is_some_and(|at| at <= now)
        {
            stream.handle_timeout(now);
        }
        self.refresh();
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.at(now);
        if self.finish != Finish::No {
            return Err(SendError::Finished);
        }
        let Some(stream) = self.stream.as_mut().filter(|_| !self.failed) else {
            return Err(if self.failed {
                SendError::NoSuchChannel
            } else {
                SendError::NotWritable
            });
        };
        self.wrote |= !packet.is_empty();
        let taken = self.open && stream.send(packet);
        let more = stream.is_writable();
        if !more {
            self.tell_writable(false);
        }
        if taken {
            Ok(())
        } else {
            Err(SendError::NotWritable)
        }
    }

    /// The batch is one piece of the stream.
    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.send(batch.payload, now)
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        self.at(now);
        self.paused = paused;
        if !paused && self.failed {
            self.hand_out_rest();
        }
    }

    fn finish(&mut self, now: Instant) {
        self.at(now);
        if self.finish == Finish::No {
            self.finish = Finish::Wanted;
            if let Some(stream) = &mut self.stream {
                stream.finish();
            }
        }
    }

    fn close(&mut self) {
        self.outputs.clear();
        if let (Some(stream), Some(now), false) = (&mut self.stream, self.now, self.failed) {
            stream.close(now);
            // Whatever waited comes too late.
            self.unsent = None;
            self.flush();
        }
        self.failed = true;
        self.inner.close();
        self.flush();
        self.outputs.retain(below::leaves);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.inner.poll_timeout(), self.deadline]
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
                self.refresh();
                return None;
            }
        }
    }

    fn describe(&self) -> Option<String> {
        let stream = self.stream.as_ref().and_then(describe);
        below::describe(&*self.inner, stream)
    }
}

/// A line for people about a stream that has measured something.
fn describe(stream: &QuicStream) -> Option<String> {
    let stats = stream.stats()?;
    let lost = 100.0 * stats.lost as f64 / stats.sent.max(1) as f64;
    Some(format!(
        "QUIC, round trip {} ms, {lost:.1} % lost, datagrams of {} bytes",
        (stats.rtt + Duration::from_micros(500)).as_millis(),
        stats.datagram_size
    ))
}

fn transport_error(why: &Closed) -> TransportError {
    match why {
        Closed::Gone | Closed::Here => TransportError::Closed,
        Closed::WrongCertificate => TransportError::Unacceptable(
            "the peer's certificate is not the one that was told in signalling",
        ),
        Closed::NoCryptography => TransportError::NoResource(why.to_string().into()),
        Closed::Refused(_) | Closed::Protocol(_) | Closed::Silent | Closed::PathTooSmall => {
            TransportError::Unreachable(why.to_string().into())
        }
    }
}
