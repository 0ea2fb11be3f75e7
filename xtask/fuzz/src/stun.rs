//! Bytes as one STUN message: refused with an error, or read, written and read again to the same meaning.

use transport_p2p::stun::{
    Attribute, Class, IntegrityKey, Message, MessageBuilder, Scan, StunError,
};

/// Takes `data` for a datagram that arrived.
pub fn stun(data: &[u8]) {
    let scan = match Scan::new(data) {
        Ok(scan) => scan,
        Err(error) => {
            assert_eq!(error == StunError::NotStun, !Scan::is_stun(data), "{error}");
            return;
        }
    };
    assert!(Scan::is_stun(data), "what is scanned looks like it");
    let key = IntegrityKey::short_term("not the key of anybody");
    assert!(scan.verify_integrity(&key).is_err(), "nobody knows the key");
    assert!(scan.has_fingerprint() || scan.verify_fingerprint().is_err());
    for text in [scan.username(), scan.realm(), scan.nonce(), scan.data()]
        .into_iter()
        .flatten()
    {
        assert!(
            text.len() + 24 <= data.len(),
            "a value is inside of the message"
        );
    }
    let Ok(message) = scan.decode() else { return };
    assert!(message.attributes().len() + message.unknown().len() <= 64);
    check_again(&scan, &message, &key);
}

/// What was understood is written, sealed, and read again.
fn check_again(scan: &Scan<'_>, message: &Message, key: &IntegrityKey) {
    let new = MessageBuilder::new(scan.class(), scan.method(), scan.transaction());
    let attributes = message.attributes().iter().cloned();
    let builder = attributes.fold(new, MessageBuilder::attribute);
    let written = builder.finish(Some(key), true).expect("it was read");
    let again = Scan::new(&written).expect("it was written");
    again.verify_integrity(key).expect("it was sealed");
    again.verify_fingerprint().expect("it was sealed");
    assert_eq!(again.class(), message.class);
    let read = again.decode().expect("it was written");
    assert!(read.unknown().is_empty());
    for (one, other) in read.attributes().iter().zip(message.attributes()) {
        let cut = matches!(one, Attribute::Error(..) | Attribute::UnknownAttributes(_));
        assert!(one == other || cut, "{one:?} {other:?}");
    }
    assert!(matches!(
        again.class(),
        Class::Request | Class::Indication | Class::Success | Class::Error
    ));
}
