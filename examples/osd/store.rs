//! Objects on disk: an embedded database, and an actor that owns its writes.
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

use std::io;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use redb::{
    Database, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition,
    WriteTransaction,
};
use stellate::testing::{DiskFile, NodeHandle, Site, Storage};
use tokio::sync::oneshot;

use super::messages::{Got, OpId};

/// Name → version, checksum, bytes.
const OBJECTS: TableDefinition<'_, &str, (u64, u32, &[u8])> = TableDefinition::new("objects");
/// Client and number of an op → the version that it made.
const OPS: TableDefinition<'_, (u128, u64), u64> = TableDefinition::new("ops");

/// Client → below which number its ops are answered and forgotten.
const FLOORS: TableDefinition<'_, u128, u64> = TableDefinition::new("floors");

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

/// Opens the database, or makes it.
///
/// # Errors
/// Another process has it open, or the disk does not take it.
pub(crate) fn open(site: &Site) -> Result<Arc<Database>, StoreError> {
    let failed = |what: &dyn std::fmt::Display| {
        StoreError(format!("cannot open the store of {}: {what}", site.name()))
    };
    let created = match (site.storage(), site.simulation()) {
        (Storage::Disk(disk), Some(node)) => {
            let file = Simulated { file: disk.file("objects.redb"), node: node.clone() };
            Database::builder().create_with_backend(file)
        }
        (Storage::Directory(home), _) => Database::create(home.join("objects.redb")),
        (Storage::Disk(_), None) => return Err(failed(&"only a simulation has such a disk")),
    };
    let database = created.map_err(|error| failed(&error))?;
    with_tables(Arc::new(database)).map_err(|error| failed(&error))
}

fn with_tables(database: Arc<Database>) -> Result<Arc<Database>, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(OPS)?;
    transaction.open_table(FLOORS)?;
    transaction.commit()?;
    Ok(database)
}

/// A file of a simulated disk, as the database wants it. What a crashed node would still write, as
/// the database does when it is dropped, does not get there.
#[derive(Debug)]
struct Simulated {
    file: DiskFile,
    node: NodeHandle,
}

impl Simulated {
    fn alive(&self) -> io::Result<()> {
        if self.node.is_alive() { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

impl StorageBackend for Simulated {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len())
    }

    fn read(&self, at: u64, out: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_at(at, out.len());
        if read.len() < out.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        out.copy_from_slice(&read);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?;
        self.file.set_len(len).map_err(io::Error::other)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?;
        self.file.sync();
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?;
        self.file.write_at(at, data).map_err(io::Error::other)
    }
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
    database: Arc<Database>,
    batch: Vec<(Apply, oneshot::Sender<Answer>)>,
    bytes: usize,
}

impl Store {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, batch: Vec::new(), bytes: 0 }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let written = self.write(&batch);
        for (index, (_, answer)) in batch.into_iter().enumerate() {
            let one = match &written {
                Ok(applied) => Ok(applied[index]),
                Err(error) => Err(StoreError(format!("the store does not take writes: {error}"))),
            };
            // A writer that has gone, as after a panic, asks again.
            let _ = answer.send(one);
        }
    }

    /// All of the batch, or nothing of it.
    fn write(
        &self,
        batch: &[(Apply, oneshot::Sender<Answer>)],
    ) -> Result<Vec<Applied>, redb::Error> {
        let transaction = self.database.begin_write()?;
        let applied = batch.iter().map(|(apply, _)| apply_one(&transaction, apply)).collect();
        let applied: Result<Vec<Applied>, redb::Error> = applied;
        let applied = applied?;
        transaction.commit()?;
        Ok(applied)
    }

    fn fetch(&self, object: &str) -> Result<Found, redb::Error> {
        let objects = self.database.begin_read()?.open_table(OBJECTS)?;
        let Some(found) = objects.get(object)? else {
            return Ok(Found { got: Got::Missing, data: Bytes::new() });
        };
        let (version, sum, data) = found.value();
        if crc32c::crc32c(data) != sum {
            return Ok(Found { got: Got::Corrupt, data: Bytes::new() });
        }
        Ok(Found { got: Got::Found { version, sum }, data: Bytes::copy_from_slice(data) })
    }
}

