//! The queues in front of an actor, against what happened: who sent what, and whose replies were full.

use std::cell::Cell;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Shared by the messages of one session: whether its replies are full.
type Full = Rc<Cell<bool>>;

#[derive(Clone, Debug)]
struct Msg {
    session: u64,
    class: Class,
    number: u64,
    request: bool,
    full: Full,
}

impl Queued for Msg {
    fn class(&self) -> Class {
        self.class
    }

    fn session(&self) -> SessionKey {
        SessionKey(self.session)
    }

    fn must_wait(&self) -> bool {
        self.request && self.full.get()
    }
}

const SESSIONS: usize = 3;
const ROOM: usize = 12;

#[derive(Clone, Debug)]
enum Op {
    /// So many messages of a session and class, by one of the three ways in; which are requests.
    Push {
        session: usize,
        class: usize,
        requests: Vec<bool>,
        way: u8,
    },
    /// The pump takes a batch if it has none.
    Take {
        max: usize,
    },
    /// It hands out so many, or gives the batch back at the first that has to wait.
    HandOut {
        count: usize,
        fills: bool,
    },
    /// The actor dies: what it had taken goes back.
    PutBack,
    Fill {
        session: usize,
    },
    Free {
        session: usize,
    },
}

fn ops() -> impl Strategy<Value = Op> {
    let session = 0..SESSIONS;
    let requests = prop::collection::vec(any::<bool>(), 1..8);
    prop_oneof![
        6 => (session.clone(), 0..Class::COUNT, requests, 0u8..3)
            .prop_map(|(session, class, requests, way)| Op::Push { session, class, requests, way }),
        5 => (1usize..9).prop_map(|max| Op::Take { max }),
        5 => (1usize..9, any::<bool>()).prop_map(|(count, fills)| Op::HandOut { count, fills }),
        1 => Just(Op::PutBack),
        2 => session.clone().prop_map(|session| Op::Fill { session }),
        3 => session.prop_map(|session| Op::Free { session }),
    ]
}

/// The queues, their pump, and what is known from outside.
struct World {
    queues: Queues<Msg>,
    batch: VecDeque<Msg>,
    full: [Full; SESSIONS],
    /// Told of, to be unparked.
    told: [bool; SESSIONS],
    /// The last number that went in and out.
    pushed: [[u64; Class::COUNT]; SESSIONS],
    handed: [[u64; Class::COUNT]; SESSIONS],
    /// Taken out since that class had its last turn, while it could have gone.
    passed_over: [usize; Class::COUNT],
    most: usize,
}

impl World {
    fn new() -> Self {
        Self {
            queues: Queues::new(ROOM),
            batch: VecDeque::new(),
            full: Default::default(),
            told: Default::default(),
            pushed: Default::default(),
            handed: Default::default(),
            passed_over: Default::default(),
            most: 0,
        }
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Push { session, class, requests, way } => self.push(session, class, &requests, way),
            Op::Take { max } => self.take(max),
            Op::HandOut { count, fills } => self.hand_out(count, fills),
            Op::PutBack => self.put_back(),
            Op::Fill { session } => self.full[session].set(true),
            Op::Free { session } => self.free(session),
        }
        let inside: u64 = self.queues.len() as u64 + self.batch.len() as u64;
        let sum = |of: &[[u64; Class::COUNT]; SESSIONS]| of.iter().flatten().sum::<u64>();
        assert_eq!(sum(&self.pushed) - sum(&self.handed), inside, "nothing vanishes");
        assert_eq!(self.queues.iter().count(), self.queues.len());
        assert!(self.queues.is_empty() ^ self.queues.iter().next().is_some());
    }

    fn push(&mut self, session: usize, class: usize, requests: &[bool], way: u8) {
        let pushed = &mut self.pushed[session][class];
        let make = |(number, request): (u64, &bool)| Msg {
            session: session as u64,
            class: Class::ALL[class],
            number,
            request: *request,
            full: self.full[session].clone(),
        };
        let messages: Vec<Msg> = (*pushed + 1..).zip(requests).map(make).collect();
        let room = ROOM.saturating_sub(self.queues.queues[class].len());
        let all = messages.len();
        let took = match way {
            0 => {
                let mut from: VecDeque<Msg> = messages.into();
                self.queues.take_in(&mut from);
                all - from.len()
            }
            1 => {
                let mut from = messages.into_iter();
                let first = requests[0];
                self.queues.take_in_run(&mut from, |next| next.request == first);
                let run = requests.iter().take_while(|request| **request == first).count();
                assert_eq!(all - from.len(), run.min(room), "a run, and as much as fits (S7)");
                all - from.len()
            }
            _ => match self.queues.take_in_whole(messages) {
                Ok(()) => all,
                Err(back) => {
                    assert!(back.len() == all && all > room, "all or nothing");
                    0
                }
            },
        };
        assert!(took <= room, "S7");
        assert!(way != 0 || took == all.min(room));
        *pushed += took as u64;
    }

    fn take(&mut self, max: usize) {
        if !self.batch.is_empty() {
            return;
        }
        let waiting: Vec<Class> = Class::ALL
            .into_iter()
            .filter(|class| self.queues.queues[class.index()].iter().any(|next| !next.full.get()))
            .collect();
        let told = &mut self.told;
        let taken = self.queues.take(&mut self.batch, max, |next| {
            assert!(next.must_wait());
            told[next.session as usize] = true;
            true
        });
        assert!(taken == self.batch.len() && taken <= max);
        assert!(self.batch.iter().all(|next| !next.must_wait()), "S7");
        if taken < max {
            assert_eq!(self.queues.ready(), 0, "whoever need not wait is not held up");
            for next in self.queues.iter() {
                assert!(
                    next.full.get() && told[next.session as usize],
                    "S8: {next:?} waits for nothing"
                );
            }
        }
        for class in Class::ALL {
            let passed = &mut self.passed_over[class.index()];
            let had_turn = self.batch.iter().any(|next| next.class == class);
            *passed = if had_turn || !waiting.contains(&class) { 0 } else { *passed + taken };
            assert!(*passed <= 16 + 2 * 8, "{class} waits for too long");
        }
        self.most = self.most.max(taken);
    }

    /// As the pump does: looks again at each, since the reply before it may have filled the room.
    fn hand_out(&mut self, count: usize, fills: bool) {
        for _ in 0..count {
            match self.batch.front() {
                None => return,
                Some(next) if next.must_wait() => return self.put_back(),
                Some(_) => {}
            }
            let Some(next) = self.batch.pop_front() else { return };
            let handed = &mut self.handed[next.session as usize][next.class.index()];
            *handed += 1;
            assert_eq!(next.number, *handed, "S1");
            next.full.set(next.full.get() || (fills && next.request));
        }
    }

    fn put_back(&mut self) {
        self.queues.put_back(&mut self.batch);
        assert!(self.batch.is_empty(), "all of it waits again, before what came after it (S1)");
    }

    fn free(&mut self, session: usize) {
        self.full[session].set(false);
        if std::mem::take(&mut self.told[session]) {
            self.queues.unpark(SessionKey(session as u64));
        }
    }

    /// Replies go, and every handler is quick: all must be handed out.
    fn finish(mut self) {
        for _ in 0..1000 {
            for session in 0..SESSIONS {
                self.free(session);
            }
            self.take(8);
            self.hand_out(8, false);
        }
        assert_eq!(self.pushed, self.handed, "S8");
        assert!(self.queues.is_empty() && self.most <= 8);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// S1, S7 and S8 against what was put in and what came out, whatever waits for whom.
    #[test]
    fn s1_s7_s8_whatever_is_parked_order_stays_and_nothing_stands_still(
        ops in prop::collection::vec(ops(), 1..120),
    ) {
        let mut world = World::new();
        for op in ops {
            world.run(op);
        }
        world.finish();
    }
}

