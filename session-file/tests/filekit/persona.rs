//! Other people's clients, as far as their habits with files go (their sources, read; not their code).

use bytes::Bytes;
use session_core::{
    ChannelId, Element, PeerError, Reason, ReasonCondition, Role, Session, SessionClient,
    SessionDescription, State,
    testing::persona::{self, Reaction, catalogue},
};
use session_file::{FILE_TRANSFER, File, FileDescription, FileInfo, Hash, HashAlgorithm, Hasher};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What a client does with files, as far as it is not a matter of stanzas: those are met by `cargo xtask matrix`.
#[derive(Clone, Debug)]
pub struct Habits {
    pub name: &'static str,
    /// Puts the hash into the offer.
    pub offers_hash: Option<HashAlgorithm>,
    /// Announces it there.
    pub announces: Option<HashAlgorithm>,
    /// Sends it after the bytes.
    pub checksum: Vec<HashAlgorithm>,
    /// Says `received`.
    pub received: bool,
    /// How long the receiver waits for a checksum after the last byte.
    pub waits: Duration,
    /// Compares it.
    pub verifies: bool,
    /// Says that parts can be had.
    pub ranges: bool,
    /// Answers an error to infos that are not of calls.
    pub refuses_infos: bool,
}

impl Habits {
    fn of(persona: &persona::Persona) -> Option<Self> {
        let file = persona.file?;
        let hash = |name: &str| HashAlgorithm::from_name(name).unwrap();
        Some(Self {
            name: persona.name,
            offers_hash: file.offers_hash.map(hash),
            announces: file.announces.map(hash),
            checksum: file.checksum.iter().map(|name| hash(name)).collect(),
            received: file.received,
            waits: file.waits,
            verifies: file.verifies,
            ranges: file.ranges,
            refuses_infos: matches!(file.infos, Reaction::Error(..)),
        })
    }
}

/// Everybody who has files.
pub fn all() -> Vec<Habits> {
    catalogue::ALL.iter().filter_map(Habits::of).collect()
}

/// What a persona did and saw.
#[derive(Debug, Default)]
pub struct Diary {
    pub received: Vec<u8>,
    /// Infos, by their names, and the end.
    pub heard: Vec<String>,
    pub hashes: Vec<Hash>,
    pub matched: Option<bool>,
}

pub struct Persona {
    habits: Habits,
    /// What it sends, and what it says of it.
    source: Bytes,
    /// Its word for the checksum, where it lies.
    pub lie: Option<Hash>,
    sent: usize,
    channel: Option<ChannelId>,
    size: usize,
    done: bool,
    pub diary: Arc<Mutex<Diary>>,
}

pub fn hashes(bytes: &[u8], algorithms: &[HashAlgorithm]) -> Vec<Hash> {
    let mut hasher = Hasher::new(algorithms.iter().copied());
    hasher.update(bytes);
    hasher.hashes()
}

impl Persona {
    pub fn new(habits: Habits, source: Bytes) -> Self {
        Self {
            habits,
            source,
            lie: None,
            sent: 0,
            channel: None,
            size: 0,
            done: false,
            diary: Arc::default(),
        }
    }

    /// Its offer.
    pub fn description(habits: &Habits, name: &str, bytes: &[u8]) -> FileDescription {
        let mut file = File::new(name, bytes.len() as u64);
        file.hash_used = habits.announces.iter().map(|a| a.as_str().into()).collect();
        file.hashes = habits
            .offers_hash
            .map_or_else(Vec::new, |a| hashes(bytes, &[a]));
        file.range = file.range.filter(|_| habits.ranges);
        file.into()
    }

    fn connect(&mut self, session: &mut Session, now: Instant) {
        self.channel = session.create_channel("file", now).ok();
    }

