//! The suite that every transport must pass, whoever wrote it.
//!
//! ```
//! use session_core::testing::{MemoryDatagram, conformance};
//! conformance(MemoryDatagram::new());
//! ```
//!
//! It makes two instances of a transport, one for each side, negotiates, lets them exchange candidates and connect over
//! a virtual network, and then does what sessions, networks, peers and attackers do. When a rule is broken, it panics
//! with the rule's name, what it says, what was seen instead, and the last things that happened.
//!
//! The rules are those of the documentation of [`Transport`](crate::Transport) and
//! [`TransportChannel`](crate::TransportChannel), and [`RULES`] lists them.

mod data;
mod hostile;
mod negotiation;
mod network;
mod pair;
mod pattern;
mod session;

use crate::{ChannelLayer, Dialect, TransportFactory, TransportKind};
use pair::{Pair, Setup};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    time::Duration,
};

use super::Conditions;

/// A rule by its name, and what it says.
pub const RULES: &[(&str, &str)] = &[
    (
        "namespace",
        "factory, transport, offer and answer say the same namespace, and a transport's element is named `transport`",
    ),
    (
        "offer",
        "a transport accepts the offer of its kind, also after it refused another, and can make it again",
    ),
    (
        "answer",
        "a transport accepts the answer of its kind, also after it refused another",
    ),
    (
        "channel",
        "a transport has room for a channel, and two channels do not mix",
    ),
    (
        "connect",
        "both ends become writable: with an early or a late answer, with doubled infos, with loss",
    ),
    (
        "info-again",
        "an info that arrives again is accepted again and changes nothing",
    ),
    (
        "refused-info",
        "an info that is refused leaves no trace: no output, no timer, and the right one still works",
    ),
    (
        "datagrams",
        "datagrams arrive as they were sent: whole, unchanged, on the channel that they were sent on",
    ),
    (
        "batch",
        "a batch is its packets, sent or received; the last may be shorter",
    ),
    (
        "direct",
        "what passes along a direct path leaves and arrives as it would have through the channel, which knows no \
         difference",
    ),
    (
        "too-large",
        "a datagram that cannot be carried is refused as TooLarge, and harms nothing",
    ),
    (
        "writable",
        "before the first Writable(true) a send is refused; after a refusal Writable(true) follows; after that a send is \
         taken",
    ),
    (
        "stream",
        "the bytes of a stream arrive in order, exactly once, over a network that loses, doubles and reorders",
    ),
    (
        "pause",
        "a stream that is paused hands out nothing and holds its peer back, and goes on where it was",
    ),
    (
        "finish",
        "after finish a send is refused as Finished; the peer is told once, after the last byte; the other direction lives",
    ),
    (
        "delivered",
        "after finish, Delivered comes once, when the last byte has reached the peer",
    ),
    (
        "timers",
        "poll_timeout is a getter; once handled, it moves on; an idle channel rests; an early handle_timeout is harmless",
    ),
    ("drain", "poll_output comes to an end, and stays there"),
    (
        "sockets",
        "a socket is used after it was opened and before it was closed; its number is its own, below FIRST_ACCEPTED",
    ),
    (
        "no-sockets",
        "a channel that needs sockets and gets none fails, and says so",
    ),
    ("failed-is-last", "nothing follows Failed"),
    (
        "unknown",
        "events for sockets, requests and tokens that nobody knows are ignored",
    ),
    (
        "garbage",
        "garbage from strangers is never handed out; from nobody does it fail a channel or stop it from working",
    ),
    (
        "flood",
        "however many infos come, a channel neither fails nor floods the network",
    ),
    (
        "silence",
        "a peer that vanishes is noticed: Path(false), Writable(false) or Failed",
    ),
    ("heal", "after a short interruption data flows again"),
    (
        "deterministic",
        "the same seed, the same inputs: the same outputs",
    ),
    (
        "session",
        "in a session of two managers it connects, carries data both ways, and leaves nothing open",
    ),
    ("panic", "nothing that a peer or a network does is a panic"),
];

/// Runs the suite with its usual options.
///
/// # Panics
/// When the transport breaks a rule.
pub fn conformance(factory: impl TransportFactory + 'static) {
    Conformance::new().run(factory);
}

