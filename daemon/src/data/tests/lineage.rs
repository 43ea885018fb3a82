//! Records that other nodes give: followed as far as bounds go, and believed of themselves only.

use std::sync::atomic::{AtomicUsize, Ordering};

use rhd_protocol::{
    data::{BlobInfo, DataAsk, Input, Lineage, MAX_INPUTS, MAX_LINEAGE, Record},
    error::ErrorKind,
    frame, wire,
};

use super::*;
use crate::asked;

fn hash(n: usize) -> Hash {
    Hash::of(&n.to_le_bytes())
}

fn input(n: usize) -> String {
    Input { name: None, hash: hash(n) }.to_string()
}

/// Answers questions about records in this way from now on; the rest is refused.
fn act<F>(node: &Node, say: F)
where
    F: Fn(Vec<Input>) -> Vec<Option<Record>> + Clone + Send + Sync + 'static,
{
    let mut streams = node.data.mesh.accept(wire::DATA);
    tokio::spawn(async move {
        while let Some(stream) = streams.recv().await {
            let say = say.clone();
            let answer = async move |ask, _| {
                let DataAsk::Records { inputs } = ask else {
                    return Err(ErrorInfo::new(ErrorKind::BadRequest, "no"));
                };
                let inputs = inputs.iter().map(|input| input.parse().unwrap()).collect();
                Ok(frame::to_vec(&say(inputs)).unwrap())
            };
            tokio::spawn(async move { asked::answer("liar", stream, answer).await });
        }
    });
}

fn record(of: Hash, inputs: Vec<String>) -> Record {
    let version = Version { number: 1, inputs, ..version(of, 1) };
    Record { name: "/ann/said".into(), node: "somebody else".into(), version }
}

/// Saves something that was made from input 0.
async fn made(node: &Node) -> Content {
    let content = node.put(b"made").await;
    let lease = gc::lease(&node.data.shelf, content.hash).await;
    let version = Version { inputs: vec![input(0)], ..version(content.hash, content.size) };
    node.data.shelf.save("/ann/made", version, lease).await.unwrap();
    content
}

