//! [`Online`]: a login with everything around it.

use super::{DialectName, Exit, Problem};
use crate::{
    address,
    client::{Calls, Client, ClientState, Discovery, Info, LoginError, Policy, disco::DISCO_INFO},
    endpoint::{Endpoint, QueryKind},
    jmi::JmiOutput,
    ns,
    trace::Trace,
};
use session_core::{Condition, Dialect, Element, Peer, Reason, StanzaError};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

/// How long the devices of an account may take to show themselves.
const APPEAR_MAX: Duration = Duration::from_secs(8);

/// How long to wait for a better device when some are there that cannot.
const BETTER_MAX: Duration = Duration::from_secs(2);

/// How long to wait for a device that is preferred when others are there that can. Those of an account show themselves one by one.
const RATHER_MAX: Duration = Duration::from_millis(300);

/// How often to look whether a device has appeared.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a device may take to say what it can.
const ANSWER_MAX: Duration = Duration::from_secs(12);

/// How long the end may take: until peers have confirmed it and everything has left.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// A login with everything around it. It ends when it is dropped; [`finish`](Self::finish) ends it in order.
#[derive(Debug)]
#[non_exhaustive]
pub struct Online {
    /// What runs the sessions.
    pub endpoint: Endpoint,
    /// How the login stands.
    pub client: Client,
    /// Who is there and what they can.
    pub discovery: Discovery,
    /// Who may start sessions.
    pub policy: Policy,
    /// Calls that are announced by messages (XEP-0353), where the program takes them.
    pub calls: Calls,
    /// What becomes of them: once, for whoever takes it. `None` where the program takes no calls.
    pub events: Option<mpsc::Receiver<JmiOutput>>,
    /// Our full address at the first login.
    pub address: Peer,
    /// Where everything that happens is told.
    pub trace: Trace,
    /// Whether to speak JSON.
    pub json: bool,
    /// Whether to say nothing but failures.
    pub quiet: bool,
    /// What shows others that we are here, with the program's priority.
    pub(super) presence: Element,
    pub(super) dialect: DialectName,
    pub(super) who: &'static str,
    pub(super) _tasks: Tasks,
}

/// A device that can take part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Found {
    /// Its full address.
    pub device: Peer,
    /// What it is and can.
    pub info: Arc<Info>,
    /// How to talk to it.
    pub dialect: &'static Dialect,
}

/// Tasks that end with whoever holds them.
#[derive(Debug, Default)]
pub(super) struct Tasks(JoinSet<()>);

impl Tasks {
    pub(super) fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(task);
    }
}

impl Online {
    /// The device of a peer that can take part in something that needs these features. Of an account it is the one that the
    /// account prefers; a full address is asked itself. The peer is shown that we are here, and may call us back.
    ///
    /// # Errors
    /// `peer-offline`, `peer-without-jingle`, `peer-cannot`, `peer-unknown` and `peer-silent`, all [`Exit::Failed`].
    pub async fn find(&self, peer: &Peer, features: &[&str]) -> Result<Found, Problem> {
        self.find_rather(peer, features, &[]).await
    }

