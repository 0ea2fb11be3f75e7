//! One attempt: one server at one address by one protocol.

use super::{TurnSource, transmit};
use crate::source::RelayOutput;
use crate::turn::{
    allocation::{Allocation, TurnError},
    config::{TurnProtocol, TurnServer},
};
use session_core::{Batch, LocalSocket, SocketError, StreamTarget};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// How often a server may send us elsewhere, one after another.
const REDIRECTS_MAX: u32 = 3;
/// How often another port is tried for a server that takes us for another client.
const MISMATCHES_MAX: u32 = 2;

#[derive(Debug)]
pub(super) struct Attempt {
    /// The server of the configuration that it is about.
    pub(super) server: TurnServer,
    /// Its number there: attempts of one server come one after another.
    pub(super) number: usize,
    pub(super) address: SocketAddr,
    /// From where, over UDP.
    pub(super) local: Option<IpAddr>,
    pub(super) stage: Stage,
    pub(super) socket: Option<LocalSocket>,
    /// The version of the credentials that it asked with.
    pub(super) credentials: u64,
    pub(super) allocated: Option<(Vec<SocketAddr>, Option<SocketAddr>)>,
    /// It is not wanted any more, and gives back what it has.
    pub(super) releasing: bool,
    /// Bytes that wait to leave over its connection.
    pub(super) buffered: usize,
    redirects: u32,
    mismatches: u32,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// It is not its turn before this instant.
    Waiting(Instant),
    /// Its socket was asked for. A connection must stand by this instant.
    Opening(Option<Instant>),
    /// The server is being talked to.
    Asking(Box<Allocation>),
}

impl Attempt {
    pub(super) fn new(
        server: TurnServer,
        number: usize,
        address: SocketAddr,
        local: Option<IpAddr>,
        at: Instant,
    ) -> Self {
        Self {
            credentials: server.credentials.version(),
            server,
            number,
            address,
            local,
            stage: Stage::Waiting(at),
            socket: None,
            allocated: None,
            releasing: false,
            buffered: 0,
            redirects: 0,
            mismatches: 0,
        }
    }

    pub(super) fn due(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Waiting(at) => Some(*at),
            Stage::Opening(deadline) => *deadline,
            Stage::Asking(allocation) => allocation.poll_timeout(),
        }
    }

    /// For the network, the way that it is done here.
    pub(super) fn transmit(&mut self, socket: LocalSocket, batch: Batch) -> RelayOutput {
        match self.server.protocol {
            TurnProtocol::Udp => transmit(socket, self.address, batch),
            TurnProtocol::Tcp | TurnProtocol::Tls(_) => {
                self.buffered += batch.payload.len();
                RelayOutput::Write(socket, batch.payload)
            }
        }
    }

    /// For people.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.server.protocol, self.address)
    }
}

impl TurnSource {
    pub(super) fn attempt_timeout(&mut self, index: usize, now: Instant) {
        match self.attempts[index].stage {
            Stage::Waiting(_) => self.open(index, now),
            Stage::Opening(_) => {
                let why = "it does not stand in time".into();
                self.failed(index, TurnError::Connection(why), now);
            }
            Stage::Asking(_) => {
                self.with_allocation(index, now, |allocation| allocation.handle_timeout(now));
            }
        }
    }

    /// Its turn: asks for a socket.
    fn open(&mut self, index: usize, now: Instant) {
        let Some(socket) = self.number() else {
            let why = "too many sockets".into();
            return self.failed(index, TurnError::Connection(why), now);
        };
        let deadline = now + self.config.connect_timeout;
        let attempt = &mut self.attempts[index];
        attempt.socket = Some(socket);
        let output = match attempt.local {
            Some(ip) => {
                attempt.stage = Stage::Opening(None);
                RelayOutput::Bind(socket, SocketAddr::new(ip, 0))
            }
            None => {
                attempt.stage = Stage::Opening(Some(deadline));
                let target = StreamTarget {
                    tls: attempt.server.protocol.tls(),
                    ..StreamTarget::new(attempt.address)
                };
                RelayOutput::Connect(socket, target)
            }
        };
        self.outputs.push_back(output);
    }

    /// Its socket is there, or cannot be had.
    pub(super) fn opened(&mut self, index: usize, result: Result<(), SocketError>, now: Instant) {
        if !matches!(self.attempts[index].stage, Stage::Opening(_)) {
            return;
        }
        if let Err(error) = result {
            let why = error.to_string().into();
            return self.failed(index, TurnError::Connection(why), now);
        }
        let seed = self.random.seed();
        let attempt = &mut self.attempts[index];
        attempt.credentials = attempt.server.credentials.version();
        attempt.stage = Stage::Asking(Box::new(Allocation::new(
            self.config.allocation(&attempt.server.protocol),
            attempt.server.credentials.get(),
            seed,
        )));
        self.with_allocation(index, now, |allocation| allocation.start(now));
    }

    /// Its connection broke.
    pub(super) fn closed(&mut self, index: usize, why: &str, now: Instant) {
        if matches!(self.attempts[index].stage, Stage::Asking(_)) {
            self.with_allocation(index, now, |allocation| allocation.handle_closed(why));
        } else {
            self.failed(index, TurnError::Connection(why.into()), now);
        }
    }

    /// It is not wanted any more.
    pub(super) fn release(&mut self, index: usize, now: Instant) {
        let attempt = &mut self.attempts[index];
        attempt.releasing = true;
        let is_stream = attempt.local.is_none();
        if !matches!(attempt.stage, Stage::Asking(_)) {
            return self.drop_attempt(index);
        }
        let socket = attempt.socket;
        self.with_allocation(index, now, |allocation| allocation.close(now));
        // The end of a connection is the end of its allocation.
        if is_stream && let Some(index) = socket.and_then(|socket| self.index_of(socket)) {
            self.drop_attempt(index);
        }
    }

    /// Whether the server said something that makes another attempt worth while, which is then begun.
    pub(super) fn try_elsewhere(&mut self, index: usize, error: &TurnError, now: Instant) -> bool {
        let attempt = &self.attempts[index];
        let (redirects, mismatches) = (attempt.redirects, attempt.mismatches);
        let (mut server, number) = (attempt.server.clone(), attempt.number);
        let next = if let TurnError::Redirected(address, domain) = error
            && redirects < REDIRECTS_MAX
        {
            if let (TurnProtocol::Tls(name), Some(domain)) = (&mut server.protocol, domain) {
                *name = Arc::clone(domain);
            }
            let local = attempt.local.and_then(|ip| self.local_for(ip, *address));
            if attempt.local.is_some() && local.is_none() {
                return false;
            }
            Attempt {
                redirects: redirects + 1,
                mismatches,
                ..Attempt::new(server, number, *address, local, now)
            }
        } else if matches!(error, TurnError::Mismatch(_)) && mismatches < MISMATCHES_MAX {
            Attempt {
                redirects,
                mismatches: mismatches + 1,
                ..Attempt::new(server, number, attempt.address, attempt.local, now)
            }
        } else {
            return false;
        };
        self.attempts.push(next);
        true
    }

    /// One of our addresses from which another can be reached, this one if it will do.
    fn local_for(&self, preferred: IpAddr, address: SocketAddr) -> Option<IpAddr> {
        let mut all = std::iter::once(preferred).chain(self.local.iter().copied());
        all.find(|ip| super::round::can_reach(*ip, address.ip()))
    }
}
