//! The command line: one file per verb. Results go to stdout, everything else to stderr.

mod blob;
mod call;
mod cancel;
mod completions;
mod demo;
mod doctor;
mod down;
mod env;
mod folder;
mod get;
mod history;
mod invite;
mod join;
mod lineage;
mod logs;
mod ls;
mod objects;
mod peers;
mod ps;
mod put;
mod python;
mod rm;
mod rollback;
mod show;
mod spot;
mod status;
mod table;
mod ui;
mod up;

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use rhd_protocol::error::{ErrorInfo, ErrorKind};
use rhd_sdk::Client;
use tokio::runtime;

use ui::Ui;

/// Run Python functions and classes on any of your machines, as if they were here.
#[derive(Debug, Parser)]
#[command(name = "rhd", version, max_term_width = 100, subcommand_required = true)]
pub(crate) struct Cli {
    /// State directory of the node; several nodes may run on one machine, one per home
    #[arg(long, global = true, env = "RHD_HOME", value_name = "DIR")]
    home: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon
    Up(up::Args),
    /// End the daemon after its running calls
    Down(down::Args),
    /// Show how this node is
    Status(status::Args),
    /// Check this machine and say what to do
    Doctor(doctor::Args),
    /// Show the main job: three nodes, functions, classes, streams, a crash
    Demo(demo::Args),
    /// Make a ticket that lets another machine join this realm
    Invite(invite::Args),
    /// Join the realm of a ticket
    Join(join::Args),
    /// List the nodes of the realm
    Peers(peers::Args),
    /// Run a Python that has the rhd SDK
    Python(python::Args),
    /// Call a function or method
    Call(call::Args),
    /// List runs
    Ps(ps::Args),
    /// Show what a run wrote
    Logs(logs::Args),
    /// End a run
    Cancel(cancel::Args),
    /// List what has a name: functions, classes, instances and data
    Ls(ls::Args),
    /// Show one of them
    Show(show::Args),
    /// Take a function, class, instance or data off its nodes
    Rm(rm::Args),
    /// List the versions of data
    History(history::Args),
    /// Put an earlier version of data back in place, as a new version
    Rollback(rollback::Args),
    /// Show what data was made from
    Lineage(lineage::Args),
    /// Store an object in the memory of an env
    Put(put::Args),
    /// Print an object of an env as JSON
    Get(get::Args),
    /// List, build and remove envs
    Env(env::Args),
    /// Store, move and read content, on any node
    Blob(blob::Args),
    /// Folders: bring them from node to node, keep them alike
    Folder(folder::Args),
    /// Tables of Parquet files: look at them, on any node
    Table(table::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// What every verb may use.
#[derive(Debug)]
pub(crate) struct Context {
    home: PathBuf,
}

impl Context {
    /// The node's state directory, absolute.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Connects to the daemon. Only `up` and `python` start one.
    pub(crate) async fn client(&self) -> Result<Client, ErrorInfo> {
        Client::attach(&self.home).await
    }
}

/// Parses the command line, runs the verb, and gives its exit code.
pub fn main() -> ExitCode {
    // The demo sends this very program to a node, as an author's program would send itself.
    rhd_sdk::worker::run_if_worker();
    let mut ui = Ui::new();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return ui.usage(&usage),
    };
    let outcome = run(cli, &mut ui);
    ui.finish(outcome)
}

fn run(cli: Cli, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let home = cli.home.unwrap_or_else(rhd_sdk::default_home);
    let home = std::path::absolute(&home).map_err(|source| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("home {}: {source}", home.display()))
            .hint("name a directory: rhd --home DIR …")
    })?;
    let cx = Context { home };
    let daemon = matches!(&cli.verb, Verb::Up(args) if args.runs_here());
    let mut builder = if daemon {
        // Half of the cores are for the code that the node serves. A thread that has to be woken
        // costs a small call more than it gains: on two cores one thread is the faster.
        let cores = std::thread::available_parallelism().map_or(2, NonZero::get);
        let mut builder = runtime::Builder::new_multi_thread();
        builder.worker_threads((cores / 2).max(1));
        builder
    } else {
        runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(|source| {
        ErrorInfo::new(ErrorKind::Internal, format!("can't start threads: {source}"))
    })?;
    let outcome = if daemon || matches!(&cli.verb, Verb::Demo(_)) {
        // They hear SIGINT themselves: the daemon drains, the demo ends its nodes.
        runtime.block_on(verb(cli.verb, &cx, ui))
    } else {
        runtime.block_on(async {
            tokio::select! {
                outcome = verb(cli.verb, &cx, ui) => outcome,
                _ = tokio::signal::ctrl_c() => Err(ui::interrupted()),
            }
        })
    };
    // A read of stdin that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    outcome
}

async fn verb(verb: Verb, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    match verb {
        Verb::Up(args) => up::run(args, cx, ui).await,
        Verb::Down(args) => down::run(args, cx, ui).await,
        Verb::Status(args) => status::run(args, cx, ui).await,
        Verb::Doctor(args) => doctor::run(args, cx, ui).await,
        Verb::Demo(args) => demo::run(args, cx, ui).await,
        Verb::Invite(args) => invite::run(args, cx, ui).await,
        Verb::Join(args) => join::run(args, cx, ui).await,
        Verb::Peers(args) => peers::run(args, cx, ui).await,
        Verb::Python(args) => python::run(args, cx, ui).await,
        Verb::Call(args) => call::run(args, cx, ui).await,
        Verb::Ps(args) => ps::run(args, cx, ui).await,
        Verb::Logs(args) => logs::run(args, cx, ui).await,
        Verb::Cancel(args) => cancel::run(args, cx, ui).await,
        Verb::Ls(args) => ls::run(args, cx, ui).await,
        Verb::Show(args) => show::run(args, cx, ui).await,
        Verb::Rm(args) => rm::run(args, cx, ui).await,
        Verb::History(args) => history::run(args, cx, ui).await,
        Verb::Rollback(args) => rollback::run(args, cx, ui).await,
        Verb::Lineage(args) => lineage::run(args, cx, ui).await,
        Verb::Put(args) => put::run(args, cx, ui).await,
        Verb::Get(args) => get::run(args, cx, ui).await,
        Verb::Env(args) => env::run(args, cx, ui).await,
        Verb::Blob(args) => blob::run(args, cx, ui).await,
        Verb::Folder(args) => folder::run(args, cx, ui).await,
        Verb::Table(args) => table::run(args, cx, ui).await,
        Verb::Completions(args) => completions::run(args, cx, ui).await,
    }
}