    /// The same, and of an account rather a device that has these features, too, whatever the account prefers.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub async fn find_rather(
        &self,
        peer: &Peer,
        features: &[&str],
        rather: &[&str],
    ) -> Result<Found, Problem> {
        self.policy.allow(peer);
        self.show(peer);
        let found = match peer.device() {
            Some(_) => self.ask(peer).await?,
            None => self.appear(peer, features, rather).await?,
        };
        if is_google(found.dialect) {
            return Ok(found);
        }
        let whom = &found.device;
        if !found.info.has(ns::JINGLE) {
            let hint = "let the other side use a program that knows Jingle (XEP-0166)";
            return Err(failed(
                "peer-without-jingle",
                whom,
                "it does not know Jingle",
                hint,
            ));
        }
        let lacks: Vec<_> = features
            .iter()
            .filter(|name| !found.info.has(name))
            .copied()
            .collect();
        if lacks.is_empty() {
            return Ok(found);
        }
        let why = format!("it knows Jingle, but not {}", lacks.join(", "));
        let hint = "let the other side start a program that does, or name its device";
        Err(failed("peer-cannot", whom, &why, hint))
    }

    /// Shows somebody that we are here and what we can, whether or not they may see our presence otherwise.
    pub fn show(&self, peer: &Peer) {
        let presence = self.presence.clone().with("to", peer.as_str());
        // An address that XML cannot carry is none; a link that is down shows us when it is up.
        let _ = self.endpoint.send_stanza(&presence);
    }

    /// Waits until the login is over for good: another program took the name of the device, or the server does not let us in
    /// again. Sessions that run go on without it, as far as they can.
    pub async fn ended(&self) -> Problem {
        let mut changes = self.client.connect_state();
        let ended = changes.wait_for(|state| matches!(state, ClientState::Ended(_)));
        let why = match ended.await {
            Some(ClientState::Ended(why)) => why,
            Some(_) | None => None,
        };
        self.no_login(why.as_ref())
    }

    /// Why the login is over for good, if it is: what [`ended`](Self::ended) would say now.
    pub fn over(&self) -> Option<Problem> {
        match self.client.state() {
            ClientState::Ended(why) => Some(self.no_login(why.as_ref())),
            ClientState::Connecting { .. }
            | ClientState::Online { .. }
            | ClientState::Waiting { .. } => None,
        }
    }

    fn no_login(&self, why: Option<&LoginError>) -> Problem {
        Problem::login(self.address.as_str(), why.unwrap_or(&LoginError::Closed))
    }

    /// Ends all sessions for this reason and logs out, in order, within five seconds.
    ///
    /// # Errors
    /// When the trace is not whole.
    pub async fn finish(self, reason: Reason) -> Result<(), Problem> {
        self.calls.flush(&self.endpoint);
        self.endpoint.shutdown(reason, FINISH_MAX).await;
        self.trace.finish().map_err(|error| {
            let hint = "is there room on the disk?";
            Problem::new(
                Exit::Failed,
                "trace",
                "write the trace",
                error.to_string(),
                hint,
            )
        })
    }

    /// The name under which this program tells in traces.
    pub fn who(&self) -> &'static str {
        self.who
    }

    /// Asks one device what it can.
    async fn ask(&self, device: &Peer) -> Result<Found, Problem> {
        if let Some(info) = self.discovery.with(|directory| directory.info(device)) {
            return Ok(self.found(device.clone(), info));
        }
        let query = Element::new(DISCO_INFO, "query");
        let answer = self
            .endpoint
            .query(QueryKind::Get, device.clone(), query, ANSWER_MAX)
            .await;
        let answer = answer.map_err(|error| unanswered(device, &error))?;
        let info = answer.as_ref().map(|answer| Info::read(answer.view()));
        let info = info.unwrap_or_default();
        self.discovery
            .with(|directory| directory.learn(device, Some(info.clone())));
        Ok(self.found(device.clone(), Arc::new(info)))
    }

    /// Waits for a device of an account that can; else for any.
    async fn appear(
        &self,
        account: &Peer,
        features: &[&str],
        rather: &[&str],
    ) -> Result<Found, Problem> {
        let mut wanted = vec![ns::JINGLE];
        wanted.extend(features);
        let best = [&wanted, rather].concat();
        let mut until = Instant::now() + APPEAR_MAX;
        let mut is_there = false;
        let mut rather_until = None;
        loop {
            let found = self.discovery.find(&self.endpoint, account, &best).await;
            if let Some((device, info)) = found {
                return Ok(self.found(device, info));
            }
            let other = self
                .discovery
                .with(|directory| directory.choose(account, &wanted));
            if let Some((device, info)) = other {
                let due = *rather_until.get_or_insert_with(|| Instant::now() + RATHER_MAX);
                if Instant::now() >= due {
                    return Ok(self.found(device, info));
                }
                sleep(LOOK_EVERY).await;
                continue;
            }
            let (google, any) = self.discovery.with(|directory| {
                let devices = directory.devices(account);
                let google = devices
                    .iter()
                    .find(|device| directory.dialect(device).is_some_and(is_google));
                (google.cloned(), devices.into_iter().next())
            });
            if let Some(device) = google {
                return Ok(self.found(device, Arc::default()));
            }
            if any.is_some() && !is_there {
                is_there = true;
                until = until.min(Instant::now() + BETTER_MAX);
            }
            if Instant::now() >= until {
                let Some(device) = any else { break };
                let info = self.discovery.with(|directory| directory.info(&device));
                return Ok(self.found(device, info.unwrap_or_default()));
            }
            sleep(LOOK_EVERY).await;
        }
        let hint = "is a program running there that takes this, and does it let us in (--accept)? a full address, such as \
            bob@example.org/desk, reaches a device that does not show itself";
        Err(failed(
            "peer-offline",
            account,
            "no device of it is there",
            hint,
        ))
    }

    fn found(&self, device: Peer, info: Arc<Info>) -> Found {
        let known = || self.discovery.with(|directory| directory.dialect(&device));
        let dialect = self
            .dialect
            .dialect()
            .or_else(known)
            .unwrap_or(Dialect::JINGLE);
        Found {
            dialect,
            device,
            info,
        }
    }

    /// The account that is logged in.
    pub fn account(&self) -> Peer {
        address::bare(&self.address)
    }
}

fn is_google(dialect: &Dialect) -> bool {
    ![Dialect::JINGLE.name, Dialect::HYBRID.name].contains(&dialect.name)
}

fn failed(code: &'static str, whom: &Peer, why: &str, hint: &str) -> Problem {
    Problem::new(Exit::Failed, code, format!("reach {whom}"), why, hint)
}

/// What the error of somebody who was asked means.
fn unanswered(whom: &Peer, error: &StanzaError) -> Problem {
    let why = error.to_string();
    if error.condition == Condition::RemoteServerNotFound {
        let hint = "check the part of the address behind the @";
        return failed(
            "peer-unknown",
            whom,
            &format!("its server is not known ({why})"),
            hint,
        );
    }
    if error.condition == Condition::RemoteServerTimeout {
        let hint = "is its network up? try again later";
        return failed(
            "peer-silent",
            whom,
            &format!("it does not answer ({why})"),
            hint,
        );
    }
    let hint = "is it running, and does it let us in (--accept)? without a device, bob@example.org, any of the account's serves";
    failed(
        "peer-offline",
        whom,
        &format!("it is not there, or not for us ({why})"),
        hint,
    )
}
