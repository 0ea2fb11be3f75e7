//! A UDP socket: batches in both directions, a short queue when the system's buffer is full, and errors survived.

mod ready;

use super::{
    Counters, lock,
    pool::{Pool, Received},
};
use bytes::{Buf, Bytes};
use quinn_udp::{Transmit, UdpSockRef, UdpSocketState, is_msg_size_err};
use ready::Readable;
use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Notify, task::coop::consume_budget, time::sleep};
use tracing::{debug, trace};

/// What the system is asked to buffer for a socket, in bytes. It may grant less.
///
/// Bulk data comes in bursts of a congestion window: what does not fit here is lost.
const RECEIVE_BUFFER: usize = 4 << 20;
const SEND_BUFFER: usize = 2 << 20;

/// Bytes that wait while the system's buffer is full. Past it datagrams are lost, as the network might lose them.
const BACKLOG_BYTES: usize = 1 << 20;

/// Datagrams, or batches of them, that wait while the system's buffer is full.
const BACKLOG_ITEMS: usize = 4_096;

/// The largest datagrams that are sent several at a time. The system refuses batches of what exceeds the path's MTU, and
/// hardly anybody's is larger than Ethernet's jumbo frames, so that trying would only cost the others their batches.
const SEGMENT_MAX: usize = 8_972;

/// The most that the system takes in one batch: an IP packet without its headers.
const BATCH_BYTES: usize = 65_535 - 48;

/// How many sends without batches there are between attempts to have batches again.
const OFFLOAD_RETRY: u32 = 4_096;

/// How long a reader waits after an error that is not about a datagram: the first time, and at most.
const BACKOFF_MIN: Duration = Duration::from_millis(1);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One socket. Sending works from any thread; receiving and the backlog take a task that [runs](Self::run).
#[derive(Debug)]
pub(super) struct Udp {
    socket: Readable,
    /// For receiving. Sending has its own, which is renewed now and then.
    state: UdpSocketState,
    outgoing: Mutex<Outgoing>,
    /// Rung when the backlog is no longer empty.
    backlogged: Notify,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Outgoing {
    state: UdpSocketState,
    can_offload: bool,
    unbatched: u32,
    backlog: VecDeque<Datagrams>,
    backlog_bytes: usize,
}

/// What is left to send of a transmit.
#[derive(Debug)]
struct Datagrams {
    destination: SocketAddr,
    payload: Bytes,
    segment_size: usize,
}

impl Udp {
    /// Opens a socket. Only within a runtime.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn bind(address: SocketAddr, counters: Arc<Counters>) -> io::Result<Self> {
        let socket = UdpSocket::bind(address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        for result in [
            state.set_recv_buffer_size(UdpSockRef::from(&socket), RECEIVE_BUFFER),
            state.set_send_buffer_size(UdpSockRef::from(&socket), SEND_BUFFER),
        ] {
            if let Err(error) = result {
                debug!(%error, "the buffers of a socket keep their size");
            }
        }
        let sending = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self {
            outgoing: Mutex::new(Outgoing {
                can_offload: sending.max_gso_segments() > 1,
                state: sending,
                unbatched: 0,
                backlog: VecDeque::new(),
                backlog_bytes: 0,
            }),
            socket: Readable::new(socket)?,
            state,
            backlogged: Notify::new(),
            counters,
        })
    }

