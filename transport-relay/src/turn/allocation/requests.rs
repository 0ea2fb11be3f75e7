//! What the server is asked, how often, and when.

use super::{
    Allocation, AllocationOutput, Families, Framing, Login, Pending, Purpose, Relayed, State,
    TurnError,
};
use crate::stun::{
    Attribute, Class, Due, IntegrityKey, MessageBuilder, Method, Retransmission, StunError, Timing,
    TransactionId, kind,
};
use crate::turn::wire::{self, attribute};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Before an allocation ends, it is refreshed; earlier by half for those that live shortly.
const REFRESH_MARGIN: Duration = Duration::from_secs(60);
/// A lifetime above this is not believed: the server would be asked too rarely.
const LIFETIME_MAX: Duration = Duration::from_secs(3600);
/// After a refresh that was refused for now.
const REFRESH_AGAIN: Duration = Duration::from_secs(5);

impl Purpose {
    pub(super) fn method(self) -> Method {
        match self {
            Self::Allocate => Method::ALLOCATE,
            Self::Refresh(_) => Method::REFRESH,
            Self::Permission(_) => Method::CREATE_PERMISSION,
            Self::Channel(_) => Method::CHANNEL_BIND,
            Self::Connect(_) => Method::CONNECT,
        }
    }
}

impl Login {
    /// Who we are, once the server has asked.
    pub(super) fn write(&self, builder: MessageBuilder) -> MessageBuilder {
        match &self.challenge {
            Some(challenge) => builder
                .username(&self.credentials.username)
                .raw(kind::REALM, challenge.realm.as_bytes())
                .raw(kind::NONCE, &challenge.nonce),
            None => builder,
        }
    }
}

impl Allocation {
    /// Asks, for the first time.
    pub(super) fn request(&mut self, purpose: Purpose, now: Instant) {
        self.ask(purpose, (0, 0), now);
    }

    /// Asks again what was refused `counts` times for credentials and for nonces.
    pub(super) fn ask(&mut self, purpose: Purpose, counts: (u32, u32), now: Instant) {
        let transaction = self.random.transaction();
        let key = self.login.challenge.as_ref().map(|c| c.key.clone());
        let Ok(bytes) = self.message(purpose, transaction, key.as_ref()) else {
            self.fail(TurnError::Nonsense("its words do not fit into a request"));
            return;
        };
        self.transmit(bytes.clone(), now);
        self.pending.push(Pending {
            purpose,
            transaction,
            bytes,
            key,
            login: self.logins,
            clock: Retransmission::new(self.timing(), now),
            since: now,
            refused: counts.0,
            stale: counts.1,
        });
    }

    /// Whether this is being asked.
    pub(super) fn is_asking(&self, purpose: impl Fn(Purpose) -> bool) -> bool {
        self.pending.iter().any(|pending| purpose(pending.purpose))
    }

    /// Asks the server for more time, which also tells whether it is there.
    pub(super) fn refresh(&mut self, now: Instant) {
        self.refresh_at = None;
        if !self.is_asking(|purpose| matches!(purpose, Purpose::Refresh(_))) {
            self.request(Purpose::Refresh(self.lifetime()), now);
        }
    }

    /// The server gave it so much time, from this instant on.
    pub(super) fn set_lifetime(&mut self, seconds: u32, since: Instant) {
        let lifetime = Duration::from_secs(seconds.into()).min(LIFETIME_MAX);
        let margin = REFRESH_MARGIN.min(lifetime / 2);
        self.expires_at = Some(since + lifetime);
        self.refresh_at = Some(since + (lifetime - margin));
    }

    /// Asks again some time after this instant, in which the server refused, but not for good, or was heard last.
    pub(super) fn refresh_later(&mut self, since: Instant) {
        self.refresh_at = Some(since + REFRESH_AGAIN);
    }

    /// Repeats what is unanswered, and draws conclusions from what stays so.
    pub(super) fn repeat_requests(&mut self, now: Instant) {
        let mut given_up = Vec::new();
        let mut again = Vec::new();
        self.pending
            .retain_mut(|pending| match pending.clock.handle_timeout(now) {
                Due::Nothing => true,
                Due::Send => {
                    again.push(pending.bytes.clone());
                    true
                }
                Due::GiveUp => {
                    given_up.push((pending.purpose, pending.since));
                    false
                }
            });
        for bytes in again {
            self.transmit(bytes, now);
        }
        for (purpose, since) in given_up {
            self.give_up(purpose, since, now);
        }
    }

