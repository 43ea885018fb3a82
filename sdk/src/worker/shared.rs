//! The lane that brief calls share: whichever thread is free takes the next one.
//!
//! A thread that has run one call finds the next in what was read before, and the replies of several
//! are written at once. As long as the calls on it turn out to be brief, one thread does all of it.
//! Else others join in, also when the daemon asks for them, which sees when calls wait and none ends.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    lane::{self, Replies},
    runtime::Runtime,
    wire::{self, Kind, Order, Reader, Received, decode, invalid},
};

/// Threads that take calls off it, at most.
const MAX_THREADS: u32 = 64;
/// A call that takes less is brief, in nanoseconds: handing it to another thread costs as much.
const BRIEF: u64 = 50_000;
/// Bytes of replies that are written at once.
const UNSENT: usize = 16 * 1024;
/// A thread that took a call within this time will be back for the next, in nanoseconds.
const ALIVE: u64 = 200_000;
/// How long a reply may wait for the next one.
const LATE: Duration = Duration::from_micros(500);

/// The one such lane of a process.
#[derive(Debug)]
pub(super) struct Shared {
    /// Locked by the thread that reads.
    reader: Mutex<Reader<UnixStream>>,
    writer: Mutex<Batch>,
    threads: Mutex<Threads>,
    spare: Condvar,
    /// Nanoseconds that its calls take, on average of late.
    pace: AtomicU64,
    /// When a thread last took one, in nanoseconds since `opened`.
    taken: AtomicU64,
    opened: Instant,
}

#[derive(Debug, Default)]
struct Threads {
    all: u32,
    /// Without a call, while another one reads.
    parked: u32,
    /// Of those, how many are to try again.
    woken: u32,
    closed: bool,
}

/// Replies that are not written yet.
#[derive(Debug)]
struct Batch {
    stream: UnixStream,
    head: Vec<u8>,
    unsent: Vec<u8>,
    since: Instant,
}

