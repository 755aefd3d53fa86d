//! The laws F1 to F8, run on every transport.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use stellate_protocol::codec::{Outbound, encode};
use stellate_protocol::frame::{Call, Message};
use stellate_protocol::{Frame, Parcel, Seq};
use stellate_transport::faults::Faults;
use stellate_transport::limits::CloseNotice;
use stellate_transport::local::{Local, LocalOptions};
use stellate_transport::rdma::fake::{FakeNet, Personality};
use stellate_transport::rdma::{PoolOptions, Rdma, RdmaOptions};
use stellate_transport::sim::{Profile, SimNet};
use stellate_transport::{CloseHow, FRAMES_PER_POLL, LinkFault, Tcp, TcpOptions, Token, Transport};
use tokio::sync::mpsc;

use support::{Pair, Rig, announce, chunks, close_both, lane, message, pattern, pull, seqs};

/// How a rig runs: TCP in real time, the others in virtual time.
fn run<F: Future<Output = ()>>(paused: bool, test: impl FnOnce() -> F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(paused);
    let runtime = builder.build().expect("a runtime");
    runtime.block_on(async {
        tokio::time::timeout(std::time::Duration::from_secs(120), test())
            .await
            .expect("nothing hangs");
    });
}

async fn f1_f3_frames_arrive_whole_and_in_order_and_each_is_done_once(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    let sent: Vec<u64> = (1..=2000).collect();
    for seq in &sent {
        pair.near.send(message(*seq, &pattern((*seq as usize * 7) % 3000)));
        pair.far.send(message(*seq, b"back"));
    }
    pair.until(|pair| pair.far.frames.len() == 2000 && pair.near.frames.len() == 2000).await;
    assert_eq!(seqs(&pair.far.frames), sent);
    assert_eq!(seqs(&pair.near.frames), sent);
    for frame in &pair.far.frames {
        let Frame::Message(message) = frame else {
            panic!("only messages were sent");
        };
        let want = pattern((message.seq.0 as usize * 7) % 3000);
        assert_eq!(message.payload.data(), want);
        assert_eq!(message.payload.front(), b"front");
    }
    pair.until(|pair| pair.near.done == pair.near.submitted).await;
    assert_eq!(pair.near.failed, 0);
}

async fn f1_every_submit_is_done_also_after_an_abort(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    let mut submitted = 0;
    while pair.near.credit.is_none_or(|credit| credit > 2) {
        match pair.near.submit(message(submitted + 1, &pattern(4000))) {
            Ok(_) => submitted += 1,
            Err(_) => break,
        }
    }
    assert!(submitted > 0);
    pair.near.link().close(CloseHow::Abort);
    pair.until(|pair| pair.near.closed.is_some()).await;
    assert_eq!(pair.near.closed, Some(LinkFault::ClosedHere));
    assert_eq!(pair.near.done, pair.near.submitted);
    // The End asserts F4 on every further poll.
    tokio::task::yield_now().await;
    pair.until(|_| true).await;
    assert!(pair.near.submit(message(1, b"")).is_err());
    assert_eq!(pair.near.link().room(), 0);
}

