//! `rhd lineage`.

use std::collections::HashMap;

use rhd_protocol::{
    data::{DataAsk, Lineage, MAX_DEPTH, MAX_LINEAGE, Made},
    error::ErrorInfo,
    id::Hash,
};

use super::{
    Context,
    history::{ago, holder, short},
    ui::{Ui, plain},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name or hash of data
    blob: String,
    /// Number of a version, as `rhd history` has it; the newest by default
    #[arg(long)]
    version: Option<u64>,
    /// Steps to go back
    #[arg(long, default_value_t = 10)]
    depth: u32,
    /// The node that holds it; by default the one with the newest version
    #[arg(long)]
    node: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let node = match args.blob.parse::<Hash>() {
        Ok(_) => args.node,
        Err(_) => Some(holder(&client, &args.blob, args.node).await?),
    };
    let ask = DataAsk::Lineage { blob: args.blob, version: args.version, depth: args.depth };
    let mut lineage: Lineage = client.data(node.as_deref(), ask, &[], |_, _| ()).await?;
    lineage.cut |= lineage.made.len() > MAX_LINEAGE;
    lineage.made.truncate(MAX_LINEAGE);
    if args.json {
        return ui.json(&lineage);
    }
    for line in tree(&lineage) {
        ui.line(&plain(&line))?;
    }
    if lineage.cut {
        ui.note("there is more, which was not followed: see --depth");
    }
    Ok(())
}

/// The lines of a lineage; what comes up twice has its inputs where it is nearest to the top.
fn tree(lineage: &Lineage) -> Vec<String> {
    let places: HashMap<&str, usize> =
        lineage.made.iter().enumerate().rev().map(|(n, made)| (&*made.blob, n)).collect();
    // The first that names it shows what it was made from; all that come after their first.
    let mut owner: Vec<Option<usize>> = vec![None; lineage.made.len()];
    let mut depth = vec![0; lineage.made.len()];
    for (n, made) in lineage.made.iter().enumerate() {
        for place in inputs(made).filter_map(|input| places.get(input)).copied() {
            if place > n && owner[place].is_none() && depth[n] < MAX_DEPTH {
                owner[place] = Some(n);
                depth[place] = depth[n] + 1;
            }
        }
    }
    let mut lines = Vec::new();
    // What is to be shown, the next one last: itself, who names it, and how far in.
    let mut next =
        vec![(lineage.made.first().map_or("", |made| &made.blob), None, String::new(), "")];
    while let Some((blob, by, indent, branch)) = next.pop() {
        let place = places.get(blob).copied();
        let made = place.and_then(|place| lineage.made.get(place));
        let is_here = by.is_none() || place.is_some_and(|place| owner[place] == by);
        lines.push(format!("{indent}{branch}{}", line(blob, made, is_here)));
        let Some(made) = made.filter(|_| is_here) else { continue };
        let indent = match branch {
            "├─ " => indent + "│  ",
            "└─ " => indent + "   ",
            _ => indent,
        };
        let below: Vec<&str> = inputs(made).collect();
        for (n, input) in below.iter().enumerate().rev() {
            let branch = if n + 1 == below.len() { "└─ " } else { "├─ " };
            next.push((input, place, indent.clone(), branch));
        }
    }
    lines
}

fn inputs(made: &Made) -> impl Iterator<Item = &str> {
    made.record.iter().flat_map(|record| &record.version.inputs).map(String::as_str)
}

fn line(blob: &str, made: Option<&Made>, is_here: bool) -> String {
    let mut text = short(blob);
    let Some(record) = made.and_then(|made| made.record.as_ref()) else { return text };
    let version = &record.version;
    if !blob.starts_with(&format!("{}@", record.name)) {
        text.push_str(&format!("  is {}", record.name));
    }
    text.push_str(&format!("  version {} on {}", version.number, record.node));
    if !is_here {
        return text + ", see elsewhere";
    }
    text.push_str(&format!(", saved {}", ago(version.saved_ms)));
    match (&version.service, &version.run) {
        (Some(service), Some(run)) => text.push_str(&format!(", by {service} in run {run}")),
        (None, Some(run)) => text.push_str(&format!(", in run {run}")),
        _ => {}
    }
    if let Some(restored) = version.restored {
        text.push_str(&format!(", rolled back to version {restored}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use rhd_protocol::data::{Content, Record, Version};

    use super::*;

    fn made(name: &str, inputs: &[&str]) -> Made {
        let text = |name: &str| format!("/a/{name}@{}", Hash::of(name.as_bytes()));
        let version = Version {
            number: 1,
            content: Content {
                hash: Hash::of(name.as_bytes()),
                size: 1,
                codec: None,
                parts: vec![],
            },
            saved_ms: 0,
            author: "box".into(),
            author_id: String::new(),
            run: None,
            inputs: inputs.iter().map(|input| text(input)).collect(),
            service: None,
            more: false,
            restored: None,
            tree: None,
        };
        let record = Record { name: format!("/a/{name}"), node: "box".into(), version };
        Made { blob: text(name), record: Some(record) }
    }

    fn shape(made: Vec<Made>) -> Vec<String> {
        let lines = tree(&Lineage { made, cut: false }).into_iter();
        let cut = |line: String| {
            let seen = if line.contains("see elsewhere") { "*" } else { "" };
            format!("{}{seen}", line.split('@').next().unwrap_or_default())
        };
        lines.map(cut).collect()
    }

    #[test]
    fn each_is_followed_once_and_circles_end() {
        let lines = shape(vec![
            made("x", &["y", "z"]),
            made("y", &["z", "w"]),
            made("z", &["v", "x"]),
            Made { record: None, ..made("w", &[]) },
            made("v", &[]),
        ]);
        let expected = [
            "/a/x",
            "├─ /a/y",
            "│  ├─ /a/z*",
            "│  └─ /a/w",
            "└─ /a/z",
            "   ├─ /a/v",
            "   └─ /a/x*",
        ];
        assert_eq!(lines, expected);
        assert_eq!(shape(vec![made("x", &["x"])]), ["/a/x", "└─ /a/x*"]);
        // What was not followed is shown by its name alone.
        assert_eq!(shape(vec![made("x", &["far"])]), ["/a/x", "└─ /a/far"]);
    }
}
