//! The types that the engine works with: ours, in the engine's traits.

use crate::malachite::{LinearTimeouts, NilOrVal, Round, SignedExtension, VoteType};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use ed25519_dalek::{Signature as DalekSignature, SigningKey, VerifyingKey};
use malachite_channel::app::types::core as core_types;
use slackline_types::{Hash, PublicKey, digest, encode};
use std::fmt;

/// Number of blocks before a block.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Height(pub u64);

impl fmt::Display for Height {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core_types::Height for Height {
    const ZERO: Self = Height(0);
    // The genesis block, of height 0, is not decided.
    const INITIAL: Self = Height(1);

    fn increment_by(&self, n: u64) -> Self {
        Height(self.0.saturating_add(n))
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Height)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

/// A validator's account: the account of its consensus key.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Default,
)]
pub struct Address(pub slackline_types::Address);

impl Address {
    /// The account of `key`.
    pub fn of(key: &PublicKey) -> Self {
        Address(slackline_types::Address::of_key(key))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core_types::Address for Address {}

/// What is voted on: the hash of a block.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Default,
)]
pub struct BlockId(pub Hash);

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl core_types::Value for BlockId {
    type Id = BlockId;

    fn id(&self) -> BlockId {
        *self
    }
}

/// Who votes, with which key and weight.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    address: Address,
    key: PublicKey,
    power: u64,
}

impl Validator {
    /// A validator that votes with `key`, with weight `power`.
    pub fn new(key: PublicKey, power: u64) -> Self {
        Self {
            address: Address::of(&key),
            key,
            power,
        }
    }

    /// Its account.
    pub fn address(&self) -> Address {
        self.address
    }

    /// What its votes are checked with.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// Its weight.
    pub fn power(&self) -> u64 {
        self.power
    }
}

impl core_types::Validator<Context> for Validator {
    fn address(&self) -> &Address {
        &self.address
    }

    fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn voting_power(&self) -> u64 {
        self.power
    }
}

/// Why validators do not make a set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorSetError {
    /// Nobody could decide anything.
    #[error("a validator set needs at least one validator")]
    Empty,
    /// Its signatures would never count.
    #[error("validator {0} has no voting power")]
    NoPower(Address),
    /// Its key does not decode, or has small order: such a key makes signatures ambiguous.
    #[error("the key {0} is not an ed25519 key that can sign")]
    BadKey(PublicKey),
    /// One key, two entries.
    #[error("validator {0} is there twice")]
    Twice(Address),
    /// Thresholds are counted in thirds of the total, in 64 bits.
    #[error("the total voting power is over {}", ValidatorSet::MAX_POWER)]
    TooMuchPower,
    /// Votes for each would fill a certificate over the limit of a message.
    #[error("{0} validators are more than {most}", most = ValidatorSet::MAX_VALIDATORS)]
    TooMany(usize),
}

/// Who decides a height: by weight falling, then by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
    total: u64,
}

impl ValidatorSet {
    /// The most total voting power: three times it fits in 64 bits.
    pub const MAX_POWER: u64 = u64::MAX / 4;
    /// The most validators.
    pub const MAX_VALIDATORS: usize = 1_000;

    /// A set of `validators`, in any order.
    ///
    /// # Errors
    ///
    /// See [`ValidatorSetError`].
    pub fn new(validators: impl IntoIterator<Item = Validator>) -> Result<Self, ValidatorSetError> {
        let mut validators: Vec<_> = validators.into_iter().collect();
        if validators.is_empty() {
            return Err(ValidatorSetError::Empty);
        }
        if validators.len() > Self::MAX_VALIDATORS {
            return Err(ValidatorSetError::TooMany(validators.len()));
        }
        validators.sort_by_key(|v| (std::cmp::Reverse(v.power), v.address));
        let mut total = 0u64;
        let mut addresses = std::collections::BTreeSet::new();
        for validator in &validators {
            if validator.power == 0 {
                return Err(ValidatorSetError::NoPower(validator.address));
            }
            if !addresses.insert(validator.address) {
                return Err(ValidatorSetError::Twice(validator.address));
            }
            if !VerifyingKey::from_bytes(&validator.key.0).is_ok_and(|key| !key.is_weak()) {
                return Err(ValidatorSetError::BadKey(validator.key));
            }
            total = total
                .checked_add(validator.power)
                .filter(|total| *total <= Self::MAX_POWER)
                .ok_or(ValidatorSetError::TooMuchPower)?;
        }
        Ok(Self { validators, total })
    }

    /// By weight falling, then by address.
    pub fn validators(&self) -> &[Validator] {
        &self.validators
    }

