//! The actor of one session: a shell around the protocol's [`Session`].
//!
//! ```text
//!   staged sends, ledger, timer, link, directory ──► Session::handle
//!                     outputs, frames ◄── poll_output, poll_frame
//! ```
//!
//! Messages are taken in as they come; everything that comes out goes out once, at the end of the
//! actor's turn, so that one turn is one batch to each neighbour. No protocol decision is made
//! here. A panic ends the session with [`EndCause::InternalFault`]: the exit hook counts what was
//! lost from the ledger, which survives.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use actix::{Actor, ActorContext, ActorFuture, Addr, AsyncContext, Context, Handler, Message};
use stellate_protocol::event::{Ask, Notice as PeerNotice};
use stellate_protocol::event::{
    CallResult, Decision, End, EndCause, Event, Fate, Input, LinkFacts, Output, Settled, Unacked,
};
use stellate_protocol::frame::{Call, Close, CloseReason, Feature, Hello};
use stellate_protocol::session::{Config, Phase, Session};
use stellate_protocol::{Blame, Frame, Lane, LinkId, Parcel, SessionId, Time};
use stellate_transport::{CloseHow, DialError, Link, LinkFault};

use crate::dispatch::{DispatchQueue, Received};
use crate::endpoint::{FEATURE_LISTENS_AT, Greeted};
use crate::inbox::{AdmissionAsk, Arrived, Notice};
use crate::link::{Carried, Expect, Flush, FromLink, Hang, LinkActor, Role, Transmit, frame_bytes};
use crate::node::Node;
use crate::reconnect::{CancelFor, DialFor, ReconnectSupervisor};
use crate::shared::{SessionShared, Snapshot, Staged, lock};
use crate::supervise::Recipe;

/// How a session comes to be.
pub(crate) enum Begin {
    Dial {
        config: Config,
        id: SessionId,
    },
    Accept {
        config: Config,
        id: LinkId,
        link: Carried,
        hello: Box<Hello>,
        facts: LinkFacts,
    },
}

/// A dial is over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct DialEnded {
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

/// A link that the session holds.
enum Held {
    /// Nobody moves it yet: it said hello, and is adopted or closed in this turn.
    Stray(Box<dyn Link>),
    Actor(Addr<LinkActor>),
}

/// The link of the day, as its session's exit hook may have to close it.
type LinkInUse = Rc<RefCell<Option<Addr<LinkActor>>>>;

/// The actor of one session.
pub(crate) struct SessionActor {
    node: Node,
    shared: Arc<SessionShared>,
    core: Option<Session<Parcel>>,
    begin: Option<Begin>,
    dispatch: Option<Addr<DispatchQueue>>,
    reconnect: Option<Addr<ReconnectSupervisor>>,
    links: BTreeMap<LinkId, Held>,
    in_use: LinkInUse,
    /// Bytes given to the link and not done.
    in_flight: u64,
    /// Bytes that may be.
    in_flight_max: u64,
    /// How many frames the last batch had.
    frames_hint: usize,
    /// What was read of the ledger so far, per lane.
    seen: [[u64; 4]; Lane::COUNT],
    staged: Vec<Staged>,
    received: Vec<Arrived>,
    timer: Option<Pin<Box<tokio::time::Sleep>>>,
    timer_at: Option<Time>,
    /// The link was asked to report before a deadline is believed.
    flushing: bool,
    dial_turn: u64,
    /// Which address is next.
    address: usize,
    over: bool,
}

impl SessionActor {
    pub(crate) fn recipe(
        node: Node,
        shared: Arc<SessionShared>,
        index: usize,
        begin: Begin,
    ) -> Recipe<Self> {
        let in_use = LinkInUse::default();
        let (hooked, owner, session) = (in_use.clone(), node.clone(), shared.clone());
        let mut begin = Some(begin);
        Recipe::new(move || Self {
            dispatch: lock(&node.inner().dispatches).get(index).cloned(),
            reconnect: lock(&node.inner().reconnects).get(index).cloned(),
            node: node.clone(),
            shared: shared.clone(),
            core: None,
            begin: begin.take(),
            links: BTreeMap::new(),
            in_use: in_use.clone(),
            in_flight: 0,
            in_flight_max: 0,
            frames_hint: 0,
            seen: Default::default(),
            staged: Vec::new(),
            received: Vec::new(),
            timer: None,
            timer_at: None,
            flushing: false,
            dial_turn: 0,
            address: 0,
            over: false,
        })
        .on_exit(move |_| {
            if let Some(link) = hooked.borrow_mut().take() {
                last_word(&session, &link);
            }
            died(&owner, &session);
        })
    }

