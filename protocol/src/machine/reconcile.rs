//! What to do with each path of two folders, given what they last had in common.
//!
//! ```text
//!            they changed it    they didn't
//! we did      set ours aside     keep ours
//! we didn't   take theirs        nothing
//! ```
//!
//! Nothing that is only here is ever lost: it stays, or it gets another name.

use std::collections::HashSet;

use crate::folder::Entry;

/// How folders are brought together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Ours becomes like theirs: what was removed here comes back.
    Copy,
    /// What was removed here is removed there next.
    Both,
}

/// What becomes of a path here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Both have the same.
    Same,
    /// Theirs takes the place of ours, which nobody will miss.
    Take,
    /// Ours gets another name, then theirs is taken.
    Aside,
    /// Ours gets another name, as theirs needs its place for something below or above it.
    Away,
    /// Ours goes.
    Remove,
    /// Ours stays as it is: an entry, or none.
    Keep,
}

/// A path, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step<'a> {
    /// The path.
    pub path: &'a str,
    /// Their entry.
    pub theirs: Option<&'a Entry>,
    /// Our entry.
    pub ours: Option<&'a Entry>,
    /// What becomes of ours.
    pub fate: Fate,
}

/// Decides on every path of three [sound](crate::folder::is_sound) lists: what was last in common,
/// theirs, and ours. Sorted by path.
pub fn plan<'a>(
    mode: Mode,
    common: &'a [Entry],
    theirs: &'a [Entry],
    ours: &'a [Entry],
) -> Vec<Step<'a>> {
    let mut steps = Vec::with_capacity(theirs.len().max(ours.len()));
    let (mut c, mut t, mut o) = (common.iter().peekable(), theirs.iter(), ours.iter());
    let (mut their, mut our) = (t.next(), o.next());
    loop {
        let path = match (their, our) {
            (Some(a), Some(b)) => a.path.as_str().min(b.path.as_str()),
            (Some(one), None) | (None, Some(one)) => one.path.as_str(),
            (None, None) => break,
        };
        while c.next_if(|entry| entry.path.as_str() < path).is_some() {}
        let common = c.next_if(|entry| entry.path == path);
        let theirs = their.filter(|entry| entry.path == path);
        let ours = our.filter(|entry| entry.path == path);
        if theirs.is_some() {
            their = t.next();
        }
        if ours.is_some() {
            our = o.next();
        }
        let fate = decide(mode, common, theirs, ours);
        steps.push(Step { path, theirs, ours, fate });
    }
    clear_the_way(&mut steps);
    steps
}

/// What both have in common once the steps are done: theirs, but for what they removed. What was
/// changed here only is known by what it was before, so that it can go there next.
pub fn agreed(steps: &[Step<'_>]) -> Vec<Entry> {
    steps.iter().filter_map(|step| step.theirs.cloned()).collect()
}

/// Paths of files that would be removed here, as theirs are not listed any more.
pub fn going(mode: Mode, common: &[Entry], theirs: &[Entry], ours: &[Entry]) -> Vec<String> {
    let steps = plan(mode, common, theirs, ours);
    // With an empty folder nothing is lost.
    let goes = steps.iter().filter(|s| s.fate == Fate::Remove && s.ours.is_some_and(|e| !e.dir));
    goes.map(|step| step.path.to_owned()).collect()
}

/// What was in common, but for those of the files [`going`] that are there after all: what is not known
/// to be in common stays.
pub fn spare(mut common: Vec<Entry>, going: &[String], there: &[bool]) -> Vec<Entry> {
    let stay: HashSet<&str> =
        going.iter().zip(there).filter(|(_, there)| **there).map(|(p, _)| p.as_str()).collect();
    common.retain(|entry| !stay.contains(entry.path.as_str()));
    common
}

fn decide(
    mode: Mode,
    common: Option<&Entry>,
    theirs: Option<&Entry>,
    ours: Option<&Entry>,
) -> Fate {
    let was = |entry: &Entry| common.is_some_and(|common| common.is_like(entry));
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs.is_like(ours) => Fate::Same,
        // An empty folder is nothing to keep.
        (Some(_), Some(ours)) if was(ours) || ours.dir => Fate::Take,
        (Some(theirs), Some(_)) if was(theirs) => Fate::Keep,
        (Some(_), Some(_)) => Fate::Aside,
        (Some(theirs), None) if mode == Mode::Both && was(theirs) => Fate::Keep,
        (Some(_), None) => Fate::Take,
        (None, Some(ours)) if was(ours) => Fate::Remove,
        (None, _) => Fate::Keep,
    }
}

