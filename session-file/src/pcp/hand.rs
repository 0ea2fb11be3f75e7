//! [`Hand`]: one end, which sends and takes.

use super::{
    View,
    failing::{OFFLINE, misuse},
    limit::Limit,
    pump::Line,
};
use crate::{
    Decision, FILE_TRANSFER, FileClient, FileConfig, FileError, FileVerdict, Phase, Proposal,
    Transfer, TransferId,
};
use session_core::{ChannelLayer, LayerChoice, Peer, Reason, ReasonCondition, SessionId};
use session_xmpp::{
    Endpoint,
    cli::{Exit, Problem, Program, TransportName},
    client::Info,
    endpoint::LinkState,
};
use std::{fmt, sync::Arc, time::Duration};
use transport_p2p::{
    dtls::{self, DtlsLayer},
    ice::IceTransportFactory,
    pseudotcp::PseudoTcpLayer,
    quic::{self, Identity, QuicLayer},
    sctp::{self, DataChannelConfig, DataChannelLayer, DataChannelTransportFactory},
};

/// What `pcp` is, and tells others that it is, while it sends or fetches. It takes nothing then, and says nothing of files: an
/// account may have others that do.
pub const PROGRAM: Program = Program {
    name: "pcp",
    node: "urn:uuid:5f0c6f0e-3a57-4b7a-9d1e-8c1b7c3d2a46",
    kind: "pc",
    features: &[HASHES, SHA_256, crate::OWN],
    calls: false,
};

/// The same while it receives.
pub(super) const RECEIVER: Program = Program {
    features: &[FILE_TRANSFER, HASHES, SHA_256, crate::OWN, RECEIVES],
    ..PROGRAM
};

/// The same while it shares.
pub(super) const SHARER: Program = Program {
    features: &[FILE_TRANSFER, HASHES, SHA_256, crate::OWN, SHARES],
    ..PROGRAM
};

/// What tells whoever has a file that it is taken here.
pub(super) const RECEIVES: &str = "urn:uuid:5f0c6f0e-3a57-4b7a-9d1e-8c1b7c3d2a46#receive";

/// What tells whoever wants a file that some are given here.
pub(super) const SHARES: &str = "urn:uuid:5f0c6f0e-3a57-4b7a-9d1e-8c1b7c3d2a46#share";

const HASHES: &str = "urn:xmpp:hashes:2";
const SHA_256: &str = "urn:xmpp:hash-function-text-names:sha-256";

/// How long a connection to the server may take to come back.
const ONLINE_WAIT: Duration = Duration::from_secs(30);

/// Bytes that may be on their way in a stream, which either side keeps: 1 Gbit/s over 30 ms needs 3.75 MB, and no file may
/// take more than 32 MiB of memory.
const WINDOW: u32 = 4 << 20;

/// Which ways bytes may go.
#[derive(Clone)]
pub struct Ways {
    plaintext: bool,
    layer: Arc<dyn ChannelLayer>,
    /// What protects data channels.
    records: Arc<DtlsLayer>,
}

