//! How a call of ours comes about.

use crate::{
    Ringing,
    announce::Announced,
    failed,
    form::{Form, GOOGLE, JINGLE},
    keys::Keys,
    outcome,
    phone::{Conversation, FEATURES, Phone, changes},
};
use serde_json::json;
use session_core::{Peer, Reason, ReasonCondition};
use session_voice::{CallError, CallOffer, NegotiationError};
use session_xmpp::{
    cli::{Found, Online, Problem},
    jmi::{JMI, JmiEnd},
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How long the call may take that comes in the place of ours: it was sent before ours was refused.
const CROSSED_MAX: Duration = Duration::from_secs(5);

/// How long another device of ours may take to show itself, and how often to look.
const APPEAR_MAX: Duration = Duration::from_secs(8);
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Phone {
    /// Calls somebody. Without a device in the address all of the account's devices ring, where they know how to
    /// (XEP-0353); else one is called that can. If it calls us at the same moment, its call may be the one. None if we were
    /// interrupted.
    pub(crate) async fn dial(
        &mut self,
        to: &Peer,
        ring: Duration,
        keys: &mut Keys,
    ) -> Result<Option<Conversation>, Problem> {
        if *to == self.online.address {
            let hint = "name another device, or the account alone to call your other devices";
            return Err(Problem::usage(
                format!("TO {to}"),
                "it is this very device",
                hint,
            ));
        }
        let is_own = to.device().is_none() && to.account() == self.online.address.account();
        self.line().dial(to);
        let found = tokio::select! {
            found = self.reach(to, is_own) => found,
            () = keys.quit(&self.screen) => return Ok(None),
        };
        let is_silent = matches!(&found, Err(problem) if problem.code == "peer-offline");
        let is_google = matches!(&found, Ok(found) if !knows_messages(found.dialect.name));
        // Our own devices take nothing that one of them announces.
        let by_message = to.device().is_none() && !is_google && !is_own;
        if by_message && (is_silent || self.takes_messages(to)) {
            return self.dial_announced(to, ring, keys).await;
        }
        if self.line().crossed {
            return self.crossed(to, keys).await;
        }
        let found = found?;
        let form = if is_google { GOOGLE } else { JINGLE };
        match self.offer(found.device, form, Some(found.dialect), None)? {
            Some(call) => Ok(Some(call)),
            None => self.crossed(to, keys).await,
        }
    }

    /// The device to call; of our own account, another than this.
    async fn reach(&self, to: &Peer, is_own: bool) -> Result<Found, Problem> {
        if !is_own {
            return self.online.find(to, FEATURES).await;
        }
        let Online {
            discovery,
            endpoint,
            address,
            ..
        } = &self.online;
        for _ in 0..APPEAR_MAX.as_millis() / LOOK_EVERY.as_millis() {
            // Those are asked that have not said what they can; which it chooses may be this one.
            discovery.find(endpoint, to, FEATURES).await;
            let found = discovery.with(|directory| {
                let mut devices = directory.devices(to).into_iter();
                devices.find(|device| {
                    let info = directory.info(device);
                    let has_all =
                        info.is_some_and(|info| FEATURES.iter().all(|name| info.has(name)));
                    device != address && has_all
                })
            });
            if let Some(device) = found {
                return self.online.find(&device, FEATURES).await;
            }
            sleep(LOOK_EVERY).await;
        }
        let why = "no other device of yours is there that takes calls";
        let hint = "start `call answer` there";
        Err(failed("peer-offline", &format!("reach {to}"), why, hint))
    }

    /// Calls an account by a message to all of its devices.
    async fn dial_announced(
        &mut self,
        to: &Peer,
        ring: Duration,
        keys: &mut Keys,
    ) -> Result<Option<Conversation>, Problem> {
        match self.propose(to, ring, keys).await? {
            Announced::Stopped => Ok(None),
            Announced::Offered(offer, form) => Ok(Some(self.take_crossed(&offer, form))),
            Announced::Crossed(id, from) => {
                self.tell_crossed(&from);
                self.take_up(&id, &from)?;
                let ringing = Ringing::at_once();
                self.take_announced(&id, &from, ringing, keys).await
            }
            Announced::Answered(id, device) => {
                let offered = self.offer(device, JINGLE, None, Some(id.clone()));
                if offered.is_err() {
                    let reason = Reason::new(ReasonCondition::FailedApplication);
                    // Who has answered does not wait for nothing. It may be over.
                    let _ = self
                        .online
                        .calls
                        .update(|calls, _| calls.finish(&id, &reason));
                }
                offered
            }
        }
    }

    /// Takes the call of whom we call in the place of ours. None if we were interrupted.
    pub(crate) async fn crossed(
        &mut self,
        from: &Peer,
        keys: &mut Keys,
    ) -> Result<Option<Conversation>, Problem> {
        let (offer, form) = tokio::select! {
            offer = self.offers.next() => offer,
            () = sleep(CROSSED_MAX) => {
                let end = JmiEnd::TieBreak { by: None };
                return Err(outcome::unanswered(from, &end));
            }
            () = keys.quit(&self.screen) => return Ok(None),
        };
        Ok(Some(self.take_crossed(&offer, form)))
    }

    fn take_crossed(&self, offer: &CallOffer, form: Form) -> Conversation {
        self.tell_crossed(&offer.from);
        self.take(offer, form, None, Ringing::at_once())
    }

    fn tell_crossed(&self, from: &Peer) {
        let text = format!("{from} calls at the same moment: its call goes on");
        let facts = json!({ "peer": from.as_str() });
        self.screen.tell("crossed", facts, &text);
    }

    /// Whether a device of an account is known to take announcements.
    fn takes_messages(&self, account: &Peer) -> bool {
        self.online.discovery.with(|directory| {
            let devices = directory.devices(account).into_iter();
            let mut infos = devices.filter_map(|device| directory.info(&device));
            infos.any(|info| info.has(JMI))
        })
    }

    /// Offers a session to a device. None if that device calls us at this moment.
    fn offer(
        &self,
        to: Peer,
        form: Form,
        dialect: Option<&'static session_core::Dialect>,
        announced: Option<Arc<str>>,
    ) -> Result<Option<Conversation>, Problem> {
        let own = self.online.address.clone();
        let device = to.clone();
        let dialled = self.online.endpoint.update(|manager, now| {
            let mut line = self.line();
            if announced.is_none() && line.crossed {
                return Ok(None);
            }
            line.dials = announced.is_none().then(|| device.clone());
            drop(line);
            let id = manager.create_session(own, form.namespace, now)?;
            let session = manager.session(id);
            let session = session.ok_or(session_core::Misuse::NoSuchSession(id))?;
            if let Some(dialect) = dialect {
                session.set_dialect(dialect)?;
            }
            if let Some(sid) = &announced {
                session.set_sid(sid)?;
            }
            let dialled = (form.dial)(manager, id, device, now);
            dialled.map(|()| Some((id, changes(manager, form, id))))
        });
        let dialled = dialled.map_err(|error| {
            if error == CallError::Negotiation(NegotiationError::NoCertificate) {
                return outcome::unproved(&to);
            }
            failed("dial", "call", error, "")
        })?;
        let Some((session, changes)) = dialled else {
            return Ok(None);
        };
        let text = format!("calling {to}");
        self.screen
            .tell("calling", json!({ "peer": to.as_str() }), &text);
        self.line().session = Some(session);
        Ok(Some(Conversation {
            session,
            form,
            peer: to,
            announced,
            changes,
            ringing: None,
        }))
    }
}

/// Whether who speaks this dialect may know announcements.
fn knows_messages(dialect: &str) -> bool {
    ["jingle", "hybrid"].contains(&dialect)
}
