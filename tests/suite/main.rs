//! Drives real daemons through their own command line and socket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod calls;
mod cli;
mod clocks;
mod data;
mod demo;
mod layers;
mod lifecycle;
mod many;
mod netns;
mod realm;
mod runs;
mod rust;
mod socket;
mod tables;
mod versions;
mod wire;
