//! `urn:xmpp:jingle:apps:rtp:1` (XEP-0167, 0293, 0294, 0339).

use super::{
    Bandwidth, Feedback, HeaderExtension, LIST_MAX, Media, Parameter, RtpDescription, Source,
    SourceGroup, malformed, number, push,
};
use crate::{
    encryption::Encryption,
    payload::{ID_MAX, PayloadType},
};
use session_core::{Element, ElementRef, PeerError, Senders, SessionDescription};

/// The namespace of RTP sessions (XEP-0167).
pub const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";

/// The feature that says: audio (XEP-0167 §9.1).
pub const RTP_AUDIO: &str = "urn:xmpp:jingle:apps:rtp:audio";

/// The feature that says: video (XEP-0167 §9.1).
pub const RTP_VIDEO: &str = "urn:xmpp:jingle:apps:rtp:video";

/// The namespace of feedback negotiation (XEP-0293).
pub const RTCP_FEEDBACK: &str = "urn:xmpp:jingle:apps:rtp:rtcp-fb:0";

/// The namespace of header extensions (XEP-0294).
pub const RTP_HEADER_EXTENSIONS: &str = "urn:xmpp:jingle:apps:rtp:rtp-hdrext:0";

/// The namespace of sources (XEP-0339).
pub const RTP_SOURCES: &str = "urn:xmpp:jingle:apps:rtp:ssma:0";

/// The namespace of grouping (XEP-0338), of which the session core takes care.
pub const GROUPING: &str = "urn:xmpp:jingle:apps:grouping:0";

impl SessionDescription for RtpDescription {
    const NAMESPACE: &'static str = RTP;

    fn to_element(&self) -> Element {
        let mut element = Element::new(RTP, "description")
            .with("media", &self.media)
            .with_opt("profile", self.profile.as_deref())
            .with_opt("ssrc", self.ssrc)
            .children_from(self.payload_types.iter().map(write_payload_type))
            .children_from(self.feedback.iter().map(write_feedback))
            .children_from(self.feedback_interval.map(write_interval))
            .children_from(self.header_extensions.iter().map(write_extension));
        if self.mixed_extensions {
            element.push(Element::new(RTP_HEADER_EXTENSIONS, "extmap-allow-mixed"));
        }
        if let Some(encryption) = &self.encryption {
            element.push(encryption.to_element(RTP));
        }
        if let Some(bandwidth) = &self.bandwidth {
            element.push(write_bandwidth(bandwidth, RTP));
        }
        if self.rtcp_mux {
            element.push(Element::new(RTP, "rtcp-mux"));
        }
        element
            .children_from(self.sources.iter().map(write_source))
            .children_from(self.source_groups.iter().map(write_group))
            .children_from(self.extra.iter().cloned())
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        // Whoever omits it means audio (XEP-0167 before 1.0, and Asterisk).
        let media = Media::from(element.attribute("media").unwrap_or("audio"));
        let mut description = Self::new(media);
        description.profile = element.attribute("profile").map(Into::into);
        description.ssrc = number(element.attribute("ssrc"), "description ssrc")?;
        for child in element.children() {
            description.read_child(child)?;
        }
        Ok(description)
    }
}

impl RtpDescription {
    fn read_child(&mut self, child: ElementRef<'_>) -> Result<(), PeerError> {
        match (child.namespace(), child.name()) {
            (RTP, "payload-type") => self.add_payload_type(read_payload_type(child)?),
            (RTP, "rtcp-mux") => {
                self.rtcp_mux = true;
                Ok(())
            }
            (RTP, "bandwidth") => {
                self.bandwidth = Some(read_bandwidth(child));
                Ok(())
            }
            (RTP, "encryption") => {
                self.encryption = Some(Encryption::from_element(child)?);
                Ok(())
            }
            (RTCP_FEEDBACK, "rtcp-fb") => push(&mut self.feedback, read_feedback(child)?, LIST_MAX),
            (RTCP_FEEDBACK, "rtcp-fb-trr-int") => {
                self.feedback_interval = number(child.attribute("value"), "rtcp-fb-trr-int value")?;
                Ok(())
            }
            (RTP_HEADER_EXTENSIONS, "rtp-hdrext") => push(
                &mut self.header_extensions,
                read_extension(child)?,
                LIST_MAX,
            ),
            (RTP_HEADER_EXTENSIONS, "extmap-allow-mixed") => {
                self.mixed_extensions = true;
                Ok(())
            }
            (RTP_SOURCES, "source") => push(&mut self.sources, read_source(child)?, LIST_MAX),
            (RTP_SOURCES, "ssrc-group") => {
                push(&mut self.source_groups, read_group(child)?, LIST_MAX)
            }
            (_, _) => push(&mut self.extra, child.detach(), LIST_MAX),
        }
    }
}

