//! Becoming ready while messages come in already (S1).
#![allow(clippy::unwrap_used)]

mod facade_support;

use facade_support::*;
use stellate::prelude::*;
use tokio::sync::{mpsc, oneshot};

/// What came before `ready` goes before what comes after it, also in the turn between.
#[actix_rt::test]
async fn s1_what_comes_as_the_messenger_gets_ready_stays_in_order() {
    const COUNT: u64 = 3000;
    for round in 0..20u64 {
        let two = Side::new(osd(2)).await;
        let one = osd(1).build().await.unwrap();
        let (sender, mut log) = mpsc::channel(100_000);
        let desk = one.supervise("desk", move || Desk::new(sender.clone()), Restart::default());
        desk.handle::<Note>().start().unwrap();
        // Not ready yet, but it dials: the peer may send.
        let there = one.connect(EntityName::osd(2), two.addresses()).unwrap();
        while !there.is_up() || two.messenger.sessions().is_empty() {
            tokio::task::yield_now().await;
        }
        let back = two.messenger.sessions()[0].clone();
        // At another moment of the stream each time, while its thread runs on.
        let moment = round * COUNT / 20;
        let (reached, there_now) = oneshot::channel();
        let mut reached = Some(reached);
        #[allow(clippy::disallowed_methods, reason = "a user's own thread")]
        let sending = std::thread::spawn(move || {
            let all = async {
                for n in 0..COUNT {
                    if n == moment
                        && let Some(reached) = reached.take()
                    {
                        reached.send(()).unwrap();
                    }
                    back.send(Note { n }).await.unwrap();
                }
            };
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(all);
        });
        within(there_now).await.unwrap();
        one.ready();
        let mut next = 0;
        while next < COUNT {
            if let Seen::Note(n, ..) = within(log.recv()).await.unwrap() {
                assert_eq!(n, next, "S1, round {round}");
                next += 1;
            }
        }
        sending.join().unwrap();
        within(one.shutdown()).await;
        within(two.messenger.shutdown()).await;
    }
}
