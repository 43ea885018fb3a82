//! One large content, whole or in part.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

use bytes::Bytes;
use rhd_protocol::{
    id::Hash,
    pieces::{self, PIECE},
};

use super::{PART, TREE, path, values_in, write_tree};
use crate::{
    data::{error::DataError, lock},
    folders::{self, Values},
};

/// What is known of a content without opening it.
#[derive(Debug)]
pub(in crate::data) struct Item {
    dir: Arc<Path>,
    hash: Hash,
    size: u64,
    state: Mutex<State>,
    /// Those of whoever has it open.
    values: Mutex<Weak<Values>>,
}

#[derive(Debug)]
enum State {
    Whole(Kept),
    /// Which pieces are here; none: nobody has looked since the start.
    Part(Option<Here>),
}

/// What a power cut leaves of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// All of it.
    Flushed,
    /// Perhaps nothing, and it may be nowhere else.
    New,
    /// Perhaps nothing, but it came from a node that has it.
    Copied,
}

#[derive(Debug)]
struct Here {
    pieces: Vec<bool>,
    left: u64,
}

impl Item {
    /// All of a content.
    pub(super) fn whole(dir: &Arc<Path>, hash: Hash, size: u64) -> Self {
        Self::new(dir, hash, size, State::Whole(Kept::New))
    }

    /// A part that was left here.
    pub(super) fn part(dir: &Arc<Path>, hash: Hash, size: u64) -> Self {
        Self::new(dir, hash, size, State::Part(None))
    }

    /// A part of which nothing is here yet.
    pub(super) fn begun(dir: &Arc<Path>, hash: Hash, size: u64) -> Self {
        let left = pieces::count(size);
        let here = Here { pieces: vec![false; left as usize], left };
        Self::new(dir, hash, size, State::Part(Some(here)))
    }

    fn new(dir: &Arc<Path>, hash: Hash, size: u64, state: State) -> Self {
        let (state, values) = (Mutex::new(state), Mutex::default());
        Self { dir: dir.clone(), hash, size, state, values }
    }

    /// Bytes that all of it has.
    pub(in crate::data) fn size(&self) -> u64 {
        self.size
    }

    /// Whether all of it is here.
    pub(in crate::data) fn is_whole(&self) -> bool {
        matches!(*lock(&self.state), State::Whole(_))
    }

    /// Opens it to read, and where it is a part, to write.
    pub(in crate::data) fn open(self: &Arc<Self>) -> Result<Opened, DataError> {
        let values = self.values()?;
        // It may become whole in between: then it is read all the same.
        let whole = self.is_whole();
        let file = File::options().read(true).write(!whole).open(self.path(whole));
        let file = file.or_else(|e| match self.is_whole() {
            true => File::open(self.path(true)),
            false => Err(e),
        });
        let file = file.map_err(|e| self.unread("open", e))?;
        Ok(Opened { item: self.clone(), file, values })
    }

    /// Whether it is here as well as elsewhere, and a power cut could take it from here.
    pub(in crate::data) fn is_copy(&self) -> bool {
        matches!(*lock(&self.state), State::Whole(Kept::Copied))
    }

    /// Whether a power cut leaves all of it.
    #[cfg(test)]
    pub(in crate::data) fn is_flushed(&self) -> bool {
        matches!(*lock(&self.state), State::Whole(Kept::Flushed))
    }

    /// Has it on disk, if it is whole; whether that had to be done.
    pub(super) fn flush(&self) -> Result<bool, DataError> {
        if !matches!(*lock(&self.state), State::Whole(Kept::New | Kept::Copied)) {
            return Ok(false);
        }
        let path = self.path(true);
        File::open(&path)
            .and_then(|file| file.sync_data())
            .map_err(DataError::file("flush", &path))?;
        *lock(&self.state) = State::Whole(Kept::Flushed);
        Ok(true)
    }

    fn path(&self, whole: bool) -> PathBuf {
        path(&self.dir, self.hash, if whole { "" } else { PART })
    }

    /// What an error of its file means: what is damaged is removed, so that nothing else may be said
    /// to be.
    fn unread(&self, operation: &'static str, error: io::Error) -> DataError {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                self.damaged(error.to_string())
            }
            _ => DataError::file(operation, self.path(self.is_whole()))(error),
        }
    }

    fn damaged(&self, why: String) -> DataError {
        DataError::Damaged { hash: self.hash, why }
    }

    fn values(&self) -> Result<Arc<Values>, DataError> {
        let mut shared = lock(&self.values);
        if let Some(values) = shared.upgrade() {
            return Ok(values);
        }
        let values = match values_in(&path(&self.dir, self.hash, TREE), self.hash) {
            Some(values) => values,
            None if self.is_whole() => self.proved_anew()?,
            None => return Err(self.damaged("what proves its pieces is gone".into())),
        };
        let values = Arc::new(values);
        *shared = Arc::downgrade(&values);
        Ok(values)
    }

    /// The values of content whose tree is damaged or gone.
    fn proved_anew(&self) -> Result<Values, DataError> {
        let read = File::open(self.path(true))
            .and_then(|file| folders::digest(&file, self.size, folders::threads()));
        match read {
            Ok((hash, values)) if hash == self.hash => {
                write_tree(&self.dir, hash, self.size, &values)
                    .map_err(DataError::store("write"))?;
                Ok(values)
            }
            Ok(_) => Err(self.damaged("its bytes have another hash".into())),
            Err(error) => Err(self.unread("read", error)),
        }
    }
}

