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

use actix::{Context, Handler, Message};
use stellate_protocol::event::{End, Event, Output};
use stellate_protocol::{Parcel, Time};

use super::SessionActor;
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

    /// The end that waits to be told.
    pub(super) fn take_end(&mut self) -> Option<Box<End<Parcel>>> {
        match self.news.pop_back() {
            Some(Output::Event(Event::Ended(end))) => Some(end),
            _ => None,
        }
    }
}

impl SessionActor {
    /// Whether there is a session before this one whose end is not told yet.
    pub(super) fn look_ahead(&mut self) {
        self.kept.shut |= self.shared.is_following();
    }

    pub(super) fn keep(&mut self, output: Output<Parcel>) {
        match &output {
            // A link that flaps says one thing; it must not grow the queue (S7).
            Output::Event(Event::Resumed { .. }) => {
                let resumed =
                    |kept: &Output<_>| matches!(kept, Output::Event(Event::Resumed { .. }));
                self.kept.news.retain(|kept| !resumed(kept));
            }
            // Nobody may find a session that is over by its name.
            Output::Event(Event::Ended(_)) => self.node.free_name(self.shared.key),
            _ => {}
        }
        self.kept.news.push_back(output);
    }

    /// Once the older end is told: what was kept, in its order.
    pub(super) fn let_out_kept(&mut self, ctx: &mut Context<Self>, now: Time) {
        if self.kept.shut && !self.shared.is_following() {
            self.kept.shut = false;
            for output in std::mem::take(&mut self.kept.news) {
                self.carry_out(ctx, now, output);
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
        self.kept.namesake = true;
        self.touched = true;
    }
}
