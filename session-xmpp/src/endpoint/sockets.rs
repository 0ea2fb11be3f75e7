//! The sockets that a manager asked for, by its numbers, and the tasks that serve them.

use super::{
    Shared, lock,
    tcp::{self, News, Outbox, socket_error},
    tls::{self, Connection},
    udp::Udp,
};
use bytes::Bytes;
use session_core::{
    BindKind, Input, LocalSocket, SocketError, SocketId, StreamEvent, StreamTarget,
};
use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::mpsc,
    task::AbortHandle,
    time::sleep,
};
use tracing::debug;

/// Connections that one listener may have at a time. Past it a new one is closed at once.
pub const ACCEPTED_CONNECTIONS: usize = 64;

/// How long a listener waits after an error that is not about a connection: the first time, and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// What is open.
#[derive(Debug)]
pub(super) struct Sockets {
    table: HashMap<SocketId, Socket>,
    next_accepted: u32,
    /// Dropped with a socket: whoever keeps something for it sees it go.
    #[cfg(feature = "port-mapping")]
    keepers: HashMap<SocketId, tokio::sync::oneshot::Sender<Infallible>>,
    /// Held by every task that still has bytes to send after its socket was closed.
    alive: mpsc::Sender<Infallible>,
}

#[derive(Debug)]
enum Socket {
    Udp(Arc<Udp>, #[allow(dead_code, reason = "ends with it")] Task),
    Listener(
        #[cfg_attr(
            not(feature = "port-mapping"),
            allow(dead_code, reason = "for what is kept")
        )]
        SocketAddr,
        #[allow(dead_code, reason = "ends with it")] Task,
    ),
    Reserved(#[allow(dead_code, reason = "the port is free again without it")] TcpSocket),
    Connection(Closing),
}

/// A socket, and when it is closed.
#[cfg(feature = "port-mapping")]
pub(super) struct Kept {
    pub(super) kind: BindKind,
    pub(super) local: SocketAddr,
    pub(super) closed: tokio::sync::oneshot::Receiver<Infallible>,
}

