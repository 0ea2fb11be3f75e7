//! Connections to peers through the relay (RFC 6062).

use super::{Allocation, AllocationOutput, Login, Purpose, Relayed, State, TurnError};
use crate::random::Random;
use crate::stun::{Class, IntegrityKey, MessageBuilder, Method, Scan, TransactionId};
use crate::turn::{
    frame::{Deframer, Frame},
    wire::{Answer, attribute},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Within this a connection is to be bound (RFC 6062 §5.4).
const BIND_WITHIN: Duration = Duration::from_secs(30);
/// How often a ConnectionBind may be refused for its nonce.
const CHALLENGES_MAX: u32 = 3;

impl Allocation {
    /// Asks for a connection to a peer, which should be [permitted](Self::permit) before. Ends in
    /// [`AllocationOutput::Connection`] or [`AllocationOutput::NotConnected`]. Nothing happens without an allocation of
    /// [`Relayed::Connections`], or while one for the same peer is asked for.
    pub fn connect(&mut self, peer: SocketAddr, now: Instant) {
        let asking = self.is_asking(|purpose| purpose == Purpose::Connect(peer));
        if self.takes_connections() && !asking {
            self.request(Purpose::Connect(peer), now);
            self.rearm();
        }
    }

    /// What makes a new connection of ours to the server the data connection of this number.
    pub fn bind(&mut self, id: u32, now: Instant) -> DataConnection {
        DataConnection {
            login: self.login.clone(),
            random: Random::new(&self.random.seed()),
            id,
            state: Binding::New,
            until: now + BIND_WITHIN,
            challenges: 0,
            deframer: Deframer::default(),
            outputs: VecDeque::new(),
        }
    }

    fn takes_connections(&self) -> bool {
        self.state == State::Standing
            && !self.closing
            && self.config.relayed == Relayed::Connections
    }

    pub(super) fn connected(&mut self, peer: SocketAddr, answer: &Answer) {
        let incoming = false;
        match answer.connection {
            Some(id) => {
                let output = AllocationOutput::Connection { id, peer, incoming };
                self.outputs.push_back(output);
            }
            None => self.not_connected(peer, TurnError::Nonsense("a connection without number")),
        }
    }

    pub(super) fn not_connected(&mut self, peer: SocketAddr, error: TurnError) {
        self.outputs
            .push_back(AllocationOutput::NotConnected(peer, error));
    }

    /// A peer connects to the relayed address.
    pub(super) fn handle_attempt(&mut self, answer: &Answer, now: Instant) {
        if let (Some(id), Some(peer)) = (answer.connection, answer.peer)
            && self.takes_connections()
            && self.permissions.touch(peer.ip(), now)
        {
            let incoming = true;
            let output = AllocationOutput::Connection { id, peer, incoming };
            self.outputs.push_back(output);
        }
    }
}

/// A connection of ours to the server that becomes one to a peer: after [`DataOutput::Bound`] bytes pass as they are.
/// Until then nothing may be written to it but what it [transmits](DataOutput::Transmit).
#[derive(Debug)]
pub struct DataConnection {
    login: Login,
    random: Random,
    id: u32,
    state: Binding,
    until: Instant,
    challenges: u32,
    deframer: Deframer,
    outputs: VecDeque<DataOutput>,
}

#[derive(Debug)]
enum Binding {
    New,
    Asked(TransactionId, Option<IntegrityKey>),
    Bound,
    Failed,
}

/// What a [`DataConnection`] wants or says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DataOutput {
    /// For the server.
    Transmit(Bytes),
    /// From now on every byte written to the connection goes to the peer.
    Bound,
    /// Of the peer.
    Data(Bytes),
    /// It is of no use. Nothing follows.
    Failed(TurnError),
}

impl DataConnection {
    /// The connection to the server stands: says which one it is to be.
    pub fn start(&mut self) {
        if matches!(self.state, Binding::New) {
            self.ask();
        }
    }

    /// Bytes of the connection.
    pub fn handle_bytes(&mut self, bytes: Bytes) {
        match self.state {
            Binding::Bound if !bytes.is_empty() => self.outputs.push_back(DataOutput::Data(bytes)),
            Binding::Bound | Binding::New | Binding::Failed => {}
            Binding::Asked(..) => {
                self.deframer.push(bytes);
                self.handle_answers();
            }
        }
    }

    /// The connection is gone.
    pub fn handle_closed(&mut self, why: &str) {
        self.fail(TurnError::Connection(why.into()));
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|until| until <= now) {
            self.fail(TurnError::NoAnswer);
        }
    }

    /// Until when it must be bound; `None` when it is, or never will be.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            Binding::New | Binding::Asked(..) => Some(self.until),
            Binding::Bound | Binding::Failed => None,
        }
    }

    /// The next thing that it wants or says.
    pub fn poll_output(&mut self) -> Option<DataOutput> {
        self.outputs.pop_front()
    }

    fn ask(&mut self) {
        let transaction = self.random.transaction();
        let key = self.login.challenge.as_ref().map(|c| c.key.clone());
        let builder = MessageBuilder::new(Class::Request, Method::CONNECTION_BIND, transaction)
            .raw(attribute::CONNECTION_ID, &self.id.to_be_bytes());
        match self.login.write(builder).finish(key.as_ref(), false) {
            Ok(bytes) => self.outputs.push_back(DataOutput::Transmit(bytes)),
            Err(_) => return self.fail(TurnError::Nonsense("its words do not fit into a request")),
        }
        self.state = Binding::Asked(transaction, key);
    }

    fn handle_answers(&mut self) {
        while let Binding::Asked(transaction, key) = &self.state {
            let message = match self.deframer.next_frame() {
                Ok(Some(Frame::Stun(message))) => message,
                Ok(None) => return,
                Ok(Some(Frame::Channel(..))) | Err(_) => {
                    let what = "its stream does not consist of messages";
                    return self.fail(TurnError::Nonsense(what));
                }
            };
            let Ok(scan) = Scan::new(&message) else {
                continue;
            };
            if scan.transaction() != *transaction || scan.method() != Method::CONNECTION_BIND {
                continue;
            }
            if scan.class() != Class::Success {
                self.refused(&scan);
                continue;
            }
            let sealed = key
                .as_ref()
                .is_none_or(|key| scan.verify_integrity(key).is_ok());
            if !sealed {
                return self.fail(TurnError::WrongSeal);
            }
            self.state = Binding::Bound;
            self.outputs.push_back(DataOutput::Bound);
            // What came with it is the peer's already.
            let rest = self.deframer.take();
            return self.handle_bytes(rest);
        }
    }

    fn refused(&mut self, scan: &Scan<'_>) {
        let Some((code, reason)) = Answer::read(scan).error else {
            return self.fail(TurnError::Nonsense("an error without a number"));
        };
        self.challenges += 1;
        let challenged = matches!(code, 401 | 438) && self.challenges <= CHALLENGES_MAX;
        match (&mut self.login.challenge, scan.nonce()) {
            (Some(challenge), Some(nonce)) if challenged => {
                challenge.nonce = Bytes::copy_from_slice(nonce);
                self.ask();
            }
            _ => self.fail(TurnError::Refused { code, reason }),
        }
    }

    fn fail(&mut self, error: TurnError) {
        if !matches!(self.state, Binding::Failed) {
            self.state = Binding::Failed;
            self.outputs.push_back(DataOutput::Failed(error));
        }
    }
}
