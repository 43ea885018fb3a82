//! Files of the store that somebody, or a dying disk, changed.

use std::{fs::File, os::unix::fs::FileExt as _};

use super::*;

fn truncate(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(100_000).unwrap();
}

fn flip(path: &Path) {
    File::options().write(true).open(path).unwrap().write_all_at(b"!!", 200_000).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_removed_and_mended_by_a_peer() {
    for hurt in [truncate, flip, |path: &Path| std::fs::remove_file(path).unwrap()] {
        let nodes = Node::linked(&["a", "b"]).await;
        let bytes = noise(1 << 20, 1);
        let content = nodes[0].put(&bytes).await;
        nodes[1].put(&bytes).await;
        // Opened files show nothing of a file that was removed: start anew.
        let mut nodes = nodes.into_iter();
        let (first, second) = (nodes.next().unwrap(), nodes.next().unwrap());
        let shelf = &first.data.shelf;
        hurt(&first.file(content.hash));
        shelf.store.content().wait_idle().await.unwrap();

        // Never handed out as if it were right.
        let handed = first.read(&content).await;
        assert!(handed.as_ref().map_or(true, |handed| *handed == bytes), "wrong bytes came");
        let (out, _told) = tokio::sync::mpsc::channel(100);
        let found = soon(verify::all(shelf, &out)).await.unwrap();
        if handed.is_err() {
            let damaged: Vec<Hash> = found.damaged.iter().map(|one| one.hash).collect();
            assert_eq!(damaged, [content.hash]);
            assert_eq!(shelf.store.whole(content.hash).await.unwrap(), None);
        }
        drop(first.fetch(&content).await.unwrap());
        assert_eq!(first.read(&content).await.unwrap(), bytes);
        first.stop().await;
        second.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_with_damage_is_passed_over() {
    let nodes = Node::linked(&["a", "b", "c"]).await;
    let bytes = noise(1 << 20, 2);
    let content = nodes[1].put(&bytes).await;
    nodes[2].put(&bytes).await;
    flip(&nodes[1].file(content.hash));
    drop(nodes[0].fetch(&content).await.unwrap());
    assert_eq!(nodes[0].read(&content).await.unwrap(), bytes);
}
