//! Objects on disk: where they are kept, and an actor that owns the writes there.
//!
//! ```text
//!   Apply ─► batch ─┐
//!   Apply ─► batch ─┼─ Flush, behind all that waits ─► one transaction, one fsync ─► all answers
//!   Apply ─► batch ─┘
//! ```
//!
//! The write and the id of its op are stored in one transaction, so a write is applied once: its
//! retry finds the id, after a restart as well. Ids that their client will not use again are
//! forgotten; it says so with each write. A copy that is older than what is here is not
//! stored over it.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use stellate::testing::Site;
use tokio::sync::oneshot;

use super::messages::{Got, OpId};
use super::{database, memory};

/// Bytes in one transaction; more waiting is for the next.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Why the store did not do what it was asked, in words that name the file.
#[derive(Clone, Debug)]
pub(crate) struct StoreError(pub(crate) String);

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// Where an OSD keeps its objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// In an embedded database, on a real disk or on one of a simulation.
    #[default]
    InDatabase,
    /// In memory, which the simulation keeps through crashes.
    InMemory,
}

impl Keeps {
    /// Opens what the OSD has stored in earlier lives.
    ///
    /// # Errors
    /// Another process has it open, the disk does not take it, or only a simulation could keep it.
    pub(crate) fn open(self, site: &Site) -> Result<Arc<dyn Shelf>, StoreError> {
        Ok(match self {
            Self::InDatabase => Arc::new(database::open(site)?),
            Self::InMemory => memory::open(site)?,
        })
    }
}

/// Where objects are kept.
pub(crate) trait Shelf: Send + Sync {
    /// Applies all of the batch, or nothing of it: what is answered survives every crash.
    fn write(&self, batch: &[&Apply]) -> Result<Vec<Applied>, StoreError>;

    /// What is there under that name, as it is.
    fn fetch(&self, object: &str) -> Result<Found, StoreError>;
}

/// What one transaction sees and changes.
pub(crate) trait Tables {
    /// What may go wrong.
    type Error;

    /// The version that an op made, if it is remembered.
    fn op(&self, client: u128, number: u64) -> Result<Option<u64>, Self::Error>;
    /// Remembers it.
    fn note_op(&mut self, client: u128, number: u64, version: u64) -> Result<(), Self::Error>;
    /// Below which number all ops of that client are answered.
    fn floor(&self, client: u128) -> Result<u64, Self::Error>;
    /// Raises it, and forgets the ops below.
    fn raise_floor(&mut self, client: u128, floor: u64) -> Result<(), Self::Error>;
    /// The version of an object; 0 if there is none.
    fn version(&self, object: &str) -> Result<u64, Self::Error>;
    /// Stores an object.
    fn put(&mut self, apply: &Apply, version: u64) -> Result<(), Self::Error>;
}

/// Applies one write, once.
pub(crate) fn apply_one<T: Tables>(tables: &mut T, apply: &Apply) -> Result<Applied, T::Error> {
    let OpId { client, number, floor } = apply.op;
    if let Some(version) = tables.op(client, number)? {
        return Ok(Applied { version, repeated: true });
    }
    let known = tables.floor(client)?;
    if floor > known {
        tables.raise_floor(client, floor)?;
    }
    if number < floor.max(known) {
        // Answered long ago: a copy that was under way all that time.
        return Ok(Applied { version: 0, repeated: true });
    }
    let have = tables.version(&apply.object)?;
    let version = apply.version.unwrap_or(have + 1);
    if version > have {
        tables.put(apply, version)?;
    }
    tables.note_op(client, number, version)?;
    Ok(Applied { version, repeated: false })
}

/// Store these bytes.
pub(crate) struct Apply {
    pub(crate) object: String,
    pub(crate) op: OpId,
    pub(crate) sum: u32,
    /// The version that the primary gave it; `None` on the primary, which gives the next.
    pub(crate) version: Option<u64>,
    pub(crate) data: Bytes,
}

/// They are on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) version: u64,
    /// They were before.
    pub(crate) repeated: bool,
}

type Answer = Result<Applied, StoreError>;

impl Message for Apply {
    type Result = Answer;
}

/// Writes what waits.
struct Flush;

impl Message for Flush {
    type Result = ();
}

/// What is there under this name.
pub(crate) struct Fetch {
    pub(crate) object: String,
}

impl Message for Fetch {
    type Result = Found;
}

/// The answer to a [`Fetch`].
pub(crate) struct Found {
    pub(crate) got: Got,
    pub(crate) data: Bytes,
}

impl<A, M> actix::dev::MessageResponse<A, M> for Found
where
    A: Actor,
    M: Message<Result = Self>,
{
    fn handle(self, _: &mut A::Context, answer: Option<actix::dev::OneshotSender<Self>>) {
        if let Some(answer) = answer {
            // Nobody waits any more: nothing to do.
            let _ = answer.send(self);
        }
    }
}

