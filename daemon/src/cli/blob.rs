//! `rhd blob put|get|to|ls|rm|gc|verify`.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use rhd_protocol::{
    data::{BlobInfo, Collected, Content, DataAsk, Input, Origin, Verified},
    error::{ErrorInfo, ErrorKind},
    id::NodeId,
};
use rhd_sdk::Client;

use super::{
    Context,
    ui::{Ui, size},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Store a file; prints its hash
    Put {
        /// The file; - is standard input
        file: PathBuf,
        /// What to call it; without a name it is kept for a day after its last use
        #[arg(long)]
        name: Option<String>,
        /// What it was made from, for its record: a name or a hash; may be given more than once
        #[arg(long, requires = "name")]
        input: Vec<String>,
        /// The node to have it; this one by default
        #[arg(long)]
        node: Option<String>,
    },
    /// Get a blob, from whoever has it
    Get {
        /// Name or hash
        blob: String,
        /// Where to write it; standard output by default
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Have a blob on another node, too
    To {
        /// Name or hash
        blob: String,
        /// The node
        node: String,
        /// What to call it there; by default what it is called here
        #[arg(long)]
        name: Option<String>,
    },
    /// List what a node has
    Ls {
        /// The node; this one by default
        #[arg(long)]
        node: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take a name away; its content goes when nothing else needs it
    Rm {
        /// The name
        name: String,
        /// The node; this one by default
        #[arg(long)]
        node: Option<String>,
    },
    /// Remove what nothing needs
    Gc {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
        /// The node; this one by default
        #[arg(long)]
        node: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read all that is stored and compare it with its hashes
    Verify {
        /// The node; this one by default
        #[arg(long)]
        node: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    match args.verb {
        Verb::Put { file, name, input, node } => {
            let mut inputs = Vec::with_capacity(input.len());
            for input in input {
                let found = find(&client, &input).await?;
                inputs.push(Input { name: found.name, hash: found.content.hash }.to_string());
            }
            let origin = Origin { inputs, ..Origin::default() };
            let info = put(&client, &file, name, origin, node.as_deref(), ui).await?;
            ui.line(&info.content.hash.to_string())
        }
        Verb::Get { blob, output } => get(&client, &blob, output, ui).await,
        Verb::To { blob, node, name } => {
            let found = find_blob(&client, &blob).await?;
            let (from, name) = (holder(&found), name.or(found.name));
            let ask = DataAsk::Fetch { content: found.content, name, from, origin: found.origin };
            let info: BlobInfo = client.data(Some(&node), ask, &[], |t, _| ui.progress(t)).await?;
            ui.line(&info.content.hash.to_string())
        }
        Verb::Ls { node, json } => {
            let ask = DataAsk::List {};
            let blobs: Vec<BlobInfo> = client.data(node.as_deref(), ask, &[], |_, _| ()).await?;
            if json {
                return ui.json(&blobs);
            }
            let row = |blob: BlobInfo| {
                let (bytes, versions) = (size(blob.bytes()), blob.versions.to_string());
                let name = blob.name.unwrap_or_else(|| "-".into());
                vec![name, bytes, versions, blob.content.hash.to_string()]
            };
            let rows: Vec<_> = blobs.into_iter().map(row).collect();
            ui.table(&["NAME", "SIZE", "VERSIONS", "HASH"], &rows)
        }
        Verb::Rm { name, node } => {
            let ask = DataAsk::Remove { name: name.clone() };
            let () = client.data(node.as_deref(), ask, &[], |_, _| ()).await?;
            ui.note(&format!("removed {name}"));
            Ok(())
        }
        Verb::Gc { dry_run, node, json } => {
            let ask = DataAsk::Collect { dry_run };
            let done: Collected = client.data(node.as_deref(), ask, &[], |_, _| ()).await?;
            if json {
                return ui.json(&done);
            }
            let (verb, bytes, kept) =
                (if dry_run { "would remove" } else { "removed" }, done.bytes, done.kept_bytes);
            ui.line(&format!(
                "{verb} {} blobs ({}); {} stay ({})",
                done.blobs,
                size(bytes),
                done.kept_blobs,
                size(kept)
            ))
        }
        Verb::Verify { node, json } => {
            let ask = DataAsk::Verify {};
            let found: Verified =
                client.data(node.as_deref(), ask, &[], |t, _| ui.progress(t)).await?;
            if !found.damaged.is_empty() {
                ui.fail();
            }
            if json {
                return ui.json(&found);
            }
            for damaged in &found.damaged {
                let names = damaged.names.join(" ");
                ui.note(&format!("removed {} {names}: {}", damaged.hash, damaged.why));
            }
            let (blobs, bytes) = (found.blobs, size(found.bytes));
            ui.line(&format!(
                "{blobs} whole ({bytes}), {} in part, {} damaged",
                found.partial,
                found.damaged.len()
            ))
        }
    }
}

async fn put(
    client: &Client,
    file: &Path,
    name: Option<String>,
    origin: Origin,
    node: Option<&str>,
    ui: &mut Ui,
) -> Result<BlobInfo, ErrorInfo> {
    let unreadable = |e: std::io::Error| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("{} can't be read: {e}", file.display()))
    };
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(unreadable)?;
        let ask = DataAsk::Put { name, codec: None, parts: Vec::new(), origin };
        return client.data(node, ask, &bytes, |text, _| ui.progress(text)).await;
    }
    let path = text(std::path::absolute(file).map_err(unreadable)?)?;
    if node.is_none() {
        let ask = DataAsk::Import { path, name, origin };
        return client.data(None, ask, &[], |_, _| ()).await;
    }
    // The file is on this machine: it is taken in here, and fetched from there.
    let ask = DataAsk::Import { path, name: None, origin: Origin::default() };
    let here: BlobInfo = client.data(None, ask, &[], |_, _| ()).await?;
    let from = holder(&here);
    let ask = DataAsk::Fetch { content: here.content, name, from, origin };
    client.data(node, ask, &[], |text, _| ui.progress(text)).await
}

async fn get(
    client: &Client,
    blob: &str,
    output: Option<PathBuf>,
    ui: &mut Ui,
) -> Result<(), ErrorInfo> {
    let found = find_blob(client, blob).await?;
    let from = holder(&found);
    if let Some(output) = output {
        let output = std::path::absolute(&output).map_err(|e| {
            ErrorInfo::new(ErrorKind::BadRequest, format!("{}: {e}", output.display()))
        })?;
        let ask = DataAsk::Export { content: found.content, path: text(output)?, from };
        let _: BlobInfo = client.data(None, ask, &[], |text, _| ui.progress(text)).await?;
        return Ok(());
    }
    // First all of it here, then out: what goes to stdout can't be taken back.
    let ask = DataAsk::Fetch {
        content: found.content.clone(),
        name: None,
        from: from.clone(),
        origin: Origin::default(),
    };
    let _: BlobInfo = client.data(None, ask, &[], |text, _| ui.progress(text)).await?;
    let mut written = Ok(());
    let content: &Content = &found.content;
    let take = |chunk: &[u8]| {
        if written.is_ok() {
            written = ui.bytes(chunk);
        }
    };
    client.read_blob(content, from, take, |_, _| ()).await?;
    written
}

async fn find(client: &Client, blob: &str) -> Result<BlobInfo, ErrorInfo> {
    let ask = DataAsk::Find { blob: blob.to_owned(), far: true };
    client.data(None, ask, &[], |_, _| ()).await
}

/// The same, where it is no folder.
async fn find_blob(client: &Client, blob: &str) -> Result<BlobInfo, ErrorInfo> {
    let found = find(client, blob).await?;
    match &found.tree {
        None => Ok(found),
        Some(tree) => {
            let kind = tree.kind();
            Err(ErrorInfo::new(ErrorKind::BadRequest, format!("{blob} is a {kind}"))
                .hint(format!("it is at {}:{}; see `rhd {kind} --help`", found.node, tree.path)))
        }
    }
}

fn holder(info: &BlobInfo) -> Vec<NodeId> {
    info.node_id.parse().into_iter().collect()
}

fn text(path: PathBuf) -> Result<String, ErrorInfo> {
    path.into_os_string().into_string().map_err(|path| {
        let text = format!("{} has a name that is not UTF-8", path.display());
        ErrorInfo::new(ErrorKind::BadRequest, text)
    })
}
