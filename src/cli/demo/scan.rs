//! Which files there are to store, cut into objects.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::Trouble;

/// Bytes of one object; longer files are several.
const PIECE: u64 = 4 << 20;

/// Where collecting stops.
pub(super) struct Caps {
    pub(super) bytes: u64,
    pub(super) objects: usize,
    /// Directories to leave out.
    pub(super) skip: BTreeSet<PathBuf>,
}

/// A part of a file: one object.
pub(super) struct Piece {
    path: PathBuf,
    offset: u64,
    len: u64,
}

impl Piece {
    /// Its bytes. Fewer, if the file has become shorter meanwhile.
    pub(super) fn read(&self) -> io::Result<Bytes> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = Vec::with_capacity(usize::try_from(self.len).unwrap_or(0));
        file.take(self.len).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// What was found.
#[derive(Default)]
pub(super) struct Scan {
    pub(super) pieces: Vec<Piece>,
    /// The names of the objects, one for each piece.
    pub(super) names: Vec<String>,
    pub(super) files: u64,
    /// Links, sockets, pipes, devices, and what could not be looked at.
    pub(super) skipped: u64,
    pub(super) capped: bool,
    /// For people.
    pub(super) notes: Vec<String>,
}

/// Collects the files under `root`, in the order of their names.
///
/// # Errors
/// `root` cannot be read at all.
pub(super) fn scan(root: &Path, caps: &Caps) -> Result<Scan, Trouble> {
    let wrong = |error| Trouble::new(format!("cannot read {}: {error}", root.display()));
    let mut scan = Scan::default();
    let mut bytes = 0;
    let mut waiting = vec![root.to_path_buf()];
    fs::metadata(root).map_err(wrong)?;
    if root.is_dir() {
        fs::read_dir(root).map_err(wrong)?;
    }
    while let Some(path) = waiting.pop() {
        // The root may be a link; below it links are left out, so there is no way round in circles.
        let found = if path == root { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        match found {
            Ok(found) if found.is_dir() => scan.enter(&path, caps, &mut waiting),
            Ok(found) if found.is_file() => {
                let pieces = usize::try_from(found.len() / PIECE + 1).unwrap_or(usize::MAX);
                let objects = scan.pieces.len().saturating_add(pieces);
                if bytes + found.len() > caps.bytes || objects > caps.objects {
                    scan.capped = true;
                    continue;
                }
                bytes += found.len();
                scan.add(root, &path, found.len());
            }
            Ok(_) => scan.skipped += 1,
            Err(error) => scan.skip(&path, &error),
        }
    }
    if scan.capped {
        scan.notes.push(format!(
            "the tree is larger than {} MiB or {} objects: \
             only a part is stored; see --max-mib and --max-objects",
            caps.bytes >> 20,
            caps.objects
        ));
    }
    Ok(scan)
}

impl Scan {
    fn enter(&mut self, path: &Path, caps: &Caps, waiting: &mut Vec<PathBuf>) {
        let name = path.file_name().unwrap_or_default();
        let left_out = name == "target" || name == ".git";
        if left_out || path.canonicalize().is_ok_and(|path| caps.skip.contains(&path)) {
            return;
        }
        match fs::read_dir(path) {
            Ok(entries) => {
                let mut inside: Vec<PathBuf> =
                    entries.flatten().map(|entry| entry.path()).collect();
                inside.sort_unstable_by(|a, b| b.cmp(a));
                waiting.append(&mut inside);
            }
            Err(error) => self.skip(path, &error),
        }
    }

    fn skip(&mut self, path: &Path, error: &io::Error) {
        self.skipped += 1;
        if self.notes.len() < 10 {
            self.notes.push(format!("skipped {}: {error}", path.display()));
        }
    }

    fn add(&mut self, root: &Path, path: &Path, len: u64) {
        self.files += 1;
        let inside = path.strip_prefix(root).unwrap_or(path);
        let name = escape(inside.as_os_str().as_encoded_bytes());
        let mut offset = 0;
        loop {
            let piece = PIECE.min(len - offset);
            self.names.push(format!("{name}#{}", offset / PIECE));
            self.pieces.push(Piece { path: path.into(), offset, len: piece });
            offset += piece;
            if offset == len {
                break;
            }
        }
    }
}

/// A name that any bytes have, and no two share: what is not text is written as `%` and two digits.
fn escape(mut bytes: &[u8]) -> String {
    let mut name = String::new();
    while !bytes.is_empty() {
        let (text, rest) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, &[][..]),
            Err(error) => {
                let (text, rest) = bytes.split_at(error.valid_up_to());
                (std::str::from_utf8(text).unwrap_or_default(), rest)
            }
        };
        name.push_str(&text.replace('%', "%25").replace('#', "%23"));
        if let Some((byte, rest)) = rest.split_first() {
            name.push_str(&format!("%{byte:02x}"));
            bytes = rest;
        } else {
            bytes = rest;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_bytes_differ() {
        let names: [&[u8]; 6] = [b"a", b"a#0", b"a%230", b"\xff", b"%ff", "\u{e9}\n".as_bytes()];
        let escaped: BTreeSet<String> = names.iter().map(|name| escape(name)).collect();
        assert_eq!(escaped.len(), names.len(), "{escaped:?}");
    }

    #[test]
    fn odd_trees_are_collected() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("empty"), "").unwrap();
        fs::write(at("big"), vec![7; PIECE as usize + 1]).unwrap();
        fs::create_dir_all(at(".git/objects")).unwrap();
        fs::write(at(".git/objects/x"), "x").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.path(), at("round")).unwrap();
        let caps = Caps { bytes: 1 << 30, objects: 100, skip: BTreeSet::new() };
        let scan = scan(root.path(), &caps).map_err(|error| error.to_string()).unwrap();
        assert_eq!(scan.names, ["big#0", "big#1", "empty#0"]);
        assert_eq!(scan.pieces[1].read().unwrap(), Bytes::from_static(&[7]));
        assert!(scan.pieces[2].read().unwrap().is_empty());
    }
}
