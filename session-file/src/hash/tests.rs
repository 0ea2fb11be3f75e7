use super::*;
use proptest::prelude::*;

fn of(algorithm: HashAlgorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    let text = hasher.hashes()[0].to_string();
    text.split_once(':').unwrap().1.to_owned()
}

fn problem(element: &Element) -> (&'static str, &'static str) {
    match Hash::from_element(element.view()) {
        Err(PeerError::Malformed { field, problem }) => (field, problem),
        other => panic!("{other:?}"),
    }
}

fn element(algo: &str, text: &str) -> Element {
    Element::new(HASHES, "hash").with("algo", algo).text(text)
}

/// RFC 3174 §7.3, FIPS 180-4 and FIPS 202 (examples of NIST), RFC 7693 Appendix A; those of BLAKE2b-256 were made with
/// Python's hashlib, as were all of the long input.
#[test]
fn the_vectors_of_the_standards() {
    use HashAlgorithm::{Blake2b256, Blake2b512, Sha1, Sha3_256, Sha3_512, Sha256, Sha512};
    let long: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    for (algorithm, none, abc, of_long) in [
        (
            Sha1,
            "da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "a9993e364706816aba3e25717850c26c9cd0d89d",
            "23a1065a0f6a485119049bf2799179dd0154efbb",
        ),
        (
            Sha256,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "cd2df694e424bc7968cc37f47751019e5ca0cd1bdf2e479ea537c3a1c32ee1aa",
        ),
        (
            Sha512,
            "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
            "9a63314a71907982aa89ca2dfd6e22b5c5a436df3a7b55f93785d7f7971324a3fd500ae72e066a5367b1f2d407a820503c6e2f13df5885f83a49aedb0706db84",
        ),
        (
            Sha3_256,
            "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a",
            "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532",
            "b751df62942bc84db9f6a5c2def78558162c2857d5b126d7a2e56a0a357cdf62",
        ),
        (
            Sha3_512,
            "a69f73cca23a9ac5c8b567dc185a756e97c982164fe25859e0d1dcc1475c80a615b2123af1f5f94c11e3e9402c3ac558f500199d95b6d3e301758586281dcd26",
            "b751850b1a57168a5693cd924b6b096e08f621827444f70d884f5d0240d2712e10e116e9192af3c91a7ec57647e3934057340b4cf408d5a56592f8274eec53f0",
            "04ffdd636dc25b3e900d12778cacbbd5c98300786b0b83e5c34b088bd2aa201f3fc41dbe4c0e30cc6fa1c60e28354a02942b7ddf9e7a2f863ec6494472f1de47",
        ),
        (
            Blake2b256,
            "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8",
            "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319",
            "916cfaa800ee55811e82095babeb88ea29c9ef8a36e8d7e20c7b772c344c9e1c",
        ),
        (
            Blake2b512,
            "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce",
            "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d17d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923",
            "a0b4e1c912a57364ed019d57296b9f14fd4ac7a36dc5b324706ba2b1497cf7b58b813ef6d86efab3a9461768ea9a552ab97554f8c4b010ed26d04ae6158bcedf",
        ),
    ] {
        assert_eq!(of(algorithm, b""), none, "{algorithm}");
        assert_eq!(of(algorithm, b"abc"), abc, "{algorithm}");
        assert_eq!(of(algorithm, &long), of_long, "{algorithm}");
        assert_eq!(abc.len(), algorithm.digest_bytes() * 2);
    }
}

#[test]
fn names_are_those_of_the_registries() {
    for algorithm in HashAlgorithm::ALL {
        assert_eq!(
            HashAlgorithm::from_name(algorithm.as_str()),
            Some(algorithm)
        );
        assert_eq!(
            HashAlgorithm::from_name(&algorithm.as_str().to_uppercase()),
            Some(algorithm)
        );
    }
    assert_eq!(HashAlgorithm::from_name("md5"), None);
    assert_eq!(
        HashAlgorithm::Sha3_256.feature(),
        "urn:xmpp:hash-function-text-names:sha3-256"
    );
    assert_eq!(
        HashAlgorithm::Blake2b512.feature(),
        "urn:xmpp:hash-function-text-names:id-blake2b512"
    );
}

/// The example of XEP-0300 §3.
#[test]
fn the_element_of_the_specification_is_read_and_written() {
    let written = element("sha-256", "2XarmwTlNxDAMkvymloX3S5+VbylNrJt/l5QyPa+YoU=");
    let hash = Hash::from_element(written.view()).unwrap().unwrap();
    assert_eq!(hash.algorithm(), Some(HashAlgorithm::Sha256));
    assert_eq!(hash.to_element(), written);
}

