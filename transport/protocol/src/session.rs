//! A session: the conversation of two instances, which outlives its links.
//!
//! ```text
//!            dial ┌──────────────── back-off ◄───────────────┐
//!                 ▼                    ▲                     │
//!   new ──► Dialing ──► Greeting ──► Up ──► Standby ──────► Ended
//!              ▲           │ lost     │ ▲      │ hello         ▲
//!              └─ Yielding ◄┘ the race │ └──────┘               │
//!                                     └► Finishing ────────────┘
//! ```
//!
//! The full table is [`TABLE`]. A session is driven in this order:
//!
//! 1. [`handle`](Session::handle) every input that waits, in order of arrival;
//! 2. drain [`poll_output`](Session::poll_output) and do what it says, in order;
//! 3. while the link has room, send what [`poll_frame`](Session::poll_frame) gives;
//! 4. arm one timer for [`poll_timeout`](Session::poll_timeout), and when it fires read all that
//!    waits on the link *first*, then handle [`Input::Timer`].
//!
//! It owns no clock, rng, socket or lock: time, jitter and ids come in.

mod ending;
mod flow;
mod handshake;
mod loss;
mod recv_lane;
mod requests;
mod schedule;
mod send_lane;
mod table;
mod timers;
mod why;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

pub use recv_lane::LaneFault;
pub use schedule::Next;
pub use send_lane::Amount;
pub use table::{Coverage, Illegal, ROWS, Row, Rule, TABLE};
pub use timers::{Silent, Timer, Timers};
pub use why::{Trouble, WaitsFor, Why};

use crate::class::{Class, Lane, LaneSet};
use crate::event::{Counters, Event, Input, LinkFacts, Notice, Output};
use crate::frame::{Feature, Hello, Payload, Pull, Terms};
use crate::id::{Attempt, EntityName, Identity, LinkId, Question, SessionId, Time};
use crate::limits::Limits;
use crate::policy::Policy;
use recv_lane::RecvLane;
use requests::Requests;
use schedule::Scheduler;
use send_lane::SendLane;

/// What a session is set up with; constant for its life.
#[derive(Clone, Debug)]
pub struct Config {
    /// Limits of this messenger.
    pub limits: Limits,
    /// Who we are.
    pub me: Identity,
    /// Whom we talk to.
    pub target: EntityName,
    /// Our policy towards it, for the side (dialler or acceptor) that we are.
    pub policy: Policy,
    /// What we offer for the peer's admission.
    pub metadata: Bytes,
    /// Whether our user wants to admit the peer before its messages are handed out.
    pub admission: bool,
}

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Phase {
    /// No link; waits before the next dial.
    Backoff = 0,
    /// A dial is out.
    Dialing = 1,
    /// On a link that we dialled, hello sent.
    Greeting = 2,
    /// Lost a race; waits for the winner's link.
    Yielding = 3,
    /// Messages flow.
    Up = 4,
    /// No link; waits for the peer, or for something to say.
    Standby = 5,
    /// The peer closed; what was received is still being opened.
    Finishing = 6,
    /// Over.
    Ended = 7,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 8] = [
        Self::Backoff,
        Self::Dialing,
        Self::Greeting,
        Self::Yielding,
        Self::Up,
        Self::Standby,
        Self::Finishing,
        Self::Ended,
    ];
}

/// The link of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Link {
    id: LinkId,
    facts: LinkFacts,
    /// Receives that the peer has posted for us (the first budget); absent if not counted.
    credit: Option<u32>,
    /// Receives that we posted again and have not granted yet.
    owed: u32,
    /// Whether anything but the handshake arrived: only then is the back-off forgotten.
    healthy: bool,
}

/// Our user's word on the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Admission {
    /// The last question; 0 if nobody was asked.
    asked: Question,
    /// Asked, or told to hold: what arrives is kept.
    held: bool,
}

/// Frames that are due and carry no message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Due {
    heartbeat: bool,
    /// The heartbeat asks for an answer.
    ask: bool,
    /// Number of the question that it answers, or 0.
    answer: u32,
    admitted: bool,
    /// Lanes whose acks or windows changed, a bit each.
    acks: u8,
    /// The acks should not wait for company.
    urgent: bool,
}

/// Faults in a row at the same place: no poison loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Poison {
    received: [u64; Lane::COUNT],
    faults: u8,
}

/// Faults at the same first missing message that end a session.
pub const POISON_FAULTS: u8 = 3;

/// What the next hello or answer offers beyond the terms.
#[derive(Clone, Debug, Default)]
struct Offers {
    features: Vec<Feature>,
    /// Nobody can dial us: then it is ours to dial after every loss.
    unreachable: bool,
}

