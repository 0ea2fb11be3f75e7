//! In-band bytestreams in the suite that every transport must pass: in iq stanzas, because in message stanzas nobody can
//! hold a sender back, which the suite asks for.

use session_core::testing::Conformance;
use transport_relay::ibb::{Ibb, IbbConfig};

/// The suite cuts the network for data, which an in-band bytestream does not use.
fn in_band() -> Conformance {
    Conformance {
        notices_within: None,
        ..Conformance::new()
    }
}

#[test]
fn with_iq_stanzas() {
    in_band().run(Ibb::new());
}

#[test]
fn with_many_small_blocks() {
    in_band().run(Ibb::with_config(IbbConfig {
        block_size: 512,
        window: 64,
        ..IbbConfig::default()
    }));
}

#[test]
fn with_the_largest_blocks() {
    in_band().run(Ibb::with_config(IbbConfig {
        block_size: 65_535,
        window: 64,
        ..IbbConfig::default()
    }));
}
