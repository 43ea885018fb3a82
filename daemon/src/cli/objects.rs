//! The object store of an env, as the Python SDK in its worker has it.

use std::collections::BTreeMap;

use rhd_protocol::{
    VERSION,
    api::DeployRequest,
    call::{Codec, Reply},
    code::Entry,
    env::EnvSpec,
    error::{ErrorInfo, ErrorKind},
    id::{CallId, encode_base32},
};
use rhd_sdk::{Client, Invocation};
use serde::Serialize;

use super::ui::Ui;

/// Where the objects are.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// Key of the env, as rhd env ls shows it; the node's own interpreter by default
    #[arg(long)]
    env: Option<String>,
    /// The node; this one by default
    #[arg(long)]
    node: Option<String>,
}

/// Calls a method of the store with plain data; returns the result as JSON.
pub(super) async fn call(
    client: &Client,
    place: &Place,
    ui: &mut Ui,
    method: &str,
    args: &impl Serialize,
) -> Result<Vec<u8>, ErrorInfo> {
    let deploy = DeployRequest {
        v: VERSION,
        id: CallId::from_bytes(rand::random()),
        node: place.node.clone(),
        place: false,
        // Nobody else's, and taken off again.
        name: format!(".objects-{}", encode_base32(&rand::random::<[u8; 5]>())),
        env: spec(client, place).await?,
        roots: Vec::new(),
        entry: Entry::Import { module: "rhd.worker.objects".into(), qualname: "Objects".into() },
        binary: None,
    };
    let deployed = client.deploy(deploy, &[], |line| ui.progress(line)).await?;
    let node = Some(deployed.node_id);
    let what = Invocation { node: node.clone(), ..Invocation::of(&deployed.name).method(method) };
    let answer = answer(client, &what, args).await;
    let removed = client.remove(&deployed.name, node.as_deref()).await;
    let answer = answer?;
    removed?;
    Ok(answer)
}

async fn answer(
    client: &Client,
    what: &Invocation,
    args: &impl Serialize,
) -> Result<Vec<u8>, ErrorInfo> {
    let kwargs = BTreeMap::<String, ()>::new();
    let mut replies = client.start(what, Codec::Json, args, &kwargs).await?;
    while let Some((reply, body)) = replies.next().await? {
        match reply {
            Reply::Done { .. } => return Ok(body.to_vec()),
            Reply::Fail { error, .. } => return Err(error),
            Reply::Log { .. } | Reply::Progress { .. } | Reply::Item { .. } => {}
        }
    }
    Err(ErrorInfo::new(ErrorKind::Internal, "the call has no end"))
}

async fn spec(client: &Client, place: &Place) -> Result<EnvSpec, ErrorInfo> {
    let Some(key) = &place.env else { return Ok(EnvSpec::default()) };
    let envs = client.envs(place.node.as_deref()).await?;
    let found = envs.into_iter().find(|env| env.key == *key).map(|env| env.spec);
    found.ok_or_else(|| {
        ErrorInfo::new(ErrorKind::NotFound, format!("there is no env {key}"))
            .hint("`rhd env ls` lists those there are")
    })
}
