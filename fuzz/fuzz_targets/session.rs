//! Two sessions, driven by bytes: whatever users, links and a hostile peer do, nothing panics.
//!
//! Each operation is a few bytes. Frames go from one session to the other, are lost with their
//! link, or are forged: a peer may send anything that the decoder lets through. What the local
//! driver does keeps to its contract (a message is done once, after it was handed out).
#![no_main]

use std::collections::VecDeque;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use stellate_protocol::Payload as _;
use stellate_protocol::event::{Ask, Decision, Done, Input, LinkFacts, Notice, Output, Submit};
use stellate_protocol::frame::{
    Ack, Answer, Call, Chunk, Close, CloseReason, Grant, Heartbeat, Hello, LaneState, Message,
    Opening, Outcome, Pull, RefuseReason, Terms, UndeliverableReason, Verdict,
};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::session::{Config, Phase, Session, Timer};
use stellate_protocol::{
    Attempt, Blame, Class, EntityName, Frame, Identity, Instance, Lane, LinkId, Parcel, Question,
    RequestId, Seq, SessionId, Time,
};

/// The bytes as choices; zeros when they are used up.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound
    }

    /// Mostly small, sometimes as large as it gets.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX,
            254 => u64::from(u32::MAX),
            253 => 1 << 40,
            small => u64::from(small % 8),
        }
    }

    fn class(&mut self) -> Class {
        Class::ALL[self.below(Class::COUNT)]
    }

    fn lane(&mut self) -> Lane {
        let index = self.below(Lane::COUNT) as u8;
        Lane::from_index(index).unwrap_or(Lane::messages(Class::Normal))
    }

    fn parcel(&mut self) -> Parcel {
        let data = vec![1; [0, 3, 40, 300][self.below(4)]];
        Parcel::new(0, 0, 0, vec![0; self.below(20)].into(), data.into())
    }
}

struct Side {
    session: Option<Session<Parcel>>,
    policy: Policy,
    me: Identity,
    attempt: u64,
    link: Option<LinkId>,
    arriving: VecDeque<Frame<Parcel>>,
    in_hand: VecDeque<Done>,
    opened: [u64; Lane::COUNT],
    dialling: bool,
    /// What its user was asked last.
    asked: Question,
}

struct World {
    sides: [Side; 2],
    links: u64,
    now: Time,
    slots: Option<u32>,
}

fuzz_target!(|input: &[u8]| {
    let mut choices = Choices(input);
    let pairs = [
        [Policy::lossless_peer(), Policy::lossless_peer()],
        [Policy::lossless_client(), Policy::stateful_server()],
        [Policy::lossy_client(), Policy::stateless_server()],
    ];
    let policies = pairs[choices.below(pairs.len())];
    let slots = [None, Some(4), Some(16)][choices.below(3)];
    let side = |index: u64| Side {
        session: None,
        policy: policies[index as usize],
        me: Identity {
            name: EntityName::osd(index),
            role: None,
            instance: Instance(u128::from(index)),
            incarnation: None,
        },
        attempt: 0,
        link: None,
        arriving: VecDeque::new(),
        in_hand: VecDeque::new(),
        opened: [0; Lane::COUNT],
        dialling: false,
        asked: Question(0),
    };
    let mut world = World { sides: [side(0), side(1)], links: 0, now: Time(0), slots };
    while !choices.0.is_empty() {
        world.step(&mut choices);
    }
});

