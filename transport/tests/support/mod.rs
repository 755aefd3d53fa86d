//! Two ends of a link and a small credit scheme, so that one suite fits every transport.
#![allow(dead_code)] // Each test file uses its part.

pub(crate) mod two;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use stellate_protocol::frame::{
    Answer, Call, Chunk, Grant, Hello, LaneState, Message, Opening, PolicyOffer, Pull, Stance,
    Terms, Verdict,
};
use stellate_protocol::{
    Attempt, Class, EntityName, Frame, FrameKind, Identity, Instance, Lane, Parcel, Seq, SessionId,
};
use stellate_transport::rdma::fake::FakeNet;
use stellate_transport::{
    Address, Batch, CloseHow, Full, Link, LinkFault, Listener, SimNet, Token, Transport,
};

/// What a contract test runs on.
#[derive(Clone)]
pub(crate) struct Rig {
    pub(crate) dials: Arc<dyn Transport>,
    pub(crate) listens: Arc<dyn Transport>,
    pub(crate) at: Address,
    pub(crate) net: Option<SimNet>,
    pub(crate) fake: Option<FakeNet>,
}

/// Greetings and farewells have receives of their own.
fn takes_slot(frame: &Frame<Parcel>) -> bool {
    !matches!(frame, Frame::Hello(_) | Frame::Answer(_) | Frame::Close(_))
}

/// Both ends of a link that is up, after the hello.
pub(crate) struct Pair {
    pub(crate) near: End,
    pub(crate) far: End,
    pub(crate) listener: Box<dyn Listener>,
}

/// One end, and all that it reported.
pub(crate) struct End {
    pub(crate) link: Option<Box<dyn Link>>,
    /// Frames that wait for room or credit.
    pub(crate) waiting: VecDeque<Frame<Parcel>>,
    pub(crate) frames: Vec<Frame<Parcel>>,
    pub(crate) submitted: u64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
    pub(crate) rooms: u64,
    /// Most frames that one poll reported.
    pub(crate) most_at_once: usize,
    pub(crate) closed: Option<LinkFault>,
    pub(crate) credit: Option<u32>,
    /// Whether it posts receives again.
    pub(crate) grants: bool,
    owed: u32,
    ring: Option<u32>,
    batch: Batch,
}

impl End {
    pub(crate) fn new(link: Box<dyn Link>) -> Self {
        let ring = link.limits().recv_slots;
        Self {
            link: Some(link),
            waiting: VecDeque::new(),
            frames: Vec::new(),
            submitted: 0,
            done: 0,
            failed: 0,
            rooms: 0,
            most_at_once: 0,
            closed: None,
            credit: ring,
            grants: true,
            owed: 0,
            ring,
            batch: Batch::default(),
        }
    }

    pub(crate) fn link(&mut self) -> &mut dyn Link {
        self.link.as_deref_mut().expect("attached")
    }

    pub(crate) fn send(&mut self, frame: Frame<Parcel>) {
        self.waiting.push_back(frame);
    }

    /// Submits as an obedient session: within room and credit, two slots kept for grants.
    fn submit_waiting(&mut self) {
        if let Some(ring) = self.ring
            && self.grants
            && self.owed * 2 >= ring.saturating_sub(2).max(1)
            && self.credit.is_none_or(|credit| credit > 0)
            && self.closed.is_none()
        {
            let grant = Frame::Grant(Grant { slots: self.owed });
            if self.submit(grant).is_ok() {
                self.owed = 0;
            }
        }
        while self.credit.is_none_or(|credit| credit > 2)
            && self.link().room() > 0
            && let Some(frame) = self.waiting.pop_front()
        {
            self.submit(frame).expect("there is room");
        }
    }

    pub(crate) fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        let spends = takes_slot(&frame);
        let token = self.link().submit(frame)?;
        self.submitted += 1;
        assert_eq!(token, Token(self.submitted), "tokens are consecutive");
        if let Some(credit) = &mut self.credit
            && spends
        {
            *credit -= 1;
        }
        Ok(token)
    }

    /// Drives the link until it is pending or says that it would be, and checks the laws that show in
    /// every report. One that says so falsely is not polled again before it wakes its task.
    pub(crate) fn drive(&mut self, cx: &mut Context<'_>) {
        self.submit_waiting();
        loop {
            self.batch.clear();
            let mut batch = std::mem::take(&mut self.batch);
            let polled = self.link().poll(cx, &mut batch);
            let empty = batch.is_empty();
            assert!(batch.frames.len() <= stellate_transport::FRAMES_PER_POLL, "F7");
            self.most_at_once = self.most_at_once.max(batch.frames.len());
            if self.closed.is_some() {
                assert!(empty && polled.is_pending(), "F4: silent after closed");
            }
            for frame in batch.frames.drain(..) {
                self.receive(frame);
            }
            if let Some(done) = batch.done {
                assert!(done.upto.0 > self.done, "F1: once each");
                self.done = done.upto.0;
                self.failed += done.failed;
                assert!(self.done <= self.submitted, "F1: only what was submitted");
            }
            self.rooms += u64::from(batch.room);
            if let Some(closed) = batch.closed.take() {
                assert_eq!(self.done, self.submitted, "F1: all done at close");
                self.closed = Some(closed.cause);
            }
            let idle = batch.idle;
            self.batch = batch;
            assert!(empty || polled.is_ready(), "what is reported is ready");
            if polled.is_pending() || idle {
                // What came may have to be answered with a grant, or have brought one.
                let before = self.submitted;
                self.submit_waiting();
                if self.submitted == before {
                    return;
                }
            }
        }
    }

    fn receive(&mut self, frame: Frame<Parcel>) {
        if self.ring.is_some() && takes_slot(&frame) {
            self.owed += 1;
        }
        match frame {
            Frame::Grant(grant) => {
                if let Some(credit) = &mut self.credit {
                    *credit += grant.slots;
                }
            }
            frame => self.frames.push(frame),
        }
    }

    pub(crate) async fn detach_and_attach(&mut self) {
        let link = self.link.take().expect("attached");
        self.link = Some(link.detach().expect("open").attach().expect("a runtime"));
    }
}

