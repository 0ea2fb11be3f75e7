use super::*;
use crate::encryption::{AES_CM_128_HMAC_SHA1_80, Crypto};
use proptest::prelude::*;
use session_core::SessionDescription;

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-zA-Z0-9:/_. -]{1,12}".prop_map(Into::into)
}

fn parameters() -> impl Strategy<Value = Vec<Parameter>> {
    let parameter = ("[a-z-]{3,9}", text());
    let parameter =
        parameter.prop_filter("is an attribute elsewhere", |(name, _)| name != "bitrate");
    prop::collection::vec(
        parameter.prop_map(|(name, value)| Parameter::new(&name, &value)),
        0..3,
    )
}

fn feedback() -> impl Strategy<Value = Vec<Feedback>> {
    let one = (text(), prop::option::of(text()), parameters());
    prop::collection::vec(
        one.prop_map(|(kind, subtype, parameters)| Feedback {
            kind,
            subtype,
            parameters,
        }),
        0..3,
    )
}

prop_compose! {
    fn codec(id: u8)(name in text(), clock_rate in 0..100_000_u32, channels in 1..9_u8, ptime in prop::option::of(any::<u32>()),
        bit_rate in prop::option::of(1..100_000_u32), parameters in parameters(), feedback in feedback(), feedback_interval in prop::option::of(any::<u32>()))
        -> PayloadType {
        PayloadType { id, name, clock_rate, channels, ptime, max_ptime: ptime, bit_rate, parameters, feedback, feedback_interval }
    }
}

fn codecs() -> impl Strategy<Value = Vec<PayloadType>> {
    prop::collection::btree_set(0..128_u8, 0..5)
        .prop_flat_map(|ids| ids.into_iter().map(codec).collect::<Vec<_>>())
}

fn senders() -> impl Strategy<Value = Senders> {
    prop_oneof![
        Just(Senders::Both),
        Just(Senders::Initiator),
        Just(Senders::Responder),
        Just(Senders::None)
    ]
}

