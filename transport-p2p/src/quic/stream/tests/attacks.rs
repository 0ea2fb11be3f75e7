//! What happens with those who mean harm.

use super::*;
use proptest::prelude::*;

#[test]
fn a_certificate_that_was_not_told_of_is_refused_by_either_side() {
    let good = [1, 0].map(|at: usize| IDENTITIES[at].fingerprint());
    let wrong = IDENTITIES[2].fingerprint();
    for fooled in 0..2 {
        let mut trusts = good;
        trusts[fooled] = wrong;
        let delay = Conditions::with_delay(Duration::from_millis(10));
        let mut pair = Pair::trusting(&Config::default(), &delay, 5, trusts);
        pair.ends[0].to_send = 1_000;
        pair.ends[1].to_send = 1_000;
        pair.run(Duration::from_secs(2));
        let closed = pair.closed();
        assert_eq!(closed[fooled], Some(Closed::WrongCertificate), "{pair:?}");
        // What is said before there are keys, anybody could have said: the called side goes on waiting.
        let learns = matches!(closed[1 - fooled], Some(Closed::Refused(_)));
        assert_eq!(learns, fooled == 1, "{pair:?}");
        let received = pair.ends.each_ref().map(|end| end.received);
        assert_eq!(received, [0, 0], "nobody read anything");
    }
}

#[test]
fn a_certificate_is_no_use_without_its_key() {
    // The one who answers shows the certificate that was told, and cannot sign with its key.
    let honest = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    let other = rcgen::KeyPair::generate().unwrap();
    let stolen = Identity::new(honest.cert.der(), &other.serialize_der());
    assert!(stolen.is_err(), "and is not even let to try");
}

/// A server behind whose back strangers begin connections.
fn called() -> QuicStream {
    let (own, peer) = (&IDENTITIES[1], IDENTITIES[0].fingerprint());
    QuicStream::new(
        Config::default(),
        Role::Responder,
        own,
        peer,
        [9; 32],
        epoch(),
    )
    .unwrap()
}

fn calling(number: u8) -> QuicStream {
    let (own, peer) = (&IDENTITIES[2], IDENTITIES[1].fingerprint());
    let seed = [number; 32];
    QuicStream::new(Config::default(), Role::Initiator, own, peer, seed, epoch()).unwrap()
}

#[test]
fn beginnings_of_strangers_take_no_memory_and_do_not_keep_the_peer_out() {
    let mut pair = Pair::perfect();
    pair.ends[0].to_send = 10_000;
    for number in 50..200 {
        let hello = calling(number).poll_transmit(1, epoch()).unwrap();
        pair.ends[1].stream.handle_batch(hello.payload, 0, epoch());
        let attempts = pair.ends[1].stream.links.as_ref().unwrap().all.len();
        assert!(attempts <= crate::quic::links::ATTEMPTS_MAX);
    }
    assert!(
        pair.run_until(Duration::from_secs(5), |pair| pair.is_done()),
        "{pair:?}"
    );
    let hello = calling(7).poll_transmit(1, epoch()).unwrap();
    let now = pair.now;
    pair.ends[1].stream.handle_batch(hello.payload, 0, now);
    assert_eq!(pair.ends[1].stream.links.as_ref().unwrap().all.len(), 1);
}

#[test]
fn what_was_recorded_is_of_no_use_again() {
    let mut pair = Pair::perfect();
    pair.record = Some(Vec::new());
    pair.ends[0].to_send = 100_000;
    pair.ends[1].to_send = 100_000;
    assert!(pair.run_until(Duration::from_secs(5), |pair| pair.is_done()));
    let now = pair.now;
    let record = pair.record.take().unwrap();
    assert!(record.len() > 150);
    for (from, datagram) in &record {
        // Back to who sent it, and once more to whom it was for.
        for end in &mut pair.ends {
            end.stream.handle_batch(datagram.clone(), 0, now);
            end.work();
        }
        let _ = from;
    }
    assert_eq!(pair.closed(), [None, None]);
    assert_eq!(
        pair.ends.each_ref().map(|end| end.received),
        [100_000, 100_000]
    );
    let mut fresh = called();
    for (_, datagram) in record {
        fresh.handle_batch(datagram, 0, now);
    }
    assert!(!fresh.is_open(), "nobody is let in by it");
    assert_eq!(fresh.read(1_000), None);
}

#[test]
fn packets_of_other_protocols_are_none_of_quics() {
    let mut pair = Pair::perfect();
    pair.ends[0].to_send = 100_000;
    pair.open();
    let now = pair.now;
    for first in 0..=255u8 {
        for length in [1, 2, 20, 21, 100, 1_200, 1_452] {
            let mut packet = vec![first; length];
            packet[length / 2..].fill(first ^ 0x5a);
            for end in &mut pair.ends {
                end.stream.handle_batch(packet.clone().into(), 0, now);
            }
        }
    }
    assert!(
        pair.run_until(Duration::from_secs(5), |pair| pair.is_done()),
        "{pair:?}"
    );
    assert_eq!(pair.closed(), [None, None]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Who is on the path can delay and destroy, and not forge.
    #[test]
    fn what_is_changed_on_the_way_changes_nothing_that_is_read(
        seed: u16,
        changes in prop::collection::vec((0..60usize, 0..3u8, any::<prop::sample::Index>(), 1..=255u8), 0..30),
    ) {
        let mut pair = Pair::new(&Config::default(), &Conditions::with_delay(Duration::from_millis(5)), seed.into());
        pair.record = Some(Vec::new());
        pair.ends[0].to_send = 30_000;
        pair.ends[1].to_send = 30_000;
        let mut seen = 0;
        let done = pair.run_until(Duration::from_secs(60), |pair| {
            let record = pair.record.as_ref().unwrap();
            let fresh: Vec<_> = record[seen..].iter().cloned().zip(seen..).collect();
            seen = record.len();
            for ((from, datagram), number) in fresh {
                for (_, kind, index, bits) in changes.iter().filter(|change| change.0 == number) {
                    let at = index.index(datagram.len());
                    let mut changed = datagram.to_vec();
                    match kind {
                        0 => changed[at] ^= bits,
                        1 => changed.truncate(at),
                        _ => changed.extend_from_slice(&vec![*bits; at]),
                    }
                    // It overtakes the true one.
                    let now = pair.now;
                    pair.ends[1 - from].stream.handle_batch(changed.into(), 0, now);
                }
            }
            pair.is_done() || pair.closed() != [None, None]
        });
        // The handshake's first packets are protected by keys that anybody can derive, so they can be forged so far as to
        // end it (RFC 9001 §7); these do not, for they are only damaged.
        prop_assert!(done && pair.is_done(), "{:?}", pair);
    }

    #[test]
    fn noise_is_harmless(noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1_500), 0..40), called_first: bool) {
        let mut stream = if called_first { called() } else { calling(3) };
        for datagram in noise {
            stream.handle_batch(datagram.into(), 0, epoch());
            while stream.poll_transmit(10, epoch()).is_some() {}
        }
        prop_assert!(!stream.is_open());
        prop_assert_eq!(stream.closed(), None);
    }
}
