//! The ledger: what was acknowledged, and whether reads and replicas show it. A checker, and the
//! work that it judges.
//!
//! ```text
//!   work   ── Writing, Acked, Reading, Read ──► Ledger: a read shows the last write that was
//!   verify ── Copy of every replica ──────────►         acknowledged before it, or a later one;
//!                                                       every copy shows the last one
//! ```
//!
//! Each object has one writer, and its content says which write it is of. The same work, and the
//! same ledger, serve in virtual time, in one process and over as many.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use stellate::prelude::*;
use stellate::testing::{Action, Breach, Checker, Rng, Script, Seen, Site};

use super::client::{Client, GivenUp};
use super::messages::Got;

/// Bytes of an object that say what it is.
const HEAD: u64 = 16;
/// Copies that are asked for at once when all is over.
const VERIFIED_AT_ONCE: usize = 64;

/// What the client notes of its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// It sends the nth write of an object.
    Writing { object: u64, nth: u64 },
    /// That write was acknowledged.
    Acked { object: u64, nth: u64 },
    /// It asks for an object.
    Reading { read: u64, object: u64 },
    /// It was answered, with what the nth write wrote; 0 is nothing.
    Read { read: u64, nth: u64 },
    /// When all was over, an OSD had that of an object.
    Copy { osd: u64, object: u64, nth: u64 },
    /// What an OSD gave as an object was no write of it.
    Strange { what: String },
}

/// One object, as the ledger has it.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    sent: u64,
    acked: u64,
    copies: u64,
}

/// The checker.
#[derive(Debug)]
pub(crate) struct Ledger {
    replicas: u64,
    objects: BTreeMap<u64, Entry>,
    /// Open reads: of which object, and the least that they may show.
    reads: BTreeMap<u64, (u64, u64)>,
}

impl Ledger {
    /// For a cluster that keeps so many copies.
    pub(crate) fn new(replicas: u64) -> Self {
        Self { replicas, objects: BTreeMap::new(), reads: BTreeMap::new() }
    }

    fn enter(&mut self, fact: &Fact) -> Result<(), String> {
        match *fact {
            Fact::Strange { ref what } => Err(what.clone()),
            Fact::Writing { object, nth } => {
                self.objects.entry(object).or_default().sent = nth;
                Ok(())
            }
            Fact::Acked { object, nth } => {
                self.objects.entry(object).or_default().acked = nth;
                Ok(())
            }
            Fact::Reading { read, object } => {
                let least = self.objects.get(&object).map_or(0, |entry| entry.acked);
                self.reads.insert(read, (object, least));
                Ok(())
            }
            Fact::Read { read, nth } => {
                let Some((object, least)) = self.reads.remove(&read) else {
                    return Err(format!("read {read} was answered and never asked"));
                };
                let sent = self.objects.get(&object).map_or(0, |entry| entry.sent);
                match (least..=sent).contains(&nth) {
                    true => Ok(()),
                    false => Err(format!(
                        "object {object} was read as of write {nth}; {least} was acknowledged \
                         before, {sent} sent at most"
                    )),
                }
            }
            Fact::Copy { osd, object, nth } => {
                let entry = self.objects.entry(object).or_default();
                entry.copies += 1;
                match nth == entry.acked {
                    true => Ok(()),
                    false => Err(format!(
                        "osd.{osd} has object {object} as of write {nth}; {} was acknowledged",
                        entry.acked
                    )),
                }
            }
        }
    }
}

