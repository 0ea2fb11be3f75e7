//! Runs a [`Stream`] on tokio: connections, time, and the queue between it and a link.

use super::{
    ClientState, LoginError, Options, Stream,
    backoff::Backoff,
    connect::{self, Connected, Connection},
    stream::Output,
};
use crate::endpoint::{LinkError, LinkEvent, lock, rustls};
use bytes::{Buf, Bytes, BytesMut};
use rustls::crypto::ring::default_provider;
use session_core::{Peer, Signal, Slot};
use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    time::{sleep_until, timeout},
};
use tracing::debug;

/// Stanzas that may wait for the endpoint before no more is read from the server.
const EVENTS_MAX: usize = 1_024;

/// Bytes of stanzas that may wait for the endpoint before no more is read from the server.
const EVENTS_BYTES: usize = 4 << 20;

/// The most that is read at once.
const READ_BYTES: usize = 16 * 1024;

/// How long the last bytes may take.
const CLOSING: Duration = Duration::from_secs(3);

/// How long the server's answer to the end of the stream may take.
const LINGER: Duration = Duration::from_secs(2);

/// What the link, the handles and the driver share.
pub(super) struct Shared {
    inner: Mutex<Inner>,
    /// Rung when there is something to send, or room to read.
    bell: Notify,
}

struct Inner {
    stream: Stream,
    events: VecDeque<LinkEvent>,
    /// Of stanzas among the events.
    bytes: usize,
    state: Signal<ClientState>,
    /// Whether the link has ended, or is to end.
    closing: bool,
    ended: bool,
    waker: Option<Waker>,
}

/// What the machine wants from whoever holds the connection.
enum Want {
    Transmit(Bytes),
    StartTls,
    Disconnect(LoginError),
    Wait(Option<Instant>),
}

impl Shared {
    pub(super) fn new(options: &Options) -> Self {
        let mut state = Signal::new();
        state.emit(ClientState::Connecting { failures: 0 });
        Self {
            inner: Mutex::new(Inner {
                stream: Stream::new(options.login.clone(), random),
                events: VecDeque::new(),
                bytes: 0,
                state,
                closing: false,
                ended: false,
                waker: None,
            }),
            bell: Notify::new(),
        }
    }

    pub(super) fn state(&self) -> ClientState {
        let last = lock(&self.inner).state.last().cloned();
        last.unwrap_or(ClientState::Ended(None))
    }

    pub(super) fn stanza_max(&self) -> Option<usize> {
        lock(&self.inner).stream.stanza_max()
    }

    pub(super) fn connect_state(&self) -> Slot<ClientState> {
        lock(&self.inner).state.connect()
    }

