//! A channel with DTLS above it.

use super::{
    Backend, Settings, Usage,
    backend::{DtlsError, Endpoint, Event},
    fingerprint,
    negotiation::Counterpart,
    rust::RustEndpoint,
};
use crate::below;
use bytes::{Bytes, BytesMut};
use session_core::{
    Batch, ChannelOutput, DirectPath, Fingerprint, Secured, SendError, SrtpKeys, TransportChannel,
    TransportError,
};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// What the buffer for one event has at least.
const ROOM: usize = 2_048;
/// What it is enlarged to at most: a certificate may be long, a record may not.
const ROOM_MAX: usize = 64 * 1_024;
/// How much is allocated at once for records that carry data.
const CHUNK: usize = 64 * 1_024;
/// The most that a record carries (RFC 9147 §4).
const RECORD_MAX: usize = 1 << 14;
/// What a record has beside its content, at most: header, nonce, tag, and room to spare.
const OVERHEAD: usize = 64;

/// The same without room to spare: the header and nonce of DTLS 1.2, which has the longest, and the tag.
const RECORD_OVERHEAD: usize = 13 + 8 + 16;

/// What belongs to DTLS begins with less (RFC 9443 §3).
const AFTER_DTLS: u8 = 64;

/// Datagrams of a handshake that wait for a path: a flight or two, with a chain of certificates.
const UNSENT_MAX: usize = 16;

/// A channel that shakes hands when its path is there, and carries data from then on.
pub(super) struct DtlsChannel {
    inner: Box<dyn TransportChannel>,
    settings: Arc<Settings>,
    peer: Option<Counterpart>,
    endpoint: Option<Box<dyn Endpoint>>,
    stage: Stage,
    /// The last call, once there was `connect`.
    now: Option<Instant>,
    /// When the endpoint is to be told the time.
    due: Option<Instant>,
    connected: bool,
    verified: Option<Fingerprint>,
    keys: Option<SrtpKeys>,
    /// Whether the channel below takes datagrams.
    carries: bool,
    /// What the channel below says about its path, if it does.
    path: Option<bool>,
    /// What the handshake has said while there was no path.
    unsent: VecDeque<Bytes>,
    outputs: VecDeque<ChannelOutput>,
    room: BytesMut,
    /// Bytes that an event may take: as many as one has needed.
    size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Until the peer has proved who it is.
    Closed,
    Open,
    /// The peer has said its last.
    Over,
    Failed,
}

/// Handshakes, alerts and records of DTLS, by their first byte (RFC 9443 §3).
fn is_dtls(packet: &[u8]) -> bool {
    packet
        .first()
        .is_some_and(|first| (20..AFTER_DTLS).contains(first))
}

impl DtlsChannel {
    /// Without a counterpart it fails as soon as it is to connect.
    pub(super) fn new(
        inner: Box<dyn TransportChannel>,
        settings: Arc<Settings>,
        peer: Option<Counterpart>,
    ) -> Self {
        Self {
            inner,
            settings,
            peer,
            endpoint: None,
            stage: Stage::Closed,
            now: None,
            due: None,
            connected: false,
            verified: None,
            keys: None,
            carries: false,
            path: None,
            unsent: VecDeque::new(),
            outputs: VecDeque::new(),
            room: BytesMut::new(),
            size: ROOM,
        }
    }

    /// What the peer said may have come before our own check of the path has: then the answer waits for that, and not for the
    /// second after which a handshake repeats itself.
    fn send_handshake(&mut self, datagram: Bytes, now: Instant) {
        if self.carries || self.stage != Stage::Closed {
            // What the path does not take is lost, and sent again in time.
            let _ = self.inner.send(datagram, now);
            return;
        }
        if self.unsent.len() >= UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent.push_back(datagram);
    }

    fn send_unsent(&mut self) {
        let unsent = std::mem::take(&mut self.unsent);
        if let Some(now) = self.now {
            for datagram in unsent {
                self.send_handshake(datagram, now);
            }
        }
    }

    fn at(&mut self, now: Instant) {
        self.now = Some(now);
    }