    fn now(&self) -> Time {
        self.node.now()
    }

    fn input(&mut self, now: Time, input: Input<Parcel>) {
        if let Some(core) = &mut self.core
            && let Err(illegal) = core.handle(now, input)
        {
            tracing::debug!(session = self.shared.key.0, %illegal, "ignored");
        }
    }

    fn begin(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        let mut core = match self.begin.take() {
            Some(Begin::Dial { config, id }) => Session::dial(config, id, now),
            Some(Begin::Accept {
                config,
                id,
                link,
                hello,
                facts,
            }) => {
                let Ok(link) = link.land() else {
                    tracing::debug!(link = id.0, "an accepted link did not survive its journey");
                    ctx.stop();
                    return;
                };
                self.links.insert(id, Held::Stray(link));
                Session::accept(config, id, hello, self.node.latest_attempt(), facts, now)
            }
            None => return ctx.stop(),
        };
        self.offer(&mut core);
        self.core = Some(core);
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
    fn turn(&mut self, ctx: &mut Context<Self>, cx: &mut TaskContext<'_>) {
        self.shared.begin_turn(cx.waker());
        if self.core.is_none() || self.over {
            return;
        }
        let now = self.now();
        self.take_ledger(now);
        self.take_staged(now);
        self.take_timer(now, cx);
        self.let_out(ctx, now);
        if self.shared.take_writable() && !self.over {
            let shared = &self.shared;
            self.node.notify(|| Notice::Writable(shared.clone()));
        }
        self.arm(cx);
        self.show();
    }

    fn take_staged(&mut self, now: Time) {
        let mut staged = std::mem::take(&mut self.staged);
        self.shared.take_staged(&mut staged);
        for staged in staged.drain(..) {
            if let Staged::Readdress = staged {
                self.address = 0;
            }
            self.input(now, staged.into_input());
        }
        self.staged = staged;
    }

    fn take_ledger(&mut self, now: Time) {
        for lane in Lane::all().filter(|lane| !lane.is_replies()) {
            let [opened, done, cost, pulled] = self.shared.ledger[lane.index()].read();
            let seen =
                std::mem::replace(&mut self.seen[lane.index()], [opened, done, cost, pulled]);
            if opened != seen[0] {
                self.input(
                    now,
                    Input::Opened {
                        lane,
                        total: opened,
                    },
                );
            }
            if done != seen[1] {
                let settled = Settled {
                    lane,
                    messages: done - seen[1],
                    cost: cost - seen[2],
                    pulled: pulled - seen[3],
                };
                self.input(now, Input::Settled(settled));
            } else {
                // Sums without their count: they go with the next one.
                self.seen[lane.index()][2..].copy_from_slice(&seen[2..]);
            }
        }
    }

    fn take_timer(&mut self, now: Time, cx: &mut TaskContext<'_>) {
        let Some(timer) = &mut self.timer else { return };
        if self.timer_at.is_none() || timer.as_mut().poll(cx).is_pending() {
            return;
        }
        self.timer_at = None;
        let silent = self.core.as_ref().is_some_and(|core| core.is_silent(now));
        let link = self.in_use.borrow().clone();
        match link {
            // Read all that waits before the silence is believed (S9).
            Some(link) if silent && !self.flushing => {
                self.flushing = true;
                link.do_send(Flush);
            }
            Some(_) if self.flushing => {}
            _ => self.input(
                now,
                Input::Timer {
                    jitter: self.node.random() as u16,
                },
            ),
        }
    }

    fn arm(&mut self, cx: &mut TaskContext<'_>) {
        let Some(core) = &self.core else { return };
        if self.flushing {
            return;
        }
        let due = core.poll_timeout();
        if due == self.timer_at {
            return;
        }
        self.timer_at = due;
        let Some(due) = due else { return };
        let instant = self.node.inner().reactor.instant(due);
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.as_mut().reset(instant);
                timer
            }
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(instant))),
        };
        if timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    /// Outputs, then frames while the link has room, until neither gives more.
    fn let_out(&mut self, ctx: &mut Context<Self>, now: Time) {
        while let Some(output) = self.core.as_mut().and_then(Session::poll_output) {
            self.carry_out(ctx, now, output);
            if self.over {
                return;
            }
        }
        if !self.received.is_empty()
            && let Some(dispatch) = &self.dispatch
        {
            // As long as this batch was, the next may be: growing it again would move everything.
            let next = Vec::with_capacity(self.received.len());
            dispatch.do_send(Received(std::mem::replace(&mut self.received, next)));
        }
        self.transmit(now);
    }

    fn transmit(&mut self, now: Time) {
        let in_use = self.in_use.borrow();
        let (Some(link), Some(core)) = (&*in_use, &mut self.core) else {
            return;
        };
        let mut frames = Vec::with_capacity(self.frames_hint);
        let mut bytes = 0;
        while self.in_flight + bytes < self.in_flight_max
            && let Some(frame) = core.poll_frame(now)
        {
            bytes += frame_bytes(&frame);
            frames.push(frame);
        }
        self.frames_hint = frames.len();
        if !frames.is_empty() {
            self.in_flight += bytes;
            link.do_send(Transmit { frames, bytes });
        }
    }

    fn show(&self) {
        let Some(core) = &self.core else { return };
        self.shared.show(Snapshot {
            phase: Some(core.phase()),
            peer: core.peer().copied(),
            counters: *core.counters(),
            why: core.why(),
            holding: core.is_holding(),
        });
    }

    // --- outputs -------------------------------------------------------------------------

    fn carry_out(&mut self, ctx: &mut Context<Self>, now: Time, output: Output<Parcel>) {
        match output {
            Output::Deliver(delivery) => {
                self.shared.note_handed(delivery.message.lane);
                self.received
                    .push(Arrived::new(self.shared.clone(), delivery, now.0));
            }
            Output::Room { messages, bytes } => self.shared.free(messages, bytes, 0),
            Output::Received { lane, position } => {
                self.shared.note_received(lane.class(), position);
            }
            Output::Outcome { id, result } => {
                self.shared.resolve_call(id, result);
            }
            Output::Expect {
                lane,
                seq,
                data_len,
            } => {
                if let Some(link) = &*self.in_use.borrow() {
                    link.do_send(Expect {
                        lane,
                        seq,
                        data_len,
                    });
                }
            }
            Output::Dial => self.dial(ctx),
            Output::CancelDial => {
                self.dial_turn += 1;
                if let Some(reconnect) = &self.reconnect {
                    reconnect.do_send(CancelFor(self.shared.key));
                }
            }
            Output::Send { link, frame } => self.send_on(link, frame),
            Output::Adopt(link) => self.adopt(ctx, link),
            Output::CloseLink { link, drain } => {
                self.close_link(
                    link,
                    if drain {
                        CloseHow::Drain
                    } else {
                        CloseHow::Abort
                    },
                );
            }
            Output::Farewell { link, mut close } => {
                close.delivered = self.shared.seal();
                self.send_on(link, Frame::Close(close));
                self.close_link(link, CloseHow::Drain);
            }
            Output::AskAdmission {
                peer,
                metadata,
                resumed,
            } => {
                let session = self.shared.clone();
                let ask = Box::new(AdmissionAsk {
                    session,
                    peer,
                    metadata,
                    resumed,
                });
                match self.node.router().routes().admission() {
                    Some(inbox) => inbox.push_notice(Notice::Admission(ask)),
                    None => ask.answer(Decision::Refuse("the admission actor is gone".into())),
                }
            }
            Output::Terms(terms) => self.shared.set_terms(terms),
            Output::Bound { peer, id, latest } => {
                let mut registry = lock(&self.node.inner().registry);
                registry.directory.bound(self.shared.key, &peer, id, latest);
            }
            Output::Bounce { link, hello } => self.bounce(link, hello),
            Output::Event(event) => self.tell(ctx, event),
        }
    }

    fn dial(&mut self, ctx: &mut Context<Self>) {
        self.dial_turn += 1;
        let addresses = lock(&self.shared.addresses).clone();
        let address = match addresses.len() {
            0 => None,
            len => addresses.get(self.address % len).cloned(),
        };
        self.address = self.address.wrapping_add(1);
        if let Some(reconnect) = &self.reconnect {
            let (key, session) = (self.shared.key, ctx.address());
            reconnect.do_send(DialFor {
                key,
                session,
                address,
                turn: self.dial_turn,
            });
        }
    }

    fn send_on(&mut self, id: LinkId, frame: Frame<Parcel>) {
        match self.links.get_mut(&id) {
            Some(Held::Stray(link)) => {
                if link.submit(frame).is_err() {
                    tracing::debug!(link = id.0, "a link ended before its answer");
                }
            }
            Some(Held::Actor(link)) => link.do_send(Transmit {
                frames: vec![frame],
                bytes: 0,
            }),
            None => {}
        }
    }

    fn adopt(&mut self, ctx: &mut Context<Self>, id: LinkId) {
        let link = match self.links.remove(&id) {
            Some(Held::Stray(link)) => {
                self.in_flight_max = link.limits().send_bytes as u64;
                match LinkActor::start(&self.node, id, link, Role::Bound(ctx.address())) {
                    Ok(link) => link,
                    Err(_) => return ctx.notify(FromLink::closed(id, NO_RUNTIME)),
                }
            }
            Some(Held::Actor(link)) => link,
            None => return,
        };
        self.address = 0;
        self.in_flight = 0;
        self.flushing = false;
        self.links.insert(id, Held::Actor(link.clone()));
        *self.in_use.borrow_mut() = Some(link);
    }

    fn close_link(&mut self, id: LinkId, how: CloseHow) {
        match self.links.remove(&id) {
            Some(Held::Stray(mut link)) => {
                link.close(how);
                // A link that finds no place is dropped, which closes it.
                let _ = LinkActor::start(&self.node, id, link, Role::Draining);
            }
            Some(Held::Actor(link)) => {
                let mut in_use = self.in_use.borrow_mut();
                if in_use.as_ref() == Some(&link) {
                    *in_use = None;
                    self.in_flight = 0;
                    self.flushing = false;
                }
                link.do_send(Hang(how));
            }
            None => {}
        }
    }

    fn bounce(&mut self, id: LinkId, hello: Box<Hello>) {
        let endpoint = lock(&self.node.inner().endpoint).clone();
        if let (Some(Held::Stray(link)), Some(endpoint)) = (self.links.remove(&id), endpoint) {
            endpoint.do_send(Greeted { id, link, hello });
        }
    }

    // --- events --------------------------------------------------------------------------

    fn tell(&mut self, ctx: &mut Context<Self>, event: Event<Parcel>) {
        match event {
            Event::Ended(end) => return self.finish(ctx, end),
            Event::NameConflict => self.tell_namesakes(),
            _ => {}
        }
        tracing::debug!(session = self.shared.key.0, peer = %self.shared.target, ?event);
        let shared = &self.shared;
        self.node
            .notify(|| Notice::Event(shared.clone(), Box::new(event.clone())));
    }

    fn tell_namesakes(&self) {
        let registry = lock(&self.node.inner().registry);
        let others: Vec<_> = registry
            .directory
            .namesakes(self.shared.key)
            .into_iter()
            .filter_map(|key| {
                registry
                    .sessions
                    .get(&key)
                    .map(|entry| entry.shared.clone())
            })
            .collect();
        drop(registry);
        for other in others {
            self.node
                .notify(|| Notice::Event(other.clone(), Box::new(Event::NameConflict)));
        }
    }

    /// The end: seal, correct the counts to what is exact now, tell, and go.
    fn finish(&mut self, ctx: &mut Context<Self>, mut end: Box<End<Parcel>>) {
        self.over = true;
        self.show();
        let sealed = self.shared.seal();
        for lane in Lane::all().filter(|lane| !lane.is_replies()) {
            let later = sealed[lane.index()] - self.seen[lane.index()][0];
            let counts = &mut end.counts[lane.class().index()];
            counts.undelivered = counts.undelivered.saturating_sub(later);
        }
        for staged in self.shared.shut(end.cause) {
            take_back(&self.shared, &mut end, staged);
        }
        conclude(&self.node, &self.shared, end);
        self.received.clear();
        for (_, held) in std::mem::take(&mut self.links) {
            match held {
                Held::Stray(link) => drop(link),
                Held::Actor(link) => link.do_send(Hang(CloseHow::Abort)),
            }
        }
        self.in_use.borrow_mut().take();
        ctx.stop();
    }
}

