//! Files in memory that are used more than once.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rhd_protocol::frame::PAYLOAD_AT;

/// Payloads above this size get a file of their own, in bytes.
const POOLED: u64 = 128 << 20;
/// Bytes of files that are kept for later payloads.
const KEPT: u64 = 512 << 20;
/// Files that are kept.
const FILES: usize = 32;
/// How long a file is kept that nothing uses.
const IDLE: Duration = Duration::from_secs(20);

/// A cloneable handle.
#[derive(Debug, Clone)]
pub(in crate::calls) struct Pool {
    dir: PathBuf,
    segments: Arc<Mutex<Vec<Segment>>>,
}

#[derive(Debug)]
struct Segment {
    file: Arc<File>,
    owner: String,
    room: u64,
    /// The longest payload so far: pages beyond it were never there.
    filled: u64,
    used: Instant,
}

impl Segment {
    /// Whether whoever was given it is done with it, as they say in its first byte.
    fn is_free(&self) -> bool {
        let mut state = [1];
        Arc::strong_count(&self.file) == 1
            && self.file.read_exact_at(&mut state, 0).is_ok()
            && state == [0]
    }
}

fn lock(segments: &Mutex<Vec<Segment>>) -> MutexGuard<'_, Vec<Segment>> {
    segments.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// `dir` is used where the system has no files in memory.
    pub(in crate::calls) fn new(dir: PathBuf) -> Self {
        Self { dir, segments: Arc::default() }
    }

    /// A file with room for a payload, marked as in use.
    pub(in crate::calls) fn take(&self, owner: &str, len: u64) -> io::Result<Arc<File>> {
        if len > POOLED {
            return create(&self.dir, len).map(Arc::new);
        }
        let mut segments = lock(&self.segments);
        let fitting = |s: &&mut Segment| s.owner == owner && s.room >= len && s.is_free();
        if let Some(found) = segments.iter_mut().filter(fitting).min_by_key(|s| s.room) {
            found.file.write_all_at(&[1], 0)?;
            (found.used, found.filled) = (Instant::now(), found.filled.max(len));
            return Ok(found.file.clone());
        }
        // Room that is never written takes no memory.
        let room = len.next_power_of_two();
        let file = Arc::new(create(&self.dir, room)?);
        let first = segments.is_empty();
        let (owner, used) = (owner.to_owned(), Instant::now());
        segments.push(Segment { file: file.clone(), owner, room, filled: len, used });
        while segments.len() > FILES || segments.iter().map(|s| s.filled).sum::<u64>() > KEPT {
            // The one that is to be filled now is the last, and stays.
            let Some(oldest) = (0..segments.len() - 1).min_by_key(|i| segments[*i].used) else {
                break;
            };
            segments.remove(oldest);
        }
        drop(segments);
        if first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(forget_idle(Arc::downgrade(&self.segments)));
        }
        Ok(file)
    }

    #[cfg(test)]
    pub(in crate::calls) fn files(&self) -> usize {
        lock(&self.segments).len()
    }
}

/// Lets go of files as they go out of use, until none is left.
async fn forget_idle(segments: std::sync::Weak<Mutex<Vec<Segment>>>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(segments) = segments.upgrade() else { return };
        let mut segments = lock(&segments);
        segments.retain(|segment| segment.used.elapsed() < IDLE);
        if segments.is_empty() {
            return;
        }
    }
}

#[cfg(target_os = "linux")]
fn create(_: &Path, room: u64) -> io::Result<File> {
    use rustix::fs::{MemfdFlags, SealFlags};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("rhd-payload", flags)?);
    file.set_len(PAYLOAD_AT + room)?;
    file.write_all_at(&[1], 0)?;
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)?;
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn create(dir: &Path, room: u64) -> io::Result<File> {
    std::fs::create_dir_all(dir)?;
    let file = tempfile::tempfile_in(dir)?;
    file.set_len(PAYLOAD_AT + room)?;
    file.write_all_at(&[1], 0)?;
    Ok(file)
}
