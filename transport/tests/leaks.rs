//! F8 on a real kernel stack: after many connects and faults, and when the device is removed,
//! everything is given back.
//!
//! `tests/rdma-guest.sh` runs it. `STELLATE_RDMA` is an address of a device, `STELLATE_CONNECTS` how
//! many connects; `STELLATE_REMOVE` the command that removes the device.
#![cfg(feature = "rdma")]

mod support;
mod tap;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use stellate_transport::rdma::{Rdma, sys::System};
use stellate_transport::{CloseHow, LinkFault, Transport};
use support::{Pair, Rig, announce, chunks, close_both, lane, message, pattern, pull};
use tap::Tap;

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} says on what to run: see the module"))
}

/// What this test has of everything, as the kernel has it: by its thread, which asked for all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct InUse {
    regions: String,
    queue_pairs: usize,
    identifiers: usize,
    completion_queues: usize,
    descriptors: usize,
}

impl InUse {
    fn now() -> Self {
        let thread = std::fs::read_link("/proc/thread-self").expect("procfs");
        let thread = thread.file_name().expect("a thread").to_string_lossy().into_owned();
        let shown = |object: &str| {
            let output = Command::new("rdma").args(["resource", "show", object]).output();
            let all = String::from_utf8(output.expect("rdma runs").stdout).expect("text");
            let ours = format!(" pid {thread} ");
            let lines = all.lines().filter(|line| line.contains(&ours));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        // Of each region its device and length: their numbers change as they are made anew.
        let regions = shown("mr");
        let regions = regions.iter().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let len = words.iter().position(|word| *word == "mrlen").map(|at| words[at + 1]);
            format!("{} {} ", words.get(1).unwrap_or(&""), len.unwrap_or(""))
        });
        let mut regions: Vec<String> = regions.collect();
        regions.sort();
        Self {
            regions: regions.concat(),
            queue_pairs: shown("qp").len(),
            identifiers: shown("cm_id").len(),
            completion_queues: shown("cq").len(),
            descriptors: std::fs::read_dir("/proc/self/fd").expect("procfs").count(),
        }
    }
}

/// Connects, moves a little and a lot, and ends it in one way out of many.
async fn once(rig: &Rig, tap: &Tap, turn: u64) {
    let mut pair = Pair::up(rig).await;
    pair.near.send(message(1, &pattern(3000)));
    pair.far.send(message(1, b"back"));
    pair.until(|pair| pair.far.frames.len() == 1 && pair.near.frames.len() == 1).await;
    let big = pattern(100_000);
    let piece = rig.listens.limits().chunk_bytes as usize;
    match turn % 6 {
        0 => pair.near.link().close(CloseHow::Drain),
        1 => close_both(&mut pair),
        // The other end is gone; sent frames are under way.
        2 => {
            pair.near.send(message(2, &pattern(6000)));
            drop(pair.far.link.take());
            return;
        }
        // A READ is under way.
        3 => {
            pair.near.send(announce(2, big.len() as u32));
            pair.until(|pair| pair.far.frames.len() == 2).await;
            pair.far.link().expect(lane(), stellate_protocol::Seq(2), big.len() as u32);
            pair.far.send(pull(2));
            pair.until(|pair| pair.near.frames.len() == 2).await;
            chunks(2, &big, piece).into_iter().for_each(|chunk| pair.near.send(chunk));
            pair.until(|pair| pair.near.waiting.is_empty()).await;
            pair.far.link().close(CloseHow::Abort);
        }
        // The NIC gives up a queue pair.
        4 => {
            tap.to_error();
            pair.near.send(message(2, b"into the void"));
            pair.until(|pair| pair.near.closed.is_some() || pair.far.closed.is_some()).await;
            let causes = [&pair.near.closed, &pair.far.closed];
            assert!(causes.iter().all(|cause| **cause != Some(LinkFault::ClosedHere)));
            close_both(&mut pair);
        }
        // A dial that nobody waits for any more.
        _ => {
            let at = pair.listener.local();
            let dial = rig.dials.dial(&at);
            let gave_up = tokio::time::timeout(Duration::from_millis(turn % 7), dial).await;
            drop(gave_up);
            return;
        }
    }
    if turn.is_multiple_of(6) {
        pair.until(|pair| pair.far.closed.is_some()).await;
        drop(pair.far.link.take());
    } else {
        pair.until_closed().await;
    }
}

