//! `cargo xtask peer`: one ICE transport over real sockets, driven by lines on standard input and output.
//!
//! It stands opposite agents that others wrote (`cargo xtask interop`) and behind NATs (`cargo xtask natlab`). Whoever
//! starts two such programs carries lines between them:
//!
//! | out | in at the other | means |
//! |---|---|---|
//! | `local UFRAG PWD` | `remote UFRAG PWD` | credentials; when the peer's are known it begins, and its clock starts |
//! | `answers` | | it says nothing of its own before it has heard the peer's |
//! | `dtls SETUP HASH FINGERPRINT`, `sctp PORT` | the same | before the credentials, where data channels are carried |
//! | `cand CANDIDATE` | `cand CANDIDATE` | a candidate in the words of RFC 8839 §5.1, or those of [`words`] for Google's |
//! | `gathered KIND MS` | | the first candidate of this kind |
//! | `connected MS`, `nominated MS`, `path TEXT` | `start` | there is a path: data may be sent |
//! | `done sent N ADLER recv N ADLER` | `close` | everything was sent and has arrived |

mod flow;
mod network;
mod words;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::{
    ChannelLayer, ChannelOutput, Dialect, Element, LayeredTransport, Role, Transport,
    TransportChannel, TransportContext, TransportFactory,
};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use transport_p2p::{
    dtls::{DtlsLayer, Identity},
    ice::{GoogleIceFactory, IceConfig, IceTransportFactory},
    sctp::{DataChannelConfig, DataChannelLayer},
};

use transport_relay::RelayFactory;
use transport_relay::turn::{Credentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer};

use crate::demo::entropy;
use crate::tools::{Failure, Outcome};
use flow::Flow;
use network::{Event, Network};

/// For how long a path of Google's is the best until it counts as chosen.
const STAYS: Duration = Duration::from_millis(300);
/// The name of the only channel.
const CHANNEL: &str = "data";
/// Lines, datagrams and events of connections that wait.
const EVENTS_MAX: usize = 1 << 10;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Control (RFC 8445 §4); otherwise be controlled
    #[arg(long)]
    controlling: bool,
    /// An address of this host; may be given again
    #[arg(long = "address", value_name = "IP", required = true)]
    addresses: Vec<IpAddr>,
    /// Speak ICE as Google had it
    #[arg(long)]
    google: bool,
    /// Carry data channels above DTLS, and send on one
    #[arg(long, conflicts_with = "google")]
    data_channel: bool,
    /// A STUN server; may be given again
    #[arg(long = "stun", value_name = "IP:PORT")]
    stun_servers: Vec<SocketAddr>,
    /// A TURN server, which is asked over UDP and TCP at once; may be given again
    #[arg(long = "turn", value_name = "IP:PORT", requires = "turn_user")]
    turn_servers: Vec<SocketAddr>,
    /// Who we are to the TURN servers
    #[arg(long, value_name = "NAME:PASSWORD")]
    turn_user: Option<String>,
    /// How many bytes to send once there is a path
    #[arg(long, default_value_t = 0)]
    send: u64,
    /// How many bytes to wait for
    #[arg(long, default_value_t = 0)]
    expect: u64,
    /// Seconds until it gives up
    #[arg(long, default_value_t = 30)]
    limit: u64,
}

/// Runs until it is told to close, its input ends, or its time is over.
pub(crate) fn run(args: &Args) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| {
            let hint = "is the number of threads or files limited (ulimit -a)?";
            Failure::new("start the asynchronous runtime", error.to_string(), hint)
        })?;
    let outcome = runtime.block_on(async {
        let (events, inbox) = channel(EVENTS_MAX);
        read_lines(events.clone());
        Peer::new(args, events)?.run(inbox).await
    });
    // The thread that reads lines ends with the process.
    runtime.shutdown_background();
    outcome
}

/// What may happen to the program.
enum Happened {
    Network(Event),
    /// A line of standard input; `None` at its end.
    Line(Option<String>),
}

struct Peer {
    transport: Box<dyn Transport>,
    channel: Box<dyn TransportChannel>,
    role: Role,
    google: bool,
    /// The peer is told nothing before it has said its own, as a stream's answer depends on it.
    answers: bool,
    network: Network,
    flow: Flow,
    /// What the peer has said of its protection.
    protection: Vec<Element>,
    /// The credentials of the peer, which each transport-info repeats.
    remote: Option<Element>,
    begun: Option<Instant>,
    /// Kinds of candidates that were found.
    gathered: Vec<String>,
    /// The best path of Google's, and since when it is.
    best: Option<(String, Instant)>,
    connected: bool,
    nominated: bool,
    deadline: Instant,
}

