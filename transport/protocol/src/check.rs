//! The promises as functions over what users sent and saw, for simulators and tests.
//!
//! A [`Watch`] follows the user of one side of one session. It knows messages by a tag, a number
//! that the test puts into each and that is unique in a run. It sees nothing of the protocol.
//!
//! | id | checked by |
//! | --- | --- |
//! | S1 order within a class | [`one_way`] |
//! | S2 exactly once, at most once | [`one_way`], [`healed`] |
//! | S3 received means owned | [`conserved`] |
//! | S4 one end, exact counts, nothing vanishes | [`Watch::ended`], [`conserved`] |
//! | S6 nothing before Connected or after the end | [`Watch::handed`], [`Watch::event`] |

use std::collections::BTreeSet;
use std::fmt;

use crate::class::Class;
use crate::event::{EndCause, Event};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its id, `S1` to `S9`.
    pub promise: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is broken: {}", self.promise, self.what)
    }
}

impl std::error::Error for Broken {}

fn broken<T>(promise: &'static str, what: String) -> Result<T, Broken> {
    Err(Broken { promise, what })
}

/// What the end of a session said, by tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// Why it ended.
    pub cause: Option<EndCause>,
    /// Messages taken back, by [`Class::index`].
    pub taken_back: [Vec<u64>; Class::COUNT],
    /// Of those, how many the end counts.
    pub unacked: [u64; Class::COUNT],
    /// Owned here, never handed to a handler.
    pub undelivered: [u64; Class::COUNT],
    /// Handed to handlers there, if the peer said so.
    pub peer_delivered: [Option<u64>; Class::COUNT],
}

/// What the user of one side of one session did and saw, in order.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    submitted: [Vec<u64>; Class::COUNT],
    /// Given back while the session lived: too large, no room.
    returned: BTreeSet<u64>,
    received: [u64; Class::COUNT],
    handed: [Vec<u64>; Class::COUNT],
    opened: [u64; Class::COUNT],
    connected: bool,
    ending: Option<Ending>,
}

impl Watch {
    /// A new one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The user sent it and the session took it.
    pub fn submitted(&mut self, class: Class, tag: u64) {
        self.submitted[class.index()].push(tag);
    }

    /// The session gave it back and lives on.
    pub fn returned(&mut self, tag: u64) {
        self.returned.insert(tag);
    }

    /// The peer owns all that was submitted up to `position`.
    ///
    /// # Errors
    /// S3 if that goes back, or is more than was submitted.
    pub fn received(&mut self, class: Class, position: u64) -> Result<(), Broken> {
        let (known, sent) =
            (self.received[class.index()], self.submitted[class.index()].len() as u64);
        if position <= known || position > sent {
            return broken(
                "S3",
                format!("{class}: received up to {position} after {known}, of {sent}"),
            );
        }
        self.received[class.index()] = position;
        Ok(())
    }

    /// The session handed out a message of the peer.
    ///
    /// # Errors
    /// S6 before `Connected` or after the end.
    pub fn handed(&mut self, class: Class, tag: u64) -> Result<(), Broken> {
        if !self.connected || self.ending.is_some() {
            let when = if self.connected { "after the end" } else { "before Connected" };
            return broken("S6", format!("{class} message {tag:#x} {when}"));
        }
        self.handed[class.index()].push(tag);
        Ok(())
    }

    /// A handler was called with the next message of the class.
    pub fn opened(&mut self, class: Class) {
        self.opened[class.index()] += 1;
    }

    /// The user was told something. Ends go to [`ended`](Self::ended).
    ///
    /// # Errors
    /// S6 if it is out of place.
    pub fn event<P: fmt::Debug>(&mut self, event: &Event<P>) -> Result<(), Broken> {
        if self.ending.is_some() {
            return broken("S6", format!("{event:?} after the end"));
        }
        match event {
            Event::Connected { .. } if self.connected => {
                broken("S6", "Connected twice in one session".into())
            }
            Event::Connected { .. } => {
                self.connected = true;
                Ok(())
            }
            Event::Resumed { .. } | Event::Admitted | Event::NameConflict if !self.connected => {
                broken("S6", format!("{event:?} before Connected"))
            }
            _ => Ok(()),
        }
    }

    /// The session ended.
    ///
    /// # Errors
    /// S4 if it ended before, or if its numbers do not fit what the user did and saw.
    pub fn ended(&mut self, ending: Ending) -> Result<(), Broken> {
        if self.ending.is_some() {
            return broken("S4", format!("a second end: {:?}", ending.cause));
        }
        for class in Class::ALL {
            let index = class.index();
            let back = &ending.taken_back[index];
            if ending.unacked[index] != back.len() as u64 {
                let (counted, given) = (ending.unacked[index], back.len());
                return broken("S4", format!("{class}: {counted} unacked, {given} given back"));
            }
            let open: Vec<u64> = self.submitted[index][self.received[index] as usize..]
                .iter()
                .copied()
                .filter(|tag| !self.returned.contains(tag))
                .collect();
            if *back != open {
                return broken(
                    "S4",
                    format!("{class}: not known received {open:x?}, given back {back:x?}"),
                );
            }
            let waiting = self.handed[index].len() as u64 - self.opened[index];
            if ending.undelivered[index] < waiting {
                let told = ending.undelivered[index];
                return broken("S4", format!("{class}: {waiting} unopened, {told} reported"));
            }
        }
        self.ending = Some(ending);
        Ok(())
    }

