//! What callers are told when an env can't take their call.

use rhd_protocol::error::{ErrorInfo, ErrorKind};

use super::Env;
use crate::workers::lock;

impl Env {
    fn error(&self, kind: ErrorKind, message: String) -> ErrorInfo {
        ErrorInfo::new(kind, message).on(&self.shared.node)
    }

    pub(super) fn full(&self, waiting: usize) -> ErrorInfo {
        let text = format!("env {} is full: {waiting} calls wait in it already", self.key);
        self.error(ErrorKind::QueueFull, text).hint("call again later, or send fewer calls at once")
    }

    pub(super) fn gone_error(&self) -> ErrorInfo {
        lock(&self.state).closed.clone().unwrap_or_else(|| {
            self.error(ErrorKind::EnvError, format!("env {} was changed or removed", self.key))
                .hint("call again")
        })
    }

    pub(super) fn lost_instance(&self) -> ErrorInfo {
        let text =
            format!("the instance is gone: the worker of env {} that held it ended", self.key);
        self.error(ErrorKind::NotFound, text).hint("construct it again")
    }

    pub(super) fn start_error(&self, e: &std::io::Error) -> ErrorInfo {
        let text = format!("the worker of env {} can't be started: {e}", self.key);
        self.error(ErrorKind::EnvError, text).hint("`rhd doctor` looks for the cause")
    }

    pub(super) fn given_up(
        &self,
        failures: u32,
        retry_ms: u64,
        last: Option<&ErrorInfo>,
    ) -> ErrorInfo {
        let mut text =
            format!("the worker of env {} ended {failures} times in a row; given up", self.key);
        if let Some(last) = last {
            text.push_str("; at last: ");
            text.push_str(&last.message);
        }
        self.error(ErrorKind::EnvError, text).hint(format!(
            "correct what ends it and deploy again; without that it is tried again in {} s",
            retry_ms.div_ceil(1000)
        ))
    }
}