const NO_RUNTIME: LinkFault = LinkFault::NoRuntime;

/// A message that was staged and never reached the session goes back with the others.
fn take_back(shared: &SessionShared, end: &mut End<Parcel>, staged: Staged) {
    let Staged::Submit(class, payload, ask) = staged else {
        return;
    };
    let call = match ask {
        Ask::Nothing => Call::OneWay,
        Ask::Notify(id) => Call::Notify { id },
        Ask::Request(id, _) => Call::Request { id, ttl_ms: None },
    };
    if let Call::Notify { id } | Call::Request { id, .. } = call {
        shared.resolve_call(id, CallResult::SessionEnded(Fate::NotSent));
    }
    end.counts[class.index()].unacked += 1;
    end.unacked.push(Unacked {
        class,
        reply: false,
        sent: false,
        call,
        payload,
    });
}

/// Tells the users of an end, frees the name, and goes on with a fresh session if the policy does.
fn conclude(node: &Node, shared: &Arc<SessionShared>, end: Box<End<Parcel>>) {
    tracing::debug!(session = shared.key.0, peer = %shared.target, cause = ?end.cause, "ended (S4)");
    node.forget(shared.key);
    shared.fail_calls();
    let addresses = lock(&shared.addresses).clone();
    let next = match end.goes_on && !addresses.is_empty() {
        true => node.connect(shared.target, addresses).ok(),
        false => None,
    };
    node.notify(|| match &next {
        Some(next) => Notice::Reset {
            old: shared.clone(),
            new: next.shared().clone(),
            end: end.clone(),
        },
        None => Notice::Event(shared.clone(), Box::new(Event::Ended(end.clone()))),
    });
    shared.note_ended();
}

