//! What hosting costs in threads. Alone in its file: it counts those of the whole process.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use facade_support::*;
use stellate::prelude::*;
use tokio::sync::mpsc;

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:"));
    line.unwrap().trim().parse().unwrap()
}

/// Until so many are left: a thread that was told to stop ends a little later, and tells nobody.
async fn threads_are(wanted: usize) {
    within(async {
        while threads() != wanted {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[actix_rt::test]
async fn an_actor_on_a_thread_of_its_own_takes_the_thread_along_when_it_goes() {
    let host = osd(2).build().await.unwrap();
    let (sender, mut log) = mpsc::channel(1000);
    let host_one = |name: &str, restart: Restart| {
        let sender = sender.clone();
        host.supervise(name, move || Desk::new(sender.clone()), restart).handle::<Note>().start()
    };
    let before = threads();
    for round in 0..50 {
        let addr = host_one("desk", Restart::default()).unwrap();
        let started = within(log.recv()).await;
        let Some(Seen::Started(thread)) = started else { panic!("{started:?}") };
        if round == 0 {
            // A restart keeps its thread.
            host.tree().kill("desk").unwrap();
            let again = within(log.recv()).await;
            assert!(matches!(again, Some(Seen::Started(found)) if found == thread));
        }
        assert!(threads() > before);
        within(host.tree().remove("desk").unwrap()).await;
        drop(addr);
    }
    threads_are(before).await;

    // Ended by itself, and for good.
    let addr = host_one("once", Restart::Never).unwrap();
    within(log.recv()).await.unwrap();
    host.tree().kill("once").unwrap();
    threads_are(before).await;
    drop(addr);

    // Refused by the tree, after its thread was made.
    for _ in 0..50 {
        let refused = host_one("nowhere/desk", Restart::default());
        assert!(matches!(refused, Err(SuperviseError::Tree(..))));
    }
    threads_are(before).await;

    // With the messenger.
    let _addr = host_one("last", Restart::default()).unwrap();
    within(log.recv()).await.unwrap();
    within(host.shutdown()).await;
    // Its arbiter for sessions is one of them.
    threads_are(before - 1).await;
}
