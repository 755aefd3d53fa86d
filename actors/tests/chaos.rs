//! Two nodes behind a proxy that cuts, truncates, stalls and corrupts at any byte, both ways at
//! once, with everything in flight: S1, S2, and no end (S4).
//!
//! `STELLATE_LONG=1`, in a release build, is the long run: ten million messages, ten thousand cuts.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use stellate_actors::handle::SessionHandle;
use stellate_actors::shared::Refusal;
use stellate_protocol::event::EndCause;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Parcel};
use support::chaos::{Chaos, Fault};
use support::{Draw, TestNode, number_of, parcel, quick, raw, scale, send, within};

/// Messages that a session may have on its way.
const OUTBOX: u32 = 512;

/// Messages of one class that follow each other in a turn of 16: `Control` is rare, as in life.
fn class_of(number: u64) -> Class {
    match number % 16 {
        0 => Class::Control,
        1..=3 => Class::High,
        4..=11 => Class::Normal,
        _ => Class::Bulk,
    }
}

/// The first number from `number` on that has that class.
fn next_of(class: Class, mut number: u64) -> u64 {
    while class_of(number) != class {
        number += 1;
    }
    number
}

/// Bytes that all bodies are slices of: where a body begins depends on its number and sender, so a
/// body that is not the right one is not the same.
fn body() -> Bytes {
    let mut draw = Draw(7);
    let words = (0..(3 << 20) / 8).flat_map(|_| draw.next().to_le_bytes());
    words.collect::<Vec<_>>().into()
}

/// What `sender` says as message `number`: 0 B to beyond a slot, and some bodies of 100 KiB to
/// 1 MiB that are pulled.
fn message(sender: u64, number: u64, body: &Bytes) -> Parcel {
    let mut draw = Draw(number ^ sender << 60);
    let len = match draw.below(4096) {
        0 => (100 << 10) + draw.below((1 << 20) - (100 << 10)),
        1..=16 => draw.below(40_000),
        17..=200 => draw.below(8_500),
        201..=600 => 0,
        _ => draw.below(200),
    } as usize;
    let from = draw.below((body.len() - len) as u64) as usize;
    parcel(&number.to_le_bytes(), body.slice(from..from + len))
}

/// What the last word of each class has for a number.
const OVER: u64 = u64::MAX;

/// Sends at least so many, and goes on until every fault has struck: how many messages that takes is
/// for the kernel to say. Then the last word of each class. Returns how many came before those.
async fn send_all(
    handle: SessionHandle,
    sender: u64,
    counts: Range<u64>,
    body: Bytes,
    struck: impl Fn() -> bool,
) -> u64 {
    let one = async |class, message| match handle.try_send(class, message) {
        Ok(_) => {}
        Err(Refusal::Full(message)) => {
            send(&handle, class, message).await;
        }
        Err(refusal) => panic!("{refusal:?}"),
    };
    let mut number = 0;
    while number < counts.start || (!struck() && number < counts.end) {
        one(class_of(number), message(sender, number, &body)).await;
        number += 1;
    }
    for class in Class::ALL {
        one(class, parcel(&OVER.to_le_bytes(), Bytes::new())).await;
    }
    number
}

/// Takes all, each once, in order within its class, unchanged, up to the last word of each class.
/// Returns how many came before those.
async fn take_all(
    node: &mut TestNode,
    sender: u64,
    body: &Bytes,
    mut progress: impl FnMut(),
) -> u64 {
    let mut next = Class::ALL.map(|class| Some(next_of(class, 0)));
    let mut taken = 0;
    while next.iter().any(Option::is_some) {
        let (arrived, got) = node.next_arrived().await;
        let class = arrived.class();
        let place = &mut next[class.index()];
        let number = number_of(&got);
        if number == OVER {
            assert!(place.take().is_some(), "S2: one last word of a class");
            continue;
        }
        assert_eq!(Some(number), *place, "S1, S2: the next of its class");
        assert!(got.data() == message(sender, number, body).data(), "content of {number}");
        *place = Some(next_of(class, number + 1));
        taken += 1;
        progress();
    }
    taken
}

/// Arms one fault after the other, spread over the messages.
struct Director {
    chaos: Chaos,
    draw: Draw,
    /// What is still to come, by [`Fault::index`].
    left: [u64; 4],
    faults: u64,
    armed: u64,
    messages: u64,
    taken: u64,
    handles: [SessionHandle; 2],
    /// What each side had received when it was seen to have tried another link after the last
    /// corruption of its bytes.
    moved: [Option<u64>; 2],
}