/// Tells the peer over the link that outlives the actor: a peer with nothing to say would not
/// ask before `standby_max` (S4).
fn last_word(shared: &SessionShared, link: &Addr<LinkActor>) {
    let close = Close {
        reason: CloseReason::InternalFault,
        delivered: shared.seal(),
        text: "the session's actor failed".into(),
    };
    link.do_send(Transmit {
        frames: vec![Frame::Close(Box::new(close))],
        bytes: 0,
    });
    link.do_send(Hang(CloseHow::Drain));
}

/// The actor is gone. If the session had not ended it has now, with what the ledger knows.
fn died(node: &Node, shared: &Arc<SessionShared>) {
    if shared.is_over() {
        return;
    }
    let mut end = Box::new(End {
        cause: EndCause::InternalFault,
        id: SessionId(0),
        peer: shared.snapshot().peer,
        counts: shared.ledger_counts(),
        goes_on: false,
        unacked: Vec::new(),
    });
    for staged in shared.shut(EndCause::InternalFault) {
        take_back(shared, &mut end, staged);
    }
    conclude(node, shared, end);
}

impl Drop for SessionActor {
    /// After a panic a link that still greets has nobody to wait for, and the peer may have let it
    /// in already. The link in use is left to the exit hook.
    fn drop(&mut self) {
        let in_use = self.in_use.borrow();
        for held in self.links.values() {
            if let Held::Actor(link) = held
                && in_use.as_ref() != Some(link)
            {
                last_word(&self.shared, link);
            }
        }
    }
}