/// One side of one session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Session<P: Payload> {
    config: Silent<Config>,
    id: SessionId,
    /// The id that we chose when we dialled; the peer may come back with it (see `handshake`).
    own_id: SessionId,
    /// The last id that the peer chose, if another. Until one of the two is confirmed either may
    /// come back, with a hello that lay on its way or from a side that took the other's.
    their_id: SessionId,
    phase: Phase,
    peer: Option<Identity>,
    /// The latest attempt heard of from the peer's instance.
    peer_attempt: Attempt,
    attempt: Attempt,
    /// The dialler has seen an accepting answer, or the acceptor a frame that proves it was seen.
    /// Until then nothing was received by anybody and the session may still take another id.
    confirmed: bool,
    /// `Connected` was told.
    told: bool,
    lossy: bool,
    insist: bool,
    link: Option<Link>,
    send: [SendLane<P>; Lane::COUNT],
    /// Lanes in `send` that ever got a message: the others are empty.
    used: Silent<LaneSet>,
    recv: [RecvLane<P>; Lane::COUNT],
    opened: Silent<[u64; Lane::COUNT]>,
    terms: Option<Terms>,
    admission: Admission,
    /// The peer keeps what we send until its user admits us.
    peer_holds: bool,
    /// Negative answers taken, by class.
    rejections: [u64; Class::COUNT],
    closing: bool,
    /// An old instance was asked for a sign of life.
    probing: bool,
    /// Number of the last such question.
    probes: u32,
    /// Whatever comes meanwhile, it is to be answered by then.
    probe_until: Silent<Time>,
    /// It goes to another address once that sign is there.
    moves: bool,
    /// The deadline was restarted once because we woke late.
    stalled: bool,
    peer_delivered: Option<[u64; Lane::COUNT]>,
    failures: u32,
    trouble: Silent<Option<Trouble>>,
    poison: Poison,
    requests: Requests,
    pulls: VecDeque<Pull>,
    due: Due,
    scheduler: Scheduler,
    timers: Timers,
    offers: Silent<Offers>,
    counters: Silent<Counters>,
    coverage: Silent<Coverage>,
    out: VecDeque<Output<P>>,
}

impl<P: Payload> Session<P> {
    /// A session that we dial. Emits [`Output::Dial`].
    pub fn dial(config: Config, id: SessionId, now: Time) -> Self {
        let mut session = Self::new(config, id);
        session.timers.arm(Timer::Standby, now.after(session.config.limits.standby_max));
        session.start_dial(now);
        session
    }

    /// A session that a peer's hello begins. `latest` is this messenger's latest attempt.
    pub fn accept(
        config: Config,
        link: LinkId,
        hello: Box<Hello>,
        latest: Attempt,
        facts: LinkFacts,
        now: Time,
    ) -> Self {
        let mut session = Self::new(config, hello.session);
        session.phase = Phase::Standby;
        session.timers.arm(Timer::Standby, now.after(session.config.limits.standby_max));
        session.on_hello(now, link, hello, latest, facts);
        session
    }

    fn new(config: Config, id: SessionId) -> Self {
        let limits = config.limits;
        let lossy = config.policy.is_lossy();
        let lane = |index: u8| Lane::from_index(index).unwrap_or(Lane::messages(Class::Normal));
        Self {
            config: Silent(config),
            id,
            own_id: id,
            their_id: id,
            phase: Phase::Dialing,
            peer: None,
            peer_attempt: Attempt(0),
            attempt: Attempt(0),
            confirmed: false,
            told: false,
            lossy,
            insist: false,
            link: None,
            send: std::array::from_fn(|index| SendLane::new(!lane(index as u8).is_replies())),
            used: Silent::default(),
            recv: std::array::from_fn(|index| RecvLane::new(lane(index as u8), &limits)),
            opened: Silent([0; Lane::COUNT]),
            terms: None,
            admission: Admission::default(),
            peer_holds: false,
            rejections: [0; Class::COUNT],
            closing: false,
            probing: false,
            probes: 0,
            probe_until: Silent(Time(0)),
            moves: false,
            stalled: false,
            peer_delivered: None,
            failures: 0,
            trouble: Silent::default(),
            poison: Poison::default(),
            requests: Requests::default(),
            pulls: VecDeque::new(),
            due: Due::default(),
            scheduler: Scheduler::default(),
            timers: Timers::default(),
            offers: Silent::default(),
            counters: Silent::default(),
            coverage: Silent::default(),
            out: VecDeque::new(),
        }
    }

