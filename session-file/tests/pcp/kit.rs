//! Two hands of `pcp`, and a place on a disk.

use bytes::Bytes;
use session_core::{Config, Element, Peer, SeededEntropy, SessionManager, StanzaError};
use session_file::{
    FILE_TRANSFER, Fault, File, FileClient, FileConfig, JINGLE_PUB, Proposal, TreeTotals,
    disk::Existing,
    pcp::{Hand, Inbox, Mode, View, Ways, client},
    tree_offer,
};
use session_xmpp::{
    Endpoint,
    cli::{Exit, Problem},
    endpoint::{Options, Router, Service},
    stanza::Request,
};
use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinHandle;
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    raw_udp::RawUdp,
};
use transport_relay::{
    ibb::Ibb,
    s5b::{S5b, S5bConfig},
};

/// Waits as long as a busy machine may take.
pub(crate) async fn long<R>(work: impl Future<Output = R>) -> R {
    tokio::time::timeout(Duration::from_secs(120), work)
        .await
        .expect("within two minutes")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    Ice,
    RawUdp,
    S5b,
    Ibb,
}

pub(crate) const ALL: [Via; 4] = [Via::Ice, Via::RawUdp, Via::S5b, Via::Ibb];

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) struct Side {
    pub(crate) hand: Hand,
    pub(crate) address: Peer,
}

/// Two ends at one router.
pub(crate) fn pair(via: Via, rate: Option<u64>) -> (Side, Side) {
    let router = Router::new();
    let side = |name| side(&router, name, via, rate, None);
    (side("alice"), side("bob"))
}

/// An end at a router, with what takes stanzas that are not for sessions.
pub(crate) fn side(
    router: &Router,
    name: &str,
    via: Via,
    rate: Option<u64>,
    service: Option<Box<dyn Service>>,
) -> Side {
    side_at(
        router,
        &format!("{name}@example.org/pcp"),
        via,
        rate,
        service,
    )
}

/// The same at this address.
pub(crate) fn side_at(
    router: &Router,
    address: &str,
    via: Via,
    rate: Option<u64>,
    service: Option<Box<dyn Service>>,
) -> Side {
    let ways = Ways::new(via != Via::Ice).unwrap();
    let client = client(&ways);
    side_with(router, address, via, (rate, service), (&ways, client))
}

/// Somebody else's client: its streams do not move, it hashes by itself, and ends a session when so long after all was delivered
/// nobody has.
pub(crate) fn stranger(router: &Router, name: &str, linger: Duration) -> Side {
    let ways = Ways::new(true).unwrap();
    let client = FileClient::new(FileConfig {
        layer: Some(ways.layer()),
        moves: false,
        linger,
        ..FileConfig::default()
    });
    let address = format!("{name}@example.org/other");
    side_with(router, &address, Via::RawUdp, (None, None), (&ways, client))
}

/// The same, with this client.
pub(crate) fn side_with(
    router: &Router,
    address: &str,
    via: Via,
    (rate, service): (Option<u64>, Option<Box<dyn Service>>),
    (ways, client): (&Ways, FileClient),
) -> Side {
    let address = Peer::from(address);
    static SEED: AtomicU64 = AtomicU64::new(0);
    let seed = SEED.fetch_add(1, Ordering::Relaxed) + (u64::from(std::process::id()) << 32);
    let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(seed));
    let ice = || IceTransportFactory::new(IceConfig::new(vec![HERE]));
    let added = match via {
        Via::Ice => manager
            .add_transport(ice())
            .and_then(|()| manager.add_transport(ways.data_channels(ice()))),
        Via::RawUdp => manager.add_transport(RawUdp::new((HERE, 0).into())),
        Via::S5b => manager.add_transport(S5b::new(S5bConfig {
            listen: vec![HERE],
            ..S5bConfig::default()
        })),
        Via::Ibb => manager.add_transport(Ibb::new()),
    };
    added.unwrap();
    manager.add_client(client).unwrap();
    let mut options = Options::default();
    options.service = service;
    let endpoint = Endpoint::spawn_with(manager, router.link(address.clone()), options);
    let view = Arc::new(View::with_mode(Mode::Quiet));
    Side {
        hand: Hand::new(endpoint, view, rate),
        address,
    }
}