impl Checker for Ledger {
    fn see(&mut self, seen: &Seen<'_>) -> Result<(), Breach> {
        match seen.note::<Fact>() {
            Some(fact) => self.enter(fact).map_err(|text| Breach::new("ledger", text)),
            None => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<(), Breach> {
        if self.objects.is_empty() {
            return Err(Breach::new("ledger", "nothing was written"));
        }
        for (object, Entry { acked, copies, .. }) in &self.objects {
            if *acked == 0 || *copies != self.replicas {
                let text =
                    format!("object {object}: write {acked} acknowledged, {copies} copies seen");
                return Err(Breach::new("ledger", text));
            }
        }
        Ok(())
    }
}

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Work {
    pub(crate) osds: u64,
    /// The number of the first object.
    pub(crate) first: u64,
    /// How many, from there on.
    pub(crate) objects: u64,
    /// Writes of each object, one after the other.
    pub(crate) writes: u64,
    /// Between two writes of one object.
    pub(crate) pause: Duration,
    /// Objects are shorter than so many bytes, and 16 bytes long at least.
    pub(crate) bytes: u64,
}

impl Work {
    fn range(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.objects
    }
}

/// Writes and reads all objects, as a client on that node.
///
/// # Errors
/// What the client says.
pub(crate) async fn work(site: Site, work: Work) -> Result<Client, GivenUp> {
    let started = Client::at(&site).await;
    let client = started.map_err(|error| GivenUp(error.to_string()))?;
    client.wait_for(work.osds as usize).await;
    stream::iter(work.range())
        .map(|object| one_object(&site, &client, object, work))
        .buffer_unordered(work.objects.max(1) as usize)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(client)
}

async fn one_object(site: &Site, client: &Client, object: u64, work: Work) -> Result<(), GivenUp> {
    for nth in 1..=work.writes {
        site.note(Fact::Writing { object, nth });
        client.put(name(object), content(object, nth, work.bytes)).await?;
        site.note(Fact::Acked { object, nth });
        if !work.pause.is_zero() {
            tokio::time::sleep(work.pause).await;
        }
        let read = object * work.writes + nth;
        let primary = client.replicas(&name(object))[0];
        site.note(Fact::Reading { read, object });
        // A read that fails shows nothing, and is not tried again.
        if let Ok((got, data)) = client.get(primary, &name(object)).await {
            site.note(match shown(object, work.bytes, &got, &data) {
                Ok(nth) => Fact::Read { read, nth },
                Err(what) => Fact::Strange { what },
            });
        }
    }
    Ok(())
}

/// Reads every object from each OSD that should have it.
///
/// # Errors
/// An OSD cannot be asked.
pub(crate) async fn verify(site: &Site, client: &Client, work: Work) -> Result<(), GivenUp> {
    let copies = work.range().flat_map(|object| {
        client.replicas(&name(object)).into_iter().map(move |osd| (osd, object))
    });
    let check = async |(osd, object)| {
        let (got, data) = client.get(osd, &name(object)).await?;
        site.note(match shown(object, work.bytes, &got, &data) {
            Ok(nth) => Fact::Copy { osd, object, nth },
            Err(what) => Fact::Strange { what },
        });
        Ok(())
    };
    stream::iter(copies)
        .map(check)
        .buffer_unordered(VERIFIED_AT_ONCE)
        .try_for_each(|()| async { Ok(()) })
        .await
}

fn name(object: u64) -> String {
    format!("object-{object}")
}

/// Its first bytes say which write it is, and of which object.
fn content(object: u64, nth: u64, bytes: u64) -> Bytes {
    let mut content = vec![object as u8; len(object, nth, bytes)];
    content[..8].copy_from_slice(&nth.to_le_bytes());
    content[8..16].copy_from_slice(&object.to_le_bytes());
    content.into()
}

fn len(object: u64, nth: u64, bytes: u64) -> usize {
    let scattered = object.wrapping_mul(97).wrapping_add(nth.wrapping_mul(1009));
    (HEAD + scattered % bytes.saturating_sub(HEAD).max(1)) as usize
}

/// Which write of the object that is; 0 is nothing.
///
/// # Errors
/// What is wrong with it, in words.
fn shown(object: u64, bytes: u64, got: &Got, data: &[u8]) -> Result<u64, String> {
    match got {
        Got::Found { .. } => write_of(object, bytes, data)
            .ok_or_else(|| format!("an OSD gave bytes that no write of object {object} wrote")),
        Got::Missing => Ok(0),
        other => Err(format!("an OSD says {other:?} of object {object}")),
    }
}

/// Looks at every byte, twice at most, and keeps nothing: a benchmark has this in its loop.
fn write_of(object: u64, bytes: u64, data: &[u8]) -> Option<u64> {
    let (nth, rest) = data.split_first_chunk()?;
    let (of, filler) = rest.split_first_chunk()?;
    let nth = u64::from_le_bytes(*nth);
    let whole =
        nth > 0 && u64::from_le_bytes(*of) == object && data.len() == len(object, nth, bytes);
    // Each byte is as the one before it.
    let (head, tail) = (filler.split_last(), filler.split_first());
    let same = head
        .zip(tail)
        .is_none_or(|((_, head), (first, tail))| *first == object as u8 && head == tail);
    (whole && same).then_some(nth)
}

/// What goes wrong in a run of that seed, within so much time: any OSD, none of it for long.
pub(crate) fn faults(seed: u64, osds: u64, span: Duration) -> Script {
    let mut rng = Rng::fork(seed, "faults");
    let mut draw = |below: u64| if below == 0 { 0 } else { rng.next_u64() % below };
    let millis = Duration::from_millis;
    let mut script = Script::new();
    for _ in 0..8 + draw(8) {
        let at = millis(200 + draw(span.as_millis() as u64));
        let (node, other) = (EntityName::osd(draw(osds)), EntityName::osd(draw(osds)));
        let lasts = millis(50 + draw(1_500));
        script = script.at(
            at,
            match draw(8) {
                0 | 1 => Action::Crash { node, down: lasts },
                2 => Action::Panic { node, actor: "osd".into() },
                3 => Action::Partition { side: vec![node], lasts },
                4 => Action::Stall { from: node, to: super::daemon::CLIENT, lasts },
                5 => Action::CutAfterBytes { from: node, to: other, bytes: 1 + draw(20_000) },
                6 => Action::Cut { a: node, b: super::daemon::CLIENT },
                _ => Action::Cut { a: node, b: other },
            },
        );
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: u64 = 12_000;

    /// Of object 3.
    fn found(data: &[u8]) -> Result<u64, String> {
        shown(3, BYTES, &Got::Found { version: 1, sum: 0 }, data)
    }

    #[test]
    fn s2_only_what_was_written_of_an_object_is_a_write_of_it() {
        let mine = content(3, 2, BYTES);
        assert_eq!(found(&mine), Ok(2));
        assert_eq!(shown(3, BYTES, &Got::Missing, &[]), Ok(0));
        let strange = "an OSD gave bytes that no write of object 3 wrote";
        let is_strange = |data: &[u8]| assert_eq!(found(data), Err(strange.into()));
        is_strange(&content(4, 2, BYTES));
        // The last byte of its number is the same, and so is its length.
        is_strange(&content(3 + 256 * (BYTES - HEAD), 2, BYTES));
        for place in [0, 8, 15, 16, mine.len() / 2, mine.len() - 1] {
            let mut damaged = mine.to_vec();
            damaged[place] ^= 1;
            is_strange(&damaged);
        }
        is_strange(&mine[..mine.len() - 1]);
        is_strange(&mine[..7]);
        is_strange(&[]);
        let mut none = mine.to_vec();
        none[..8].fill(0);
        is_strange(&none);
    }

    #[test]
    fn s2_what_is_no_write_is_a_breach() {
        let mut ledger = Ledger::new(1);
        let what = "an OSD gave bytes that no write of object 3 wrote".to_owned();
        assert_eq!(ledger.enter(&Fact::Strange { what: what.clone() }), Err(what));
    }
}
