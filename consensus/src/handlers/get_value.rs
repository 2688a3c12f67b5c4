//! This node is to propose. What it proposed in this round before a crash, it proposes again.

use super::answer;
use crate::application::{Application, Proposed};
use crate::context::{BlockId, Context, Height};
use crate::malachite::{LocallyProposedValue, Reply, Round};
use crate::state::{Fatal, State, application};
use crate::undecided::Block;
use std::time::{Duration, Instant};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
    timeout: Duration,
    reply: Reply<LocallyProposedValue<Context>>,
) -> Result<(), Fatal> {
    let Some((number, id)) = get_value(state, height, round, timeout)? else {
        return Ok(());
    };
    answer(reply, LocallyProposedValue::new(height, round, id));
    state.stream(height, number, Round::Nil, id);
    Ok(())
}

fn get_value<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
    timeout: Duration,
) -> Result<Option<(u32, BlockId)>, Fatal> {
    let (true, Some(number)) = (height == state.next(), round.as_u32()) else {
        return Ok(None);
    };
    if let Some(id) = state.undecided.own(height, number) {
        if state.undecided.get(height, id).is_none() {
            tracing::warn!(%height, %round, %id, "the block proposed in this round is lost: none is proposed");
            return Ok(None);
        }
        return Ok(Some((number, id)));
    }
    // Half of the time is for others, to get the block and execute it.
    let deadline = Instant::now() + timeout / 2;
    let proposer = state.settings.address;
    let Proposed { id, bytes } = state
        .app
        .propose(height.0, number, proposer, deadline)
        .map_err(application("to make a block"))?;
    let most = state.settings.block_bytes;
    if bytes.is_empty() || bytes.len() > most {
        return Err(Fatal::Size {
            bytes: bytes.len(),
            most,
        });
    }
    let block = Block {
        height,
        round,
        valid_round: Round::Nil,
        proposer,
        id: BlockId(id),
        bytes,
    };
    state.undecided.keep_own(block, number)?;
    Ok(Some((number, BlockId(id))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::testing;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    fn ask(state: &mut State<testing::Chain>, round: u32) -> Option<LocallyProposedValue<Context>> {
        let (reply, mut answer) = oneshot::channel();
        let second = Duration::from_secs(1);
        handle(state, Height(1), Round::new(round), second, reply).unwrap();
        answer.try_recv().ok()
    }

    #[test]
    fn a_round_has_one_value_also_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, sent) = testing::state(&app, 1, dir.path());
        let first = ask(&mut state, 0).unwrap();
        assert_eq!(sent.lock().unwrap().len(), 1);
        drop(state);
        let (mut state, sent) = testing::state(&app, 1, dir.path());
        assert_eq!(ask(&mut state, 0), Some(first.clone()));
        assert_eq!(
            sent.lock().unwrap()[0].id,
            first.value,
            "it is streamed again"
        );
        assert_eq!(*app.made.lock().unwrap(), 1);
        assert_ne!(ask(&mut state, 1).unwrap().value, first.value);
    }

    #[test]
    fn a_value_that_is_lost_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        ask(&mut state, 0).unwrap();
        for entry in std::fs::read_dir(dir.path().join("proposals")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "block") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let (mut state, _) = testing::state(&app, 1, dir.path());
        assert_eq!(ask(&mut state, 0), None);
    }

    #[test]
    fn an_error_of_the_application_is_fatal() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, sent) = testing::state(&app, 1, dir.path());
        *app.fail.lock().unwrap() = true;
        let (reply, mut answer) = oneshot::channel();
        let result = handle(&mut state, Height(1), Round::new(0), Duration::ZERO, reply);
        assert!(matches!(result, Err(Fatal::Application { .. })));
        assert!(answer.try_recv().is_err());
        assert!(sent.lock().unwrap().is_empty());
    }
}