#[test]
#[ignore = "needs an RDMA device"]
fn f8_many_connects_and_faults_leave_nothing_behind() {
    let connects: u64 = setting("STELLATE_CONNECTS").parse().expect("a number");
    let at = format!("rdma://{}:0", setting("STELLATE_RDMA")).parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let tap = Tap::on(Arc::new(System::new()));
        let rdma: Arc<dyn Transport> = Arc::new(Rdma::on(Arc::new(tap.clone())));
        let rig = Rig { dials: rdma.clone(), listens: rdma, at, net: None, fake: None };
        // Devices are opened and memory is registered by the first ones, for good.
        for turn in 0..12 {
            once(&rig, &tap, turn).await;
        }
        let before = settled(None).await;
        assert!(!before.regions.is_empty() && before.completion_queues > 0, "{before:?}");
        let (begin, mut spent) = (tokio::time::Instant::now(), [Duration::ZERO; 6]);
        for turn in 0..connects {
            let (limit, started) = (Duration::from_secs(100), tokio::time::Instant::now());
            let done = tokio::time::timeout(limit, once(&rig, &tap, turn)).await;
            done.unwrap_or_else(|_| panic!("turn {turn} hangs"));
            let kind = (turn % 6) as usize;
            spent[kind] += started.elapsed();
        }
        let took = begin.elapsed();
        println!("{connects} connects and faults in {took:?}, by kind {spent:?}");
        assert_eq!(settled(Some(&before)).await, before);
    });
}

/// Our open files of devices that are no more.
fn files_of_the_gone() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").expect("procfs").flatten();
    let names = all.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.contains("uverbs") && name.ends_with("(deleted)")).count()
}

#[test]
#[ignore = "needs an RDMA device, and takes it away"]
fn f2_f8_a_removed_device_ends_its_links_and_is_let_go_of() {
    let at = format!("rdma://{}:0", setting("STELLATE_RDMA")).parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let rdma: Arc<dyn Transport> = Arc::new(Rdma::on(Arc::new(System::new())));
        let rig = Rig { dials: rdma.clone(), listens: rdma, at, net: None, fake: None };
        let mut pair = Pair::up(&rig).await;
        pair.near.send(message(1, &pattern(3000)));
        pair.until(|pair| pair.far.frames.len() == 1).await;
        let held = std::mem::take(&mut pair.far.frames);
        let begin = tokio::time::Instant::now();
        let removing = Command::new("bash").args(["-c", &setting("STELLATE_REMOVE")]).spawn();
        let mut removing = removing.expect("bash runs");
        let limit = Duration::from_secs(100);
        let told = pair.until(|pair| pair.far.closed.is_some());
        tokio::time::timeout(limit, told).await.expect("its link ends");
        println!("told after {:?}", begin.elapsed());
        assert_eq!(pair.far.closed, Some(LinkFault::DeviceGone));
        drop(pair.far.link.take());
        let gone = async {
            while removing.try_wait().expect("a child").is_none() || files_of_the_gone() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let stuck = tokio::time::timeout(limit, gone).await.is_err();
        println!("gone after {:?}", begin.elapsed());
        assert!(!stuck, "{removing:?}, {} files are open", files_of_the_gone());
        assert!(removing.wait().expect("a child").success());
        let sent = [message(1, &pattern(3000))];
        assert_eq!(held, sent, "what a user holds is memory like any other");
    });
}

/// What is in use once it stays so, or is as before: teardowns take their time.
async fn settled(before: Option<&InUse>) -> InUse {
    let mut last = InUse::now();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = InUse::now();
        if before.map_or(now == last, |before| now == *before) {
            return now;
        }
        last = now;
    }
    last
}
