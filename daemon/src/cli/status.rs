//! `rhd status`.

use rhd_protocol::error::ErrorInfo;

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let s = cx.client().await?.status().await?;
    if args.json {
        return ui.json(&s);
    }
    let role = if s.founder { format!("{} (founder)", s.role) } else { s.role.to_string() };
    ui.pairs(&[
        ("name", s.name),
        ("user", s.user),
        ("role", role),
        ("realm", s.realm.chars().take(10).collect()),
        ("id", s.id.chars().take(10).collect()),
        ("version", s.version),
        ("pid", s.pid.to_string()),
        ("up", span(s.uptime)),
        ("home", s.home),
        ("listens", s.listen.join(" ")),
        ("http", s.web.unwrap_or_else(|| "off".into())),
        ("peers", s.peers.to_string()),
        ("calls", s.calls.to_string()),
        ("workers", s.workers.to_string()),
        ("memory", format!("{} MiB", s.rss / (1 << 20))),
    ])
}

/// `75` as `1m 15s`.
fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {seconds}s"),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn spans_have_two_parts_at_most() {
        let spans = [0, 75, 3600, 90_061].map(super::span);
        assert_eq!(spans, ["0s", "1m 15s", "1h 0m", "1d 1h"]);
    }
}
