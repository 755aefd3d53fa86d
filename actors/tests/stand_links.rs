//! A session moves its own links: whatever a transport does on its stack stays the link's affair,
//! and what handlers and verbs do meanwhile is not missed.

mod support;

use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use stellate_actors::handle::SessionHandle;
use stellate_actors::shared::ReaddressError;
use stellate_actors::supervise::{Tree, What};
use stellate_protocol::codec::Outbound;
use stellate_protocol::event::{CallResult, EndCause};
use stellate_protocol::policy::Policy;
use stellate_protocol::session::Phase;
use stellate_protocol::{Class, EntityName, Frame, Lane, Parcel, Seq};
use stellate_transport::{
    Address, Batch, CloseHow, DialError, Full, FullBytes, Link, LinkFault, LinkLimits, ListenError,
    Listener, Parked, Tcp, Token, Transport,
};
use support::{TestNode, number_of, parcel, quick, until, within};

const A: EntityName = EntityName::osd(1);
const B: EntityName = EntityName::osd(2);

/// Longer than any test waits: what comes about only then has not come about.
const NEVER: Duration = Duration::from_secs(3600);

/// What the first one's links do, and what was done to them.
#[derive(Default)]
struct Broken {
    /// Which calls panic, or worse.
    calls: AtomicU8,
    /// Most bytes that one submit took beyond the room.
    over: AtomicUsize,
    /// Whose phase to read when messages go, and what it was.
    watched: OnceLock<SessionHandle>,
    phases: Mutex<Vec<Option<Phase>>>,
}

const NONE: u8 = 0;
const SUBMIT: u8 = 1;
const POLL: u8 = 2;
/// They do not panic: they say that there is always more.
const FLOOD: u8 = 3;

/// Two peers that never miss each other; the first one's links panic in the calls that are set.
async fn pair() -> (TestNode, TestNode, Arc<Broken>) {
    let broken = Arc::<Broken>::default();
    let patient = |name, instance| {
        let mut config = quick(name, instance, Policy::lossless_peer());
        config.limits.drain_max = NEVER;
        config.limits.heartbeat_deadline = NEVER;
        config
    };
    let mut config = patient(A, 1);
    config.transports = vec![Arc::new(Fragile { inner: Tcp::new(), broken: broken.clone() })];
    (TestNode::start(config).await, TestNode::start(patient(B, 2)).await, broken)
}