fn write_payload_type(codec: &PayloadType) -> Element {
    let said = |number: u32| (number != 0).then_some(number);
    Element::new(RTP, "payload-type")
        .with("id", codec.id)
        .with_opt("name", Some(&*codec.name).filter(|name| !name.is_empty()))
        .with_opt("clockrate", said(codec.clock_rate))
        .with_opt("channels", Some(codec.channels).filter(|count| *count > 1))
        .with_opt("ptime", codec.ptime)
        .with_opt("maxptime", codec.max_ptime)
        .children_from(codec.parameters.iter().map(|p| write_parameter(p, RTP)))
        .children_from(bit_rate_parameter(codec))
        .children_from(codec.feedback.iter().map(write_feedback))
        .children_from(codec.feedback_interval.map(write_interval))
}

/// The bit rate is a parameter here (libjingle `jingle_media.cc`).
fn bit_rate_parameter(codec: &PayloadType) -> Option<Element> {
    let rate = codec.bit_rate.filter(|rate| *rate != 0)?;
    Some(write_parameter(
        &Parameter::new("bitrate", &rate.to_string()),
        RTP,
    ))
}

fn read_payload_type(element: ElementRef<'_>) -> Result<PayloadType, PeerError> {
    let id: u8 = number(element.attribute("id"), "payload-type id")?
        .ok_or_else(|| malformed("payload-type id", "missing"))?;
    if id > ID_MAX {
        return Err(malformed("payload-type id", "more than 127"));
    }
    let name = element.attribute("name").unwrap_or_default();
    let clock_rate = number(element.attribute("clockrate"), "payload-type clockrate")?.unwrap_or(0);
    let mut codec = PayloadType::new(id, name, clock_rate);
    codec.channels = number(element.attribute("channels"), "payload-type channels")?
        .unwrap_or(1)
        .max(1);
    codec.ptime = number(element.attribute("ptime"), "payload-type ptime")?;
    codec.max_ptime = number(element.attribute("maxptime"), "payload-type maxptime")?;
    for child in element.children() {
        match (child.namespace(), child.name()) {
            (RTP, "parameter") => {
                let parameter = read_parameter(child)?;
                if parameter.name.eq_ignore_ascii_case("bitrate") {
                    codec.bit_rate = number(Some(&parameter.value), "payload-type bitrate")?
                        .filter(|rate| *rate != 0);
                } else {
                    push(&mut codec.parameters, parameter, LIST_MAX)?;
                }
            }
            (RTCP_FEEDBACK, "rtcp-fb") => {
                push(&mut codec.feedback, read_feedback(child)?, LIST_MAX)?
            }
            (RTCP_FEEDBACK, "rtcp-fb-trr-int") => {
                codec.feedback_interval =
                    number(child.attribute("value"), "rtcp-fb-trr-int value")?;
            }
            (_, _) => {}
        }
    }
    Ok(codec)
}

fn write_parameter(parameter: &Parameter, namespace: &str) -> Element {
    Element::new(namespace, "parameter")
        .with("name", &parameter.name)
        .with("value", &parameter.value)
}

fn read_parameter(element: ElementRef<'_>) -> Result<Parameter, PeerError> {
    let name = element
        .attribute("name")
        .ok_or_else(|| malformed("parameter name", "missing"))?;
    Ok(Parameter::new(
        name,
        element.attribute("value").unwrap_or_default(),
    ))
}

fn read_parameters(element: ElementRef<'_>) -> Result<Vec<Parameter>, PeerError> {
    let mut parameters = Vec::new();
    // Their namespace is a matter of taste among peers.
    for child in element
        .children()
        .filter(|child| child.name() == "parameter")
    {
        push(&mut parameters, read_parameter(child)?, LIST_MAX)?;
    }
    Ok(parameters)
}

