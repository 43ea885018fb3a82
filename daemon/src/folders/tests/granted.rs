//! Who may do what.

use rhd_protocol::folder::Wanted;

use super::*;

#[tokio::test]
async fn a_node_that_only_serves_reads_what_it_was_granted() {
    // `other` joins to serve; `one` is a member.
    let [one, other] = Node::pair(Role::Node).await;
    one.serve();
    one.write("x", &[("a", b"1")]);
    one.write("y", &[("b", b"2")]);
    let ask = |path: &str, grant: Option<&str>| {
        let (path, grant) = (one.at(path).display().to_string(), grant.map(str::to_owned));
        FolderAsk::Scan { of: Place { node: None, path, grant }, keep: false }
    };
    let scan = async |ask: &FolderAsk| {
        let (out, _items) = tokio::sync::mpsc::channel(64);
        soon(other.folders.inner.peers.forward(one.id(), ask, &out)).await
    };
    let denied = |answer: Result<Vec<u8>, ErrorInfo>| {
        assert_eq!(answer.unwrap_err().kind, ErrorKind::PermissionDenied);
    };
    denied(scan(&ask("x", None)).await);
    denied(scan(&ask("x", Some("guess"))).await);
    let grant = one.folders.inner.grants.give(one.at("x"), other.id());
    scan(&ask("x", Some(&grant))).await.unwrap();
    denied(scan(&ask("y", Some(&grant))).await);
    denied(scan(&ask("x/../y", Some(&grant))).await.map_err(|mut error| {
        // Refused for the dots, before anybody asks who may.
        assert_eq!(error.kind, ErrorKind::BadRequest);
        error.kind = ErrorKind::PermissionDenied;
        error
    }));
    // Nor does a path in it lead out.
    let of =
        Place { node: None, path: one.at("x").display().to_string(), grant: Some(grant.clone()) };
    let source = Source::new(&other.folders, one.id(), of.clone());
    let want = |path: &str| Wanted { path: path.into(), size: 1, index: 0 };
    let mut pieces = source.read(vec![want("a"), want("../y/b"), want("/etc/hostname")]);
    let (parts, bytes) = soon(pieces.next()).await.unwrap().unwrap();
    assert_eq!((parts, bytes.as_ref()), (vec![1, 0, 0], &b"1"[..]));
    let (file, size) = ("../y/b".to_owned(), 2 << 20);
    assert!(scan(&FolderAsk::Pieces { of, file, size }).await.is_err());
    let stranger = one.folders.inner.grants.give(one.at("y"), one.id());
    denied(scan(&ask("y", Some(&stranger))).await);
    // It changes nothing, whatever it shows.
    for ask in [
        FolderAsk::Remove { path: one.at("x").display().to_string(), contents: None },
        FolderAsk::List { path: "/".into() },
        FolderAsk::Make { path: one.at("new").display().to_string() },
        FolderAsk::Grant { path: "/".into(), to: other.id() },
    ] {
        denied(scan(&ask).await);
    }
    assert_eq!(one.read("x").len(), 1);
}

#[tokio::test]
async fn a_member_brings_its_folder_to_a_node_that_only_serves() {
    let [one, other] = Node::pair(Role::Node).await;
    one.serve();
    other.serve();
    one.write("x", &[("a", b"1")]);
    let from = Place { node: None, path: one.at("x").display().to_string(), grant: None };
    let to = Some(other.at("x").display().to_string());
    let ask = FolderAsk::Copy { from, node: Some(other.id().to_string()), to };
    let (out, _items) = tokio::sync::mpsc::channel(64);
    soon(one.folders.request(None, ask, &out)).await.unwrap();
    assert_eq!(other.read("x"), one.read("x"));
}
