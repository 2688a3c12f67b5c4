//! Blocks in pieces: cut by who streams them, put together by who votes on them.
//!
//! Every part is signed by the validator that sends it, and says what it is a part of. So a stream is known by its sender,
//! whatever the peer that a part came from or was published by, and parts of strangers are dropped before they take memory.
//! What a validator can make others keep is bounded by [`Limits`]; beyond that it loses its own oldest streams, not others'.

use crate::context::{Address, BlockId, Height, ProposalPart, Signature, ValidatorSet, part_bytes};
use crate::malachite::{PeerId, Round};
use bytes::Bytes;
use slackline_types::Hash;
use std::collections::BTreeMap;

/// Bytes in each part but the last.
pub(crate) const PART_BYTES: usize = 128 << 10;

/// What streams may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// The most bytes of a block.
    pub(crate) block_bytes: usize,
    /// Rounds above the current one that parts are kept for.
    pub(crate) rounds_ahead: u32,
    /// Heights above the head that parts are kept for.
    pub(crate) heights_ahead: u64,
    /// Streams of one sender for one round; an honest one has one.
    pub(crate) streams_per_round: usize,
    /// Bad signatures after which parts that a peer publishes are not looked at until the next height.
    pub(crate) bad_parts: u32,
}

impl Limits {
    pub(crate) fn new(block_bytes: usize) -> Self {
        Self {
            block_bytes,
            rounds_ahead: 8,
            heights_ahead: 2,
            streams_per_round: 2,
            bad_parts: 16,
        }
    }

    /// The most bytes of unfinished blocks that are kept for one sender.
    pub(crate) fn bytes_per_sender(&self) -> usize {
        self.block_bytes.saturating_mul(2)
    }
}

/// A block put together. It hashes to who knows what; that is to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assembled {
    pub(crate) height: Height,
    pub(crate) round: u32,
    pub(crate) valid_round: Round,
    pub(crate) sender: Address,
    pub(crate) id: BlockId,
    pub(crate) bytes: Bytes,
}

/// What became of a part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// More are needed.
    Kept,
    /// It was the last one needed.
    Complete(Assembled),
    /// It was of no use.
    Dropped(Reason),
}

/// Why a part was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("its height or round is over, or far ahead")]
    Elsewhere,
    #[error("there already")]
    Duplicate,
    #[error("its sender is no validator")]
    Stranger,
    #[error("its signature is wrong")]
    Signature,
    #[error("its size or number is wrong")]
    Shape,
    #[error("its sender streams too many blocks")]
    TooMany,
    #[error("its publisher has sent too much junk")]
    Muted,
}

/// Cuts a block.
pub(crate) fn cut(whole: &Assembled) -> impl Iterator<Item = ProposalPart> + '_ {
    let count = whole.bytes.len().div_ceil(PART_BYTES).max(1);
    (0..count).map(move |index| {
        let from = index * PART_BYTES;
        let to = (from + PART_BYTES).min(whole.bytes.len());
        ProposalPart {
            height: whole.height,
            round: whole.round,
            valid_round: whole.valid_round,
            sender: whole.sender,
            id: whole.id,
            index: index as u32,
            count: count as u32,
            bytes: whole.bytes.slice(from..to),
            signature: Signature([0; 64]),
        }
    })
}

type Key = (Height, u32, BlockId);

#[derive(Debug)]
struct Stream {
    started: u64,
    valid_round: Round,
    parts: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Sender {
    streams: BTreeMap<Key, Stream>,
    /// Streams begun, finished ones too, of rounds that are not over.
    begun: BTreeMap<(Height, u32), Vec<BlockId>>,
    bytes: usize,
}

/// Puts blocks together.
#[derive(Debug)]
pub(crate) struct Assembler {
    chain: Hash,
    limits: Limits,
    senders: BTreeMap<Address, Sender>,
    junk: BTreeMap<PeerId, u32>,
    clock: u64,
}

impl Assembler {
    pub(crate) fn new(chain: Hash, limits: Limits) -> Self {
        Self {
            chain,
            limits,
            senders: BTreeMap::new(),
            junk: BTreeMap::new(),
            clock: 0,
        }
    }

