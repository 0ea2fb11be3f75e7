//! Audio and video in one description (libjingle 0.5 and later), and how its parts are told apart.
//!
//! The description is in the namespace of video, which is the type of the session, and so are the two that it is split
//! into. What belongs to the audio has the namespace of audio, or, as `<encryption/>`, a child that has (`<usage/>`).

use session_core::element::{Attribute, Node};
use session_core::{ContentPart, Element, ElementRef};

use super::{AUDIO, VIDEO};
use crate::ns;

/// The names of the channels whose candidates belong to video.
const VIDEO_CHANNELS: [&str; 2] = ["video_rtp", "video_rtcp"];
/// The names of the channels whose candidates belong to audio, where there is video.
const AUDIO_CHANNELS: [&str; 2] = ["rtp", "rtcp"];

/// The descriptions of audio and video in a merged one.
pub(super) fn split(merged: ElementRef<'_>) -> (Element, Element) {
    let mut audio = Element::new(ns::GOOGLE_VIDEO, "description");
    let mut video = like(merged, ns::GOOGLE_VIDEO);
    for node in merged.nodes() {
        match node {
            Node::Element(child) if is_of_audio(child) => audio.push(child.to_element()),
            Node::Element(child) => video.push(child.to_element()),
            Node::Text(text) => video.push_text(text),
        }
    }
    (audio, video)
}

/// The merged description: libjingle appends what is of the audio to what is of the video.
pub(super) fn merge(audio: &Element, video: &Element) -> Element {
    let mut merged = video.clone();
    for child in audio.children() {
        merged.push(child.to_element());
    }
    merged
}

/// Whether splitting what these make gives them back.
pub(super) fn are_separable(audio: &Element, video: &Element) -> bool {
    audio.is(ns::GOOGLE_VIDEO, "description")
        && video.is(ns::GOOGLE_VIDEO, "description")
        && audio.attributes().next().is_none()
        && audio.nodes().all(|node| match node {
            Node::Element(child) => is_of_audio(child),
            Node::Text(_) => false,
        })
        && !video.children().any(is_of_audio)
}

/// A message's contents as audio and video, if it has exactly these.
pub(super) fn pair(contents: &[ContentPart]) -> Option<(&ContentPart, &ContentPart)> {
    match contents {
        [audio, video] if &*audio.name == AUDIO && &*video.name == VIDEO => Some((audio, video)),
        [video, audio] if &*audio.name == AUDIO && &*video.name == VIDEO => Some((audio, video)),
        _ => None,
    }
}

/// Whether a candidate belongs to video.
pub(super) fn is_video_candidate(candidate: ElementRef<'_>) -> bool {
    candidate
        .attribute("name")
        .is_some_and(|name| VIDEO_CHANNELS.contains(&name))
}

/// Whether a candidate of the content named so will be recognised as one of that content.
pub(super) fn belongs_to(content: &str, candidate: ElementRef<'_>) -> bool {
    let channel = candidate.attribute("name").unwrap_or_default();
    match content {
        VIDEO => VIDEO_CHANNELS.contains(&channel),
        AUDIO => AUDIO_CHANNELS.contains(&channel),
        _ => !VIDEO_CHANNELS.contains(&channel),
    }
}

/// Whether this is the transport that goes without saying, and says nothing more.
pub(super) fn is_implied(transport: &Element) -> bool {
    transport.is(ns::GOOGLE_P2P, "transport")
        && transport.is_empty()
        && transport.attributes().next().is_none()
}

/// The same element in another namespace. What is in it stays as it is.
pub(super) fn in_namespace(element: ElementRef<'_>, namespace: &str) -> Element {
    let mut moved = like(element, namespace);
    for node in element.nodes() {
        match node {
            Node::Element(child) => moved.push(child.to_element()),
            Node::Text(text) => moved.push_text(text),
        }
    }
    moved
}

/// An element with the same name and attributes, and nothing in it.
fn like(element: ElementRef<'_>, namespace: &str) -> Element {
    let mut like = Element::new(namespace, element.name());
    for Attribute {
        namespace,
        name,
        value,
    } in element.attributes()
    {
        like.set_attribute_ns(namespace, name, value);
    }
    like
}

fn is_of_audio(child: ElementRef<'_>) -> bool {
    child.namespace() == ns::GOOGLE_PHONE
        || child
            .children()
            .any(|usage| usage.namespace() == ns::GOOGLE_PHONE)
}
