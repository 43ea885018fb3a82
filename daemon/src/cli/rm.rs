//! `rhd rm`.

use rhd_protocol::{
    data::DataAsk,
    error::{ErrorInfo, ErrorKind},
};
use rhd_sdk::Client;

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a function, class, instance or data
    name: String,
    /// Only from this node
    #[arg(long)]
    node: Option<String>,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let (client, node) = (cx.client().await?, args.node.as_deref());
    match client.remove(&args.name, node).await {
        Err(unknown) if unknown.kind == ErrorKind::NotFound => {
            data(&client, &args.name, node, unknown).await?;
        }
        removed => removed?,
    }
    ui.note(&format!("removed {}", args.name));
    Ok(())
}

/// Takes the name of data off a node, or off all that can be reached.
async fn data(
    client: &Client,
    name: &str,
    node: Option<&str>,
    unknown: ErrorInfo,
) -> Result<(), ErrorInfo> {
    let remove = async |node: &str, name: &str| {
        let ask = DataAsk::Remove { name: name.to_owned() };
        client.data::<()>(Some(node), ask, &[], |_, _| ()).await
    };
    if let Some(node) = node {
        return match remove(node, name).await {
            Err(error) if error.kind == ErrorKind::NotFound => Err(unknown),
            removed => removed,
        };
    }
    let found = match client.blob(name, None).await {
        Err(error) if error.kind == ErrorKind::NotFound => return Err(unknown),
        found => found?,
    };
    let full = found.info().name.clone().ok_or(unknown)?;
    let mut failed = None;
    for info in client.data_names(Some(&full)).await? {
        if info.name.as_ref() == Some(&full) {
            // One that fails does not keep it on the others.
            failed = remove(&info.node_id, &full).await.err().or(failed);
        }
    }
    failed.map_or(Ok(()), Err)
}
