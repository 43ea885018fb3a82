//! What a path means: `/score`, `/counter/add`, `/ann/score`, `/ann/counter/add`.

use rhd_protocol::name::Name;

/// One way to read a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reading {
    /// Canonical name of a service.
    pub(super) service: String,
    /// Its method.
    pub(super) method: Option<String>,
}

/// All ways to read a path, best first: the longest name wins, then the full one over the one in the
/// user's own folder. Empty when it is no name.
pub(super) fn readings(path: &str, user: &str) -> Vec<Reading> {
    let Some(path) = path.strip_prefix('/').filter(|path| !path.is_empty()) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut add = |name: &str, method: Option<&str>| {
        for text in [format!("/{name}"), format!("/{user}/{name}")] {
            if let Ok(Name::Full(_)) = Name::parse(&text) {
                found.push(Reading { service: text, method: method.map(str::to_owned) });
            }
        }
    };
    add(path, None);
    if let Some((name, method)) = path.rsplit_once('/').filter(|(_, method)| !method.is_empty()) {
        add(name, Some(method));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Vec<(String, Option<String>)> {
        readings(path, "ann").into_iter().map(|r| (r.service, r.method)).collect()
    }

    #[test]
    fn the_longest_name_comes_first() {
        let owned = |s: &str, m: Option<&str>| (s.to_owned(), m.map(str::to_owned));
        assert_eq!(read("/score"), [owned("/ann/score", None)]);
        assert_eq!(
            read("/bob/x/add"),
            [
                owned("/bob/x/add", None),
                owned("/ann/bob/x/add", None),
                owned("/bob/x", Some("add")),
                owned("/ann/bob/x", Some("add")),
            ]
        );
        for bad in ["", "/", "//", "x", "/a b", "/..", "/a/../b", "/a//b", "/a/"] {
            assert_eq!(read(bad), [], "{bad}");
        }
        assert!(read(&format!("/{}", "x/".repeat(5000))).is_empty());
    }
}
