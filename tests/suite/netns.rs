//! Nodes on networks of their own: who reaches whom is up to the cables, not to the test's word.

use std::fs;

use rhd_protocol::api::PathKind;
use rhd_tests::{Node, until};

mod network;
mod receipts;
use network::Network;

const SOURCE: &str = r#"
import sys
import rhd as rh

def add(a, b):
    return a + b

rh.function(add, name="add").to(sys.argv[1])
"#;

fn deploy(from: &Node, to: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("things.py");
    fs::write(&file, SOURCE).unwrap();
    from.rhd(&["python", file.to_str().unwrap(), to]).ok();
}

fn node(network: &Network, host: &str) -> Node {
    Node::prepare(host).within(&network.ns(host)).up()
}

/// Waits until `from` reaches the peer called `to` in this way.
fn until_path(from: &Node, to: &str, path: PathKind) {
    until(&format!("{} reaches {to}: {path:?}\n{}", from.name(), from.log()), || {
        from.peers().iter().any(|peer| peer.name == to && peer.path == path).then_some(())
    });
}

/// Two homes behind `relay`, which forwards nothing.
fn apart(network: &Network) {
    network.cable([("relay", "10.81.1.1/24"), ("left", "10.81.1.2/24")]);
    network.cable([("relay", "10.81.2.1/24"), ("right", "10.81.2.2/24")]);
    network.gateway("left", "10.81.1.1");
    network.gateway("right", "10.81.2.1");
    network.forward("relay", false);
}

#[test]
fn calls_go_through_a_peer_where_no_packet_gets_across() {
    let Some(network) = Network::of(&["relay", "left", "right"]) else { return };
    apart(&network);
    let mut relay = node(&network, "relay");
    let (left, right) = (node(&network, "left"), node(&network, "right"));
    let ticket = relay.invite(2);
    left.join(&ticket);
    right.join(&ticket);
    until_path(&left, "right", PathKind::Relayed);
    until_path(&right, "left", PathKind::Relayed);
    assert!(left.rhd(&["peers"]).ok().contains("relayed"));
    deploy(&left, "right");
    assert_eq!(left.rhd(&["call", "add", "2", "3"]).ok(), "5\n");

    relay.kill();
    let failed = left.rhd(&["call", "add", "2", "3"]);
    assert!(failed.code > 0 && failed.stdout.is_empty(), "{failed:#?}");
    assert!(failed.stderr.contains("right") && failed.stderr.contains("hint: "), "{failed:#?}");
    until_path(&left, "right", PathKind::None);
    relay.restart();
    until_path(&left, "right", PathKind::Relayed);
    assert_eq!(left.rhd(&["call", "add", "4", "5"]).ok(), "9\n");
}

#[test]
fn members_on_one_link_find_each_other_without_knowing_an_address() {
    let Some(network) = Network::of(&["left", "right"]) else { return };
    network.cable([("left", "10.82.0.1/24"), ("right", "10.82.0.2/24")]);
    let mut founder = Node::prepare("founder").within(&network.ns("left")).up();
    let ticket = founder.invite(2);
    let start = |host: &str| {
        let setup = Node::prepare(host).flags(&["--set", "mesh.mdns=true"]);
        setup.within(&network.ns(host)).up()
    };
    let mut nodes = [start("left"), start("right")];
    for node in &nodes {
        node.join(&ticket);
        until_path(node, "founder", PathKind::Direct);
    }
    founder.kill();
    for node in &mut nodes {
        node.terminate();
        fs::remove_file(node.home().join("mesh/peers")).unwrap();
    }
    for node in &mut nodes {
        node.restart();
    }
    until_path(&nodes[0], "right", PathKind::Direct);
    until_path(&nodes[1], "left", PathKind::Direct);
    assert!(nodes[0].peers().iter().all(|peer| peer.name != "founder"));
}

#[test]
fn two_homes_behind_routers_punch_a_hole() {
    let hosts = ["relay", "gate1", "gate2", "left", "right"];
    let Some(network) = Network::of(&hosts) else { return };
    network.cable([("relay", "203.0.113.1/25"), ("gate1", "203.0.113.2/25")]);
    network.cable([("relay", "203.0.113.129/25"), ("gate2", "203.0.113.130/25")]);
    network.forward("relay", true);
    // Both homes use the same addresses, as homes do.
    for (gate, home, public) in
        [("gate1", "left", "203.0.113.1"), ("gate2", "right", "203.0.113.129")]
    {
        network.cable([(gate, "192.168.1.1/24"), (home, "192.168.1.2/24")]);
        network.gateway(home, "192.168.1.1");
        network.gateway(gate, public);
        network.masquerade(gate, "relay");
    }
    let mut relay = node(&network, "relay");
    let (left, right) = (node(&network, "left"), node(&network, "right"));
    let ticket = relay.invite(2);
    left.join(&ticket);
    right.join(&ticket);
    until_path(&left, "right", PathKind::Direct);
    until_path(&right, "left", PathKind::Direct);
    // Not by way of the relay, then.
    relay.kill();
    until_path(&left, "relay", PathKind::None);
    deploy(&left, "right");
    assert_eq!(left.rhd(&["call", "add", "2", "3"]).ok(), "5\n");
}
