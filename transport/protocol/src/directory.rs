//! Which session a hello belongs to: the rules of names, instances and restarts (S6).
//!
//! ```text
//! hello ─► whom do you want? ─► do our policies fit? ─► is it an old attempt? ─► is it over?
//!        ─► a session I know (by id)            → Existing
//!        ─► you say it was up, I know none      → NoSession
//!        ─► I am dialling your name             → Existing (a race, S5)
//!        ─► else                                → Birth, and a notice to each older session
//! ```
//!
//! Instance first, session second, attempt last; counters of different instances are never
//! compared. One directory serves one messenger; sessions live elsewhere and are named by key. Who
//! tells its users what before whom is its business too ([`follow`](Directory::follow)).

mod heard;
mod order;

use std::collections::BTreeMap;

use heard::Memory;
use order::Order;

use crate::event::Notice;
use crate::frame::{Hello, RefuseReason, Stance};
use crate::id::{Attempt, EntityName, Identity, Incarnation, Instance, Role, SessionId};
use crate::policy::Policy;

/// Names a session within its messenger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey(pub u64);

/// What the directory knows of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Entry {
    name: EntityName,
    /// Known once a hello or an answer named it.
    peer: Option<Known>,
    id: SessionId,
    /// The id that we dialled with; differs from `id` if the peer's stood.
    own_id: SessionId,
    /// The last id that the peer chose, if another: either may come back until one is confirmed.
    their_id: SessionId,
    by_name: bool,
    /// We dialled it.
    dialled: bool,
    /// The dialling half of a session with ourselves: never found by a hello.
    loops: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Known {
    role: Option<Role>,
    instance: Instance,
    incarnation: Option<Incarnation>,
    latest: Attempt,
}

/// Where a hello goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this session; first tell these.
    Existing {
        /// The session.
        key: SessionKey,
        /// Older sessions of the name.
        notices: Vec<(SessionKey, Notice)>,
    },
    /// To a new session; first tell these.
    Birth {
        /// Older sessions of the name.
        notices: Vec<(SessionKey, Notice)>,
    },
    /// Answer that there is none.
    NoSession,
    /// Answer that there will be none, and why.
    Refuse(RefuseReason, String),
    /// It was overtaken by a later one: drop its link without a word.
    Stale,
}

/// The sessions of one messenger, by peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Directory {
    entries: BTreeMap<SessionKey, Entry>,
    by_name: BTreeMap<EntityName, Vec<SessionKey>>,
    memory: Memory,
    order: Order,
    shutting_down: bool,
}

