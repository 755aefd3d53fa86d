//! Two messengers over TCP on loopback in one process: round trips, and bursts one way. Ratios
//! against peers are the business of `stellate bench`, with two processes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use stellate::prelude::*;

const BURST: u64 = 512;

#[derive(Serialize, Deserialize)]
struct Note {
    seq: u64,
}

impl Message for Note {
    const TYPE: MessageType = MessageType::new(0x0101);
    type Reply = u64;
}

struct Sink(u64);

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<Incoming<Note>> for Sink {
    type Result = ();

    fn handle(&mut self, note: Incoming<Note>, _: &mut Self::Context) {
        self.0 += 1;
        if note.is_request() {
            let answer = self.0 + note.seq;
            note.reply(answer);
        }
    }
}

async fn pair() -> Connection {
    let server = Messenger::builder(EntityName::osd(1)).bind("tcp://127.0.0.1:0").arbiters(0);
    let server = server.build().await.expect("a server");
    let sink = server.supervise("sink", || Sink(0), Restart::Never).handle::<Note>();
    sink.placement(Placement::Inline).start().expect("a sink");
    server.ready();
    let client =
        Messenger::builder(EntityName::osd(2)).arbiters(0).build().await.expect("a client");
    client.ready();
    client.connect(EntityName::osd(1), server.local_addresses()).expect("a connection")
}

fn loopback(criterion: &mut Criterion) {
    let system = actix_rt::System::new();
    let connection = system.block_on(pair());
    let mut group = criterion.benchmark_group("loopback");
    for size in [64_usize, 4096, 65_536] {
        let data = Bytes::from(vec![0x5a; size]);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("round trip of {size} B"), |bencher| {
            bencher.iter(|| {
                system.block_on(async {
                    let asked = connection.request(Note { seq: 1 }.with(data.clone()));
                    asked.await.expect("an answer").body
                })
            });
        });
        group.throughput(Throughput::Elements(BURST));
        group.bench_function(format!("burst of {BURST} times {size} B"), |bencher| {
            bencher.iter(|| {
                system.block_on(async {
                    for seq in 1..BURST {
                        let sent = connection.send(Note { seq }.with(data.clone())).await;
                        sent.expect("room");
                    }
                    connection.request(Note { seq: BURST }).await.expect("an answer").body
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, loopback);
criterion_main!(benches);
