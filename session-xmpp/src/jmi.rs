//! Jingle Message Initiation (XEP-0353): a session is announced to all devices of an account by a message, and begins with
//! the one that answers.
//!
//! [`Jmi`] speaks version 0.8 and understands those since 0.3: `accept` is sent to our own devices for clients that know
//! no carbons of `proceed`, and taken for `proceed` where a peer sends it. It does no I/O: it takes messages, calls and
//! time, and gives [`JmiOutput`]s. It begins no session; after [`JmiOutput::Proceed`] the application does, with the id as
//! the session's own.

mod wire;

use crate::{address, stanza::Envelope};
use session_core::{Element, Peer, Reason, ReasonCondition};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use wire::{Said, Verb};

/// The namespace of all versions but 0.4 and 0.5.
pub const JMI: &str = "urn:xmpp:jingle-message:0";

/// Calls that are known at a time. Past it, proposals are not taken.
pub const CALLS_MAX: usize = 64;

/// Proposals of one account that ring at a time. Past it, more are not taken.
pub const CALLS_PER_ACCOUNT_MAX: usize = 4;

/// Ids of the past that are remembered, so that a message which comes twice or late does not begin anything.
pub const PAST_MAX: usize = 256;

/// The longest id that is taken.
const ID_MAX: usize = 256;

/// How a [`Jmi`] counts time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JmiConfig {
    /// How long a proposal of ours waits for an answer before it is retracted.
    pub answer: Duration,
    /// How long a proposal of somebody rings when nobody does anything about it.
    pub ring: Duration,
    /// How long the session of a call that was answered here may take to come.
    pub offer: Duration,
    /// A proposal that was delayed for longer than this on its way is not taken (XEP-0203).
    pub age: Duration,
}

impl Default for JmiConfig {
    /// 45 s for an answer and 60 s of ringing, as clients have it; a minute for the session, and of delay.
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(45),
            ring: Duration::from_secs(60),
            offer: Duration::from_secs(60),
            age: Duration::from_secs(60),
        }
    }
}

/// What a [`Jmi`] wants or tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JmiOutput {
    /// This `<message/>` is to be sent.
    Send(Element),
    /// Somebody offers a session.
    Proposed {
        /// The id, which the session will have.
        id: Arc<str>,
        /// The device that offers it.
        from: Peer,
        /// One description for each medium.
        descriptions: Vec<Element>,
        /// The call of the same account that this one continues on another device, and which ends when this one is
        /// answered. It should be, without asking (XEP-0353 §4.2).
        continues: Option<Arc<str>>,
    },
    /// A device of whom we called rings.
    Ringing {
        /// The call.
        id: Arc<str>,
        /// The device.
        by: Peer,
    },
    /// A device of whom we called has answered: the session is to be initiated with it, under this id.
    Proceed {
        /// The call, and the session's id.
        id: Arc<str>,
        /// The device.
        with: Peer,
    },
    /// A call is over, whoever ended it; for this reason, once.
    Over {
        /// The call.
        id: Arc<str>,
        /// How it ended.
        end: JmiEnd,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JmiEnd {
    /// Who was called declined.
    Rejected(Option<Reason>),
    /// Who called withdrew.
    Retracted(Option<Reason>),
    /// Another device of ours answered it.
    AnsweredElsewhere(Peer),
    /// Another device of ours declined it.
    RejectedElsewhere,
    /// Both called at once, and the other call is the one that goes on.
    TieBreak {
        /// That call, where it is known already.
        by: Option<Arc<str>>,
    },
    /// It goes on under another id.
    Migrated(Arc<str>),
    /// The session that it led to is over.
    Finished(Option<Reason>),
    /// Nobody answered in time, or the session of a call that was answered here did not come: the answer may be lost.
    Unanswered,
    /// The message with the proposal came back: no device of the account is there, and nothing is kept for one.
    Unreachable,
    /// We ended it ourselves.
    Ours,
}

/// What cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JmiError {
    /// There is no such call, or it is not at a point where this can be done.
    #[error("no such call, or not now")]
    NoCall,
    /// The id is in use, was in use, or is too long.
    #[error("this id cannot be used")]
    BadId,
    /// [`CALLS_MAX`].
    #[error("more than {CALLS_MAX} calls")]
    TooMany,
}

