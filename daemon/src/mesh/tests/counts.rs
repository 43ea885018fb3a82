//! Nodes that have lost the count of their starts.

use super::*;

/// Whether `who` hears what `of` says now.
async fn hears(who: &Node, of: &Node, service: &str) {
    of.mesh.announce(vec![ad(service)], 0);
    who.until(of.mesh.me(), |p| {
        p.and_then(|p| p.record.as_ref()).is_some_and(|r| r.services == [ad(service)])
    })
    .await;
}

#[tokio::test]
async fn a_node_is_heard_though_its_count_of_starts_is_lost_or_set_back() {
    let (a, mut b) = (Node::start("a").await, Node::start("b").await);
    a.admit(&b).await;
    hears(&a, &b, "/bob/before").await;
    let boots = b.home.path().join("mesh/boots");
    // The good-bye stays with its peer, and must not silence the next life.
    b.stop().await;
    std::fs::remove_file(&boots).unwrap();
    b.restart().await;
    hears(&a, &b, "/bob/lost").await;
    b.stop().await;
    std::fs::write(&boots, "1").unwrap();
    b.restart().await;
    hears(&a, &b, "/bob/back").await;
    b.stop().await;
    std::fs::write(&boots, [0xff; 9]).unwrap();
    b.restart().await;
    hears(&a, &b, "/bob/garbled").await;
}
