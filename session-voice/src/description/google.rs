//! Google's form of the same (libjingle `phonesessionclient.cc`, `mediasessionclient.cc`; libjingle.md §6.1).

use super::{
    Media, RtpDescription,
    jingle::{read_bandwidth, write_bandwidth},
    malformed, number, push,
};
use crate::{
    encryption::Encryption,
    payload::{ID_MAX, PayloadType},
};
use session_core::{Element, ElementRef, PeerError, SessionDescription};

/// The namespace of Google's voice calls.
pub const GOOGLE_PHONE: &str = "http://www.google.com/session/phone";

/// The namespace of Google's video calls, which carry their audio in it.
pub const GOOGLE_VIDEO: &str = "http://www.google.com/session/video";

/// A voice call in Google's form: payload types with a bit rate, nothing else but keys and a source.
///
/// One without any payload type comes from the oldest clients and means the two codecs that they all had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneDescription(pub RtpDescription);

impl SessionDescription for PhoneDescription {
    const NAMESPACE: &'static str = GOOGLE_PHONE;

    fn to_element(&self) -> Element {
        let this = &self.0;
        let mut element = Element::new(GOOGLE_PHONE, "description")
            .children_from(this.payload_types.iter().map(write_payload_type));
        if let Some(encryption) = &this.encryption {
            element.push(
                encryption
                    .to_element(GOOGLE_PHONE)
                    .child(Element::new(GOOGLE_PHONE, "usage")),
            );
        }
        if let Some(bandwidth) = &this.bandwidth {
            element.push(write_bandwidth(bandwidth, GOOGLE_PHONE));
        }
        if let Some(ssrc) = this.ssrc {
            element.push(Element::new(GOOGLE_PHONE, "src-id").text(&ssrc.to_string()));
        }
        element.children_from(this.extra.iter().cloned())
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        let mut description = RtpDescription::new(Media::Audio);
        for child in element.children() {
            read_child(&mut description, child)?;
        }
        if description.payload_types.is_empty() {
            description.payload_types = vec![
                PayloadType::new(103, "ISAC", 16_000),
                PayloadType::new(0, "PCMU", 8_000),
            ];
        }
        Ok(Self(description))
    }
}

fn read_child(description: &mut RtpDescription, child: ElementRef<'_>) -> Result<(), PeerError> {
    match (child.namespace(), child.name()) {
        (GOOGLE_PHONE, "payload-type") => description.add_payload_type(read_payload_type(child)?),
        (GOOGLE_PHONE, "encryption") => {
            description.encryption = Some(Encryption::from_element(child)?);
            Ok(())
        }
        (GOOGLE_PHONE, "bandwidth") => {
            description.bandwidth = Some(read_bandwidth(child));
            Ok(())
        }
        (GOOGLE_PHONE, "src-id") => {
            description.ssrc = number(Some(&child.text_content()), "src-id")?;
            Ok(())
        }
        (_, _) => push(&mut description.extra, child.detach(), super::LIST_MAX),
    }
}

fn write_payload_type(codec: &PayloadType) -> Element {
    let said = |number: Option<u32>| number.filter(|number| *number != 0);
    Element::new(GOOGLE_PHONE, "payload-type")
        .with("id", codec.id)
        .with("name", &codec.name)
        .with_opt("clockrate", said(Some(codec.clock_rate)))
        .with_opt("bitrate", said(codec.bit_rate))
        .with_opt("channels", Some(codec.channels).filter(|count| *count > 1))
}

fn read_payload_type(element: ElementRef<'_>) -> Result<PayloadType, PeerError> {
    let id: u8 = number(element.attribute("id"), "payload-type id")?
        .ok_or_else(|| malformed("payload-type id", "missing"))?;
    if id > ID_MAX {
        return Err(malformed("payload-type id", "more than 127"));
    }
    let name = element.attribute("name").unwrap_or_default();
    let rate = number(element.attribute("clockrate"), "payload-type clockrate")?.unwrap_or(0);
    let mut codec = PayloadType::new(id, name, rate);
    codec.bit_rate =
        number(element.attribute("bitrate"), "payload-type bitrate")?.filter(|rate| *rate != 0);
    codec.channels = number(element.attribute("channels"), "payload-type channels")?
        .unwrap_or(1)
        .max(1);
    Ok(codec)
}
