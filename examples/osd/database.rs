//! Objects in an embedded database, one transaction for each batch, on a real disk or a simulated one.

use std::io;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, Table, TableDefinition};
use stellate::testing::{DiskFile, NodeHandle, Site, Storage};

use super::messages::Got;
use super::store::{Applied, Apply, Found, Shelf, StoreError, Tables, apply_one};

/// Name → version, checksum, bytes.
const OBJECTS: TableDefinition<'_, &str, (u64, u32, &[u8])> = TableDefinition::new("objects");
/// Client and number of an op → the version that it made.
const OPS: TableDefinition<'_, (u128, u64), u64> = TableDefinition::new("ops");
/// Client → below which number its ops are answered and forgotten.
const FLOORS: TableDefinition<'_, u128, u64> = TableDefinition::new("floors");

/// Opens the database, or makes it.
///
/// # Errors
/// Another process has it open, or the disk does not take it.
pub(crate) fn open(site: &Site) -> Result<Database, StoreError> {
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
    with_tables(database).map_err(|error| failed(&error))
}

pub(super) fn with_tables(database: Database) -> Result<Database, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(OBJECTS)?;
    transaction.open_table(OPS)?;
    transaction.open_table(FLOORS)?;
    transaction.commit()?;
    Ok(database)
}

impl Shelf for Database {
    fn write(&self, batch: &[&Apply]) -> Result<Vec<Applied>, StoreError> {
        let written = || {
            let transaction = self.begin_write()?;
            let mut opened = Opened {
                objects: transaction.open_table(OBJECTS)?,
                ops: transaction.open_table(OPS)?,
                floors: transaction.open_table(FLOORS)?,
            };
            let applied = batch.iter().map(|apply| apply_one(&mut opened, apply));
            let applied = applied.collect::<Result<Vec<Applied>, redb::Error>>()?;
            drop(opened);
            transaction.commit()?;
            Ok(applied)
        };
        written().map_err(|error: redb::Error| StoreError(error.to_string()))
    }

    fn fetch(&self, object: &str) -> Result<Found, StoreError> {
        let fetched = || {
            let objects = self.begin_read()?.open_table(OBJECTS)?;
            let Some(found) = objects.get(object)? else {
                return Ok(Found { got: Got::Missing, data: Bytes::new() });
            };
            let (version, sum, data) = found.value();
            Ok(Found { got: Got::Found { version, sum }, data: Bytes::copy_from_slice(data) })
        };
        fetched().map_err(|error: redb::Error| StoreError(error.to_string()))
    }
}

/// The tables of one transaction.
struct Opened<'a> {
    objects: Table<'a, &'static str, (u64, u32, &'static [u8])>,
    ops: Table<'a, (u128, u64), u64>,
    floors: Table<'a, u128, u64>,
}

impl Tables for Opened<'_> {
    type Error = redb::Error;

    fn op(&self, client: u128, number: u64) -> Result<Option<u64>, redb::Error> {
        Ok(self.ops.get((client, number))?.map(|version| version.value()))
    }

    fn note_op(&mut self, client: u128, number: u64, version: u64) -> Result<(), redb::Error> {
        self.ops.insert((client, number), version)?;
        Ok(())
    }

    fn floor(&self, client: u128) -> Result<u64, redb::Error> {
        Ok(self.floors.get(client)?.map_or(0, |floor| floor.value()))
    }

    fn raise_floor(&mut self, client: u128, floor: u64) -> Result<(), redb::Error> {
        self.floors.insert(client, floor)?;
        self.ops.retain_in((client, 0)..(client, floor), |_, _| false)?;
        Ok(())
    }

    fn version(&self, object: &str) -> Result<u64, redb::Error> {
        Ok(self.objects.get(object)?.map_or(0, |found| found.value().0))
    }

    fn put(&mut self, apply: &Apply, version: u64) -> Result<(), redb::Error> {
        self.objects.insert(apply.object.as_str(), (version, apply.sum, &apply.data[..]))?;
        Ok(())
    }
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