async fn lineage(node: &Node) -> Lineage {
    soon(node.data.lineage("/ann/made", None, u32::MAX)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_can_not_be_are_not_believed() {
    let nodes = Node::linked(&["a", "liar"]).await;
    made(&nodes[0]).await;
    let lies: [fn(&Input) -> Record; 5] = [
        |_| record(hash(7), vec![]),
        |i| record(i.hash, (0..=MAX_INPUTS).map(input).collect()),
        |i| record(i.hash, vec!["\u{1b}[2J".into()]),
        |i| Record { name: "no name".into(), ..record(i.hash, vec![]) },
        |i| {
            let said = record(i.hash, vec![]);
            Record { version: Version { author: "x".repeat(1 << 20), ..said.version }, ..said }
        },
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        act(&nodes[1], move |inputs| inputs.iter().map(|input| Some(lie(input))).collect());
        let found = lineage(&nodes[0]).await;
        assert_eq!((found.made.len(), &found.made[1].record), (2, &None), "lie {n}");
    }
    // Fewer than were asked for, or more.
    act(&nodes[1], |_| vec![]);
    assert_eq!(lineage(&nodes[0]).await.made[1].record, None);
    act(&nodes[1], |inputs| vec![Some(record(inputs[0].hash, vec![])); 5000]);
    let found = lineage(&nodes[0]).await;
    // Whatever it says, it is what that node says.
    assert_eq!(found.made[1].record.as_ref().unwrap().node, "liar");
    assert_eq!(found.made.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lineage_without_end_is_cut() {
    let nodes = Node::linked(&["a", "liar"]).await;
    made(&nodes[0]).await;
    // Each has so many inputs that nobody ever heard of.
    for (each, most) in [(1, 2 + 32), (MAX_INPUTS, MAX_LINEAGE)] {
        let next = Arc::new(AtomicUsize::new(1));
        act(&nodes[1], move |inputs| {
            let fresh = || (0..each).map(|_| input(next.fetch_add(1, Ordering::Relaxed))).collect();
            inputs.iter().map(|input| Some(record(input.hash, fresh()))).collect()
        });
        let found = lineage(&nodes[0]).await;
        assert!(found.cut && found.made.len() <= most, "{}", found.made.len());
        assert!(found.made.len() + 2 >= most, "{}", found.made.len());
    }
    // And one that goes in a circle is not.
    act(&nodes[1], |inputs| {
        inputs.iter().map(|i| Some(record(i.hash, vec![input(0), input(1)]))).collect()
    });
    let found = lineage(&nodes[0]).await;
    assert_eq!((found.made.len(), found.cut), (3, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_answer_is_asked_once() {
    let nodes = Node::linked(&["a", "mute", "good"]).await;
    made(&nodes[0]).await;
    let (asked, mut streams) =
        (Arc::new(AtomicUsize::new(0)), nodes[1].data.mesh.accept(wire::DATA));
    let counted = asked.clone();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Some(stream) = streams.recv().await {
            counted.fetch_add(1, Ordering::Relaxed);
            held.push(stream);
        }
    });
    act(&nodes[2], |inputs| {
        let next = |i: &Input| (0..9).find(|n| hash(*n) == i.hash).map(|n| input(n + 1));
        inputs.iter().map(|i| next(i).map(|next| record(i.hash, vec![next]))).collect()
    });
    let found = lineage(&nodes[0]).await;
    assert_eq!((found.made.len(), found.cut), (11, false));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_here_is_fetched_to_roll_back_to_it() {
    let nodes = Node::linked(&["a", "b"]).await;
    let content = made(&nodes[0]).await;
    nodes[1].put(b"made").await;
    let other = nodes[0].put(b"other").await;
    let lease = gc::lease(&nodes[0].data.shelf, other.hash).await;
    let newer = version(other.hash, other.size);
    nodes[0].data.shelf.save("/ann/made", newer, lease).await.unwrap();
    // As a verification does that finds damage.
    gc::forget(&nodes[0].data.shelf, content.hash).await.unwrap();
    let ask = DataAsk::Rollback { name: "/ann/made".into(), version: 1, path: None };
    let back: BlobInfo = nodes[1].tell(&nodes[0], ask.clone()).await.unwrap();
    assert_eq!((back.version, back.content.hash), (3, content.hash));
    assert_eq!(back.origin.inputs, [input(0)]);
    assert_eq!(nodes[0].read(&content).await.unwrap(), b"made");
    let newest = nodes[0].data.shelf.names.get("/ann/made").unwrap().0;
    assert_eq!((newest.author.as_str(), newest.restored), ("b", Some(1)));

    // Where nobody has it any more, the name stays as it is.
    gc::forget(&nodes[0].data.shelf, other.hash).await.unwrap();
    let ask = DataAsk::Rollback { name: "/ann/made".into(), version: 2, path: None };
    let lost = nodes[1].tell::<BlobInfo>(&nodes[0], ask).await.unwrap_err();
    assert_eq!(lost.kind, ErrorKind::NotFound, "{lost}");
    assert_eq!(nodes[0].data.shelf.names.get("/ann/made").unwrap().0, newest);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_serves_may_read_what_there_is_and_change_nothing() {
    let (member, server) = (Node::start("member").await, Node::start("server").await);
    let hour = Duration::from_secs(3600);
    let ticket = member.data.mesh.invite(Role::Node, 1, hour).await.unwrap().to_string();
    soon(server.data.mesh.join(&ticket, None)).await.unwrap();
    made(&member).await;
    let name = || "/ann/made".to_owned();
    for refused in [
        DataAsk::Rollback { name: name(), version: 1, path: None },
        DataAsk::Rename { name: name(), to: "/ann/other".into() },
        DataAsk::Lineage { blob: name(), version: None, depth: 1 },
        DataAsk::Names { below: None, far: true },
    ] {
        let said = server.tell::<()>(&member, refused.clone()).await.unwrap_err();
        assert_eq!(said.kind, ErrorKind::PermissionDenied, "{refused:?}: {said}");
    }
    let ask = DataAsk::History { name: name(), limit: None };
    assert_eq!(server.tell::<Vec<Version>>(&member, ask).await.unwrap().len(), 1);
    let ask = DataAsk::Names { below: Some("/ann".into()), far: false };
    assert_eq!(server.tell::<Vec<BlobInfo>>(&member, ask).await.unwrap().len(), 1);
}
