//! A block that has a polka is proposed again, or locked in a late round: others may lack it.

use crate::application::Application;
use crate::context::{BlockId, Height};
use crate::malachite::Round;
use crate::state::{Fatal, State};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
    valid_round: Round,
    id: BlockId,
) -> Result<(), Fatal> {
    if let Some(number) = round.as_u32() {
        state.stream(height, number, valid_round, id);
    }
    Ok(())
}
