//! The clients (jingle-peers §3.1 to §3.9).

use super::{
    CallHabits, Dtls, FileHabits, JmiHabits, Lookup, Midway, Persona, Reaction, Replaces, Wire,
};
use crate::Action;
use std::time::Duration;

const JINGLE: &str = "urn:xmpp:jingle:1";
const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
const AUDIO: &str = "urn:xmpp:jingle:apps:rtp:audio";
const ICE: &str = "urn:xmpp:jingle:transports:ice-udp:1";
const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
const JMI: &str = "urn:xmpp:jingle-message:0";
const FILE: &str = "urn:xmpp:jingle:apps:file-transfer:5";
const S5B: &str = "urn:xmpp:jingle:transports:s5b:1";
const IBB: &str = "urn:xmpp:jingle:transports:ibb:1";
const GOOGLE_SESSION: &str = "http://www.google.com/session";
const GOOGLE_P2P: &str = "http://www.google.com/transport/p2p";
const GOOGLE_VOICE: &str = "http://www.google.com/xmpp/protocol/voice/v1";

const CALLS: &[&str] = &[JINGLE, RTP, AUDIO, ICE, DTLS];
const ANNOUNCED_CALLS: &[&str] = &[JINGLE, RTP, AUDIO, ICE, DTLS, JMI];
const FILES: &[&str] = &[JINGLE, FILE, S5B, IBB];
const BOTH: &[&str] = &[JINGLE, RTP, AUDIO, ICE, DTLS, JMI, FILE, S5B, IBB];

/// Every attribute that XEP-0176 has for a host candidate.
const ALL_ATTRIBUTES: &[&str] = &[
    "component",
    "foundation",
    "generation",
    "id",
    "ip",
    "network",
    "port",
    "priority",
    "protocol",
    "type",
];
/// What an ICE agent cannot do without.
const SOME_ATTRIBUTES: &[&str] = &[
    "component",
    "foundation",
    "ip",
    "port",
    "priority",
    "protocol",
    "type",
];
/// What Google's transport has.
const GOOGLE_ATTRIBUTES: &[&str] = &[
    "name",
    "address",
    "port",
    "username",
    "password",
    "preference",
    "protocol",
    "type",
    "generation",
];

const NOT_IMPLEMENTED: Reaction = Reaction::Error("feature-not-implemented", None);
const BAD_REQUEST: Reaction = Reaction::Error("bad-request", None);
const UNSUPPORTED_INFO: Reaction =
    Reaction::Error("feature-not-implemented", Some("unsupported-info"));
const UNKNOWN_SESSION: Reaction = Reaction::Error("item-not-found", Some("unknown-session"));
const SERVED: JmiHabits = JmiHabits {
    ringing: true,
    finish: true,
    accept: true,
    store: true,
    kind: "chat",
};

const PLAIN: Persona = Persona {
    name: "",
    version: "",
    features: &[],
    lookup: Lookup::PeerAndSid,
    table: &[],
    unknown_action: BAD_REQUEST,
    unknown_session: UNKNOWN_SESSION,
    out_of_order: "wait",
    errors_end: false,
    one_content: false,
    underscores: false,
    strict_creator: false,
    omits_sid: false,
    call: None,
    file: None,
};

const CALL: CallHabits = CallHabits {
    wire: Wire::Jingle,
    jmi: None,
    direct: true,
    dtls: Dtls::Required,
    name_max: None,
    one_payload: false,
    codec: Some("opus"),
    candidate_attributes: SOME_ATTRIBUTES,
    one_candidate: false,
    refuses_tcp: false,
    same_credentials: false,
    candidates_max: None,
    lite: false,
    fingerprint_first: false,
    rings: false,
    mutes: false,
    ring_for: Duration::from_secs(30),
};

const STREAMS: FileHabits = FileHabits {
    transports: &[S5B, IBB],
    needs_name_and_size: true,
    media_type: "media-type",
    offers_hash: None,
    announces: None,
    checksum: &[],
    received: false,
    waits: Duration::ZERO,
    verifies: false,
    ranges: false,
    infos: Reaction::Handle,
    reversed_ties: None,
    block_size: 4_096,
    replaces: Replaces::Always,
    replaces_as_responder: false,
    forgets_replacement: false,
    reject_ends: false,
    midway: Midway::Refuses,
    break_ends: true,
};

