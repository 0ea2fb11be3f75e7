//! What can be asked of a session, and what it announces.

use super::{Content, Session};
use crate::{
    Cause, Dialect, Element, Modification, Peer, Reason, Role, SessionError, SessionId, Signal,
    State, Transport,
};
use std::sync::Arc;

/// Getters.
impl Session {
    /// Its place in the manager.
    pub fn id(&self) -> SessionId {
        self.passing.id
    }

    /// Its name on the wire (libjingle SessionID's id).
    pub fn sid(&self) -> &Arc<str> {
        &self.sid
    }

    /// Our address (libjingle name).
    pub fn name(&self) -> &Peer {
        &self.local
    }

    /// The peer's address; empty before [`initiate`](Self::initiate).
    pub fn remote_name(&self) -> &Peer {
        &self.remote
    }

    /// The address of the side that offered.
    pub fn initiator(&self) -> &Peer {
        &self.initiator
    }

    /// Which side we are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The namespace of its client.
    pub fn session_type(&self) -> &str {
        &self.session_type
    }

    /// In which vocabulary it speaks.
    pub fn dialect(&self) -> &'static Dialect {
        self.dialect
    }

    /// Where it is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// The error announced last.
    pub fn error(&self) -> Option<&SessionError> {
        self.signals.error.last()
    }

    /// Why it ended, once it has.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_deref()
    }

    /// Our description of the default content.
    pub fn description(&self) -> Option<&Element> {
        self.contents.first()?.description.as_ref()
    }

    /// The peer's description of the default content.
    pub fn remote_description(&self) -> Option<&Element> {
        self.contents.first()?.remote_description.as_ref()
    }

    /// The namespace of the default content's transport, once one is chosen (libjingle transport).
    pub fn transport(&self) -> Option<&str> {
        self.contents.first()?.transport()
    }

    /// A transport of the default content (libjingle GetTransport): any on offer; once one is chosen only that one.
    pub fn get_transport(&mut self, namespace: &str) -> Option<&mut dyn Transport> {
        let carriers = &mut self.contents.first_mut()?.carriers;
        let carrier = carriers.iter_mut().find(|c| &*c.namespace == namespace)?;
        Some(carrier.transport.as_mut())
    }

    /// The transports that may be used in this session, most preferred first.
    pub fn potential_transports(&self) -> Vec<Arc<str>> {
        match &self.potential {
            Some(list) => list.clone(),
            None => self
                .registry
                .factories()
                .map(|f| f.namespace().into())
                .collect(),
        }
    }

    /// Fills `buffer` from the manager's [`Entropy`](crate::Entropy): for keys of clients, which draw from nowhere else.
    pub fn fill_random(&self, buffer: &mut [u8]) {
        self.shared.fill(buffer);
    }

    /// Its contents; the first is the default one.
    pub fn contents(&self) -> impl Iterator<Item = &Content> {
        self.contents.iter()
    }

    /// The content with this name.
    pub fn content(&self, name: &str) -> Option<&Content> {
        self.contents.iter().find(|c| &*c.name == name)
    }

    /// Announces every state, in order; [`State::Deinit`] last and once.
    pub fn signal_state(&self) -> &Signal<State> {
        &self.signals.state
    }

    /// Announces errors, fatal and not.
    pub fn signal_error(&self) -> &Signal<SessionError> {
        &self.signals.error
    }

    /// Announces information from the peer's application.
    pub fn signal_info_message(&self) -> &Signal<Arc<[Element]>> {
        &self.signals.info
    }

    /// Announces, once, that the peer ended the session, with its reason if it gave one.
    pub fn signal_received_terminate_reason(&self) -> &Signal<Option<Reason>> {
        &self.signals.terminate_reason
    }

    /// Announces channels of which the peer says that it does not have them. A stream that fails after we have finished it
    /// is told to the client alone ([`SessionClient::on_channel_gone`](crate::SessionClient::on_channel_gone)).
    pub fn signal_channel_gone(&self) -> &Signal<Arc<str>> {
        &self.signals.channel_gone
    }

    /// Announces changes of the running session.
    pub fn signal_modification(&self) -> &Signal<Modification> {
        &self.signals.modification
    }
}
