//! What those hear who ask for what can't be done; each says on which node, and what to type next.

use std::{fmt::Display, io};

use rhd_protocol::{
    error::{ErrorInfo, ErrorKind},
    id::CallId,
    machine::receipt::Receipt,
    name::{MAX_NAME, Name},
    run::{RunInfo, RunStatus},
};

/// What is typed to have a call leave a record.
const NEEDS_RECORD: &str =
    "calls that are to be asked about later need a record: f.options(run_name=…) or f.run(…)";

/// Whether `name` may name a run; empty is none.
pub(super) fn check_name(name: &str) -> Result<(), ErrorInfo> {
    let is_name = || match Name::parse(name) {
        Ok(Name::Full(_)) => true,
        // As nodes send it that know of no folders of runs.
        Ok(Name::Bare(_)) => name.parse::<CallId>().is_err(),
        _ => false,
    };
    if name.is_empty() || is_name() { Ok(()) } else { Err(no_name(name)) }
}

/// What can't name a run.
pub fn no_name(name: &str) -> ErrorInfo {
    let shown: String = name.chars().take(MAX_NAME).collect();
    ErrorInfo::new(ErrorKind::BadRequest, format!("{shown:?} names no run")).hint(format!(
        "use a bare name, @/name or /user/name, of letters, digits, '-', '_' and '.', at most \
         {MAX_NAME} characters; not what looks like a call id"
    ))
}

/// A call came whose id is known.
pub(super) fn known(node: &str, id: CallId, receipt: Option<Receipt>) -> ErrorInfo {
    let text = match receipt.map(|r| r.status) {
        Some(RunStatus::NotStarted) => {
            format!("call {id} came after node {node} had said that it never would start")
        }
        Some(RunStatus::Running) => format!("call {id} runs already on {node}"),
        _ => format!("call {id} was here before: node {node} runs none twice"),
    };
    ErrorInfo::new(ErrorKind::Conflict, text)
        .hint("choose a fresh random id for each call")
        .on(node)
        .call(id)
}

/// A run was to be named as one that is under way.
pub(super) fn name_taken(node: &str, name: &str, id: CallId, other: CallId) -> ErrorInfo {
    let text = format!("a run named {name} is under way on {node}: {other}");
    ErrorInfo::new(ErrorKind::Conflict, text)
        .hint(format!("wait for it, end it with `rhd cancel {name}`, or choose another name"))
        .on(node)
        .call(id)
}

/// What must be on disk before a call runs can't be written.
pub(super) fn no_room(node: &str, error: &io::Error) -> ErrorInfo {
    let text = format!("node {node} can't note the call down before it runs: {error}");
    ErrorInfo::new(ErrorKind::QueueFull, text)
        .hint(format!("nothing ran; free some disk space on {node}"))
        .on(node)
}

/// What came as the copy of a record is none.
pub(super) fn no_record(id: CallId) -> ErrorInfo {
    let text = format!("what came is not the record of run {id}, as called from this node");
    ErrorInfo::new(ErrorKind::BadRequest, text)
}

/// The run has no record, or none of that.
pub(super) fn not_kept(node: &str, info: &RunInfo, what: &str) -> ErrorInfo {
    let status = format!("{:?}", info.status).to_uppercase();
    ErrorInfo::new(ErrorKind::NotFound, format!("{what} not kept (it is {status})"))
        .hint(NEEDS_RECORD)
        .on(node)
        .call(info.id)
}

/// The journal doesn't reach back that far.
pub(super) fn forgotten(node: &str, id: CallId) -> ErrorInfo {
    let text =
        format!("node {node} does not remember far enough back to say what became of call {id}");
    ErrorInfo::new(ErrorKind::PeerLost, text).hint(NEEDS_RECORD).on(node).call(id)
}

/// Nobody knows the run.
pub(super) fn unknown(node: &str, run: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::NotFound, format!("there is no run {run}"))
        .hint("`rhd ps` lists those there are")
        .on(node)
}

/// A record was to be removed that is still written to.
pub(super) fn not_ended(node: &str, id: CallId) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Conflict, "the run has not ended")
        .hint(format!("end it first: `rhd cancel {id}`"))
        .on(node)
        .call(id)
}

/// A record can't be removed.
pub(super) fn not_removed(node: &str) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, "the record can't be removed")
        .hint("the daemon's log says why")
        .on(node)
}

/// A record is damaged.
pub(super) fn unreadable(error: &impl Display) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, format!("the record of the run can't be read: {error}"))
}

/// Whoever asked did not want to wait longer.
pub(super) fn still_running() -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Timeout, "the run did not end in time; it goes on")
        .hint("ask again, or end it with `rhd cancel`")
}

/// What a run returned was lost on its way to the disk.
pub(super) fn result_lost(node: &str) -> ErrorInfo {
    let text = format!("what the run returned could not be kept on {node}");
    ErrorInfo::new(ErrorKind::NotFound, text)
        .hint("its disk was full, most likely; the daemon's log there says more")
}

/// The daemon went down in the middle of a run.
pub(super) fn interrupted(node: &str) -> ErrorInfo {
    let text =
        format!("node {node} went down while the run was under way: it may have run in part");
    ErrorInfo::new(ErrorKind::PeerLost, text)
        .hint("it was not repeated; `rhd logs` shows how far it came")
}

/// A run yields more than can be kept.
pub(super) fn no_room_for_items(node: &str, id: CallId, error: &io::Error) -> ErrorInfo {
    let text = format!("the run was ended: node {node} can't keep what it returns ({error})");
    ErrorInfo::new(ErrorKind::QueueFull, text)
        .hint(
            "free some disk space there, or raise runs.max_bytes; results that are needed once \
             need no record",
        )
        .on(node)
        .call(id)
}

/// A defect of ours ended the run.
pub(super) fn broken(id: CallId) -> ErrorInfo {
    ErrorInfo::new(ErrorKind::Internal, "the run broke off inside the daemon").call(id)
}
