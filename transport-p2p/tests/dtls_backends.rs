//! DTLS by OpenSSL's library beside dimpl, and certificates with RSA keys, which only the first takes.
#![cfg(feature = "dtls-openssl")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use openssl::{
    asn1::Asn1Time, bn::BigNum, hash::MessageDigest, pkey::PKey, rsa::Rsa, x509::X509Builder,
};
use session_core::testing::{
    Answer, Callback, MemoryDatagram, Note, RECORDER_NAMESPACE, Recorder, World,
};
use session_core::*;
use std::{sync::Arc, time::Duration};
use transport_p2p::dtls::{Backend, DtlsConfig, DtlsLayer, Identity};

fn ecdsa() -> Identity {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    Identity::new(made.cert.der(), &made.signing_key.serialize_der())
}

fn rsa() -> Identity {
    let key = PKey::from_rsa(Rsa::generate(2_048).unwrap()).unwrap();
    let mut certificate = X509Builder::new().unwrap();
    certificate.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    certificate.set_serial_number(&serial).unwrap();
    certificate.set_pubkey(&key).unwrap();
    let (from, until) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(1));
    certificate.set_not_before(&from.unwrap()).unwrap();
    certificate.set_not_after(&until.unwrap()).unwrap();
    certificate.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = certificate.build().to_der().unwrap();
    Identity::new(&certificate, &key.private_key_to_pkcs8().unwrap())
}

/// What each side learns, with what they send arriving if they may send.
fn call(layers: [DtlsLayer; 2]) -> [Option<Secured>; 2] {
    let mut world = World::new(3);
    for (name, layer) in ["alice@example.org/a", "bob@example.org/b"]
        .into_iter()
        .zip(layers)
    {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryDatagram::new())?;
            let recorder = Recorder::new().with_answer(Answer::Accept);
            manager.add_client(recorder.with_layered("rtp", Arc::new(layer)))
        });
    }
    world
        .call(0, 1, RECORDER_NAMESPACE, &Note("hi".into()))
        .unwrap();
    world.run_for(Duration::from_secs(10));
    let secured = [0, 1].map(|host| {
        let entries = world.log(host).entries().into_iter();
        let mut secured = entries.filter_map(|entry| match entry.callback {
            Callback::Secured(_, secured) => Some(*secured),
            _ => None,
        });
        secured.next()
    });
    if secured.iter().all(Option::is_some) {
        for host in [0, 1] {
            let session = world.sessions(host)[0];
            let packet = bytes::Bytes::from(vec![0x80 + host as u8; 1_000]);
            let expected = packet.clone();
            world.with_session(host, session, |session, now| {
                let channel = session.channel("rtp").unwrap();
                session.send(channel, packet, now).unwrap();
            });
            world.run_for(Duration::from_secs(1));
            let entries = world.log(1 - host).entries();
            let arrived = |entry: &testing::Entry| match &entry.callback {
                Callback::Packet(_, packet) => *packet == expected,
                _ => false,
            };
            assert_eq!(entries.iter().filter(|entry| arrived(entry)).count(), 1);
        }
    }
    secured
}

fn with(backend: Backend, layer: DtlsLayer) -> DtlsLayer {
    layer.with_config(DtlsConfig {
        backend,
        ..DtlsConfig::default()
    })
}

#[test]
fn both_backends_agree_in_both_roles() {
    let (rust, openssl) = (Backend::Rust, Backend::Openssl);
    for backends in [[openssl, rust], [rust, openssl], [openssl, openssl]] {
        let layers = backends.map(|backend| with(backend, DtlsLayer::srtp(ecdsa())));
        let [Some(alice), Some(bob)] = call(layers) else {
            panic!("{backends:?}: no keys")
        };
        assert_eq!(alice.srtp.as_ref().unwrap(), bob.srtp.as_ref().unwrap());
        assert_eq!([&*alice.protocol, &*bob.protocol], ["DTLS 1.2"; 2]);
        let layers = backends.map(|backend| with(backend, DtlsLayer::data(ecdsa())));
        assert!(call(layers).iter().all(Option::is_some), "{backends:?}");
    }
}

#[test]
fn certificates_with_rsa_keys_are_for_openssl() {
    let layer = |backend, identity| with(backend, DtlsLayer::srtp(identity));
    for roles in [[true, false], [false, true], [true, true]] {
        let layers =
            roles.map(|is_rsa| layer(Backend::Openssl, if is_rsa { rsa() } else { ecdsa() }));
        let [Some(alice), Some(bob)] = call(layers) else {
            panic!("{roles:?}: no keys")
        };
        assert_eq!(alice.srtp, bob.srtp);
    }
    let refused = call([
        layer(Backend::Rust, ecdsa()),
        layer(Backend::Openssl, rsa()),
    ]);
    assert_eq!(refused, [None, None], "dimpl does not know RSA");
}
