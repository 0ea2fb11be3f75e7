//! From the server's offers to a login.

use super::{Management, Output, Phase, Stream, condition};
use crate::{
    address,
    client::{
        error::LoginError,
        features::Features,
        ns,
        sasl::{self, Binding, Exchange, Floor, Mechanism, Offer},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use session_core::{Element, ElementRef, Peer};
use std::time::{Duration, Instant};

/// The random part of a login: 24 bytes, as many as fill 32 letters.
const NONCE_BYTES: usize = 24;

/// The longest that a server's word for how long it keeps a stream is believed.
const RESUME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Stream {
    /// An element that is no stanza, or one before the login.
    pub(super) fn element(&mut self, element: &Element, now: Instant) -> Result<(), LoginError> {
        if element.is(crate::xml::NS_STREAMS, "features") {
            // Whoever is logged in may be allowed more than before.
            let stanza_max = Features::read(element).stanza_max;
            self.stanza_max = stanza_max.or(self.stanza_max);
        }
        match &self.phase {
            Phase::Features { authenticated } => self.features(element, *authenticated),
            Phase::Bound { address } => {
                let address = address.clone();
                let management = Features::read(element).management;
                self.offers_after_bind(management, address, now)
            }
            Phase::StartTls => self.proceed(element),
            Phase::Authenticating { .. } => self.authenticating(element, now),
            Phase::Resuming { session } => self.resuming(element, *session, now),
            Phase::Binding { .. } => self.bound(element, now),
            Phase::Session { .. } => self.session(element, now),
            Phase::Enabling { .. } => self.enabled(element, now),
            Phase::Online => self.other(element),
            Phase::Header { .. } | Phase::Idle | Phase::Securing | Phase::Closed => Ok(()),
        }
    }

    fn features(&mut self, element: &Element, authenticated: bool) -> Result<(), LoginError> {
        if !element.is(crate::xml::NS_STREAMS, "features") {
            return Err(LoginError::protocol("no offers after the header"));
        }
        let features = Features::read(element);
        if authenticated {
            return self.authenticated(&features);
        }
        if self.secured.is_none() {
            if features.starttls {
                self.phase = Phase::StartTls;
                return self.write(&Element::new(ns::TLS, "starttls"));
            }
            if !self.login.allow_unencrypted {
                return Err(LoginError::NoTls);
            }
        }
        let floor = Floor {
            earlier: self.mechanism,
            binding_required: self.login.require_channel_binding,
        };
        let choose = |offer: &Offer| {
            sasl::choose(offer, &self.login.credentials, self.secured.as_ref(), floor)
        };
        if let Some(sasl2) = &features.sasl2
            && let Ok(choice) = choose(&sasl2.offer)
        {
            return self.authenticate2(sasl2, choice);
        }
        let (mechanism, binding) = choose(&features.sasl)?;
        let exchange = self.exchange(mechanism, &binding)?;
        let auth = Element::new(ns::SASL, "auth").with("mechanism", mechanism.name());
        let auth = auth.text(&encoded(exchange.initial()));
        self.phase = Phase::Authenticating {
            exchange,
            mechanism,
            namespace: ns::SASL,
        };
        self.write(&auth)
    }

    /// Begins an exchange.
    pub(super) fn exchange(
        &mut self,
        mechanism: Mechanism,
        binding: &Binding,
    ) -> Result<Exchange, LoginError> {
        let mut nonce = [0; NONCE_BYTES];
        self.entropy.fill(&mut nonce);
        Exchange::new(mechanism, binding, &self.login.credentials, &nonce)
    }

    fn proceed(&mut self, element: &Element) -> Result<(), LoginError> {
        if !element.is(ns::TLS, "proceed") {
            return Err(LoginError::NoTls);
        }
        // What stands in the buffer came in the clear, perhaps from somebody who would have it taken for the server's.
        if self.splitter.reset() > 0 {
            let why = "something in the clear after STARTTLS";
            return Err(LoginError::protocol(why));
        }
        self.phase = Phase::Securing;
        self.outputs.push_back(Output::StartTls);
        Ok(())
    }

    fn authenticating(&mut self, element: &Element, now: Instant) -> Result<(), LoginError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Closed);
        let Phase::Authenticating {
            mut exchange,
            mechanism,
            namespace,
        } = phase
        else {
            return Ok(());
        };
        if element.namespace() != namespace {
            return Err(LoginError::protocol("something else during SASL"));
        }
        match element.name() {
            "challenge" => {
                let challenge = decoded(element.view())?;
                let response = exchange.challenge(&challenge, &mut self.salted)?;
                let response = Element::new(namespace, "response").text(&BASE64.encode(response));
                self.phase = Phase::Authenticating {
                    exchange,
                    mechanism,
                    namespace,
                };
                self.write(&response)
            }
            "success" if namespace == ns::SASL2 => {
                self.success2(element, &exchange, now)?;
                self.mechanism = Some(mechanism);
                Ok(())
            }
            "success" => {
                exchange.success(&decoded(element.view())?)?;
                // From now on, this is the least that the server has to offer.
                self.mechanism = Some(mechanism);
                self.splitter.restart();
                self.open(true);
                Ok(())
            }
            _ if namespace == ns::SASL2 => Err(Self::failure2(element)),
            "failure" => {
                let (condition, text) = condition(element, ns::SASL);
                Err(sasl::refusal(&condition, text))
            }
            _ => Err(LoginError::protocol("an unknown step of SASL")),
        }
    }

    /// Logged in: the old stream is asked back if there is one, else a resource is bound.
    fn authenticated(&mut self, features: &Features) -> Result<(), LoginError> {
        if !features.bind {
            let why = "it does not offer to bind a resource";
            return Err(LoginError::NoAddress(why.into()));
        }
        if let Some(resume) = self.resumption().filter(|_| features.management) {
            self.phase = Phase::Resuming {
                session: features.session,
            };
            return self.write(&resume);
        }
        self.give_up(LoginError::protocol("it resumes streams no more"));
        self.bind(true, features.session, features.management)
    }

    fn resuming(
        &mut self,
        element: &Element,
        session: bool,
        now: Instant,
    ) -> Result<(), LoginError> {
        if element.namespace() != ns::SM {
            return Err(LoginError::protocol("no answer to the resumption"));
        }
        match element.name() {
            "resumed" => self.resumed(element.view(), now),
            "failed" => {
                let (condition, _) = condition(element, crate::ns::STANZAS);
                let why = format!("the stream could not be resumed: {condition}");
                self.give_up(LoginError::protocol(why));
                self.bind(true, session, true)
            }
            _ => Err(LoginError::protocol("an unknown answer to the resumption")),
        }
    }

    /// The old stream goes on.
    pub(super) fn resumed(
        &mut self,
        element: ElementRef<'_>,
        now: Instant,
    ) -> Result<(), LoginError> {
        let count = element.attribute("h").and_then(|count| count.parse().ok());
        let books = self.management.as_mut();
        let counted = books
            .zip(count)
            .is_some_and(|(books, count)| books.resume(count).is_ok());
        if !counted {
            return Err(LoginError::protocol("a count that cannot be"));
        }
        self.suspended_until = None;
        self.outputs.push_back(Output::Resumed);
        self.online(now);
        self.flush();
        Ok(())
    }

    /// Asks for a resource: ours, or whichever the server makes up.
    fn bind(&mut self, ours: bool, session: bool, management: bool) -> Result<(), LoginError> {
        let mut bind = Element::new(ns::BIND, "bind");
        let resource = self.login.resource.as_deref().filter(|_| ours);
        if let Some(resource) = resource {
            bind.push(Element::new(ns::BIND, "resource").text(resource));
        }
        self.phase = Phase::Binding {
            ours: resource.is_some(),
            session,
            management,
        };
        self.write(&request("bind", bind))
    }

    fn bound(&mut self, element: &Element, now: Instant) -> Result<(), LoginError> {
        let Phase::Binding {
            ours,
            session,
            management,
        } = self.phase
        else {
            return Ok(());
        };
        if element.attribute("id") != Some("bind") {
            return self.early(element);
        }
        if element.attribute("type") != Some("result") {
            let (why, _) = stanza_error(element);
            if ours && &*why == "conflict" {
                return self.bind(false, session, management);
            }
            return Err(no_address(element));
        }
        let bind = element.find(ns::BIND, "bind");
        let jid = bind.and_then(|bind| bind.find(ns::BIND, "jid"));
        let jid = jid.map_or_else(Default::default, ElementRef::text_content);
        let address = address::parse(jid.trim());
        let address = address.ok().filter(|address| address.device().is_some());
        let address = address.ok_or_else(|| {
            LoginError::NoAddress(format!("{jid:?} is not the address of a device").into())
        })?;
        if session {
            self.phase = Phase::Session {
                address,
                management,
            };
            return self.write(&request("session", Element::new(ns::SESSION, "session")));
        }
        self.enable(address, management, now)
    }

    fn session(&mut self, element: &Element, now: Instant) -> Result<(), LoginError> {
        let Phase::Session {
            address,
            management,
        } = &self.phase
        else {
            return Ok(());
        };
        if element.attribute("id") != Some("session") {
            return self.early(element);
        }
        if element.attribute("type") != Some("result") {
            return Err(no_address(element));
        }
        let (address, management) = (address.clone(), *management);
        self.enable(address, management, now)
    }

    pub(super) fn enable(
        &mut self,
        address: Peer,
        management: bool,
        now: Instant,
    ) -> Result<(), LoginError> {
        if !(management && self.login.manage) {
            self.up(address, now);
            return Ok(());
        }
        self.phase = Phase::Enabling { address };
        self.write(&Element::new(ns::SM, "enable").with("resume", "true"))
    }

    fn enabled(&mut self, element: &Element, now: Instant) -> Result<(), LoginError> {
        let Phase::Enabling { address } = &self.phase else {
            return Ok(());
        };
        if element.namespace() != ns::SM {
            return self.early(element);
        }
        let address = address.clone();
        // If it is refused, then without.
        if element.name() == "enabled" {
            self.manage(element.view());
        }
        self.up(address, now);
        Ok(())
    }

    /// Stanzas count from here on.
    pub(super) fn manage(&mut self, enabled: ElementRef<'_>) {
        let allowed = matches!(enabled.attribute("resume"), Some("true" | "1"));
        let max = enabled.attribute("max").and_then(|max| max.parse().ok());
        let max = max.map(|max: u64| Duration::from_secs(max).min(RESUME_MAX));
        self.resume_for = max.unwrap_or(self.login.resume_for);
        let id = enabled.attribute("id").filter(|_| allowed);
        self.management = Some(Management::new(id));
    }

    /// The login has come to be.
    pub(super) fn up(&mut self, address: Peer, now: Instant) {
        self.address = Some(address.clone());
        self.outputs.push_back(Output::Up(address));
        let early = std::mem::take(&mut self.early);
        self.outputs.extend(early.into_iter().map(Output::Stanza));
        self.online(now);
    }
}