/// The actor. It may block on the disk: it has a thread of its own.
pub(crate) struct Store {
    shelf: Arc<dyn Shelf>,
    batch: Vec<(Apply, oneshot::Sender<Answer>)>,
    bytes: usize,
}

impl Store {
    pub(crate) fn new(shelf: Arc<dyn Shelf>) -> Self {
        Self { shelf, batch: Vec::new(), bytes: 0 }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let writes: Vec<&Apply> = batch.iter().map(|(apply, _)| apply).collect();
        let written = self.shelf.write(&writes);
        for (index, (_, answer)) in batch.into_iter().enumerate() {
            let one = match &written {
                Ok(applied) => Ok(applied[index]),
                Err(error) => Err(StoreError(format!("the store does not take writes: {error}"))),
            };
            // A writer that has gone, as after a panic, asks again.
            let _ = answer.send(one);
        }
    }

    fn fetch(&self, object: &str) -> Found {
        let nothing = |got| Found { got, data: Bytes::new() };
        match self.shelf.fetch(object) {
            Ok(Found { got: Got::Found { sum, .. }, data }) if crc32c::crc32c(&data) != sum => {
                nothing(Got::Corrupt)
            }
            Ok(found) => found,
            Err(error) => nothing(Got::Failed { why: error.to_string() }),
        }
    }
}

impl Actor for Store {
    type Context = Context<Self>;
}

impl Handler<Apply> for Store {
    type Result = ResponseFuture<Answer>;

    fn handle(&mut self, apply: Apply, ctx: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.bytes += apply.data.len();
        self.batch.push((apply, answer));
        if self.batch.len() == 1 {
            ctx.notify(Flush);
        }
        if self.bytes >= BATCH_BYTES {
            self.flush();
        }
        Box::pin(async move {
            let gone = || StoreError("the store was restarted with the write in hand".into());
            answered.await.unwrap_or_else(|_| Err(gone()))
        })
    }
}

impl Handler<Flush> for Store {
    type Result = ();

    fn handle(&mut self, _: Flush, _: &mut Self::Context) {
        if !self.batch.is_empty() {
            self.flush();
        }
    }
}

impl Handler<Fetch> for Store {
    type Result = Found;

    fn handle(&mut self, fetch: Fetch, _: &mut Self::Context) -> Found {
        self.fetch(&fetch.object)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // The tests of an example are not seen as tests by the lint.
mod tests {
    use super::*;

    fn apply(
        shelf: &dyn Shelf,
        number: u64,
        floor: u64,
        version: Option<u64>,
        data: &str,
    ) -> Applied {
        let op = OpId { client: 7, number, floor };
        let data = Bytes::from(data.to_owned());
        let (sum, object) = (crc32c::crc32c(&data), "name".to_owned());
        shelf.write(&[&Apply { object, op, sum, version, data }]).unwrap()[0]
    }

    fn data(shelf: &dyn Shelf) -> Bytes {
        shelf.fetch("name").unwrap().data
    }

    /// `open` gives what was closed, as after a restart.
    fn holds(open: &dyn Fn() -> Arc<dyn Shelf>) {
        let shelf = open();
        let first = Applied { version: 1, repeated: false };
        assert_eq!(apply(&*shelf, 0, 0, None, "one"), first);
        assert_eq!(apply(&*shelf, 1, 0, None, "two").version, 2);
        assert!(apply(&*shelf, 0, 0, None, "one").repeated);
        assert_eq!(data(&*shelf), "two");
        assert_eq!(apply(&*shelf, 3, 0, Some(1), "an old copy").version, 1);
        assert_eq!(data(&*shelf), "two");
        drop(shelf);

        // After a restart as well, and after the ids were forgotten.
        let shelf = open();
        assert!(apply(&*shelf, 1, 0, None, "two").repeated);
        assert_eq!(apply(&*shelf, 4, 4, None, "three").version, 3);
        assert!(apply(&*shelf, 1, 0, None, "two").repeated);
        assert_eq!(apply(&*shelf, 1, 0, None, "two").version, 0, "its id is forgotten");
        assert_eq!(data(&*shelf), "three");
    }

    #[test]
    fn a_write_is_applied_once_and_an_old_copy_never_over_a_new_one() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("x.redb");
        holds(&|| Arc::new(database::with_tables(redb::Database::create(&file).unwrap()).unwrap()));
        let memory = Arc::new(memory::Memory::default());
        holds(&|| memory.clone());
    }

    #[test]
    fn what_does_not_have_its_checksum_is_not_handed_out() {
        let memory = Arc::new(memory::Memory::default());
        let op = OpId { client: 7, number: 0, floor: 0 };
        let (object, data) = ("name".to_owned(), Bytes::from_static(b"one"));
        memory.write(&[&Apply { object, op, sum: 1, version: None, data }]).unwrap();
        let Found { got, data } = Store::new(memory).fetch("name");
        assert_eq!((got, data), (Got::Corrupt, Bytes::new()));
    }
}
