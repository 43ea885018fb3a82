//! `rhd ls`.

use rhd_protocol::{api::Listed, data::BlobInfo, error::ErrorInfo, service::ServiceKind};
use serde::Serialize;

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only names below this folder
    prefix: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What has a name.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Entry {
    Service(Listed),
    Data { node: String, data: Box<BlobInfo> },
}

impl Entry {
    fn name(&self) -> &str {
        match self {
            Self::Service(listed) => &listed.service.name,
            Self::Data { data, .. } => data.name.as_deref().unwrap_or_default(),
        }
    }

    fn row(self) -> Vec<String> {
        match self {
            Self::Service(Listed { node, service: s }) => {
                vec![s.name, kind(s.kind).into(), node, s.env, s.version.short()]
            }
            Self::Data { node, data } => {
                let (kind, version) = (data.kind().into(), data.version.to_string());
                vec![data.name.unwrap_or_default(), kind, node, "-".into(), version]
            }
        }
    }
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let prefix = args.prefix.as_deref();
    let (services, data) = (client.services(prefix).await?, client.data_names(prefix).await?);
    let mut listed: Vec<Entry> = services.into_iter().map(Entry::Service).collect();
    listed.extend(
        data.into_iter().map(|data| Entry::Data { node: data.node.clone(), data: data.into() }),
    );
    // Hosts of one service stay in their order.
    listed.sort_by(|a, b| a.name().cmp(b.name()));
    if args.json {
        return ui.json(&listed);
    }
    let rows: Vec<_> = listed.into_iter().map(Entry::row).collect();
    ui.table(&["NAME", "KIND", "NODE", "ENV", "VERSION"], &rows)
}

pub(super) fn kind(kind: ServiceKind) -> &'static str {
    match kind {
        ServiceKind::Function => "function",
        ServiceKind::Class => "class",
        ServiceKind::Instance => "instance",
    }
}
