//! Many calls, a bounded number at a time, their results in order.

use std::collections::VecDeque;

use futures::{
    Stream, StreamExt,
    stream::{self, FuturesUnordered},
};

/// Results that wait for one before them, as a multiple of the calls under way: a slow node does not
/// hold up the others.
const BEHIND: usize = 32;

/// Awaits the calls, at most `concurrency` at once; takes them only as results are asked for.
pub(crate) fn ordered<C>(
    calls: impl Iterator<Item = C>,
    concurrency: usize,
) -> impl Stream<Item = C::Output>
where
    C: Future,
{
    let concurrency = concurrency.max(1);
    let state = (calls.fuse(), FuturesUnordered::new(), VecDeque::new(), 0_usize);
    stream::unfold(state, move |(mut calls, mut running, mut results, given)| async move {
        loop {
            while running.len() < concurrency
                && results.len() < concurrency.saturating_mul(BEHIND)
                && let Some(call) = calls.next()
            {
                let at = given + results.len();
                results.push_back(None);
                running.push(async move { (at, call.await) });
            }
            if let Some(result) = results.front_mut().and_then(Option::take) {
                results.pop_front();
                return Some((result, (calls, running, results, given + 1)));
            }
            // Nothing left.
            let (at, result) = running.next().await?;
            if let Some(place) = results.get_mut(at - given) {
                *place = Some(result);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        rc::Rc,
    };

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn results_come_in_order_and_one_that_is_slow_holds_up_so_many() {
        let (begun, under_way) = (Cell::new(0_usize), Cell::new(0_usize));
        let most = Cell::new(0_usize);
        let (release, held) = oneshot::channel::<()>();
        let held = RefCell::new(Some(held));
        let calls = (0..1000_usize).map(|n| {
            let held = if n == 0 { held.take() } else { None };
            let (begun, under_way, most) = (&begun, &under_way, &most);
            async move {
                begun.set(begun.get() + 1);
                under_way.set(under_way.get() + 1);
                most.set(most.get().max(under_way.get()));
                if let Some(held) = held {
                    held.await.unwrap();
                }
                tokio::task::yield_now().await;
                under_way.set(under_way.get() - 1);
                n
            }
        });
        let mut results = Box::pin(ordered(calls, 4));
        // As often as it takes for all to begin, if they did.
        for _ in 0..2000 {
            assert!(futures::poll!(results.next()).is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(begun.get(), 4 * BEHIND, "the others went on, and not for ever");
        release.send(()).unwrap();
        let all: Vec<usize> = results.collect().await;
        assert_eq!(all, (0..1000).collect::<Vec<_>>());
        assert_eq!(most.get(), 4);
    }

    #[tokio::test]
    async fn nothing_is_taken_before_it_is_wanted() {
        let taken = Rc::new(Cell::new(0));
        let calls = (0..100).inspect(|_| taken.set(taken.get() + 1)).map(std::future::ready);
        let mut results = Box::pin(ordered(calls, 2));
        assert_eq!(taken.get(), 0);
        assert_eq!(results.next().await, Some(0));
        assert!(taken.get() <= 3, "{}", taken.get());
    }
}
