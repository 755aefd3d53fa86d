//! Room in an outbox, against a list of who came when and what was given to whom.

use proptest::prelude::*;

use super::*;

const MESSAGES_MAX: u64 = 8;
const BYTES_MAX: u64 = 160;

fn limits() -> Limits {
    Limits {
        outbox_messages: MESSAGES_MAX as u32,
        outbox_bytes: BYTES_MAX,
        requests_max: 3,
        ..Limits::default()
    }
}

const WANTS: [Want; 4] =
    [Want::Message, Want::Call, Want::Urgent { call: false }, Want::Urgent { call: true }];

#[derive(Clone, Debug)]
enum Op {
    /// Takes room, or gets into line.
    Ask {
        want: usize,
        bytes: u64,
    },
    /// The nth of those in line gives up.
    Leave {
        nth: usize,
    },
    /// What the nth holder has is received; its call stays open.
    Receive {
        nth: usize,
    },
    /// An open call is over.
    Answer,
    /// The nth holder's message turns out to be of another length.
    Resize {
        nth: usize,
        bytes: u64,
    },
    LimitCalls {
        most: u32,
    },
}

fn ops() -> impl Strategy<Value = Op> {
    let nth = 0usize..16;
    let bytes = prop_oneof![3 => 1u64..30, 1 => 100u64..300];
    prop_oneof![
        6 => (0usize..4, bytes.clone()).prop_map(|(want, bytes)| Op::Ask { want, bytes }),
        1 => nth.clone().prop_map(|nth| Op::Leave { nth }),
        4 => nth.clone().prop_map(|nth| Op::Receive { nth }),
        3 => Just(Op::Answer),
        1 => (nth, bytes).prop_map(|(nth, bytes)| Op::Resize { nth, bytes }),
        1 => (1u32..5).prop_map(|most| Op::LimitCalls { most }),
    ]
}

