//! Where a front is written: on the stack, and in a vector if it is long.

use std::io;

/// Bytes on the stack. Most fronts are a few numbers and names.
const SMALL: usize = 256;

/// A front under way.
pub(crate) struct Scratch {
    small: [u8; SMALL],
    /// Bytes in `small`; beyond its end once they have moved.
    len: usize,
    moved: Vec<u8>,
    /// Most bytes in all.
    limit: usize,
}

/// [`Scratch::len`] of a front that has moved: no write fits any more.
const MOVED: usize = SMALL + 1;

impl Scratch {
    #[inline]
    pub(crate) const fn new(limit: usize) -> Self {
        Self { small: [0; SMALL], len: 0, moved: Vec::new(), limit }
    }

    /// What was written.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.small.get(..self.len).unwrap_or(&self.moved)
    }

    #[cold]
    fn write_more(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.len() > self.limit.saturating_sub(self.as_slice().len()) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.len != MOVED {
            self.moved.reserve(2 * SMALL + bytes.len());
            self.moved.extend_from_slice(&self.small[..self.len]);
            self.len = MOVED;
        }
        self.moved.extend_from_slice(bytes);
        Ok(())
    }
}

impl io::Write for Scratch {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.small.get_mut(self.len..self.len + bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                self.len += bytes.len();
                Ok(())
            }
            None => self.write_more(bytes),
        }
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_front_moves_when_it_gets_long() {
        for piece in [1, 3, 100, SMALL - 1, SMALL, SMALL + 1, 1000] {
            let bytes: Vec<u8> = (0..5 * piece).map(|at| at as u8).collect();
            let mut scratch = Scratch::new(bytes.len());
            for (at, piece) in bytes.chunks(piece).enumerate() {
                scratch.write_all(piece).unwrap();
                assert_eq!(scratch.as_slice(), &bytes[..(at + 1) * piece.len()]);
            }
            let over = scratch.write_all(&[0; SMALL]);
            assert!(over.is_err() || bytes.len() < SMALL, "beyond the limit");
        }
    }
}
