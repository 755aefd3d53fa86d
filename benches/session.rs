//! Two session cores without any IO: what the rules themselves cost, per message.
//!
//! submit → poll_frame → handle → deliver → opened and settled → ack → handle.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stellate::{Class, EntityName, Identity, Instance, Limits, Policy};
use stellate_protocol::Payload;
use stellate_protocol::event::{Ask, Input, LinkFacts, Output, Settled, Submit};
use stellate_protocol::frame::Frame;
use stellate_protocol::limits::window_cost;
use stellate_protocol::session::{Config, Phase, Session};
use stellate_protocol::{Attempt, Lane, LinkId, Parcel, SessionId, Time};

const LINK: LinkId = LinkId(1);
const FACTS: LinkFacts = LinkFacts { slots: None, slot_bytes: 8 * 1024, whole: false };

fn config(me: u64, target: u64) -> Config {
    Config {
        limits: Limits::default(),
        me: Identity {
            name: EntityName::osd(me),
            role: None,
            instance: Instance(u128::from(me)),
            incarnation: None,
        },
        target: EntityName::osd(target),
        policy: Policy::lossless_peer(),
        metadata: Bytes::new(),
        admission: false,
    }
}

/// Two sessions that are up with each other.
struct Pair {
    sender: Session<Parcel>,
    receiver: Session<Parcel>,
    now: Time,
    opened: u64,
}

impl Pair {
    fn new() -> Self {
        let now = Time(1_000_000_000);
        let mut sender = Session::dial(config(1, 2), SessionId(7), now);
        while sender.poll_output().is_some() {}
        let dialled = Input::Dialled { link: LINK, attempt: Attempt(1), facts: FACTS };
        sender.handle(now, dialled).expect("it has dialled");
        let hello = loop {
            if let Output::Send { frame: Frame::Hello(hello), .. } =
                sender.poll_output().expect("a hello")
            {
                break hello;
            }
        };
        let receiver = Session::accept(config(2, 1), LINK, hello, Attempt(0), FACTS, now);
        let mut pair = Self { sender, receiver, now, opened: 0 };
        pair.settle();
        assert_eq!((pair.sender.phase(), pair.receiver.phase()), (Phase::Up, Phase::Up));
        pair
    }

    /// Until neither has anything to say.
    fn settle(&mut self) {
        loop {
            let from_receiver = Self::frames(&mut self.receiver, self.now);
            let said = !from_receiver.is_empty();
            for frame in from_receiver {
                let input = Input::Frame { link: LINK, frame };
                self.sender.handle(self.now, input).expect("a frame");
            }
            let from_sender = Self::frames(&mut self.sender, self.now);
            let answered = !from_sender.is_empty();
            for frame in from_sender {
                let input = Input::Frame { link: LINK, frame };
                self.receiver.handle(self.now, input).expect("a frame");
            }
            if !said && !answered {
                return;
            }
        }
    }

    fn frames(session: &mut Session<Parcel>, now: Time) -> Vec<Frame<Parcel>> {
        let mut frames = Vec::new();
        while let Some(output) = session.poll_output() {
            if let Output::Send { frame, .. } = output {
                frames.push(frame);
            }
        }
        while let Some(frame) = session.poll_frame(now) {
            frames.push(frame);
        }
        frames
    }

    /// Moves a batch there and the acks back; messages delivered.
    fn batch(&mut self, messages: usize, parcel: &Parcel) -> u64 {
        let (now, lane) = (self.now, Lane::messages(Class::Normal));
        for _ in 0..messages {
            let submit =
                Submit { class: Class::Normal, payload: parcel.clone(), ask: Ask::Nothing };
            self.sender.handle(now, Input::Submit(submit)).expect("room");
        }
        while self.sender.poll_output().is_some() {}
        while let Some(frame) = self.sender.poll_frame(now) {
            self.receiver.handle(now, Input::Frame { link: LINK, frame }).expect("a frame");
        }
        let (mut delivered, mut cost) = (0, 0);
        while let Some(output) = self.receiver.poll_output() {
            if let Output::Deliver(delivery) = black_box(output) {
                let payload = &delivery.message.payload;
                cost += window_cost(payload.front_len(), payload.data_len());
                delivered += 1;
            }
        }
        self.opened += delivered;
        let opened = Input::Opened { lane, total: self.opened };
        self.receiver.handle(now, opened).expect("they were opened");
        let settled = Settled { lane, messages: delivered, cost, pulled: 0 };
        self.receiver.handle(now, Input::Settled(settled)).expect("they are done");
        self.now = Time(self.now.0 + 3_000_000);
        self.receiver.handle(self.now, Input::Timer { jitter: 0, late: 0 }).expect("the ack timer");
        self.settle();
        delivered
    }
}

fn session(criterion: &mut Criterion) {
    let data = Bytes::from_static(&[0x5a; 64]);
    let front = Bytes::from_static(&[0x92, 0, 1]);
    let parcel = Parcel::new(0x100, 1, 1, front, data);
    let mut group = criterion.benchmark_group("session");
    for messages in [1_usize, 64, 512] {
        let mut pair = Pair::new();
        group.throughput(Throughput::Elements(messages as u64));
        group.bench_function(format!("batches of {messages}"), |bencher| {
            bencher.iter(|| assert_eq!(pair.batch(messages, &parcel), messages as u64));
        });
    }
    group.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);
