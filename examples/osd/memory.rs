//! Objects in memory, on what a simulated disk keeps: for simulations in which the disk is not what
//! is looked at.
//!
//! A batch is there whole or not at all, and survives a crash from when it is answered, as in the
//! database; what waits for its batch is lost with the node, as there. No write is ever torn.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use stellate::testing::{Site, Storage};

use super::messages::Got;
use super::store::{Applied, Apply, Found, Shelf, StoreError, Tables, apply_one};

/// All that an OSD of a simulation has stored, in all its lives.
#[derive(Default)]
pub(crate) struct Memory {
    contents: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    objects: BTreeMap<String, (u64, u32, Bytes)>,
    ops: BTreeMap<(u128, u64), u64>,
    floors: BTreeMap<u128, u64>,
}

/// What the node's disk keeps.
///
/// # Errors
/// Not in a simulation.
pub(crate) fn open(site: &Site) -> Result<Arc<Memory>, StoreError> {
    match site.storage() {
        Storage::Disk(disk) => Ok(disk.keep("objects", Memory::default)),
        Storage::Directory(_) => {
            Err(StoreError(format!("{} would forget all that it stores", site.name())))
        }
    }
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shelf for Memory {
    fn write(&self, batch: &[&Apply]) -> Result<Vec<Applied>, StoreError> {
        let mut contents = self.lock();
        let applied = batch.iter().map(|apply| apply_one(&mut *contents, apply));
        applied.collect::<Result<_, Infallible>>().map_err(|never| match never {})
    }

    fn fetch(&self, object: &str) -> Result<Found, StoreError> {
        Ok(match self.lock().objects.get(object) {
            Some((version, sum, data)) => {
                Found { got: Got::Found { version: *version, sum: *sum }, data: data.clone() }
            }
            None => Found { got: Got::Missing, data: Bytes::new() },
        })
    }
}

impl Tables for Contents {
    type Error = Infallible;

    fn op(&self, client: u128, number: u64) -> Result<Option<u64>, Infallible> {
        Ok(self.ops.get(&(client, number)).copied())
    }

    fn note_op(&mut self, client: u128, number: u64, version: u64) -> Result<(), Infallible> {
        self.ops.insert((client, number), version);
        Ok(())
    }

    fn floor(&self, client: u128) -> Result<u64, Infallible> {
        Ok(self.floors.get(&client).copied().unwrap_or_default())
    }

    fn raise_floor(&mut self, client: u128, floor: u64) -> Result<(), Infallible> {
        self.floors.insert(client, floor);
        while let Some((&op, _)) = self.ops.range((client, 0)..(client, floor)).next() {
            self.ops.remove(&op);
        }
        Ok(())
    }

    fn version(&self, object: &str) -> Result<u64, Infallible> {
        Ok(self.objects.get(object).map_or(0, |(version, ..)| *version))
    }

    fn put(&mut self, apply: &Apply, version: u64) -> Result<(), Infallible> {
        // By handle: what came over the simulated network is in memory once, for all who have it.
        let object = (version, apply.sum, apply.data.clone());
        self.objects.insert(apply.object.clone(), object);
        Ok(())
    }
}
