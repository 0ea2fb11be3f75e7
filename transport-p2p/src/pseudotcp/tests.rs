#![allow(clippy::unwrap_used)]

mod hostile;
mod layered;
mod network;
mod properties;
mod scenarios;
mod vectors;
