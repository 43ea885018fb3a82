//! The arrows of the design: who may import whom. A wrong import fails here, with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use toml::Table;

/// Crates of this workspace that a crate may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("sdk", &["rhd-protocol", "rhd-macros"]),
    ("sdk/macros", &[]),
    ("daemon", &["rhd-protocol", "rhd-sdk"]),
    ("simulations", &["rhd-protocol"]),
    ("tests", &["rhd", "rhd-protocol", "rhd-sdk", "rhd-macros", "rhd-simulations"]),
    ("tests/bench", &["rhd-protocol", "rhd-sdk"]),
];

/// Crates that would bring the world into protocol, and paths of std that would.
const IMPURE_CRATES: &[&str] = &[
    "async-std",
    "futures",
    "libp2p",
    "mio",
    "quinn",
    "rand",
    "rustix",
    "socket2",
    "tempfile",
    "tokio",
    "tokio-util",
    "tracing",
];
const IMPURE_PATHS: &[&str] = &[
    "std::env",
    "std::fs",
    "std::os",
    "std::process",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "TcpStream",
    "UdpSocket",
    "UnixStream",
];

/// Rooms of the daemon, what each may import of the others, and why no more.
const ROOMS: &[(&str, &[&str], &str)] = &[
    ("background", &[], "threads know nothing of what runs on them"),
    ("framed", &[], "frames know only the protocol"),
    ("mesh", &["framed"], "the mesh knows no room that rides on it"),
    ("blobs", &["folders", "framed", "mesh"], "naming and blobs do not know each other"),
    (
        "asked",
        &["background", "framed", "mesh", "naming"],
        "it carries questions, and doesn't know them",
    ),
    (
        "data",
        &["asked", "background", "folders", "framed", "mesh", "naming", "stores", "tables"],
        "data moves by the mesh, under names; it keeps folders and tables, and runs nothing",
    ),
    (
        "folders",
        &["asked", "background", "framed", "mesh", "naming", "stores"],
        "folders move by the mesh; they know no blobs, so that code can stand on them",
    ),
    (
        "tables",
        &["asked", "background", "folders", "framed", "mesh", "naming", "stores"],
        "tables are files in folders; only what keeps them stands on them",
    ),
    ("stores", &[], "object stores know no node, and nothing of what is kept in them"),
    ("naming", &["framed", "mesh", "workers"], "naming and blobs do not know each other"),
    ("workers", &["framed"], "workers do not know the mesh"),
    ("runs", &["framed"], "runs keep what calls hand them"),
    (
        "calls",
        &["asked", "blobs", "folders", "framed", "mesh", "naming", "runs", "telemetry", "workers"],
        "calls serve api, not see it",
    ),
    (
        "api",
        &[
            "blobs",
            "calls",
            "data",
            "folders",
            "framed",
            "mesh",
            "naming",
            "tables",
            "telemetry",
            "workers",
        ],
        "api sees handles only",
    ),
    (
        "web",
        &["calls", "framed", "mesh", "naming", "telemetry", "workers"],
        "web sees handles only",
    ),
    ("telemetry", &[], "telemetry is told what happens; it looks at no room"),
    (
        "settings",
        &["blobs", "data", "mesh", "node", "runs", "web", "workers"],
        "it gathers each room's section",
    ),
    ("cli", &[], "the command line talks through the SDK; only up.rs starts a node"),
];
/// The composition root sees every room; the crate's roots name them.
const ROOTS: &[&str] = &["node", "lib", "main"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn dependencies(folder: &str) -> BTreeSet<String> {
    let path = workspace().join(folder).join("Cargo.toml");
    let manifest: Table = fs::read_to_string(path).unwrap().parse().unwrap();
    let names = manifest.get("dependencies").and_then(|d| d.as_table());
    names.map(|t| t.keys().cloned().collect()).unwrap_or_default()
}

/// Every Rust file below `folder`, with its code: comments left out.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = workspace().join(folder);
    let (mut folders, mut found) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let code: Vec<&str> =
                    text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
                found.push((path.strip_prefix(&root).unwrap().to_path_buf(), code.join("\n")));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has no sources");
    found
}

/// The first parts of all paths that start with `prefix`: `use prefix::{a, b::c}` gives a and b.
fn imported(code: &str, prefix: &str) -> BTreeSet<String> {
    let start = format!("{prefix}::");
    let ident = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(&start) {
        let inside =
            code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        if inside {
            continue;
        }
        let rest = &code[at + start.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            found.insert(ident(rest));
            continue;
        };
        let (mut depth, mut next) = (1, true);
        for (i, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => next = true,
                c if next && !c.is_whitespace() => {
                    next = false;
                    found.insert(ident(&group[i..]));
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|name| name.starts_with(|c: char| c.is_lowercase()) && name != "self");
    found
}

#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<_, _> = CRATES.iter().copied().collect();
    for (folder, allowed) in &allowed {
        for name in dependencies(folder) {
            let ours = name == "rhd" || name.starts_with("rhd-");
            let fine = !ours || allowed.contains(&name.as_str());
            assert!(fine, "{folder}/Cargo.toml lists {name}; it may use {allowed:?} of our own");
        }
    }
    let root: Table = fs::read_to_string(workspace().join("Cargo.toml")).unwrap().parse().unwrap();
    for member in root["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        assert!(allowed.contains_key(member), "{member} has no row in CRATES of this test");
    }
}

#[test]
fn protocol_decides_without_touching_the_world() {
    for name in dependencies("protocol") {
        assert!(!IMPURE_CRATES.contains(&name.as_str()), "protocol/Cargo.toml lists {name}");
    }
    for (path, code) in sources("protocol/src") {
        for impure in IMPURE_PATHS {
            assert!(!code.contains(impure), "protocol/src/{}: {impure}", path.display());
        }
    }
}

#[test]
fn rooms_of_the_daemon_know_only_those_below() {
    let rows: BTreeMap<_, _> = ROOMS.iter().map(|(room, may, why)| (*room, (may, why))).collect();
    for (path, code) in sources("daemon/src") {
        let first = path.components().next().unwrap().as_os_str().to_string_lossy();
        let room = first.trim_end_matches(".rs");
        let shown = format!("daemon/src/{}", path.display());
        let sdk = code.contains("rhd_sdk");
        assert!(!sdk || room == "cli", "{shown} uses rhd_sdk; only the command line is a client");
        if ROOTS.contains(&room) {
            continue;
        }
        let (may, why) = rows
            .get(room)
            .unwrap_or_else(|| panic!("{shown}: room {room} has no row in this test"));
        for import in imported(&code, "crate") {
            let up = shown.ends_with("cli/up.rs") && import == "node";
            let fine = import == room || up || may.contains(&import.as_str());
            assert!(fine, "{shown} imports {import}: {why}");
        }
    }
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let code = "use crate::{\n    a::{b, c},\n    d,\n    e as f,\n};\nfn g() { crate::h::i(); }\n\
        use crate::j; use mycrate::k; crate::L";
    let found: Vec<String> = imported(code, "crate").into_iter().collect();
    assert_eq!(found, ["a", "d", "e", "h", "j"]);
}