impl Pair {
    /// Connects and says hello both ways.
    pub(crate) async fn up(rig: &Rig) -> Self {
        let mut pair = Self::connected(rig).await;
        pair.near.send(hello());
        pair.until(|pair| !pair.far.frames.is_empty()).await;
        pair.far.send(answer());
        pair.until(|pair| !pair.near.frames.is_empty()).await;
        assert_eq!(pair.far.frames.remove(0), hello());
        assert_eq!(pair.near.frames.remove(0), answer());
        pair
    }

    /// Connects and says nothing.
    pub(crate) async fn connected(rig: &Rig) -> Self {
        let mut listener = rig.listens.listen(&rig.at).expect("listens");
        let at = listener.local();
        let dial = rig.dials.dial(&at);
        let accept = poll_fn(|cx| listener.poll_accept(cx));
        let (near, far) = futures::join!(dial, accept);
        Self {
            near: End::new(near.expect("dials")),
            far: End::new(far.expect("accepts")),
            listener,
        }
    }

    /// Drives both ends until `done` says so.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        poll_fn(|cx| {
            self.near.drive(cx);
            self.far.drive(cx);
            if done(self) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    pub(crate) async fn until_closed(&mut self) {
        self.until(|pair| pair.near.closed.is_some() && pair.far.closed.is_some()).await;
    }
}

pub(crate) fn lane() -> Lane {
    Lane::messages(Class::Normal)
}

pub(crate) fn message(seq: u64, data: &[u8]) -> Frame<Parcel> {
    Frame::Message(Message {
        lane: lane(),
        seq: Seq(seq),
        call: Call::OneWay,
        payload: parcel(data),
    })
}

pub(crate) fn parcel(data: &[u8]) -> Parcel {
    Parcel::new(7, 1, 1, Bytes::from_static(b"front"), Bytes::copy_from_slice(data))
}

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + at / 251) as u8).collect()
}

pub(crate) fn pull(seq: u64) -> Frame<Parcel> {
    Frame::Pull(Pull { lane: lane(), seq: Seq(seq) })
}

pub(crate) fn announce(seq: u64, len: u32) -> Frame<Parcel> {
    let payload = Parcel::announcing(7, 1, 1, Bytes::from_static(b"front"), len);
    Frame::Announce(Message { lane: lane(), seq: Seq(seq), call: Call::OneWay, payload })
}

pub(crate) fn chunks(seq: u64, data: &[u8], piece: usize) -> Vec<Frame<Parcel>> {
    chunks_of(seq, parcel(data), piece)
}

pub(crate) fn chunks_of(seq: u64, part: Parcel, piece: usize) -> Vec<Frame<Parcel>> {
    let len = part.data().len();
    (0..len)
        .step_by(piece)
        .map(|offset| {
            Frame::Chunk(Chunk {
                lane: lane(),
                seq: Seq(seq),
                offset: offset as u32,
                len: piece.min(len - offset) as u32,
                part: Some(part.clone()),
            })
        })
        .collect()
}

pub(crate) fn seqs(frames: &[Frame<Parcel>]) -> Vec<u64> {
    frames
        .iter()
        .filter_map(|frame| match frame {
            Frame::Message(message) => Some(message.seq.0),
            _ => None,
        })
        .collect()
}

pub(crate) fn kinds(frames: &[Frame<Parcel>]) -> Vec<FrameKind> {
    frames.iter().map(Frame::kind).collect()
}

fn identity(number: u64) -> Identity {
    Identity {
        name: EntityName::osd(number),
        role: None,
        instance: Instance(u128::from(number) + 77),
        incarnation: None,
    }
}

fn opening() -> Opening {
    Opening {
        terms: Terms {
            front_max: 65536,
            data_max: 1 << 26,
            slot_bytes: 8192,
            slots: None,
            requests_max: 16,
        },
        lanes: [LaneState::default(); Lane::COUNT],
        held: false,
        features: Vec::new(),
        metadata: Bytes::new(),
        auth: Bytes::new(),
    }
}

pub(crate) fn hello() -> Frame<Parcel> {
    Frame::Hello(Box::new(Hello {
        from: identity(1),
        target: EntityName::osd(2),
        session: SessionId(5),
        attempt: Attempt(1),
        established: false,
        insist: false,
        policy: PolicyOffer { lossy: false, stance: Stance::Peer },
        opening: opening(),
    }))
}

pub(crate) fn answer() -> Frame<Parcel> {
    Frame::Answer(Box::new(Answer {
        from: identity(2),
        session: SessionId(5),
        attempt: Attempt(1),
        latest: Attempt(0),
        resume: false,
        verdict: Verdict::Accepted { lossy: false, opening: opening() },
    }))
}

pub(crate) fn close_both(pair: &mut Pair) {
    pair.near.link().close(CloseHow::Abort);
    pair.far.link().close(CloseHow::Abort);
}
