//! `rhd get`.

use rhd_protocol::error::ErrorInfo;

use super::{
    Context,
    objects::{self, Place},
    ui::Ui,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key
    key: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let body = objects::call(&client, &args.place, ui, "get", &(&args.key,)).await?;
    ui.line(&String::from_utf8_lossy(&body))
}
