//! [`Calls`]: Jingle Message Initiation in an endpoint.

use super::{Policy, Verdict};
use crate::{
    address,
    endpoint::{Endpoint, LinkState, QueryKind, Service, lock},
    jmi::{Jmi, JmiConfig, JmiOutput},
    stanza::Envelope,
};
use session_core::{Element, ElementRef, Notice, Peer, SessionManager};
use std::{
    fmt,
    future::pending,
    sync::{Arc, Mutex, OnceLock},
    time::{Duration, Instant, SystemTime},
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{
    sync::{Notify, mpsc},
    time::{sleep_until, timeout},
};
use tracing::debug;

/// Events that may wait for the application. Past it the latest are lost: each call still has its end by time.
pub const EVENTS_MAX: usize = 256;

/// How long the server may take to say whether it sends carbons.
const ANSWER_MAX: Duration = Duration::from_secs(20);

const CARBONS: &str = "urn:xmpp:carbons:2";
const DELAY: &str = "urn:xmpp:delay";
const FORWARD: &str = "urn:xmpp:forward:0";

/// A [`Jmi`] for an [`Endpoint`]: [`Self::service`] goes into its [`Options`](crate::endpoint::Options), and [`Self::run`]
/// beside it. Cheap to clone.
#[derive(Clone)]
pub struct Calls(Arc<Inner>);

struct Inner {
    jmi: Mutex<Jmi>,
    /// Who may call; anybody, if there is none.
    policy: OnceLock<Policy>,
    /// Held while messages are sent, so that they keep their order.
    sending: Mutex<()>,
    /// Something was done to it.
    bell: Notify,
    events: mpsc::Sender<JmiOutput>,
}

impl Calls {
    /// Without a call, and where what happens is told: everything but [`JmiOutput::Send`].
    pub fn new(config: JmiConfig) -> (Self, mpsc::Receiver<JmiOutput>) {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let calls = Self(Arc::new(Inner {
            jmi: Mutex::new(Jmi::new(Peer::from(""), config)),
            policy: OnceLock::new(),
            sending: Mutex::new(()),
            bell: Notify::new(),
            events,
        }));
        (calls, receiver)
    }

    /// Who may call. Others hear nothing, as if nobody were here (XEP-0353 §7). To be said once, before the first message.
    pub fn set_policy(&self, policy: Policy) {
        // The first word counts.
        let _ = self.0.policy.set(policy);
    }

    /// What takes messages in an endpoint.
    pub fn service(&self) -> Box<dyn Service> {
        Box::new(Messages(self.clone()))
    }

    /// Lets `f` act on the calls: propose, ring, accept, reject, retract, finish. [`Self::run`] sees by itself when the
    /// session of a call begins.
    pub fn update<R>(&self, f: impl FnOnce(&mut Jmi, Instant) -> R) -> R {
        let result = f(&mut lock(&self.0.jmi), Instant::now());
        self.0.bell.notify_one();
        result
    }

    /// Sends what is to be sent, keeps time, and asks for copies of what other devices of the account say (XEP-0280) after
    /// each login. Ends with the endpoint's link.
    pub async fn run(&self, endpoint: &Endpoint) {
        let mut link = endpoint.connect_link_state();
        // Calls do not wait for the answer.
        let mut asked = None;
        loop {
            let due = self.drain(endpoint);
            let wake = due.unwrap_or_else(Instant::now);
            tokio::select! {
                () = self.0.bell.notified() => {}
                () = sleep_until(wake.into()), if due.is_some() => {
                    self.look_for_sessions(endpoint);
                    self.update(Jmi::handle_timeout);
                }
                () = finished(&mut asked) => asked = None,
                notice = link.next() => match notice {
                    Some(Notice::Snapshot { last: Some(state), .. } | Notice::Value(state)) => {
                        match state {
                            LinkState::Up(own) => {
                                lock(&self.0.jmi).set_own(own.clone());
                                asked = Some(Box::pin(enable_carbons(endpoint, own)));
                            }
                            LinkState::Down(_) => {}
                            LinkState::Ended => return,
                        }
                    }
                    Some(Notice::Snapshot { last: None, .. }) => {}
                    Some(Notice::Ended) | None => return,
                },
            }
        }
    }

    /// Tells which of the calls that were answered here have their session.
    fn look_for_sessions(&self, endpoint: &Endpoint) {
        // The endpoint holds its own lock while it hands us messages: never both the other way round.
        let expected: Vec<Arc<str>> = lock(&self.0.jmi).expected().cloned().collect();
        if expected.is_empty() {
            return;
        }
        let begun: Vec<Arc<str>> = endpoint.update(|manager, _| {
            let sessions = manager.session_ids().into_iter();
            let sids =
                sessions.filter_map(|id| manager.peek(id).map(|session| session.sid().clone()));
            sids.filter(|sid| expected.contains(sid)).collect()
        });
        let mut jmi = lock(&self.0.jmi);
        begun.iter().for_each(|id| jmi.begun(id));
    }

    /// Sends what is to be sent, now: [`Self::run`] does it soon, which is too late before an end.
    pub fn flush(&self, endpoint: &Endpoint) {
        self.drain(endpoint);
    }

    /// Does and tells what there is; when something is due.
    fn drain(&self, endpoint: &Endpoint) -> Option<Instant> {
        let _order = lock(&self.0.sending);
        loop {
            // The endpoint holds its own lock while it hands us messages: never both the other way round.
            let mut jmi = lock(&self.0.jmi);
            let Some(output) = jmi.poll_output() else {
                return jmi.poll_timeout();
            };
            drop(jmi);
            if let JmiOutput::Send(message) = output {
                // A link that does not take it has counted it, and the call ends by time.
                let sent = endpoint.send_stanza(&message);
                debug!(?sent, "about a call");
            } else if self.0.events.try_send(output).is_err() {
                debug!("nobody hears what becomes of a call");
            }
        }
    }
}

impl fmt::Debug for Calls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Calls").finish_non_exhaustive()
    }
}

