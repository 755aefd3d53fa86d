//! TCP links against plain tokio, alternating in one run. Prints figures; holds no bar.
//!
//! `cargo test --release -p stellate-transport --test speed -- --ignored --nocapture`

mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use stellate_protocol::{Frame, Parcel};
use stellate_transport::{Batch, Link, Tcp};
use support::{Pair, Rig, message, pattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

const ROUNDS: usize = 5;
const PINGS: u32 = 20_000;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Drives a link as an actor would: take the batch, hand its frames on.
fn turn(
    link: &mut dyn Link,
    batch: &mut Batch,
    cx: &mut Context<'_>,
    mut on_frame: impl FnMut(Frame<Parcel>, &mut dyn Link),
) {
    loop {
        batch.clear();
        let polled = link.poll(cx, batch);
        assert!(batch.closed.is_none(), "still up");
        let mut frames = std::mem::take(&mut batch.frames);
        for frame in frames.drain(..) {
            on_frame(frame, link);
        }
        batch.frames = frames;
        if polled.is_pending() {
            return;
        }
    }
}

async fn links() -> (Box<dyn Link>, Box<dyn Link>) {
    let transport: Arc<dyn stellate_transport::Transport> = Arc::new(Tcp::new());
    let rig = Rig {
        dials: transport.clone(),
        listens: transport,
        at: "tcp://127.0.0.1:0".parse().expect("an address"),
        net: None,
        fake: None,
    };
    let mut pair = Pair::up(&rig).await;
    let near = pair.near.link.take().expect("attached");
    (near, pair.far.link.take().expect("attached"))
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let at = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(at), listener.accept());
    let (near, far) = (near.expect("dials"), far.expect("accepts").0);
    near.set_nodelay(true).expect("an option");
    far.set_nodelay(true).expect("an option");
    (near, far)
}

/// Microseconds per round trip of 64 bytes of data. Two tasks on one thread.
async fn ours_pingpong() -> f64 {
    let (mut near, mut far) = links().await;
    let data = pattern(64);
    let echo = tokio::spawn(async move {
        let mut batch = Batch::default();
        poll_fn(|cx| -> Poll<()> {
            turn(&mut *far, &mut batch, cx, |frame, link| {
                link.submit(frame).expect("room");
            });
            Poll::Pending
        })
        .await;
    });
    let mut batch = Batch::default();
    let mut left = PINGS;
    let ping = message(1, &data);
    near.submit(ping.clone()).expect("room");
    let start = Instant::now();
    poll_fn(|cx| {
        turn(&mut *near, &mut batch, cx, |_, link| {
            left -= 1;
            if left > 0 {
                link.submit(ping.clone()).expect("room");
            }
        });
        if left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    echo.abort();
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PINGS)
}

/// The same bytes on the wire, with plain tokio.
async fn raw_pingpong() -> f64 {
    let (mut near, mut far) = sockets().await;
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 117];
        while far.read_exact(&mut buffer).await.is_ok() {
            far.write_all(&buffer).await.expect("writes");
        }
    });
    let mut buffer = [0; 117];
    let start = Instant::now();
    for _ in 0..PINGS {
        near.write_all(&buffer).await.expect("writes");
        near.read_exact(&mut buffer).await.expect("reads");
    }
    echo.abort();
    start.elapsed().as_secs_f64() * 1e6 / f64::from(PINGS)
}

/// Messages per second, one way, as many as the link takes.
async fn ours_stream(size: usize, count: u64) -> f64 {
    let (mut near, mut far) = links().await;
    let frame = message(1, &pattern(size));
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        let (mut left, mut batch) = (count, Batch::default());
        poll_fn(|cx| {
            loop {
                while left > 0 && near.room() > 0 {
                    near.submit(frame.clone()).expect("room");
                    left -= 1;
                }
                batch.clear();
                if near.poll(cx, &mut batch).is_pending() {
                    return Poll::<()>::Pending;
                }
            }
        })
        .await;
    });
    let (mut got, mut batch) = (0, Batch::default());
    poll_fn(|cx| {
        loop {
            batch.clear();
            let polled = far.poll(cx, &mut batch);
            got += batch.frames.len() as u64;
            if got == count {
                return Poll::Ready(());
            }
            if polled.is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
    sender.abort();
    count as f64 / start.elapsed().as_secs_f64()
}

/// The same bytes with plain tokio, written 64 KiB at a time.
async fn raw_stream(size: usize, count: u64) -> f64 {
    let (mut near, mut far) = sockets().await;
    let total = (size as u64 + 53) * count;
    let start = Instant::now();
    let sender = tokio::spawn(async move {
        let block = vec![7; 64 * 1024];
        let mut left = total;
        while left > 0 {
            let n = left.min(block.len() as u64) as usize;
            near.write_all(&block[..n]).await.expect("writes");
            left -= n as u64;
        }
        near
    });
    let mut block = vec![0; 256 * 1024];
    let mut left = total;
    while left > 0 {
        left -= far.read(&mut block).await.expect("reads") as u64;
    }
    let _ = sender.await;
    count as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement"]
fn pingpong_64() {
    for _ in 0..ROUNDS {
        let ours = runtime().block_on(ours_pingpong());
        let raw = runtime().block_on(raw_pingpong());
        println!("ping-pong 64 B: ours {ours:.2} us, tokio {raw:.2} us, {:.2}", raw / ours);
    }
}

#[test]
#[ignore = "a measurement"]
fn stream() {
    for (size, count) in [(64, 1_000_000), (1024, 500_000), (8000, 100_000)] {
        for _ in 0..3 {
            let ours = runtime().block_on(ours_stream(size, count));
            let raw = runtime().block_on(raw_stream(size, count));
            let mib = ours * size as f64 / 1048576.0;
            println!(
                "stream {size} B: ours {ours:.0}/s ({mib:.0} MiB/s), tokio bytes {raw:.0}/s, {:.2}",
                ours / raw
            );
        }
    }
}
