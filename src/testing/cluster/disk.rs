//! A node's disk: what survives its crashes, and what of it does not.
//!
//! ```text
//!   write_at ──► in the page cache ──sync──► on the platter ──crash──► still there
//!                        └──────crash──► a first part of the writes, as the seed has it
//! ```

use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::testing::Rng;

/// Longest file, bytes: 1 GiB. A write beyond it fails, as on a full disk.
pub const FILE_MAX: u64 = 1 << 30;

/// A node's disk, as a life of the node has it. Cloning copies a handle; the next life has another
/// handle to the same disk.
///
/// When its life is over a handle still reads, and changes nothing any more, whatever it is told:
/// nobody is there who writes. [`Running::disk`](super::Running::disk) is for the test.
#[derive(Clone)]
pub struct Disk {
    platter: Arc<Mutex<Platter>>,
    /// The life that this handle is of.
    is_over: Arc<AtomicBool>,
}

struct Platter {
    files: BTreeMap<String, File>,
    kept: BTreeMap<String, Arc<dyn Any + Send + Sync>>,
    rng: Rng,
}

/// What a file is, and what of it has not been synced.
#[derive(Default)]
struct File {
    synced: Vec<u8>,
    pending: VecDeque<Write>,
    /// `synced` with `pending` done.
    seen: Vec<u8>,
}

enum Write {
    At(usize, Vec<u8>),
    Len(usize),
}

/// The disk has no place for so long a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskFull;

impl fmt::Display for DiskFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a simulated file has at most {FILE_MAX} bytes")
    }
}

impl std::error::Error for DiskFull {}

impl From<DiskFull> for std::io::Error {
    fn from(full: DiskFull) -> Self {
        Self::new(std::io::ErrorKind::StorageFull, full)
    }
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = Rng::fork(seed, "disk");
        let platter = Platter { files: BTreeMap::new(), kept: BTreeMap::new(), rng };
        Self { platter: Arc::new(Mutex::new(platter)), is_over: Arc::default() }
    }

    /// The disk, as another life has it.
    pub(super) fn of_a_life(&self) -> Self {
        Self { platter: self.platter.clone(), is_over: Arc::default() }
    }

    /// The life of this handle is over.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of that name, which is made if there is none.
    pub fn file(&self, name: &str) -> DiskFile {
        if !self.is_over() {
            self.lock().files.entry(name.to_owned()).or_default();
        }
        DiskFile { disk: self.clone(), name: name.to_owned() }
    }

    /// The names of all files, in order.
    pub fn files(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    /// Removes a file, at once and for good; whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        !self.is_over() && self.lock().files.remove(name).is_some()
    }

    /// A value that survives crashes as it is: for daemons whose store is not the point. Made at
    /// the first call with that name, and the same ever after.
    ///
    /// # Panics
    /// If there is one of that name that has another type.
    pub fn keep<T: Any + Send + Sync>(&self, name: &str, make: impl FnOnce() -> T) -> Arc<T> {
        let mut platter = self.lock();
        let kept = match platter.kept.get(name) {
            Some(kept) => kept.clone(),
            None => {
                let made: Arc<dyn Any + Send + Sync> = Arc::new(make());
                if !self.is_over() {
                    platter.kept.insert(name.to_owned(), made.clone());
                }
                made
            }
        };
        drop(platter);
        match kept.downcast() {
            Ok(kept) => kept,
            Err(_) => panic!("{name:?} is kept on this disk with another type"),
        }
    }

    /// The node crashed: of what was not synced, a first part of the writes is there.
    pub(crate) fn crash(&self) {
        let mut platter = self.lock();
        let Platter { files, rng, .. } = &mut *platter;
        for file in files.values_mut().filter(|file| !file.pending.is_empty()) {
            let survive = rng.below(file.pending.len() as u64 + 1);
            for write in file.pending.drain(..).take(survive as usize) {
                write.apply(&mut file.synced);
            }
            file.seen.clone_from(&file.synced);
        }
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let platter = self.lock();
        let kept: Vec<&String> = platter.kept.keys().collect();
        let files: Vec<&String> = platter.files.keys().collect();
        f.debug_struct("Disk").field("files", &files).field("kept", &kept).finish()
    }
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Len(len) => bytes.resize(*len, 0),
            Self::At(at, with) => {
                let end = at + with.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*at..end].copy_from_slice(with);
            }
        }
    }
}

/// A file on a node's disk. Cloning copies a handle.
#[derive(Clone, Debug)]
pub struct DiskFile {
    disk: Disk,
    name: String,
}

