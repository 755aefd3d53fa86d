//! Does what sessions say, in order, and checks what can be checked all the time.

use std::collections::BTreeMap;

use stellate_protocol::check::{Ending, conserved, healed, one_way};
use stellate_protocol::directory::Route;
use stellate_protocol::event::{CallResult, Delivery, End, Event, Input, Output};
use stellate_protocol::frame::{
    Answer, Call, Frame, Hello, Outcome, Payload, RefuseReason, Verdict,
};
use stellate_protocol::limits::{WINDOW_COST_DATA_MAX, window_cost};
use stellate_protocol::session::{Phase, Session};
use stellate_protocol::*;

use super::user::tag_of;
use super::{Admit, Conn, World};

impl World {
    /// Handles inputs until none waits.
    pub(super) fn work(&mut self) {
        while let Some((conn, input)) = self.todo.pop_front() {
            if self.side(conn).dead || self.nodes[conn.0].down {
                continue;
            }
            let now = self.now;
            let (phase, copy) = (self.phase(conn), input.clone());
            let side = self.side_mut(conn);
            let handled = side.session.handle(now, input);
            if let Err(illegal) = handled {
                panic!("{illegal}, {phase:?}: {copy:?}");
            }
            self.follow(conn);
        }
    }

    /// Drains outputs, then frames while the link has room.
    pub(super) fn follow(&mut self, conn: Conn) {
        while let Some(output) = self.side_mut(conn).session.poll_output() {
            self.act(conn, output);
        }
        let now = self.now;
        while let Some(link) = self.side(conn).session.link()
            && self.backlog(conn.0, link) < self.room
            && let Some(frame) = self.side_mut(conn).session.poll_frame(now)
        {
            self.transmit(conn.0, link, frame);
        }
        self.check_side(conn);
        self.use_hands(conn);
    }

    fn act(&mut self, conn: Conn, output: Output<Parcel>) {
        match output {
            Output::Dial => {
                assert!(!self.side(conn).dialling, "a second dial at once");
                self.side_mut(conn).dialling = true;
                self.dials.push_back(conn);
            }
            Output::CancelDial => {
                assert!(self.side(conn).dialling, "no dial to cancel");
                self.side_mut(conn).dialling = false;
                self.dials.retain(|other| *other != conn);
            }
            Output::Send { link, frame } => self.transmit(conn.0, link, frame),
            Output::Adopt(link) => {
                let wire = self.wires.get_mut(&link).expect("an adopted link lives");
                let end = usize::from(wire.ends[0].node != conn.0);
                wire.ends[end].owner = Some(conn.1);
            }
            Output::CloseLink { link, drain } => self.hang_up(conn.0, link, drain),
            Output::Farewell { link, mut close } => {
                close.delivered = self.side(conn).opened_with_replies(close.delivered);
                self.transmit(conn.0, link, Frame::Close(close));
                self.hang_up(conn.0, link, true);
            }
            Output::Expect { lane, seq, data_len } => {
                let link = self.side(conn).session.link();
                let wire = link.and_then(|link| self.wires.get_mut(&link));
                let wire = wire.expect("data is expected on a link that lives");
                let end = wire.end_of(conn.0);
                let expected = wire.ends[end].decoder.expect(lane, seq, data_len);
                expected.expect("the codec takes what the session asks for");
            }
            Output::Deliver(delivery) => self.take_delivery(conn, delivery),
            Output::AskAdmission { question, .. } => {
                self.side_mut(conn).asked = question;
                if let Some(Admit::Says(decision)) = &self.nodes[conn.0].admission {
                    let decision = decision.clone();
                    let input = Input::Admission { question, decision };
                    self.todo.push_back((conn, input));
                }
            }
            Output::Received { lane, position, .. } => {
                let kept = self.side_mut(conn).watch.received(lane.class(), position);
                kept.unwrap_or_else(|broken| panic!("{broken}"));
            }
            Output::Returned { lane, position, why } => {
                self.side_mut(conn).returned.push((lane, position, why));
            }
            Output::Room { messages, bytes } => {
                let used = &mut self.side_mut(conn).used;
                assert!(used.0 >= messages && used.1 >= bytes, "S7: more room than was used");
                *used = (used.0 - messages, used.1 - bytes);
            }
            Output::Outcome { id, result } => self.take_outcome(conn, id, result),
            Output::Terms(terms) => self.side_mut(conn).terms = Some(terms),
            Output::Bound { peer, id, latest } => {
                self.nodes[conn.0].directory.bound(conn.1, &peer, id, latest);
            }
            Output::Bounce { link, hello } => self.route(conn.0, link, hello, 1),
            Output::Event(event) => self.take_event(conn, event),
        }
    }

