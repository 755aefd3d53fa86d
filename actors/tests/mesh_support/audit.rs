//! Compares the books of both sides of every session (S2, S4).

use std::collections::{BTreeMap, BTreeSet};

use stellate_protocol::Class;

/// Numbers by class.
type Row = [u64; Class::COUNT];

/// Stands for a number that is not known.
const UNKNOWN: u64 = u64::MAX;

/// What one side wrote of the end of a session.
#[derive(Debug)]
struct Ended {
    instance: u128,
    key: u64,
    peer: u128,
    cause: String,
    sent: Row,
    taken: Row,
    unacked: Row,
    unacked_sent: Row,
    undelivered: Row,
    peer_delivered: Row,
}

/// What a mesh did.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) sessions: usize,
    /// Of those, with both sides alive.
    pub(crate) compared: usize,
    pub(crate) sent: u64,
    pub(crate) taken: u64,
    pub(crate) taken_back: u64,
    pub(crate) undelivered: u64,
    pub(crate) known: u64,
    pub(crate) restarts_seen: usize,
}

/// The books of all processes, dead or alive.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// By session id: at most one of each side.
    ended: BTreeMap<u128, Vec<Ended>>,
    /// What was taken of the messages of (instance, key), by whom, by the last line about it.
    taken: BTreeMap<(u128, u64), (u128, Row)>,
    /// Instances that were killed.
    killed: BTreeSet<u128>,
}

impl Audit {
    /// Takes in what a process wrote. The last line of a killed one may be half a line.
    pub(crate) fn read(&mut self, text: &str) {
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        for line in whole.lines() {
            let words: Vec<_> = line.split(' ').collect();
            match words[0] {
                "T" => {
                    let (by, from) = (number(words[1]), number(words[3]));
                    let key = number(words[4]) as u64;
                    self.taken.insert((from, key), (by, row(&words[5..])));
                }
                "E" => {
                    // A cause may have blanks within.
                    let rows = words.len() - 6 * Class::COUNT;
                    let row = |index: usize| row(&words[rows + index * Class::COUNT..]);
                    let ended = Ended {
                        instance: number(words[1]),
                        key: number(words[2]) as u64,
                        peer: number(words[4]),
                        cause: words[5..rows].join(" "),
                        sent: row(0),
                        taken: row(1),
                        unacked: row(2),
                        unacked_sent: row(3),
                        undelivered: row(4),
                        peer_delivered: row(5),
                    };
                    self.ended.entry(number(words[3])).or_default().push(ended);
                }
                other => panic!("{other}"),
            }
        }
    }

    pub(crate) fn killed(&mut self, instance: u128) {
        self.killed.insert(instance);
    }

    /// Asserts that the books agree.
    pub(crate) fn check(&self) -> Sums {
        let mut sums = Sums { sessions: self.ended.len(), ..Sums::default() };
        for (id, sides) in &self.ended {
            let instances: BTreeSet<_> = sides.iter().map(|side| side.instance).collect();
            assert_eq!(instances.len(), sides.len(), "S4: one end a side: {id:x} {sides:?}");
            assert!(sides.len() <= 2, "S5: two sides: {id:x} {sides:?}");
            for side in sides {
                let other = sides.iter().find(|other| other.instance != side.instance);
                match other {
                    Some(other) => {
                        sums.compared += 1;
                        self.compare(side, other);
                    }
                    None => self.alone(side),
                }
                sums.sent += side.sent.iter().sum::<u64>();
                sums.taken += side.taken.iter().sum::<u64>();
                sums.taken_back += side.unacked.iter().sum::<u64>();
                sums.undelivered += side.undelivered.iter().sum::<u64>();
                sums.known += side.peer_delivered.iter().filter(|n| **n != UNKNOWN).count() as u64;
                sums.restarts_seen += usize::from(side.cause == "PeerRestarted");
            }
        }
        sums
    }

    /// Both sides told their end.
    fn compare(&self, here: &Ended, there: &Ended) {
        // One that ended before it was answered does not know with whom it was.
        assert!([0, there.instance].contains(&here.peer), "{here:?} {there:?}");
        for class in 0..Class::COUNT {
            let words = || format!("class {class} of {here:#?}\nand {there:#?}");
            // Those that the other side owns, handed out or not.
            let received = there.taken[class] + there.undelivered[class];
            let (sent, back) = (here.sent[class], here.unacked[class]);
            let never_sent = back - here.unacked_sent[class];
            assert!(received >= sent - back, "acked is received: {}", words());
            assert!(received <= sent - never_sent, "what never left is not there: {}", words());
            let known = here.peer_delivered[class];
            assert!(known == UNKNOWN || known == there.taken[class], "exact: {}", words());
        }
    }

    /// The other side was killed, or has never heard of the session.
    fn alone(&self, here: &Ended) {
        let taken = self.taken.get(&(here.instance, here.key));
        if here.peer == 0 || !self.killed.contains(&here.peer) {
            assert_eq!(here.sent, here.unacked, "S4: nobody has any of it: {here:?}");
            assert_eq!((taken, here.taken), (None, [0; Class::COUNT]), "{here:?}");
            return;
        }
        // The last that the other side wrote is no later than what it did.
        let (by, taken) = taken.copied().unwrap_or((here.peer, [0; Class::COUNT]));
        assert_eq!(by, here.peer, "S6: of that instance: {here:?}");
        for (class, taken) in taken.into_iter().enumerate() {
            let never_sent = here.unacked[class] - here.unacked_sent[class];
            assert!(taken <= here.sent[class] - never_sent, "class {class}: {taken} of {here:?}");
            assert!(here.peer_delivered[class] >= taken, "class {class}: {taken} of {here:?}");
        }
    }
}

fn number(word: &str) -> u128 {
    word.parse().expect("a number")
}

fn row(words: &[&str]) -> Row {
    std::array::from_fn(|index| words[index].parse().expect("a number"))
}
