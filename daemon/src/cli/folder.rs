//! `rhd folder to|sync|save|ls|mkdir|mv|rm`.

use rhd_protocol::{
    data::{DataAsk, Origin, Saved},
    error::ErrorInfo,
    folder::{FolderAsk, Listed, Synced},
    frame,
};
use rhd_sdk::Client;

use super::{
    Context,
    spot::{Spot, spot},
    ui::{Ui, plain, size},
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Have a copy of a folder at another place, or bring it up to date; prints where it is
    To {
        /// The folder: PATH or NODE:PATH
        #[arg(value_parser = spot)]
        from: Spot,
        /// Where: NODE:PATH, PATH, or NODE: for a place of its own there
        #[arg(value_parser = spot)]
        to: Spot,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring what changed in either of two folders to the other
    Sync {
        /// One folder: PATH or NODE:PATH
        #[arg(value_parser = spot)]
        one: Spot,
        /// The other
        #[arg(value_parser = spot)]
        other: Spot,
        /// Go on each time that something changes, until Ctrl-C
        #[arg(long)]
        watch: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Save a folder as the newest version of a name, on its node; prints its hash
    Save {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        folder: Spot,
        /// What to call it
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List what is in a folder
    Ls {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        folder: Spot,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a folder, with those above it
    Mkdir {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        folder: Spot,
    },
    /// Move or rename a folder on its node
    Mv {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        folder: Spot,
        /// Where to, on the same node; nothing may be there
        to: String,
    },
    /// Remove a folder, or some of what is in it
    Rm {
        /// PATH or NODE:PATH
        #[arg(value_parser = spot)]
        folder: Spot,
        /// Paths in it; all of it by default
        contents: Vec<String>,
    },
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    match args.verb {
        Verb::To { from, to, json } => {
            let ask =
                FolderAsk::Copy { from: from.place()?, node: to.node.clone(), to: to.path()? };
            let done: Synced = client.folders(None, ask, |t, _| ui.progress(t), |_| ()).await?;
            if json {
                return ui.json(&done);
            }
            told(&done, ui);
            ui.line(&done.path)
        }
        Verb::Sync { one, other, watch, json } => {
            let ask = FolderAsk::Sync { one: one.place()?, other: other.place()?, watch };
            if !watch {
                let done: Vec<Synced> =
                    client.folders(None, ask, |t, _| ui.progress(t), |_| ()).await?;
                return shown(&done, json, ui);
            }
            let mut written = Ok(());
            let each = |body: &[u8]| {
                let done = frame::decode::<Vec<Synced>>(body);
                if let (Ok(done), Ok(())) = (done, &written)
                    && (json || done.iter().any(is_news))
                {
                    written = shown(&done, json, ui);
                }
            };
            let () = client.folders(None, ask, |_, _| (), each).await?;
            written
        }
        Verb::Save { folder, name, json } => save(&client, &folder, name, false, json, ui).await,
        Verb::Ls { folder, json } => {
            let place = folder.place()?;
            let ask = FolderAsk::List { path: place.path };
            let node = place.node.as_deref();
            let listed: Vec<Listed> = client.folders(node, ask, |_, _| (), |_| ()).await?;
            if json {
                return ui.json(&listed);
            }
            let row = |one: Listed| match one.dir {
                true => vec![format!("{}/", one.name), "-".into()],
                false => vec![one.name, size(one.size)],
            };
            let rows: Vec<_> = listed.into_iter().map(row).collect();
            ui.table(&["NAME", "SIZE"], &rows)
        }
        Verb::Mkdir { folder } => {
            let place = folder.place()?;
            let ask = FolderAsk::Make { path: place.path };
            let path: String =
                client.folders(place.node.as_deref(), ask, |_, _| (), |_| ()).await?;
            ui.line(&path)
        }
        Verb::Mv { folder, to } => {
            let place = folder.place()?;
            let to = Spot { node: folder.node.clone(), path: Some(to) }.place()?.path;
            let ask = FolderAsk::Move { path: place.path, to };
            let path: String =
                client.folders(place.node.as_deref(), ask, |_, _| (), |_| ()).await?;
            ui.line(&path)
        }
        Verb::Rm { folder, contents } => {
            let place = folder.place()?;
            let contents = (!contents.is_empty()).then_some(contents);
            let ask = FolderAsk::Remove { path: place.path, contents };
            client.folders(place.node.as_deref(), ask, |_, _| (), |_| ()).await
        }
    }
}

/// Saves a folder or table, and says what came of it.
pub(super) async fn save(
    client: &Client,
    folder: &Spot,
    name: String,
    table: bool,
    json: bool,
    ui: &mut Ui,
) -> Result<(), ErrorInfo> {
    let place = folder.place()?;
    let ask = DataAsk::SaveFolder { path: place.path, name, table, origin: Origin::default() };
    let node = place.node.as_deref();
    let saved: Saved = client.data(node, ask, &[], |text, _| ui.progress(text)).await?;
    if json {
        return ui.json(&saved);
    }
    let info = &saved.info;
    let name = info.name.as_deref().unwrap_or_default();
    let (bytes, stored) = (size(info.bytes()), size(saved.stored));
    ui.note(&plain(&format!(
        "{name} is at version {} on {} ({bytes}, {stored} of it new)",
        info.version, info.node
    )));
    for skipped in &saved.skipped {
        ui.note(&plain(&format!("left out: {}: {}", skipped.path, skipped.why)));
    }
    ui.line(&info.content.hash.to_string())
}

fn shown(done: &[Synced], json: bool, ui: &mut Ui) -> Result<(), ErrorInfo> {
    if json {
        return ui.json(&done);
    }
    for one in done {
        told(one, ui);
    }
    Ok(())
}

fn is_news(done: &Synced) -> bool {
    done.written + done.removed > 0 || !done.conflicts.is_empty()
}

/// Says what became of a folder, on stderr.
fn told(done: &Synced, ui: &mut Ui) {
    ui.note(&format!(
        "{}:{}: {} written, {} removed, {} moved; {} entries ({})",
        done.node,
        done.path,
        done.written,
        done.removed,
        size(done.moved),
        done.entries,
        size(done.bytes)
    ));
    for path in &done.conflicts {
        ui.note(&format!("changed on both sides; what was here is now {path}"));
    }
    if !done.kept.is_empty() {
        ui.note(&format!("{} that are only here, or changed only here, stay", done.kept.len()));
    }
    for skipped in &done.skipped {
        ui.note(&format!("{}: {}", skipped.path, skipped.why));
    }
}