#[test]
fn what_is_no_hash_is_refused_with_the_field_at_fault() {
    assert_eq!(
        problem(&Element::new(HASHES, "hash").text("AA==")),
        ("algo", "missing")
    );
    assert_eq!(problem(&element("", "AA==")), ("algo", "empty"));
    assert_eq!(
        problem(&element(&"x".repeat(65), "AA==")),
        ("algo", "too long")
    );
    assert_eq!(problem(&element("sha-1", "AA==")), ("hash", WRONG_LENGTH));
    assert_eq!(problem(&element("sha-1", "a*b=")), ("hash", "not Base64"));
    assert_eq!(
        problem(&element("later", &"A".repeat(257))),
        ("hash", "too long")
    );
    assert_eq!(
        problem(&element("later", &"A".repeat(256))),
        ("hash", WRONG_LENGTH)
    );
}

#[test]
fn what_others_write_is_understood() {
    assert_eq!(Hash::from_element(element("sha-1", "").view()), Ok(None));
    let clean = element("sha-1", "w0mcJylzCn+AfvuGdqkty2+KP48=");
    let indented = element("SHA-1", "\n  w0mcJylzCn+A\n  fvuGdqkty2+KP48\n");
    let value = |e: &Element| Hash::from_element(e.view()).unwrap().unwrap();
    assert_eq!(value(&clean).value(), value(&indented).value());
    let unknown = element("later", "AQI=");
    assert_eq!(value(&unknown).algorithm(), None);
    assert_eq!(value(&unknown).to_element(), unknown);
}

#[test]
fn the_best_that_both_have_is_compared_and_one_that_differs_decides() {
    use HashAlgorithm::{Sha1, Sha256, Sha512};
    let hashes = |algorithms: &[HashAlgorithm], bytes: &[u8]| {
        let mut hasher = Hasher::new(algorithms.iter().copied());
        hasher.update(bytes);
        hasher.hashes()
    };
    let mine = hashes(&[Sha1, Sha256, Sha512], b"x");
    assert_eq!(
        compare(&mine, &hashes(&[Sha1, Sha256], b"x")),
        Some((Sha256, true))
    );
    assert_eq!(compare(&mine, &hashes(&[Sha1], b"y")), Some((Sha1, false)));
    assert_eq!(compare(&mine, &[]), None);
    for order in [[Sha1, Sha256], [Sha256, Sha1]] {
        let mixed: Vec<Hash> = hashes(&order[..1], b"x")
            .into_iter()
            .chain(hashes(&order[1..], b"y"))
            .collect();
        assert_eq!(compare(&mine, &mixed), Some((order[1], false)));
    }
}

proptest! {
    /// However the bytes are cut, and whenever it is asked, the hashes are those of the whole.
    #[test]
    fn pieces_make_the_same_hash_as_the_whole(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12)) {
        let mut hasher = Hasher::new(HashAlgorithm::ALL);
        let mut whole = Vec::new();
        for piece in &pieces {
            hasher.update(piece);
            whole.extend_from_slice(piece);
            let mut fresh = Hasher::new(HashAlgorithm::ALL);
            fresh.update(&whole);
            prop_assert_eq!(hasher.hashes(), fresh.hashes());
            prop_assert_eq!(hasher.length(), whole.len() as u64);
        }
    }

    #[test]
    fn every_hash_comes_back(algorithm in prop::sample::select(&HashAlgorithm::ALL[..]), bytes in prop::collection::vec(any::<u8>(), 64)) {
        let hash = Hash::new(algorithm, &bytes[..algorithm.digest_bytes()]).unwrap();
        prop_assert_eq!(Hash::from_element(hash.to_element().view()), Ok(Some(hash.clone())));
        prop_assert_eq!(Hash::from_base64(algorithm, &hash.to_base64()), Ok(hash));
        prop_assert_eq!(Hash::new(algorithm, &bytes[..10]), None);
    }
}

#[test]
fn digits_in_place_of_bytes_are_understood_as_libervia_writes_them() {
    let text =
        "ZmQxYzA2ZmQ3Y2YyMTAxMWVmMmNmOWU3NjAyM2IyYjczZDQwOGI4ODcyMDBhOTY1ODYwNGZjNWQ2NDE0YWY4YQ==";
    let hash = Hash::from_element(element("sha-256", text).view())
        .unwrap()
        .unwrap();
    let digits = "fd1c06fd7cf21011ef2cf9e76023b2b73d408b887200a9658604fc5d6414af8a";
    assert_eq!(hash.to_string(), format!("sha-256:{digits}"));
    // As many bytes that are no digits are no digest.
    let text = BASE64.encode([b'g'; 64]);
    assert!(Hash::from_element(element("sha-256", &text).view()).is_err());
}