/// §3.1. Any error ends its session, and what it does not expect it answers with out-of-order and ends.
pub const CONVERSATIONS: Persona = Persona {
    name: "Conversations",
    version: "2.19.5",
    features: BOTH,
    table: &[
        (Action::SessionInfo, Reaction::Ack),
        (Action::DescriptionInfo, Reaction::Ack),
        (Action::SecurityInfo, Reaction::Ack),
        (Action::ContentRemove, Reaction::Ack),
        (Action::TransportReject, Reaction::Ack),
    ],
    unknown_action: Reaction::Ack,
    errors_end: true,
    call: Some(CallHabits {
        jmi: Some(SERVED),
        name_max: Some(16),
        candidate_attributes: ALL_ATTRIBUTES,
        one_candidate: true,
        ..CALL
    }),
    file: Some(FileHabits {
        media_type: "mediaType",
        checksum: &["sha-1", "sha-256"],
        received: true,
        block_size: 8_192,
        replaces: Replaces::AfterAccept,
        midway: Midway::Ends,
        ..STREAMS
    }),
    ..PLAIN
};

/// §3.2. Finds sessions by sid alone, falls back in both roles, and mistakes the answer to its own fallback.
pub const DINO: Persona = Persona {
    name: "Dino",
    version: "2026-06",
    features: BOTH,
    lookup: Lookup::Sid,
    table: &[
        (Action::ContentRemove, NOT_IMPLEMENTED),
        (Action::ContentReject, NOT_IMPLEMENTED),
        (Action::SecurityInfo, NOT_IMPLEMENTED),
    ],
    out_of_order: "modify",
    one_content: true,
    underscores: true,
    call: Some(CallHabits {
        jmi: Some(JmiHabits {
            ringing: false,
            finish: false,
            store: false,
            ..SERVED
        }),
        one_payload: true,
        mutes: true,
        ..CALL
    }),
    file: Some(FileHabits {
        infos: UNSUPPORTED_INFO,
        reversed_ties: Some((8_290_304 - 64, 8_290_304)),
        replaces_as_responder: true,
        forgets_replacement: true,
        ..STREAMS
    }),
    ..PLAIN
};

/// §3.3. Calls that were announced, and no others; exactly one candidate in a stanza.
pub const MONAL: Persona = Persona {
    name: "Monal",
    version: "2024-10",
    features: ANNOUNCED_CALLS,
    table: &[
        (Action::SessionInfo, BAD_REQUEST),
        (Action::ContentAdd, BAD_REQUEST),
        (Action::ContentModify, BAD_REQUEST),
        (Action::TransportReplace, BAD_REQUEST),
        (Action::DescriptionInfo, BAD_REQUEST),
    ],
    call: Some(CallHabits {
        jmi: Some(JmiHabits {
            accept: false,
            ..SERVED
        }),
        direct: false,
        candidate_attributes: ALL_ATTRIBUTES,
        one_candidate: true,
        refuses_tcp: true,
        same_credentials: true,
        ring_for: Duration::from_secs(45),
        ..CALL
    }),
    ..PLAIN
};

/// §3.4. Says yes to everything, also for sessions that it does not have, and ends sessions without naming them.
pub const MOVIM: Persona = Persona {
    name: "Movim",
    version: "2026-08",
    features: ANNOUNCED_CALLS,
    table: &[
        (Action::TransportReplace, Reaction::Ack),
        (Action::DescriptionInfo, Reaction::Ack),
        (Action::SecurityInfo, Reaction::Ack),
    ],
    unknown_action: Reaction::Ack,
    unknown_session: Reaction::Ack,
    omits_sid: true,
    call: Some(CallHabits {
        jmi: Some(SERVED),
        mutes: true,
        ..CALL
    }),
    ..PLAIN
};

/// §3.5. The most literal: compares creators, resumes, verifies, and waits for the checksum.
pub const PSI: Persona = Persona {
    name: "Psi",
    version: "iris 2026-08",
    features: BOTH,
    table: &[
        (Action::TransportReject, NOT_IMPLEMENTED),
        (Action::ContentModify, NOT_IMPLEMENTED),
        (Action::DescriptionInfo, NOT_IMPLEMENTED),
        (Action::SecurityInfo, NOT_IMPLEMENTED),
    ],
    strict_creator: true,
    call: Some(CallHabits {
        jmi: Some(SERVED),
        same_credentials: true,
        ..CALL
    }),
    file: Some(FileHabits {
        offers_hash: Some("sha-1"),
        received: true,
        waits: Duration::from_secs(30),
        verifies: true,
        ranges: true,
        block_size: 8_192,
        midway: Midway::OutOfOrder,
        ..STREAMS
    }),
    ..PLAIN
};

