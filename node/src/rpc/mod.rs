//! JSON-RPC 2.0 over HTTP and WebSocket, on one port.
//!
//! - [`api`] and [`types`]: the methods, what they take and return, as clients have them (`slackline-client`);
//! - [`error`]: what clients are told of the errors of a node;
//! - [`server`]: the methods over a chain and a producer;
//! - [`listener`]: the sockets, and the limits of each, each address and each session; `unsent`: what answers may take that are not read.

mod answers;
pub mod error;
pub mod listener;
pub mod server;
mod unsent;

pub use slackline_client::{api, types};
