//! Any transport, broken on purpose.
#![allow(clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use proptest::prelude::*;
use session_core::{
    Batch, ChannelOutput, Datagram, Dialect, Element, InfoTarget, LocalSocket, Peer, PeerError,
    RequestAnswer, SendError, SocketError, StanzaError, StreamEvent, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// What goes wrong, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// No offer of the peer is good enough.
    RefusesOffers,
    /// No answer of the peer is good enough.
    RefusesAnswers,
    /// There is no room for a channel.
    RefusesChannels,
    /// The channel fails at once.
    FailsOnConnect,
    /// The channel does nothing and says nothing.
    NeverConnects,
    /// The channel fails so long after it began to connect.
    FailsAfter(Duration),
    /// It is dead after so long, takes what it is given, and does not say that it is dead.
    SilentAfter(Duration),
}

/// Any of them; one that fails later does so within so many milliseconds. `silent` where somebody watches over channels that
/// do not say that they are dead.
pub(crate) fn any_fault(within: u64, silent: bool) -> impl Strategy<Value = Fault> {
    let dies = move |ms| match silent {
        true => Fault::SilentAfter(Duration::from_millis(ms)),
        false => Fault::FailsAfter(Duration::from_millis(ms)),
    };
    prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::RefusesOffers),
        1 => Just(Fault::RefusesAnswers),
        1 => Just(Fault::RefusesChannels),
        1 => Just(Fault::FailsOnConnect),
        1 => Just(Fault::NeverConnects),
        2 => (0..within).prop_map(|ms| Fault::FailsAfter(Duration::from_millis(ms))),
        1 => (0..within).prop_map(dies),
    ]
}

/// A factory whose transports are broken.
pub(crate) struct Faulty<F> {
    inner: F,
    fault: Fault,
}

impl<F> Faulty<F> {
    pub(crate) fn new(inner: F, fault: Fault) -> Self {
        Self { inner, fault }
    }
}

impl<F: TransportFactory> TransportFactory for Faulty<F> {
    fn namespace(&self) -> &str {
        self.inner.namespace()
    }

    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        Box::new(FaultyTransport {
            inner: self.inner.create(context),
            fault: self.fault,
        })
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        self.inner.supports(dialect)
    }

    fn unclaimed_request(&self, payload: &Element) -> Option<PeerError> {
        self.inner.unclaimed_request(payload)
    }
}

struct FaultyTransport {
    inner: Box<dyn Transport>,
    fault: Fault,
}

impl Transport for FaultyTransport {
    fn namespace(&self) -> &str {
        self.inner.namespace()
    }

    fn offer(&mut self) -> Element {
        self.inner.offer()
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        match self.fault {
            Fault::RefusesOffers => Err(TransportError::Unacceptable("refuses offers")),
            _ => self.inner.accept_offer(offer),
        }
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        match self.fault {
            Fault::RefusesAnswers => Err(TransportError::Unacceptable("refuses answers")),
            _ => self.inner.accept_answer(answer),
        }
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        if self.fault == Fault::RefusesChannels {
            return Err(TransportError::NoResource("refuses channels".into()));
        }
        Ok(Box::new(FaultyChannel {
            inner: Some(self.inner.create_channel(name)?),
            fault: self.fault,
            due: None,
            failed: None,
        }))
    }

    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        self.inner.wrap_info(infos)
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        self.inner.split_info(info)
    }
}

struct FaultyChannel {
    /// `None` once it is broken.
    inner: Option<Box<dyn TransportChannel>>,
    fault: Fault,
    due: Option<Instant>,
    failed: Option<ChannelOutput>,
}

impl FaultyChannel {
    fn fail(&mut self) {
        self.inner = None;
        self.due = None;
        if matches!(self.fault, Fault::SilentAfter(_)) {
            return;
        }
        let error = TransportError::Unreachable("broken on purpose".into());
        self.failed = Some(ChannelOutput::Failed(error));
    }
}

impl TransportChannel for FaultyChannel {
    fn connect(&mut self, now: Instant) {
        match self.fault {
            Fault::FailsOnConnect => return self.fail(),
            Fault::NeverConnects => {
                self.inner = None;
                return;
            }
            Fault::FailsAfter(after) | Fault::SilentAfter(after) => self.due = Some(now + after),
            _ => {}
        }
        if let Some(inner) = &mut self.inner {
            inner.connect(now);
        }
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        match &mut self.inner {
            Some(inner) => inner.handle_info(info, now),
            None => Ok(()),
        }
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        if let Some(inner) = &mut self.inner {
            inner.handle_bound(socket, address, now);
        }
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        if let Some(inner) = &mut self.inner {
            inner.handle_datagram(datagram, now);
        }
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        if let Some(inner) = &mut self.inner {
            inner.handle_stream(socket, event, now);
        }
    }

    fn handle_request(
        &mut self,
        from: &Peer,
        payload: &Element,
        now: Instant,
    ) -> Option<RequestAnswer> {
        self.inner.as_mut()?.handle_request(from, payload, now)
    }

    fn handle_response(
        &mut self,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        if let Some(inner) = &mut self.inner {
            inner.handle_response(token, response, now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.fail();
        } else if let Some(inner) = &mut self.inner {
            inner.handle_timeout(now);
        }
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        match &mut self.inner {
            Some(inner) => inner.send(packet, now),
            None if matches!(self.fault, Fault::SilentAfter(_)) => Ok(()),
            None => Err(SendError::NotWritable),
        }
    }

    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        match &mut self.inner {
            Some(inner) => inner.send_batch(batch, now),
            None if matches!(self.fault, Fault::SilentAfter(_)) => Ok(()),
            None => Err(SendError::NotWritable),
        }
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        if let Some(inner) = &mut self.inner {
            inner.pause(paused, now);
        }
    }

    fn finish(&mut self, now: Instant) {
        if let Some(inner) = &mut self.inner {
            inner.finish(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let inner = self.inner.as_ref().and_then(|inner| inner.poll_timeout());
        inner.into_iter().chain(self.due).min()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        if let Some(failed) = self.failed.take() {
            return Some(failed);
        }
        self.inner.as_mut()?.poll_output()
    }
}