impl World {
    fn step(&mut self, choices: &mut Choices<'_>) {
        let op = choices.byte();
        let side = usize::from(op & 1);
        match op >> 1 & 15 {
            0 => self.dial(side, choices),
            1..=3 => self.arrive(side),
            4 => self.dialled(side),
            5 => self.cut(side, choices),
            6 | 7 => {
                let (class, payload) = (choices.class(), choices.parcel());
                let ask = match choices.below(3) {
                    0 => Ask::Nothing,
                    1 => Ask::Notify(RequestId(choices.number())),
                    _ => Ask::Request(RequestId(choices.number()), Some(choices.number())),
                };
                self.feed(side, Input::Submit(Submit { class, payload, ask }));
            }
            8 => {
                let timer = Timer::ALL[choices.below(Timer::ALL.len())];
                self.feed(side, Input::Fire(timer));
            }
            9 => {
                let late = 1 << (choices.byte() % 42);
                self.now = Time(self.now.0.saturating_add(late));
                self.feed(side, Input::Timer { jitter: 7, late });
            }
            10 | 11 => self.done(side),
            12 => self.user(side, choices),
            13 => {
                if let Some(link) = self.sides[side].link {
                    let frame = forged(choices, &self.sides[1 - side].me);
                    self.feed(side, Input::Frame { link, frame });
                }
            }
            14 => self.hello(side, choices),
            _ => self.feed(side, Input::DialFailed { jitter: 3 }),
        }
    }

    fn config(&self, side: usize) -> Config {
        let limits = Limits {
            window_messages: [2, 3, 4, 5],
            window_bytes: 400,
            pull_bytes: 400,
            slot_bytes: 64,
            chunk_bytes: 50,
            front_max: 16,
            data_max: 299,
            requests_max: 3,
            ..Limits::default()
        };
        Config {
            limits,
            me: self.sides[side].me,
            target: self.sides[1 - side].me.name,
            policy: self.sides[side].policy,
            metadata: Bytes::new(),
            admission: side == 1,
        }
    }

    fn facts(&self) -> LinkFacts {
        LinkFacts { slots: self.slots, slot_bytes: 64, whole: self.slots.is_some() }
    }

    fn dial(&mut self, side: usize, choices: &mut Choices<'_>) {
        let over = |session: &Session<Parcel>| session.phase() == Phase::Ended;
        if self.sides[side].session.as_ref().is_none_or(over) && self.sides[side].policy.dials() {
            let id = SessionId(u128::from(choices.byte()));
            let session = Session::dial(self.config(side), id, self.now);
            self.begin(side, session);
        }
    }

    fn begin(&mut self, side: usize, session: Session<Parcel>) {
        let me = &mut self.sides[side];
        me.session = Some(session);
        me.in_hand.clear();
        me.opened = [0; Lane::COUNT];
        me.dialling = false;
        self.drain(side);
    }

    /// A dial has a link; the peer gets the hello with the drain that follows.
    fn dialled(&mut self, side: usize) {
        if !std::mem::take(&mut self.sides[side].dialling) {
            return;
        }
        self.links += 1;
        self.sides[side].attempt += 1;
        self.sides[side].link = Some(LinkId(self.links));
        self.sides[side].arriving.clear();
        self.sides[1 - side].arriving.clear();
        let input = Input::Dialled {
            link: LinkId(self.links),
            attempt: Attempt(self.sides[side].attempt),
            facts: self.facts(),
        };
        self.feed(side, input);
    }

    fn cut(&mut self, side: usize, choices: &mut Choices<'_>) {
        let Some(link) = self.sides[side].link.take() else {
            return;
        };
        self.sides[side].arriving.clear();
        let blame = match choices.below(2) {
            0 => Blame::Transport,
            _ => Blame::PeerMisbehaved,
        };
        self.feed(side, Input::LinkLost { link, blame, jitter: 9 });
    }

    fn arrive(&mut self, side: usize) {
        let Some(frame) = self.sides[side].arriving.pop_front() else {
            return;
        };
        match frame {
            Frame::Hello(hello) => self.greet(side, hello),
            frame => {
                let link = self.sides[side].link.unwrap_or(LinkId(0));
                self.feed(side, Input::Frame { link, frame: gathered(frame) });
            }
        }
    }

    fn greet(&mut self, side: usize, hello: Box<Hello>) {
        self.links += 1;
        let (link, facts) = (LinkId(self.links), self.facts());
        let latest = Attempt(self.sides[side].attempt);
        let over = |session: &Session<Parcel>| session.phase() == Phase::Ended;
        if self.sides[side].session.as_ref().is_none_or(over) {
            let config = self.config(side);
            let session = Session::accept(config, link, hello, latest, facts, self.now);
            return self.begin(side, session);
        }
        self.feed(side, Input::Hello { link, hello, latest, facts });
    }

