//! Waiting for a state instead of for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take that a test waits for. Far beyond what it takes on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none by the deadline, naming `what`.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "not within {} s: {what}", DEADLINE.as_secs());
        thread::sleep(POLL);
    }
}