    pub(super) fn send(&self, stanza: Bytes) -> Result<(), LinkError> {
        let sent = lock(&self.inner).stream.send(stanza);
        self.bell.notify_one();
        sent
    }

    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<LinkEvent>> {
        let mut inner = lock(&self.inner);
        let Some(event) = inner.events.pop_front() else {
            if inner.ended {
                return Poll::Ready(None);
            }
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        let was_full = inner.is_full();
        if let LinkEvent::Stanza(stanza) = &event {
            inner.bytes -= stanza.len();
        }
        if was_full && !inner.is_full() {
            self.bell.notify_one();
        }
        Poll::Ready(Some(event))
    }

    pub(super) fn poll_close(&self, cx: &Context<'_>) -> Poll<()> {
        self.close();
        let mut inner = lock(&self.inner);
        if inner.ended {
            return Poll::Ready(());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn close(&self) {
        let mut inner = lock(&self.inner);
        if !inner.closing {
            inner.closing = true;
            inner.stream.close();
            self.bell.notify_one();
        }
    }

    /// Lets `f` act on the machine.
    fn update<R>(&self, f: impl FnOnce(&mut Stream, Instant) -> R) -> R {
        f(&mut lock(&self.inner).stream, Instant::now())
    }

    fn is_closing(&self) -> bool {
        lock(&self.inner).closing
    }

    /// The next thing to be done with the connection; what is to be told is told. While the connection is `blocked`, what is
    /// to be sent waits.
    fn poll(&self, blocked: bool) -> Want {
        let mut inner = lock(&self.inner);
        let (want, waker) = inner.poll(blocked);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        want
    }

    fn set_state(&self, state: ClientState) {
        lock(&self.inner).set_state(state);
    }

    fn end(&self, why: Option<LoginError>) {
        let mut inner = lock(&self.inner);
        inner.ended = true;
        inner.set_state(ClientState::Ended(why));
        let waker = inner.waker.take();
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= EVENTS_BYTES
    }

    fn set_state(&mut self, state: ClientState) {
        debug!(?state, "login");
        self.state.emit(state);
    }

    /// Tells what is to be told, until there is something to do or nothing more.
    fn poll(&mut self, blocked: bool) -> (Want, Option<Waker>) {
        let mut told = false;
        let want = loop {
            let output = if blocked {
                self.stream.poll_blocked()
            } else {
                self.stream.poll_output()
            };
            let event = match output {
                Output::Transmit(bytes) => break Want::Transmit(bytes),
                Output::StartTls => break Want::StartTls,
                Output::Disconnect(why) => break Want::Disconnect(why),
                Output::Wait(until) => break Want::Wait(until),
                Output::Up(address) => {
                    self.online(address.clone(), false);
                    LinkEvent::Up(address)
                }
                Output::Resumed => {
                    if let Some(address) = self.stream.address().cloned() {
                        self.online(address, true);
                    }
                    LinkEvent::Resumed
                }
                Output::Suspended => LinkEvent::Suspended,
                Output::Stanza(stanza) => {
                    self.bytes += stanza.len();
                    LinkEvent::Stanza(stanza)
                }
                Output::Down(why) => LinkEvent::Down(why.to_string().into()),
            };
            self.events.push_back(event);
            told = true;
        };
        let waker = told.then(|| self.waker.take()).flatten();
        (want, waker)
    }

    fn online(&mut self, address: Peer, resumed: bool) {
        if let Some(mechanism) = self.stream.mechanism() {
            let secured = self.stream.is_secured();
            self.set_state(ClientState::Online {
                address,
                mechanism,
                resumed,
                secured,
            });
        }
    }
}

/// Logs in again and again, until that makes no sense or nobody wants it any more.
pub(super) async fn run(shared: Arc<Shared>, options: Options) {
    let mut backoff = Backoff::default();
    let mut was_online = false;
    let why = loop {
        let failures = backoff.failures();
        shared.set_state(ClientState::Connecting { failures });
        let why = attempt(&shared, &options).await;
        debug!(%why, "the connection ended");
        if let ClientState::Online { .. } = shared.state() {
            was_online = true;
            backoff.succeed();
        }
        shared.update(|stream, now| stream.handle_disconnected(why.clone(), now));
        let _ = shared.poll(true);
        if shared.is_closing() {
            break None;
        }
        if !why.is_temporary() || !(was_online || options.insist) {
            break Some(why);
        }
        let mut spread = [0; 4];
        random(&mut spread);
        let wait = backoff.fail(u32::from_le_bytes(spread));
        let suspended = shared.update(|stream, _| stream.address().is_some());
        shared.set_state(ClientState::Waiting {
            why,
            wait,
            suspended,
        });
        if pause(&shared, wait).await {
            break None;
        }
    };
    shared.end(why);
}

/// Waits. Returns whether it is all over.
async fn pause(shared: &Shared, wait: Duration) -> bool {
    let until = Instant::now() + wait;
    loop {
        let due = match shared.poll(true) {
            Want::Wait(Some(due)) => due.min(until),
            Want::Wait(None) | Want::Transmit(_) | Want::StartTls | Want::Disconnect(_) => until,
        };
        tokio::select! {
            () = sleep_until(due.into()) => {}
            () = shared.bell.notified() => {}
        }
        if shared.is_closing() {
            return true;
        }
        shared.update(|stream, now| stream.handle_timeout(now));
        if Instant::now() >= until {
            return false;
        }
    }
}

/// One connection, from its beginning to its end; why it ended.
async fn attempt(shared: &Shared, options: &Options) -> LoginError {
    let connecting = timeout(options.login.login_timeout, connect::connect(options));
    let Some(connected) = unless_closing(shared, connecting).await else {
        return LoginError::Closed;
    };
    let connected = connected.unwrap_or(Err(LoginError::Timeout));
    let Connected {
        connection,
        secured,
    } = match connected {
        Ok(connected) => connected,
        Err(error) => return error,
    };
    shared.update(|stream, now| stream.handle_connected(secured, now));
    let mut plain = match connection {
        Connection::Plain(plain) => plain,
        Connection::Tls(mut tls) => {
            return converse(shared, &mut *tls).await.unwrap_or_else(broken);
        }
        #[cfg(feature = "websocket")]
        Connection::WebSocket(mut pipe) => {
            return converse(shared, &mut pipe).await.unwrap_or_else(broken);
        }
    };
    if let Some(why) = converse(shared, &mut plain).await {
        return why;
    }
    let securing = connect::secure(plain, options, false);
    let securing = timeout(options.login.login_timeout, securing);
    let Some(secured) = unless_closing(shared, securing).await else {
        return LoginError::Closed;
    };
    match secured.unwrap_or(Err(LoginError::Timeout)) {
        Ok((mut tls, secured)) => {
            shared.update(|stream, _| stream.handle_secured(secured));
            converse(shared, &mut tls).await.unwrap_or_else(broken)
        }
        Err(error) => error,
    }
}

/// What comes of it, unless the link is closed before.
async fn unless_closing<T>(shared: &Shared, work: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(work);
    while !shared.is_closing() {
        tokio::select! {
            done = &mut work => return Some(done),
            () = shared.bell.notified() => {}
        }
    }
    None
}

/// A server that asks for TLS twice.
fn broken() -> LoginError {
    LoginError::protocol("TLS in TLS")
}

/// Carries bytes between the machine and a connection. `None` when the machine wants TLS on it, else why it ended.
async fn converse<S>(shared: &Shared, connection: &mut S) -> Option<LoginError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut unsent = Bytes::new();
    let mut flushed = true;
    loop {
        // Also while nothing can be sent, time passes, and what has arrived is told.
        let until = loop {
            match shared.poll(!unsent.is_empty()) {
                Want::Transmit(bytes) => unsent = bytes,
                Want::StartTls if unsent.is_empty() => return None,
                Want::StartTls => return Some(LoginError::protocol("TLS that was not asked for")),
                Want::Disconnect(why) => {
                    leave(shared, &unsent, &mut reader, &mut writer).await;
                    return Some(why);
                }
                Want::Wait(due) => break due,
            }
        };
        let may_read = !lock(&shared.inner).is_full();
        let due = until.unwrap_or_else(Instant::now);
        let outcome = tokio::select! {
            read = reader.read_buf(&mut buffer), if may_read => read.map(|count| {
                if count == 0 {
                    return false;
                }
                shared.update(|stream, now| stream.handle_bytes(&buffer, now));
                buffer.clear();
                true
            }),
            written = some(&mut writer, &unsent), if !(unsent.is_empty() && flushed) => {
                written.map(|count| {
                    flushed = unsent.is_empty();
                    unsent.advance(count);
                    true
                })
            }
            () = shared.bell.notified() => Ok(true),
            () = sleep_until(due.into()), if until.is_some() => {
                shared.update(|stream, now| stream.handle_timeout(now));
                Ok(true)
            }
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => return Some(LoginError::Closed),
            Err(error) => return Some(LoginError::Unreachable(error.to_string().into())),
        }
    }
}

/// Writes what the connection takes; the number of bytes. TLS may have encrypted more than the system took, so that after
/// the last byte there is something to do. Cancel-safe.
async fn some<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Ends a connection: what is left is said, then the server's end is awaited, so that nothing is reset that it has not read
/// yet. Neither takes longer than it may, whatever the server does.
async fn leave<R, W>(shared: &Shared, unsent: &[u8], reader: &mut R, writer: &mut W)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let said = async {
        writer.write_all(unsent).await?;
        while let Want::Transmit(bytes) = shared.poll(false) {
            writer.write_all(&bytes).await?;
        }
        writer.flush().await?;
        writer.shutdown().await
    };
    let heard = async {
        let mut waste = [0; 1_024];
        while matches!(reader.read(&mut waste).await, Ok(count) if count > 0) {}
    };
    tokio::pin!(heard);
    // A server may read only as long as somebody reads what it says.
    let over = async {
        tokio::select! {
            said = said => said.is_err(),
            () = &mut heard => true,
        }
    };
    if let Ok(false) = timeout(CLOSING, over).await {
        let _ = timeout(LINGER, heard).await;
    }
}

/// Random bytes of the system, by way of the TLS library.
pub(crate) fn random(buffer: &mut [u8]) {
    // A system without randomness has no TLS either, and then no login is protected.
    if default_provider().secure_random.fill(buffer).is_err() {
        debug!("the system has no randomness");
    }
}

#[cfg(test)]
mod tests;
