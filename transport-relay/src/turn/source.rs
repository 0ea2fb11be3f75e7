//! The race of servers, protocols and addresses for an address on a relay.

mod attempt;
mod round;

use super::{allocation::AllocationOutput, config::TurnConfig};
use crate::random::Random;
use crate::source::{RELAY_SOCKETS_MAX, RelayOutput, RelaySource};
use attempt::{Attempt, Stage};
use session_core::{Batch, Datagram, LocalSocket, SocketError, StreamEvent, Transmit};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

/// A TURN client for one component: see [`TurnFactory`](super::TurnFactory).
#[derive(Debug)]
pub struct TurnSource {
    config: Arc<TurnConfig>,
    random: Random,
    local: Vec<IpAddr>,
    attempts: Vec<Attempt>,
    /// The socket of the attempt that carries the data.
    chosen: Option<LocalSocket>,
    /// Since when it does.
    chosen_at: Option<Instant>,
    /// What the chosen one has told.
    relayed: Vec<SocketAddr>,
    next_socket: u32,
    /// Until when a better protocol may still come first.
    hold_until: Option<Instant>,
    /// How another is sought. It stays until what was found has proven itself.
    recovery: Option<Recovery>,
    /// Why attempts of this round failed.
    whys: Vec<String>,
    ended: bool,
    outputs: VecDeque<RelayOutput>,
}

/// When to try again, how long to wait after that, and until when it makes sense.
#[derive(Debug)]
struct Recovery {
    next_at: Option<Instant>,
    wait: Duration,
    until: Instant,
}

impl TurnSource {
    /// One that has asked nothing yet.
    pub(super) fn new(config: Arc<TurnConfig>, seed: [u8; 32]) -> Self {
        Self {
            config,
            random: Random::new(&seed),
            local: Vec::new(),
            attempts: Vec::new(),
            chosen: None,
            chosen_at: None,
            relayed: Vec::new(),
            next_socket: 0,
            hold_until: None,
            recovery: None,
            whys: Vec::new(),
            ended: false,
            outputs: VecDeque::new(),
        }
    }

    fn index_of(&self, socket: LocalSocket) -> Option<usize> {
        self.attempts
            .iter()
            .position(|attempt| attempt.socket == Some(socket))
    }

    /// Lets the allocation of an attempt do something, and does what it wants.
    fn with_allocation(
        &mut self,
        index: usize,
        now: Instant,
        call: impl FnOnce(&mut super::Allocation),
    ) {
        let Some(Attempt {
            stage: Stage::Asking(allocation),
            socket: Some(socket),
            ..
        }) = self.attempts.get_mut(index)
        else {
            return;
        };
        let socket = *socket;
        call(allocation);
        self.drain(socket, now);
    }

    fn drain(&mut self, socket: LocalSocket, now: Instant) {
        // What follows from an output may move or end any attempt, this one too.
        while let Some(index) = self.index_of(socket) {
            let attempt = &mut self.attempts[index];
            let Stage::Asking(allocation) = &mut attempt.stage else {
                return;
            };
            let Some(output) = allocation.poll_output() else {
                return;
            };
            match output {
                AllocationOutput::Transmit(batch) => {
                    let output = attempt.transmit(socket, batch);
                    self.outputs.push_back(output);
                }
                AllocationOutput::Received { peer, batch } => {
                    if self.chosen == Some(socket) {
                        self.outputs
                            .push_back(RelayOutput::Received { peer, batch });
                    }
                }
                AllocationOutput::Allocated {
                    relayed, mapped, ..
                } => {
                    attempt.allocated = Some((relayed, mapped));
                    self.stood(index, now);
                }
                // It asks for none.
                AllocationOutput::Connection { .. } | AllocationOutput::NotConnected(..) => {}
                AllocationOutput::Failed(error) => return self.failed(index, error, now),
                AllocationOutput::Closed => return self.drop_attempt(index),
            }
        }
    }

    /// Closes its socket and forgets it.
    fn drop_attempt(&mut self, index: usize) {
        let attempt = self.attempts.swap_remove(index);
        if let Some(socket) = attempt.socket {
            self.outputs.push_back(RelayOutput::Close(socket));
        }
    }

