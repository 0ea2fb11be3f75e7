//! ICE over TCP (RFC 6544): passive candidates listen, active ones connect when their pair is checked.
//!
//! Both sides of a simultaneous open connect from the ports that they told, which gets through firewalls that let nobody
//! in whom nobody went out to.

use super::Agent;
use crate::ice::{
    candidate::{CandidateKind, Protocol, is_usable},
    component::Component,
    pair::{Base, PairState},
    tcp::Listener,
};
use session_core::{BindKind, ChannelOutput, LocalSocket, SocketError, StreamEvent};
use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

/// Where an active candidate claims to be: it takes no connection (RFC 6544 §4.5).
const DISCARD: u16 = 9;

impl Agent {
    /// A socket at an address is open: TCP from there is offered as well.
    pub(super) fn gather_tcp(&mut self, id: u16, number: LocalSocket, ip: IpAddr, now: Instant) {
        if !self.tcp || self.hides_hosts() {
            return;
        }
        if let Some(component) = self.components.get_mut(&id) {
            component.listen(ip, BindKind::TcpListener);
            component.listen(ip, BindKind::TcpReserved);
        }
        let (base, address) = (Base::TcpActive(number), SocketAddr::new(ip, DISCARD));
        self.add_local(id, base, CandidateKind::Host, address, None, now);
    }

    /// A listener is open, if this is one.
    pub(super) fn listening(
        &mut self,
        id: u16,
        number: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        let is = |listener: &Listener| listener.number == number;
        let base = if component.tcp.listeners.iter().any(is) {
            Base::TcpPassive(number)
        } else if component.tcp.reserved.iter().any(is) {
            Base::TcpSimultaneous(number)
        } else {
            return;
        };
        match address {
            Ok(address) if is_usable(address) => {
                self.add_local(id, base, CandidateKind::Host, address, None, now);
            }
            Ok(_) | Err(_) => {
                component.tcp.listeners.retain(|l| l.number != number);
                component.tcp.reserved.retain(|l| l.number != number);
            }
        }
    }

    /// Something happened to a listener or a connection.
    pub(super) fn handle_tcp(
        &mut self,
        id: u16,
        number: LocalSocket,
        event: StreamEvent,
        now: Instant,
    ) {
        let Some(component) = self.components.get_mut(&id).filter(|c| !c.failed) else {
            return;
        };
        match event {
            StreamEvent::Accepted { connection, remote } => {
                let pairs = &self.pairs;
                let is_known = |base| pairs.iter().any(|p| p.component == id && p.base == base);
                component.accept(number, connection, remote, is_known);
            }
            StreamEvent::Connected(Ok(_)) => component.connection_opened(number),
            StreamEvent::Data(bytes) => {
                let Some(connection) = component.connection(number) else {
                    return;
                };
                let remote = connection.remote;
                connection.received(&bytes);
                while let Some(packet) = self
                    .components
                    .get_mut(&id)
                    .and_then(|c| c.connection(number)?.next_datagram())
                {
                    self.handle_packets(id, Base::Tcp(number), remote, packet.into(), now);
                }
            }
            StreamEvent::Buffered(bytes) => {
                if let Some(connection) = component.connection(number) {
                    connection.left(bytes);
                }
            }
            StreamEvent::Connected(Err(_)) | StreamEvent::Finished | StreamEvent::Closed(_) | _ => {
                self.connection_lost(id, number, now);
            }
        }
    }

    fn connection_lost(&mut self, id: u16, number: LocalSocket, now: Instant) {
        let base = Base::Tcp(number);
        let again = self
            .components
            .get_mut(&id)
            .is_some_and(|c| c.reopen(number, now));
        for pair in &mut self.pairs {
            if pair.component == id && pair.base == base {
                pair.check = None;
                if again {
                    pair.state = PairState::Waiting;
                    pair.note = "both sides are to connect at once";
                    continue;
                }
                pair.state = PairState::Failed;
                pair.nominated = false;
                pair.note = "the connection failed";
            }
        }
        let Some(component) = self.components.get_mut(&id).filter(|_| !again) else {
            return;
        };
        component.close_connection(number);
        if component
            .path
            .as_ref()
            .is_some_and(|path| path.base == base)
        {
            component.set_path(None);
            self.path_lost(now);
        }
    }

    /// Connections that we opened for pairs that are gone.
    pub(super) fn close_unused_connections(&mut self) {
        let pairs = &self.pairs;
        for component in self.components.values_mut() {
            let id = component.id;
            component.close_connections(|base| {
                pairs.iter().any(|p| p.component == id && p.base == base)
            });
        }
    }
}

impl Component {
    /// Asks for a listener at an address, or for a port to connect from.
    fn listen(&mut self, ip: IpAddr, kind: BindKind) {
        let number = LocalSocket(self.next_socket);
        if Self::relay_socket(0, number).is_none() {
            return;
        }
        self.next_socket += 1;
        let listener = Listener { number, ip };
        match kind {
            BindKind::TcpReserved => self.tcp.reserved.push(listener),
            BindKind::TcpListener | BindKind::Udp => self.tcp.listeners.push(listener),
        }
        let any = SocketAddr::new(ip, 0);
        self.push(ChannelOutput::Bind(number, kind, any));
    }

    /// An address has gone, and what listens there; whether the connections that came by it are of use no longer is
    /// shown by consent.
    pub(super) fn close_listeners(&mut self, remains: impl Fn(IpAddr) -> bool) -> Vec<LocalSocket> {
        let Some(tcp) = self.tcp.there() else {
            return Vec::new();
        };
        let listeners = tcp.listeners.extract_if(.., |l| !remains(l.ip));
        let mut gone: Vec<_> = listeners.map(|listener| listener.number).collect();
        let reserved = tcp.reserved.extract_if(.., |l| !remains(l.ip));
        gone.extend(reserved.map(|listener| listener.number));
        for number in &gone {
            self.push(ChannelOutput::Close(*number));
        }
        gone
    }
}

/// The protocol of a local candidate with this base.
pub(super) fn protocol_of(base: Base) -> Protocol {
    match base {
        Base::Host(_) | Base::Relay(_) => Protocol::Udp,
        Base::TcpActive(_) | Base::Tcp(_) => Protocol::TcpActive,
        Base::TcpPassive(_) => Protocol::TcpPassive,
        Base::TcpSimultaneous(_) => Protocol::TcpSimultaneous,
    }
}
