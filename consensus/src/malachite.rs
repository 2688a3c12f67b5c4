//! What we use of the engine, by one name each.

pub(crate) use malachite_channel::app::config;
pub(crate) use malachite_channel::app::consensus::{HIDDEN_LOCK_ROUND, Input, LivenessMsg, Role};
pub(crate) use malachite_channel::app::engine::host::{HeightParams, Next, SyncedValueOutcome};
pub(crate) use malachite_channel::app::engine::wal::log_entries;
pub(crate) use malachite_channel::app::streaming::{StreamContent, StreamId, StreamMessage};
#[cfg(test)]
pub(crate) use malachite_channel::app::types::core::CommitSignature;
pub(crate) use malachite_channel::app::types::core::{
    CommitCertificate, ExtendedCommitCertificate, LinearTimeouts, NilOrVal, PolkaCertificate,
    Round, SignedExtension, SignedMessage, SigningScheme, ValidatorProof, Validity,
    VoteExtensionScope, VoteExtensions, VoteType,
};
pub(crate) use malachite_channel::app::types::sync::{RawDecidedValue, Request, Response, Status};
pub(crate) use malachite_channel::app::types::{
    Keypair, LocallyProposedValue, PeerId, ProposedValue, SignedConsensusMsg,
};
pub(crate) use malachite_channel::app::wal::Log;
pub(crate) use malachite_channel::{AppMsg, NetworkMsg, Reply};