    /// The validator with that account.
    pub fn get(&self, address: &Address) -> Option<&Validator> {
        self.validators.iter().find(|v| v.address == *address)
    }

    /// Who proposes in a round: drawn by weight from a hash of height and round, among those that have not been drawn
    /// in a round before of this height, so that one that is down cannot be drawn twice in a row.
    pub fn proposer(&self, height: Height, round: u32) -> &Validator {
        let mut left: Vec<&Validator> = self.validators.iter().collect();
        let mut total = self.total;
        let mut draw = 0u32;
        let turn = round as usize % self.validators.len();
        loop {
            let hash = digest(
                "slackline:consensus:proposer:v1",
                &[
                    &height.0.to_le_bytes(),
                    &(round / self.validators.len() as u32).to_le_bytes(),
                    &draw.to_le_bytes(),
                ],
            );
            let wide = u128::from_le_bytes(hash[..16].try_into().unwrap_or([0; 16]));
            let mut point = (wide % u128::from(total)) as u64;
            let mut index = 0;
            while point >= left[index].power {
                point -= left[index].power;
                index += 1;
            }
            if draw as usize == turn {
                return left[index];
            }
            total -= left.remove(index).power;
            draw += 1;
        }
    }
}

impl core_types::ValidatorSet<Context> for ValidatorSet {
    fn count(&self) -> usize {
        self.validators.len()
    }

    fn total_voting_power(&self) -> u64 {
        self.total
    }

    fn get_by_address(&self, address: &Address) -> Option<&Validator> {
        self.get(address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Validator> {
        self.validators.get(index)
    }
}

/// Ed25519, by the strict rules: one answer on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ed25519;

/// Bytes that do not have the length of a key or a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected} bytes, got {got}")]
pub struct LengthError {
    /// What a key or a signature has.
    pub expected: usize,
    /// What was given.
    pub got: usize,
}

/// An ed25519 signature, not yet checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl Signature {
    /// Whether `key` made this signature of `message`.
    pub fn is_of(&self, message: &[u8], key: &PublicKey) -> bool {
        let Ok(key) = VerifyingKey::from_bytes(&key.0) else {
            return false;
        };
        key.verify_strict(message, &DalekSignature::from_bytes(&self.0))
            .is_ok()
    }
}

impl core_types::SigningScheme for Ed25519 {
    type DecodingError = LengthError;
    type Signature = Signature;
    type PublicKey = PublicKey;
    type PrivateKey = SigningKey;

    fn decode_signature(bytes: &[u8]) -> Result<Signature, LengthError> {
        let wrong = LengthError {
            expected: 64,
            got: bytes.len(),
        };
        bytes.try_into().map(Signature).map_err(|_| wrong)
    }

    fn encode_signature(signature: &Signature) -> Vec<u8> {
        signature.0.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<PublicKey, LengthError> {
        let wrong = LengthError {
            expected: 32,
            got: bytes.len(),
        };
        bytes.try_into().map(PublicKey).map_err(|_| wrong)
    }

    fn encode_public_key(key: &PublicKey) -> Vec<u8> {
        key.0.to_vec()
    }
}

/// "In this round, decide on this."
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: BlockId,
    pub(crate) pol_round: Round,
    pub(crate) proposer: Address,
}

impl core_types::Proposal<Context> for Proposal {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &BlockId {
        &self.value
    }

    fn take_value(self) -> BlockId {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.pol_round
    }

    fn validator_address(&self) -> &Address {
        &self.proposer
    }
}

/// A vote for a block or for none. There are no vote extensions.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    pub(crate) kind: VoteType,
    pub(crate) height: Height,
    pub(crate) round: Round,
    pub(crate) value: NilOrVal<BlockId>,
    pub(crate) validator: Address,
}

impl core_types::Vote<Context> for Vote {
    fn height(&self) -> Height {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<BlockId> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<BlockId> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Address {
        &self.validator
    }

    fn extension(&self) -> Option<&SignedExtension<Context>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Context>> {
        None
    }

    fn extend(self, _: SignedExtension<Context>) -> Self {
        self
    }
}

/// A piece of a proposed block. Each is signed by its sender, so that nothing of strangers is ever kept.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ProposalPart {
    pub(crate) height: Height,
    pub(crate) round: u32,
    /// The round in which the block got a polka, if it is proposed again.
    pub(crate) valid_round: Round,
    /// Who streams this: the round's proposer, or who locked the block.
    pub(crate) sender: Address,
    pub(crate) id: BlockId,
    pub(crate) index: u32,
    pub(crate) count: u32,
    pub(crate) bytes: Bytes,
    pub(crate) signature: Signature,
}

