//! Calls that other nodes were asked for and that leave records: whose copies are taken in.
//!
//! One file of entries of one size, the newest last; begun again when it has grown.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use rhd_protocol::id::{CallId, Hash, NodeId};

use super::lock;

/// Calls that are remembered; of older ones no copy is taken in any more.
const CALLS: usize = 16 * 1024;
/// Bytes of an entry: a call, the node that was asked, what its name hashes to.
const LEN: usize = 16 + 32 + 32;

/// Who was asked to run a call, and under which name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) host: NodeId,
    name: Hash,
}

impl Asked {
    pub(super) fn new(host: NodeId, name: &str) -> Self {
        Self { host, name: Hash::of(name.as_bytes()) }
    }
}

/// The calls of this node whose records others have.
#[derive(Debug)]
pub(super) struct Expected {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    calls: HashMap<CallId, Asked>,
    oldest: VecDeque<CallId>,
    file: File,
    written: usize,
}

impl Expected {
    /// Reads what the last life noted.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(file) => drop(file.take((2 * CALLS * LEN) as u64).read_to_end(&mut bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (mut calls, mut oldest) = (HashMap::new(), VecDeque::new());
        for entry in bytes.as_chunks::<LEN>().0 {
            let (id, asked) = decode(entry);
            keep(&mut calls, &mut oldest, id, asked);
        }
        // An entry that was cut short must not shift those after it.
        let file = rewrite(path, &calls, &oldest)?;
        let inner = Inner { written: oldest.len(), calls, oldest, file };
        Ok(Self { path: path.to_owned(), inner: Mutex::new(inner) })
    }

    /// Notes that a node is asked to run a call.
    pub(super) fn note(&self, id: CallId, asked: Asked) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        let Inner { calls, oldest, file, written } = &mut *inner;
        keep(calls, oldest, id, asked);
        if *written >= 2 * CALLS {
            (*file, *written) = (rewrite(&self.path, calls, oldest)?, oldest.len());
            return Ok(());
        }
        file.write_all(&encode(id, asked))?;
        *written += 1;
        Ok(())
    }

    /// Who was asked to run a call, if that is known.
    pub(super) fn of(&self, id: CallId) -> Option<Asked> {
        lock(&self.inner).calls.get(&id).copied()
    }
}

fn keep(
    calls: &mut HashMap<CallId, Asked>,
    oldest: &mut VecDeque<CallId>,
    id: CallId,
    asked: Asked,
) {
    match calls.get_mut(&id) {
        // The first word stands, unless the call went elsewhere: nothing ran at the one before.
        Some(known) if known.host == asked.host => return,
        Some(known) => return *known = asked,
        None => {}
    }
    if oldest.len() >= CALLS
        && let Some(gone) = oldest.pop_front()
    {
        calls.remove(&gone);
    }
    calls.insert(id, asked);
    oldest.push_back(id);
}

fn rewrite(
    path: &Path,
    calls: &HashMap<CallId, Asked>,
    oldest: &VecDeque<CallId>,
) -> io::Result<File> {
    let entries = oldest.iter().filter_map(|id| Some(encode(*id, *calls.get(id)?)));
    let temp = path.with_extension("tmp");
    fs::write(&temp, entries.flatten().collect::<Vec<u8>>())?;
    fs::rename(&temp, path)?;
    OpenOptions::new().append(true).mode(0o600).open(path)
}

fn encode(id: CallId, asked: Asked) -> [u8; LEN] {
    let mut entry = [0; LEN];
    entry[..16].copy_from_slice(id.as_bytes());
    entry[16..48].copy_from_slice(asked.host.as_bytes());
    entry[48..].copy_from_slice(asked.name.as_bytes());
    entry
}

fn decode(entry: &[u8; LEN]) -> (CallId, Asked) {
    let mut id = [0; 16];
    let (mut host, mut name) = ([0; 32], [0; 32]);
    id.copy_from_slice(&entry[..16]);
    host.copy_from_slice(&entry[16..48]);
    name.copy_from_slice(&entry[48..]);
    let asked = Asked { host: NodeId::from_bytes(host), name: Hash::from_bytes(name) };
    (CallId::from_bytes(id), asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> CallId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&(n as u64).to_be_bytes());
        CallId::from_bytes(bytes)
    }

    #[test]
    fn what_was_asked_is_known_after_a_restart_and_a_torn_entry() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("expected");
        let asked = Asked::new(NodeId::from_bytes([3; 32]), "/a/n");
        let expected = Expected::open(&path).unwrap();
        expected.note(id(1), Asked::new(NodeId::from_bytes([4; 32]), "")).unwrap();
        expected.note(id(1), asked).unwrap();
        expected.note(id(1), Asked::new(asked.host, "")).unwrap();
        drop(expected);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
        let expected = Expected::open(&path).unwrap();
        expected.note(id(2), asked).unwrap();
        drop(expected);
        let expected = Expected::open(&path).unwrap();
        assert_eq!([1, 2, 3].map(|n| expected.of(id(n))), [Some(asked), Some(asked), None]);
    }

    #[test]
    fn it_forgets_the_oldest_and_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("expected");
        let expected = Expected::open(&path).unwrap();
        let asked = Asked::new(NodeId::from_bytes([3; 32]), "");
        for n in 0..3 * CALLS {
            expected.note(id(n), asked).unwrap();
        }
        assert!(fs::metadata(&path).unwrap().len() <= (2 * CALLS * LEN) as u64);
        let expected = Expected::open(&path).unwrap();
        assert_eq!(expected.of(id(2 * CALLS - 1)), None);
        assert_eq!(expected.of(id(2 * CALLS)), Some(asked));
    }
}
