//! What only TCP has: strangers on the port, torn bytes, descriptors that run out.

mod support;

use std::future::poll_fn;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use stellate_protocol::codec::{CodecError, HEADER_LEN, Outbound, WireLimits, encode};
use stellate_protocol::{Blame, Frame, Parcel};
use stellate_transport::tcp::ByteCut;
use stellate_transport::{
    Address, Batch, CloseHow, DialError, LinkFault, ListenError, Listener, Tcp, TcpOptions,
    Transport,
};
use support::{End, Pair, Rig, hello, message, pattern, seqs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(async { timeout(Duration::from_secs(60), test).await.expect("ends") });
}

fn at(text: &str) -> Address {
    text.parse().expect("an address")
}

fn listen(tcp: &Tcp) -> Box<dyn Listener> {
    tcp.listen(&at("tcp://127.0.0.1:0")).expect("listens")
}

async fn stranger(listener: &mut dyn Listener) -> (TcpStream, End) {
    let to = listener.local().socket().expect("a socket");
    let accept = poll_fn(|cx| listener.poll_accept(cx));
    let (stream, link) = futures::join!(TcpStream::connect(to), accept);
    (stream.expect("dials"), End::new(link.expect("accepts")))
}

async fn closed(end: &mut End) -> LinkFault {
    poll_fn(|cx| {
        end.drive(cx);
        match end.closed.clone() {
            Some(cause) => Poll::Ready(cause),
            None => Poll::Pending,
        }
    })
    .await
}

fn hello_bytes() -> Vec<u8> {
    bytes_of(&hello())
}

fn bytes_of(frame: &Frame<Parcel>) -> Vec<u8> {
    let mut out = Outbound::new();
    encode(frame, &mut out).expect("encodes");
    let mut bytes = vec![0; out.len()];
    bytes::Buf::copy_to_slice(&mut out, &mut bytes);
    bytes
}

/// What the link says of those first bytes.
async fn verdict(bytes: &[u8], hang_up: bool) -> LinkFault {
    let mut listener = listen(&Tcp::new());
    let (mut stream, mut far) = stranger(&mut *listener).await;
    stream.write_all(bytes).await.expect("writes");
    if hang_up {
        stream.shutdown().await.expect("hangs up");
    }
    let cause = closed(&mut far).await;
    assert_eq!(far.frames, [], "nothing of it got through");
    // The stranger is told, too.
    assert!(matches!(stream.read(&mut [0; 8]).await, Ok(0) | Err(_)));
    cause
}

#[test]
fn strangers_are_shown_out_with_the_reason() {
    run(async {
        let garbage = verdict(b"GET / HTTP/1.1\r\n\r\n", false).await;
        assert_eq!(garbage, LinkFault::Malformed(CodecError::NotStellate));
        assert_eq!(garbage.blame(), Blame::PeerIncompatible);

        let mut magic = hello_bytes();
        magic[16] ^= 1;
        let wrong = verdict(&magic, false).await;
        assert_eq!(wrong, LinkFault::Malformed(CodecError::NotStellate));

        let mut newer = hello_bytes();
        newer[22] = 9;
        let newer = verdict(&newer, false).await;
        assert_eq!(newer, LinkFault::Malformed(CodecError::Version { theirs: 9 }));

        let mut damaged = hello_bytes();
        damaged[HEADER_LEN + 3] ^= 1;
        let damaged = verdict(&damaged, false).await;
        assert!(matches!(damaged, LinkFault::Malformed(CodecError::BodyChecksum { .. })));
        assert_eq!(damaged.blame(), Blame::Transport);
    });
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
    run(async {
        let tcp = Tcp::with(TcpOptions {
            wire: WireLimits { hello_max: 64, ..WireLimits::default() },
            ..TcpOptions::default()
        });
        let mut listener = listen(&tcp);
        let (mut stream, mut far) = stranger(&mut *listener).await;
        // The header alone, and nothing of what it announces.
        let header = &hello_bytes()[..HEADER_LEN];
        stream.write_all(header).await.expect("writes");
        let cause = closed(&mut far).await;
        assert!(matches!(cause, LinkFault::Malformed(CodecError::TooLong { max: 64, .. })));
        assert_eq!(cause.blame(), Blame::PeerMisbehaved);
    });
}

#[test]
fn half_a_hello_is_a_truncated_link_and_none_is_an_orderly_end() {
    run(async {
        let whole = hello_bytes();
        for len in [1, HEADER_LEN - 1, HEADER_LEN, whole.len() - 1] {
            assert_eq!(verdict(&whole[..len], true).await, LinkFault::Truncated);
        }
        assert_eq!(verdict(&[], true).await, LinkFault::ClosedByPeer);
    });
}

