//! Data channels (RFC 8831), opened in band (RFC 8832).

use super::{Association, Delivery, Event, SendError, State};
use bytes::{BufMut, Bytes, BytesMut};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

/// Payload protocol identifiers (RFC 8831 §8).
mod protocol {
    pub(super) const CONTROL: u32 = 50;
    pub(super) const TEXT: u32 = 51;
    pub(super) const BINARY: u32 = 53;
    pub(super) const TEXT_EMPTY: u32 = 56;
    pub(super) const BINARY_EMPTY: u32 = 57;
}

/// Messages of RFC 8832 §5.
const ACK: u8 = 2;
const OPEN: u8 = 3;
/// Channel types: flag of unordered delivery, and kinds of reliability.
const UNORDERED: u8 = 0x80;
const RELIABLE: u8 = 0;
const RETRANSMITS: u8 = 1;
const LIFETIME: u8 = 2;

/// Most channels that a peer can have open.
pub const MAX_CHANNELS: usize = 1024;
/// Longest label or protocol of a peer, in bytes.
pub const MAX_LABEL: usize = 1024;

/// What a channel is opened with (RFC 8832 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelConfig {
    /// Its label; need not be unique.
    pub label: Arc<str>,
    /// Its protocol, from the registry of WebSocket subprotocols.
    pub protocol: Arc<str>,
    /// Whether and how its messages may be lost or overtake each other.
    pub delivery: Delivery,
    /// Its priority (RFC 8831 §6.4): 128, 256, 512, 1024. Carried, not acted on.
    pub priority: u16,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            label: "".into(),
            protocol: "".into(),
            delivery: Delivery::default(),
            priority: 256,
        }
    }
}

/// What happens to channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// The peer has opened this channel; it can be used at once.
    Opened(u16, ChannelConfig),
    /// The peer has answered our opening of this channel, which could be used before.
    Accepted(u16),
    /// The channel is closed in both directions. What had arrived can still be read.
    Closed(u16),
    /// Anything else of the association.
    Association(Event),
}

/// A message of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelMessage {
    /// The channel.
    pub channel: u16,
    /// Whether it was sent as text; whether that is UTF-8 is for the reader to see.
    pub text: bool,
    /// The message.
    pub payload: Bytes,
}

#[derive(Debug)]
struct Channel {
    delivery: Delivery,
    /// Until our opening is answered, everything is sent in order (RFC 8832 §6).
    answered: bool,
    /// Which directions have been begun anew.
    closed: [bool; 2],
    closing: bool,
}

/// Resets of streams without a channel, whose opening may wait to be read. Places are counts of messages since the
/// beginning: a reset holds for what was opened before its place.
#[derive(Debug, Default)]
struct Early {
    /// Messages that were read.
    read: u64,
    streams: BTreeMap<u16, u64>,
    /// The place of a reset of all streams.
    all: u64,
}

impl Early {
    /// Notes a reset behind so many messages that wait. Past the limit it is passed over: so many channels cannot be opened.
    fn note(&mut self, stream: u16, unread: usize) {
        if unread > 0 && self.streams.len() < MAX_CHANNELS {
            self.streams.insert(stream, self.read + unread as u64);
        }
    }

    /// Whether a stream whose opening was read just now was begun anew behind it.
    fn take(&mut self, stream: u16) -> bool {
        let place = self.streams.remove(&stream).unwrap_or(0);
        self.read <= place.max(self.all)
    }
}

/// The data channels of one association.
#[derive(Debug)]
pub struct DataChannels {
    association: Association,
    /// Whose streams are even: those of the DTLS client (RFC 8832 §6).
    client: bool,
    channels: BTreeMap<u16, Channel>,
    events: VecDeque<ChannelEvent>,
    early: Early,
}

impl DataChannels {
    /// Channels above `association`; `client` says that we are the client of the DTLS connection below.
    pub fn new(association: Association, client: bool) -> Self {
        Self {
            association,
            client,
            channels: BTreeMap::new(),
            events: VecDeque::new(),
            early: Early::default(),
        }
    }

    /// The association below.
    pub fn association(&self) -> &Association {
        &self.association
    }

    /// The association below, to be driven. Events and messages are to be taken here, not there.
    pub fn association_mut(&mut self) -> &mut Association {
        &mut self.association
    }