#[derive(Clone, Debug)]
struct Call {
    /// The other account.
    account: Peer,
    state: State,
    /// When it has waited for too long.
    due: Option<Instant>,
}

impl Call {
    /// Whether it was answered here, and its session is still to come.
    fn is_expected(&self) -> bool {
        self.due.is_some() && matches!(self.state, State::Answered { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// We called.
    Calling,
    /// Somebody calls, from this device.
    Called { from: Peer },
    /// It was answered; the device at the other side.
    Answered { with: Peer },
}

/// See the [module](self).
#[derive(Debug)]
pub struct Jmi {
    own: Peer,
    config: JmiConfig,
    calls: BTreeMap<Arc<str>, Call>,
    past: VecDeque<Arc<str>>,
    outputs: VecDeque<JmiOutput>,
}

impl Jmi {
    /// For the device with this full address.
    pub fn new(own: Peer, config: JmiConfig) -> Self {
        Self {
            own,
            config,
            calls: BTreeMap::new(),
            past: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// How calls that begin from now on count time.
    pub fn set_config(&mut self, config: JmiConfig) {
        self.config = config;
    }

    /// The device has another address now, after a new login.
    pub fn set_own(&mut self, own: Peer) {
        self.own = own;
    }

    /// The calls that are not over.
    pub fn calls(&self) -> impl Iterator<Item = &Arc<str>> {
        self.calls.keys()
    }

    /// Whether a device of an account calls us, and we have done nothing about it.
    pub fn is_called_by(&self, account: &Peer) -> bool {
        let calls = |call: &Call| matches!(call.state, State::Called { .. });
        let mut all = self.calls.values();
        all.any(|call| calls(call) && call.account.as_str() == account.account())
    }

    /// Calls an account: all of its devices ring. The id has to be unique in the world: a UUID of version 4.
    ///
    /// # Errors
    /// [`JmiError::BadId`], [`JmiError::TooMany`].
    pub fn propose(
        &mut self,
        id: &str,
        account: &Peer,
        descriptions: Vec<Element>,
        now: Instant,
    ) -> Result<(), JmiError> {
        if !self.is_fresh(id) {
            return Err(JmiError::BadId);
        }
        if self.calls.len() >= CALLS_MAX {
            return Err(JmiError::TooMany);
        }
        let call = Call {
            account: address::bare(account),
            state: State::Calling,
            due: now.checked_add(self.config.answer),
        };
        self.say(Verb::Propose, id, &call.account, descriptions);
        self.calls.insert(id.into(), call);
        Ok(())
    }

    /// Tells the caller that we ring. It shows that we are here, so it is for callers whom we know (XEP-0353 §7).
    ///
    /// # Errors
    /// [`JmiError::NoCall`].
    pub fn ring(&mut self, id: &str) -> Result<(), JmiError> {
        let from = self.caller_of(id)?;
        self.say(Verb::Ringing, id, &from, Vec::new());
        Ok(())
    }

    /// Answers a call on this device: the caller will offer the session. Once that is there, [`Self::begun`] is to be
    /// said; without it the call is over after [`JmiConfig::offer`]. Calls with the same account that were answered before go
    /// on in this one, and are over (XEP-0353 §4.2).
    ///
    /// # Errors
    /// [`JmiError::NoCall`].
    pub fn accept(&mut self, id: &str, now: Instant) -> Result<(), JmiError> {
        let from = self.caller_of(id)?;
        while let Some((old, with)) = self.answered_of(&address::bare(&from)) {
            let reason = wire::reason(&Reason::new(ReasonCondition::Expired));
            let migrated = Element::new(JMI, "migrated").with("to", id);
            self.say(Verb::Finish, &old, &with, vec![reason, migrated]);
            self.over(&old, JmiEnd::Migrated(id.into()));
        }
        let ours = address::bare(&self.own);
        self.say(Verb::Accept, id, &ours, Vec::new());
        self.say(Verb::Proceed, id, &from, Vec::new());
        if let Some(call) = self.calls.get_mut(id) {
            call.due = now.checked_add(self.config.offer);
            call.state = State::Answered { with: from };
        }
        Ok(())
    }

    /// The calls that were answered here and whose session is still to come.
    pub fn expected(&self) -> impl Iterator<Item = &Arc<str>> {
        let expected = self.calls.iter().filter(|(_, call)| call.is_expected());
        expected.map(|(id, _)| id)
    }

    /// The session of a call is there, which lasts until [`Self::finish`] from now on.
    pub fn begun(&mut self, id: &str) {
        if let Some(call) = self.calls.get_mut(id).filter(|call| call.is_expected()) {
            call.due = None;
        }
    }

    /// Declines a call, for all of our devices.
    ///
    /// # Errors
    /// [`JmiError::NoCall`].
    pub fn reject(&mut self, id: &str, reason: &Reason) -> Result<(), JmiError> {
        let from = self.caller_of(id)?;
        self.say(Verb::Reject, id, &from, vec![wire::reason(reason)]);
        // For those of our devices that learn nothing by carbons.
        let ours = address::bare(&self.own);
        self.say(Verb::Reject, id, &ours, vec![wire::reason(reason)]);
        self.over(id, JmiEnd::Ours);
        Ok(())
    }

    /// Leaves a call to our other devices: nobody hears anything of this one.
    ///
    /// # Errors
    /// [`JmiError::NoCall`].
    pub fn ignore(&mut self, id: &str) -> Result<(), JmiError> {
        self.caller_of(id)?;
        self.over(id, JmiEnd::Ours);
        Ok(())
    }

    /// Withdraws a call of ours that nobody has answered.
    ///
    /// # Errors
    /// [`JmiError::NoCall`].
    pub fn retract(&mut self, id: &str, reason: &Reason) -> Result<(), JmiError> {
        let call = self
            .calls
            .get(id)
            .filter(|call| call.state == State::Calling);
        let account = call.ok_or(JmiError::NoCall)?.account.clone();
        self.say(Verb::Retract, id, &account, vec![wire::reason(reason)]);
        self.over(id, JmiEnd::Ours);
        Ok(())
    }

    /// The session that an answered call led to is over.
    ///
    /// # Errors
    /// [`JmiError::NoCall`].
    pub fn finish(&mut self, id: &str, reason: &Reason) -> Result<(), JmiError> {
        let state = self.calls.get(id).map(|call| call.state.clone());
        let Some(State::Answered { with }) = state else {
            return Err(JmiError::NoCall);
        };
        self.say(Verb::Finish, id, &with, vec![wire::reason(reason)]);
        self.over(id, JmiEnd::Ours);
        Ok(())
    }

    /// Who calls by a message, or by a carbon of one: it is what [`Self::handle_message`] will read. `None` if it begins no
    /// call, or one of our own account.
    pub fn caller(&self, message: &Envelope) -> Option<Peer> {
        let said = Said::read(message, &self.own)?;
        let is_ours = said.from.account() == self.own.account();
        (said.verb == Verb::Propose && !is_ours).then_some(said.from)
    }

    /// Takes a message: one for us, or a carbon of one for or from another device of ours. `delay` is for how long it was
    /// on its way, if it says so (XEP-0203). Returns whether it was about calls.
    ///
    /// What comes out of an archive (XEP-0313) is not to be given here: it is about what was.
    pub fn handle_message(
        &mut self,
        message: &Envelope,
        delay: Option<Duration>,
        now: Instant,
    ) -> bool {
        if let Some(id) = wire::bounced(message) {
            return self.bounced(id, &message.from);
        }
        let Some(said) = Said::read(message, &self.own) else {
            return false;
        };
        if said.id.len() > ID_MAX || said.id.is_empty() || said.from == self.own {
            return true;
        }
        let is_ours = said.from.account() == self.own.account();
        if is_ours {
            self.our_device_said(&said);
        } else if said.verb == Verb::Propose {
            if delay.unwrap_or_default() <= self.config.age {
                self.proposed(said, now);
            }
        } else {
            self.peer_said(&said);
        }
        true
    }

    /// The instant of [`Self::poll_timeout`] has come, or perhaps.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = self
            .calls
            .iter()
            .filter(|(_, call)| call.due.is_some_and(|due| due <= now));
        let due: Vec<_> = due.map(|(id, call)| (id.clone(), call.clone())).collect();
        for (id, call) in due {
            let reason = || vec![wire::reason(&Reason::new(ReasonCondition::Timeout))];
            match &call.state {
                State::Calling => self.say(Verb::Retract, &id, &call.account, reason()),
                State::Answered { with } => self.say(Verb::Finish, &id, with, reason()),
                State::Called { .. } => {}
            }
            self.over(&id, JmiEnd::Unanswered);
        }
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.calls.values().filter_map(|call| call.due).min()
    }

    /// What is to be done or told next.
    pub fn poll_output(&mut self) -> Option<JmiOutput> {
        self.outputs.pop_front()
    }

    /// A proposal has come back. Returns whether it was ours.
    fn bounced(&mut self, id: &str, from: &Peer) -> bool {
        let call = self.calls.get(id);
        let ours = call.is_some_and(|call| call.account.as_str() == from.account());
        if ours && call.is_some_and(|call| call.state == State::Calling) {
            self.over(id, JmiEnd::Unreachable);
        }
        ours
    }

    fn is_fresh(&self, id: &str) -> bool {
        let past = self.past.iter().any(|past| &**past == id);
        !id.is_empty() && id.len() <= ID_MAX && !past && !self.calls.contains_key(id)
    }

    /// The device that calls us under this id.
    fn caller_of(&self, id: &str) -> Result<Peer, JmiError> {
        match self.calls.get(id).map(|call| &call.state) {
            Some(State::Called { from }) => Ok(from.clone()),
            Some(State::Calling | State::Answered { .. }) | None => Err(JmiError::NoCall),
        }
    }

    /// Another device of ours has said something about a call, or it was said for all of us.
    fn our_device_said(&mut self, said: &Said) {
        let state = self.calls.get(&said.id).map(|call| call.state.clone());
        match (state, said.verb) {
            (Some(State::Called { .. }), Verb::Accept | Verb::Proceed) => {
                self.over(&said.id, JmiEnd::AnsweredElsewhere(said.from.clone()));
            }
            (Some(State::Called { .. }), Verb::Reject) => {
                self.over(&said.id, JmiEnd::RejectedElsewhere);
            }
            // What our other devices call, ring or end is theirs. But an answer may overtake the call itself.
            (None, Verb::Accept | Verb::Proceed | Verb::Reject) => self.remember(&said.id),
            _ => {}
        }
    }

    fn peer_said(&mut self, said: &Said) {
        let Some(call) = self.calls.get(&said.id) else {
            let answer = matches!(said.verb, Verb::Accept | Verb::Proceed);
            if said.verb == Verb::Retract {
                // A call may be overtaken by its end.
                self.remember(&said.id);
            } else if answer && said.to == self.own && self.past.contains(&said.id) {
                // Whoever answers what is over waits for a session.
                let reason = wire::reason(&Reason::new(ReasonCondition::Cancel));
                self.say(Verb::Retract, &said.id, &said.from, vec![reason]);
            }
            return;
        };
        if said.from.account() != call.account.as_str() {
            return;
        }
        // A carbon tells what was said to another device of ours: whoever called is at that device.
        if said.to.device().is_some() && said.to != self.own {
            return;
        }
        let from = said.from.clone();
        match (call.state.clone(), said.verb) {
            (State::Calling, Verb::Ringing) => {
                let id = said.id.clone();
                self.outputs.push_back(JmiOutput::Ringing { id, by: from });
            }
            (State::Calling, Verb::Accept | Verb::Proceed) => self.answered(&said.id, from),
            (State::Calling, Verb::Reject) if said.tie_break => {
                self.over(&said.id, JmiEnd::TieBreak { by: None });
            }
            (State::Calling, Verb::Reject) => {
                self.over(&said.id, JmiEnd::Rejected(said.reason.clone()));
            }
            (State::Called { .. }, Verb::Retract) => {
                self.over(&said.id, JmiEnd::Retracted(said.reason.clone()));
            }
            // Some end a call that was not answered as if it had been.
            (State::Called { from: caller }, Verb::Finish) if caller == from => {
                self.over(&said.id, JmiEnd::Retracted(said.reason.clone()));
            }
            // Two devices have answered, and this is the later.
            (State::Answered { with }, Verb::Proceed | Verb::Accept) if with != from => {
                let reason = wire::reason(&Reason::new(ReasonCondition::Cancel));
                self.say(Verb::Retract, &said.id, &from, vec![reason]);
            }
            (State::Answered { with }, Verb::Finish | Verb::Retract) if with == from => {
                let finished = JmiEnd::Finished(said.reason.clone());
                let end = said.migrated.clone().map_or(finished, JmiEnd::Migrated);
                self.over(&said.id, end);
            }
            _ => {}
        }
    }

    fn answered(&mut self, id: &Arc<str>, with: Peer) {
        if with.device().is_none() {
            return;
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.due = None;
            call.state = State::Answered { with: with.clone() };
        }
        let id = id.clone();
        self.outputs.push_back(JmiOutput::Proceed { id, with });
    }

    fn proposed(&mut self, said: Said, now: Instant) {
        if !self.is_fresh(&said.id) && self.tie_of_equals(&said).is_none() {
            return;
        }
        let account = address::bare(&said.from);
        let of_account = |call: &&Call| call.account == account;
        let ringing = self.calls.values().filter(of_account).count();
        if self.calls.len() >= CALLS_MAX || ringing >= CALLS_PER_ACCOUNT_MAX {
            return;
        }
        let found = |state: fn(&State) -> bool| {
            let mut calls = self.calls.iter();
            let found = calls.find(|(_, call)| call.account == account && state(&call.state));
            found.map(|(id, _)| id.clone())
        };
        if let Some(ours) = found(|state| *state == State::Calling) {
            let wins = (&*said.id, account.as_str()) < (&*ours, self.own.account());
            let reason = wire::reason(&Reason::new(ReasonCondition::Expired));
            let parts = vec![reason, Element::new(JMI, "tie-break")];
            if !wins {
                let id = said.id.clone();
                self.say(Verb::Reject, &id, &account, parts);
                return self.remember(&id);
            }
            self.say(Verb::Retract, &ours, &account, parts);
            let by = Some(said.id.clone());
            self.over(&ours, JmiEnd::TieBreak { by });
        }
        let continues = self.answered_of(&account).map(|(id, _)| id);
        let from = said.from.clone();
        let call = Call {
            account,
            state: State::Called { from: from.clone() },
            due: now.checked_add(self.config.ring),
        };
        self.past.retain(|past| *past != said.id);
        self.calls.insert(said.id.clone(), call);
        self.outputs.push_back(JmiOutput::Proposed {
            id: said.id,
            from,
            descriptions: said.descriptions,
            continues,
        });
    }

    /// The call of an account that was answered, and the device at the other side.
    fn answered_of(&self, account: &Peer) -> Option<(Arc<str>, Peer)> {
        self.calls.iter().find_map(|(id, call)| match &call.state {
            State::Answered { with } if call.account == *account => {
                Some((id.clone(), with.clone()))
            }
            State::Answered { .. } | State::Calling | State::Called { .. } => None,
        })
    }

    /// Whether somebody calls us under the id under which we call him.
    fn tie_of_equals(&self, said: &Said) -> Option<&Call> {
        let call = self.calls.get(&said.id)?;
        let same = call.state == State::Calling && call.account.as_str() == said.from.account();
        same.then_some(call)
    }

    fn say(&mut self, verb: Verb, id: &str, to: &Peer, parts: Vec<Element>) {
        let message = wire::message(verb, id, to, parts);
        self.outputs.push_back(JmiOutput::Send(message));
    }

    fn over(&mut self, id: &str, end: JmiEnd) {
        if let Some((id, _)) = self.calls.remove_entry(id) {
            self.remember(&id);
            self.outputs.push_back(JmiOutput::Over { id, end });
        }
    }

    fn remember(&mut self, id: &Arc<str>) {
        if self.past.contains(id) {
            return;
        }
        if self.past.len() == PAST_MAX {
            self.past.pop_front();
        }
        self.past.push_back(id.clone());
    }
}

#[cfg(test)]
mod tests;
