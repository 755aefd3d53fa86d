//! What a process did and saw, session by session, checked as it happens and written down at once:
//! what a killed process has written is a prefix of what it did.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;

use bytes::Bytes;
use stellate_protocol::directory::SessionKey;
use stellate_protocol::event::End;
use stellate_protocol::{Class, Parcel};

use crate::support::Draw;

/// A session of one messenger of this process: (messenger's instance, key).
pub(crate) type Place = (u128, SessionKey);

#[derive(Debug, Default)]
struct Entry {
    /// Messages accepted, by class.
    sent: [u64; Class::COUNT],
    /// Messages handed out, by class.
    taken: [u64; Class::COUNT],
    /// The session that they came from.
    from: Option<Place>,
    ends: u32,
}

/// The book of a process.
#[derive(Debug)]
pub(crate) struct Book {
    entries: BTreeMap<Place, Entry>,
    /// Those of whom something was taken that is not written down yet.
    fresh: BTreeSet<Place>,
    file: File,
    body: Bytes,
    pub(crate) taken: u64,
}

impl Book {
    pub(crate) fn new(file: File) -> Self {
        let mut draw = Draw(9);
        let body: Vec<u8> = (0..40_000).map(|_| draw.next() as u8).collect();
        Self { entries: BTreeMap::new(), fresh: BTreeSet::new(), file, body: body.into(), taken: 0 }
    }

    fn data(&self, from: Place, class: Class, number: u64) -> Bytes {
        let mut draw = Draw(from.0 as u64 ^ from.1.0 << 20 ^ number << 4 ^ class.index() as u64);
        let len = if draw.below(50) == 0 { draw.below(20_000) } else { draw.below(150) } as usize;
        let begin = draw.below((self.body.len() - len) as u64) as usize;
        self.body.slice(begin..begin + len)
    }

    /// The next message of the class.
    pub(crate) fn next(&mut self, place: Place, class: Class) -> Parcel {
        let number = self.entries.entry(place).or_default().sent[class.index()];
        let mut front = place.0.to_le_bytes().to_vec();
        front.extend(place.1.0.to_le_bytes());
        front.extend(number.to_le_bytes());
        crate::support::parcel(&front, self.data(place, class, number))
    }

    /// It was accepted.
    pub(crate) fn sent(&mut self, place: Place, class: Class) {
        self.entries.entry(place).or_default().sent[class.index()] += 1;
    }

    /// One was handed out: exactly the next of its class, of the one session of the other side.
    pub(crate) fn take(&mut self, place: Place, class: Class, parcel: &Parcel) {
        let (instance, rest) = parcel.front().split_at(16);
        let (key, number) = rest.split_at(8);
        let from = (
            u128::from_le_bytes(instance.try_into().expect("16 bytes")),
            SessionKey(u64::from_le_bytes(key.try_into().expect("8 bytes"))),
        );
        let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
        assert!(parcel.data() == self.data(from, class, number), "content");
        let entry = self.entries.entry(place).or_default();
        assert_eq!(entry.ends, 0, "S4: nothing after the end");
        assert_eq!(*entry.from.get_or_insert(from), from, "S6: one session of the other side");
        let taken = &mut entry.taken[class.index()];
        assert_eq!(number, *taken, "S1, S2: the next of its class");
        *taken += 1;
        self.fresh.insert(place);
        self.taken += 1;
    }

    /// Writes down what was taken since.
    pub(crate) fn write(&mut self) {
        let mut text = String::new();
        for place in std::mem::take(&mut self.fresh) {
            let entry = &self.entries[&place];
            let (instance, key) = place;
            let (from, from_key) = entry.from.expect("taken from somebody");
            let taken = words(entry.taken);
            let _ = writeln!(text, "T {instance} {} {from} {} {taken}", key.0, from_key.0);
        }
        if text.is_empty() {
            return;
        }
        self.file.write_all(text.as_bytes()).expect("writes");
    }

    /// The end of a session: what comes back is exactly the last of what was accepted.
    pub(crate) fn end(&mut self, place: Place, end: &End<Parcel>) {
        let entry = self.entries.entry(place).or_default();
        entry.ends += 1;
        assert_eq!(entry.ends, 1, "S4: one event of the end");
        let (sent, taken) = (entry.sent, entry.taken);
        for class in Class::ALL {
            let counts = end.counts[class.index()];
            let back = end.unacked.iter().filter(|unacked| unacked.class == class);
            let first = sent[class.index()] - counts.unacked;
            let mut put_on_a_link = counts.unacked_sent;
            let mut next = first;
            for unacked in back {
                let number = &unacked.payload.front()[24..32];
                let number = u64::from_le_bytes(number.try_into().expect("8 bytes"));
                assert_eq!(number, next, "S4: the last ones, in order");
                assert_eq!(unacked.sent, put_on_a_link > 0, "S4: the ones that were sent first");
                put_on_a_link = put_on_a_link.saturating_sub(1);
                next += 1;
            }
            assert_eq!(next, sent[class.index()], "S4: sent = received + taken back");
        }
        self.write();
        let column = |number: fn(&stellate_protocol::event::ClassCounts) -> u64| {
            words(Class::ALL.map(|class| number(&end.counts[class.index()])))
        };
        // A number that is not known is written as the greatest there is.
        let line = format!(
            "E {} {} {} {} {:?} {} {} {} {} {} {}\n",
            place.0,
            place.1.0,
            end.id.0,
            end.peer.map_or(0, |peer| peer.instance.0),
            end.cause,
            words(sent),
            words(taken),
            column(|counts| counts.unacked),
            column(|counts| counts.unacked_sent),
            column(|counts| counts.undelivered),
            column(|counts| counts.peer_delivered.unwrap_or(u64::MAX)),
        );
        self.file.write_all(line.as_bytes()).expect("writes");
    }

    /// The sessions that have not ended.
    pub(crate) fn open(&self) -> Vec<Place> {
        let open = self.entries.iter().filter(|(_, entry)| entry.ends == 0);
        open.map(|(place, _)| *place).collect()
    }
}

fn words(numbers: [u64; Class::COUNT]) -> String {
    numbers.map(|number| number.to_string()).join(" ")
}
