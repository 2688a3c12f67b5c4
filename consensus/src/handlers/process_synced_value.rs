//! A peer sent a block that is decided. The engine has checked the certificate; the block is checked like any other.

use super::answer;
use crate::application::{Application, Verdict};
use crate::context::{Address, BlockId, Context, Height};
use crate::malachite::{ProposedValue, Reply, Round, SyncedValueOutcome, Validity};
use crate::state::{Fatal, State};
use crate::undecided::Block;
use bytes::Bytes;

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
    proposer: Address,
    bytes: Bytes,
    reply: Reply<SyncedValueOutcome<Context>>,
) -> Result<(), Fatal> {
    let outcome = process(state, height, round, proposer, bytes)?;
    answer(reply, outcome);
    Ok(())
}

fn process<A: Application>(
    state: &mut State<A>,
    height: Height,
    round: Round,
    proposer: Address,
    bytes: Bytes,
) -> Result<SyncedValueOutcome<Context>, Fatal> {
    if height != state.next() {
        return Ok(SyncedValueOutcome::LocalTransientError);
    }
    if bytes.is_empty() || bytes.len() > state.settings.block_bytes {
        return Ok(SyncedValueOutcome::PeerFault);
    }
    let value = |id, validity| {
        SyncedValueOutcome::Verdict(ProposedValue {
            height,
            round,
            valid_round: Round::Nil,
            proposer,
            value: BlockId(id),
            validity,
        })
    };
    match state.validate(height, &bytes)? {
        // That it is decided settles that it is not too early.
        Verdict::Valid { id, .. } | Verdict::Early { id, .. } => {
            // A copy: these bytes may be a slice of a long answer.
            let bytes = Bytes::copy_from_slice(&bytes);
            state.undecided.keep(Block {
                height,
                round,
                valid_round: Round::Nil,
                proposer,
                id: BlockId(id),
                bytes,
            })?;
            Ok(value(id, Validity::Valid))
        }
        Verdict::Invalid { id, reason } => {
            tracing::error!(%height, reason, "a block from sync is invalid");
            Ok(id.map_or(SyncedValueOutcome::PeerFault, |id| {
                value(id, Validity::Invalid)
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::testing;
    use std::sync::Arc;

    #[test]
    fn a_block_from_sync_is_checked_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let maker = testing::validator(2).address();
        let mut ask = |height, bytes: Bytes| {
            process(&mut state, Height(height), Round::new(0), maker, bytes).unwrap()
        };
        let good = testing::block(true, maker, b"1");
        assert!(matches!(
            ask(1, good.clone()),
            SyncedValueOutcome::Verdict(ProposedValue {
                validity: Validity::Valid,
                ..
            })
        ));
        assert!(matches!(
            ask(2, good.clone()),
            SyncedValueOutcome::LocalTransientError
        ));
        assert!(matches!(
            ask(1, Bytes::new()),
            SyncedValueOutcome::PeerFault
        ));
        assert!(matches!(
            ask(1, vec![0; 10].into()),
            SyncedValueOutcome::PeerFault
        ));
        assert!(matches!(
            ask(1, vec![0; 2 << 20].into()),
            SyncedValueOutcome::PeerFault
        ));
        assert!(matches!(
            ask(1, testing::block(false, maker, b"")),
            SyncedValueOutcome::Verdict(ProposedValue {
                validity: Validity::Invalid,
                ..
            })
        ));
        let early = testing::early_block(maker);
        assert!(matches!(
            ask(1, early.clone()),
            SyncedValueOutcome::Verdict(ProposedValue {
                validity: Validity::Valid,
                ..
            })
        ));
        let id = BlockId(testing::id(&early));
        assert!(state.undecided.get(Height(1), id).is_some());
        let id = BlockId(testing::id(&good));
        assert!(state.undecided.get(Height(1), id).is_some());
    }
}
