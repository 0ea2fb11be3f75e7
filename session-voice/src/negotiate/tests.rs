use super::*;
use crate::{description::Media, encryption::AES_CM_128_HMAC_SHA1_80};
use proptest::prelude::*;

fn audio(codecs: &[PayloadType]) -> RtpDescription {
    let mut description = RtpDescription::new(Media::Audio);
    description.payload_types = codecs.to_vec();
    description
}

fn abilities(description: RtpDescription) -> Abilities {
    Abilities {
        description,
        policy: Policy::Disabled,
        dtls: true,
        preference: Preference::Answerer,
    }
}

fn codec(id: u8, name: &str, rate: u32) -> PayloadType {
    PayloadType::new(id, name, rate)
}

fn rtx(id: u8, apt: u8) -> PayloadType {
    PayloadType {
        parameters: vec![Parameter::new("apt", &apt.to_string())],
        ..codec(id, "rtx", 90_000)
    }
}

fn ids(answer: &RtpDescription) -> Vec<u8> {
    answer.payload_types.iter().map(|codec| codec.id).collect()
}

const KEY: [u8; KEY_BYTES] = [9; KEY_BYTES];

#[test]
fn order_is_ours_or_theirs_and_ids_are_theirs() {
    let offer = audio(&[
        codec(0, "PCMU", 8_000),
        codec(103, "ISAC", 16_000),
        codec(8, "PCMA", 8_000),
    ]);
    let mut ours = abilities(audio(&[
        codec(99, "isac", 16_000),
        codec(0, "PCMU", 8_000),
        codec(96, "speex", 8_000),
    ]));
    assert_eq!(ids(&ours.answer(&offer, &KEY).unwrap()), [103, 0]);
    ours.preference = Preference::Offerer;
    assert_eq!(ids(&ours.answer(&offer, &KEY).unwrap()), [0, 103]);
}

#[test]
fn digits_alone_are_no_call() {
    let offer = audio(&[
        codec(0, "PCMU", 8_000),
        codec(106, "telephone-event", 8_000),
    ]);
    let ours = abilities(audio(&[
        codec(8, "PCMA", 8_000),
        codec(101, "telephone-event", 8_000),
    ]));
    assert_eq!(
        ours.answer(&offer, &KEY),
        Err(NegotiationError::NoCommonCodec)
    );
    assert_eq!(
        NegotiationError::NoCommonCodec.reason().condition,
        ReasonCondition::IncompatibleParameters
    );
}

#[test]
fn digits_and_noise_follow_a_codec_of_their_rate() {
    let all = [
        codec(0, "PCMU", 8_000),
        codec(13, "CN", 8_000),
        codec(105, "CN", 16_000),
        codec(106, "telephone-event", 8_000),
        codec(107, "telephone-event", 48_000),
    ];
    let answer = abilities(audio(&all)).answer(&audio(&all), &KEY).unwrap();
    assert_eq!(ids(&answer), [0, 13, 106]);
}

#[test]
fn repair_goes_with_what_it_repairs() {
    let video = |codecs: &[PayloadType]| RtpDescription {
        media: Media::Video,
        ..audio(codecs)
    };
    let offer = video(&[
        codec(96, "VP8", 90_000),
        rtx(97, 96),
        codec(98, "VP9", 90_000),
        rtx(99, 98),
    ]);
    let ours = video(&[codec(120, "VP9", 90_000), rtx(121, 120)]);
    let answer = abilities(ours).answer(&offer, &KEY).unwrap();
    assert_eq!(ids(&answer), [98, 99]);
    assert_eq!(answer.payload_types[1].parameter("apt"), Some("98"));
    // Repair of something that is not there fits nothing.
    let offer = video(&[codec(96, "VP8", 90_000), rtx(97, 50)]);
    let ours = video(&[codec(96, "VP8", 90_000), rtx(97, 96)]);
    assert_eq!(ids(&abilities(ours).answer(&offer, &KEY).unwrap()), [96]);
}

