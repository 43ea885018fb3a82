//! `rhd history`.

use std::time::{SystemTime, UNIX_EPOCH};

use rhd_protocol::{
    data::{DataAsk, Input, Version},
    error::ErrorInfo,
};
use rhd_sdk::Client;

use super::{
    Context,
    ps::span,
    ui::{Ui, size},
};

/// Inputs that are shown of each version.
const SHOWN: usize = 3;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of data
    name: String,
    /// The node that holds it; by default the one with the newest version
    #[arg(long)]
    node: Option<String>,
    /// Only so many, the newest
    #[arg(long)]
    limit: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let node = holder(&client, &args.name, args.node).await?;
    let ask = DataAsk::History { name: args.name, limit: args.limit };
    let versions: Vec<Version> = client.data(Some(&node), ask, &[], |_, _| ()).await?;
    if args.json {
        return ui.json(&versions);
    }
    let rows: Vec<_> = versions.iter().map(row).collect();
    ui.table(&["VERSION", "SAVED", "BY", "KIND", "SIZE", "HASH", "RUN", "MADE FROM"], &rows)
}

fn row(version: &Version) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        version.number.to_string(),
        ago(version.saved_ms),
        version.author.clone(),
        version.kind().into(),
        size(version.bytes()),
        version.content.hash.short(),
        version.run.clone().unwrap_or_else(dash),
        made_from(version).unwrap_or_else(dash),
    ]
}

fn made_from(version: &Version) -> Option<String> {
    let mut parts: Vec<String> = version.inputs.iter().take(SHOWN).map(|i| short(i)).collect();
    match version.inputs.len().saturating_sub(SHOWN) {
        0 if !version.more => {}
        more => parts.push(format!("and {}{more} more", if version.more { "over " } else { "" })),
    }
    if let Some(restored) = version.restored {
        parts.insert(0, format!("version {restored}, rolled back to;"));
    }
    let text = parts.join(" ");
    (!text.is_empty()).then(|| text.trim_end_matches(';').to_owned())
}

/// An input, for people.
pub(super) fn short(input: &str) -> String {
    match input.parse::<Input>() {
        Ok(Input { name: Some(name), hash }) => format!("{name}@{}", hash.short()),
        Ok(Input { name: None, hash }) => hash.short(),
        Err(_) => input.to_owned(),
    }
}

/// How long ago that was.
pub(super) fn ago(at_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = u64::try_from(now).unwrap_or(u64::MAX);
    format!("{} ago", span(now.saturating_sub(at_ms)))
}

/// The node to ask about a name: the given one, else whoever has the newest version.
pub(super) async fn holder(
    client: &Client,
    name: &str,
    node: Option<String>,
) -> Result<String, ErrorInfo> {
    match node {
        Some(node) => Ok(node),
        None => Ok(client.blob(name, None).await?.info().node_id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use rhd_protocol::{data::Content, id::Hash};

    use super::*;

    #[test]
    fn what_it_was_made_from_is_short() {
        let hash = Hash::of(b"x");
        let inputs: Vec<String> =
            ["a", "b", "c", "d"].map(|name| format!("/ann/{name}@{hash}")).into();
        let version = Version {
            number: 1,
            content: Content { hash, size: 1, codec: None, parts: vec![] },
            saved_ms: 0,
            author: "box".into(),
            author_id: String::new(),
            run: None,
            inputs,
            service: None,
            more: false,
            restored: None,
            tree: None,
        };
        let s = hash.short();
        let three = format!("/ann/a@{s} /ann/b@{s} /ann/c@{s}");
        assert_eq!(made_from(&version).unwrap(), format!("{three} and 1 more"));
        let more = Version { more: true, ..version.clone() };
        assert_eq!(made_from(&more).unwrap(), format!("{three} and over 1 more"));
        let back = Version { restored: Some(3), inputs: vec![], ..version.clone() };
        assert_eq!(made_from(&back).unwrap(), "version 3, rolled back to");
        assert_eq!(made_from(&Version { inputs: vec![], ..version }), None);
    }
}
