//! Somebody else's client, which sees and sends the bytes of the stream as they are.

use crate::filekit::{keys::Stub, *};
use bytes::Bytes;
use session_core::{
    ChannelId, ChannelLayer, Config, Element, ReasonCondition, Senders, Session, SessionClient,
    SessionDescription as _, State, testing::World,
};
use session_file::{
    Decision, FILE_TRANSFER, File, FileClient, FileDescription, FileInfo, FileVerdict, JET,
    JetCipher, JetKeys, JetSealer, JetSecret, Outcome, Proposal, Read, TransferId,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What a stream is made of: the file encrypted, and its tag.
pub(crate) fn stream(secret: &JetSecret, text: &[u8]) -> Vec<u8> {
    let mut sealer = JetSealer::new(secret);
    let mut stream = text.to_vec();
    sealer.seal(&mut stream).unwrap();
    stream.extend(sealer.finish());
    stream
}

/// A `<security/>` without a name, as Dino writes it.
pub(crate) fn security(secret: &JetSecret) -> Element {
    let mut keys = Stub::default();
    Element::new(JET, "security")
        .with("cipher", secret.cipher().as_str())
        .with("type", keys.kind())
        .child(keys.seal(&NAMES[BOB].into(), secret).unwrap())
}

/// What the stranger saw.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// What the channel gave it.
    pub(crate) bytes: Vec<u8>,
    /// The secret that the content names.
    pub(crate) secret: Vec<u8>,
    /// Why the session ended.
    pub(crate) reason: Option<ReasonCondition>,
}

/// It takes what is offered, and sends what it has when it may.
struct Stranger {
    layer: Option<Arc<dyn ChannelLayer>>,
    sends: Bytes,
    /// Bytes of each piece, in turn.
    pieces: Vec<usize>,
    checksum: Option<File>,
    sent: usize,
    turn: usize,
    /// After so many bytes it has all.
    most: usize,
    channel: Option<ChannelId>,
    seen: Arc<Mutex<Seen>>,
}

impl Stranger {
    fn new(carrier: Carrier) -> Self {
        Self {
            layer: config(carrier).layer,
            sends: Bytes::new(),
            pieces: vec![4_096],
            checksum: None,
            sent: 0,
            turn: 0,
            most: usize::MAX,
            channel: None,
            seen: Arc::default(),
        }
    }

    fn connect(&mut self, session: &mut Session, now: Instant) {
        let content = session.contents().next().unwrap();
        let (name, security) = (content.name().clone(), content.security().cloned());
        if let Some(envelope) = security.and_then(|s| s.children().next().map(|e| e.detach())) {
            let secret = Stub::default().open(&NAMES[ALICE].into(), &envelope);
            self.seen.lock().unwrap().secret = secret.unwrap().to_vec();
        }
        if let Some(layer) = &self.layer {
            session.announce_layer_in(&name, layer).unwrap();
        }
        let layer = self.layer.clone();
        self.channel = session.create_channel_in(&name, "file", layer, now).ok();
    }

    fn push(&mut self, session: &mut Session, id: ChannelId, now: Instant) {
        while session.writable(id) && self.sent < self.sends.len() {
            let count = self.pieces[self.turn % self.pieces.len()].max(1);
            let end = (self.sent + count).min(self.sends.len());
            let piece = self.sends.slice(self.sent..end);
            if session.send(id, piece, now).is_err() {
                return;
            }
            self.turn += 1;
            self.sent = end;
        }
        if self.sent < self.sends.len() || !session.writable(id) {
            return;
        }
        if let Some(file) = self.checksum.take() {
            let info = FileInfo::Checksum {
                creator: None,
                content: None,
                file: Box::new(file),
            };
            session.send_info(vec![info.to_element()], now).unwrap();
        }
        session.finish(id, now);
    }
}

impl SessionClient for Stranger {
    fn namespace(&self) -> &str {
        FILE_TRANSFER
    }

    fn on_session_create(&mut self, _: &mut Session, _: bool, _: Instant) {}

    #[allow(clippy::wildcard_enum_match_arm, reason = "two states are its own")]
    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        match state {
            State::ReceivedInitiate => {
                self.connect(session, now);
                let description = session.remote_description().unwrap().clone();
                session.accept_with(description, now).unwrap();
            }
            State::ReceivedAccept if self.channel.is_none() => self.connect(session, now),
            _ => {}
        }
    }

    fn on_packet(&mut self, session: &mut Session, _: ChannelId, packet: Bytes, now: Instant) {
        let mut seen = self.seen.lock().unwrap();
        seen.bytes.extend_from_slice(&packet);
        if seen.bytes.len() == self.most {
            session
                .terminate(ReasonCondition::Success.into(), now)
                .unwrap();
        }
    }

    fn on_writable(&mut self, session: &mut Session, id: ChannelId, writable: bool, now: Instant) {
        if writable {
            self.push(session, id, now);
        }
    }

    fn on_terminate_reason(
        &mut self,
        _: &mut Session,
        reason: Option<&session_core::Reason>,
        _: Instant,
    ) {
        self.seen.lock().unwrap().reason = reason.map(|reason| reason.condition.clone());
    }
}