#[test]
fn keys_are_answered_under_their_tag_unless_dtls_makes_them() {
    let mut offer = audio(&[PayloadType::opus(96)]);
    offer.encryption = Some(Encryption {
        required: true,
        cryptos: vec![Crypto::new(4, AES_CM_128_HMAC_SHA1_80, &[1; KEY_BYTES])],
    });
    let mut ours = abilities(audio(&[PayloadType::opus(96)]));
    assert_eq!(ours.answer(&offer, &KEY).unwrap().encryption, None);
    ours.dtls = false;
    let refused = NegotiationError::Encryption(EncryptionMismatch::PeerRequires);
    assert_eq!(ours.answer(&offer, &KEY), Err(refused));
    ours.policy = Policy::Enabled;
    let answer = ours.answer(&offer, &KEY).unwrap();
    let crypto = &answer.encryption.unwrap().cryptos[0];
    assert_eq!((crypto.tag, crypto.key()), (4, Some(KEY)));
}

#[test]
fn extensions_and_feedback_are_what_both_know() {
    let mut offer = audio(&[PayloadType {
        feedback: vec![
            Feedback::new("nack", None),
            Feedback::new("ccm", Some("fir")),
        ],
        ..PayloadType::opus(96)
    }]);
    offer.header_extensions = vec![
        HeaderExtension::new(1, "a"),
        HeaderExtension::new(2, "b"),
        HeaderExtension::new(1, "c"),
        HeaderExtension::new(3, "a"),
        HeaderExtension::new(4_096, "c"),
    ];
    offer.feedback = vec![Feedback::new("transport-cc", None)];
    offer.rtcp_mux = true;
    let mut ours = audio(&[PayloadType {
        feedback: vec![Feedback::new("nack", None)],
        ..PayloadType::opus(111)
    }]);
    ours.header_extensions = vec![HeaderExtension::new(9, "c"), HeaderExtension::new(7, "a")];
    let answer = abilities(ours).answer(&offer, &KEY).unwrap();
    assert_eq!(answer.header_extensions, [HeaderExtension::new(1, "a")]);
    assert_eq!(
        answer.payload_types[0].feedback,
        [Feedback::new("nack", None)]
    );
    assert!(answer.feedback.is_empty() && !answer.rtcp_mux);
}

fn any_codec() -> impl Strategy<Value = PayloadType> {
    let names = prop_oneof![
        Just("opus"),
        Just("PCMU"),
        Just("ISAC"),
        Just("telephone-event"),
        Just("CN"),
        Just("rtx"),
        Just("")
    ];
    let rates = prop_oneof![Just(0_u32), Just(8_000), Just(16_000), Just(48_000)];
    (
        0..128_u8,
        names,
        rates,
        1..3_u8,
        prop::option::of(0..128_u8),
    )
        .prop_map(|(id, name, rate, channels, apt)| PayloadType {
            channels,
            parameters: apt
                .map(|apt| Parameter::new("apt", &apt.to_string()))
                .into_iter()
                .collect(),
            ..codec(id, name, rate)
        })
}

fn any_description() -> impl Strategy<Value = RtpDescription> {
    prop::collection::vec(any_codec(), 0..12).prop_map(|codecs| {
        let mut description = RtpDescription::new(Media::Audio);
        for codec in codecs {
            // Ids are unique, as a reader makes sure.
            let _ = description.add_payload_type(codec);
        }
        description
    })
}

proptest! {
    /// Whatever was offered, an answer holds only ids of the offer, each once, each standing for a codec that both have.
    #[test]
    fn an_answer_is_part_of_the_offer(offer in any_description(), ours in any_description(), theirs: bool) {
        let mut abilities = abilities(ours);
        if theirs {
            abilities.preference = Preference::Offerer;
        }
        if let Ok(answer) = abilities.answer(&offer, &KEY) {
            let mut seen = Vec::new();
            prop_assert!(!answer.payload_types.is_empty());
            for codec in &answer.payload_types {
                prop_assert!(!seen.contains(&codec.id));
                seen.push(codec.id);
                let offered = offer.payload_type(codec.id).unwrap();
                prop_assert!(codec.matches(offered), "{:?} {:?}", codec, offered);
                prop_assert!(abilities.description.payload_types.iter().any(|own| own.matches(offered)));
                if let Some(apt) = codec.parameter("apt") {
                    prop_assert!(answer.payload_type(apt.parse().unwrap()).is_some());
                }
            }
            // The offerer reads it, and finds all of it in its own offer.
            let again = Abilities { description: offer, ..abilities }.answer(&answer, &KEY);
            prop_assert!(again.is_ok());
        }
    }
}
