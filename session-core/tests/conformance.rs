//! The suite for transports, judged: what is right passes, and each way of being wrong is caught by the rule that names it.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use bytes::Bytes;
use session_core::{
    Batch, ChannelOutput, Datagram, Dialect, DirectPath, Element, InfoTarget, LocalSocket,
    SendError, SocketError, StreamEvent, Transmit, Transport, TransportChannel, TransportContext,
    TransportError, TransportFactory, TransportKind,
    testing::{Conformance, MemoryDatagram, MemoryStream, Mishap, conformance, conformance::RULES},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

#[test]
fn the_transports_in_memory_conform() {
    conformance(MemoryDatagram::new());
    conformance(MemoryStream::new());
}

/// One way of being wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    KnowsNoDialect,
    OffersAnotherNamespace,
    RefusesAnswers,
    RefusesInfoAgain,
    AppliesWhatItRefuses,
    CutsPackets,
    SendsTheFirstOfABatch,
    PointsElsewhere,
    TakesWhatIsTooLarge,
    TakesBeforeItCan,
    NeverWritableAgain,
    TimerStandsStill,
    NeverDrained,
    UsesASocketOfItsOwn,
    KeepsItsFailureToItself,
    TalksAfterItFailed,
    PanicsOnTheUnknown,
    HandsOutWhatStrangersSend,
    HandsOutWhatCameNowhere,
    FloodsTheNetwork,
    NoticesNothing,
    DiesOfSilence,
    DrawsItsOwnRandomness,
    ForgetsAByte,
    IgnoresPause,
    IgnoresFinish,
    DeliversAtOnce,
}

const DATAGRAM: &[(Fault, &str)] = &[
    (Fault::KnowsNoDialect, "session"),
    (Fault::OffersAnotherNamespace, "namespace"),
    (Fault::RefusesAnswers, "answer"),
    (Fault::RefusesInfoAgain, "info-again"),
    (Fault::AppliesWhatItRefuses, "refused-info"),
    (Fault::CutsPackets, "datagrams"),
    (Fault::SendsTheFirstOfABatch, "batch"),
    (Fault::PointsElsewhere, "direct"),
    (Fault::TakesWhatIsTooLarge, "too-large"),
    (Fault::TakesBeforeItCan, "writable"),
    (Fault::NeverWritableAgain, "writable"),
    (Fault::TimerStandsStill, "timers"),
    (Fault::NeverDrained, "drain"),
    (Fault::UsesASocketOfItsOwn, "sockets"),
    (Fault::KeepsItsFailureToItself, "no-sockets"),
    (Fault::TalksAfterItFailed, "failed-is-last"),
    (Fault::PanicsOnTheUnknown, "panic"),
    (Fault::HandsOutWhatCameNowhere, "unknown"),
    (Fault::HandsOutWhatStrangersSend, "garbage"),
    (Fault::FloodsTheNetwork, "flood"),
    (Fault::NoticesNothing, "silence"),
    (Fault::DiesOfSilence, "heal"),
    (Fault::DrawsItsOwnRandomness, "deterministic"),
];

const STREAMING: &[(Fault, &str)] = &[
    (Fault::ForgetsAByte, "stream"),
    (Fault::IgnoresPause, "pause"),
    (Fault::IgnoresFinish, "finish"),
    (Fault::DeliversAtOnce, "delivered"),
];

#[test]
fn each_fault_is_caught_by_the_rule_that_names_it() {
    let every = (Duration::from_millis(500), Duration::from_secs(10));
    let datagram = MemoryDatagram::new().with_keepalive(every.0, every.1);
    let stream = MemoryStream::new().with_keepalive(every.0, every.1);
    let mut seen = BTreeSet::from(["connect", "offer", "channel"]);
    for (fault, rule) in DATAGRAM {
        caught(Box::new(datagram.clone()), *fault, rule);
        seen.insert(rule);
    }
    for (fault, rule) in STREAMING {
        caught(Box::new(stream.clone()), *fault, rule);
        seen.insert(rule);
    }
    let missing: Vec<_> = RULES
        .iter()
        .filter(|(name, _)| !seen.contains(name))
        .collect();
    assert!(
        missing.is_empty(),
        "no fault shows that these can fail: {missing:?}"
    );
}

