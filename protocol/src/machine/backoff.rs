//! Waits that double, with jitter, up to a limit.

/// How long to wait before the next try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    base_ms: u64,
    max_ms: u64,
    failures: u32,
}

impl Backoff {
    /// Waits about `base_ms` after the first failure, never more than `max_ms`.
    pub const fn new(base_ms: u64, max_ms: u64) -> Self {
        Self { base_ms, max_ms, failures: 0 }
    }

    /// Counts a failure; returns the milliseconds to wait: between half and all of
    /// `min(max, base * 2^(failures - 1))`, chosen by `random`.
    pub fn fail(&mut self, random: u32) -> u64 {
        let full = self.base_ms.saturating_mul(1 << self.failures.min(20)).min(self.max_ms);
        self.failures = self.failures.saturating_add(1);
        full - (full / 2).saturating_mul(u64::from(random)) / u64::from(u32::MAX)
    }

    /// Failures in a row so far.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Starts again from the first wait.
    pub fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stay_within_their_bounds() {
        let mut backoff = Backoff::new(100, 1_000);
        let waits: Vec<u64> = (0..6).map(|_| backoff.fail(0)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.failures(), 6);
        assert_eq!(backoff.fail(u32::MAX), 500);
        backoff.succeed();
        assert_eq!(backoff.fail(0), 100);
    }
}
