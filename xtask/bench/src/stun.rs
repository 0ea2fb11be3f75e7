//! STUN messages: a connectivity check of 100 bytes, written and sealed, and read, verified and understood.

use std::hint::black_box;

use rtc_ice::crypto;
use rtc_stun::{
    attributes::{ATTR_ICE_CONTROLLED, ATTR_PRIORITY, ATTR_USERNAME},
    fingerprint::FingerprintAttr,
    integrity::MessageIntegrity,
    message::Message,
};
use stun_types::attribute::{Attribute as _, AttributeType, RawAttribute, Username};
use stun_types::message::{
    BINDING, IntegrityAlgorithm, Message as TypesMessage, MessageWrite as _, MessageWriteExt as _,
    MessageWriteVec, ShortTermCredentials,
};
use transport_p2p::stun::{
    Attribute, Class, IntegrityKey, MessageBuilder, Method, Scan, TransactionId,
};

use crate::Figure;
use crate::measure::compare;

pub(crate) const FIGURES: &[Figure] = &[("stun.write", write), ("stun.read", read)];

/// Lengths as in ICE: the message has 100 bytes.
const USERNAME: &str = "8hhYcXr4:evtj6vYAh6vYb";
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBtAB";
const PRIORITY: u32 = 1_845_494_271;
const TIE_BREAKER: u64 = 0x932f_f9b1_5126_3b36;

/// The peer is stun-types, the fastest of those that do all of it.
fn write(name: &str) {
    let key = IntegrityKey::short_term(PASSWORD);
    let peer_key = ShortTermCredentials::new(PASSWORD.to_owned()).make_key();
    let size = ours(&key).len();
    assert_eq!((size, types(&peer_key).len()), (100, 100));
    compare(
        name,
        || drop(black_box(ours(black_box(&key)))),
        || drop(black_box(types(black_box(&peer_key)))),
    );
}

/// The peer is rtc-stun, the fastest of those that verify the fingerprint too.
fn read(name: &str) {
    let key = IntegrityKey::short_term(PASSWORD);
    let bytes = ours(&key);
    let provider = crypto::default_provider().expect("a provider is built in");
    compare(
        name,
        || {
            let scan = Scan::new(black_box(&bytes)).expect("just written");
            scan.verify_fingerprint().expect("just written");
            scan.verify_integrity(&key).expect("just written");
            let message = scan.decode().expect("just written");
            assert!(scan.username() == Some(USERNAME.as_bytes()));
            assert!(message.priority() == Some(PRIORITY));
            black_box(message);
        },
        || {
            let mut message = Message::new();
            message
                .unmarshal_binary(black_box(&bytes))
                .expect("just written");
            FingerprintAttr.check(&message).expect("just written");
            MessageIntegrity::check(&mut message, PASSWORD.as_bytes(), provider.crypto())
                .expect("just written");
            let username = message.get(ATTR_USERNAME).expect("just written");
            assert!(username == USERNAME.as_bytes());
            let priority = message.get(ATTR_PRIORITY).expect("just written");
            assert!(priority == PRIORITY.to_be_bytes());
            let role = message.get(ATTR_ICE_CONTROLLED).expect("just written");
            black_box((message, role));
        },
    );
}

fn ours(key: &IntegrityKey) -> bytes::Bytes {
    MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([7; 12]))
        .attribute(Attribute::Priority(PRIORITY))
        .attribute(Attribute::IceControlled(TIE_BREAKER))
        .username(USERNAME)
        .finish(Some(key), true)
        .expect("it fits")
}

fn types(key: &stun_types::message::IntegrityKey) -> Vec<u8> {
    let mut message = TypesMessage::builder_request(BINDING, MessageWriteVec::with_capacity(128));
    let priority = PRIORITY.to_be_bytes();
    let tie_breaker = TIE_BREAKER.to_be_bytes();
    let attributes = [
        RawAttribute::new(AttributeType::new(0x0024), &priority),
        RawAttribute::new(AttributeType::new(0x8029), &tie_breaker),
    ];
    for attribute in &attributes {
        message.add_attribute(attribute).expect("it fits");
    }
    let username = Username::new(USERNAME).expect("it fits");
    message.add_attribute(&username).expect("it fits");
    message
        .add_message_integrity_with_key(key, IntegrityAlgorithm::Sha1)
        .expect("it fits");
    message.add_fingerprint().expect("it fits");
    let _ = username.length();
    message.finish()
}
