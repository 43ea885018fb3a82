//! `rhd rm`.

use rhd_protocol::error::ErrorInfo;

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a function, class or instance
    name: String,
    /// Only from this node
    #[arg(long)]
    node: Option<String>,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    cx.client().await?.remove(&args.name, args.node.as_deref()).await?;
    ui.note(&format!("removed {}", args.name));
    Ok(())
}
