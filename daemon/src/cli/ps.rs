//! `rhd ps`.

use std::time::{SystemTime, UNIX_EPOCH};

use rhd_protocol::{
    call::Verb,
    error::ErrorInfo,
    run::{RunInfo, RunStatus},
};

use super::{Context, ui::Ui};

/// Runs that are shown unless all are asked for.
const SHOWN: u32 = 50;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only runs of this name
    name: Option<String>,
    /// Only runs on this node
    #[arg(long)]
    node: Option<String>,
    /// All that are recorded, not just the newest 50
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let limit = if args.all { 0 } else { SHOWN };
    let client = cx.client().await?;
    let runs = client
        .runs(args.node.as_deref(), args.name.as_deref(), limit, |line| ui.note(line))
        .await?;
    if args.json {
        return ui.json(&runs);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let rows: Vec<_> = runs.iter().map(|run| row(run, now)).collect();
    ui.table(&["RUN", "NAME", "STATUS", "NODE", "TARGET", "CALLER", "STARTED", "TOOK"], &rows)
}

fn row(run: &RunInfo, now: u64) -> Vec<String> {
    let end = if run.ended_ms == 0 { now } else { run.ended_ms };
    let unknown = run.ended_ms == 0 && run.status != RunStatus::Running;
    vec![
        run.id.to_string(),
        or_dash(&run.name),
        status(run.status).into(),
        or_dash(&run.host),
        target(run),
        or_dash(&run.caller),
        format!("{} ago", span(now.saturating_sub(run.started_ms))),
        if unknown { "-".into() } else { span(end.saturating_sub(run.started_ms)) },
    ]
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

fn target(run: &RunInfo) -> String {
    match (&run.method, run.verb) {
        (Some(method), _) => format!("{}.{method}", run.service),
        (None, Verb::New) => format!("{}()", run.service),
        (None, _) => or_dash(&run.service),
    }
}

/// As the SDKs spell it.
pub(super) fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::NotStarted => "NOT_STARTED",
        RunStatus::Running => "RUNNING",
        RunStatus::Completed => "COMPLETED",
        RunStatus::Cancelled => "CANCELLED",
        RunStatus::Error => "ERROR",
        RunStatus::Interrupted => "INTERRUPTED",
    }
}

/// A time that passed, for people.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..120_000 => format!("{:.1}s", ms as f64 / 1000.0),
        120_000..7_200_000 => format!("{}m", ms / 60_000),
        7_200_000..172_800_000 => format!("{}h", ms / 3_600_000),
        _ => format!("{}d", ms / 86_400_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_grow() {
        let spans = [999, 1_500, 119_000, 180_000, 7_200_000, 864_000_000].map(span);
        assert_eq!(spans, ["999ms", "1.5s", "119.0s", "3m", "2h", "10d"]);
    }
}
