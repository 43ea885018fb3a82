//! Threads for data on its way, which waits for the disk or takes a core for long: where cores are
//! short, what passes calls on goes first.

use std::sync::LazyLock;

use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::{JoinHandle, spawn_blocking},
};

/// How nice they are; 0 is what the rest of the daemon is, 19 the nicest.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// Only for its threads: nothing runs on it but what blocks.
static POOL: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_current_thread();
    builder.thread_name("rhd-background").on_thread_start(be_nice);
    let pool = builder.build();
    pool.inspect_err(|error| tracing::warn!(%error, "no threads of their own for data")).ok()
});

#[cfg(target_os = "linux")]
fn be_nice() {
    // Of this thread, on Linux; where it may not be, it is like the others.
    let _ = rustix::process::setpriority_process(None, NICE);
}

#[cfg(not(target_os = "linux"))]
fn be_nice() {}

/// For tasks that move data. Not nicer than the others: they share locks with them.
static TASKS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().thread_name("rhd-data");
    let tasks = builder.build();
    tasks.inspect_err(|error| tracing::warn!(%error, "no thread of its own for data")).ok()
});

/// Where tasks run that move data, so that none of them is before a call in its thread's queue.
pub fn tasks() -> Handle {
    TASKS.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
}

/// Runs what may block, on such a thread.
pub fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match &*POOL {
        Some(pool) => pool.spawn_blocking(work),
        None => spawn_blocking(work),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn it_is_nicer_than_the_rest_and_so_are_its_threads() {
        let own = getpriority_process(None).unwrap();
        let there = spawn(|| {
            let inherited = std::thread::spawn(|| getpriority_process(None).unwrap());
            (getpriority_process(None).unwrap(), inherited.join().unwrap())
        });
        let wanted = NICE.max(own);
        assert_eq!(there.await.unwrap(), (wanted, wanted));
        assert_eq!(getpriority_process(None).unwrap(), own);
    }
}
