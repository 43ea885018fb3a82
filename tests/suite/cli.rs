//! What the command line promises: streams, exit codes, JSON, completions.

use std::{
    io::Read,
    process::{Command, Stdio},
};

use rhd_tests::{Node, binary, command, rhd, until};

#[test]
fn without_a_daemon_every_verb_that_needs_one_ends_with_3_and_says_how_to_start_it() {
    let setup = Node::prepare("none");
    let home = setup.home().to_str().unwrap();
    for args in [
        &["status"][..],
        &["down"],
        &["peers"],
        &["invite"],
        &["ls"],
        &["show", "f"],
        &["rm", "f"],
        &["history", "x"],
        &["rollback", "x", "1"],
        &["lineage", "x"],
        &["call", "f", "1"],
        &["env", "ls"],
        &["env", "build", "six"],
        &["env", "rm", "x"],
        &["python", "-c", "pass"],
    ] {
        let said = rhd(&[&["--home", home], args].concat(), "").fails(3);
        assert!(said.starts_with("error: ") && said.contains("hint: "), "{args:?}: {said}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["nonsense"][..],
        &[],
        &["invite", "--uses", "0"],
        &["invite", "--expires", "tomorrow"],
        &["invite", "--role", "king"],
        &["join"],
        &["join", "hello"],
        &["env", "build", "--var", "x"],
        &["rollback", "x"],
        &["rollback", "x", "first"],
        &["completions", "tcsh"],
        &["up", "--detach", "--port", "70000"],
    ] {
        rhd(args, "").fails(2);
    }
    assert!(rhd(&["--help"], "").ok().contains("Usage: rhd"));
    assert!(rhd(&["--version"], "").ok().starts_with("rhd "));
}

#[test]
fn listings_have_the_same_shape_as_json() {
    let node = Node::start("shapes");
    let status = node.rhd(&["status", "--json"]).json();
    for key in ["name", "id", "realm", "role", "user", "version", "pid", "home", "listen", "rss"] {
        assert!(!status[key].is_null(), "{key}: {status}");
    }
    assert_eq!(status["pid"], node.pid());
    assert_eq!(status["founder"], true);
    let peers = node.rhd(&["peers", "--json"]).json();
    let me = &peers.as_array().unwrap()[0];
    assert_eq!((&me["name"], &me["path"]), (&"shapes".into(), &"here".into()));
    assert_eq!(node.rhd(&["ls", "--json"]).json().as_array().unwrap().len(), 0);
    assert!(node.rhd(&["env", "ls", "--json"]).json().is_array());
    let doctor = node.rhd(&["doctor", "--json"]).json();
    for finding in doctor.as_array().unwrap() {
        assert!(finding["check"].is_string() && finding["verdict"] != "fail", "{finding}");
    }

    let table = node.rhd(&["peers"]).ok();
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("NAME") && lines[1].starts_with("shapes"), "{table}");
    assert_eq!(lines[0].find("ROLE"), lines[1].find("member"), "{table}");
}

#[test]
fn verbs_that_change_something_answer_in_json_too() {
    let (host, guest) = (Node::start("host"), Node::start("guest"));
    let invited = host.rhd(&["invite", "--json"]).json();
    let ticket = invited["ticket"].as_str().unwrap();
    let joined = guest.rhd(&["join", ticket, "--name", "renamed", "--json"]).json();
    assert_eq!((&joined["name"], &joined["founder"]), (&"renamed".into(), &false.into()));
    assert_eq!(joined["realm"], host.status().realm);

    let built = host.rhd(&["env", "build", "--name", "plain", "--var", "A=b", "--json"]).json();
    assert_eq!((&built["key"], &built["running"]), (&"plain".into(), &true.into()));
    assert_eq!(built["spec"]["env_vars"]["A"], "b");
    let listed = host.rhd(&["env", "ls", "--json"]).json();
    assert!(listed.as_array().unwrap().iter().any(|env| env["key"] == "plain"), "{listed}");

    let add = "import math, rhd as rh; rh.function(math.gcd, name='gcd').to('here')";
    host.rhd(&["python", "-c", add]).ok();
    let shown = host.rhd(&["show", "gcd", "--json"]).json();
    assert_eq!((&shown["node"], &shown["service"]["kind"]), (&"host".into(), &"function".into()));
    assert!(host.rhd(&["ls"]).ok().lines().any(|line| line.contains("/gcd  function")));
    assert_eq!(host.rhd(&["call", "gcd", "12", "18"]).ok(), "6\n");

    let removed = host.rhd(&["rm", "gcd"]);
    assert!(removed.stderr.contains("removed gcd"), "{removed:?}");
    assert_eq!(removed.ok(), "");
    assert_eq!(host.rhd(&["env", "rm", "plain"]).ok(), "");
    let left = host.rhd(&["env", "ls"]).ok();
    assert!(!left.contains("plain"), "{left}");
    assert_eq!(host.rhd(&["down"]).ok(), "");
    host.rhd(&["status", "--json"]).fails(3);
}

