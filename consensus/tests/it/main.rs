//! Validators in one process, over real sockets and files. One process a test, as nextest runs them: the registry of the
//! engine's metrics is of the whole process and keeps what nodes that ended left in it.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod chain;
mod cluster;
mod faults;
mod running;
