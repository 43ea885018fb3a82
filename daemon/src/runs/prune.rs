//! Old records go: beyond a number, an age, or a size, oldest first.

use std::{collections::HashSet, fs};

use rhd_protocol::{id::CallId, run::RunInfo};

use super::{folder, journal::now_ms, records::Records};

const DAY_MS: u64 = 24 * 3600 * 1000;

/// How many records went, and how many bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pruned {
    pub(super) records: usize,
    pub(super) bytes: u64,
}

/// Every record on disk, newest first. Reads a file for each.
pub(super) fn records(of: &Records) -> Vec<RunInfo> {
    let mut infos: Vec<RunInfo> =
        ids(of).into_iter().filter_map(|id| of.recorded(id)).map(|meta| meta.info).collect();
    infos.sort_unstable_by_key(|info| std::cmp::Reverse((info.started_ms, info.id)));
    infos
}

pub(super) fn ids(records: &Records) -> Vec<CallId> {
    let entries = fs::read_dir(&records.dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Removes what the settings no longer keep. What runs stays.
pub(super) fn prune(records: &Records) -> Pruned {
    let mut pruned = Pruned::default();
    let found = self::records(records);
    let whole: HashSet<CallId> = found.iter().map(|info| info.id).collect();
    // Cut short when they were made or removed.
    for id in ids(records) {
        if !whole.contains(&id) && records.admissions.running(id).is_none() {
            remove(records, id, &mut pruned);
        }
    }
    let oldest_ms = now_ms().saturating_sub(records.config.keep_days.saturating_mul(DAY_MS));
    let (mut kept, mut bytes) = (0, 0);
    for info in found {
        let running = records.admissions.running(info.id).is_some();
        let size = records.folder(info.id).size();
        let fits = kept < records.config.keep
            && bytes + size <= records.config.max_bytes
            && info.started_ms.max(info.ended_ms) >= oldest_ms;
        if running || fits {
            kept += usize::from(!running);
            bytes += size;
        } else {
            remove(records, info.id, &mut pruned);
            // The newest of a name goes last: with it, all are gone.
            if folder::pointed(&records.names, &info.name) == Some(info.id) {
                folder::unpoint(&records.names, &info.name);
            }
        }
    }
    pruned
}

fn remove(records: &Records, id: CallId, pruned: &mut Pruned) {
    let folder = records.folder(id);
    let size = folder.size();
    match folder.remove() {
        Ok(()) => {
            pruned.records += 1;
            pruned.bytes += size;
        }
        Err(error) => tracing::warn!(%error, run = %id, "an old run can't be removed"),
    }
}
