//! Logins at servers that we did not write: Prosody and ejabberd, as Debian has them. Where one is not installed, its
//! tests say so and pass.
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "servers/calls.rs"]
mod calls;
#[path = "servers/components.rs"]
mod components;
#[cfg(feature = "cli")]
#[path = "servers/coturn.rs"]
mod coturn;
#[path = "servers/discovery.rs"]
mod discovery;
#[path = "servers/ejabberd.rs"]
mod ejabberd;
#[path = "servers/files.rs"]
mod files;
#[path = "servers/lab.rs"]
mod lab;
#[path = "servers/login.rs"]
mod login;
#[path = "loopback/probe.rs"]
mod probe;
#[cfg(feature = "cli")]
#[path = "servers/programs.rs"]
mod programs;
#[path = "servers/prosody.rs"]
mod prosody;
#[path = "servers/resume.rs"]
mod resume;
#[cfg(feature = "websocket")]
#[path = "servers/websocket.rs"]
mod websocket;
#[path = "servers/wire.rs"]
mod wire;
