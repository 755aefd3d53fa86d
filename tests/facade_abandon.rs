//! What an actor held when it was given up was not handled (S3).
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

mod facade_support;

use facade_support::*;
use stellate::Receipt;
use stellate::prelude::*;
use tokio::sync::mpsc;

/// Its futures never resolve; its state keeps what it was asked.
struct Sleeper {
    log: Log,
    kept: Vec<Deferred<Ask>>,
}

impl Actor for Sleeper {
    type Context = Context<Self>;
}

impl Sleeper {
    fn see(&self, seen: Seen) {
        // The test may be over.
        let _ = self.log.try_send(seen);
    }
}

impl Handler<Incoming<Note>> for Sleeper {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, note: Incoming<Note>, ctx: &mut Self::Context) -> Self::Result {
        assert_ne!(note.n, PANIC, "asked for");
        if note.n == LEAVE {
            ctx.stop();
        }
        self.see(Seen::Note(note.n, note.data.clone(), note.class()));
        let never = async move {
            futures::future::pending::<()>().await;
            drop(note);
        };
        Box::pin(never.into_actor(self))
    }
}

/// The note that makes the actor stop in order.
const LEAVE: u64 = 0x1eaf;

impl Handler<Incoming<Ask>> for Sleeper {
    type Result = ();

    fn handle(&mut self, ask: Incoming<Ask>, _: &mut Self::Context) {
        self.see(Seen::Ask(ask.n));
        self.kept.push(ask.defer());
    }
}

impl Handler<Incoming<Slow>> for Sleeper {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, slow: Incoming<Slow>, _: &mut Self::Context) -> Self::Result {
        self.see(Seen::Ask(slow.n));
        let never = async move {
            futures::future::pending::<()>().await;
            drop(slow);
        };
        Box::pin(never.into_actor(self))
    }
}

struct Setup {
    host: Messenger,
    there: Connection,
    log: mpsc::Receiver<Seen>,
    _peer: Side,
}

async fn setup() -> Setup {
    let host = osd(2).build().await.unwrap();
    let peer = Side::new(osd(1)).await;
    let (sender, log) = mpsc::channel(100);
    let make = move || Sleeper { log: sender.clone(), kept: Vec::new() };
    host.supervise("sleeper", make, Restart::default())
        .handle::<Note>()
        .handle::<Ask>()
        .handle::<Slow>()
        .start()
        .unwrap();
    host.ready();
    let there = peer.messenger.connect(host.name(), host.local_addresses()).unwrap();
    Setup { host, there, log, _peer: peer }
}

/// Lets the actor take three messages, gives it up by `end`, and sees that none counts as handled.
async fn given_up(end: impl FnOnce(&Setup) -> Option<Receipt>) {
    let mut setup = setup().await;
    let note = setup.there.try_send(Note { n: 1 }).unwrap();
    let how = How::Silent;
    let kept = setup.there.request(Ask { n: 2, how });
    let slow = setup.there.request(Slow { n: 3 });
    let answers = futures::future::join(kept.into_future(), slow.into_future());
    let taken = async {
        for _ in 0..3 {
            setup.log.recv().await.unwrap();
        }
        let more = end(&setup);
        let note = note.handled().await;
        assert!(matches!(note, Err(RequestError::HandlerPanicked)), "{note:?}");
        if let Some(more) = more {
            assert!(more.handled().await.is_err());
        }
    };
    let ((kept, slow), ()) = within(futures::future::join(answers, taken)).await;
    assert!(matches!(kept, Err(RequestError::HandlerPanicked)), "{kept:?}");
    assert!(matches!(slow, Err(RequestError::HandlerPanicked)), "{slow:?}");
}

#[actix_rt::test]
async fn s3_what_the_actor_held_is_not_handled_after_a_panic() {
    given_up(|setup| Some(setup.there.try_send(Note { n: PANIC }).unwrap())).await;
}

#[actix_rt::test]
async fn s3_what_the_actor_held_is_not_handled_after_a_kill() {
    given_up(|setup| {
        setup.host.tree().kill("sleeper").unwrap();
        None
    })
    .await;
}

#[actix_rt::test]
async fn s3_what_the_actor_held_is_not_handled_after_a_removal() {
    given_up(|setup| {
        drop(setup.host.tree().remove("sleeper").unwrap());
        None
    })
    .await;
}

#[actix_rt::test]
async fn s3_a_future_that_a_stop_cuts_off_is_not_handled() {
    given_up(|setup| Some(setup.there.try_send(Note { n: LEAVE }).unwrap())).await;
}

/// Its futures run on its thread, not in its context.
struct Detached(Log);

impl Actor for Detached {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Detached {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) -> Self::Result {
        let _ = self.0.try_send(Seen::Note(note.n, note.data.clone(), note.class()));
        Box::pin(async move {
            futures::future::pending::<()>().await;
            drop(note);
        })
    }
}

#[actix_rt::test]
async fn s3_a_future_that_ends_with_its_thread_is_not_handled() {
    let host = osd(2).build().await.unwrap();
    let peer = Side::new(osd(1)).await;
    let (sender, mut log) = mpsc::channel(100);
    let make = move || Detached(sender.clone());
    host.supervise("detached", make, Restart::default()).handle::<Note>().start().unwrap();
    host.ready();
    let there = peer.messenger.connect(host.name(), host.local_addresses()).unwrap();
    let note = there.try_send(Note { n: 1 }).unwrap();
    within(log.recv()).await.unwrap();
    within(host.tree().remove("detached").unwrap()).await;
    let cut_off = within(note.handled()).await;
    assert!(matches!(cut_off, Err(RequestError::HandlerPanicked)), "{cut_off:?}");
}