    /// Takes a part in. `head` is the height of the last block decided, `round` the round of the next.
    pub(crate) fn insert(
        &mut self,
        part: ProposalPart,
        publisher: Option<PeerId>,
        head: Height,
        round: u32,
        validators: &ValidatorSet,
    ) -> Outcome {
        self.take(part, publisher, head, round, validators)
            .unwrap_or_else(Outcome::Dropped)
    }

    fn take(
        &mut self,
        part: ProposalPart,
        publisher: Option<PeerId>,
        head: Height,
        round: u32,
        validators: &ValidatorSet,
    ) -> Result<Outcome, Reason> {
        let limits = self.limits;
        let ahead = part.height.0.saturating_sub(head.0);
        let current = if ahead == 1 { round } else { 0 };
        let last = current.saturating_add(limits.rounds_ahead);
        if ahead == 0 || ahead > limits.heights_ahead || !(current..=last).contains(&part.round) {
            return Err(Reason::Elsewhere);
        }
        let most = limits.block_bytes.div_ceil(PART_BYTES).max(1);
        let (index, count) = (part.index as usize, part.count as usize);
        let full = index + 1 < count;
        if count == 0
            || count > most
            || index >= count
            || part.bytes.is_empty()
            || part.bytes.len() > PART_BYTES
            || (full && part.bytes.len() != PART_BYTES)
            || index * PART_BYTES + part.bytes.len() > limits.block_bytes
        {
            return Err(Reason::Shape);
        }
        let key = (part.height, part.round, part.id);
        let validator = validators.get(&part.sender).ok_or(Reason::Stranger)?;
        let begun = self.senders.get(&part.sender).and_then(|sender| {
            let ids = sender.begun.get(&(part.height, part.round))?;
            ids.contains(&part.id).then(|| sender.streams.get(&key))
        });
        let is_new = begun.is_none();
        match begun {
            Some(None) => return Err(Reason::Duplicate),
            Some(Some(stream)) if stream.parts.get(index).is_some_and(Option::is_some) => {
                return Err(Reason::Duplicate);
            }
            _ => {}
        }
        // From here on it costs a check of a signature.
        let junk = publisher.and_then(|peer| self.junk.get(&peer)).copied();
        if junk.is_some_and(|junk| junk >= limits.bad_parts) {
            return Err(Reason::Muted);
        }
        if !part
            .signature
            .is_of(&part_bytes(&self.chain, &part), &validator.key())
        {
            if let Some(peer) = publisher {
                const PEERS: usize = 1_000;
                if self.junk.len() < PEERS || self.junk.contains_key(&peer) {
                    *self.junk.entry(peer).or_default() += 1;
                }
            }
            return Err(Reason::Signature);
        }

        self.clock += 1;
        let sender = self.senders.entry(part.sender).or_default();
        if is_new {
            let begun = sender.begun.entry((part.height, part.round)).or_default();
            if begun.len() >= limits.streams_per_round {
                return Err(Reason::TooMany);
            }
            begun.push(part.id);
            let stream = Stream {
                started: self.clock,
                valid_round: part.valid_round,
                parts: vec![None; count],
                missing: count,
                bytes: 0,
            };
            sender.streams.insert(key, stream);
        }
        let Some(stream) = sender.streams.get_mut(&key) else {
            return Err(Reason::Duplicate);
        };
        if stream.parts.len() != count || stream.valid_round != part.valid_round {
            return Err(Reason::Shape);
        }
        // A slice would keep the whole message that it is of.
        let bytes = Bytes::copy_from_slice(&part.bytes);
        stream.bytes += bytes.len();
        sender.bytes += bytes.len();
        stream.parts[index] = Some(bytes);
        stream.missing -= 1;
        if stream.missing == 0 {
            let stream = sender.streams.remove(&key).ok_or(Reason::Duplicate)?;
            sender.bytes -= stream.bytes;
            let mut bytes = Vec::with_capacity(stream.bytes);
            stream
                .parts
                .iter()
                .flatten()
                .for_each(|part| bytes.extend_from_slice(part));
            return Ok(Outcome::Complete(Assembled {
                height: part.height,
                round: part.round,
                valid_round: part.valid_round,
                sender: part.sender,
                id: part.id,
                bytes: bytes.into(),
            }));
        }
        while sender.bytes > limits.bytes_per_sender() {
            let oldest = sender
                .streams
                .iter()
                .min_by_key(|(_, stream)| stream.started)
                .map(|(key, _)| *key);
            let Some(stream) = oldest.and_then(|key| sender.streams.remove(&key)) else {
                break;
            };
            sender.bytes -= stream.bytes;
        }
        Ok(Outcome::Kept)
    }

