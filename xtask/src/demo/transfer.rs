//! The transfer itself: one side offers and writes, the other accepts and reads, and both hash.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use session_core::{
    Dialect, Misuse, Peer, Reason, ReasonCondition, SessionId, SessionManager, Slot, State,
};
use session_file::{
    Change, Completeness, Offer, Phase, Purpose, Read, TUNNEL, Tunnel, TunnelClient, TunnelError,
    sanitize_name,
};
use session_xmpp::endpoint::{Router, Tap};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Only;
use super::sides::{DATAGRAM, Side, broken};
use super::source::{Source, hex};
use super::stanza;
use super::view::View;
use crate::tools::Failure;

/// Pieces of the source that wait to be written.
const PIECES_WAITING: usize = 4;
/// Bytes that are taken from the stream in one go.
const READ_BYTES: usize = 1 << 20;
/// How long nothing may move before the demo gives up.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the bar moves.
const TICK: Duration = Duration::from_millis(100);
/// How long the two may take to say good-bye.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a transfer came to.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) sent: Sent,
    pub(super) received: Received,
}

/// What the sending side knows at the end.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) hash: String,
    pub(super) transport: String,
    /// Bytes of a full datagram.
    pub(super) datagram: usize,
    /// From the offer until both had accepted.
    pub(super) setup: Duration,
    /// When the first byte could be written.
    begun: Instant,
}

/// What the receiving side knows at the end.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: u64,
    pub(super) hash: String,
    pub(super) completeness: Completeness,
    /// When the last byte was hashed.
    ended: Instant,
}

impl Transfer {
    /// From the first byte written to the last byte hashed by the receiver.
    pub(super) fn time(&self) -> Duration {
        let Self { sent, received } = self;
        received.ended.saturating_duration_since(sent.begun)
    }

    /// One that took two seconds.
    #[cfg(test)]
    pub(super) fn example(sent: &str, bytes: u64, received: &str, arrived: u64) -> Self {
        let begun = Instant::now();
        Self {
            sent: Sent {
                name: "example".to_owned(),
                bytes,
                hash: sent.to_owned(),
                transport: "example".to_owned(),
                datagram: DATAGRAM,
                setup: Duration::ZERO,
                begun,
            },
            received: Received {
                bytes: arrived,
                hash: received.to_owned(),
                completeness: Completeness::Verified,
                ended: begun + Duration::from_secs(2),
            },
        }
    }
}

/// Runs the whole demo on the current runtime.
pub(super) async fn run(
    source: Source,
    dialect: &'static Dialect,
    only: Option<Only>,
    view: &Arc<View>,
) -> Result<Transfer, Failure> {
    let router = Router::new();
    let stanzas = tokio::spawn(show_stanzas(router.tap(), Arc::clone(view)));
    #[cfg(feature = "turn")]
    let relay = match only {
        Some(Only::Turn) => Some(super::relay::Relay::start().await?),
        _ => None,
    };
    #[cfg(feature = "turn")]
    let server = relay.as_ref().map(super::relay::Relay::turn_server);
    #[cfg(not(feature = "turn"))]
    let server = None;
    let alice = Side::new(
        "alice",
        &router,
        dialect,
        only,
        server.clone(),
        view.trace(),
    )?;
    let bob = Side::new("bob", &router, dialect, only, server, view.trace())?;
    let arrived = Arc::<AtomicU64>::default();
    view.expect(source.size());

    let offers = bob.client(|client| client.signal_offer().connect())?;
    let receiving = receive(bob.clone(), offers, Arc::clone(view), Arc::clone(&arrived));
    let receiving = Task(tokio::spawn(receiving));
    let sending = send(alice.clone(), bob.peer.clone(), source, Arc::clone(view));
    let sending = Task(tokio::spawn(sending));
    let transfer = both(sending, receiving, view, &arrived).await;

    let gone = || Reason::new(ReasonCondition::Gone);
    let (first, second) = tokio::join!(
        alice.endpoint.shutdown(gone(), FAREWELL),
        bob.endpoint.shutdown(gone(), FAREWELL)
    );
    drop((alice, bob, router));
    // It ends with the router.
    let _ = stanzas.await;
    #[cfg(feature = "turn")]
    if let Some(relay) = relay {
        relay.stop().await;
    }
    let transfer = transfer?;
    if first && second {
        Ok(transfer)
    } else {
        let why = "their last words were not confirmed in time";
        Err(broken("end the two sessions", &why))
    }
}

/// A task that ends when nobody waits for it any more.
struct Task<T>(JoinHandle<Result<T, Failure>>);

