//! The driver of the model: what production's actors do, as plain calls.
//!
//! A step is atomic: an input, its outputs in order, then every frame that the session has for its
//! link. Frames of a link that the session has just closed are still fed to it, as a mailbox would
//! (S6): it must not notice.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stellate_protocol::directory::{Route, SessionKey};
use stellate_protocol::error::Blame;
use stellate_protocol::event::{Ask, Decision, Delivery, Done, Event, Input, Output, Submit};
use stellate_protocol::frame::{
    Answer, Call, Chunk, Frame, Hello, Outcome, Payload, RefuseReason, Verdict,
};
use stellate_protocol::id::{Attempt, LinkId, RequestId, SessionId, Time};
use stellate_protocol::session::Session;

use super::payload::Word;
use super::spec::{Say, Spec};
use super::world::{End, Life, Link, Over, World};

/// All that happens, happens now: timers fire when the model says so.
const NOW: Time = Time(0);

/// The world and what it is made of, while a step is taken.
pub(crate) struct Driver<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) world: &'a mut World,
}

impl Driver<'_> {
    /// Gives a session an input and does all that follows.
    pub(crate) fn feed(&mut self, node: usize, key: SessionKey, input: Input<Word>) {
        let life = &mut self.world.nodes[node].lives[key.0 as usize];
        if !life.lives() || self.world.broken.is_some() {
            return;
        }
        let handled = life
            .session
            .edit(|session| catch_unwind(AssertUnwindSafe(|| session.handle(NOW, input))));
        match handled {
            Err(_) => return self.world.breaks("a rule's assertion failed"),
            Ok(Err(illegal)) => return self.world.breaks(format!("illegal: {illegal}")),
            Ok(Ok(())) => {}
        }
        self.follow(node, key);
    }

    /// Does what a session says, until it has nothing more to say.
    fn follow(&mut self, node: usize, key: SessionKey) {
        let mut stale = VecDeque::new();
        loop {
            let life = &mut self.world.nodes[node].lives[key.0 as usize];
            let outputs = life
                .session
                .edit(|session| std::iter::from_fn(|| session.poll_output()).collect::<Vec<_>>());
            if outputs.is_empty() {
                break;
            }
            for output in outputs {
                self.act(node, key, output, &mut stale);
            }
        }
        self.pump(node, key);
        for (link, frame) in stale {
            self.feed(node, key, Input::Frame { link, frame });
        }
        while !self.spec.slow_handlers && self.world.nodes[node].life(key).lives() {
            let ghost = &self.world.nodes[node].life(key).ghost;
            if !ghost.in_hand.is_empty() {
                self.finish(node, key);
            } else if !ghost.inbox.is_empty() {
                self.open(node, key);
            } else {
                break;
            }
        }
    }

    fn pump(&mut self, node: usize, key: SessionKey) {
        loop {
            let life = &mut self.world.nodes[node].lives[key.0 as usize];
            let Some(frame) = life.session.edit(|session| session.poll_frame(NOW)) else {
                return;
            };
            let Some(id) = life.session.link() else {
                return self.world.breaks("a frame without a link");
            };
            if let Some(link) = self.world.link_mut(id) {
                link.spent[node] += 1;
                if self.spec.slots.is_some_and(|slots| link.spent[node] > slots) {
                    self.world.breaks("F6: more slots spent than granted");
                }
            }
            self.push(node, id, frame);
        }
    }

    fn act(
        &mut self,
        node: usize,
        key: SessionKey,
        output: Output<Word>,
        stale: &mut VecDeque<(LinkId, Frame<Word>)>,
    ) {
        match output {
            Output::Dial => {
                if !self.world.nodes[node].dials.insert(key) {
                    self.world.breaks("two dials of one session");
                }
            }
            Output::CancelDial => {
                self.world.nodes[node].dials.remove(&key);
            }
            Output::Send { link, frame } => self.push(node, link, frame),
            Output::Adopt(link) => match self.world.link_mut(link) {
                Some(link) if link.ends[node] != End::Shut => link.ends[node] = End::Of(key),
                _ => self.world.breaks("adopted a link that is shut"),
            },
            Output::CloseLink { link, drain } => {
                let frames = self.shut(node, link, drain);
                stale.extend(frames.into_iter().map(|frame| (link, frame)));
            }
            Output::Farewell { link, close } => {
                self.push(node, link, Frame::Close(close));
                self.shut(node, link, true);
            }
            Output::Bound { peer, id, latest } => self.world.nodes[node]
                .directory
                .edit(|directory| directory.bound(key, &peer, id, latest)),
            Output::Bounce { link, hello } => self.route(node, link, hello),
            Output::Event(Event::Ended(end)) => self.on_end(node, key, *end),
            output => self.tell(node, key, output),
        }
    }

    /// What goes to the user.
    fn tell(&mut self, node: usize, key: SessionKey, output: Output<Word>) {
        let life = &mut self.world.nodes[node].lives[key.0 as usize];
        let told = life.ghost.edit(|ghost| match output {
            Output::Deliver(delivery) => {
                let early = ghost.asked.is_some();
                let whole = delivery.message.payload.is_whole();
                ghost.inbox.push_back(delivery);
                match (whole, early) {
                    (false, _) => Err("S2: a body was not whole"),
                    (_, true) => Err("admission: handed out before the user's word"),
                    _ => Ok(()),
                }
            }
            Output::Received { lane, position, .. } => {
                let further = position > ghost.acked[lane.index()];
                ghost.acked[lane.index()] = position;
                further.then_some(()).ok_or("S3: an ack went back")
            }
            Output::Outcome { id, .. } => {
                let open = ghost.asking.remove(&(id.0 as u8));
                open.then_some(()).ok_or("a request ended twice")
            }
            Output::AskAdmission { question, .. } => {
                ghost.asked = Some(question);
                Ok(())
            }
            Output::Event(Event::Connected { .. }) => {
                let first = !std::mem::replace(&mut ghost.connected, true);
                first.then_some(()).ok_or("S4: connected twice")
            }
            Output::Event(Event::Resumed { .. }) => {
                ghost.connected.then_some(()).ok_or("S4: resumed before it was connected")
            }
            Output::Event(Event::Undeliverable { .. }) => Err("undeliverable"),
            _ => Ok(()),
        });
        if let Err(what) = told {
            self.world.breaks(what);
        }
    }

    /// The one event of the end (S4): checked against what the user did and saw.
    fn on_end(&mut self, node: usize, key: SessionKey, end: stellate_protocol::event::End<Word>) {
        let node = &mut self.world.nodes[node];
        node.directory.edit(|directory| {
            directory.ended(key);
            directory.told(key)
        });
        let life = &mut node.lives[key.0 as usize];
        let over = Over { cause: end.cause, counts: end.counts, goes_on: end.goes_on };
        let again = life.over.replace(over).is_some();
        let ghost = &life.ghost;
        let mut exact = true;
        for class in stellate_protocol::class::Class::ALL {
            let lane = stellate_protocol::class::Lane::messages(class);
            let counts = end.counts[class.index()];
            let acked = ghost.acked[lane.index()] as usize;
            let submitted: Vec<u8> = ghost.submitted_in(lane).collect();
            let back = end.unacked.iter().filter(|back| back.class == class && !back.reply);
            let back: Vec<u8> = back.map(|back| back.payload.id).collect();
            exact &= submitted[acked.min(submitted.len())..] == back[..];
            exact &= counts.unacked == back.len() as u64 && counts.unacked_sent <= counts.unacked;
            exact &= counts.undelivered >= ghost.waiting_in(lane);
        }
        if again {
            self.world.breaks("S4: ended twice");
        }
        if !exact {
            self.world.breaks("S4: the counts of an end are not exact");
        }
    }
}

