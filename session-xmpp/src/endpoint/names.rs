//! Names of the local network, by multicast DNS (RFC 6762), in the way in which browsers hide the addresses of their ICE
//! candidates (draft-ietf-mmusic-mdns-ice-candidates).

use mdns_sd::{HostnameResolutionEvent, IfKind, ServiceDaemon, ServiceInfo};
use session_core::SocketError;
use std::{
    collections::VecDeque,
    fmt,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

/// How long a name is looked for, in milliseconds. ICE waits as long for an answer to a check.
const LOOK_UP_MS: u64 = 5_000;
/// Names that are announced at a time: past it the oldest is withdrawn.
const ANNOUNCED_MAX: usize = 256;
/// The service under which names are announced, because the library announces no host without one.
const SERVICE: &str = "_ice-names._udp.local.";

/// Looks up names of the local network and announces our own. Cheap to clone: all clones are one, with one thread.
#[derive(Clone)]
pub struct LocalNames(Arc<Inner>);

struct Inner {
    daemon: ServiceDaemon,
    announced: Mutex<VecDeque<String>>,
}

impl LocalNames {
    /// Begins to listen on all interfaces but loopback, in a thread of its own.
    ///
    /// # Errors
    /// When the system has no socket for it.
    pub fn new() -> Result<Self, SocketError> {
        let daemon = ServiceDaemon::new().map_err(|error| failure(&error))?;
        let announced = Mutex::default();
        Ok(Self(Arc::new(Inner { daemon, announced })))
    }

    /// Listens on the loopback interface as well: for tests.
    ///
    /// # Errors
    /// When the thread has ended.
    pub fn with_loopback(self) -> Result<Self, SocketError> {
        let loopback = vec![IfKind::LoopbackV4, IfKind::LoopbackV6];
        let enabled = self.0.daemon.enable_interface(loopback);
        enabled.map_err(|error| failure(&error)).map(|()| self)
    }

    /// The address behind a name that ends with `.local`; `None` if nobody answers within five seconds, or if it is none.
    pub async fn look_up(&self, name: &str) -> Option<IpAddr> {
        let name = format!("{}.", name.strip_suffix('.').unwrap_or(name));
        if !name.ends_with(".local.") {
            return None;
        }
        let events = self
            .0
            .daemon
            .resolve_hostname(&name, Some(LOOK_UP_MS))
            .ok()?;
        while let Ok(event) = events.recv_async().await {
            match event {
                HostnameResolutionEvent::AddressesFound(_, addresses) => {
                    let _ = self.0.daemon.stop_resolve_hostname(&name);
                    // A name that hides an address has one of them. Whoever answers can say that it is none.
                    let found = addresses.into_iter().map(|address| address.to_ip_addr());
                    return found.filter(|ip| !ip.is_unspecified()).min();
                }
                HostnameResolutionEvent::SearchTimeout(_)
                | HostnameResolutionEvent::SearchStopped(_) => return None,
                HostnameResolutionEvent::SearchStarted(_)
                | HostnameResolutionEvent::AddressesRemoved(..)
                | _ => {}
            }
        }
        None
    }

    /// A new name for an address of ours, which nobody can guess, and which is announced from now on. `None` when the
    /// thread has ended.
    pub fn announce(&self, address: IpAddr) -> Option<Arc<str>> {
        let unique = unique();
        let host = format!("{unique}.local.");
        let service = ServiceInfo::new(SERVICE, &unique, &host, address, 9, None).ok()?;
        let full_name = service.get_fullname().to_owned();
        self.0.daemon.register(service).ok()?;
        let mut announced = self
            .0
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        announced.push_back(full_name);
        if announced.len() > ANNOUNCED_MAX
            && let Some(oldest) = announced.pop_front()
        {
            let _ = self.0.daemon.unregister(&oldest);
        }
        Some(format!("{unique}.local").into())
    }
}

impl fmt::Debug for LocalNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let announced = self
            .0
            .announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("LocalNames")
            .field("announced", &announced.len())
            .finish_non_exhaustive()
    }
}

/// Withdraws what is announced, and ends the thread.
impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.daemon.shutdown();
    }
}

/// A random UUID (RFC 9562 §5.4): the system's randomness keys the hash.
fn unique() -> String {
    let [high, low] = [0, 1].map(|half: u64| RandomState::new().hash_one(half));
    let (high, low) = (high & !0xf000 | 0x4000, low & !(0b11 << 62) | 0b10 << 62);
    let text = format!("{high:016x}{low:016x}");
    let parts = [
        &text[..8],
        &text[8..12],
        &text[12..16],
        &text[16..20],
        &text[20..],
    ];
    parts.join("-")
}

fn failure(error: &mdns_sd::Error) -> SocketError {
    SocketError {
        what: "multicast DNS",
        why: error.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_random_uuids() {
        let (one, other) = (unique(), unique());
        assert_ne!(one, other);
        let lengths: Vec<_> = one.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
        assert_eq!(&one[14..15], "4", "{one}");
        assert!(matches!(&one[19..20], "8" | "9" | "a" | "b"), "{one}");
    }
}
