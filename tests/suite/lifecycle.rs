//! Starting, ending and starting again.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, PermissionsExt},
        process::CommandExt,
    },
    process::{Command, Stdio},
};

use rhd_tests::{Node, binary, rhd, until};
use rustix::process::{Pid, Signal, test_kill_process};

#[test]
fn a_second_daemon_of_a_home_names_the_first() {
    let node = Node::start("first");
    for args in [&["up"][..], &["up", "--detach"]] {
        let said = node.rhd(args).fails(1);
        assert!(said.contains(&node.pid().to_string()), "{args:?}: {said}");
        assert!(said.contains("hint: "), "{args:?}: {said}");
    }
    assert_eq!(node.status().pid, node.pid());
}

#[test]
fn detached_it_outlives_the_command_and_down_ends_it() {
    let setup = Node::prepare("bg");
    let home = setup.home().to_str().unwrap();
    let run = |args: &[&str]| rhd(&[&["--home", home], args].concat(), "");
    let up = run(&["up", "--detach", "--name", "bg", "--port", "0", "--set", "mesh.mdns=false"]);
    assert!(up.stderr.contains("bg is up"), "{up:?}");
    assert_eq!(up.ok(), "");
    let status = run(&["status", "--json"]).json();
    let pid = i32::try_from(status["pid"].as_i64().unwrap()).unwrap();
    assert_eq!(status["name"], "bg");
    // A session of its own: closing the terminal does not reach it.
    let session = rustix::process::getsid(Pid::from_raw(pid)).unwrap();
    assert_eq!(session.as_raw_nonzero().get(), pid);
    run(&["down"]).ok();
    // Its new parent may not have waited for it yet; then it is dead, not alive.
    until("its process ends", || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = test_kill_process(Pid::from_raw(pid).unwrap()).is_err();
        (gone || stat.contains(") Z ")).then_some(())
    });
    run(&["status"]).fails(3);
}

#[test]
fn a_first_start_has_nothing_to_complain_of_and_logs_json() {
    let node = Node::start("quiet");
    let said = fs::read_to_string(node.home().join("output")).unwrap();
    assert!(!said.contains("rror"), "{said}");
    let files: Vec<_> = fs::read_dir(node.home().join("log")).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "{files:?}");
    until("it logs that it is ready", || {
        let text = fs::read_to_string(files[0].path()).unwrap();
        let ready = text.lines().find(|line| line.contains("\"ready\""))?;
        let line: serde_json::Value = serde_json::from_str(ready).unwrap();
        assert_eq!((&line["level"], &line["fields"]["name"]), (&"INFO".into(), &"quiet".into()));
        Some(())
    });
}

#[test]
fn a_start_that_fails_shows_the_daemons_own_error() {
    let setup = Node::prepare("broken");
    fs::write(setup.home().join("config.toml"), "[node]\nname = \n").unwrap();
    let home = setup.home().to_str().unwrap();
    for args in [&["--home", home, "up"][..], &["--home", home, "up", "--detach"]] {
        let ended = rhd(args, "");
        assert_ne!(ended.code, 0, "{ended:?}");
        assert!(ended.stderr.contains("line 2"), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("config.toml"), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("hint: "), "{args:?}: {}", ended.stderr);
    }
}

#[test]
fn only_the_owner_may_connect() {
    let node = Node::start("mine");
    let socket = rhd_sdk::socket_path(node.home());
    let meta = fs::metadata(&socket).unwrap();
    assert!(meta.file_type().is_socket());
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(node.home()).unwrap().permissions().mode() & 0o077, 0);

    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else; that part needs it.
        return;
    }
    // The file's mode is one lock, the check of the peer's uid another: open the first.
    fs::set_permissions(node.home(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let open = tempfile::tempdir().unwrap();
    fs::set_permissions(open.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = open.path().join("rhd");
    fs::copy(binary(), &copy).unwrap();
    let mut command = Command::new(&copy);
    command.arg("--home").arg(node.home()).args(["status", "--json"]);
    command.uid(65534).gid(65534).current_dir("/").stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(output.stdout.is_empty(), "{:?}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(node.status().pid, node.pid());
}

#[test]
fn sigterm_and_sigint_end_it_with_success_and_leave_no_socket() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start("ends");
        node.signal(signal);
        let status = node.gone();
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}\n{}", node.log());
        assert!(!rhd_sdk::socket_path(node.home()).exists());
    }
}

#[test]
fn after_kill_9_it_starts_again_as_the_same_node() {
    let mut node = Node::start("phoenix");
    let before = node.status();
    node.kill();
    assert!(rhd_sdk::socket_path(node.home()).exists(), "the stale socket is what this is about");
    node.rhd(&["status"]).fails(3);
    node.restart();
    let after = node.status();
    assert_eq!((before.id, before.realm), (after.id, after.realm));
    assert_ne!(before.pid, after.pid);
}

#[test]
fn variables_that_are_no_text_are_no_reason_not_to_start() {
    let setup = Node::prepare("bytes");
    let home = setup.home().to_str().unwrap();
    let mut up = rhd_tests::command();
    up.args(["--home", home, "up", "--detach", "--port", "0", "--set", "mesh.mdns=false"]);
    let odd = OsStr::from_bytes(b"no\xfftext");
    let up = up.env("RHD_ODD", odd).env(odd, "x").output().unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    rhd(&["--home", home, "down"], "").ok();
}

#[test]
fn a_home_that_can_not_be_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let home = file.join("below");
    let home = home.to_str().unwrap();
    for args in [&["--home", home, "up"][..], &["--home", home, "up", "--detach"]] {
        let said = rhd(args, "").fails(2);
        assert!(said.contains(home) && said.contains("hint: "), "{said}");
    }
}

#[test]
fn a_home_too_deep_for_a_sockets_address_serves_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("d".repeat(120));
    let run = |args: &[&str]| rhd(&[&["--home", home.to_str().unwrap()], args].concat(), "");
    run(&["up", "--detach", "--port", "0", "--set", "mesh.mdns=false"]).ok();
    let status = run(&["status", "--json"]);
    run(&["down"]).ok();
    assert_eq!(status.json()["home"], home.to_str().unwrap());
}