impl Ways {
    /// QUIC between two of ours, data channels with others (XEP-0343, or as Conversations has them); with `plaintext` also
    /// ways that are not encrypted.
    ///
    /// # Errors
    /// When no certificate could be made for this run.
    pub fn new(plaintext: bool) -> Result<Self, Problem> {
        let failed = |why: String| {
            let what = "make a certificate for this run";
            Problem::new(Exit::Failed, "certificate", what, why, "")
        };
        let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()])
            .map_err(|error| failed(error.to_string()))?;
        let identity = Identity::new(made.cert.der(), &made.signing_key.serialize_der())
            .map_err(|error| failed(error.to_string()))?;
        let records = dtls::Identity::new(made.cert.der(), &made.signing_key.serialize_der());
        let records = Arc::new(DtlsLayer::data(records));
        let fast = quic::Config {
            receive_window: WINDOW,
            send_window: WINDOW,
            ..quic::Config::default()
        };
        // Ours have both; other people's clients have data channels at best.
        let mut layers: Vec<Arc<dyn ChannelLayer>> = vec![
            Arc::new(QuicLayer::new(identity, fast)),
            Arc::new(DataChannelLayer::new(
                records.clone(),
                DataChannelConfig::default(),
            )),
        ];
        if plaintext {
            layers.push(Arc::new(PseudoTcpLayer::default()));
        }
        Ok(Self {
            plaintext,
            layer: Arc::new(LayerChoice::new(layers)),
            records,
        })
    }

    /// Leaves out of an account's ways what may not be gone, and adds data channels as Conversations has them.
    ///
    /// # Errors
    /// When none is left.
    pub fn adapt(&self, ways: &mut session_xmpp::cli::Ways) -> Result<(), Problem> {
        let this = self.clone();
        ways.add_above_ice(sctp::TRANSPORT_NAMESPACE, move |ice| {
            this.data_channels(ice)
        });
        if self.plaintext {
            return Ok(());
        }
        // These carry bytes as they are.
        let streams = [TransportName::S5b, TransportName::Ibb];
        ways.transports.retain(|name| !streams.contains(name));
        if !ways.transports.is_empty() {
            return Ok(());
        }
        Err(Problem::new(
            Exit::Usage,
            "not-encrypted",
            "find a way that is encrypted",
            "none of these transports is",
            "add ice, or --allow-plaintext, if whoever is on the way may read it",
        ))
    }

    /// Data channels above this ICE, as Conversations has them.
    pub fn data_channels(&self, ice: IceTransportFactory) -> DataChannelTransportFactory {
        let config = DataChannelConfig::default();
        DataChannelTransportFactory::new(Arc::new(ice), self.records.clone(), config)
    }

    /// What makes streams of datagrams.
    pub fn layer(&self) -> Arc<dyn ChannelLayer> {
        self.layer.clone()
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways")
            .field("plaintext", &self.plaintext)
            .finish_non_exhaustive()
    }
}

/// The client of files, as this program uses it.
pub fn client(ways: &Ways) -> FileClient {
    let mut config = FileConfig {
        layer: Some(ways.layer()),
        hashes_outside: true,
        gives_again: true,
        // No such way is offered either.
        plaintext: ways.plaintext,
        ..FileConfig::default()
    };
    config.limits.send_bytes = 1 << 20;
    config.limits.receive_bytes = 1 << 20;
    // What has no size may be as large as what it is written to has room for.
    config.limits.unsized_bytes = u64::MAX;
    FileClient::new(config)
}

/// The same for a program that sends or fetches: whoever offers it something, or asks for it, is told so at once.
pub fn client_that_takes_nothing(ways: &Ways) -> FileClient {
    let mut client = client(ways);
    client.set_policy(|_| {
        let reason = Reason::new(ReasonCondition::Decline);
        FileVerdict::Decline(reason.with_text("this program takes and gives nothing"))
    });
    client
}

/// One end: an endpoint with a [`client`] of files, and how to use it.
#[derive(Clone, Debug)]
pub struct Hand {
    endpoint: Endpoint,
    view: Arc<View>,
    limit: Arc<Limit>,
    /// Data channels as Conversations has them are offered first, and otherwise not at all.
    data_channels: bool,
}

/// The transports to offer, best first, of those that there are.
fn transports(known: &[Arc<str>], data_channels: bool) -> Vec<&str> {
    let known = known.iter().map(|namespace| &**namespace);
    let (channels, mut others): (Vec<_>, Vec<_>) =
        known.partition(|namespace| *namespace == sctp::TRANSPORT_NAMESPACE);
    if data_channels {
        others.splice(..0, channels);
    }
    others
}

impl Hand {
    /// An end on an endpoint, whose transfers send so many bytes a second at most, all together.
    pub fn new(endpoint: Endpoint, view: Arc<View>, rate: Option<u64>) -> Self {
        Self {
            endpoint,
            view,
            limit: Arc::new(Limit::new(rate)),
            data_channels: false,
        }
    }

    /// The same end, towards a device that can this. One with data channels as Conversations has them is offered these
    /// first, unless it is one of ours; others are not offered them, because where ICE itself has failed they would, too.
    #[must_use]
    pub fn towards(&self, info: &Info) -> Self {
        Self {
            data_channels: info.has(sctp::TRANSPORT_NAMESPACE) && !info.has(crate::OWN),
            ..self.clone()
        }
    }

    /// What runs the sessions.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Where it tells.
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub(super) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Waits until there will be no connection to the server any more.
    pub(super) async fn ended(&self) {
        let mut link = self.endpoint.connect_link_state();
        link.wait_for(|state| matches!(state, LinkState::Ended))
            .await;
    }

