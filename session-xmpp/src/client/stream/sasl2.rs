//! SASL with what follows it in one step (XEP-0388, XEP-0386).

use super::{LoginError, Phase, Stream, condition, negotiate};
use crate::{
    address,
    client::{
        features::Sasl2,
        management::Management,
        ns,
        sasl::{self, Binding, Exchange, Mechanism},
    },
};
use session_core::{Element, ElementRef, Peer};
use std::time::Instant;

impl Stream {
    /// Begins, and asks along with it for the old stream, or for an address where any will do: the name of a device that
    /// was asked for can be had only by the binding of RFC 6120 §7.
    pub(super) fn authenticate2(
        &mut self,
        offer: &Sasl2,
        (mechanism, binding): (Mechanism, Binding),
    ) -> Result<(), LoginError> {
        let exchange = self.exchange(mechanism, &binding)?;
        let mut request =
            Element::new(ns::SASL2, "authenticate").with("mechanism", mechanism.name());
        if !exchange.initial().is_empty() {
            let initial = negotiate::encoded(exchange.initial());
            request.push(Element::new(ns::SASL2, "initial-response").text(&initial));
        }
        let old = self.resumption();
        let is_new = old.is_none();
        if let Some(resume) = old.filter(|_| offer.resume) {
            request.push(resume);
        }
        if offer.bind && self.login.resource.is_none() && (is_new || offer.resume) {
            let mut bind = Element::new(ns::BIND2, "bind");
            if offer.management && self.login.manage {
                bind.push(Element::new(ns::SM, "enable").with("resume", "true"));
            }
            request.push(bind);
        }
        self.phase = Phase::Authenticating {
            exchange,
            mechanism,
            namespace: ns::SASL2,
        };
        self.write(&request)
    }

    /// The server's consent, and what it says about the rest.
    pub(super) fn success2(
        &mut self,
        element: &Element,
        exchange: &Exchange,
        now: Instant,
    ) -> Result<(), LoginError> {
        let data = element.find(ns::SASL2, "additional-data");
        let data = data.map_or_else(|| Ok(Vec::new()), negotiate::decoded)?;
        exchange.success(&data)?;
        if let Some(resumed) = element.find(ns::SM, "resumed") {
            return self.resumed(resumed, now);
        }
        if let Some(failed) = element.find(ns::SM, "failed") {
            let (condition, _) = condition(&failed.to_element(), crate::ns::STANZAS);
            let why = format!("the stream could not be resumed: {condition}");
            self.give_up(LoginError::protocol(why));
        }
        let Some(bound) = element.find(ns::BIND2, "bound") else {
            self.phase = Phase::Features {
                authenticated: true,
            };
            return Ok(());
        };
        self.give_up(LoginError::protocol("it resumes streams no more"));
        let identifier = element.find(ns::SASL2, "authorization-identifier");
        let identifier = identifier.map_or_else(Default::default, ElementRef::text_content);
        let address = address::parse(identifier.trim()).ok();
        let address = address.filter(|address| address.device().is_some());
        let address = address.ok_or_else(|| {
            LoginError::NoAddress(format!("{identifier:?} is not the address of a device").into())
        })?;
        match bound.find(ns::SM, "enabled") {
            Some(enabled) => {
                self.manage(enabled);
                self.up(address, now);
            }
            None => self.phase = Phase::Bound { address },
        }
        Ok(())
    }

    /// What the server refuses, in the words of XEP-0388.
    pub(super) fn failure2(element: &Element) -> LoginError {
        if element.name() != "failure" {
            return LoginError::protocol("SASL wants more than we can do");
        }
        let (condition, text) = condition(element, ns::SASL);
        let own = element.find(ns::SASL2, "text");
        sasl::refusal(
            &condition,
            text.or_else(|| own.map(|text| text.text_content().into())),
        )
    }

    /// An address was given along with SASL, and the offers that follow tell whether there is stream management.
    pub(super) fn offers_after_bind(
        &mut self,
        management: bool,
        address: Peer,
        now: Instant,
    ) -> Result<(), LoginError> {
        self.enable(address, management, now)
    }

    /// The request for the old stream, if there is one that can be resumed.
    pub(super) fn resumption(&self) -> Option<Element> {
        let books: &Management = self.management.as_ref()?;
        let resume = Element::new(ns::SM, "resume");
        Some(
            resume
                .with("previd", books.id()?)
                .with("h", books.handled()),
        )
    }
}
