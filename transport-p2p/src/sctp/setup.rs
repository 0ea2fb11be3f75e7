//! How an association begins (RFC 9260 §5): INIT, INIT ACK with a cookie, and the cookie back. Nothing is kept for a
//! peer before its cookie has come back.

use super::{
    Association, Config, Error, Event, Features, State,
    flight::Flight,
    inbound::Inbound,
    wire::{self, cause, kind, parameter},
};
use crate::pseudotcp::ranges::ORIGIN;
use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::time::{Duration, Instant};

/// For how long a cookie counts (RFC 9260 §16).
const COOKIE_LIFE: Duration = Duration::from_secs(60);
/// Bytes of a cookie: what it tells, and a MAC.
const COOKIE_FIELDS: usize = 44;
const COOKIE: usize = COOKIE_FIELDS + 32;
/// Longest cookie of a peer that is sent back.
const MAX_COOKIE: usize = 1024;
/// Least window that an INIT may tell (RFC 9260 §3.3.2).
const LEAST_WINDOW: u32 = 1500;
/// Error detection method of RFC 9653: DTLS.
const OVER_DTLS: u32 = 1;

/// What an INIT or INIT ACK tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Init {
    tag: u32,
    window: u32,
    outgoing: u16,
    incoming: u16,
    first: u32,
    features: Features,
}

/// What the set-up needs.
#[derive(Debug)]
pub(super) struct Setup {
    secret: [u8; 32],
    epoch: Instant,
    tag: u32,
    first: u32,
    pub(super) init_due: bool,
    /// The peer's cookie, which goes back until it is acknowledged.
    cookie: Option<Bytes>,
    pub(super) cookie_due: bool,
    /// How often the peer found its own cookie too old.
    pub(super) stale: u32,
}

impl Setup {
    pub(super) fn new(seed: [u8; 32], now: Instant) -> Self {
        let (tag, first) = numbers(&seed);
        Self {
            secret: derive(&seed, b"cookie"),
            epoch: now,
            tag,
            first,
            init_due: false,
            cookie: None,
            cookie_due: false,
            stale: 0,
        }
    }

    pub(super) fn local_tag(&self) -> u32 {
        self.tag
    }

    pub(super) fn first_number(&self) -> u32 {
        self.first
    }
}

/// Tag and first number of an association.
fn numbers(seed: &[u8; 32]) -> (u32, u32) {
    let draw = |label| {
        let bytes = derive(seed, label);
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    };
    (draw(b"tag").max(1), draw(b"first"))
}

/// Bytes for one use.
pub(super) fn derive(seed: &[u8; 32], label: &[u8]) -> [u8; 32] {
    mac(seed, &[label])
}

fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // A key of any length is permitted.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return [0; 32];
    };
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

impl Init {
    fn own(config: &Config, tag: u32, first: u32) -> Self {
        Self {
            tag,
            window: config.receive_buffer as u32,
            outgoing: config.streams,
            incoming: config.streams,
            first,
            features: Features {
                partial: true,
                interleave: config.interleave,
                reset: true,
                no_checksums: config.no_checksums,
            },
        }
    }

    /// Writes the value of an INIT or, with a cookie, of an INIT ACK.
    fn write(&self, cookie: Option<&[u8]>, buffer: &mut BytesMut) {
        buffer.put_u32(self.tag);
        buffer.put_u32(self.window);
        buffer.put_u16(self.outgoing);
        buffer.put_u16(self.incoming);
        buffer.put_u32(self.first);
        if let Some(cookie) = cookie {
            wire::put_parameter(buffer, parameter::STATE_COOKIE, cookie);
        }
        wire::put_parameter(buffer, parameter::FORWARD_TSN, &[]);
        let mut extensions = vec![kind::RE_CONFIG, kind::FORWARD_TSN];
        if self.features.interleave {
            extensions.extend([kind::I_DATA, kind::I_FORWARD_TSN]);
        }
        wire::put_parameter(buffer, parameter::EXTENSIONS, &extensions);
        if self.features.no_checksums {
            let method = OVER_DTLS.to_be_bytes();
            wire::put_parameter(buffer, parameter::ZERO_CHECKSUM, &method);
        }
    }

    /// Reads the value of an INIT or INIT ACK, and the latter's cookie.
    fn read(value: &[u8]) -> Option<(Self, Option<&[u8]>)> {
        let mut init = Self {
            tag: wire::u32_at(value, 0)?,
            window: wire::u32_at(value, 4)?,
            outgoing: wire::u16_at(value, 8)?,
            incoming: wire::u16_at(value, 10)?,
            first: wire::u32_at(value, 12)?,
            features: Features::default(),
        };
        let mut cookie = None;
        for (kind, value) in wire::parameters(value.get(16..)?) {
            match kind {
                parameter::STATE_COOKIE => cookie = Some(value),
                parameter::FORWARD_TSN => init.features.partial = true,
                parameter::EXTENSIONS => {
                    init.features.partial |= value.contains(&kind::FORWARD_TSN);
                    init.features.reset |= value.contains(&kind::RE_CONFIG);
                    init.features.interleave |= value.contains(&kind::I_DATA);
                }
                parameter::ZERO_CHECKSUM => {
                    init.features.no_checksums = wire::u32_at(value, 0) == Some(OVER_DTLS);
                }
                _ => {}
            }
        }
        let valid =
            init.tag != 0 && init.window >= LEAST_WINDOW && init.outgoing > 0 && init.incoming > 0;
        valid.then_some((init, cookie))
    }

