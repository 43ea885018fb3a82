//! `rhd join`.

use std::io::Read;

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    ticket::{MAX_TICKET, Ticket},
};

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A ticket of rhd invite; - reads it from standard input
    ticket: String,
    /// Name of this node in the realm
    #[arg(long)]
    name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let ticket = if args.ticket == "-" { from_stdin()? } else { args.ticket };
    let ticket: Ticket = ticket.parse().map_err(|source: rhd_protocol::ticket::TicketError| {
        ErrorInfo::new(ErrorKind::BadRequest, source.to_string())
            .hint("copy the whole line that rhd invite prints")
    })?;
    ui.progress("joining");
    let status = cx.client().await?.join(&ticket.to_string(), args.name.as_deref()).await?;
    if args.json {
        return ui.json(&status);
    }
    let realm: String = status.realm.chars().take(10).collect();
    ui.note(&format!("joined realm {realm} as {}", status.name));
    Ok(())
}

fn from_stdin() -> Result<String, ErrorInfo> {
    let mut text = String::new();
    let limit = 2 * MAX_TICKET as u64;
    std::io::stdin().take(limit).read_to_string(&mut text).map_err(|source| {
        ErrorInfo::new(ErrorKind::BadRequest, format!("no ticket on standard input: {source}"))
    })?;
    Ok(text)
}
