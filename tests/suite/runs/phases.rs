//! A client, its node, or the host killed at every phase of a call: the receipt tells the truth.

use std::{process::Child, thread::JoinHandle};

use super::*;

/// Three nodes; `n1` has one lane, and on it from `n0`: a call that has ended, one that runs, and one
/// that waits. `n2` looks on.
struct Scene {
    mesh: Mesh,
    ended: Placed,
    running: Placed,
    queued: Placed,
}

/// A call of `work` that somebody made.
pub(crate) struct Placed {
    pub(crate) id: String,
    pub(crate) traces: Traces,
    pub(crate) client: Child,
}

impl Scene {
    fn set() -> Self {
        let flags = ["workers.lanes=1", "node.grace=1"].map(|set| ["--set", set]);
        let mesh = Mesh::with(3, flags.as_flattened());
        deploy(&mesh[0], "n1");
        let mut ended = Placed::by(&mesh[0], &mesh[1], &[]);
        ended.traces.go();
        assert!(ended.client.wait().unwrap().success());
        until_status(&mesh[1], &ended.id, RunStatus::Completed);
        let running = Placed::by(&mesh[0], &mesh[1], &[]);
        running.traces.until_it_runs();
        let queued = Placed::by(&mesh[0], &mesh[1], &[&running.id]);
        until("it waits for the lane", || (mesh[1].status().calls == 2).then_some(()));
        Self { mesh, ended, running, queued }
    }

    fn status(&self, placed: &Placed) -> RunStatus {
        info(&self.mesh[2], &placed.id).unwrap().status
    }

    fn until(&self, placed: &Placed, status: RunStatus) {
        until_status(&self.mesh[2], &placed.id, status);
    }

    /// How often each ran.
    fn ran(&self) -> [usize; 3] {
        [&self.ended, &self.running, &self.queued].map(|placed| placed.traces.ran())
    }
}

impl Placed {
    /// A call by a client of `from`, found beside `others` that its host knows of.
    pub(crate) fn by(from: &Node, host: &Node, others: &[&str]) -> Self {
        let traces = Traces::new();
        let client = from.command(&["call", "work", &traces.text()]).spawn().unwrap();
        let id = until("its host knows of it", || {
            let listed = host.rhd(&["ps", "--json", "--node", host.name()]).json();
            let ids = listed.as_array().unwrap().iter().map(|run| run["id"].as_str().unwrap());
            ids.map(str::to_owned).find(|id| !others.contains(&id.as_str()))
        });
        Self { id, traces, client }
    }
}

#[test]
fn a_killed_client_ends_what_had_not_ended() {
    let mut scene = Scene::set();
    // The one that waits first: the lane of the other would be its own else.
    scene.queued.client.kill().unwrap();
    scene.queued.client.wait().unwrap();
    scene.until(&scene.queued, RunStatus::Cancelled);
    scene.running.client.kill().unwrap();
    scene.running.client.wait().unwrap();
    scene.until(&scene.running, RunStatus::Cancelled);
    assert_eq!(scene.status(&scene.ended), RunStatus::Completed);
    until("nothing is left", || (scene.mesh[1].status().calls == 0).then_some(()));
    assert_eq!(scene.ran(), [1, 1, 0]);
}

#[test]
fn a_killed_node_of_the_caller_ends_nothing() {
    let mut scene = Scene::set();
    scene.mesh[0].kill();
    assert_eq!(scene.status(&scene.ended), RunStatus::Completed);
    assert_eq!(scene.status(&scene.running), RunStatus::Running);
    assert_eq!(scene.status(&scene.queued), RunStatus::Running);
    // One ends before anybody asks for its result, the other while somebody does.
    scene.running.traces.go();
    scene.queued.traces.until_it_runs();
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| result(&scene.mesh[2], &scene.queued.id));
        scene.queued.traces.go();
        assert_eq!(waits.join().unwrap().unwrap(), json!("done"));
    });
    for placed in [&scene.ended, &scene.running, &scene.queued] {
        scene.until(placed, RunStatus::Completed);
        assert_eq!(result(&scene.mesh[2], &placed.id).unwrap(), json!("done"));
    }
    assert_eq!(scene.ran(), [1, 1, 1]);
}

