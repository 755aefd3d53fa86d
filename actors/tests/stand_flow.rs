//! Windows of one, slow handlers, handlers that block: nothing deadlocks, nothing grows, nobody
//! else is slowed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stellate_actors::handle::SessionHandle;
use stellate_actors::inbox::{Arrived, Inbox, Item};
use stellate_protocol::event::CallResult;
use stellate_protocol::frame::{Ack, Call, LaneState, Message, Outcome};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Frame, Lane, Parcel, RequestId, Seq};
use support::raw::{self, Raw};
use support::{KIND, TestNode, number_of, parcel, quick, scale, send, until, within};

const A: EntityName = EntityName::osd(1);
const B: EntityName = EntityName::osd(2);

/// Sends a request when there is room, and waits for the answer.
async fn ask(handle: &SessionHandle, class: Class, message: Parcel) -> CallResult<Parcel> {
    let bytes = message.front().len() as u64;
    let room = handle.reserve_in(class, bytes, true).await.expect("open");
    let reply = handle.request(room, class, message, None).expect("reserved");
    reply.await
}

fn replied(result: CallResult<Parcel>) -> Parcel {
    match result {
        CallResult::Answered(Outcome::Reply, payload) => payload,
        other => panic!("a reply, not {other:?}"),
    }
}

/// Answers requests; one with a class in its ninth byte asks the other side first, in that class.
async fn serve(inbox: Arc<Inbox>, back: SessionHandle) {
    let mut batch = std::collections::VecDeque::new();
    loop {
        std::future::poll_fn(|cx| inbox.poll_take(cx, &mut batch, 64)).await;
        for item in batch.drain(..) {
            let Item::Message(mut arrived) = item else {
                continue;
            };
            let Some(parcel) = arrived.open() else {
                continue;
            };
            let back = back.clone();
            actix_rt::spawn(async move {
                let number = &parcel.front()[..8];
                if let Some(class) = parcel.front().get(8) {
                    let class = Class::ALL[usize::from(*class)];
                    let nested = ask(&back, class, support::parcel(number, "")).await;
                    assert_eq!(replied(nested).front()[..], *number);
                }
                assert!(arrived.reply(support::parcel(number, "")));
            });
        }
    }
}

/// The third budget: a reply never waits behind requests, and a request that a handler has opened
/// holds no place in the window, so that asking back works in the same class too.
#[actix_rt::test]
async fn handlers_that_ask_each_other_through_windows_of_one_do_not_deadlock() {
    ask_each_other(scale(2_000, 10_000), Limits::default().replies_bytes).await;
}

/// The first unreceived reply holds back all requests, and no handler: it waits for the link only.
#[actix_rt::test]
async fn handlers_that_ask_each_other_with_room_for_one_reply_do_not_deadlock() {
    ask_each_other(scale(200, 2_000), 1).await;
}

async fn ask_each_other(rounds: u64, replies_bytes: u64) {
    let start = |name: EntityName, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.limits.window_messages = [1; 4];
        config.limits.replies_bytes = replies_bytes;
        TestNode::start_with(config, 1)
    };
    let (a, mut b) = (start(A, 1).await, start(B, 2).await);
    let there = a.dial(&b);
    let back = b.connected().await;
    let serving = [
        actix_rt::spawn(serve(a.inbox.clone(), there.clone())),
        actix_rt::spawn(serve(b.inbox.clone(), back.clone())),
    ];
    let callers = [there, back].map(|handle| actix_rt::spawn(call(handle, rounds)));
    for caller in callers {
        within("all rounds", caller).await.expect("no panic");
    }
    serving.iter().for_each(|task| task.abort());
    a.shutdown().await;
    b.shutdown().await;
}

/// So many requests, eight open at once, each of which makes the other side ask back.
async fn call(handle: SessionHandle, rounds: u64) {
    let mut open = FuturesUnordered::new();
    let mut done = 0;
    for number in 0..rounds {
        let (class, nested) = match number % 3 {
            0 => (Class::Normal, Class::Normal),
            1 => (Class::High, Class::Normal),
            _ => (Class::Bulk, Class::Control),
        };
        let mut front = number.to_le_bytes().to_vec();
        front.push(nested.index() as u8);
        let handle = handle.clone();
        open.push(async move { ask(&handle, class, parcel(&front, "")).await });
        if open.len() >= 8 {
            replied(open.next().await.expect("eight are open"));
            done += 1;
        }
    }
    while let Some(result) = open.next().await {
        replied(result);
        done += 1;
    }
    assert_eq!(done, rounds);
}

