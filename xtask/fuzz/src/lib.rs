//! What is fuzzed. Each target takes any bytes and panics when a promise is broken.

mod google_ice;
mod pseudotcp;
mod session_ops;
mod splitter;
mod stanza;
mod turn;

pub use google_ice::google_ice;
pub use pseudotcp::pseudotcp;
pub use session_ops::session_ops;
pub use splitter::splitter;
pub use stanza::stanza;
pub use turn::turn;

/// A target.
pub type Target = fn(&[u8]);

/// Every target by its name, which is also the folder of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("google_ice", google_ice),
    ("pseudotcp", pseudotcp),
    ("session_ops", session_ops),
    ("splitter", splitter),
    ("stanza", stanza),
    ("turn", turn),
];