/// A request to the server itself.
fn request(id: &str, payload: Element) -> Element {
    Element::new(crate::ns::CLIENT, "iq")
        .with("type", "set")
        .with("id", id)
        .child(payload)
}

fn stanza_error(reply: &Element) -> (std::sync::Arc<str>, Option<std::sync::Arc<str>>) {
    let error = reply.find(crate::ns::CLIENT, "error");
    error.map_or_else(
        || ("no error".into(), None),
        |error| condition(&error.to_element(), crate::ns::STANZAS),
    )
}

fn no_address(reply: &Element) -> LoginError {
    LoginError::NoAddress(match stanza_error(reply) {
        (condition, Some(text)) => format!("{condition} ({text})").into(),
        (condition, None) => condition,
    })
}

/// As the request has it: nothing at all is written as `=` (RFC 6120 §6.4.2).
pub(super) fn encoded(data: &[u8]) -> String {
    if data.is_empty() {
        "=".to_owned()
    } else {
        BASE64.encode(data)
    }
}

pub(super) fn decoded(element: ElementRef<'_>) -> Result<Vec<u8>, LoginError> {
    let text = element.text_content();
    let text = text.trim();
    if text == "=" {
        return Ok(Vec::new());
    }
    let data = BASE64.decode(text);
    data.map_err(|_| LoginError::protocol("SASL with what is no base64"))
}
