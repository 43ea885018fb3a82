//! The decisions, as plain values: `handle(input, now) -> effects`. Time is a number of milliseconds
//! on the caller's own monotonic clock.

pub mod backoff;
pub mod devices;
pub mod placement;
pub mod presence;
pub mod queue;
pub mod receipt;
pub mod reconcile;
pub mod routing;
pub mod sharing;
pub mod supervision;
pub mod transfer;
pub mod width;