fn apply_one(transaction: &WriteTransaction, apply: &Apply) -> Result<Applied, redb::Error> {
    let mut ops = transaction.open_table(OPS)?;
    let id = (apply.op.client, apply.op.number);
    if let Some(version) = ops.get(id)?.map(|version| version.value()) {
        return Ok(Applied { version, repeated: true });
    }
    if apply.op.number < raise_floor(transaction, &mut ops, apply.op)? {
        // Answered long ago: a copy that was under way all that time.
        return Ok(Applied { version: 0, repeated: true });
    }
    let mut objects = transaction.open_table(OBJECTS)?;
    let have = objects.get(apply.object.as_str())?.map_or(0, |found| found.value().0);
    let version = apply.version.unwrap_or(have + 1);
    if version > have {
        objects.insert(apply.object.as_str(), (version, apply.sum, &apply.data[..]))?;
    }
    ops.insert(id, version)?;
    Ok(Applied { version, repeated: false })
}

/// The number below which all ops of that client are answered. They are forgotten.
fn raise_floor(
    transaction: &WriteTransaction,
    ops: &mut Table<'_, (u128, u64), u64>,
    op: OpId,
) -> Result<u64, redb::Error> {
    let mut floors = transaction.open_table(FLOORS)?;
    let old = floors.get(op.client)?.map_or(0, |floor| floor.value());
    if op.floor <= old {
        return Ok(old);
    }
    floors.insert(op.client, op.floor)?;
    ops.retain_in((op.client, 0)..(op.client, op.floor), |_, _| false)?;
    Ok(op.floor)
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
        self.fetch(&fetch.object).unwrap_or_else(|error| {
            let got = Got::Failed { why: error.to_string() };
            Found { got, data: Bytes::new() }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // The tests of an example are not seen as tests by the lint.
mod tests {
    use super::*;

    fn apply(store: &Store, number: u64, floor: u64, version: Option<u64>, data: &str) -> Applied {
        let op = OpId { client: 7, number, floor };
        let data = Bytes::from(data.to_owned());
        let (sum, object) = (crc32c::crc32c(&data), "name".to_owned());
        let apply = Apply { object, op, sum, version, data };
        store.write(&[(apply, oneshot::channel().0)]).unwrap()[0]
    }

    fn data(store: &Store) -> Bytes {
        store.fetch("name").unwrap().data
    }

    #[test]
    fn a_write_is_applied_once_and_an_old_copy_never_over_a_new_one() {
        let home = tempfile::tempdir().unwrap();
        let open = || Arc::new(Database::create(home.path().join("x.redb")).unwrap());
        let store = Store::new(with_tables(open()).unwrap());
        let first = Applied { version: 1, repeated: false };
        assert_eq!(apply(&store, 0, 0, None, "one"), first);
        assert_eq!(apply(&store, 1, 0, None, "two").version, 2);
        assert!(apply(&store, 0, 0, None, "one").repeated);
        assert_eq!(data(&store), "two");
        assert_eq!(apply(&store, 3, 0, Some(1), "an old copy").version, 1);
        assert_eq!(data(&store), "two");
        drop(store);

        // After a restart as well, and after the ids were forgotten.
        let store = Store::new(with_tables(open()).unwrap());
        assert!(apply(&store, 1, 0, None, "two").repeated);
        assert_eq!(apply(&store, 4, 4, None, "three").version, 3);
        let ops = store.database.begin_read().unwrap().open_table(OPS).unwrap();
        assert_eq!(ops.iter().unwrap().count(), 1);
        assert!(apply(&store, 1, 0, None, "two").repeated);
        assert_eq!(data(&store), "three");
    }
}
