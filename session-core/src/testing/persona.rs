//! Other people's clients, as data: what each of them says, demands and gets wrong, and [`Stranger`], which behaves so.
//!
//! Nothing here is another's code: it is what their sources were read to do (which revision, [`Persona::version`] says).
//! A persona is one value; a new client, or a new version of one, is a line in [`catalogue`]. The interpreter works on
//! stanzas as [`Element`](crate::Element)s, so that the dialect codec of whoever tests takes part, and knows nothing of
//! transports: it is given [`TransportFactory`](crate::TransportFactory)s for the data.
//!
//! What a persona demands and does not get is written down as an *objection*, and then it does what that client does about
//! it: answers an error, ends the session, or falls silent.

mod call;
pub mod catalogue;
mod file;
mod plane;
mod stranger;
mod wire;

pub use stranger::{Ending, Medium, Script, Stranger, StrangerOutput, Verdict};

use crate::Action;
use std::time::Duration;

/// What a client does with an action, or with what it does not know (jingle-peers §2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Does what it asks.
    Handle,
    /// Says yes, and does nothing.
    Ack,
    /// Answers this error (RFC 6120 §8.3.3), with this condition of Jingle if it has one.
    Error(&'static str, Option<&'static str>),
    /// Says nothing at all.
    Silence,
    /// Says yes, then declines with the action that belongs to it (transport-reject, content-reject).
    Decline,
    /// Says yes, and ends the session for this reason.
    End(&'static str),
}

/// How a client finds the session that a stanza is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// By the peer's full address and the sid, as XEP-0166 has it.
    PeerAndSid,
    /// By the sid alone.
    Sid,
}

/// In which vocabulary a client calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `<jingle/>` and the transports of XEP-0176, 0260 and 0261.
    Jingle,
    /// `<jingle/>` with Google's transport.
    GoogleJingle,
    /// Google's `<session/>` of 2007 and later.
    GoogleSession,
}

/// How much a client wants of DTLS (XEP-0320).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtls {
    /// No call without.
    Required,
    /// It offers it, and takes calls without.
    Offered,
    /// It does not know it.
    Unknown,
}

/// When a client takes a transport-replace as responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replaces {
    /// Only once the session was accepted; before that, or as initiator, it is out of order and the end.
    AfterAccept,
    /// At any time.
    Always,
    /// To an in-band stream, and to nothing else.
    ToInBand,
}

/// What a client that receives a file does with a transport-replace when some of its bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Midway {
    /// It says transport-reject.
    Refuses,
    /// It says that it is out of order.
    OutOfOrder,
    /// It acknowledges it, and says nothing more.
    Ignores,
    /// It accepts it; but whoever reads the stream that was ends the session with that.
    Ends,
    /// It puts what comes behind what it has.
    Appends,
    /// It begins the file anew.
    Restarts,
}

/// A client.
#[derive(Clone, Copy, Debug)]
pub struct Persona {
    /// Its name.
    pub name: &'static str,
    /// Which revision was read.
    pub version: &'static str,
    /// What it says of itself (XEP-0115), as far as sessions go.
    pub features: &'static [&'static str],
    /// How it finds a session.
    pub lookup: Lookup,
    /// What it does with actions, where that is not [`Reaction::Handle`].
    pub table: &'static [(Action, Reaction)],
    /// What it does with an action that is not known to XEP-0166.
    pub unknown_action: Reaction,
    /// What it does with a session that it does not have.
    pub unknown_session: Reaction,
    /// The error type of its out-of-order.
    pub out_of_order: &'static str,
    /// Any error that it gets ends its session.
    pub errors_end: bool,
    /// Whether `content-*` and `transport-*` may name one content only.
    pub one_content: bool,
    /// Writes reasons with underscores.
    pub underscores: bool,
    /// Finds contents by creator and name, both exact.
    pub strict_creator: bool,
    /// Whether it sends session-terminate without a sid.
    pub omits_sid: bool,
    /// How it calls, if it does.
    pub call: Option<CallHabits>,
    /// How it sends files, if it does.
    pub file: Option<FileHabits>,
}