/// A content that is read, or written piece by piece.
#[derive(Debug)]
pub(in crate::data) struct Opened {
    item: Arc<Item>,
    file: File,
    values: Arc<Values>,
}

impl Opened {
    /// Bytes that all of it has.
    pub(in crate::data) fn size(&self) -> u64 {
        self.item.size
    }

    /// What proves its pieces.
    pub(in crate::data) fn values(&self) -> &Values {
        &self.values
    }

    /// Pieces that hold only zeros, from each first to before the last; none of a part.
    pub(in crate::data) fn holes(&self) -> Vec<(u64, u64)> {
        match self.item.is_whole() {
            true => folders::holes(&self.file, self.item.size),
            false => Vec::new(),
        }
    }

    /// Reads a piece, and holds it against its hash.
    pub(in crate::data) fn read(&self, index: u64) -> Result<Bytes, DataError> {
        let mut bytes = vec![0; pieces::span(index, self.item.size).1 as usize];
        self.read_into(index, &mut bytes)?;
        Ok(bytes.into())
    }

    /// The same, into a buffer of its length.
    fn read_into(&self, index: u64, bytes: &mut [u8]) -> Result<(), DataError> {
        let at = pieces::span(index, self.item.size).0;
        let read = self.file.read_exact_at(bytes, at);
        read.map_err(|e| self.item.unread("read", e))?;
        match self.is_piece(index, bytes) {
            true => Ok(()),
            false => Err(self.item.damaged(format!("piece {index} has another hash"))),
        }
    }

    /// Whether these bytes are a piece of it.
    fn is_piece(&self, index: u64, bytes: &[u8]) -> bool {
        bytes.len() as u64 == pieces::span(index, self.item.size).1
            && self.values.get(index as usize).copied() == pieces::value(index, bytes)
    }

    /// Writes a piece, if these bytes are it; whether they are. With the last one it is whole.
    pub(in crate::data) fn write(&self, index: u64, bytes: &[u8]) -> Result<bool, DataError> {
        if !self.is_piece(index, bytes) {
            return Ok(false);
        }
        let at = pieces::span(index, self.item.size).0;
        folders::write_at(&self.file, bytes, at).map_err(DataError::store("write"))?;
        self.came(index)?;
        Ok(true)
    }

    /// Notes a piece of zeros, which takes no space, if it is one; whether it is.
    pub(in crate::data) fn leave_hole(&self, index: u64, zeros: &[u8]) -> Result<bool, DataError> {
        let is_one = self.is_piece(index, zeros);
        if is_one {
            self.came(index)?;
        }
        Ok(is_one)
    }

    fn came(&self, index: u64) -> Result<(), DataError> {
        self.look()?;
        let mut state = lock(&self.item.state);
        let State::Part(Some(here)) = &mut *state else { return Ok(()) };
        if !std::mem::replace(&mut here.pieces[index as usize], true) {
            here.left -= 1;
        }
        if here.left == 0 {
            match fs::rename(self.item.path(false), self.item.path(true)) {
                // It was put in its place from elsewhere meanwhile.
                Err(_) if self.item.path(true).exists() => {}
                renamed => renamed.map_err(DataError::store("write"))?,
            }
            *state = State::Whole(Kept::Copied);
        }
        Ok(())
    }

    /// The ranges of bytes within `wanted`, in whole pieces, that are not here.
    pub(in crate::data) fn missing(
        &self,
        wanted: &Range<u64>,
    ) -> Result<Vec<Range<u64>>, DataError> {
        self.look()?;
        let state = lock(&self.item.state);
        let State::Part(Some(here)) = &*state else { return Ok(Vec::new()) };
        let indices = wanted.start / PIECE..wanted.end.min(self.item.size).div_ceil(PIECE);
        let mut missing: Vec<Range<u64>> = Vec::new();
        for index in indices.filter(|index| !here.pieces[*index as usize]) {
            let (at, len) = pieces::span(index, self.item.size);
            match missing.last_mut() {
                Some(last) if last.end == at => last.end = at + len,
                _ => missing.push(at..at + len),
            }
        }
        Ok(missing)
    }

    /// Sees which pieces a part has, unless that is known.
    fn look(&self) -> Result<(), DataError> {
        if !matches!(*lock(&self.item.state), State::Part(None)) {
            return Ok(());
        }
        let holes = folders::holes(&self.file, self.item.size);
        let mut buffer = vec![0; PIECE as usize];
        let is_here = |index| {
            let bytes = &mut buffer[..pieces::span(index, self.item.size).1 as usize];
            !folders::is_hole(&holes, index) && self.read_into(index, bytes).is_ok()
        };
        let pieces: Vec<bool> = (0..pieces::count(self.item.size)).map(is_here).collect();
        let left = pieces.iter().filter(|here| !**here).count() as u64;
        let mut state = lock(&self.item.state);
        if matches!(*state, State::Part(None)) {
            *state = State::Part(Some(Here { pieces, left }));
        }
        Ok(())
    }

    /// Writes all of it to a file that is empty, each piece held against its hash.
    pub(in crate::data) fn export(&self, to: &File, path: &Path) -> Result<(), DataError> {
        let (size, holes) = (self.item.size, self.holes());
        to.set_len(size).map_err(DataError::file("write", path))?;
        let copy = |index: u64, bytes: &mut [u8]| {
            self.read_into(index, bytes)?;
            match folders::is_hole(&holes, index) {
                true => Ok(()),
                false => folders::write_at(to, bytes, pieces::span(index, size).0)
                    .map_err(DataError::file("write", path)),
            }
        };
        folders::digest_by(size, folders::threads(), copy).map(drop)
    }
}
