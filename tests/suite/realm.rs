//! Joining a realm, and being kept out of one.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    time::{Duration, Instant},
};

use rhd_protocol::{api::PathKind, ticket::Ticket};
use rhd_tests::{Mesh, Node, until};

/// Exit codes that say no: wrong usage, denied, not found.
const REFUSED: [i32; 3] = [2, 4, 5];

#[track_caller]
fn refused(node: &Node, ticket: &str) {
    let before = node.status();
    let ended = node.rhd(&["join", ticket]);
    assert!(REFUSED.contains(&ended.code), "{ended:#?}");
    assert!(ended.stderr.contains("hint: "), "{ended:#?}");
    assert_eq!(before.realm, node.status().realm, "it left its own realm");
}

#[test]
fn three_nodes_join_by_ticket_and_see_each_other() {
    let mesh = Mesh::of(3);
    for i in 0..mesh.len() {
        let mut names: Vec<_> = mesh[i].peers().into_iter().map(|peer| peer.name).collect();
        names.sort();
        assert_eq!(names, ["n0", "n1", "n2"]);
        assert_eq!(mesh[i].status().realm, mesh[0].status().realm);
        assert_eq!(mesh[i].status().founder, i == 0);
    }
}

#[test]
fn the_ticket_stands_alone_on_stdout_and_can_come_from_stdin() {
    let (host, guest) = (Node::start("host"), Node::start("guest"));
    let invited = host.rhd(&["invite", "--role", "node", "--expires", "10m"]);
    assert_eq!(invited.stderr, "");
    let line = invited.ok();
    assert!(line.starts_with("rhd1") && line.lines().count() == 1, "{line:?}");
    let joined = guest.rhd_with(&["join", "-", "--name", "box"], &line);
    assert!(joined.stderr.contains("as box"), "{joined:?}");
    assert_eq!(joined.ok(), "");
    let me = guest.status();
    assert_eq!((me.name.as_str(), me.role.to_string().as_str()), ("box", "node"));
    until("the host sees the guest", || {
        host.peers().into_iter().find(|p| p.name == "box" && p.path == PathKind::Direct)
    });
}

#[test]
fn a_ticket_admits_as_many_as_it_says() {
    let host = Node::start("host");
    let (first, second) = (Node::start("a"), Node::start("b"));
    let ticket = host.invite(1);
    first.join(&ticket);
    refused(&second, &ticket);
    // Another one is what the hint asks for.
    second.join(&host.invite(1));
}

#[test]
fn a_ticket_ends_when_it_says() {
    let (host, guest) = (Node::start("host"), Node::start("late"));
    let ticket = host.rhd(&["invite", "--expires", "1s"]).ok();
    let made = Instant::now();
    // The host counts whole seconds.
    until("its second is over", || (made.elapsed() > Duration::from_secs(2)).then_some(()));
    refused(&guest, ticket.trim());
}

#[test]
fn a_ticket_that_was_changed_admits_nobody() {
    let (host, guest) = (Node::start("host"), Node::start("thief"));
    let text = host.invite(5);
    let ticket: Ticket = text.parse().unwrap();
    refused(&guest, &text[..text.len() - 2]);
    refused(&guest, &text.replacen("rhd1", "rhd1a", 1));
    let mut guessed = ticket.clone();
    guessed.secret = vec![0; guessed.secret.len()];
    refused(&guest, &guessed.to_string());
    // Nobody but the host can speak for its realm.
    let mut other = ticket.clone();
    other.realm = guest.status().realm.parse().unwrap();
    let ended = guest.rhd(&["join", &other.to_string()]);
    assert_ne!(ended.code, 0, "{ended:#?}");
    guest.join(&ticket.to_string());
}

#[test]
fn a_host_that_is_gone_is_named_and_nothing_hangs() {
    let (mut host, guest) = (Node::start("host"), Node::start("guest"));
    let ticket = host.invite(1);
    host.kill();
    let ended = guest.rhd(&["join", &ticket]);
    assert_eq!(ended.code, 6, "{ended:#?}");
    assert!(ended.stderr.contains("hint: "), "{ended:#?}");
}

#[test]
fn nodes_of_other_realms_stay_strangers() {
    let (a, b) = (Node::start("a"), Node::start("b"));
    let mesh = Mesh::of(2);
    assert_ne!(a.status().realm, b.status().realm);
    assert_eq!((a.peers().len(), b.peers().len(), mesh[0].peers().len()), (1, 1, 2));
}

#[test]
fn garbage_on_the_mesh_port_does_no_harm() {
    let mesh = Mesh::of(2);
    let listen = mesh[0].status().listen;
    let ports: Vec<u16> = listen.iter().filter_map(|addr| port(addr)).collect();
    assert!(!ports.is_empty(), "{listen:?}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for i in 0..500u16 {
        let garbage: Vec<u8> = (0..i * 2).map(|j| (i.wrapping_mul(31) ^ j) as u8).collect();
        for port in &ports {
            socket.send_to(&garbage, ("127.0.0.1", *port)).unwrap();
        }
    }
    assert_eq!(mesh[0].status().pid, mesh[0].pid());
    mesh.until_linked();
}

#[test]
fn a_node_that_was_killed_is_missed_and_comes_back() {
    let mut mesh = Mesh::of(3);
    mesh[1].kill();
    for i in [0, 2] {
        until("it is missed", || {
            let peers = mesh[i].peers();
            let linked = peers.iter().any(|p| p.name == "n1" && p.path != PathKind::None);
            (!linked).then_some(())
        });
    }
    mesh[1].restart();
    mesh.until_linked();
}

#[test]
fn nodes_that_both_moved_find_each_other_on_the_local_network() {
    if !multicast_works() {
        // Without it there is nothing to find them by.
        return;
    }
    let start = |name| Node::prepare(name).flags(&["--set", "mesh.mdns=true"]).up();
    let (mut a, mut b) = (start("a"), start("b"));
    b.join(&a.invite(1));
    let linked = |node: &Node| {
        until("they are linked", || {
            node.peers().iter().any(|peer| peer.path == PathKind::Direct).then_some(())
        });
    };
    linked(&a);
    let listen = [a.status().listen, b.status().listen].concat();
    a.kill();
    b.kill();
    // Whatever they remember of each other leads nowhere now.
    let mut ports: Vec<u16> = listen.iter().filter_map(|addr| port(addr)).collect();
    ports.sort_unstable();
    ports.dedup();
    let taken: Vec<_> = ports
        .iter()
        .flat_map(|port| [UdpSocket::bind(("::", *port)), UdpSocket::bind(("0.0.0.0", *port))])
        .flatten()
        .collect();
    assert!(taken.len() >= 2, "{ports:?}");
    a.restart();
    b.restart();
    let moved = [a.status().listen, b.status().listen].concat();
    assert!(moved.iter().filter_map(|addr| port(addr)).all(|port| !ports.contains(&port)));
    linked(&a);
    linked(&b);
}

/// Whether a datagram to the group of mDNS comes back to this machine.
fn multicast_works() -> bool {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let send = || -> io::Result<usize> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send_to(b"x", (group, socket.local_addr()?.port()))?;
        socket.recv(&mut [0])
    };
    send().is_ok()
}

/// The port in `192.0.2.1:4242`, `[::1]:4242` or `/ip4/192.0.2.1/udp/4242/quic-v1`.
fn port(addr: &str) -> Option<u16> {
    match addr.split_once("/udp/") {
        Some((_, rest)) => rest.split('/').next()?.parse().ok(),
        None => addr.rsplit(':').next()?.parse().ok(),
    }
}
