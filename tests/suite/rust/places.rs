//! Functions that go where they fit, or to several nodes, and what is called there.

use std::{fs, time::Duration};

use futures::{StreamExt, TryStreamExt};
use rhd_sdk::{Client, Deploy, Env, ErrorKind, Function, Native};
use rhd_tests::{Mesh, Node, until};

use super::PROGRAM;

/// A function of the test program, as that program itself has it.
macro_rules! native {
    ($name:ident($($arg:ty),*) -> $output:ty = $symbol:literal) => {
        struct $name(Function<($($arg,)*), $output>);

        impl Native for $name {
            type Args = ($($arg,)*);
            type Output = $output;
            const NAME: &'static str = $symbol;
            const SYMBOL: &'static str = concat!("rhd_test_worker::", $symbol);

            fn over(function: Function<($($arg,)*), $output>) -> Self {
                Self(function)
            }

            fn remote(&self) -> &Function<($($arg,)*), $output> {
                &self.0
            }
        }
    };
}

native!(Pid() -> u32 = "pid");
native!(Later(u64, String) -> String = "later");
native!(WaitFor(String, String) -> u64 = "wait_for");

fn env() -> Env {
    Env::new().program(PROGRAM)
}

#[test]
fn a_map_over_several_nodes_uses_all_and_keeps_the_order() {
    let mesh = Mesh::of(3);
    let clusters = |client: &Client| ["n1", "n2"].map(|name| client.cluster(name));
    mesh[0]
        .ask(async |client| {
            let pids = Deploy::<Pid>::new().env(&env()).to_all(&clusters(&client)).await?;
            assert_eq!(pids.functions().len(), 2);
            assert_eq!(pids.functions()[1].node(), Some("n2"));
            let mut seen: Vec<u32> = pids.map([(); 20], 4).try_collect().await?;
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 2, "a process on each");

            let later = Deploy::<Later>::new().env(&env()).to_all(&clusters(&client)).await?;
            let inputs = (0..60_u64).map(|n| (if n % 7 == 0 { 40 } else { 1 }, n.to_string()));
            let texts: Vec<String> = later.map(inputs, 6).try_collect().await?;
            assert_eq!(texts, (0..60).map(|n| n.to_string()).collect::<Vec<_>>());
            // What was put there before is reached by its name.
            let named = client.function::<(u64, String), String>("later");
            let named = named.over(&clusters(&client))?;
            assert_eq!(named.call((0, "x".into())).await?, "x");
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_node_that_dies_in_a_map_costs_its_own_calls_and_no_others() {
    let mut mesh = Mesh::of(3);
    let home = mesh[0].home().to_path_buf();
    let mut doomed = mesh.remove(1);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let client = Client::attach(&home).await.unwrap();
        let clusters = ["n1", "n2"].map(|name| client.cluster(name));
        let later = Deploy::<Later>::new().env(&env()).to_all(&clusters).await.unwrap();
        let calls = (0..80_u64).map(|n| (20, n.to_string()));
        let mut results = Box::pin(later.map(calls, 4));
        let first = results.next().await.unwrap();
        assert_eq!(first.as_deref(), Ok("0"));
        tokio::task::spawn_blocking(move || doomed.kill()).await.unwrap();
        let mut lost = 0;
        for n in 1..80_u64 {
            match results.next().await.unwrap() {
                Ok(text) => assert_eq!(text, n.to_string()),
                Err(error) => {
                    assert_eq!(error.kind, ErrorKind::PeerLost, "{error:?}");
                    lost += 1;
                }
            }
        }
        assert!(results.next().await.is_none());
        // What was under way there, and one try or two since.
        assert!(lost < 10, "{lost} were lost");
    });
}

#[test]
fn a_program_goes_where_its_needs_are_met() {
    let node = Node::start("box");
    let gpu = Node::prepare("gpu").flags(&["--set", "node.resources={gpus=2}"]).up();
    gpu.join(&node.invite(1));
    until("the other's GPUs are known", || {
        let known = |peer: &rhd_protocol::api::Peer| peer.offer.total.contains_key("gpus");
        node.peers().iter().any(|peer| peer.name == "gpu" && known(peer)).then_some(())
    });
    node.ask(async |client| {
        let place = async |env: Env| Deploy::<Pid>::new().env(&env).place(&client).await;
        let pid = place(env().name("small").need("gpus", 1_500)).await?;
        assert_eq!(pid.remote().node(), Some("gpu"));
        pid.remote().call(()).await?;
        let refused = place(env().name("large").need("gpus", 3_000)).await.err().unwrap();
        assert_eq!(refused.kind, ErrorKind::EnvError, "{refused:?}");
        for node in ["box", "gpu"] {
            assert!(refused.message.contains(node), "{refused:?}");
        }
        let anywhere = place(env().name("none")).await?;
        assert_eq!(anywhere.remote().node(), Some("box"), "what needs nothing");
        Ok(())
    })
    .unwrap();
}

#[test]
fn of_two_that_get_or_call_at_once_one_calls() {
    let mesh = Mesh::of(3);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    mesh[0]
        .ask(async |client| {
            Deploy::<WaitFor>::new().env(&env()).to(&client.cluster("n2")).await.map(drop)
        })
        .unwrap();
    until("both know of it", || {
        let known = async |client: Client| client.describe("wait_for", None).await;
        (mesh[0].ask(known).is_ok() && mesh[1].ask(known).is_ok()).then_some(())
    });
    let homes = [0, 1].map(|at| mesh[at].home().to_path_buf());
    let began = [0, 1].map(|n| path(&format!("began-{n}")));
    let gate = path("gate");
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let calls = [0, 1].map(|n| {
            let (home, args) = (homes[n].clone(), (began[n].clone(), gate.clone()));
            tokio::spawn(async move {
                let client = Client::attach(&home).await?;
                let wait = client.function::<(String, String), u64>("wait_for");
                wait.timeout(Duration::from_secs(60)).get_or_call("once", args).await
            })
        });
        let runs = || began.iter().filter(|path| fs::exists(path).unwrap()).count();
        tokio::task::block_in_place(|| until("one runs", || (runs() > 0).then_some(())));
        fs::write(&gate, "").unwrap();
        let [first, second] = calls;
        let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
        assert_eq!((first, runs()), (second, 1));
        let client = Client::attach(&homes[1]).await.unwrap();
        let again = client.function::<(String, String), u64>("wait_for");
        assert_eq!(again.get_or_call("once", (path("began-2"), gate.clone())).await, Ok(first));
        assert!(!fs::exists(path("began-2")).unwrap());
    });
}
