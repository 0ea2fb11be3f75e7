//! Who is there and what they can: presence and caps, without I/O.

use super::disco::{CAPS, Info};
use crate::{address, stanza::Envelope};
use session_core::{Dialect, Peer};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Devices that are remembered. Past it, those heard of longest ago are forgotten.
pub const DEVICES_MAX: usize = 4_096;

/// Hashes whose meaning is remembered. Past it, those learned longest ago are forgotten.
pub const CAPS_MAX: usize = 1_024;

/// What a client of Google Talk says of itself that can take calls, in words older than the hash (XEP-0115 §8).
const GOOGLE_VOICE: &str = "voice-v1";

/// The hash in a presence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Caps {
    function: String,
    node: String,
    ver: String,
    /// Names of features, as of the form before the hash.
    ext: String,
}

#[derive(Clone, Debug)]
struct Device {
    priority: i8,
    /// The greater, the later heard of.
    heard: u64,
    caps: Option<Caps>,
    /// What it told for itself alone: without a hash, or with one that does not fit.
    own: Option<Arc<Info>>,
    /// Whether it did not say what it can.
    silent: bool,
}

/// What is to be asked: whom, and under which node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The device.
    pub device: Peer,
    /// The node of the question; none for a device without caps.
    pub node: Option<String>,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Directory {
    /// This device, which is none to reach.
    own: Option<Peer>,
    devices: BTreeMap<Peer, Device>,
    known: BTreeMap<(String, String), Arc<Info>>,
    /// The keys of what is known, in the order of learning.
    order: VecDeque<(String, String)>,
    heard: u64,
}

