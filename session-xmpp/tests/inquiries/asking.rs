//! A transport whose channel asks its host something, and is writable once the answer is right; and a call over it.

use bytes::Bytes;
use session_core::testing::{Answer, Note, RECORDER_NAMESPACE, Recorder};
use session_core::{
    ChannelOutput, Config, Datagram, Element, Finding, LocalSocket, SeededEntropy, SendError,
    SessionManager, SocketError, Transport, TransportChannel, TransportContext, TransportError,
    TransportFactory, TransportKind,
};
use session_xmpp::endpoint::{Endpoint, Options, Router};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

const NAMESPACE: &str = "urn:example:asking";

/// What a channel does: first, when its socket is bound, and with each finding.
#[derive(Clone, Copy)]
pub(crate) struct Asking {
    pub(crate) first: fn() -> ChannelOutput,
    pub(crate) bound: fn() -> Option<ChannelOutput>,
    pub(crate) found: fn(u32, Finding) -> Option<ChannelOutput>,
}

struct Channel(Asking, VecDeque<ChannelOutput>);

impl TransportFactory for Asking {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(*self)
    }
}

impl Transport for Asking {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn offer(&mut self) -> Element {
        Element::new(NAMESPACE, "transport")
    }

    fn accept_offer(&mut self, _: &Element) -> Result<Element, TransportError> {
        Ok(self.offer())
    }

    fn accept_answer(&mut self, _: &Element) -> Result<(), TransportError> {
        Ok(())
    }

    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        Ok(Box::new(Channel(*self, VecDeque::new())))
    }
}

impl TransportChannel for Channel {
    fn connect(&mut self, _: Instant) {
        self.1.push_back((self.0.first)());
    }

    fn handle_finding(&mut self, inquiry: u32, finding: Finding, _: Instant) {
        let wrong = format!("{inquiry}: {finding:?}").into();
        let next = (self.0.found)(inquiry, finding);
        let failed = || ChannelOutput::Failed(TransportError::NoResource(wrong));
        self.1.push_back(next.unwrap_or_else(failed));
    }

    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {
        self.1.extend((self.0.bound)());
    }

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, _: Bytes, _: Instant) -> Result<(), SendError> {
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.1.pop_front()
    }
}

/// A call between two who ask, until the caller's channel is writable. Both have options, or the callee's transport fails
/// and takes the session with it.
pub(crate) async fn call(asking: Asking, options: impl Fn() -> Options) -> [Endpoint; 2] {
    let router = Router::new();
    let endpoint = |address: &str| {
        let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        manager.add_transport(asking).unwrap();
        let recorder = Recorder::new()
            .with_channel("data")
            .with_answer(Answer::Accept);
        manager.add_client(recorder).unwrap();
        Endpoint::spawn_with(manager, router.link(address), options())
    };
    let (a, b) = ("a@example.org/1", "b@example.org/2");
    let (caller, callee) = (endpoint(a), endpoint(b));
    let id = caller.update(|manager, now| {
        let id = manager
            .create_session(a.into(), RECORDER_NAMESPACE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        let note = Note("call".into());
        session.initiate(b.into(), Vec::new(), &note, now).unwrap();
        id
    });
    let writable = || {
        caller.update(|manager, _| {
            let session = manager.session(id)?;
            Some(session.writable(session.channel("data")?))
        })
    };
    let waiting = async {
        while writable() != Some(true) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let limit = Duration::from_secs(60);
    tokio::time::timeout(limit, waiting).await.unwrap();
    [caller, callee]
}
