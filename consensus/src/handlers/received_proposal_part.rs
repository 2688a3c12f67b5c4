//! A piece of a block came.

use super::answer;
use crate::application::Application;
use crate::context::{Context, ProposalPart};
use crate::malachite::{PeerId, ProposedValue, Reply, StreamMessage};
use crate::parts::Outcome;
use crate::state::{Fatal, State};

pub(crate) fn handle<A: Application>(
    state: &mut State<A>,
    from: PeerId,
    published_by: Option<PeerId>,
    part: StreamMessage<ProposalPart>,
    reply: Reply<Option<ProposedValue<Context>>>,
) -> Result<(), Fatal> {
    let value = received(state, from, published_by, part)?;
    answer(reply, value);
    Ok(())
}

fn received<A: Application>(
    state: &mut State<A>,
    from: PeerId,
    published_by: Option<PeerId>,
    part: StreamMessage<ProposalPart>,
) -> Result<Option<ProposedValue<Context>>, Fatal> {
    let Some(part) = part.content.into_data() else {
        return Ok(None);
    };
    let (height, round) = (part.height, part.round);
    let outcome = state.assembler.insert(
        part,
        published_by,
        state.head,
        state.round,
        &state.validators,
    );
    match outcome {
        Outcome::Kept => Ok(None),
        Outcome::Complete(block) => state.judge(block),
        Outcome::Dropped(reason) => {
            tracing::debug!(%height, round, %from, %reason, "part dropped");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{BlockId, Height, Signature, part_bytes};
    use crate::handlers::{started_round, testing};
    use crate::malachite::{HIDDEN_LOCK_ROUND, Role, Round, StreamContent, StreamId, Validity};
    use crate::parts::{Assembled, Limits, cut};
    use bytes::Bytes;
    use ed25519_dalek::Signer;
    use std::sync::Arc;
    use tokio::sync::oneshot;

    fn whole(sender: u8, height: u64, round: u32, bytes: Bytes) -> Assembled {
        Assembled {
            height: Height(height),
            round,
            valid_round: Round::Nil,
            sender: testing::validator(sender).address(),
            id: BlockId(testing::id(&bytes)),
            bytes,
        }
    }

    fn receive(
        state: &mut State<testing::Chain>,
        sender: u8,
        whole: &Assembled,
    ) -> Option<ProposedValue<Context>> {
        let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        let mut value = None;
        for mut part in cut(whole) {
            let message = part_bytes(&testing::CHAIN, &part);
            part.signature = Signature(testing::key(sender).sign(&message).to_bytes());
            let index = part.index.into();
            let stream = StreamId::new(Bytes::new());
            let part = StreamMessage::new(stream, index, StreamContent::Data(part));
            let (reply, mut answer) = oneshot::channel();
            handle(state, peer, Some(peer), part, reply).unwrap();
            value = answer.try_recv().unwrap();
        }
        value
    }

    #[test]
    fn only_the_proposer_s_own_blocks_are_new() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let turn = testing::proposer(1, 0);
        let other = if turn == 1 { 2 } else { 1 };
        let maker = |seed| testing::validator(seed).address();
        let validity = |value: Option<ProposedValue<Context>>| value.map(|v| v.validity);

        let out_of_turn = whole(other, 1, 0, testing::block(true, maker(other), b"a"));
        assert_eq!(receive(&mut state, other, &out_of_turn), None);
        let of_another = whole(turn, 1, 0, testing::block(true, maker(other), b"b"));
        assert_eq!(receive(&mut state, turn, &of_another), None);
        let good = whole(turn, 1, 0, testing::block(true, maker(turn), &[7; 300_000]));
        let value = receive(&mut state, turn, &good);
        assert_eq!(validity(value), Some(Validity::Valid));
        // In a round of its own anybody may propose it again, and it is not executed again.
        let checked = *app.checked.lock().unwrap();
        let round = (1..).find(|round| testing::proposer(1, *round) == other);
        let mut again = whole(other, 1, round.unwrap(), good.bytes.clone());
        again.valid_round = Round::new(0);
        let value = receive(&mut state, other, &again);
        assert_eq!(validity(value), Some(Validity::Valid));
        assert_eq!(*app.checked.lock().unwrap(), checked);
    }

    #[test]
    fn the_engine_s_places_for_a_round_are_its_proposer_s() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let maker = |seed| testing::validator(seed).address();
        let rounds = Limits::new(1).rounds_ahead;
        let byzantine = |state: &mut State<testing::Chain>, round: u32, rest: &[u8]| {
            let turn = testing::proposer(1, round);
            let mut taken = Vec::new();
            for sender in (1..=4).filter(|sender| *sender != turn) {
                let bytes = testing::block(true, maker(sender), rest);
                let mut block = whole(sender, 1, round, bytes);
                block.valid_round = Round::new(0);
                taken.extend(receive(state, sender, &block).map(|value| value.round));
            }
            taken
        };
        // Valid blocks, known ones too, with a valid round that there is not.
        for round in 0..=rounds {
            assert_eq!(byzantine(&mut state, round, b"1"), [], "round {round}");
        }
        assert_eq!(*app.checked.lock().unwrap(), 0, "nor do they cost anything");
        // Who locks late tells others of the block. One place is for these, and the rounds before are not touched.
        let late = HIDDEN_LOCK_ROUND.as_u32().unwrap();
        state.round = late;
        let at_late = [Round::new(late)];
        assert_eq!(byzantine(&mut state, late, b"1"), at_late);
        assert_eq!(byzantine(&mut state, late, b"2"), []);
        // What is known stays where it is.
        let known = state.undecided.of(Height(1)).next().unwrap().bytes.clone();
        for round in late + 1..late + 4 {
            let other = (1..=4).find(|sender| *sender != testing::proposer(1, round));
            let again = whole(other.unwrap(), 1, round, known.clone());
            let value = receive(&mut state, other.unwrap(), &again).unwrap();
            assert_eq!(value.round, Round::new(late));
        }
        // Nor does a restart make room.
        let (mut state, _) = testing::state(&app, 1, dir.path());
        state.round = late;
        assert_eq!(byzantine(&mut state, late, b"3"), []);
        // The proposer's are taken, if it does not say that they are of a round that is not over.
        let turn = testing::proposer(1, late);
        let mut block = whole(turn, 1, late, testing::block(true, maker(turn), b"4"));
        block.valid_round = Round::new(late);
        assert_eq!(receive(&mut state, turn, &block), None);
        let block = whole(turn, 1, late, testing::block(true, maker(turn), b"5"));
        assert!(receive(&mut state, turn, &block).is_some());
    }

    #[test]
    fn an_invalid_block_is_told_from_junk() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let turn = testing::proposer(1, 0);
        let maker = testing::validator(turn).address();
        let invalid = whole(turn, 1, 0, testing::block(false, maker, b""));
        let value = receive(&mut state, turn, &invalid).unwrap();
        assert_eq!(value.validity, Validity::Invalid);
        // Junk under the hash of a block that may be good says nothing of that block.
        let mut junk = whole(turn, 1, 0, vec![0; 10].into());
        junk.id = BlockId(testing::id(&testing::block(true, maker, b"")));
        assert_eq!(receive(&mut state, turn, &junk), None);
    }

    #[test]
    fn a_block_that_is_too_early_is_good_when_it_comes_again() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let turn = testing::proposer(1, 0);
        let maker = testing::validator(turn).address();
        let block = whole(turn, 1, 0, testing::early_block(maker));
        assert_eq!(receive(&mut state, turn, &block), None);
        *app.clock_is_right.lock().unwrap() = true;
        let later = testing::proposer(1, 1);
        let mut again = whole(later, 1, 1, block.bytes);
        again.valid_round = Round::new(0);
        let value = receive(&mut state, later, &again).unwrap();
        assert_eq!((value.value, value.validity), (block.id, Validity::Valid));
    }

    #[test]
    fn a_block_that_comes_a_height_early_is_given_when_its_round_begins() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let turn = testing::proposer(2, 0);
        let maker = testing::validator(turn).address();
        let early = whole(turn, 2, 0, testing::block(true, maker, b"early"));
        assert_eq!(receive(&mut state, turn, &early), None);
        assert_eq!(*app.checked.lock().unwrap(), 0);

        app.commit(1, &Bytes::new(), &[]).unwrap();
        state.advance(Height(1)).unwrap();
        let begin = |state: &mut State<testing::Chain>| {
            let (reply, mut answer) = oneshot::channel();
            let (height, round) = (Height(2), Round::new(0));
            started_round::handle(state, height, round, maker, Role::Validator, reply).unwrap();
            answer.try_recv().unwrap()
        };
        let values = begin(&mut state);
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].value, early.id);
        // And again after a crash.
        let (mut state, _) = testing::state(&app, 1, dir.path());
        assert_eq!(begin(&mut state), values);
    }

    #[test]
    fn junk_that_comes_a_height_early_takes_no_place_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (mut state, _) = testing::state(&app, 1, dir.path());
        let turn = testing::proposer(2, 0);
        for sender in (1..=4).filter(|sender| *sender != turn) {
            for round in 0..8 {
                let junk = whole(sender, 2, round, vec![0; 10].into());
                assert_eq!(receive(&mut state, sender, &junk), None);
            }
        }
        let maker = testing::validator(turn).address();
        let early = whole(turn, 2, 0, testing::block(true, maker, b"early"));
        assert_eq!(receive(&mut state, turn, &early), None);
        app.commit(1, &Bytes::new(), &[]).unwrap();
        state.advance(Height(1)).unwrap();
        let (reply, mut answer) = oneshot::channel();
        let (height, round) = (Height(2), Round::new(0));
        started_round::handle(&mut state, height, round, maker, Role::Validator, reply).unwrap();
        let values = answer.try_recv().unwrap();
        assert_eq!(values.len(), 1);
        assert_eq!(values[0].value, early.id);
    }
}