    /// Forgets what a new head or round leaves behind.
    pub(crate) fn advance(&mut self, head: Height, round: u32) {
        let over = |at: &(Height, u32)| at.0 <= head || (at.0.0 == head.0 + 1 && at.1 < round);
        for sender in self.senders.values_mut() {
            sender.begun.retain(|at, _| !over(at));
            let bytes = &mut sender.bytes;
            sender.streams.retain(|(height, round, _), stream| {
                let over = over(&(*height, *round));
                if over {
                    *bytes -= stream.bytes;
                }
                !over
            });
        }
        self.senders.retain(|_, sender| !sender.begun.is_empty());
        if round == 0 {
            self.junk.clear();
        }
    }

    /// Bytes of unfinished blocks.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let streams = self.senders.values().flat_map(|s| s.streams.values());
        streams
            .flat_map(|s| s.parts.iter().flatten())
            .map(Bytes::len)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validator;
    use ed25519_dalek::{Signer, SigningKey};
    use proptest::prelude::*;
    use slackline_types::PublicKey;

    const CHAIN: Hash = Hash([3; 32]);

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn public(seed: u8) -> PublicKey {
        PublicKey(key(seed).verifying_key().to_bytes())
    }

    fn set() -> ValidatorSet {
        ValidatorSet::new((1..=4).map(|seed| Validator::new(public(seed), 1))).unwrap()
    }

    fn whole(seed: u8, height: u64, round: u32, id: u8, length: usize) -> Assembled {
        Assembled {
            height: Height(height),
            round,
            valid_round: Round::Nil,
            sender: Address::of(&public(seed)),
            id: BlockId(Hash([id; 32])),
            bytes: (0..length).map(|n| (n * 7) as u8).collect(),
        }
    }

    fn sign(part: &mut ProposalPart, seed: u8) {
        part.signature = Signature(key(seed).sign(&part_bytes(&CHAIN, part)).to_bytes());
    }

    fn parts(whole: &Assembled, seed: u8) -> Vec<ProposalPart> {
        let mut parts: Vec<_> = cut(whole).collect();
        parts.iter_mut().for_each(|part| sign(part, seed));
        parts
    }

    fn assembler() -> Assembler {
        Assembler::new(CHAIN, Limits::new(4 * PART_BYTES))
    }

    fn put(assembler: &mut Assembler, part: ProposalPart) -> Outcome {
        assembler.insert(part, None, Height(0), 0, &set())
    }

    #[test]
    fn parts_in_any_order_make_the_block_once() {
        for length in [1, PART_BYTES, PART_BYTES + 1, 4 * PART_BYTES] {
            let block = whole(1, 1, 0, 9, length);
            let mut assembler = assembler();
            let mut parts = parts(&block, 1);
            parts.reverse();
            let last = parts.pop().unwrap();
            for part in &parts {
                assert_eq!(put(&mut assembler, part.clone()), Outcome::Kept);
                assert_eq!(
                    put(&mut assembler, part.clone()),
                    Outcome::Dropped(Reason::Duplicate)
                );
            }
            assert_eq!(put(&mut assembler, last.clone()), Outcome::Complete(block));
            assert_eq!(
                put(&mut assembler, last),
                Outcome::Dropped(Reason::Duplicate)
            );
            assert_eq!(assembler.bytes(), 0);
        }
    }

