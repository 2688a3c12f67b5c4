//! The engine listens: it is told where to start.

use super::answer;
use crate::application::Application;
use crate::context::{Context, Height};
use crate::malachite::{HeightParams, Reply};
use crate::state::{Fatal, State};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    reply: Reply<(Height, HeightParams<Context>)>,
) -> Result<(), Fatal> {
    state.goes_on()?;
    tracing::info!(height = %state.next(), "consensus starts");
    answer(reply, (state.next(), state.params()));
    Ok(())
}
