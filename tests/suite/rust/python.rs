//! Python and Rust call each other.

use std::fs;

use rhd_tests::{Mesh, Node};

use super::{PROGRAM, run};

const SOURCE: &str = r#"
import asyncio, sys
import rhd as rh

def triple(x):
    return 3 * x

def through(x):
    return rh.load("square")(x) + 1

node = sys.argv[1]
rh.function(triple, name="triple").to(node)
remote = rh.function(through, name="through").to(node)

square = rh.load("square")
assert square(7) == 49 and square(x=8) == 64, "by position and by name"
assert square.options(timeout=30)(9) == 81
assert rh.load("bytes")(b"\x00\xff") == b"\x00\xff"
assert rh.load("mirror")({"x": 1, "y": 2.5, "tags": ("a", "b")}) == {
    "times 1": {"x": -1.0, "y": -2.5, "tags": ["b", "a"]}
}
assert list(rh.load("letters")("abc")) == ["a", "b", "c"]
assert list(square.map(range(20))) == [n * n for n in range(20)]

async def main():
    assert await rh.load("later")(1, "soon") == "soon"
    return [n async for n in rh.load("ticks")(5, sys.argv[2])]

assert asyncio.run(main()) == [0, 1, 2, 3, 4]
try:
    rh.load("parse-it")("x")
except rh.RemoteError as error:
    assert "invalid digit" in str(error), error
else:
    raise SystemExit("no error")
try:
    square(1, 2)
except rh.RhdError as error:
    assert error.kind == "bad_request" and "2 were given" in str(error), error
try:
    square.options(codec="pickle")(1)
except rh.RhdError as error:
    assert "no pickle" in str(error) and "msgpack" in error.hint, error
else:
    raise SystemExit("no error")
try:
    rh.function(triple).to(node, env=sys.argv[3])
except rh.RhdError as error:
    assert "compiled program" in str(error), error
else:
    raise SystemExit("no error")
assert remote(6) == 37, "Rust, called by Python on the node"
print("fine")
"#;

fn python(node: &Node, to: &str, env: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (file, note) = (folder.path().join("both.py"), folder.path().join("note"));
    fs::write(&file, SOURCE).unwrap();
    let (file, note) = (file.to_str().unwrap(), note.to_str().unwrap());
    assert_eq!(node.rhd(&["python", file, to, note, env]).ok(), "fine\n");
}

#[test]
fn both_call_each_other_here_and_over_the_mesh() {
    let mesh = Mesh::of(2);
    run(PROGRAM, &mesh[0], &["n1", "app"]).ok();
    python(&mesh[0], "n1", "app");
    mesh[0]
        .ask(async |client| {
            assert_eq!(client.function::<(i64,), i64>("triple").call((5,)).await, Ok(15));
            for relay in ["relay", "relay_plainly"] {
                let relay = client.function::<(String, i64), i64>(relay);
                assert_eq!(relay.call(("triple".into(), 5)).await, Ok(15));
            }
            Ok(())
        })
        .unwrap();
}