#[test]
fn what_does_not_connect_or_has_no_room_is_caught() {
    for (mishap, rule) in [
        (Mishap::RefusesOffers, "offer"),
        (Mishap::RefusesAnswers, "answer"),
        (Mishap::RefusesChannels, "channel"),
        (Mishap::NeverConnects, "connect"),
        (Mishap::FailsOnConnect, "connect"),
        (Mishap::FailsAfter(Duration::from_secs(3)), "connect"),
    ] {
        let breach = Conformance::new().check(MemoryDatagram::new().with_mishap(mishap));
        assert_eq!(breach.unwrap_err().rule, rule, "{mishap:?}");
    }
}

fn caught(inner: Box<dyn TransportFactory>, fault: Fault, rule: &str) {
    match Conformance::new().check(Faulty { inner, fault }) {
        Ok(()) => panic!("{fault:?} was not caught"),
        Err(breach) => assert_eq!(breach.rule, rule, "{fault:?}: {breach}"),
    }
}

struct Faulty {
    inner: Box<dyn TransportFactory>,
    fault: Fault,
}

impl TransportFactory for Faulty {
    fn namespace(&self) -> &str {
        self.inner.namespace()
    }

    fn kind(&self) -> TransportKind {
        self.inner.kind()
    }

    fn supports(&self, _: &Dialect) -> bool {
        self.fault != Fault::KnowsNoDialect
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        Box::new(FaultyTransport {
            inner: self.inner.create(context),
            fault: self.fault,
        })
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
        match self.fault {
            Fault::OffersAnotherNamespace => Element::new("urn:example:other", "transport"),
            _ => self.inner.offer(),
        }
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        self.inner.accept_offer(offer)
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        match self.fault {
            Fault::RefusesAnswers => Err(TransportError::Unacceptable("any")),
            _ => self.inner.accept_answer(answer),
        }
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        Ok(Box::new(FaultyChannel {
            inner: self.inner.create_channel(name)?,
            fault: self.fault,
            infos: 0,
            last: None,
            writable: 0,
            packets: 0,
            destination: None,
            extra: Vec::new(),
            flood_at: None,
        }))
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        self.inner.split_info(info)
    }
}

struct FaultyChannel {
    inner: Box<dyn TransportChannel>,
    fault: Fault,
    infos: u32,
    last: Option<Instant>,
    writable: u32,
    packets: u32,
    destination: Option<SocketAddr>,
    extra: Vec<ChannelOutput>,
    flood_at: Option<Instant>,
}

impl FaultyChannel {
    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// What becomes of an output; `None` when nobody hears of it.
    fn spoil(&mut self, output: ChannelOutput) -> Option<ChannelOutput> {
        match output {
            ChannelOutput::Packet(batch) if self.is(Fault::ForgetsAByte) => {
                self.packets += 1;
                let short = batch.payload.slice(usize::from(self.packets == 20)..);
                Some(ChannelOutput::Packet(short.into()))
            }
            ChannelOutput::Transmit(transmit) => {
                self.destination = Some(transmit.destination);
                let mut transmit = transmit;
                if self.is(Fault::UsesASocketOfItsOwn) {
                    transmit.socket = LocalSocket(9);
                }
                if self.is(Fault::CutsPackets) && transmit.payload.len() == 600 {
                    transmit.payload.truncate(599);
                }
                Some(ChannelOutput::Transmit(transmit))
            }
            ChannelOutput::Writable(true) if self.is(Fault::NeverWritableAgain) => {
                self.writable += 1;
                (self.writable == 1).then_some(output)
            }
            ChannelOutput::Writable(false) | ChannelOutput::Path(false)
                if self.is(Fault::NoticesNothing) =>
            {
                None
            }
            ChannelOutput::Failed(_) if self.is(Fault::KeepsItsFailureToItself) => None,
            ChannelOutput::Failed(_) if self.is(Fault::TalksAfterItFailed) => {
                self.extra.push(ChannelOutput::Path(false));
                Some(output)
            }
            ChannelOutput::Info(info) if self.is(Fault::DrawsItsOwnRandomness) => {
                static NUMBERS: AtomicU64 = AtomicU64::new(0);
                let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
                Some(ChannelOutput::Info(info.with("number", number)))
            }
            other => Some(other),
        }
    }
}

