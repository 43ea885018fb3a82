//! Tickets, good and bad.

use super::*;

async fn refused(node: &Node, ticket: &str) -> ErrorInfo {
    let error = soon(node.mesh.join(ticket, None)).await.unwrap_err();
    assert!(!error.hint.is_empty(), "{error:?}");
    error
}

#[tokio::test]
async fn what_is_no_ticket_is_refused_before_anything_is_sent() {
    let b = Node::start("b").await;
    assert_eq!(refused(&b, "hello").await.kind, ErrorKind::BadRequest);
    let a = Node::start("a").await;
    let ticket = a.ticket(1).await;
    let garbled = refused(&b, &ticket[..ticket.len() - 1]).await;
    assert_eq!(garbled.kind, ErrorKind::BadRequest);
    assert!(garbled.message.contains("garbled"));
}

#[tokio::test]
async fn reused_unknown_and_expired_tickets_each_say_so() {
    let (a, b, c) = (Node::start("a").await, Node::start("b").await, Node::start("c").await);
    let ticket = a.ticket(1).await;
    soon(b.mesh.join(&ticket, Some("a".into()))).await.unwrap();
    assert_eq!(b.mesh.name(), "a-2");
    let used = refused(&c, &ticket).await;
    assert_eq!(used.kind, ErrorKind::PermissionDenied);
    assert!(used.message.contains("used up"), "{used}");
    assert_eq!(used.node, "a");
    let mut wrong: Ticket = ticket.parse().unwrap();
    wrong.secret[0] ^= 1;
    let unknown = refused(&c, &wrong.to_string()).await;
    assert!(unknown.message.contains("not known"), "{unknown}");
    let expired = a.mesh.invite(Role::Node, 1, Duration::ZERO).await.unwrap();
    // Whole seconds count.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let expired = refused(&c, &expired.to_string()).await;
    assert!(expired.message.contains("expired"), "{expired}");
    assert!(c.mesh.is_founder(), "a refused node stays what it was");
}

#[tokio::test]
async fn a_ticket_survives_the_restart_of_its_host() {
    let (mut a, b) = (Node::start("a").await, Node::start("b").await);
    let ticket = a.ticket(1).await;
    a.restart().await;
    soon(b.mesh.join(&ticket, None)).await.unwrap();
    a.until_linked(&b).await;
}

#[tokio::test]
async fn an_unreachable_host_is_named_by_its_addresses() {
    let (mut a, b) = (Node::start("a").await, Node::start("b").await);
    let mut ticket: Ticket = a.ticket(1).await.parse().unwrap();
    a.stop().await;
    let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    ticket.addrs = vec![closed.local_addr().unwrap().to_string()];
    let error = refused(&b, &ticket.to_string()).await;
    assert_eq!(error.kind, ErrorKind::PeerLost);
    assert!(error.message.contains(&ticket.addrs[0]), "{error}");
}

#[tokio::test]
async fn the_secret_is_not_told_to_another_node_at_the_hosts_address() {
    let (a, b, thief) = (Node::start("a").await, Node::start("b").await, Node::start("t").await);
    let mut ticket: Ticket = a.ticket(1).await.parse().unwrap();
    ticket.addrs = thief.mesh.listen_addrs().iter().map(|a| a.to_string()).collect();
    let error = refused(&b, &ticket.to_string()).await;
    assert_eq!(error.kind, ErrorKind::PeerLost, "{error}");
}

#[tokio::test]
async fn a_node_with_other_members_stays_in_its_realm() {
    let (a, b, c) = (Node::start("a").await, Node::start("b").await, Node::start("c").await);
    a.admit(&b).await;
    let ticket = c.ticket(2).await;
    for node in [&a, &b] {
        let error = refused(node, &ticket).await;
        assert_eq!(error.kind, ErrorKind::Conflict);
        assert!(error.hint.contains("--home"));
    }
    assert_eq!(refused(&c, &ticket).await.kind, ErrorKind::Conflict);
    let error = b.mesh.invite(Role::Node, 1, Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::PermissionDenied);
    assert!(error.message.contains("only a can invite"), "{error}");
}
