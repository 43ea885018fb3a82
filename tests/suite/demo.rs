//! `rhd demo`: what it shows, and that it leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
};

use rhd_tests::{command, until};
use rustix::process::{Pid, Signal, kill_process};

/// What a person should see, in this order, with a network for packages or without.
const STEPS: [&str; 15] = [
    "1. start three nodes",
    "2. invite and join by ticket",
    "3. send a function to gpu",
    "4. a function that needs a package",
    "6. 2000 warm no-op calls",
    "7. a class with state",
    "8. a generator on cloud",
    "9. a map over two nodes",
    "10. a run is cancelled",
    "11. cloud is killed in the middle of a call",
    "12. change one line",
    "13. a folder of 2000 files",
    "14. a blob with a name",
    "15. functions in Rust",
    "done in ",
];

/// Runs it in a folder of its own for temporary files, and returns what it printed.
fn demo(vars: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.arg("demo").env("TMPDIR", folder.path()).envs(vars.iter().copied());
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}\n{complaints}");

    let mut rest = said.as_str();
    for step in STEPS {
        let at = rest.find(step).unwrap_or_else(|| panic!("no {step:?} in its place:\n{said}"));
        rest = &rest[at..];
    }
    for shown in [
        "Hello, Ada",
        "p50 ",
        "epoch 2: loss",
        "run.cancel() -> CANCELLED, its file is gone",
        "PeerLost: ",
        ".status -> INTERRUPTED",
        "Good morning, Ada",
        "-> 2000 files in ",
        "lines(copy) -> 200000",
        "brought to both -> [1, 1] files",
        "lines(copy) -> 200001",
        "versions [2, 1]",
        ".rollback(1), .fetch() -> [1.0, 2.0]",
        "pi.call(1_000_000).await? -> 3.14",
        "Timeout: ",
    ] {
        assert!(said.contains(shown), "no {shown:?}:\n{said}");
    }
    assert!(said.lines().filter(|line| line.trim().starts_with('[')).count() >= 10, "{said}");

    leaves_nothing(folder.path());
    said
}

fn leaves_nothing(folder: &Path) {
    let left: Vec<_> = fs::read_dir(folder).unwrap().flatten().collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    until("all its processes are gone", || (!is_used(folder)).then_some(()));
}

/// Whether a process has the folder in its command line or environment.
fn is_used(folder: &Path) -> bool {
    let folder = folder.to_str().unwrap();
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        ["cmdline", "environ"].iter().any(|file| {
            let bytes = fs::read(process.path().join(file)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).contains(folder)
        })
    })
}

#[test]
fn the_demo_shows_all_of_it() {
    let said = demo(&[]);
    // With a network it uses the package; without one it says that it can't.
    let used = said.contains("1 hour, 1 minute and 1 second");
    assert!(used || said.contains("without network for packages"), "{said}");
}

#[test]
fn without_network_for_packages_the_demo_says_so_and_does_the_rest() {
    let offline =
        [("PIP_NO_INDEX", "1"), ("UV_OFFLINE", "1"), ("UV_NO_INDEX", "1"), ("UV_NO_CACHE", "1")];
    let said = demo(&offline);
    assert!(said.contains("without network for packages that is expected"), "{said}");
    assert!(!said.contains("speak(3661)"), "{said}");
}

#[test]
fn interrupted_it_leaves_nothing_behind_either() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command();
    command.arg("demo").env("TMPDIR", folder.path()).stdin(Stdio::null());
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("4. ")), "it does not get that far");
    kill_process(Pid::from_raw(demo.id().cast_signed()).unwrap(), Signal::INT).unwrap();
    lines.for_each(drop);
    assert_eq!(demo.wait().unwrap().code(), Some(130));
    leaves_nothing(folder.path());
}