impl Peer {
    fn new(args: &Args, events: Sender<Happened>) -> Result<Self, Failure> {
        let role = if args.controlling {
            Role::Initiator
        } else {
            Role::Responder
        };
        let mut seed = [0; 32];
        entropy(&mut seed);
        let mut config = IceConfig::new(args.addresses.clone());
        config.stun_servers.clone_from(&args.stun_servers);
        config.relays.extend(relays(args));
        let factory: Box<dyn TransportFactory> = if args.google {
            Box::new(GoogleIceFactory::new(config))
        } else {
            Box::new(IceTransportFactory::new(config))
        };
        let dialect = if args.google {
            Dialect::GTALK
        } else {
            Dialect::JINGLE
        };
        let context = TransportContext {
            role,
            local: "local@peer.example/1".into(),
            remote: "remote@peer.example/2".into(),
            sid: "peer".into(),
            content: "data".into(),
            dialect,
            seed,
            waker: std::task::Waker::noop().clone(),
        };
        let mut transport = factory.create(&context);
        if args.data_channel {
            transport = Box::new(LayeredTransport::new(
                transport,
                &data_channels()?,
                &context,
            ));
        }
        let channel = transport
            .create_channel(CHANNEL)
            .map_err(|error| failed("make a channel", &error))?;
        let answers = args.data_channel && role == Role::Responder;
        if answers {
            println!("answers");
        } else {
            words::say(&transport.offer());
        }
        Ok(Self {
            transport,
            channel,
            role,
            google: args.google,
            answers,
            network: Network::new(events),
            flow: Flow::new(args.send, args.expect, args.data_channel),
            protection: Vec::new(),
            remote: None,
            begun: None,
            gathered: Vec::new(),
            best: None,
            connected: false,
            nominated: false,
            deadline: now() + Duration::from_secs(args.limit),
        })
    }

    async fn run(mut self, mut inbox: Receiver<Happened>) -> Outcome {
        loop {
            self.drain().await?;
            let stays = self.best.as_ref().filter(|_| !self.nominated);
            let stays = stays.map(|(_, since)| *since + STAYS);
            let due = [self.channel.poll_timeout(), self.flow.poll_timeout(), stays]
                .into_iter()
                .flatten()
                .min()
                .map_or(self.deadline, |at| at.min(self.deadline));
            let happened = tokio::time::timeout_at(due.into(), inbox.recv()).await;
            match happened {
                Ok(Some(Happened::Line(line))) => {
                    let Some(line) = line.filter(|line| line != "close") else {
                        return self.close().await;
                    };
                    self.hear(&line)?;
                }
                Ok(Some(Happened::Network(event))) => self.arrive(event),
                Ok(None) => return Ok("closed".to_owned()),
                Err(_) => {}
            }
            let now = now();
            if now >= self.deadline {
                let why = self.channel.describe().unwrap_or_default();
                return Err(failed("finish in time", &why));
            }
            if self.channel.poll_timeout().is_some_and(|at| at <= now) {
                self.channel.handle_timeout(now);
            }
            self.flow.handle_timeout(self.channel.as_mut(), now);
        }
    }

    /// Gives back what it holds on relays.
    async fn close(mut self) -> Outcome {
        self.channel.close();
        self.drain().await?;
        Ok("closed".to_owned())
    }