/// The session goes on over another link, and the tree knows whose panic it was.
#[actix_rt::test]
async fn v1_a_panic_of_the_transport_is_a_panic_of_its_link() {
    for call in [SUBMIT, POLL] {
        let (mut a, mut b, broken) = pair().await;
        let there = a.dial(&b);
        a.connected().await;
        b.connected().await;
        let link = a.node.tree().members("links")[0].clone();
        broken.calls.store(call, Ordering::Relaxed);
        there.try_send(Class::Normal, parcel(b"through", "")).expect("room");
        let panicked =
            |what: &What| matches!(what, What::Panicked { message } if &**message == "fragile");
        until("the panic", || a.node.tree().history_of(&link).iter().any(panicked)).await;
        broken.calls.store(NONE, Ordering::Relaxed);
        assert_eq!(b.next_parcel().await.front()[..], *b"through");
        assert_eq!(a.ends_now(), []);
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// V1: nothing but the link's actor knows that it failed: the session does not wait for a deadline.
#[actix_rt::test]
async fn v1_a_link_whose_own_actor_fails_is_lost_at_once() {
    for verb in [Tree::kill, Tree::panic] {
        let (mut a, mut b, _) = pair().await;
        let there = a.dial(&b);
        a.connected().await;
        b.connected().await;
        let link = a.node.tree().members("links")[0].clone();
        verb(a.node.tree(), &link).expect("there");
        until("the loss", || there.shared().snapshot().counters.links_lost == 1).await;
        there.try_send(Class::Normal, parcel(b"through", "")).expect("room");
        assert_eq!(b.next_parcel().await.front()[..], *b"through");
        a.shutdown().await;
        b.shutdown().await;
    }
}

/// S9, F7: a link that always has something to do does not hold up the timers of its session.
#[actix_rt::test]
async fn s9_a_flood_does_not_hold_up_a_timeout() {
    let (mut a, mut b, broken) = pair().await;
    let there = a.dial(&b);
    a.connected().await;
    let request = parcel(b"asked", "");
    let reply = there.try_request(Class::Normal, request, Some(50_000_000)).expect("room");
    let (asked, _) = b.next_arrived().await;
    broken.calls.store(FLOOD, Ordering::Relaxed);
    assert_eq!(within("the timeout", reply).await, CallResult::Timeout);
    broken.calls.store(NONE, Ordering::Relaxed);
    drop(asked);
    a.shutdown().await;
    b.shutdown().await;
}

/// S7: however much waits, a link gets what it has room for, and what is urgent can still pass the rest.
#[actix_rt::test]
async fn s7_a_batch_ends_where_the_room_of_its_link_does() {
    const COUNT: u64 = 200;
    const LEN: usize = 10_000;
    let (mut a, mut b, broken) = pair().await;
    let there = a.dial(&b);
    a.connected().await;
    for number in 0..COUNT {
        let message = parcel(&number.to_le_bytes(), vec![7; LEN]);
        there.try_send(Class::Normal, message).expect("room in the outbox");
    }
    for number in 0..COUNT {
        assert_eq!(number_of(&b.next_parcel().await), number);
    }
    let over = broken.over.load(Ordering::Relaxed);
    assert!(over < LEN + 1_000, "{over} bytes: more than the one message that may overshoot");
    a.shutdown().await;
    b.shutdown().await;
}

/// Whoever hears of a session, here or at the peer, may ask about it at once: it is not told what was.
#[actix_rt::test]
async fn a_session_looks_up_before_its_first_message_leaves() {
    let (a, mut b, broken) = pair().await;
    let there = a.dial(&b);
    broken.watched.set(there.clone()).expect("once");
    there.try_send(Class::Normal, parcel(b"first", "")).expect("room");
    assert_eq!(b.next_parcel().await.front()[..], *b"first");
    let phases = std::mem::take(&mut *broken.phases.lock().expect("not poisoned"));
    assert!(!phases.is_empty(), "the message went another way");
    assert!(phases.iter().all(|phase| *phase == Some(Phase::Up)), "{phases:?}");
    a.shutdown().await;
    b.shutdown().await;
}

/// S4: not even when the last word cannot be said.
#[actix_rt::test]
async fn s4_a_panicking_transport_does_not_swallow_the_end_of_a_session_that_panicked() {
    let (mut a, b, broken) = pair().await;
    let there = a.dial(&b);
    a.connected().await;
    broken.calls.store(SUBMIT, Ordering::Relaxed);
    let session = a.node.tree().members("sessions")[0].clone();
    a.node.tree().panic(&session).expect("there");
    assert_eq!(a.next_end().await.cause, EndCause::InternalFault);
    within("the end", there.ended()).await;
    assert!(a.node.sessions().is_empty());
    let links = || a.node.tree().members("links").is_empty();
    until("its link to go", links).await;
    a.shutdown().await;
    b.shutdown().await;
}

/// S4: a peer that closed hears nobody; the end here waits for handlers to get what came, not for
/// them to be done with it.
#[actix_rt::test]
async fn s4_a_message_in_hand_does_not_hold_up_the_end() {
    let (mut a, mut b, _) = pair().await;
    let there = a.dial(&b);
    a.connected().await;
    b.connected().await;
    there.try_send(Class::Normal, parcel(b"kept", "")).expect("room");
    let (arrived, _) = b.next_arrived().await;
    within("the ack", there.received(Class::Normal, 1)).await.expect("received");
    there.close();
    within("the end", there.ended()).await;
    assert_eq!(b.next_end().await.cause, EndCause::ClosedByPeer);
    // And so it does not hold up the next session (S6).
    let again = a.dial(&b);
    again.try_send(Class::Normal, parcel(&7_u64.to_le_bytes(), "")).expect("room");
    assert_eq!(number_of(&b.next_parcel().await), 7);
    drop(arrived);
    a.shutdown().await;
    b.shutdown().await;
}

/// The same for what is opened when the peer's last word is known already.
#[actix_rt::test]
async fn s4_an_opening_after_the_last_word_lets_the_end_out() {
    let (mut a, mut b, _) = pair().await;
    let there = a.dial(&b);
    a.connected().await;
    let back = b.connected().await;
    there.try_send(Class::Normal, parcel(b"kept", "")).expect("room");
    within("the ack", there.received(Class::Normal, 1)).await.expect("received");
    there.close();
    within("the end", there.ended()).await;
    let finishing = || back.shared().snapshot().phase == Some(Phase::Finishing);
    until("the last word", finishing).await;
    // It goes nowhere any more.
    let moved = back.readdress(a.node.local_addresses());
    assert_eq!(moved, Err(ReaddressError::Ended(None)));
    let (arrived, _) = b.next_arrived().await;
    assert_eq!(b.next_end().await.cause, EndCause::ClosedByPeer);
    drop(arrived);
    a.shutdown().await;
    b.shutdown().await;
}

/// S4: a stop overrules a pause, for the link as for its actor.
#[actix_rt::test]
async fn s4_a_paused_link_still_says_its_last_word_at_shutdown() {
    let (mut a, mut b, _) = pair().await;
    a.dial(&b);
    a.connected().await;
    b.connected().await;
    let link = a.node.tree().members("links")[0].clone();
    a.node.tree().pause(&link).expect("there");
    until("the pause", || a.node.tree().is_paused(&link)).await;
    a.shutdown().await;
    assert_eq!(b.next_end().await.cause, EndCause::ClosedByPeer);
    b.shutdown().await;
}

struct Fragile {
    inner: Tcp,
    broken: Arc<Broken>,
}

struct FragileLink {
    inner: Box<dyn Link>,
    broken: Arc<Broken>,
}

impl FragileLink {
    fn trip(&self, call: u8) {
        assert!(self.broken.calls.load(Ordering::Relaxed) != call, "fragile");
    }
}

impl Transport for Fragile {
    fn scheme(&self) -> &'static str {
        self.inner.scheme()
    }

    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn dial(&self, to: &Address) -> BoxFuture<'static, Result<Box<dyn Link>, DialError>> {
        let broken = self.broken.clone();
        let dial = self.inner.dial(to);
        async move {
            let inner = dial.await?;
            Ok(Box::new(FragileLink { inner, broken }) as Box<dyn Link>)
        }
        .boxed()
    }

    fn listen(&self, at: &Address) -> Result<Box<dyn Listener>, ListenError> {
        self.inner.listen(at)
    }
}

