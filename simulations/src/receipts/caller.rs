//! A client with one call at a time.

use rhd_protocol::{
    id::CallId,
    machine::receipt::{Asker, Heard, Known, merge},
};

#[derive(Debug)]
pub(super) struct Caller {
    /// Calls that it has yet to make.
    left: u32,
    pub(super) asker: Asker,
    pub(super) id: CallId,
    pub(super) made: u64,
    /// Ids of this call, the current one included.
    pub(super) ids: Vec<CallId>,
    /// Counts decisions: what was expected before the last is not waited for any more.
    pub(super) step: u64,
    /// Whether it waits before it asks again.
    pub(super) waits: bool,
    question: u64,
    answers: Vec<Option<Known>>,
    /// Whether it has made all its calls.
    pub(super) idle: bool,
}

impl Caller {
    pub(super) fn new(calls: u32) -> Self {
        Self {
            left: calls,
            asker: Asker::new(0, 0),
            id: CallId::from_bytes([0; 16]),
            made: 0,
            ids: Vec::new(),
            step: 0,
            waits: false,
            question: 0,
            answers: Vec::new(),
            idle: false,
        }
    }

    /// Turns to its next call; whether there is one.
    pub(super) fn next(&mut self, asker: Asker) -> bool {
        if self.left == 0 {
            self.idle = true;
            return false;
        }
        self.left -= 1;
        self.asker = asker;
        self.ids.clear();
        true
    }

    /// Makes its call, once more or for the first time, under a fresh id.
    pub(super) fn make(&mut self, id: CallId, now: u64) {
        (self.id, self.made) = (id, now);
        self.ids.push(id);
    }

    /// Whether a reply to this call is one that it waits for: of a call that was made again since,
    /// nobody wants to hear.
    pub(super) fn wants_reply(&self, id: CallId) -> bool {
        id == self.id && !self.idle && !self.waits
    }

    /// Asks all hosts; returns the number of the question.
    pub(super) fn asks(&mut self, hosts: usize) -> u64 {
        self.question += 1;
        self.answers = vec![None; hosts];
        self.question
    }

    /// Takes an answer in; whether it was the last.
    pub(super) fn answered(
        &mut self,
        id: CallId,
        question: u64,
        host: usize,
        known: Known,
    ) -> bool {
        if id != self.id || question != self.question || self.answers.is_empty() {
            return false;
        }
        self.answers[host] = Some(known);
        self.answers.iter().all(Option::is_some)
    }

    /// Nothing more is waited for: what this says.
    pub(super) fn silence(&mut self) -> Heard {
        let answers = std::mem::take(&mut self.answers);
        match answers.is_empty() {
            true if std::mem::take(&mut self.waits) => Heard::Waited,
            true => Heard::Lost,
            false => merge(&answers),
        }
    }

    /// What was asked before does not matter any more.
    pub(super) fn heard(&mut self) {
        self.answers.clear();
    }
}
