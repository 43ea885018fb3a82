//! Hashes of files: large ones piece by piece, on all cores.

use std::{
    fs::File,
    io,
    os::{fd::AsFd, unix::fs::FileExt as _},
    panic::resume_unwind,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use rhd_protocol::{
    id::Hash,
    pieces::{self, PIECE},
};
use rustix::fs::{Mode, OFlags, SeekFrom, seek};

/// Chaining values of a file's pieces, in order; none for a file of one piece.
pub(crate) type Values = Vec<[u8; 32]>;

/// Bytes of one write.
const WRITE: usize = 64 << 10;
/// Threads that hash one file.
const THREADS: usize = 8;
/// A piece of zeros.
pub(super) static ZEROS: [u8; PIECE as usize] = [0; PIECE as usize];

/// How many threads a machine like this hashes with.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(THREADS)
}

/// Opens a regular file; a link or pipe that took its place since it was listed is neither followed
/// nor waited for.
pub fn open_plain(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    plain(File::from(rustix::fs::open(path, flags, Mode::empty())?))
}

/// The same file, if it is a regular one.
pub(crate) fn plain(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("no regular file")),
    }
}

/// Writes a piece, or less, at its place: a little at a time. Whoever writes another one to the same
/// file waits for each write, and for a long one the system looks for long runs of memory, which are
/// slow to come by in a virtual machine (3.1 s for 1 GiB where this takes 1.5).
pub(crate) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut writes = bytes.chunks(WRITE).zip((at..).step_by(WRITE));
    writes.try_for_each(|(some, at)| file.write_all_at(some, at))
}

/// The hash of the first `size` bytes.
pub fn hash_file(file: &File, size: u64) -> io::Result<Hash> {
    Ok(digest(file, size, 1)?.0)
}

/// The hash of the first `size` bytes, and what proves its pieces. A file that is shorter ends in an
/// error.
pub(crate) fn digest(file: &File, size: u64, threads: usize) -> io::Result<(Hash, Values)> {
    // What is past its end would look like a hole.
    if file.metadata()?.len() < size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if pieces::count(size) <= 1 {
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0)?;
        return Ok((Hash::of(&bytes), Values::new()));
    }
    let holes = holes(file, size);
    let read = |index, bytes: &mut [u8]| match is_hole(&holes, index) {
        true => {
            bytes.fill(0);
            Ok(())
        }
        false => file.read_exact_at(bytes, pieces::span(index, size).0),
    };
    digest_by(size, threads, read)?.ok_or_else(|| io::Error::other("a tree of no pieces"))
}

/// The same of bytes that `read` puts in place, a piece at a time, in any order, on several threads;
/// none where there are fewer than two pieces.
pub(crate) fn digest_by<E: Send>(
    size: u64,
    threads: usize,
    read: impl Fn(u64, &mut [u8]) -> Result<(), E> + Sync,
) -> Result<Option<(Hash, Values)>, E> {
    let count = pieces::count(size);
    let (next, values) = (AtomicU64::new(0), Mutex::new(vec![[0; 32]; count as usize]));
    let work = || -> Result<(), E> {
        let mut buffer = vec![0; PIECE.min(size) as usize];
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(());
            }
            let bytes = &mut buffer[..pieces::span(index, size).1 as usize];
            let done = read(index, bytes);
            if done.is_err() {
                // Nobody begins another one.
                next.store(count, Ordering::Relaxed);
            }
            done?;
            if let Some(value) = pieces::value(index, bytes) {
                values.lock().unwrap_or_else(PoisonError::into_inner)[index as usize] = value;
            }
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        let ends =
            others.into_iter().map(|other| other.join().unwrap_or_else(|e| resume_unwind(e)));
        ends.fold(own, Result::and)
    })?;
    let values = values.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(pieces::root(&values).map(|hash| (hash, values)))
}

/// Pieces that the file system keeps no bytes for: from each first to before the last.
pub(crate) fn holes(file: &File, size: u64) -> Vec<(u64, u64)> {
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size {
        let data = match seek(file.as_fd(), SeekFrom::Data(at)) {
            Ok(data) => data,
            // Nothing but a hole from here on.
            Err(rustix::io::Errno::NXIO) => size,
            // A file system that doesn't know.
            Err(_) => return holes,
        };
        let (first, end) =
            (at.div_ceil(PIECE), if data >= size { pieces::count(size) } else { data / PIECE });
        if first < end {
            holes.push((first, end));
        }
        if data >= size {
            break;
        }
        match seek(file.as_fd(), SeekFrom::Hole(data)) {
            Ok(hole) if hole > data => at = hole,
            _ => break,
        }
    }
    holes
}

/// Whether a piece lies in one of these holes.
pub(crate) fn is_hole(holes: &[(u64, u64)], index: u64) -> bool {
    let after = holes.partition_point(|(first, _)| *first <= index);
    after > 0 && index < holes[after - 1].1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_file_has_the_hash_of_its_bytes_holes_included() {
        let file = tempfile::tempfile().unwrap();
        let size = 7 * PIECE + 3;
        file.set_len(size).unwrap();
        file.write_all_at(b"start", 0).unwrap();
        file.write_all_at(b"inside", 4 * PIECE - 3).unwrap();
        let mut bytes = vec![0; size as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let found = holes(&file, size);
        assert!(is_hole(&found, 2) && is_hole(&found, 7), "{found:?}");
        assert!(!is_hole(&found, 0) && !is_hole(&found, 3) && !is_hole(&found, 4), "{found:?}");
        for threads in [1, 3] {
            let (hash, values) = digest(&file, size, threads).unwrap();
            assert_eq!((hash, values.len()), (Hash::of(&bytes), 8));
        }
        assert!(digest(&file, size + 1, 2).is_err(), "shorter than it was");
    }
}
