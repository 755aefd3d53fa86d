//! A session moves its own link and dispatches from its own turn: the tree's verbs hold for both all
//! the same, and a panic of the transport is the link's.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate::prelude::*;
use stellate::testing::{Recorder, Transport, What, World, virtual_time};
use stellate_protocol::{Frame, Lane, Parcel, Seq};
use stellate_transport::{
    Address, Batch, CloseHow, DialError, Full, Link, LinkFault, LinkLimits, ListenError, Listener,
    Parked, Token,
};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note(u64);

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0311);
    type Reply = ();
}

struct Reader(Arc<AtomicU32>);

impl Actor for Reader {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Reader {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        let so_far = self.0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(note.0, u64::from(so_far), "S1, S2");
    }
}

async fn node(builder: MessengerBuilder) -> (Messenger, Recorder, Arc<AtomicU32>) {
    let messenger = builder.build().await.unwrap();
    let read = Arc::new(AtomicU32::new(0));
    let count = read.clone();
    messenger
        .supervise("reader", move || Reader(count.clone()), Restart::default())
        .handle::<Note>()
        .start()
        .unwrap();
    let recorder = Recorder::start(&messenger).unwrap();
    messenger.ready();
    (messenger, recorder, read)
}

/// osd.1 has sent one note to osd.2, which has read it.
async fn pair(world: &World) -> (Connection, Messenger, Arc<AtomicU32>) {
    let (one, _, _) = node(world.messenger(EntityName::osd(1))).await;
    let (two, _, read) = node(world.messenger(EntityName::osd(2))).await;
    let there = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
    there.send(Note(0)).await.unwrap();
    world.until("the first note", || read.load(Ordering::Relaxed) == 1).await;
    (there, two, read)
}

#[test]
fn v5_a_paused_link_moves_nothing_and_is_given_up_if_it_stays_so() {
    virtual_time(1, async |world| {
        let (there, two, read) = pair(&world).await;
        let links = two.tree().members("links");
        assert_eq!(links.len(), 1);
        two.tree().pause(&links[0]).unwrap();
        there.send(Note(1)).await.unwrap();
        world.sleep(Duration::from_secs(3)).await;
        assert_eq!(read.load(Ordering::Relaxed), 1, "nobody read the link");
        two.tree().resume(&links[0]).unwrap();
        world.until("the note", || read.load(Ordering::Relaxed) == 2).await;
        assert_eq!(there.counters().links_lost, 0);
        // For longer than the deadline it is as good as silent (S9), and another takes its place.
        two.tree().pause(&links[0]).unwrap();
        there.send(Note(2)).await.unwrap();
        world.until("the note", || read.load(Ordering::Relaxed) == 3).await;
        assert_eq!(there.counters().links_lost, 1);
    });
}

#[test]
fn v5_a_paused_dispatch_queue_keeps_what_was_received() {
    virtual_time(1, async |world| {
        let (there, two, read) = pair(&world).await;
        two.tree().pause("dispatch-0").unwrap();
        let receipt = there.try_send(Note(1)).unwrap();
        receipt.received().await.unwrap();
        there.send(Note(2)).await.unwrap();
        world.sleep(Duration::from_secs(60)).await;
        assert_eq!(read.load(Ordering::Relaxed), 1, "received, and not handed out");
        two.tree().resume("dispatch-0").unwrap();
        world.until("both", || read.load(Ordering::Relaxed) == 3).await;
    });
}

/// V1: the session goes on over another link, and the tree knows whose panic it was.
#[test]
fn v1_a_panic_of_the_transport_is_a_panic_of_its_link() {
    virtual_time(1, async |world| {
        let left = Arc::new(AtomicU32::new(u32::MAX));
        let transport = Fragile { inner: world.transport("osd.1"), left: left.clone() };
        let builder = world.messenger(EntityName::osd(1)).transport(Arc::new(transport));
        let (one, heard, _) = node(builder).await;
        let (_two, _, read) = node(world.messenger(EntityName::osd(2))).await;
        let there = one.connect(EntityName::osd(2), "sim://osd.2").unwrap();
        there.send(Note(0)).await.unwrap();
        world.until("the first note", || read.load(Ordering::Relaxed) == 1).await;
        let link = one.tree().members("links")[0].clone();
        left.store(1, Ordering::Relaxed);
        for n in 1..100 {
            there.send(Note(n)).await.unwrap();
        }
        world.until("all notes", || read.load(Ordering::Relaxed) == 100).await;
        let history = one.tree().history_of(&link);
        let fragile =
            |what: &What| matches!(what, What::Panicked { message } if &**message == "fragile");
        assert_eq!(history.iter().filter(|what| fragile(what)).count(), 1, "{history:?}");
        assert_eq!((there.counters().links_lost, there.counters().ended), (1, 0));
        let ends = heard.count(|event| matches!(event, SessionEvent::Ended { .. }));
        assert_eq!(ends, 0);
    });
}

/// Its links panic at a poll when `left` has come down to nothing, once.
struct Fragile {
    inner: Arc<dyn Transport>,
    left: Arc<AtomicU32>,
}

struct FragileLink {
    inner: Box<dyn Link>,
    left: Arc<AtomicU32>,
}

impl Transport for Fragile {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        let left = self.left.clone();
        let dial = self.inner.dial(to);
        async move {
            let inner = dial.await?;
            Ok(Box::new(FragileLink { inner, left }) as Box<dyn Link>)
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        self.inner.listen(at)
    }
}

impl Link for FragileLink {
    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn peer(&self) -> Address {
        self.inner.peer()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        self.inner.submit(frame)
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        self.inner.expect(lane, seq, data_len);
    }

    fn room(&self) -> usize {
        self.inner.room()
    }

    fn poll(&mut self, cx: &mut TaskContext<'_>, out: &mut Batch) -> Poll<()> {
        if self.left.load(Ordering::Relaxed) != u32::MAX {
            let before = self.left.fetch_sub(1, Ordering::Relaxed);
            assert!(before > 0, "fragile");
        }
        self.inner.poll(cx, out)
    }

    fn close(&mut self, how: CloseHow) {
        self.inner.close(how);
    }

    fn detach(self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        self.inner.detach()
    }
}
