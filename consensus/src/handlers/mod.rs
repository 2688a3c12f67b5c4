//! One file for each message that the engine sends. An error stops consensus on this node; a reply that is not given then
//! makes the engine wait, which is what is wanted.

use crate::application::Application;
use crate::context::Context;
use crate::malachite::{AppMsg, Reply};
use crate::state::{Fatal, State};

mod consensus_ready;
pub(crate) mod decided;
mod extend_vote;
pub(crate) mod finalized;
pub(crate) mod get_decided_values;
mod get_history_min_height;
pub(crate) mod get_value;
pub(crate) mod process_synced_value;
pub(crate) mod received_proposal_part;
pub(crate) mod restream_proposal;
pub(crate) mod started_round;
mod verify_vote_extensions;

#[cfg(test)]
pub(crate) mod testing;

/// Answers a message.
pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    message: AppMsg<Context>,
) -> Result<(), Fatal> {
    match message {
        AppMsg::ConsensusReady { reply } => consensus_ready::handle(state, reply),
        AppMsg::StartedRound {
            height,
            round,
            proposer,
            role,
            reply_value,
        } => started_round::handle(state, height, round, proposer, role, reply_value),
        AppMsg::GetValue {
            height,
            round,
            timeout,
            reply,
        } => get_value::handle(state, height, round, timeout, reply),
        AppMsg::ExtendVote { reply, .. } => extend_vote::handle(reply),
        AppMsg::VerifyVoteExtensions {
            extensions, reply, ..
        } => verify_vote_extensions::handle(extensions, reply),
        AppMsg::RestreamProposal {
            height,
            round,
            valid_round,
            value_id,
            ..
        } => restream_proposal::handle(state, height, round, valid_round, value_id),
        AppMsg::GetHistoryMinHeight { reply } => get_history_min_height::handle(state, reply),
        AppMsg::ReceivedProposalPart {
            from,
            published_by,
            part,
            reply,
        } => received_proposal_part::handle(state, from, published_by, part, reply),
        AppMsg::Decided {
            certificate, reply, ..
        } => decided::handle(state, certificate, reply),
        AppMsg::Finalized {
            certificate,
            evidence,
            reply,
            ..
        } => finalized::handle(state, certificate, evidence, reply),
        AppMsg::GetDecidedValues { range, reply } => {
            get_decided_values::handle(state, range, reply)
        }
        AppMsg::ProcessSyncedValue {
            height,
            round,
            proposer,
            value_bytes,
            reply,
        } => process_synced_value::handle(state, height, round, proposer, value_bytes, reply),
    }
}

/// Gives an answer. If nobody waits for it, the engine is stopping.
fn answer<T>(reply: Reply<T>, value: T) {
    let _ = reply.send(value);
}
