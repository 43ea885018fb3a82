//! `rhd python`.

use std::{env, ffi::OsString, os::unix::process::CommandExt, path::PathBuf, process::Command};

use rhd_protocol::error::{ErrorInfo, ErrorKind};
use rhd_sdk::Client;

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file and its arguments, as python takes them; none: an interactive interpreter
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILE")]
    args: Vec<OsString>,
}

/// Becomes the interpreter, so that signals, terminal and exit code are its own.
pub(crate) async fn run(args: Args, cx: &Context, _: &mut Ui) -> Result<(), ErrorInfo> {
    let python = Client::connect(cx.home()).await?.python().await?;
    let mut path: Vec<PathBuf> = python.path.iter().map(PathBuf::from).collect();
    path.extend(env::var_os("PYTHONPATH").iter().flat_map(env::split_paths));
    let path = env::join_paths(path).map_err(|source| {
        ErrorInfo::new(ErrorKind::EnvError, format!("PYTHONPATH: {source}"))
            .hint("use a home whose path has no ':'")
    })?;
    let mut command = Command::new(&python.python);
    command.args(&args.args).env("PYTHONPATH", path).env("RHD_HOME", cx.home());
    if let Ok(binary) = env::current_exe() {
        command.env("RHD_BIN", binary);
    }
    let source = command.exec();
    Err(ErrorInfo::new(ErrorKind::EnvError, format!("can't run {}: {source}", python.python))
        .hint("name an interpreter: rhd down, then rhd up --detach --python PATH"))
}
