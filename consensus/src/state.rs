//! What the handlers work on. Nothing here knows of the engine's channels; all of it may block.

use crate::application::{Application, Verdict};
use crate::codec::CodecError;
use crate::context::{Address, BlockId, Context, Height, ProposalPart, ValidatorSet};
use crate::malachite::{
    HIDDEN_LOCK_ROUND, HeightParams, LinearTimeouts, ProposedValue, Round, StreamContent, StreamId,
    StreamMessage, Validity,
};
use crate::parts::{Assembled, Assembler, Limits, cut};
use crate::signing::Signer;
use crate::undecided::{Block, Undecided, UndecidedError};
use bytes::Bytes;
use slackline_types::Hash;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Why consensus cannot go on here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fatal {
    #[error("the application failed {doing}")]
    Application {
        doing: &'static str,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// On purpose: see [`Application::last`].
    #[error("height {height} was to be the last")]
    Last { height: u64 },
    #[error("blocks that are not decided cannot be kept")]
    Undecided(#[from] UndecidedError),
    #[error("the certificate of height {height} does not encode or decode")]
    Certificate { height: u64, source: CodecError },
    #[error("block {id} was decided at height {height}, but is not here")]
    Missing { height: u64, id: Hash },
    #[error("height {height} was decided, but the last block on disk is {head}")]
    Gap { height: u64, head: u64 },
    #[error("the application made a block of {bytes} bytes; 1 to {most} are allowed")]
    Size { bytes: usize, most: usize },
}

pub(crate) fn application<E: std::error::Error + Send + Sync + 'static>(
    doing: &'static str,
) -> impl FnOnce(E) -> Fatal {
    move |source| Fatal::Application {
        doing,
        source: Box::new(source),
    }
}

/// Where consensus is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) height: u64,
    pub(crate) round: u32,
}

/// What does not change while it runs.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) chain: Hash,
    pub(crate) address: Address,
    pub(crate) timeouts: LinearTimeouts,
    pub(crate) block_interval: Option<Duration>,
    pub(crate) block_bytes: usize,
    pub(crate) sync_blocks: usize,
    pub(crate) sync_bytes: usize,
}

/// Sends a part to all peers.
pub(crate) type Publish = Box<dyn FnMut(StreamMessage<ProposalPart>) + Send>;

pub(crate) struct State<A> {
    pub(crate) app: Arc<A>,
    pub(crate) settings: Settings,
    pub(crate) signer: Option<Signer>,
    pub(crate) undecided: Undecided,
    pub(crate) assembler: Assembler,
    /// The last height that is on disk.
    pub(crate) head: Height,
    /// Of the height after it.
    pub(crate) round: u32,
    /// Of the height after it.
    pub(crate) validators: ValidatorSet,
    /// Blocks of the height after that, by sender: who fills its own places takes nobody else's.
    pending: BTreeMap<Address, VecDeque<Assembled>>,
    /// Hashes of blocks of the height after the head that were executed and found invalid.
    invalid: BTreeSet<BlockId>,
    /// Rounds of that height in which another than the proposer has streamed a block that was new.
    restreamed: BTreeSet<u32>,
    publish: Publish,
    streams: u32,
    pub(crate) decided: watch::Sender<u64>,
    pub(crate) progress: watch::Sender<Progress>,
}

impl<A: Application> State<A> {
    pub(crate) fn new(
        app: Arc<A>,
        settings: Settings,
        signer: Option<Signer>,
        directory: &std::path::Path,
        publish: Publish,
    ) -> Result<Self, Fatal> {
        let head = app.head().map_err(application("to say its head"))?;
        let validators = app
            .validators(head + 1)
            .map_err(application("to say the validators"))?;
        let undecided =
            Undecided::open(&directory.join("proposals"), Height(head), signer.is_some())?;
        // Who streamed them is not known any more.
        let restreamed = undecided.of(Height(head + 1));
        let restreamed = restreamed
            .filter_map(|block| block.round.as_u32())
            .collect();
        Ok(Self {
            undecided,
            assembler: Assembler::new(settings.chain, Limits::new(settings.block_bytes)),
            app,
            settings,
            signer,
            head: Height(head),
            round: 0,
            validators,
            pending: BTreeMap::new(),
            invalid: BTreeSet::new(),
            restreamed,
            publish,
            streams: 0,
            decided: watch::Sender::new(head),
            progress: watch::Sender::new(Progress {
                height: head + 1,
                round: 0,
            }),
        })
    }

    /// The height that is being decided.
    pub(crate) fn next(&self) -> Height {
        Height(self.head.0 + 1)
    }

    /// Fails if no other height is to be begun.
    pub(crate) fn goes_on(&self) -> Result<(), Fatal> {
        match self.app.last() {
            Some(last) if self.head.0 >= last => Err(Fatal::Last { height: last }),
            _ => Ok(()),
        }
    }

    /// How to decide the next height.
    pub(crate) fn params(&self) -> HeightParams<Context> {
        HeightParams::new(
            self.validators.clone(),
            self.settings.timeouts,
            self.settings.block_interval,
        )
    }

    /// The block of `height` is on disk.
    pub(crate) fn advance(&mut self, height: Height) -> Result<(), Fatal> {
        self.head = height;
        self.round = 0;
        self.validators = self
            .app
            .validators(height.0 + 1)
            .map_err(application("to say the validators"))?;
        self.assembler.advance(height, 0);
        self.invalid.clear();
        self.restreamed.clear();
        self.retain_pending(|block| block.height > height);
        self.decided.send_replace(height.0);
        self.undecided.prune(height)?;
        Ok(())
    }