impl core_types::ProposalPart<Context> for ProposalPart {
    fn is_first(&self) -> bool {
        self.index == 0
    }

    fn is_last(&self) -> bool {
        self.index.checked_add(1) == Some(self.count)
    }
}

/// Our types, for the engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context;

impl core_types::Context for Context {
    type Address = Address;
    type Height = Height;
    type ProposalPart = ProposalPart;
    type Proposal = Proposal;
    type Validator = Validator;
    type ValidatorSet = ValidatorSet;
    type Timeouts = LinearTimeouts;
    type Value = BlockId;
    type Vote = Vote;
    type Extension = Bytes;
    type SigningScheme = Ed25519;

    fn select_proposer<'a>(
        &self,
        validators: &'a ValidatorSet,
        height: Height,
        round: Round,
    ) -> &'a Validator {
        validators.proposer(height, round.as_u32().unwrap_or(0))
    }

    fn new_proposal(
        &self,
        height: Height,
        round: Round,
        value: BlockId,
        pol_round: Round,
        proposer: Address,
    ) -> Proposal {
        Proposal {
            height,
            round,
            value,
            pol_round,
            proposer,
        }
    }

    fn new_prevote(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockId>,
        validator: Address,
    ) -> Vote {
        Vote {
            kind: VoteType::Prevote,
            height,
            round,
            value,
            validator,
        }
    }

    fn new_precommit(
        &self,
        height: Height,
        round: Round,
        value: NilOrVal<BlockId>,
        validator: Address,
    ) -> Vote {
        Vote {
            kind: VoteType::Precommit,
            height,
            round,
            value,
            validator,
        }
    }
}

/// What a validator signs to vote.
pub(crate) fn vote_bytes(chain: &Hash, vote: &Vote) -> [u8; 32] {
    digest("slackline:consensus:vote:v1", &[&chain.0, &encode(vote)])
}

/// What a proposer signs.
pub(crate) fn proposal_bytes(chain: &Hash, proposal: &Proposal) -> [u8; 32] {
    digest(
        "slackline:consensus:proposal:v1",
        &[&chain.0, &encode(proposal)],
    )
}

/// What the sender of a part signs.
pub(crate) fn part_bytes(chain: &Hash, part: &ProposalPart) -> [u8; 32] {
    let content = digest("slackline:consensus:part-content:v1", &[&part.bytes]);
    let place = (
        part.height,
        part.round,
        part.valid_round,
        part.sender,
        part.id,
        part.index,
        part.count,
        content,
    );
    digest("slackline:consensus:part:v1", &[&chain.0, &encode(&place)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(powers: &[u64]) -> ValidatorSet {
        let validators = powers.iter().enumerate().map(|(n, power)| {
            let key = SigningKey::from_bytes(&[n as u8 + 1; 32]);
            Validator::new(PublicKey(key.verifying_key().to_bytes()), *power)
        });
        ValidatorSet::new(validators).unwrap()
    }

    #[test]
    fn each_validator_proposes_once_in_as_many_rounds_as_there_are() {
        let set = set(&[1, 5, 1, 100]);
        for height in 0..50 {
            let mut seen: Vec<_> = (0..4)
                .map(|round| set.proposer(Height(height), round).address())
                .collect();
            seen.sort();
            seen.dedup();
            assert_eq!(seen.len(), 4);
        }
    }

    #[test]
    fn first_rounds_go_by_weight() {
        let set = set(&[1, 3]);
        let heavy = set.validators()[0].address();
        let count = (0..4_000)
            .filter(|height| set.proposer(Height(*height), 0).address() == heavy)
            .count();
        assert!((2_850..3_150).contains(&count), "{count} of 4000");
    }

    #[test]
    fn sets_that_could_not_decide_are_refused() {
        let good = set(&[1, 1]).validators().to_vec();
        let twice = [good[0].clone(), good[0].clone()];
        assert!(matches!(
            ValidatorSet::new(twice),
            Err(ValidatorSetError::Twice(_))
        ));
        assert_eq!(ValidatorSet::new([]), Err(ValidatorSetError::Empty));
        let none = Validator::new(good[0].key(), 0);
        assert!(matches!(
            ValidatorSet::new([none]),
            Err(ValidatorSetError::NoPower(_))
        ));
        let weak = Validator::new(PublicKey([0; 32]), 1);
        assert!(matches!(
            ValidatorSet::new([weak]),
            Err(ValidatorSetError::BadKey(_))
        ));
        let much = good.iter().map(|v| Validator::new(v.key(), u64::MAX / 2));
        assert_eq!(
            ValidatorSet::new(much),
            Err(ValidatorSetError::TooMuchPower)
        );
    }
}
