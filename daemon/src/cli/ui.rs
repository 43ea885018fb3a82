//! The only place of this crate that prints.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use rhd_protocol::error::{ErrorInfo, ErrorKind};
use serde::Serialize;

/// Marks the error of Ctrl-C, which has an exit code of its own.
const INTERRUPTED: &str = "interrupted";

/// The user's terminal, or the pipes in its place.
#[derive(Debug)]
pub(crate) struct Ui {
    /// Whoever read stdout went away.
    closed: bool,
    /// The exit code of a verb that reported its failures itself.
    failed: bool,
    /// Progress stands on the current line of the terminal.
    progress: bool,
    /// Errors as one line of JSON, for the process that started this one.
    json_errors: bool,
}

impl Ui {
    pub(crate) fn new() -> Self {
        Self { closed: false, failed: false, progress: false, json_errors: false }
    }

    /// Writes a line of the result.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), ErrorInfo> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Writes a part of the result as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), ErrorInfo> {
        self.clear_progress();
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|source| {
            self.closed = source.kind() == io::ErrorKind::BrokenPipe;
            ErrorInfo::new(ErrorKind::Internal, format!("can't write the result: {source}"))
        })
    }

    /// Writes the result as JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<(), ErrorInfo> {
        let text = serde_json::to_string_pretty(value).map_err(|source| {
            ErrorInfo::new(ErrorKind::Internal, format!("can't write JSON: {source}"))
        })?;
        self.line(&text)
    }

    /// Writes aligned columns; numbers and text alike stand left, the last column is not padded.
    pub(crate) fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), ErrorInfo> {
        let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let head: Vec<String> = head.iter().map(|h| (*h).to_owned()).collect();
        for row in std::iter::once(&head).chain(rows) {
            let padded: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{}{}", plain(cell), pad(cell, *width)))
                .collect();
            self.line(padded.join("  ").trim_end())?;
        }
        Ok(())
    }

    /// Writes names and values, one pair a line.
    pub(crate) fn pairs(&mut self, pairs: &[(&str, String)]) -> Result<(), ErrorInfo> {
        let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in pairs {
            self.line(format!("{name:width$}  {}", plain(value)).trim_end())?;
        }
        Ok(())
    }

    /// Tells the person, beside the result.
    pub(crate) fn note(&mut self, text: &str) {
        self.clear_progress();
        self.stderr(format!("{text}\n").as_bytes());
    }

    /// Passes on what remote code wrote.
    pub(crate) fn log(&mut self, bytes: &[u8]) {
        self.clear_progress();
        self.stderr(bytes);
    }

    /// Shows what is being done: on a terminal in one changing line, else not at all.
    pub(crate) fn progress(&mut self, text: &str) {
        if io::stderr().is_terminal() {
            let line: String = plain(text).chars().take(100).collect();
            self.stderr(format!("\r\x1b[K{line}").as_bytes());
            self.progress = true;
        }
    }

    /// Makes the exit code 1 though the verb itself came to its end.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
    }

    /// Writes errors as one line of JSON from now on.
    pub(crate) fn json_errors(&mut self) {
        self.json_errors = true;
    }

    /// Shows clap's own words: help on stdout, complaints on stderr.
    pub(super) fn usage(&mut self, usage: &clap::Error) -> ExitCode {
        let _ = usage.print();
        ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2))
    }

    /// Shows how the verb ended and gives its exit code.
    pub(super) fn finish(&mut self, outcome: Result<(), ErrorInfo>) -> ExitCode {
        self.clear_progress();
        let Err(error) = outcome else {
            return ExitCode::from(u8::from(self.failed));
        };
        if self.closed {
            return ExitCode::SUCCESS;
        }
        if self.json_errors {
            let line = serde_json::to_string(&error).unwrap_or_else(|_| error.message.clone());
            self.stderr(format!("{line}\n").as_bytes());
        } else {
            self.stderr(describe(&error).as_bytes());
        }
        ExitCode::from(exit_code(&error))
    }

    fn clear_progress(&mut self) {
        if std::mem::take(&mut self.progress) {
            self.stderr(b"\r\x1b[K");
        }
    }

    fn stderr(&self, bytes: &[u8]) {
        // Nobody is left to tell when stderr is gone.
        let _ = io::stderr().lock().write_all(bytes);
    }
}

/// The error of Ctrl-C.
pub(crate) fn interrupted() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Cancelled, INTERRUPTED)
}

fn describe(error: &ErrorInfo) -> String {
    let mut text = String::new();
    if !error.traceback.is_empty() {
        text.push_str(error.traceback.trim_end());
        text.push('\n');
    }
    text.push_str(&format!("error: {}\n", error.message));
    if !error.node.is_empty() {
        text.push_str(&format!("  on node {}\n", error.node));
    }
    if !error.hint.is_empty() {
        text.push_str(&format!("  hint: {}\n", error.hint));
    }
    text
}

fn exit_code(error: &ErrorInfo) -> u8 {
    match error.kind {
        ErrorKind::BadRequest => 2,
        ErrorKind::DaemonUnavailable => 3,
        ErrorKind::PermissionDenied => 4,
        ErrorKind::NotFound => 5,
        ErrorKind::PeerLost => 6,
        ErrorKind::Cancelled if error.message == INTERRUPTED => 130,
        _ => 1,
    }
}

/// Without control characters: what other nodes call themselves must not steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn pad(cell: &str, width: usize) -> String {
    " ".repeat(width.saturating_sub(cell.chars().count()))
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{amount:.1} {}", units[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_where_and_what_to_type() {
        let error = ErrorInfo::new(ErrorKind::NotFound, "no /ann/f").hint("rhd ls").on("box");
        assert_eq!(describe(&error), "error: no /ann/f\n  on node box\n  hint: rhd ls\n");
        assert_eq!(exit_code(&error), 5);
        assert_eq!(exit_code(&interrupted()), 130);
        assert_eq!(exit_code(&ErrorInfo::new(ErrorKind::Remote, "interrupted")), 1);
    }
}