    fn push(&mut self, session: &mut Session, now: Instant) {
        let Some(channel) = self.channel.filter(|_| session.role() == Role::Initiator) else {
            return;
        };
        while self.sent < self.source.len() && session.writable(channel) {
            let end = (self.sent + 4096).min(self.source.len());
            if session
                .send(channel, self.source.slice(self.sent..end), now)
                .is_err()
            {
                return;
            }
            self.sent = end;
        }
        if self.sent == self.source.len() && session.writable(channel) && !self.done {
            self.done = true;
            let mut hashes = hashes(&self.source, &self.habits.checksum);
            hashes.extend(self.lie.clone());
            if !hashes.is_empty() {
                let file = Box::new(File {
                    hashes,
                    ..File::default()
                });
                let info = FileInfo::Checksum {
                    creator: Some(Role::Initiator),
                    content: Some(session.contents().next().unwrap().name().clone()),
                    file,
                };
                session.send_info(vec![info.to_element()], now).unwrap();
            }
        }
    }

    fn complete(&mut self, session: &mut Session, now: Instant) {
        let mut diary = self.diary.lock().unwrap();
        if diary.received.len() < self.size || self.done {
            return;
        }
        let wanted: Vec<HashAlgorithm> = diary.hashes.iter().filter_map(Hash::algorithm).collect();
        if wanted.is_empty() && !self.habits.waits.is_zero() {
            return session.set_timer(now.checked_add(self.habits.waits));
        }
        let equal = hashes(&diary.received, &wanted)
            .iter()
            .all(|h| diary.hashes.contains(h));
        diary.matched = (!wanted.is_empty()).then_some(equal);
        drop(diary);
        self.finish(session, !self.habits.verifies || equal, now);
    }

    fn finish(&mut self, session: &mut Session, good: bool, now: Instant) {
        self.done = true;
        let condition = match good {
            true => ReasonCondition::Success,
            false => ReasonCondition::MediaError,
        };
        if good && self.habits.received {
            let content = session.contents().next().unwrap().name().clone();
            let info = FileInfo::Received {
                creator: Some(Role::Initiator),
                content: Some(content),
            };
            session.send_info(vec![info.to_element()], now).unwrap();
        }
        session.terminate(Reason::new(condition), now).unwrap();
    }
}

impl SessionClient for Persona {
    fn namespace(&self) -> &str {
        FILE_TRANSFER
    }

    fn on_session_create(&mut self, _: &mut Session, _: bool, _: Instant) {}

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        if state == State::ReceivedInitiate {
            let offer = session.remote_description().unwrap().clone();
            let file = FileDescription::from_element(&offer).unwrap().file;
            // Most refuse an offer without a name and a size.
            self.size = usize::try_from(file.size.unwrap()).unwrap();
            assert!(file.name.is_some());
            self.diary.lock().unwrap().hashes = file.hashes.clone();
            let answer = FileDescription::from(File {
                range: file.range.clone().filter(|_| self.habits.ranges),
                ..file
            });
            session.accept(&answer, now).unwrap();
            self.connect(session, now);
        } else if state == State::ReceivedAccept {
            self.connect(session, now);
        }
    }

    fn on_writable(&mut self, session: &mut Session, _: ChannelId, writable: bool, now: Instant) {
        if writable {
            self.push(session, now);
        }
    }

    fn on_packet(&mut self, session: &mut Session, _: ChannelId, packet: Bytes, now: Instant) {
        self.diary
            .lock()
            .unwrap()
            .received
            .extend_from_slice(&packet);
        self.complete(session, now);
    }

    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        now: Instant,
    ) -> Result<(), PeerError> {
        for element in info {
            self.diary
                .lock()
                .unwrap()
                .heard
                .push(element.name().to_owned());
            if let Some(FileInfo::Checksum { file, .. }) = FileInfo::from_element(element.view())? {
                assert!(file.range.is_none(), "nobody has agreed on blocks");
                self.diary.lock().unwrap().hashes.extend(file.hashes);
            }
        }
        if self.habits.refuses_infos {
            return Err(PeerError::UnsupportedInfo);
        }
        if session.role() == Role::Responder {
            self.complete(session, now);
        }
        Ok(())
    }

    fn on_timer(&mut self, session: &mut Session, now: Instant) {
        self.finish(session, true, now);
    }

    fn on_terminate_reason(&mut self, _: &mut Session, reason: Option<&Reason>, _: Instant) {
        let text = reason.map_or_else(
            || "none".into(),
            |reason| reason.condition.as_str().to_owned(),
        );
        self.diary.lock().unwrap().heard.push(text);
    }
}
