//! Two components with an endpoint each, in two processes, and what each of them holds.

use super::{
    ECHO,
    server::{OTHERS, OURS, Prosody, SECRET},
};
use crate::core::{Client, TYPE};
use bytes::Bytes;
use session_core::{
    ChannelId, Config, Element, Limits, Reason, ReasonCondition, Session, SessionClient,
    SessionManager, State,
};
use session_xmpp::{
    client::{Component, ComponentLink, ComponentOptions, Password},
    endpoint::{Endpoint, Link, LinkError, LinkEvent},
};
use std::{
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    sync::Notify,
    time::{sleep, timeout},
};
use transport_p2p::ice::{IceConfig, IceTransportFactory};
use transport_relay::ibb::Ibb;

const PORT: &str = "BENCH_XMPP_PORT";
const TRANSPORT: &str = "BENCH_XMPP_TRANSPORT";
/// How long the next session may take before the run counts as stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// Which transport the sessions have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    InBand,
    Ice,
}

/// Our end: a runtime on this thread alone, so that the thread's allocations are what it holds.
pub(super) struct Side {
    runtime: Runtime,
    caller: Caller,
    held: i64,
}

/// Begins sessions.
pub(super) struct Caller {
    endpoint: Endpoint,
    counts: Arc<Counts>,
    begun: u64,
}

#[derive(Default)]
struct Counts {
    /// Sessions whose channel has a path.
    met: AtomicU64,
    gone: AtomicU64,
    /// Whether sessions that have met stay.
    keep: AtomicBool,
    stanzas: AtomicU64,
    bell: Notify,
}

impl Side {
    pub(super) fn start(server: &Prosody, over: Over) -> Self {
        crate::measure::allow_sockets();
        let counts = Arc::<Counts>::default();
        let caller = Host(counts.clone());
        let mut side = None;
        let info = allocation_counter::measure(|| {
            let runtime = runtime();
            let endpoint = endpoint(&runtime, OURS, server.port, over, caller, &counts);
            side = Some((runtime, endpoint));
        });
        let (runtime, endpoint) = side.expect("it was just made");
        let caller = Caller {
            endpoint,
            counts,
            begun: 0,
        };
        Self {
            runtime,
            caller,
            held: info.bytes_current,
        }
    }

    /// Lets the caller do something; what came of it.
    pub(super) fn run(&mut self, what: impl AsyncFnOnce(&mut Caller) -> u64) -> u64 {
        let mut result = 0;
        let info = allocation_counter::measure(|| {
            result = self.runtime.block_on(what(&mut self.caller));
        });
        self.held += info.bytes_current;
        result
    }

    /// Does nothing but what the sessions do by themselves.
    pub(super) fn rest(&mut self, time: Duration) {
        self.run(async |_| {
            sleep(time).await;
            0
        });
    }

    /// Bytes of the heap that all of it holds.
    pub(super) fn heap(&self) -> i64 {
        self.held
    }

    pub(super) fn sessions(&self) -> u64 {
        let endpoint = &self.caller.endpoint;
        endpoint.update(|manager, _| manager.session_count()) as u64
    }

    /// Stanzas that went in or out.
    pub(super) fn stanzas(&self) -> u64 {
        self.caller.counts.stanzas.load(Relaxed)
    }
}

impl Caller {
    /// So many sessions, which stay. How many have a path.
    pub(super) async fn keep(&mut self, count: u64, window: u64) -> u64 {
        self.counts.keep.store(true, Relaxed);
        let (first, met) = (self.begun, self.counts.met.load(Relaxed));
        while self.counts.met.load(Relaxed) - met < count {
            let under_way = self.begun - first - (self.counts.met.load(Relaxed) - met);
            let room = (window - under_way).min(count - (self.begun - first));
            (0..room).for_each(|_| self.call());
            self.progress().await;
        }
        self.counts.met.load(Relaxed) - met
    }

    /// Sessions that end as soon as they have a path, for so long. How many.
    pub(super) async fn come_and_go(&mut self, time: Duration, window: u64) -> u64 {
        self.counts.keep.store(false, Relaxed);
        let (started, before) = (Instant::now(), self.counts.gone.load(Relaxed));
        loop {
            let over = started.elapsed() >= time;
            let under_way = self.begun - self.counts.gone.load(Relaxed);
            if over && under_way == 0 {
                break;
            }
            if !over {
                (under_way..window).for_each(|_| self.call());
            }
            self.progress().await;
        }
        let met = self.counts.met.load(Relaxed);
        assert_eq!(met, self.begun, "each of them had a path");
        self.counts.gone.load(Relaxed) - before
    }

    fn call(&mut self) {
        let number = self.begun;
        self.begun += 1;
        self.endpoint.update(|manager, now| {
            let from = format!("user{number}@{OURS}/1");
            let id = manager
                .create_session(from.into(), TYPE, now)
                .expect("room");
            let session = manager.session(id).expect("just created");
            let to = format!("user{number}@{OTHERS}/1");
            let offer = Element::new(TYPE, "description");
            session
                .initiate_with(to.into(), Vec::new(), offer, now)
                .expect("new");
        });
    }

