//! Where relayed candidates come from: the clients of relays are in `transport-relay`.

pub use transport_relay::{RELAY_SOCKETS_MAX, RelayFactory, RelayOutput, RelaySource};
