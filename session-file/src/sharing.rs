//! [`ShareClient`]: the session client of Google's file share (libjingle `talk/session/fileshare`; libjingle.md §5.3).

mod acting;
mod config;
mod events;
mod http;
mod room;
mod tar;

pub use config::{
    ShareChange, ShareConfig, ShareDemand, ShareError, ShareFetch, ShareLimits, ShareOffer,
    ShareRead, ShareState, ShareVerdict,
};
pub use tar::{TAR_BLOCK, TAR_ENTRIES_MAX, TarError, TarEvent, TarReader, tar_header, tar_padding};

use crate::Share;
use room::Room;
use session_core::{Peer, SessionId, Signal};
use std::{collections::BTreeMap, fmt};

type Policy = Box<dyn FnMut(&ShareOffer) -> ShareVerdict + Send>;

/// The session client of Google's file share.
///
/// It is registered once ([`SessionManager::add_client`](session_core::SessionManager::add_client)), for sessions of the type
/// [`SHARE`](crate::SHARE). Who initiates a session has files and folders, and serves them over HTTP in channels that the
/// receiver names, over a layer that makes streams of datagrams (PseudoTCP, with libjingle). The bytes are the application's:
/// of a file as it is, of a folder as a tar archive ([`tar_header`], [`TarReader`]), of a preview whatever picture it makes.
///
/// - A receiver [`fetch`](Self::fetch)es items, before it accepts only previews, and reads each until its end; then it says
///   that all is [`complete`](Self::complete), and the sender ends the session.
/// - A sender finds what is asked for among its [`demands`](Self::demands), and [`answer`](Self::answer)s,
///   [`write`](Self::write)s and [`finish`](Self::finish)es each.
/// - A channel of a name that is there already is refused, where libjingle stopped the program; what makes no sense ends the
///   whole share, as there.
pub struct ShareClient {
    config: ShareConfig,
    rooms: BTreeMap<SessionId, Room>,
    policy: Option<Policy>,
    signal_offer: Signal<ShareOffer>,
}

/// Setting up, and looking.
impl ShareClient {
    /// A client without a policy: every offer waits for the application.
    pub fn new(config: ShareConfig) -> Self {
        Self {
            config,
            rooms: BTreeMap::new(),
            policy: None,
            signal_offer: Signal::new(),
        }
    }

    /// Who decides about offers before the application is asked.
    pub fn set_policy(&mut self, policy: impl FnMut(&ShareOffer) -> ShareVerdict + Send + 'static) {
        self.policy = Some(Box::new(policy));
    }

    /// Announces each offer that waits for the application.
    pub fn signal_offer(&self) -> &Signal<ShareOffer> {
        &self.signal_offer
    }

    /// The offers that wait for the application.
    pub fn offers(&self) -> impl Iterator<Item = ShareOffer> {
        let waiting = self.rooms.iter().filter(|(_, room)| room.is_offered());
        waiting.map(|(id, room)| room.offer(*id))
    }

    /// All shares that were not released.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.rooms.keys().copied()
    }

    /// What is offered in a session.
    pub fn share(&self, session: SessionId) -> Option<&Share> {
        self.rooms.get(&session).map(|room| &room.share)
    }

    /// With whom.
    pub fn peer(&self, session: SessionId) -> Option<&Peer> {
        self.rooms.get(&session).map(|room| &room.peer)
    }

    /// How far a share is.
    pub fn state(&self, session: SessionId) -> Option<ShareState> {
        self.rooms.get(&session).map(|room| room.state)
    }

    /// Announces what changes in a share. A listener looks at the getters after each notice.
    pub fn signal(&self, session: SessionId) -> Option<&Signal<ShareChange>> {
        self.rooms.get(&session).map(|room| &room.signal)
    }

    /// What the receiver has asked for and nobody has answered yet.
    pub fn demands(&self, session: SessionId) -> impl Iterator<Item = ShareDemand> {
        let links = self.rooms.get(&session).into_iter();
        let demands = links.flat_map(|room| room.links.iter().filter_map(room::Link::demand));
        demands.map(move |(number, request)| ShareDemand {
            id: ShareFetch { session, number },
            request,
        })
    }
}

impl fmt::Debug for ShareClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareClient")
            .field("config", &self.config)
            .field("rooms", &self.rooms)
            .finish_non_exhaustive()
    }
}