impl TransportChannel for FaultyChannel {
    fn connect(&mut self, now: Instant) {
        self.inner.connect(now);
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        self.infos += 1;
        if self.is(Fault::FloodsTheNetwork) && self.infos > 100 {
            self.flood_at = Some(now);
        }
        let result = self.inner.handle_info(info, now);
        let refuses = self.is(Fault::AppliesWhatItRefuses)
            || self.is(Fault::RefusesInfoAgain) && self.infos > 1;
        if refuses {
            return Err(TransportError::Unacceptable("by mistake"));
        }
        result
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        assert!(
            !self.is(Fault::PanicsOnTheUnknown) || socket.0 < 2,
            "an unknown socket"
        );
        self.inner.handle_bound(socket, address, now);
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        let strange = !datagram.source.ip().is_loopback();
        let nowhere = datagram.socket != LocalSocket(0);
        if self.is(Fault::HandsOutWhatStrangersSend) && strange && !nowhere
            || self.is(Fault::HandsOutWhatCameNowhere) && nowhere
        {
            let batch = datagram.clone().batch();
            self.extra.push(ChannelOutput::Packet(batch));
        }
        let silence = self.last.map(|last| now.saturating_duration_since(last));
        if self.is(Fault::DiesOfSilence) && silence > Some(Duration::from_millis(1_500)) {
            return;
        }
        self.last = Some(now);
        self.inner.handle_datagram(datagram, now);
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        self.inner.handle_stream(socket, event, now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
        if self.flood_at.is_some_and(|at| at <= now)
            && let Some(destination) = self.destination
        {
            self.flood_at = Some(now + Duration::from_millis(1));
            for _ in 0..10 {
                self.extra.push(ChannelOutput::Transmit(Transmit {
                    socket: LocalSocket(0),
                    destination,
                    payload: Bytes::from_static(b"flood"),
                    segment_size: 0,
                }));
            }
        }
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        match self.inner.send(packet, now) {
            Err(SendError::TooLarge) if self.is(Fault::TakesWhatIsTooLarge) => Ok(()),
            Err(SendError::NotWritable) if self.is(Fault::TakesBeforeItCan) => Ok(()),
            result => result,
        }
    }

    fn send_batch(&mut self, mut batch: Batch, now: Instant) -> Result<(), SendError> {
        if self.is(Fault::SendsTheFirstOfABatch) {
            return batch
                .next()
                .map_or(Ok(()), |first| self.inner.send(first, now));
        }
        self.inner.send_batch(batch, now)
    }

    fn pause(&mut self, paused: bool, now: Instant) {
        if !self.is(Fault::IgnoresPause) {
            self.inner.pause(paused, now);
        }
    }

    fn finish(&mut self, now: Instant) {
        if self.is(Fault::DeliversAtOnce) {
            self.extra.push(ChannelOutput::Delivered);
        }
        if !self.is(Fault::IgnoresFinish) {
            self.inner.finish(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.is(Fault::TimerStandsStill) {
            return self.last.or_else(|| self.inner.poll_timeout());
        }
        self.inner
            .poll_timeout()
            .into_iter()
            .chain(self.flood_at)
            .min()
    }

    fn direct(&self) -> Option<DirectPath> {
        self.is(Fault::PointsElsewhere).then(|| DirectPath {
            socket: LocalSocket(0),
            remote: SocketAddr::from(([127, 0, 0, 1], 9)),
            first_byte: 0,
        })
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        if self.is(Fault::NeverDrained) {
            return Some(ChannelOutput::Path(true));
        }
        while let Some(output) = self.inner.poll_output() {
            if let Some(output) = self.spoil(output) {
                return Some(output);
            }
        }
        self.extra.pop()
    }
}
