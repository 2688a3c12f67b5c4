//! Peers want to know from which height on this node has blocks.

use super::answer;
use crate::application::Application;
use crate::context::Height;
use crate::malachite::Reply;
use crate::state::{Fatal, State, application};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    reply: Reply<Height>,
) -> Result<(), Fatal> {
    let oldest = state
        .app
        .oldest()
        .map_err(application("to say its oldest block"))?;
    answer(reply, Height(oldest.max(1)));
    Ok(())
}
