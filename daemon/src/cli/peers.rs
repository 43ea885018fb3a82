//! `rhd peers`.

use rhd_protocol::{
    api::{PathKind, Peer},
    error::ErrorInfo,
};

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let peers = cx.client().await?.peers().await?;
    if args.json {
        return ui.json(&peers);
    }
    let rows: Vec<_> = peers.into_iter().map(row).collect();
    ui.table(&["NAME", "ROLE", "PATH", "RTT", "LOAD", "SERVICES", "VERSION", "ADDRESS"], &rows)
}

fn row(peer: Peer) -> Vec<String> {
    let path = match peer.path {
        PathKind::Here => "here",
        PathKind::Direct => "direct",
        PathKind::Relayed => "relayed",
        PathKind::None => "away",
    };
    let rtt = peer.rtt_us.map_or_else(|| "-".into(), rtt);
    vec![
        peer.name,
        peer.role.to_string(),
        path.into(),
        rtt,
        peer.load.to_string(),
        peer.services.to_string(),
        peer.version,
        peer.addr.unwrap_or_else(|| "-".into()),
    ]
}

fn rtt(us: u64) -> String {
    if us < 1000 { format!("{us} us") } else { format!("{}.{} ms", us / 1000, us / 100 % 10) }
}
