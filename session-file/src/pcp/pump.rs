//! Between a transfer and the threads that read and write.

use super::{failing::misuse, limit::Limit};
use crate::{
    Change, Direction, Fault, FileClient, FileError, Hasher, Integrity, Outcome, Phase, Read,
    Transfer, TransferId,
};
use bytes::Bytes;
use session_core::{Reason, SessionManager, Slot};
use session_xmpp::{Endpoint, cli::Problem};
use std::time::Instant;
use tokio::sync::mpsc::{Receiver, Sender};

/// Most bytes that are taken from a transfer at once.
const READ_BYTES: usize = 256 * 1024;

/// Batches that wait for a thread.
pub(super) const BATCHES: usize = 4;

/// One transfer, as its two ends are pumped.
pub(super) struct Line {
    endpoint: Endpoint,
    id: TransferId,
    changes: Slot<Change>,
}

/// Why bytes do not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The transfer is over.
    Over(Fault),
    /// The threads want no more, and know why.
    Done,
}

/// What there is to take from a transfer.
enum Taken {
    Pieces(Vec<Bytes>),
    Wait,
    /// Every byte was taken.
    All,
    Over(Fault),
}

impl Line {
    pub(super) fn new(endpoint: &Endpoint, id: &TransferId) -> Result<Self, Problem> {
        let changes = endpoint.update(|manager, _| {
            let client = manager.find_client::<FileClient>()?;
            Some(client.transfer(id)?.signal().connect())
        });
        let unknown = || misuse("follow a transfer", &FileError::Unknown(id.clone()));
        Ok(Self {
            endpoint: endpoint.clone(),
            id: id.clone(),
            changes: changes.ok_or_else(unknown)?,
        })
    }

    /// The same transfer, to be followed by somebody else.
    pub(super) fn again(&self) -> Result<Self, Problem> {
        Self::new(&self.endpoint, &self.id)
    }

    pub(super) fn look<R>(&self, f: impl FnOnce(&Transfer) -> R) -> Option<R> {
        self.endpoint.update(|manager, _| {
            let client = manager.find_client::<FileClient>()?;
            client.transfer(&self.id).map(f)
        })
    }

    fn act<R>(&self, f: impl FnOnce(&mut SessionManager, &TransferId, Instant) -> R) -> R {
        self.endpoint
            .update(|manager, now| f(manager, &self.id, now))
    }