    /// Takes in what happened.
    ///
    /// # Errors
    /// [`Illegal`] if no row of [`TABLE`] allows the input in this phase; nothing changed then.
    /// What a peer sends never gives an error: it gives a fault of its link.
    pub fn handle(&mut self, now: Time, input: Input<P>) -> Result<(), Illegal> {
        self.scheduler.forget();
        match input {
            Input::Submit(submit) => return self.submit(now, submit),
            Input::Frame { link, frame } => {
                if let Some(delivery) = self.receive(now, link, frame) {
                    self.emit(Output::Deliver(delivery));
                }
                return Ok(());
            }
            Input::Done(done) => self.on_done(now, done),
            Input::Settled(settled) => self.on_settled(now, settled),
            Input::InHand { lane, requests, cost } => self.on_in_hand(now, lane, requests, cost),
            Input::Opened { lane, total } => self.opened[lane.index()] = total,
            Input::Reply { class, id, outcome, payload } => {
                self.on_reply(now, class, id, outcome, payload);
            }
            Input::Reject { lane, seq, reason } => self.on_reject(now, lane, seq, reason),
            Input::Forget(id) => self.requests.forget(id),
            Input::Dialled { link, attempt, facts } => self.on_dialled(now, link, attempt, facts),
            Input::DialFailed { jitter } => self.on_dial_failed(now, jitter)?,
            Input::Hello { link, hello, latest, facts } => {
                self.on_hello(now, link, hello, latest, facts);
            }
            Input::LinkLost { link, blame, jitter } => self.on_link_lost(now, link, blame, jitter),
            Input::Timer { jitter, late } => self.on_timer(now, jitter, late),
            Input::Fire(timer) => self.fire(now, timer, None, 0),
            Input::Admission { question, decision } => self.on_admission(question, decision),
            Input::Notice(notice) => self.on_notice(now, notice),
            Input::Readdress => self.on_readdress(now)?,
            Input::Close => self.on_close(now),
            Input::Abort => self.on_abort(),
            Input::Fault => self.on_fault(),
        }
        self.follow_up(now);
        Ok(())
    }

    /// What any input may have made possible.
    fn follow_up(&mut self, now: Time) {
        self.settle();
        if self.moves && !self.probing {
            self.moves = false;
            // Over meanwhile: there is nothing left to move.
            let _ = self.on_readdress(now);
        }
    }

    /// The next thing to do, until empty.
    pub fn poll_output(&mut self) -> Option<Output<P>> {
        self.out.pop_front()
    }

    /// When [`Input::Timer`] is due.
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// What the next hello or answer offers for the peer's admission.
    pub fn set_metadata(&mut self, metadata: Bytes) {
        self.config.metadata = metadata;
    }

    /// Numbered features that the next hello or answer names.
    pub fn set_features(&mut self, features: Vec<Feature>) {
        self.offers.features = features;
    }

    /// Says that the peer cannot dial us: then this side dials after every loss of a link, also
    /// with nothing to say, or the peer's messages would wait for ever.
    pub fn set_unreachable(&mut self) {
        self.offers.unreachable = true;
    }

    /// Whether the silence deadline is due: read all that waits on the link before the timer is
    /// handled (S9).
    pub fn is_silent(&self, now: Time) -> bool {
        self.timers.due(Timer::Deadline).is_some_and(|due| due <= now)
    }

    /// Its id, which may change until it is confirmed (S5).
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The id that we chose when we dialled, if that was not the one that stood.
    pub fn own_id(&self) -> SessionId {
        self.own_id
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The peer, once known.
    pub fn peer(&self) -> Option<&Identity> {
        self.peer.as_ref()
    }

    /// Whether the id is settled between the two sides.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed
    }

    /// Whether it ends with its link.
    pub fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Whether our user has not admitted the peer yet.
    pub fn is_holding(&self) -> bool {
        self.admission.held
    }

    /// The session's link.
    pub fn link(&self) -> Option<LinkId> {
        self.link.map(|link| link.id)
    }

    /// What it counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Which rows of the table it took.
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// Its timers.
    pub fn timers(&self) -> &Timers {
        &self.timers
    }

    /// What it holds of what its user sent: queued and unacked.
    pub fn outbox(&self) -> Amount {
        self.send.iter().fold(Amount::default(), |sum, lane| {
            let held = lane.held();
            Amount { messages: sum.messages + held.messages, bytes: sum.bytes + held.bytes }
        })
    }

    /// Messages of that class that this side owns (S3): handed out, or held until it may be.
    pub fn owned(&self, class: Class) -> u64 {
        self.recv[Lane::messages(class).index()].received().0
    }

    /// Bytes of replies that the peer is not known to have received; none once it takes no more.
    pub fn replies_held(&self) -> u64 {
        if matches!(self.phase, Phase::Finishing | Phase::Ended) {
            return 0;
        }
        self.used.of_replies(true).map(|lane| self.send[lane.index()].held().bytes).sum()
    }

