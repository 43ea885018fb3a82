//! `rhd ls`.

use rhd_protocol::{error::ErrorInfo, service::ServiceKind};

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only names below this folder
    prefix: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let listed = cx.client().await?.services(args.prefix.as_deref()).await?;
    if args.json {
        return ui.json(&listed);
    }
    let rows: Vec<_> = listed
        .into_iter()
        .map(|l| {
            let s = l.service;
            vec![s.name, kind(s.kind).into(), l.node, s.env, s.version.short()]
        })
        .collect();
    ui.table(&["NAME", "KIND", "NODE", "ENV", "VERSION"], &rows)
}

pub(super) fn kind(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::Function => "function",
        ServiceKind::Class => "class",
        ServiceKind::Instance => "instance",
    }
}
