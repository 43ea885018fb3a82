//! `rhd completions`.

use clap::CommandFactory;
use rhd_protocol::error::ErrorInfo;

use super::{Cli, Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    shell: clap_complete::Shell,
}

pub(crate) async fn run(args: Args, _: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "rhd", &mut script);
    ui.bytes(&script)
}