    /// Opens a channel on the first free stream of ours; messages may be sent at once.
    ///
    /// # Errors
    /// [`SendError::NoSuchStream`] when no stream is free or label and protocol are too long, else as
    /// [`Association::send`].
    pub fn open(&mut self, config: &ChannelConfig, now: Instant) -> Result<u16, SendError> {
        let first = u16::from(!self.client);
        let most = self.association.streams();
        let fits = config.label.len() <= MAX_LABEL && config.protocol.len() <= MAX_LABEL;
        let channel = (first..most)
            .step_by(2)
            .take(MAX_CHANNELS)
            .find(|id| !self.channels.contains_key(id) && !self.association.resets.holds(*id))
            .filter(|_| fits)
            .ok_or(SendError::NoSuchStream)?;
        let message = encode_open(config);
        let reliable = Delivery::default();
        self.association
            .send(channel, protocol::CONTROL, message, &reliable, now)?;
        self.insert(channel, config.delivery, false);
        Ok(channel)
    }

    /// Sends a message on an open channel, as text or as bytes; it may be empty.
    ///
    /// # Errors
    /// [`SendError::NoSuchStream`] if the channel is not open, else as [`Association::send`].
    pub fn send(
        &mut self,
        channel: u16,
        text: bool,
        payload: Bytes,
        now: Instant,
    ) -> Result<(), SendError> {
        let open = self
            .channels
            .get(&channel)
            .filter(|channel| !channel.closing);
        let open = open.ok_or(SendError::NoSuchStream)?;
        let mut delivery = open.delivery;
        delivery.unordered &= open.answered;
        let (kind, payload) = match (text, payload.is_empty()) {
            (true, false) => (protocol::TEXT, payload),
            (false, false) => (protocol::BINARY, payload),
            (true, true) => (protocol::TEXT_EMPTY, Bytes::from_static(&[0])),
            (false, true) => (protocol::BINARY_EMPTY, Bytes::from_static(&[0])),
        };
        self.association
            .send(channel, kind, payload, &delivery, now)
    }

    /// Sends bytes whether the send buffer is full or not.
    pub(super) fn send_over(
        &mut self,
        channel: u16,
        payload: Bytes,
        now: Instant,
    ) -> Result<(), SendError> {
        if !self.is_open(channel) {
            return Err(SendError::NoSuchStream);
        }
        let reliable = Delivery::default();
        self.association
            .queue(channel, protocol::BINARY, payload, &reliable, now)
    }

    /// Closes a channel once everything that was sent on it is acknowledged (RFC 8831 §6.7).
    pub fn close(&mut self, channel: u16) {
        if let Some(open) = self.channels.get_mut(&channel)
            && !open.closing
        {
            open.closing = true;
            self.association.reset_streams(&[channel]);
        }
    }

    /// Whether a channel is open for sending.
    pub fn is_open(&self, channel: u16) -> bool {
        self.channels
            .get(&channel)
            .is_some_and(|channel| !channel.closing)
    }