    /// How it ended.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Whether it was ever up.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Tags of the class that the peer sent, in the order that the session gave.
    pub fn seen(&self, class: Class) -> &[u64] {
        &self.handed[class.index()]
    }

    /// Tags that the user sent in the class.
    pub fn sent(&self, class: Class) -> &[u64] {
        &self.submitted[class.index()]
    }

    /// How many messages of the class handlers were called with.
    pub fn opened_count(&self, class: Class) -> u64 {
        self.opened[class.index()]
    }

    fn deliverable(&self, class: Class) -> impl Iterator<Item = u64> + '_ {
        let tags = self.submitted[class.index()].iter().copied();
        tags.filter(|tag| !self.returned.contains(tag))
    }
}

/// S1 and S2 at any moment: what one side saw of a session is the beginning of what the other
/// sent in it, in order, each once. True of lossy and lossless sessions alike.
///
/// # Errors
/// The promise that is broken.
pub fn one_way(sender: &Watch, receiver: &Watch) -> Result<(), Broken> {
    for class in Class::ALL {
        let mut sent = sender.deliverable(class);
        for (place, tag) in receiver.seen(class).iter().enumerate() {
            let due = sent.next();
            if due == Some(*tag) {
                continue;
            }
            let known = receiver.seen(class)[..place].contains(tag);
            let promise = if known { "S2" } else { "S1" };
            let due = due.map_or("nothing".into(), |due| format!("{due:#x}"));
            return broken(promise, format!("{class}: message {place} is {tag:#x}, due was {due}"));
        }
    }
    Ok(())
}

/// S2 when faults have stopped and all is quiet: everything that was sent was seen.
///
/// # Errors
/// S2.
pub fn healed(sender: &Watch, receiver: &Watch) -> Result<(), Broken> {
    one_way(sender, receiver)?;
    for class in Class::ALL {
        let (sent, seen) = (sender.deliverable(class).count(), receiver.seen(class).len());
        if sent != seen {
            return broken("S2", format!("{class}: {sent} sent, {seen} seen"));
        }
    }
    Ok(())
}

/// S3 and S4: what one side's end did not give back is owned by the other side, which saw it or
/// says how much of it it never delivered; and what it was told of the other side is true.
///
/// # Errors
/// The promise that is broken.
pub fn conserved(sender: &Watch, receiver: &Watch) -> Result<(), Broken> {
    let Some(ending) = sender.ending() else {
        return Ok(());
    };
    for class in Class::ALL {
        let index = class.index();
        let gone = sender.deliverable(class).count() - ending.taken_back[index].len();
        let held = match receiver.ending() {
            Some(end) => end.undelivered[index],
            // Still held back for admission: it may come yet.
            None => continue,
        };
        let owned = receiver.opened[index] + held;
        if gone as u64 > owned {
            return broken(
                "S4",
                format!("{class}: {gone} not given back, but only {owned} owned there"),
            );
        }
        if let Some(told) = ending.peer_delivered[index]
            && told != receiver.opened[index]
        {
            let true_count = receiver.opened[index];
            return broken(
                "S4",
                format!("{class}: the peer said {told} delivered, it was {true_count}"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{EntityName, Identity, Instance};

    fn connected() -> Watch {
        let mut watch = Watch::new();
        let peer = Identity {
            name: EntityName::osd(1),
            role: None,
            instance: Instance(1),
            incarnation: None,
        };
        watch.event::<u8>(&Event::Connected { peer, held: false }).expect("first");
        watch
    }

    fn promise(result: Result<(), Broken>) -> &'static str {
        result.map_or_else(|broken| broken.promise, |()| "kept")
    }

    #[test]
    fn swaps_doubles_losses_and_strays_are_found() {
        let (mut sender, class) = (Watch::new(), Class::Normal);
        (1..=3).for_each(|tag| sender.submitted(class, tag));
        let seen = |tags: &[u64]| {
            let mut watch = connected();
            tags.iter().for_each(|tag| watch.handed(class, *tag).expect("connected"));
            watch
        };
        assert_eq!(promise(one_way(&sender, &seen(&[1, 2]))), "kept");
        assert_eq!(promise(one_way(&sender, &seen(&[1, 3]))), "S1");
        assert_eq!(promise(one_way(&sender, &seen(&[1, 1]))), "S2");
        assert_eq!(promise(one_way(&sender, &seen(&[1, 2, 3, 4]))), "S1");
        assert_eq!(promise(healed(&sender, &seen(&[1, 2]))), "S2");
        assert_eq!(promise(Watch::new().handed(class, 1)), "S6");
    }

    #[test]
    fn a_vanished_message_and_a_second_end_are_found() {
        let (mut watch, class) = (connected(), Class::Normal);
        (1..=2).for_each(|tag| watch.submitted(class, tag));
        assert_eq!(promise(watch.clone().ended(Ending::default())), "S4");
        watch.received(class, 1).expect("in range");
        assert_eq!(promise(watch.received(class, 3)), "S3");
        let mut ending = Ending::default();
        ending.taken_back[class.index()] = vec![2];
        ending.unacked[class.index()] = 1;
        watch.ended(ending.clone()).expect("exact");
        assert_eq!(promise(watch.ended(ending)), "S4");
        let mut peer = connected();
        peer.ended(Ending::default()).expect("idle");
        assert_eq!(promise(conserved(&watch, &peer)), "S4");
    }
}