    #[test]
    fn what_is_not_signed_by_a_validator_is_dropped() {
        let mut assembler = assembler();
        let stranger = parts(&whole(9, 1, 0, 9, 10), 9).remove(0);
        assert_eq!(
            put(&mut assembler, stranger),
            Outcome::Dropped(Reason::Stranger)
        );
        let forged = parts(&whole(1, 1, 0, 9, 10), 2).remove(0);
        assert_eq!(
            put(&mut assembler, forged.clone()),
            Outcome::Dropped(Reason::Signature)
        );
        // Who publishes such is soon not listened to; until the next height.
        let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        let good = parts(&whole(1, 1, 0, 9, 10), 1).remove(0);
        let from_peer = |assembler: &mut Assembler, part: &ProposalPart, head| {
            assembler.insert(part.clone(), Some(peer), Height(head), 0, &set())
        };
        for _ in 0..16 {
            assert_eq!(
                from_peer(&mut assembler, &forged, 0),
                Outcome::Dropped(Reason::Signature)
            );
        }
        assert_eq!(
            from_peer(&mut assembler, &good, 0),
            Outcome::Dropped(Reason::Muted)
        );
        assembler.advance(Height(1), 0);
        let next = parts(&whole(1, 2, 0, 9, 10), 1).remove(0);
        assert!(matches!(
            from_peer(&mut assembler, &next, 1),
            Outcome::Complete(_)
        ));
    }

    #[test]
    fn a_sender_begins_two_streams_a_round() {
        let mut assembler = assembler();
        for id in 0..2 {
            let part = parts(&whole(1, 1, 0, id, 10), 1).remove(0);
            assert!(matches!(put(&mut assembler, part), Outcome::Complete(_)));
        }
        let third = parts(&whole(1, 1, 0, 2, 10), 1).remove(0);
        assert_eq!(
            put(&mut assembler, third),
            Outcome::Dropped(Reason::TooMany)
        );
    }

    #[test]
    fn a_sender_that_finishes_nothing_loses_its_oldest_streams() {
        let mut assembler = assembler();
        let most = assembler.limits.bytes_per_sender();
        let honest = parts(&whole(2, 1, 0, 9, 4 * PART_BYTES), 2);
        for part in &honest[..3] {
            assert_eq!(put(&mut assembler, part.clone()), Outcome::Kept);
        }
        for round in 0..=8 {
            for id in 0..2 {
                let block = whole(1, 1, round, id, 4 * PART_BYTES);
                for part in parts(&block, 1).into_iter().take(3) {
                    let outcome = put(&mut assembler, part);
                    assert!(matches!(outcome, Outcome::Kept), "{outcome:?}");
                    assert!(assembler.bytes() <= most + 3 * PART_BYTES);
                }
            }
        }
        // Others lose nothing by it.
        let outcome = put(&mut assembler, honest[3].clone());
        assert!(matches!(outcome, Outcome::Complete(_)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn memory_is_bounded_whatever_validators_send(
            sent in prop::collection::vec(
                (1u8..6, 0u64..6, 0u32..12, 0u8..4, 0usize..6 * PART_BYTES, any::<prop::sample::Index>(), 0u8..8, any::<u32>()),
                1..80,
            )
        ) {
            let mut assembler = assembler();
            let limits = assembler.limits;
            let mut head = 0;
            for (seed, height, round, id, length, which, fault, junk) in sent {
                let mut parts: Vec<_> = cut(&whole(seed, height, round, id, length)).collect();
                let index = which.index(parts.len());
                let mut part = parts.swap_remove(index);
                match fault {
                    0 => part.index = junk,
                    1 => part.count = junk,
                    2 => part.count = junk % 8,
                    3 => part.round = junk,
                    4 => { head += 1; assembler.advance(Height(head), 0); }
                    _ => {}
                }
                sign(&mut part, seed);
                let outcome = assembler.insert(part, None, Height(head), 0, &set());
                if let Outcome::Complete(block) = outcome {
                    prop_assert!(block.bytes.len() <= limits.block_bytes);
                }
                prop_assert!(assembler.bytes() <= 4 * limits.bytes_per_sender());
                let streams: usize = assembler.senders.values().map(|s| s.streams.len()).sum();
                let most = limits.streams_per_round * (limits.rounds_ahead as usize + 1) * limits.heights_ahead as usize;
                prop_assert!(streams <= 4 * most);
                for sender in assembler.senders.values() {
                    let bytes: usize = sender.streams.values().map(|s| s.bytes).sum();
                    prop_assert_eq!(sender.bytes, bytes);
                }
            }
        }
    }
}
