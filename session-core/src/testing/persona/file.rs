//! Files: what is said of them, and the bytes.

use super::{
    FileHabits, Reaction, Stranger,
    stranger::{Medium, Phase},
    wire,
};
use crate::{Element, ElementRef, Role};
use bytes::Bytes;
use std::time::Instant;

/// How many bytes it gives to a channel at a time.
const PIECE: usize = 4_096;

/// Bytes on their way.
#[derive(Debug, Default)]
pub(super) struct Transfer {
    sent: usize,
    size: usize,
    writable: bool,
    /// All that it does was done.
    done: bool,
    /// The peer's hashes: algorithm and Base64.
    hashes: Vec<(String, String)>,
    pub(super) verified: Option<bool>,
    /// Until when it waits for a checksum.
    pub(super) patience: Option<Instant>,
}

impl Transfer {
    pub(super) fn sending(medium: &Medium) -> Self {
        let size = match medium {
            Medium::File { bytes, .. } => bytes.len(),
            Medium::Call => 0,
        };
        Self {
            size,
            ..Self::default()
        }
    }

    pub(super) fn receiving(_: &Medium, offer: Option<&Element>) -> Self {
        let file = offer.and_then(|offer| offer.find(wire::FILE, "file"));
        let size = file.and_then(|file| file.find(wire::FILE, "size"));
        let size = size.and_then(|size| size.text_content().trim().parse().ok());
        Self {
            size: size.unwrap_or(usize::MAX),
            hashes: file.map(hashes_of).unwrap_or_default(),
            ..Self::default()
        }
    }
}

impl Transfer {
    /// Whether bytes have gone either way.
    pub(super) fn has_flowed(&self, received: &[Bytes]) -> bool {
        self.sent > 0 || !received.is_empty()
    }

    /// All of it goes again, over another transport.
    pub(super) fn restart(&mut self) {
        self.sent = 0;
        self.writable = false;
        self.done = false;
    }
}

fn hashes_of(file: ElementRef<'_>) -> Vec<(String, String)> {
    let hashes = file
        .children()
        .filter(|child| child.is(wire::HASHES, "hash"));
    let hash = |hash: ElementRef<'_>| {
        let algorithm = hash.attribute("algo").unwrap_or_default().to_owned();
        (algorithm, hash.text_content().trim().to_owned())
    };
    hashes.map(hash).collect()
}

type Hashing = fn(&str, &[u8]) -> Option<String>;

fn hash(algorithm: &str, bytes: &[u8], hashing: Hashing) -> Option<Element> {
    let digest = hashing(algorithm, bytes)?;
    Some(
        Element::new(wire::HASHES, "hash")
            .with("algo", algorithm)
            .text(&digest),
    )
}

pub(super) fn offer(
    habits: Option<FileHabits>,
    name: &str,
    bytes: &Bytes,
    hashing: Hashing,
) -> Element {
    let text = |name: &str, value: &str| Element::new(wire::FILE, name).text(value);
    let mut file = Element::new(wire::FILE, "file")
        .child(text("name", name))
        .child(text("size", &bytes.len().to_string()));
    if let Some(habits) = habits {
        file.push(text(habits.media_type, "application/octet-stream"));
        let announced = habits
            .announces
            .map(|algorithm| Element::new(wire::HASHES, "hash-used").with("algo", algorithm));
        let offered = habits
            .offers_hash
            .and_then(|algorithm| hash(algorithm, bytes, hashing));
        file = file.children_from(announced.into_iter().chain(offered));
        if habits.ranges {
            file.push(Element::new(wire::FILE, "range"));
        }
    }
    Element::new(wire::FILE, "description").child(file)
}

pub(super) fn answer(habits: Option<FileHabits>, offer: &Element) -> Element {
    let ranges = habits.is_some_and(|habits| habits.ranges);
    let file = offer.find(wire::FILE, "file");
    let kept = file.into_iter().flat_map(ElementRef::children);
    let kept = kept.filter(|child| child.name() != "range" || ranges);
    let file = Element::new(wire::FILE, "file").children_from(kept.map(ElementRef::to_element));
    Element::new(wire::FILE, "description").child(file)
}

pub(super) fn medium(offer: &Element) -> Medium {
    let file = offer.find(wire::FILE, "file");
    let name = file.and_then(|file| file.find(wire::FILE, "name"));
    Medium::File {
        name: name
            .map(|name| name.text_content().into_owned())
            .unwrap_or_default(),
        bytes: Bytes::new(),
    }
}