/// A stranger at one host, and one of ours at the other.
fn meet(carrier: Carrier, host: usize, stranger: Stranger) -> World {
    let mut world = World::new(5);
    let mut stranger = Some(stranger);
    for (at, name) in NAMES.into_iter().enumerate() {
        world.add_host(name, Config::default(), |manager| {
            add_transports(manager, carrier, at)?;
            if at == host {
                return manager.add_client(stranger.take().unwrap());
            }
            let mut files = FileClient::new(config(carrier));
            files.set_keys(Stub::default());
            manager.add_client(files)
        });
    }
    world
}

/// What the stranger offers, or asks for.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) security: Element,
    pub(crate) file: File,
    /// The bytes of the stream.
    pub(crate) sends: Vec<u8>,
    pub(crate) pieces: Vec<usize>,
    pub(crate) checksum: Option<File>,
}

/// The name of its only content.
pub(crate) const CONTENT: &str = "a-file";

impl Offer {
    /// An offer of so many bytes, of which these arrive.
    pub(crate) fn new(secret: &JetSecret, size: usize, sends: Vec<u8>) -> Self {
        let mut file = File::new("a", size as u64);
        file.hash_used.clear();
        file.range = None;
        Self {
            security: security(secret),
            file,
            sends,
            pieces: vec![4_096],
            checksum: None,
        }
    }

    fn say(&self, world: &mut World, carrier: Carrier, senders: Senders) {
        let (local, to) = (world.name(ALICE).clone(), world.name(BOB).clone());
        world.update(ALICE, |manager, now| {
            let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
            let session = manager.session(id).unwrap();
            session.set_content_name(CONTENT).unwrap();
            session.set_senders(CONTENT, senders, now).unwrap();
            session.set_security(CONTENT, &self.security).unwrap();
            if let Some(layer) = config(carrier).layer {
                session.announce_layer_in(CONTENT, &layer).unwrap();
            }
            let description = FileDescription::from(self.file.clone()).to_element();
            session
                .initiate_with(to, Vec::new(), description, now)
                .unwrap();
        });
    }

    /// What one of ours makes of it: how it ended, what was read if it came to its end, and what the stranger was told.
    pub(crate) fn made(&self) -> (Option<Outcome>, Vec<u8>, Option<ReasonCondition>) {
        let stranger = Stranger {
            sends: self.sends.clone().into(),
            pieces: self.pieces.clone(),
            checksum: self.checksum.clone(),
            ..Stranger::new(Carrier::Stream)
        };
        let seen = stranger.seen.clone();
        let mut world = meet(Carrier::Stream, ALICE, stranger);
        accept_all(&mut world, BOB);
        self.say(&mut world, Carrier::Stream, Senders::Initiator);
        let mut app = App::new();
        let over = world.run_until(Duration::from_secs(300), |world| {
            app.step(world, BOB);
            is_over(world, BOB) && is_over(world, ALICE)
        });
        assert!(over, "it ends");
        app.step(&mut world, BOB);
        let reason = seen.lock().unwrap().reason.clone();
        let Some(id) = first(&mut world, BOB) else {
            assert!(app.received.is_empty());
            return (None, Vec::new(), reason);
        };
        let received = match app.ends.get(&id) {
            Some(Read::End(_)) => app.received.remove(&id).unwrap_or_default(),
            Some(_) | None => Vec::new(),
        };
        (outcome(&mut world, BOB, &id), received, reason)
    }
}

fn first(world: &mut World, host: usize) -> Option<TransferId> {
    client(world, host, |files| {
        let session = files.sessions().next()?;
        let content = files.transfers(session).next()?.content().clone();
        Some(TransferId { session, content })
    })
}

/// What a stranger sees of a file of this name and content that one of ours sends: because it offers it, or because the
/// stranger asks for it with this secret.
pub(crate) fn seen(carrier: Carrier, asks: Option<&JetSecret>, name: &str, source: &Bytes) -> Seen {
    let (file, host) = (
        File::new(name, source.len() as u64),
        1 - usize::from(asks.is_some()),
    );
    let stranger = Stranger {
        most: source.len() + session_file::JET_TAG_BYTES,
        ..Stranger::new(carrier)
    };
    let seen = stranger.seen.clone();
    let mut world = meet(carrier, host, stranger);
    match asks {
        Some(secret) => {
            set_policy(&mut world, BOB, move |offer| {
                let content = offer.files[0].content.clone();
                assert!(offer.files[0].encrypted);
                FileVerdict::Decide(vec![(content, Decision::Provide(file.clone()))])
            });
            Offer::new(secret, source.len(), Vec::new()).say(
                &mut world,
                carrier,
                Senders::Responder,
            );
        }
        None => {
            let proposal = Proposal::Offer(file).encrypted(JetCipher::Aes128Gcm);
            open(&mut world, ALICE, vec![proposal]).unwrap();
        }
    }
    let mut app = App::new().with(name, source.clone());
    let over = world.run_until(Duration::from_secs(300), |world| {
        app.step(world, 1 - host);
        is_over(world, BOB) && is_over(world, ALICE)
    });
    assert!(over, "it ends");
    seen.lock().unwrap().clone()
}
