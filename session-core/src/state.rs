//! Every transition of a session, as data. One function of the crate applies it; nothing else changes a [`State`].
//!
//! The same table is drawn in ARCHITECTURE.md and is tested pair by pair.

use std::fmt;

/// Where a session is in its life (`libjingle session.h`, all fourteen states).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Created here, nothing sent.
    Init,
    /// Our initiate is out; the peer may be ringing.
    SentInitiate,
    /// The peer's initiate is here; the application decides.
    ReceivedInitiate,
    /// We accepted; a transport is still being agreed on.
    SentAccept,
    /// The peer accepted; a transport is still being agreed on.
    ReceivedAccept,
    /// We proposed a change of the running session.
    SentModify,
    /// The peer proposed a change of the running session.
    ReceivedModify,
    /// We declined the initiate.
    SentReject,
    /// The peer declined our initiate.
    ReceivedReject,
    /// We sent the initiator to another address.
    SentRedirect,
    /// We ended the session.
    SentTerminate,
    /// The peer ended the session.
    ReceivedTerminate,
    /// Both sides accepted and one transport is agreed on. Says nothing about whether packets flow.
    InProgress,
    /// Gone. Always the last state, exactly once.
    Deinit,
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// The application initiates.
    SendInitiate,
    /// The peer initiates.
    ReceiveInitiate,
    /// The application accepts.
    SendAccept,
    /// The peer accepts.
    ReceiveAccept,
    /// Both sides have accepted and every content has one transport.
    Negotiated,
    /// The application proposes a change.
    SendModify,
    /// The peer proposes a change.
    ReceiveModify,
    /// The last open proposal was accepted, rejected or withdrawn, by either side.
    ModifySettled,
    /// The application declines.
    SendReject,
    /// The peer declines.
    ReceiveReject,
    /// The application names another address.
    SendRedirect,
    /// The offer goes out once more: to another address of the peer, or with another transport.
    Reoffer,
    /// The application, an error or a timer ends the session.
    SendTerminate,
    /// The peer ends the session.
    ReceiveTerminate,
    /// The manager lets go of the session.
    Destroy,
}

impl State {
    /// All states, in the order of the seed.
    pub const ALL: [Self; 14] = [
        Self::Init,
        Self::SentInitiate,
        Self::ReceivedInitiate,
        Self::SentAccept,
        Self::ReceivedAccept,
        Self::SentModify,
        Self::ReceivedModify,
        Self::SentReject,
        Self::ReceivedReject,
        Self::SentRedirect,
        Self::SentTerminate,
        Self::ReceivedTerminate,
        Self::InProgress,
        Self::Deinit,
    ];

    /// The state after `event`, or `None` where [`TRANSITIONS`] does not allow it.
    pub fn after(self, event: Event) -> Option<Self> {
        TRANSITIONS
            .iter()
            .find(|(from, on, _)| *from == self && *on == event)
            .map(|&(_, _, to)| to)
    }

    /// Whether the session is over: nothing but [`Event::Destroy`] can follow.
    pub fn is_ended(self) -> bool {
        matches!(
            self,
            Self::SentReject
                | Self::ReceivedReject
                | Self::SentRedirect
                | Self::SentTerminate
                | Self::ReceivedTerminate
                | Self::Deinit
        )
    }

    /// Whether both sides have accepted.
    pub fn is_accepted(self) -> bool {
        matches!(
            self,
            Self::SentAccept
                | Self::ReceivedAccept
                | Self::SentModify
                | Self::ReceivedModify
                | Self::InProgress
        )
    }

    /// Whether the offer is made and not yet decided.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::SentInitiate | Self::ReceivedInitiate)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Event {
    /// All events.
    pub const ALL: [Self; 15] = [
        Self::SendInitiate,
        Self::ReceiveInitiate,
        Self::SendAccept,
        Self::ReceiveAccept,
        Self::Negotiated,
        Self::SendModify,
        Self::ReceiveModify,
        Self::ModifySettled,
        Self::SendReject,
        Self::ReceiveReject,
        Self::SendRedirect,
        Self::Reoffer,
        Self::SendTerminate,
        Self::ReceiveTerminate,
        Self::Destroy,
    ];
}

