//! Rows in an order that a seed decides, within bounded memory.

use arrow_array::RecordBatch;
use arrow_select::interleave::interleave_record_batch;

use super::{error::TableError, pack};

/// Bytes that the rows of a buffer may take; it holds twice as much while some are gone.
const MAX: usize = 128 << 20;

/// Numbers that a seed decides; SplitMix64 of Steele, Lea and Flood, "Fast splittable pseudorandom
/// number generators" (2014), so that they stay the same whatever library is used.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// A number below `n`, each as likely (up to n / 2^64).
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// Puts things in random order.
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last + 1));
        }
    }
}

/// Rows among which each next one is drawn.
#[derive(Debug)]
pub(super) struct Pool {
    dice: Dice,
    rows: usize,
    /// Batches that rows waiting here are in.
    batches: Vec<RecordBatch>,
    /// Rows that wait: which batch, which row of it.
    waiting: Vec<(usize, usize)>,
    /// Bytes of the batches.
    bytes: usize,
}

impl Pool {
    pub(super) fn new(dice: Dice, rows: usize) -> Self {
        Self { dice, rows, batches: Vec::new(), waiting: Vec::new(), bytes: 0 }
    }

    /// Takes rows in; as many come out as there is no room for.
    pub(super) fn push(&mut self, batch: RecordBatch) -> Result<Option<RecordBatch>, TableError> {
        let (index, mut drawn) = (self.batches.len(), Vec::new());
        for row in 0..batch.num_rows() {
            if self.waiting.len() < self.rows {
                self.waiting.push((index, row));
                continue;
            }
            let place = self.dice.below(self.rows);
            drawn.push(std::mem::replace(&mut self.waiting[place], (index, row)));
        }
        self.bytes += pack::bytes(&batch);
        self.batches.push(batch);
        let out = if drawn.is_empty() { None } else { Some(self.gather(&drawn)?) };
        self.settle()?;
        Ok(out)
    }

    /// The rows that are left, about `rows` at a time.
    pub(super) fn rest(&mut self, rows: usize) -> Result<Option<RecordBatch>, TableError> {
        let mut drawn = Vec::new();
        while drawn.len() < rows && !self.waiting.is_empty() {
            let place = self.dice.below(self.waiting.len());
            drawn.push(self.waiting.swap_remove(place));
        }
        if drawn.is_empty() { Ok(None) } else { self.gather(&drawn).map(Some) }
    }

    fn gather(&self, rows: &[(usize, usize)]) -> Result<RecordBatch, TableError> {
        let batches: Vec<&RecordBatch> = self.batches.iter().collect();
        interleave_record_batch(&batches, rows).map_err(|e| TableError::Request(e.to_string()))
    }

    /// Puts what waits into one batch, once most of what is held is rows that are gone.
    fn settle(&mut self) -> Result<(), TableError> {
        let held: usize = self.batches.iter().map(RecordBatch::num_rows).sum();
        if held <= 2 * self.waiting.len().max(1024) && self.bytes <= 2 * MAX {
            return Ok(());
        }
        let whole = self.gather(&self.waiting)?;
        self.bytes = pack::bytes(&whole);
        if self.bytes > MAX {
            return Err(TableError::TooMuch(format!(
                "{} rows of a shuffle buffer take {} MiB; {} MiB are the most",
                self.waiting.len(),
                self.bytes >> 20,
                MAX >> 20
            )));
        }
        self.waiting = (0..whole.num_rows()).map(|row| (0, row)).collect();
        self.batches = vec![whole];
        Ok(())
    }
}
