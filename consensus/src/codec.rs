//! Bytes on the wire and in the engine's log: a version, then borsh.

use crate::context::{Context, ProposalPart, Signature};
use crate::malachite::{
    CommitCertificate, ExtendedCommitCertificate, LivenessMsg, PolkaCertificate, ProposedValue,
    RawDecidedValue, Request, Response, SignedConsensusMsg, Status, StreamMessage, ValidatorProof,
    VoteExtensions,
};
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use malachite_channel::app::types::codec;
use std::io;

/// The first byte of every message.
const VERSION: u8 = 1;

/// Encodes and decodes all that nodes send each other. Decoding takes memory in proportion to the input.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codec;

/// Bytes that are not a message.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Of a version that this program does not know.
    #[error("message of version {0:?}, this is version {VERSION}")]
    Version(Option<u8>),
    /// Of this version, but not well formed; or, on encoding, too long.
    #[error("malformed message")]
    Malformed(#[source] io::Error),
}

fn encode<T: BorshSerialize>(message: &T) -> Result<Bytes, CodecError> {
    let mut bytes = vec![VERSION];
    borsh::to_writer(&mut bytes, message).map_err(CodecError::Malformed)?;
    Ok(bytes.into())
}

fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => borsh::from_slice(body).map_err(CodecError::Malformed),
        other => Err(CodecError::Version(other.map(|(version, _)| *version))),
    }
}

macro_rules! plain {
    ($($message:ty),* $(,)?) => {$(
        impl codec::Codec<$message> for Codec {
            type Error = CodecError;

            fn decode(&self, bytes: Bytes) -> Result<$message, CodecError> {
                decode(&bytes)
            }

            fn encode(&self, message: &$message) -> Result<Bytes, CodecError> {
                encode(message)
            }
        }
    )*};
}

plain!(
    ProposalPart,
    StreamMessage<ProposalPart>,
    SignedConsensusMsg<Context>,
    LivenessMsg<Context>,
    ProposedValue<Context>,
    PolkaCertificate<Context>,
    CommitCertificate<Context>,
    Status<Context>,
    Request<Context>,
);

/// Types of the engine that have no borsh encoding, and ours for them.
macro_rules! by_way_of {
    ($message:ty, $wire:ty, $to:expr, $from:expr) => {
        impl codec::Codec<$message> for Codec {
            type Error = CodecError;

            fn decode(&self, bytes: Bytes) -> Result<$message, CodecError> {
                let wire: $wire = decode(&bytes)?;
                Ok($from(wire))
            }

            fn encode(&self, message: &$message) -> Result<Bytes, CodecError> {
                encode(&$to(message))
            }
        }
    };
}

#[derive(BorshSerialize, BorshDeserialize)]
struct WireProof {
    key: Vec<u8>,
    peer: Vec<u8>,
    signature: Signature,
}

by_way_of!(
    ValidatorProof<Context>,
    WireProof,
    |proof: &ValidatorProof<Context>| WireProof {
        key: proof.public_key.clone(),
        peer: proof.peer_id.clone(),
        signature: proof.signature,
    },
    |wire: WireProof| ValidatorProof::new(wire.key, wire.peer, wire.signature)
);

#[derive(BorshSerialize, BorshDeserialize)]
struct WireValues {
    start: crate::Height,
    /// Blocks, and certificates without vote extensions: there are none.
    values: Vec<(Bytes, CommitCertificate<Context>)>,
}

fn wire_values(response: &Response<Context>) -> WireValues {
    let Response::ValueResponse(response) = response;
    let value = |value: &RawDecidedValue<Context>| {
        let certificate = value.certificate.trim_vote_extensions();
        (value.value_bytes.clone(), certificate)
    };
    WireValues {
        start: response.start_height,
        values: response.values.iter().map(value).collect(),
    }
}

by_way_of!(
    Response<Context>,
    WireValues,
    wire_values,
    |wire: WireValues| {
        let value = |(bytes, certificate)| RawDecidedValue::new(bytes, extended(certificate));
        let values = wire.values.into_iter().map(value).collect();
        Response::ValueResponse(malachite_sync::ValueResponse::new(wire.start, values))
    }
);

impl codec::HasEncodedLen<Response<Context>> for Codec {
    fn encoded_len(&self, response: &Response<Context>) -> Result<usize, CodecError> {
        let length = borsh::object_length(&wire_values(response)).map_err(CodecError::Malformed)?;
        Ok(length + 1)
    }
}

