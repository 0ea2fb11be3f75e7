//! A transport that listens for connections, and what the driver does for it.
#![cfg(feature = "endpoint")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "loopback/probe.rs"]
mod probe;

use probe::{CHANNEL, Seen, TYPE, soon};
use session_core::{
    BindKind, ChannelOutput, Datagram, Element, LocalSocket, Peer, Reason, ReasonCondition,
    SendError, SessionId, SocketError, StreamEvent, Transport, TransportChannel, TransportContext,
    TransportError, TransportFactory, TransportKind,
};
use session_xmpp::endpoint::{ACCEPTED_CONNECTIONS, Endpoint, Router};
use std::{
    collections::{BTreeSet, VecDeque},
    io::ErrorKind,
    net::SocketAddr,
    sync::{Arc, Mutex},
    task::Waker,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    time::{sleep, timeout},
};

const LISTENER: LocalSocket = LocalSocket(0);
const NAMESPACE: &str = "urn:example:listener";

/// What the test sees of a [`Listener`]'s channel.
#[derive(Default)]
struct View {
    address: Option<SocketAddr>,
    connections: BTreeSet<LocalSocket>,
    written: usize,
    buffered: usize,
    /// What its own I/O brings, and whom to wake then.
    inbox: VecDeque<bytes::Bytes>,
    waker: Option<Waker>,
}

/// Accepts whoever comes, hands out what they say, answers each with a greeting, and closes when they have ended.
#[derive(Clone, Default)]
struct Listener {
    view: Arc<Mutex<View>>,
    greeting: bytes::Bytes,
    outputs: VecDeque<ChannelOutput>,
}

impl TransportFactory for Listener {
    fn namespace(&self) -> &str {
        NAMESPACE
    }
    fn kind(&self) -> TransportKind {
        TransportKind::Streaming
    }
    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        self.view.lock().unwrap().waker = Some(context.waker.clone());
        Box::new(self.clone())
    }
}

impl Transport for Listener {
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
        Ok(Box::new(self.clone()))
    }
}

