//! `rhd show`.

use rhd_protocol::{
    data::BlobInfo,
    error::{ErrorInfo, ErrorKind},
    service::Flavor,
};

use super::{
    Context,
    history::{ago, short},
    ls::kind,
    ui::{Ui, size},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of a function, class, instance or data
    name: String,
    /// The node that has it
    #[arg(long)]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let (client, node) = (cx.client().await?, args.node.as_deref());
    let described = match client.describe(&args.name, node).await {
        Err(unknown) if unknown.kind == ErrorKind::NotFound => {
            let found = client.blob(&args.name, node).await;
            let found =
                found.map_err(|e| if e.kind == ErrorKind::NotFound { unknown } else { e })?;
            return data(found.info(), args.json, ui);
        }
        described => described?,
    };
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

fn data(info: &BlobInfo, json: bool, ui: &mut Ui) -> Result<(), ErrorInfo> {
    if json {
        return ui.json(info);
    }
    let mut pairs = vec![
        ("name", info.name.clone().unwrap_or_default()),
        ("kind", info.kind().into()),
        ("node", info.node.clone()),
        ("hash", info.content.hash.to_string()),
        ("size", size(info.bytes())),
    ];
    if let Some(tree) = &info.tree {
        pairs.push(("path", tree.path.clone()));
        pairs.push(("entries", tree.entries.to_string()));
    }
    if info.name.is_some() {
        pairs.push(("version", format!("{}, {} kept", info.version, info.versions)));
        pairs.push(("saved", ago(info.saved_ms)));
    }
    let origin = &info.origin;
    pairs.extend(origin.service.clone().map(|service| ("made by", service)));
    pairs.extend(origin.run.clone().map(|run| ("run", run)));
    pairs.extend(origin.inputs.iter().map(|input| ("made from", short(input))));
    if origin.more {
        pairs.push(("made from", "and more".into()));
    }
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
