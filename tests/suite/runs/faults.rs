//! Callers, hosts, links, journals and disks that fail: the receipt tells the truth.

use rhd_protocol::api::{PathKind, Peer};

use super::*;

#[test]
fn a_run_outlives_the_node_of_its_caller() {
    let mut mesh = Mesh::of(3);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    let started = start(&mesh[0], "work", &json!([traces.text()]), "orphan").unwrap();
    traces.until_it_runs();
    mesh[0].kill();
    until("its loss is noticed", || {
        let lost = |peer: &Peer| peer.name == "n0" && peer.path == PathKind::None;
        mesh[1].peers().iter().any(lost).then_some(())
    });
    assert_eq!(info(&mesh[2], "orphan").unwrap().status, RunStatus::Running);
    traces.go();
    assert_eq!(result(&mesh[2], "orphan").unwrap(), json!("done"));
    assert_eq!(result(&mesh[1], &started.id.to_string()).unwrap(), json!("done"));
    assert_eq!(traces.ran(), 1);
}