    fn fail(&mut self, error: TransportError) {
        if self.stage != Stage::Failed {
            self.stage = Stage::Failed;
            self.endpoint = None;
            self.due = None;
            self.unsent = VecDeque::new();
            self.outputs.push_back(ChannelOutput::Failed(error));
        }
    }

    fn break_off(&mut self, error: &DtlsError) {
        self.fail(TransportError::Unreachable(
            format!("DTLS: {}", error.0).into(),
        ));
    }
}

/// From the channel below.
impl DtlsChannel {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else a channel wants is for those above"
    )]
    fn take_inner(&mut self, output: ChannelOutput) -> Option<ChannelOutput> {
        match output {
            ChannelOutput::Packet(batch) => self.take_packets(batch),
            ChannelOutput::Writable(writable) => {
                self.carries = writable;
                if writable {
                    self.send_unsent();
                    self.start();
                }
                return (self.stage == Stage::Open).then_some(ChannelOutput::Writable(writable));
            }
            ChannelOutput::Path(path) => {
                self.path = Some(path);
                return (self.stage == Stage::Open).then_some(ChannelOutput::Path(path));
            }
            ChannelOutput::Failed(error) => self.fail(error),
            other => return Some(other),
        }
        None
    }

    fn take_packets(&mut self, batch: Batch) {
        let passes = self.settings.usage == Usage::Srtp;
        let open = self.stage == Stage::Open;
        if passes && !batch.clone().any(|packet| is_dtls(&packet)) {
            // Nobody has the keys before the handshake is over.
            if open {
                self.outputs.push_back(ChannelOutput::Packet(batch));
            }
            return;
        }
        self.start();
        self.tell_time();
        let size = match batch.segment_size {
            0 => batch.payload.len(),
            size => size,
        };
        for packet in batch.payload.chunks(size.max(1)) {
            if is_dtls(packet) {
                let result = match &mut self.endpoint {
                    Some(endpoint) => endpoint.handle_datagram(packet),
                    None => return,
                };
                self.pump();
                if let Err(error) = result {
                    self.break_off(&error);
                }
            } else if passes && self.stage == Stage::Open {
                let packet = batch.payload.slice_ref(packet);
                self.outputs.push_back(ChannelOutput::Packet(packet.into()));
            }
        }
    }
}

/// The handshake.
impl DtlsChannel {
    fn start(&mut self) {
        let (Some(now), Some(peer), None) = (self.now, &self.peer, &self.endpoint) else {
            return;
        };
        if self.stage != Stage::Closed {
            return;
        }
        let Settings {
            identity,
            config,
            shared,
            ..
        } = &*self.settings;
        let made: Result<Box<dyn Endpoint>, DtlsError> = match config.backend {
            Backend::Rust => RustEndpoint::new(shared, identity, config, peer.side, now)
                .map(|endpoint| Box::new(endpoint) as _),
            #[cfg(feature = "dtls-openssl")]
            Backend::Openssl => {
                let usage = self.settings.usage;
                super::openssl::OpensslEndpoint::new(identity, config, usage, peer.side, now)
                    .map(|endpoint| Box::new(endpoint) as _)
            }
        };
        match made {
            Ok(endpoint) => {
                self.endpoint = Some(endpoint);
                self.tell_time();
            }
            Err(error) => self.break_off(&error),
        }
    }

    fn tell_time(&mut self) {
        if let (Some(now), Some(endpoint)) = (self.now, &mut self.endpoint) {
            let result = endpoint.handle_timeout(now);
            self.pump();
            if let Err(error) = result {
                self.break_off(&error);
            }
        }
    }