    /// A forged hello, on a link of its own.
    fn hello(&mut self, side: usize, choices: &mut Choices<'_>) {
        let mut from = self.sides[1 - side].me;
        from.instance = Instance(u128::from(choices.byte() % 4));
        let hello = Hello {
            from,
            target: self.sides[side].me.name,
            session: SessionId(u128::from(choices.byte() % 4)),
            attempt: Attempt(choices.number()),
            established: choices.byte() & 1 == 0,
            insist: choices.byte() & 1 == 0,
            policy: self.sides[1 - side].policy.offer(),
            opening: opening(choices),
        };
        self.greet(side, Box::new(hello));
    }

    fn done(&mut self, side: usize) {
        let Some(done) = self.sides[side].in_hand.pop_front() else {
            return;
        };
        let total = &mut self.sides[side].opened[done.lane.index()];
        *total += 1;
        let total = *total;
        self.feed(side, Input::Opened { lane: done.lane, total });
        self.feed(side, Input::Done(done));
    }

    fn user(&mut self, side: usize, choices: &mut Choices<'_>) {
        let input = match choices.below(10) {
            0 => Input::Close,
            1 => Input::Abort,
            2 => Input::Fault,
            3 => Input::Readdress,
            4 => self.admission(side, Decision::Accept, choices),
            5 => self.admission(side, Decision::Hold, choices),
            6 => {
                let no = "no".repeat(choices.below(200));
                self.admission(side, Decision::Refuse(no), choices)
            }
            7 => Input::Notice(Notice::NewInstance { incarnation: None }),
            8 => Input::Forget(RequestId(choices.number())),
            _ => Input::Reply {
                class: choices.class(),
                id: RequestId(choices.number()),
                outcome: Outcome::Reply,
                payload: choices.parcel(),
            },
        };
        self.feed(side, input);
    }

    /// An answer to what was asked last, or to something else.
    fn admission(&self, side: usize, decision: Decision, choices: &mut Choices<'_>) -> Input<Parcel> {
        let question = match choices.below(4) {
            0 => Question(choices.number()),
            _ => self.sides[side].asked,
        };
        Input::Admission { question, decision }
    }

    fn feed(&mut self, side: usize, input: Input<Parcel>) {
        if let Some(session) = &mut self.sides[side].session {
            // An illegal input is refused in words; that is all that is asked for.
            let _ = session.handle(self.now, input);
            self.drain(side);
        }
    }

    fn drain(&mut self, side: usize) {
        let [first, second] = &mut self.sides;
        let (me, peer) = match side {
            0 => (first, second),
            _ => (second, first),
        };
        let Some(session) = &mut me.session else {
            return;
        };
        while let Some(output) = session.poll_output() {
            match output {
                Output::Dial => me.dialling = true,
                Output::AskAdmission { question, .. } => me.asked = question,
                Output::CancelDial => me.dialling = false,
                Output::Adopt(link) => me.link = Some(link),
                Output::CloseLink { link, .. } if me.link == Some(link) => me.link = None,
                Output::Send { frame, .. } => peer.arriving.push_back(frame),
                Output::Farewell { close, .. } => peer.arriving.push_back(Frame::Close(close)),
                Output::Deliver(delivery) => me.in_hand.push_back(Done {
                    lane: delivery.message.lane,
                    front_len: delivery.message.payload.front_len(),
                    data_len: delivery.message.payload.data_len(),
                    pulled: delivery.pulled,
                }),
                _ => {}
            }
        }
        while let Some(frame) = session.poll_frame(self.now) {
            peer.arriving.push_back(frame);
        }
        if session.phase() == Phase::Ended {
            me.in_hand.clear();
        }
    }
}

