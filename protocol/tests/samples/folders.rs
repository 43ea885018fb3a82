//! Folders, and what is asked about them.

use rhd_protocol::{
    api::Request,
    folder::{Entry, FolderAsk, Listed, Pieces, Place, Scanned, Skipped, Synced, Wanted},
    id::NodeId,
};

use super::{Sample, values::*};

/// Folders: what is asked, and what is answered.
pub(super) fn folders() -> Vec<Sample> {
    let ask = |name, ask| {
        Sample::new("request", name, Request::Folder { v: 1, node: Some(text("gpu")), ask })
    };
    let place = |path| Place { node: Some(text("gpu")), path: text(path), grant: None };
    let (of, path) = (Place { grant: Some(text("g")), ..place("/data") }, text("/data"));
    let file =
        Entry { path: text("a/b"), size: 9, hash: hash(7), exec: true, link: None, dir: false };
    let link = Entry { size: 0, exec: false, link: Some(text("b")), ..file.clone() };
    let dir = Entry { link: None, dir: true, ..link.clone() };
    let wanted = vec![Wanted { path: text("a/b"), size: 9, index: 0 }];
    let skipped = vec![Skipped { path: text("pipe"), why: text("it is no file") }];
    let scanned = Scanned { path: path.clone(), entries: 3, bytes: 9, skipped: skipped.clone() };
    let synced = Synced {
        node: text("gpu"),
        path: path.clone(),
        entries: 3,
        bytes: 9,
        written: 2,
        removed: 1,
        moved: 8,
        kept: vec![text("mine")],
        conflicts: vec![text("a.conflict")],
        skipped,
        whole: false,
    };
    let whole = Synced { whole: true, ..synced.clone() };
    let listed = vec![Listed { name: text("a"), dir: true, size: 0, changed_ms: 5 }];
    let to = NodeId::from_bytes([3; 32]);
    vec![
        ask("folder_copy", FolderAsk::Copy { from: place("~/x"), node: None, to: None }),
        ask("folder_sync", FolderAsk::Sync { one: place("/x"), other: place("/y"), watch: true }),
        ask("folder_list", FolderAsk::List { path: path.clone() }),
        ask("folder_exists", FolderAsk::Exists { path: path.clone() }),
        ask("folder_make", FolderAsk::Make { path: path.clone() }),
        ask("folder_move", FolderAsk::Move { path: path.clone(), to: text("/new") }),
        ask(
            "folder_remove",
            FolderAsk::Remove { path: path.clone(), contents: Some(vec![text("a")]) },
        ),
        ask(
            "folder_pull",
            FolderAsk::Pull {
                from: of.clone(),
                to: Some(path.clone()),
                both: true,
                they_know: true,
            },
        ),
        ask("folder_settle", FolderAsk::Settle { path: path.clone(), with: place("/y") }),
        ask(
            "folder_push",
            FolderAsk::Push { path: path.clone(), to: text("s3://b/x"), both: true },
        ),
        ask("folder_grant", FolderAsk::Grant { path: path.clone(), to }),
        Sample::new("ask", "folder_scan", FolderAsk::Scan { of: of.clone(), keep: true }),
        Sample::new("ask", "folder_common", FolderAsk::Common { of: of.clone(), with: path }),
        Sample::new("ask", "folder_read", FolderAsk::Read { of: of.clone(), wanted }),
        Sample::new(
            "ask",
            "folder_pieces",
            FolderAsk::Pieces { of: of.clone(), file: text("a/b"), size: 9 },
        ),
        Sample::new(
            "ask",
            "folder_there",
            FolderAsk::There { of: of.clone(), paths: vec![text("a/b"), text("c")] },
        ),
        Sample::new("ask", "folder_watch", FolderAsk::Watch { of }),
        Sample::new("answer", "entries", vec![file, link, dir]),
        Sample::new("answer", "scanned", scanned),
        Sample::new("answer", "pieces", Pieces { holes: vec![(1, 3)] }),
        Sample::new("answer", "synced", synced),
        Sample::new("answer", "synced_whole", whole),
        Sample::new("answer", "listed", listed),
    ]
}
