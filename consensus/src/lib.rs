//! Consensus: an existing BFT engine, Malachite, decides on blocks that the rest of the node makes, checks and keeps.
//!
//! ```text
//!                     peers (libp2p: gossip of votes and parts of blocks, requests of blocks)
//!                       ▲ │
//!                       │ ▼
//!   guard ◀─ Signer ◀─ engine ─▶ its log (WAL)
//!                       ▲ │ one message at a time
//!                       │ ▼
//!                     handlers/  one file a message ─▶ proposals/  blocks not decided yet, on disk
//!                       ▲ │
//!                       │ ▼
//!                     Application:  propose · validate · commit · decided
//! ```
//!
//! What holds, whatever crashes:
//!
//! - A block is on disk, synced, before the engine hears that it is committed: only then does it forget its log.
//! - A height is never started again. After an error of the application consensus stops, and says so in [`Health`].
//! - What was proposed in a round is on disk before anybody hears of it, and is proposed again in that round.
//! - What was signed is on disk before the signature leaves ([`guard`]); nothing else is signed for the same place.
//!
//! [`Consensus::start`] gives a [`Handle`].

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "in tests a panic is the report")
)]

mod application;
mod certificate;
mod codec;
mod config;
mod context;
mod engine;
mod fs;
pub mod guard;
mod handlers;
mod health;
mod log;
mod malachite;
mod metrics;
mod parts;
mod signing;
#[cfg(test)]
mod sim;
mod state;
mod undecided;

pub use application::{Application, Decided, Proposed, Verdict};
pub use certificate::{CertificateError, Certified, read_certificate, verify_certificate};
pub use codec::CodecError;
pub use config::{Config, ConfigError, Sync, Timeouts};
pub use context::{Address, Signature, Validator, ValidatorSet, ValidatorSetError};
pub use engine::{Consensus, Handle, Identity, ShutdownError, StartError, Status, peer_id};
pub use health::Health;

pub(crate) use context::{Height, ProposalPart};
