//! `pcp` as people run it: processes that log in at a server, and what becomes of their files.
//!
//! `PCP_LONG=1` makes the large things large (5 GiB, 10,000 files); `PCP_KILLS=200` says how often somebody is killed.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is about processes, files and time"
)]

#[path = "programs/anew.rs"]
mod anew;
#[path = "programs/content.rs"]
mod content;
#[path = "programs/disk.rs"]
mod disk;
#[path = "programs/kills.rs"]
mod kills;
#[path = "programs/kit.rs"]
mod kit;
#[path = "programs/lossy.rs"]
mod lossy;
#[path = "pcp/names.rs"]
mod names;
#[path = "programs/relay.rs"]
mod relay;
#[path = "programs/switchboard.rs"]
mod switchboard;
#[path = "programs/takers.rs"]
mod takers;