    fn flags(&self) -> u32 {
        let features = self.features;
        u32::from(features.partial)
            | u32::from(features.interleave) << 1
            | u32::from(features.reset) << 2
            | u32::from(features.no_checksums) << 3
    }
}

impl Association {
    /// Our INIT chunk, for a signalling channel that carries it to the peer (draft-hancke-tsvwg-snap). If the peer's comes the same way, [`connect_with`](Self::connect_with) opens the
    /// association without a round trip.
    pub fn init_chunk(&self) -> Bytes {
        let mut buffer = BytesMut::new();
        self.write_init(&mut buffer);
        buffer.freeze()
    }

    /// The INIT chunk of an association that is made of this later.
    pub(super) fn init_chunk_of(config: &Config, seed: [u8; 32]) -> Bytes {
        let (tag, first) = numbers(&seed);
        let init = Init::own(&config.clone().bounded(), tag, first);
        let mut buffer = BytesMut::new();
        wire::put_chunk(&mut buffer, kind::INIT, 0, |buffer| {
            init.write(None, buffer)
        });
        buffer.freeze()
    }

    /// Opens the association with the INIT chunk that signalling brought from the peer, who must have got
    /// [ours](Self::init_chunk). Returns `false`, and changes nothing, if it is not one, or if it is too late.
    pub fn connect_with(&mut self, init_chunk: &[u8], now: Instant) -> bool {
        let value = match init_chunk {
            [kind::INIT, _, _, _, value @ ..] if self.state == State::Idle => value,
            _ => return false,
        };
        let Some((peer, _)) = Init::read(value) else {
            return false;
        };
        self.adopt(&peer);
        self.open(now);
        true
    }

    fn own_init(&self) -> Init {
        Init::own(&self.config, self.setup.tag, self.setup.first)
    }

    /// The INIT, as a chunk for [`super::transmit`].
    pub(super) fn write_init(&self, buffer: &mut BytesMut) {
        let init = self.own_init();
        wire::put_chunk(buffer, kind::INIT, 0, |buffer| init.write(None, buffer));
    }

    pub(super) fn write_cookie(&self, buffer: &mut BytesMut) {
        if let Some(cookie) = &self.setup.cookie {
            wire::put_chunk(buffer, kind::COOKIE_ECHO, 0, |buffer| {
                buffer.put_slice(cookie)
            });
        }
    }

    /// INIT in any state: answered by what a cookie remembers for us (RFC 9260 §5.1, §5.2.1, §5.2.2).
    pub(super) fn on_init(&mut self, value: &[u8], now: Instant) -> bool {
        let Some((peer, _)) = Init::read(value) else {
            return false;
        };
        match self.state {
            State::ShutdownAckSent => {
                self.ending.acknowledge = true;
                return true;
            }
            State::Closed => return false,
            State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::Established
            | State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived => {}
        }
        // Before the association is open our own INIT is repeated; afterwards a restart is answered with a new tag, so
        // that an attacker who guesses nothing learns nothing (§5.2.2).
        let fresh = matches!(
            self.state,
            State::Idle | State::CookieWait | State::CookieEchoed
        );
        let (tag, first) = if fresh {
            (self.setup.tag, self.setup.first)
        } else {
            (self.setup.tag ^ 0x5555_5555, self.setup.first)
        };
        let own = Init::own(&self.config, tag.max(1), first);
        let cookie = self.bake(&own, &peer, now);
        let header = wire::Header {
            tag: peer.tag,
            ..self.header()
        };
        let mut packet = BytesMut::new();
        wire::begin_packet(&mut packet, header);
        wire::put_chunk(&mut packet, kind::INIT_ACK, 0, |buffer| {
            own.write(Some(&cookie), buffer)
        });
        wire::end_packet(&mut packet, 0, false);
        self.ending.packet = Some(packet.freeze());
        true
    }

    /// A cookie: what both have said, the tags there are, the time, and a MAC.
    fn bake(&self, own: &Init, peer: &Init, now: Instant) -> Vec<u8> {
        let mut cookie = Vec::with_capacity(COOKIE);
        let age = now.saturating_duration_since(self.setup.epoch).as_millis() as u32;
        let streams = u32::from(peer.outgoing) << 16 | u32::from(peer.incoming);
        for field in [
            own.tag,
            own.first,
            peer.tag,
            peer.window,
            streams,
            peer.first,
            peer.flags(),
            age,
            // The tie-tags (§5.2.2).
            if self.remote_tag == 0 {
                0
            } else {
                self.local_tag
            },
            self.remote_tag,
            0,
        ] {
            cookie.put_u32(field);
        }
        let seal = mac(&self.setup.secret, &[&cookie]);
        cookie.extend(seal);
        cookie
    }

