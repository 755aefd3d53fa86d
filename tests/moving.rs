//! A session moves its own link and dispatches from its own turn: the tree's verbs hold for both all
//! the same. What a panic of the transport costs then is in `actors/tests/stand_links.rs`.
#![allow(clippy::unwrap_used)] // Helpers are outside of `#[test]` functions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stellate::prelude::*;
use stellate::testing::{World, virtual_time};

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

async fn node(builder: MessengerBuilder) -> (Messenger, Arc<AtomicU32>) {
    let messenger = builder.build().await.unwrap();
    let read = Arc::new(AtomicU32::new(0));
    let count = read.clone();
    messenger
        .supervise("reader", move || Reader(count.clone()), Restart::default())
        .handle::<Note>()
        .start()
        .unwrap();
    messenger.ready();
    (messenger, read)
}

/// osd.1 has sent one note to osd.2, which has read it.
async fn pair(world: &World) -> (Connection, Messenger, Arc<AtomicU32>) {
    let (one, _) = node(world.messenger(EntityName::osd(1))).await;
    let (two, read) = node(world.messenger(EntityName::osd(2))).await;
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
