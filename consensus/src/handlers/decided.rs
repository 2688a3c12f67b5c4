//! A block is decided. The answer is given when it is on disk, and not before: with it the engine may forget its log.

use super::answer;
use crate::application::Application;
use crate::certificate;
use crate::context::Context;
use crate::malachite::{CommitCertificate, Reply};
use crate::state::{Fatal, State, application};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    certificate: CommitCertificate<Context>,
    reply: Reply<()>,
) -> Result<(), Fatal> {
    decided(state, certificate)?;
    answer(reply, ());
    Ok(())
}

fn decided<A: Application>(
    state: &mut State<A>,
    certificate: CommitCertificate<Context>,
) -> Result<(), Fatal> {
    let (height, id) = (certificate.height, certificate.value_id);
    if height <= state.head {
        return Ok(());
    }
    if height != state.next() {
        return Err(Fatal::Gap {
            height: height.0,
            head: state.head.0,
        });
    }
    let block = state.undecided.get(height, id).ok_or(Fatal::Missing {
        height: height.0,
        id: id.0,
    })?;
    let bytes = certificate::encode(&certificate).map_err(|source| Fatal::Certificate {
        height: height.0,
        source,
    })?;
    state
        .app
        .commit(height.0, &block.bytes, &bytes)
        .map_err(application("to commit a block"))?;
    tracing::info!(%height, round = %certificate.round, %id, "committed");
    state.advance(height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Height;
    use crate::handlers::{get_value, testing};
    use crate::malachite::Round;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::sync::oneshot;

    fn proposed(state: &mut State<testing::Chain>) -> slackline_types::Hash {
        let (reply, mut answer) = oneshot::channel();
        let next = state.next();
        get_value::handle(state, next, Round::new(0), Duration::ZERO, reply).unwrap();
        answer.try_recv().unwrap().value.0
    }

    #[test]
    fn the_answer_follows_the_commit() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let id = proposed(&mut state);

        *app.fail.lock().unwrap() = true;
        let (reply, mut answer) = oneshot::channel();
        let result = handle(&mut state, testing::certificate(1, id), reply);
        assert!(matches!(result, Err(Fatal::Application { .. })));
        assert!(answer.try_recv().is_err(), "no answer without a commit");

        *app.fail.lock().unwrap() = false;
        let (reply, mut answer) = oneshot::channel();
        handle(&mut state, testing::certificate(1, id), reply).unwrap();
        answer.try_recv().unwrap();
        assert_eq!(app.head().unwrap(), 1);
        assert_eq!((state.next(), *state.decided.borrow()), (Height(2), 1));
        // Asked again, as the engine does when its log has it: the block is there.
        let (reply, mut answer) = oneshot::channel();
        handle(&mut state, testing::certificate(1, id), reply).unwrap();
        answer.try_recv().unwrap();
    }

    #[test]
    fn a_decided_block_is_found_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let id = proposed(&mut state);
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let (reply, mut answer) = oneshot::channel();
        handle(&mut state, testing::certificate(1, id), reply).unwrap();
        answer.try_recv().unwrap();
        assert_eq!(app.head().unwrap(), 1);
    }

    #[test]
    fn what_cannot_be_committed_is_fatal() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let id = proposed(&mut state);
        let unknown = testing::certificate(1, slackline_types::Hash::default());
        let result = handle(&mut state, unknown, oneshot::channel().0);
        assert!(matches!(result, Err(Fatal::Missing { .. })));
        let far = testing::certificate(2, id);
        let result = handle(&mut state, far, oneshot::channel().0);
        assert!(matches!(result, Err(Fatal::Gap { .. })));
    }
}
