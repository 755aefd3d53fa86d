//! What links over a real fabric do, to be set beside the tools of rdma-core. Prints, holds no bar.
//!
//! `tests/rdma-guest.sh` runs it and the tools in one guest. `STELLATE_RDMA` is an address of a device.
//! Both ends are threads of one process, each with its own runtime and endpoint.
#![cfg(feature = "rdma")]

mod support;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::task::Poll;
use std::time::Duration;

use stellate_protocol::{Frame, Parcel, Seq};
use stellate_transport::rdma::{Rdma, RdmaOptions, sys::System};
#[cfg(feature = "rsockets")]
use stellate_transport::rsockets::RSockets;
use stellate_transport::{Address, Batch, Link, Transport};
use support::{announce, answer, chunks, hello, lane, message, pattern, pull};
use tokio::time::Instant;

const PINGS: usize = 1000;
/// Announced and not yet whole.
const WINDOW: u64 = 4;

/// A transport for each end.
type Make = Arc<dyn Fn() -> Arc<dyn Transport> + Send + Sync>;

fn rdma(options: RdmaOptions) -> Make {
    Arc::new(move || Arc::new(Rdma::with(Arc::new(System::new()), options.clone())))
}

/// Runs it beside the transport's engine, if it has one, as a messenger runs its actors.
fn run<T: 'static>(transport: &dyn Transport, future: impl Future<Output = T> + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = tokio::task::LocalSet::new();
    if let Some(mut engine) = transport.engine() {
        let engine = poll_fn(move |cx| {
            engine.poll(cx);
            Poll::<()>::Pending
        });
        drop(local.spawn_local(engine));
    }
    let task = local.spawn_local(future);
    local.block_on(&runtime.expect("a runtime"), task).expect("no panic")
}

/// Moves the link until `on_frame` says that it is over; false if the link was gone before.
#[must_use]
async fn drive(
    link: &mut dyn Link,
    mut on_frame: impl FnMut(Frame<Parcel>, &mut dyn Link) -> bool,
) -> bool {
    drive_with(link, |frame, link| frame.is_some_and(|frame| on_frame(frame, link))).await
}