    async fn progress(&self) {
        let next = timeout(PATIENCE, self.counts.bell.notified()).await;
        next.expect("sessions make progress");
    }
}

/// The other process.
pub(super) struct Other {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Other {
    pub(super) fn start(server: &Prosody, over: Over) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut child = Command::new(program)
            .arg(ECHO)
            .env(PORT, server.port.to_string())
            .env(TRANSPORT, if over == Over::Ice { "ice" } else { "in-band" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let input = child.stdin.take().expect("it was asked for");
        let output = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut other = Self {
            child,
            input,
            output,
        };
        // It answers when its component stands.
        other.heap();
        other
    }

    /// Bytes of the heap that it holds.
    pub(super) fn heap(&mut self) -> i64 {
        self.input.write_all(b"?\n").expect("it runs");
        let mut line = String::new();
        self.output.read_line(&mut line).expect("it runs");
        line.trim().parse().expect("it answers with a number")
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts all sessions, and says what it holds when it is asked.
pub(super) fn echo(_: &str) {
    let Some(port) = std::env::var(PORT).ok().and_then(|port| port.parse().ok()) else {
        return;
    };
    let over = match std::env::var(TRANSPORT).as_deref() {
        Ok("ice") => Over::Ice,
        _ => Over::InBand,
    };
    crate::measure::allow_sockets();
    let mut side = None;
    let mut held = allocation_counter::measure(|| {
        let (runtime, counts) = (runtime(), Arc::default());
        let endpoint = endpoint(&runtime, OTHERS, port, over, Client, &counts);
        side = Some((runtime, endpoint));
    })
    .bytes_current;
    let (runtime, _endpoint) = side.expect("it was just made");
    let (asked, mut questions) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_err() || asked.blocking_send(()).is_err() {
                return;
            }
        }
    });
    loop {
        let mut more = None;
        let info = allocation_counter::measure(|| more = runtime.block_on(questions.recv()));
        if more.is_none() {
            return;
        }
        held += info.bytes_current;
        println!("{held}");
    }
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime")
}

/// An endpoint behind a component that stands.
fn endpoint(
    runtime: &Runtime,
    domain: &str,
    port: u16,
    over: Over,
    client: impl SessionClient,
    counts: &Arc<Counts>,
) -> Endpoint {
    let limits = Limits {
        sessions_per_account: usize::MAX,
        ..Limits::default()
    };
    let config = Config {
        limits,
        ..Config::default()
    };
    let mut manager = SessionManager::new(config, entropy);
    let added = match over {
        Over::InBand => manager.add_transport(Ibb::new()),
        Over::Ice => {
            let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
            manager.add_transport(IceTransportFactory::new(IceConfig::new(vec![address])))
        }
    };
    added
        .and_then(|()| manager.add_client(client))
        .expect("the only ones");
    runtime.block_on(async {
        let secret = Password::new(SECRET);
        let options = ComponentOptions::new(domain, secret, "127.0.0.1", port);
        let (component, link) = Component::start(options);
        let link = Counting(link, counts.clone());
        let endpoint = Endpoint::spawn(manager, link);
        component.online().await.expect("the server takes it");
        endpoint
    })
}

fn entropy(buffer: &mut [u8]) {
    for chunk in buffer.chunks_mut(8) {
        let bytes = RandomState::new().hash_one(chunk.len()).to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}

/// The client of the side that calls.
struct Host(Arc<Counts>);

impl SessionClient for Host {
    fn namespace(&self) -> &str {
        Client.namespace()
    }

    fn on_session_create(&mut self, session: &mut Session, is_ours: bool, now: Instant) {
        Client.on_session_create(session, is_ours, now);
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        Client.on_state(session, state, now);
    }

    fn on_writable(&mut self, session: &mut Session, _: ChannelId, writable: bool, now: Instant) {
        if !writable || session.state() != State::InProgress {
            return;
        }
        self.0.met.fetch_add(1, Relaxed);
        if !self.0.keep.load(Relaxed) {
            let reason = Reason::new(ReasonCondition::Success);
            session.terminate(reason, now).expect("alive");
        }
        self.0.bell.notify_one();
    }

    fn on_session_destroy(&mut self, _: &mut Session, _: Instant) {
        self.0.gone.fetch_add(1, Relaxed);
        self.0.bell.notify_one();
    }
}

/// Counts what goes over a link.
struct Counting(ComponentLink, Arc<Counts>);

impl Link for Counting {
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        self.1.stanzas.fetch_add(1, Relaxed);
        self.0.send(stanza)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        let event = self.0.poll_event(cx);
        if matches!(event, Poll::Ready(Some(LinkEvent::Stanza(_)))) {
            self.1.stanzas.fetch_add(1, Relaxed);
        }
        event
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_close(cx)
    }
}
