//! Calls that are announced by messages to all devices of an account (XEP-0353).

use crate::{
    Ringing, failed,
    form::{Form, JINGLE},
    keys::Keys,
    outcome,
    phone::{Conversation, Phone},
};
use serde_json::json;
use session_core::{Element, Peer, Reason, ReasonCondition};
use session_voice::{CallOffer, RTP};
use session_xmpp::{
    cli::{self, Problem},
    jmi::{JMI, JmiConfig, JmiEnd, JmiOutput},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep_until};

/// How long who was answered may take to offer the session.
const OFFER_MAX: Duration = Duration::from_secs(30);

/// What comes of a call that was announced.
pub(super) enum Announced {
    /// A device has answered, and waits for the session.
    Answered(Arc<str>, Peer),
    /// Whom we call has announced a call to us at the same moment, and that is the one that goes on.
    Crossed(Arc<str>, Peer),
    /// The same with an offer.
    Offered(Box<CallOffer>, Form),
    /// We gave up.
    Stopped,
}

impl Phone {
    /// Lets all devices of an account ring, until one answers.
    pub(super) async fn propose(
        &mut self,
        to: &Peer,
        ring: Duration,
        keys: &mut Keys,
    ) -> Result<Announced, Problem> {
        let call: Arc<str> = uuid().into();
        let mut config = JmiConfig::default();
        config.answer = ring;
        let media = vec![Element::new(RTP, "description").with("media", "audio")];
        let proposed = self.online.calls.update(|calls, now| {
            calls.set_config(config);
            // Both want this call: then it needs no other.
            let is_called = calls.is_called_by(to);
            (!is_called).then(|| calls.propose(&call, to, media, now))
        });
        let soon = || Instant::now() + OFFER_MAX;
        let mut crossed = proposed.is_none().then(soon);
        let proposed = proposed.unwrap_or(Ok(()));
        proposed.map_err(|error| failed("dial", "call", error, ""))?;
        let text = format!("calling {to}");
        self.screen
            .tell("announced", json!({ "peer": to.as_str() }), &text);
        let give_up = |phone: &Self, condition| {
            let reason = Reason::new(condition);
            // What was answered at this moment ends when we log out.
            let calls = &phone.online.calls;
            let _ = calls.update(|calls, _| calls.retract(&call, &reason));
        };
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                (offer, form) = self.offers.next() => {
                    give_up(self, ReasonCondition::Expired);
                    return Ok(Announced::Offered(Box::new(offer), form));
                }
                () = sleep_until(crossed.unwrap_or_else(Instant::now)), if crossed.is_some() => {
                    let end = JmiEnd::TieBreak { by: None };
                    return Err(outcome::unanswered(to, &end));
                }
                problem = self.online.ended() => return Err(problem),
                () = keys.quit(&self.screen) => {
                    give_up(self, ReasonCondition::Cancel);
                    return Ok(Announced::Stopped);
                }
            };
            match event {
                Some(JmiOutput::Ringing { id, by }) if id == call => {
                    self.rings_there = true;
                    let text = format!("it rings at {by}");
                    self.screen
                        .tell("ringing", json!({ "by": by.as_str() }), &text);
                }
                Some(JmiOutput::Proceed { id, with }) if id == call => {
                    return Ok(Announced::Answered(id, with));
                }
                Some(JmiOutput::Over { id, end }) if id == call => {
                    if matches!(end, JmiEnd::TieBreak { .. }) {
                        crossed = Some(soon());
                    } else if !self.line().crossed {
                        // Who is busy with a call to us says so, which is no end.
                        return Err(outcome::unanswered(to, &end));
                    }
                }
                Some(JmiOutput::Proposed {
                    id,
                    from,
                    descriptions,
                    ..
                }) if crossed.is_some()
                    && from.account() == to.account()
                    && is_sound(&descriptions) =>
                {
                    return Ok(Announced::Crossed(id, from));
                }
                Some(event) => self.turn_away(&event),
                None => return Err(failed("closed", "call", "the login is over", "")),
            }
        }
    }

    /// Lets an announced call ring, then answers or declines it. Whether it was answered.
    pub(super) async fn ring_announced(
        &mut self,
        call: &Arc<str>,
        from: &Peer,
        ringing: &Ringing,
        keys: &mut Keys,
    ) -> Result<bool, Problem> {
        let gone = |_| outcome::missed(from);
        let rings = self.online.calls.update(|calls, _| calls.ring(call));
        rings.map_err(gone)?;
        self.line().calls = true;
        let until = Instant::now() + ringing.length;
        let mut declines = ringing.declines;
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                problem = self.online.ended() => return Err(problem),
                () = keys.quit(&self.screen) => {
                    declines = true;
                    break;
                }
                event = self.events.recv() => self.rings_on(call, from, event)?,
            }
        }
        if declines {
            let reason = Reason::new(ReasonCondition::Decline);
            let rejected = self
                .online
                .calls
                .update(|calls, _| calls.reject(call, &reason));
            rejected.map_err(gone)?;
            let facts = json!({ "peer": from.as_str() });
            self.screen.tell("declined", facts, "declined");
            return Ok(false);
        }
        self.take_up(call, from)?;
        Ok(true)
    }

    /// Asks for the session of an announced call, so that other devices stop ringing. A session that there is stays, if the
    /// call is over already.
    pub(crate) fn take_up(&self, call: &Arc<str>, from: &Peer) -> Result<(), Problem> {
        let before = self.line().expect(from);
        let accepted = self
            .online
            .calls
            .update(|calls, now| calls.accept(call, now));
        accepted.map_err(|_| {
            self.line().session = before;
            outcome::missed(from)
        })
    }

    /// Takes the session that an answered call leads to, which is there soon.
    pub(crate) async fn take_announced(
        &mut self,
        call: &Arc<str>,
        from: &Peer,
        ringing: Ringing,
        keys: &mut Keys,
    ) -> Result<Option<Conversation>, Problem> {
        let until = Instant::now() + OFFER_MAX;
        loop {
            tokio::select! {
                () = sleep_until(until) => {
                    let (what, why) = (format!("speak with {from}"), "it does not offer the session");
                    return Err(failed("no-offer", &what, why, "try again later"));
                }
                problem = self.online.ended() => return Err(problem),
                () = keys.quit(&self.screen) => {
                    let reason = Reason::new(ReasonCondition::Cancel);
                    // It may be over.
                    let _ = self.online.calls.update(|calls, _| calls.finish(call, &reason));
                    return Ok(None);
                }
                event = self.events.recv() => self.rings_on(call, from, event)?,
                (offer, form) = self.offers.next() => {
                    if form.namespace == JINGLE.namespace && self.is_of(&offer, call) {
                        return Ok(Some(self.take(&offer, form, Some(call.clone()), ringing)));
                    }
                    self.refuse(offer.session, form, ReasonCondition::Busy);
                }
            }
        }
    }

    /// Whether an offer is the one that was announced under this id.
    fn is_of(&self, offer: &CallOffer, call: &Arc<str>) -> bool {
        self.online.endpoint.update(|manager, _| {
            let session = manager.peek(offer.session);
            session.is_some_and(|session| session.sid() == call)
        })
    }

    /// Something happened while a call of somebody rings here: an error, once it is over.
    fn rings_on(
        &self,
        call: &Arc<str>,
        from: &Peer,
        event: Option<JmiOutput>,
    ) -> Result<(), Problem> {
        match event {
            Some(JmiOutput::Over { id, end }) if id == *call => match end {
                JmiEnd::AnsweredElsewhere(by) => Err(outcome::elsewhere(from, Some(&by))),
                JmiEnd::RejectedElsewhere => Err(outcome::elsewhere(from, None)),
                JmiEnd::Rejected(_)
                | JmiEnd::Retracted(_)
                | JmiEnd::TieBreak { .. }
                | JmiEnd::Migrated(_)
                | JmiEnd::Finished(_)
                | JmiEnd::Unanswered
                | JmiEnd::Unreachable
                | JmiEnd::Ours
                | _ => Err(outcome::missed(from)),
            },
            Some(event) => {
                self.turn_away(&event);
                Ok(())
            }
            None => Err(failed("closed", "answer", "the login is over", "")),
        }
    }

    /// While there is a call, whoever announces another hears that we are busy; but where another device of ours may take
    /// it, this one is silent: a refusal would be for all of them.
    pub(super) fn turn_away(&self, event: &JmiOutput) {
        if let JmiOutput::Proposed { id, .. } = event {
            let is_left = self.others_take_calls();
            // It may have been withdrawn.
            let _ = self.online.calls.update(|calls, _| match is_left {
                true => calls.ignore(id),
                false => calls.reject(id, &ReasonCondition::Busy.into()),
            });
        }
    }

    /// Whether another device of ours may take a call: one that says so, or has not said what it can.
    fn others_take_calls(&self) -> bool {
        let own = &self.online.address;
        self.online.discovery.with(|directory| {
            let mut devices = directory.devices(&self.online.account()).into_iter();
            devices.any(|device| {
                let info = directory.info(&device);
                device != *own && info.is_none_or(|info| info.has(JMI) && info.has(RTP))
            })
        })
    }
}

/// Whether what was announced is a call with sound.
pub(super) fn is_sound(descriptions: &[Element]) -> bool {
    let mut all = descriptions.iter();
    all.any(|description| description.namespace() == RTP)
}

/// A random id that nobody else has (RFC 9562 §5.4).
fn uuid() -> String {
    let mut bytes = [0; 16];
    cli::random(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::uuid;

    #[test]
    fn ids_have_the_form_of_random_ones() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "4");
        assert!("89ab".contains(&id[19..20]), "{id}");
        assert_ne!(id, uuid());
    }
}
