//! Votes are not extended; the engine does not ask unless told to.

use super::answer;
use crate::malachite::Reply;
use crate::state::Fatal;
use bytes::Bytes;

pub(crate) fn handle(reply: Reply<Option<Bytes>>) -> Result<(), Fatal> {
    answer(reply, None);
    Ok(())
}