prop_compose! {
    fn description()(
        media in prop_oneof![Just("audio"), Just("video"), Just("application")],
        ssrc in prop::option::of(any::<u32>()),
        profile in prop::option::of(text()),
        payload_types in codecs(),
        feedback in feedback(),
        feedback_interval in prop::option::of(any::<u32>()),
        extensions in prop::collection::vec((any::<u16>(), text(), senders(), parameters()), 0..3),
        flags in any::<[bool; 2]>(),
        bandwidth in prop::option::of((text(), "[0-9]{1,6}")),
        keys in prop::collection::vec((any::<u32>(), any::<[u8; 30]>()), 0..3),
        required in prop::option::of(any::<bool>()),
        sources in prop::collection::vec((any::<u32>(), parameters()), 0..3),
        groups in prop::collection::vec((text(), prop::collection::vec(any::<u32>(), 0..3)), 0..3),
        extra in prop::bool::ANY,
    ) -> RtpDescription {
        RtpDescription {
            media: media.into(),
            ssrc,
            profile,
            payload_types,
            feedback,
            feedback_interval,
            header_extensions: extensions.into_iter()
                .map(|(id, uri, senders, parameters)| HeaderExtension { id, uri, senders, parameters }).collect(),
            mixed_extensions: flags[0],
            rtcp_mux: flags[1],
            bandwidth: bandwidth.map(|(kind, value)| Bandwidth { kind, value: value.into() }),
            encryption: required.map(|required| Encryption {
                required,
                cryptos: keys.iter().map(|(tag, key)| Crypto::new(*tag, AES_CM_128_HMAC_SHA1_80, key)).collect(),
            }),
            sources: sources.into_iter().map(|(ssrc, parameters)| Source { ssrc, parameters }).collect(),
            source_groups: groups.into_iter().map(|(semantics, sources)| SourceGroup { semantics, sources }).collect(),
            extra: extra.then(|| Element::new("urn:example:x", "x").text("kept")).into_iter().collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(description in description()) {
        prop_assert_eq!(RtpDescription::from_element(&description.to_element()), Ok(description));
    }

    /// Any element at all, with names that lead into the reader.
    #[test]
    fn nothing_panics(element in session_core::testing::strategies::element()) {
        let _ = RtpDescription::from_element(&element);
        let _ = PhoneDescription::from_element(&element);
    }
}

fn malformed_field(element: &Element) -> &'static str {
    match RtpDescription::from_element(element) {
        Err(PeerError::Malformed { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

fn with(child: Element) -> Element {
    Element::new(RTP, "description")
        .with("media", "audio")
        .child(child)
}

#[test]
fn errors_name_the_field() {
    let payload = |key: &str, value: &str| {
        let codec = Element::new(RTP, "payload-type");
        match key {
            "id" => codec.with("id", value),
            _ => codec.with("id", 96).with(key, value),
        }
    };
    let table = [
        (with(payload("id", "128")), "payload-type id"),
        (with(payload("id", "-1")), "payload-type id"),
        (with(payload("id", "x")), "payload-type id"),
        (with(Element::new(RTP, "payload-type")), "payload-type id"),
        (
            with(payload("id", "0")).child(payload("id", "0")),
            "payload-type",
        ),
        (
            with(payload("clockrate", "4294967296")),
            "payload-type clockrate",
        ),
        (with(payload("channels", "256")), "payload-type channels"),
        (with(payload("ptime", "1.5")), "payload-type ptime"),
        (
            with(Element::new(RTP_HEADER_EXTENSIONS, "rtp-hdrext").with("uri", "u")),
            "rtp-hdrext id",
        ),
        (
            with(Element::new(RTP_HEADER_EXTENSIONS, "rtp-hdrext").with("id", 1)),
            "rtp-hdrext uri",
        ),
        (with(Element::new(RTP_SOURCES, "source")), "source ssrc"),
        (with(Element::new(RTCP_FEEDBACK, "rtcp-fb")), "rtcp-fb type"),
        (
            Element::new(RTP, "description").with("ssrc", "x"),
            "description ssrc",
        ),
    ];
    for (element, field) in table {
        assert_eq!(malformed_field(&element), field);
    }
}

#[test]
fn a_flood_of_entries_is_refused() {
    let mut element = Element::new(RTP, "description");
    for id in 0..200 {
        element.push(Element::new(RTP_SOURCES, "source").with("ssrc", id));
    }
    let refused = RtpDescription::from_element(&element);
    assert!(
        matches!(refused, Err(PeerError::TooMany { max: LIST_MAX, .. })),
        "{refused:?}"
    );
}

#[test]
fn the_oldest_clients_mean_two_codecs() {
    let PhoneDescription(read) =
        PhoneDescription::from_element(&Element::new(GOOGLE_PHONE, "description")).unwrap();
    let ids: Vec<_> = read.payload_types.iter().map(|codec| codec.id).collect();
    assert_eq!(ids, [103, 0]);
}

/// libjingle.md §6.1: the default list of its tests, with bit rates, and a key with its usage.
#[test]
fn googles_form_comes_back() {
    let mut description = RtpDescription::new(Media::Audio);
    description.payload_types = vec![
        PayloadType {
            bit_rate: Some(40_000),
            ..PayloadType::new(119, "ISACLC", 16_000)
        },
        PayloadType::new(106, "telephone-event", 8_000),
    ];
    description.ssrc = Some(7);
    description.encryption = Some(Encryption {
        required: true,
        cryptos: vec![Crypto::new(1, AES_CM_128_HMAC_SHA1_80, &[5; 30])],
    });
    let phone = PhoneDescription(description);
    let element = phone.to_element();
    assert_eq!(PhoneDescription::from_element(&element), Ok(phone));
    let usage = element.find(GOOGLE_PHONE, "encryption").unwrap();
    assert!(usage.find(GOOGLE_PHONE, "usage").is_some());
    let codec = element.find(GOOGLE_PHONE, "payload-type").unwrap();
    assert_eq!(codec.attribute("bitrate"), Some("40000"));
}
