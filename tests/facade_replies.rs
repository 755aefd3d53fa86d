//! Replies that wait for their requester are bounded by bytes (S7).
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use bytes::Bytes;
use futures::future::join_all;
use stellate::prelude::*;

const REPLY: usize = 256 * 1024;
const LIMIT: u64 = 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Read {
    oid: u64,
}

impl Message for Read {
    const TYPE: MessageType = MessageType::new(0x0201);
    type Reply = u64;
}

/// Answers at once with more than was asked for.
struct Generous {
    data: Bytes,
    /// The most bytes that waited when a request was handed out.
    most: Arc<AtomicU64>,
}

impl Actor for Generous {
    type Context = Context<Self>;
}

impl Handler<Incoming<Read>> for Generous {
    type Result = ();

    fn handle(&mut self, incoming: Incoming<Read>, _: &mut Self::Context) {
        let waiting = incoming.connection().replies_waiting();
        self.most.fetch_max(waiting, Ordering::SeqCst);
        let oid = incoming.message.oid;
        incoming.reply(oid.with(self.data.clone()));
    }
}

/// Hundreds of requests wait in front of a handler that is faster than any link: it is called for
/// the next one when there is room for an answer, and each is answered whole.
#[actix_rt::test]
async fn s7_a_handler_is_called_when_its_session_has_room_for_a_reply() {
    let most = Arc::new(AtomicU64::new(0));
    let limits = Limits { replies_bytes: LIMIT, ..Limits::default() };
    let build = |number, limits| {
        let builder = Messenger::builder(EntityName::osd(number)).bind("tcp://127.0.0.1:0");
        builder.limits(limits).arbiters(1).build()
    };
    let (one, two) = (build(1, Limits::default()).await.unwrap(), build(2, limits).await.unwrap());
    let (data, seen) = (Bytes::from(vec![7; REPLY]), most.clone());
    two.supervise(
        "generous",
        move || Generous { data: data.clone(), most: seen.clone() },
        Restart::default(),
    )
    .handle::<Read>()
    .start()
    .unwrap();
    one.ready();
    two.ready();
    let there = one.connect(EntityName::osd(2), two.local_addresses()).unwrap();
    let asks = (0..300).map(|oid| {
        let there = there.clone();
        async move {
            let Reply { body, data } = there.request(Read { oid }).await.unwrap();
            assert_eq!((body, data.len()), (oid, REPLY));
        }
    });
    let all = tokio::time::timeout(Duration::from_secs(60), join_all(asks));
    all.await.expect("they are answered");
    let most = most.load(Ordering::SeqCst);
    assert!(most < LIMIT, "S7: {most} bytes waited when one more was handed out");
    one.shutdown().await;
    two.shutdown().await;
}
