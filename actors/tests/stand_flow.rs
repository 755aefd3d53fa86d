//! Windows of one, slow handlers, handlers that block: nothing deadlocks, nothing grows, nobody
//! else is slowed.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stellate_actors::handle::SessionHandle;
use stellate_actors::inbox::{Inbox, Item};
use stellate_protocol::event::CallResult;
use stellate_protocol::frame::Outcome;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Parcel};
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
    let start = |name: EntityName, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.limits.window_messages = [1; 4];
        TestNode::start_with(config, 1)
    };
    let (a, mut b) = (start(A, 1).await, start(B, 2).await);
    let there = a.dial(&b);
    let back = b.connected().await;
    let serving = [
        actix_rt::spawn(serve(a.inbox.clone(), there.clone())),
        actix_rt::spawn(serve(b.inbox.clone(), back.clone())),
    ];
    let rounds = scale(2_000, 10_000);
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
    let count = scale(200, 600);
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