/// The budgets are apart: requests that wait for the answers of others stop no message.
#[actix_rt::test]
async fn s7_a_message_passes_requests_that_wait_for_a_place() {
    let mut config = quick(A, 1, Policy::lossless_peer());
    config.limits.requests_max = 2;
    let a = TestNode::start(config).await;
    let mut b = TestNode::start(quick(B, 2, Policy::lossless_peer())).await;
    let there = a.dial(&b);
    b.connected().await;
    let asking: Vec<_> = (0..5u64)
        .map(|number| {
            let there = there.clone();
            let message = parcel(&number.to_le_bytes(), "");
            actix_rt::spawn(async move { ask(&there, Class::Normal, message).await })
        })
        .collect();
    let mut open = vec![b.next_arrived().await.0, b.next_arrived().await.0];
    // Now three wait, and this does not.
    send(&there, Class::Normal, parcel(&99u64.to_le_bytes(), "")).await;
    assert_eq!(number_of(&b.next_parcel().await), 99);
    let full = there.try_send(Class::Normal, parcel(&98u64.to_le_bytes(), ""));
    full.expect("there is room");
    assert_eq!(number_of(&b.next_parcel().await), 98);
    for _ in 0..3 {
        assert!(open.remove(0).reply(parcel(b"answer", "")));
        open.push(b.next_arrived().await.0);
    }
    open.into_iter().for_each(drop);
    for task in asking {
        let result = within("an outcome", task).await.expect("no panic");
        assert!(matches!(result, CallResult::Answered(..)));
    }
    a.shutdown().await;
    b.shutdown().await;
}

/// Takes one message, if one may be opened now.
fn take_one(inbox: &Inbox) -> Option<Arrived> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut batch = std::collections::VecDeque::new();
    match inbox.poll_take(&mut cx, &mut batch, 1) {
        Poll::Ready(()) => match batch.pop_front() {
            Some(Item::Message(arrived)) => Some(arrived),
            other => panic!("a message, not {other:?}"),
        },
        Poll::Pending => None,
    }
}

fn request(number: u64) -> Frame<Parcel> {
    let call = Call::Request { id: RequestId(number), ttl_ms: None };
    match raw::message(Class::Normal, number, parcel(&number.to_le_bytes(), "")) {
        Frame::Message(message) => Frame::Message(Message { call, ..message }),
        other => other,
    }
}

/// S7: a requester that asks and does not take the answers is asked to wait. Its requests stand in
/// nobody's way, and no reply ever waits for room.
#[actix_rt::test]
async fn s7_replies_that_wait_hold_back_the_requests_of_their_session_only() {
    let mut config = quick(B, 2, Policy::lossless_peer());
    config.limits.replies_bytes = 16 * 1024;
    let mut b = TestNode::start(config).await;
    let rude = raw::who(EntityName::osd(66), 66);
    let mut raw = Raw::greet(&raw::at(&b), raw::hello(rude, B, 1, 1)).await;
    let rude = b.connected().await;
    let mut bytes: Vec<u8> = (1..=20).flat_map(|number| raw::wire(&request(number))).collect();
    let after = parcel(&21u64.to_le_bytes(), "");
    bytes.extend(raw::wire(&raw::message(Class::Normal, 21, after.clone())));
    bytes.extend(raw::wire(&raw::message(Class::High, 1, after)));
    raw.say(&bytes).await;
    until("all to be there", || b.inbox.len() == 22).await;
    let reply = |mut arrived: Arrived| {
        arrived.open().expect("open");
        assert!(arrived.reply(parcel(b"r", vec![1; 4095])), "a reply never waits");
    };
    let (mut opened, mut high) = (0, 0);
    while let Some(arrived) = take_one(&b.inbox) {
        match arrived.class() {
            Class::High => high += 1,
            _ => {
                opened += 1;
                reply(arrived);
            }
        }
    }
    assert_eq!((opened, high), (4, 1), "16 KiB of replies wait, other classes do not");
    assert_eq!(rude.shared().replies_waiting(), 16 * 1024);
    assert_eq!(b.inbox.len(), 17);
    // Another session is served from the same inbox.
    let good = TestNode::start(quick(A, 1, Policy::lossless_peer())).await;
    let there = good.dial(&b);
    let answer = there.try_request(Class::Normal, parcel(b"good", ""), None).expect("room");
    until("the good one's request", || b.inbox.len() == 18).await;
    let arrived = take_one(&b.inbox).expect("it may be opened");
    assert_eq!(arrived.session().key(), b.node.sessions()[1].shared().key());
    reply(arrived);
    within("the answer", answer).await;
    assert!(take_one(&b.inbox).is_none());
    // It takes three answers: three more may be opened, in order.
    let mut ack = Ack::default();
    let state = LaneState { received: Seq(3), window: Seq(1024), window_bytes: 4 << 20 };
    ack.lanes[Lane::replies(Class::Normal).index()] = Some(state);
    raw.send(&Frame::Ack(Box::new(ack))).await;
    until("the replies to go", || rude.shared().replies_waiting() == 4 * 1024).await;
    let next = std::iter::from_fn(|| {
        let arrived = take_one(&b.inbox)?;
        let number = number_of(arrived.parcel().expect("not opened"));
        reply(arrived);
        Some(number)
    });
    assert_eq!(next.collect::<Vec<_>>(), [5, 6, 7], "S1");
    // The end lets go of what is parked.
    rude.abort();
    within("the end", rude.ended()).await;
    while let Some(mut arrived) = take_one(&b.inbox) {
        assert!(arrived.open().is_none(), "S6");
    }
    assert!(b.inbox.is_empty(), "S7");
    good.shutdown().await;
    b.shutdown().await;
}

