//! JSON-RPC 2.0 over HTTP and WebSocket, on one port.
//!
//! - [`api`]: the methods, as a trait from which both server and client are made;
//! - [`types`]: what they take and return, as JSON;
//! - [`error`]: every way in which they fail, with its code;
//! - [`server`]: their implementation over a chain and a producer, and the limits of the listener.

pub mod api;
pub mod error;
pub mod server;
pub mod types;
