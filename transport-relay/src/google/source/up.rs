//! An address on a relay: data, the lock, and more time.

use super::{GoogleRelaySource, Heard, Link, Question, Stage};
use crate::{
    google::{
        session::RelaySession,
        wire::{self, Word},
    },
    source::RelayOutput,
    stun::{Due, Retransmission, Scan, TransactionId},
};
use session_core::{Batch, LocalSocket};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// How often more time is asked for, at most and at least, whatever the relay says.
const REFRESH: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(600)];
/// Requests for the lock that may be answered.
const LOCKS_MAX: usize = 16;

pub(super) struct Up {
    pub(super) session: RelaySession,
    pub(super) link: Link,
    relayed: SocketAddr,
    refresh_at: Instant,
    question: Option<Question>,
    lock: Lock,
}

/// The one peer whose data travels as it is.
#[derive(Default)]
struct Lock {
    peer: Option<SocketAddr>,
    /// Requests for it.
    asked: VecDeque<TransactionId>,
    holds: bool,
}

impl Up {
    pub(super) fn new(
        session: RelaySession,
        link: Link,
        relayed: SocketAddr,
        lifetime: Option<u32>,
        now: Instant,
    ) -> Self {
        Self {
            session,
            link,
            relayed,
            refresh_at: now + refresh_after(lifetime),
            question: None,
            lock: Lock::default(),
        }
    }

    pub(super) fn due(&self) -> Instant {
        let clock = self.question.as_ref().map(|q| q.clock.poll_timeout());
        clock.unwrap_or(self.refresh_at)
    }

    fn is_marked(&self, bytes: &[u8]) -> bool {
        wire::is_marked(bytes, self.session.magic_cookie)
    }
}

/// Half of the time that the relay gives, so that a second try is in time.
fn refresh_after(lifetime: Option<u32>) -> Duration {
    let [least, most] = REFRESH;
    let half = lifetime.map(|seconds| Duration::from_secs(u64::from(seconds) / 2));
    half.unwrap_or(most).clamp(least, most)
}

impl GoogleRelaySource {
    /// Something came on the link that serves.
    pub(super) fn up_heard(&mut self, socket: LocalSocket, heard: &[Heard], now: Instant) {
        for heard in heard {
            match heard {
                Heard::Ready => {}
                Heard::Broken => return self.lost("it does not speak as a relay", now),
                Heard::Message(bytes) => {
                    let Stage::Up(up) = &self.stage else { return };
                    let server = up.link.server;
                    self.up_batch(socket, server, bytes.clone().into(), now);
                }
            }
        }
    }

    pub(super) fn up_batch(
        &mut self,
        socket: LocalSocket,
        source: SocketAddr,
        batch: Batch,
        now: Instant,
    ) {
        let Stage::Up(up) = &self.stage else { return };
        if up.link.socket != socket || up.link.server != source {
            return;
        }
        let peer = up.lock.peer.filter(|_| up.lock.holds);
        if !batch.clone().any(|bytes| up.is_marked(&bytes)) {
            if let Some(peer) = peer {
                let received = RelayOutput::Received { peer, batch };
                self.outputs.push_back(received);
            }
            return;
        }
        for bytes in batch {
            let Stage::Up(up) = &mut self.stage else {
                return;
            };
            if !up.is_marked(&bytes) {
                if let Some(peer) = peer {
                    let batch = bytes.into();
                    self.outputs
                        .push_back(RelayOutput::Received { peer, batch });
                }
                continue;
            }
            let asked = up.question.as_ref().map(|question| question.transaction);
            match wire::read(&bytes, up.session.magic_cookie) {
                Some(Word::Data { peer, data }) => {
                    let batch = bytes.slice_ref(data).into();
                    self.outputs
                        .push_back(RelayOutput::Received { peer, batch });
                }
                Some(Word::Sent {
                    transaction,
                    locked: true,
                }) if up.lock.asked.contains(&transaction) => {
                    up.lock.holds = true;
                    up.lock.asked.clear();
                }
                Some(Word::Allocated {
                    transaction,
                    relayed,
                    lifetime,
                }) if asked == Some(transaction) => {
                    if relayed != up.relayed {
                        return self.lost("the relay has forgotten the address", now);
                    }
                    up.question = None;
                    up.refresh_at = now + refresh_after(lifetime);
                }
                Some(Word::Refused { transaction, code }) if asked == Some(transaction) => {
                    let code = code.map_or_else(String::new, |code| format!(", with error {code}"));
                    return self.lost(&format!("the relay gives no more time{code}"), now);
                }
                Some(
                    Word::Sent { .. }
                    | Word::NotSent { .. }
                    | Word::Allocated { .. }
                    | Word::Refused { .. },
                )
                | None => {}
            }
        }
    }

