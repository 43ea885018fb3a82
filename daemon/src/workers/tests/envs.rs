//! Building envs and finding them again.

use std::time::Duration;

use rhd_protocol::error::ErrorKind;
use serde_json::json;

use super::*;

const LONG: Duration = Duration::from_secs(120);

fn named(name: &str) -> EnvSpec {
    EnvSpec { name: name.into(), ..EnvSpec::default() }
}

/// A build without packages from anywhere: a setup command only.
fn with_setup(name: &str, command: &str) -> EnvSpec {
    EnvSpec { setup_cmds: vec![command.into()], ..named(name) }
}

#[tokio::test]
async fn a_package_that_does_not_exist_fails_in_the_words_of_its_installer() {
    let room = Room::new().await;
    // No index at all, so that nobody is asked.
    let reqs = vec!["--no-index".into(), "no-such-package-of-rhd==1.0".into()];
    let spec = EnvSpec { reqs, ..named("bad") };
    let (built, lines) = tokio::time::timeout(LONG, room.ensure(&spec)).await.unwrap();
    let error = built.unwrap_err();
    assert_eq!(error.kind, ErrorKind::EnvError);
    assert!(error.message.contains("no-such-package-of-rhd==1.0"), "{}", error.message);
    assert!(error.message.contains("No matching distribution"), "{}", error.message);
    assert!(!error.hint.is_empty());
    assert!(lines.iter().any(|line| line.starts_with("installing")), "{lines:?}");
    let left = std::fs::read_dir(room.path("envs")).unwrap().count();
    assert_eq!(left, 0, "nothing half-built is left");
}

#[tokio::test]
async fn requests_for_one_env_share_one_build_and_later_ones_find_it() {
    let room = Room::new().await;
    let log = room.path("builds");
    let command = format!("echo built >> {}", log.display());
    let (a, b) = (with_setup("a", &command), with_setup("b", &command));
    let both = futures::future::join(room.ensure(&a), room.ensure(&b));
    let ((a_info, a_lines), (b_info, b_lines)) = tokio::time::timeout(LONG, both).await.unwrap();
    assert_eq!(a_info.unwrap().dir, b_info.as_ref().unwrap().dir);
    assert!(a_lines.contains(&command) && b_lines.contains(&command), "{a_lines:?} {b_lines:?}");
    room.ensure(&with_setup("c", &command)).await.0.unwrap();
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "built\n");
    // One build, three names: it goes with the last of them.
    let dir = PathBuf::from(b_info.unwrap().dir);
    for (name, there) in [("a", true), ("b", true), ("c", false)] {
        room.workers.remove(name).await.unwrap();
        assert_eq!(dir.exists(), there, "{name}");
    }
    assert_eq!(room.workers.remove("a").await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_setup_command_that_fails_leaves_nothing() {
    let room = Room::new().await;
    let (built, _) = room.ensure(&with_setup("x", "echo so sad >&2; exit 3")).await;
    let error = built.unwrap_err();
    assert!(error.message.contains("so sad"), "{}", error.message);
    assert_eq!(std::fs::read_dir(room.path("envs")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_known_env_starts_on_demand_after_a_restart_without_asking_its_interpreter() {
    let mut room = Room::new().await;
    let mut spec = with_setup("mine", "true");
    spec.env_vars.insert("COLOUR".into(), "blue".into());
    let before = room.ensure(&spec).await.0.unwrap();
    room.shutdown(0).await;
    let half_built = room.path("envs").join("a".repeat(20));
    std::fs::create_dir_all(&half_built).unwrap();
    let (workers, tasks) =
        Workers::start(room.home.path(), "here", Config::default()).await.unwrap();
    (room.workers, room.tasks) = (workers, Some(tasks));
    assert!(!half_built.exists(), "what was left unfinished is removed");
    let minor = room.workers.python_minor("mine").unwrap();
    assert!(before.python.starts_with(&minor));
    let unit = room.code("import os\ndef f():\n    return os.environ['COLOUR']\n", "f");
    let inv = room.invocation(&unit, json!([]));
    let stream = room.workers.call("mine", inv).await.unwrap();
    assert_eq!(rest(stream).await.value(), "blue");
}

#[tokio::test]
async fn a_changed_env_gets_a_new_process_and_running_calls_end_in_the_old_one() {
    let room = Room::new().await;
    let mut spec = named("mine");
    room.ensure(&spec).await.0.unwrap();
    let source = "import os, time\ndef f(path):\n    print('begun')\n    while path and not os.path.exists(path):\n        time.sleep(0.01)\n    return os.environ.get('COLOUR')\n";
    let unit = room.code(source, "f");
    let gate = room.path("gate");
    let inv = room.invocation(&unit, json!([gate]));
    let mut old = room.workers.call("mine", inv).await.unwrap();
    old.next().await.unwrap();
    spec.env_vars.insert("COLOUR".into(), "blue".into());
    room.ensure(&spec).await.0.unwrap();
    let inv = room.invocation(&unit, json!([null]));
    let gone = room.invocation(&unit, json!([null]));
    let gone = Invocation { incarnation: Some(old.incarnation), ..gone };
    let new = room.workers.call("mine", inv).await.unwrap();
    assert_eq!(room.workers.call("mine", gone).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(rest(new).await.value(), "blue");
    std::fs::write(&gate, "").unwrap();
    assert_eq!(rest(old).await.value(), Value::Null);
}

#[tokio::test]
async fn a_python_that_is_not_there_is_named() {
    let room =
        Room::with(Config { python: Some("/no/such/python".into()), ..Config::default() }).await;
    let error = room.ensure(&EnvSpec::base()).await.0.unwrap_err();
    assert_eq!(error.kind, ErrorKind::EnvError);
    assert!(error.message.contains("/no/such/python") && error.hint.contains("3.10"), "{error:?}");
    let room = Room::new().await;
    let spec = EnvSpec { python: Some("3.99".into()), ..EnvSpec::default() };
    let error = room.ensure(&spec).await.0.unwrap_err();
    assert!(error.message.contains("no Python 3.99"), "{error:?}");
    let spec = EnvSpec { conda_env: Some("/no/such/env".into()), ..EnvSpec::default() };
    let error = room.ensure(&spec).await.0.unwrap_err();
    assert!(error.message.contains("/no/such/env"), "{error:?}");
}

#[tokio::test]
async fn the_sdk_can_be_imported_from_the_path_that_is_given_out() {
    let room = Room::new().await;
    let path = room.workers.python_path().await.unwrap();
    let output = tokio::process::Command::new(path.python)
        .args(["-c", "import rhd.frames; print(rhd.frames.VERSION)"])
        .env("PYTHONPATH", path.path.join(":"))
        .output()
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1");
}