    fn give_up(&mut self, purpose: Purpose, since: Instant, now: Instant) {
        if self.closing {
            return self.end(AllocationOutput::Closed);
        }
        let heard = self.heard.filter(|heard| *heard >= since);
        match (purpose, heard) {
            // It talks, but of this it says nothing.
            (Purpose::Permission(peer), Some(_)) => self.permissions.refuse(peer.ip(), now),
            (Purpose::Channel(peer), Some(_)) => self.peers.refuse_channel(peer, now),
            // What was not refreshed in the end runs out. What was sealed otherwise is no sign of life.
            (Purpose::Refresh(_), Some(heard)) if !self.wrong_seal => self.refresh_later(heard),
            // The peer may take its time.
            (Purpose::Connect(peer), _) => self.not_connected(peer, TurnError::NoAnswer),
            (
                Purpose::Allocate
                | Purpose::Refresh(_)
                | Purpose::Permission(_)
                | Purpose::Channel(_),
                _,
            ) => {
                let error = if self.wrong_seal {
                    TurnError::WrongSeal
                } else {
                    TurnError::NoAnswer
                };
                self.fail(error);
            }
        }
    }

    /// What an allocation that stands needs from time to time.
    pub(super) fn maintain(&mut self, now: Instant) {
        if self.expires_at.is_some_and(|at| at <= now) {
            return self.fail(TurnError::Expired);
        }
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh(now);
        }
        self.renew_permissions(now);
        self.renew_channels(now);
        if self.probe_at.is_some_and(|at| at <= now) {
            self.probe_at = None;
            if self
                .heard
                .is_none_or(|heard| heard + self.config.probe <= now)
            {
                self.refresh(now);
            }
        }
        if self.keepalive_at.is_some_and(|at| at <= now) {
            let idle_for = |spoke: Instant| now.saturating_duration_since(spoke);
            if self
                .spoke
                .is_none_or(|spoke| idle_for(spoke) >= self.config.keepalive)
            {
                self.keep_alive(now);
            }
            self.keepalive_at = self.spoke.map(|spoke| spoke + self.config.keepalive);
        }
    }

    /// An indication, which is answered by nobody.
    fn keep_alive(&mut self, now: Instant) {
        let transaction = self.random.transaction();
        let indication = MessageBuilder::new(Class::Indication, Method::BINDING, transaction);
        if let Ok(bytes) = indication.finish(None, false) {
            self.transmit(bytes, now);
        }
    }

    pub(super) fn transmit(&mut self, bytes: Bytes, now: Instant) {
        self.spoke = Some(now);
        self.outputs
            .push_back(AllocationOutput::Transmit(bytes.into()));
    }

    fn timing(&self) -> Timing {
        let timing = match self.state {
            State::Standing => self.config.alive,
            State::New | State::Allocating | State::Ended => self.config.timing,
        };
        match self.config.framing {
            Framing::Datagram => timing,
            // As long as all the sending and waiting would take over UDP, halved.
            Framing::Stream => Timing {
                rto: timing.rto,
                requests: 1,
                last: ((1 << timing.requests.min(16)) + timing.last) / 2,
            },
        }
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.config.lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn message(
        &self,
        purpose: Purpose,
        transaction: TransactionId,
        key: Option<&IntegrityKey>,
    ) -> Result<Bytes, StunError> {
        let protocol = match self.config.relayed {
            Relayed::Datagrams => wire::UDP,
            Relayed::Connections => wire::TCP,
        };
        let builder = MessageBuilder::new(Class::Request, purpose.method(), transaction);
        let mut builder = match purpose {
            Purpose::Allocate => {
                let builder = builder
                    .attribute(Attribute::Lifetime(self.lifetime()))
                    .raw(kind::REQUESTED_TRANSPORT, &[protocol, 0, 0, 0]);
                let builder = match self.config.families {
                    Families::V4 => builder,
                    Families::V6 => {
                        builder.raw(attribute::REQUESTED_ADDRESS_FAMILY, &wire::family(true))
                    }
                    Families::Both => {
                        builder.raw(attribute::ADDITIONAL_ADDRESS_FAMILY, &wire::family(true))
                    }
                };
                if self.config.dont_fragment {
                    builder.raw(attribute::DONT_FRAGMENT, &[])
                } else {
                    builder
                }
            }
            Purpose::Refresh(lifetime) => builder.attribute(Attribute::Lifetime(lifetime)),
            Purpose::Permission(peer) | Purpose::Connect(peer) => {
                builder.attribute(Attribute::XorPeerAddress(peer))
            }
            Purpose::Channel(peer) => builder
                .attribute(Attribute::ChannelNumber(self.peers.number(peer)))
                .attribute(Attribute::XorPeerAddress(self.peers.address(peer))),
        };
        builder = self.login.write(builder);
        builder.finish(key, false)
    }
}
