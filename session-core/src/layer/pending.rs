//! A channel that seeks its path while its layer is not agreed on yet.

use super::layers::Shared;
use crate::{
    Batch, ChannelOutput, Datagram, DirectPath, Element, Finding, LocalSocket, PathReport, Peer,
    RequestAnswer, SendError, SocketError, StanzaError, StreamEvent, TransportChannel,
    TransportContext, TransportError,
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How many datagrams (or batches) wait for the layer: the peer's handshake may overtake its answer. Later ones are lost,
/// as on a network.
const HELD_MAX: usize = 32;
/// How many bytes may be in them.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// The channel below until the layer is agreed on; the channel above from then on.
pub(super) struct PendingChannel {
    active: Box<dyn TransportChannel>,
    /// There until the layer is.
    waiting: Option<Waiting>,
}

struct Waiting {
    negotiation: Shared,
    context: Box<TransportContext>,
    /// The last call, once there was `connect`.
    at: Option<Instant>,
    held: Held,
    paused: bool,
    finished: bool,
}

/// What the channel below has said that is for the layer.
#[derive(Default)]
struct Held {
    path: Option<bool>,
    writable: Option<bool>,
    packets: VecDeque<Batch>,
    bytes: usize,
}

impl PendingChannel {
    pub(super) fn new(
        inner: Box<dyn TransportChannel>,
        negotiation: Shared,
        context: TransportContext,
    ) -> Self {
        Self {
            active: inner,
            waiting: Some(Waiting {
                negotiation,
                context: Box::new(context),
                at: None,
                held: Held::default(),
                paused: false,
                finished: false,
            }),
        }
    }

    /// The channel of today, and a note that it was called.
    fn at(&mut self, now: Instant) -> &mut dyn TransportChannel {
        if let Some(waiting) = &mut self.waiting {
            waiting.at = Some(now);
        }
        self.active.as_mut()
    }

    /// Puts the layer above, once it is agreed on.
    fn advance(&mut self, now: Instant) {
        let settled = |waiting: &mut Waiting| waiting.at.is_some() && waiting.is_settled();
        let Some(waiting) = self.waiting.take_if(settled) else {
            return;
        };
        let nothing = Box::new(Nothing);
        let inner = Box::new(Connected {
            inner: std::mem::replace(&mut self.active, nothing),
            replay: waiting.held.into_outputs(),
        });
        let upper = waiting
            .negotiation
            .lock()
            .layer
            .wrap(inner, &waiting.context);
        self.active = upper;
        self.active.connect(now);
        if waiting.paused {
            self.active.pause(true, now);
        }
        if waiting.finished {
            self.active.finish(now);
        }
    }
}

impl Waiting {
    fn is_settled(&self) -> bool {
        self.negotiation.lock().settled
    }
}

impl Held {
    /// Keeps what is for the layer.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else a channel wants is for those above"
    )]
    fn keep(&mut self, output: ChannelOutput) -> Option<ChannelOutput> {
        match output {
            ChannelOutput::Path(path) => self.path = Some(path),
            ChannelOutput::Writable(writable) => self.writable = Some(writable),
            ChannelOutput::Packet(batch) => {
                let bytes = self.bytes + batch.payload.len();
                if self.packets.len() < HELD_MAX && bytes <= HELD_BYTES_MAX {
                    self.bytes = bytes;
                    self.packets.push_back(batch);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn into_outputs(self) -> VecDeque<ChannelOutput> {
        let path = self.path.map(ChannelOutput::Path);
        let writable = self.writable.map(ChannelOutput::Writable);
        let packets = self.packets.into_iter().map(ChannelOutput::Packet);
        path.into_iter().chain(writable).chain(packets).collect()
    }
}

impl TransportChannel for PendingChannel {
    fn connect(&mut self, now: Instant) {
        self.at(now).connect(now);
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        self.at(now).handle_info(info, now)
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.at(now).handle_bound(socket, address, now);
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        self.at(now).handle_datagram(datagram, now);
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        self.at(now).handle_stream(socket, event, now);
    }

    fn handle_finding(&mut self, inquiry: u32, finding: Finding, now: Instant) {
        self.at(now).handle_finding(inquiry, finding, now);
    }

    fn handle_request(
        &mut self,
        from: &Peer,
        payload: &Element,
        now: Instant,
    ) -> Option<RequestAnswer> {
        self.at(now).handle_request(from, payload, now)
    }

    fn handle_response(
        &mut self,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        self.at(now).handle_response(token, response, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
        if self.active.poll_timeout().is_some_and(|due| due <= now) {
            self.at(now).handle_timeout(now);
        }
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        match self.waiting {
            Some(_) => Err(SendError::NotWritable),
            None => self.active.send(packet, now),
        }
    }

    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        match self.waiting {
            Some(_) => Err(SendError::NotWritable),
            None => self.active.send_batch(batch, now),
        }
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        match &mut self.waiting {
            Some(waiting) => waiting.paused = paused,
            None => self.active.pause(paused, now),
        }
    }

    fn finish(&mut self, now: Instant) {
        match &mut self.waiting {
            Some(waiting) => waiting.finished = true,
            None => self.active.finish(now),
        }
    }

    fn handle_remote(&mut self, remote: &Peer) {
        if let Some(waiting) = &mut self.waiting {
            waiting.context.remote = remote.clone();
        }
        self.active.handle_remote(remote);
    }

    fn close(&mut self) {
        self.active.close();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let settled = |waiting: &&Waiting| waiting.is_settled();
        let ready = self.waiting.as_ref().filter(settled).and_then(|w| w.at);
        ready.or_else(|| self.active.poll_timeout())
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        let Some(waiting) = &mut self.waiting else {
            return self.active.poll_output();
        };
        loop {
            let output = self.active.poll_output()?;
            if let Some(output) = waiting.held.keep(output) {
                return Some(output);
            }
        }
    }

    fn direct(&self) -> Option<DirectPath> {
        self.active.direct().filter(|_| self.waiting.is_none())
    }

    fn datagram_max(&self) -> Option<usize> {
        self.active.datagram_max()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.active.round_trip()
    }

    fn describe(&self) -> Option<String> {
        self.active.describe()
    }

    fn report(&self) -> Vec<PathReport> {
        self.active.report()
    }
}

/// A channel that is connected already, and says first what its layer has missed.
struct Connected {
    inner: Box<dyn TransportChannel>,
    replay: VecDeque<ChannelOutput>,
}

impl TransportChannel for Connected {
    fn connect(&mut self, _: Instant) {}

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        self.inner.handle_info(info, now)
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.inner.handle_bound(socket, address, now);
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        self.inner.handle_datagram(datagram, now);
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        self.inner.handle_stream(socket, event, now);
    }

    fn handle_finding(&mut self, inquiry: u32, finding: Finding, now: Instant) {
        self.inner.handle_finding(inquiry, finding, now);
    }

    fn handle_request(
        &mut self,
        from: &Peer,
        payload: &Element,
        now: Instant,
    ) -> Option<RequestAnswer> {
        self.inner.handle_request(from, payload, now)
    }

    fn handle_response(
        &mut self,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        self.inner.handle_response(token, response, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.inner.send(packet, now)
    }

    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.inner.send_batch(batch, now)
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        self.inner.pause(paused, now);
    }

    fn finish(&mut self, now: Instant) {
        self.inner.finish(now);
    }

    fn handle_remote(&mut self, remote: &Peer) {
        self.inner.handle_remote(remote);
    }

    fn close(&mut self) {
        self.inner.close();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        let missed = self.replay.pop_front();
        missed.or_else(|| self.inner.poll_output())
    }

    fn direct(&self) -> Option<DirectPath> {
        self.inner.direct().filter(|_| self.replay.is_empty())
    }

    fn datagram_max(&self) -> Option<usize> {
        self.inner.datagram_max()
    }

    fn round_trip(&self) -> Option<Duration> {
        self.inner.round_trip()
    }

    fn describe(&self) -> Option<String> {
        self.inner.describe()
    }

    fn report(&self) -> Vec<PathReport> {
        self.inner.report()
    }
}

/// What stands in a place while its channel moves.
struct Nothing;

impl TransportChannel for Nothing {
    fn connect(&mut self, _: Instant) {}

    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, _: Bytes, _: Instant) -> Result<(), SendError> {
        Err(SendError::NotWritable)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        None
    }
}