impl Directory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// From now on every hello is refused.
    pub fn shut_down(&mut self) {
        self.shutting_down = true;
    }

    /// Enters a session that we dial. `to_self` if `name` is our own.
    pub fn dialled(&mut self, key: SessionKey, name: EntityName, id: SessionId, to_self: bool) {
        let entry = Entry {
            name,
            peer: None,
            id,
            own_id: id,
            their_id: id,
            by_name: true,
            dialled: true,
            loops: to_self,
        };
        self.insert(key, entry);
    }

    /// Enters a session that `hello` begins, after [`Route::Birth`].
    pub fn accepted(&mut self, key: SessionKey, hello: &Hello, policy: &Policy) {
        let entry = Entry {
            name: hello.from.name,
            peer: Some(Known::new(&hello.from, hello.attempt)),
            id: hello.session,
            own_id: hello.session,
            their_id: hello.session,
            by_name: policy.looks_up_names(),
            dialled: false,
            loops: false,
        };
        self.memory.begins(hello.from.instance);
        self.memory.hears(hello.from.instance, hello.attempt);
        self.insert(key, entry);
    }

    fn insert(&mut self, key: SessionKey, entry: Entry) {
        self.by_name.entry(entry.name).or_default().push(key);
        self.entries.insert(key, entry);
    }

    /// The session told that it is bound ([`Output::Bound`](crate::event::Output::Bound)).
    pub fn bound(&mut self, key: SessionKey, peer: &Identity, id: SessionId, latest: Attempt) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.id = id;
            if id != entry.own_id {
                entry.their_id = id;
            }
            if entry.peer.is_none() {
                self.memory.begins(peer.instance);
            }
            self.memory.hears(peer.instance, latest);
            entry.peer = Some(Known::new(peer, latest));
        }
    }

    /// The session ended: its name is free. [`told`](Self::told) must follow.
    pub fn ended(&mut self, key: SessionKey) {
        let Some(entry) = self.entries.remove(&key) else {
            return;
        };
        if let Some(peer) = entry.peer {
            self.memory.ends(peer.instance, [entry.own_id, entry.their_id]);
        }
        if let Some(keys) = self.by_name.get_mut(&entry.name) {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.by_name.remove(&entry.name);
            }
        }
        self.order.ended(key, entry);
    }

    /// The session to use for `connect(name)`: the newest that is looked up by name.
    pub fn lookup(&self, name: EntityName) -> Option<SessionKey> {
        if name.is_anonymous() {
            return None;
        }
        let keys = self.by_name.get(&name)?;
        let newest = |found: fn(&Entry) -> bool| {
            keys.iter().rev().copied().find(|key| self.entries.get(key).is_some_and(found))
        };
        // Of a session with ourselves it is the half that dialled.
        newest(|entry| entry.loops).or_else(|| newest(|entry| entry.by_name))
    }

    /// The other sessions that use the same peer name, for a `NameConflict`.
    pub fn namesakes(&self, key: SessionKey) -> Vec<SessionKey> {
        let Some(entry) = self.entries.get(&key) else {
            return Vec::new();
        };
        let keys = self.by_name.get(&entry.name).into_iter().flatten();
        keys.copied().filter(|other| *other != key).collect()
    }

    /// Where `hello` goes. `policy` is ours towards the kind that dialled.
    pub fn route(&self, hello: &Hello, me: &Identity, policy: &Policy) -> Route {
        if self.shutting_down {
            return Route::Refuse(RefuseReason::ShuttingDown, "shutting down".into());
        }
        if hello.target != me.name {
            let text = format!("this is {}, not {}", me.name, hello.target);
            return Route::Refuse(RefuseReason::WrongEntity, text);
        }
        if let Some(feature) = hello.opening.features.iter().find(|feature| feature.required) {
            let text = format!("feature {} is required and unknown here", feature.id);
            return Route::Refuse(RefuseReason::Feature, text);
        }
        let promise = match policy.accept(hello.policy) {
            Ok(promise) => promise,
            Err(mismatch) => {
                return Route::Refuse(RefuseReason::PolicyMismatch, mismatch.to_string());
            }
        };
        if self.memory.is_old(hello.from.instance, hello.attempt) {
            return Route::Stale;
        }
        // A lossy birth may be repeated: it ended with its link before its dialler saw the answer.
        let again = promise.lossy && !hello.established;
        if !again && self.memory.is_over(hello.from.instance, hello.session) {
            return Route::NoSession;
        }
        if !policy.looks_up_names() {
            return match hello.established {
                true => Route::NoSession,
                false => Route::Birth { notices: Vec::new() },
            };
        }
        self.route_by_name(hello, policy)
    }

    fn route_by_name(&self, hello: &Hello, policy: &Policy) -> Route {
        // Only peers race. Where we are a server to them, what we dial is another matter.
        let races = policy.stance() == Stance::Peer;
        let mut dialling = None;
        let mut notices = Vec::new();
        for (key, entry) in self.namesake_entries(hello) {
            if entry.dialled && !races {
                continue;
            }
            let Some(known) = entry.peer else {
                if entry.id == hello.session {
                    return Route::Existing { key, notices };
                }
                if !hello.from.name.is_anonymous() {
                    dialling = Some(key);
                }
                continue;
            };
            if known.instance == hello.from.instance {
                if [entry.own_id, entry.their_id].contains(&hello.session) {
                    return Route::Existing { key, notices: Vec::new() };
                }
                notices.push((key, Notice::Forgotten));
            } else if hello.from.name.is_anonymous() {
                // Many may use it: an instance says nothing about another.
            } else if known.is_newer_than(&hello.from) {
                let text = format!("a newer {} is known", hello.from.name);
                return Route::Refuse(RefuseReason::Superseded, text);
            } else {
                let incarnation = hello.from.incarnation;
                notices.push((key, Notice::NewInstance { incarnation }));
            }
        }
        match dialling {
            _ if hello.established => Route::NoSession,
            Some(key) => Route::Existing { key, notices },
            None => Route::Birth { notices },
        }
    }

    /// Sessions of the name and role, without those that must not be found by it.
    fn namesake_entries(&self, hello: &Hello) -> impl Iterator<Item = (SessionKey, &Entry)> {
        let keys = self.by_name.get(&hello.from.name).into_iter().flatten();
        let role = hello.from.role;
        keys.filter_map(|key| self.entries.get(key).map(|entry| (*key, entry)))
            .filter(move |(_, entry)| entry.peer.is_none_or(|peer| peer.role == role))
            .filter(|(_, entry)| entry.by_name && !entry.loops)
    }
}

impl Known {
    fn new(peer: &Identity, latest: Attempt) -> Self {
        let Identity { role, instance, incarnation, .. } = *peer;
        Self { role, instance, incarnation, latest }
    }

    fn is_newer_than(&self, other: &Identity) -> bool {
        matches!((self.incarnation, other.incarnation), (Some(mine), Some(theirs)) if mine > theirs)
    }
}

#[cfg(test)]
mod tests;