/// What answers whoever asks whether it is there, beside a service.
pub(crate) fn pinged(other: Box<dyn Service>) -> Box<dyn Service> {
    struct Pinged(Box<dyn Service>);
    impl Service for Pinged {
        fn handle_request(
            &mut self,
            request: &Request,
            manager: &mut SessionManager,
            now: Instant,
        ) -> Option<Result<Option<Element>, StanzaError>> {
            match request.payload() {
                Some(payload) if payload.is("urn:xmpp:ping", "ping") => Some(Ok(None)),
                _ => self.0.handle_request(request, manager, now),
            }
        }
    }
    Box::new(Pinged(other))
}

/// A task that ends with whoever holds it.
pub(crate) struct Task<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(cx)
    }
}

pub(crate) fn inbox(path: &Path, existing: Existing) -> Inbox {
    Inbox::new(path, existing).unwrap()
}

impl Side {
    /// Takes so many transfers.
    pub(crate) fn receive(
        &self,
        into: &Path,
        existing: Existing,
        count: u64,
    ) -> Task<Result<Exit, Problem>> {
        let (hand, inbox) = (self.hand.clone(), inbox(into, existing));
        Task(tokio::spawn(
            async move { inbox.run(&hand, Some(count)).await },
        ))
    }
}

/// Offers a file under any name, and waits for what becomes of it.
pub(crate) async fn offer_raw(from: &Side, to: &Peer, name: &str) -> Result<(), Option<Fault>> {
    let local = from.address.clone();
    let file = File {
        name: Some(name.into()),
        size: Some(1),
        ..File::default()
    };
    let endpoint = from.hand.endpoint();
    let opened = endpoint.update(|manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        FileClient::open(manager, id, to.clone(), vec![Proposal::Offer(file)], now)
    });
    let id = opened.map_err(|_| None)?.remove(0);
    loop {
        let (over, open) = endpoint.update(|manager, _| {
            let client = manager.find_client::<FileClient>().unwrap();
            let transfer = client.transfer(&id).unwrap();
            let open = transfer.phase() == session_file::Phase::Open;
            (transfer.outcome().is_some(), open)
        });
        if open {
            endpoint
                .update(|manager, now| FileClient::release(manager, id.session, now))
                .unwrap();
            return Ok(());
        }
        if over {
            let fault = endpoint.update(|manager, now| {
                let client = manager.find_client::<FileClient>().unwrap();
                let fault = client.transfer(&id).unwrap().fault().cloned();
                FileClient::release(manager, id.session, now).unwrap();
                fault
            });
            return Err(fault);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Offers a tree of which it says that there is nothing in it, and sends these frames. Why it was refused; `None` when something
/// of it is wanted.
pub(crate) async fn offer_tree(from: &Side, to: &Peer, frames: Bytes) -> Option<Fault> {
    let local = from.address.clone();
    let file = tree_offer("tree", TreeTotals::default());
    let endpoint = from.hand.endpoint();
    let opened = endpoint.update(|manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        FileClient::open(manager, id, to.clone(), vec![Proposal::Offer(file)], now)
    });
    let id = opened.unwrap().remove(0);
    let mut frames = frames;
    loop {
        let (fault, open, answered) = endpoint.update(|manager, _| {
            let client = manager.find_client::<FileClient>().unwrap();
            let transfer = client.transfer(&id).unwrap();
            let open = transfer.phase() == session_file::Phase::Open;
            (transfer.fault().cloned(), open, transfer.readable() > 0)
        });
        if fault.is_some() || answered {
            endpoint
                .update(|manager, now| FileClient::release(manager, id.session, now))
                .unwrap();
            return fault;
        }
        if open && !frames.is_empty() {
            endpoint
                .update(|manager, now| FileClient::write(manager, &id, &mut frames, now))
                .unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Names with which somebody might try to get out of a folder, or confuse whoever looks at it.
pub(crate) fn tricks() -> Vec<String> {
    let mut names: Vec<String> = TRICKS.iter().copied().map(str::to_owned).collect();
    names.push("x".repeat(256));
    names.push("ü".repeat(128));
    names.push("x".repeat(4_000));
    names.push(format!("{}/a", "a/".repeat(100)));
    for device in ["com", "lpt"] {
        names.extend((0..10).map(|number| format!("{device}{number}.txt")));
    }
    names
}

#[rustfmt::skip]
const TRICKS: &[&str] = &[
        "",
        ".",
        "..",
        "/",
        "\\",
        "...",
        "....",
        ". ",
        " ",
        "\t",
        "\0",
        "a\0b",
        "\n",
        "a\nb",
        "\r",
        "\u{7f}",
        "\u{85}",
        "\u{1b}[2J",
        "a/",
        "a\\",
        "/a",
        "\\a",
        "./a",
        "../a",
        "..\\a",
        "a/..",
        "a/../b",
        "a/../../b",
        "../../../../../../etc/passwd",
        "/etc/passwd",
        "..\\..\\windows\\win.ini",
        "C:",
        "C:\\",
        "C:a",
        "c:/a",
        "\\\\host\\share",
        "//host/share",
        "\\\\?\\C:\\a",
        "\\\\.\\PhysicalDrive0",
        "file:stream",
        "a::$DATA",
        "a:b",
        "a*",
        "a?",
        "a\"",
        "a<",
        "a>",
        "a|",
        "*",
        "?",
        "a.",
        "a..",
        "a ",
        " a",
        "\u{a0}a",
        "a\u{3000}",
        "a\u{2028}b",
        "a\u{2029}b",
        "\u{202e}gpj.exe",
        "a\u{202a}b",
        "a\u{2066}b",
        "\u{feff}a",
        "a\u{200e}b",
        "a\u{200f}b",
        "a\u{61c}b",
        "con",
        "CON",
        "Con.txt",
        "prn",
        "aux",
        "aux.c",
        "nul",
        "NUL.tar.gz",
        "com1",
        "COM9.x",
        "com¹",
        "lpt1",
        "lpt3.a",
        "LPT²",
        "conin$",
        "CONOUT$",
        "nul .txt",
        "%2e%2e/a",
        "..%2f/a",
        "\u{0}..",
        "~/a",
        "-/../a",
        "a/./b",
        "a//b",
        "\u{1}",
        "\u{1f}a",
        ".pcp-x",
        ".pcp-0123456789abcdef0123.part",
        ".pcp-0123456789abcdef0123.journal",
];

/// So many bytes that do not repeat.
pub(crate) fn bytes(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// A folder that is there as long as the test.
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = format!("pcp-{}-{name}-{number}", std::process::id());
        let path = std::env::temp_dir().join(folder);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub(crate) fn exists(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) async fn appears(&self, name: &str) {
        long(async {
            while !self.exists(name) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Waits until nobody writes to what is not whole there.
    pub(crate) async fn settle(&self, folder: &str) {
        let folder = self.path(folder);
        long(async {
            // Threads see that nobody is there any more.
            tokio::time::sleep(Duration::from_millis(500)).await;
            loop {
                let busy = fs::read_dir(&folder).unwrap().any(|entry| {
                    let path = entry.unwrap().path();
                    path.extension().is_some_and(|kind| kind == "part")
                        && fs::File::open(&path).unwrap().try_lock().is_err()
                });
                if !busy {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Nothing is left that is not whole.
    pub(crate) fn assert_clean(&self, folder: &str) {
        let mut folders = vec![self.path(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                assert!(!name.starts_with(".pcp-"), "{path:?}");
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path);
                }
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What an account tells its contacts: items by their ids.
pub(crate) type Items = Arc<Mutex<BTreeMap<String, Element>>>;

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";

/// The node of an account, as far as this program uses one (XEP-0060). It is there as long as its endpoint.
pub(crate) fn node(router: &Router, account: &str) -> (Items, Endpoint) {
    struct Node(Items);
    impl Service for Node {
        fn handle_request(
            &mut self,
            request: &Request,
            _: &mut SessionManager,
            _: Instant,
        ) -> Option<Result<Option<Element>, StanzaError>> {
            let pubsub = request.payload().filter(|p| p.is(PUBSUB, "pubsub"))?;
            let mut items = self.0.lock().unwrap();
            let verb = pubsub.children().next()?;
            assert_eq!(verb.attribute("node"), Some(JINGLE_PUB));
            let item = verb.children().next();
            let id = item
                .and_then(|item| item.attribute("id"))
                .unwrap_or_default();
            match verb.name() {
                "publish" => drop(items.insert(id.to_owned(), item?.to_element())),
                "retract" => drop(items.remove(id)),
                _ => {
                    let list = Element::new(PUBSUB, "items").with("node", JINGLE_PUB);
                    let list = list.children_from(items.values().cloned());
                    return Some(Ok(Some(Element::new(PUBSUB, "pubsub").child(list))));
                }
            }
            Some(Ok(None))
        }
    }
    let items = Items::default();
    let mut options = Options::default();
    options.service = Some(Box::new(Node(items.clone())));
    let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
    (
        items,
        Endpoint::spawn_with(manager, router.link(account), options),
    )
}