    /// The address that it has.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().local_addr()
    }

    /// Sends at once what the system takes, and queues the rest. Never waits.
    pub(super) fn send(&self, destination: SocketAddr, payload: Bytes, segment_size: usize) {
        // The system takes port 0 for an error of ours and would take batches away from us for it.
        let mut datagrams = Datagrams {
            destination,
            payload,
            segment_size,
        };
        if destination.port() == 0 {
            self.counters
                .datagrams_refused
                .add(segments(&datagrams.payload, segment_size));
            return;
        }
        if segments(&datagrams.payload, segment_size) == 0 {
            return;
        }
        let mut outgoing = lock(&self.outgoing);
        if outgoing.backlog.is_empty() && self.send_all(&mut outgoing, &mut datagrams) {
            return;
        }
        let bytes = outgoing.backlog_bytes + datagrams.payload.len();
        if bytes > BACKLOG_BYTES || outgoing.backlog.len() >= BACKLOG_ITEMS {
            let count = segments(&datagrams.payload, segment_size);
            self.counters.datagrams_dropped.add(count);
            return;
        }
        if outgoing.backlog.is_empty() {
            self.backlogged.notify_one();
        }
        outgoing.backlog_bytes = bytes;
        outgoing.backlog.push_back(datagrams);
    }

    /// Receives batches and hands them to `deliver`, and sends what waits. Runs until it is dropped.
    pub(super) async fn run(&self, pool: &Pool, mut deliver: impl FnMut(&mut Vec<Received>)) {
        let mut received = Vec::new();
        let mut backoff = BACKOFF_MIN;
        loop {
            consume_budget().await;
            match self.step(pool, &mut received).await {
                Ok(()) => backoff = BACKOFF_MIN,
                Err(error) if is_about_an_earlier_datagram(&error) => {
                    trace!(%error, "somebody does not receive what this socket sent");
                }
                Err(error) => {
                    debug!(%error, ?backoff, "a socket fails");
                    sleep(backoff).await;
                    backoff = BACKOFF_MAX.min(backoff * 2);
                }
            }
            if !received.is_empty() {
                deliver(&mut received);
                received.clear();
            }
        }
    }

    /// Waits until something arrives or what waits can leave, and sees to it.
    async fn step(&self, pool: &Pool, received: &mut Vec<Received>) -> io::Result<()> {
        let read = self
            .socket
            .read(|| pool.receive(self.raw(), &self.state, received));
        if lock(&self.outgoing).backlog.is_empty() {
            tokio::select! {
                read = read => read,
                () = self.backlogged.notified() => Ok(()),
            }
        } else {
            let writable = self.socket.writable()?;
            tokio::select! {
                read = read => read,
                flushed = writable.write(|| self.flush()) => flushed,
            }
        }
    }

    fn raw(&self) -> UdpSockRef<'_> {
        UdpSockRef::from(self.socket.socket())
    }

    /// Sends what waits. The only error is [`ErrorKind::WouldBlock`].
    fn flush(&self) -> io::Result<()> {
        let mut outgoing = lock(&self.outgoing);
        while let Some(mut datagrams) = outgoing.backlog.pop_front() {
            outgoing.backlog_bytes -= datagrams.payload.len();
            if !self.send_all(&mut outgoing, &mut datagrams) {
                outgoing.backlog_bytes += datagrams.payload.len();
                outgoing.backlog.push_front(datagrams);
                return Err(ErrorKind::WouldBlock.into());
            }
        }
        Ok(())
    }

    /// Sends until nothing is left (`true`) or the system's buffer is full.
    ///
    /// It goes to the socket itself, which is not watched for room.
    fn send_all(&self, outgoing: &mut Outgoing, datagrams: &mut Datagrams) -> bool {
        let mut retried = false;
        loop {
            let length = outgoing.next_batch(self.raw(), datagrams);
            let contents = &datagrams.payload[..length];
            let segment_size = datagrams.segment_size;
            let is_batch = segment_size != 0 && segment_size < length;
            let transmit = Transmit {
                destination: datagrams.destination,
                ecn: None,
                contents,
                segment_size: is_batch.then_some(segment_size),
                src_ip: None,
            };
            match outgoing.state.try_send(self.raw(), &transmit) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // The batch was refused, not what is in it.
                Err(_) if is_batch && outgoing.state.max_gso_segments() == 1 => continue,
                Err(error) if is_about_an_earlier_datagram(&error) && !retried => {
                    retried = true;
                    continue;
                }
                Err(error) => self.refused(&error, &transmit),
            }
            retried = false;
            datagrams.payload.advance(length);
            if datagrams.payload.is_empty() {
                return true;
            }
        }
    }

    fn refused(&self, error: &io::Error, transmit: &Transmit<'_>) {
        if !is_msg_size_err(error) {
            debug!(%error, to = %transmit.destination, "the system does not send a datagram");
        }
        let count = segments(transmit.contents, transmit.segment_size.unwrap_or(0));
        self.counters.datagrams_refused.add(count);
    }
}

impl Outgoing {
    /// How many bytes go with the next system call.
    fn next_batch(&mut self, socket: UdpSockRef<'_>, datagrams: &Datagrams) -> usize {
        let Datagrams {
            payload,
            segment_size,
            ..
        } = datagrams;
        if *segment_size == 0 || *segment_size >= payload.len() {
            return payload.len();
        }
        if self.can_offload && self.state.max_gso_segments() == 1 {
            // One destination or one narrow path is enough for quinn-udp to give batches up.
            self.unbatched += 1;
            if self.unbatched >= OFFLOAD_RETRY {
                self.unbatched = 0;
                if let Ok(state) = UdpSocketState::new(socket) {
                    self.state = state;
                }
            }
        }
        let segments = if *segment_size > SEGMENT_MAX {
            1
        } else {
            (BATCH_BYTES / segment_size).min(self.state.max_gso_segments())
        };
        payload.len().min(segments * segment_size)
    }
}

/// How many datagrams there are in it.
fn segments(payload: &[u8], segment_size: usize) -> u64 {
    match segment_size {
        0 => 1,
        size => payload.len().div_ceil(size) as u64,
    }
}

/// Whether an error is ICMP's word about a datagram sent earlier: the one at hand was not tried.
fn is_about_an_earlier_datagram(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}

#[cfg(test)]
mod tests;