    /// Waits until something has changed.
    async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            // It was released, which ends what waits by its next look.
            tokio::task::yield_now().await;
        }
    }

    /// Waits for something that a transfer comes to.
    async fn wait<R>(&mut self, mut f: impl FnMut(&Transfer) -> Option<R>) -> Result<R, Fault> {
        self.wait_among(|transfer, _| f(transfer)).await
    }

    /// The same, where it matters whether there are others in its session that are not over: they may come and go.
    async fn wait_among<R>(
        &mut self,
        mut f: impl FnMut(&Transfer, bool) -> Option<R>,
    ) -> Result<R, Fault> {
        loop {
            let looked = self.endpoint.update(|manager, _| {
                let client = manager.find_client::<FileClient>()?;
                let lives = |transfer: &&Transfer| transfer.outcome().is_none();
                let several = client.transfers(self.id.session).filter(lives).count() > 1;
                client
                    .transfer(&self.id)
                    .map(|transfer| f(transfer, several))
            });
            match looked {
                Some(Some(found)) => return Ok(found),
                Some(None) => {}
                None => return Err(gone()),
            }
            if let Some(fault) = self.fault() {
                return Err(fault);
            }
            self.changed().await;
        }
    }

    fn fault(&self) -> Option<Fault> {
        self.look(|transfer| transfer.fault().cloned()).flatten()
    }

    /// Waits until both sides have agreed. Where in the file to begin.
    pub(super) async fn opened(&mut self) -> Result<u64, Fault> {
        self.wait(|transfer| {
            // Its sender may have ended the session with all of it here.
            let is_here = matches!(transfer.outcome(), Some(Outcome::Received(_)));
            let is_open = transfer.phase() == Phase::Open || is_here;
            is_open.then(|| transfer.offset())
        })
        .await
    }

    /// Writes what a thread gives, until it gives no more.
    pub(super) async fn write_all(
        &mut self,
        pieces: &mut Receiver<Bytes>,
        limit: &Limit,
    ) -> Result<(), Fault> {
        while let Some(mut piece) = self.held_back(pieces.recv()).await? {
            while !piece.is_empty() {
                let part = piece.split_to(limit.part(piece.len()));
                self.held_back(limit.take(part.len())).await?;
                self.write(part).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, mut part: Bytes) -> Result<(), Fault> {
        while !part.is_empty() {
            let written =
                self.act(|manager, id, now| FileClient::write(manager, id, &mut part, now));
            match written {
                Ok(_) if part.is_empty() => {}
                Ok(_) => self.changed().await,
                Err(_) => return Err(self.fault().unwrap_or_else(gone)),
            }
        }
        Ok(())
    }

    /// Waits as long as that takes, unless the transfer is over before.
    async fn held_back<R>(&mut self, wait: impl Future<Output = R>) -> Result<R, Fault> {
        tokio::pin!(wait);
        loop {
            tokio::select! {
                biased;
                done = &mut wait => return Ok(done),
                () = self.changed() => match self.look(|transfer| transfer.fault().cloned()) {
                    Some(None) => {}
                    Some(Some(fault)) => return Err(fault),
                    None => return Err(gone()),
                }
            }
        }
    }

    /// Gives a thread what arrives, until every byte has.
    pub(super) async fn read_all(&mut self, pieces: &Sender<Vec<Bytes>>) -> Result<(), Stop> {
        loop {
            match self.take() {
                Taken::Pieces(some) => {
                    if pieces.send(some).await.is_err() {
                        return Err(Stop::Done);
                    }
                }
                Taken::Wait => {
                    tokio::select! {
                        () = self.changed() => {}
                        () = pieces.closed() => return Err(Stop::Done),
                    }
                }
                Taken::All => return Ok(()),
                Taken::Over(fault) => return Err(Stop::Over(fault)),
            }
        }
    }

    fn take(&self) -> Taken {
        self.act(|manager, id, now| {
            let mut pieces = Vec::new();
            let mut left = READ_BYTES;
            while left > 0 && readable(manager, id) {
                match FileClient::read(manager, id, left, now) {
                    Ok(Read::Bytes(bytes)) => {
                        left = left.saturating_sub(bytes.len());
                        pieces.push(bytes);
                    }
                    Ok(Read::Pending | Read::End(_) | Read::Broken(_)) | Err(_) => break,
                }
            }
            if !pieces.is_empty() {
                return Taken::Pieces(pieces);
            }
            let client = manager.find_client::<FileClient>();
            let Some(transfer) = client.as_ref().and_then(|client| client.transfer(id)) else {
                return Taken::Over(gone());
            };
            match transfer.outcome() {
                Some(Outcome::Failed(fault)) => Taken::Over(fault.clone()),
                _ if transfer.is_tree() && transfer.direction() == Direction::Send => Taken::Wait,
                _ if transfer.is_complete() => Taken::All,
                Some(Outcome::Received(_) | Outcome::Sent { .. }) => Taken::All,
                None => Taken::Wait,
            }
        })
    }

    /// Carries bytes both ways, until the thread that gives them has ended, or the transfer has.
    pub(super) async fn exchange(
        &mut self,
        mut from: Receiver<Bytes>,
        to: Sender<Vec<Bytes>>,
        limit: &Limit,
    ) -> Result<Option<Fault>, Problem> {
        let mut other = self.again()?;
        let reading = async move {
            let stop = other.read_all(&to).await;
            match stop {
                // The end of the stream may come before the thread has said its last word.
                Ok(()) | Err(Stop::Done) => None,
                Err(Stop::Over(fault)) => Some(fault),
            }
        };
        let writing = self.write_all(&mut from, limit);
        tokio::pin!(reading, writing);
        tokio::select! {
            biased;
            // What has arrived before the end goes on.
            fault = &mut reading => match fault {
                Some(fault) => Ok(Some(fault)),
                None => Ok(writing.await.err()),
            },
            written = &mut writing => Ok(written.err()),
        }
    }

    /// Shows what was hashed.
    pub(super) fn show(&self, hasher: &Hasher) -> Result<(), Fault> {
        let shown = self.act(|manager, id, now| FileClient::show(manager, id, hasher, now));
        shown.map_err(|_| self.fault().unwrap_or_else(gone))
    }

    /// Shows what is in front of what is sent.
    pub(super) fn prime(&self, prefix: Hasher) -> Result<(), Fault> {
        let primed = self.act(|manager, id, now| FileClient::prime(manager, id, prefix, now));
        match self.fault() {
            Some(fault) => Err(fault),
            None => primed.map_err(|_| gone()),
        }
    }

    /// Nothing more follows.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        let finished = self.act(FileClient::finish);
        finished.map_err(|_| self.fault().unwrap_or_else(gone))
    }

    /// Waits for what the hash says.
    pub(super) async fn judged(&mut self) -> Result<Integrity, Fault> {
        self.wait(Transfer::integrity).await
    }

    /// Says that the file is kept.
    pub(super) fn acknowledge(&self) {
        // Its end is read once; when the session is over by now, nobody needs to hear of it.
        let _ = self.act(|manager, id, now| FileClient::read(manager, id, 1, now));
    }

    /// Takes it out of its session.
    pub(super) fn cancel(&self, reason: Reason) {
        // What is over needs no end.
        let _ = self.act(|manager, id, now| FileClient::cancel(manager, id, reason, now));
    }

    /// Waits until it is over, or until everything is to be given again: then it is `None`. Of several files in a session one
    /// is over when the other side says that it has it.
    pub(super) async fn over(&mut self) -> Result<Option<Outcome>, Fault> {
        self.wait_among(|transfer, several| {
            let confirmed =
                (several && transfer.is_confirmed()).then_some(Outcome::Sent { confirmed: true });
            let outcome = transfer.outcome().cloned().or(confirmed);
            let outcome = outcome.filter(|outcome| !matches!(outcome, Outcome::Failed(_)));
            (outcome.is_some() || transfer.is_rewound()).then_some(outcome)
        })
        .await
    }

    /// Begins anew, if everything is to be given again. Whether it is.
    pub(super) fn begin_again(&self) -> bool {
        let is_rewound = self.look(Transfer::is_rewound) == Some(true);
        is_rewound && self.act(FileClient::begin_again).is_ok()
    }

    /// What carries it, for people.
    pub(super) fn path(&self) -> String {
        let path = self.endpoint.update(|manager, _| {
            let client = manager.find_client::<FileClient>()?;
            let channel = client.transfer(&self.id)?.channel()?;
            let session = manager.peek(self.id.session)?;
            let path = session.describe_channel(channel);
            path.or_else(|| session.transport().map(str::to_owned))
        });
        path.unwrap_or_default()
    }

    /// What protects it, for people.
    pub(super) fn protection(&self) -> String {
        let told = self.look(|t| {
            let progress = t.progress();
            let moved = progress.sent + progress.received;
            (t.secured().cloned(), t.is_encrypted(), moved)
        });
        let (secured, within, moved) = told.unwrap_or_default();
        let carrier = secured.map(|secured| match &secured.peer_fingerprint {
            Some(peer) => format!("{}, their key {peer}", secured.protocol),
            None => secured.protocol.to_string(),
        });
        match (within.then(|| WITHIN.to_owned()), carrier) {
            (None, None) if moved == 0 => "no byte was sent".to_owned(),
            (None, None) => "not encrypted".to_owned(),
            (Some(within), Some(carrier)) => format!("encrypted: {within}, over {carrier}"),
            (Some(one), None) | (None, Some(one)) => format!("encrypted: {one}"),
        }
    }

    pub(super) fn id(&self) -> &TransferId {
        &self.id
    }
}

