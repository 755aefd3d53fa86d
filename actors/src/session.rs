//! The actor of one session: a shell around the protocol's [`Session`].
//!
//! ```text
//!   staged sends, ledger, timer, link, directory ──► Session::handle, receive
//!               outputs, frames to the link ◄── poll_output, poll_frame
//! ```
//!
//! The actor takes messages and hands them to its [`Driver`], which has its turn beside the actor's
//! context. The session moves its links itself ([`Line`](crate::link::Line)): a turn lets out what
//! is due, moves the links, takes in what came, and lets out again until nothing comes, so that all
//! that is due goes in one batch to each neighbour. No protocol decision is made here. A panic ends
//! the session with [`EndCause::InternalFault`](stellate_protocol::event::EndCause): the exit hook
//! counts what was lost from the ledger, which survives.

mod endings;
mod links;
mod order;
mod outputs;
mod seen;
mod transmit;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, Running};
use stellate_protocol::event::{EndCause, Input, LinkFacts, Notice as PeerNotice, Submit};
use stellate_protocol::frame::{Feature, Hello};
use stellate_protocol::session::{Config, Phase, Session};
use stellate_protocol::{Class, Lane, LaneSet, LinkId, Parcel, SessionId, Time};
use stellate_transport::{Batch, DialError, Link};

use crate::alarm::Alarm;
use crate::dispatch::Dispatch;
use crate::endpoint::FEATURE_LISTENS_AT;
use crate::inbox::{Arrived, Notice};
use crate::link::{Bound, Carried, Line, LinkActor, Role};
use crate::node::Node;
use crate::reconnect::ReconnectSupervisor;
use crate::shared::{Entries, SessionShared, Staged, lock};
use crate::supervise::{Cause, Recipe};
use crate::waiting::Watch;
use endings::died;
use order::Kept;
pub(crate) use order::Namesake;
use seen::Seen;

/// How a session comes to be.
pub(crate) enum Begin {
    Dial { config: Config, id: SessionId },
    Accept { config: Config, id: LinkId, link: Carried, hello: Box<Hello>, facts: LinkFacts },
}

/// A dial is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DialEnded {
    /// Which of the session's dials it was.
    pub(crate) turn: u64,
    pub(crate) result: Result<Box<dyn Link>, DialError>,
    pub(crate) jitter: u16,
}

/// The directory routed a hello here.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct HelloArrived {
    pub(crate) id: LinkId,
    pub(crate) link: Carried,
    pub(crate) hello: Box<Hello>,
    pub(crate) facts: LinkFacts,
}

/// The directory knows something about the peer.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromDirectory(pub(crate) PeerNotice);

/// Where a session is, and who waits for an admission: what others act on as soon as they see it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    phase: Phase,
    holding: bool,
    held_there: bool,
    link: Option<LinkId>,
}

impl Place {
    fn of(core: &Session<Parcel>) -> Self {
        Self {
            phase: core.phase(),
            holding: core.is_holding(),
            held_there: core.is_held_there(),
            link: core.link(),
        }
    }
}

/// A link that the session holds.
enum Held {
    /// Nobody moves it yet: it said hello, and is adopted or closed in this turn.
    Stray(Box<dyn Link>),
    Actor(Bound),
}

/// The actor of one session: its place in the tree, and where its messages arrive.
pub(crate) struct SessionActor(Rc<RefCell<Driver>>);

/// What moves one session, for its actor and beside its actor's context: most of its turns have
/// nothing to do with messages, and a context that is not asked costs none of them anything.
struct Driver {
    node: Node,
    own: Addr<SessionActor>,
    /// Nothing is left to do.
    over: bool,
    shared: Arc<SessionShared>,
    /// None before it begins, and once its end is told.
    core: Option<Session<Parcel>>,
    begin: Option<Begin>,
    dispatch: Option<Dispatch>,
    reconnect: Option<Addr<ReconnectSupervisor>>,
    links: BTreeMap<LinkId, Held>,
    /// The link that was adopted last; over, it has no room.
    in_use: Option<Line>,
    /// The link in use takes frames as bytes.
    in_bytes: bool,
    /// Messages received when the ledger was last told what this side owns.
    owned: u64,
    /// How many bytes of the last batch were copied.
    batch_hint: usize,
    /// What a link reported; empty between turns.
    batch: Batch,
    /// Message lanes that something was received on: the ledger says nothing of others.
    lanes: LaneSet,
    /// What was read of the ledger so far, per lane.
    seen: [Seen; Lane::COUNT],
    /// Bytes of replies taken in, and of those the ones that are gone.
    replies: (u64, u64),
    watch: Watch,
    /// What its users see of where it is.
    shown: Option<Place>,
    /// What wakes this actor.
    waker: Option<Waker>,
    staged: Vec<Staged>,
    /// Something was taken in that is not let out.
    touched: bool,
    /// What was staged behind the input that ended the session.
    leftover: Vec<Staged>,
    received: Vec<Arrived>,
    /// What its users may not hear yet (S6).
    kept: Kept,
    timer: Alarm,
    timer_at: Option<Time>,
    /// Which address is next.
    address: usize,
    /// Dials so far. A dialler that was rebuilt may tell of one that was called off.
    dials: u64,
}

