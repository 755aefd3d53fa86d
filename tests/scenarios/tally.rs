//! What a side saw and counted, as a scenario's outcome tells it.

use std::fmt;

use stellate::prelude::*;
use stellate::testing::Faults;

/// One session as one side knew it: what was accepted, and what became of it.
pub struct Life {
    pub connection: Connection,
    /// Numbers of the messages that `send` accepted, in order.
    pub accepted: Vec<u32>,
    /// Numbers of the messages taken back at the end, and whether they were ever on a link.
    pub taken_back: Vec<(u32, bool)>,
    /// How requests ended, by number.
    pub answers: Vec<(u32, Result<u32, RequestError>)>,
    /// Ends that were told of it, with the counts.
    pub ends: Vec<(EndCause, Counts)>,
}

impl Life {
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
            accepted: Vec::new(),
            taken_back: Vec::new(),
            answers: Vec::new(),
            ends: Vec::new(),
        }
    }
}

/// A message in front of its handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The session here.
    pub session: u64,
    /// The sender's session, as it numbers them.
    pub life: u32,
    /// The message.
    pub n: u32,
}

/// All that one side saw.
#[derive(Default)]
pub struct Tally {
    pub lives: Vec<Life>,
    pub handled: Vec<Handled>,
    pub connected: u64,
    pub admitted: u64,
    pub resumed: u64,
    pub resets: u64,
    pub conflicts: u64,
    pub undeliverable: u64,
    /// Data segments that were not what was sent.
    pub damaged: u64,
    /// What passed, as the transport saw it.
    pub passed: Faults,
    pub left: usize,
}

/// The numbers that a row of the table gives for one side, over all sessions of that side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub dials: u64,
    pub hellos_sent: u64,
    pub hellos_received: u64,
    pub resumes_sent: u64,
    pub resumes_received: u64,
    pub links_accepted: u64,
    pub links_replaced: u64,
    pub resets: u64,
    /// Events.
    pub connected: u64,
    pub resumed: u64,
    /// The causes of the ends, in order.
    pub ended: Vec<EndCause>,
}

impl Tally {
    pub fn side(&self) -> Side {
        let mut side = Side {
            connected: self.connected,
            resumed: self.resumed,
            ended: self.lives.iter().flat_map(|life| life.ends.iter().map(|end| end.0)).collect(),
            ..Side::default()
        };
        for life in &self.lives {
            let counters = life.connection.counters();
            side.dials += counters.dials;
            side.hellos_sent += counters.hellos_sent;
            side.hellos_received += counters.hellos_received;
            side.resumes_sent += counters.resumes_sent;
            side.resumes_received += counters.resumes_received;
            side.links_accepted += counters.links_accepted;
            side.links_replaced += counters.links_replaced;
            side.resets += counters.resets;
        }
        side
    }

    pub fn life_of(&mut self, connection: &Connection) -> usize {
        match self.lives.iter().position(|life| life.connection == *connection) {
            Some(at) => at,
            None => {
                self.lives.push(Life::new(connection.clone()));
                self.lives.len() - 1
            }
        }
    }
}

/// The events of a side: births, resumes, ends.
pub type Heard = (u64, u64, Vec<EndCause>);

impl Side {
    pub fn heard(&self) -> Heard {
        (self.connected, self.resumed, self.ended.clone())
    }
}

impl fmt::Display for Side {
    /// `d1 h1/0 r2/0 l0/0 z0 up1 re2 ClosedHere`, as the head of the golden files explains.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!(
            "d{} h{}/{} r{}/{} l{}/{} z{} up{} re{}",
            self.dials,
            self.hellos_sent,
            self.hellos_received,
            self.resumes_sent,
            self.resumes_received,
            self.links_accepted,
            self.links_replaced,
            self.resets,
            self.connected,
            self.resumed,
        );
        for cause in &self.ended {
            text.push_str(&format!(" {cause:?}"));
        }
        f.pad(&text)
    }
}

/// What came of a conversation.
pub struct Outcome {
    pub a: Tally,
    pub b: Tally,
    /// How often the fault struck.
    pub hits: usize,
    pub violations: usize,
    /// The longest that a leg took to settle, from when faults had stopped.
    pub slowest: std::time::Duration,
}