/// What to expect of a transport, where it may differ.
#[derive(Clone)]
pub struct Conformance {
    /// What its channels carry; by default what the [`layer`](Self::layer) says if there is one, or the factory.
    pub kind: Option<TransportKind>,
    /// A layer above each channel, to test the layer, or the two together.
    pub layer: Option<Arc<dyn ChannelLayer>>,
    /// The vocabulary that the transport is told. Default XEP-0166.
    pub dialect: &'static Dialect,
    /// How long it may take to connect, in virtual time. Default 30 s.
    pub connect_within: Duration,
    /// How long it may take to notice that the peer has vanished; `None` for a transport that cannot. Default 60 s.
    pub notices_within: Option<Duration>,
    /// The largest datagram that it must carry. Default 1,200 bytes.
    pub datagram_max: usize,
    /// Whether a datagram may be empty. Default yes.
    pub empty_datagrams: bool,
    /// Whether it must keep strangers' datagrams from the application. Default yes; a bare socket cannot.
    pub rejects_strangers: bool,
    /// Whether loss on the network must not keep it from connecting. Default yes.
    pub connects_despite_loss: bool,
    /// Whether all its randomness comes from its seed. Default yes.
    pub deterministic: bool,
    /// How many seeds each scenario with chance in it is run with. Default 6.
    pub seeds: u64,
}

impl Conformance {
    /// The usual options.
    pub fn new() -> Self {
        Self {
            kind: None,
            layer: None,
            dialect: Dialect::JINGLE,
            connect_within: Duration::from_secs(30),
            notices_within: Some(Duration::from_secs(60)),
            datagram_max: 1_200,
            empty_datagrams: true,
            rejects_strangers: true,
            connects_despite_loss: true,
            deterministic: true,
            seeds: 6,
        }
    }

    /// Puts a layer above each channel.
    #[must_use]
    pub fn with_layer(mut self, layer: impl ChannelLayer + 'static) -> Self {
        self.layer = Some(Arc::new(layer));
        self
    }

    /// Runs the suite.
    ///
    /// # Panics
    /// When the transport breaks a rule.
    pub fn run(&self, factory: impl TransportFactory + 'static) {
        if let Err(breach) = self.check(factory) {
            panic!("{breach}");
        }
    }

    /// Runs the suite; the first rule that is broken is the `Err`.
    ///
    /// # Errors
    /// What was broken, and how.
    pub fn check(&self, factory: impl TransportFactory + 'static) -> Result<(), Breach> {
        let factory: Arc<dyn TransportFactory> = Arc::new(factory);
        let streaming = self.streams(&*factory);
        for scenario in SCENARIOS {
            let applies = match scenario.kind {
                Some(TransportKind::Streaming) => streaming,
                Some(TransportKind::Datagram) => !streaming,
                None => true,
            };
            let seeds = if scenario.chance { self.seeds } else { 1 };
            for seed in (0..seeds).filter(|_| applies) {
                let setup = Setup {
                    factory: &factory,
                    options: self,
                    seed,
                    conditions: Conditions::with_delay(Duration::from_millis(10)),
                };
                run(scenario, &setup).map_err(|breach| Breach {
                    transport: factory.namespace().to_owned(),
                    scenario: scenario.name,
                    seed,
                    ..breach
                })?;
            }
        }
        Ok(())
    }

    fn streams(&self, factory: &dyn TransportFactory) -> bool {
        let kind = self.kind.unwrap_or_else(|| match &self.layer {
            Some(layer) => layer.kind(),
            None => factory.kind(),
        });
        kind == TransportKind::Streaming
    }
}

impl Default for Conformance {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("kind", &self.kind)
            .field("layer", &self.layer.is_some())
            .field("dialect", &self.dialect.name)
            .finish_non_exhaustive()
    }
}

/// A rule that a transport broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// The rule's name in [`RULES`].
    pub rule: &'static str,
    /// What was seen instead.
    pub what: String,
    /// The transport's namespace.
    pub transport: String,
    /// What was being done.
    pub scenario: &'static str,
    /// With which seed.
    pub seed: u64,
    /// The last things that happened, a line each.
    pub trace: String,
}

impl Breach {
    fn new(rule: &'static str, what: String) -> Self {
        Self {
            rule,
            what,
            transport: String::new(),
            scenario: "",
            seed: 0,
            trace: String::new(),
        }
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = RULES.iter().find(|(name, _)| *name == self.rule);
        writeln!(
            f,
            "the transport {} breaks the rule `{}`: {}",
            self.transport,
            self.rule,
            says.map_or("", |(_, says)| says)
        )?;
        writeln!(f, "  seen: {}", self.what)?;
        writeln!(f, "  while: {} (seed {})", self.scenario, self.seed)?;
        write!(f, "  the last that happened:{}", self.trace)
    }
}

impl std::error::Error for Breach {}

