//! What is said of media, and what becomes of it: descriptions in both forms, information, digits.

use session_core::{Element, ElementLimits, SessionDescription};
use session_voice::{
    Abilities, CallInfo, DigitMessage, Media, PayloadType, PhoneDescription, Policy, Preference,
    RtpDescription, codecs,
};
use session_xmpp::xml::{self, Context};

/// Takes `data` for the XML of a description or of what else a call says.
pub fn description(data: &[u8]) {
    let Ok(element) = xml::parse(data, &Context::CLIENT, &ElementLimits::default()) else {
        return;
    };
    if let Ok(read) = RtpDescription::from_element(&element) {
        let written = carried(&read.to_element());
        let again = RtpDescription::from_element(&written);
        assert_eq!(again.as_ref(), Ok(&read));
        negotiate(&read);
    }
    if let Ok(read) = PhoneDescription::from_element(&element) {
        let written = carried(&read.to_element());
        let again = PhoneDescription::from_element(&written);
        assert_eq!(again.map(|again| again.0), Ok(read.0.clone()));
        negotiate(&read.0);
    }
    if let Some(info) = CallInfo::from_element(&element) {
        assert_eq!(
            CallInfo::from_element(&carried(&info.to_element())),
            Some(info)
        );
    }
    if let Ok(digit) = DigitMessage::from_element(&element) {
        assert_eq!(
            DigitMessage::from_element(&carried(&digit.to_element())),
            Ok(digit)
        );
    }
}

/// Over the wire.
fn carried(element: &Element) -> Element {
    let mut written = Vec::new();
    xml::write(element, &Context::CLIENT, &mut written).expect("what we say can be written");
    let limits = ElementLimits::default();
    // Escapes make it longer.
    let limits = ElementLimits {
        bytes: 16 * limits.bytes,
        ..limits
    };
    xml::parse(&written, &Context::CLIENT, &limits).expect("what we write can be read")
}

/// An answer has nothing that was not offered, and never less protection than we demand.
fn negotiate(offer: &RtpDescription) {
    for policy in [Policy::Disabled, Policy::Enabled, Policy::Required] {
        for preference in [Preference::Answerer, Preference::Offerer] {
            let mut own = RtpDescription::new(Media::Audio);
            own.payload_types = codecs();
            own.payload_types.push(PayloadType::opus(111));
            own.rtcp_mux = true;
            let ours = Abilities {
                description: own,
                policy,
                dtls: false,
                preference,
            };
            let Ok(answer) = ours.answer(offer, &[9; 30]) else {
                continue;
            };
            assert!(!answer.payload_types.is_empty());
            for chosen in &answer.payload_types {
                let offered = offer.payload_types.iter();
                let mut same = offered.filter(|codec| codec.id == chosen.id);
                assert!(
                    same.next().is_some() || offer.payload_types.is_empty(),
                    "{chosen:?}"
                );
            }
            assert!(offer.rtcp_mux || !answer.rtcp_mux);
            if policy == Policy::Required {
                let keys = answer.encryption.as_ref();
                assert!(keys.is_some_and(|keys| keys.cryptos.len() == 1));
            }
            if policy == Policy::Disabled {
                assert!(answer.encryption.is_none());
            }
        }
    }
}