    pub(super) fn up_timeout(&mut self, now: Instant) {
        let (timing, patience) = (self.config.timing, self.config.connection_timeout);
        let transaction = self.random.transaction();
        let Stage::Up(up) = &mut self.stage else {
            return;
        };
        let bytes = match &mut up.question {
            Some(question) => match question.clock.handle_timeout(now) {
                Due::Nothing => None,
                Due::Send => Some(question.bytes.clone()),
                Due::GiveUp => return self.lost("the relay does not answer", now),
            },
            None if up.refresh_at <= now => {
                let bytes = Question::allocate(&up.session, transaction);
                up.question = bytes.clone().map(|bytes| Question {
                    transaction,
                    bytes,
                    clock: Retransmission::new(up.link.timing(timing, patience), now),
                });
                bytes
            }
            None => None,
        };
        self.outputs
            .extend(bytes.and_then(|bytes| up.link.write(&bytes)));
    }

    /// The address is no more: another is sought, a few times.
    pub(super) fn lost(&mut self, why: &str, now: Instant) {
        let Stage::Up(up) = std::mem::replace(&mut self.stage, Stage::Idle) else {
            return;
        };
        self.outputs.push_back(RelayOutput::Close(up.link.socket));
        self.outputs.push_back(RelayOutput::Lost {
            relayed: up.relayed,
            why: why.into(),
        });
        self.why = why.to_owned();
        match self.recoveries.checked_sub(1) {
            Some(left) => {
                self.recoveries = left;
                self.begin(now);
            }
            None => self.give_up(),
        }
    }

    /// Our own addresses are others now.
    pub(super) fn check_local(&mut self, now: Instant) {
        let gone = match &self.stage {
            Stage::Up(up) => up.link.local.is_some_and(|ip| !self.local.contains(&ip)),
            Stage::Idle | Stage::Asking(_) | Stage::Trying(_) | Stage::Over => false,
        };
        if gone {
            self.lost("its local address is gone", now);
        }
    }

    pub(super) fn send_batch(&mut self, peer: SocketAddr, batch: Batch) {
        let Stage::Up(up) = &mut self.stage else {
            return;
        };
        if up.link.buffered > self.config.backlog_max {
            return;
        }
        let is_raw = |up: &Up| up.lock.holds && up.lock.peer == Some(peer);
        // What begins as a message of the relay would be taken for one.
        if is_raw(up) && !batch.clone().any(|bytes| up.is_marked(&bytes)) {
            let segment = batch.segment_size;
            self.outputs
                .extend(up.link.write_batch(batch.payload, segment));
            return;
        }
        for data in batch {
            // Only data is worth the lock: pings go to many.
            let is_data = !Scan::is_stun(&data) && !Scan::is_legacy(&data);
            if is_data && up.lock.peer != Some(peer) {
                up.lock = Lock {
                    peer: Some(peer),
                    ..Lock::default()
                };
            }
            let wants = up.lock.peer == Some(peer) && !up.lock.holds;
            let transaction = self.random.transaction();
            let cookie = up.session.magic_cookie;
            let username = &up.session.username;
            let message = wire::send(transaction, cookie, username, (peer, wants), &data);
            let Some(message) = message else { continue };
            if wants {
                up.lock.asked.push_back(transaction);
                if up.lock.asked.len() > LOCKS_MAX {
                    up.lock.asked.pop_front();
                }
            }
            self.outputs.extend(up.link.write(&message));
        }
    }
}