/// Links.
impl Driver<'_> {
    fn push(&mut self, node: usize, id: LinkId, frame: Frame<Word>) {
        match self.world.link_mut(id) {
            Some(link) if link.ends[node] != End::Shut => {
                if !link.is_dead() {
                    link.queues[1 - node].push_back(frame);
                }
            }
            _ => self.world.breaks("sent on a link that is shut"),
        }
    }

    /// Shuts `node`'s end and returns what was on its way to it.
    fn shut(&mut self, node: usize, id: LinkId, drain: bool) -> VecDeque<Frame<Word>> {
        let Some(link) = self.world.link_mut(id) else {
            self.world.breaks("closed a link that is gone");
            return VecDeque::new();
        };
        if link.ends[node] == End::Shut {
            self.world.breaks("closed a link twice");
            return VecDeque::new();
        }
        link.ends[node] = End::Shut;
        link.abrupt[1 - node] = !drain;
        let frames = std::mem::take(&mut link.queues[node]);
        if link.ends == [End::Shut; 2] {
            self.world.links[id.0 as usize] = None;
        }
        frames
    }

    /// `node` is told that the link is gone.
    pub(crate) fn lose(&mut self, node: usize, id: LinkId) {
        let Some(end) = self.world.link(id).map(|link| link.ends[node]) else {
            return;
        };
        self.shut(node, id, true);
        if let End::Of(key) = end {
            let (blame, jitter) = (Blame::Transport, 0);
            self.feed(node, key, Input::LinkLost { link: id, blame, jitter });
        }
    }

    /// The next frame on its way to `node` arrives.
    pub(crate) fn deliver(&mut self, node: usize, id: LinkId) {
        let Some(link) = self.world.link_mut(id) else {
            return;
        };
        let Some(frame) = link.queues[node].pop_front() else {
            return;
        };
        if let Frame::Grant(grant) = &frame {
            link.spent[node] = link.spent[node].saturating_sub(grant.slots);
        }
        match (link.ends[node], frame) {
            (End::Of(key), frame) => {
                let frame = gathered(frame);
                self.feed(node, key, Input::Frame { link: id, frame });
            }
            (End::Fresh, Frame::Hello(hello)) => self.route(node, id, hello),
            _ => self.world.breaks("a frame for nobody"),
        }
    }

    /// A dial has a link.
    pub(crate) fn dialled(&mut self, node: usize, key: SessionKey) {
        let free = self.world.links.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.world.links.push(None);
            self.world.links.len() - 1
        });
        self.world.links[index] = Some(Link::new(node, key));
        self.world.nodes[node].dials.remove(&key);
        self.world.nodes[node].attempt += 1;
        let input = Input::Dialled {
            link: LinkId(index as u64),
            attempt: Attempt(self.world.nodes[node].attempt),
            facts: self.spec.facts(),
        };
        self.feed(node, key, input);
    }

    /// A hello goes where the directory says.
    fn route(&mut self, node: usize, id: LinkId, hello: Box<Hello>) {
        let me = self.spec.identity(node, self.world.nodes[node].start);
        let policy = self.spec.policies[node];
        let route = self.world.nodes[node].directory.route(&hello, &me, &policy);
        match route {
            Route::Existing { key, notices } => {
                for (older, notice) in notices {
                    self.feed(node, older, Input::Notice(notice));
                }
                if !self.world.nodes[node].life(key).lives() {
                    return self.route(node, id, hello);
                }
                let latest = Attempt(self.world.nodes[node].attempt);
                let facts = self.spec.facts();
                let input = Input::Hello { link: id, hello, latest, facts };
                self.feed(node, key, input);
            }
            Route::Birth { notices } => {
                for (older, notice) in notices {
                    self.feed(node, older, Input::Notice(notice));
                }
                self.accept(node, id, hello);
            }
            Route::NoSession => self.decline(node, id, &hello, Verdict::NoSession),
            Route::Refuse(reason, text) => {
                if reason != RefuseReason::Superseded {
                    self.world.breaks(format!("refused: {text}"));
                }
                self.decline(node, id, &hello, Verdict::Refused { reason, text });
            }
            Route::Stale => {
                self.shut(node, id, false);
            }
        }
        if self.world.link(id).is_some_and(|link| link.ends[node] == End::Fresh) {
            self.world.breaks("nobody took care of a hello's link");
        }
    }

    fn decline(&mut self, node: usize, id: LinkId, hello: &Hello, verdict: Verdict) {
        let answer = Answer {
            from: self.spec.identity(node, self.world.nodes[node].start),
            session: hello.session,
            attempt: hello.attempt,
            latest: Attempt(self.world.nodes[node].attempt),
            resume: hello.established,
            verdict,
        };
        self.push(node, id, Frame::Answer(Box::new(answer)));
        self.shut(node, id, true);
    }
}

