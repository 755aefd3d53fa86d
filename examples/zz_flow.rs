use stellate::prelude::*;
use std::time::{Instant, Duration};
use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
#[derive(Serialize, Deserialize)] struct N { n: u64, m: u64 }
impl Message for N { const TYPE: MessageType = MessageType::new(0x110); type Reply = N; }
struct S(Arc<AtomicU64>);
impl Actor for S { type Context = Context<Self>; }
impl Handler<Incoming<N>> for S { type Result = (); fn handle(&mut self, i: Incoming<N>, _: &mut Self::Context) { self.0.fetch_add(1, Ordering::Relaxed); if i.is_request() { i.reply(N{n:1,m:2}); } } }
#[actix_rt::main]
async fn main() {
    let inb: u32 = std::env::var("INB").ok().and_then(|v| v.parse().ok()).unwrap_or(16);
    let limits = Limits { inbox_messages: inb, inbox_drain: inb.max(64), ..Limits::default() };
    let inline = std::env::args().nth(1).as_deref() == Some("inline");
    let c = Arc::new(AtomicU64::new(0));
    let one = Messenger::builder(EntityName::osd(1)).bind("tcp://127.0.0.1:0").limits(limits).arbiters(1).build().await.unwrap();
    let d = c.clone();
    one.supervise("s", move || S(d.clone()), Restart::default()).handle::<N>().placement(if inline { Placement::Inline } else { Placement::OwnArbiter }).start().unwrap();
    one.ready();
    let two = Messenger::builder(EntityName::osd(2)).limits(limits).arbiters(1).build().await.unwrap();
    two.ready();
    let t = two.connect(EntityName::osd(1), one.local_addresses()).unwrap();
    t.request(N{n:0,m:0}).await.unwrap();
    for size in [0usize, 1024] {
        let data = Bytes::from(vec![1u8; size]);
        for _ in 0..3 {
            let start = Instant::now(); let mut n = 0u64; c.store(0, Ordering::Relaxed);
            while start.elapsed() < Duration::from_millis(1500) { for _ in 0..64 { t.send(N{n, m: 7}.with(data.clone())).await.unwrap(); n += 1; } }
            while c.load(Ordering::Relaxed) < n { tokio::task::yield_now().await; }
            let e = start.elapsed();
            println!("stream {size}: {:.0} msg/s", n as f64 / e.as_secs_f64());
        }
    }
    for _ in 0..3 {
        let start = Instant::now(); let mut n = 0u64;
        while start.elapsed() < Duration::from_millis(1500) { t.request(N{n, m: 7}).await.unwrap(); n += 1; }
        println!("request: {:.1} us", start.elapsed().as_secs_f64() * 1e6 / n as f64);
    }
    let encode = { let start = Instant::now(); let mut k = 0; for n in 0..1_000_000u64 { let t2 = &t; let _ = t2; k += n; } (start.elapsed(), k) };
    let _ = encode;
}
