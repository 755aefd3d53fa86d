//! A layer between messenger and store that can be told to lie, to show that the check would see it.
//!
//! Honest, it passes everything on. Otherwise it spoils the first write and every seventh after it.

use serde::{Deserialize, Serialize};
use stellate::prelude::*;

use super::messages::{Outcome, Write};

/// Every how many writes it strikes.
const EVERY: u64 = 7;

/// What it does to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sabotage {
    /// Says that it is stored, and loses it.
    Drop,
    /// Passes it on twice.
    Dup,
    /// Keeps it back until the next has passed.
    Swap,
    /// Flips a bit of its data, and corrects the checksum so that only the file itself can tell.
    Flip,
}

impl std::str::FromStr for Sabotage {
    type Err = String;

    fn from_str(how: &str) -> Result<Self, String> {
        match how {
            "drop" => Ok(Self::Drop),
            "dup" => Ok(Self::Dup),
            "swap" => Ok(Self::Swap),
            "flip" => Ok(Self::Flip),
            _ => Err(format!("{how:?} is none of drop, dup, swap, flip")),
        }
    }
}

impl std::fmt::Display for Sabotage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Drop => "drop",
            Self::Dup => "dup",
            Self::Swap => "swap",
            Self::Flip => "flip",
        })
    }
}

/// A write that has passed the layer.
pub(crate) struct Arrived<W: Write> {
    pub(crate) write: W,
    pub(crate) data: Bytes,
    pub(crate) class: Class,
    /// The right to answer; the second of two copies has none.
    pub(crate) answer: Option<Deferred<W>>,
}

/// The layer, for one type of write.
pub(crate) struct Layer<W: Write> {
    sabotage: Option<Sabotage>,
    passed: u64,
    kept: Option<Arrived<W>>,
}

impl<W: Write> Layer<W> {
    pub(crate) fn new(sabotage: Option<Sabotage>) -> Self {
        Self { sabotage, passed: 0, kept: None }
    }

    /// Whether a write is kept back.
    pub(crate) fn keeps(&self) -> bool {
        self.kept.is_some()
    }

    /// Lets go what is kept back.
    pub(crate) fn release(&mut self) -> Option<Arrived<W>> {
        self.kept.take()
    }

    /// What the store gets to see of a write that the messenger delivered.
    pub(crate) fn pass(&mut self, incoming: Incoming<W>) -> Vec<Arrived<W>> {
        let class = incoming.class();
        let (write, data, answer) = incoming.into_parts();
        let mut arrived = Arrived { write, data, class, answer: Some(answer) };
        let strikes = self.passed.is_multiple_of(EVERY);
        self.passed += 1;
        let Some(sabotage) = self.sabotage.filter(|_| strikes) else {
            // After it what was kept back: that is the swap.
            return std::iter::once(arrived).chain(self.kept.take()).collect();
        };
        match sabotage {
            Sabotage::Drop => {
                if let Some(answer) = arrived.answer {
                    answer.reply(Outcome::Stored { version: 1, repeated: false });
                }
                Vec::new()
            }
            Sabotage::Dup => {
                let (write, data) = (arrived.write.clone(), arrived.data.clone());
                vec![arrived, Arrived { write, data, class, answer: None }]
            }
            Sabotage::Swap => self.kept.replace(arrived).into_iter().collect(),
            Sabotage::Flip => {
                let mut spoiled = arrived.data.to_vec();
                // An empty object has no bit to flip: it gets a byte too many.
                match spoiled.first_mut() {
                    Some(byte) => *byte ^= 1,
                    None => spoiled.push(1),
                }
                *arrived.write.sum() = crc32c::crc32c(&spoiled);
                arrived.data = spoiled.into();
                vec![arrived]
            }
        }
    }
}