impl Actor for SessionActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.begin(ctx);
        ctx.spawn(SessionPump);
    }
}

struct SessionPump;

impl ActorFuture<SessionActor> for SessionPump {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        actor: &mut SessionActor,
        ctx: &mut Context<SessionActor>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<()> {
        actor.turn(ctx, cx);
        Poll::Pending
    }
}

impl Handler<FromLink> for SessionActor {
    type Result = ();

    fn handle(&mut self, report: FromLink, _: &mut Self::Context) {
        let now = self.now();
        let FromLink {
            link,
            frames,
            sent,
            closed,
            flushed,
        } = report;
        let current = self.core.as_ref().and_then(Session::link) == Some(link);
        if current {
            self.in_flight = self.in_flight.saturating_sub(sent);
        }
        for frame in frames {
            self.input(now, Input::Frame { link, frame });
        }
        if flushed && current && std::mem::take(&mut self.flushing) {
            self.input(
                now,
                Input::Timer {
                    jitter: self.node.random() as u16,
                },
            );
        }
        if let Some(fault) = closed {
            if let Some(Held::Actor(gone)) = self.links.remove(&link) {
                let mut in_use = self.in_use.borrow_mut();
                if in_use.as_ref() == Some(&gone) {
                    *in_use = None;
                    self.in_flight = 0;
                    self.flushing = false;
                }
            }
            tracing::debug!(session = self.shared.key.0, link = link.0, %fault, "link lost");
            let (blame, jitter) = (charge(&fault), self.node.random() as u16);
            self.input(
                now,
                Input::LinkLost {
                    link,
                    blame,
                    jitter,
                },
            );
        }
    }
}