impl TransportChannel for Listener {
    fn connect(&mut self, _: Instant) {
        let address = ([127, 0, 0, 1], 0).into();
        let bind = ChannelOutput::Bind(LISTENER, BindKind::TcpListener, address);
        self.outputs.push_back(bind);
    }
    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }
    fn handle_bound(
        &mut self,
        _: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        _: Instant,
    ) {
        match address {
            Ok(address) => self.view.lock().unwrap().address = Some(address),
            Err(error) => {
                let error = TransportError::NoResource(error.to_string().into());
                self.outputs.push_back(ChannelOutput::Failed(error));
            }
        }
    }
    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}
    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, _: Instant) {
        let mut view = self.view.lock().unwrap();
        match event {
            StreamEvent::Accepted { connection, .. } => {
                assert!(connection.0 >= LocalSocket::FIRST_ACCEPTED);
                assert!(view.connections.insert(connection));
                view.written += self.greeting.len();
                let greeting = self.greeting.clone();
                self.outputs
                    .push_back(ChannelOutput::Write(connection, greeting));
            }
            StreamEvent::Data(bytes) => self.outputs.push_back(ChannelOutput::Packet(bytes.into())),
            StreamEvent::Buffered(bytes) => view.buffered = bytes,
            StreamEvent::Finished | StreamEvent::Closed(_) => {
                assert!(view.connections.remove(&socket));
                self.outputs.push_back(ChannelOutput::Close(socket));
            }
            other => panic!("{other:?}"),
        }
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn send(&mut self, _: bytes::Bytes, _: Instant) -> Result<(), SendError> {
        Err(SendError::NotWritable)
    }
    fn pause(&mut self, paused: bool, _: Instant) {
        for connection in &self.view.lock().unwrap().connections {
            self.outputs
                .push_back(ChannelOutput::Hold(*connection, paused));
        }
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<ChannelOutput> {
        let brought = self.view.lock().unwrap().inbox.pop_front();
        let brought = brought.map(|bytes| ChannelOutput::Packet(bytes.into()));
        brought.or_else(|| self.outputs.pop_front())
    }
}

/// An endpoint with a session whose channel listens.
struct Side {
    endpoint: Endpoint,
    session: SessionId,
    seen: mpsc::Receiver<Seen>,
    view: Arc<Mutex<View>>,
    address: SocketAddr,
}

impl Side {
    async fn new(router: &Router, greeting: usize) -> Self {
        let transport = Listener {
            greeting: vec![7; greeting].into(),
            ..Listener::default()
        };
        let view = transport.view.clone();
        let (mut manager, seen) = probe::bare_manager(false);
        manager.add_transport(transport).unwrap();
        let endpoint = Endpoint::spawn(manager, router.link("us@example.org/1"));
        let session = endpoint.update(|manager, now| {
            let us = Peer::from("us@example.org/1");
            let id = manager.create_session(us, TYPE, now).unwrap();
            let session = manager.session(id).unwrap();
            let to = "silent@example.org/1".into();
            session
                .initiate_with(to, vec![], probe::description(), now)
                .unwrap();
            id
        });
        let address = soon(async {
            loop {
                if let Some(address) = view.lock().unwrap().address {
                    return address;
                }
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        Self {
            endpoint,
            session,
            seen,
            view,
            address,
        }
    }

    async fn wait(&self, met: impl Fn(&View) -> bool) {
        soon(async {
            while !met(&self.view.lock().unwrap()) {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    fn pause(&self, paused: bool) {
        self.endpoint.update(|manager, now| {
            let session = manager.session(self.session).unwrap();
            let channel = session.channel(CHANNEL).unwrap();
            session.pause(channel, paused, now);
        });
    }
}

#[tokio::test]
async fn a_listener_has_so_many_connections_and_no_more() {
    let router = Router::new();
    let _silent = router.link("silent@example.org/1");
    let us = Side::new(&router, 0).await;
    let mut connections = Vec::new();
    for _ in 0..ACCEPTED_CONNECTIONS + 5 {
        connections.push(TcpStream::connect(us.address).await.unwrap());
    }
    us.wait(|view| view.connections.len() == ACCEPTED_CONNECTIONS)
        .await;
    let mut refused = 0;
    for connection in &mut connections {
        let mut byte = [0];
        let read = timeout(Duration::from_millis(20), connection.read(&mut byte)).await;
        refused += usize::from(read.is_ok());
    }
    assert_eq!(refused, 5);
    assert_eq!(us.endpoint.stats().connections_refused, 5);
    drop(connections);
    us.wait(|view| view.connections.is_empty()).await;
    let again = TcpStream::connect(us.address).await.unwrap();
    us.wait(|view| view.connections.len() == 1).await;

    // With the session its sockets go.
    us.endpoint.update(|manager, now| {
        let session = manager.session(us.session).unwrap();
        session
            .terminate(Reason::new(ReasonCondition::Gone), now)
            .unwrap();
    });
    let mut again = again;
    let mut byte = [0];
    let read = soon(again.read(&mut byte)).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    let refused = TcpStream::connect(us.address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_connection_that_is_held_holds_its_peer() {
    const MOST: usize = 256 << 20;
    let router = Router::new();
    let _silent = router.link("silent@example.org/1");
    let mut us = Side::new(&router, 0).await;
    let mut peer = TcpStream::connect(us.address).await.unwrap();
    us.wait(|view| view.connections.len() == 1).await;
    us.pause(true);
    let piece = vec![1; 1 << 20];
    let mut written = 0;
    while written < MOST
        && let Ok(count) = timeout(Duration::from_millis(200), peer.write(&piece)).await
    {
        written += count.unwrap();
    }
    assert!(written < MOST, "the peer was not held back");
    let packets = |seen: &mut mpsc::Receiver<Seen>| {
        let mut bytes = 0;
        while let Ok(seen) = seen.try_recv() {
            if let Seen::Packet(packet) = seen {
                bytes += packet.len();
            }
        }
        bytes
    };
    let before = packets(&mut us.seen);
    us.pause(false);
    drop(peer);
    us.wait(|view| view.connections.is_empty()).await;
    assert_eq!(before + packets(&mut us.seen), written);
}

#[tokio::test]
async fn what_was_written_leaves_although_everything_closes() {
    const GREETING: usize = 10 << 20;
    let router = Router::new();
    let _silent = router.link("silent@example.org/1");
    let us = Side::new(&router, GREETING).await;
    let mut peer = TcpStream::connect(us.address).await.unwrap();
    us.wait(|view| view.written == GREETING && view.buffered > 0)
        .await;
    let endpoint = us.endpoint.clone();
    let closing = tokio::spawn(async move {
        let reason = Reason::new(ReasonCondition::Gone);
        endpoint.shutdown(reason, Duration::from_millis(500)).await
    });
    sleep(Duration::from_millis(20)).await;
    let mut all = Vec::new();
    soon(peer.read_to_end(&mut all)).await.unwrap();
    assert_eq!(all.len(), GREETING);
    drop(peer);
    assert!(!closing.await.unwrap(), "the silent one has not confirmed");
}

#[tokio::test]
async fn a_transport_with_io_of_its_own_wakes_the_driver() {
    let router = Router::new();
    let _silent = router.link("silent@example.org/1");
    let mut us = Side::new(&router, 0).await;
    sleep(Duration::from_millis(10)).await;
    let view = us.view.clone();
    std::thread::spawn(move || {
        let mut view = view.lock().unwrap();
        view.inbox.push_back("from a thread".into());
        let waker = view.waker.clone();
        drop(view);
        waker.unwrap().wake();
    });
    loop {
        if let Seen::Packet(packet) = soon(us.seen.recv()).await.unwrap() {
            assert_eq!(packet, "from a thread");
            return;
        }
    }
}
