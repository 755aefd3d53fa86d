//! V3: a tree that has spent its restarts says why, from the root down to the first cause, and is down.
//!
//! ```text
//!   Panics ──► what each actor said last ─┐
//!   GaveUp ──► root ► group ► actor ──────┴─► its words; no link is left, and nobody speaks again
//! ```

use std::time::Duration;

use stellate_actors::supervise::BACKOFF;
use stellate_protocol::EntityName;

use super::{Promises, Talk, TalkId};
use crate::testing::Breach;
use crate::testing::drill::actor::PATH as ACTOR;
use crate::testing::drill::fuse::STOPS;
use crate::testing::drill::told::{Handed, LastWord, Told};

impl Promises {
    pub(super) fn panics(
        &mut self,
        at: Duration,
        (node, life): (EntityName, u64),
        path: &'static str,
        words: &str,
    ) {
        let life = self.life(node, life);
        life.panics.push(at);
        life.words.insert(path, (at, words.to_owned()));
        if path == crate::testing::drill::actor::PATH {
            life.panicked = Some(at);
        }
    }

    /// The last word of a tree.
    pub(super) fn gave_up(
        &mut self,
        at: Duration,
        me: (EntityName, u64),
        word: &LastWord,
    ) -> Result<(), Breach> {
        let (node, life) = me;
        let broken = |what: &str| {
            let LastWord { text, .. } = word;
            Err(Breach::new("V3", format!("the tree of {node} gave up, {what}: {text}")))
        };
        if std::mem::replace(&mut self.life(node, life).gave_up, true) {
            return broken("for the second time");
        }
        if !self.allowed.panics.contains(&node) {
            return broken("and nothing panicked");
        }
        let Some(path) = path_of(&word.handed) else {
            return broken("and does not say how it came from an actor to the root");
        };
        let Some(words) = &word.words else {
            return broken("and does not say who panicked first");
        };
        let ordered = self.allowed.ordered(node, path, at) && *words == ordered_words(path);
        let life = self.life(node, life);
        let told = life.words.get(path).is_some_and(|(_, last)| last == words);
        if !told && !ordered {
            return broken(&format!("and {path} did not say that"));
        }
        let Some(allowed) = word.handed.first().and_then(|root| root.intensity) else {
            return broken("and the root passes nothing on");
        };
        let since = at.saturating_sub(allowed.within + STOPS);
        let panics = life.panics.iter().filter(|at| **at >= since).count();
        if panics + self.allowed.orders(node) <= allowed.max as usize {
            return broken(&format!("after {panics} panics"));
        }
        if word.open > 0 {
            return broken(&format!("and has {} links open", word.open));
        }
        self.ends_were_told(at, me, path)
    }

    /// S4: the sessions of a tree that gives up go before its actors, which are told the ends, but for one
    /// that fails too often or waits too long for its next start.
    fn ends_were_told(
        &self,
        at: Duration,
        (node, life): (EntityName, u64),
        path: &str,
    ) -> Result<(), Breach> {
        let Some(of) = self.lives.get(&(node, life)) else {
            return Ok(());
        };
        let shaken = |(last, _): &(Duration, String)| *last + BACKOFF.max + STOPS >= at;
        let excused = path == ACTOR
            || of.words.get(ACTOR).is_some_and(shaken)
            || self.allowed.ordered_since(node, ACTOR, at.saturating_sub(BACKOFF.max + STOPS), at);
        match of.open.iter().find_map(|(peer, keys)| Some((peer, keys.first()?))) {
            Some((peer, key)) if !excused => {
                let text = format!("gave up, and its actor was not told the end of session {key}");
                Err(Breach::new("S4", format!("the tree of {node} {text} with {peer}")))
            }
            _ => Ok(()),
        }
    }

    /// Nobody is told anything by a tree after its last word.
    pub(super) fn speaks(
        &self,
        (node, life): (EntityName, u64),
        told: &Told,
    ) -> Result<(), Breach> {
        let over = self.lives.get(&(node, life)).is_some_and(|life| life.gave_up);
        let is_of_actor = matches!(
            told,
            Told::Started
                | Told::Panics { .. }
                | Told::Delivered { .. }
                | Told::Connected { .. }
                | Told::Ended { .. }
                | Told::LetIn(_)
        );
        if over && is_of_actor {
            let text = format!("{node} goes on after the last word of its tree: {told:?}");
            return Err(Breach::new("V3", text));
        }
        Ok(())
    }

    /// A life is over. A tree in which something panics on and on has given up by then, and whoever
    /// waited there for an answer has been told (S4).
    pub(super) fn is_silent(
        &self,
        at: Duration,
        node: EntityName,
        life: u64,
    ) -> Result<(), Breach> {
        let Some(of) = self.lives.get(&(node, life)) else {
            return Ok(());
        };
        let due = self.allowed.fuses.get(&node).filter(|_| life == 0);
        if due.is_some_and(|fuse| at >= fuse.blown) && !of.gave_up {
            let text = format!("the tree of {node} goes on after {} panics", of.panics.len());
            return Err(Breach::new("V3", text));
        }
        let mine = self.talks.range(TalkId { node, life, key: 0 }..);
        let mut mine = mine.take_while(|(id, _)| (id.node, id.life) == (node, life));
        let waits =
            |(_, talk): &(&TalkId, &Talk)| talk.out.iter().any(|out| out.asked > out.answers.len());
        match mine.find(waits).filter(|_| of.gave_up) {
            Some((id, _)) => {
                let text = format!(
                    "session {} of {node} owes answers after the last word of its tree",
                    id.key
                );
                Err(Breach::new("V3", text))
            }
            None => Ok(()),
        }
    }
}

/// What [`Tree::panic`](stellate_actors::supervise::Tree::panic) lets an actor say.
fn ordered_words(path: &str) -> String {
    format!("panic ordered for {path}")
}

/// The path of the actor at which a chain of groups from the root ends; none if there is a gap in it.
fn path_of(handed: &[Handed]) -> Option<&str> {
    let mut at = "";
    for Handed { group, child, .. } in handed {
        let within = child.rsplit_once('/').map_or("", |(group, _)| group);
        if group != at || within != at {
            return None;
        }
        at = child;
    }
    (!at.is_empty()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v3_a_chain_goes_from_the_root_to_an_actor_without_a_gap() {
        let chain = |handed: &[(&str, &str)]| {
            let of = |(group, child): &(&str, &str)| Handed {
                group: group.to_string(),
                child: child.to_string(),
                intensity: None,
            };
            let handed: Vec<Handed> = handed.iter().map(of).collect();
            path_of(&handed).map(str::to_owned)
        };
        assert_eq!(chain(&[("", "a")]).as_deref(), Some("a"));
        let whole = [("", "a"), ("a", "a/b"), ("a/b", "a/b/c")];
        assert_eq!(chain(&whole).as_deref(), Some("a/b/c"));
        assert_eq!(chain(&[]), None);
        assert_eq!(chain(&whole[1..]), None, "the root is missing");
        assert_eq!(chain(&[whole[0], whole[2]]), None, "a group is missing");
        assert_eq!(chain(&[whole[1], whole[0], whole[2]]), None, "out of order");
        assert_eq!(chain(&[("", "a"), ("a", "b/c")]), None, "of another group");
    }
}
