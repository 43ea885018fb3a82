//! Streams, presence, restarts.

use super::*;
use crate::mesh::endpoint::Arrival;

#[tokio::test]
async fn two_nodes_join_and_open_streams_both_ways() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    for node in [&a, &b] {
        node.serve_reverse();
    }
    assert_eq!(a.reversed(&b, b"hello").await, b"olleh");
    assert_eq!(b.reversed(&a, b"hello").await, b"olleh");
    let large: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    let mut expected = large.clone();
    expected.reverse();
    assert!(a.reversed(&b, &large).await == expected);
    assert!(a.mesh.is_founder() && !b.mesh.is_founder());
    assert_eq!(b.mesh.membership().realm(), a.mesh.membership().realm());
}

#[tokio::test]
async fn a_dropped_stream_ends_at_the_peer() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    let mut streams = b.mesh.accept("hold/1");
    let mut mine = soon(a.mesh.open(b.mesh.me(), "hold/1", Priority::Call)).await.unwrap();
    mine.send.write_all(b"x").await.unwrap();
    let mut theirs = soon(streams.recv()).await.unwrap();
    assert_eq!(theirs.peer, a.mesh.me());
    assert_eq!(soon(theirs.recv.read_u8()).await.unwrap(), b'x');
    drop(mine);
    assert_eq!(soon(theirs.recv.read(&mut [0])).await.unwrap(), 0);
    soon(async { while theirs.send.write_all(&[0; 1024]).await.is_ok() {} }).await;
}

#[tokio::test]
async fn a_protocol_that_nobody_takes_is_refused_at_once() {
    let (a, b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    let mut stream = soon(a.mesh.open(b.mesh.me(), "nobody/1", Priority::Call)).await.unwrap();
    assert!(soon(stream.recv.read(&mut [0])).await.is_err());
}

#[tokio::test]
async fn presence_reaches_a_node_that_was_never_met_by_ticket() {
    let (a, b, c) = (Node::start("a").await, Node::start("b").await, Node::start("c").await);
    a.mesh.announce(vec![ad("/ann/f")], 0);
    b.mesh.announce(vec![ad("/bob/g")], 3);
    a.admit(&b).await;
    a.admit(&c).await;
    // b and c know each other only through a, and link up by themselves.
    b.until_linked(&c).await;
    let hosts = |name: &'static str| {
        move |peer: Option<&PeerInfo>| {
            let record = peer.and_then(|p| p.record.as_ref());
            record.is_some_and(|r| r.services.iter().any(|s| s.name == name))
        }
    };
    c.until(b.mesh.me(), hosts("/bob/g")).await;
    c.until(a.mesh.me(), hosts("/ann/f")).await;
    b.mesh.announce(vec![ad("/bob/h")], 3);
    c.until(b.mesh.me(), hosts("/bob/h")).await;
    a.until(b.mesh.me(), hosts("/bob/h")).await;
}

#[tokio::test]
async fn a_restarted_peer_is_linked_again_and_says_so() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    let me = b.mesh.me();
    b.mesh.announce(vec![ad("/bob/old")], 0);
    a.until(me, |p| p.is_some_and(|p| p.record.as_ref().is_some_and(|r| !r.services.is_empty())))
        .await;
    // Gossip alone would be too slow for a good-bye: nobody waits for it.
    b.until(a.mesh.me(), |p| p.is_some_and(|p| p.gossips)).await;
    b.stop().await;
    // Its good-bye is heard at once, long before any timeout of the link.
    a.until(me, |p| p.is_some_and(|p| p.record.is_none() && p.path == Route::None)).await;
    b.restart().await;
    assert_eq!(b.mesh.me(), me);
    b.mesh.announce(vec![ad("/bob/new")], 0);
    a.until(me, |p| {
        p.is_some_and(|p| {
            p.path == Route::Direct
                && p.record.as_ref().is_some_and(|r| r.services == [ad("/bob/new")])
        })
    })
    .await;
    a.until_linked(&b).await;
    b.until_linked(&a).await;
    b.serve_reverse();
    assert_eq!(a.reversed(&b, b"again").await, b"niaga");
}

#[tokio::test]
async fn a_node_whose_founder_was_down_at_its_start_finds_it_later() {
    let (mut a, mut b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    a.stop().await;
    b.restart().await;
    a.restart().await;
    a.until_linked(&b).await;
    b.until_linked(&a).await;
}

#[tokio::test]
async fn a_new_life_of_a_peer_takes_the_place_of_its_dead_link() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    // As after a kill: nobody closes the connection, and the port is another one.
    let link = a.mesh.inner.links.get(b.mesh.me()).unwrap();
    let old = (b.mesh.clone(), b.tasks.take().unwrap());
    old.1.stop.cancel();
    std::fs::remove_file(b.home.path().join("mesh/port")).unwrap();
    b.restart().await;
    b.until_linked(&a).await;
    soon(link.connection.closed()).await;
    b.serve_reverse();
    a.until_linked(&b).await;
    assert_eq!(a.reversed(&b, b"ab").await, b"ba");
    drop(old);
}

/// Two nodes, the second of which dials the first once more: the link that the first had, the one
/// that it then uses, and what the second has of that.
async fn twice_linked() -> ([Node; 2], [Arc<Link>; 2], Arrival) {
    let mut nodes = [Node::start("a").await, Node::start("b").await];
    // What the lower one dials last is used in any case.
    nodes.sort_by_key(|node| std::cmp::Reverse(node.mesh.me()));
    let [a, b] = &nodes;
    a.admit(b).await;
    let before = a.mesh.inner.links.get(b.mesh.me()).unwrap();
    let (me, addr) = (a.mesh.me(), a.mesh.listen_addrs()[0]);
    let other = soon(b.mesh.inner.endpoint.dial(addr, tls::ALPN_DATA, Some(me))).await.unwrap();
    let used = a.link_to(b, |link| !Arc::ptr_eq(link, &before)).await;
    (nodes, [before, used], other)
}

#[tokio::test]
async fn a_connection_that_its_dialer_lets_go_leaves_the_one_before() {
    let ([a, b], [before, _], other) = twice_linked().await;
    a.serve_reverse();
    drop(other);
    a.link_to(&b, |link| Arc::ptr_eq(link, &before)).await;
    assert_eq!(b.reversed(&a, b"abc").await, b"cba");
}

#[tokio::test]
async fn a_peer_whose_connections_close_at_once_is_dialed_again() {
    let ([a, b], links, _other) = twice_linked().await;
    b.wall_off(&a);
    for link in &links {
        // The one that is not used is the first to be taken out.
        link.connection.close(0u32.into(), b"both at once");
    }
    a.link_to(&b, |link| !links.iter().any(|old| Arc::ptr_eq(link, old))).await;
    b.serve_reverse();
    assert_eq!(a.reversed(&b, b"abc").await, b"cba");
}
