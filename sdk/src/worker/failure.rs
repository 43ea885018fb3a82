//! What a call failed with, as it travels.

use std::{any::Any, cell::RefCell, fmt::Display, panic};

use rhd_protocol::error::{ErrorInfo, ErrorKind};

/// The header of a failure holds the texts, and has a limit of its own.
const MAX_TEXT: usize = 8 * 1024;

thread_local! {
    /// What the panic hook saw last on this thread.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The error that a function returned.
pub fn failed<E: Display>(error: E) -> ErrorInfo {
    // The alternate form of errors with a chain shows all of it.
    let mut info = ErrorInfo::new(ErrorKind::Remote, cut(format!("{error:#}")));
    info.exc_type = cut(std::any::type_name::<E>().into());
    info
}

/// A call that the runtime itself turned down.
pub fn refused(message: impl Into<String>, hint: impl Into<String>) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::BadRequest, message).hint(hint)
}

/// A call that was cancelled.
pub(super) fn cancelled() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Cancelled, "the call was cancelled")
}

/// A function that panicked.
pub(super) fn panicked(payload: &(dyn Any + Send)) -> ErrorInfo {
    let said = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
    let said = said.unwrap_or_else(|| "something that is no text".into());
    let mut info = ErrorInfo::new(ErrorKind::Remote, cut(format!("panicked: {said}")));
    info.exc_type = "panic".into();
    info.traceback = cut(PANIC.take().unwrap_or_default());
    info
}

/// Has panics leave where they happened for [`panicked`]; they are shown as before.
pub(super) fn watch_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let backtrace = std::backtrace::Backtrace::capture();
        let mut text = info.to_string();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            text.push_str(&format!("\n{backtrace}"));
        }
        PANIC.with(|last| {
            if let Ok(mut last) = last.try_borrow_mut() {
                *last = Some(text);
            }
        });
        before(info);
    }));
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str(" …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let text = cut("é".repeat(MAX_TEXT));
        assert!(text.len() < MAX_TEXT + 8 && text.ends_with("é …"));
        assert_eq!(failed("short").message, "short");
    }
}
