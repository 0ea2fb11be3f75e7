//! Several connections of a component as one link.

use super::{
    COMPONENT_OUTBOX_BYTES, CONNECTIONS_MAX, ComponentOptions, ComponentOutput, ComponentState,
    ComponentStream,
};
use crate::{
    client::{LoginError, backoff::Backoff, driver::random},
    endpoint::{LinkError, LinkEvent, lock},
};
use bytes::{Buf, Bytes, BytesMut};
use session_core::{Peer, Signal, Slot};
use std::{
    collections::VecDeque,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};

/// Stanzas that may wait for the endpoint before no more is read from the server.
const EVENTS_MAX: usize = 4_096;

/// Bytes of stanzas that may wait for the endpoint before no more is read from the server.
const EVENTS_BYTES: usize = 8 << 20;

/// The most that is read at once.
const READ_BYTES: usize = 64 * 1024;

/// How long the last bytes may take.
const LINGER: Duration = Duration::from_secs(2);

/// What all connections share.
pub(super) struct Lanes {
    address: Peer,
    options: ComponentOptions,
    inner: Mutex<Inner>,
    /// One for each connection: there is something to send, or room to read.
    bells: Vec<Notify>,
}

struct Inner {
    streams: Vec<ComponentStream>,
    events: VecDeque<LinkEvent>,
    /// Of stanzas among the events.
    bytes: usize,
    state: Signal<ComponentState>,
    /// Tasks that run.
    running: usize,
    closing: bool,
    waker: Option<Waker>,
}

impl Lanes {
    pub(super) fn start(options: ComponentOptions) -> Arc<Self> {
        let count = options.connections.clamp(1, CONNECTIONS_MAX);
        let stream =
            || ComponentStream::new(&*options.domain, options.secret.clone(), options.limits);
        let mut state = Signal::new();
        state.emit(ComponentState::default());
        let lanes = Arc::new(Self {
            address: Peer::from(&*options.domain),
            inner: Mutex::new(Inner {
                streams: (0..count).map(|_| stream()).collect(),
                events: VecDeque::new(),
                bytes: 0,
                state,
                running: count,
                closing: false,
                waker: None,
            }),
            bells: (0..count).map(|_| Notify::new()).collect(),
            options,
        });
        for number in 0..count {
            tokio::spawn(run(lanes.clone(), number));
        }
        lanes
    }

    pub(super) fn address(&self) -> &Peer {
        &self.address
    }

    pub(super) fn state(&self) -> ComponentState {
        lock(&self.inner).state.last().cloned().unwrap_or_default()
    }

    pub(super) fn connect_state(&self) -> Slot<ComponentState> {
        lock(&self.inner).state.connect()
    }

    /// Gives a stanza to the connection on which all between its two ends goes.
    pub(super) fn send(&self, stanza: &[u8]) -> Result<(), LinkError> {
        let mut inner = lock(&self.inner);
        let ends = Ends::read(stanza);
        let up = inner
            .streams
            .iter()
            .filter(|stream| stream.is_online())
            .count();
        let nth = (ends.lane() % up.max(1) as u64) as usize;
        let online = inner
            .streams
            .iter_mut()
            .enumerate()
            .filter(|(_, stream)| stream.is_online());
        let Some((number, stream)) = online.into_iter().nth(nth) else {
            return Err(LinkError::Down);
        };
        if stream.waiting() + stanza.len() > COMPONENT_OUTBOX_BYTES {
            return Err(LinkError::Full);
        }
        if ends.from.is_empty() {
            let name = ends.name;
            stream.send(&stanza[..name]);
            let from = format!(" from='{}'", self.options.domain);
            stream.send(from.as_bytes());
            stream.send(&stanza[name..]);
        } else {
            stream.send(stanza);
        }
        drop(inner);
        self.bells[number].notify_one();
        Ok(())
    }

