//! Files that lie.

use super::*;
use crate::tables::file::page_size;

/// Reads all that there is to read of a table, in every way.
fn look(root: &Path) -> Vec<Result<(), TableError>> {
    let open = || Root::open(root);
    let shuffled = Read { shuffle: Some(Shuffle { seed: 1, buffer: 64 }), ..Read::default() };
    vec![
        numbers(root, &Read::default()).map(drop),
        numbers(root, &shuffled).map(drop),
        open().and_then(stats::stats).map(drop),
        open().and_then(|root| stats::head(root, 5, None)).map(drop),
        open().and_then(stats::schema).map(drop),
    ]
}

#[test]
fn whatever_byte_is_wrong_nothing_panics_and_the_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.parquet");
    for (codec, seed) in [(Compression::UNCOMPRESSED, 1), (Compression::SNAPPY, 2)] {
        write(&path, &rows(0, 250), codec);
        let good = fs::read(&path).unwrap();
        let mut dice = Dice::new(seed);
        let mut refused = 0;
        for round in 0..400 {
            let mut bad = good.clone();
            let at = dice.below(bad.len());
            match round % 4 {
                0 => bad[at] ^= 1 << dice.below(8),
                1 => bad[at] = 0xff,
                2 => bad.truncate(at),
                // A run in the footer, where lengths and offsets are.
                _ => {
                    let at = bad.len() - 8 - dice.below(bad.len() / 4);
                    let end = (at + 4).min(bad.len() - 8);
                    for byte in &mut bad[at.min(end)..end] {
                        *byte = dice.next() as u8;
                    }
                }
            }
            fs::write(&path, &bad).unwrap();
            for error in look(dir.path()).into_iter().filter_map(Result::err) {
                refused += 1;
                assert!(error.to_string().contains("bad.parquet"), "{error}");
            }
        }
        assert!(refused > 400, "{refused}");
    }
}

#[test]
fn lengths_are_held_against_the_file_before_anything_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.parquet");
    let tail = |length: u32| [&b"PAR1"[..], &[0; 100], &length.to_le_bytes(), b"PAR1"].concat();
    for length in [105, 1 << 20, u32::MAX] {
        fs::write(&path, tail(length)).unwrap();
        for looked in look(dir.path()) {
            let error = looked.unwrap_err().to_string();
            assert!(error.contains("its footer has"), "{error}");
        }
    }
    // A footer as long as the file, which is mostly a hole: not read either.
    let file = fs::File::create(&path).unwrap();
    file.set_len(8 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"PAR1", 0).unwrap();
    let end = [&u32::MAX.to_le_bytes()[..], b"PAR1"].concat();
    std::os::unix::fs::FileExt::write_all_at(&file, &end, (8 << 30) - 8).unwrap();
    assert!(look(dir.path()).into_iter().all(|looked| looked.is_err()));
}

#[test]
fn folders_that_never_end_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let deep: std::path::PathBuf = (0..40).map(|n| format!("k{n}=1")).collect();
    write(&dir.path().join(deep).join("a.parquet"), &rows(0, 1), Compression::SNAPPY);
    let error = Root::open(dir.path()).and_then(|root| Plan::open(root, &[])).unwrap_err();
    assert!(error.to_string().contains("folders deep"), "{error}");
    let circle = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(circle.path(), circle.path().join("a=1")).unwrap();
    let error = Root::open(circle.path()).and_then(|root| Plan::open(root, &[])).unwrap_err();
    assert!(error.to_string().contains("links are not followed"), "{error}");
}

#[test]
fn a_page_that_says_it_is_huge_is_not_unpacked() {
    // Of type 0, 2 GiB when it is unpacked, and one byte as it is.
    let header = [0x15, 0, 0x15, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0x15, 2, 0x2c];
    assert_eq!(page_size(&header), Some((1 << 31) - 1));
    assert_eq!(page_size(&[0x15, 0, 0x15, 0x80, 1, 0x15, 2]), Some(64));
    for other in [&b"PAR1"[..], b"", &[0x15, 0x80], &[0x15, 0, 0x25, 0, 0x15, 0], &[0x15; 2]] {
        assert_eq!(page_size(other), None, "{other:?}");
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.parquet");
    write(&path, &rows(0, 50), Compression::SNAPPY);
    let mut bytes = fs::read(&path).unwrap();
    bytes[4..4 + header.len()].copy_from_slice(&header);
    fs::write(&path, &bytes).unwrap();
    let error = numbers(dir.path(), &Read::default()).unwrap_err().to_string();
    assert!(error.contains("says it has 2147483647 bytes"), "{error}");
}
