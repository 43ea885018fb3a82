//! A large file, piece by piece: what is here already is used, each piece is held against the hash of
//! the whole as it arrives.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rhd_protocol::{
    folder::{Entry, MAX_WANTED_BYTES, Wanted},
    pieces::{self, PIECE},
};

use super::{
    blocking,
    digest::{Values, ZEROS, holes, is_hole, write_at},
    error::FolderError,
    place::Staged,
    source::Source,
};
use crate::asked::Meter;

/// Questions under way at once.
const AT_ONCE: usize = 6;
/// Pieces of one question.
const SOME: usize = (MAX_WANTED_BYTES / PIECE) as usize;

/// A file as it comes.
#[derive(Debug)]
struct Coming {
    file: File,
    size: u64,
    values: Arc<Values>,
}

impl Coming {
    /// Whether these bytes are piece `index` of it.
    fn is_piece(&self, index: u64, bytes: &[u8]) -> bool {
        bytes.len() as u64 == pieces::span(index, self.size).1
            && self.values.get(index as usize).copied() == pieces::value(index, bytes)
    }

    /// Which pieces are not here: neither in what came before, nor in an older file, nor zeros.
    fn missing(
        &self,
        zeros: &[(u64, u64)],
        older: Option<(&File, &Values)>,
    ) -> Result<Vec<u64>, std::io::Error> {
        let empty = holes(&self.file, self.size);
        let mut buffer = vec![0; PIECE as usize];
        let mut missing = Vec::new();
        for index in 0..pieces::count(self.size) {
            let (at, len) = pieces::span(index, self.size);
            let bytes = &mut buffer[..len as usize];
            if is_hole(&empty, index) {
                let zeros = is_hole(zeros, index) && self.is_piece(index, &ZEROS[..len as usize]);
                if zeros {
                    continue;
                }
            } else {
                self.file.read_exact_at(bytes, at)?;
                if self.is_piece(index, bytes) {
                    continue;
                }
            }
            if let Some((file, values)) = older
                && values.get(index as usize) == self.values.get(index as usize)
                && file.read_exact_at(bytes, at).is_ok()
                && self.is_piece(index, bytes)
            {
                write_at(&self.file, bytes, at)?;
                continue;
            }
            missing.push(index);
        }
        Ok(missing)
    }
}

/// A file that has come.
#[derive(Debug)]
pub(super) struct Came {
    /// What proves it.
    pub(super) values: Arc<Values>,
    /// Bytes that had to come.
    pub(super) bytes: u64,
}

/// Has all of a file in `staged`; none when it is another one by now.
pub(super) async fn fetch(
    source: &Source,
    entry: &Entry,
    staged: &Staged,
    older: Option<(File, Arc<Values>)>,
    meter: &Meter,
) -> Result<Option<Came>, FolderError> {
    let Some((values, said)) = source.proof(entry).await? else { return Ok(None) };
    let path = entry.path.clone();
    let file = staged.file.try_clone().map_err(FolderError::file("write", &entry.path))?;
    let coming = Arc::new(Coming { file, size: entry.size, values: values.clone() });
    let looking = coming.clone();
    let missing = blocking(move || {
        let older = older.as_ref().map(|(file, values)| (file, &**values));
        looking.missing(&said.holes, older).map_err(FolderError::file("write", path))
    })
    .await?;
    let bytes = missing.iter().map(|index| pieces::span(*index, entry.size).1).sum();
    meter.add(entry.size - bytes);
    let wrong = Arc::new(Mutex::new(0u64));
    let asks = missing.chunks(SOME).map(<[u64]>::to_vec).map(|some| {
        let (coming, wrong) = (coming.clone(), wrong.clone());
        async move {
            let want =
                |index: &u64| Wanted { path: entry.path.clone(), size: entry.size, index: *index };
            let mut replies = source.read(some.iter().map(want).collect());
            let mut left = some.into_iter();
            while let Some((parts, body)) = replies.soon().await? {
                let mut body = body;
                for (len, index) in parts.into_iter().zip(left.by_ref()) {
                    let bytes = body.split_to(len as usize);
                    let (coming, path) = (coming.clone(), entry.path.clone());
                    let written = blocking(move || {
                        if !coming.is_piece(index, &bytes) {
                            return Ok(false);
                        }
                        let at = pieces::span(index, coming.size).0;
                        let written = write_at(&coming.file, &bytes, at);
                        written.map(|()| true).map_err(FolderError::file("write", path))
                    });
                    match written.await? {
                        true => meter.add(len),
                        false => *wrong.lock().unwrap_or_else(PoisonError::into_inner) += 1,
                    }
                }
            }
            *wrong.lock().unwrap_or_else(PoisonError::into_inner) += left.count() as u64;
            replies.end::<()>().await
        }
    });
    stream::iter(asks).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    let wrong = *wrong.lock().unwrap_or_else(PoisonError::into_inner);
    Ok((wrong == 0).then_some(Came { values, bytes }))
}