impl DiskFile {
    fn see<T>(&self, see: impl FnOnce(&File) -> T) -> T {
        see(self.disk.lock().files.get(&self.name).unwrap_or(&File::default()))
    }

    fn change(&self, change: impl FnOnce(&mut File)) {
        if !self.disk.is_over() {
            change(self.disk.lock().files.entry(self.name.clone()).or_default());
        }
    }

    /// Its length, bytes.
    pub fn len(&self) -> u64 {
        self.see(|file| file.seen.len() as u64)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Up to `len` bytes from `at`; fewer at the end of the file.
    pub fn read_at(&self, at: u64, len: usize) -> Vec<u8> {
        self.see(|file| {
            let begin = usize::try_from(at).unwrap_or(usize::MAX).min(file.seen.len());
            let end = begin.saturating_add(len).min(file.seen.len());
            file.seen[begin..end].to_vec()
        })
    }

    /// Writes; seen at once, and lost in a crash before the next [`sync`](Self::sync), or not.
    ///
    /// # Errors
    /// [`DiskFull`] beyond [`FILE_MAX`]; nothing is written then.
    pub fn write_at(&self, at: u64, bytes: &[u8]) -> Result<(), DiskFull> {
        if at.saturating_add(bytes.len() as u64) > FILE_MAX {
            return Err(DiskFull);
        }
        self.write(Write::At(at as usize, bytes.to_vec()));
        Ok(())
    }

    /// Writes at its end; atomic as any one write.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn append(&self, bytes: &[u8]) -> Result<(), DiskFull> {
        self.write_at(self.len(), bytes)
    }

    /// Makes it so long, with zeros.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn set_len(&self, len: u64) -> Result<(), DiskFull> {
        if len > FILE_MAX {
            return Err(DiskFull);
        }
        self.write(Write::Len(len as usize));
        Ok(())
    }

    fn write(&self, write: Write) {
        self.change(|file| {
            write.apply(&mut file.seen);
            file.pending.push_back(write);
        });
    }

    /// What was written so far survives every crash from now on.
    pub fn sync(&self) {
        self.change(|file| {
            for write in file.pending.drain(..) {
                write.apply(&mut file.synced);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_a_first_part_of_the_rest() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let disk = Disk::new(seed);
            let log = disk.file("log");
            log.append(b"synced").unwrap();
            log.sync();
            log.append(b"-one").unwrap();
            log.append(b"-two").unwrap();
            assert_eq!(log.len(), 14);
            disk.crash();
            seen.insert(String::from_utf8(disk.file("log").read_at(0, 99)).unwrap());
        }
        let all = ["synced", "synced-one", "synced-one-two"].map(String::from);
        assert_eq!(seen, all.into());
    }

    #[test]
    fn reads_and_writes_keep_to_the_file() {
        let file = Disk::new(1).file("f");
        file.write_at(4, b"x").unwrap();
        assert_eq!(file.read_at(0, 9), [0, 0, 0, 0, b'x']);
        assert!(file.read_at(u64::MAX, 9).is_empty());
        file.set_len(2).unwrap();
        assert_eq!((file.len(), file.is_empty()), (2, false));
        assert_eq!(file.write_at(u64::MAX, b"x"), Err(DiskFull));
        assert_eq!(file.set_len(FILE_MAX + 1), Err(DiskFull));
    }

    #[test]
    fn a_life_that_is_over_reads_and_changes_nothing() {
        let disk = Disk::new(1);
        let (old, new) = (disk.of_a_life(), disk.of_a_life());
        let file = old.file("f");
        file.append(b"old").unwrap();
        file.sync();
        let kept = old.keep("kept", || 7);
        old.end();
        disk.crash();
        file.append(b"er").unwrap();
        file.set_len(1).unwrap();
        new.file("f").append(b"est").unwrap();
        file.sync();
        assert_eq!(file.read_at(0, 9), b"oldest");
        assert!(!old.remove("f") && old.file("another").is_empty());
        assert_eq!((kept, old.keep("never", || 8)), (old.keep("kept", || 9), Arc::new(8)));
        assert_eq!(new.keep("never", || 9), Arc::new(9));
        assert_eq!(new.files(), ["f"]);
        // It has synced nothing of what the next life wrote.
        assert_eq!(disk.lock().files["f"].synced, b"old");
    }

    #[test]
    fn what_is_kept_is_the_same_in_the_next_life() {
        let disk = Disk::new(1);
        let kept = disk.keep("map", || Mutex::new(7));
        *kept.lock().unwrap() = 8;
        disk.crash();
        assert_eq!(*disk.keep("map", || Mutex::new(0)).lock().unwrap(), 8);
    }
}
