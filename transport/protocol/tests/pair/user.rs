//! The user of one side of one session: what it sends, opens, answers and sees.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use stellate_protocol::check::Watch;
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::{
    Ask, CallResult, Decision, Delivery, Done, End, Event, Input, Returned, Submit,
};
use stellate_protocol::frame::{Call, Outcome, Payload, Terms, UndeliverableReason};
use stellate_protocol::session::Session;
use stellate_protocol::*;

use super::{Conn, World};

/// What the user's handlers do with what asks for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answers {
    /// A reply, or `Handled`.
    Well,
    With(Outcome),
    /// Nobody handles the type.
    Reject,
    /// Later, by hand.
    Silent,
}

pub struct Side {
    pub conn: Conn,
    pub session: Session<Parcel>,
    /// The node that it dials.
    pub target: usize,
    pub watch: Watch,
    /// Handed out by the session, not opened.
    pub inbox: VecDeque<Delivery<Parcel>>,
    /// Opened, not done.
    pub in_hand: VecDeque<Delivery<Parcel>>,
    pub opened: [u64; Lane::COUNT],
    pub used: (u64, u64),
    /// What its outbox last heard of what the peer takes.
    pub terms: Option<Terms>,
    /// Places whose messages came back.
    pub returned: Vec<(Lane, u64, Returned)>,
    pub outcomes: BTreeMap<RequestId, Vec<CallResult<Parcel>>>,
    pub events: Vec<Event<Parcel>>,
    /// What its user was asked last.
    pub asked: Question,
    pub dialling: bool,
    /// `close` was called.
    pub closing: bool,
    /// Its process died.
    pub dead: bool,
    /// Whether the user opens, and is done, by itself.
    pub opens: bool,
    pub finishes: bool,
    pub answers: Answers,
    pub next_tag: u64,
    pub next_request: u64,
}

/// The data of all messages: cheap to slice.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A message with a tag and so much data.
pub fn parcel(tag: u64, data: u32) -> Parcel {
    let front = Bytes::copy_from_slice(&tag.to_be_bytes());
    Parcel::new(1, 1, 1, front, Bytes::from_static(&ZEROS[..data as usize]))
}

pub fn tag_of(parcel: &Parcel) -> u64 {
    parcel.front().try_into().map_or(0, u64::from_be_bytes)
}

/// Whose session a tagged message was sent in.
pub(super) fn sender_of(tag: u64) -> Conn {
    let node = (tag >> 56) as usize;
    (node, SessionKey((tag >> 40) & 0xffff))
}

impl Side {
    pub(super) fn new(conn: Conn, session: Session<Parcel>, target: usize) -> Self {
        Self {
            conn,
            session,
            target,
            watch: Watch::new(),
            inbox: VecDeque::new(),
            in_hand: VecDeque::new(),
            opened: [0; Lane::COUNT],
            used: (0, 0),
            terms: None,
            returned: Vec::new(),
            outcomes: BTreeMap::new(),
            events: Vec::new(),
            asked: Question(0),
            dialling: false,
            closing: false,
            dead: false,
            opens: true,
            finishes: true,
            answers: Answers::Well,
            next_tag: 0,
            next_request: 0,
        }
    }

    /// How it ended, if it did.
    pub fn end(&self) -> Option<&End<Parcel>> {
        self.events.iter().find_map(|event| match event {
            Event::Ended(end) => Some(&**end),
            _ => None,
        })
    }

    /// The user's word on the peer, as an answer to what it was asked last.
    pub fn word(&self, decision: Decision) -> Input<Parcel> {
        Input::Admission { question: self.asked, decision }
    }

    pub fn outcome(&self, id: RequestId) -> Option<&CallResult<Parcel>> {
        self.outcomes.get(&id).and_then(|all| all.first())
    }

    pub fn count(&self, what: impl Fn(&Event<Parcel>) -> bool) -> usize {
        self.events.iter().filter(|event| what(event)).count()
    }
}

impl World {
    /// The user answers what it was asked last.
    pub fn answer(&mut self, conn: Conn, decision: Decision) {
        let word = self.side(conn).word(decision);
        self.feed(conn, word);
    }

    /// Sends one message of `data` bytes if there is room for it, and says whether there was.
    pub fn try_send(&mut self, conn: Conn, class: Class, data: u32, ask: Ask) -> bool {
        let limits = self.nodes[conn.0].limits;
        let side = self.side_mut(conn);
        if side.dead || side.watch.ending().is_some() {
            return false;
        }
        let tag = ((conn.0 as u64) << 56) | (conn.1.0 << 40) | (side.next_tag + 1);
        let payload = parcel(tag, data);
        let bytes = u64::from(payload.front_len()) + u64::from(data);
        let (messages, used) = side.used;
        let full =
            messages >= u64::from(limits.outbox_messages) || used + bytes > limits.outbox_bytes;
        if messages > 0 && full {
            return false;
        }
        side.next_tag += 1;
        side.used = (messages + 1, used + bytes);
        side.watch.submitted(class, tag);
        self.feed(conn, Input::Submit(Submit { class, payload, ask }));
        true
    }

