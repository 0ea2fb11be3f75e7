//! A stream socket: one task that reads and writes, an outbox that anybody can fill.

use super::lock;
use bytes::{Buf, Bytes, BytesMut};
use session_core::SocketError;
use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::pin,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::{TcpSocket, TcpStream},
    sync::Notify,
    time::timeout,
};

/// Bytes that may wait in one connection's outbox. A channel that is told how many wait and writes on is broken, and so
/// is its connection.
pub(super) const OUTBOX_BYTES: usize = 16 << 20;

/// What is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Less free space than this in a read buffer calls for a new one.
const READ_BYTES_MIN: usize = 4 * 1024;

/// How long a closed connection may make no progress in getting rid of its last bytes.
const LINGER: Duration = Duration::from_secs(20);

/// A port that connections are opened from, as long as this is held.
///
/// # Errors
/// What the system says.
pub(super) fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Several sockets have the port: the one that holds it, and one for each connection.
    socket.set_reuseaddr(true)?;
    #[cfg(unix)]
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Connects from a port that is reserved.
///
/// # Errors
/// What the system says.
pub(super) async fn connect_from(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    reserve(from)?.connect(to).await
}

/// What a connection tells about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Bytes arrived.
    Data(Bytes),
    /// Something of the outbox has left.
    Progress,
    /// The peer will send nothing more.
    Finished,
    /// The connection is gone. Nothing follows.
    Failed(SocketError),
}

/// The near end of a connection, which its task empties.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    state: Mutex<OutboxState>,
    /// Accepted and not yet left, what the task has taken included.
    buffered: AtomicUsize,
    bell: Notify,
}

#[derive(Debug, Default)]
struct OutboxState {
    chunks: VecDeque<Bytes>,
    closed: bool,
    overflowed: bool,
    /// Nothing is to be read.
    held: bool,
    /// Nothing more will be written, and reading goes on.
    ended: bool,
}

impl Outbox {
    /// Takes bytes to be written after all before.
    pub(super) fn write(&self, bytes: Bytes) {
        let mut state = lock(&self.state);
        let buffered = self.buffered();
        if state.closed || state.ended || state.overflowed || bytes.is_empty() {
            return;
        }
        if buffered + bytes.len() > OUTBOX_BYTES {
            state.overflowed = true;
        } else {
            self.buffered.fetch_add(bytes.len(), Ordering::Relaxed);
            state.chunks.push_back(bytes);
        }
        drop(state);
        self.bell.notify_one();
    }

    /// Stops or resumes reading.
    pub(super) fn hold(&self, held: bool) {
        lock(&self.state).held = held;
        self.bell.notify_one();
    }

    /// Nothing more will be written. The peer is told once what was has left.
    pub(super) fn shutdown(&self) {
        lock(&self.state).ended = true;
        self.bell.notify_one();
    }

    /// How many bytes have not left yet.
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Nothing more will be written. What was, is still sent; what arrives is thrown away.
    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.bell.notify_one();
    }

    /// Closes it and throws away what waits: nobody will send it.
    pub(super) fn discard(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        state.chunks.clear();
        self.buffered.store(0, Ordering::Relaxed);
    }

    /// Waits until it is closed.
    pub(super) async fn closed(&self) {
        while !lock(&self.state).closed {
            self.bell.notified().await;
        }
    }

    /// Moves what waits to the task, and tells it what to do.
    fn take(&self, chunks: &mut VecDeque<Bytes>) -> Order {
        let mut state = lock(&self.state);
        chunks.append(&mut state.chunks);
        match *state {
            OutboxState { closed: true, .. } => Order::Close,
            OutboxState {
                overflowed: true, ..
            } => Order::Fail,
            OutboxState { held, ended, .. } => Order::Serve { held, ended },
        }
    }
}

/// What a connection's task is to do.
enum Order {
    Serve { held: bool, ended: bool },
    Close,
    Fail,
}