impl Batch {
    fn put(&mut self, kind: Kind<'_>, id: &str, body: &[u8]) -> io::Result<()> {
        if self.unsent.is_empty() {
            self.since = Instant::now();
        }
        wire::head(kind, id, body.len(), &mut self.head).map_err(invalid)?;
        self.unsent.extend_from_slice(&self.head);
        if body.len() > UNSENT {
            self.flush()?;
            return self.stream.write_all(body);
        }
        self.unsent.extend_from_slice(body);
        if self.unsent.len() >= UNSENT { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.stream.write_all(&self.unsent);
        self.unsent.clear();
        written
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let writer = Batch {
            stream: stream.try_clone()?,
            head: Vec::new(),
            unsent: Vec::new(),
            since: Instant::now(),
        };
        Ok(Self {
            reader: Mutex::new(Reader::new(stream)),
            writer: Mutex::new(writer),
            threads: Mutex::default(),
            spare: Condvar::new(),
            pace: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            opened: Instant::now(),
        })
    }

    /// Has further threads take calls.
    pub(super) fn more(self: &Arc<Self>, runtime: &Arc<Runtime>, count: u32) -> io::Result<()> {
        lock(&self.writer).flush()?;
        for _ in 0..count {
            {
                let mut threads = lock(&self.threads);
                if threads.parked > threads.woken {
                    threads.woken += 1;
                    self.spare.notify_one();
                    continue;
                }
                if threads.all >= MAX_THREADS {
                    return Ok(());
                }
                threads.all += 1;
            }
            let (shared, runtime) = (self.clone(), runtime.clone());
            let started = std::thread::Builder::new()
                .name("rhd-shared".into())
                .spawn(move || shared.run(&runtime));
            if let Err(error) = started {
                lock(&self.threads).all -= 1;
                return Err(error);
            }
        }
        Ok(())
    }

    fn run(self: &Arc<Self>, runtime: &Arc<Runtime>) {
        // Functions may spawn tasks and wait for futures.
        let _tasks = runtime.tasks.enter();
        let mut seat = lane::Seat::new(runtime);
        let mut frame = Vec::new();
        loop {
            let served = self.next(runtime, &mut frame).and_then(|header| {
                let Some(header) = header else { return Ok(false) };
                let (header, body) = frame.split_at(header);
                let order: Order<'_> = decode(header).map_err(invalid)?;
                let Some(head) = order.call else {
                    return Err(io::Error::other("something else than a call"));
                };
                let began = Instant::now();
                let mut replies = self.as_ref();
                seat.serve(&head, body, &mut replies)?;
                let took = nanos(began.elapsed());
                // Of no consequence if two threads do so at once.
                let pace = self.pace.load(Ordering::Relaxed);
                self.pace.store(pace - pace / 8 + took / 8, Ordering::Relaxed);
                Ok(true)
            });
            match served {
                Ok(true) => wire::trim(&mut frame),
                Ok(false) => break,
                Err(error) => {
                    tracing::debug!("shared lane closed: {error}");
                    // The daemon takes that for its end, and ends the process.
                    let _ = lock(&self.writer).stream.shutdown(std::net::Shutdown::Both);
                    break;
                }
            }
        }
        let mut threads = lock(&self.threads);
        threads.closed = true;
        threads.all -= 1;
        self.spare.notify_all();
    }

    /// Puts the next call into `frame` and returns the length of its header; `None` at the end.
    fn next(
        self: &Arc<Self>,
        runtime: &Arc<Runtime>,
        frame: &mut Vec<u8>,
    ) -> io::Result<Option<usize>> {
        let mut reader = loop {
            if self.is_surplus() && !self.park(true)? {
                return Ok(None);
            }
            match self.reader.try_lock() {
                Ok(reader) => break reader,
                Err(TryLockError::Poisoned(reader)) => break reader.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    if !self.park(false)? {
                        return Ok(None);
                    }
                }
            }
        };
        if !reader.is_ready() {
            // It may take a while.
            lock(&self.writer).flush()?;
        }
        let Some(Received { header, body }) = reader.next()? else { return Ok(None) };
        frame.clear();
        frame.extend_from_slice(header);
        frame.extend_from_slice(body);
        let header = header.len();
        self.taken.store(nanos(self.opened.elapsed()), Ordering::Relaxed);
        let behind = reader.is_ready();
        drop(reader);
        if behind && self.pace.load(Ordering::Relaxed) > BRIEF && self.is_narrow() {
            self.more(runtime, 1)?;
        }
        let mut writer = lock(&self.writer);
        if !writer.unsent.is_empty() && writer.since.elapsed() > LATE {
            writer.flush()?;
        }
        Ok(Some(header))
    }

    /// Whether fewer threads have calls than there are cores.
    fn is_narrow(&self) -> bool {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = lock(&self.threads);
        ((threads.all - threads.parked) as usize) < cores
    }

    /// Whether another thread alone keeps up with the calls; then this one counts as parked.
    fn is_surplus(&self) -> bool {
        if self.pace.load(Ordering::Relaxed) > BRIEF {
            return false;
        }
        let mut threads = lock(&self.threads);
        let ago = nanos(self.opened.elapsed()).saturating_sub(self.taken.load(Ordering::Relaxed));
        let surplus = threads.all - threads.parked > 1 && ago < ALIVE;
        threads.parked += u32::from(surplus);
        surplus
    }

    /// Waits until another thread is needed; false at the end.
    fn park(&self, counted: bool) -> io::Result<bool> {
        lock(&self.writer).flush()?;
        let mut threads = lock(&self.threads);
        threads.parked += u32::from(!counted);
        while threads.woken == 0 && !threads.closed {
            threads = self.spare.wait(threads).unwrap_or_else(PoisonError::into_inner);
        }
        threads.parked -= 1;
        threads.woken = threads.woken.saturating_sub(1);
        Ok(!threads.closed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Replies for &Shared {
    fn reply(&mut self, kind: Kind<'_>, id: &str, body: &[u8]) -> io::Result<()> {
        if matches!(kind, Kind::Item(_)) {
            return Err(io::Error::other("items go over a lane of their own"));
        }
        lock(&self.writer).put(kind, id, body)
    }
}