    /// INIT ACK: counts only while our INIT waits for it.
    pub(super) fn on_init_ack(&mut self, value: &[u8], now: Instant) -> bool {
        if self.state != State::CookieWait {
            return false;
        }
        let Some((peer, Some(cookie))) = Init::read(value) else {
            return false;
        };
        if cookie.len() > MAX_COOKIE {
            return false;
        }
        self.setup.cookie = Some(Bytes::copy_from_slice(cookie));
        self.setup.cookie_due = true;
        self.adopt(&peer);
        self.state = State::CookieEchoed;
        self.backoff = 0;
        self.timers.retransmit = Some(now + self.rto());
        true
    }

    /// COOKIE ECHO in any state (RFC 9260 §5.1.5, §5.2.4).
    pub(super) fn on_cookie_echo(&mut self, tag: u32, cookie: &[u8], now: Instant) -> bool {
        let Some((own, peer, ties, age)) = self.taste(cookie) else {
            return false;
        };
        if tag != own.tag {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.setup.epoch);
        let known = self.remote_tag != 0;
        let same = own.tag == self.local_tag && known && peer.tag == self.remote_tag;
        if !same && elapsed.saturating_sub(age) > COOKIE_LIFE {
            self.reply(kind::ERROR, |buffer| {
                wire::put_parameter(buffer, cause::STALE_COOKIE, &0u32.to_be_bytes());
            });
            return true;
        }
        match self.state {
            State::Idle | State::CookieWait | State::CookieEchoed if own.tag == self.local_tag => {
                self.adopt(&peer);
                self.acknowledge_cookie();
                self.open(now);
                true
            }
            State::Established | State::ShutdownPending | State::ShutdownReceived if same => {
                // Our acknowledgement was lost.
                self.acknowledge_cookie();
                true
            }
            State::Established
            | State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived
                if own.tag != self.local_tag && ties == (self.local_tag, self.remote_tag) =>
            {
                // The new one is told, who would wait otherwise.
                self.remote_tag = peer.tag;
                self.fail(Error::Restarted);
                true
            }
            State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::Established
            | State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed => false,
        }
    }

    fn acknowledge_cookie(&mut self) {
        self.reply(kind::COOKIE_ACK, |_| {});
    }

    /// What a cookie of ours tells: our side, the peer's, the tie-tags and its age.
    fn taste(&self, cookie: &[u8]) -> Option<(Init, Init, (u32, u32), Duration)> {
        let (fields, seal) = cookie.split_at_checked(COOKIE_FIELDS)?;
        // Compared in constant time by the MAC's own means.
        let mut check = Hmac::<Sha256>::new_from_slice(&self.setup.secret).ok()?;
        check.update(fields);
        check.verify_slice(seal).ok()?;
        let field = |at: usize| wire::u32_at(fields, at * 4);
        let own = Init {
            tag: field(0)?,
            first: field(1)?,
            ..Init::default()
        };
        let flags = field(6)?;
        let peer = Init {
            tag: field(2)?,
            window: field(3)?,
            outgoing: (field(4)? >> 16) as u16,
            incoming: field(4)? as u16,
            first: field(5)?,
            features: Features {
                partial: flags & 1 != 0,
                interleave: flags & 2 != 0,
                reset: flags & 4 != 0,
                no_checksums: flags & 8 != 0,
            },
        };
        let age = Duration::from_millis(field(7)?.into());
        Some((own, peer, (field(8)?, field(9)?), age))
    }

    pub(super) fn on_cookie_ack(&mut self, now: Instant) -> bool {
        let opens = self.state == State::CookieEchoed;
        if opens {
            self.open(now);
        }
        opens
    }

    /// Takes over what the peer says of itself.
    fn adopt(&mut self, peer: &Init) {
        let config = &self.config;
        self.remote_tag = peer.tag;
        self.features = Features {
            partial: peer.features.partial,
            interleave: peer.features.interleave && config.interleave,
            reset: peer.features.reset,
            no_checksums: peer.features.no_checksums && config.no_checksums,
        };
        self.streams = config.streams.min(peer.incoming);
        self.window = peer.window.into();
        let first = ORIGIN + u64::from(peer.first);
        let (capacity, most) = (config.receive_buffer, config.max_message_size);
        self.inbound = Inbound::new(first, capacity, most, self.features.interleave);
        // What went with our cookie has its number, whoever's cookie opens the association.
        if self.flight.is_empty() {
            self.flight = Flight::new(ORIGIN + u64::from(self.setup.first));
        }
        self.resets.begin(peer.first);
    }

    /// Whether the peer has answered our INIT, and what is sent now leaves with our cookie.
    pub(super) fn may_accompany(&self) -> bool {
        self.state == State::CookieEchoed && self.setup.cookie_due
    }

    fn open(&mut self, now: Instant) {
        self.setup.cookie = None;
        self.setup.init_due = false;
        self.setup.cookie_due = false;
        self.state = State::Established;
        self.backoff = 0;
        self.timers.retransmit = self.waits_for_data().then(|| now + self.rto());
        self.events.push_back(Event::Open);
    }
}