/// Reads and writes until the connection fails, or is closed and empty.
pub(super) async fn run<S: AsyncRead + AsyncWrite>(
    stream: S,
    outbox: &Outbox,
    mut tell: impl FnMut(News),
) {
    let (mut reader, writer) = split(stream);
    let mut writing = Writing {
        writer,
        chunks: Chunks::default(),
        written: 0,
        flushed: true,
        ended: false,
    };
    let mut block = BytesMut::new();
    let mut reading = true;
    let failure = loop {
        let held = match outbox.take(&mut writing.chunks.0) {
            Order::Serve { held, ended } => {
                if ended && !writing.is_pending() && !std::mem::replace(&mut writing.ended, true) {
                    // What fails here fails again where it is noticed: in reading.
                    let _ = timeout(LINGER, writing.writer.shutdown()).await;
                }
                held
            }
            Order::Close => return close(reader, writing, outbox).await,
            Order::Fail => break io::Error::other("written to without regard for its buffer"),
        };
        if block.capacity() < READ_BYTES_MIN {
            block.reserve(READ_BYTES);
        }
        tokio::select! {
            read = reader.read_buf(&mut block), if reading && !held => match read {
                Ok(0) => {
                    reading = false;
                    block = BytesMut::new();
                    tell(News::Finished);
                }
                Ok(_) => tell(News::Data(block.split().freeze())),
                Err(error) => break error,
            },
            written = writing.some(), if writing.is_pending() => match written {
                Ok(count) => {
                    outbox.buffered.fetch_sub(count, Ordering::Relaxed);
                    tell(News::Progress);
                }
                Err(error) => break error,
            },
            () = outbox.bell.notified() => {}
        }
    };
    outbox.discard();
    tell(News::Failed(socket_error("a connection", &failure)));
}

/// The system's error as the core has it.
pub(super) fn socket_error(what: &'static str, error: &io::Error) -> SocketError {
    SocketError {
        what,
        why: error.to_string().into(),
    }
}

/// Sends the last bytes and the end, and waits for the peer's: a system that closes a connection with unread bytes resets
/// it, and the peer may lose what it has not read yet (RFC 1122 §4.2.2.13).
async fn close<S: AsyncRead + AsyncWrite>(
    mut reader: ReadHalf<S>,
    mut writing: Writing<S>,
    outbox: &Outbox,
) {
    let discard = async {
        let mut waste = vec![0; READ_BYTES_MIN];
        while matches!(reader.read(&mut waste).await, Ok(count) if count > 0) {}
    };
    let flush = async {
        while writing.is_pending() {
            match timeout(LINGER, writing.some()).await {
                Ok(Ok(count)) => outbox.buffered.fetch_sub(count, Ordering::Relaxed),
                Ok(Err(_)) | Err(_) => return,
            };
        }
        let _ = timeout(LINGER, writing.writer.shutdown()).await;
    };
    let (mut discard, mut flush) = (pin!(discard), pin!(flush));
    tokio::select! {
        () = &mut discard => flush.await,
        () = &mut flush => {
            let _ = timeout(LINGER, discard).await;
        }
    }
}

struct Writing<S> {
    writer: WriteHalf<S>,
    chunks: Chunks,
    /// Taken by the connection and not reported yet.
    written: usize,
    flushed: bool,
    /// The peer was told that nothing more comes.
    ended: bool,
}

impl<S: AsyncWrite> Writing<S> {
    fn is_pending(&self) -> bool {
        self.chunks.has_remaining() || !self.flushed
    }

    /// Writes what the connection takes; the number of bytes. Cancel-safe.
    async fn some(&mut self) -> io::Result<usize> {
        if self.chunks.has_remaining() {
            self.flushed = false;
            let count = self.writer.write_buf(&mut self.chunks).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        }
        if !self.chunks.has_remaining() {
            // TLS may have encrypted more than the system took.
            self.writer.flush().await?;
            self.flushed = true;
        }
        Ok(std::mem::take(&mut self.written))
    }
}

/// Several buffers as one, so that they go out with one system call.
#[derive(Debug, Default)]
struct Chunks(VecDeque<Bytes>);

impl Buf for Chunks {
    fn remaining(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    fn has_remaining(&self) -> bool {
        !self.0.is_empty()
    }

    fn chunk(&self) -> &[u8] {
        self.0.front().map_or(&[], |chunk| chunk)
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let filled = slices.iter_mut().zip(&self.0);
        filled
            .map(|(slice, chunk)| *slice = IoSlice::new(chunk))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.0.front_mut() {
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.0.pop_front();
        }
        debug_assert_eq!(count, 0, "advanced past the end");
    }
}

#[cfg(test)]
mod tests;