impl Directory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// We are this device: what a server shows us of it, it shows us of ourselves. Whoever asks for a device of our own
    /// account means another.
    pub fn set_own(&mut self, own: &Peer) {
        self.devices.remove(own);
        self.own = Some(own.clone());
    }

    /// Takes a presence. Returns whether it says that a device came or went.
    pub fn handle_presence(&mut self, presence: &Envelope) -> bool {
        let own = Some(&presence.from) == self.own.as_ref();
        if own || presence.is_message() || presence.from.device().is_none() {
            return false;
        }
        match presence.kind() {
            Some("unavailable" | "error") => self.devices.remove(&presence.from).is_some(),
            Some(_) => false,
            None => {
                self.available(presence);
                true
            }
        }
    }

    fn available(&mut self, presence: &Envelope) {
        let stanza = &presence.stanza;
        let priority = stanza.find(stanza.namespace(), "priority");
        let priority = priority.and_then(|it| it.text_content().trim().parse().ok());
        let caps = stanza.find(CAPS, "c").map(|caps| {
            let attribute = |name| caps.attribute(name).unwrap_or_default().to_owned();
            Caps {
                function: attribute("hash"),
                node: attribute("node"),
                ver: attribute("ver"),
                ext: attribute("ext"),
            }
        });
        self.heard += 1;
        let before = self.devices.remove(&presence.from);
        let before = before.filter(|before| before.caps == caps);
        if self.devices.len() >= DEVICES_MAX {
            let oldest = self.devices.iter().min_by_key(|(_, device)| device.heard);
            if let Some(oldest) = oldest.map(|(peer, _)| peer.clone()) {
                self.devices.remove(&oldest);
            }
        }
        let device = Device {
            priority: priority.unwrap_or(0),
            heard: self.heard,
            caps,
            own: before.as_ref().and_then(|before| before.own.clone()),
            silent: before.is_some_and(|before| before.silent),
        };
        self.devices.insert(presence.from.clone(), device);
    }

    /// Nobody is there any more: the login ended, and whoever leaves from now on leaves unseen. What hashes mean stays.
    pub fn clear(&mut self) {
        self.devices.clear();
    }

    /// The devices of an account, the one that it prefers first: by priority, then the latest heard of.
    pub fn devices(&self, account: &Peer) -> Vec<Peer> {
        let account = account.account();
        let mut found: Vec<_> = self
            .devices
            .iter()
            .filter(|(peer, _)| peer.account() == account)
            .collect();
        found.sort_by_key(|(_, device)| std::cmp::Reverse((device.priority, device.heard)));
        found.into_iter().map(|(peer, _)| peer.clone()).collect()
    }

    /// What a device can, if that is known.
    pub fn info(&self, device: &Peer) -> Option<Arc<Info>> {
        let device = self.devices.get(device)?;
        let shared = device.caps.as_ref();
        let shared =
            shared.and_then(|caps| self.known.get(&(caps.function.clone(), caps.ver.clone())));
        shared.or(device.own.as_ref()).cloned()
    }

    /// What has to be asked to know what an account's devices can.
    pub fn questions(&self, account: &Peer) -> Vec<Question> {
        let devices = self.devices(account).into_iter();
        let unknown = devices.filter(|device| self.info(device).is_none());
        let questions = unknown.filter_map(|device| {
            let entry = self.devices.get(&device).filter(|entry| !entry.silent)?;
            let caps = entry.caps.as_ref();
            let node = caps.map(|caps| format!("{}#{}", caps.node, caps.ver));
            Some(Question { device, node })
        });
        questions.collect()
    }

    /// Takes an answer; `None` when there was none. Only what the hash confirms is believed of others that show it
    /// (XEP-0115 §5.4): else a stranger could say what everybody can.
    pub fn learn(&mut self, device: &Peer, info: Option<Info>) {
        let Some(entry) = self.devices.get_mut(device) else {
            return;
        };
        let Some(info) = info else {
            entry.silent = true;
            return;
        };
        let info = Arc::new(info);
        let confirmed = entry.caps.as_ref().filter(|caps| {
            info.hash(&caps.function)
                .is_some_and(|hash| hash == caps.ver)
        });
        let Some(caps) = confirmed else {
            entry.own = Some(info);
            return;
        };
        let key = (caps.function.clone(), caps.ver.clone());
        if self.known.insert(key.clone(), info).is_none() {
            self.order.push_back(key);
            if self.order.len() > CAPS_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }

    /// The device to offer something that needs these features: the one that the account prefers among those that have
    /// all of them, with what it can.
    pub fn choose(&self, account: &Peer, features: &[&str]) -> Option<(Peer, Arc<Info>)> {
        if account.device().is_some() {
            let info = self.info(account)?;
            let has_all = features.iter().all(|feature| info.has(feature));
            return has_all.then(|| (account.clone(), info));
        }
        let devices = self.devices(account).into_iter();
        let mut known = devices.filter_map(|device| self.info(&device).map(|info| (device, info)));
        known.find(|(_, info)| features.iter().all(|feature| info.has(feature)))
    }

    /// The dialect in which to talk to a device, as far as what it can tells.
    pub fn dialect(&self, device: &Peer) -> Option<&'static Dialect> {
        let info = self.info(device);
        let google = info
            .as_ref()
            .is_some_and(|info| info.has(crate::ns::GOOGLE_SESSION));
        if info.is_some_and(|info| info.has(crate::ns::JINGLE)) {
            return Some(Dialect::JINGLE);
        }
        let caps = self
            .devices
            .get(device)
            .and_then(|entry| entry.caps.as_ref());
        let mut ext = caps
            .into_iter()
            .flat_map(|caps| caps.ext.split_whitespace());
        (google || ext.any(|ext| ext == GOOGLE_VOICE)).then_some(Dialect::GTALK)
    }

    /// Whether an account is known to be there at all.
    pub fn is_available(&self, account: &Peer) -> bool {
        let account = address::bare(account);
        self.devices
            .keys()
            .any(|peer| peer.account() == account.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::Element;

    fn info(features: &[&str]) -> Info {
        Info::new("client", "pc", "x", features.iter().copied())
    }

    fn presence(from: &str, priority: i8, caps: Option<Element>) -> Envelope {
        let priority = Element::new(crate::ns::CLIENT, "priority").text(&priority.to_string());
        let stanza = Element::new(crate::ns::CLIENT, "presence").child(priority);
        Envelope {
            from: from.into(),
            to: "me@x/y".into(),
            stanza: stanza.children_from(caps),
        }
    }

    #[test]
    fn one_answer_serves_all_who_show_the_same_hash() {
        let mut directory = Directory::new();
        let calls = info(&["urn:xmpp:jingle:1", "calls"]);
        for (from, priority) in [("a@x/1", 0), ("a@x/2", 5), ("b@x/1", 0)] {
            directory.handle_presence(&presence(from, priority, Some(calls.caps("n"))));
        }
        directory.handle_presence(&presence("a@x/3", 9, None));
        let account = Peer::from("a@x");
        let questions = directory.questions(&account);
        let asked: Vec<_> = questions
            .iter()
            .map(|question| question.device.as_str())
            .collect();
        assert_eq!(asked, ["a@x/3", "a@x/2", "a@x/1"]);
        assert_eq!(questions[0].node, None);
        assert!(questions[1].node.as_deref().unwrap().starts_with("n#"));
        assert_eq!(directory.choose(&account, &["calls"]), None);
        directory.learn(&"a@x/2".into(), Some(calls));
        directory.learn(&"a@x/3".into(), Some(info(&[])));
        assert!(directory.questions(&account).is_empty());
        assert!(directory.questions(&"b@x".into()).is_empty());
        // The one that it prefers among those that can.
        assert_eq!(
            directory.choose(&account, &["calls"]).unwrap().0,
            "a@x/2".into()
        );
        assert_eq!(directory.dialect(&"a@x/1".into()), Some(Dialect::JINGLE));
        assert_eq!(directory.dialect(&"a@x/3".into()), None);
        let gone = Element::new(crate::ns::CLIENT, "presence").with("type", "unavailable");
        let gone = Envelope {
            stanza: gone,
            ..presence("a@x/2", 0, None)
        };
        assert!(directory.handle_presence(&gone));
        assert_eq!(
            directory.choose(&account, &["calls"]).unwrap().0,
            "a@x/1".into()
        );
    }

    #[test]
    fn we_are_no_device_of_our_account() {
        let mut directory = Directory::new();
        let (own, other) = (Peer::from("me@x/here"), Peer::from("me@x/there"));
        let both = |directory: &mut Directory| {
            let sends = info(&["files"]);
            for (device, priority) in [(&own, 5), (&other, -1)] {
                let caps = Some(sends.caps("n"));
                directory.handle_presence(&presence(device.as_str(), priority, caps));
            }
            directory.learn(&other, Some(sends));
        };
        both(&mut directory);
        // It may be known only after that.
        directory.set_own(&own);
        let (account, others) = (Peer::from("me@x"), [other.clone()]);
        for _ in 0..2 {
            assert_eq!(directory.devices(&account), others);
            assert_eq!(directory.choose(&account, &["files"]).unwrap().0, other);
            both(&mut directory);
        }
        directory.clear();
        both(&mut directory);
        assert_eq!(directory.devices(&account), others);
        // The next login has another name, and the one before may be somebody else's.
        directory.set_own(&"me@x/new".into());
        both(&mut directory);
        assert_eq!(directory.devices(&account).len(), 2);
    }

    #[test]
    fn who_lies_lies_for_himself() {
        let mut directory = Directory::new();
        let honest = info(&["calls"]);
        directory.handle_presence(&presence("liar@x/1", 0, Some(honest.caps("n"))));
        directory.handle_presence(&presence("a@x/1", 0, Some(honest.caps("n"))));
        directory.learn(&"liar@x/1".into(), Some(info(&["nothing"])));
        assert_eq!(directory.info(&"a@x/1".into()), None);
        assert!(directory.info(&"liar@x/1".into()).unwrap().has("nothing"));
        directory.learn(&"a@x/1".into(), None);
        assert!(
            directory.questions(&"a@x".into()).is_empty(),
            "silence is not asked again"
        );
        directory.handle_presence(&presence("a@x/1", 0, Some(info(&["new"]).caps("n"))));
        assert_eq!(
            directory.questions(&"a@x".into()).len(),
            1,
            "until something is new"
        );
    }

    #[test]
    fn google_talk_is_told_by_its_words() {
        let mut directory = Directory::new();
        let caps = Element::new(CAPS, "c")
            .with("node", "http://mail.google.com")
            .with("ext", "a voice-v1");
        directory.handle_presence(&presence("a@x/gmail", 0, Some(caps)));
        assert_eq!(directory.dialect(&"a@x/gmail".into()), Some(Dialect::GTALK));
    }

    #[test]
    fn strangers_cannot_fill_it() {
        let mut directory = Directory::new();
        for number in 0..DEVICES_MAX + 10 {
            let from = format!("a@x/{number}");
            let own = info(&[&from]);
            directory.handle_presence(&presence(&from, 0, Some(own.caps("n"))));
            directory.learn(&Peer::from(&*from), Some(own));
        }
        assert_eq!(directory.devices.len(), DEVICES_MAX);
        assert_eq!(
            (directory.known.len(), directory.order.len()),
            (CAPS_MAX, CAPS_MAX)
        );
        assert!(directory.info(&"a@x/0".into()).is_none());
    }
}
