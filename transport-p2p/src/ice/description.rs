//! What two agents tell each other, in whatever words it travels.

use super::candidate::{Candidate, Credentials};

/// Credentials and candidates, of us or of the peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Description {
    pub(super) credentials: Option<Credentials>,
    pub(super) candidates: Vec<Candidate>,
    /// No candidate follows in this generation.
    pub(super) complete: bool,
    /// Whoever says it knows renomination.
    pub(super) renomination: bool,
    /// Whether it had candidates, of whatever protocol.
    pub(super) has_candidates: bool,
}
