//! A store in memory, which answers as the real ones do.

use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::memory::InMemory;
use rhd_protocol::id::Hash;

use super::{About, Location, Object, PART, Store};

fn store(url: &str) -> Store {
    Store::new(Arc::new(InMemory::new()), url.parse::<Location>().unwrap())
}

async fn put(store: &Store, path: &str, bytes: &'static [u8]) {
    store.put(path, Bytes::from_static(bytes), None).await.unwrap();
}

fn paths(objects: &[Object]) -> Vec<&str> {
    objects.iter().map(|object| object.path.as_str()).collect()
}

#[tokio::test]
async fn what_is_below_a_name_is_in_it_and_nothing_else() {
    let store = store("s3://b/a");
    for path in ["z", "sub/x", "a b/%"] {
        put(&store, path, b"1").await;
    }
    let beside = Store::new(store.client.clone(), "s3://b/ab".parse().unwrap());
    put(&beside, "c", b"1").await;
    put(&beside, "", b"one object").await;
    assert_eq!(paths(&store.list().await.unwrap()), ["a b/%", "sub/x", "z"]);
    assert_eq!(paths(&beside.list().await.unwrap()), ["c"]);
    let names = store.names().await.unwrap();
    let names: Vec<_> = names.iter().map(|name| (name.name.as_str(), name.dir)).collect();
    assert_eq!(names, [("a b", true), ("sub", true), ("z", false)]);
    assert!(beside.look("").await.unwrap().is_some() && store.look("").await.unwrap().is_none());
    assert!(store.exists().await.unwrap());
    store.copy("z", "sub/y").await.unwrap();
    assert!(beside.copy_from(&store, "z", "z").await.unwrap());
    store.remove(vec!["z".into(), "sub/x".into(), "never".into()]).await.unwrap();
    assert_eq!(paths(&store.list().await.unwrap()), ["a b/%", "sub/y"]);
    assert!(store.find("z").await.unwrap_err().is_missing());
}

#[tokio::test]
async fn an_empty_object_with_the_name_of_a_folder_is_none() {
    let store = store("s3://b/a");
    put(&store, "d", b"").await;
    put(&store, "d/x", b"1").await;
    put(&store, "empty", b"").await;
    assert_eq!(paths(&store.list().await.unwrap()), ["d/x", "empty"]);
}

#[tokio::test]
async fn large_objects_are_seen_when_they_are_whole_and_read_in_parts() {
    let store = store("gs://b");
    let bytes: Vec<u8> = (0..3 * PART + 7).map(|n| (n % 251) as u8).collect();
    let about = About { hash: Hash::of(&bytes), exec: true };
    let mut upload = store.upload("x", bytes.len() as u64, Some(about)).await.unwrap();
    for some in bytes.chunks(1_000_000) {
        upload.write(some).await.unwrap();
    }
    assert!(store.list().await.unwrap().is_empty());
    upload.finish().await.unwrap();
    let (object, said) = store.find("x").await.unwrap();
    assert_eq!(said, Some(about));
    let parts: Vec<Bytes> = store.read(&object).try_collect().await.unwrap();
    assert_eq!((parts.len(), parts.concat()), (4, bytes.clone()));
    assert_eq!(store.range(&object, 5, 3).await.unwrap(), &bytes[5..8]);
    let end = object.size - 2;
    assert!(store.range(&object, end, 3).await.is_err(), "more than there is");
    drop(store.upload("y", 1, None).await.unwrap());
    assert_eq!(paths(&store.list().await.unwrap()), ["x"]);
}

#[tokio::test]
async fn what_is_another_object_now_is_not_read_as_the_one_that_was_listed() {
    let store = store("az://b");
    put(&store, "x", b"first").await;
    let (mut first, _) = store.find("x").await.unwrap();
    // The store in memory numbers what is written, and does not quote that.
    first.tag = format!("{:?}", first.tag);
    put(&store, "x", b"other").await;
    let error = store.range(&first, 0, 5).await.unwrap_err();
    assert!(error.is_change(), "{error}");
}