/// As [`drive`], and tells with `None` that there is room again.
#[must_use]
async fn drive_with(
    link: &mut dyn Link,
    mut on_news: impl FnMut(Option<Frame<Parcel>>, &mut dyn Link) -> bool,
) -> bool {
    let mut batch = Batch::default();
    poll_fn(|cx| {
        loop {
            batch.clear();
            let polled = link.poll(cx, &mut batch);
            let mut over = false;
            for frame in std::mem::take(&mut batch.frames) {
                over |= on_news(Some(frame), link);
            }
            if batch.room {
                over |= on_news(None, link);
            }
            if over || batch.closed.is_some() {
                return Poll::Ready(over);
            }
            if polled.is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Runs `far` on an accepted link in a thread of its own, and `near` on the one that dialled.
fn pair<T: 'static>(
    make: &Make,
    far: impl AsyncFnOnce(&mut dyn Link) + Send + 'static,
    near: impl AsyncFnOnce(&mut dyn Link) -> T + 'static,
) -> T {
    let ip = std::env::var("STELLATE_RDMA").expect("STELLATE_RDMA, an address of a device");
    let near_end = make();
    let at: Address = format!("{}://{ip}:0", near_end.scheme()).parse().expect("an address");
    let (tell, told) = channel();
    let make = make.clone();
    #[allow(clippy::disallowed_methods)] // Two ends on two cores, as the tools have it.
    let thread = std::thread::spawn(move || {
        let far_end = make();
        run(&*far_end.clone(), async move {
            let mut listener = far_end.listen(&at).expect("listens");
            tell.send(listener.local()).expect("the other end waits");
            let mut link = poll_fn(|cx| listener.poll_accept(cx)).await.expect("accepts");
            assert!(drive(&mut *link, |_, link| link.submit(answer()).is_ok()).await, "no hello");
            let run = tokio::time::timeout(Duration::from_secs(200), far(&mut *link));
            // The other end says when it has what it wants: it just leaves.
            let _ = run.await;
        });
    });
    let at = told.recv().expect("it listens");
    let result = run(&*near_end.clone(), async move {
        let mut link = near_end.dial(&at).await.expect("dials");
        link.submit(hello()).expect("room");
        assert!(drive(&mut *link, |_, _| true).await, "no answer");
        near(&mut *link).await
    });
    drop(thread);
    result
}

/// Half of the round trips of 64 bytes take less, microseconds; and processor time for each.
fn pingpong(make: &Make) -> (f64, f64) {
    let echo = async |link: &mut dyn Link| {
        let _left = drive(link, |frame, link| {
            link.submit(frame).expect("room");
            false
        })
        .await;
    };
    pair(make, echo, async |link| {
        let ping = message(1, &pattern(64));
        let (mut times, mut start) = (Vec::new(), Instant::now());
        let before = processor();
        link.submit(ping.clone()).expect("room");
        let all = drive(link, |_, link| {
            times.push(start.elapsed());
            start = Instant::now();
            link.submit(ping.clone()).expect("room");
            times.len() == PINGS
        })
        .await;
        assert!(all, "the link was lost");
        let spent = processor() - before;
        times.sort();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        (micros(times[PINGS / 2]), micros(spent) / (2 * PINGS) as f64)
    })
}

/// Mebibytes per second of announced and pulled data.
fn bandwidth(make: &Make, size: usize, count: u64) -> f64 {
    let sink = async move |link: &mut dyn Link| {
        let mut whole = 0;
        let _left = drive(link, |frame, link| {
            match frame {
                Frame::Announce(announced) => {
                    link.expect(lane(), announced.seq, size as u32);
                    link.submit(pull(announced.seq.0)).expect("room");
                }
                Frame::Chunk(chunk) => whole += u64::from(chunk.part.is_some()),
                _ => {}
            }
            if whole == count {
                link.submit(message(1, b"all")).expect("room");
            }
            false
        })
        .await;
    };
    pair(make, sink, async move |link: &mut dyn Link| {
        let data = pattern(size);
        let piece = link.limits().chunk_bytes as usize;
        let (mut next, mut waiting) = (1, VecDeque::new());
        let start = Instant::now();
        while next <= WINDOW.min(count) {
            link.submit(announce(next, size as u32)).expect("room");
            next += 1;
        }
        let all = drive_with(link, |frame, link| {
            match frame {
                Some(Frame::Pull(pull)) => {
                    waiting.extend(chunks(pull.seq.0, &data, piece));
                    if next <= count {
                        waiting.push_back(announce(next, size as u32));
                        next += 1;
                    }
                }
                Some(Frame::Message(all)) => return all.seq == Seq(1),
                _ => {}
            }
            while link.room() > 0
                && let Some(frame) = waiting.pop_front()
            {
                link.submit(frame).expect("room");
            }
            false
        })
        .await;
        assert!(all, "the link was lost");
        (size as u64 * count) as f64 / 1048576.0 / start.elapsed().as_secs_f64()
    })
}

/// Processor time of this process.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let after_name = stat.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("ticks")).sum();
    // USER_HZ is 100 wherever Linux runs.
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "a measurement"]
fn a_small_round_trip() {
    let (p50, each) = pingpong(&rdma(RdmaOptions::default()));
    println!("ours: 64 B ping-pong p50 {p50:.0} us, {each:.0} us of processor a message");
}

#[test]
#[ignore = "a measurement"]
fn a_small_round_trip_with_busy_poll() {
    let spinning = RdmaOptions { spin: Duration::from_millis(2), ..RdmaOptions::default() };
    let (p50, each) = pingpong(&rdma(spinning));
    println!("ours: 64 B ping-pong p50 {p50:.0} us, {each:.0} us of processor a message, spinning");
}

#[test]
#[ignore = "a measurement"]
fn bandwidth_of_large_messages() {
    for (size, count) in [(64 * 1024, 100), (1024 * 1024, 10)] {
        let rate = bandwidth(&rdma(RdmaOptions::default()), size, count);
        println!("ours: {} KiB messages {rate:.1} MiB/s", size / 1024);
    }
}

#[cfg(feature = "rsockets")]
#[test]
#[ignore = "a measurement"]
fn a_small_round_trip_over_rsockets() {
    let make: Make = Arc::new(|| Arc::new(RSockets::new()));
    let (p50, each) = pingpong(&make);
    println!("ours: 64 B ping-pong p50 {p50:.0} us, {each:.0} us of processor a message, rsockets");
}