    /// The only place where a phase changes: by a row of the table.
    fn step(&mut self, row: Row) {
        let rule = &TABLE[row as usize];
        debug_assert!(rule.from.contains(&self.phase), "{row:?} taken in {:?}", self.phase);
        self.coverage.hit(row, self.phase);
        if let Some(to) = rule.to {
            self.phase = to;
        }
    }

    fn emit(&mut self, output: Output<P>) {
        self.out.push_back(output);
    }

    fn event(&mut self, event: Event<P>) {
        self.out.push_back(Output::Event(event));
    }

    fn start_dial(&mut self, now: Time) {
        let patience = self.config.limits.hello_timeout;
        self.timers.arm(Timer::Hello, now.after(patience));
        self.counters.dials += 1;
        self.emit(Output::Dial);
    }

    fn close_link(&mut self, drain: bool) {
        if let Some(link) = self.link.take() {
            self.emit(Output::CloseLink { link: link.id, drain });
        }
    }

    /// Whether this side has a reason to dial by itself: something to say, or an answer to hear, of
    /// a handler or of the peer's admission. A peer that has restarted, or refused us meanwhile, has
    /// nothing to say, and would never tell what became of what it had received.
    fn has_something_to_say(&self) -> bool {
        let waits = self.requests.len() > 0 || self.peer_holds;
        waits || self.send.iter().any(|lane| !lane.is_empty())
    }

    fn on_timer(&mut self, now: Time, jitter: u16, late: u64) {
        let stall = self.config.limits.is_own_stall(Duration::from_nanos(late));
        if stall && self.told && self.phase != Phase::Ended {
            self.event(Event::LocalStall { late });
        }
        while let Some(timer) = self.timers.first_due(now) {
            let late = self.timers.due(timer).map(|due| now.since(due).as_nanos() as u64);
            self.fire(now, timer, late, jitter);
        }
    }

    fn fire(&mut self, now: Time, timer: Timer, late: Option<u64>, jitter: u16) {
        if !self.timers.is_armed(timer) {
            return;
        }
        self.timers.disarm(timer);
        match timer {
            Timer::Hello => self.on_hello_silent(now, jitter),
            Timer::Backoff => {
                self.step(Row::BackoffOver);
                self.start_dial(now);
            }
            Timer::RaceWait => {
                self.step(Row::RaceOver);
                self.insist = true;
                self.start_dial(now);
            }
            Timer::Heartbeat => {
                self.step(Row::Heartbeat);
                self.due.heartbeat = true;
                self.timers.arm(Timer::Heartbeat, now.after(self.config.limits.heartbeat_every));
            }
            Timer::Deadline => self.on_silence(now, late.unwrap_or(0), jitter),
            Timer::Standby => self.on_standby_over(),
            Timer::Hold => self.on_hold_over(),
            Timer::Drain => self.on_drain_over(),
            Timer::Probe => self.on_probe_silent(),
            Timer::Ack => self.due.urgent |= self.due.acks != 0,
            Timer::Request => self.on_request_due(now, late.is_none()),
        }
    }

    fn on_notice(&mut self, now: Time, notice: Notice) {
        if matches!(self.phase, Phase::Finishing | Phase::Ended) {
            return;
        }
        match notice {
            Notice::Forgotten => self.end(Row::PeerForgot, crate::event::EndCause::ClosedByPeer),
            Notice::NewInstance { incarnation } => self.on_new_instance(now, incarnation),
        }
    }

    fn on_readdress(&mut self, now: Time) -> Result<(), Illegal> {
        // A lossy session ends with its link, so it cannot be moved to another.
        let bound = self.lossy && self.told;
        if !self.config.policy.dials() || self.closing_or_over() || bound {
            return Err(Illegal { phase: self.phase, input: "Readdress" });
        }
        if self.probing {
            // On this link the answer is due: without it nobody would know who is there (S6).
            self.moves = true;
            return Ok(());
        }
        if self.phase == Phase::Yielding {
            // The winner's link is awaited; if it does not come, the next dial goes there.
            return Ok(());
        }
        let row = match self.phase {
            Phase::Backoff | Phase::Standby => Row::Readdressed,
            Phase::Up => Row::ReaddressedUp,
            Phase::Dialing | Phase::Greeting => Row::ReaddressedDialing,
            phase => {
                return Err(Illegal { phase, input: "Readdress" });
            }
        };
        if self.phase == Phase::Dialing {
            self.emit(Output::CancelDial);
        }
        if self.phase == Phase::Up {
            self.rewind();
            self.timers.arm_once(Timer::Standby, now.after(self.config.limits.standby_max));
        }
        self.close_link(true);
        self.timers.disarm(Timer::Backoff);
        self.timers.disarm(Timer::Hello);
        self.step(row);
        self.start_dial(now);
        Ok(())
    }

    fn closing_or_over(&self) -> bool {
        self.closing || matches!(self.phase, Phase::Finishing | Phase::Ended)
    }
}
