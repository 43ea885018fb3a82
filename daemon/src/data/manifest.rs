//! The content of a folder's version: a list of what is in it, whose files are stored beside it.
//!
//! The list of equal folders is equal, so that it has the same hash. It may have come from another
//! node when it was lost here: it is read as what a stranger wrote.

use futures::TryStreamExt as _;
use rhd_protocol::{
    data::Content,
    folder::{Entry, MAX_ENTRIES, MAX_LIST, is_sound},
    frame,
    id::Hash,
};

use super::{error::DataError, store::Store};
use crate::background;

/// The bytes of a list.
pub(super) fn encode(entries: &[Entry]) -> Result<Vec<u8>, DataError> {
    let bytes = frame::to_vec(&entries).map_err(DataError::store("write a list of files"))?;
    if bytes.len() as u64 > MAX_LIST {
        let text = format!("the list of its files takes {} bytes, over {MAX_LIST}", bytes.len());
        return Err(DataError::Request(text));
    }
    Ok(bytes)
}

/// What a list says, if it is one: what leads out of a folder, or through a link, is none.
pub(super) fn decode(hash: Hash, bytes: &[u8]) -> Result<Vec<Entry>, DataError> {
    let bad = |why: String| DataError::List { hash, why };
    match count(bytes) {
        Some(count) if count <= MAX_ENTRIES => {}
        Some(count) => return Err(bad(format!("it has {count} entries, over {MAX_ENTRIES}"))),
        None => return Err(bad("it is no list".into())),
    }
    let entries: Vec<Entry> = frame::decode(bytes).map_err(|e| bad(e.to_string()))?;
    match is_sound(&entries) {
        true => Ok(entries),
        false => Err(bad("its entries contradict each other, or lead out of the folder".into())),
    }
}

/// How many entries a list claims: each takes far more memory than bytes.
fn count(bytes: &[u8]) -> Option<usize> {
    match *bytes {
        [first @ 0x90..=0x9f, ..] => Some(usize::from(first & 0x0f)),
        [0xdc, a, b, ..] => Some(usize::from(u16::from_be_bytes([a, b]))),
        [0xdd, a, b, c, d, ..] => usize::try_from(u32::from_be_bytes([a, b, c, d])).ok(),
        _ => None,
    }
}

/// Reads a list that is stored.
pub(super) async fn load(store: &Store, content: &Content) -> Result<Vec<Entry>, DataError> {
    let (hash, size) = (content.hash, content.size);
    if size > MAX_LIST {
        return Err(DataError::List { hash, why: format!("it has {size} bytes, over {MAX_LIST}") });
    }
    let mut chunks = Box::pin(store.read(hash, 0, size));
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    let work = background::spawn(move || decode(hash, &bytes));
    work.await.map_err(DataError::store("read"))?
}

/// The files that have to be stored for a list.
pub(super) fn files(entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().filter(|entry| entry.is_file() && entry.size > 0)
}

/// Their hashes, one for each.
pub(super) fn hashes(entries: &[Entry]) -> Vec<Hash> {
    files(entries).map(|entry| entry.hash).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        Entry {
            path: path.into(),
            size: 1,
            hash: Hash::of(b"x"),
            exec: false,
            link: None,
            dir: false,
        }
    }

    fn read(bytes: &[u8]) -> Result<Vec<Entry>, DataError> {
        decode(Hash::of(bytes), bytes)
    }

    #[test]
    fn a_list_is_read_as_it_was_written() {
        for count in [0, 3, 20, 70_000] {
            let entries: Vec<_> = (0..count).map(|n| file(&format!("d/{n:06}"))).collect();
            assert_eq!(read(&encode(&entries).unwrap()).unwrap(), entries);
        }
    }

    #[test]
    fn a_hostile_list_is_refused() {
        let link = |path, to: &str| Entry { link: Some(to.into()), size: 0, ..file(path) };
        let bad: [Vec<Entry>; 8] = [
            vec![file("../x")],
            vec![file("/etc/passwd")],
            vec![file("a/../../x")],
            vec![file("a"), file("a")],
            vec![file("b"), file("a")],
            vec![file("a"), file("a/b")],
            vec![link("a", "b"), file("a/c")],
            vec![link("a", "../../etc")],
        ];
        for entries in bad {
            assert!(read(&encode(&entries).unwrap()).is_err(), "{entries:?}");
        }
        let good = encode(&[file("a")]).unwrap();
        for cut in 0..good.len() {
            assert!(read(&good[..cut]).is_err(), "cut at {cut}");
        }
        // It claims more than there is, or than there may be.
        for claimed in
            [b"\xdd\x00\x0f\x42\x41".as_slice(), b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff"]
        {
            assert!(read(claimed).is_err());
        }
        assert!(read(b"no list at all").is_err());
    }
}
