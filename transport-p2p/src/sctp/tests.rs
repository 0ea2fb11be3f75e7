//! Two ends and a network between them, in virtual time.

mod hostile;
mod layered;
mod mtu;
mod network;
mod properties;
mod resets;
mod scenarios;