impl SessionActor {
    pub(crate) fn recipe(
        node: Node,
        shared: Arc<SessionShared>,
        index: usize,
        begin: Begin,
    ) -> Recipe<Self> {
        let (owner, session) = (node.clone(), shared.clone());
        let begin = Rc::new(Cell::new(Some(begin)));
        let left = begin.clone();
        Recipe::with_context(move |ctx: &mut Context<Self>| {
            let driver = Driver {
                own: ctx.address(),
                over: false,
                dispatch: lock(&node.inner().dispatches).get(index).cloned(),
                reconnect: lock(&node.inner().reconnects).get(index).cloned(),
                node: node.clone(),
                shared: shared.clone(),
                core: None,
                begin: begin.take(),
                links: BTreeMap::new(),
                in_use: None,
                in_bytes: false,
                owned: 0,
                batch_hint: 0,
                batch: Batch::default(),
                lanes: LaneSet::default(),
                seen: Default::default(),
                replies: (0, 0),
                watch: Watch::default(),
                shown: None,
                waker: None,
                staged: Vec::new(),
                touched: true,
                leftover: Vec::new(),
                received: Vec::new(),
                kept: Kept::default(),
                timer: Alarm::default(),
                timer_at: None,
                address: 0,
                dials: 0,
            };
            Self(Rc::new(RefCell::new(driver)))
        })
        .beside(|actor: &mut Self| {
            let driver = actor.0.clone();
            Box::new(move |cx| driver.borrow_mut().poll(cx))
        })
        .on_exit(move |exit| {
            // Its tree went down before it was built: nothing is wrong with it.
            let closed = left.take().is_some() && exit.cause == Cause::Stopped;
            let cause = if closed { EndCause::ClosedHere } else { EndCause::InternalFault };
            died(&owner, &session, cause);
        })
    }
}

impl Driver {
    /// One turn; ready when there will be no other.
    fn poll(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        if !self.over {
            self.turn(cx);
        }
        if self.over { Poll::Ready(()) } else { Poll::Pending }
    }

    fn now(&self) -> Time {
        self.node.now()
    }

    fn input(&mut self, now: Time, input: Input<Parcel>) {
        self.takes(now, input);
    }

    /// Whether the session takes it where it is.
    fn takes(&mut self, now: Time, input: Input<Parcel>) -> bool {
        self.touched = true;
        let Some(core) = &mut self.core else { return false };
        match core.handle(now, input) {
            Ok(()) => true,
            Err(illegal) => {
                tracing::debug!(session = self.shared.key.0, %illegal, "ignored");
                false
            }
        }
    }

    #[inline]
    fn submit(&mut self, now: Time, submit: Submit<Parcel>) {
        self.touched = true;
        if let Some(core) = &mut self.core
            && let Err(illegal) = core.submit(now, submit)
        {
            tracing::debug!(session = self.shared.key.0, %illegal, "not sent");
        }
    }

    fn begin(&mut self) {
        let now = self.now();
        let mut core = match self.begin.take() {
            Some(Begin::Dial { config, id }) => Session::dial(config, id, now),
            Some(Begin::Accept { config, id, link, hello, facts }) => {
                let Ok(link) = link.land() else {
                    tracing::debug!(link = id.0, "an accepted link did not survive its journey");
                    self.over = true;
                    return;
                };
                self.links.insert(id, Held::Stray(link));
                Session::accept(config, id, hello, self.node.latest_attempt(), facts, now)
            }
            None => {
                self.over = true;
                return;
            }
        };
        self.offer(&mut core);
        self.core = Some(core);
        self.look_ahead();
    }

    /// What hellos and answers say beyond the protocol's own: read anew for each.
    fn offer(&self, core: &mut Session<Parcel>) {
        core.set_metadata(self.node.metadata());
        let listens = self.node.local_addresses();
        if listens.is_empty() {
            core.set_unreachable();
        }
        let feature = |address: &stellate_transport::Address| Feature {
            id: FEATURE_LISTENS_AT,
            required: false,
            data: address.to_string().into(),
        };
        core.set_features(listens.iter().take(8).map(feature).collect());
    }

    // --- one turn ------------------------------------------------------------------------