/// Room for more than any outbox has is that for one message in an empty one, and given back whole.
#[test]
fn s7_whoever_asks_for_all_that_can_be_said_gets_an_empty_outbox_or_waits() {
    for most in [BYTES_MAX, u64::MAX] {
        let mut room: Room<usize> = Room::new(&Limits { outbox_bytes: most, ..limits() });
        for want in WANTS {
            assert!(room.try_take(Want::Message, 10));
            assert_eq!(room.try_take(want, u64::MAX), most == u64::MAX, "{want:?}");
            room.free(2, u64::MAX, 1);
            assert!(room.try_take(want, u64::MAX), "{want:?} in an empty one");
            assert_eq!(room.is_there(want, 1), most == u64::MAX, "{want:?}");
            assert!(room.resize(u64::MAX, 10));
            room.free(1, 10, 1);
            assert_eq!(room.held(), (0, 0));
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Asker {
    want: Want,
    bytes: u64,
    ticket: Ticket,
}

/// The room, and what is known of it from outside.
struct World {
    room: Room<usize>,
    /// In order of arrival; `who` of the room is the number of an asker.
    askers: Vec<Asker>,
    line: Vec<usize>,
    /// Lengths of the messages held, and calls open.
    held: Vec<u64>,
    calls: usize,
    calls_max: usize,
}

impl World {
    fn new() -> Self {
        Self {
            room: Room::new(&limits()),
            askers: Vec::new(),
            line: Vec::new(),
            held: Vec::new(),
            calls: 0,
            calls_max: 3,
        }
    }

    fn bytes(&self) -> u64 {
        self.held.iter().sum()
    }

    /// By the words of S7.
    fn fits(&self, want: Want, bytes: u64) -> bool {
        let urgent = matches!(want, Want::Urgent { .. });
        let (messages, most) = match urgent {
            true => (MESSAGES_MAX + 1, BYTES_MAX + BYTES_MAX / 16),
            false => (MESSAGES_MAX, BYTES_MAX),
        };
        let place = (self.held.len() as u64) < messages;
        let room = self.bytes() + bytes <= most || self.held.is_empty();
        place && room && (!want.is_call() || self.calls < self.calls_max)
    }

    /// Of those in line, who is next: urgent ones first, then by arrival; a call only if there is
    /// a place for a call.
    fn next(&self) -> Option<usize> {
        let of = |urgent: bool| {
            let mut line = self.line.iter().copied();
            line.find(|who| {
                let want = self.askers[*who].want;
                matches!(want, Want::Urgent { .. }) == urgent
                    && (!want.is_call() || self.calls < self.calls_max)
            })
        };
        let fits = |who: &usize| self.fits(self.askers[*who].want, self.askers[*who].bytes);
        of(true).filter(fits).or_else(|| of(false).filter(fits))
    }

    fn take(&mut self, want: Want, bytes: u64) {
        self.held.push(bytes);
        self.calls += usize::from(want.is_call());
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Ask { want, bytes } => self.ask(WANTS[want], bytes),
            Op::Leave { nth } => {
                if !self.line.is_empty() {
                    let who = self.line.remove(nth % self.line.len());
                    let Asker { want, ticket, .. } = self.askers[who];
                    self.room.leave(want, ticket);
                }
            }
            Op::Receive { nth } => {
                if !self.held.is_empty() {
                    let bytes = self.held.swap_remove(nth % self.held.len());
                    self.room.free(1, bytes, 0);
                }
            }
            Op::Answer => {
                if self.calls > 0 {
                    self.calls -= 1;
                    self.room.free(0, 0, 1);
                }
            }
            Op::Resize { nth, bytes } => {
                if !self.held.is_empty() {
                    let place = nth % self.held.len();
                    let taken = self.held[place];
                    let goes = bytes <= taken || self.bytes() - taken + bytes <= BYTES_MAX;
                    assert_eq!(self.room.resize(taken, bytes), goes, "S7");
                    self.held[place] = if goes { bytes } else { taken };
                }
            }
            Op::LimitCalls { most } => {
                self.calls_max = most.min(3) as usize;
                self.room.limit_calls(most);
            }
        }
        self.grant();
        assert_eq!(self.room.held(), (self.held.len() as u64, self.bytes()));
    }

    fn ask(&mut self, want: Want, bytes: u64) {
        let same = |who: &&usize| {
            let other = self.askers[**who].want;
            matches!(other, Want::Urgent { .. }) == matches!(want, Want::Urgent { .. })
                && (!other.is_call() || want.is_call() || self.calls < self.calls_max)
        };
        let first = self.line.iter().find(same).is_none();
        let goes = first && self.fits(want, bytes);
        assert_eq!(self.room.is_there(want, bytes), goes);
        assert_eq!(self.room.try_take(want, bytes), goes, "{want:?} of {bytes}: {:?}", self.line);
        if goes {
            return self.take(want, bytes);
        }
        let who = self.askers.len();
        let ticket = self.room.wait(want, bytes, who);
        self.askers.push(Asker { want, bytes, ticket });
        self.line.push(who);
    }

    /// Nobody is forgotten and nobody overtakes.
    fn grant(&mut self) {
        loop {
            let next = self.next();
            assert_eq!(self.room.grant(), next, "of {:?}", self.line);
            let Some(who) = next else { return };
            self.line.retain(|other| *other != who);
            self.take(self.askers[who].want, self.askers[who].bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn s7_room_is_given_in_order_and_never_beyond_the_limits(
        ops in prop::collection::vec(ops(), 1..150),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        // All is received and answered in time: nobody waits for ever (S8).
        for _ in 0..ops.len() {
            world.run(&Op::Receive { nth: 0 });
            world.run(&Op::Answer);
        }
        prop_assert!(world.line.is_empty(), "{:?} wait for nothing", world.line);
    }
}

#[test]
fn wants_are_told_apart_by_class_and_answer() {
    assert_eq!(Want::new(Class::Control, true), Want::Urgent { call: true });
    assert_eq!(Want::new(Class::Control, false), Want::Urgent { call: false });
    assert_eq!(Want::new(Class::High, true), Want::Call);
    assert_eq!(Want::new(Class::Bulk, false), Want::Message);
}

/// What one kind is short of must not stop the others, `Control` least of all.
#[test]
fn s7_calls_that_wait_for_answers_stop_no_message() {
    for (call, message) in [(Want::Call, Want::Message), (WANTS[3], WANTS[2])] {
        let mut room = Room::new(&limits());
        for _ in 0..3 {
            assert!(room.try_take(call, 1));
        }
        assert!(!room.try_take(call, 1));
        room.wait(call, 1, "call");
        assert!(room.try_take(message, 1), "{message:?} waits for an answer to another");
        room.wait(message, 1, "message");
        assert_eq!((room.grant(), room.grant()), (Some("message"), None));
        room.free(0, 0, 1);
        assert_eq!((room.grant(), room.grant()), (Some("call"), None));
    }
}

#[test]
fn s7_control_is_heard_when_all_else_is_full() {
    let mut room = Room::<()>::new(&limits());
    while room.try_take(Want::Message, 1) {}
    assert_eq!(room.held(), (MESSAGES_MAX, MESSAGES_MAX));
    assert!(room.try_take(WANTS[2], BYTES_MAX / 16) && !room.try_take(WANTS[2], 1));
}

#[test]
fn one_message_goes_into_an_empty_outbox_however_large_it_is() {
    let mut room = Room::new(&limits());
    assert!(room.try_take(Want::Message, 10 * BYTES_MAX) && !room.try_take(Want::Message, 0));
    room.wait(Want::Message, 1, 1);
    room.wait(Want::Call, 1, 2);
    assert_eq!(room.dismiss().collect::<Vec<_>>(), [1, 2]);
    room.free(1, 10 * BYTES_MAX, 0);
    assert_eq!((room.grant(), room.held()), (None, (0, 0)), "dismissed is gone");
}

/// A loop of sends lets its session run as often as it is told, and no more often.
#[test]
fn a_turn_is_over_once_so_many_are_staged() {
    let staged = (0..=2 * STAGED_TURN).filter(|staged| is_turn_over(*staged));
    assert!(staged.eq(STAGED_TURN..=2 * STAGED_TURN));
}
