//! [`Operation`]: what an application or the world can do, as a value, so that it can be drawn, shrunk and kept.

use super::{
    netem::Conditions,
    recorder::{Note, RECORDER_NAMESPACE},
    world::World,
};
use crate::{
    ContentSpec, Element, Peer, Reason, ReasonCondition, Senders, Session, SessionDescription,
    SessionId,
};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// Something to do in a [`World`] whose hosts have [`Recorder`](super::Recorder)s.
///
/// Hosts and sessions are numbers that are taken modulo what is there, so that every sequence makes sense.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// A host offers a session to the next host.
    Call {
        /// Which host.
        host: usize,
    },
    /// A host does something with one of its sessions.
    Session {
        /// Which host.
        host: usize,
        /// Which session.
        session: usize,
        /// What.
        action: Deed,
    },
    /// A host ends all its sessions.
    TerminateAll {
        /// Which host.
        host: usize,
    },
    /// The way of signalling of a host comes or goes.
    Link {
        /// Which host.
        host: usize,
        /// Whether it is there.
        up: bool,
    },
    /// The network for data between two hosts is cut, one way, or joined.
    Cut {
        /// From which host to the next.
        from: usize,
        /// Whether it is cut.
        cut: bool,
    },
    /// The wire for signalling gets worse or better.
    Wire(Conditions),
    /// Time passes.
    Wait(Duration),
}

/// What can be done with a session. What its state does not allow is refused, and that is part of the test.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// Accept the offer.
    Accept,
    /// Decline the offer.
    Reject,
    /// Send the initiator to this host.
    Redirect(usize),
    /// End it.
    Terminate(ReasonCondition),
    /// Let go of it without a word.
    Destroy,
    /// Tell the peer's application something; a ping when empty.
    Info(usize),
    /// Send a packet on a channel.
    Send(usize),
    /// Finish a stream.
    Finish(usize),
    /// Pause or resume a channel.
    Pause(usize, bool),
    /// Create a channel.
    CreateChannel(usize),
    /// Close a channel.
    DestroyChannel(usize),
    /// Propose another content.
    AddContent(usize),
    /// Accept the peer's proposal.
    AcceptContent(usize),
    /// Decline the peer's proposal.
    RejectContent(usize),
    /// Take a content out.
    RemoveContent(usize),
    /// Change who sends.
    SetSenders(usize, Senders),
    /// Tell new parameters.
    Modify(usize),
    /// Propose another transport: the nth of the potential ones.
    ReplaceTransport(usize, usize),
}

/// The names of contents that operations use; the first is the default one.
pub const CONTENTS: [&str; 3] = [crate::DEFAULT_CONTENT, "second", "third"];
/// The names of channels that operations use.
pub const CHANNELS: [&str; 3] = ["data", "more", "most"];

impl World {
    /// Does it. Whether it made sense: what a session refuses is not a failure.
    pub fn apply(&mut self, operation: &Operation) -> bool {
        let hosts = self.host_count();
        match operation {
            Operation::Call { host } => {
                let from = host % hosts;
                let note = Note("offered".into());
                self.call(from, (from + 1) % hosts, RECORDER_NAMESPACE, &note)
                    .is_ok()
            }
            Operation::Session {
                host,
                session,
                action,
            } => {
                let host = host % hosts;
                let sessions = self.sessions(host);
                match sessions.get(session % sessions.len().max(1)) {
                    Some(&id) => self.act(host, id, action),
                    None => false,
                }
            }
            Operation::TerminateAll { host } => {
                self.update(host % hosts, |manager, now| {
                    manager.terminate_all(ReasonCondition::Gone.into(), now);
                });
                true
            }
            Operation::Link { host, up } => {
                self.set_link(host % hosts, *up);
                true
            }
            Operation::Cut { from, cut } => {
                let (from, now) = (from % hosts, self.now());
                self.network().set_cut(from, (from + 1) % hosts, *cut, now);
                true
            }
            Operation::Wire(conditions) => {
                self.set_wire(conditions.clone());
                true
            }
            Operation::Wait(duration) => {
                self.run_for(*duration);
                true
            }
        }
    }