/// How a client calls.
#[derive(Clone, Copy, Debug)]
pub struct CallHabits {
    /// In which vocabulary.
    pub wire: Wire,
    /// Whether it announces calls by message (XEP-0353), and how.
    pub jmi: Option<JmiHabits>,
    /// Whether it takes a session-initiate that nobody announced.
    pub direct: bool,
    /// Keys by DTLS.
    pub dtls: Dtls,
    /// Longest content name, which then also has no blanks.
    pub name_max: Option<usize>,
    /// Answers with one payload type.
    pub one_payload: bool,
    /// Needs this codec.
    pub codec: Option<&'static str>,
    /// Attributes without which a candidate is an offence.
    pub candidate_attributes: &'static [&'static str],
    /// Sends and takes one candidate in a stanza.
    pub one_candidate: bool,
    /// Refuses candidates over TCP, instead of leaving them out.
    pub refuses_tcp: bool,
    /// Refuses candidates whose credentials are not those of the description.
    pub same_credentials: bool,
    /// More candidates than this end the call.
    pub candidates_max: Option<usize>,
    /// Is an ICE-lite agent (RFC 8445 §2.5).
    pub lite: bool,
    /// Tells its fingerprint in a transport-info before it accepts.
    pub fingerprint_first: bool,
    /// Tells by session-info that it rings.
    pub rings: bool,
    /// Tells by session-info that it is muted.
    pub mutes: bool,
    /// How long it lets a call ring.
    pub ring_for: Duration,
}

/// How a client announces calls (XEP-0353).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JmiHabits {
    /// Says that it rings.
    pub ringing: bool,
    /// Says that it is over.
    pub finish: bool,
    /// Tells its own other devices by `accept`, as version 0.3 had it.
    pub accept: bool,
    /// Asks the server to keep its messages (XEP-0334).
    pub store: bool,
    /// The type of its `proceed`.
    pub kind: &'static str,
}

/// How a client sends and receives files (XEP-0234).
#[derive(Clone, Copy, Debug)]
pub struct FileHabits {
    /// Its transports, the first offered first.
    pub transports: &'static [&'static str],
    /// Refuses an offer without name and size.
    pub needs_name_and_size: bool,
    /// The element in which it says and looks for the media type.
    pub media_type: &'static str,
    /// Puts this hash into the offer.
    pub offers_hash: Option<&'static str>,
    /// Announces this hash there.
    pub announces: Option<&'static str>,
    /// Tells these hashes after the bytes.
    pub checksum: &'static [&'static str],
    /// Says `received`.
    pub received: bool,
    /// How long it waits for a checksum after the last byte.
    pub waits: Duration,
    /// Compares it.
    pub verifies: bool,
    /// Says that parts can be had.
    pub ranges: bool,
    /// What it does with infos about files.
    pub infos: Reaction,
    /// The local priorities of its direct candidates, at which ours must not stand: it settles a tie the other way round.
    pub reversed_ties: Option<(u32, u32)>,
    /// The largest in-band block that it offers or takes.
    pub block_size: u32,
    /// When it takes a transport-replace.
    pub replaces: Replaces,
    /// Offers another transport as responder too.
    pub replaces_as_responder: bool,
    /// Compares a transport-accept with the transport that was replaced.
    pub forgets_replacement: bool,
    /// A transport-reject ends its session.
    pub reject_ends: bool,
    /// What it does with a transport-replace when bytes have flowed.
    pub midway: Midway,
    /// A stream that breaks in its middle ends its session. Otherwise it is as if it had never stood.
    pub break_ends: bool,
}

impl Persona {
    /// What it does with an action of XEP-0166.
    pub fn reaction(&self, action: Action) -> Reaction {
        let found = self.table.iter().find(|(known, _)| *known == action);
        found.map_or(Reaction::Handle, |(_, reaction)| *reaction)
    }
}