#[test]
fn a_node_that_only_serves_ends_with_4_when_it_would_deploy() {
    let (host, guest) = (Node::start("host"), Node::start("serves"));
    let ticket = host.rhd(&["invite", "--role", "node"]).ok();
    guest.join(ticket.trim());
    until("they are linked", || (guest.peers().len() == 2).then_some(()));
    let said = guest.rhd(&["env", "build", "--node", "host", "--name", "x"]).fails(4);
    assert!(said.contains("--role member"), "{said}");
    let said = guest.rhd(&["invite"]).fails(4);
    assert!(said.contains("hint: "), "{said}");
}

#[test]
fn what_is_not_there_ends_with_5() {
    let node = Node::start("empty");
    for args in [&["show", "nothing"][..], &["call", "nothing.at.all", "1"], &["rm", "nothing"]] {
        let said = node.rhd(args).fails(5);
        assert!(said.contains("nothing"), "{said}");
    }
    let said = node.rhd(&["env", "ls", "--node", "nobody"]).fails(5);
    assert!(said.contains("nobody") && said.contains("hint: "), "{said}");
}

#[test]
fn doctor_fails_where_nothing_can_work() {
    let setup = Node::prepare("sick");
    let home = setup.home().to_str().unwrap();
    let mut command = Command::new(binary());
    command.args(["--home", home, "doctor"]).env("PATH", "").env_remove("RHD_WORKERS_PYTHON");
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAIL  python") && said.contains("install Python"), "{said}");
}

#[test]
fn completions_exist_for_every_shell_and_name_every_verb() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = rhd(&["completions", shell], "").ok();
        let verbs =
            "up down status doctor demo invite join peers python call ls show rm env put get";
        for verb in verbs.split(' ').chain(["completions"]) {
            assert!(script.contains(verb), "{shell} lacks {verb}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut command = Command::new(binary());
    command.args(["completions", "zsh"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!((child.wait().unwrap().code(), said.as_str()), (Some(0), ""));
}

#[test]
fn python_imports_the_daemons_own_sdk_and_passes_its_exit_code_on() {
    let node = Node::start("py");
    let script = "import rhd, os, sys\n\
        print(os.environ['RHD_HOME'], sys.argv[1:])\n\
        sys.exit(7)";
    let ended = node.rhd(&["python", "-c", script, "--flag", "x"]);
    assert_eq!(ended.code, 7, "{ended:?}");
    assert_eq!(ended.stdout, format!("{} ['--flag', 'x']\n", node.home().display()));
}

#[test]
fn python_starts_a_daemon_where_none_runs_and_two_at_once_share_it() {
    let setup = Node::prepare("auto");
    let home = setup.home().to_str().unwrap();
    let python = |code: &str| {
        let mut command = command();
        command.args(["--home", home, "python", "-c", code]).env_remove("RHD_AUTOSTART");
        command.env("RHD_MESH_MDNS", "false").stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let both = [python("import rhd; print(1)"), python("import rhd; print(2)")];
    let both = both.map(|child| child.wait_with_output().unwrap());
    rhd(&["--home", home, "down"], "").ok();
    for output in both {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.as_ref()), (Some(0), ""));
    }
}