async fn f1_a_drain_delivers_what_was_accepted(rig: Rig) {
    let notice = rig.listens.limits().close_notice;
    let mut pair = Pair::up(&rig).await;
    let count = rig.listens.limits().recv_slots.map_or(50, |slots| u64::from(slots) / 2 - 2);
    for seq in 1..=count {
        pair.near.submit(message(seq, &pattern(2000))).expect("room");
    }
    pair.near.link().close(CloseHow::Drain);
    let refused = pair.near.submit(message(99, b"late")).expect_err("closing");
    assert!(refused.closed);
    pair.until(|pair| pair.far.frames.len() as u64 == count).await;
    assert_eq!(seqs(&pair.far.frames), (1..=count).collect::<Vec<_>>());
    if notice != CloseNotice::Never {
        pair.until(|pair| pair.far.closed.is_some()).await;
        assert_eq!(pair.far.closed, Some(LinkFault::ClosedByPeer));
        pair.far.link().close(CloseHow::Abort);
        pair.far.link.take();
    }
    let far = pair.far.link.take();
    drop(far);
    std::future::poll_fn(|cx| {
        pair.near.drive(cx);
        if pair.near.closed.is_some() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    assert_eq!(pair.near.closed, Some(LinkFault::ClosedHere));
    assert_eq!(pair.near.failed, 0);
}

async fn f5_a_refused_submit_leaves_no_trace_and_room_comes_back(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    if pair.near.credit.is_some_and(|credit| credit < 64) {
        // Credit runs out before room does: nothing to refuse.
        return;
    }
    let mut next = 1;
    let full = loop {
        match pair.near.link().submit(message(next, &pattern(8000))) {
            Ok(token) => {
                pair.near.submitted += 1;
                if let Some(credit) = &mut pair.near.credit {
                    *credit -= 1;
                }
                assert_eq!(token, Token(pair.near.submitted));
                next += 1;
            }
            Err(full) => break full,
        }
    };
    assert!(!full.closed);
    assert_eq!(*full.frame, message(next, &pattern(8000)), "the frame comes back");
    assert_eq!(pair.near.link().room(), 0);
    pair.until(|pair| pair.near.rooms > 0).await;
    // Who stops at zero room without being refused is told as well.
    pair.near.rooms = 0;
    while pair.near.link().room() > 0 && pair.near.credit.is_none_or(|credit| credit > 2) {
        pair.near.submit(message(next, &pattern(8000))).expect("room");
        next += 1;
    }
    if pair.near.link().room() == 0 {
        pair.until(|pair| pair.near.rooms > 0).await;
    }
    pair.near.send(message(next, b"last"));
    pair.until(|pair| seqs(&pair.far.frames).len() as u64 == next).await;
    assert_eq!(seqs(&pair.far.frames), (1..=next).collect::<Vec<_>>());
}

async fn f1_f5_frames_as_bytes_are_one_submit(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    let encoded = |seqs: std::ops::RangeInclusive<u64>| {
        let mut bytes = Outbound::new();
        for seq in seqs {
            // Also data that is kept as a handle, not copied.
            encode(&message(seq, &pattern(seq as usize * 997 % 8000)), &mut bytes).expect("fits");
        }
        bytes
    };
    if !pair.near.link().takes_bytes() {
        let refused = pair.near.link().submit_bytes(encoded(1..=2)).expect_err("takes none");
        assert_eq!(refused.frames.len(), encoded(1..=2).len(), "F5");
        return;
    }
    // Alone, and behind what waits already.
    let before = pair.near.submitted;
    for seqs in [1..=30, 31..=60] {
        let token = pair.near.link().submit_bytes(encoded(seqs)).expect("room");
        pair.near.submitted += 1;
        assert_eq!(token, Token(pair.near.submitted), "tokens are consecutive");
    }
    pair.near.send(message(61, b"a frame behind bytes"));
    pair.until(|pair| pair.far.frames.len() == 61).await;
    let whole = |seq: u64| message(seq, &pattern(seq as usize * 997 % 8000));
    assert!(pair.far.frames[..60].iter().zip(1..).all(|(frame, seq)| *frame == whole(seq)), "F3");
    pair.until(|pair| pair.near.done == pair.near.submitted).await;
    assert_eq!((pair.near.done - before, pair.near.failed), (3, 0), "F1");
    // No bytes are a submit too, and nothing is behind them.
    pair.near.link().submit_bytes(Outbound::new()).expect("room");
    pair.near.submitted += 1;
    pair.until(|pair| pair.near.done == pair.near.submitted).await;
    while pair.near.link().room() > 0 {
        pair.near.link().submit_bytes(encoded(1..=200)).expect("room");
        pair.near.submitted += 1;
    }
    let refused = pair.near.link().submit_bytes(encoded(1..=3)).expect_err("no room");
    assert!(!refused.closed && refused.frames.len() == encoded(1..=3).len(), "F5");
    pair.near.link().close(CloseHow::Abort);
    pair.until(|pair| pair.near.closed.is_some()).await;
    assert_eq!(pair.near.done, pair.near.submitted, "F1");
    assert!(pair.near.link().submit_bytes(encoded(1..=1)).expect_err("closed").closed);
}

/// Much has arrived before the far end looks: one poll takes a bounded part of it and asks to be
/// called again, so that a link with much to read cannot keep its thread.
async fn f7_one_poll_does_a_bounded_amount_of_work(rig: Rig) {
    const COUNT: u64 = 4 * FRAMES_PER_POLL as u64;
    let mut pair = Pair::up(&rig).await;
    let credit = pair.near.credit.map_or(COUNT, |credit| u64::from(credit) - 2);
    let count = credit.min(COUNT);
    for seq in 1..=count {
        pair.near.send(message(seq, b"small"));
    }
    // The near end alone, so that all it sent waits in front of the far one; unless credit has to
    // come back first.
    let alone = std::future::poll_fn(|cx| {
        pair.near.drive(cx);
        let over = pair.near.waiting.is_empty() && pair.near.done == pair.near.submitted;
        if over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    let all_there = tokio::time::timeout(std::time::Duration::from_secs(10), alone).await.is_ok();
    let mut most = 0;
    pair.until(|pair| {
        most = most.max(pair.far.most_at_once);
        pair.far.frames.len() as u64 == count
    })
    .await;
    assert!(most <= FRAMES_PER_POLL, "F7: {most} frames in one poll");
    if all_there && count == COUNT {
        assert_eq!(most, FRAMES_PER_POLL, "the limit is what ended a poll");
    }
    assert_eq!(seqs(&pair.far.frames), (1..=count).collect::<Vec<_>>());
}

async fn pulled_data_arrives_whole_in_its_last_piece(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    let data = pattern(300_000);
    let piece = rig.listens.limits().chunk_bytes as usize;
    pair.near.send(announce(1, data.len() as u32));
    pair.until(|pair| pair.far.frames.len() == 1).await;
    pair.far.link().expect(lane(), Seq(1), data.len() as u32);
    pair.far.send(pull(1));
    pair.until(|pair| pair.near.frames.len() == 1).await;
    assert_eq!(pair.near.frames[0], pull(1));
    // A control message goes between the pieces.
    for chunk in chunks(1, &data, piece) {
        pair.near.send(chunk);
        pair.near.send(message(2, b"between"));
    }
    let pieces = data.len().div_ceil(piece);
    pair.until(|pair| pair.far.frames.len() == 1 + 2 * pieces).await;
    let mut parts = Vec::new();
    for frame in &pair.far.frames {
        if let Frame::Chunk(chunk) = frame {
            parts.push(chunk.part.clone());
        }
    }
    let last = parts.pop().flatten().expect("the last piece has the data");
    assert!(parts.iter().all(Option::is_none), "only the last has it");
    assert_eq!(last.data(), data);
    assert!(last.front().is_empty());
}

async fn f3_a_lost_end_closes_the_other(rig: Rig) {
    let notice = rig.listens.limits().close_notice;
    let mut pair = Pair::up(&rig).await;
    drop(pair.near.link.take());
    if notice != CloseNotice::Always {
        return;
    }
    std::future::poll_fn(|cx| {
        pair.far.drive(cx);
        if pair.far.closed.is_some() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

/// What was under way when the link closed, and what its peer says after that.
async fn f4_nothing_arrives_after_closed(rig: Rig) {
    let is_virtual = rig.net.is_some() || rig.fake.is_some();
    let mut pair = Pair::up(&rig).await;
    for seq in 1..=1000 {
        pair.far.send(message(seq, &pattern(2000)));
    }
    pair.until(|pair| !pair.near.frames.is_empty()).await;
    pair.near.link().close(CloseHow::Abort);
    pair.until(|pair| pair.near.closed.is_some()).await;
    let seen = pair.near.frames.len();
    assert!(seen < 1000, "some is under way");
    // The End asserts it on every poll.
    for _ in 0..200 {
        pair.until(|_| true).await;
        match is_virtual {
            true => tokio::time::sleep(std::time::Duration::from_millis(1)).await,
            false => tokio::task::yield_now().await,
        }
    }
    assert_eq!(pair.near.frames.len(), seen);
}

async fn a_detached_link_goes_on_with_what_it_had(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    pair.near.submit(message(1, b"before")).expect("room");
    pair.near.detach_and_attach().await;
    pair.near.submit(message(2, b"after")).expect("room");
    pair.until(|pair| pair.far.frames.len() == 2).await;
    pair.far.detach_and_attach().await;
    pair.far.send(message(1, b"answer"));
    pair.near.send(message(3, b"more"));
    pair.until(|pair| pair.far.frames.len() == 3 && pair.near.frames.len() == 1).await;
    assert_eq!(seqs(&pair.far.frames), [1, 2, 3]);
}

async fn f8_a_closed_link_gives_its_buffers_back(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    let data = Bytes::from(pattern(8000));
    let payload = Parcel::new(7, 1, 1, Bytes::from_static(b"front"), data.clone());
    let call = Call::OneWay;
    let message = Message { lane: lane(), seq: Seq(1), call, payload };
    pair.near.submit(Frame::Message(message)).expect("room");
    close_both(&mut pair);
    pair.until_closed().await;
    assert!(data.is_unique(), "the transport let go of the data");
}

/// Memory that tells when nobody has it any more: by the end of its channel.
struct Told(Vec<u8>, #[allow(dead_code, reason = "is dropped")] mpsc::Sender<()>);

impl AsRef<[u8]> for Told {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// With no word of goodbye: both links, one as full of pulled data as it gets, and the transports below.
async fn f8_a_dropped_transport_gives_every_buffer_back(rig: Rig) {
    let mut pair = Pair::up(&rig).await;
    let (held, mut all_home) = mpsc::channel(1);
    let data = Bytes::from_owner(Told(pattern(8 << 20), held));
    pair.near.send(announce(1, data.len() as u32));
    pair.until(|pair| pair.far.frames.len() == 1).await;
    pair.far.send(pull(1));
    pair.until(|pair| pair.near.frames.len() == 1).await;
    let piece = rig.listens.limits().chunk_bytes as usize;
    let part = Parcel::new(7, 1, 1, Bytes::from_static(b"front"), data.clone());
    let mut submitted = 0;
    for chunk in support::chunks_of(1, part, piece) {
        if pair.near.credit.is_some_and(|credit| credit <= 2) || pair.near.submit(chunk).is_err() {
            break;
        }
        submitted += 1;
    }
    assert!(submitted > 0);
    // Some of it is under way, some is not; a stream has the memory itself, others have copies of it.
    let waker = futures::task::noop_waker();
    pair.near.drive(&mut std::task::Context::from_waker(&waker));
    drop((pair, rig, data));
    let all_home = tokio::time::timeout(std::time::Duration::from_secs(10), all_home.recv());
    assert_eq!(all_home.await, Ok(None), "every buffer came back");
}

async fn a_dial_that_nobody_answers_is_refused(rig: Rig) {
    let listener = rig.listens.listen(&rig.at).expect("listens");
    let at = listener.local();
    assert!(rig.listens.listen(&at).is_err(), "the address is taken");
    drop(listener);
    let refused = rig.dials.dial(&at).await.expect_err("nobody listens");
    assert_eq!(refused, stellate_transport::DialError::Refused);
    let other = "other://x".parse().expect("an address");
    assert!(matches!(rig.dials.dial(&other).await, Err(stellate_transport::DialError::Address(_))));
}

fn one(transport: impl Transport + 'static, at: &str) -> Rig {
    let transport: Arc<dyn Transport> = Arc::new(transport);
    Rig {
        dials: transport.clone(),
        listens: transport,
        at: at.parse().expect("an address"),
        net: None,
        fake: None,
    }
}

/// The same behind an empty plan of faults.
fn wrapped(mut rig: Rig) -> Rig {
    let faults = Faults::new();
    rig.dials = faults.wrap(rig.dials);
    rig.listens = faults.wrap(rig.listens);
    rig
}

fn sim(profile: Profile) -> Rig {
    let net = SimNet::with_profile(7, profile);
    Rig {
        dials: Arc::new(net.transport("a")),
        listens: Arc::new(net.transport("b")),
        at: "sim://b".parse().expect("an address"),
        net: Some(net),
        fake: None,
    }
}

/// Two hosts with a fake NIC each.
fn rdma(personality: Personality, options: RdmaOptions) -> Rig {
    let fake = FakeNet::new(7);
    let host = |ip: [u8; 4]| fake.host(ip.into(), personality);
    Rig {
        dials: Arc::new(Rdma::with(host([10, 0, 0, 1]), options.clone())),
        listens: Arc::new(Rdma::with(host([10, 0, 0, 2]), options)),
        at: "rdma://10.0.0.2:0".parse().expect("an address"),
        net: None,
        fake: Some(fake),
    }
}

/// The least of everything: a ring of eight, few sends, one READ.
fn least() -> RdmaOptions {
    let defaults = RdmaOptions::default();
    let pool = PoolOptions { slot: 1024, arena: 128 * 1024, ..defaults.pool };
    RdmaOptions { ring: 8, sends: 4, reads: 1, inline_max: 0, pool, ..defaults }
}

fn local(codec: bool) -> Rig {
    let options = LocalOptions { codec, ..LocalOptions::default() };
    one(Local::with(options), "local://here")
}

macro_rules! contract {
    ($($(#[$only:meta])* $rig:ident: $paused:expr, $make:expr;)*) => { $(
        mod $rig {
            use super::*;
            contract!(@tests [$(#[$only])*] $paused, $make;
                f1_f3_frames_arrive_whole_and_in_order_and_each_is_done_once
                f1_every_submit_is_done_also_after_an_abort
                f1_a_drain_delivers_what_was_accepted
                f5_a_refused_submit_leaves_no_trace_and_room_comes_back
                f1_f5_frames_as_bytes_are_one_submit
                f7_one_poll_does_a_bounded_amount_of_work
                pulled_data_arrives_whole_in_its_last_piece
                f3_a_lost_end_closes_the_other
                f4_nothing_arrives_after_closed
                a_detached_link_goes_on_with_what_it_had
                f8_a_closed_link_gives_its_buffers_back
                f8_a_dropped_transport_gives_every_buffer_back
                a_dial_that_nobody_answers_is_refused
            );
        }
    )* };
    (@tests $only:tt $paused:expr, $make:expr; $($test:ident)*) => { $(
        contract!(@one $only $test, $paused, $make);
    )* };
    (@one [$(#[$only:meta])*] $test:ident, $paused:expr, $make:expr) => {
        #[test]
        $(#[$only])*
        fn $test() {
            run($paused, || async {
                let rig = $make;
                let (net, fake) = (rig.net.clone(), rig.fake.clone());
                super::$test(rig).await;
                if let Some(fake) = fake {
                    assert_eq!(fake.violations(), [], "F6");
                }
                if let Some(net) = net {
                    assert_eq!(net.violations(), [], "F6");
                }
            });
        }
    };
}

/// Links that do not wait to be woken.
fn spinning() -> Tcp {
    Tcp::with(TcpOptions { spin: std::time::Duration::from_millis(1), ..TcpOptions::default() })
}

contract! {
    tcp_v4: false, one(Tcp::new(), "tcp://127.0.0.1:0");
    tcp_v6: false, one(Tcp::new(), "tcp://[::1]:0");
    tcp_spinning: false, one(spinning(), "tcp://127.0.0.1:0");
    local_by_value: true, local(false);
    local_by_codec: true, local(true);
    wrapped_tcp: false, wrapped(one(Tcp::new(), "tcp://127.0.0.1:0"));
    wrapped_iwarp: true, wrapped(sim(Profile::IWARP));
    rdma_roce: true, rdma(Personality::ROCE, RdmaOptions::default());
    rdma_iwarp: true, rdma(Personality::IWARP, RdmaOptions::default());
    rdma_least: true, rdma(Personality::IWARP, least());
    wrapped_rdma: true, wrapped(rdma(Personality::ROCE, RdmaOptions::default()));
    sim_stream: true, sim(Profile::STREAM);
    sim_rsockets: true, sim(Profile::RSOCKETS);
    sim_verbs: true, sim(Profile::VERBS);
    sim_iwarp: true, sim(Profile::IWARP);
    sim_psm: true, sim(Profile::PSM);
    sim_ugni: true, sim(Profile::UGNI);
    sim_portals4: true, sim(Profile::PORTALS4);
}

/// Where a device of this machine is: `tests/rdma-guest.sh` says.
#[cfg(any(feature = "rdma", feature = "rsockets"))]
fn on_device(scheme: &str) -> String {
    let ip = std::env::var("STELLATE_RDMA").expect("STELLATE_RDMA, an address of a device");
    format!("{scheme}://{ip}:0")
}

#[cfg(feature = "rdma")]
fn system(options: RdmaOptions) -> Rig {
    let verbs = Arc::new(stellate_transport::rdma::sys::System::new());
    one(Rdma::with(verbs, options), &on_device("rdma"))
}

#[cfg(feature = "rdma")]
contract! {
    #[ignore = "needs an RDMA device"]
    rdma: false, system(RdmaOptions::default());
    #[ignore = "needs an RDMA device"]
    rdma_least_system: false, system(least());
}

#[cfg(feature = "rsockets")]
contract! {
    #[ignore = "needs an RDMA device"]
    rsockets: false, one(stellate_transport::RSockets::new(), &on_device("rsocket"));
}