/// Sessions and users.
impl Driver<'_> {
    fn accept(&mut self, node: usize, id: LinkId, hello: Box<Hello>) {
        let me = &mut self.world.nodes[node];
        let key = SessionKey(me.lives.len() as u64);
        let policy = self.spec.policies[node];
        me.directory.edit(|directory| directory.accepted(key, &hello, &policy));
        let config = self.spec.config(node, me.start);
        let (latest, facts) = (Attempt(me.attempt), self.spec.facts());
        let session = Session::accept(config, id, hello, latest, facts, NOW);
        me.lives.push(Life::new(session, me.start));
        self.follow(node, key);
    }

    /// The user connects: a session that we dial.
    pub(crate) fn connect(&mut self, node: usize) -> SessionKey {
        let me = &mut self.world.nodes[node];
        let key = SessionKey(me.lives.len() as u64);
        me.born += 1;
        let id = SessionId(node as u128 * 16 + u128::from(me.born));
        let name = Spec::name_of(1 - node);
        me.directory.edit(|directory| directory.dialled(key, name, id, false));
        let session = Session::dial(self.spec.config(node, me.start), id, NOW);
        me.lives.push(Life::new(session, me.start));
        self.follow(node, key);
        key
    }

    /// The session that the user of `node` would send on.
    pub(crate) fn speaking(world: &World, node: usize) -> Option<SessionKey> {
        let found = world.nodes[node].directory.lookup(Spec::name_of(1 - node));
        found.or_else(|| Some(world.nodes[node].living().last()?.0))
    }

    /// The user sends the next message of its script.
    pub(crate) fn say(&mut self, node: usize) {
        let key = Self::speaking(self.world, node).unwrap_or_else(|| self.connect(node));
        let said = self.world.nodes[node].said;
        let Say { class, data, request } = self.spec.says[node][usize::from(said)];
        self.world.nodes[node].said += 1;
        let name = node as u8 * 16 + said + 1;
        let life = &mut self.world.nodes[node].lives[key.0 as usize];
        life.ghost.edit(|ghost| {
            ghost.submitted.push((stellate_protocol::Lane::messages(class), name));
            if request {
                ghost.asking.insert(name);
            }
        });
        let ask = match request {
            true => Ask::Request(RequestId(u64::from(name)), None),
            false => Ask::Nothing,
        };
        let payload = Word::new(name, data);
        self.feed(node, key, Input::Submit(Submit { class, payload, ask }));
    }

    /// A handler is called with the next message.
    pub(crate) fn open(&mut self, node: usize, key: SessionKey) {
        let life = &mut self.world.nodes[node].lives[key.0 as usize];
        let opened = life.ghost.edit(|ghost| {
            let delivery = ghost.inbox.pop_front()?;
            let done = done_of(&delivery);
            ghost.opened.push((done.lane, delivery.message.payload.id));
            ghost.in_hand.push_back((delivery, done));
            Some((done.lane, ghost.opened_in(done.lane)))
        });
        if let Some((lane, total)) = opened {
            self.feed(node, key, Input::Opened { lane, total });
        }
    }

    /// A handler is done with the oldest message in hand, and replies if it was a request.
    pub(crate) fn finish(&mut self, node: usize, key: SessionKey) {
        let life = &mut self.world.nodes[node].lives[key.0 as usize];
        let Some((delivery, done)) = life.ghost.edit(|ghost| ghost.in_hand.pop_front()) else {
            return;
        };
        if let Call::Request { id, .. } = delivery.message.call {
            let reply = Input::Reply {
                class: done.lane.class(),
                id,
                outcome: Outcome::Reply,
                payload: Word::new(delivery.message.payload.id + 128, 0),
            };
            self.feed(node, key, reply);
        }
        self.feed(node, key, Input::Done(done));
    }

    /// The user answers for the peer.
    pub(crate) fn answer(&mut self, node: usize, key: SessionKey, decision: Decision) {
        let life = &mut self.world.nodes[node].lives[key.0 as usize];
        if let Some(question) = life.ghost.edit(|ghost| ghost.asked.take()) {
            self.feed(node, key, Input::Admission { question, decision });
        }
    }

    /// The node loses its memory and starts again as a new instance.
    pub(crate) fn restart(&mut self, node: usize) {
        let links: Vec<LinkId> = self.world.links().map(|(id, _)| id).collect();
        for id in links {
            if self.world.link(id).is_some_and(|link| link.ends[node] != End::Shut) {
                self.shut(node, id, false);
            }
        }
        let me = &mut self.world.nodes[node];
        for life in &mut me.lives {
            life.gone |= life.over.is_none();
        }
        me.start += 1;
        me.attempt = 0;
        me.dials.clear();
        me.directory.edit(|directory| *directory = Default::default());
    }
}

fn done_of(delivery: &Delivery<Word>) -> Done {
    let payload = &delivery.message.payload;
    Done {
        lane: delivery.message.lane,
        front_len: payload.front_len(),
        data_len: payload.data_len(),
        pulled: delivery.pulled,
    }
}

/// As a transport does: a chunk brings its data when it is the last one.
fn gathered(frame: Frame<Word>) -> Frame<Word> {
    match frame {
        Frame::Chunk(chunk) => {
            let total = chunk.part.as_ref().map_or(0, Payload::data_len);
            let last = chunk.offset + chunk.len == total;
            Frame::Chunk(Chunk { part: chunk.part.filter(|_| last), ..chunk })
        }
        frame => frame,
    }
}