struct Scenario {
    name: &'static str,
    /// For which kind; `None` is both.
    kind: Option<TransportKind>,
    /// Whether seeds make a difference.
    chance: bool,
    run: fn(&Setup<'_>, &mut Option<Pair>) -> Result<(), Breach>,
}

const ANY: Option<TransportKind> = None;
const DATAGRAM: Option<TransportKind> = Some(TransportKind::Datagram);
const STREAMING: Option<TransportKind> = Some(TransportKind::Streaming);

/// From the simple to the mean, so that the first failure says the most.
#[rustfmt::skip]
const SCENARIOS: &[Scenario] = &[
    Scenario { name: "names and namespaces", kind: ANY, chance: false, run: negotiation::names },
    Scenario { name: "connect", kind: ANY, chance: false, run: negotiation::connect },
    Scenario { name: "connect before the answer", kind: ANY, chance: false, run: negotiation::early },
    Scenario { name: "connect after the answer", kind: ANY, chance: false, run: negotiation::late },
    Scenario { name: "every info twice", kind: ANY, chance: false, run: negotiation::twice },
    Scenario { name: "two channels", kind: ANY, chance: false, run: negotiation::two_channels },
    Scenario { name: "a channel after the connection", kind: ANY, chance: false, run: negotiation::late_channel },
    Scenario { name: "bad offers and answers", kind: ANY, chance: true, run: negotiation::bad_offers },
    Scenario { name: "bad infos before the right one", kind: ANY, chance: true, run: hostile::bad_infos },
    Scenario { name: "packets of all sizes", kind: DATAGRAM, chance: false, run: data::sizes },
    Scenario { name: "batches", kind: DATAGRAM, chance: false, run: data::batches },
    Scenario { name: "a direct path", kind: DATAGRAM, chance: false, run: data::direct },
    Scenario { name: "too large", kind: DATAGRAM, chance: false, run: data::too_large },
    Scenario { name: "more than fits", kind: DATAGRAM, chance: false, run: data::burst },
    Scenario { name: "packets over a bad network", kind: DATAGRAM, chance: true, run: data::bad_network },
    Scenario { name: "a stream both ways", kind: STREAMING, chance: false, run: data::stream },
    Scenario { name: "a stream over a bad network", kind: STREAMING, chance: true, run: data::stream_bad },
    Scenario { name: "pause and resume", kind: STREAMING, chance: false, run: data::pause },
    Scenario { name: "finish one side, then the other", kind: STREAMING, chance: false, run: data::finish },
    Scenario { name: "a whole session of two managers", kind: ANY, chance: false, run: session::session },
    Scenario { name: "idle for a minute", kind: ANY, chance: false, run: network::idle },
    Scenario { name: "no sockets to be had", kind: ANY, chance: false, run: network::no_sockets },
    Scenario { name: "the peer vanishes", kind: ANY, chance: false, run: network::silence },
    Scenario { name: "two seconds of interruption", kind: ANY, chance: true, run: network::heal },
    Scenario { name: "events that nobody waits for", kind: ANY, chance: false, run: hostile::unknown },
    Scenario { name: "garbage from strangers", kind: ANY, chance: true, run: hostile::strangers },
    Scenario { name: "garbage from the peer's address", kind: ANY, chance: true, run: hostile::spoofed },
    Scenario { name: "damaged copies of the peer's datagrams", kind: ANY, chance: true, run: hostile::damaged },
    Scenario { name: "a flood of infos", kind: ANY, chance: false, run: hostile::flood },
    Scenario { name: "dropped at any time", kind: ANY, chance: false, run: network::dropped },
    Scenario { name: "the same twice", kind: ANY, chance: false, run: network::deterministic },
];

fn run(scenario: &Scenario, setup: &Setup<'_>) -> Result<(), Breach> {
    let mut pair = None;
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(setup, &mut pair)));
    let trace = pair.as_ref().map(Pair::trace).unwrap_or_default();
    let result = match result {
        Ok(result) => result,
        Err(panic) => {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            match message {
                Some(message) => Err(Breach::new("panic", message)),
                None => resume_unwind(panic),
            }
        }
    };
    result
        .and_then(|()| pair.as_mut().map_or(Ok(()), Pair::check))
        .map_err(|breach| Breach { trace, ..breach })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryDatagram, MemoryStream, Mishap};

    #[test]
    fn the_memory_transports_conform() {
        conformance(MemoryDatagram::new());
        conformance(MemoryStream::new());
    }

    #[test]
    fn a_breach_names_its_rule() {
        let refuses = MemoryDatagram::new().with_mishap(Mishap::RefusesOffers);
        let breach = Conformance::new().check(refuses).unwrap_err();
        assert_eq!(breach.rule, "offer");
        let silent = MemoryStream::new().with_mishap(Mishap::NeverConnects);
        let breach = Conformance::new().check(silent).unwrap_err();
        assert_eq!(breach.rule, "connect");
        let text = breach.to_string();
        assert!(
            text.contains("both ends become writable") && text.contains("A connect"),
            "{text}"
        );
    }
}