    /// Proposes one file in a session of its own, under an id that was agreed on before, if one was.
    pub(super) async fn propose(
        &self,
        to: &Peer,
        sid: Option<&str>,
        proposal: Proposal,
    ) -> Result<Line, Problem> {
        let local = self.online().await?;
        let what = format!("begin a session with {to}");
        let id = self.endpoint.update(|manager, now| {
            let session = manager.create_session(local, FILE_TRANSFER, now)?;
            if let Some(session) = manager.session(session) {
                let known = session.potential_transports();
                session.set_potential_transports(&transports(&known, self.data_channels))?;
                if let Some(sid) = sid {
                    session.set_sid(sid)?;
                }
            }
            let opened = FileClient::open(manager, session, to.clone(), vec![proposal], now);
            if opened.is_err() {
                manager.destroy_session(session, now);
            }
            opened?.into_iter().next().ok_or(FileError::Nothing)
        });
        let id = id.map_err(|error| misuse(&what, &error))?;
        Line::new(&self.endpoint, &id)
    }

    /// Our address, when there is a connection to the server.
    pub(super) async fn online(&self) -> Result<Peer, Problem> {
        let mut link = self.endpoint.connect_link_state();
        let up = link.wait_for(|state| matches!(state, LinkState::Up(_)));
        match tokio::time::timeout(ONLINE_WAIT, up).await {
            Ok(Some(LinkState::Up(local))) => Ok(local),
            Ok(_) | Err(_) => {
                let hint = "give the same command again when the network is back";
                let why = "there is no connection to the server";
                Err(Problem::new(
                    Exit::Failed,
                    OFFLINE,
                    "begin a session",
                    why,
                    hint,
                ))
            }
        }
    }

    /// Decides about what somebody offers or asks for, and has not taken back meanwhile. What cannot be done as it was decided
    /// is declined: who waits for an answer gets one.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn answer(
        &self,
        session: SessionId,
        mut decisions: Vec<(Arc<str>, Decision)>,
    ) -> Result<(), FileError> {
        self.endpoint.update(|manager, now| {
            let client = manager.find_client::<FileClient>();
            let client = client.ok_or(FileError::NoClient)?;
            decisions.retain(|(name, _)| {
                let content = name.clone();
                let transfer = client.transfer(&TransferId { session, content });
                transfer.is_some_and(|transfer| transfer.phase() == Phase::Offered)
            });
            if decisions.is_empty() {
                return Ok(());
            }
            let failed = |(name, _): &(Arc<str>, Decision)| {
                let reason = ReasonCondition::FailedApplication;
                (name.clone(), Decision::Skip(reason.into()))
            };
            let none = decisions.iter().map(failed).collect();
            let answered = FileClient::answer(manager, session, decisions, now);
            if answered.is_err() {
                // Nothing can be wrong with that.
                let _ = FileClient::answer(manager, session, none, now);
            }
            answered
        })
    }

    /// Lets go of a session in which nothing is left to do. Its peer may have added a file that is on its way, or that
    /// nobody has decided about yet.
    pub(super) fn release_if_over(&self, session: SessionId) {
        self.endpoint.update(|manager, now| {
            let client = manager.find_client::<FileClient>();
            if !client.is_some_and(|client| client.transfers(session).any(lives)) {
                // It may be over and forgotten: one that was declined is.
                let _ = FileClient::release(manager, session, now);
            }
        });
    }

    /// Whether nothing is on its way, and nobody waits for a decision.
    pub(super) fn is_at_rest(&self) -> bool {
        self.endpoint.update(|manager, _| {
            let client = manager.find_client::<FileClient>();
            client.is_none_or(|client| {
                let mut sessions = client.sessions();
                !sessions.any(|session| client.transfers(session).any(lives))
            })
        })
    }

    /// Lets go of a session, whatever is left of it.
    pub(super) fn release(&self, line: &Line) {
        let session = line.id().session;
        // It may be released already.
        let _ = self
            .endpoint
            .update(|manager, now| FileClient::release(manager, session, now));
    }
}

/// Whether something is left to do for a file.
fn lives(transfer: &Transfer) -> bool {
    let has_arrived = transfer.is_acknowledged() || transfer.is_confirmed();
    transfer.outcome().is_none() && !has_arrived
}