    /// Does what the endpoint wants.
    fn pump(&mut self) {
        let data = self.settings.usage == Usage::Data && self.stage == Stage::Open;
        let chunk = if data { CHUNK } else { ROOM };
        while let (Some(endpoint), Some(now)) = (&mut self.endpoint, self.now) {
            make_room(&mut self.room, self.size, chunk);
            match endpoint.poll(&mut self.room) {
                Event::Datagram(bytes) => {
                    let datagram = self.room.split_to(bytes).freeze();
                    self.send_handshake(datagram, now);
                }
                Event::Data(bytes) => {
                    let data = self.room.split_to(bytes).freeze();
                    if self.stage == Stage::Open && self.settings.usage == Usage::Data {
                        self.outputs.push_back(ChannelOutput::Packet(data.into()));
                    }
                }
                Event::Certificate(bytes) => self.verify(bytes),
                Event::Connected => {
                    self.connected = true;
                    self.open();
                }
                Event::Keys(keys) => {
                    self.keys = Some(keys);
                    self.open();
                }
                Event::Closed => {
                    self.stage = Stage::Over;
                    self.outputs.push_back(ChannelOutput::Writable(false));
                    if self.path.is_some() {
                        self.outputs.push_back(ChannelOutput::Path(false));
                    }
                }
                Event::TooSmall(needed) if needed <= ROOM_MAX => self.size = needed,
                Event::TooSmall(_) => {
                    let what = "the peer's handshake is too large";
                    self.fail(TransportError::Unacceptable(what));
                }
                Event::Idle(due) => {
                    self.due = due;
                    break;
                }
            }
        }
        if !data {
            // Most channels are silent from now on, or pass packets of others.
            self.room = BytesMut::new();
        }
        if self.connected && self.stage == Stage::Closed {
            let what = match self.verified {
                Some(_) => "the peer's DTLS has no protection for SRTP that we have",
                None => "the peer showed no certificate",
            };
            self.fail(TransportError::Unacceptable(what));
        }
    }

    fn verify(&mut self, bytes: usize) {
        let announced = self.peer.as_ref().map(|peer| &*peer.fingerprints);
        let certificate = &self.room[..bytes];
        match fingerprint::matching(announced.unwrap_or_default(), certificate) {
            Some(fingerprint) => self.verified = Some(fingerprint.clone()),
            None => self.fail(TransportError::Unacceptable(
                "the peer's certificate is not the one that signalling named",
            )),
        }
    }

    /// Data passes as soon as everything is there that has to be.
    fn open(&mut self) {
        let (Some(verified), Some(peer)) = (&self.verified, &self.peer) else {
            return;
        };
        // Keys for SRTP go up only to those who asked for them.
        let wants_keys = self.settings.usage == Usage::Srtp;
        let lacks_keys = wants_keys && self.keys.is_none();
        if !self.connected || lacks_keys || self.stage != Stage::Closed {
            return;
        }
        let version = self.endpoint.as_ref().map_or("DTLS", |e| e.version());
        let secured = Secured {
            protocol: version.into(),
            side: peer.side,
            local_fingerprint: Some(self.settings.identity.fingerprint().clone()),
            peer_fingerprint: Some(verified.clone()),
            srtp: self.keys.take().filter(|_| wants_keys),
        };
        self.stage = Stage::Open;
        self.outputs.push_back(ChannelOutput::Secured(secured));
        self.outputs.extend(self.path.map(ChannelOutput::Path));
        if self.carries {
            self.outputs.push_back(ChannelOutput::Writable(true));
        }
    }
}

/// A buffer of at least so many bytes. What was split off before is allocated again only when its readers have let go.
fn make_room(room: &mut BytesMut, size: usize, chunk: usize) {
    if room.len() < size {
        if room.capacity() < size {
            room.clear();
            room.reserve(size.max(chunk));
        }
        // All at once: what is split off later leaves the rest as it is.
        room.resize(room.capacity(), 0);
    }
}

/// To the channel below.
impl DtlsChannel {
    fn may_send(&self) -> Result<Instant, SendError> {
        match (self.stage, self.now) {
            (Stage::Open, Some(now)) => Ok(now),
            (Stage::Failed, _) => Err(SendError::NoSuchChannel),
            (Stage::Closed | Stage::Over | Stage::Open, _) => Err(SendError::NotWritable),
        }
    }

