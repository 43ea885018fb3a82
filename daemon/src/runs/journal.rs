//! The journal of receipts: two files of fixed size, written entry by entry, the older one dropped
//! when the newer is full. What it says is decided by [`Receipts`]; here it meets the disk.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use rhd_protocol::{
    id::CallId,
    machine::receipt::{Known, LEN, Receipt, Receipts, Record, What},
    run::RunStatus,
};

use super::lock;

/// No journal is smaller, in bytes: a new file starts with what must not be forgotten.
const MIN_SEGMENT: u64 = 64 * 1024;
/// Bytes of a file that are read at start.
const MAX_SEGMENT: u64 = 256 * 1024 * 1024;

/// Why a call may not start.
#[derive(Debug)]
pub(super) enum Refused {
    /// One of its id was here before.
    Known(Receipt),
    /// The entry can't be written.
    Io(io::Error),
}

/// Receipts on disk. To note a start or an end takes one system call, but for one in 100,000.
#[derive(Debug)]
pub(super) struct Journal {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    receipts: Receipts,
    file: Arc<File>,
    number: u64,
    offset: u64,
    capacity: u64,
    /// Entries that have yet to be written, before any other.
    pending: Vec<Record>,
    /// Files that have been written since they were last flushed.
    dirty: Vec<Arc<File>>,
}

