//! Every bound of the core, by name.

use std::time::Duration;

/// How much of anything the core keeps. Past a limit there is a typed error or an orderly end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions in all. Default 10,000,000: memory is the bound of a server, not this.
    pub sessions: usize,
    /// Live sessions with one account (all its devices), counting those it initiated. Default 64.
    pub sessions_per_account: usize,
    /// Contents of a session. Default 16.
    pub contents: usize,
    /// Channels of a session. Default 64.
    pub channels: usize,
    /// Candidates (children of transport elements) accepted for one content during its life. Default 1,024.
    pub candidates: usize,
    /// Candidates kept for channels that do not exist yet, per content. Default 32.
    pub early_candidates: usize,
    /// Elements beside the contents in one message. Default 32.
    pub extra_elements: usize,
    /// Signalling messages of one session that wait for the link. Default 256.
    pub queued_messages: usize,
    /// Outputs of one session that wait for the driver; past it datagrams are dropped. Default 65,536.
    pub queued_outputs: usize,
    /// Requests of one session that await an answer. Default 64.
    pub pending_requests: usize,
    /// Bytes of a session id on the wire. Default 256.
    pub sid_bytes: usize,
    /// How many ended sessions are remembered, so that late duplicates do not ring again. Default 4,096.
    pub remembered_sessions: usize,
    /// How many re-offers (redirect, next transport) a session may make. Default 8.
    pub reoffers: usize,
    /// How many replacements of a content's transport are refused in a row before the session ends: who offers for ever
    /// what is refused for ever would keep it for ever. Default 8, at most 255.
    pub refused_transports: usize,
    /// Requests (not signalling) that await an answer: those of all transports of a session, and of the peer's those that
    /// one channel answers later. Default 256.
    pub transport_requests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions: 10_000_000,
            sessions_per_account: 64,
            contents: 16,
            channels: 64,
            candidates: 1_024,
            early_candidates: 32,
            extra_elements: 32,
            queued_messages: 256,
            queued_outputs: 65_536,
            pending_requests: 64,
            sid_bytes: 256,
            remembered_sessions: 4_096,
            reoffers: 8,
            refused_transports: 8,
            transport_requests: 256,
        }
    }
}

/// The clocks of a session. Each is separate, none stands for another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// How long an answer to one signalling message may take. Default 15 s.
    pub answer: Duration,
    /// How often a message that decides about the session is sent, the first time included. Default 3.
    ///
    /// It is the same request each time, so that one answer settles it.
    pub attempts: u8,
    /// How long the channels of a content may take, once both sides accepted, until one of them has a path.
    /// Default 50 s. The responder waits one [`answer`](Self::answer) longer, because replacing a transport that does
    /// not connect is the initiator's to do.
    pub connectivity: Duration,
    /// How long a channel that has carried packets may be unable to. Default 50 s.
    pub writability: Duration,
    /// How long a session goes on after the peer closed the last transport there is, for the peer's own word on why.
    /// Default 2 s.
    pub parting: Duration,
    /// How long an offer or an answer waits for candidates that are to travel in it. Default 2 s.
    pub gathering: Duration,
    /// How long an ended session is remembered. Default 60 s.
    pub memory: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(15),
            attempts: 3,
            connectivity: Duration::from_secs(50),
            writability: Duration::from_secs(50),
            parting: Duration::from_secs(2),
            gathering: Duration::from_secs(2),
            memory: Duration::from_secs(60),
        }
    }
}
