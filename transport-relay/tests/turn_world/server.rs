//! A TURN server as RFC 8656 describes it, small enough to be believed, in virtual time. It notes what a client must
//! not do.

use bytes::Bytes;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use transport_relay::{
    stun::{Attribute, Class, IntegrityKey, MessageBuilder, Method, Scan, TransactionId},
    turn::{CHANNEL_NUMBERS, Frame, write_channel_data},
};

pub const REALM: &str = "example.org";
pub const PASSWORD: &str = "sesame";
const PERMISSION: Duration = Duration::from_secs(300);
const CHANNEL: Duration = Duration::from_secs(600);
const REST: Duration = Duration::from_secs(300);
const NONCE: u16 = 0x0015;
const REALM_KIND: u16 = 0x0014;

pub struct Server {
    allocations: BTreeMap<SocketAddr, Held>,
    next_port: u16,
    nonce: u32,
    /// It answers nothing.
    pub down: bool,
    /// What it says to who asks for an allocation.
    pub refuse: Option<u16>,
    /// What it says to who asks for a permission.
    pub refuse_permission: Option<u16>,
    pub lifetime_max: u32,
    /// Channels are padded, as in a stream.
    pub padded: bool,
    pub at_peers: Vec<(SocketAddr, SocketAddr, Vec<u8>)>,
    pub violations: Vec<String>,
}

struct Held {
    relayed: SocketAddr,
    username: String,
    expires: Instant,
    transaction: TransactionId,
    permissions: BTreeMap<IpAddr, Instant>,
    channels: BTreeMap<u16, (SocketAddr, Instant)>,
}

