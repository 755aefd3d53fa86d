//! S6 as one actor sees it: the event of a session's end comes before all of the session after it,
//! on however many arbiters the two live.

mod support;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex};
use std::task::Context;
use std::time::Duration;

use stellate_actors::handle::SessionHandle;
use stellate_actors::inbox::{Arrived, Inbox, Item, Notice};
use stellate_actors::node::Node;
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::{End, EndCause, Event};
use stellate_protocol::limits::Limits;
use stellate_protocol::policy::Policy;
use stellate_protocol::{Class, EntityName, Frame, Parcel};
use support::raw::{Raw, hello, message, who, wire};
use support::{KIND, TestNode, number_of, parcel, quick, scale, within};

const ME: EntityName = EntityName::osd(1);
const PEER: EntityName = EntityName::osd(2);

/// What the actor saw, by session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Connected(SessionKey),
    Message(SessionKey, u64),
    Conflict(SessionKey),
    Ended(SessionKey, EndCause),
}

impl Seen {
    fn key(self) -> SessionKey {
        match self {
            Self::Connected(key) | Self::Conflict(key) => key,
            Self::Message(key, _) | Self::Ended(key, _) => key,
        }
    }
}

/// A node with several arbiters, and one actor that gets messages and events alike.
struct Watcher {
    node: Node,
    inbox: Arc<Inbox>,
    batch: VecDeque<Item>,
    seen: Vec<Seen>,
    /// Messages that its handler was not called for yet.
    unopened: Vec<Arrived>,
    /// It takes messages, and does not open them.
    lazy: bool,
    /// How often a session was said to have another link.
    resumed: usize,
    /// The last end that was told.
    end: Option<Box<End<Parcel>>>,
}

impl Watcher {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut config = quick(ME, 1, Policy::lossless_peer());
        config.arbiters = 3;
        change(&mut config.limits);
        let node = Node::start(config).await.expect("starts");
        let inbox = Inbox::new(1024);
        node.router().register(&inbox, &[KIND], true, false).expect("free");
        node.ready();
        Self {
            node,
            inbox,
            batch: VecDeque::new(),
            seen: Vec::new(),
            unopened: Vec::new(),
            lazy: false,
            resumed: 0,
            end: None,
        }
    }

    fn at(&self) -> String {
        let address = self.node.local_addresses()[0].to_string();
        address.trim_start_matches("tcp://").to_owned()
    }

    async fn next(&mut self) -> Seen {
        loop {
            while self.batch.is_empty() {
                let take = poll_fn(|cx| self.inbox.poll_take(cx, &mut self.batch, 64));
                within("something to see", take).await;
            }
            if let Some(item) = self.batch.pop_front()
                && let Some(seen) = self.see(item)
            {
                self.seen.push(seen);
                return seen;
            }
        }
    }

    fn see(&mut self, item: Item) -> Option<Seen> {
        match item {
            Item::Message(mut arrived) => {
                let key = arrived.session().key();
                if self.lazy {
                    self.unopened.push(arrived);
                    return None;
                }
                let parcel = arrived.open()?;
                Some(Seen::Message(key, number_of(&parcel)))
            }
            Item::Notice(Notice::Event(session, event)) => match *event {
                Event::Connected { .. } => Some(Seen::Connected(session.key())),
                Event::NameConflict => Some(Seen::Conflict(session.key())),
                Event::Ended(end) => {
                    let cause = end.cause;
                    self.end = Some(end);
                    Some(Seen::Ended(session.key(), cause))
                }
                Event::Resumed { .. } => {
                    self.resumed += 1;
                    None
                }
                _ => None,
            },
            Item::Notice(Notice::Reset { old, end, .. }) => Some(Seen::Ended(old.key(), end.cause)),
            Item::Notice(_) => None,
        }
    }

    async fn until(&mut self, wanted: impl Fn(Seen) -> bool) -> Seen {
        loop {
            let seen = self.next().await;
            if wanted(seen) {
                return seen;
            }
        }
    }

    /// A session is heard of when each one before it has ended, or lives on in a conflict.
    fn check(&self) {
        let mut settled = std::collections::BTreeSet::new();
        for seen in &self.seen {
            let first = seen.key().0;
            let all = (1..first).all(|before| settled.contains(&before));
            assert!(all, "S6: {seen:?} in {:?}", self.seen);
            if matches!(seen, Seen::Ended(..) | Seen::Conflict(_)) {
                settled.insert(first);
            }
        }
    }

    /// Whether the past of an old instance was still coming in when it was asked for a sign of life:
    /// that cannot be told from one.
    fn has_conflicts(&self) -> bool {
        self.seen.iter().any(|seen| matches!(seen, Seen::Conflict(_)))
    }

    async fn shutdown(self) {
        drop(self.unopened);
        self.node.sessions().iter().for_each(|session| session.abort());
        within("shutdown", self.node.shutdown()).await;
    }
}