/// What it demands of an offer (jingle-peers §3.0).
pub(super) fn judge_offer(
    habits: Option<FileHabits>,
    jingle: &Element,
    offer: &Element,
) -> Result<(), (String, Reaction)> {
    let bad = |what: &str| Err((what.to_owned(), Reaction::Error("bad-request", None)));
    let Some(habits) = habits else {
        return Err((
            "it has no files".into(),
            Reaction::End("unsupported-applications"),
        ));
    };
    let contents: Vec<_> = wire::contents(jingle).collect();
    let [content] = contents[..] else {
        return bad("not one content");
    };
    if content.attribute("senders") != Some(Role::Initiator.as_str()) {
        return bad("senders is not initiator");
    }
    let Some(file) = offer.find(wire::FILE, "file") else {
        return bad("no file");
    };
    let has = |name: &str| file.find(wire::FILE, name).is_some();
    if habits.needs_name_and_size && !(has("name") && has("size")) {
        return bad("no name or no size");
    }
    let hashed = ["hash", "hash-used"]
        .iter()
        .any(|name| file.find(wire::HASHES, name).is_some());
    if !hashed {
        return bad("neither hash nor hash-used");
    }
    match wire::part(content, "transport") {
        Some(transport) => judge_transport(Some(habits), transport),
        None => bad("no transport"),
    }
}

/// What it demands of a transport that is offered.
pub(super) fn judge_transport(
    habits: Option<FileHabits>,
    transport: ElementRef<'_>,
) -> Result<(), (String, Reaction)> {
    match habits.map(|habits| (habits, transport)) {
        Some((habits, transport)) if transport.namespace() == wire::S5B => {
            judge_s5b(transport, habits)
        }
        Some((habits, transport)) if transport.namespace() == wire::IBB => {
            judge_ibb(transport, habits)
        }
        Some(_) | None => Ok(()),
    }
}

fn judge_s5b(transport: ElementRef<'_>, habits: FileHabits) -> Result<(), (String, Reaction)> {
    let bad = |what: String| Err((what, Reaction::Error("bad-request", None)));
    let mut priorities = Vec::new();
    for candidate in transport.children().filter(|c| c.name() == "candidate") {
        let wanted = ["cid", "host", "jid", "port", "priority", "type"];
        if let Some(key) = wanted
            .into_iter()
            .find(|key| candidate.attribute(key).is_none())
        {
            return bad(format!("a candidate without {key}"));
        }
        if !matches!(candidate.attribute("type"), Some("direct" | "proxy")) {
            return bad(format!(
                "the candidate type {:?}",
                candidate.attribute("type")
            ));
        }
        let priority = candidate
            .attribute("priority")
            .and_then(|p| p.parse::<u32>().ok());
        let Some(priority) = priority.filter(|priority| !priorities.contains(priority)) else {
            return bad("candidates of equal or no priority".into());
        };
        let reversed = habits.reversed_ties;
        if reversed.is_some_and(|(low, high)| (low..=high).contains(&priority)) {
            return bad(format!(
                "the priority {priority}, which may be one of its own"
            ));
        }
        priorities.push(priority);
    }
    Ok(())
}

fn judge_ibb(transport: ElementRef<'_>, habits: FileHabits) -> Result<(), (String, Reaction)> {
    let size = transport
        .attribute("block-size")
        .and_then(|size| size.parse::<u32>().ok());
    match size {
        Some(size) if size <= habits.block_size.max(4_096) => Ok(()),
        size => Err((
            format!("the block size {size:?}"),
            Reaction::Error("bad-request", None),
        )),
    }
}

impl Stranger {
    /// Gives bytes to the channel. Whether it took some.
    pub(super) fn push_bytes(&mut self, now: Instant) -> bool {
        let Some(leg) = &mut self.leg else {
            return false;
        };
        let (true, Role::Initiator) = (leg.phase == Phase::Accepted, leg.role) else {
            return false;
        };
        let Medium::File { bytes, .. } = &leg.medium else {
            return false;
        };
        if !leg.transfer.writable || leg.transfer.done {
            return false;
        }
        let Some(channel) = leg.plane.channel() else {
            return false;
        };
        if leg.transfer.sent == bytes.len() {
            leg.transfer.done = true;
            channel.finish(now);
            self.send_checksums();
            return true;
        }
        let end = (leg.transfer.sent + PIECE).min(bytes.len());
        let taken = channel
            .send(bytes.slice(leg.transfer.sent..end), now)
            .is_ok();
        match taken {
            true => leg.transfer.sent = end,
            false => leg.transfer.writable = false,
        }
        true
    }

