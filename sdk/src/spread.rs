//! One function in several places: every call goes to the one that is least busy.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::Stream;
use rhd_protocol::error::{ErrorInfo, ErrorKind};
use serde::de::DeserializeOwned;

use crate::{Args, Cluster, Function, ordered::ordered};

/// How long a place that was lost gets no calls, at first; doubles with every loss.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest such time. After it one call is let through, which finds out.
const LONGEST: Duration = Duration::from_secs(30);

/// A function on several nodes, all of which do the same.
///
/// A call that is lost with its node fails, as it may have run; the others go on elsewhere.
///
/// ```no_run
/// use futures::TryStreamExt;
///
/// # #[rhd_sdk::function]
/// # fn score(x: u64) -> f64 { x as f64 }
/// # async fn example(client: rhd_sdk::Client) -> Result<(), rhd_sdk::ErrorInfo> {
/// let nodes = ["box", "gpu"].map(|name| client.cluster(name));
/// let everywhere = score::deploy().to_all(&nodes).await?;
/// let scores: Vec<f64> = everywhere.map((0..100).map(|x| (x,)), 16).try_collect().await?;
/// # Ok(())
/// # }
/// ```
pub struct Spread<A, R> {
    functions: Arc<[Function<A, R>]>,
    balance: Arc<Mutex<Balance>>,
}

impl<A, R> Clone for Spread<A, R> {
    fn clone(&self) -> Self {
        Self { functions: self.functions.clone(), balance: self.balance.clone() }
    }
}

impl<A, R> fmt::Debug for Spread<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.functions.iter()).finish()
    }
}

impl<A, R> Spread<A, R> {
    /// Of functions that do the same; fails where there is none.
    pub fn of(functions: impl IntoIterator<Item = Function<A, R>>) -> Result<Self, ErrorInfo> {
        let functions: Arc<[_]> = functions.into_iter().collect();
        if functions.is_empty() {
            return Err(ErrorInfo::new(ErrorKind::BadRequest, "a function in no place at all"));
        }
        let balance = Arc::new(Mutex::new(Balance::new(functions.len())));
        Ok(Self { functions, balance })
    }

    /// The function in each place.
    pub fn functions(&self) -> &[Function<A, R>] {
        &self.functions
    }
}

impl<A: Args, R: DeserializeOwned> Spread<A, R> {
    /// Calls it where the fewest calls are under way. Nothing repeats the call.
    pub async fn call(&self, args: A) -> Result<R, ErrorInfo> {
        let mut turn = Turn::take(&self.balance);
        let done = self.functions[turn.place].call(args).await;
        // One that drains refuses faster than any other answers.
        turn.lost = done.as_ref().is_err_and(|error| {
            matches!(error.kind, ErrorKind::PeerLost | ErrorKind::DaemonUnavailable)
        });
        done
    }

    /// Calls it with each of the arguments, at most `concurrency` at a time in all places together;
    /// results come in order.
    pub fn map<I>(&self, inputs: I, concurrency: usize) -> impl Stream<Item = Result<R, ErrorInfo>>
    where
        I: IntoIterator<Item = A>,
    {
        let everywhere = self.clone();
        let calls = inputs.into_iter().map(move |args| {
            let everywhere = everywhere.clone();
            async move { everywhere.call(args).await }
        });
        ordered(calls, concurrency)
    }
}

impl<A, R> Function<A, R> {
    /// The same function on each of these nodes, which have to host it.
    pub fn over(&self, clusters: &[Cluster]) -> Result<Spread<A, R>, ErrorInfo> {
        Spread::of(clusters.iter().map(|cluster| self.clone().on(cluster)))
    }
}

/// Whose turn it is among several places.
#[derive(Debug)]
struct Balance {
    places: Vec<Place>,
    /// Where to look first.
    next: usize,
}

#[derive(Debug, Clone, Default)]
struct Place {
    busy: usize,
    /// Zero, unless it was lost lately.
    pause: Duration,
    until: Option<Instant>,
}

impl Balance {
    fn new(places: usize) -> Self {
        Self { places: vec![Place::default(); places], next: 0 }
    }

    /// The place with the fewest calls under way, of those that were not lost lately.
    fn take(&mut self, now: Instant) -> usize {
        let count = self.places.len();
        let order = || (0..count).map(|step| (self.next + step) % count);
        let rested = |at: &usize| self.places[*at].until.is_none_or(|until| until <= now);
        let least = |at: &usize| self.places[*at].busy;
        let rested = order().filter(rested).min_by_key(least);
        let at = rested.or_else(|| order().min_by_key(least)).unwrap_or(0);
        self.next = (at + 1) % count;
        let place = &mut self.places[at];
        place.busy += 1;
        if !place.pause.is_zero() {
            // One call finds out; the others wait for what it says.
            place.until = Some(now + place.pause);
        }
        at
    }

    /// Notes the end of a call; a place whose node was lost is spared for a while.
    fn give(&mut self, at: usize, lost: bool, now: Instant) {
        let place = &mut self.places[at];
        place.busy -= 1;
        if lost {
            place.pause = (place.pause * 2).clamp(PAUSE, LONGEST);
            place.until = Some(now + place.pause);
        } else {
            (place.pause, place.until) = (Duration::ZERO, None);
        }
    }
}

/// A call under way in a place, until it is dropped.
struct Turn<'a> {
    balance: &'a Mutex<Balance>,
    place: usize,
    lost: bool,
}

impl<'a> Turn<'a> {
    fn take(balance: &'a Mutex<Balance>) -> Self {
        let place = lock(balance).take(Instant::now());
        Self { balance, place, lost: false }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(self.balance).give(self.place, self.lost, Instant::now());
    }
}

/// Locks what is whole after every panic: it holds plain values only.
fn lock(balance: &Mutex<Balance>) -> MutexGuard<'_, Balance> {
    balance.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_where_the_fewest_are_and_a_lost_place_is_spared() {
        let mut balance = Balance::new(3);
        let mut now = Instant::now();
        let takes = |balance: &mut Balance, count: usize, now| -> Vec<usize> {
            (0..count).map(|_| balance.take(now)).collect()
        };
        let taken = takes(&mut balance, 7, now);
        let mut count = [0; 3];
        taken.iter().for_each(|at| count[*at] += 1);
        count.sort_unstable();
        assert_eq!(count, [2, 2, 3]);
        taken.into_iter().for_each(|at| balance.give(at, false, now));

        let lost = balance.take(now);
        balance.give(lost, true, now);
        let taken = takes(&mut balance, 10, now);
        assert!(!taken.contains(&lost));
        taken.into_iter().for_each(|at| balance.give(at, false, now));
        now += PAUSE;
        let taken = takes(&mut balance, 6, now);
        assert_eq!(taken.iter().filter(|at| **at == lost).count(), 1, "one finds out");
        taken.into_iter().for_each(|at| balance.give(at, at == lost, now));
        now += PAUSE;
        assert!(!takes(&mut balance, 3, now).contains(&lost), "longer, the second time");
        now += PAUSE;
        let taken = takes(&mut balance, 3, now);
        assert!(taken.contains(&lost), "{taken:?}");
        balance.give(lost, false, now);
        assert_eq!(balance.take(now), lost, "it is back");

        (0..3).for_each(|at| balance.places[at] = Place { busy: 1, ..Place::default() });
        (0..3).for_each(|at| balance.give(at, true, now));
        balance.take(now);
        assert_eq!(balance.places.iter().map(|p| p.busy).sum::<usize>(), 1, "better than none");
    }
}
