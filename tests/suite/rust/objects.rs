//! Objects in the memory of a node, from Rust, shared with what Python runs there.

use std::fs;

use rhd_sdk::{Env, ErrorKind};
use rhd_tests::{Mesh, Node, until};
use serde_json::json;

const SOURCE: &str = r#"
import sys
import rhd as rh

def peek(key):
    return type(rh.here.get(key)).__name__, rh.here.get(key)

def keep(key, value):
    rh.here.put(key, value)

for env in (None, rh.env(name="own")):
    tail = "" if env is None else "-own"
    rh.function(peek, name="peek" + tail).to(sys.argv[1], env=env)
    rh.function(keep, name="keep" + tail).to(sys.argv[1], env=env)
rh.cluster(sys.argv[1]).put("sent by Python", {"a": (1, 2)})
"#;

fn deploy(from: &Node, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shared.py");
    fs::write(&file, SOURCE).unwrap();
    from.rhd(&["python", file.to_str().unwrap(), to]).ok();
}

/// Services of the node that nobody listed.
fn hidden(node: &Node) -> usize {
    let envs = node.rhd(&["env", "ls", "--json"]).json();
    let count = |env: &serde_json::Value| env["services"].as_u64().unwrap() as usize;
    envs.as_array().unwrap().iter().map(count).sum()
}

#[test]
fn objects_are_shared_with_the_code_of_the_env() {
    let mesh = Mesh::of(2);
    deploy(&mesh[0], "n1");
    let before = hidden(&mesh[1]);
    mesh[0]
        .ask(async |client| {
            let there = client.cluster("n1");
            let peek = client.function::<(&str,), (String, serde_json::Value)>("peek");
            there.put("list", &[1, 2, 3]).await?;
            assert_eq!(peek.call(("list",)).await?, ("list".into(), json!([1, 2, 3])));
            assert_eq!(there.get::<Vec<u8>>("list").await?, Some(vec![1, 2, 3]));
            assert_eq!(there.get::<String>("nothing").await?, None);
            let sent = there.get::<serde_json::Value>("sent by Python").await?;
            assert_eq!(sent, Some(json!({"a": [1, 2]})));
            client.function::<(&str, f64), ()>("keep").call(("kept", 0.5)).await?;
            assert_eq!(there.get::<f64>("kept").await?, Some(0.5));
            assert_eq!(there.keys().await?, ["sent by Python", "list", "kept"]);

            there.rename("list", "renamed").await?;
            let taken = there.rename("renamed", "kept").await.unwrap_err();
            assert_eq!(taken.kind, ErrorKind::Conflict, "{taken:?}");
            let missing = there.delete(&["kept", "nothing"]).await.unwrap_err();
            assert_eq!(missing.kind, ErrorKind::NotFound, "{missing:?}");
            there.delete(&["kept", "renamed"]).await?;
            assert_eq!(there.keys().await?, ["sent by Python"]);
            let wrong = there.get::<u8>("sent by Python").await.unwrap_err();
            assert_eq!(wrong.kind, ErrorKind::BadRequest, "{wrong:?}");
            let long = there.put(&"k".repeat(201), &1).await.unwrap_err();
            assert_eq!(long.kind, ErrorKind::BadRequest, "{long:?}");

            // Each env has its own.
            let own = there.objects(&Env::new().name("own"));
            own.put("list", "mine").await?;
            assert_eq!(own.keys().await?, ["list"]);
            let peek = client.function::<(&str,), (String, String)>("peek-own");
            assert_eq!(peek.call(("list",)).await?, ("str".into(), "mine".into()));
            there.clear().await?;
            assert!(there.keys().await?.is_empty());
            assert_eq!(own.get::<String>("list").await?.as_deref(), Some("mine"));
            own.close().await?;
            Ok(())
        })
        .unwrap();
    assert_eq!(hidden(&mesh[1]), before, "nothing is left of it but the objects");
    // A handle that nobody closed.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = runtime.block_on(rhd_sdk::Client::attach(mesh[0].home())).unwrap();
    let dropped = client.cluster("n1").objects(&Env::new());
    runtime.block_on(async move { dropped.put("last", &1).await }).unwrap();
    until("it is closed when it is dropped", || (hidden(&mesh[1]) == before).then_some(()));
}

#[test]
fn a_node_that_was_killed_is_asked_anew() {
    let mut node = Node::start("box");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let home = node.home().to_path_buf();
    let client = runtime.block_on(rhd_sdk::Client::attach(&home)).unwrap();
    let objects = client.here().objects(&Env::new());
    runtime.block_on(objects.put("a", &1)).unwrap();
    node.kill();
    node.restart();
    assert_eq!(
        runtime.block_on(objects.keys()),
        Ok(vec![]),
        "its memory is gone, the handle is not"
    );
    runtime.block_on(objects.put("b", &2)).unwrap();
    assert_eq!(runtime.block_on(objects.get::<u8>("b")), Ok(Some(2)));
}