    fn send_checksums(&mut self) {
        let Some(leg) = &self.leg else { return };
        let (Medium::File { bytes, .. }, Some(habits)) = (&leg.medium, self.persona.file) else {
            return;
        };
        let hashes = habits.checksum.iter();
        let hashes: Vec<_> = hashes
            .filter_map(|a| hash(a, bytes, self.script.hash))
            .collect();
        if hashes.is_empty() {
            return;
        }
        let file = Element::new(wire::FILE, "file").children_from(hashes);
        let checksum = Element::new(wire::FILE, "checksum")
            .with("creator", wire::role(Role::Initiator))
            .with("name", &leg.content)
            .child(file);
        self.info(checksum);
    }

    pub(super) fn set_writable(&mut self, number: u32, writable: bool, now: Instant) {
        let Some(leg) = &mut self.leg else { return };
        if number != leg.plane.number {
            return;
        }
        leg.connected |= writable;
        leg.transfer.writable = writable;
        if writable
            && leg.medium == Medium::Call
            && let Some(channel) = leg.plane.channel()
        {
            // RTP of version 2 with an empty body.
            let packet = [&[0x80, 0][..], &[0; 10], b"theirs"].concat();
            let sent = channel.send(packet.into(), now);
            leg.transfer.sent += usize::from(sent.is_ok());
        }
    }

    pub(super) fn take_packet(&mut self, packet: Bytes, now: Instant) {
        if let Some(leg) = &mut self.leg {
            leg.packets.push(packet);
        }
        self.check_complete(now);
    }

    fn check_complete(&mut self, now: Instant) {
        let Some(leg) = &mut self.leg else { return };
        let received: usize = leg.packets.iter().map(Bytes::len).sum();
        let is_file = matches!(leg.medium, Medium::File { .. });
        let open = leg.phase == Phase::Accepted && leg.role == Role::Responder;
        if !is_file || !open || received < leg.transfer.size || leg.transfer.done {
            return;
        }
        let waits = self
            .persona
            .file
            .map(|habits| habits.waits)
            .unwrap_or_default();
        if leg.transfer.hashes.is_empty() && !waits.is_zero() {
            leg.transfer.patience = now.checked_add(waits);
            return;
        }
        self.close_file(now);
    }

    /// It has the file: says what it says then.
    pub(super) fn close_file(&mut self, _: Instant) {
        let Some(leg) = &mut self.leg else { return };
        if leg.transfer.done || leg.phase != Phase::Accepted {
            return;
        }
        leg.transfer.done = true;
        leg.transfer.patience = None;
        let whole = leg.packets.concat();
        let hashing = self.script.hash;
        let compared = leg.transfer.hashes.iter();
        let compared: Vec<bool> = compared
            .filter_map(|(algorithm, digest)| Some(hashing(algorithm, &whole)? == *digest))
            .collect();
        leg.transfer.verified = (!compared.is_empty()).then(|| compared.iter().all(|same| *same));
        let wrong = leg.transfer.verified == Some(false);
        let content = leg.content.clone();
        let Some(habits) = self.persona.file else {
            return;
        };
        if habits.verifies && wrong {
            return self.terminate("media-error");
        }
        if habits.received {
            let received = Element::new(wire::FILE, "received")
                .with("creator", wire::role(Role::Initiator))
                .with("name", content);
            self.info(received);
        }
        self.terminate("success");
    }

    pub(super) fn take_checksums(&mut self, infos: &[Element], now: Instant) {
        let unnamed = |info: &&Element| {
            info.namespace() == wire::FILE
                && (info.attribute("name").is_none() || info.attribute("creator").is_none())
        };
        let unnamed: Vec<_> = infos
            .iter()
            .filter(unnamed)
            .map(|info| info.name())
            .collect();
        for name in unnamed {
            self.objections
                .push(format!("{name} without the content's name and creator"));
        }
        let Some(leg) = &mut self.leg else { return };
        let files = infos.iter().filter(|info| info.is(wire::FILE, "checksum"));
        let files = files.filter_map(|info| info.find(wire::FILE, "file"));
        leg.transfer.hashes.extend(files.flat_map(hashes_of));
        self.check_complete(now);
    }

    /// The other side has closed the stream, or it broke: nobody can tell.
    pub(super) fn stream_ended(&mut self, number: u32, now: Instant) {
        self.check_complete(now);
        let Some(leg) = &self.leg else { return };
        let received: usize = leg.packets.iter().map(Bytes::len).sum();
        let waits = self.persona.file.is_some_and(|habits| !habits.break_ends);
        let is_short = match leg.role {
            Role::Responder => received < leg.transfer.size,
            Role::Initiator => waits,
        };
        let is_file = matches!(leg.medium, Medium::File { .. });
        if is_file && leg.phase == Phase::Accepted && is_short {
            self.transport_failed(number, "the stream ended", now);
        }
    }
}