impl Server {
    pub fn new(padded: bool) -> Self {
        Self {
            allocations: BTreeMap::new(),
            next_port: 50_000,
            nonce: 1,
            down: false,
            refuse: None,
            refuse_permission: None,
            lifetime_max: 600,
            padded,
            at_peers: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Forgets everything; clients must learn a new nonce.
    pub fn restart(&mut self) {
        self.allocations.clear();
        self.nonce += 1;
    }

    pub fn stale(&mut self) {
        self.nonce += 1;
    }

    /// A connection ended, and its allocation with it.
    pub fn disconnected(&mut self, client: SocketAddr) {
        self.allocations.remove(&client);
    }

    /// Whose relayed address this is.
    pub fn holder(&mut self, relayed: SocketAddr, now: Instant) -> Option<SocketAddr> {
        self.expire(now);
        let mut all = self.allocations.iter();
        all.find(|(_, held)| held.relayed == relayed)
            .map(|(client, _)| *client)
    }

    pub fn count(&mut self, now: Instant) -> usize {
        self.expire(now);
        self.allocations.len()
    }

    fn expire(&mut self, now: Instant) {
        self.allocations.retain(|_, held| now < held.expires);
    }

    /// A peer sends to a relayed address; what goes to which client.
    pub fn pass_on(
        &mut self,
        peer: SocketAddr,
        relayed: SocketAddr,
        data: &[u8],
        now: Instant,
    ) -> Option<(SocketAddr, Bytes)> {
        let client = self.holder(relayed, now)?;
        let held = &self.allocations[&client];
        held.permissions
            .get(&peer.ip())
            .filter(|until| now < **until)?;
        let mut channels = held.channels.iter();
        let bound = channels.find(|(_, (address, until))| *address == peer && now < *until);
        if self.down {
            return None;
        }
        let bytes = match bound {
            Some((number, _)) => {
                let mut buffer = bytes::BytesMut::new();
                assert!(write_channel_data(&mut buffer, *number, data, self.padded));
                buffer.freeze()
            }
            None => MessageBuilder::new(Class::Indication, Method::DATA, TransactionId([1; 12]))
                .attribute(Attribute::XorPeerAddress(peer))
                .raw(0x0013, data)
                .finish(None, false)
                .unwrap(),
        };
        Some((client, bytes))
    }

    /// What a client said; the answer.
    pub fn handle(&mut self, client: SocketAddr, frame: Frame, now: Instant) -> Option<Bytes> {
        self.expire(now);
        if self.down {
            return None;
        }
        let message = match frame {
            Frame::Channel(number, data) => {
                let held = self.allocations.get(&client)?;
                if let Some((peer, _)) = held.channels.get(&number).filter(|c| now < c.1) {
                    self.at_peers.push((held.relayed, *peer, data.to_vec()));
                }
                return None;
            }
            Frame::Stun(message) => message,
        };
        let scan = Scan::new(&message).expect("a client writes messages");
        match scan.class() {
            Class::Request => Some(self.request(client, &scan, now)),
            Class::Indication => {
                self.indication(client, &scan, now);
                None
            }
            Class::Success | Class::Error => {
                self.violations.push("an answer to nothing".into());
                None
            }
        }
    }

    fn indication(&mut self, client: SocketAddr, scan: &Scan<'_>, now: Instant) {
        if scan.method() != Method::SEND {
            return;
        }
        let peer = scan
            .decode()
            .unwrap()
            .peer_address()
            .expect("an indication has a peer");
        if let Some(held) = self.allocations.get(&client)
            && held
                .permissions
                .get(&peer.ip())
                .is_some_and(|until| now < *until)
        {
            let data = scan.data().unwrap_or_default().to_vec();
            self.at_peers.push((held.relayed, peer, data));
        }
    }

    fn request(&mut self, client: SocketAddr, scan: &Scan<'_>, now: Instant) -> Bytes {
        let nonce = self.nonce.to_string();
        let text =
            |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
        let username = text(scan.username());
        let key = IntegrityKey::long_term(&username, REALM, PASSWORD);
        let challenge = |code, reason: &str| {
            MessageBuilder::new(Class::Error, scan.method(), scan.transaction())
                .attribute(Attribute::Error(code, reason.into()))
                .raw(REALM_KIND, REALM.as_bytes())
                .raw(NONCE, nonce.as_bytes())
                .finish(None, false)
                .unwrap()
        };
        if !scan.has_integrity() {
            return challenge(401, "Unauthorized");
        }
        if text(scan.realm()) != REALM {
            self.violations
                .push("another realm than it was told".into());
        }
        if text(scan.nonce()) != nonce {
            return challenge(438, "Stale Nonce");
        }
        if scan.verify_integrity(&key).is_err() {
            self.violations.push("a request that is not sealed".into());
            return challenge(401, "Unauthorized");
        }
        let attributes = match self.carry_out(client, &username, scan, now) {
            Ok(attributes) => attributes,
            Err(code) => {
                return MessageBuilder::new(Class::Error, scan.method(), scan.transaction())
                    .attribute(Attribute::Error(code, "no".into()))
                    .finish(Some(&key), false)
                    .unwrap();
            }
        };
        let mut answer = MessageBuilder::new(Class::Success, scan.method(), scan.transaction());
        for attribute in attributes {
            answer = answer.attribute(attribute);
        }
        answer.finish(Some(&key), false).unwrap()
    }

    fn carry_out(
        &mut self,
        client: SocketAddr,
        username: &str,
        scan: &Scan<'_>,
        now: Instant,
    ) -> Result<Vec<Attribute>, u16> {
        let message = scan.decode().unwrap();
        if let Some(held) = self.allocations.get(&client)
            && held.username != username
        {
            return Err(441);
        }
        if scan.method() == Method::ALLOCATE {
            return self.allocate(client, username, scan, now);
        }
        let lifetime_max = self.lifetime_max;
        let held = self.allocations.get_mut(&client).ok_or(437_u16)?;
        if scan.method() == Method::REFRESH {
            let lifetime = message.lifetime().unwrap_or(600).min(lifetime_max);
            held.expires = now + Duration::from_secs(lifetime.into());
            return Ok(vec![Attribute::Lifetime(lifetime)]);
        }
        if let Some(code) = self
            .refuse_permission
            .filter(|_| scan.method() == Method::CREATE_PERMISSION)
        {
            return Err(code);
        }
        let peer = message.peer_address().ok_or(400_u16)?;
        held.permissions.insert(peer.ip(), now + PERMISSION);
        if scan.method() == Method::CHANNEL_BIND {
            let number = message.channel_number().ok_or(400_u16)?;
            let clash = held
                .channels
                .iter()
                .any(|(n, (p, until))| now < *until + REST && (*n == number) != (*p == peer));
            if clash || !CHANNEL_NUMBERS.contains(&number) {
                self.violations
                    .push(format!("channel {number:#x} for {peer}"));
                return Err(400);
            }
            held.channels.insert(number, (peer, now + CHANNEL));
        }
        Ok(Vec::new())
    }

    fn allocate(
        &mut self,
        client: SocketAddr,
        username: &str,
        scan: &Scan<'_>,
        now: Instant,
    ) -> Result<Vec<Attribute>, u16> {
        if let Some(held) = self.allocations.get(&client)
            && held.transaction != scan.transaction()
        {
            return Err(437);
        }
        if let Some(code) = self.refuse {
            return Err(code);
        }
        let lifetime = scan
            .decode()
            .unwrap()
            .lifetime()
            .unwrap_or(600)
            .min(self.lifetime_max);
        let next_port = &mut self.next_port;
        let held = self.allocations.entry(client).or_insert_with(|| {
            *next_port += 1;
            Held {
                relayed: SocketAddr::new([192, 0, 2, 1].into(), *next_port),
                username: username.into(),
                expires: now + Duration::from_secs(lifetime.into()),
                transaction: scan.transaction(),
                permissions: BTreeMap::new(),
                channels: BTreeMap::new(),
            }
        });
        // Whoever asks once more is told what is left (RFC 8656 §7.2).
        let left = held.expires.saturating_duration_since(now).as_secs();
        Ok(vec![
            Attribute::XorRelayedAddress(held.relayed),
            Attribute::Lifetime(left as u32),
            Attribute::XorMappedAddress(client),
        ])
    }
}
