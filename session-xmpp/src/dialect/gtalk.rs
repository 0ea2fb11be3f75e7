//! `<session/>`: libjingle's own vocabulary, in its variants 0.4, compatibility and 0.5+.
//!
//! | `type` | [`Action`](session_core::Action) | read | written in |
//! |---|---|---|---|
//! | `initiate` | `SessionInitiate` | yes | all; transports only in `gtalk` |
//! | `accept` | `SessionAccept` | yes | all |
//! | `reject` | `Reject` | yes | all |
//! | `redirect` | `Redirect` | yes | `gtalk`, `gtalk-compat` |
//! | `terminate` | `SessionTerminate` | yes | all |
//! | `info` | `SessionInfo` | yes | all |
//! | `transport-info` | `TransportInfo` | yes | `gtalk` |
//! | `candidates` | `TransportInfo` | yes | all but `gtalk` |
//! | `transport-accept` | `TransportAccept` | yes | `gtalk` |
//! | `update` | `DescriptionInfo` | yes | none: libjingle reads it and never wrote it |
//!
//! There are no contents on the wire. The one content has an empty name here; a description of video, which holds that
//! of the audio too, becomes the contents `audio` and `video` (see `media`). Candidates that stand directly under
//! `<session/>` are moved into a `<transport/>` of Google's namespace, so that transports see one form.
//!
//! A reason is a child whose name is the condition. Its first child's name is a remark for people (libjingle's "debug"),
//! unless there is a text, which is what is written here.

mod media;
mod read;
mod write;

pub(super) use read::read;
pub(super) use write::{check, write};

/// The name of the audio content of a session that has two.
const AUDIO: &str = "audio";
/// The name of the video content of a session that has two.
const VIDEO: &str = "video";
