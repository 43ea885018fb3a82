//! The control plane, and data where no direct path exists.

use rhd_protocol::presence::{MAX_RECORD, Signed};

use super::*;

#[tokio::test]
async fn streams_go_through_a_common_peer_where_no_direct_path_exists() {
    let (a, b, c) = (Node::start("a").await, Node::start("b").await, Node::start("c").await);
    b.wall_off(&c);
    c.wall_off(&b);
    a.admit(&b).await;
    a.admit(&c).await;
    for (node, peer) in [(&b, &c), (&c, &b)] {
        node.until(peer.mesh.me(), |p| p.is_some_and(|p| p.path == Route::Relayed)).await;
    }
    c.serve_reverse();
    assert_eq!(b.reversed(&c, b"around the corner").await, b"renroc eht dnuora");
    let large = vec![7; 1_000_000];
    assert!(b.reversed(&c, &large).await == large);
    let mut streams = c.mesh.accept("hold/1");
    let mut mine = soon(b.mesh.open(c.mesh.me(), "hold/1", Priority::Call)).await.unwrap();
    assert!(mine.is_relayed());
    mine.send.write_all(b"x").await.unwrap();
    mine.send.flush().await.unwrap();
    let mut theirs = soon(streams.recv()).await.unwrap();
    assert_eq!(theirs.peer, b.mesh.me());
    assert_eq!(soon(theirs.recv.read_u8()).await.unwrap(), b'x');
    drop(mine);
    assert!(matches!(soon(theirs.recv.read(&mut [0])).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn members_gossip_on_the_control_plane() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    for (node, peer) in [(&a, &b), (&b, &a)] {
        node.until(peer.mesh.me(), |p| p.is_some_and(|p| p.gossips)).await;
    }
    // Told by gossip alone now, as everybody hears it.
    b.mesh.announce(vec![ad("/bob/g")], 0);
    a.until(b.mesh.me(), |p| {
        p.and_then(|p| p.record.as_ref()).is_some_and(|r| r.services == [ad("/bob/g")])
    })
    .await;
}

#[tokio::test]
async fn more_services_than_a_record_carries_do_not_silence_the_node() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    let long = "s".repeat(250);
    let services: Vec<ServiceAd> = (0..400).map(|n| ad(&format!("/bob/{long}{n}"))).collect();
    b.mesh.announce(services.clone(), 1);
    a.until(b.mesh.me(), |p| {
        let record = p.and_then(|p| p.record.as_ref());
        record.is_some_and(|r| r.services.len() > 100 && services.starts_with(&r.services))
    })
    .await;
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_and_the_link_lives() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    let mut stream = soon(b.mesh.open(a.mesh.me(), wire::PRESENCE, Priority::Sync)).await.unwrap();
    let signed = Signed { record: vec![0; MAX_RECORD + 1], sig: vec![0; 64], age_ms: 0 };
    crate::framed::send(&mut stream.send, &signed, bytes::Bytes::new()).await.unwrap();
    stream.send.shutdown().await.unwrap();
    let mut stream = soon(b.mesh.open(a.mesh.me(), wire::PRESENCE, Priority::Sync)).await.unwrap();
    stream.send.write_all(&[0xff; 4096]).await.unwrap();
    assert!(matches!(soon(stream.recv.read(&mut [0])).await, Ok(0) | Err(_)));
    a.serve_reverse();
    assert_eq!(b.reversed(&a, b"ok").await, b"ko");
}
