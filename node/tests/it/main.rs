//! The node from outside: over RPC, in this process; and the binary, with its signals, crashes and commands.

#![allow(clippy::unwrap_used, reason = "in tests a panic is the report")]

mod abuse;
mod bad_input;
mod cli;
mod contracts;
mod crash;
mod db;
mod faults;
mod gas;
mod hostile;
mod openrpc;
mod process;
mod rpc;
mod snapshot;
mod support;
mod testnet;