#[test]
fn a_node_that_dies_before_it_has_the_result_costs_nobody_the_result() {
    let mut scene = Scene::set();
    // Its host sends the result; nobody reads it.
    scene.mesh[0].freeze();
    for placed in [&scene.running, &scene.queued] {
        placed.traces.until_it_runs();
        placed.traces.go();
        scene.until(placed, RunStatus::Completed);
    }
    scene.mesh[0].kill();
    for placed in [&scene.running, &scene.queued] {
        assert_eq!(scene.status(placed), RunStatus::Completed);
        assert_eq!(result(&scene.mesh[2], &placed.id).unwrap(), json!("done"));
    }
    assert_eq!(scene.ran(), [1, 1, 1]);
}

#[test]
fn a_killed_host_interrupts_what_had_not_ended() {
    let mut scene = Scene::set();
    scene.mesh[1].kill();
    for placed in [&mut scene.running, &mut scene.queued] {
        assert_eq!(placed.client.wait().unwrap().code(), Some(6), "its peer was lost");
    }
    for placed in [&scene.ended, &scene.running, &scene.queued] {
        let unsure = info(&scene.mesh[2], &placed.id).unwrap_err();
        assert_eq!((unsure.kind, unsure.node.as_str()), (ErrorKind::PeerLost, "n1"), "{unsure:?}");
    }
    scene.mesh[1].restart();
    scene.mesh.until_linked();
    assert_eq!(scene.status(&scene.ended), RunStatus::Completed);
    assert_eq!(scene.status(&scene.running), RunStatus::Interrupted);
    assert_eq!(scene.status(&scene.queued), RunStatus::Interrupted);
    let unmade = fresh().to_string();
    assert_eq!(info(&scene.mesh[0], &unmade).unwrap().status, RunStatus::NotStarted);
    assert_eq!(scene.ran(), [1, 1, 0]);
}

#[test]
fn a_host_that_dies_with_the_result_on_its_way_has_completed() {
    let mut scene = Scene::set();
    scene.mesh[0].freeze();
    scene.running.traces.go();
    scene.queued.traces.until_it_runs();
    scene.until(&scene.running, RunStatus::Completed);
    scene.mesh[1].kill();
    scene.mesh[0].thaw();
    // It may have come through, or not: nobody hears of another end.
    let code = scene.running.client.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 6)), "{code:?}");
    assert_eq!(scene.queued.client.wait().unwrap().code(), Some(6));
    scene.mesh[1].restart();
    scene.mesh.until_linked();
    assert_eq!(scene.status(&scene.running), RunStatus::Completed);
    assert_eq!(scene.status(&scene.queued), RunStatus::Interrupted);
    assert_eq!(scene.ran(), [1, 1, 1]);
}

#[test]
fn a_call_to_a_host_that_is_gone_never_started() {
    let mut mesh = Mesh::of(3);
    deploy(&mesh[0], "n1");
    let traces = Traces::new();
    traces.go();
    mesh[1].freeze();
    // Made while nobody knows yet that it is gone: it may be there, or may be on its way.
    let (made, body) = call("work", &json!([traces.text()]));
    let (id, home) = (made.id.to_string(), mesh[0].home().to_path_buf());
    let caller: JoinHandle<Result<_, ErrorInfo>> = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::attach(&home).await?;
            rest(client.request(&Request::Call { call: made }, &body).await?).await
        })
    });
    let lost = caller.join().unwrap().unwrap_err();
    assert_eq!(lost.kind, ErrorKind::PeerLost, "{lost:?}");
    mesh[1].kill();
    mesh[1].restart();
    mesh.until_linked();
    // Whoever asks: what its socket took in while it stood still died with it.
    for node in [&mesh[0], &mesh[2]] {
        assert_eq!(info(node, &id).unwrap().status, RunStatus::NotStarted);
    }
    assert_eq!(traces.ran(), 0);
}
