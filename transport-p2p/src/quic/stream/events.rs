//! What connections tell.

use super::{Closed, QuicStream, close};
use quinn_proto::{ConnectionError, Dir, Event, StreamEvent, TransportErrorCode, VarInt};

/// The alert of TLS with which a certificate is refused that is not the pinned one: `access_denied` (RFC 8446 §6.2).
const ACCESS_DENIED: u8 = 49;

impl QuicStream {
    /// Takes in what connections have to tell.
    pub(super) fn attend(&mut self) {
        while let Some((at, event)) = self.next_event() {
            match event {
                Event::Connected => self.on_connected(at),
                Event::ConnectionLost { reason } => self.on_lost(at, &reason),
                Event::Stream(event) if self.open => self.on_stream(event),
                Event::Stream(_)
                | Event::HandshakeDataReady
                | Event::DatagramReceived
                | Event::DatagramsUnblocked => {}
            }
        }
        self.confirm();
    }

    fn next_event(&mut self) -> Option<(usize, Event)> {
        let links = self.links.as_mut()?;
        links.attend();
        links
            .all
            .iter_mut()
            .enumerate()
            .find_map(|(at, link)| Some((at, link.connection.poll()?)))
    }

    fn on_connected(&mut self, at: usize) {
        if let Some(links) = &mut self.links {
            links.settle(at);
        }
        self.open = true;
        let opened = self.connection().and_then(|c| c.streams().open(Dir::Uni));
        match opened {
            Some(id) => self.outgoing = Some(id),
            None => self.end(Closed::Protocol("the peer takes no stream".into())),
        }
        self.accept();
        self.write();
    }

    /// The peer's stream, once it is there. There is one.
    fn accept(&mut self) {
        let Some(connection) = self.connection() else {
            return;
        };
        if let Some(id) = connection.streams().accept(Dir::Uni) {
            connection.set_max_concurrent_streams(Dir::Uni, VarInt::from_u32(0));
            self.incoming = Some(id);
        }
    }

    fn on_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => self.accept(),
            StreamEvent::Writable { .. } => self.write(),
            StreamEvent::Finished { .. } => self.delivered = true,
            StreamEvent::Stopped { .. } => self.end(Closed::Gone),
            StreamEvent::Opened { dir: Dir::Bi }
            | StreamEvent::Readable { .. }
            | StreamEvent::Available { .. } => {}
        }
    }

    fn on_lost(&mut self, at: usize, reason: &ConnectionError) {
        let why = cause(reason);
        let is_attempt = !self.open && !self.calls;
        if is_attempt && why != Some(Closed::WrongCertificate) {
            if let Some(links) = &mut self.links {
                links.remove(at);
            }
            return;
        }
        if let Some(why) = why {
            self.end(why);
        }
    }
}

/// In our terms; `None` when it was us.
fn cause(reason: &ConnectionError) -> Option<Closed> {
    let denied = TransportErrorCode::crypto(ACCESS_DENIED);
    Some(match reason {
        ConnectionError::LocallyClosed => return None,
        ConnectionError::TransportError(error) if error.code == denied => Closed::WrongCertificate,
        ConnectionError::ConnectionClosed(close) if close.error_code == denied => {
            Closed::Refused("it was told another certificate than ours".into())
        }
        ConnectionError::ApplicationClosed(closed)
            if closed.error_code == VarInt::from_u32(close::GONE) =>
        {
            Closed::Gone
        }
        // What an application says before the handshake is over has no words (RFC 9000 §10.2.3).
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::APPLICATION_ERROR =>
        {
            Closed::Gone
        }
        ConnectionError::ApplicationClosed(_) => Closed::Refused("it cannot go on".into()),
        ConnectionError::ConnectionClosed(_) | ConnectionError::Reset => {
            Closed::Refused(reason.to_string())
        }
        ConnectionError::TimedOut => Closed::Silent,
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::CidsExhausted => Closed::Protocol(reason.to_string()),
    })
}
