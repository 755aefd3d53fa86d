//! What actix costs: an envelope for each message, against a batch in one envelope.

use actix::{Actor, Context, Handler, Message};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const MESSAGES: u64 = 1024;

struct Counter(u64);

impl Actor for Counter {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "()")]
struct One(u64);

#[derive(Message)]
#[rtype(result = "()")]
struct Batch(Vec<u64>);

#[derive(Message)]
#[rtype(result = "u64")]
struct Total;

impl Handler<One> for Counter {
    type Result = ();

    fn handle(&mut self, one: One, _: &mut Self::Context) {
        self.0 += one.0;
    }
}

impl Handler<Batch> for Counter {
    type Result = ();

    fn handle(&mut self, batch: Batch, _: &mut Self::Context) {
        self.0 += batch.0.iter().sum::<u64>();
    }
}

impl Handler<Total> for Counter {
    type Result = u64;

    fn handle(&mut self, _: Total, _: &mut Self::Context) -> u64 {
        self.0
    }
}

fn mailbox(criterion: &mut Criterion) {
    let system = actix_rt::System::new();
    let here = system.block_on(async { Counter(0).start() });
    let arbiter = actix_rt::Arbiter::new();
    let there =
        system.block_on(async { Counter::start_in_arbiter(&arbiter.handle(), |_| Counter(0)) });
    let mut group = criterion.benchmark_group("mailbox");
    group.throughput(Throughput::Elements(MESSAGES));
    for (place, actor) in [("same thread", &here), ("other thread", &there)] {
        group.bench_function(format!("{place}, one envelope a message"), |bencher| {
            bencher.iter(|| {
                system.block_on(async {
                    (0..MESSAGES).for_each(|n| actor.do_send(One(n)));
                    actor.send(Total).await.expect("it lives")
                })
            });
        });
        group.bench_function(format!("{place}, one envelope a batch"), |bencher| {
            bencher.iter(|| {
                system.block_on(async {
                    actor.do_send(Batch((0..MESSAGES).collect()));
                    actor.send(Total).await.expect("it lives")
                })
            });
        });
    }
    group.finish();
}

criterion_group!(benches, mailbox);
criterion_main!(benches);
