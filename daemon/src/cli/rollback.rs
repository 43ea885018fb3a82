//! `rhd rollback`.

use rhd_protocol::{
    data::{BlobInfo, DataAsk},
    error::ErrorInfo,
};

use super::{
    Context,
    history::holder,
    ui::{Ui, plain},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of data
    name: String,
    /// Number of the earlier version, as `rhd history` has it
    version: u64,
    /// The node that holds it; by default the one with the newest version
    #[arg(long)]
    node: Option<String>,
    /// Where a folder or table is written, on its node; by default where it is from
    #[arg(long)]
    path: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let node = holder(&client, &args.name, args.node).await?;
    let ask = DataAsk::Rollback { name: args.name, version: args.version, path: args.path };
    let info: BlobInfo = client.data(Some(&node), ask, &[], |text, _| ui.progress(text)).await?;
    if args.json {
        return ui.json(&info);
    }
    let name = info.name.unwrap_or_default();
    let at = info.tree.map(|tree| format!(", in {}", tree.path)).unwrap_or_default();
    ui.note(&plain(&format!("{name} is at version {} on {}{at}", info.version, info.node)));
    ui.line(&info.content.hash.to_string())
}
