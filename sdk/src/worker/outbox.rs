//! Writes of the control lane, which many calls share: bounded, and straight to the socket while it
//! takes them.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use rustix::net::{SendFlags, send};
use tokio::sync::Notify;

/// Bytes that may wait before items and results have to.
const HIGH: usize = 4 * 1024 * 1024;
/// Bytes written at once, where many small frames wait.
const BATCH: usize = 64 * 1024;

/// A queue of frames with a thread that writes them; an empty queue is passed by.
#[derive(Debug)]
pub(super) struct Outbox {
    stream: UnixStream,
    state: Mutex<State>,
    ready: Condvar,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    /// The thread is at it.
    writing: bool,
}

impl Outbox {
    /// Starts on the writing half of a stream.
    pub(super) fn start(stream: UnixStream) -> io::Result<Arc<Self>> {
        let (state, ready, room) = (Mutex::default(), Condvar::new(), Notify::new());
        let outbox = Arc::new(Self { stream, state, ready, room });
        let writer = outbox.clone();
        std::thread::Builder::new()
            .name("rhd-outbox".into())
            .stack_size(128 * 1024)
            .spawn(move || writer.write())?;
        Ok(outbox)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a frame, after waiting for room.
    pub(super) async fn send(&self, frame: Vec<u8>) {
        loop {
            let room = self.room.notified();
            if self.lock().queued < HIGH {
                break;
            }
            room.await;
        }
        self.put(frame);
    }

    /// Writes a small frame, from any thread.
    pub(super) fn put(&self, mut frame: Vec<u8>) {
        let mut state = self.lock();
        if !state.writing && state.queue.is_empty() {
            // A socket that is full, or broken, is the thread's.
            let sent = send(&self.stream, &frame, SendFlags::DONTWAIT).unwrap_or(0);
            if sent == frame.len() {
                return;
            }
            frame.drain(..sent);
        }
        state.queued += frame.len();
        state.queue.push_back(frame);
        drop(state);
        self.ready.notify_one();
    }

    fn write(&self) {
        let mut batch = Vec::new();
        loop {
            let mut state = self.lock();
            while state.queue.is_empty() {
                state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            batch.clear();
            while let Some(frame) = state.queue.pop_front() {
                if batch.is_empty() {
                    batch = frame;
                } else {
                    batch.extend_from_slice(&frame);
                }
                if state.queue.front().is_none_or(|next| batch.len() + next.len() > BATCH) {
                    break;
                }
            }
            state.writing = true;
            drop(state);
            if (&self.stream).write_all(&batch).is_err() {
                return; // the reader of the same socket ends the process
            }
            let mut state = self.lock();
            state.writing = false;
            state.queued -= batch.len();
            drop(state);
            self.room.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, time::Duration};

    use super::*;

    #[tokio::test]
    async fn frames_keep_their_order_and_a_reader_that_stops_stops_the_writer() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let outbox = Outbox::start(near).unwrap();
        let sender = outbox.clone();
        let frame = |n: u32| [&n.to_be_bytes()[..], &vec![n as u8; 100_000]].concat();
        let sending = tokio::spawn(async move {
            for n in 0..100 {
                sender.send(frame(n)).await;
            }
        });
        // Nobody reads: it stops at its limit.
        while outbox.lock().queued < HIGH {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(!sending.is_finished());
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; frame(0).len()];
            for n in 0..100 {
                far.read_exact(&mut bytes).unwrap();
                assert!(bytes == frame(n), "frame {n}");
            }
        });
        sending.await.unwrap();
        reading.await.unwrap();
        assert!(outbox.lock().queued <= HIGH);
    }
}