#[test]
fn bytes_one_at_a_time_make_the_same_frames() {
    run(async {
        let mut listener = listen(&Tcp::new());
        let (mut stream, mut far) = stranger(&mut *listener).await;
        stream.set_nodelay(true).expect("an option");
        for byte in hello_bytes() {
            stream.write_all(&[byte]).await.expect("writes");
            poll_fn(|cx| {
                far.drive(cx);
                Poll::Ready(())
            })
            .await;
        }
        poll_fn(|cx| {
            far.drive(cx);
            if far.frames.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        assert_eq!(far.frames, [hello()]);
    });
}

#[test]
fn a_cut_in_the_middle_of_bytes_delivers_whole_frames_only() {
    run(async {
        let cut = ByteCut::disarmed();
        let cutting = Tcp::with(TcpOptions { cut: Some(cut.clone()), ..TcpOptions::default() });
        for bytes in [1, 40, 1053, 1054, 5000] {
            let rig = Rig {
                dials: Arc::new(cutting.clone()),
                listens: Arc::new(Tcp::new()),
                at: at("tcp://127.0.0.1:0"),
                net: None,
                fake: None,
            };
            let mut pair = Pair::up(&rig).await;
            cut.arm(bytes);
            for seq in 1..=9 {
                pair.near.send(message(seq, &pattern(1000)));
            }
            pair.until_closed().await;
            assert_eq!(pair.near.closed, Some(LinkFault::Injected));
            assert!(!cut.is_armed());
            let whole = bytes / 1053;
            let got = seqs(&pair.far.frames);
            assert!(got.len() as u64 <= whole, "{bytes} bytes: {got:?}");
            assert!(pair.near.failed > 0);
        }
    });
}

#[test]
fn bad_addresses_and_ports_in_use_are_named() {
    run(async {
        let tcp = Tcp::new();
        let listener = listen(&tcp);
        let taken = tcp.listen(&listener.local()).expect_err("taken");
        assert_eq!(taken, ListenError::PortInUse);
        let named = tcp.listen(&at("tcp://localhost:1")).expect_err("a name");
        assert!(matches!(named, ListenError::Address(_)));
        assert!(tcp.listen(&at("tcp://192.0.2.1:0")).is_err(), "not of this machine");
        let dial = tcp.dial(&at("tcp://localhost:1")).await.expect_err("a name");
        assert!(matches!(dial, DialError::Address(_)));
        assert_eq!(dial.blame(), Blame::Local);
        assert!(!dial.is_retryable());
        let closed = listener.local();
        drop(listener);
        let refused = tcp.dial(&closed).await.expect_err("nobody");
        assert_eq!(refused, DialError::Refused);
        assert_eq!(refused.blame(), Blame::Transport);
    });
}

#[test]
fn listening_without_a_runtime_is_an_error_not_a_panic() {
    let none = Tcp::new().listen(&at("tcp://127.0.0.1:0"));
    assert_eq!(none.expect_err("no runtime"), ListenError::NoRuntime);
}

#[test]
fn the_port_is_free_again_at_once_for_a_restarted_daemon() {
    run(async {
        let tcp = Tcp::new();
        let mut listener = listen(&tcp);
        let home = listener.local();
        let (stream, far) = stranger(&mut *listener).await;
        drop((far, listener));
        let again = tcp.listen(&home).expect("while the old connection lingers");
        assert_eq!(again.local(), home);
        drop(stream);
    });
}

async fn up() -> Pair {
    let tcp: Arc<dyn Transport> = Arc::new(Tcp::new());
    let at = at("tcp://[::1]:0");
    Pair::up(&Rig { dials: tcp.clone(), listens: tcp, at, net: None, fake: None }).await
}

/// Polls once.
fn once(end: &mut End, batch: &mut Batch) -> Poll<()> {
    batch.clear();
    end.link().poll(&mut Context::from_waker(Waker::noop()), batch)
}

/// What saves a driver half of its polls: whoever has reported all that there is says so with it.
#[test]
fn what_is_reported_last_says_that_nothing_more_comes() {
    run(async {
        let mut pair = up().await;
        let mut batch = Batch::default();
        for seq in 1..=100 {
            pair.near.submit(message(seq, b"one")).expect("room");
            assert!(once(&mut pair.near, &mut batch).is_ready() && batch.idle, "it is written");
            assert!(batch.done.take().is_some() && once(&mut pair.near, &mut batch).is_pending());
            batch.clear();
            poll_fn(|cx| pair.far.link().poll(cx, &mut batch)).await;
            assert!(batch.frames.len() == 1 && batch.idle, "{seq}: it is read");
            assert!(once(&mut pair.far, &mut batch).is_pending() && batch.is_empty());
        }
    });
}

/// What saves a sender half of what a write allocates: the memory of a batch serves the next one.
#[test]
fn the_memory_of_a_batch_that_was_written_is_lent_for_the_next() {
    const BUFFER: usize = 16 * 1024;
    fn place(batch: &Outbound) -> usize {
        let mut slices = [IoSlice::new(&[])];
        assert_eq!(batch.io_slices(&mut slices), 1);
        slices[0].as_ptr() as usize
    }
    run(async {
        let mut pair = up().await;
        let mut known = None;
        for seq in 1..=50 {
            let mut batch = pair.near.link().spare_bytes();
            assert!(batch.is_empty());
            batch.reserve(BUFFER);
            encode(&message(seq, &pattern(1000)), &mut batch).expect("fits");
            let at = place(&batch);
            assert!(at.abs_diff(*known.get_or_insert(at)) < BUFFER, "{seq}: other memory");
            pair.near.link().submit_bytes(batch).expect("room");
            // What waits to be written is not lent.
            let other = pair.near.link().spare_bytes();
            assert!(other.is_empty() && pair.near.link().room() < Tcp::new().limits().send_bytes);
            pair.near.submitted += 1;
            pair.until(|pair| seqs(&pair.far.frames).len() as u64 == seq).await;
            pair.until(|pair| pair.near.done == pair.near.submitted).await;
        }
    });
}

#[test]
fn a_drain_reaches_a_peer_that_still_talks() {
    run(async {
        let mut pair = up().await;
        pair.near.submit(message(1, b"farewell")).expect("room");
        pair.near.link().close(CloseHow::Drain);
        poll_fn(|cx| {
            pair.near.drive(cx);
            Poll::Ready(())
        })
        .await;
        // Had the socket gone by now, these bytes would be answered with a reset.
        for seq in 1..=20 {
            pair.far.send(message(seq, &pattern(8000)));
        }
        poll_fn(|cx| {
            pair.far.drive(cx);
            Poll::Ready(())
        })
        .await;
        pair.until(|pair| pair.far.closed.is_some()).await;
        assert_eq!(seqs(&pair.far.frames), [1]);
        assert_eq!(pair.far.closed, Some(LinkFault::ClosedByPeer));
        pair.until(|pair| pair.near.closed.is_some()).await;
        assert_eq!(pair.near.closed, Some(LinkFault::ClosedHere));
    });
}

#[test]
fn a_drained_link_listens_until_the_peer_has_hung_up_or_the_linger_is_over() {
    run(async {
        for patient in [true, false] {
            let tcp = Tcp::with(TcpOptions {
                linger: Duration::from_millis(if patient { 60_000 } else { 1 }),
                ..TcpOptions::default()
            });
            let mut listener = listen(&tcp);
            let (mut stream, mut far) = stranger(&mut *listener).await;
            far.link().close(CloseHow::Drain);
            poll_fn(|cx| {
                far.drive(cx);
                Poll::Ready(())
            })
            .await;
            assert_eq!(stream.read(&mut [0; 8]).await.expect("FIN"), 0);
            if patient {
                // A socket that is gone would answer the first with a reset, and fail the second.
                stream.write_all(b"last").await.expect("is taken");
                stream.write_all(b"words").await.expect("is taken");
                assert_eq!(far.closed, None);
                stream.shutdown().await.expect("hangs up");
            }
            assert_eq!(closed(&mut far).await, LinkFault::ClosedHere);
        }
    });
}

#[test]
fn a_link_moves_to_another_thread_with_the_bytes_it_read_ahead() {
    run(async {
        let tcp: Arc<dyn Transport> = Arc::new(Tcp::new());
        let rig = Rig {
            dials: tcp.clone(),
            listens: tcp,
            at: at("tcp://127.0.0.1:0"),
            net: None,
            fake: None,
        };
        let mut pair = Pair::up(&rig).await;
        // 600 small frames: one poll reports 256 of them, the rest is read ahead.
        for seq in 1..=600 {
            pair.near.send(message(seq, b"x"));
        }
        let mut batch = stellate_transport::Batch::default();
        poll_fn(|cx| {
            pair.near.drive(cx);
            let _ = pair.far.link().poll(cx, &mut batch);
            if batch.frames.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let got = batch.frames.len();
        assert!(got < 600, "the rest is still to come");
        let parked = pair.far.link.take().expect("attached").detach().expect("open");
        let near = &mut pair.near;
        let (done, wait) = tokio::sync::oneshot::channel();
        #[allow(clippy::disallowed_methods)] // The point of the test is another reactor.
        let thread = std::thread::spawn(move || {
            run(async move {
                let mut far = End::new(parked.attach().expect("a runtime"));
                poll_fn(|cx| {
                    far.drive(cx);
                    if got + far.frames.len() == 600 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                done.send(seqs(&far.frames)).expect("awaited");
            });
        });
        let drive = poll_fn(|cx| {
            near.drive(cx);
            Poll::<()>::Pending
        });
        let rest = tokio::select! { _ = drive => unreachable!(), rest = wait => rest };
        thread.join().expect("ended well");
        let mut all = seqs(&batch.frames);
        all.extend(rest.expect("sent"));
        assert_eq!(all, (1..=600).collect::<Vec<_>>());
    });
}

/// Sends a hundred rounds of small messages, of which a user keeps one in a hundred. The most that
/// was lent, and what was left when all was dropped.
async fn lent_to_a_keeper(user_held: usize) -> (usize, usize) {
    let tcp = Tcp::with(TcpOptions { user_held, ..TcpOptions::default() });
    let transport: Arc<dyn Transport> = Arc::new(tcp.clone());
    let (dials, listens) = (transport.clone(), transport);
    let mut pair =
        Pair::up(&Rig { dials, listens, at: at("tcp://127.0.0.1:0"), net: None, fake: None }).await;
    let mut kept = Vec::new();
    let mut most = 0;
    for round in 0..100u64 {
        for seq in 1..=1000 {
            pair.near.send(message(round * 1000 + seq, &seq.to_le_bytes()));
        }
        pair.until(|pair| pair.far.frames.len() == 1000).await;
        kept.extend(pair.far.frames.drain(..).step_by(100));
        most = most.max(tcp.lent());
    }
    assert_eq!(kept.len(), 1000);
    for (index, frame) in kept.iter().enumerate() {
        let (round, seq) = (index as u64 / 10, index as u64 % 10 * 100 + 1);
        assert_eq!(*frame, message(round * 1000 + seq, &seq.to_le_bytes()));
    }
    drop((kept, pair));
    (most, tcp.lent())
}

/// S7: users may keep what they like of what arrives: beyond `user_held` it costs what it is, not
/// the buffer that it came in. F8: all buffers come back.
#[test]
fn s7_what_users_keep_is_counted_and_then_copied() {
    const HELD: usize = 256 * 1024;
    run(async {
        let (most, left) = lent_to_a_keeper(HELD).await;
        assert!(most <= HELD + TcpOptions::default().read_max, "{most} lent");
        assert_eq!(left, 0, "F8");
        let (most, left) = lent_to_a_keeper(usize::MAX).await;
        assert!(most > 4 * HELD, "without a limit a hundredth keeps all: {most}");
        assert_eq!(left, 0, "F8");
    });
}

/// How often it was woken.
#[derive(Default)]
struct Woken(std::sync::atomic::AtomicU64);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

impl Woken {
    /// Whether it was since this was last asked.
    fn take(&self) -> bool {
        self.0.swap(0, std::sync::atomic::Ordering::Relaxed) > 0
    }
}

/// Messages at a time that a link which spins takes to learn of, and some more.
const OFTEN: u64 = 40;

/// How often a link asks for another turn after it has read a message and said that it knows of
/// nothing more: the most of the last few of [`OFTEN`] messages, each sent as soon as it rests.
async fn looks_of(spin: Duration) -> u64 {
    let mut listener = listen(&Tcp::with(TcpOptions { spin, ..TcpOptions::default() }));
    let (mut stream, mut far) = stranger(&mut *listener).await;
    let woken = Arc::new(Woken::default());
    let waker = woken.clone().into();
    let cx = &mut std::task::Context::from_waker(&waker);
    stream.write_all(&hello_bytes()).await.expect("writes");
    let mut most = 0;
    for seq in 1..=OFTEN {
        let frames = far.frames.len();
        while far.frames.len() == frames {
            far.drive(cx);
            tokio::task::yield_now().await;
        }
        woken.take();
        let mut looks = 0;
        // The reactor wakes for a look that was asked for in its very next turn.
        for _ in 0..100 {
            far.drive(cx);
            tokio::task::yield_now().await;
            match woken.take() {
                true => looks += 1,
                false => break,
            }
        }
        if seq > OFTEN - 5 {
            most = most.max(looks);
        }
        stream.write_all(&bytes_of(&message(seq, b"again"))).await.expect("writes");
    }
    // What comes when it is at rest wakes it.
    let frames = far.frames.len();
    while far.frames.len() == frames {
        while !woken.take() {
            tokio::task::yield_now().await;
        }
        far.drive(cx);
    }
    most
}

#[test]
fn a_link_whose_waits_are_short_looks_again_and_is_woken_all_the_same() {
    run(async {
        assert!(looks_of(Duration::from_secs(3600)).await >= 50, "it looks");
        assert_eq!(looks_of(Duration::from_nanos(1)).await, 0, "no wait is that short");
        assert_eq!(looks_of(Duration::ZERO).await, 0, "it sleeps");
    });
}
