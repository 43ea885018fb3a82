//! `rhd logs`.

use rhd_protocol::{call::Reply, error::ErrorInfo};

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a run, or the id of its call
    run: String,
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// The node that has it
    #[arg(long)]
    node: Option<String>,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let mut replies = client.run_logs(&args.run, args.node.as_deref(), args.follow).await?;
    while let Some((reply, body)) = replies.next().await? {
        match reply {
            Reply::Log { fd: 1, .. } => ui.bytes(&body)?,
            Reply::Log { .. } => ui.log(&body),
            Reply::Progress { text, .. } => ui.progress(&text),
            Reply::Fail { error, .. } => return Err(error),
            Reply::Done { .. } | Reply::Item { .. } => {}
        }
    }
    Ok(())
}
