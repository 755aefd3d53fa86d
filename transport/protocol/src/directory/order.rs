//! Whose end is told before what of whom: the newborn waits for the session that it follows (S6).
//!
//! ```text
//!   older  ── up, probed ──┬─ ended ─ told ──► newborn speaks
//!                          └─ it answers: a conflict, both stay ──► newborn speaks
//! ```
//!
//! Sessions live on several threads, and the end of one is decided on its own. A newborn acks and
//! keeps what comes meanwhile; what it would tell its users waits until nothing here is left to
//! wait for. Only sessions that were there before are waited for, so nobody waits in a circle.

use std::collections::{BTreeMap, BTreeSet};

use super::{Directory, Entry, SessionKey};
use crate::event::Notice;

/// Ends that are not told yet, and who waits for whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Order {
    untold: BTreeMap<SessionKey, Entry>,
    waits: BTreeMap<SessionKey, BTreeSet<SessionKey>>,
}

impl Order {
    pub(super) fn ended(&mut self, key: SessionKey, entry: Entry) {
        self.untold.insert(key, entry);
    }

    /// Nobody has to wait for `key` any more: who waits for no other either.
    fn settled(&mut self, key: SessionKey) -> Vec<SessionKey> {
        let mut free = Vec::new();
        self.waits.retain(|waiter, awaited| {
            awaited.remove(&key);
            if awaited.is_empty() {
                free.push(*waiter);
            }
            !awaited.is_empty()
        });
        free
    }
}

impl Directory {
    /// Call for each session that begins, after [`dialled`](Self::dialled) or
    /// [`accepted`](Self::accepted), and for an existing one with notices, with the notices of its
    /// [`Route`](super::Route). Whether `key` must keep from its users what it has to tell, until
    /// [`told`](Self::told) or [`conflicts`](Self::conflicts) names it.
    pub fn follow(&mut self, key: SessionKey, notices: &[(SessionKey, Notice)]) -> bool {
        let Some(entry) = self.entries.get(&key) else {
            return false;
        };
        let untold = self.order.untold.iter().filter(|(_, gone)| entry.comes_after(gone));
        let mut older: BTreeSet<_> = untold.map(|(older, _)| *older).collect();
        let noticed = notices.iter().map(|(older, _)| *older);
        older.extend(noticed.filter(|older| self.entries.contains_key(older)));
        older.remove(&key);
        if !older.is_empty() {
            self.order.waits.entry(key).or_default().extend(older);
        }
        self.order.waits.contains_key(&key)
    }

    /// Users were told of the end of `key`, after [`ended`](Self::ended). Returns the sessions that
    /// wait for nothing any more.
    pub fn told(&mut self, key: SessionKey) -> Vec<SessionKey> {
        self.order.untold.remove(&key);
        self.order.waits.remove(&key);
        self.order.settled(key)
    }

    /// `key` lives on beside another of its name: nobody waits for its end. Returns the sessions
    /// that wait for nothing any more.
    pub fn conflicts(&mut self, key: SessionKey) -> Vec<SessionKey> {
        self.order.settled(key)
    }
}

impl Entry {
    /// Whether `gone` was a session with the same peer.
    fn comes_after(&self, gone: &Self) -> bool {
        self.name == gone.name
            && match (self.peer, gone.peer) {
                // Many use that name at once: only the instance tells them apart.
                (Some(peer), Some(gone)) if self.name.is_anonymous() => {
                    peer.instance == gone.instance
                }
                (Some(peer), Some(gone)) => peer.role == gone.role,
                _ => true,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Route;
    use super::super::tests::{hello, route};
    use super::*;
    use crate::frame::Hello;
    use crate::id::{EntityKind, EntityName, Role, SessionId};
    use crate::policy::Policy;

    const OLD: SessionKey = SessionKey(1);
    const NEW: SessionKey = SessionKey(2);
    const NEWER: SessionKey = SessionKey(3);

    /// Routes a hello that begins a session; whether it has to wait.
    fn birth(directory: &mut Directory, key: SessionKey, hello: &Hello) -> bool {
        let policy = Policy::lossless_peer();
        let Route::Birth { notices } = route(directory, hello, policy) else {
            panic!("a birth");
        };
        directory.accepted(key, hello, &policy);
        directory.follow(key, &notices)
    }

    #[test]
    fn s6_a_newborn_waits_until_the_end_of_the_older_one_is_told() {
        let osd = EntityName::osd(2);
        for again in [hello(osd, 8, 2, 1), hello(osd, 7, 2, 2)] {
            let mut directory = Directory::new();
            assert!(!birth(&mut directory, OLD, &hello(osd, 7, 1, 1)), "nobody was before it");
            assert!(birth(&mut directory, NEW, &again));
            directory.ended(OLD);
            assert_eq!(directory.told(OLD), [NEW]);
            assert_eq!(directory.told(OLD), []);
        }
    }

    #[test]
    fn s6_one_that_has_ended_and_is_not_told_is_waited_for_too() {
        let osd = EntityName::osd(2);
        let mut directory = Directory::new();
        birth(&mut directory, OLD, &hello(osd, 7, 1, 1));
        directory.ended(OLD);
        assert!(birth(&mut directory, NEW, &hello(osd, 8, 2, 2)), "whatever its instance");
        directory.dialled(NEWER, osd, SessionId(3), false);
        assert!(directory.follow(NEWER, &[]), "who dials waits as well");
        directory.dialled(SessionKey(4), EntityName::osd(3), SessionId(4), false);
        assert!(!directory.follow(SessionKey(4), &[]), "another peer is another matter");
        assert_eq!(directory.told(OLD), [NEW, NEWER]);
    }

    #[test]
    fn s6_the_third_waits_for_both_before_it() {
        let osd = EntityName::osd(2);
        let mut directory = Directory::new();
        birth(&mut directory, OLD, &hello(osd, 7, 1, 1));
        assert!(birth(&mut directory, NEW, &hello(osd, 8, 2, 1)));
        assert!(birth(&mut directory, NEWER, &hello(osd, 9, 3, 1)));
        // The second ends first, and cannot say so yet.
        directory.ended(NEW);
        assert_eq!(directory.conflicts(OLD), [NEW], "the first lives on");
        assert_eq!(directory.told(NEW), [NEWER]);
    }

    #[test]
    fn s6_other_roles_and_other_anonymous_ones_are_not_waited_for() {
        let mut directory = Directory::new();
        let osd = EntityName::osd(2);
        birth(&mut directory, OLD, &hello(osd, 7, 1, 1));
        directory.ended(OLD);
        let mut other = hello(osd, 8, 2, 1);
        other.from.role = Role::new("cluster").ok();
        assert!(other.from.role.is_some() && !birth(&mut directory, NEW, &other));
        let nobody = EntityName::anonymous(EntityKind::CLIENT);
        birth(&mut directory, NEWER, &hello(nobody, 10, 3, 1));
        directory.ended(NEWER);
        assert!(!birth(&mut directory, SessionKey(4), &hello(nobody, 11, 4, 1)));
        assert!(birth(&mut directory, SessionKey(5), &hello(nobody, 10, 5, 2)));
    }
}