fn write_feedback(feedback: &Feedback) -> Element {
    Element::new(RTCP_FEEDBACK, "rtcp-fb")
        .with("type", &feedback.kind)
        .with_opt("subtype", feedback.subtype.as_deref())
        .children_from(
            feedback
                .parameters
                .iter()
                .map(|p| write_parameter(p, RTCP_FEEDBACK)),
        )
}

fn read_feedback(element: ElementRef<'_>) -> Result<Feedback, PeerError> {
    let kind = element
        .attribute("type")
        .ok_or_else(|| malformed("rtcp-fb type", "missing"))?;
    Ok(Feedback {
        parameters: read_parameters(element)?,
        ..Feedback::new(kind, element.attribute("subtype"))
    })
}

fn write_interval(milliseconds: u32) -> Element {
    Element::new(RTCP_FEEDBACK, "rtcp-fb-trr-int").with("value", milliseconds)
}

fn write_extension(extension: &HeaderExtension) -> Element {
    let senders = (extension.senders != Senders::Both).then(|| extension.senders.as_str());
    Element::new(RTP_HEADER_EXTENSIONS, "rtp-hdrext")
        .with("id", extension.id)
        .with("uri", &extension.uri)
        .with_opt("senders", senders)
        .children_from(
            extension
                .parameters
                .iter()
                .map(|p| write_parameter(p, RTP_HEADER_EXTENSIONS)),
        )
}

fn read_extension(element: ElementRef<'_>) -> Result<HeaderExtension, PeerError> {
    let id = number(element.attribute("id"), "rtp-hdrext id")?
        .ok_or_else(|| malformed("rtp-hdrext id", "missing"))?;
    let uri = element
        .attribute("uri")
        .ok_or_else(|| malformed("rtp-hdrext uri", "missing"))?;
    let senders = match element.attribute("senders") {
        Some(name) => {
            Senders::from_name(name).ok_or_else(|| malformed("rtp-hdrext senders", "unknown"))?
        }
        None => Senders::Both,
    };
    Ok(HeaderExtension {
        senders,
        parameters: read_parameters(element)?,
        ..HeaderExtension::new(id, uri)
    })
}

pub(super) fn write_bandwidth(bandwidth: &Bandwidth, namespace: &str) -> Element {
    Element::new(namespace, "bandwidth")
        .with("type", &bandwidth.kind)
        .text(&bandwidth.value)
}

pub(super) fn read_bandwidth(element: ElementRef<'_>) -> Bandwidth {
    Bandwidth {
        kind: element.attribute("type").unwrap_or("AS").into(),
        value: element.text_content().trim().into(),
    }
}

fn write_source(source: &Source) -> Element {
    Element::new(RTP_SOURCES, "source")
        .with("ssrc", source.ssrc)
        .children_from(
            source
                .parameters
                .iter()
                .map(|p| write_parameter(p, RTP_SOURCES)),
        )
}

fn read_source(element: ElementRef<'_>) -> Result<Source, PeerError> {
    Ok(Source {
        ssrc: read_ssrc(element)?,
        parameters: read_parameters(element)?,
    })
}

fn write_group(group: &SourceGroup) -> Element {
    let source = |ssrc: &u32| Element::new(RTP_SOURCES, "source").with("ssrc", ssrc);
    Element::new(RTP_SOURCES, "ssrc-group")
        .with("semantics", &group.semantics)
        .children_from(group.sources.iter().map(source))
}

fn read_group(element: ElementRef<'_>) -> Result<SourceGroup, PeerError> {
    let semantics = element
        .attribute("semantics")
        .ok_or_else(|| malformed("ssrc-group semantics", "missing"))?;
    let mut sources = Vec::new();
    for source in element.children().filter(|child| child.name() == "source") {
        push(&mut sources, read_ssrc(source)?, LIST_MAX)?;
    }
    Ok(SourceGroup {
        semantics: semantics.into(),
        sources,
    })
}

fn read_ssrc(element: ElementRef<'_>) -> Result<u32, PeerError> {
    number(element.attribute("ssrc"), "source ssrc")?
        .ok_or_else(|| malformed("source ssrc", "missing"))
}
