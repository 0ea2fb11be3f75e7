//! From an offer and what we can do to an answer (libjingle `mediasession.cc`, RFC 3264 §6, RFC 8829 §5.3).

use crate::{
    description::{Feedback, HeaderExtension, Parameter, RtpDescription},
    encryption::{Crypto, Encryption, EncryptionMismatch, KEY_BYTES, Policy},
    payload::{COMFORT_NOISE, PayloadType, TELEPHONE_EVENT},
};
use session_core::{Reason, ReasonCondition, Senders};
use thiserror::Error;

/// Whose order of preference the answer has. The ids are the offerer's in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preference {
    /// Ours (libjingle since 0.5, and what everybody does today).
    #[default]
    Answerer,
    /// The offerer's (libjingle 0.4).
    Offerer,
}

/// What the side that answers brings.
#[derive(Clone, Debug)]
pub struct Abilities {
    /// Our codecs in order of preference, our header extensions, feedback, and whether we mux; encryption and sources
    /// of it are not read.
    pub description: RtpDescription,
    /// Keys in signalling.
    pub policy: Policy,
    /// DTLS makes the keys, so that no key is taken from signalling (libjingle late 0.7).
    pub dtls: bool,
    /// Whose order counts.
    pub preference: Preference,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NegotiationError {
    /// Other media than ours.
    #[error("the offer is for other media")]
    Media,
    /// No codec that both have, apart from those that carry no sound of their own.
    #[error("both sides have no codec in common")]
    NoCommonCodec,
    /// Media would go in clear, which is not allowed here.
    #[error("there would be no encryption")]
    NoEncryption,
    /// Keys would travel in signalling, or there would be none, where a certificate is needed: the peer is to be verified, or
    /// the session is in a dialect in which everybody has one.
    #[error("there would be no certificate, which is needed here")]
    NoCertificate,
    /// No agreement on keys.
    #[error(transparent)]
    Encryption(#[from] EncryptionMismatch),
}

impl NegotiationError {
    /// The reason with which the session or the content is declined (XEP-0166 §7.4).
    pub fn reason(&self) -> Reason {
        let condition = match self {
            Self::Media => ReasonCondition::UnsupportedApplications,
            Self::NoCommonCodec => ReasonCondition::IncompatibleParameters,
            Self::NoEncryption | Self::NoCertificate | Self::Encryption(_) => {
                ReasonCondition::SecurityError
            }
        };
        Reason::new(condition).with_text(self.to_string())
    }
}

impl Abilities {
    /// Answers an offer: codecs that both have, under the offerer's ids and with our parameters; header extensions and
    /// feedback that both know; RTCP beside RTP if both can. `key` is ours, for the case that keys travel in
    /// signalling; it comes from whoever has randomness.
    ///
    /// ```
    /// use session_voice::{Abilities, Media, PayloadType, Policy, Preference, RtpDescription};
    ///
    /// let description = |codecs| {
    ///     let mut description = RtpDescription::new(Media::Audio);
    ///     description.payload_types = codecs;
    ///     description
    /// };
    /// let offer = description(vec![PayloadType::new(0, "PCMU", 8_000), PayloadType::opus(96)]);
    /// let ours = Abilities {
    ///     description: description(vec![PayloadType::opus(111), PayloadType::new(8, "PCMA", 8_000)]),
    ///     policy: Policy::Disabled,
    ///     dtls: true,
    ///     preference: Preference::Answerer,
    /// };
    /// let answer = ours.answer(&offer, &[0; 30]).unwrap();
    /// assert_eq!(answer.payload_types, [PayloadType::opus(96)]);
    /// ```
    ///
    /// # Errors
    /// [`NegotiationError`].
    pub fn answer(
        &self,
        offer: &RtpDescription,
        key: &[u8; KEY_BYTES],
    ) -> Result<RtpDescription, NegotiationError> {
        let ours = &self.description;
        if offer.media != ours.media {
            return Err(NegotiationError::Media);
        }
        let policy = if self.dtls {
            Policy::Disabled
        } else {
            self.policy
        };
        // A peer that requires keys gets them from DTLS.
        let encrypted = offer.encryption.as_ref().filter(|_| !self.dtls);
        let chosen = Encryption::choose(encrypted, policy)?;
        let payload_types = self.codecs(offer)?;
        let mut answer = RtpDescription::new(offer.media.clone());
        answer.ssrc = ours.ssrc;
        answer.profile = offer.profile.clone();
        answer.payload_types = payload_types;
        answer.feedback = common_feedback(&offer.feedback, &ours.feedback);
        answer.header_extensions = extensions(offer, ours);
        answer.mixed_extensions = offer.mixed_extensions && ours.mixed_extensions;
        answer.rtcp_mux = offer.rtcp_mux && ours.rtcp_mux;
        answer.bandwidth = ours.bandwidth.clone();
        answer.sources = ours.sources.clone();
        answer.source_groups = ours.source_groups.clone();
        answer.encryption = chosen.map(|crypto| Encryption {
            required: false,
            cryptos: vec![Crypto::new(crypto.tag, &crypto.suite, key)],
        });
        Ok(answer)
    }

    fn codecs(&self, offer: &RtpDescription) -> Result<Vec<PayloadType>, NegotiationError> {
        let ours = &self.description.payload_types;
        let theirs = &offer.payload_types;
        let mut pairs = Vec::new();
        match self.preference {
            Preference::Answerer => {
                for own in ours {
                    let fits = |theirs: &&PayloadType| fits(own, theirs, &self.description, offer);
                    // Each of the offer's once: two of ours may fit one of theirs.
                    let free =
                        |theirs: &&PayloadType| !pairs.iter().any(|(_, id)| *id == theirs.id);
                    if let Some(their) = theirs.iter().filter(free).find(fits) {
                        pairs.push((own, their.id));
                    }
                }
            }
            Preference::Offerer => {
                for their in theirs {
                    let fits = |own: &&PayloadType| fits(own, their, &self.description, offer);
                    if let Some(own) = ours.iter().find(fits) {
                        pairs.push((own, their.id));
                    }
                }
            }
        }
        let mut codecs: Vec<_> = pairs
            .into_iter()
            .filter_map(|(own, id)| Some(agreed(own, offer.payload_type(id)?)))
            .collect();
        drop_orphans(&mut codecs);
        if codecs.iter().all(is_auxiliary) {
            return Err(NegotiationError::NoCommonCodec);
        }
        Ok(codecs)
    }
}

/// What an answer leaves of our offer: its codecs that we offered, under whatever ids, which are those to send with.
pub(crate) fn confirm(
    offer: &RtpDescription,
    answer: &RtpDescription,
) -> Result<RtpDescription, NegotiationError> {
    if offer.media != answer.media {
        return Err(NegotiationError::Media);
    }
    let mut agreed = answer.clone();
    let offered = |codec: &PayloadType| offer.payload_types.iter().any(|own| own.matches(codec));
    agreed.payload_types.retain(offered);
    if agreed.payload_types.iter().all(is_auxiliary) {
        return Err(NegotiationError::NoCommonCodec);
    }
    agreed.rtcp_mux &= offer.rtcp_mux;
    Ok(agreed)
}

/// Whether ours and theirs are one codec. What repairs another codec does so for the same one.
fn fits(
    own: &PayloadType,
    their: &PayloadType,
    ours: &RtpDescription,
    offer: &RtpDescription,
) -> bool {
    if !own.matches(their) {
        return false;
    }
    match (repaired(own, ours), repaired(their, offer)) {
        (Some(own), Some(their)) => own.matches(their),
        (None, None) => own.parameter("apt").is_none() && their.parameter("apt").is_none(),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// The codec that this one sends again (RFC 4588 §8.6).
fn repaired<'a>(codec: &PayloadType, of: &'a RtpDescription) -> Option<&'a PayloadType> {
    of.payload_type(codec.parameter("apt")?.parse().ok()?)
}

/// Our codec under their id, with what both want of feedback.
fn agreed(own: &PayloadType, their: &PayloadType) -> PayloadType {
    let mut codec = PayloadType {
        id: their.id,
        name: if their.name.is_empty() {
            own.name.clone()
        } else {
            their.name.clone()
        },
        clock_rate: if their.clock_rate == 0 {
            own.clock_rate
        } else {
            their.clock_rate
        },
        channels: their.channels,
        feedback: common_feedback(&their.feedback, &own.feedback),
        feedback_interval: their.feedback_interval.and(own.feedback_interval),
        ..own.clone()
    };
    if let Some(apt) = their.parameter("apt") {
        let parameter = Parameter::new("apt", apt);
        codec
            .parameters
            .retain(|p| !p.name.eq_ignore_ascii_case("apt"));
        codec.parameters.push(parameter);
    }
    codec
}

/// Without the codec that it goes with, nobody needs it: repair, digits and comfort noise of a clock rate that no
/// codec has (RFC 4733 §2.5.1.1, RFC 3389 §4).
fn drop_orphans(codecs: &mut Vec<PayloadType>) {
    let kept: Vec<_> = codecs
        .iter()
        .filter(|codec| !is_auxiliary(codec))
        .map(|codec| (codec.id, codec.clock_rate))
        .collect();
    codecs.retain(|codec| {
        if let Some(apt) = codec.parameter("apt") {
            return kept.iter().any(|(id, _)| apt.parse() == Ok(*id));
        }
        let follows = codec.is(TELEPHONE_EVENT) || codec.is(COMFORT_NOISE);
        !follows || codec.clock_rate == 0 || kept.iter().any(|(_, rate)| *rate == codec.clock_rate)
    });
}

/// Whether it carries no media of its own.
pub(crate) fn is_auxiliary(codec: &PayloadType) -> bool {
    [
        TELEPHONE_EVENT,
        COMFORT_NOISE,
        "red",
        "ulpfec",
        "flexfec-03",
        "rtx",
    ]
    .iter()
    .any(|name| codec.is(name))
}

fn common_feedback(theirs: &[Feedback], ours: &[Feedback]) -> Vec<Feedback> {
    let known = |their: &&Feedback| {
        let same = |own: &Feedback| own.kind == their.kind && own.subtype == their.subtype;
        ours.iter().any(same)
    };
    theirs.iter().filter(known).cloned().collect()
}

/// Those that both know, under the offerer's ids. Of two with one URI the first counts.
fn extensions(offer: &RtpDescription, ours: &RtpDescription) -> Vec<HeaderExtension> {
    let mut common: Vec<HeaderExtension> = Vec::new();
    for extension in &offer.header_extensions {
        let known = ours
            .header_extensions
            .iter()
            .any(|own| own.uri == extension.uri);
        let usable = (1..=255).contains(&extension.id) && extension.senders != Senders::None;
        let new = |e: &HeaderExtension| e.uri != extension.uri && e.id != extension.id;
        if known && usable && common.iter().all(new) {
            common.push(extension.clone());
        }
    }
    common
}

#[cfg(test)]
mod tests;