    /// A line of whoever runs it.
    fn hear(&mut self, line: &str) -> Result<(), Failure> {
        let bad = |why: &dyn std::fmt::Display| failed(&format!("understand {line:?}"), why);
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "remote" => {
                let transport = if self.google {
                    self.transport.offer()
                } else {
                    words::credentials(rest).ok_or_else(|| bad(&"two words follow"))?
                };
                let protection = std::mem::take(&mut self.protection);
                let transport = protection.into_iter().fold(transport, Element::child);
                let answer = match self.role {
                    Role::Initiator => self.transport.accept_answer(&transport).map(|()| None),
                    Role::Responder => self.transport.accept_offer(&transport).map(Some),
                };
                let answer = answer.map_err(|error| bad(&error))?;
                if let Some(answer) = answer.filter(|_| self.answers) {
                    words::say(&answer);
                }
                self.remote = Some(transport);
                let now = now();
                self.begun = Some(now);
                self.channel.connect(now);
            }
            "cand" => {
                let Some(remote) = self.remote.clone() else {
                    return Err(bad(&"the credentials come first"));
                };
                let info = if self.google {
                    words::from_google(rest, CHANNEL)
                } else {
                    words::from_sdp(rest).map(|candidate| remote.child(candidate))
                };
                if let Some(info) = info {
                    let parts = self.transport.split_info(&info);
                    for (_, part) in parts.map_err(|error| bad(&error))? {
                        let heard = self.channel.handle_info(&part, now());
                        heard.map_err(|error| bad(&error))?;
                    }
                }
            }
            "dtls" | "sctp" => {
                let said = words::protection(line).ok_or_else(|| bad(&"words are missing"))?;
                self.protection.push(said);
            }
            "start" => self.flow.start(now()),
            // Said by others; there is nothing to do about it.
            "remote-done" => {}
            _ => return Err(bad(&"no such word")),
        }
        Ok(())
    }

    fn arrive(&mut self, event: Event) {
        let now = now();
        match event {
            Event::Datagram(datagram) => self.channel.handle_datagram(datagram, now),
            Event::Stream(socket, event) => self.channel.handle_stream(socket, event, now),
        }
    }

    /// Does what the channel wants until it wants nothing more.
    async fn drain(&mut self) -> Result<(), Failure> {
        while let Some(output) = self.channel.poll_output() {
            if let ChannelOutput::Bind(socket, _, address) = output {
                let bound = self.network.bind(socket, address).await;
                self.channel.handle_bound(socket, bound, now());
            } else if let ChannelOutput::Connect(socket, target) = output {
                self.network.connect(socket, &target);
            } else if let ChannelOutput::Write(socket, payload) = output {
                self.network.write(socket, payload);
            } else if let ChannelOutput::Close(socket) = output {
                self.network.close(socket);
            } else if let ChannelOutput::Transmit(transmit) = output {
                self.network.transmit(&transmit).await;
            } else if let ChannelOutput::Info(info) = output {
                let name = CHANNEL.into();
                let info = self.transport.wrap_info(vec![(name, info)]);
                self.tell(&info);
            } else if let ChannelOutput::Packet(batch) = output {
                self.flow.receive(batch);
            } else if let ChannelOutput::Failed(error) = output {
                return Err(failed("connect", &error));
            }
        }
        self.tell_progress();
        Ok(())
    }

    /// Candidates for the peer.
    fn tell(&mut self, info: &Element) {
        for child in info.children() {
            let line = if self.google {
                words::to_google(child)
            } else {
                words::to_sdp(child)
            };
            let Some(line) = line else {
                continue;
            };
            println!("cand {line}");
            let kind = child.attribute("type").unwrap_or("host");
            if !self.gathered.iter().any(|known| known == kind) {
                println!("gathered {kind} {:.3}", self.elapsed());
                self.gathered.push(kind.to_owned());
            }
        }
    }

    fn tell_progress(&mut self) {
        let Some(path) = self.channel.describe().filter(|_| !self.nominated) else {
            return self.tell_done();
        };
        if path.contains("no path") {
            return;
        }
        if !self.connected {
            self.connected = true;
            println!("connected {:.3}", self.elapsed());
        }
        if self.is_final(&path) {
            self.nominated = true;
            println!("path {path}");
            println!("nominated {:.3}", self.elapsed());
        }
        self.tell_done();
    }

    /// Whether a path is there to stay. Google's has no nomination: what has been the best for a while is taken for it.
    fn is_final(&mut self, path: &str) -> bool {
        if !self.google {
            return path.contains("nominated");
        }
        let addresses = path
            .split_once(", rtt")
            .map_or(path, |(addresses, _)| addresses);
        let same = self.best.as_ref().filter(|(best, _)| best == addresses);
        let since = same.map(|(_, since)| *since);
        if since.is_none() {
            self.best = Some((addresses.to_owned(), now()));
        }
        since.is_some_and(|since| now().saturating_duration_since(since) >= STAYS)
    }

    fn tell_done(&mut self) {
        if let Some(line) = self.flow.finished() {
            println!("{line}");
        }
    }

    /// Milliseconds since the peer's credentials came.
    fn elapsed(&self) -> f64 {
        let since = self.begun.map(|at| now().saturating_duration_since(at));
        since.unwrap_or_default().as_secs_f64() * 1e3
    }
}

/// Data channels, protected by a certificate for this run alone.
fn data_channels() -> Result<Arc<dyn ChannelLayer>, Failure> {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()])
        .map_err(|error| failed("make a certificate", &error))?;
    let identity = Identity::new(made.cert.der(), &made.signing_key.serialize_der());
    let protection = Arc::new(DtlsLayer::data(identity));
    let layer = DataChannelLayer::new(protection, DataChannelConfig::default());
    Ok(Arc::new(layer))
}

/// All TURN servers as one group, of which the first that answers serves.
fn relays(args: &Args) -> Option<Arc<dyn RelayFactory>> {
    let (name, password) = args.turn_user.as_deref()?.split_once(':')?;
    let protocols = [TurnProtocol::Udp, TurnProtocol::Tcp];
    let servers = args.turn_servers.iter().flat_map(|server| {
        protocols
            .clone()
            .map(|protocol| TurnServer::new(*server, protocol, Credentials::new(name, password)))
    });
    Some(Arc::new(TurnFactory::new(TurnConfig::new(
        servers.collect(),
    ))))
}

/// The driver's clock.
fn now() -> Instant {
    Instant::now()
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(what, why.to_string(), "read the lines above from the first")
}

fn read_lines(events: Sender<Happened>) {
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            let Ok(line) = line else { break };
            if events.blocking_send(Happened::Line(Some(line))).is_err() {
                return;
            }
        }
        // Nobody listens only when the program has ended.
        let _ = events.blocking_send(Happened::Line(None));
    });
}
