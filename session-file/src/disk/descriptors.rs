//! How many files may be open at a time.

use rustix::process::{Resource, getrlimit, setrlimit};

/// As many as are of use: eight trees at a time, each with its batch of files and their folders. macOS allows no more.
const OF_USE: u64 = 10_240;

/// Lets this process have more files open, as far as its user may and it is of use: small files that arrive together are open
/// together. Where that cannot be, fewer wait for one another.
pub fn raise_descriptors() {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(OF_USE, |most| most.min(OF_USE));
    if limit.current.is_some_and(|current| current < most) {
        limit.current = Some(most);
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

/// How many this process may have open.
pub(super) fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_may_be_open_and_never_fewer() {
        let before = descriptors();
        raise_descriptors();
        let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        assert!(descriptors() >= before.max(most.min(OF_USE)));
    }
}
