//! A program on its way to a node.

use rhd_tests::Mesh;

use super::{PROGRAM, run};

#[test]
fn a_program_sends_itself_and_is_called() {
    let mesh = Mesh::of(2);
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
}