fn message(class: Class, number: u64) -> Msg {
    Msg { session: 1, class, number, request: false, full: Full::default() }
}

fn loaded(classes: &[Class], each: u64) -> Queues<Msg> {
    let mut queues = Queues::new(each as usize);
    for class in classes {
        let whole = (1..=each).map(|number| message(*class, number)).collect();
        queues.take_in_whole(whole).expect("room");
    }
    queues
}

fn shares(queues: &mut Queues<Msg>, batches: usize, max: usize) -> [usize; Class::COUNT] {
    let mut shares = [0; Class::COUNT];
    for _ in 0..batches {
        let mut batch = VecDeque::new();
        assert_eq!(queues.take(&mut batch, max, |_| true), max);
        batch.iter().for_each(|next| shares[next.class.index()] += 1);
    }
    shares
}

/// However the batches are cut, classes that all have work share by weight.
#[test]
fn classes_share_by_weight() {
    for max in [1, 3, 16, 64, 160] {
        let mut queues = loaded(&Class::ALL, 1000);
        // A class keeps its turn over the cut of a batch, so whole rounds are exact.
        assert_eq!(shares(&mut queues, 960 / max, max), [480, 240, 180, 60], "by {max}");
    }
    let mut two = loaded(&[Class::Control, Class::Bulk], 1000);
    assert_eq!(shares(&mut two, 90, 10), [800, 0, 0, 100]);
}

/// A class that was alone took whole batches: the next one has its turn at once all the same.
#[test]
fn who_was_alone_owes_its_turn() {
    let mut queues = loaded(&[Class::Bulk], 1000);
    assert_eq!(shares(&mut queues, 10, 64), [0, 0, 0, 640]);
    let whole = (1..=8).map(|number| message(Class::Control, number)).collect();
    queues.take_in_whole(whole).expect("room");
    assert_eq!(shares(&mut queues, 1, 8), [8, 0, 0, 0]);
}

/// A batch of one class goes as it is: no message is moved, nothing is allocated.
#[test]
fn a_batch_changes_hands_whole() {
    let mut queues = loaded(&[Class::Normal], 64);
    let first: *const Msg = queues.iter().next().expect("loaded");
    let mut batch = VecDeque::new();
    assert_eq!(queues.take(&mut batch, 64, |_| true), 64);
    assert!(std::ptr::eq(first, batch.front().expect("taken")));
}

/// Looked at twice: the replies went between the two, so nobody would ever unpark it.
#[test]
fn s8_nothing_is_parked_that_nobody_would_unpark() {
    let mut queues = Queues::new(4);
    let full = Full::new(Cell::new(true));
    let request = Msg { request: true, full, ..message(Class::High, 1) };
    queues.take_in(&mut VecDeque::from([request]));
    let mut batch = VecDeque::new();
    assert_eq!(queues.take(&mut batch, 4, |_| false), 1);
    assert!(queues.is_empty() && batch.len() == 1);
}

#[test]
fn s7_there_is_room_for_one_at_least_and_a_drain_leaves_nothing() {
    let mut queues = Queues::new(0);
    queues.take_in(&mut VecDeque::from([message(Class::High, 1), message(Class::High, 2)]));
    assert_eq!((queues.len(), queues.ready()), (1, 1));
    queues.take_in_whole(Vec::new()).expect("nothing needs no room");
    assert_eq!(queues.drain().count(), 1);
    assert!(queues.is_empty() && queues.ready() == 0);
}