    /// Blocks of the next height that came before it was next.
    pub(crate) fn take_pending(&mut self) -> Vec<Assembled> {
        let next = self.next();
        let pending = self.pending.values().flatten();
        let now = pending.filter(|block| block.height == next).cloned();
        let now = now.collect();
        self.retain_pending(|block| block.height > next);
        now
    }

    fn retain_pending(&mut self, kept: impl Fn(&Assembled) -> bool) {
        for blocks in self.pending.values_mut() {
            blocks.retain(&kept);
        }
        self.pending.retain(|_, blocks| !blocks.is_empty());
    }

    /// Judges a block that validators streamed. `None` says that nothing is known of the hash that it was streamed under, or
    /// that the engine is not to hear of it.
    ///
    /// The engine keeps two values a round, and drops the proposal for which there is no room. So those are the proposer's.
    /// Others stream only what they lock, and only in rounds from [`HIDDEN_LOCK_ROUND`] on; one of those two is for them all.
    pub(crate) fn judge(
        &mut self,
        block: Assembled,
    ) -> Result<Option<ProposedValue<Context>>, Fatal> {
        if block.height > self.next() {
            // Who proposes is not certain yet. An honest sender has one of these, and more only while rounds fail.
            const PENDING: usize = 2;
            let pending = self.pending.entry(block.sender).or_default();
            if !pending.contains(&block) {
                pending.push_back(block);
                if pending.len() > PENDING {
                    pending.pop_front();
                }
            }
            return Ok(None);
        }
        if block.height < self.next() {
            return Ok(None);
        }
        let round = Round::new(block.round);
        let proposer = self
            .validators
            .proposer(block.height, block.round)
            .address();
        let turn = block.sender == proposer;
        if (!turn && round < HIDDEN_LOCK_ROUND) || block.valid_round >= round {
            tracing::warn!(height = %block.height, %round, sender = %block.sender, "proposed out of turn");
            return Ok(None);
        }
        let value = |validity| ProposedValue {
            height: block.height,
            round,
            valid_round: block.valid_round,
            proposer,
            value: block.id,
            validity,
        };
        if let Some(known) = self.undecided.get(block.height, block.id) {
            let value = value(Validity::Valid);
            if turn {
                return Ok(Some(value));
            }
            // Where it is already, if there was room.
            return Ok(Some(ProposedValue {
                round: known.round,
                valid_round: known.valid_round,
                proposer: known.proposer,
                ..value
            }));
        }
        if !turn && !self.restreamed.insert(block.round) {
            return Ok(None);
        }
        if self.invalid.contains(&block.id) {
            return Ok(Some(value(Validity::Invalid)));
        }
        match self.validate(block.height, &block.bytes)? {
            Verdict::Valid {
                id,
                proposer: maker,
            } => {
                let entitled = if turn && !block.valid_round.is_defined() {
                    maker == proposer
                } else {
                    self.validators.get(&maker).is_some()
                };
                if BlockId(id) != block.id || !entitled {
                    tracing::warn!(height = %block.height, round = block.round, sender = %block.sender, "streamed something else");
                    return Ok(None);
                }
                self.undecided.keep(Block {
                    height: block.height,
                    round,
                    valid_round: block.valid_round,
                    proposer,
                    id: block.id,
                    bytes: block.bytes.clone(),
                })?;
                Ok(Some(value(Validity::Valid)))
            }
            // As if it had not come yet: it may be looked at again in a later round.
            Verdict::Early { .. } => {
                tracing::warn!(
                    height = %block.height, %round, sender = %block.sender, id = %block.id,
                    "the block is from the future, by this machine's clock"
                );
                Ok(None)
            }
            Verdict::Invalid { id, reason } => {
                tracing::warn!(
                    height = %block.height, round = block.round, sender = %block.sender, id = %block.id, reason,
                    "invalid block"
                );
                if id.map(BlockId) != Some(block.id) {
                    return Ok(None);
                }
                self.invalid.insert(block.id);
                Ok(Some(value(Validity::Invalid)))
            }
        }
    }

    pub(crate) fn validate(&self, height: Height, bytes: &Bytes) -> Result<Verdict, Fatal> {
        self.app
            .validate(height.0, bytes)
            .map_err(application("to check a block"))
    }

    /// Streams a block that is kept to all peers, in this node's name.
    pub(crate) fn stream(&mut self, height: Height, round: u32, valid_round: Round, id: BlockId) {
        let (Some(signer), Some(block)) = (&self.signer, self.undecided.get(height, id)) else {
            return;
        };
        let whole = Assembled {
            height,
            round,
            valid_round,
            sender: self.settings.address,
            id,
            bytes: block.bytes.clone(),
        };
        self.streams = self.streams.wrapping_add(1);
        let mut stream = Vec::with_capacity(16);
        stream.extend_from_slice(&height.0.to_be_bytes());
        stream.extend_from_slice(&round.to_be_bytes());
        stream.extend_from_slice(&self.streams.to_be_bytes());
        let stream = StreamId::new(stream.into());
        for mut part in cut(&whole) {
            signer.sign_part(&mut part);
            let sequence = part.index.into();
            (self.publish)(StreamMessage::new(
                stream.clone(),
                sequence,
                StreamContent::Data(part),
            ));
        }
    }
}