impl Director {
    fn step(&mut self) {
        self.taken += 1;
        // The last fifth of the messages is for faults that strike late.
        let due = self.armed * self.messages * 4 < self.taken * self.faults * 5;
        let node = self.draw.below(2) as usize;
        if !due || self.armed == self.faults || self.chaos.is_armed(node) {
            return;
        }
        let mut left = self.left;
        // It is rarely allowed: then it goes first.
        match self.may_corrupt(node) {
            true => left[3] *= 8,
            false => left[3] = 0,
        }
        let Some(kind) = self.draw_kind(left) else { return };
        self.left[kind] -= 1;
        self.armed += 1;
        let fault = match kind {
            0 => Fault::Cut,
            1 => Fault::Truncate,
            2 => Fault::Stall(self.stall()),
            _ => {
                self.moved[node] = None;
                Fault::Corrupt(1 << self.draw.below(8))
            }
        };
        let range = [100, 3_000, 20_000][self.draw.below(3) as usize];
        self.chaos.arm(node, self.draw.below(range), fault);
    }

    /// One of those left; those of which more is left more often.
    fn draw_kind(&mut self, left: [u64; 4]) -> Option<usize> {
        let sum = left.iter().sum();
        let mut place = if sum == 0 { return None } else { self.draw.below(sum) };
        left.iter().position(|count| {
            let here = place < *count;
            place = place.wrapping_sub(*count);
            here
        })
    }

    /// Short ones mostly; a few outlast the deadline, so that both sides give up on a link whose
    /// bytes come after all.
    fn stall(&mut self) -> Duration {
        match self.draw.below(scale(100, 1_000)) {
            0 => Duration::from_millis(1_200),
            _ => Duration::from_millis(self.draw.below(8)),
        }
    }

    /// Whether something new came to `node` after the last corruption of what it reads, over a link
    /// that it tried since: three faults at one place in a row end a session, and rightly.
    fn may_corrupt(&mut self, node: usize) -> bool {
        let counters = self.handles[node].shared().snapshot().counters;
        if self.chaos.is_corrupt(node) || tries(&self.handles[node]) <= self.chaos.struck(node) {
            return false;
        }
        let received = counters.messages_received;
        received > *self.moved[node].get_or_insert(received)
    }
}

/// Links that a session has tried, from either side.
fn tries(handle: &SessionHandle) -> u64 {
    let counters = handle.shared().snapshot().counters;
    counters.links_accepted + counters.hellos_sent + counters.resumes_sent
}

fn socket(node: &TestNode) -> SocketAddr {
    raw::at(node).parse().expect("a socket address")
}

async fn chaos(count: u64, each: u64) {
    let began = tokio::time::Instant::now();
    let body = body();
    let start = |name: EntityName, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.limits.heartbeat_every = Duration::from_millis(100);
        config.limits.heartbeat_deadline = Duration::from_secs(1);
        // Less in flight is less to replay: more of the run is new messages.
        config.limits.outbox_messages = OUTBOX;
        config.limits.outbox_bytes = 1 << 20;
        // A short inbox, so that the proxy has its turn between few messages.
        TestNode::start_with(config, 32)
    };
    let mut a = start(EntityName::osd(1), 1).await;
    let mut b = start(EntityName::osd(2), 2).await;
    let chaos = Chaos::start([socket(&a), socket(&b)]).await;
    let there = a.node.connect(EntityName::osd(2), vec![chaos.front_of(1)]).expect("connects");
    let back = b.connected().await;
    back.readdress(vec![chaos.front_of(0)]).expect("TCP is built in");
    for (node, handle) in [&there, &back].into_iter().enumerate() {
        let handle = handle.clone();
        chaos.watch(node, Box::new(move || tries(&handle)));
    }
    let sending = [(0, &there), (1, &back)].map(|(sender, handle)| {
        let chaos = chaos.clone();
        let struck = move || chaos.fired().iter().all(|fired| *fired >= each);
        let counts = count..8 * count;
        actix_rt::spawn(send_all(handle.clone(), sender, counts, body.clone(), struck))
    });
    let director = RefCell::new(Director {
        chaos: chaos.clone(),
        draw: Draw(1),
        // A few more than are asked for: the last ones may find no bytes.
        left: [each + each / 40; 4],
        faults: 4 * (each + each / 40),
        armed: 0,
        messages: 2 * count,
        taken: 0,
        handles: [there.clone(), back.clone()],
        moved: [None; 2],
    });
    let progress = || director.borrow_mut().step();
    let taken =
        futures::join!(take_all(&mut a, 1, &body, progress), take_all(&mut b, 0, &body, progress),);
    let mut sent = Vec::new();
    for task in sending {
        sent.push(within("all to be sent", task).await.expect("sent"));
    }
    assert_eq!(sent, [taken.1, taken.0], "S2: as many as were sent");
    let [left, right] = [&there, &back].map(|handle| handle.shared().snapshot().counters);
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "messages {}, cuts {}, truncations {}, stalls {}, corruptions {}, links {}, bytes {}, \
         replayed {}, deduplicated {}, seconds {seconds:.1}",
        sent.iter().sum::<u64>(),
        chaos.fired()[0],
        chaos.fired()[1],
        chaos.fired()[2],
        chaos.fired()[3],
        chaos.links(),
        chaos.bytes(),
        left.replayed + right.replayed,
        left.deduplicated + right.deduplicated,
    );
    assert!(chaos.fired().iter().all(|fired| *fired >= each), "every kind struck");
    assert_eq!(left.ended + right.ended, 0, "S4: nothing ended");
    for node in [&mut a, &mut b] {
        assert_eq!(node.ends_now(), Vec::<EndCause>::new());
    }
    for node in [a, b] {
        node.shutdown().await;
    }
}

