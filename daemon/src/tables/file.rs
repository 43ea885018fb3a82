//! One Parquet file, whose bytes may be anything.

use std::{
    fs::File,
    io::{self, BufReader},
    os::unix::fs::FileExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
    errors::{ParquetError, Result as Decoded},
    file::{
        metadata::PageIndexPolicy,
        reader::{ChunkReader, Length},
    },
};

use super::{error::TableError, remote::Remote};

/// The end of every Parquet file: the length of its footer, and what it is.
const TAIL: u64 = 8;
const MAGIC: &[u8; 4] = b"PAR1";
/// Bytes of a footer that is read; real ones of wide tables have a few MiB.
const MAX_FOOTER: u64 = 64 << 20;
/// Bytes that are read at once: a page, mostly 1 MiB.
const MAX_PIECE: usize = 256 << 20;
/// Bytes that are read ahead for the header of a page.
const HEADER: usize = 8 << 10;

/// A file that is never asked for more than it has.
#[derive(Debug, Clone)]
pub(super) struct Guarded {
    source: Source,
    len: u64,
}

/// Where the bytes are.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Disk(Arc<File>),
    Store(Arc<Remote>),
}

impl Source {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::Disk(file) => Ok(file.metadata()?.len()),
            Self::Store(remote) => Ok(remote.len()),
        }
    }

    /// Waits until it is on its disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.sync_all(),
            // It was before it could be listed.
            Self::Store(_) => Ok(()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::Disk(file) => file.read_at(buffer, at),
            Self::Store(remote) => remote.read_at(buffer, at),
        }
    }

    fn read_exact_at(&self, buffer: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.read_exact_at(buffer, at),
            Self::Store(remote) => remote.read_exact_at(buffer, at),
        }
    }
}

impl Guarded {
    /// Takes a file, with its footer held against its length.
    pub(super) fn new(source: Source, path: &Path) -> Result<Self, TableError> {
        let (failed, broken) = (TableError::file("read", path), TableError::broken(path));
        let len = match source.len() {
            Ok(len) => len,
            Err(error) => return Err(failed(error)),
        };
        let mut tail = [0; TAIL as usize];
        // The magic at the start, and a tail.
        if len < TAIL + MAGIC.len() as u64 {
            return Err(broken(&format!("it has only {len} bytes")));
        }
        source.read_exact_at(&mut tail, len - TAIL).map_err(failed)?;
        let [a, b, c, d, magic @ ..] = tail;
        if &magic == b"PARE" {
            return Err(broken(&"its footer is encrypted"));
        }
        if &magic != MAGIC {
            return Err(broken(&"it does not end as Parquet files do"));
        }
        let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
        if footer > len - TAIL || footer > MAX_FOOTER {
            return Err(broken(&format!("its footer has {footer} bytes, of {len} in the file")));
        }
        Ok(Self { source, len })
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Decodes the footer.
    pub(super) fn footer(&self, path: &Path) -> Result<ArrowReaderMetadata, TableError> {
        let broken = TableError::broken(path);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Skip);
        let load = || ArrowReaderMetadata::load(self, options);
        let footer = caught(path, || load().map_err(|e| broken(&e)))?;
        let counts = footer.metadata().row_groups().iter().map(|group| group.num_rows());
        let mut rows = counts.map(|rows| u64::try_from(rows).ok());
        let total = rows.try_fold(0_u64, |sum, rows| sum.checked_add(rows?));
        let said = u64::try_from(footer.metadata().file_metadata().num_rows()).ok();
        match total == said && said.is_some() {
            true => Ok(footer),
            false => Err(broken(&"its footer counts its rows in two ways")),
        }
    }
}

/// Runs a decoder, which may panic at bytes that nobody thought of.
pub(super) fn caught<T>(
    path: &Path,
    decode: impl FnOnce() -> Result<T, TableError>,
) -> Result<T, TableError> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|_| Err(TableError::broken(path)(&"its decoder gave up")))
}

/// The larger of both sizes in the header of a page, which decoders allocate by: fields 2 and 3, after
/// its type, in Thrift's compact protocol. None where these bytes are no such header.
pub(super) fn page_size(mut bytes: &[u8]) -> Option<u64> {
    /// The next field, a 32-bit number.
    const NUMBER: u8 = 0x15;
    let mut numbers = [0_u64; 3];
    for number in &mut numbers {
        let (&field, mut rest) = bytes.split_first()?;
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().filter(|_| field == NUMBER && shift < 64)?;
            *number |= u64::from(byte & 0x7f) << shift;
            (rest, shift) = (after, shift + 7);
            if byte & 0x80 == 0 {
                break;
            }
        }
        bytes = rest;
    }
    // Zigzag: what is negative would be refused as it is decoded.
    let [_, plain, packed] = numbers.map(|number| number >> 1);
    Some(plain.max(packed))
}

/// Reads on from somewhere in a file.
#[derive(Debug)]
pub(super) struct At {
    source: Source,
    at: u64,
}

impl io::Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.source.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

impl Length for Guarded {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for Guarded {
    type T = BufReader<At>;

    /// Where a page starts: what it says of its size is held against what is taken.
    fn get_read(&self, start: u64) -> Decoded<Self::T> {
        let mut head = [0; 32];
        let got = self.source.read_at(&mut head, start)?;
        if let Some(size) = page_size(&head[..got])
            && size > MAX_PIECE as u64
        {
            return Err(ParquetError::General(format!(
                "a page at {start} says it has {size} bytes"
            )));
        }
        Ok(BufReader::with_capacity(HEADER, At { source: self.source.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Decoded<Bytes> {
        let inside = start.checked_add(length as u64).is_some_and(|end| end <= self.len);
        if !inside || length > MAX_PIECE {
            return Err(ParquetError::EOF(format!("{length} bytes at {start} of {}", self.len)));
        }
        let mut bytes = vec![0; length];
        self.source.read_exact_at(&mut bytes, start)?;
        Ok(bytes.into())
    }
}