/// §3.6. A browser's calls; declines what would change them.
pub const STANZA: Persona = Persona {
    name: "Stanza",
    version: "12.22.1",
    features: CALLS,
    table: &[
        (Action::TransportReplace, Reaction::Decline),
        (Action::ContentAdd, Reaction::Decline),
        (Action::DescriptionInfo, UNSUPPORTED_INFO),
    ],
    call: Some(CallHabits {
        rings: true,
        mutes: true,
        ..CALL
    }),
    ..PLAIN
};

/// §3.7, over ICE. Silent about actions that it does not know; every attribute of a candidate, or it hangs up.
pub const ASTERISK: Persona = Persona {
    name: "Asterisk",
    version: "2026-08, ice-udp",
    features: &[JINGLE, RTP, AUDIO, ICE],
    lookup: Lookup::Sid,
    table: &[
        (Action::ContentAdd, Reaction::Silence),
        (Action::ContentModify, Reaction::Silence),
        (Action::ContentRemove, Reaction::Silence),
        (Action::DescriptionInfo, Reaction::Silence),
        (Action::SecurityInfo, Reaction::Silence),
        (Action::TransportReplace, Reaction::Silence),
    ],
    unknown_action: Reaction::Silence,
    call: Some(CallHabits {
        dtls: Dtls::Unknown,
        codec: Some("PCMU"),
        candidate_attributes: ALL_ATTRIBUTES,
        candidates_max: Some(10),
        lite: true,
        rings: true,
        ..CALL
    }),
    ..PLAIN
};

/// §3.7, Google's transport within Jingle.
pub const ASTERISK_GOOGLE: Persona = Persona {
    version: "2026-08, Google transport in Jingle",
    features: &[JINGLE, RTP, AUDIO, GOOGLE_P2P, GOOGLE_VOICE],
    call: Some(CallHabits {
        wire: Wire::GoogleJingle,
        dtls: Dtls::Unknown,
        codec: Some("PCMU"),
        candidate_attributes: GOOGLE_ATTRIBUTES,
        candidates_max: Some(10),
        ..CALL
    }),
    ..ASTERISK
};

/// §3.7, Google's own session.
pub const ASTERISK_SESSION: Persona = Persona {
    version: "2026-08, Google session",
    features: &[GOOGLE_SESSION, GOOGLE_P2P, GOOGLE_VOICE],
    call: Some(CallHabits {
        wire: Wire::GoogleSession,
        dtls: Dtls::Unknown,
        codec: Some("PCMU"),
        candidate_attributes: GOOGLE_ATTRIBUTES,
        candidates_max: Some(10),
        ..CALL
    }),
    ..ASTERISK
};

/// §3.8. Asterisk's successor behind a bridge of messages: fingerprints before the answer, `proceed` as a normal message.
pub const CHEOGRAM_SIP: Persona = Persona {
    name: "Cheogram-SIP",
    version: "gateway.hs",
    features: ANNOUNCED_CALLS,
    call: Some(CallHabits {
        jmi: Some(JmiHabits {
            ringing: true,
            finish: true,
            accept: false,
            store: false,
            kind: "normal",
        }),
        dtls: Dtls::Offered,
        candidate_attributes: ALL_ATTRIBUTES,
        candidates_max: Some(10),
        codec: Some("PCMU"),
        fingerprint_first: true,
        ..CALL
    }),
    ..ASTERISK
};

/// §3.1, a fork.
pub const CHEOGRAM: Persona = Persona {
    name: "Cheogram",
    version: "2026-08",
    ..CONVERSATIONS
};

