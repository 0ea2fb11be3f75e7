//! What two DTLS layers say to each other in signalling (XEP-0320).

use super::{
    Settings,
    channel::DtlsChannel,
    fingerprint::{self, Announcement, NAMESPACE, Setup},
};
use session_core::{
    Element, ElementRef, Fingerprint, HandshakeSide, LayerNegotiation, TransportChannel,
    TransportContext, TransportError,
};
use std::sync::Arc;

/// The other end, as signalling names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counterpart {
    pub(super) fingerprints: Vec<Fingerprint>,
    /// Our side of the handshake.
    pub(super) side: HandshakeSide,
}

pub(super) struct Negotiation {
    settings: Arc<Settings>,
    /// What the peer said before it answered.
    early: Option<Announcement>,
    agreed: Option<Counterpart>,
    /// The handshake may have begun, by what the peer said before it answered.
    begun: bool,
}

const CHANGED: TransportError = TransportError::Untrusted("the peer's fingerprint has changed");

impl Negotiation {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self {
            settings,
            early: None,
            agreed: None,
            begun: false,
        }
    }

    fn without(&self) -> Result<(), TransportError> {
        match self.settings.required {
            true => Err(TransportError::Unacceptable("the peer does not offer DTLS")),
            false => Ok(()),
        }
    }

    fn agree(&mut self, theirs: Announcement, side: HandshakeSide) {
        self.agreed = Some(Counterpart {
            fingerprints: theirs.fingerprints,
            side,
        });
    }
}

impl LayerNegotiation for Negotiation {
    fn owns(&self, child: ElementRef<'_>) -> bool {
        child.is(NAMESPACE, "fingerprint")
    }

    fn offer(&mut self) -> Vec<Element> {
        let ours = self.settings.identity.fingerprint();
        vec![fingerprint::write(ours, "actpass")]
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Vec<Element>, TransportError> {
        self.agreed = None;
        let Some(theirs) = fingerprint::read(offer)? else {
            return self.without().map(|()| Vec::new());
        };
        let (side, setup) = match theirs.setup {
            // Many initiators that leave it open always wait (jingle-peers: Dino); some leave the role out (Jitsi).
            Some(Setup::ActPass | Setup::Passive) | None => (HandshakeSide::Client, "active"),
            Some(Setup::Active) => (HandshakeSide::Server, "passive"),
            Some(Setup::HoldConn) => {
                return Err(TransportError::Unacceptable("the peer holds DTLS back"));
            }
        };
        self.agree(theirs, side);
        let ours = self.settings.identity.fingerprint();
        Ok(vec![fingerprint::write(ours, setup)])
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let theirs = match (fingerprint::read(answer)?, &self.early) {
            (None, None) => {
                self.agreed = None;
                return self.without();
            }
            (None, Some(early)) => early.clone(),
            (Some(theirs), Some(early)) if early.fingerprints != theirs.fingerprints => {
                return Err(CHANGED);
            }
            (Some(theirs), _) => theirs,
        };
        if self.begun {
            return Ok(());
        }
        self.agreed = None;
        let side = match theirs.setup {
            // A responder that names no role, or leaves it open, is taken by what most of those do: the first begin, the
            // second are initiators in disguise (gateways), which wait.
            Some(Setup::Active) | None => HandshakeSide::Server,
            Some(Setup::Passive | Setup::ActPass) => HandshakeSide::Client,
            Some(Setup::HoldConn) => {
                return Err(TransportError::Unacceptable("the peer holds DTLS back"));
            }
        };
        self.agree(theirs, side);
        Ok(())
    }

    fn handle_info(&mut self, info: &Element) -> Result<(), TransportError> {
        let Some(theirs) = fingerprint::read(info)? else {
            return Ok(());
        };
        let known = self.agreed.as_ref().map(|agreed| &agreed.fingerprints);
        let known = known.or_else(|| self.early.as_ref().map(|early| &early.fingerprints));
        match known {
            Some(known) if *known != theirs.fingerprints => Err(CHANGED),
            Some(_) => Ok(()),
            None => {
                self.early = Some(theirs);
                Ok(())
            }
        }
    }

    fn begin_early(&mut self) -> bool {
        let Some(early) = self.early.clone().filter(|_| self.agreed.is_none()) else {
            return false;
        };
        let side = match early.setup {
            Some(Setup::Active) => HandshakeSide::Server,
            Some(Setup::Passive) => HandshakeSide::Client,
            // Left open, it is no word about who begins: Cheogram's gateway says this, and the opposite in its answer
            // (jingle-peers §3.8).
            Some(Setup::ActPass | Setup::HoldConn) | None => return false,
        };
        self.agree(early, side);
        self.begun = true;
        true
    }

    fn wrap(
        &mut self,
        inner: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        match &self.agreed {
            Some(peer) => {
                let (settings, peer) = (Arc::clone(&self.settings), Some(peer.clone()));
                Box::new(DtlsChannel::new(inner, settings, peer))
            }
            None if self.settings.required => {
                Box::new(DtlsChannel::new(inner, Arc::clone(&self.settings), None))
            }
            None => inner,
        }
    }
}
