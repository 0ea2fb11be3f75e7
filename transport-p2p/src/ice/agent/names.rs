//! What is asked of the host: addresses behind the peer's names, names for our own addresses, ports of the router.

use super::Agent;
use crate::ice::{
    candidate::{Candidate, CandidateKind, is_private, is_usable},
    component::SocketState,
    pair::Base,
    seldom::{Nothing, Seldom},
};
use session_core::{ChannelOutput, Finding, Inquiry, LocalSocket};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// Names of the peer that are looked up in one generation: each asks everybody on our local network.
const NAMES_MAX: usize = 16;

/// What was asked of the host. Most agents ask nothing.
pub(super) type Names = Seldom<Asked>;

#[derive(Default)]
pub(super) struct Asked {
    next: u32,
    remote: Vec<RemoteName>,
    hidden: Vec<Hidden>,
    mapped: Vec<Mapping>,
}

/// A name of the peer, and who waits for its address.
struct RemoteName {
    number: u32,
    name: Arc<str>,
    address: Option<IpAddr>,
    waiting: Vec<Candidate>,
}

/// An address of ours, and the name that it has for the peer.
struct Hidden {
    number: u32,
    address: IpAddr,
    name: Answer,
}

#[derive(Debug)]
enum Answer {
    Awaited,
    Name(Arc<str>),
    None,
}

struct Mapping {
    number: u32,
    component: u16,
    socket: LocalSocket,
}

impl Nothing for Asked {
    fn nothing() -> &'static Self {
        static NOTHING: Asked = Asked {
            next: 0,
            remote: Vec::new(),
            hidden: Vec::new(),
            mapped: Vec::new(),
        };
        &NOTHING
    }
}

impl Asked {
    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Forgets the peer's names.
    pub(super) fn forget_remote(&mut self) {
        self.remote.clear();
    }

    /// Whether names of ours are still awaited.
    pub(super) fn are_awaited(&self) -> bool {
        let awaited = |hidden: &Hidden| matches!(hidden.name, Answer::Awaited);
        self.hidden.iter().any(awaited)
    }
}

impl Agent {
    /// Asks for the address of a candidate that has a name instead, unless that is known.
    pub(super) fn look_up(&mut self, mut candidate: Candidate, now: Instant) {
        let (Some(name), true) = (candidate.name.clone(), self.config.look_up_names) else {
            return;
        };
        if let Some(known) = self.names.remote.iter_mut().find(|r| r.name == name) {
            match known.address {
                Some(ip) => {
                    candidate.address.set_ip(ip);
                    self.add_remote(candidate, now);
                }
                None if known.waiting.len() < self.config.remote_candidates_max => {
                    known.waiting.push(candidate);
                }
                None => {}
            }
            return;
        }
        if self.names.remote.len() >= NAMES_MAX {
            return;
        }
        let number = self.names.number();
        self.names.remote.push(RemoteName {
            number,
            name: name.clone(),
            address: None,
            waiting: vec![candidate],
        });
        self.inquire(number, Inquiry::LocalName(name));
    }

    /// A local candidate in the form in which the peer may know it; `None` when it may not, or not yet.
    pub(super) fn disclose(&mut self, candidate: &Candidate) -> Option<Candidate> {
        let mut told = candidate.clone();
        let hides = self.config.hide_by_name;
        if self.hides_hosts() || !self.config.tell_private || hides {
            told.related = None;
        }
        if candidate.kind != CandidateKind::Host {
            return Some(told);
        }
        let ip = candidate.address.ip();
        if !hides {
            return (self.config.tell_private || !is_private(ip)).then_some(told);
        }
        if let Some(hidden) = self.names.hidden.iter().find(|h| h.address == ip) {
            let Answer::Name(name) = &hidden.name else {
                return None;
            };
            told.name = Some(name.clone());
            return Some(told);
        }
        let number = self.names.number();
        self.names.hidden.push(Hidden {
            number,
            address: ip,
            name: Answer::Awaited,
        });
        self.inquire(number, Inquiry::HideAddress(ip));
        None
    }

    /// Asks for a port of the router that leads to a socket.
    pub(super) fn map_port(&mut self, component: u16, socket: LocalSocket) {
        let number = self.names.number();
        self.names.mapped.push(Mapping {
            number,
            component,
            socket,
        });
        if let Some(component) = self.components.get_mut(&component) {
            component.push(ChannelOutput::Inquire(number, Inquiry::MapPort(socket)));
        }
    }

    fn inquire(&mut self, number: u32, inquiry: Inquiry) {
        let first = self.components.values_mut().find(|c| !c.failed);
        if let Some(component) = first {
            component.push(ChannelOutput::Inquire(number, inquiry));
        }
    }

    /// The host's answer.
    pub(in crate::ice) fn handle_finding(&mut self, number: u32, finding: Finding, now: Instant) {
        self.now = Some(now);
        if let Some(known) = self.names.remote.iter_mut().find(|r| r.number == number) {
            // A name without an address is none that is known: its candidates would be looked up again for ever.
            if let (Finding::Address(ip), None) = (finding, known.address)
                && !ip.is_unspecified()
            {
                known.address = Some(ip);
                for mut candidate in std::mem::take(&mut known.waiting) {
                    candidate.address.set_ip(ip);
                    self.add_remote(candidate, now);
                }
            }
        } else if let Some(at) = self.names.hidden.iter().position(|h| h.number == number) {
            self.address_hidden(at, finding);
        } else if let Some(at) = self.names.mapped.iter().position(|m| m.number == number) {
            let mapping = self.names.mapped.remove(at);
            if let Finding::Mapped(address) = finding {
                self.port_mapped(&mapping, address, now);
            }
        }
        self.review(now);
    }

    /// What waited for the name can be told.
    fn address_hidden(&mut self, at: usize, finding: Finding) {
        let hidden = &mut self.names.hidden[at];
        if !matches!(hidden.name, Answer::Awaited) {
            return;
        }
        let Finding::Name(name) = finding else {
            hidden.name = Answer::None;
            return;
        };
        hidden.name = Answer::Name(name);
        let address = hidden.address;
        let waiting: Vec<_> = self
            .components
            .values()
            .flat_map(|component| &component.locals)
            .map(|local| local.candidate.clone())
            .filter(|c| c.kind == CandidateKind::Host && c.address.ip() == address)
            .collect();
        for candidate in waiting {
            if let Some(told) = self.disclose(&candidate) {
                let id = told.component;
                self.tell(Some(told), false, Some(id));
            }
        }
    }

    /// A mapped port is like what a STUN server sees (RFC 8445 §5.1.1.1).
    fn port_mapped(&mut self, mapping: &Mapping, address: SocketAddr, now: Instant) {
        let sockets = self.components.get(&mapping.component).map(|c| &c.sockets);
        let open = sockets.into_iter().flatten().find_map(|s| match s.state {
            SocketState::Open(base) if s.number == mapping.socket => Some(base),
            SocketState::Open(_) | SocketState::Binding | SocketState::Failed(_) => None,
        });
        let Some(base) = open.filter(|base| *base != address && is_usable(address)) else {
            return;
        };
        self.add_local(
            mapping.component,
            Base::Host(mapping.socket),
            CandidateKind::ServerReflexive,
            address,
            Some(base),
            now,
        );
    }
}
