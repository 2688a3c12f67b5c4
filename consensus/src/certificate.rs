//! The votes that decided a block, as the application keeps them.

use crate::codec::{Codec, CodecError};
use crate::context::{Address, BlockId, Context, Height, ValidatorSet, Vote, vote_bytes};
use crate::malachite::{CommitCertificate, NilOrVal, VoteType};
use bytes::Bytes;
use malachite_channel::app::types::codec::Codec as _;
use slackline_types::Hash;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Height of the block.
    pub height: u64,
    /// The round in which it was decided.
    pub round: u32,
    /// The block's hash.
    pub id: Hash,
    /// Who voted for it.
    pub signers: Vec<Address>,
}

/// Why a certificate certifies nothing.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It is for no round.
    #[error("for no round")]
    NoRound,
    /// It has a vote of a stranger.
    #[error("{0} is not a validator of that height")]
    Stranger(Address),
    /// It has two votes of one validator.
    #[error("two votes of {0}")]
    Twice(Address),
    /// It has a signature that is not its validator's.
    #[error("the signature of {0} is wrong")]
    Signature(Address),
    /// Its votes weigh two thirds or less.
    #[error("votes of {signed} out of {total} are not more than two thirds")]
    TooLittle {
        /// Weight of the votes.
        signed: u64,
        /// Weight of all validators.
        total: u64,
    },
}

pub(crate) fn encode(certificate: &CommitCertificate<Context>) -> Result<Bytes, CodecError> {
    Codec.encode(certificate)
}

pub(crate) fn decode(bytes: &Bytes) -> Result<CommitCertificate<Context>, CodecError> {
    Codec.decode(bytes.clone())
}

/// Reads a certificate without checking its signatures.
///
/// # Errors
///
/// If it does not decode.
pub fn read_certificate(bytes: &[u8]) -> Result<Certified, CertificateError> {
    let certificate = decode(&Bytes::copy_from_slice(bytes))?;
    Ok(Certified {
        height: certificate.height.0,
        round: certificate
            .round
            .as_u32()
            .ok_or(CertificateError::NoRound)?,
        id: certificate.value_id.0,
        signers: certificate
            .commit_signatures
            .iter()
            .map(|s| s.address)
            .collect(),
    })
}

/// Checks that `validators`, those of the certificate's height, decided what it says, on the chain whose genesis block is
/// `chain`.
///
/// # Errors
///
/// See [`CertificateError`].
pub fn verify_certificate(
    chain: &Hash,
    validators: &ValidatorSet,
    bytes: &[u8],
) -> Result<Certified, CertificateError> {
    let certified = read_certificate(bytes)?;
    let certificate = decode(&Bytes::copy_from_slice(bytes))?;
    let mut seen = std::collections::BTreeSet::new();
    let mut signed = 0u64;
    for vote in &certificate.commit_signatures {
        let address = vote.address;
        let validator = validators
            .get(&address)
            .ok_or(CertificateError::Stranger(address))?;
        if !seen.insert(address) {
            return Err(CertificateError::Twice(address));
        }
        let message = vote_bytes(
            chain,
            &Vote {
                kind: VoteType::Precommit,
                height: Height(certified.height),
                round: certificate.round,
                value: NilOrVal::Val(BlockId(certified.id)),
                validator: address,
            },
        );
        if !vote.signature.is_of(&message, &validator.key()) {
            return Err(CertificateError::Signature(address));
        }
        signed += validator.power();
    }
    let total = validators.validators().iter().map(|v| v.power()).sum();
    if u128::from(signed) * 3 > u128::from(total) * 2 {
        Ok(certified)
    } else {
        Err(CertificateError::TooLittle { signed, total })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Validator;
    use crate::context::Signature;
    use crate::malachite::{CommitSignature, Round};
    use ed25519_dalek::{Signer, SigningKey};
    use slackline_types::PublicKey;

    const CHAIN: Hash = Hash([1; 32]);

    fn certificate(voters: &[u8]) -> CommitCertificate<Context> {
        let signature = |seed: &u8| {
            let key = SigningKey::from_bytes(&[*seed; 32]);
            let validator = Address::of(&PublicKey(key.verifying_key().to_bytes()));
            let vote = Vote {
                kind: VoteType::Precommit,
                height: Height(5),
                round: Round::new(2),
                value: NilOrVal::Val(BlockId(Hash([9; 32]))),
                validator,
            };
            let signature = key.sign(&vote_bytes(&CHAIN, &vote)).to_bytes();
            CommitSignature::new(validator, Signature(signature))
        };
        CommitCertificate {
            height: Height(5),
            round: Round::new(2),
            value_id: BlockId(Hash([9; 32])),
            commit_signatures: voters.iter().map(signature).collect(),
        }
    }

    fn check(certificate: &CommitCertificate<Context>) -> Result<Certified, CertificateError> {
        let validators = (1..=4u8).map(|seed| {
            let key = SigningKey::from_bytes(&[seed; 32]).verifying_key();
            Validator::new(PublicKey(key.to_bytes()), 1)
        });
        let set = ValidatorSet::new(validators).unwrap();
        verify_certificate(&CHAIN, &set, &encode(certificate).unwrap())
    }

    #[test]
    fn more_than_two_thirds_certify() {
        let good = check(&certificate(&[1, 2, 3])).unwrap();
        assert_eq!((good.height, good.round, good.id), (5, 2, Hash([9; 32])));
        assert!(matches!(
            check(&certificate(&[1, 2])),
            Err(CertificateError::TooLittle {
                signed: 2,
                total: 4
            })
        ));
        assert!(matches!(
            check(&certificate(&[1, 2, 2])),
            Err(CertificateError::Twice(_))
        ));
        assert!(matches!(
            check(&certificate(&[1, 2, 3, 5])),
            Err(CertificateError::Stranger(_))
        ));
        let mut other = certificate(&[1, 2, 3]);
        other.value_id = BlockId(Hash([8; 32]));
        assert!(matches!(check(&other), Err(CertificateError::Signature(_))));
    }
}
