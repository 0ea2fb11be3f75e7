//! Transports through a relay: TURN, SOCKS5 bytestreams, in-band bytestreams.
//!
//! What is here so far is [`stun`], the codec and the transactions that everything between a host and a STUN or TURN
//! server needs, and that the checks of ICE (crate `transport-p2p`) are made of.

pub mod stun;
