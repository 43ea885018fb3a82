//! `rhd put`.

use rhd_protocol::error::ErrorInfo;
use serde_json::Value;

use super::{
    Context,
    objects::{self, Place},
    ui::Ui,
};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The key, at most 200 characters; what has it is replaced
    key: String,
    /// The object: JSON, or plain text where it is none
    #[arg(value_name = "JSON", allow_negative_numbers = true)]
    value: String,
    #[command(flatten)]
    place: Place,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let value = serde_json::from_str(&args.value).unwrap_or(Value::String(args.value));
    objects::call(&client, &args.place, ui, "put", &(&args.key, value)).await?;
    ui.note(&format!("put {}", args.key));
    Ok(())
}