#[actix_rt::test]
async fn s1_s2_through_chaos_at_any_byte() {
    chaos(scale(40_000, 5_000_000), scale(200, 10_000)).await;
}

/// The same byte of the same message is damaged on every link: no poison loop. The third fault is
/// the last, one event tells it on each side, and what was not received is taken back (S4).
#[actix_rt::test]
async fn s4_a_message_that_never_comes_through_ends_the_session() {
    const BEHIND: usize = 10;
    let start = |number| {
        TestNode::start(quick(EntityName::osd(number), number.into(), Policy::lossless_peer()))
    };
    let (mut a, mut b) = (start(1).await, start(2).await);
    let chaos = Chaos::start([socket(&a), socket(&b)]).await;
    let there = a.node.connect(EntityName::osd(2), vec![chaos.front_of(1)]).expect("connects");
    let back = b.connected().await;
    let good = send(&there, Class::Normal, parcel(b"12345678", "comes through")).await;
    assert_eq!(b.next_parcel().await.data(), b"comes through");
    within("the ack", there.received(Class::Normal, good)).await.expect("received");
    // Behind the hello, wherever exactly, and within the message.
    chaos.poison(1, Some(4_000));
    let links = chaos.links();
    let long = vec![1; 7_000];
    send(&there, Class::Normal, parcel(b"12345678", long.clone())).await;
    for _ in 0..BEHIND {
        send(&there, Class::Normal, parcel(b"12345678", "behind it")).await;
    }
    let (end_here, end_there) = (a.next_end().await, b.next_end().await);
    assert_eq!(end_there.cause, EndCause::ProtocolViolation { at: None });
    assert_eq!(end_here.cause, EndCause::ClosedByPeer, "the peer knows nothing of it any more");
    assert!(chaos.links() - links <= 4, "no loop: {} links", chaos.links() - links);
    let counts = end_here.counts[Class::Normal.index()];
    assert_eq!((counts.unacked, counts.undelivered), (1 + BEHIND as u64, 0));
    assert_eq!(end_here.unacked[0].payload.data(), long);
    assert_eq!(end_here.unacked.len(), 1 + BEHIND);
    assert_eq!(end_there.counts[Class::Normal.index()].undelivered, 0);
    for handle in [&there, &back] {
        within("the end", handle.ended()).await;
    }
    // A new session is none the worse for it, once the path is.
    chaos.poison(1, None);
    let again = a.node.connect(EntityName::osd(2), vec![chaos.front_of(1)]).expect("connects");
    for unacked in end_here.unacked {
        send(&again, unacked.class, unacked.payload).await;
    }
    assert_eq!(b.next_parcel().await.data(), long);
    for _ in 0..BEHIND {
        assert_eq!(b.next_parcel().await.data(), b"behind it");
    }
    assert_eq!((a.ends_now(), b.ends_now()), (Vec::new(), Vec::new()), "S4: one end on each side");
    for node in [a, b] {
        node.shutdown().await;
    }
}
