//! What it takes to extend the session layer from outside: a transport and a session client, each a file of less than 150
//! lines that depends on the public API of session-core and on nothing else.
//!
//! Both are pure: `tests/chat.rs` drives them in virtual time, `tests/loopback.rs` the same code over real sockets.

pub mod chat;
pub mod hello_udp;

/// The examples of the workspace's README, so that they compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
