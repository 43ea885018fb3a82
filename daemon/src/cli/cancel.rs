//! `rhd cancel`.

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    run::RunStatus,
};

use super::{Context, ps::status, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a run, or the id of its call
    run: String,
    /// The node that has it
    #[arg(long)]
    node: Option<String>,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let info = cx.client().await?.run_cancel(&args.run, args.node.as_deref()).await?;
    match info.status {
        RunStatus::Cancelled => ui.note(&format!("cancelled {}", args.run)),
        RunStatus::Running => {
            let text = format!("{} was asked to stop and has not yet", args.run);
            return Err(ErrorInfo::new(ErrorKind::Timeout, text)
                .hint("its worker is shared with calls that go on; see `rhd ps`")
                .on(&info.host));
        }
        ended => ui.note(&format!("{} had ended before: {}", args.run, status(ended))),
    }
    Ok(())
}