    /// Does something with a session. Whether it was possible.
    pub fn act(&mut self, host: usize, session: SessionId, deed: &Deed) -> bool {
        if let Deed::Destroy = deed {
            self.update(host, |manager, now| manager.destroy_session(session, now));
            return true;
        }
        let target = if let Deed::Redirect(to) = deed {
            self.name(to % self.host_count()).clone()
        } else {
            Peer::from("")
        };
        self.with_session(host, session, |session, now| {
            perform(session, deed, target, now)
        })
        .unwrap_or(false)
    }
}

fn perform(session: &mut Session, deed: &Deed, target: Peer, now: Instant) -> bool {
    let content = |index: &usize| CONTENTS[index % CONTENTS.len()];
    let channel = |index: &usize| CHANNELS[index % CHANNELS.len()];
    let element = |text: &str| Note(text.into()).to_element();
    match deed {
        Deed::Accept => session.accept(&Note("accepted".into()), now).is_ok(),
        Deed::Reject => session.reject(ReasonCondition::Decline.into(), now).is_ok(),
        Deed::Redirect(_) => session.redirect(target, None, now).is_ok(),
        Deed::Terminate(condition) => session
            .terminate(Reason::new(condition.clone()), now)
            .is_ok(),
        Deed::Destroy => false,
        Deed::Info(count) => {
            let info = || Element::new(RECORDER_NAMESPACE, "info");
            let infos = std::iter::repeat_with(info).take(count % 4).collect();
            session.send_info(infos, now).is_ok()
        }
        Deed::Send(index) => match session.channel(channel(index)) {
            Some(id) => {
                let packet = Bytes::from_static(b"a packet of no particular meaning");
                session.send(id, packet, now).is_ok()
            }
            None => false,
        },
        Deed::Finish(index) => session
            .channel(channel(index))
            .map(|id| session.finish(id, now))
            .is_some(),
        Deed::Pause(index, paused) => session
            .channel(channel(index))
            .map(|id| session.pause(id, *paused, now))
            .is_some(),
        Deed::CreateChannel(index) => session.create_channel(channel(index), now).is_ok(),
        Deed::DestroyChannel(index) => match session.channel(channel(index)) {
            Some(id) => session.destroy_channel(id, now).is_ok(),
            None => false,
        },
        Deed::AddContent(index) => {
            let spec = ContentSpec::new(content(index), element("added"));
            let added = session.add_content(spec, now).is_ok();
            if added {
                // The limit of channels may be reached: then the content has none.
                let _ = session.create_channel_in(content(index), CHANNELS[0], None, now);
            }
            added
        }
        Deed::AcceptContent(index) => {
            let accepted = session
                .accept_content(content(index), element("accepted"), now)
                .is_ok();
            if accepted {
                let _ = session.create_channel_in(content(index), CHANNELS[0], None, now);
            }
            accepted
        }
        Deed::RejectContent(index) => session
            .reject_content(content(index), ReasonCondition::Decline.into(), now)
            .is_ok(),
        Deed::RemoveContent(index) => session
            .remove_content(content(index), ReasonCondition::Success.into(), now)
            .is_ok(),
        Deed::SetSenders(index, senders) => {
            session.set_senders(content(index), *senders, now).is_ok()
        }
        Deed::Modify(index) => session
            .modify(content(index), element("modified"), now)
            .is_ok(),
        Deed::ReplaceTransport(index, transport) => {
            let names = session.potential_transports();
            match names.get(transport % names.len().max(1)) {
                Some(namespace) => session
                    .replace_transport(content(index), namespace, now)
                    .is_ok(),
                None => false,
            }
        }
    }
}