    /// Datagrams become records, of which those of equal size leave together.
    fn send_records(&mut self, batch: Batch) -> Result<(), SendError> {
        let now = self.may_send()?;
        if !self.carries {
            return Err(SendError::NotWritable);
        }
        let (payload, count) = (batch.payload.len(), batch.len());
        if batch.clone().any(|packet| packet.len() > RECORD_MAX) {
            return Err(SendError::TooLarge);
        }
        make_room(&mut self.room, payload + count * OVERHEAD + ROOM, CHUNK);
        let (mut used, mut segment) = (0, 0);
        for packet in batch {
            let Some(endpoint) = &mut self.endpoint else {
                return Err(SendError::NotWritable);
            };
            if let Err(error) = endpoint.send(&packet) {
                self.break_off(&error);
                return Err(SendError::NoSuchChannel);
            }
            loop {
                match endpoint.poll(&mut self.room[used..]) {
                    Event::Datagram(bytes) => {
                        if segment != 0 && bytes > segment {
                            let whole = self.room.split_to(used).freeze();
                            self.inner.send_batch(joined(whole, segment), now)?;
                            (used, segment) = (0, 0);
                        }
                        segment = segment.max(bytes);
                        used += bytes;
                        if bytes < segment {
                            let whole = self.room.split_to(used).freeze();
                            self.inner.send_batch(joined(whole, segment), now)?;
                            (used, segment) = (0, 0);
                        }
                    }
                    Event::Idle(due) => {
                        self.due = due;
                        break;
                    }
                    // Nothing arrives while we send, and there is room for what we send.
                    Event::Certificate(_)
                    | Event::Connected
                    | Event::Keys(_)
                    | Event::Data(_)
                    | Event::Closed
                    | Event::TooSmall(_) => break,
                }
            }
        }
        if used == 0 {
            return Ok(());
        }
        let whole = self.room.split_to(used).freeze();
        self.inner.send_batch(joined(whole, segment), now)
    }
}

fn joined(payload: Bytes, segment: usize) -> Batch {
    let segment_size = if payload.len() > segment { segment } else { 0 };
    Batch {
        payload,
        segment_size,
    }
}

impl TransportChannel for DtlsChannel {
    fn connect(&mut self, now: Instant) {
        self.at(now);
        if self.peer.is_none() {
            let what = "DTLS was not agreed on";
            return self.fail(TransportError::Unacceptable(what));
        }
        self.inner.connect(now);
    }

    crate::below::passes_below!();

    fn handle_timeout(&mut self, now: Instant) {
        self.at(now);
        if self.inner.poll_timeout().is_some_and(|due| due <= now) {
            self.inner.handle_timeout(now);
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.tell_time();
        }
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.at(now);
        match self.settings.usage {
            Usage::Srtp => self.may_send().and_then(|now| self.inner.send(packet, now)),
            Usage::Data => self.send_records(packet.into()),
        }
    }

    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.at(now);
        match self.settings.usage {
            Usage::Srtp => self
                .may_send()
                .and_then(|now| self.inner.send_batch(batch, now)),
            Usage::Data => self.send_records(batch),
        }
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        self.at(now);
        self.inner.pause(paused, now);
    }

    fn close(&mut self) {
        self.outputs.clear();
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.close();
            self.pump();
        }
        self.stage = Stage::Failed;
        self.endpoint = None;
        self.due = None;
        self.unsent = VecDeque::new();
        self.inner.close();
        self.outputs.clear();
        self.outputs.extend(below::last_words(&mut *self.inner));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let dues = [self.inner.poll_timeout(), self.due];
        let first = dues.into_iter().flatten().min();
        first.filter(|_| self.stage != Stage::Failed)
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            if self.stage == Stage::Failed {
                return None;
            }
            let output = self.inner.poll_output()?;
            if let Some(output) = self.take_inner(output) {
                return Some(output);
            }
        }
    }

    fn direct(&self) -> Option<DirectPath> {
        let open = self.settings.usage == Usage::Srtp && self.stage == Stage::Open;
        let below = self
            .inner
            .direct()
            .filter(|_| open && self.outputs.is_empty())?;
        Some(DirectPath {
            first_byte: below.first_byte.max(AFTER_DTLS),
            ..below
        })
    }

    fn datagram_max(&self) -> Option<usize> {
        let below = self.inner.datagram_max()?;
        match self.settings.usage {
            Usage::Srtp => Some(below),
            Usage::Data => Some(below.saturating_sub(RECORD_OVERHEAD).min(RECORD_MAX)),
        }
    }

    fn describe(&self) -> Option<String> {
        let dtls = self.endpoint.as_ref().filter(|_| self.connected);
        let version = dtls.map(|dtls| dtls.version().to_owned());
        below::describe(&*self.inner, version)
    }
}
