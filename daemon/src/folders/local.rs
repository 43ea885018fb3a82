//! The steps that need nothing from the other side: what goes, what moves aside, and what is here under
//! another name.

use std::{collections::HashMap, io, sync::Arc};

use rhd_protocol::{
    folder::{Entry, MAX_NAMED},
    id::Hash,
    machine::reconcile::{Fate, Mode, Step, plan},
};

use super::{
    cache::Stamp,
    error::FolderError,
    fetch::{Fetch, Spot},
    place::Staged,
    round::{Report as _, Round, is_skipped},
};

/// Does them; what has to be fetched is returned, each content once.
pub(super) fn apply(round: &Arc<Round>, mode: Mode) -> Result<Vec<Fetch>, FolderError> {
    let steps = plan(mode, &round.common, &round.theirs, &round.ours.entries);
    for step in steps.iter().filter(|step| is_taken(step)) {
        round.progress().undone[theirs(round, step)] = true;
    }
    // Before anything is removed that they may be copies of.
    let (staged, rest) = copies(round, &steps)?;
    clear(round, &steps)?;
    for (step, file) in staged {
        place(round, step, Some(file))?;
    }
    let mut fetches: Vec<Fetch> = Vec::new();
    let mut of: HashMap<Hash, usize> = HashMap::new();
    for step in rest {
        let Some(entry) = step.theirs else { continue };
        if !entry.is_file() || entry.size == 0 {
            let file = entry.is_file().then(|| round.target.stage(entry.exec)).transpose();
            match file {
                Ok(file) => place(round, step, file)?,
                Err(error) => round.note(step.path, error)?,
            }
            continue;
        }
        let spot = spot(round, step);
        match of.get(&entry.hash) {
            Some(at) => fetches[*at].also.push(spot),
            None => {
                of.insert(entry.hash, fetches.len());
                fetches.push(Fetch { spot, also: Vec::new() });
            }
        }
    }
    Ok(fetches)
}

fn is_taken(step: &Step<'_>) -> bool {
    matches!(step.fate, Fate::Take | Fate::Aside)
}

fn spot(round: &Round, step: &Step<'_>) -> Spot {
    Spot {
        theirs: theirs(round, step),
        ours: step.ours.and_then(|_| at(&round.ours.entries, step.path)),
        aside: step.fate == Fate::Aside,
    }
}

/// Which of their entries a step takes.
fn theirs(round: &Round, step: &Step<'_>) -> usize {
    at(&round.theirs, step.path).unwrap_or_default()
}

fn at(entries: &[Entry], path: &str) -> Option<usize> {
    entries.binary_search_by(|entry| entry.path.as_str().cmp(path)).ok()
}

type Copied<'a> = (Vec<(&'a Step<'a>, Staged)>, Vec<&'a Step<'a>>);

/// Copies what is here under another name; what is not here is returned, too.
fn copies<'a>(round: &Round, steps: &'a [Step<'a>]) -> Result<Copied<'a>, FolderError> {
    let files = round.ours.entries.iter().filter(|entry| entry.is_file() && entry.size > 0);
    let here: HashMap<Hash, &Entry> = files.map(|entry| (entry.hash, entry)).collect();
    let (mut staged, mut rest) = (Vec::new(), Vec::new());
    for step in steps.iter().filter(|step| is_taken(step)) {
        let wanted = step.theirs.filter(|entry| entry.is_file() && entry.size > 0);
        let copied = wanted.and_then(|entry| Some((entry, here.get(&entry.hash)?)));
        match copied.map(|(entry, from)| copy(round, from, entry.exec)) {
            Some(Ok(Some(file))) => staged.push((step, file)),
            Some(Err(error)) => {
                round.note(step.path, error)?;
                rest.push(step);
            }
            // It has changed since, or is nowhere here.
            Some(Ok(None)) | None => rest.push(step),
        }
    }
    Ok((staged, rest))
}

fn copy(round: &Round, from: &Entry, exec: bool) -> Result<Option<Staged>, FolderError> {
    let Ok(mut source) = round.target.tree().read(&from.path) else { return Ok(None) };
    let mut staged = round.target.stage(exec)?;
    // As a clone where the file system can.
    if rustix::fs::ioctl_ficlone(&staged.file, &source).is_err() {
        let copied = io::copy(&mut source, &mut staged.file);
        copied.map_err(FolderError::file("copy", &from.path))?;
    }
    let meta = source.metadata().map_err(FolderError::file("read", &from.path))?;
    Ok((round.ours.stamp(&from.path) == Some(Stamp::of(&meta))).then_some(staged))
}

/// Removes what goes, and moves what is in the way.
fn clear(round: &Round, steps: &[Step<'_>]) -> Result<(), FolderError> {
    for step in steps {
        let Some(ours) = step.ours else { continue };
        match step.fate {
            // What could not be read there is not gone.
            Fate::Remove if is_skipped(&round.progress().done, step.path) => keep(round, step.path),
            Fate::Remove => match round.target.remove(ours, round.ours.stamp(step.path)) {
                Ok(true) => round.progress().done.removed += 1,
                Ok(false) => keep(round, step.path),
                Err(error) => round.note(step.path, error)?,
            },
            Fate::Away => {
                let blocked = blocked(steps, step.path);
                match round.target.away(step.path, blocked, &round.theirs) {
                    Ok(name) => round.progress().done.set_aside(Some(name)),
                    Err(error) => round.note(step.path, error)?,
                }
            }
            Fate::Keep => keep(round, step.path),
            Fate::Same | Fate::Take | Fate::Aside => {}
        }
    }
    Ok(())
}

fn keep(round: &Round, path: &str) {
    let mut progress = round.progress();
    if progress.done.kept.len() < MAX_NAMED {
        progress.done.kept.push(path.to_owned());
    }
}

/// The path that theirs needs: a folder above this one, or this one.
fn blocked<'a>(steps: &[Step<'_>], path: &'a str) -> &'a str {
    let taken = |above: &str| {
        let found = steps.binary_search_by(|step| step.path.cmp(above));
        found.is_ok_and(|at| is_taken(&steps[at]))
    };
    let mut above = path.match_indices('/').map(|(end, _)| &path[..end]);
    above.find(|above| taken(above)).unwrap_or(path)
}

/// Puts an entry in its place: a file that is whole, or a link or folder.
fn place(round: &Round, step: &Step<'_>, file: Option<Staged>) -> Result<(), FolderError> {
    let Some(entry) = step.theirs else { return Ok(()) };
    let spot = spot(round, step);
    let placed = match file {
        Some(file) => spot.put(round, file).map(|(_, moved)| moved),
        None => spot.clear(round).and_then(|aside| {
            let seen = spot.seen(round).filter(|_| aside.is_none());
            Ok(round.target.make(entry, seen, &round.theirs)?.or(aside))
        }),
    };
    match placed {
        Ok(moved) => {
            round.placed(spot.theirs, moved);
            Ok(())
        }
        Err(error) => round.note(step.path, error),
    }
}
