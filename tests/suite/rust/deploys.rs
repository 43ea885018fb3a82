//! A program on its way to a node, and what is no program that it can run.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use rhd_sdk::{Env, ErrorInfo, ErrorKind};
use rhd_tests::{Mesh, Node, until};

use super::{PROGRAM, run};

/// In the suite itself, which no test sends anywhere.
#[rhd_sdk::function]
fn unsent() {}

/// Tries to deploy a function with this program as its env.
fn send(node: &Node, to: &str, program: &Path) -> ErrorInfo {
    let env = Env::new().name("odd").program(program);
    let deployed =
        node.ask(async |client| unsent::deploy().env(&env).to(&client.cluster(to)).await);
    deployed.unwrap_err()
}

#[test]
fn a_program_sends_itself_and_is_called() {
    let mut mesh = Mesh::of(2);
    let said = run(PROGRAM, &mesh[0], &["n1"]);
    assert!(said.stderr.contains("sending 1 file to n1"), "{said:?}");
    assert!(said.ok().starts_with("49 in "));
    let sum =
        mesh[0].ask(async |client| client.function::<(u64,), u64>("square").call((12,)).await);
    assert_eq!(sum, Ok(144));
    // What is there is not sent again, nor started again.
    let pid = mesh[1].rhd(&["call", "pid"]).ok();
    let again = run(PROGRAM, &mesh[0], &["n1"]);
    assert!(!again.stderr.contains("sending"), "{again:?}");
    assert_eq!(mesh[0].rhd(&["call", "pid"]).ok(), pid);
    // A node that was killed has it still.
    mesh[1].kill();
    mesh[1].restart();
    assert_eq!(mesh[1].rhd(&["call", "square", "5"]).ok(), "25\n");
}

#[test]
fn a_new_build_takes_the_place_of_the_old_one_which_ends_its_calls() {
    let node = Node::start("box");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (app, began, gate) = (path("app"), path("began"), path("gate"));
    fs::copy(PROGRAM, &app).unwrap();
    run(&app, &node, &["box"]).ok();
    let build = |node: &Node| node.rhd(&["call", "build"]).ok().trim().parse::<u64>().unwrap();
    let (first, pid) = (build(&node), node.rhd(&["call", "pid"]).ok());

    let mut waiting = node.command(&["call", "wait_for"]);
    waiting.args([&began, &gate]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let waiting = waiting.spawn().unwrap();
    until("the old build is in a call", || began.exists().then_some(()));
    File::options().append(true).open(&app).unwrap().write_all(b"another build").unwrap();
    let said = run(&app, &node, &["box"]);
    said.ok();
    assert_eq!(build(&node), first + 13);
    assert_ne!(node.rhd(&["call", "pid"]).ok(), pid);

    fs::write(gate, "").unwrap();
    let old = waiting.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(old.stdout).unwrap().trim(), first.to_string());
    until("the old process and its program are gone", || {
        let builds = fs::read_dir(node.home().join("envs")).unwrap().flatten();
        let builds = builds.filter(|entry| entry.path().join("ready.json").exists()).count();
        let runs = Path::new("/proc").join(pid.trim()).exists();
        (builds == 1 && !runs).then_some(())
    });
    let envs = node.rhd(&["env", "ls", "--json"]).json();
    let ours = envs.as_array().unwrap().iter().filter(|env| env["key"] != "base").count();
    assert_eq!(ours, 1, "{envs}");
}

#[test]
fn a_program_for_another_machine_is_refused_before_it_is_sent() {
    let mesh = Mesh::of(2);
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign");
    let mut bytes = fs::read(PROGRAM).unwrap();
    // The machine's number in an ELF header.
    let (arch, other) = if bytes[18] == 62 { (183_u16, "aarch64") } else { (62, "x86_64") };
    bytes[18..20].copy_from_slice(&arch.to_le_bytes());
    fs::write(&foreign, &bytes).unwrap();
    for to in ["n0", "n1"] {
        let error = send(&mesh[0], to, &foreign);
        assert_eq!((error.kind, error.node.as_str()), (ErrorKind::VersionMismatch, to));
        let here = format!("{}-linux", std::env::consts::ARCH);
        assert!(error.message.contains(other) && error.message.contains(&here), "{error:?}");
        assert!(error.hint.contains("nothing ran"), "{error:?}");
    }
    let envs = mesh[1].rhd(&["env", "ls", "--json"]).json();
    assert_eq!(envs.as_array().unwrap().len(), 1, "{envs}");
    let blobs = walk(&mesh[1].home().join("blobs"));
    assert!(blobs < 1024 * 1024, "{blobs} bytes were sent");
}

/// Bytes of all files below a folder.
fn walk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => walk(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

#[test]
fn what_does_not_serve_says_what_to_do() {
    let impatient = Node::prepare("box").flags(&["--set", "workers.start_timeout_ms=500"]).up();
    let node = Node::start("box");
    let folder = tempfile::tempdir().unwrap();
    // One ends at once, the other runs on and never connects; what to do is the same.
    for (node, program, says) in [
        (&node, "/bin/true", "exit status 0"),
        (&impatient, "/usr/bin/yes", "did not come up within 0.5 s"),
    ] {
        let error = send(node, "box", Path::new(program));
        assert_eq!(error.kind, ErrorKind::EnvError);
        assert!(error.message.contains(says), "{error:?}");
        assert!(error.hint.contains("run_if_worker()"), "{error:?}");
    }
    let script = folder.path().join("script");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let error = send(&node, "box", &script);
    assert_eq!(error.kind, ErrorKind::BadRequest);
    assert!(error.message.contains("is no program"), "{error:?}");
    let error = send(&node, "box", &folder.path().join("nothing"));
    assert!(error.message.contains("no such file"), "{error:?}");
    // A worker, but of other functions.
    let error = send(&node, "box", Path::new(PROGRAM));
    assert_eq!(error.kind, ErrorKind::NotFound, "{error:?}");
    assert!(error.message.contains("unsent") && error.hint.contains("::square"), "{error:?}");
}

#[test]
fn a_program_that_nobody_started_as_a_worker_is_none() {
    let mut alone = Command::new(PROGRAM);
    alone.env("RHD_HOME", "/nonexistent").env("RHD_AUTOSTART", "0");
    alone.env_remove("RHD_WORKER_TOKEN");
    let ended = rhd_tests::Outcome::of(alone);
    assert!(ended.code != 0 && ended.stderr.contains("no daemon"), "{ended:?}");
}