/// Encryption of the stream's own (XEP-0391), for people.
const WITHIN: &str = "by itself (JET)";

fn readable(manager: &mut SessionManager, id: &TransferId) -> bool {
    let client = manager.find_client::<FileClient>();
    client
        .and_then(|client| client.transfer(id).map(Transfer::readable))
        .is_some_and(|bytes| bytes > 0)
}

fn gone() -> Fault {
    Fault::Aborted(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decision, FILE_TRANSFER, File, FileConfig, Proposal};
    use session_core::{Config, Peer, SeededEntropy};
    use session_xmpp::endpoint::{Options, Router};
    use std::time::Duration;
    use tokio::time::{sleep, timeout};
    use transport_relay::ibb::Ibb;

    const LONG: Duration = Duration::from_secs(20);

    fn end(router: &Router, address: &str, seed: u64) -> Endpoint {
        let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(seed));
        manager.add_transport(Ibb::new()).unwrap();
        let client = FileClient::new(FileConfig::default());
        manager.add_client(client).unwrap();
        Endpoint::spawn_with(manager, router.link(address), Options::default())
    }

    fn ask(name: &str) -> Proposal {
        let file = File {
            name: Some(name.into()),
            ..File::default()
        };
        Proposal::Request(file, None)
    }

    /// Waits until there is something.
    async fn until<R>(end: &Endpoint, mut f: impl FnMut(&mut SessionManager) -> Option<R>) -> R {
        let found = async {
            loop {
                match end.update(|manager, _| f(manager)) {
                    Some(found) => return found,
                    None => sleep(Duration::from_millis(2)).await,
                }
            }
        };
        timeout(LONG, found).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_that_arrived_is_over_also_when_another_was_asked_for_meanwhile() {
        let router = Router::new();
        let (here, there) = ("bob@example.org/b", "alice@example.org/a");
        let (bob, alice) = (end(&router, here, 1), end(&router, there, 2));
        let asked = alice.update(|manager, now| {
            let local = Peer::from(there);
            let session = manager.create_session(local, FILE_TRANSFER, now).unwrap();
            FileClient::open(manager, session, here.into(), vec![ask("a")], now).unwrap()
        });
        let offer = until(&bob, |manager| {
            manager.find_client::<FileClient>()?.offers().next()
        });
        let (session, content) = {
            let offer = offer.await;
            (offer.session, offer.files[0].content.clone())
        };
        bob.update(|manager, now| {
            let given = vec![(content.clone(), Decision::Provide(File::new("a", 5)))];
            FileClient::answer(manager, session, given, now).unwrap();
        });
        let mut line = Line::new(&bob, &TransferId { session, content }).unwrap();
        timeout(LONG, line.opened()).await.unwrap().unwrap();
        line.write(Bytes::from_static(b"bytes")).await.unwrap();
        let over = tokio::spawn(async move { line.over().await });
        until(&alice, |manager| readable(manager, &asked[0]).then_some(())).await;
        // She asks for another one, and says then that she has the first.
        alice.update(|manager, now| {
            FileClient::add(manager, asked[0].session, ask("b"), now).unwrap();
        });
        until(&bob, |manager| {
            let client = manager.find_client::<FileClient>()?;
            (client.transfers(session).count() > 1).then_some(())
        })
        .await;
        let ends = async {
            loop {
                let read = alice.update(|m, now| FileClient::read(m, &asked[0], 99, now).unwrap());
                match read {
                    Read::End(_) => return,
                    Read::Bytes(_) | Read::Pending => sleep(Duration::from_millis(2)).await,
                    Read::Broken(why) => panic!("{why}"),
                }
            }
        };
        timeout(LONG, ends).await.unwrap();
        let over = timeout(LONG, over).await.unwrap().unwrap();
        assert_eq!(over, Ok(Some(Outcome::Sent { confirmed: true })));
    }
}
