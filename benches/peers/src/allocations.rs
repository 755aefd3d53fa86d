//! Allocations of our own side: two messengers on one thread, so that all of it is counted,
//! sender and receiver, session and actors, tokio and actix. Prints JSON.

use std::collections::BTreeMap;

use actix::{Actor, Context, Handler};
use stellate::prelude::*;

const MESSAGES: u64 = 4096;
const BURST: u64 = 512;

#[derive(Serialize, Deserialize)]
struct Note {
    seq: u64,
}

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0b11);
    type Reply = ();
}

struct Sink;

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Sink {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        if note.is_request() {
            note.reply(());
        }
    }
}

pub(crate) fn run() -> Result<(), String> {
    let system = actix_rt::System::new();
    let connection = system.block_on(pair())?;
    let mut figures = BTreeMap::new();
    for size in [64_usize, 4096, 65_536] {
        let data = Bytes::from(vec![0x5a; size]);
        let mut failed = None;
        for (what, burst) in [("stream", BURST), ("pingpong", 1)] {
            // The first round grows what grows.
            let mut round = || {
                for _ in 0..MESSAGES / burst {
                    let done = system.block_on(exchange(&connection, &data, burst));
                    failed = failed.take().or(done.err());
                }
            };
            round();
            let counted = allocation_counter::measure(round);
            let each = counted.count_total as f64 / (MESSAGES / burst * burst) as f64;
            figures.insert(format!("{what}_{size}"), each);
        }
        if let Some(failed) = failed {
            return Err(failed);
        }
    }
    let text = serde_json::to_string(&figures).map_err(|error| error.to_string())?;
    println!("{text}");
    Ok(())
}

/// All but the last go one way.
async fn exchange(connection: &Connection, data: &Bytes, burst: u64) -> Result<(), String> {
    for seq in 1..burst {
        let sent = connection.send(Note { seq }.with(data.clone())).await;
        sent.map_err(|error| error.to_string())?;
    }
    let last = connection.request(Note { seq: burst }.with(data.clone())).await;
    last.map(drop).map_err(|error| error.to_string())
}

async fn pair() -> Result<Connection, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let server = Messenger::builder(EntityName::osd(1)).bind("tcp://127.0.0.1:0").arbiters(0);
    let server = server.build().await.map_err(|error| text(&error))?;
    let sink = server.supervise("sink", || Sink, Restart::Never).handle::<Note>();
    sink.placement(Placement::Inline).start().map_err(|error| text(&error))?;
    server.ready();
    let client = Messenger::builder(EntityName::osd(2)).arbiters(0);
    let client = client.build().await.map_err(|error| text(&error))?;
    client.ready();
    client.connect(EntityName::osd(1), server.local_addresses()).map_err(|error| text(&error))
}