    /// The next message of any channel.
    pub fn read(&mut self, now: Instant) -> Option<ChannelMessage> {
        while let Some(message) = self.association.read(now) {
            self.early.read += 1;
            let channel = message.stream;
            let text = matches!(message.protocol, protocol::TEXT | protocol::TEXT_EMPTY);
            match message.protocol {
                protocol::CONTROL => self.on_control(channel, &message.payload, now),
                protocol::TEXT_EMPTY | protocol::BINARY_EMPTY => {
                    return Some(ChannelMessage {
                        channel,
                        text,
                        payload: Bytes::new(),
                    });
                }
                // Whatever else is bytes.
                _ => {
                    self.on_answered(channel);
                    let payload = message.payload;
                    return Some(ChannelMessage {
                        channel,
                        text,
                        payload,
                    });
                }
            }
        }
        self.early.streams.clear();
        None
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ChannelEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            match self.association.poll_event()? {
                Event::IncomingReset(streams) => self.on_incoming_reset(&streams),
                Event::OutgoingReset(streams, _) => self.on_reset(&streams, 1),
                event @ (Event::Open | Event::Readable | Event::Writable | Event::Closed(_)) => {
                    return Some(ChannelEvent::Association(event));
                }
            }
        }
    }

    fn insert(&mut self, channel: u16, delivery: Delivery, answered: bool) {
        self.channels.insert(
            channel,
            Channel {
                delivery,
                answered,
                closed: [false; 2],
                closing: false,
            },
        );
    }

    fn on_answered(&mut self, channel: u16) {
        if let Some(open) = self.channels.get_mut(&channel)
            && !std::mem::replace(&mut open.answered, true)
        {
            self.events.push_back(ChannelEvent::Accepted(channel));
        }
    }

    /// A message of RFC 8832; one that makes no sense is passed over.
    fn on_control(&mut self, channel: u16, message: &[u8], now: Instant) {
        match message.first() {
            Some(&ACK) => self.on_answered(channel),
            Some(&OPEN) => {
                let theirs = u16::from(self.client) == channel & 1;
                let free =
                    !self.channels.contains_key(&channel) && self.channels.len() < MAX_CHANNELS;
                let Some(config) = decode_open(message).filter(|_| theirs && free) else {
                    return;
                };
                let answer = Bytes::from_static(&[ACK]);
                let reliable = Delivery::default();
                // Without room the peer does without: its channel works all the same.
                let _ = self
                    .association
                    .send(channel, protocol::CONTROL, answer, &reliable, now);
                self.insert(channel, config.delivery, true);
                self.events.push_back(ChannelEvent::Opened(channel, config));
                if self.early.take(channel) {
                    self.on_reset(&[channel], 0);
                }
            }
            Some(_) | None => {}
        }
    }

    /// The peer began streams anew. What it sent before may wait to be read, the opening of the channel too.
    fn on_incoming_reset(&mut self, streams: &[u16]) {
        let unread = self.association.unread();
        if streams.is_empty() {
            self.early.all = self.early.read + unread as u64;
        }
        for stream in streams {
            if !self.channels.contains_key(stream) {
                self.early.note(*stream, unread);
            }
        }
        self.on_reset(streams, 0);
    }

    /// One direction of streams was begun anew: the other follows, and the channel is closed.
    fn on_reset(&mut self, streams: &[u16], direction: usize) {
        // Nobody is there any more who could agree to ours.
        let over = direction == 0 && self.association.state() == State::Closed;
        let all: Vec<u16> = match streams {
            [] => self.channels.keys().copied().collect(),
            streams => streams.to_vec(),
        };
        for id in all {
            let Some(channel) = self.channels.get_mut(&id) else {
                continue;
            };
            channel.closed[direction] = true;
            if channel.closed == [true; 2] || over {
                self.channels.remove(&id);
                self.events.push_back(ChannelEvent::Closed(id));
            } else if direction == 0 {
                self.close(id);
            }
        }
    }
}

fn encode_open(config: &ChannelConfig) -> Bytes {
    let delivery = &config.delivery;
    let (kind, parameter) = match (delivery.max_retransmits, delivery.lifetime) {
        (Some(times), _) => (RETRANSMITS, times.into()),
        (None, Some(lifetime)) => (
            LIFETIME,
            u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX),
        ),
        (None, None) => (RELIABLE, 0),
    };
    let mut message = BytesMut::with_capacity(12 + config.label.len() + config.protocol.len());
    message.put_u8(OPEN);
    message.put_u8(kind | if delivery.unordered { UNORDERED } else { 0 });
    message.put_u16(config.priority);
    message.put_u32(parameter);
    message.put_u16(config.label.len() as u16);
    message.put_u16(config.protocol.len() as u16);
    message.put_slice(config.label.as_bytes());
    message.put_slice(config.protocol.as_bytes());
    message.freeze()
}

fn decode_open(message: &[u8]) -> Option<ChannelConfig> {
    let kind = *message.get(1)?;
    let priority = super::wire::u16_at(message, 2)?;
    let parameter = super::wire::u32_at(message, 4)?;
    let label = usize::from(super::wire::u16_at(message, 8)?);
    let protocol = usize::from(super::wire::u16_at(message, 10)?);
    if label > MAX_LABEL || protocol > MAX_LABEL {
        return None;
    }
    let mut delivery = Delivery {
        unordered: kind & UNORDERED != 0,
        ..Delivery::default()
    };
    match kind & !UNORDERED {
        RELIABLE => {}
        RETRANSMITS => {
            delivery.max_retransmits = Some(u16::try_from(parameter).unwrap_or(u16::MAX))
        }
        LIFETIME => delivery.lifetime = Some(Duration::from_millis(parameter.into())),
        _ => return None,
    }
    let text =
        |from: usize, length: usize| std::str::from_utf8(message.get(from..from + length)?).ok();
    Some(ChannelConfig {
        label: text(12, label)?.into(),
        protocol: text(12 + label, protocol)?.into(),
        delivery,
        priority,
    })
}
