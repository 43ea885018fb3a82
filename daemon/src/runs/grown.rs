//! How far the replies of a run that is being recorded go, for those who read them.

use crate::framed::Frame;

/// How far the replies on disk go.
#[derive(Debug, Clone, Default)]
pub(super) struct Grown {
    /// Bytes of whole frames.
    pub(super) len: u64,
    /// Set when no more will come.
    pub(super) end: Option<End>,
}

/// How the replies end.
#[derive(Debug, Clone)]
pub(super) enum End {
    /// With a final one on disk.
    Kept,
    /// With one that could not be written.
    Lost(Frame),
}