impl<T> Task<T> {
    async fn result(&mut self) -> Result<T, Failure> {
        match (&mut self.0).await {
            Ok(result) => result,
            Err(error) => Err(broken("run the transfer", &error)),
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits for both sides, as long as something moves.
async fn both(
    mut sending: Task<Sent>,
    mut receiving: Task<Received>,
    view: &View,
    arrived: &AtomicU64,
) -> Result<Transfer, Failure> {
    let (mut sent, mut received) = (None, None);
    let (mut last, mut moved) = (0, Instant::now());
    let mut ticks = tokio::time::interval(TICK);
    loop {
        (sent, received) = match (sent, received) {
            (Some(sent), Some(received)) => return Ok(Transfer { sent, received }),
            not_yet => not_yet,
        };
        tokio::select! {
            result = sending.result(), if sent.is_none() => sent = Some(result?),
            result = receiving.result(), if received.is_none() => {
                received = Some(result?);
                view.landed();
            }
            _ = ticks.tick() => {
                let (count, now) = (arrived.load(Ordering::Relaxed), Instant::now());
                view.arrived(count);
                if count != last {
                    (last, moved) = (count, now);
                } else if now.saturating_duration_since(moved) > PATIENCE {
                    let seconds = PATIENCE.as_secs();
                    return Err(Failure::new(
                        "transfer the file",
                        format!("nothing has arrived for {seconds} s, after {count} bytes"),
                        "does a firewall stop UDP on 127.0.0.1? --trace FILE keeps what was said",
                    ));
                }
            }
        }
    }
}

/// Alice's part.
async fn send(alice: Side, to: Peer, source: Source, view: Arc<View>) -> Result<Sent, Failure> {
    let offered = Instant::now();
    let name = source.name().to_owned();
    let tunnel = Tunnel::receive(&name).map_err(|error| broken("describe the file", &error))?;
    let (id, states) = alice
        .endpoint
        .update(|manager, now| {
            let id = manager.create_session(alice.peer.clone(), TUNNEL, now)?;
            let states = listen(manager, id)?;
            TunnelClient::open(manager, id, to, &tunnel, now)?;
            Ok((id, states))
        })
        .map_err(|error: TunnelError| broken("offer the file", &error))?;
    alice.follow(id, states, &view);
    alice.tell_offer(id, &view);
    let mut changes = changes(&alice, id)?;
    while phase(&alice, id)? == Phase::Waiting {
        changes.next().await;
    }
    let begun = Instant::now();
    let setup = begun.saturating_duration_since(offered);
    let transport = alice.transport(id).unwrap_or_default();

    let (pieces, mut waiting) = mpsc::channel(PIECES_WAITING);
    let reading = tokio::task::spawn_blocking(move || source.read_all(&pieces));
    let mut bytes = 0;
    while let Some(piece) = waiting.recv().await {
        bytes += piece.len() as u64;
        write(&alice, id, piece, &mut changes).await?;
    }
    let hash = reading
        .await
        .map_err(|error| broken("read the file", &error))?;
    let hash = hash.map_err(|error| {
        let hint = "is the file still there, and its disk well?";
        Failure::new("read the file", error.to_string(), hint)
    })?;
    let finished = alice
        .endpoint
        .update(|manager, now| TunnelClient::finish(manager, id, now));
    finished.map_err(|error| failed("end the stream", &error))?;
    alice.tell_path(id, &view);
    while phase(&alice, id)? != Phase::Ended {
        changes.next().await;
    }
    check_end(&alice, id)?;
    Ok(Sent {
        name,
        bytes,
        hash,
        transport,
        datagram: DATAGRAM,
        setup,
        begun,
    })
}

/// Writes all of it, waiting for room.
async fn write(
    side: &Side,
    id: SessionId,
    mut piece: Bytes,
    changes: &mut Slot<Change>,
) -> Result<(), Failure> {
    loop {
        let written = side
            .endpoint
            .update(|manager, now| TunnelClient::write(manager, id, &mut piece, now));
        written.map_err(|error| failed("send the file", &error))?;
        if piece.is_empty() {
            return Ok(());
        }
        changes.next().await;
    }
}

/// Whether the receiver had everything when the session ended.
fn check_end(side: &Side, id: SessionId) -> Result<(), Failure> {
    let (delivered, cause) = side.client(|client| {
        let stream = client.stream(id);
        let cause = stream.and_then(|s| s.cause().map(ToString::to_string));
        (stream.is_some_and(|s| s.is_delivered()), cause)
    })?;
    if delivered {
        Ok(())
    } else {
        let cause = cause.unwrap_or_else(|| "it ended".to_owned());
        Err(failed("deliver the file", &cause))
    }
}

/// Bob's part.
async fn receive(
    bob: Side,
    mut offers: Slot<Offer>,
    view: Arc<View>,
    arrived: Arc<AtomicU64>,
) -> Result<Received, Failure> {
    let offer = loop {
        if let Some(offer) = bob.client(|client| client.offers().next())? {
            break offer;
        }
        offers.next().await;
    };
    let id = offer.session;
    let Purpose::Receive(name) = offer.tunnel.purpose() else {
        return Err(broken("understand the offer", &offer.tunnel));
    };
    let name = sanitize_name(name).map_err(|error| broken("take the name of the file", &error))?;
    view.fact(bob.name, "accepts", format!("{name} from {}", offer.from));
    let states = bob
        .endpoint
        .update(|manager, now| accept(manager, id, now))
        .map_err(|error| broken("accept the offer", &error))?;
    bob.follow(id, states, &view);

    let mut changes = changes(&bob, id)?;
    let mut hasher = Sha256::new();
    let mut bytes = 0;
    loop {
        let (pieces, then) = bob
            .endpoint
            .update(|manager, now| read(manager, id, now))
            .map_err(|error| failed("receive the file", &error))?;
        if bytes == 0 && !pieces.is_empty() {
            bob.tell_path(id, &view);
        }
        for piece in pieces {
            hasher.update(&piece);
            bytes += piece.len() as u64;
        }
        arrived.store(bytes, Ordering::Relaxed);
        match then {
            Read::Bytes(_) => {}
            Read::Pending => {
                changes.next().await;
            }
            Read::Broken(cause) => return Err(failed("receive the file", &cause)),
            Read::End(completeness) => {
                return Ok(Received {
                    bytes,
                    hash: hex(&hasher.finalize()),
                    completeness,
                    ended: Instant::now(),
                });
            }
        }
    }
}

fn accept(
    manager: &mut SessionManager,
    id: SessionId,
    now: Instant,
) -> Result<(State, Slot<State>), TunnelError> {
    let states = listen(manager, id)?;
    TunnelClient::accept(manager, id, now)?;
    Ok(states)
}

/// The state that a session is in, and what will become of it.
fn listen(manager: &SessionManager, id: SessionId) -> Result<(State, Slot<State>), TunnelError> {
    let session = manager.peek(id).ok_or(Misuse::NoSuchSession(id))?;
    let mut states = session.signal_state().connect();
    // The first notice says where things stand, which may be far ahead when somebody gets round to asking.
    states.try_next();
    Ok((session.state(), states))
}

/// What there is, up to [`READ_BYTES`], and what comes after it: more bytes mean that there may be more.
fn read(
    manager: &mut SessionManager,
    id: SessionId,
    now: Instant,
) -> Result<(Vec<Bytes>, Read), TunnelError> {
    let (mut pieces, mut size) = (Vec::new(), 0);
    loop {
        match TunnelClient::read(manager, id, READ_BYTES, now)? {
            Read::Bytes(piece) if size + piece.len() < READ_BYTES => {
                size += piece.len();
                pieces.push(piece);
            }
            Read::Bytes(piece) => {
                pieces.push(piece);
                return Ok((pieces, Read::Bytes(Bytes::new())));
            }
            end @ (Read::Pending | Read::End(_) | Read::Broken(_)) => return Ok((pieces, end)),
        }
    }
}

fn changes(side: &Side, id: SessionId) -> Result<Slot<Change>, Failure> {
    let slot = side.client(|client| client.stream(id).map(|s| s.signal().connect()))?;
    slot.ok_or_else(|| broken("follow the stream", &"it is gone"))
}

fn phase(side: &Side, id: SessionId) -> Result<Phase, Failure> {
    side.client(|client| client.stream(id).map_or(Phase::Ended, |s| s.phase()))
}

fn failed(what: &str, why: &dyn Display) -> Failure {
    Failure::new(
        what,
        why.to_string(),
        "is something on this machine in the way of UDP on 127.0.0.1? --trace FILE keeps what was said",
    )
}

async fn show_stanzas(mut tap: Tap, view: Arc<View>) {
    let mut blocks = stanza::Blocks::default();
    while let Some(passed) = tap.next().await {
        let (from, to) = (name(&passed.from), name(&passed.to));
        if let Some(what) = stanza::describe(&passed.stanza, &passed.to, &mut blocks) {
            view.stanza(from, to, &what);
        }
    }
    if blocks.hidden() > 0 {
        view.fact(
            "router",
            "passed",
            format!("{} blocks more", blocks.hidden()),
        );
    }
}

/// The name in an address.
fn name(peer: &Peer) -> &str {
    peer.account().split('@').next().unwrap_or_default()
}