    /// A number that no socket has.
    fn number(&mut self) -> Option<LocalSocket> {
        for _ in 0..RELAY_SOCKETS_MAX {
            let number = LocalSocket(self.next_socket);
            self.next_socket = (self.next_socket + 1) % RELAY_SOCKETS_MAX;
            if self.index_of(number).is_none() {
                return Some(number);
            }
        }
        None
    }

    /// New credentials, if there are any, for those who asked with others.
    fn renew_credentials(&mut self) {
        for attempt in &mut self.attempts {
            let version = attempt.server.credentials.version();
            if let Stage::Asking(allocation) = &mut attempt.stage
                && attempt.credentials != version
            {
                attempt.credentials = version;
                allocation.set_credentials(attempt.server.credentials.get());
            }
        }
    }
}

impl RelaySource for TurnSource {
    fn start(&mut self, local: &[IpAddr], now: Instant) {
        self.local = local.to_vec();
        if self.lacks_address() {
            self.recovery = Some(self.new_recovery(now));
        }
        self.begin_round(now);
    }

    fn update_local(&mut self, local: &[IpAddr], now: Instant) {
        let old = std::mem::replace(&mut self.local, local.to_vec());
        self.moved(&old, now);
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        if let Some(index) = self.index_of(socket) {
            self.opened(index, address.map(|_| ()), now);
        }
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        let Some(index) = self.index_of(datagram.socket) else {
            return;
        };
        if datagram.source == self.attempts[index].address {
            self.with_allocation(index, now, |allocation| {
                allocation.handle_batch(datagram.batch(), now);
            });
        }
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        let Some(index) = self.index_of(socket) else {
            return;
        };
        match event {
            StreamEvent::Connected(result) => self.opened(index, result.map(|_| ()), now),
            StreamEvent::Data(bytes) => {
                self.with_allocation(index, now, |allocation| allocation.handle_bytes(bytes, now));
            }
            StreamEvent::Buffered(bytes) => self.attempts[index].buffered = bytes,
            StreamEvent::Finished => self.closed(index, "the server closed it", now),
            StreamEvent::Closed(error) => {
                let why = error.map_or_else(|| "it broke".to_owned(), |error| error.to_string());
                self.closed(index, &why, now);
            }
            // We listen nowhere.
            StreamEvent::Accepted { .. } | _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.renew_credentials();
        let due = |attempt: &Attempt| attempt.due().is_some_and(|at| at <= now);
        // Each call moves what it concerns forward, or ends it.
        while let Some(index) = self.attempts.iter().position(due) {
            self.attempt_timeout(index, now);
        }
        self.round_timeout(now);
    }

    fn permit(&mut self, peer: SocketAddr, now: Instant) {
        if let Some(index) = self.chosen.and_then(|socket| self.index_of(socket)) {
            self.with_allocation(index, now, |allocation| allocation.permit(peer, now));
        }
    }

    fn send(&mut self, peer: SocketAddr, batch: Batch, now: Instant) {
        if let Some(index) = self.chosen.and_then(|socket| self.index_of(socket))
            && self.attempts[index].buffered <= self.config.backlog_max
        {
            self.with_allocation(index, now, |allocation| allocation.send(peer, batch, now));
        }
    }

    fn close(&mut self, now: Instant) {
        self.ended = true;
        self.recovery = None;
        for index in (0..self.attempts.len()).rev() {
            self.release(index, now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let round = self.recovery.as_ref().and_then(|recovery| recovery.next_at);
        self.attempts
            .iter()
            .filter_map(Attempt::due)
            .chain(self.hold_until)
            .chain(round)
            .min()
    }

    fn poll_output(&mut self) -> Option<RelayOutput> {
        self.outputs.pop_front()
    }
}

/// What to do with a batch on a socket.
fn transmit(socket: LocalSocket, destination: SocketAddr, batch: Batch) -> RelayOutput {
    RelayOutput::Transmit(Transmit {
        socket,
        destination,
        payload: batch.payload,
        segment_size: batch.segment_size,
    })
}