    /// Takes in what needs no message, then lets out all there is.
    fn turn(&mut self, cx: &mut TaskContext<'_>) {
        let woken = self.shared.begin_turn(&mut self.waker, cx.waker());
        let now = self.now();
        if woken {
            // A handler answers, then is done. So the ledger is read first and believed last: else
            // a session that drains would end between the two, and the answer be lost.
            let ledger = self.shared.read_ledger(self.lanes);
            self.take_staged(now);
            // An end that waits to be told was counted with what was known then (S4).
            if self.is_open() {
                self.take_ledger(now, &ledger);
            }
        }
        self.touched |= woken;
        if self.move_all(now, cx) {
            self.say(now);
        }
        self.arm(cx);
    }

    /// What its users and handlers are to know after a turn; the end was told, if this was its last.
    fn say(&mut self, now: Time) {
        let Some(core) = &self.core else { return };
        // Requests wait while their replies do (S7).
        let gone = self.replies.0.saturating_sub(core.replies_held());
        if gone != self.replies.1 {
            self.replies.1 = gone;
            self.shared.note_replies_gone(gone);
        }
        if !self.kept.is_shut() && self.shared.take_writable() {
            let shared = &self.shared;
            self.node.notify(|| Notice::Writable(shared.clone()));
        }
        self.show(now);
    }

    /// Up to the end: what is staged behind it goes back to its user (S4).
    fn take_staged(&mut self, now: Time) {
        let mut staged = std::mem::take(&mut self.staged);
        self.shared.take_staged(&mut staged);
        let mut taken = 0;
        while self.is_open()
            && let Some(next) = staged.get_mut(taken)
        {
            taken += 1;
            match next {
                // Out of its place, since moving each whole is what costs most here.
                Staged::Submit(class, parcel, ask) => {
                    let payload = std::mem::take(parcel);
                    self.submit(now, Submit { class: *class, payload, ask: *ask });
                }
                other => {
                    let other = std::mem::replace(other, Staged::Abort);
                    self.take_other(now, other);
                }
            }
        }
        self.leftover.extend(staged.drain(taken..));
        staged.clear();
        self.staged = staged;
    }

    fn take_other(&mut self, now: Time, staged: Staged) {
        if let Staged::Readdress(addresses) = staged {
            // What cannot move keeps its addresses: it came up, or is over, since it was asked.
            if self.takes(now, Input::Readdress) {
                *lock(&self.shared.addresses) = addresses;
                self.address = 0;
            }
            return;
        }
        if let Staged::Reply { payload, .. } = &staged {
            self.replies.0 += payload.bytes();
        }
        self.input_and_tell(now, staged);
    }

    /// Whether it has begun, and has not ended.
    fn is_open(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.phase() != Phase::Ended)
    }

    fn take_ledger(&mut self, now: Time, ledger: &[Entries; Class::COUNT]) {
        for lane in self.lanes {
            let (entries, seen) = (&ledger[lane.class().index()], &mut self.seen[lane.index()]);
            let opened = seen.take_opened(entries);
            let settled = seen.take_settled(lane, entries);
            let in_hand = seen.take_in_hand(entries);
            if (opened, settled, in_hand) == (None, None, None) {
                continue;
            }
            self.touched = true;
            if let Some(core) = &mut self.core {
                core.account(now, lane, opened, settled, in_hand);
            }
        }
    }

    /// Whether the time that was armed has come. All that waited was read before (S9): the reactor
    /// hands out what came before it lets a timer fire, while a clock may be ahead of both, in a task
    /// that follows one which held the thread up.
    fn take_timer(&mut self, now: Time, cx: &mut TaskContext<'_>) -> bool {
        let Some(at) = self.timer_at else { return false };
        if at > now {
            if self.timer.has_rung() {
                self.arm_at(at, cx);
            }
            return false;
        }
        if self.timer.poll_due(self.node.inner().reactor.instant(at), cx).is_pending() {
            return false;
        }
        self.timer_at = None;
        let late = now.since(at).as_nanos() as u64;
        let jitter = self.node.random() as u16;
        self.input(now, Input::Timer { jitter, late });
        true
    }

    fn arm(&mut self, cx: &mut TaskContext<'_>) {
        let Some(due) = self.core.as_ref().and_then(Session::poll_timeout) else { return };
        // Put off, it fires at its old time: that costs less than to move it each turn.
        let next = self.timer_at.map_or(due, |at| at.min(due));
        if self.timer_at != Some(next) {
            self.arm_at(next, cx);
        }
    }

    fn arm_at(&mut self, due: Time, cx: &mut TaskContext<'_>) {
        self.timer_at = Some(due);
        self.timer.set(self.node.inner().reactor.instant(due), cx);
    }

    /// What was taken in is let out: outputs, then frames while the link has room.
    fn let_out(&mut self, now: Time) {
        if !std::mem::take(&mut self.touched) {
            return;
        }
        // Before anything of it is acknowledged: if this actor panics, the ledger knows (S4).
        self.note_owned();
        // Before anybody hears of it, here or at the peer: who asks then is told what is, not what was.
        if self
            .core
            .as_ref()
            .is_some_and(|core| core.phase() != Phase::Ended && self.shown != Some(Place::of(core)))
        {
            self.show(now);
        }
        self.let_out_kept(now);
        while let Some(output) = self.core.as_mut().and_then(Session::poll_output) {
            if self.kept.is_shut() && output.is_news() {
                self.keep(output);
            } else {
                self.carry_out(now, output);
            }
        }
        if self.core.is_none() {
            return;
        }
        self.tell_of_namesake();
        if !self.received.is_empty()
            && !self.kept.is_shut()
            && let Some(dispatch) = &self.dispatch
        {
            // As long as this batch was, the next may be: growing it again would move everything.
            let next = Vec::with_capacity(self.received.len());
            self.shared.note_handed(&self.received);
            dispatch.take(&self.node, std::mem::replace(&mut self.received, next));
        }
        self.transmit(now);
    }

    fn note_owned(&mut self) {
        let Some(core) = &self.core else { return };
        // Held messages are owned as well, and were handed to nobody yet.
        let received = core.counters().messages_received;
        if std::mem::replace(&mut self.owned, received) != received {
            for class in Class::ALL {
                self.shared.note_owned(class, core.owned(class));
            }
        }
    }

    fn show(&mut self, now: Time) {
        let Some(core) = &self.core else { return };
        let (why, no_link) = self.watch.look(core, now);
        self.shown = Some(Place::of(core));
        self.shared.show(|shown| {
            shown.phase = Some(core.phase());
            shown.peer = core.peer().copied();
            shown.counters = *core.counters();
            shown.why = why;
            shown.no_link = no_link;
            shown.trouble = core.trouble();
            shown.held_there = core.is_held_there();
            shown.holding = core.is_holding();
            shown.lossy = core.is_lossy();
            shown.kept = core.kept();
        });
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.0.borrow_mut().begin();
    }

    /// Its tree goes down before it: it ends as by an abort, so that both sides are told and what is
    /// unacked comes back (S4). With the turn that this wakes it for it is over.
    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        let driver = self.0.borrow();
        if driver.over {
            return Running::Stop;
        }
        driver.shared.stage(Staged::Abort);
        Running::Continue
    }
}

