//! Two ends of a data channel, each on a thread, that tell each other what signalling would.

use super::said::Said;
use crate::link::{HOSTS, Link};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(180);

/// What an end has of the other.
pub(super) struct Wire {
    pub(super) address: Ipv4Addr,
    /// The name of its host's namespace as a command has it.
    pub(super) host: Option<(Arc<Link>, usize)>,
    tell: Sender<Said>,
    hear: Receiver<Said>,
    over: Arc<AtomicBool>,
    begun: Instant,
}

impl Wire {
    pub(super) fn tell(&self, said: Said) {
        // Who has ended says why by itself.
        let _ = self.tell.send(said);
    }

    pub(super) fn hear(&self) -> Said {
        self.hear
            .recv_timeout(LIMIT)
            .expect("the other end says it")
    }

    /// Whether everything has arrived.
    pub(super) fn is_over(&self) -> bool {
        assert!(!self.is_late(), "not within {LIMIT:?}");
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn is_late(&self) -> bool {
        self.begun.elapsed() > LIMIT
    }
}

/// One end: what it does until everything was sent, or has arrived. The sender says when it could begin, the receiver when
/// it had all.
pub(super) type End = fn(&Wire, u64) -> Instant;

/// Carries `bytes` from one to the other, over a link or over loopback.
pub(super) fn run(ends: [End; 2], link: Option<&Arc<Link>>, bytes: u64) -> Duration {
    let over = Arc::new(AtomicBool::new(false));
    let ((tell_b, hear_a), (tell_a, hear_b)) = (channel(), channel());
    let wire = |host: usize, tell, hear| Wire {
        address: link.map_or(Ipv4Addr::LOCALHOST, |_| HOSTS[host]),
        host: link.map(|link| (Arc::clone(link), host)),
        tell,
        hear,
        over: Arc::clone(&over),
        begun: Instant::now(),
    };
    let wires = [wire(0, tell_a, hear_a), wire(1, tell_b, hear_b)];
    let mut threads = Vec::new();
    for (host, (end, wire)) in ends.into_iter().zip(wires).enumerate() {
        let job = move || end(&wire, bytes);
        threads.push(match link {
            Some(link) => link.run(host, job),
            None => std::thread::spawn(job),
        });
    }
    let ended = threads.pop().expect("two").join();
    over.store(true, Ordering::Relaxed);
    let begun = threads.pop().expect("two").join();
    let [begun, ended] = [begun, ended].map(|at| at.expect("an end says why it fails"));
    ended.saturating_duration_since(begun)
}
