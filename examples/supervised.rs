//! An actor that is killed, panics, and is paused: it comes back each time, at the same address,
//! and the messages that had queued are handled by its successor, in order, each once.
//!
//! `cargo run --example supervised`

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use stellate::prelude::*;
use stellate::testing::What;

#[derive(Serialize, Deserialize)]
struct Count {
    nth: u32,
}

impl Message for Count {
    const TYPE: MessageType = MessageType::new(0x0100);
    /// Which value of the actor handled it.
    type Reply = u32;
}

struct Counter {
    value: u32,
    expected: Arc<AtomicU32>,
}

impl Actor for Counter {
    type Context = Context<Self>;
}

impl Handler<Incoming<Count>> for Counter {
    type Result = ();

    fn handle(&mut self, count: Incoming<Count>, _: &mut Self::Context) {
        let expected = self.expected.fetch_add(1, Ordering::Relaxed);
        assert_eq!(count.nth, expected, "in order, each once");
        count.reply(self.value);
    }
}

#[actix::main(actix_rt)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (built, expected) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let osd = Messenger::builder(EntityName::osd(1)).bind("tcp://127.0.0.1:0").build().await?;
    let factory = move || {
        let value = built.fetch_add(1, Ordering::Relaxed) + 1;
        Counter { value, expected: expected.clone() }
    };
    osd.supervise("counter", factory, Restart::default()).handle::<Count>().start()?;
    osd.ready();
    let client = Messenger::builder(EntityName::osd(2)).build().await?;
    client.ready();
    let connection = client.connect(EntityName::osd(1), osd.local_addresses())?;
    let (tree, mut nth) = (osd.tree(), 0);

    for what in ["nothing", "kill", "panic", "pause"] {
        let mark = tree.mark();
        match what {
            "kill" => drop(tree.kill("counter")?),
            "panic" => drop(tree.panic("counter")?),
            "pause" => drop(tree.pause("counter")?),
            _ => {}
        }
        // Five messages; those that find nobody at home wait for the successor.
        let mut asked = Vec::new();
        for _ in 0..5 {
            let request = connection.request(Count { nth });
            asked.push(actix_rt::spawn(async move { request.await }));
            nth += 1;
        }
        if what == "pause" {
            println!("paused: {}, with its messages waiting", tree.is_paused("counter"));
            tree.resume("counter")?;
        } else if what != "nothing" {
            tree.wait_since(mark, "counter", |what| *what == What::Started).await?;
        }
        let mut by = Vec::new();
        for answer in asked {
            by.push(answer.await??.body);
        }
        println!("after {what}: handled by values {by:?} of the actor");
    }
    println!("what the tree remembers:");
    for what in tree.history_of("counter") {
        println!("  {what:?}");
    }
    client.shutdown().await;
    osd.shutdown().await;
    Ok(())
}
