//! How a command ended.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::binary;

/// Exit code and output of one command.
#[derive(Debug)]
pub struct Outcome {
    /// The command, for messages.
    pub command: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end, with nothing on standard input.
    ///
    /// # Panics
    /// When it can't be run.
    pub fn of(mut command: Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap();
        Self::ended(format!("{command:?}"), &output)
    }

    fn ended(command: String, output: &Output) -> Self {
        Self {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Its stdout, when it succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// Its stdout as JSON, when it succeeded.
    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    /// Its stderr, when it ended with `code` and nothing on stdout.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:#?}");
        self.stderr
    }
}

/// The program under test, with nothing of this process's own settings, starting no daemon by itself.
pub fn command() -> Command {
    command_within(&[])
}

/// The same, run by another program that becomes it.
pub(crate) fn command_within(wrapper: &[&str]) -> Command {
    let mut command = match wrapper {
        [] => Command::new(binary()),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(binary());
            command
        }
    };
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RHD_") {
            command.env_remove(name);
        }
    }
    command.env("RHD_AUTOSTART", "0");
    command
}

/// Runs `rhd` with these arguments and this on standard input.
///
/// # Panics
/// When it can't be run.
pub fn rhd(args: &[&str], stdin: &str) -> Outcome {
    let mut command = command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome::ended(format!("rhd {}", args.join(" ")), &output)
}