impl Link for FragileLink {
    fn limits(&self) -> &LinkLimits {
        self.inner.limits()
    }

    fn peer(&self) -> Address {
        self.inner.peer()
    }

    fn submit(&mut self, frame: Frame<Parcel>) -> Result<Token, Full> {
        self.trip(SUBMIT);
        self.inner.submit(frame)
    }

    fn takes_bytes(&self) -> bool {
        true
    }

    fn submit_bytes(&mut self, frames: Outbound) -> Result<Token, FullBytes> {
        self.trip(SUBMIT);
        let over = frames.len().saturating_sub(self.inner.room());
        self.broken.over.fetch_max(over, Ordering::Relaxed);
        if let Some(session) = self.broken.watched.get() {
            let phase = session.shared().snapshot().phase;
            self.broken.phases.lock().expect("not poisoned").push(phase);
        }
        self.inner.submit_bytes(frames)
    }

    fn expect(&mut self, lane: Lane, seq: Seq, data_len: u32) {
        self.inner.expect(lane, seq, data_len);
    }

    fn room(&self) -> usize {
        self.inner.room()
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut Batch) -> Poll<()> {
        self.trip(POLL);
        let polled = self.inner.poll(cx, out);
        if self.broken.calls.load(Ordering::Relaxed) != FLOOD {
            return polled;
        }
        out.idle = false;
        Poll::Ready(())
    }

    fn close(&mut self, how: CloseHow) {
        self.inner.close(how);
    }

    fn detach(self: Box<Self>) -> Result<Box<dyn Parked>, LinkFault> {
        self.inner.detach()
    }
}