    pub(super) fn poll_event(&self, cx: &Context<'_>) -> Poll<Option<LinkEvent>> {
        let mut inner = lock(&self.inner);
        let Some(event) = inner.events.pop_front() else {
            if inner.running == 0 {
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
            self.bells.iter().for_each(Notify::notify_one);
        }
        Poll::Ready(Some(event))
    }

    pub(super) fn poll_close(&self, cx: &Context<'_>) -> Poll<()> {
        self.close();
        let mut inner = lock(&self.inner);
        if inner.running == 0 {
            return Poll::Ready(());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    pub(super) fn close(&self) {
        let mut inner = lock(&self.inner);
        if !inner.closing {
            inner.closing = true;
            inner.streams.iter_mut().for_each(ComponentStream::close);
            self.bells.iter().for_each(Notify::notify_one);
        }
    }

    /// Lets `f` act on a connection's machine, and tells what it says. Why the connection is to end, if it is.
    fn update(&self, number: usize, f: impl FnOnce(&mut ComponentStream)) -> Option<LoginError> {
        let mut inner = lock(&self.inner);
        f(&mut inner.streams[number]);
        let mut end = None;
        let mut told = false;
        while let Some(output) = inner.streams[number].poll_output() {
            match output {
                ComponentOutput::Up => {
                    let mut state = inner.state.last().cloned().unwrap_or_default();
                    state.connections += 1;
                    if state.connections == 1 {
                        inner.events.push_back(LinkEvent::Up(self.address.clone()));
                    }
                    inner.state.emit(state);
                }
                ComponentOutput::Stanza(stanza) => {
                    inner.bytes += stanza.len();
                    inner.events.push_back(LinkEvent::Stanza(stanza));
                }
                ComponentOutput::Disconnect(why) => end = Some(why),
            }
            told = true;
        }
        wake(inner, told);
        end
    }

    /// A connection is gone; `was_up` if it stood. Whether to try again.
    fn lost(&self, number: usize, why: &LoginError, was_up: bool) -> bool {
        let mut inner = lock(&self.inner);
        inner.streams[number].handle_disconnected();
        let again = why.is_temporary() && !inner.closing;
        if !again {
            inner.running -= 1;
        }
        let mut state = inner.state.last().cloned().unwrap_or_default();
        state.connections -= usize::from(was_up);
        if was_up && state.connections == 0 {
            let why = why.to_string().into();
            inner.events.push_back(LinkEvent::Down(why));
        }
        state.why = Some(why.clone());
        state.ended = inner.running == 0;
        inner.state.emit(state);
        wake(inner, true);
        again
    }
}

fn wake(mut inner: std::sync::MutexGuard<'_, Inner>, told: bool) {
    let waker = inner.waker.take_if(|_| told);
    drop(inner);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Inner {
    fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= EVENTS_BYTES
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes")
            .field("address", &self.address)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// Connects again and again, until that makes no sense or nobody wants it any more.
async fn run(lanes: Arc<Lanes>, number: usize) {
    let mut backoff = Backoff::default();
    loop {
        let (why, was_up) = attempt(&lanes, number).await;
        if was_up {
            backoff.succeed();
        }
        if !lanes.lost(number, &why, was_up) {
            return;
        }
        let mut spread = [0; 4];
        random(&mut spread);
        tokio::select! {
            () = sleep(backoff.fail(u32::from_le_bytes(spread))) => {}
            () = closing(&lanes, number) => {}
        }
    }
}

/// Ends when the link is to be closed.
async fn closing(lanes: &Lanes, number: usize) {
    while !lock(&lanes.inner).closing {
        lanes.bells[number].notified().await;
    }
}

/// One connection, from its beginning to its end; why it ended, and whether it stood.
async fn attempt(lanes: &Lanes, number: usize) -> (LoginError, bool) {
    let options = &lanes.options;
    if lock(&lanes.inner).closing {
        return (LoginError::Closed, false);
    }
    let place = (options.host.as_str(), options.port);
    let connected = timeout(options.login_timeout, TcpStream::connect(place)).await;
    let stream = match connected {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            let why = format!("{} port {}: {error}", place.0, place.1);
            return (LoginError::Unreachable(why.into()), false);
        }
        Err(_) => return (LoginError::Timeout, false),
    };
    let here = stream
        .peer_addr()
        .is_ok_and(|address| address.ip().is_loopback());
    if !here && !options.allow_unencrypted {
        return (LoginError::NoTls, false);
    }
    // Signalling is small messages that wait for one another.
    let _ = stream.set_nodelay(true);
    if let Some(why) = lanes.update(number, ComponentStream::handle_connected) {
        return (why, false);
    }
    let why = converse(lanes, number, stream).await;
    let was_up = lock(&lanes.inner).streams[number].was_up();
    (why, was_up)
}

/// Carries bytes between a machine and its connection; why that ended.
async fn converse(lanes: &Lanes, number: usize, mut stream: TcpStream) -> LoginError {
    let (mut reader, mut writer) = stream.split();
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    let mut unsent = Bytes::new();
    let login = sleep(lanes.options.login_timeout);
    tokio::pin!(login);
    let mut ending = None;
    loop {
        if unsent.is_empty() {
            unsent = lock(&lanes.inner).streams[number].transmit();
        }
        // A link that is closed says so by its machine.
        ending = ending.or_else(|| lanes.update(number, |_| ()));
        if let Some(why) = ending {
            let last = async {
                let _ = writer.write_all(&unsent).await;
                let rest = lock(&lanes.inner).streams[number].transmit();
                let _ = writer.write_all(&rest).await;
                let _ = writer.shutdown().await;
            };
            let _ = timeout(LINGER, last).await;
            return why;
        }
        let (may_read, online) = {
            let inner = lock(&lanes.inner);
            (!inner.is_full(), inner.streams[number].is_online())
        };
        tokio::select! {
            read = reader.read_buf(&mut buffer), if may_read => match read {
                Ok(0) => return LoginError::Closed,
                Ok(_) => {
                    ending = lanes.update(number, |stream| stream.handle_bytes(&buffer));
                    buffer.clear();
                }
                Err(error) => return LoginError::Unreachable(error.to_string().into()),
            },
            written = writer.write(&unsent), if !unsent.is_empty() => match written {
                Ok(0) => return LoginError::Closed,
                Ok(count) => unsent.advance(count),
                Err(error) => return LoginError::Unreachable(error.to_string().into()),
            },
            () = lanes.bells[number].notified() => {}
            () = &mut login, if !online => return LoginError::Timeout,
        }
    }
}

/// Between whom a stanza goes, as its start tag says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ends<'a> {
    /// Where the element's name ends.
    name: usize,
    from: &'a [u8],
    to: &'a [u8],
}

impl<'a> Ends<'a> {
    /// Looks at a start tag that XML's writer has written: quotes are balanced, and no value holds its own.
    fn read(stanza: &'a [u8]) -> Self {
        let is_end = |byte: &u8| matches!(byte, b' ' | b'/' | b'>' | b'\t' | b'\n' | b'\r');
        let name = stanza.iter().position(is_end).unwrap_or(stanza.len());
        let mut ends = Self {
            name,
            ..Self::default()
        };
        let mut rest = &stanza[name..];
        loop {
            let skip = rest.iter().position(|byte| !byte.is_ascii_whitespace());
            rest = skip.map_or(&[], |skip| &rest[skip..]);
            if rest.is_empty() || matches!(rest[0], b'>' | b'/') {
                return ends;
            }
            let Some(equals) = memchr::memchr(b'=', rest) else {
                return ends;
            };
            let key = rest[..equals].trim_ascii();
            let after = rest[equals + 1..].trim_ascii_start();
            let Some((&quote, value)) = after.split_first() else {
                return ends;
            };
            let Some(close) = memchr::memchr(quote, value) else {
                return ends;
            };
            match key {
                b"from" => ends.from = &value[..close],
                b"to" => ends.to = &value[..close],
                _ => {}
            }
            rest = &value[close + 1..];
        }
    }

    /// The same number for all that is said between the two.
    fn lane(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.from, self.to).hash(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_a_stanza_are_found_in_its_start_tag() {
        let ends = |text: &'static str| {
            let ends = Ends::read(text.as_bytes());
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            (ends.name, text(ends.from), text(ends.to))
        };
        let owned = |name, from: &str, to: &str| (name, from.to_owned(), to.to_owned());
        assert_eq!(
            ends("<iq from='a@x' id='1' to=\"b@x\"><q to='c'/></iq>"),
            owned(3, "a@x", "b@x")
        );
        assert_eq!(ends("<message to='b'/>"), owned(8, "", "b"));
        assert_eq!(ends("<iq id=' from=' to = 'b>c'>"), owned(3, "", "b>c"));
        for odd in [
            "",
            "<",
            "<iq",
            "<iq ",
            "<iq a",
            "<iq a=",
            "<iq a='",
            "<iq a='b' ",
        ] {
            let _ = Ends::read(odd.as_bytes());
        }
        assert_eq!(
            Ends::read(b"<iq from='a' to='b'>").lane(),
            Ends::read(b"<message to='b' from='a'/>").lane()
        );
    }
}