/// A chunk brings its data with the last piece only, as transports do.
fn gathered(frame: Frame<Parcel>) -> Frame<Parcel> {
    match frame {
        Frame::Chunk(chunk) => {
            let total = chunk.part.as_ref().map_or(0, |part| part.data_len());
            let last = chunk.offset + chunk.len == total;
            Frame::Chunk(Chunk { part: chunk.part.filter(|_| last), ..chunk })
        }
        frame => frame,
    }
}

fn lane_state(choices: &mut Choices<'_>) -> LaneState {
    LaneState {
        received: Seq(choices.number()),
        window: Seq(choices.number()),
        window_bytes: choices.number(),
    }
}

fn opening(choices: &mut Choices<'_>) -> Opening {
    let honest = choices.byte() & 1 == 0;
    Opening {
        terms: Terms {
            front_max: if honest { 16 } else { choices.number() as u32 },
            data_max: if honest { 299 } else { choices.number() as u32 },
            slot_bytes: if honest { 64 } else { choices.number() as u32 },
            slots: [None, Some(4)][choices.below(2)],
            requests_max: choices.number() as u32,
        },
        lanes: std::array::from_fn(|_| match honest {
            true => LaneState::default(),
            false => lane_state(choices),
        }),
        held: choices.byte() & 1 == 0,
        features: Vec::new(),
        metadata: Bytes::new(),
        auth: Bytes::new(),
    }
}

fn call(choices: &mut Choices<'_>) -> Call {
    let id = RequestId(choices.number());
    match choices.below(5) {
        0 => Call::OneWay,
        1 => Call::Notify { id },
        2 => Call::Request { id, ttl_ms: Some(choices.number() as u32) },
        3 => Call::Reply { id, outcome: Outcome::Reply },
        _ => {
            Call::Rejected { seq: Seq(choices.number()), reason: UndeliverableReason::UnknownType }
        }
    }
}

/// Anything that a decoder may let through.
fn forged(choices: &mut Choices<'_>, from: &Identity) -> Frame<Parcel> {
    let lane = choices.lane();
    let seq = Seq(choices.number());
    match choices.below(10) {
        0 | 1 => {
            Frame::Message(Message { lane, seq, call: call(choices), payload: choices.parcel() })
        }
        2 => Frame::Announce(Message {
            lane,
            seq,
            call: call(choices),
            payload: {
                let front = choices.parcel().front_bytes();
                Parcel::announcing(0, 0, 0, front, choices.number() as u32)
            },
        }),
        3 => Frame::Pull(Pull { lane, seq }),
        4 => Frame::Chunk(Chunk {
            lane,
            seq,
            offset: choices.number() as u32,
            len: choices.number() as u32,
            part: (choices.byte() & 1 == 0).then(|| choices.parcel()),
        }),
        5 => {
            let mut ack = Ack::default();
            ack.lanes[lane.index()] = Some(lane_state(choices));
            Frame::Ack(Box::new(ack))
        }
        6 => Frame::Grant(Grant { slots: choices.number() as u32 }),
        7 => Frame::Heartbeat(Heartbeat {
            ask: u32::from(choices.byte() & 1),
            answer: u32::from(choices.byte() & 3),
        }),
        8 => Frame::Close(Box::new(Close {
            reason: CloseReason::from_wire(choices.byte() % 6 + 1).unwrap_or(CloseReason::Closed),
            delivered: std::array::from_fn(|_| choices.number()),
            text: String::new(),
        })),
        _ => Frame::Answer(Box::new(Answer {
            from: *from,
            session: SessionId(u128::from(choices.byte() % 4)),
            attempt: Attempt(choices.number()),
            latest: Attempt(choices.number()),
            resume: choices.byte() & 1 == 0,
            verdict: match choices.below(4) {
                0 => Verdict::Accepted { lossy: false, opening: opening(choices) },
                1 => Verdict::Lost,
                2 => Verdict::NoSession,
                _ => Verdict::Refused { reason: RefuseReason::Busy, text: String::new() },
            },
        })),
    }
}
