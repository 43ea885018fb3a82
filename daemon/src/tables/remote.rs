//! Objects that are read here and there, by ranges.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::stores::{Object, Store};

/// Bytes that are asked for at once; four times as many where it is read on and on.
const BLOCK: u64 = 1 << 20;
const ONWARD: u64 = 4;
/// Blocks of one object that are kept.
const KEPT: usize = 64;

/// An object that is read here and there.
#[derive(Debug)]
pub(super) struct Remote {
    store: Store,
    object: Object,
    runtime: Handle,
    /// Those that were read last.
    blocks: Mutex<VecDeque<(u64, Bytes)>>,
}

impl Remote {
    fn new(store: Store, object: Object, runtime: Handle) -> Self {
        Self { store, object, runtime, blocks: Mutex::default() }
    }

    /// Bytes of it.
    pub(super) fn len(&self) -> u64 {
        self.object.size
    }

    /// Reads some bytes, at least one but at the end; waits for the store.
    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        if buffer.is_empty() || at >= self.object.size {
            return Ok(0);
        }
        let (index, inside) = (at / BLOCK, (at % BLOCK) as usize);
        let block = self.block(index)?;
        let some = block.get(inside..).unwrap_or_default();
        let len = some.len().min(buffer.len());
        buffer[..len].copy_from_slice(&some[..len]);
        Ok(len)
    }

    /// Reads as many as there is room for.
    pub(super) fn read_exact_at(&self, mut buffer: &mut [u8], mut at: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    buffer = &mut buffer[read..];
                    at += read as u64;
                }
            }
        }
        Ok(())
    }

    fn block(&self, index: u64) -> io::Result<Bytes> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = blocks.iter().find(|(of, _)| *of == index) {
            return Ok(block.clone());
        }
        let onward = index > 0 && blocks.iter().any(|(of, _)| *of == index - 1);
        let (at, count) = (index * BLOCK, if onward { ONWARD } else { 1 });
        let len = (count * BLOCK).min(self.object.size - at);
        let read = self.runtime.block_on(self.store.range(&self.object, at, len));
        let mut read = read.map_err(io::Error::other)?;
        let first = read.slice(..read.len().min(BLOCK as usize));
        let mut of = index;
        while !read.is_empty() {
            if blocks.len() >= KEPT {
                blocks.pop_front();
            }
            let block = read.split_to(read.len().min(BLOCK as usize));
            blocks.push_back((of, block));
            of += 1;
        }
        Ok(first)
    }
}

/// A table's objects, as they were when they were listed.
#[derive(Debug)]
pub(super) struct Far {
    store: Store,
    /// Sorted by path; one with none, where the table is one object.
    objects: Vec<Object>,
    runtime: Handle,
}

impl Far {
    pub(super) fn new(store: Store, objects: Vec<Object>, runtime: Handle) -> Self {
        Self { store, objects, runtime }
    }

    /// The paths of its objects.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        self.objects.iter().map(|object| object.path.as_str())
    }

    /// One of them, to be read.
    pub(super) fn open(&self, path: &str) -> io::Result<Arc<Remote>> {
        let at = self.objects.binary_search_by(|object| object.path.as_str().cmp(path));
        let at = at.map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let object = self.objects[at].clone();
        Ok(Arc::new(Remote::new(self.store.clone(), object, self.runtime.clone())))
    }
}
