//! Pieces of large files: the tree that BLAKE3 hashes by, cut at one MiB, so that each piece can be
//! held against the hash of the whole as it arrives.
//!
//! The chaining value of a piece and how two make one are those of section 2.1 of the
//! [paper](https://github.com/BLAKE3-team/BLAKE3-specs/blob/master/blake3.pdf).

use blake3::{
    Hasher,
    hazmat::{ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root},
};

use crate::id::Hash;

/// Bytes of a piece; the last one of a file may have fewer. A power of two of BLAKE3's chunks, so that
/// a piece is a subtree.
pub const PIECE: u64 = 1 << 20;

/// How many pieces a file has.
pub const fn count(size: u64) -> u64 {
    size.div_ceil(PIECE)
}

/// Where piece `index` of a file starts, and how many bytes it has.
pub const fn span(index: u64, size: u64) -> (u64, u64) {
    let at = index.saturating_mul(PIECE);
    let left = size.saturating_sub(at);
    (at, if left < PIECE { left } else { PIECE })
}

/// The chaining value of piece `index` of a file that has more than one; none for bytes that are no
/// piece.
pub fn value(index: u64, bytes: &[u8]) -> Option<[u8; 32]> {
    if bytes.is_empty() || bytes.len() as u64 > PIECE {
        return None;
    }
    let mut hasher = Hasher::new();
    hasher.set_input_offset(index.checked_mul(PIECE)?).update(bytes);
    Some(hasher.finalize_non_root())
}

/// The hash of a file whose pieces have these chaining values; none where there are fewer than two.
pub fn root(values: &[[u8; 32]]) -> Option<Hash> {
    let (left, right) = halves(values)?;
    let hash = merge_subtrees_root(&subtree(left)?, &subtree(right)?, Mode::Hash);
    Some(Hash::from_bytes(*hash.as_bytes()))
}

fn subtree(values: &[[u8; 32]]) -> Option<ChainingValue> {
    match values {
        [one] => Some(*one),
        more => {
            let (left, right) = halves(more)?;
            Some(merge_subtrees_non_root(&subtree(left)?, &subtree(right)?, Mode::Hash))
        }
    }
}

/// The left one is the largest power of two that leaves something for the right one.
fn halves<T>(values: &[T]) -> Option<(&[T], &[T])> {
    let left = values.len().checked_next_power_of_two()? / 2;
    (values.len() > 1).then(|| values.split_at(left))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(bytes: &[u8]) -> Vec<[u8; 32]> {
        let pieces = bytes.chunks(PIECE as usize).zip(0..);
        pieces.map(|(piece, index)| value(index, piece).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn pieces_make_the_hash_of_the_whole(
            whole in 1u64..6, part in 1u64..=PIECE, seed in any::<u8>(),
        ) {
            let size = whole * PIECE + part;
            let bytes: Vec<u8> = (0..size).map(|at| (at >> 9) as u8 ^ at as u8 ^ seed).collect();
            let mut values = values(&bytes);
            prop_assert_eq!(values.len() as u64, count(size));
            prop_assert_eq!(root(&values), Some(Hash::of(&bytes)));
            let other = values.len() - 1;
            values.swap(0, other);
            prop_assert_ne!(root(&values), Some(Hash::of(&bytes)));
        }
    }

    #[test]
    fn what_is_no_piece_has_no_value() {
        assert_eq!(value(0, b""), None);
        assert_eq!(value(0, &vec![0; PIECE as usize + 1]), None);
        assert_eq!(value(u64::MAX, b"x"), None);
        assert_eq!(root(&[]), None);
        assert_eq!(root(&[[0; 32]]), None, "that of a file of one piece is its own hash");
    }

    #[test]
    fn spans_cover_a_file() {
        assert_eq!((count(0), count(1), count(PIECE), count(PIECE + 1)), (0, 1, 1, 2));
        assert_eq!(span(1, PIECE + 5), (PIECE, 5));
        assert_eq!(span(2, PIECE + 5), (2 * PIECE, 0));
        assert_eq!(span(u64::MAX, u64::MAX), (u64::MAX, 0));
    }
}
