//! Structured logs: one JSON object a line, in files that rotate daily.

use std::path::Path;

use serde::Deserialize;
use tracing_appender::{
    non_blocking::WorkerGuard,
    rolling::{InitError, RollingFileAppender, Rotation},
};
use tracing_subscriber::EnvFilter;

/// What is logged and for how long.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Level, or a filter such as `info,rhd::mesh=debug`.
    pub level: String,
    /// Days to keep.
    pub days: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "info".into(), days: 7 }
    }
}

/// Starts to log to `<home>/log/`; what is under way is written when the guard goes.
pub fn start(home: &Path, config: &Config) -> Result<WorkerGuard, InitError> {
    let folder = home.join("log");
    // The appender complains to stderr about a folder that it then makes; why it can't be made,
    // it says below.
    let _ = std::fs::create_dir_all(&folder);
    let file = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix("rhd")
        .filename_suffix("log")
        .max_log_files(config.days.max(1))
        .build(folder)?;
    let (writer, guard) = tracing_appender::non_blocking(file);
    let filter = EnvFilter::try_new(&config.level).unwrap_or_else(|_| EnvFilter::new("info"));
    // A second node in one process (tests) keeps the first one's subscriber.
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .try_init();
    Ok(guard)
}
