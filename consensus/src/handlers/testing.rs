//! A chain in memory, and a state over it.

use crate::application::{Application, Decided, Proposed, Verdict};
use crate::context::{Address, BlockId, Context, Height, ProposalPart, Validator, ValidatorSet};
use crate::guard::Guard;
use crate::health::Reporter;
use crate::malachite::{CommitCertificate, LinearTimeouts, Round, StreamMessage};
use crate::signing::Signer;
use crate::state::{Settings, State};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use slackline_types::{Hash, PublicKey, digest};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

pub(crate) const CHAIN: Hash = Hash([5; 32]);

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn validator(seed: u8) -> Validator {
    Validator::new(PublicKey(key(seed).verifying_key().to_bytes()), 1)
}

pub(crate) fn validators() -> ValidatorSet {
    ValidatorSet::new((1..=4).map(validator)).unwrap()
}

/// The seed of the key of who proposes.
pub(crate) fn proposer(height: u64, round: u32) -> u8 {
    let address = validators().proposer(Height(height), round).address();
    (1..=4)
        .find(|seed| validator(*seed).address() == address)
        .unwrap()
}

/// Blocks are a byte that says whether they are valid, or too early while the clock is slow, their maker and whatever follows.
#[derive(Default)]
pub(crate) struct Chain {
    pub(crate) clock_is_right: Mutex<bool>,
    pub(crate) blocks: Mutex<Vec<Decided>>,
    pub(crate) fail: Mutex<bool>,
    pub(crate) made: Mutex<u64>,
    pub(crate) checked: Mutex<u64>,
}

pub(crate) fn id(bytes: &[u8]) -> Hash {
    Hash(digest("test-block", &[bytes]))
}

pub(crate) fn block(valid: bool, maker: Address, rest: &[u8]) -> Bytes {
    [&[u8::from(valid)], &maker.0.0[..], rest].concat().into()
}

pub(crate) fn early_block(maker: Address) -> Bytes {
    [&[2], &maker.0.0[..]].concat().into()
}

impl Chain {
    fn works(&self) -> io::Result<()> {
        if *self.fail.lock().unwrap() {
            return Err(io::Error::other("no disk"));
        }
        Ok(())
    }
}

impl Application for Chain {
    type Error = io::Error;

    fn head(&self) -> io::Result<u64> {
        Ok(self.blocks.lock().unwrap().len() as u64)
    }

    fn oldest(&self) -> io::Result<u64> {
        Ok(1)
    }

    fn validators(&self, _: u64) -> io::Result<ValidatorSet> {
        Ok(validators())
    }

    fn propose(&self, _: u64, _: u32, maker: Address, _: Instant) -> io::Result<Proposed> {
        self.works()?;
        let mut made = self.made.lock().unwrap();
        *made += 1;
        let bytes = block(true, maker, &made.to_le_bytes());
        let id = id(&bytes);
        Ok(Proposed { id, bytes })
    }

    fn validate(&self, _: u64, bytes: &Bytes) -> io::Result<Verdict> {
        self.works()?;
        *self.checked.lock().unwrap() += 1;
        let id = id(bytes);
        let address = |maker: &[u8; 32]| Address(slackline_types::Address(*maker));
        match bytes.split_first_chunk::<33>() {
            Some(([2, maker @ ..], _)) if !*self.clock_is_right.lock().unwrap() => {
                let proposer = address(maker);
                Ok(Verdict::Early { id, proposer })
            }
            Some(([1 | 2, maker @ ..], _)) => Ok(Verdict::Valid {
                id,
                proposer: address(maker),
            }),
            Some(_) => Ok(Verdict::Invalid {
                id: Some(id),
                reason: "it says so".into(),
            }),
            None => Ok(Verdict::Invalid {
                id: None,
                reason: "too short".into(),
            }),
        }
    }

    fn commit(&self, height: u64, bytes: &Bytes, certificate: &[u8]) -> io::Result<()> {
        self.works()?;
        let mut blocks = self.blocks.lock().unwrap();
        assert_eq!(height, blocks.len() as u64 + 1);
        blocks.push(Decided {
            bytes: bytes.clone(),
            certificate: Bytes::copy_from_slice(certificate),
        });
        Ok(())
    }

    fn decided(&self, height: u64) -> io::Result<Option<Decided>> {
        self.works()?;
        let index = height as usize - 1;
        Ok(self.blocks.lock().unwrap().get(index).cloned())
    }
}

pub(crate) type Sent = Arc<Mutex<Vec<ProposalPart>>>;

/// The state of the validator with the key of `seed`, and what it streams.
pub(crate) fn state(app: &Arc<Chain>, seed: u8, directory: &Path) -> (State<Chain>, Sent) {
    let guard = Guard::open(
        &directory.join("guard"),
        &directory.join("wal"),
        CHAIN,
        Some(validator(seed).key()),
    );
    let settings = Settings {
        chain: CHAIN,
        address: validator(seed).address(),
        timeouts: LinearTimeouts::default(),
        block_interval: None,
        block_bytes: 1 << 20,
        sync_blocks: 3,
        sync_bytes: 1 << 20,
    };
    let sent = Sent::default();
    let publish = {
        let sent = sent.clone();
        Box::new(move |part: StreamMessage<ProposalPart>| {
            sent.lock().unwrap().push(part.content.into_data().unwrap());
        })
    };
    let signer = Signer::new(CHAIN, key(seed), guard.unwrap(), Reporter::new());
    let state = State::new(app.clone(), settings, Some(signer), directory, publish);
    (state.unwrap(), sent)
}

pub(crate) fn certificate(height: u64, id: Hash) -> CommitCertificate<Context> {
    CommitCertificate {
        height: Height(height),
        round: Round::new(0),
        value_id: BlockId(id),
        commit_signatures: Vec::new(),
    }
}
