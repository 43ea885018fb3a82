//! The object store of an env, as the command line reaches it: with JSON.

use rhd_protocol::{
    call::Codec,
    error::{ErrorInfo, ErrorKind},
};
use rhd_sdk::{Client, Cluster, Env, Objects};
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

/// Asks the store with plain data; returns the answer as JSON.
pub(super) async fn call(
    client: &Client,
    place: &Place,
    ui: &mut Ui,
    method: &str,
    args: &impl Serialize,
) -> Result<Vec<u8>, ErrorInfo> {
    let cluster = match &place.node {
        Some(node) => client.cluster(node),
        None => client.here(),
    };
    let objects = find(&cluster, place.env.as_deref()).await?;
    objects.ready(|line| ui.progress(line)).await?;
    let answer = objects.encoded(Codec::Json, method, args).await;
    let closed = objects.close().await;
    let answer = answer?;
    closed?;
    Ok(answer.to_vec())
}

async fn find(cluster: &Cluster, env: Option<&str>) -> Result<Objects, ErrorInfo> {
    let Some(key) = env else { return Ok(cluster.objects(&Env::new())) };
    let envs = cluster.client().envs(cluster.name()).await?;
    let found = envs.into_iter().find(|env| env.key == key);
    found.map(|env| cluster.objects(&Env::from(env.spec))).ok_or_else(|| {
        ErrorInfo::new(ErrorKind::NotFound, format!("there is no env {key}"))
            .hint("`rhd env ls` lists those there are")
    })
}
