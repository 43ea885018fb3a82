//! `rhd show`.

use rhd_protocol::{error::ErrorInfo, service::Flavor};

use super::{Context, ls::kind, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a function, class or instance
    name: String,
    /// The node that hosts it
    #[arg(long)]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let described = cx.client().await?.describe(&args.name, args.node.as_deref()).await?;
    if args.json {
        return ui.json(&described);
    }
    let s = described.service;
    let mut pairs = vec![
        ("name", s.name),
        ("kind", kind(s.kind).into()),
        ("node", described.node),
        ("env", s.env),
        ("version", s.version.short()),
    ];
    pairs.extend(s.class.map(|class| ("class", class)));
    pairs.push(("signature", s.interface.signature));
    pairs.push(("behaves", flavor(s.interface.flavor).into()));
    pairs.extend(s.interface.members.into_iter().map(|(name, f)| {
        ("member", if f == Flavor::Plain { name } else { format!("{name} ({})", flavor(f)) })
    }));
    pairs.extend(s.interface.class_members.into_iter().map(|name| ("of class", name)));
    pairs.push(("doc", s.interface.doc));
    pairs.retain(|(_, value)| !value.is_empty());
    ui.pairs(&pairs)
}

fn flavor(flavor: Flavor) -> &'static str {
    match flavor {
        Flavor::Plain => "returns",
        Flavor::Generator => "yields",
        Flavor::Coroutine => "async, returns",
        Flavor::AsyncGenerator => "async, yields",
        Flavor::Property => "is read",
    }
}
