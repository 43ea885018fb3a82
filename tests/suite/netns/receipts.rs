//! A cable pulled out in the middle of a call, and put back.

use rhd_protocol::{
    api::{PathKind, Request},
    run::RunStatus,
};
use rhd_sdk::ErrorKind;
use rhd_tests::{Node, until};
use serde_json::json;

use super::{Network, node, until_path};
use crate::runs::{Traces, call, deploy, info, phases::Placed, rest, result, start};

#[test]
fn a_link_that_is_cut_and_healed_costs_no_run() {
    let Some(network) = Network::of(&["left", "right"]) else { return };
    network.cable([("left", "10.84.0.1/24"), ("right", "10.84.0.2/24")]);
    let (left, right) = (node(&network, "left"), node(&network, "right"));
    right.join(&left.invite(1));
    until_path(&left, "right", PathKind::Direct);
    deploy(&left, "right");
    let traces = Traces::new();
    let run = start(&left, "work", &json!([traces.text()]), "cut").unwrap().id.to_string();
    traces.until_it_runs();
    network.run("left", &["ip", "link", "set", "to-right", "down"]);
    until_path(&left, "right", PathKind::None);
    let unsure = info(&left, &run).unwrap_err();
    assert_eq!((unsure.kind, unsure.node.as_str()), (ErrorKind::PeerLost, "right"), "{unsure:?}");
    assert_eq!(info(&right, &run).unwrap().status, RunStatus::Running);
    network.run("left", &["ip", "link", "set", "to-right", "up"]);
    until_path(&left, "right", PathKind::Direct);
    assert_eq!(info(&left, &run).unwrap().status, RunStatus::Running);
    traces.go();
    assert_eq!(result(&left, &run).unwrap(), json!("done"));
    assert_eq!(traces.ran(), 1);
}

#[test]
fn a_link_that_is_cut_at_any_phase_costs_no_call() {
    let Some(network) = Network::of(&["left", "right"]) else { return };
    network.cable([("left", "10.85.0.1/24"), ("right", "10.85.0.2/24")]);
    let start = |host: &str| {
        let setup = Node::prepare(host).flags(&["--set", "workers.lanes=1"]);
        setup.within(&network.ns(host)).up()
    };
    let (left, right) = (start("left"), start("right"));
    right.join(&left.invite(1));
    until_path(&left, "right", PathKind::Direct);
    deploy(&left, "right");
    let mut ended = Placed::by(&left, &right, &[]);
    ended.traces.go();
    assert!(ended.client.wait().unwrap().success());
    let mut running = Placed::by(&left, &right, &[]);
    running.traces.until_it_runs();
    let mut queued = Placed::by(&left, &right, &[&running.id]);
    until("it waits for the lane", || (right.status().calls == 2).then_some(()));
    network.run("left", &["ip", "link", "set", "to-right", "down"]);
    // Both end while their caller can't hear of it; one more is made that can't get there.
    for placed in [&running, &queued] {
        placed.traces.until_it_runs();
        placed.traces.go();
        until("it ends", || {
            (info(&right, &placed.id).unwrap().status == RunStatus::Completed).then_some(())
        });
    }
    until_path(&left, "right", PathKind::None);
    let unsent = Traces::new();
    unsent.go();
    let (made, body) = call("work", &json!([unsent.text()]));
    let unsent_id = made.id.to_string();
    let lost = left.ask(async |client| {
        rest(client.request(&Request::Call { call: made }, &body).await?).await
    });
    assert_eq!(lost.unwrap_err().kind, ErrorKind::PeerLost);
    for placed in [&mut running, &mut queued] {
        assert_eq!(placed.client.wait().unwrap().code(), Some(6));
    }
    network.run("left", &["ip", "link", "set", "to-right", "up"]);
    until_path(&left, "right", PathKind::Direct);
    for placed in [&ended, &running, &queued] {
        assert_eq!(info(&left, &placed.id).unwrap().status, RunStatus::Completed);
        assert_eq!(result(&left, &placed.id).unwrap(), json!("done"));
        assert_eq!(placed.traces.ran(), 1);
    }
    assert_eq!(info(&left, &unsent_id).unwrap().status, RunStatus::NotStarted);
    assert_eq!(unsent.ran(), 0);
}
