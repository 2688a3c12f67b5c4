//! Votes are not extended, so each extension is one too many.

use super::answer;
use crate::context::{Address, Context};
use crate::malachite::Reply;
use crate::state::Fatal;
use bytes::Bytes;
use malachite_channel::app::consensus::{VoteExtensionError, VoteExtensionVerdicts};

pub(crate) fn handle(
    extensions: Vec<(Address, Bytes)>,
    reply: Reply<VoteExtensionVerdicts<Context>>,
) -> Result<(), Fatal> {
    let verdict = |(address, _)| (address, Err(VoteExtensionError::InvalidVoteExtension));
    answer(reply, extensions.into_iter().map(verdict).collect());
    Ok(())
}
