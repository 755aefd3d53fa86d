//! Actors that are hosted from a thread of the user's own, with and without what they need there.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.
#![allow(clippy::disallowed_methods)] // Threads that are not the reactor's are what it is about.

mod facade_support;

use facade_support::*;
use stellate::prelude::*;
use tokio::sync::mpsc;

type Hosted = Result<(), SuperviseError>;

/// Hosts a desk as `desk`, on the thread that calls.
fn host(messenger: &Messenger, placement: Placement) -> Hosted {
    let make = || Desk::new(mpsc::channel(1).0);
    let hosting = messenger.supervise("desk", make, Restart::default());
    hosting.handle::<Ask>().placement(placement).start().map(drop)
}

/// Runs it on a thread that has nothing to do with actix.
fn elsewhere(run: impl FnOnce() -> Hosted + Send + 'static) -> Hosted {
    std::thread::spawn(run).join().unwrap()
}

fn on_a_bare_thread(messenger: &Messenger, placement: Placement) -> Hosted {
    let messenger = messenger.clone();
    elsewhere(move || host(&messenger, placement))
}

/// A runtime, and no `LocalSet` in it.
fn on_a_runtime(messenger: &Messenger, placement: Placement) -> Hosted {
    let messenger = messenger.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    elsewhere(move || runtime.block_on(async { host(&messenger, placement) }))
}

/// Nothing of a desk that was refused holds its name or its type.
async fn is_free(messenger: &Messenger) {
    assert_eq!(messenger.tree().phase("desk"), None);
    host(messenger, Placement::Current).unwrap();
    within(messenger.tree().remove("desk").unwrap()).await;
}

#[actix_rt::test]
async fn any_thread_hosts_an_actor_that_runs_on_another() {
    let (messenger, peer) = (osd(2).build().await.unwrap(), Side::new(osd(1)).await);
    messenger.ready();
    for placement in [Placement::OwnArbiter, Placement::Inline] {
        for on in [on_a_bare_thread, on_a_runtime] {
            on(&messenger, placement).unwrap();
            let name = messenger.name();
            let there = peer.messenger.connect(name, messenger.local_addresses()).unwrap();
            let reply = within(there.request(Ask { n: 3, how: How::Reply })).await.unwrap();
            assert_eq!(reply.body.n, 3, "{placement:?}");
            within(messenger.tree().remove("desk").unwrap()).await;
            is_free(&messenger).await;
        }
    }
}

#[actix_rt::test]
async fn v4_a_thread_that_cannot_run_an_actor_says_so_and_leaves_nothing_behind() {
    let messenger = osd(1).build().await.unwrap();
    for on in [on_a_bare_thread, on_a_runtime] {
        let refused = on(&messenger, Placement::Current).unwrap_err();
        assert_eq!(refused, SuperviseError::NoLocalSet);
        assert!(refused.to_string().contains("LocalSet"), "{refused}");
        is_free(&messenger).await;
    }
    // One that was built outside of an actix system has no threads: all its actors are where they are
    // started.
    let (sender, receiver) = std::sync::mpsc::channel();
    let (done, wait) = tokio::sync::oneshot::channel::<()>();
    let owner = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let messenger = Messenger::builder(EntityName::osd(3)).build().await.unwrap();
            sender.send(messenger.clone()).unwrap();
            wait.await.unwrap();
            is_free(&messenger).await;
            messenger.shutdown().await;
        });
    });
    let bare = receiver.recv().unwrap();
    for placement in [Placement::OwnArbiter, Placement::Inline, Placement::Current] {
        let refused = on_a_bare_thread(&bare, placement);
        assert_eq!(refused, Err(SuperviseError::NoLocalSet), "{placement:?}");
    }
    // The tree was not even asked.
    assert!(bare.tree().history().iter().all(|entry| &*entry.path != "desk"));
    done.send(()).unwrap();
    owner.join().unwrap();
    messenger.shutdown().await;
}
