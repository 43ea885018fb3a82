//! The size guard: what is too much to ship, and who is to blame.

use std::collections::BTreeMap;

use rhd_protocol::error::{ErrorInfo, ErrorKind};

use super::config::Config;

/// Offenders that a message names.
const NAMED: usize = 5;

/// Refuses a project over the limits, naming what makes it so large. `cut` says that the walk
/// stopped early, at so many files.
pub(super) fn check(
    root: &str,
    files: &[(String, u64)],
    cut: bool,
    config: &Config,
) -> Result<(), ErrorInfo> {
    let mut large: Vec<_> = files.iter().filter(|f| f.1 > config.max_file_bytes).collect();
    let total: u64 = files.iter().map(|f| f.1).sum();
    let (what, offenders, setting) = if files.len() > config.max_project_files {
        let more = if cut { "more than " } else { "" };
        let what = format!("{more}{} files (limit {})", files.len(), config.max_project_files);
        let weights = files.iter().map(|(path, _)| (path.as_str(), 1));
        let heavy = heaviest(weights).into_iter().map(|(path, n)| match n {
            1 => path,
            n => format!("{path} {n} files"),
        });
        (what, heavy.collect(), "blobs.max_project_files")
    } else if !large.is_empty() {
        large.sort_by_key(|f| std::cmp::Reverse(f.1));
        let limit = size(config.max_file_bytes);
        let what = match large.len() {
            1 => format!("a file over {limit}"),
            n => format!("{n} files over {limit}"),
        };
        let named = large.iter().map(|(path, bytes)| format!("{path} {}", size(*bytes)));
        (what, named.take(NAMED).collect::<Vec<_>>(), "blobs.max_file_bytes")
    } else if total > config.max_project_bytes {
        let what = format!("{} (limit {})", size(total), size(config.max_project_bytes));
        let weights = files.iter().map(|(path, bytes)| (path.as_str(), *bytes));
        let heavy = heaviest(weights).into_iter().map(|(path, n)| format!("{path} {}", size(n)));
        (what, heavy.collect(), "blobs.max_project_bytes")
    } else {
        return Ok(());
    };
    let message = format!("{root} is too large to ship: {what}. Largest: {}", offenders.join(", "));
    Err(ErrorInfo::new(ErrorKind::BadRequest, message).hint(format!(
        "list what the code does not need in {root}/.rhdignore (written like .gitignore), or raise {setting}"
    )))
}

/// The files and folders that weigh most: descends while one folder holds nearly everything, then
/// names the heaviest things in it; a folder of many small things is named itself.
fn heaviest<'a>(files: impl Iterator<Item = (&'a str, u64)>) -> Vec<(String, u64)> {
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    for (path, weight) in files {
        for (end, _) in path.match_indices('/') {
            *all.entry(&path[..=end]).or_default() += weight;
        }
        *all.entry(path).or_default() += weight;
    }
    let mut at = "";
    let mut at_weight = all.iter().filter(|(path, _)| depth(path) == 0).map(|(_, w)| *w).sum();
    loop {
        let level = depth(at) + usize::from(!at.is_empty());
        let mut inside: Vec<(&str, u64)> = all
            .range(at..)
            .take_while(|(path, _)| path.starts_with(at))
            .filter(|(path, _)| **path != at && depth(path) == level)
            .map(|(path, weight)| (*path, *weight))
            .collect();
        inside.sort_by_key(|(path, weight)| (std::cmp::Reverse(*weight), *path));
        match inside.first() {
            Some((path, weight)) if path.ends_with('/') && weight * 5 >= at_weight * 4 => {
                (at, at_weight) = (path, *weight);
            }
            Some((_, weight)) if !at.is_empty() && weight * 20 < at_weight => {
                return vec![(at.into(), at_weight)];
            }
            _ => {
                return inside.iter().take(NAMED).map(|(p, w)| ((*p).into(), *w)).collect();
            }
        }
    }
}

/// Folders above a path; a folder's own trailing `/` does not count.
fn depth(path: &str) -> usize {
    path.strip_suffix('/').unwrap_or(path).matches('/').count()
}

/// A size for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let unit = ((63 - bytes.leading_zeros()) / 10).clamp(1, 5) as usize;
    format!("{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, UNITS[unit - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(files: &[(&str, u64)], config: &Config) -> ErrorInfo {
        let files: Vec<_> = files.iter().map(|(p, n)| ((*p).into(), *n)).collect();
        check("/p", &files, false, config).unwrap_err()
    }

    #[test]
    fn a_large_file_is_named_with_its_size_and_the_way_out() {
        let files = [("a.py", 10), ("weights/model.bin", 30 << 20), ("b.npy", 21 << 20)];
        let error = refused(&files, &Config::default());
        assert_eq!(error.kind, ErrorKind::BadRequest);
        assert!(error.message.contains("weights/model.bin 30.0 MiB, b.npy 21.0 MiB"), "{error}");
        assert!(error.hint.contains("/p/.rhdignore"), "{}", error.hint);
        assert!(error.hint.contains("blobs.max_file_bytes"), "{}", error.hint);
    }

    #[test]
    fn a_folder_of_many_files_is_named_not_five_of_its_files() {
        let mut files = vec![("src/main.py".to_owned(), 900)];
        files.extend((0..3_000).map(|i| (format!("data/train/img/{i}.png"), 50_000)));
        let config = Config { max_project_files: 1_000, ..Config::default() };
        let error = check("/p", &files, false, &config).unwrap_err();
        assert!(error.message.contains("Largest: data/train/img/ 3000 files"), "{error}");
        let error = check("/p", &files, false, &Config::default()).unwrap_err();
        assert!(error.message.contains("143.1 MiB (limit 100.0 MiB)"), "{error}");
        assert!(error.message.contains("Largest: data/train/img/ 143.1 MiB"), "{error}");
    }

    #[test]
    fn no_more_than_five_are_named_heaviest_first() {
        let names: Vec<_> = (0..9).map(|i| format!("d{i}/x")).collect();
        let files: Vec<_> = names.iter().zip(1u64..).map(|(n, i)| (n.as_str(), i << 22)).collect();
        let config = Config { max_file_bytes: u64::MAX, ..Config::default() };
        let error = refused(&files, &config);
        let (_, named) = error.message.split_once("Largest: ").unwrap();
        let named: Vec<_> = named.split(", ").collect();
        assert_eq!(named.len(), 5);
        assert_eq!(named[0], "d8/ 36.0 MiB");
    }

    #[test]
    fn what_is_within_the_limits_passes() {
        let files = vec![("a.py".to_owned(), 20 << 20)];
        assert_eq!(check("/p", &files, false, &Config::default()), Ok(()));
    }
}
