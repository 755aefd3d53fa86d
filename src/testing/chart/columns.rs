//! The events of a tape as columns of numbers, each in as few bytes as it needs (LEB128), and the
//! tables that the numbers point into.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use stellate_protocol::frame;
use stellate_transport::trace::{Call, Event, More, NodeNo, Passage, SessionTag, Tape, What};

use super::json::{Text, base64};

/// Texts, each of them once; its number counts from 1, and 0 is none.
#[derive(Default)]
struct Table {
    texts: Vec<String>,
    numbers: BTreeMap<String, u64>,
}

impl Table {
    fn enter(&mut self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.texts.push(text.to_owned());
        let number = self.texts.len() as u64;
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn write(&self, name: &str, out: &mut dyn Write) -> io::Result<()> {
        write!(out, ",\"{name}\":[")?;
        for (place, text) in self.texts.iter().enumerate() {
            write!(out, "{}{}", if place > 0 { "," } else { "" }, Text(text))?;
        }
        write!(out, "]")
    }
}

/// One column.
#[derive(Default)]
struct Column(Vec<u8>);

impl Column {
    fn push(&mut self, mut number: u64) {
        while number > 127 {
            self.0.push(number as u8 | 128);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}

/// What the page is told of each event.
const NAMES: [&str; 16] = [
    "tick", "ago", "node", "peer", "link", "session", "kind", "lane", "seq", "type", "front",
    "data", "call", "id", "crc", "more",
];

/// All columns, and their tables.
pub(super) struct Columns<'a> {
    tape: &'a Tape,
    columns: [Column; NAMES.len()],
    kinds: Table,
    sessions: Table,
    types: Table,
    calls: Table,
    strings: Table,
}

impl<'a> Columns<'a> {
    pub(super) fn of(tape: &'a Tape) -> Self {
        let mut columns = Self {
            tape,
            columns: Default::default(),
            kinds: Table::default(),
            sessions: Table::default(),
            types: Table::default(),
            calls: Table::default(),
            strings: Table::default(),
        };
        let mut before = 0;
        let mut text = String::new();
        for event in &tape.events {
            columns.add(event, before, &mut text);
            before = event.tick;
        }
        columns
    }

    fn add(&mut self, event: &Event, before: u64, text: &mut String) {
        let Event { tick, node, peer, link, session, what } = event;
        // 0 is the network, or nobody.
        let number = |node: &NodeNo| u64::from(node.0.wrapping_add(1));
        let passage = what.passage();
        let state = match what {
            What::Frame(_) => 1,
            What::Lost(_) => 2,
            What::Waiting(_) => 3,
            _ => 0,
        };
        let session = match session {
            SessionTag(0) => 0,
            tag => self.sessions.enter(&tag.to_string()),
        };
        let kind = self.kinds.enter(what.word()).saturating_sub(1);
        let (lane, seq, message_type) = subject_of(what);
        let message_type = self.enter_type(message_type);
        let (call, id) = passage.map_or(("", 0), call_of);
        let call = self.calls.enter(call);
        text.clear();
        // Writing to a string does not fail.
        let _ = write!(text, "{}", More(event));
        let more = self.strings.enter(text.trim());
        let numbers = [
            tick - before,
            passage.map_or(0, |passage| tick.saturating_sub(passage.sent)),
            number(node),
            peer.as_ref().map_or(0, number),
            *link,
            session,
            kind << 2 | state,
            lane,
            seq,
            message_type,
            passage.map_or(0, |passage| u64::from(passage.front)),
            passage.map_or(0, |passage| u64::from(passage.data)),
            call,
            id,
            passage.map_or(0, |passage| u64::from(passage.header_crc)),
            more,
        ];
        for (column, number) in self.columns.iter_mut().zip(numbers) {
            column.push(number);
        }
    }

    fn enter_type(&mut self, number: u32) -> u64 {
        match self.tape.names.message_type(number) {
            _ if number == 0 => 0,
            Some(name) => self.types.enter(name),
            None => self.types.enter(&format!("{number:#06x}")),
        }
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut nodes = Table::default();
        for name in self.tape.names.nodes() {
            // Not through the numbers: an empty name is a name.
            nodes.texts.push(name.to_string());
        }
        nodes.write("nodes", out)?;
        self.kinds.write("kinds", out)?;
        self.sessions.write("sessions", out)?;
        self.types.write("types", out)?;
        self.calls.write("calls", out)?;
        self.strings.write("strings", out)?;
        write!(out, ",\"columns\":{{")?;
        for (place, (name, column)) in NAMES.iter().zip(&self.columns).enumerate() {
            write!(out, "{}\"{name}\":\"", if place > 0 { "," } else { "" })?;
            base64(&column.0, out)?;
            write!(out, "\"")?;
        }
        write!(out, "}}")
    }
}

/// Lane, counted from 1, number in it, and message type.
fn subject_of(what: &What) -> (u64, u64, u32) {
    let of_lane = |lane: stellate_protocol::Lane| lane.index() as u64 + 1;
    match what {
        What::Call(Call::Message { lane, seq, message_type, .. }) => {
            (of_lane(*lane), *seq, *message_type)
        }
        other => other.passage().map_or((0, 0, 0), |passage| {
            (passage.lane.map_or(0, of_lane), passage.seq, passage.message_type)
        }),
    }
}

/// What a message asks for or answers, and which one.
fn call_of(passage: &Passage) -> (&'static str, u64) {
    use stellate_protocol::frame::Outcome;
    match passage.call {
        None => ("", 0),
        Some(frame::Call::OneWay) => ("one-way", 0),
        Some(frame::Call::Notify { id }) => ("notify", id.0),
        Some(frame::Call::Request { id, .. }) => ("request", id.0),
        Some(frame::Call::Rejected { seq, .. }) => ("rejects a message", seq.0),
        Some(frame::Call::Reply { id, outcome }) => match outcome {
            Outcome::Reply => ("reply", id.0),
            Outcome::Handled => ("says: handled", id.0),
            Outcome::NoReply => ("says: no reply", id.0),
            Outcome::HandlerPanicked => ("says: the handler panicked", id.0),
            Outcome::Expired => ("says: too late", id.0),
            Outcome::Undeliverable(_) => ("says: undeliverable", id.0),
        },
    }
}