/// The whole state machine: from, on, to.
pub const TRANSITIONS: &[(State, Event, State)] = {
    use Event as E;
    use State as S;
    &[
        (S::Init, E::SendInitiate, S::SentInitiate),
        (S::Init, E::ReceiveInitiate, S::ReceivedInitiate),
        (S::Init, E::SendTerminate, S::SentTerminate),
        (S::Init, E::Destroy, S::Deinit),
        (S::SentInitiate, E::Reoffer, S::SentInitiate),
        (S::SentInitiate, E::ReceiveAccept, S::ReceivedAccept),
        (S::SentInitiate, E::ReceiveReject, S::ReceivedReject),
        (S::SentInitiate, E::SendTerminate, S::SentTerminate),
        (S::SentInitiate, E::ReceiveTerminate, S::ReceivedTerminate),
        (S::SentInitiate, E::Destroy, S::Deinit),
        (S::ReceivedInitiate, E::SendAccept, S::SentAccept),
        (S::ReceivedInitiate, E::SendReject, S::SentReject),
        (S::ReceivedInitiate, E::SendRedirect, S::SentRedirect),
        (S::ReceivedInitiate, E::SendTerminate, S::SentTerminate),
        (
            S::ReceivedInitiate,
            E::ReceiveTerminate,
            S::ReceivedTerminate,
        ),
        (S::ReceivedInitiate, E::Destroy, S::Deinit),
        (S::SentAccept, E::Negotiated, S::InProgress),
        (S::SentAccept, E::SendTerminate, S::SentTerminate),
        (S::SentAccept, E::ReceiveTerminate, S::ReceivedTerminate),
        (S::SentAccept, E::Destroy, S::Deinit),
        (S::ReceivedAccept, E::Negotiated, S::InProgress),
        (S::ReceivedAccept, E::SendTerminate, S::SentTerminate),
        (S::ReceivedAccept, E::ReceiveTerminate, S::ReceivedTerminate),
        (S::ReceivedAccept, E::Destroy, S::Deinit),
        (S::InProgress, E::SendModify, S::SentModify),
        (S::InProgress, E::ReceiveModify, S::ReceivedModify),
        (S::InProgress, E::SendTerminate, S::SentTerminate),
        (S::InProgress, E::ReceiveTerminate, S::ReceivedTerminate),
        (S::InProgress, E::Destroy, S::Deinit),
        (S::SentModify, E::ReceiveModify, S::ReceivedModify),
        (S::SentModify, E::ModifySettled, S::InProgress),
        (S::SentModify, E::SendTerminate, S::SentTerminate),
        (S::SentModify, E::ReceiveTerminate, S::ReceivedTerminate),
        (S::SentModify, E::Destroy, S::Deinit),
        (S::ReceivedModify, E::SendModify, S::SentModify),
        (S::ReceivedModify, E::ModifySettled, S::InProgress),
        (S::ReceivedModify, E::SendTerminate, S::SentTerminate),
        (S::ReceivedModify, E::ReceiveTerminate, S::ReceivedTerminate),
        (S::ReceivedModify, E::Destroy, S::Deinit),
        (S::SentReject, E::Destroy, S::Deinit),
        (S::ReceivedReject, E::Destroy, S::Deinit),
        (S::SentRedirect, E::Destroy, S::Deinit),
        (S::SentTerminate, E::Destroy, S::Deinit),
        (S::ReceivedTerminate, E::Destroy, S::Deinit),
    ]
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_at_most_one_successor_and_only_destroy_ends_in_deinit() {
        for state in State::ALL {
            for event in Event::ALL {
                let successors: Vec<_> = TRANSITIONS
                    .iter()
                    .filter(|(from, on, _)| *from == state && *on == event)
                    .collect();
                assert!(successors.len() <= 1, "{state:?} on {event:?}");
                let after = state.after(event);
                assert_eq!(after, successors.first().map(|t| t.2));
                assert_eq!(
                    after == Some(State::Deinit),
                    event == Event::Destroy && state != State::Deinit,
                    "{state:?} on {event:?}"
                );
                if state.is_ended() {
                    assert!(
                        after.is_none() || event == Event::Destroy,
                        "{state:?} on {event:?}"
                    );
                } else if event == Event::SendTerminate {
                    assert_eq!(
                        after,
                        Some(State::SentTerminate),
                        "{state:?} can be ended by us"
                    );
                } else if event == Event::ReceiveTerminate {
                    assert_eq!(
                        after.is_some(),
                        state != State::Init,
                        "{state:?} can be ended by the peer"
                    );
                }
            }
        }
    }

    #[test]
    fn every_state_can_be_reached() {
        for state in State::ALL {
            assert!(
                state == State::Init || TRANSITIONS.iter().any(|(_, _, to)| *to == state),
                "{state:?}"
            );
        }
    }

    #[test]
    fn the_three_groups_do_not_overlap() {
        for state in State::ALL {
            let groups = [
                state.is_ended(),
                state.is_accepted(),
                state.is_pending(),
                state == State::Init,
            ];
            assert_eq!(groups.into_iter().filter(|&g| g).count(), 1, "{state:?}");
        }
    }
}
