//! A round begins: the engine gets the blocks that it may have forgotten in a crash, and those that came early.

use super::answer;
use crate::application::Application;
use crate::context::{Address, Context, Height};
use crate::malachite::{ProposedValue, Reply, Role, Round, Validity};
use crate::state::{Fatal, Progress, State};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
    proposer: Address,
    role: Role,
    reply: Reply<Vec<ProposedValue<Context>>>,
) -> Result<(), Fatal> {
    tracing::debug!(%height, %round, %proposer, ?role, "round");
    let values = started_round(state, height, round)?;
    answer(reply, values);
    Ok(())
}

fn started_round<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
) -> Result<Vec<ProposedValue<Context>>, Fatal> {
    let (true, Some(number)) = (height == state.next(), round.as_u32()) else {
        return Ok(Vec::new());
    };
    state.round = number;
    state.assembler.advance(state.head, number);
    state.progress.send_replace(Progress {
        height: height.0,
        round: number,
    });
    let mut values = Vec::new();
    for block in state.take_pending() {
        values.extend(state.judge(block)?);
    }
    let known = state.undecided.of(height).filter(|b| b.round == round);
    let known: Vec<_> = known
        .map(|block| ProposedValue {
            height,
            round: block.round,
            valid_round: block.valid_round,
            proposer: block.proposer,
            value: block.id,
            validity: Validity::Valid,
        })
        .filter(|value| !values.contains(value))
        .collect();
    values.extend(known);
    Ok(values)
}
