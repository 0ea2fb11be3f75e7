//! Contents that share one transport (XEP-0338): what happens to it happens to all of them.

use super::{Session, content::Content};
use crate::TransportError;
use std::{sync::Arc, time::Instant};

impl Session {
    /// The content that has the transport of this one: itself, or the one it is bundled with.
    pub(super) fn host_of(&self, at: usize) -> usize {
        let leader = self.contents[at].bundled.as_deref();
        let leader = leader.and_then(|name| self.content_position(name));
        leader.unwrap_or(at)
    }

    /// Whether the channels of `content` go over the transport of the content at `host`.
    pub(super) fn is_hosted(&self, content: &str, host: usize) -> bool {
        let at = self.content_position(content);
        at.is_some_and(|at| self.host_of(at) == host)
    }

    /// The contents whose channels go over the transport of the content at `host`.
    pub(super) fn hosted_names(&self, host: usize) -> Vec<Arc<str>> {
        let hosted = (0..self.contents.len()).filter(|&at| self.host_of(at) == host);
        hosted.map(|at| self.contents[at].name.clone()).collect()
    }

    /// The content for which another transport is proposed, in place of the one that this one uses.
    pub(super) fn replacing_for(&self, at: usize) -> Option<usize> {
        let replacing = |at: &usize| self.contents[*at].replacing.is_some();
        [at, self.host_of(at)].into_iter().find(replacing)
    }

    /// Takes the implementations of all channels away that go over the transport of the content at `host`.
    pub(super) fn unbind_transport(&mut self, host: usize) {
        for at in 0..self.channels.len() {
            if self.is_hosted(&self.channels[at].content, host) {
                self.release(at);
            }
        }
    }

    /// Gives an implementation to all of them.
    ///
    /// # Errors
    /// Of the first that the transport refuses.
    pub(super) fn bind_transport(
        &mut self,
        host: usize,
        now: Instant,
    ) -> Result<(), TransportError> {
        self.hosted_names(host)
            .iter()
            .try_for_each(|name| self.bind_channels(name, now))
    }

    /// A content is gone: of those that share its transport the first has it now.
    pub(super) fn inherit_transport(&mut self, gone: &mut Content) {
        let mut heir: Option<Arc<str>> = None;
        for content in &mut self.contents {
            if content.bundled.as_ref() != Some(&gone.name) {
                continue;
            }
            content.bundled = heir.clone();
            if heir.is_none() {
                heir = Some(content.name.clone());
                content.agreed = gone.agreed;
                content.deferred = gone.deferred;
                content.candidates = gone.candidates;
                content.carriers = std::mem::take(&mut gone.carriers);
                content.untried = std::mem::take(&mut gone.untried);
                content.retired = std::mem::take(&mut gone.retired);
                content.early = std::mem::take(&mut gone.early);
                content.infos = std::mem::take(&mut gone.infos);
                content.taken = gone.taken.take();
            }
        }
    }
}