/// Asks for copies of what other devices of the account say.
async fn enable_carbons(endpoint: &Endpoint, own: Peer) {
    let enable = Element::new(CARBONS, "enable");
    let asked = endpoint.query(QueryKind::Set, address::bare(&own), enable, ANSWER_MAX);
    if !matches!(timeout(ANSWER_MAX, asked).await, Ok(Ok(_))) {
        debug!("the server sends no carbons");
    }
}

/// The end of what is under way; never, when nothing is.
async fn finished(work: &mut Option<impl Future<Output = ()> + Unpin>) {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

struct Messages(Calls);

impl Service for Messages {
    fn handle_other(&mut self, other: &Envelope, _: &mut SessionManager, now: Instant) -> bool {
        if !other.is_message() {
            return false;
        }
        let inner = &self.0.0;
        // What counts is who says so in what will be read, be it of another version or in a carbon.
        let caller = lock(&inner.jmi).caller(other);
        if let (Some(policy), Some(caller)) = (inner.policy.get(), caller)
            && (policy.decide(&caller) == Verdict::Refuse || !policy.count(&caller, now))
        {
            debug!(from = %caller, "a call of somebody who may not, or too often");
            return true;
        }
        let delay = delay(other.stanza.view(), SystemTime::now());
        let taken = lock(&inner.jmi).handle_message(other, delay, now);
        inner.bell.notify_one();
        taken
    }
}

/// For how long a message, or what a carbon carries, was on its way (XEP-0203).
fn delay(message: ElementRef<'_>, now: SystemTime) -> Option<Duration> {
    let carbon = message
        .children()
        .find(|child| child.namespace() == CARBONS);
    let forwarded = carbon.and_then(|carbon| carbon.find(FORWARD, "forwarded"));
    let inner = forwarded.and_then(|forwarded| forwarded.find(crate::ns::CLIENT, "message"));
    let places = [Some(message), forwarded, inner];
    let stamps = places.into_iter().flatten().filter_map(|place| {
        let stamp = place.find(DELAY, "delay")?.attribute("stamp")?;
        let stamp = OffsetDateTime::parse(stamp, &Rfc3339).ok()?;
        now.duration_since(stamp.into()).ok()
    });
    stamps.max()
}

#[cfg(test)]
mod tests {
    use super::{super::Rule, *};
    use crate::{
        endpoint::{Link, LinkError, LinkEvent, Options, Router},
        jmi::JmiEnd,
        xml::{self, Context as XmlContext},
    };
    use session_core::ElementLimits;
    use std::task::{Context, Poll};

    /// What arrives and what leaves at the same time do not wait for each other.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn calls_that_cross_do_not_block_each_other() {
        use session_core::{Config, Reason, ReasonCondition, SeededEntropy};
        let router = Router::new();
        let names = ["alice@a.example/1", "bob@b.example/2"];
        let sides = names.map(|name| {
            let (calls, events) = Calls::new(JmiConfig::default());
            let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
            let options = Options {
                service: Some(calls.service()),
                ..Options::default()
            };
            let endpoint = Endpoint::spawn_with(manager, router.link(name), options);
            (calls, endpoint, events)
        });
        let work = |at: usize| {
            let (calls, endpoint, _) = &sides[at];
            let (calls, endpoint) = (calls.clone(), endpoint.clone());
            let (own, peer) = (Peer::from(names[at]), Peer::from(names[1 - at]));
            calls.update(|jmi, _| jmi.set_own(own));
            tokio::task::spawn_blocking(move || {
                let reason = Reason::new(ReasonCondition::Cancel);
                for number in 0..2_000 {
                    let id = format!("{at}-{number}");
                    calls.update(|jmi, now| {
                        // Either may be refused, because of what the other side does.
                        let _ = jmi.propose(&id, &peer, Vec::new(), now);
                        let _ = jmi.retract(&id, &reason);
                    });
                    calls.flush(&endpoint);
                }
            })
        };
        let both = async { tokio::join!(work(0), work(1)) };
        let (one, two) = timeout(Duration::from_secs(60), both)
            .await
            .expect("they wait for each other");
        assert!(one.is_ok() && two.is_ok());
    }

    /// A server that takes everything, says nothing, and is gone after a while.
    struct Silent {
        up: bool,
        end: std::pin::Pin<Box<tokio::time::Sleep>>,
    }

    impl Link for Silent {
        fn send(&mut self, _: bytes::Bytes) -> Result<(), LinkError> {
            Ok(())
        }

        fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
            if !std::mem::replace(&mut self.up, true) {
                return Poll::Ready(Some(LinkEvent::Up("me@z/1".into())));
            }
            self.end.as_mut().poll(cx).map(|()| None)
        }
    }

    #[tokio::test]
    async fn time_is_kept_while_the_server_says_nothing_about_carbons() {
        let config = JmiConfig {
            answer: Duration::from_millis(200),
            ..JmiConfig::default()
        };
        let (calls, mut events) = Calls::new(config);
        let config = session_core::Config::default();
        let manager = SessionManager::new(config, session_core::SeededEntropy::new(1));
        let link = Silent {
            up: false,
            end: Box::pin(tokio::time::sleep(Duration::from_secs(1))),
        };
        let endpoint = Endpoint::spawn_with(manager, link, Options::default());
        calls
            .update(|jmi, now| {
                jmi.set_own("me@z/1".into());
                jmi.propose("call", &"friend@x".into(), Vec::new(), now)
            })
            .unwrap();
        let soon = Duration::from_secs(5);
        let over = async {
            while let Some(event) = events.recv().await {
                if let JmiOutput::Over { end, .. } = event {
                    return Some(end);
                }
            }
            None
        };
        let both = async { tokio::join!(calls.run(&endpoint), timeout(soon, over)).1 };
        let end = timeout(2 * soon, both).await.expect("the link has ended");
        assert_eq!(end, Ok(Some(JmiEnd::Unanswered)));
    }

    fn message(own: &Peer, text: &str) -> Envelope {
        let element = xml::parse(
            text.as_bytes(),
            &XmlContext::CLIENT,
            &ElementLimits::default(),
        );
        let incoming = crate::stanza::decode(element.unwrap(), own);
        let crate::stanza::Incoming::Other(envelope) = incoming else {
            panic!("{incoming:?}");
        };
        envelope
    }

    #[tokio::test]
    async fn a_call_that_was_answered_ends_by_time_unless_its_session_is_there() {
        use session_core::testing::{RECORDER_NAMESPACE, Recorder};
        let own = Peer::from("me@z/1");
        let text = "<message from='friend@x/1'><propose xmlns='urn:xmpp:jingle-message:0' id='call'/></message>";
        for is_there in [true, false] {
            let config = JmiConfig {
                offer: Duration::from_millis(200),
                ..JmiConfig::default()
            };
            let (calls, mut events) = Calls::new(config);
            let config = session_core::Config::default();
            let entropy = session_core::SeededEntropy::new(1);
            let mut manager = SessionManager::new(config, entropy);
            manager.add_client(Recorder::new()).unwrap();
            let link = Silent {
                up: false,
                end: Box::pin(tokio::time::sleep(Duration::from_secs(1))),
            };
            let endpoint = Endpoint::spawn_with(manager, link, Options::default());
            let answered = calls.update(|jmi, now| {
                jmi.set_own(own.clone());
                jmi.handle_message(&message(&own, text), None, now);
                jmi.accept("call", now)
            });
            answered.unwrap();
            if is_there {
                endpoint.update(|manager, now| {
                    let id = manager.create_session(own.clone(), RECORDER_NAMESPACE, now);
                    let session = manager.session(id.unwrap()).unwrap();
                    session.set_sid("call").unwrap();
                });
            }
            let ended = timeout(Duration::from_secs(10), calls.run(&endpoint)).await;
            ended.expect("the link has ended");
            let told = std::iter::from_fn(|| events.try_recv().ok());
            let over = told.filter(|told| matches!(told, JmiOutput::Over { .. }));
            assert_eq!(over.count(), usize::from(!is_there), "{is_there}");
        }
    }

    /// What becomes of a message where only a friend may call.
    fn told(text: &str) -> Option<JmiOutput> {
        let (own, now) = (Peer::from("me@z/1"), Instant::now());
        let (calls, _events) = Calls::new(JmiConfig::default());
        let policy = Policy::new([Rule::Peer("friend@x".into())]);
        policy.set_own(&own);
        calls.set_policy(policy);
        calls.update(|jmi, _| jmi.set_own(own.clone()));
        let config = session_core::Config::default();
        let mut manager = SessionManager::new(config, session_core::SeededEntropy::new(1));
        let mut service = calls.service();
        service.handle_other(&message(&own, text), &mut manager, now);
        calls.update(|jmi, _| jmi.poll_output())
    }

    #[test]
    fn a_stranger_does_not_ring_in_any_version_or_carbon() {
        let propose = |version: u8| {
            format!("<propose xmlns='urn:xmpp:jingle-message:{version}' id='{version}'/>")
        };
        let carbon = |by: &str, from: &str, to: &str, version| {
            format!(
                "<message from='{by}'><received xmlns='urn:xmpp:carbons:2'><forwarded \
                 xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{from}' to='{to}'>{}\
                 </message></forwarded></received></message>",
                propose(version)
            )
        };
        for version in [0, 1] {
            let direct = |from| format!("<message from='{from}'>{}</message>", propose(version));
            let copied = |from| carbon("me@z", from, "me@z", version);
            for (text, rings) in [
                (direct("friend@x/1"), true),
                (direct("stranger@x/1"), false),
                (copied("friend@x/1"), true),
                (copied("stranger@x/1"), false),
                // Nobody but our own account copies anything (XEP-0280 §11).
                (carbon("stranger@x/1", "friend@x/1", "me@z", version), false),
                (carbon("friend@x", "friend@x/1", "me@z", version), false),
                (carbon("me@z/2", "friend@x/1", "me@z", version), false),
                (carbon("z", "friend@x/1", "me@z", version), false),
            ] {
                let rang = matches!(told(&text), Some(JmiOutput::Proposed { .. }));
                assert_eq!(rang, rings, "{text}");
            }
        }
    }

    #[test]
    fn the_longest_delay_counts() {
        let at = |text: &str| {
            let element = xml::parse(
                text.as_bytes(),
                &XmlContext::CLIENT,
                &ElementLimits::default(),
            );
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_435_200 + 90);
            delay(element.unwrap().view(), now).map(|delay| delay.as_secs())
        };
        let stamp = "<delay xmlns='urn:xmpp:delay' stamp='2026-11-23T12:00:00Z'/>";
        let recent = stamp.replace("12:00:00", "12:01:00.5");
        assert_eq!(at("<message/>"), None);
        assert_eq!(at(&format!("<message>{stamp}</message>")), Some(90));
        assert_eq!(
            at(&format!(
                "<message>{}</message>",
                stamp.replace("12:", "23:")
            )),
            None
        );
        assert_eq!(
            at(&format!(
                "<message>{}</message>",
                stamp.replace("2026", "x")
            )),
            None
        );
        let carbon = format!(
            "<message><received xmlns='urn:xmpp:carbons:2'><forwarded xmlns='urn:xmpp:forward:0'>{recent}\
             <message xmlns='jabber:client'>{stamp}</message></forwarded></received></message>"
        );
        assert_eq!(at(&carbon), Some(90));
    }
}
