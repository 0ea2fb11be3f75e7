//! What the sockets of this machine carry when nothing stands above them.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::tools::Failure;

/// The most that one receiving call puts into one buffer.
const BUFFER: usize = 64 * 1024;
/// The most that one sending call takes.
const SEND_MAX: usize = 60_000;

/// Bytes a second over loopback, of datagrams of one size, as received: what overflows a buffer does not count.
pub(super) struct Ceiling {
    /// One datagram for each system call.
    pub(super) plain: f64,
    /// As many for each system call as the system takes, which is what our driver does.
    pub(super) batched: f64,
}

impl Ceiling {
    /// Measures each of the two for about so long.
    pub(super) fn measure(datagram: usize, time: Duration) -> Result<Self, Failure> {
        let run = |batched| {
            blast(datagram, batched, time).map_err(|error| {
                Failure::new(
                    "measure what UDP carries over loopback",
                    error.to_string(),
                    "may this process use UDP sockets on 127.0.0.1?",
                )
            })
        };
        Ok(Self {
            plain: run(false)?,
            batched: run(true)?,
        })
    }
}

fn blast(datagram: usize, batched: bool, time: Duration) -> io::Result<f64> {
    let receiver = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let destination = receiver.local_addr()?;
    let state = UdpSocketState::new(UdpSockRef::from(&receiver))?;
    // quinn-udp makes sockets non-blocking; here each has a thread of its own.
    receiver.set_nonblocking(false)?;
    receiver.set_read_timeout(Some(Duration::from_millis(20)))?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let counting = scope.spawn(|| count(&receiver, &state, batched, &done));
        let begun = Instant::now();
        let sent = send(&sender, destination, datagram, batched, begun + time);
        done.store(true, Ordering::Relaxed);
        let received = counting
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the receiver ended early")));
        sent?;
        Ok(received? as f64 / time.as_secs_f64())
    })
}

fn send(
    socket: &UdpSocket,
    destination: std::net::SocketAddr,
    datagram: usize,
    batched: bool,
    until: Instant,
) -> io::Result<()> {
    let state = UdpSocketState::new(UdpSockRef::from(socket))?;
    socket.set_nonblocking(false)?;
    let most = state.max_gso_segments().min(SEND_MAX / datagram).max(1);
    let count = if batched { most } else { 1 };
    let contents = vec![0x5a; count * datagram];
    let transmit = Transmit {
        destination,
        ecn: None,
        contents: &contents,
        segment_size: (count > 1).then_some(datagram),
        src_ip: None,
    };
    while Instant::now() < until {
        match state.try_send(UdpSockRef::from(socket), &transmit) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn count(
    socket: &UdpSocket,
    state: &UdpSocketState,
    batched: bool,
    done: &AtomicBool,
) -> io::Result<u64> {
    let slots = if batched { BATCH_SIZE } else { 1 };
    let mut buffers = vec![vec![0; BUFFER]; slots];
    let mut metas = vec![RecvMeta::default(); slots];
    let mut total = 0;
    loop {
        let mut slices: Vec<_> = buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
        match state.recv(UdpSockRef::from(socket), &mut slices, &mut metas) {
            Ok(received) => total += metas[..received].iter().map(|m| m.len as u64).sum::<u64>(),
            Err(error) if is_timeout(&error) => {
                if done.load(Ordering::Relaxed) {
                    return Ok(total);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_carry_something_in_both_ways() {
        let ceiling = Ceiling::measure(1_200, Duration::from_millis(20)).unwrap();
        assert!(ceiling.plain > 0.0 && ceiling.batched > 0.0);
    }
}