/// Says hello as that instance, and sends so many messages in the same breath as its first frames.
async fn arrive(to: &str, instance: u128, session: u128, attempt: u64, messages: u64) -> Raw {
    let mut raw = Raw::greet(to, hello(who(PEER, instance), ME, session, attempt)).await;
    let mut bytes = Vec::new();
    for number in 1..=messages {
        let load = parcel(&number.to_le_bytes(), vec![7; 512]);
        bytes.extend(wire(&message(Class::Normal, number, load)));
    }
    raw.say(&bytes).await;
    raw
}

/// Dials again as soon as it is woken, and holds up who wakes it until the new session is up.
struct Eager {
    node: Node,
    to: Vec<stellate_transport::Address>,
    again: Mutex<Option<SessionHandle>>,
}

impl std::task::Wake for Eager {
    fn wake(self: Arc<Self>) {
        let again = self.node.connect(PEER, self.to.clone()).expect("connects");
        again.try_send(Class::Normal, parcel(&[0; 8], "")).expect("room");
        // Shown at the end of the turn that told what it told.
        while again.shared().snapshot().counters.messages_sent == 0 {
            std::thread::yield_now();
        }
        *self.again.lock().expect("not poisoned") = Some(again);
    }
}

/// Whoever learns of an end by what it waited for may dial before the end is told.
#[actix_rt::test]
async fn s6_a_dial_out_of_the_middle_of_an_end_waits_for_it() {
    let mut me = Watcher::start().await;
    let peer = TestNode::start(quick(PEER, 7, Policy::lossless_peer())).await;
    let first = me.node.connect(PEER, peer.node.local_addresses()).expect("connects");
    me.until(|seen| matches!(seen, Seen::Connected(_))).await;
    let (node, to) = (me.node.clone(), peer.node.local_addresses());
    let eager = Arc::new(Eager { node, to, again: Mutex::default() });
    let mut receipt = std::pin::pin!(first.received(Class::Normal, 1));
    let waker = std::task::Waker::from(eager.clone());
    assert!(receipt.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    first.abort();
    let second = me.until(|seen| matches!(seen, Seen::Connected(_))).await;
    me.check();
    let again = eager.again.lock().expect("not poisoned").take().expect("it was woken");
    assert_eq!(second.key(), again.shared().key());
    peer.shutdown().await;
    me.shutdown().await;
}

/// The old link is up and silent: probed, while the new instance is under load already.
#[actix_rt::test]
async fn s6_the_end_comes_first_while_the_old_one_is_probed() {
    for _ in 0..scale(3, 20) {
        let mut me = Watcher::start().await;
        let mut old = arrive(&me.at(), 7, 1, 1, 20).await;
        me.until(|seen| matches!(seen, Seen::Message(_, 20))).await;
        let _new = arrive(&me.at(), 8, 2, 1, 200).await;
        let newest = me.until(|seen| matches!(seen, Seen::Message(_, 200))).await;
        assert_eq!(ended(&me, newest.key()), [EndCause::PeerRestarted]);
        me.check();
        old.closed().await;
        me.shutdown().await;
    }
}

/// The causes of the ends of all sessions but that one.
fn ended(me: &Watcher, live: SessionKey) -> Vec<EndCause> {
    let ends = me.seen.iter().filter_map(|seen| match seen {
        Seen::Ended(key, cause) if *key != live => Some(*cause),
        _ => None,
    });
    ends.collect()
}

/// The old link goes before the new hello comes, or after it: restart after restart, under load.
#[actix_rt::test]
async fn s6_the_end_comes_first_through_restarts_under_load() {
    for link_first in [true, false] {
        let mut me = Watcher::start().await;
        let mut old = arrive(&me.at(), 100, 1, 1, 50).await;
        let restarts = scale(20, 400);
        for turn in 1..=restarts {
            let instance = 100 + u128::from(turn);
            let mut old_link = Some(old);
            if link_first {
                old_link.take();
            }
            let session = 1 + u128::from(turn);
            let new = arrive(&me.at(), instance, session, 1, 50).await;
            drop(old_link);
            old = new;
        }
        let last = SessionKey(restarts + 1);
        me.until(|seen| seen == Seen::Message(last, 50)).await;
        me.check();
        let ends = ended(&me, last).len() as u64;
        assert!(me.has_conflicts() || ends == restarts, "S4: one each, not {ends}");
        me.shutdown().await;
    }
}

/// One instance begins a new session while the old one is up: it has forgotten it.
#[actix_rt::test]
async fn s6_the_end_comes_first_when_the_peer_begins_anew() {
    let mut me = Watcher::start().await;
    let mut links = Vec::new();
    let rounds = scale(60, 600);
    for round in 1..=rounds {
        links.push(arrive(&me.at(), 7, u128::from(round), round, 30).await);
    }
    let last = SessionKey(rounds);
    me.until(|seen| seen == Seen::Message(last, 30)).await;
    me.check();
    assert_eq!(ended(&me, last), vec![EndCause::ClosedByPeer; rounds as usize - 1]);
    me.shutdown().await;
}

/// The peer closed in order and connects again, while messages of the old session wait in front of
/// the actor: they are opened, then the old one ends, then the new one speaks.
#[actix_rt::test]
async fn s6_what_the_old_session_left_is_opened_before_the_new_one_speaks() {
    let mut me = Watcher::start().await;
    let peer = TestNode::start(quick(PEER, 2, Policy::lossless_peer())).await;
    let to = me.node.local_addresses();
    let old = peer.node.connect(ME, to.clone()).expect("connects");
    let connected = me.next().await;
    assert!(matches!(connected, Seen::Connected(_)), "{connected:?}");
    me.lazy = true;
    for number in 1..=5u64 {
        old.try_send(Class::Normal, parcel(&number.to_le_bytes(), "")).expect("room");
    }
    within("all to be received", old.received(Class::Normal, 5)).await.expect("received");
    // Acknowledged is not done: the close waits for no handler of the other side.
    old.close();
    within("the close", old.ended()).await;
    let new = peer.node.connect(ME, to).expect("connects again");
    new.try_send(Class::Normal, parcel(&99u64.to_le_bytes(), "")).expect("room");
    within("the message to be received", new.received(Class::Normal, 1)).await.expect("acked");
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    while me.inbox.poll_take(&mut cx, &mut me.batch, 64).is_ready() {}
    while let Some(item) = me.batch.pop_front() {
        let seen = me.see(item);
        assert_eq!(seen, None, "S6: the new session waits for the old one's end");
    }
    assert_eq!(me.unopened.len(), 5, "S2");
    me.lazy = false;
    for arrived in std::mem::take(&mut me.unopened) {
        let seen = me.see(Item::Message(arrived));
        me.seen.extend(seen);
    }
    me.until(|seen| matches!(seen, Seen::Message(_, 99))).await;
    me.check();
    assert_eq!(me.seen.len(), 1 + 5 + 1 + 1 + 1, "{:?}", me.seen);
    peer.shutdown().await;
    me.shutdown().await;
}

/// Two live processes: nothing ends, so nothing is kept once that is known.
#[actix_rt::test]
async fn s6_a_conflict_lets_both_speak() {
    let mut me = Watcher::start().await;
    let start = |instance| TestNode::start(quick(PEER, instance, Policy::lossless_peer()));
    let (one, two) = (start(2).await, start(3).await);
    let to = me.node.local_addresses();
    let first = one.node.connect(ME, to.clone()).expect("connects");
    first.try_send(Class::Normal, parcel(&1u64.to_le_bytes(), "")).expect("room");
    let old = me.until(|seen| matches!(seen, Seen::Message(_, 1))).await.key();
    let second = two.node.connect(ME, to).expect("connects");
    second.try_send(Class::Normal, parcel(&2u64.to_le_bytes(), "")).expect("room");
    let new = me.until(|seen| matches!(seen, Seen::Message(_, 2))).await.key();
    // The second conflict may be told before the message or after it.
    while me.seen.iter().filter(|seen| matches!(seen, Seen::Conflict(_))).count() < 2 {
        me.next().await;
    }
    let place = |seen| me.seen.iter().position(|other| *other == seen).expect("seen");
    assert!(place(Seen::Connected(new)) < place(Seen::Conflict(new)), "{:?}", me.seen);
    assert!(place(Seen::Connected(new)) < place(Seen::Message(new, 2)));
    assert!(me.seen.contains(&Seen::Conflict(old)));
    for handle in [&first, &second] {
        handle.try_send(Class::Normal, parcel(&3u64.to_le_bytes(), "")).expect("both stay");
    }
    for _ in 0..2 {
        me.until(|seen| matches!(seen, Seen::Message(_, 3))).await;
    }
    one.shutdown().await;
    two.shutdown().await;
    me.shutdown().await;
}

/// A newborn that ends while it waits is told of in its turn, once, and leaves its name at once.
#[actix_rt::test]
async fn s6_one_that_ends_while_it_waits_is_told_in_its_turn() {
    let mut me = Watcher::start().await;
    let _silent = arrive(&me.at(), 7, 1, 1, 1).await;
    me.until(|seen| matches!(seen, Seen::Message(_, 1))).await;
    let mut second = arrive(&me.at(), 8, 2, 1, 3).await;
    let close = stellate_protocol::frame::Close {
        reason: stellate_protocol::frame::CloseReason::Aborted,
        delivered: Default::default(),
        text: String::new(),
    };
    second.send(&Frame::Close(Box::new(close))).await;
    second.closed().await;
    let _third = arrive(&me.at(), 8, 3, 2, 3).await;
    me.until(|seen| seen == Seen::Message(SessionKey(3), 3)).await;
    me.check();
    let keys = [1, 2, 3].map(SessionKey);
    assert_eq!(
        me.seen[2..],
        [
            Seen::Ended(keys[0], EndCause::PeerRestarted),
            Seen::Connected(keys[1]),
            Seen::Ended(keys[1], EndCause::ClosedByPeer),
            Seen::Connected(keys[2]),
            Seen::Message(keys[2], 1),
            Seen::Message(keys[2], 2),
            Seen::Message(keys[2], 3),
        ]
    );
    tokio::time::timeout(Duration::ZERO, me.next()).await.expect_err("nothing more is told");
    me.shutdown().await;
}

/// A silent old session that is asked for a sign of life for as long as the test takes.
fn patient(limits: &mut Limits) {
    (limits.probe, limits.heartbeat_deadline) = (Duration::from_secs(60), Duration::from_secs(60));
}

/// What a session keeps does not grow with its links (S7), and nothing else of it is left out (S6).
#[actix_rt::test]
async fn s6_s7_a_link_that_flaps_while_news_are_kept_is_told_of_once() {
    let mut me = Watcher::start_with(patient).await;
    let silent = arrive(&me.at(), 7, 1, 1, 1).await;
    me.until(|seen| matches!(seen, Seen::Message(_, 1))).await;
    drop(arrive(&me.at(), 8, 2, 1, 0).await);
    let mut links = Vec::new();
    for attempt in 2..6 {
        let mut again = hello(who(PEER, 8), ME, 2, attempt);
        again.established = true;
        links.push(Raw::greet(&me.at(), again).await);
    }
    let load = parcel(&9u64.to_le_bytes(), "");
    links[3].send(&message(Class::Normal, 1, load)).await;
    // The old link breaks while it is asked: its peer has restarted.
    drop(silent);
    me.until(|seen| matches!(seen, Seen::Message(_, 9))).await;
    let (old, new) = (SessionKey(1), SessionKey(2));
    let told =
        [Seen::Ended(old, EndCause::PeerRestarted), Seen::Connected(new), Seen::Message(new, 9)];
    assert_eq!((&me.seen[2..], me.resumed), (&told[..], 1));
    me.shutdown().await;
}

/// S4: the actor of one whose end waits goes, and its end stays what it was. Nobody finds it by its
/// name meanwhile.
#[actix_rt::test]
async fn s4_an_end_that_waits_outlives_its_actor() {
    let mut me = Watcher::start_with(patient).await;
    let _silent = arrive(&me.at(), 7, 1, 1, 1).await;
    me.until(|seen| matches!(seen, Seen::Message(_, 1))).await;
    let mut second = arrive(&me.at(), 8, 2, 1, 3).await;
    let handle = me.node.sessions().into_iter().find(|it| it.shared().key() == SessionKey(2));
    let handle = handle.expect("it is in");
    let close = stellate_protocol::frame::Close {
        reason: stellate_protocol::frame::CloseReason::Aborted,
        delivered: Default::default(),
        text: String::new(),
    };
    second.send(&Frame::Close(Box::new(close))).await;
    second.closed().await;
    let found = me.node.connect(PEER, me.node.local_addresses()).expect("connects");
    assert_eq!(found.shared().key(), SessionKey(1), "the second is over");
    // What is sent on it all the same goes nowhere, and comes back.
    for number in 1..=3u64 {
        handle.try_send(Class::Normal, parcel(&number.to_le_bytes(), "")).expect("room");
    }
    me.node.tree().kill("sessions/2").expect("there");
    let end = me.until(|seen| matches!(seen, Seen::Ended(SessionKey(2), _))).await;
    assert_eq!(end, Seen::Ended(SessionKey(2), EndCause::ClosedByPeer));
    let end = me.end.take().expect("just seen");
    let back: Vec<u64> = end.unacked.iter().map(|unacked| number_of(&unacked.payload)).collect();
    assert_eq!(back, [1, 2, 3]);
    let counts = &end.counts[Class::Normal.index()];
    assert_eq!((counts.unacked, counts.undelivered), (3, 3));
    me.shutdown().await;
}