/// Unix time in milliseconds.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Journal {
    /// Reads what is in `dir` and begins another life.
    pub(super) fn open(dir: &Path, bytes: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut numbers: Vec<u64> = fs::read_dir(dir)?
            .filter_map(|entry| u64::from_str_radix(entry.ok()?.file_name().to_str()?, 16).ok())
            .collect();
        numbers.sort_unstable();
        let mut receipts = Receipts::default();
        let mut last = None;
        let keep = numbers.len().saturating_sub(2);
        for number in numbers.drain(..keep) {
            fs::remove_file(path_of(dir, number))?;
        }
        for number in numbers {
            receipts.seam();
            let file = OpenOptions::new().read(true).write(true).open(path_of(dir, number))?;
            let offset = read_back(&file, &mut receipts)?;
            last = Some((file, number, offset));
        }
        let capacity = bytes.max(MIN_SEGMENT) / LEN as u64 * LEN as u64;
        let (file, number, offset) = match last {
            Some(last) => last,
            None => (create(dir, 1, capacity)?, 1, 0),
        };
        let pending = receipts.begin(boot_id(), now_ms());
        for record in &pending {
            receipts.replay(*record);
        }
        let mut inner = Inner {
            dir: dir.into(),
            receipts,
            file: Arc::new(file),
            number,
            offset,
            capacity,
            pending,
            dirty: Vec::new(),
        };
        // A full disk is no reason to stay down: the first call will hear of it.
        if let Err(error) = inner.flush_pending() {
            tracing::warn!(%error, "the journal of calls can't be written");
        }
        tracing::debug!(calls = inner.receipts.len(), "receipts read");
        Ok(Self { inner: Mutex::new(inner) })
    }

    /// Lets a call start, once.
    pub(super) fn start(&self, id: CallId) -> Result<u64, Refused> {
        let mut inner = lock(&self.inner);
        let now = now_ms();
        let record = inner.receipts.admit(id, now).map_err(Refused::Known)?;
        inner.write(record).map_err(Refused::Io)?;
        Ok(now)
    }

    /// Notes the end of a call. What can't be written now is written before the next call starts.
    pub(super) fn end(&self, id: CallId, status: RunStatus) -> u64 {
        let mut inner = lock(&self.inner);
        let now = now_ms();
        if let Some(record) = inner.receipts.end(id, status, now)
            && let Err(error) = inner.write(record)
        {
            tracing::warn!(%error, call = %id, "the end of a call can't be journaled");
            inner.receipts.replay(record);
            inner.pending.push(record);
        }
        now
    }

    /// What is known of a call. One that was never here never will be. Waits for the disk.
    pub(super) fn ask(&self, id: CallId, age_ms: Option<u64>) -> io::Result<Known> {
        {
            let mut inner = lock(&self.inner);
            let now = now_ms();
            let known = inner.receipts.look(id, age_ms, now);
            let Some(record) = inner.receipts.rule_out(id, now) else { return Ok(known) };
            if known != Known::Never {
                return Ok(known);
            }
            inner.write(record)?;
        }
        // A promise is on disk before it is given.
        self.sync()?;
        Ok(Known::Never)
    }

    /// What is known of a call.
    pub(super) fn look(&self, id: CallId) -> Option<Receipt> {
        match lock(&self.inner).receipts.look(id, None, now_ms()) {
            Known::Yes(receipt) => Some(receipt),
            _ => None,
        }
    }

    /// Waits until everything so far is on disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        let dirty = std::mem::take(&mut lock(&self.inner).dirty);
        for (at, file) in dirty.iter().enumerate() {
            if let Err(error) = file.sync_data() {
                lock(&self.inner).dirty.extend_from_slice(&dirty[at..]);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Notes that the daemon ends in order.
    pub(super) fn bye(&self) -> io::Result<()> {
        self.sync()?;
        lock(&self.inner).write(Record { at_ms: now_ms(), what: What::Bye })?;
        self.sync()
    }
}

impl Inner {
    /// Writes an entry, then takes it in.
    fn write(&mut self, record: Record) -> io::Result<()> {
        self.flush_pending()?;
        if self.offset + LEN as u64 > self.capacity {
            self.rotate(record.at_ms)?;
        }
        self.append(record)?;
        self.receipts.replay(record);
        Ok(())
    }

    fn flush_pending(&mut self) -> io::Result<()> {
        while let Some(record) = self.pending.first().copied() {
            // These may go beyond the end of a file: they are few.
            self.append(record)?;
            self.pending.remove(0);
        }
        Ok(())
    }

    /// Whatever of it was written when this fails is written over by the next.
    fn append(&mut self, record: Record) -> io::Result<()> {
        self.file.write_all_at(&record.encode(), self.offset)?;
        self.offset += LEN as u64;
        if self.dirty.last().is_none_or(|file| !Arc::ptr_eq(file, &self.file)) {
            self.dirty.push(self.file.clone());
        }
        Ok(())
    }

    fn rotate(&mut self, now: u64) -> io::Result<()> {
        let number = self.number + 1;
        // After a power cut, what is missing has to be the newest.
        self.file.sync_data()?;
        let file = create(&self.dir, number, self.capacity)?;
        let oldest = path_of(&self.dir, self.number - 1);
        (self.file, self.number, self.offset) = (Arc::new(file), number, 0);
        self.pending = self.receipts.rotate(now);
        // A long list of running calls leaves room for others all the same.
        let head = (self.pending.len() * LEN) as u64;
        self.capacity = self.capacity.max(2 * head);
        self.flush_pending()?;
        self.file.sync_data()?;
        if let Err(error) = fs::remove_file(&oldest)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, file = %oldest.display(), "an old journal stays");
        }
        Ok(())
    }
}

fn path_of(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016x}"))
}

/// Makes a file with room for all its entries, so that a disk that fills up meanwhile costs none.
fn create(dir: &Path, number: u64, capacity: u64) -> io::Result<File> {
    let path = path_of(dir, number);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)?;
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, capacity) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
        Err(error) => {
            let _ = fs::remove_file(&path);
            return Err(error.into());
        }
    }
    // The name lasts once the folder is on disk.
    File::open(dir)?.sync_all()?;
    Ok(file)
}

/// Takes in all entries of a file; returns where the next one goes.
fn read_back(file: &File, receipts: &mut Receipts) -> io::Result<u64> {
    let len = file.metadata()?.len().min(MAX_SEGMENT);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0)?;
    let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    let (whole, rest) = bytes[..written.next_multiple_of(LEN).min(bytes.len())].as_chunks::<LEN>();
    let mut unread = usize::from(!rest.is_empty());
    for chunk in whole {
        match Record::decode(chunk) {
            Some(record) => receipts.replay(record),
            None => {
                unread += 1;
                receipts.torn();
            }
        }
    }
    if !rest.is_empty() {
        receipts.torn();
    }
    if unread > 0 {
        tracing::warn!(entries = unread, "entries of the journal of calls can't be read");
    }
    Ok((whole.len() * LEN) as u64)
}