/// A task that ends with its socket.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection whose outbox is closed with its socket; the task goes on until that is empty.
#[derive(Debug)]
struct Closing(Arc<Outbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Sockets {
    /// None yet, and what ends when the last connection has sent its last byte.
    pub(super) fn new() -> (Self, mpsc::Receiver<Infallible>) {
        let (alive, ended) = mpsc::channel(1);
        let sockets = Self {
            table: HashMap::new(),
            next_accepted: LocalSocket::FIRST_ACCEPTED,
            #[cfg(feature = "port-mapping")]
            keepers: HashMap::new(),
            alive,
        };
        (sockets, ended)
    }

    /// Opens a UDP socket or a listener; the address that it has.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn bind(
        &mut self,
        shared: &Arc<Shared>,
        id: SocketId,
        kind: BindKind,
        address: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        let _guard = shared.runtime.enter();
        let opened = match kind {
            BindKind::Udp => Self::bind_udp(shared, id, address),
            BindKind::TcpListener => Self::listen(shared, id, address),
            BindKind::TcpReserved => tcp::reserve(address).and_then(|socket| {
                let local = socket.local_addr()?;
                Ok((Socket::Reserved(socket), local))
            }),
        };
        let (socket, local) = opened.map_err(|error| {
            debug!(%error, %address, ?kind, "cannot open a socket");
            socket_error("bind", &error)
        })?;
        self.table.insert(id, socket);
        Ok(local)
    }

    fn bind_udp(
        shared: &Arc<Shared>,
        id: SocketId,
        address: SocketAddr,
    ) -> io::Result<(Socket, SocketAddr)> {
        let udp = Arc::new(Udp::bind(address, shared.counters.clone())?);
        let local = udp.local_addr()?;
        let (socket, pool, core) = (udp.clone(), shared.pool.clone(), Arc::downgrade(shared));
        let task = shared.runtime.spawn(async move {
            let deliver = |received: &mut Vec<_>| {
                let Some(shared) = core.upgrade() else { return };
                shared.update(|manager, now| {
                    for super::pool::Received {
                        source,
                        payload,
                        segment_size,
                    } in received.drain(..)
                    {
                        let input = Input::Datagram {
                            socket: id,
                            source,
                            payload,
                            segment_size,
                        };
                        manager.handle_input(input, now);
                    }
                });
            };
            socket.run(&pool, deliver).await;
        });
        Ok((Socket::Udp(udp, Task(task.abort_handle())), local))
    }

    fn listen(
        shared: &Arc<Shared>,
        id: SocketId,
        address: SocketAddr,
    ) -> io::Result<(Socket, SocketAddr)> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let local = listener.local_addr()?;
        let task = shared
            .runtime
            .spawn(accept(listener, id, Arc::downgrade(shared)));
        Ok((Socket::Listener(local, Task(task.abort_handle())), local))
    }

    /// Opens a connection; its events tell the rest.
    pub(super) fn connect(&mut self, shared: &Arc<Shared>, id: SocketId, target: StreamTarget) {
        let outbox = Arc::<Outbox>::default();
        let (core, alive) = (Arc::downgrade(shared), self.alive.clone());
        let trust = shared.trust.clone();
        self.table
            .insert(id, Socket::Connection(Closing(outbox.clone())));
        shared.runtime.spawn(async move {
            let opened = tokio::select! {
                opened = tls::connect(&target, &trust) => opened,
                () = outbox.closed() => return,
            };
            let (connection, event) = match opened {
                Ok((connection, local)) => (Some(connection), Ok(local)),
                Err(error) => {
                    debug!(%error, address = %target.address, "cannot connect");
                    (None, Err(error))
                }
            };
            tell(&core, id, StreamEvent::Connected(event));
            match connection {
                Some(Connection::Plain(stream)) => serve(stream, id, &outbox, &core).await,
                Some(Connection::Tls(stream)) => serve(stream, id, &outbox, &core).await,
                None => outbox.discard(),
            }
            drop(alive);
        });
    }

    /// Bytes for a connection, in order. For what is none, they are lost with it.
    pub(super) fn write(&self, id: SocketId, bytes: Bytes) {
        if let Some(Socket::Connection(connection)) = self.table.get(&id) {
            connection.0.write(bytes);
        }
    }

    /// Stops or resumes the reading of a connection.
    pub(super) fn hold(&self, id: SocketId, held: bool) {
        if let Some(Socket::Connection(connection)) = self.table.get(&id) {
            connection.0.hold(held);
        }
    }

    /// Ends the writing of a connection, after what was written before.
    pub(super) fn shutdown(&self, id: SocketId) {
        if let Some(Socket::Connection(connection)) = self.table.get(&id) {
            connection.0.shutdown();
        }
    }

    /// Datagrams for a UDP socket. For what is none, they are lost.
    pub(super) fn transmit(&self, id: SocketId, to: SocketAddr, payload: Bytes, segment: usize) {
        if let Some(Socket::Udp(udp, _)) = self.table.get(&id) {
            udp.send(to, payload, segment);
        }
    }

    /// Closes a socket. What was written to it is still sent.
    pub(super) fn close(&mut self, id: SocketId) {
        self.table.remove(&id);
        #[cfg(feature = "port-mapping")]
        self.keepers.remove(&id);
    }

    /// A socket for which something is to be kept as long as it is open.
    #[cfg(feature = "port-mapping")]
    pub(super) fn kept(&mut self, id: SocketId) -> Option<Kept> {
        let (kind, local) = match self.table.get(&id)? {
            Socket::Udp(udp, _) => (BindKind::Udp, udp.local_addr().ok()?),
            Socket::Listener(local, _) => (BindKind::TcpListener, *local),
            Socket::Reserved(socket) => (BindKind::TcpReserved, socket.local_addr().ok()?),
            Socket::Connection(_) => return None,
        };
        let (keeper, closed) = tokio::sync::oneshot::channel();
        self.keepers.insert(id, keeper);
        Some(Kept {
            kind,
            local,
            closed,
        })
    }

    /// Numbers an accepted connection and serves it.
    fn accepted(
        &mut self,
        shared: &Arc<Shared>,
        listener: SocketId,
        stream: TcpStream,
        count: Arc<AtomicUsize>,
    ) -> Option<LocalSocket> {
        if !self.table.contains_key(&listener) {
            return None;
        }
        let id = loop {
            let number = LocalSocket(self.next_accepted);
            self.next_accepted = (self.next_accepted + 1).max(LocalSocket::FIRST_ACCEPTED);
            let id = listener.sibling(number);
            if !self.table.contains_key(&id) {
                break id;
            }
        };
        let outbox = Arc::<Outbox>::default();
        self.table
            .insert(id, Socket::Connection(Closing(outbox.clone())));
        let (core, alive) = (Arc::downgrade(shared), self.alive.clone());
        count.fetch_add(1, Ordering::Relaxed);
        shared.runtime.spawn(async move {
            serve(stream, id, &outbox, &core).await;
            count.fetch_sub(1, Ordering::Relaxed);
            drop(alive);
        });
        Some(id.socket)
    }
}

/// Reads and writes a connection to its end.
async fn serve<S>(stream: S, id: SocketId, outbox: &Outbox, core: &Weak<Shared>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let tell = |news| {
        let Some(shared) = core.upgrade() else { return };
        // What waits is counted under the lock, so that the channel knows what it has written since.
        shared.update(|manager, now| {
            let event = match news {
                News::Data(bytes) => StreamEvent::Data(bytes),
                News::Progress => StreamEvent::Buffered(outbox.buffered()),
                News::Finished => StreamEvent::Finished,
                News::Failed(error) => StreamEvent::Closed(Some(error)),
            };
            manager.handle_input(Input::Stream { socket: id, event }, now);
        });
    };
    tcp::run(stream, outbox, tell).await;
}

async fn accept(listener: TcpListener, id: SocketId, core: Weak<Shared>) {
    let count = Arc::<AtomicUsize>::default();
    let mut backoff = BACKOFF_MIN;
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                debug!(%error, ?backoff, "a listener fails");
                sleep(backoff).await;
                backoff = BACKOFF_MAX.min(backoff * 2);
                continue;
            }
        };
        backoff = BACKOFF_MIN;
        let Some(shared) = core.upgrade() else { return };
        if count.load(Ordering::Relaxed) >= ACCEPTED_CONNECTIONS {
            shared.counters.connections_refused.add(1);
            continue;
        }
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection ended before it began");
            continue;
        }
        let mut guard = lock(&shared.core);
        let core = &mut *guard;
        let number = core.sockets.accepted(&shared, id, stream, count.clone());
        if let Some(connection) = number {
            let event = StreamEvent::Accepted { connection, remote };
            core.input(&shared, Input::Stream { socket: id, event });
        }
    }
}

fn tell(core: &Weak<Shared>, id: SocketId, event: StreamEvent) {
    if let Some(shared) = core.upgrade() {
        let input = Input::Stream { socket: id, event };
        lock(&shared.core).input(&shared, input);
    }
}
