//! The time of a height is over. The next one starts if the block is on disk; never is one started again, because that
//! empties the engine's log.

use super::answer;
use crate::application::Application;
use crate::context::Context;
use crate::malachite::{CommitCertificate, Next, Reply};
use crate::state::{Fatal, State};
use malachite_channel::app::types::MisbehaviorEvidence;
use tracing::field::display;

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    certificate: CommitCertificate<Context>,
    evidence: MisbehaviorEvidence<Context>,
    reply: Reply<Next<Context>>,
) -> Result<(), Fatal> {
    let height = certificate.height;
    for (validator, proposals) in evidence.proposals.iter() {
        let round = proposals.first().map(|(one, _)| display(one.round));
        tracing::warn!(%height, round, %validator, count = proposals.len(), "signed two proposals for one round");
    }
    for (validator, votes) in evidence.votes.iter() {
        let round = votes.first().map(|(one, _)| display(one.round));
        tracing::warn!(%height, round, %validator, count = votes.len(), "signed two votes for one round");
    }
    if height != state.head {
        return Err(Fatal::Gap {
            height: height.0,
            head: state.head.0,
        });
    }
    state.goes_on()?;
    answer(reply, Next::Start(state.next(), state.params()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Height;
    use crate::handlers::testing;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    #[test]
    fn a_height_follows_only_one_that_is_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let evidence = || MisbehaviorEvidence {
            proposals: Default::default(),
            votes: Default::default(),
        };
        let certificate = testing::certificate(1, Default::default());
        let (reply, mut answer) = oneshot::channel();
        let result = handle(&mut state, certificate.clone(), evidence(), reply);
        assert!(matches!(result, Err(Fatal::Gap { .. })));
        assert!(answer.try_recv().is_err());

        app.commit(1, &Default::default(), &[]).unwrap();
        state.advance(Height(1)).unwrap();
        let (reply, mut answer) = oneshot::channel();
        handle(&mut state, certificate, evidence(), reply).unwrap();
        assert!(matches!(answer.try_recv(), Ok(Next::Start(Height(2), _))));
    }
}
