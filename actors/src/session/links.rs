//! A session's turn with its links: lets out, moves, takes in, and again.

use std::ops::Bound::{Excluded, Unbounded};
use std::task::Context as TaskContext;

use actix::Handler;
use stellate_protocol::event::Input;
use stellate_protocol::session::Session;
use stellate_protocol::{Frame, LinkId, Time};
use stellate_transport::{CloseHow, LinkFault};

use super::{Driver, Held, SessionActor};
use crate::inbox::Arrived;
use crate::link::{Broke, FromLink, Moved, ROUNDS};

impl Driver {
    /// Lets out what is due and takes in what comes, until nothing comes or others are to have
    /// their turn (F7). Whether there was anything.
    pub(super) fn move_all(&mut self, now: Time, cx: &mut TaskContext<'_>) -> bool {
        let mut any = false;
        for round in 0..ROUNDS {
            any |= self.touched;
            self.let_out(now);
            if !self.is_open() {
                return any;
            }
            let more = self.move_links(now, cx, round > 0);
            self.watch_openings(now);
            if !more && !self.touched && !self.take_timer(now, cx) {
                return any;
            }
        }
        // A flood must not hold up the timer. Silence is believed once all was read (S9).
        if self.core.as_ref().is_some_and(|core| !core.is_silent(now)) {
            self.take_timer(now, cx);
        }
        self.let_out(now);
        cx.waker().wake_by_ref();
        true
    }

    /// Once the end waits for handlers to open what was received, each opening is a turn's business:
    /// those so far, which no turn may have seen, and those to come.
    fn watch_openings(&mut self, now: Time) {
        if self.core.as_ref().is_some_and(Session::awaits_openings) {
            self.shared.watch_openings();
            let ledger = self.shared.read_ledger(self.lanes);
            self.take_ledger(now, &ledger);
        }
    }

    /// Moves each link once and takes in what it reports; whether any may have more. Those that have
    /// said since this turn began that they have not are passed over.
    fn move_links(&mut self, now: Time, cx: &mut TaskContext<'_>, again: bool) -> bool {
        let mut more = false;
        let mut held = self.links.first_key_value();
        while let Some((id, link)) = held {
            let id = *id;
            if let Held::Actor(link) = link {
                let moved = match again {
                    false => link.line.poll(cx, &mut self.batch),
                    true => link.line.poll_again(cx, &mut self.batch),
                };
                match moved {
                    Moved::More => {
                        more = true;
                        self.take_batch(now, id);
                    }
                    Moved::Last => self.take_batch(now, id),
                    Moved::Idle => {}
                    Moved::Broke(message) => {
                        more = true;
                        link.actor.do_send(Broke(message));
                        self.batch.clear();
                    }
                }
            }
            // Most sessions have one.
            held = match self.links.len() {
                0 | 1 => None,
                _ => self.links.range((Excluded(id), Unbounded)).next(),
            };
        }
        more
    }

    fn take_batch(&mut self, now: Time, link: LinkId) {
        // That something was sent changes nothing, but for the room that it may have made.
        self.touched |= !self.batch.frames.is_empty() || self.batch.room;
        // A close is the last frame of its link.
        if let Some(Frame::Close(close)) = self.batch.frames.last()
            && !close.text.is_empty()
        {
            self.tell_last_word(close);
        }
        if let Some(core) = &mut self.core {
            for frame in self.batch.frames.drain(..) {
                if let Some(delivery) = core.receive(now, link, frame) {
                    self.lanes.insert(delivery.message.lane);
                    self.received.push(Arrived::new(self.shared.clone(), delivery, now.0));
                }
            }
        }
        let closed = self.batch.closed.take();
        self.batch.clear();
        if let Some(closed) = closed {
            self.lose(now, link, closed.cause);
        }
    }

    /// A link is gone.
    pub(super) fn lose(&mut self, now: Time, link: LinkId, fault: LinkFault) {
        if let Some(Held::Actor(gone)) = self.links.remove(&link) {
            gone.hang(CloseHow::Abort);
        }
        let peer = &self.shared.target;
        tracing::info!(session = self.shared.key.0, %peer, link = link.0, %fault, "link lost");
        let (blame, jitter) = (fault.counts_as(), self.node.random() as u16);
        self.input(now, Input::LinkLost { link, blame, jitter });
    }
}

impl Handler<FromLink> for SessionActor {
    type Result = ();

    fn handle(&mut self, report: FromLink, _: &mut Self::Context) {
        match report {
            FromLink::Lost(link, fault) => {
                let mut driver = self.0.borrow_mut();
                let now = driver.now();
                driver.lose(now, link, fault);
            }
            // Having been woken is all.
            FromLink::Resumed => {}
        }
    }
}