    fn take_delivery(&mut self, conn: Conn, delivery: Delivery<Parcel>) {
        let message = &delivery.message;
        assert_eq!(
            message.payload.data().len(),
            message.payload.data_len() as usize,
            "S2: handed out whole"
        );
        let (class, tag) = (message.lane.class(), tag_of(&message.payload));
        let side = self.side_mut(conn);
        let kept = side.watch.handed(class, tag);
        kept.unwrap_or_else(|broken| panic!("{broken}"));
        side.inbox.push_back(delivery);
    }

    fn take_outcome(&mut self, conn: Conn, id: RequestId, result: CallResult<Parcel>) {
        let side = self.side_mut(conn);
        match &result {
            CallResult::NoRoom => {
                let last = side.next_tag_just_sent();
                side.watch.returned(last);
            }
            CallResult::Answered(Outcome::Undeliverable(_), parcel)
                if !parcel.front().is_empty() =>
            {
                side.watch.returned(tag_of(parcel));
            }
            _ => {}
        }
        let all = side.outcomes.entry(id).or_default();
        all.push(result);
        assert_eq!(all.len(), 1, "{id}: more than one outcome: {all:?}");
    }

    fn take_event(&mut self, conn: Conn, event: Event<Parcel>) {
        if event == Event::NameConflict {
            // The shell's part: all who use the name hear of it.
            for key in self.nodes[conn.0].directory.namesakes(conn.1) {
                self.side_mut((conn.0, key)).events.push(Event::NameConflict);
            }
        }
        let side = self.side_mut(conn);
        let kept = match &event {
            Event::Ended(end) => side.watch.ended(ending(end)),
            Event::Undeliverable { payload: Some(parcel), .. } => {
                side.watch.returned(tag_of(parcel));
                Ok(())
            }
            event => side.watch.event(event),
        };
        kept.unwrap_or_else(|broken| panic!("{conn:?} {event:?}: {broken}"));
        let over = matches!(event, Event::Ended(_));
        side.events.push(event);
        if over {
            side.inbox.clear();
            side.in_hand.clear();
            self.nodes[conn.0].directory.ended(conn.1);
            self.nodes[conn.0].directory.told(conn.1);
        }
    }

    /// A hello arrived on a link that no session owns.
    pub(super) fn route(&mut self, node: usize, link: LinkId, hello: Box<Hello>, bounces: u32) {
        assert!(bounces < 4, "a hello bounces for ever");
        let shell = &self.nodes[node];
        let latest = shell.attempt;
        let facts = self.facts(node);
        let input = |hello| Input::Hello { link, hello, latest, facts };
        let verdict = match shell.directory.route(&hello, &shell.me, &shell.accept) {
            _ if shell.busy => Verdict::Refused { reason: RefuseReason::Busy, text: String::new() },
            Route::Existing { key, notices } => {
                self.notify_all(node, notices);
                return self.feed((node, key), input(hello));
            }
            Route::Birth { notices } => {
                self.notify_all(node, notices);
                return self.birth(node, link, hello);
            }
            Route::Stale => return self.hang_up(node, link, false),
            Route::NoSession => Verdict::NoSession,
            Route::Refuse(reason, text) => Verdict::Refused { reason, text },
        };
        self.turn_away(node, link, &hello, verdict);
    }

    fn notify_all(&mut self, node: usize, notices: Vec<(directory::SessionKey, event::Notice)>) {
        for (key, notice) in notices {
            self.feed((node, key), Input::Notice(notice));
        }
    }

    fn birth(&mut self, node: usize, link: LinkId, hello: Box<Hello>) {
        let conn = (node, self.fresh_key());
        let accept = self.nodes[node].accept;
        let config = self.config(node, hello.from.name, accept);
        let latest = self.nodes[node].attempt;
        let facts = self.facts(node);
        let target = self.wires[&link].ends.iter().find(|end| end.node != node);
        let target = target.expect("two ends").node;
        self.nodes[node].directory.accepted(conn.1, &hello, &accept);
        let session = Session::accept(config, link, hello, latest, facts, self.now);
        self.enter(conn, session, target);
        self.follow(conn);
        self.work();
    }

