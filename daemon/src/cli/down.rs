//! `rhd down`.

use std::time::Duration;

use rhd_protocol::error::{ErrorInfo, ErrorKind};

use super::{Context, ui::Ui};

/// Longer than any grace period that the daemon gives its calls.
const DEADLINE: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) async fn run(_: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let client = cx.client().await?;
    let status = client.status().await?;
    client.shutdown().await?;
    let late = || {
        ErrorInfo::new(
            ErrorKind::Timeout,
            format!("the daemon (pid {}) did not end within {} s", status.pid, DEADLINE.as_secs()),
        )
        .hint(format!("end it by force: kill -9 {}", status.pid))
    };
    let gone = async {
        while is_alive(status.pid) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.map_err(|_| late())?;
    ui.note(&format!("{} is down", status.name));
    Ok(())
}

/// Whether the process still runs: one that ended and that nobody waited for yet does not.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let ended = stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X']));
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    !ended && pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