/// §3.9. Compares creators and takes another transport only in-band.
pub const GAJIM: Persona = Persona {
    name: "Gajim",
    version: "1.x",
    features: FILES,
    table: &[
        (Action::SessionInfo, Reaction::Handle),
        (Action::DescriptionInfo, Reaction::Ack),
    ],
    strict_creator: true,
    file: Some(FileHabits {
        announces: Some("sha-256"),
        checksum: &["sha-256"],
        replaces: Replaces::ToInBand,
        midway: Midway::Restarts,
        ..STREAMS
    }),
    ..PLAIN
};

/// §3.9. Waits for a late hash and compares it.
pub const SWIFT: Persona = Persona {
    name: "Swift",
    version: "2020-01",
    features: FILES,
    table: &[
        (Action::ContentAdd, Reaction::Ack),
        (Action::ContentModify, Reaction::Ack),
        (Action::ContentRemove, Reaction::Ack),
        (Action::DescriptionInfo, Reaction::Ack),
        (Action::SecurityInfo, Reaction::Ack),
    ],
    unknown_action: Reaction::Ack,
    file: Some(FileHabits {
        announces: Some("sha-1"),
        checksum: &["sha-1"],
        waits: Duration::from_secs(5),
        verifies: true,
        midway: Midway::Ignores,
        ..STREAMS
    }),
    ..PLAIN
};

/// §3.9. The skeleton of a file transfer: no hashes, no words after the bytes.
pub const SMACK: Persona = Persona {
    name: "Smack",
    version: "2025-12",
    features: FILES,
    table: &[
        (Action::SessionInfo, Reaction::Ack),
        (Action::ContentAdd, Reaction::Ack),
        (Action::ContentModify, Reaction::Ack),
        (Action::DescriptionInfo, Reaction::Ack),
        (Action::SecurityInfo, Reaction::Ack),
        (Action::TransportReject, Reaction::Ack),
    ],
    file: Some(STREAMS),
    ..PLAIN
};

/// §3.9. Verifies hashes; a transport-reject is the end.
pub const LIBERVIA: Persona = Persona {
    name: "Libervia",
    version: "0.8.0",
    features: FILES,
    file: Some(FileHabits {
        announces: Some("sha-256"),
        checksum: &["sha-256"],
        waits: Duration::from_secs(5),
        verifies: true,
        reject_ends: true,
        midway: Midway::Appends,
        ..STREAMS
    }),
    ..PLAIN
};

/// §3.9. Looks at the first content.
pub const QXMPP: Persona = Persona {
    name: "QXmpp",
    version: "2025-03, with DTLS as in 1.17",
    features: ANNOUNCED_CALLS,
    table: &[
        (Action::ContentModify, NOT_IMPLEMENTED),
        (Action::TransportReplace, NOT_IMPLEMENTED),
        (Action::DescriptionInfo, NOT_IMPLEMENTED),
        (Action::SecurityInfo, NOT_IMPLEMENTED),
    ],
    call: Some(CallHabits {
        jmi: Some(JmiHabits {
            accept: false,
            ..SERVED
        }),
        rings: true,
        ..CALL
    }),
    ..PLAIN
};

/// §3.9. Of 2021's library: four actions.
pub const SISKIN: Persona = Persona {
    name: "Siskin",
    version: "2024-02",
    features: ANNOUNCED_CALLS,
    table: &[
        (Action::SessionInfo, NOT_IMPLEMENTED),
        (Action::ContentAdd, NOT_IMPLEMENTED),
        (Action::ContentModify, NOT_IMPLEMENTED),
        (Action::ContentRemove, NOT_IMPLEMENTED),
        (Action::TransportReplace, NOT_IMPLEMENTED),
        (Action::DescriptionInfo, NOT_IMPLEMENTED),
        (Action::SecurityInfo, NOT_IMPLEMENTED),
    ],
    unknown_action: NOT_IMPLEMENTED,
    call: Some(CallHabits {
        jmi: Some(JmiHabits {
            ringing: false,
            finish: false,
            ..SERVED
        }),
        ..CALL
    }),
    ..PLAIN
};

/// All of them.
pub const ALL: [Persona; 17] = [
    CONVERSATIONS,
    CHEOGRAM,
    DINO,
    MONAL,
    MOVIM,
    PSI,
    STANZA,
    SISKIN,
    QXMPP,
    GAJIM,
    SWIFT,
    SMACK,
    LIBERVIA,
    ASTERISK,
    ASTERISK_GOOGLE,
    ASTERISK_SESSION,
    CHEOGRAM_SIP,
];
