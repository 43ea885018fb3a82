//! The files in which the tools of AWS keep what they know of an account.

use std::{collections::HashMap, env, fs, path::PathBuf};

/// Bytes of such a file; longer ones are not read.
const MAX: u64 = 1 << 20;

/// What a profile says: keys as in the files.
pub(super) fn read() -> HashMap<String, String> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let named = set("AWS_PROFILE").or_else(|| set("AWS_DEFAULT_PROFILE"));
    let profile = named.unwrap_or_else(|| "default".into());
    let file = |variable: &str, name: &str| {
        let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws").join(name));
        let path = set(variable).map(PathBuf::from).or_else(home)?;
        let len = fs::metadata(&path).ok()?.len();
        (len <= MAX).then(|| fs::read_to_string(path).ok()).flatten()
    };
    let mut found = HashMap::new();
    if let Some(text) = file("AWS_CONFIG_FILE", "config") {
        let section = if profile == "default" { "default" } else { &format!("profile {profile}") };
        found.extend(section_of(&text, section));
    }
    if let Some(text) = file("AWS_SHARED_CREDENTIALS_FILE", "credentials") {
        found.extend(section_of(&text, &profile));
    }
    found
}

fn section_of(text: &str, wanted: &str) -> HashMap<String, String> {
    let mut inside = false;
    let mut found = HashMap::new();
    for line in text.lines() {
        // What is indented belongs to the key above it, none of which is ours.
        let indented = line.starts_with([' ', '\t']);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) || indented {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = name.split_whitespace().eq(wanted.split_whitespace());
        } else if inside && let Some((key, value)) = line.split_once('=') {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_read_and_no_other() {
        let text = "# mine\n[default]\naws_access_key_id = A\n[profile  work]\nregion=eu-1\ns3 =\n  \
                    region = no\n\n[other]\nregion = us-1\n";
        assert_eq!(section_of(text, "default")["aws_access_key_id"], "A");
        let work = section_of(text, "profile work");
        assert_eq!((work["region"].as_str(), work.len()), ("eu-1", 2));
        assert!(section_of(text, "none").is_empty());
    }
}
