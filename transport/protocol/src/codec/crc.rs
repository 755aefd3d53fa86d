//! The checksum of frames: crc32c (Castagnoli), over what lies in one piece or in several.

use crc_fast::{CrcAlgorithm, Digest};

/// The crc32c of `bytes`, as frames carry it: for transports that move pulled data by themselves.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc(bytes)
}

/// Of one piece.
#[inline]
pub(super) fn crc(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Of what `crc` covers and `bytes` right behind it.
pub(super) fn append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    // The algorithm has 32 bits.
    digest.finalize() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_crc32c_wherever_it_is_cut() {
        assert_eq!(crc(b"123456789"), 0xe306_9283, "the check value of the catalogue");
        let bytes: Vec<u8> = (0..10_000u32).map(|at| (at * 31 + at / 251) as u8).collect();
        for len in [0, 1, 7, 8, 48, 75, 255, 256, 257, 1000, 10_000] {
            let bytes = &bytes[..len];
            assert_eq!(crc(bytes), crc32c::crc32c(bytes), "{len}");
            for cut in [0, 1, len / 3, len.saturating_sub(1), len] {
                let (front, data) = bytes.split_at(cut.min(len));
                assert_eq!(append(crc(front), data), crc(bytes), "{cut} of {len}");
            }
        }
    }
}
