//! A cable pulled out in the middle of a call, and put back.

use rhd_protocol::{api::PathKind, run::RunStatus};
use rhd_sdk::ErrorKind;
use serde_json::json;

use super::{Network, node, until_path};
use crate::runs::{Traces, deploy, info, result, start};

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