impl Handler<DialEnded> for SessionActor {
    type Result = ();

    fn handle(&mut self, ended: DialEnded, _: &mut Self::Context) {
        self.0.borrow_mut().dial_ended(ended);
    }
}

impl Handler<HelloArrived> for SessionActor {
    type Result = ();

    fn handle(&mut self, arrived: HelloArrived, _: &mut Self::Context) {
        self.0.borrow_mut().hello_arrived(arrived);
    }
}

impl Handler<FromDirectory> for SessionActor {
    type Result = ();

    fn handle(&mut self, notice: FromDirectory, _: &mut Self::Context) {
        let mut driver = self.0.borrow_mut();
        let now = driver.now();
        driver.input(now, Input::Notice(notice.0));
    }
}

impl Driver {
    fn dial_ended(&mut self, ended: DialEnded) {
        if ended.turn != self.dials {
            return;
        }
        let now = self.now();
        let link = match ended.result {
            Ok(link) => link,
            // Nobody answered: the session's own timer says so, and counts it as silence.
            Err(DialError::TimedOut) => return,
            Err(error) => {
                self.shared.note_dial(error);
                return self.input(now, Input::DialFailed { jitter: ended.jitter });
            }
        };
        let id = self.node.next_link();
        let facts = crate::link::facts(&*link);
        let Ok(link) = LinkActor::start(&self.node, id, link, Role::Bound(self.own.clone())) else {
            return self.input(now, Input::DialFailed { jitter: ended.jitter });
        };
        self.links.insert(id, Held::Actor(link));
        if let Some(mut core) = self.core.take() {
            self.offer(&mut core);
            self.core = Some(core);
        }
        let attempt = self.node.next_attempt();
        self.input(now, Input::Dialled { link: id, attempt, facts });
    }

    fn hello_arrived(&mut self, arrived: HelloArrived) {
        let now = self.now();
        let HelloArrived { id, link, hello, facts } = arrived;
        let Ok(link) = link.land() else { return };
        let back = crate::endpoint::dial_back(&hello, &link.peer());
        if !back.is_empty() && lock(&self.shared.addresses).is_empty() {
            *lock(&self.shared.addresses) = back;
        }
        self.look_ahead();
        self.links.insert(id, Held::Stray(link));
        if let Some(mut core) = self.core.take() {
            self.offer(&mut core);
            self.core = Some(core);
        }
        let latest = self.node.latest_attempt();
        self.input(now, Input::Hello { link: id, hello, latest, facts });
    }
}
