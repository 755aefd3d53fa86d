//! What a session keeps from its users until they know the end of the one before it (S6).
//!
//! ```text
//!   shut ──► events, questions: kept ─┐
//!            deliveries: collected   ─┼─ the mark is gone ──► out, in their order
//!            its own end: name free  ─┘
//! ```
//!
//! The session itself goes on meanwhile: it acks within its window, answers and keeps its link. It
//! is the directory that says who waits for whom; see `node/order.rs`. The wait is short: an older
//! session is over at once, or after `probe`, or has at most `drain_max` to hand out what it has.

use std::collections::VecDeque;

use actix::{Handler, Message};
use stellate_protocol::event::{End, Event, Output};
use stellate_protocol::{Parcel, Time};

use super::{Driver, SessionActor};
use crate::inbox::Notice;

/// The peer's name is used by another live instance too.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Namesake;

/// News that wait.
#[derive(Default)]
pub(super) struct Kept {
    shut: bool,
    news: VecDeque<Output<Parcel>>,
    /// A [`Namesake`] is not told yet.
    namesake: bool,
}

impl Kept {
    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Of what a link that flaps says, or a thread that is often late, the last is kept (S7).
    fn push(&mut self, output: Output<Parcel>) {
        self.news.retain(|kept| !output.replaces(kept));
        self.news.push_back(output);
    }

    /// The end that waits to be told.
    pub(super) fn take_end(&mut self) -> Option<Box<End<Parcel>>> {
        match self.news.pop_back() {
            Some(Output::Event(Event::Ended(end))) => Some(end),
            _ => None,
        }
    }
}

impl Driver {
    /// Whether there is a session before this one whose end is not told yet.
    pub(super) fn look_ahead(&mut self) {
        self.kept.shut |= self.shared.is_following();
    }

    pub(super) fn keep(&mut self, output: Output<Parcel>) {
        if let Output::Event(Event::Ended(_)) = &output {
            // Nobody may find a session that is over by its name.
            self.node.free_name(self.shared.key);
        }
        self.kept.push(output);
    }

    /// Once the older end is told: what was kept, in its order.
    pub(super) fn let_out_kept(&mut self, now: Time) {
        if self.kept.shut && !self.shared.is_following() {
            self.kept.shut = false;
            for output in std::mem::take(&mut self.kept.news) {
                self.carry_out(now, output);
            }
        }
    }

    /// After all that says who the session is with.
    pub(super) fn tell_of_namesake(&mut self) {
        if !self.kept.shut && std::mem::take(&mut self.kept.namesake) {
            let shared = &self.shared;
            self.node.notify(|| Notice::Event(shared.clone(), Box::new(Event::NameConflict)));
        }
    }
}

impl Handler<Namesake> for SessionActor {
    type Result = ();

    fn handle(&mut self, _: Namesake, _: &mut Self::Context) {
        let mut driver = self.0.borrow_mut();
        driver.kept.namesake = true;
        driver.touched = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use stellate_protocol::{EntityName, Identity, Instance, Question};

    use super::*;

    fn news(event: Event<Parcel>) -> Output<Parcel> {
        Output::Event(event)
    }

    fn ask(question: u64) -> Output<Parcel> {
        Output::AskAdmission {
            question: Question(question),
            peer: Identity {
                name: EntityName::osd(2),
                role: None,
                instance: Instance(1),
                incarnation: None,
            },
            metadata: Bytes::new(),
            resumed: true,
        }
    }

    /// S7: whatever a link and a late thread do while the older end is not told.
    #[test]
    fn s7_what_is_said_again_is_kept_once() {
        let mut kept = Kept::default();
        kept.push(news(Event::NameConflict));
        for late in 1..=9 {
            kept.push(news(Event::Resumed { held: late % 2 == 0 }));
            kept.push(ask(late));
            kept.push(news(Event::Admitted));
            kept.push(news(Event::LocalStall { late }));
        }
        kept.push(news(Event::NameConflict));
        let last = [
            news(Event::NameConflict),
            news(Event::Resumed { held: false }),
            ask(9),
            news(Event::Admitted),
            news(Event::LocalStall { late: 9 }),
            news(Event::NameConflict),
        ];
        assert_eq!(kept.news, last);
        assert!(kept.take_end().is_none());
    }
}
