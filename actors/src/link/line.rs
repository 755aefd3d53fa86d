//! A link as two actors share it: its session, which moves it, and its own, which is its life.
//!
//! ```text
//!   Greeting, Draining: LinkActor ──┐
//!                                   ├── poll ──► Link
//!   Bound:           SessionActor ──┘
//! ```
//!
//! Both live on one thread, and a session's messages cross no mailbox on their way to its link and
//! back. That costs nothing of what a link's actor is for: it is paused, killed and made to panic
//! by its path, and a panic of the transport is its panic, not the session's.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use stellate_protocol::codec::Outbound;
use stellate_protocol::{Frame, Lane, Parcel, Seq};
use stellate_transport::{Batch, CloseHow, Link};

use crate::supervise::contain;

/// A handle to a shared link.
#[derive(Clone)]
pub(crate) struct Line(Rc<RefCell<State>>);

struct State {
    /// None once it is over.
    link: Option<Box<dyn Link>>,
    /// What the transport said in its panic, until somebody is told.
    broke: Option<Arc<str>>,
    /// What the protocol says about links, one frame or two each: it goes also when there is no
    /// room for messages.
    waiting: VecDeque<Frame<Parcel>>,
    /// How to close when nothing waits any more.
    hang: Option<CloseHow>,
    /// By the verb of the tree.
    paused: bool,
    /// It has nothing to report and nothing was submitted since: it will wake its poller.
    idle: bool,
}

/// What a poll of a link came to.
pub(crate) enum Moved {
    /// Poll again; what was reported is in the batch.
    More,
    /// It will wake its poller; what was reported before is in the batch.
    Last,
    /// It will wake its poller.
    Idle,
    /// The transport panicked, in this or an earlier call, with this message; the link is gone.
    Broke(Arc<str>),
}

impl Line {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        let (broke, waiting, hang, paused, idle) = (None, VecDeque::new(), None, false, false);
        Self(Rc::new(RefCell::new(State { link: Some(link), broke, waiting, hang, paused, idle })))
    }

    /// Whether it is not over, or nobody was told why.
    pub(crate) fn is_there(&self) -> bool {
        let state = self.0.borrow();
        state.link.is_some() || state.broke.is_some()
    }

    /// Bytes that it takes now; a frame may overshoot.
    pub(crate) fn room(&self) -> usize {
        self.0.borrow_mut().call(|link| link.room()).unwrap_or(0)
    }

    /// As [`Link::takes_chunks`].
    pub(crate) fn takes_chunks(&self) -> bool {
        self.0.borrow_mut().call(|link| link.takes_chunks()).unwrap_or(false)
    }

    /// As [`Link::takes_bytes`].
    pub(crate) fn takes_bytes(&self) -> bool {
        self.0.borrow_mut().call(|link| link.takes_bytes()).unwrap_or(false)
    }

    /// As [`Link::spare_bytes`].
    pub(crate) fn spare_bytes(&self) -> Outbound {
        self.0.borrow_mut().call(|link| link.spare_bytes()).unwrap_or_default()
    }

    /// Sends a frame within its room. One that is refused belongs to a link that is closing: its
    /// session will hear of that, and send it again.
    pub(crate) fn submit(&self, frame: Frame<Parcel>) {
        let submitted = self.0.borrow_mut().busy(|link| link.submit(frame));
        if let Some(Err(full)) = submitted {
            tracing::trace!(closed = full.closed, "a frame is not sent");
        }
    }

    /// The same with encoded frames.
    pub(crate) fn submit_bytes(&self, frames: Outbound) {
        let submitted = self.0.borrow_mut().busy(|link| link.submit_bytes(frames));
        if let Some(Err(full)) = submitted {
            tracing::trace!(closed = full.closed, "a batch is not sent");
        }
    }

    /// Sends a frame behind those that were submitted, as soon as there is room.
    pub(crate) fn say(&self, frame: Frame<Parcel>) {
        let mut state = self.0.borrow_mut();
        state.waiting.push_back(frame);
        state.submit_waiting();
    }

    /// A pull follows: prepare its buffer.
    pub(crate) fn expect(&self, lane: Lane, seq: Seq, data_len: u32) {
        self.0.borrow_mut().busy(|link| link.expect(lane, seq, data_len));
    }

    /// Closes it once all is submitted that was [said](Self::say).
    pub(super) fn close(&self, how: CloseHow) {
        let mut state = self.0.borrow_mut();
        state.hang = Some(how);
        state.submit_waiting();
    }

    /// Takes the link away, if it is there.
    pub(super) fn take(&self) -> Option<Box<dyn Link>> {
        self.0.borrow_mut().link.take()
    }

    /// It is over, and whoever has to know does.
    pub(super) fn clear(&self) {
        let mut state = self.0.borrow_mut();
        state.drop_link();
        state.broke = None;
        state.waiting.clear();
    }

    pub(super) fn pause(&self, paused: bool) {
        self.0.borrow_mut().paused = paused;
    }

    /// Moves what can be moved. What the link reports is appended to `batch`; a link that closed
    /// is gone.
    pub(crate) fn poll(&self, cx: &mut TaskContext<'_>, batch: &mut Batch) -> Moved {
        let mut state = self.0.borrow_mut();
        if state.paused {
            return Moved::Idle;
        }
        state.submit_waiting();
        let polled = state.call(|link| link.poll(cx, batch));
        if batch.closed.is_some() {
            state.drop_link();
        }
        state.idle = batch.idle || !matches!(polled, Some(Poll::Ready(())));
        match (state.broke.take(), polled) {
            (Some(message), _) => Moved::Broke(message),
            (None, Some(Poll::Ready(()))) if batch.idle => Moved::Last,
            (None, Some(Poll::Ready(()))) => Moved::More,
            (None, _) => Moved::Idle,
        }
    }

    /// As [`poll`](Self::poll), by a task that has polled it before and was not woken since: not
    /// even looked at if it has said that nothing comes.
    pub(crate) fn poll_again(&self, cx: &mut TaskContext<'_>, batch: &mut Batch) -> Moved {
        let state = self.0.borrow();
        if state.idle && state.waiting.is_empty() && state.broke.is_none() {
            return Moved::Idle;
        }
        drop(state);
        self.poll(cx, batch)
    }
}

impl State {
    /// Calls the transport. A panic is its own, whoever called: the link is gone then.
    #[inline]
    fn call<R>(&mut self, call: impl FnOnce(&mut dyn Link) -> R) -> Option<R> {
        let link = self.link.as_mut()?;
        match contain(|| call(&mut **link)) {
            Ok(called) => Some(called),
            Err(message) => {
                self.drop_link();
                self.broke = Some(message);
                None
            }
        }
    }

    /// As [`call`](Self::call), with what gives the link something to do.
    #[inline]
    fn busy<R>(&mut self, call: impl FnOnce(&mut dyn Link) -> R) -> Option<R> {
        self.idle = false;
        self.call(call)
    }

    fn drop_link(&mut self) {
        let link = self.link.take();
        if let Err(message) = contain(|| drop(link)) {
            self.broke = Some(message);
        }
    }

    fn submit_waiting(&mut self) {
        while let Some(frame) = self.waiting.pop_front() {
            match self.busy(|link| link.submit(frame)) {
                Some(Ok(_)) => {}
                Some(Err(full)) if !full.closed => {
                    self.waiting.push_front(*full.frame);
                    return;
                }
                Some(Err(_)) | None => self.waiting.clear(),
            }
        }
        if let Some(how) = self.hang.take() {
            self.busy(|link| link.close(how));
        }
    }
}
