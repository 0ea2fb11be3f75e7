//! Data channels as Conversations has them: for whoever has them and is none of ours.

use super::kit::{Place, Via, bytes, long, pair};
use session_file::{OWN, disk::Existing};
use session_xmpp::client::Info;
use transport_p2p::sctp::TRANSPORT_NAMESPACE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_them_gets_files_over_them_and_ours_have_something_faster() {
    let others: &[&str] = &[TRANSPORT_NAMESPACE];
    let ours: &[&str] = &[TRANSPORT_NAMESPACE, OWN];
    for (features, by) in [(others, "DTLS"), (ours, "QUIC"), (&[], "QUIC")] {
        let place = Place::new("channels");
        let (alice, bob) = pair(Via::Ice, None);
        let receiving = bob.receive(&place.path("in"), Existing::Rename, 2);
        let info = Info::new("client", "phone", "Conversations", features.iter().copied());
        let hand = alice.hand.towards(&info);
        for (name, size) in [("small", 1), ("large", 3_000_000)] {
            let content = bytes(size, 7);
            let path = place.write(&format!("out/{name}"), &content);
            let sent = long(hand.send_file(&bob.address, &path)).await.unwrap();
            assert!(sent.confirmed, "{features:?}");
            let encrypted = format!("encrypted: {by}");
            assert!(
                sent.protection.starts_with(&encrypted),
                "{}",
                sent.protection
            );
            assert_eq!(std::fs::read(place.path("in").join(name)).unwrap(), content);
        }
        long(receiving).await.unwrap().unwrap();
    }
}