/// Which boot of the machine this is; always the same where the system doesn't say.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(0).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> CallId {
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&n.to_be_bytes());
        CallId::from_bytes(bytes)
    }

    fn status(journal: &Journal, n: u64) -> Option<RunStatus> {
        journal.look(id(n)).map(|receipt| receipt.status)
    }

    #[test]
    fn a_restart_reads_back_what_was_written_and_interrupts_what_ran() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), 0).unwrap();
        journal.start(id(1)).unwrap();
        journal.start(id(2)).unwrap();
        journal.end(id(2), RunStatus::Completed);
        assert!(matches!(journal.start(id(1)), Err(Refused::Known(_))));
        assert!(matches!(journal.ask(id(3), None), Ok(Known::Never)));
        drop(journal);
        let journal = Journal::open(dir.path(), 0).unwrap();
        assert_eq!(status(&journal, 1), Some(RunStatus::Interrupted));
        assert_eq!(status(&journal, 2), Some(RunStatus::Completed));
        // Asked before it came: it is late, and may not start any more.
        assert!(matches!(journal.start(id(3)), Err(Refused::Known(_))));
        assert!(matches!(journal.start(id(2)), Err(Refused::Known(_))));
    }

    #[test]
    fn a_cut_anywhere_costs_no_more_than_what_it_cut() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), 0).unwrap();
        for n in 1..=20 {
            journal.start(id(n)).unwrap();
            journal.end(id(n), RunStatus::Completed);
        }
        drop(journal);
        let path = path_of(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        let written = 41 * LEN;
        for cut in (written - 5 * LEN)..=written {
            fs::write(&path, &whole[..cut]).unwrap();
            let journal = Journal::open(dir.path(), 0).unwrap();
            let told: Vec<_> = (1..=20).map(|n| status(&journal, n)).collect();
            let entries = cut / LEN - 1;
            for (at, told) in told.into_iter().enumerate() {
                let expected = match entries {
                    e if e > 2 * at + 1 => Some(RunStatus::Completed),
                    e if e > 2 * at => Some(RunStatus::Interrupted),
                    _ => None,
                };
                assert_eq!(told, expected, "call {} after a cut at {cut}", at + 1);
            }
            // A torn entry: what it said nobody knows, and it is not denied.
            let torn = cut % LEN != 0;
            let asked = journal.ask(id(99), Some(0)).unwrap();
            assert_eq!(matches!(asked, Known::Forgotten { .. }), torn, "cut at {cut}");
            journal.start(id(50)).unwrap();
            drop(journal);
            let again = Journal::open(dir.path(), 0).unwrap();
            assert_eq!(status(&again, 50), Some(RunStatus::Interrupted));
        }
    }

    #[test]
    fn two_files_bound_it_and_what_runs_is_never_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(dir.path(), 0).unwrap();
        journal.start(id(1)).unwrap();
        let per_file = MIN_SEGMENT / LEN as u64;
        for n in 2..3 * per_file {
            journal.start(id(n)).unwrap();
            journal.end(id(n), RunStatus::Completed);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(status(&journal, 1), Some(RunStatus::Running));
        assert_eq!(status(&journal, 2), None);
        assert!(matches!(journal.ask(id(2), Some(3_600_000)), Ok(Known::Forgotten { .. })));
        let known = lock(&journal.inner).receipts.len() as u64;
        assert!(known <= 2 * per_file, "{known}");
        drop(journal);
        let journal = Journal::open(dir.path(), 0).unwrap();
        assert_eq!(status(&journal, 1), Some(RunStatus::Interrupted));
        assert_eq!(status(&journal, 3 * per_file - 1), Some(RunStatus::Completed));
    }
}
