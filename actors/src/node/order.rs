//! Keeps the news of a session back until its users know the end of the one before it (S6).
//!
//! Who waits for whom is the directory's to say, under the lock that births take anyway. A session
//! that has to wait finds a mark on what it shares with its handles, and is woken without it.

use std::sync::Arc;

use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::Notice;

use super::{Node, Registry};
use crate::session::Namesake;
use crate::shared::{SessionShared, lock};

impl Registry {
    /// A session begins, or takes a hello that has something to say of older ones.
    pub(crate) fn follow(&mut self, shared: &SessionShared, notices: &[(SessionKey, Notice)]) {
        if self.directory.follow(shared.key, notices) {
            shared.follow();
        }
    }

    /// A session that was entered finds no place: there is no end to tell.
    pub(crate) fn never_was(&mut self, key: SessionKey) {
        self.directory.ended(key);
        let free = self.directory.told(key);
        self.lead(free);
    }

    fn lead(&self, free: Vec<SessionKey>) {
        for entry in free.iter().filter_map(|key| self.sessions.get(key)) {
            entry.shared.lead();
        }
    }
}

impl Node {
    /// Everybody who registered for events was told of the end of `key`.
    pub(crate) fn told(&self, key: SessionKey) {
        let mut registry = lock(&self.inner().registry);
        registry.ending.remove(&key);
        let free = registry.directory.told(key);
        registry.lead(free);
    }

    /// It has ended, but an older session's end comes before its own: only its name is free.
    pub(crate) fn free_name(&self, key: SessionKey) {
        lock(&self.inner().registry).directory.ended(key);
    }

    /// The session lives on beside others of its name: they do not wait for its end, and their
    /// users are told as well.
    pub(crate) fn conflicts(&self, shared: &Arc<SessionShared>) {
        let mut registry = lock(&self.inner().registry);
        let free = registry.directory.conflicts(shared.key);
        registry.lead(free);
        let others = registry.directory.namesakes(shared.key);
        for entry in others.iter().filter_map(|key| registry.sessions.get(key)) {
            entry.actor.do_send(Namesake);
        }
    }
}