/// What is kept can't stay where theirs needs a folder, or a file in place of one.
fn clear_the_way(steps: &mut [Step<'_>]) {
    let taken = |step: &Step<'_>| matches!(step.fate, Fate::Take | Fate::Aside);
    let stays = |step: &Step<'_>| step.fate == Fate::Keep && step.ours.is_some();
    let find = |steps: &[Step<'_>], path: &str| steps.binary_search_by(|s| s.path.cmp(path)).ok();
    for at in 0..steps.len() {
        let path = steps[at].path;
        for (end, _) in path.match_indices('/') {
            let Some(above) = find(steps, &path[..end]) else { continue };
            let is_dir = |entry: Option<&Entry>| entry.is_some_and(|entry| entry.dir);
            if taken(&steps[at]) && stays(&steps[above]) && !is_dir(steps[above].ours) {
                steps[above].fate = Fate::Away;
            } else if stays(&steps[at]) && taken(&steps[above]) {
                match is_dir(steps[above].theirs) {
                    // There is such a folder, with something in it.
                    true => steps[above].fate = Fate::Same,
                    false => steps[at].fate = Fate::Away,
                }
            }
        }
    }
}

/// Whether nothing in a sorted list has a path, nor is below it.
pub fn is_free(entries: &[Entry], path: &str) -> bool {
    let from = |path: &str| entries.partition_point(|entry| entry.path.as_str() < path);
    let below = format!("{path}/");
    let taken = entries.get(from(path)).is_some_and(|entry| entry.path == path)
        || entries.get(from(&below)).is_some_and(|entry| entry.path.starts_with(&below));
    !taken
}

/// A name beside `path` for what was changed on both sides: as it was on `node`, set aside at `stamp`,
/// for the `nth` time.
pub fn aside(path: &str, node: &str, stamp: &str, nth: usize) -> String {
    let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let (stem, ending) = match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= 32 => name.split_at(at),
        _ => (name, ""),
    };
    let nth = if nth == 0 { String::new() } else { format!("-{}", nth + 1) };
    let mark = format!(".conflict-{node}-{stamp}{nth}");
    let mut keep = 255usize.saturating_sub(mark.len() + ending.len()).min(stem.len());
    while !stem.is_char_boundary(keep) {
        keep -= 1;
    }
    let slash = if folder.is_empty() { "" } else { "/" };
    format!("{folder}{slash}{}{mark}{ending}", &stem[..keep])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{folder::is_sound, id::Hash};

    fn entry(path: &str, content: u8) -> Entry {
        let (path, hash) = (path.to_owned(), Hash::of(&[content]));
        let dir = content == 0;
        let (size, hash) = if dir { (0, Hash::of(b"")) } else { (1, hash) };
        Entry { path, size, hash, exec: false, link: None, dir }
    }

    /// A folder: few names and few contents, so that all collide.
    fn folder() -> impl Strategy<Value = Vec<Entry>> {
        let path = prop::sample::select(vec!["a", "a-", "a/b", "a/b/c", "a/d", "e"]);
        prop::collection::btree_map(path, 0u8..4, 0..6).prop_map(|files| {
            let mut entries: Vec<Entry> = Vec::new();
            for (path, content) in files {
                let through = |e: &Entry| path.starts_with(&format!("{}/", e.path));
                if !entries.iter().any(through) {
                    entries.push(entry(path, content));
                }
            }
            entries
        })
    }

    /// Does on a model what the steps say.
    fn done(steps: &[Step<'_>], ours: &[Entry]) -> (Vec<Entry>, Vec<Entry>) {
        let mut here: BTreeMap<String, Entry> =
            ours.iter().map(|e| (e.path.clone(), e.clone())).collect();
        for step in steps {
            match step.fate {
                Fate::Aside | Fate::Away => {
                    let mut entry = here.remove(step.path).unwrap();
                    entry.path = format!("kept-{}", step.path.replace('/', "-"));
                    here.insert(entry.path.clone(), entry);
                }
                Fate::Remove => drop(here.remove(step.path)),
                _ => {}
            }
        }
        for step in steps {
            if matches!(step.fate, Fate::Take | Fate::Aside) {
                here.insert(step.path.into(), step.theirs.unwrap().clone());
            }
        }
        // A folder that something has come into is not empty any more.
        let all: Vec<String> = here.keys().cloned().collect();
        here.retain(|path, e| {
            !e.dir || !all.iter().any(|other| other.starts_with(&format!("{path}/")))
        });
        (here.into_values().collect(), agreed(steps))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        #[test]
        fn nothing_that_is_only_here_is_lost(
            common in folder(), theirs in folder(), ours in folder(), both in any::<bool>(),
        ) {
            let mode = if both { Mode::Both } else { Mode::Copy };
            let steps = plan(mode, &common, &theirs, &ours);
            let (here, agreed) = done(&steps, &ours);
            prop_assert!(is_sound(&here), "{steps:?} leave {here:?}");
            prop_assert!(is_sound(&agreed));
            let has = |list: &[Entry], entry: &Entry| list.iter().any(|e| e.hash == entry.hash);
            for entry in ours.iter().filter(|e| !e.dir) {
                let known = common.contains(entry) || has(&theirs, entry);
                prop_assert!(has(&here, entry) || known, "{entry:?} is lost by {steps:?}");
            }
            if mode == Mode::Copy && common.is_empty() {
                for entry in theirs.iter().filter(|e| !e.dir) {
                    prop_assert!(here.contains(entry), "{entry:?} did not come: {steps:?}");
                }
            }
        }

        #[test]
        fn both_ways_in_turn_make_both_alike(
            common in folder(), theirs in folder(), ours in folder(),
        ) {
            let (here, agreed) = done(&plan(Mode::Both, &common, &theirs, &ours), &ours);
            let (there, _) = done(&plan(Mode::Both, &agreed, &here, &theirs), &theirs);
            let files = |list: &[Entry]| -> Vec<Entry> {
                list.iter().filter(|e| !e.dir).cloned().collect()
            };
            prop_assert_eq!(files(&here), files(&there));
        }

        #[test]
        fn what_is_there_after_all_stays_and_the_rest_goes(
            common in folder(), theirs in folder(), ours in folder(), both in any::<bool>(),
            there in prop::collection::vec(any::<bool>(), 6),
        ) {
            let mode = if both { Mode::Both } else { Mode::Copy };
            let goes = going(mode, &common, &theirs, &ours);
            let left = spare(common.clone(), &goes, &there);
            let (here, agreed) = done(&plan(mode, &left, &theirs, &ours), &ours);
            for (path, there) in goes.iter().zip(&there) {
                let hash = ours.iter().find(|e| e.path == *path).map(|e| e.hash);
                let stays = here.iter().any(|e| Some(e.hash) == hash);
                prop_assert!(!there || stays, "{path} is lost");
                prop_assert!(*there || !here.iter().any(|e| e.path == *path), "{path} stays");
                prop_assert!(!agreed.iter().any(|e| e.path == *path), "it is in common no more");
            }
            // Of what is listed, nothing is decided otherwise.
            let fates = |common: &[Entry]| -> Vec<Fate> {
                let steps = plan(mode, common, &theirs, &ours);
                let listed = |s: &&Step<'_>| s.theirs.is_some_and(|e| !e.dir);
                steps.iter().filter(listed).map(|s| s.fate).collect()
            };
            prop_assert_eq!(fates(&left), fates(&common));
        }

        #[test]
        fn a_second_time_does_nothing(common in folder(), theirs in folder(), ours in folder()) {
            let (here, agreed) = done(&plan(Mode::Copy, &common, &theirs, &ours), &ours);
            for step in plan(Mode::Copy, &agreed, &theirs, &here) {
                prop_assert!(matches!(step.fate, Fate::Same | Fate::Keep), "{step:?}");
            }
        }
    }

    #[test]
    fn a_path_is_free_unless_something_has_it_or_is_below() {
        let list = [entry("a", 1), entry("b-/c", 1), entry("b/c/d", 1), entry("bc", 1)];
        let free = |path| is_free(&list, path);
        assert!(!free("a") && !free("b") && !free("b/c") && !free("b/c/d") && !free("b-"));
        assert!(free("c") && free("b/c/d/e") && free("b/") && free("") && is_free(&[], "a"));
    }

    #[test]
    fn names_aside_keep_their_ending_and_fit() {
        let at = |path, nth| aside(path, "gpu", "20260102-030405", nth);
        assert_eq!(at("a/b.csv", 0), "a/b.conflict-gpu-20260102-030405.csv");
        assert_eq!(at("a/b", 1), "a/b.conflict-gpu-20260102-030405-2");
        assert_eq!(at(".bashrc", 0), ".bashrc.conflict-gpu-20260102-030405");
        let long = at(&format!("{}.txt", "ü".repeat(125)), 0);
        assert!(long.len() <= 255 && long.ends_with(".txt"), "{long}");
    }
}