    /// Sends `count` messages.
    pub fn send(&mut self, conn: Conn, class: Class, count: usize) {
        for _ in 0..count {
            assert!(self.try_send(conn, class, 0, Ask::Nothing), "the outbox is full");
        }
    }

    pub fn send_data(&mut self, conn: Conn, class: Class, data: u32) {
        assert!(self.try_send(conn, class, data, Ask::Nothing), "the outbox is full");
    }

    /// Sends a request, with so many milliseconds to answer it if given.
    pub fn request(&mut self, conn: Conn, class: Class, millis: Option<u64>) -> RequestId {
        let id = self.fresh_request(conn);
        let ask = Ask::Request(id, millis.map(|millis| millis * 1_000_000));
        assert!(self.try_send(conn, class, 0, ask), "the outbox is full");
        id
    }

    pub fn notify(&mut self, conn: Conn, class: Class) -> RequestId {
        let id = self.fresh_request(conn);
        assert!(self.try_send(conn, class, 0, Ask::Notify(id)), "the outbox is full");
        id
    }

    pub fn fresh_request(&mut self, conn: Conn) -> RequestId {
        let side = self.side_mut(conn);
        side.next_request += 1;
        RequestId(side.next_request)
    }

    /// The user opens and finishes what waits, as far as it does so by itself.
    pub(super) fn use_hands(&mut self, conn: Conn) {
        let side = self.side_mut(conn);
        if side.opens {
            let waiting = side.inbox.len();
            (0..waiting).for_each(|_| self.open(conn));
        }
        if self.side_mut(conn).finishes {
            let waiting = self.side_mut(conn).in_hand.len();
            (0..waiting).for_each(|_| self.finish(conn));
        }
    }

    /// A handler is called with the next message.
    pub fn open(&mut self, conn: Conn) {
        let side = self.side_mut(conn);
        let Some(delivery) = side.inbox.pop_front() else {
            return;
        };
        let lane = delivery.message.lane;
        side.watch.opened(lane.class());
        side.opened[lane.index()] += 1;
        let total = side.opened[lane.index()];
        side.in_hand.push_back(delivery);
        self.todo.push_back((conn, Input::Opened { lane, total }));
    }

    /// A handler is done with the oldest message in hand.
    pub fn finish(&mut self, conn: Conn) {
        let side = self.side_mut(conn);
        let Some(Delivery { message, pulled }) = side.in_hand.pop_front() else {
            return;
        };
        let (class, answers) = (message.lane.class(), side.answers);
        let outcome = match (message.call, answers) {
            (Call::Request { ttl_ms: Some(0), id }, _) => Some((id, Outcome::Expired)),
            (Call::Request { id, .. }, Answers::Well) => Some((id, Outcome::Reply)),
            (Call::Notify { id }, Answers::Well) => Some((id, Outcome::Handled)),
            (Call::Request { id, .. } | Call::Notify { id }, Answers::With(outcome)) => {
                Some((id, outcome))
            }
            (Call::Request { id, .. } | Call::Notify { id }, Answers::Reject) => {
                let reason = UndeliverableReason::UnknownType;
                Some((id, Outcome::Undeliverable(reason)))
            }
            _ => None,
        };
        if let Some((id, outcome)) = outcome {
            self.reply(conn, class, id, outcome);
        } else if answers == Answers::Reject {
            let (lane, seq) = (message.lane, message.seq);
            let reason = UndeliverableReason::UnknownType;
            self.todo.push_back((conn, Input::Reject { lane, seq, reason }));
        }
        self.todo.push_back((
            conn,
            Input::Done(Done {
                lane: message.lane,
                front_len: message.payload.front_len(),
                data_len: message.payload.data_len(),
                pulled,
            }),
        ));
    }

    pub fn reply(&mut self, conn: Conn, class: Class, id: RequestId, outcome: Outcome) {
        let payload = match outcome {
            Outcome::Reply => parcel(0, 0),
            _ => Parcel::empty(),
        };
        self.todo.push_back((conn, Input::Reply { class, id, outcome, payload }));
    }

    /// Opens and finishes `count` messages by hand.
    pub fn handle(&mut self, conn: Conn, count: usize) {
        for _ in 0..count {
            self.open(conn);
            self.work();
            self.finish(conn);
            self.work();
        }
    }
}
