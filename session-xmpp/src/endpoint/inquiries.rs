//! What channels ask of their host, as far as the endpoint was given the means to find it out.

use super::{Shared, core::Core};
use session_core::{Finding, Input, Inquiry, SocketId};
use std::{sync::Arc, time::Instant};

impl Core {
    /// Answers at once, or later.
    pub(super) fn inquire(
        &mut self,
        shared: Option<&Arc<Shared>>,
        id: SocketId,
        inquiry: Inquiry,
        now: Instant,
    ) {
        #[cfg(feature = "mdns")]
        if let (Some(names), Some(shared)) = (&shared.and_then(|s| s.names.clone()), shared) {
            match &inquiry {
                Inquiry::LocalName(name) => return look_up(names, shared, id, name),
                Inquiry::HideAddress(address) => {
                    let name = names.announce(*address);
                    let finding = name.map_or(Finding::Unavailable, Finding::Name);
                    return self.found(id, finding, now);
                }
                Inquiry::MapPort(_) | _ => {}
            }
        }
        #[cfg(feature = "port-mapping")]
        if let (Inquiry::MapPort(socket), Some(shared)) = (&inquiry, shared)
            && let Some(ports) = &shared.ports
            && let Some(open) = self.sockets.kept(id.sibling(*socket))
        {
            return map_port(ports, shared, id, open);
        }
        let _ = (shared, inquiry);
        self.found(id, Finding::Unavailable, now);
    }

    fn found(&mut self, inquiry: SocketId, finding: Finding, now: Instant) {
        let input = Input::Found { inquiry, finding };
        self.manager.handle_input(input, now);
    }
}

#[cfg(feature = "mdns")]
fn look_up(names: &super::LocalNames, shared: &Arc<Shared>, id: SocketId, name: &Arc<str>) {
    let (names, name, weak) = (names.clone(), name.clone(), Arc::downgrade(shared));
    shared.runtime.spawn(async move {
        let found = names.look_up(&name).await;
        let finding = found.map_or(Finding::Unavailable, Finding::Address);
        if let Some(shared) = weak.upgrade() {
            let input = Input::Found {
                inquiry: id,
                finding,
            };
            shared.update(|manager, now| manager.handle_input(input, now));
        }
    });
}

#[cfg(feature = "port-mapping")]
fn map_port(
    ports: &super::PortMapper,
    shared: &Arc<Shared>,
    id: SocketId,
    open: super::sockets::Kept,
) {
    let (ports, weak) = (ports.clone(), Arc::downgrade(shared));
    shared.runtime.spawn(async move {
        let mapped = ports.map(open.kind, open.local).await;
        let finding = match &mapped {
            Ok(port) => Finding::Mapped(port.external()),
            Err(error) => {
                tracing::debug!(%error, socket = %open.local, "no port of a router");
                Finding::Unavailable
            }
        };
        if let Some(shared) = weak.upgrade() {
            let input = Input::Found {
                inquiry: id,
                finding,
            };
            shared.update(|manager, now| manager.handle_input(input, now));
        }
        if let Ok(port) = mapped {
            port.keep_until(open.closed).await;
        }
    });
}