/// The form of a certificate that sync carries.
pub(crate) fn extended(
    certificate: CommitCertificate<Context>,
) -> ExtendedCommitCertificate<Context> {
    ExtendedCommitCertificate::from_commit_certificate_and_extensions(
        certificate,
        VoteExtensions::default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Address, BlockId, Height, Proposal, Vote};
    use crate::malachite::{
        CommitSignature, NilOrVal, Round, SignedMessage, StreamContent, StreamId, Validity,
        VoteType,
    };
    use malachite_channel::app::types::codec::{Codec as _, HasEncodedLen};
    use proptest::prelude::*;
    use slackline_types::Hash;

    fn round() -> impl Strategy<Value = Round> {
        prop::option::of(any::<u32>()).prop_map(Round::from)
    }

    fn id() -> impl Strategy<Value = BlockId> {
        any::<[u8; 32]>().prop_map(|id| BlockId(Hash(id)))
    }

    fn address() -> impl Strategy<Value = Address> {
        any::<[u8; 32]>().prop_map(|a| Address(slackline_types::Address(a)))
    }

    fn signature() -> impl Strategy<Value = Signature> {
        any::<([u8; 32], [u8; 32])>().prop_map(|(a, b)| {
            Signature(std::array::from_fn(
                |n| if n < 32 { a[n] } else { b[n - 32] },
            ))
        })
    }

    fn height() -> impl Strategy<Value = Height> {
        any::<u64>().prop_map(Height)
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from)
    }

    fn vote() -> impl Strategy<Value = SignedConsensusMsg<Context>> {
        let fields = (
            any::<bool>(),
            height(),
            round(),
            prop::option::of(id()),
            address(),
            signature(),
        );
        fields.prop_map(|(first, height, round, value, validator, signature)| {
            let kind = if first {
                VoteType::Prevote
            } else {
                VoteType::Precommit
            };
            let value = value.map_or(NilOrVal::Nil, NilOrVal::Val);
            let vote = Vote {
                kind,
                height,
                round,
                value,
                validator,
            };
            SignedConsensusMsg::Vote(SignedMessage::new(vote, signature))
        })
    }

    fn proposal() -> impl Strategy<Value = SignedConsensusMsg<Context>> {
        let fields = (height(), round(), id(), round(), address(), signature());
        fields.prop_map(|(height, round, value, pol_round, proposer, signature)| {
            let proposal = Proposal {
                height,
                round,
                value,
                pol_round,
                proposer,
            };
            SignedConsensusMsg::Proposal(SignedMessage::new(proposal, signature))
        })
    }

    fn part() -> impl Strategy<Value = StreamMessage<ProposalPart>> {
        let place = (height(), any::<u32>(), round(), address(), id());
        let rest = (
            any::<u32>(),
            any::<u32>(),
            bytes(),
            signature(),
            bytes(),
            any::<bool>(),
        );
        (place, rest).prop_map(|((height, round, valid_round, sender, id), rest)| {
            let (index, count, bytes, signature, stream, fin) = rest;
            let part = ProposalPart {
                height,
                round,
                valid_round,
                sender,
                id,
                index,
                count,
                bytes,
                signature,
            };
            let content = if fin {
                StreamContent::Fin
            } else {
                StreamContent::Data(part)
            };
            StreamMessage::new(StreamId::new(stream), index.into(), content)
        })
    }

    fn certificate() -> impl Strategy<Value = CommitCertificate<Context>> {
        let signatures = prop::collection::vec((address(), signature()), 0..5);
        (height(), round(), id(), signatures).prop_map(|(height, round, value_id, signatures)| {
            // Sync orders them by address.
            let ordered: std::collections::BTreeMap<_, _> = signatures.into_iter().collect();
            let signature = |(address, signature)| CommitSignature::new(address, signature);
            CommitCertificate {
                height,
                round,
                value_id,
                commit_signatures: ordered.into_iter().map(signature).collect(),
            }
        })
    }

    fn response() -> impl Strategy<Value = Response<Context>> {
        let values = prop::collection::vec((bytes(), certificate()), 0..3);
        (height(), values).prop_map(|(start, values)| {
            let value = |(bytes, certificate)| RawDecidedValue::new(bytes, extended(certificate));
            let values = values.into_iter().map(value).collect();
            Response::ValueResponse(malachite_sync::ValueResponse::new(start, values))
        })
    }

    fn trip<T: PartialEq + std::fmt::Debug>(message: &T) -> Bytes
    where
        Codec: codec::Codec<T, Error = CodecError>,
    {
        let bytes = Codec.encode(message).unwrap();
        let back: T = Codec.decode(bytes.clone()).unwrap();
        assert_eq!(&back, message);
        // Nothing shorter or longer is a message.
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(codec::Codec::<T>::decode(&Codec, longer.into()).is_err());
        assert!(codec::Codec::<T>::decode(&Codec, bytes.slice(..bytes.len() - 1)).is_err());
        bytes
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes(
            vote in vote(), proposal in proposal(), part in part(), certificate in certificate(), response in response(),
            height in height(), round in round(), id in id(), address in address(), signature in signature(),
        ) {
            trip(&vote);
            trip(&proposal);
            trip(&part);
            trip(&certificate);
            let length = Codec.encoded_len(&response).unwrap();
            prop_assert_eq!(trip(&response).len(), length);
            trip(&ValidatorProof::<Context>::new(vec![1; 32], vec![2; 38], signature));
            let validity = if height.0 % 2 == 0 { Validity::Valid } else { Validity::Invalid };
            trip(&ProposedValue::<Context> {
                height, round, valid_round: round, proposer: address, value: id, validity,
            });
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fn check<T>(bytes: &Bytes) where Codec: codec::Codec<T> {
                let _ = codec::Codec::<T>::decode(&Codec, bytes.clone());
            }
            for versioned in [false, true] {
                if versioned && !bytes.is_empty() {
                    bytes[0] = VERSION;
                }
                let bytes = Bytes::from(bytes.clone());
                check::<ProposalPart>(&bytes);
                check::<StreamMessage<ProposalPart>>(&bytes);
                check::<SignedConsensusMsg<Context>>(&bytes);
                check::<LivenessMsg<Context>>(&bytes);
                check::<ProposedValue<Context>>(&bytes);
                check::<PolkaCertificate<Context>>(&bytes);
                check::<CommitCertificate<Context>>(&bytes);
                check::<Status<Context>>(&bytes);
                check::<Request<Context>>(&bytes);
                check::<Response<Context>>(&bytes);
                check::<ValidatorProof<Context>>(&bytes);
            }
        }
    }

    #[test]
    fn a_length_that_lies_takes_no_memory() {
        let mut bytes = vec![VERSION];
        bytes.extend(1u64.to_le_bytes());
        bytes.extend(u32::MAX.to_le_bytes());
        let result: Result<Response<Context>, _> = Codec.decode(bytes.into());
        assert!(result.is_err());
    }
}