    fn turn_away(&mut self, node: usize, link: LinkId, hello: &Hello, verdict: Verdict) {
        let answer = Answer {
            from: self.nodes[node].me,
            session: hello.session,
            attempt: hello.attempt,
            latest: self.nodes[node].attempt,
            resume: hello.established,
            verdict,
        };
        self.transmit(node, link, Frame::Answer(Box::new(answer)));
        self.hang_up(node, link, true);
    }

    /// S7, and that what is over stays over.
    fn check_side(&mut self, conn: Conn) {
        let limits = self.nodes[conn.0].limits;
        let side = self.side(conn);
        let (phase, over) = (side.session.phase(), side.watch.ending().is_some());
        assert_eq!(phase == Phase::Ended, over, "S4: {phase:?} and ended {over}");
        if over {
            return;
        }
        let outbox = side.session.outbox();
        assert!(outbox.messages >= side.used.0, "S7: room is counted twice");
        let taken = side.inbox.iter().chain(&side.in_hand);
        let mut messages = [0u32; Class::COUNT];
        let mut cost = [0u64; Class::COUNT];
        // Requests that a handler has opened hold no window, as far as replies have room.
        let mut asked = [0u32; Class::COUNT];
        for Delivery { message, .. } in &side.in_hand {
            if let Call::Request { .. } = message.call {
                asked[message.lane.class().index()] += 1;
            }
        }
        for Delivery { message, .. } in taken {
            let (class, payload) = (message.lane.class().index(), &message.payload);
            messages[class] += 1;
            cost[class] += window_cost(payload.front_len(), payload.data_len());
        }
        for class in 0..Class::COUNT {
            assert!(
                messages[class]
                    <= limits.window_messages[class] + asked[class].min(limits.requests_max),
                "S7: window of messages"
            );
            let most = limits.window_bytes + u64::from(WINDOW_COST_DATA_MAX) + 16;
            assert!(cost[class] <= most, "S7: window of bytes");
        }
    }

    /// The two sides of a session: all promises that tie them together.
    pub fn check_pair(&self, left: Conn, right: Conn) {
        for (sender, receiver) in [(left, right), (right, left)] {
            let (from, to) = (&self.side(sender).watch, &self.side(receiver).watch);
            one_way(from, to).unwrap_or_else(|broken| panic!("{sender:?}: {broken}"));
            if !self.side(receiver).dead {
                conserved(from, to).unwrap_or_else(|broken| panic!("{sender:?}: {broken}"));
            }
        }
    }

    /// S6: what was sent in a session was seen in one session only, wherever.
    pub fn check_strays(&self) {
        let mut homes: BTreeMap<Conn, Conn> = BTreeMap::new();
        let sides = self.nodes.iter().flat_map(|node| node.sides.values());
        for side in sides {
            for tag in Class::ALL.iter().flat_map(|class| side.watch.seen(*class)) {
                let sender = super::user::sender_of(*tag);
                let home = *homes.entry(sender).or_insert(side.conn);
                assert_eq!(home, side.conn, "S6: messages of {sender:?} reached two sessions");
            }
        }
    }

    /// All that was sent was seen, both ways.
    pub fn check_healed(&self, left: Conn, right: Conn) {
        for (sender, receiver) in [(left, right), (right, left)] {
            let (from, to) = (&self.side(sender).watch, &self.side(receiver).watch);
            healed(from, to).unwrap_or_else(|broken| panic!("{sender:?}: {broken}"));
        }
    }
}

/// The end as [`check`] wants it.
fn ending(end: &End<Parcel>) -> Ending {
    let mut ending = Ending { cause: Some(end.cause), ..Ending::default() };
    for unacked in end.unacked.iter().filter(|unacked| !unacked.reply) {
        ending.taken_back[unacked.class.index()].push(tag_of(&unacked.payload));
    }
    for class in 0..Class::COUNT {
        ending.unacked[class] = end.counts[class].unacked;
        ending.undelivered[class] = end.counts[class].undelivered;
        ending.peer_delivered[class] = end.counts[class].peer_delivered;
    }
    ending
}

impl super::Side {
    /// What was handed to handlers, exactly; replies as the session counted them.
    fn opened_with_replies(&self, counted: [u64; Lane::COUNT]) -> [u64; Lane::COUNT] {
        let mut delivered = counted;
        for lane in Lane::all().filter(|lane| !lane.is_replies()) {
            delivered[lane.index()] = self.opened[lane.index()];
        }
        delivered
    }

    fn next_tag_just_sent(&self) -> u64 {
        ((self.conn.0 as u64) << 56) | (self.conn.1.0 << 40) | self.next_tag
    }
}
