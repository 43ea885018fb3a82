//! The rhd daemon: all that touches the world, and its command line.
//!
//! Rooms, from the bottom up: `background` (threads that let calls go first),
//! `framed` (frames on any stream), `mesh` (peers and streams to them),
//! `blobs` (code as content), `workers` (processes that run user code), `naming` (what is hosted
//! where), `asked` (questions from node to node), `data` (blobs and their names), `folders` (folders
//! that move), `tables` (Parquet files in them), `runs` (what became of calls), `calls` (running and routing), `api` (the Unix socket),
//! `web` (HTTP), `node` (the composition root); beside them `cli`, which is a client like any other.

pub mod api;
pub mod asked;
pub mod background;
pub mod blobs;
pub mod calls;
pub mod cli;
pub mod data;
pub mod folders;
pub mod framed;
pub mod mesh;
pub mod naming;
pub mod node;
pub mod runs;
pub mod settings;
pub mod stores;
pub mod tables;
pub mod telemetry;
pub mod web;
pub mod workers;