/// Takes a message every 10 ms, and counts.
async fn handle_slowly(inbox: Arc<Inbox>, done: Arc<AtomicU64>) {
    let mut batch = std::collections::VecDeque::new();
    let mut expected = std::collections::BTreeMap::new();
    loop {
        std::future::poll_fn(|cx| inbox.poll_take(cx, &mut batch, 1)).await;
        for item in batch.drain(..) {
            let Item::Message(mut arrived) = item else {
                continue;
            };
            let Some(parcel) = arrived.open() else {
                continue;
            };
            let turn: &mut u64 = expected.entry(arrived.session().key()).or_default();
            assert_eq!(number_of(&parcel), *turn, "S1");
            *turn += 1;
            done.fetch_add(1, Ordering::SeqCst);
            // What the handler does: the time is its work, nobody waits for it to be over.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

const QUICK: u32 = KIND + 1;

fn quick_one(number: u64) -> Parcel {
    let mut message = parcel(&number.to_le_bytes(), "");
    message.kind = QUICK;
    message
}

/// S7, S9: a slow handler holds its senders back, within the limits, and nobody else.
#[actix_rt::test]
async fn a_slow_handler_holds_back_its_sender_and_nobody_else() {
    let start = |name: EntityName, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.limits.outbox_messages = 64;
        config.limits.window_messages = [8, 8, 16, 8];
        TestNode::start_with(config, 16)
    };
    let (a, mut b) = (start(A, 1).await, start(B, 2).await);
    let c = start(EntityName::osd(3), 3).await;
    let done = Arc::new(AtomicU64::new(0));
    let handling = actix_rt::spawn(handle_slowly(b.inbox.clone(), done.clone()));
    let fast = Inbox::new(16);
    b.node.router().register(&fast, &[QUICK], false, false).expect("free");
    let slow = a.dial(&b);
    let serving = actix_rt::spawn(serve(fast, b.connected().await));
    let mixed = c.dial(&b);
    // A minute of the handler's time.
    let count = scale(200, 6_000);
    let sending = actix_rt::spawn({
        let (slow, body) = (slow.clone(), Bytes::from(vec![7; 4000]));
        async move {
            for number in 0..count {
                let message = parcel(&number.to_le_bytes(), body.clone());
                send(&slow, Class::Normal, message).await;
                let (messages, _) = slow.shared().outbox();
                assert!(messages <= 64 + 4, "S7: {messages} in the outbox");
            }
        }
    });
    let held_back = || slow.shared().outbox().0 == 64;
    until("the sender to be held back", held_back).await;
    // Control has room of its own, though the sender waits for some.
    let begun = done.load(Ordering::SeqCst);
    for number in 0..20 {
        let reply = within("a quick reply", ask(&slow, Class::Control, quick_one(number))).await;
        assert_eq!(number_of(&replied(reply)), number);
    }
    let meanwhile = done.load(Ordering::SeqCst) - begun;
    assert!(meanwhile < 20, "20 control replies took the time of {meanwhile} slow messages");
    for number in 0..40u64 {
        let message = parcel(&number.to_le_bytes(), "");
        mixed.try_send(Class::Normal, message).expect("room");
    }
    // Its window is full, twice over. Other classes of the session pass it all the same.
    let begun = done.load(Ordering::SeqCst);
    for number in 0..20 {
        for class in [Class::Control, Class::High, Class::Bulk] {
            let reply = within("a quick reply", ask(&mixed, class, quick_one(number))).await;
            assert_eq!(number_of(&replied(reply)), number);
            assert!(b.inbox.len() <= 16, "S7");
        }
    }
    let meanwhile = done.load(Ordering::SeqCst) - begun;
    assert!(meanwhile < 60, "60 quick replies took the time of {meanwhile} slow messages");
    within("all to be sent", sending).await.expect("sent");
    let received = slow.received(Class::Normal, count);
    within("all to be received", received).await.expect("received");
    let all = count + 40;
    until("all to be handled", || done.load(Ordering::SeqCst) == all).await;
    for handle in [&slow, &mixed] {
        assert_eq!(handle.shared().snapshot().counters.links_lost, 0, "S9");
    }
    assert_eq!(b.ends_now(), []);
    handling.abort();
    serving.abort();
    for node in [a, b, c] {
        node.shutdown().await;
    }
}
