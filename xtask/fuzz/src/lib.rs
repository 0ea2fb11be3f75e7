//! What is fuzzed. Each target takes any bytes and panics when a promise is broken.

mod description;
mod google_ice;
mod google_relay;
mod ice;
mod layers;
mod pseudotcp;
mod rtcp;
mod rtp;
mod sctp;
mod session_ops;
mod socks5;
mod splitter;
mod stanza;
mod stun;
mod turn;

pub use description::description;
pub use google_ice::google_ice;
pub use google_relay::google_relay;
pub use ice::ice;
pub use layers::{dtls, quic};
pub use pseudotcp::pseudotcp;
pub use rtcp::rtcp;
pub use rtp::rtp;
pub use sctp::sctp;
pub use session_ops::session_ops;
pub use socks5::socks5;
pub use splitter::splitter;
pub use stanza::stanza;
pub use stun::stun;
pub use turn::turn;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the folder of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("description", description),
    ("dtls", dtls),
    ("google_ice", google_ice),
    ("google_relay", google_relay),
    ("ice", ice),
    ("pseudotcp", pseudotcp),
    ("quic", quic),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sctp", sctp),
    ("session_ops", session_ops),
    ("socks5", socks5),
    ("splitter", splitter),
    ("stanza", stanza),
    ("stun", stun),
    ("turn", turn),
];
