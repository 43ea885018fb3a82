//! Collection of what nothing needs.
//!
//! The store collects by mark and sweep, and what gets a tag after the mark would be swept all the
//! same. Here nothing does: content is leased before any of it is written or promised, and while a
//! sweep is under way a new lease waits. The store's own tags are not used; what a sweep spares is
//! decided by the ledger, and given to the store when it asks what to protect.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use iroh_blobs::store::{GcConfig, ProtectCb, ProtectOutcome};
use rhd_protocol::{data::Collected, id::Hash};
use tokio::sync::{Mutex, RwLock, mpsc, watch};

use super::{Shelf, error::DataError, lock, store::iroh_hash};

/// How long the store rests after a sweep; the next one starts when it is asked for.
const REST: Duration = Duration::from_millis(1);

type Spared = HashSet<iroh_blobs::Hash>;

/// Starts sweeps of the store.
#[derive(Debug)]
pub(super) struct Sweeper {
    plans: mpsc::Sender<Spared>,
    /// How often the store has asked what to protect: each sweep ends with the next time.
    asked: watch::Receiver<u64>,
}

impl Sweeper {
    /// The sweeper, and the settings of the store that it is to sweep.
    pub(super) fn new() -> (Self, GcConfig) {
        let (plans, orders) = mpsc::channel::<Spared>(1);
        let orders = Arc::new(Mutex::new(orders));
        let (count, asked) = watch::channel(0);
        let protect: ProtectCb = Arc::new(move |spared| {
            count.send_modify(|count| *count += 1);
            let orders = orders.clone();
            Box::pin(async move {
                match orders.lock().await.recv().await {
                    Some(plan) => {
                        spared.extend(plan);
                        ProtectOutcome::Continue
                    }
                    // Nobody sweeps any more.
                    None => std::future::pending().await,
                }
            })
        });
        let config = GcConfig { interval: REST, add_protected: Some(protect) };
        (Self { plans, asked }, config)
    }

    /// Removes all but these from the store, and returns when that is done.
    pub(super) async fn sweep(&self, spared: &HashSet<Hash>) -> Result<(), DataError> {
        let ended = || DataError::Store {
            operation: "collect",
            reason: "its collector has ended; start the daemon anew".into(),
        };
        let mut asked = self.asked.clone();
        let before = *asked.wait_for(|count| *count > 0).await.map_err(|_| ended())?;
        let plan = spared.iter().map(|hash| iroh_hash(*hash)).collect();
        self.plans.send(plan).await.map_err(|_| ended())?;
        asked.wait_for(|count| *count > before).await.map_err(|_| ended())?;
        Ok(())
    }
}

/// Keeps content from being collected until it is dropped.
#[derive(Debug)]
#[must_use = "content may be collected once it is dropped"]
pub(super) struct Lease {
    shelf: Arc<Shelf>,
    hash: Hash,
}

impl Lease {
    /// What it keeps.
    pub(super) fn hash(&self) -> Hash {
        self.hash
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        lock(&self.shelf.ledger).release(self.hash, Instant::now());
    }
}

/// Held by whoever takes a lease, for a moment, and by a sweep until it is done.
pub(super) type Gate = RwLock<()>;

/// Keeps content, here or to come, from now on.
pub(super) async fn lease(shelf: &Arc<Shelf>, hash: Hash) -> Lease {
    let _open = shelf.gate.read().await;
    lock(&shelf.ledger).lease(hash, Instant::now());
    Lease { shelf: shelf.clone(), hash }
}

/// What has to be free after a collection, beyond what is not needed anyhow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pressure {
    /// Bytes that are to come, and count towards the quota.
    pub(super) coming: u64,
    /// Bytes that the disk lacks.
    pub(super) lacking: u64,
}

/// Removes what nothing needs.
pub(super) async fn collect(
    shelf: &Arc<Shelf>,
    pressure: Pressure,
    dry_run: bool,
) -> Result<Collected, DataError> {
    let spare = || lock(&shelf.ledger).spared(pressure.coming, pressure.lacking, Instant::now());
    if dry_run {
        let spared = spare();
        return Ok(lock(&shelf.ledger).outcome(&spared));
    }
    let _closed = shelf.gate.write().await;
    let spared = spare();
    let done = lock(&shelf.ledger).outcome(&spared);
    shelf.store.sweep(&spared).await?;
    lock(&shelf.ledger).swept(&spared);
    Ok(done)
}

/// Removes content that is damaged, whoever needs it, so that it can come anew.
pub(super) async fn forget(shelf: &Arc<Shelf>, hash: Hash) -> Result<(), DataError> {
    let _closed = shelf.gate.write().await;
    let mut spared: HashSet<Hash> =
        lock(&shelf.ledger).all().into_iter().map(|(hash, _)| hash).collect();
    spared.extend(lock(&shelf.ledger).spared(0, 0, Instant::now()));
    spared.remove(&hash);
    shelf.store.sweep(&spared).await?;
    lock(&shelf.ledger).swept(&spared);
    Ok(())
}