/// What the session holds against the peer. A damaged frame is its doing or the path's, and the
/// session counts both: at the same place again and again, a new link does not help.
fn charge(fault: &LinkFault) -> Blame {
    match fault {
        LinkFault::Malformed(error) if error.blame() != Blame::Local => Blame::PeerMisbehaved,
        _ => fault.blame(),
    }
}

impl Handler<DialEnded> for SessionActor {
    type Result = ();

    fn handle(&mut self, ended: DialEnded, ctx: &mut Self::Context) {
        let now = self.now();
        let waited = self
            .core
            .as_ref()
            .is_some_and(|core| core.phase() == Phase::Dialing);
        if ended.turn != self.dial_turn || !waited {
            return;
        }
        let link = match ended.result {
            Ok(link) => link,
            Err(_) => {
                return self.input(
                    now,
                    Input::DialFailed {
                        jitter: ended.jitter,
                    },
                );
            }
        };
        let id = self.node.next_link();
        let facts = crate::link::facts(&*link);
        self.in_flight_max = link.limits().send_bytes as u64;
        let Ok(actor) = LinkActor::start(&self.node, id, link, Role::Bound(ctx.address())) else {
            return self.input(
                now,
                Input::DialFailed {
                    jitter: ended.jitter,
                },
            );
        };
        self.links.insert(id, Held::Actor(actor));
        if let Some(mut core) = self.core.take() {
            self.offer(&mut core);
            self.core = Some(core);
        }
        let attempt = self.node.next_attempt();
        self.input(
            now,
            Input::Dialled {
                link: id,
                attempt,
                facts,
            },
        );
    }
}

impl Handler<HelloArrived> for SessionActor {
    type Result = ();

    fn handle(&mut self, arrived: HelloArrived, _: &mut Self::Context) {
        let now = self.now();
        let HelloArrived {
            id,
            link,
            hello,
            facts,
        } = arrived;
        let Ok(link) = link.land() else { return };
        let back = crate::endpoint::dial_back(&hello, &link.peer());
        if !back.is_empty() && lock(&self.shared.addresses).is_empty() {
            *lock(&self.shared.addresses) = back;
        }
        self.links.insert(id, Held::Stray(link));
        if let Some(mut core) = self.core.take() {
            self.offer(&mut core);
            self.core = Some(core);
        }
        let latest = self.node.latest_attempt();
        self.input(
            now,
            Input::Hello {
                link: id,
                hello,
                latest,
                facts,
            },
        );
    }
}

impl Handler<FromDirectory> for SessionActor {
    type Result = ();

    fn handle(&mut self, notice: FromDirectory, _: &mut Self::Context) {
        let now = self.now();
        self.input(now, Input::Notice(notice.0));
    }
}
