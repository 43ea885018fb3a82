//! `rhd invite`.

use std::time::Duration;

use rhd_protocol::{error::ErrorInfo, membership::Role};

use super::{Context, ui::Ui};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What the joining machine is: a person's device, or a machine that only serves
    #[arg(long, value_enum, default_value_t = RoleArg::Member)]
    role: RoleArg,
    /// How many machines may use the ticket
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    uses: u32,
    /// How long it can be used, as 30s, 10m, 1h or 7d
    #[arg(long, default_value = "1h", value_parser = duration)]
    expires: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum RoleArg {
    Member,
    Node,
}

pub(crate) async fn run(args: Args, cx: &Context, ui: &mut Ui) -> Result<(), ErrorInfo> {
    let role = match args.role {
        RoleArg::Member => Role::Member,
        RoleArg::Node => Role::Node,
    };
    let invited = cx.client().await?.invite(role, args.uses, args.expires).await?;
    if args.json { ui.json(&invited) } else { ui.line(&invited.ticket) }
}

/// Reads `90`, `90s`, `10m`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("use 30s, 10m, 1h or 7d".into()),
    };
    let number: u64 = digits.parse().map_err(|_| "use 30s, 10m, 1h or 7d".to_owned())?;
    match number.checked_mul(unit) {
        Some(seconds) if seconds > 0 => Ok(Duration::from_secs(seconds)),
        _ => Err("must be more than 0 and less than forever".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_one_unit() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for bad in ["", "h", "1w", "-1s", "0s", "1.5h", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
