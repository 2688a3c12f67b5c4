//! Validators over the engine's core, which does no I/O, in virtual time: messages are lost, delayed and doubled, and
//! nodes crash between any two effects of the core, losing what their logs had not synced. The handlers, the guard and the
//! directory of undecided blocks are the real ones, over real files, of which nothing is lost in a crash.
//!
//! In a quarter of the seeds one validator's machine is bad: the log of the engine that it finds is cut within an entry, or
//! gone, and its chain is sometimes that of a backup. In another quarter one validator is byzantine: it streams blocks that are
//! valid, and not its turn, to fill the places that the engines of others have for proposals.
//!
//! `SLACKLINE_SIM_SEEDS` is the number of seeds (100 unless told), `SLACKLINE_SIM_SEED` the first (0).
//!
//! Not simulated: the bytes of the engine's log, its network, and checks of certificates, which no node here forges.

use crate::context::{
    Address, BlockId, Context, Height, Signature, part_bytes, proposal_bytes, vote_bytes,
};
use crate::guard::{Guard, Place, SitOut, Step};
use crate::handlers::testing::{self, CHAIN, Chain, Sent};
use crate::handlers::{
    decided, finalized, get_decided_values, get_value, process_synced_value,
    received_proposal_part, restream_proposal, started_round,
};
use crate::log::Logged;
use crate::malachite::{
    LivenessMsg, Next, PeerId, Round, SignedConsensusMsg, SignedMessage, StreamContent, StreamId,
    StreamMessage, SyncedValueOutcome,
};
use crate::parts::{Assembled, Limits, cut};
use crate::state::State;
use crate::{Application, ProposalPart};
use bytes::Bytes;
use ed25519_dalek::Signer;
use malachite_channel::app::consensus as core;
use malachite_channel::app::consensus::{ConsensusMsg, Effect, Input, Resumable, Resume};
use malachite_channel::app::metrics::Metrics;
use malachite_channel::app::types::core::{
    Timeout, ValueOrigin, ValuePayload, ValueResponse, VoteExtensionPolicy,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::oneshot;

const NODES: usize = 4;
/// Until then things go wrong, in milliseconds.
const FAULTS: u64 = 30_000;
/// By then all must have gone on.
const END: u64 = 600_000;

/// SplitMix64, by Sebastiano Vigna.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn percent(&mut self, p: u64) -> bool {
        self.below(100) < p
    }
}

#[derive(Clone)]
enum Message {
    Consensus(SignedConsensusMsg<Context>),
    Liveness(LivenessMsg<Context>),
    Part(ProposalPart),
}

enum Event {
    Message(Message),
    Timer {
        timeout: Timeout,
        id: u64,
        epoch: u64,
    },
    Restart,
    Sync,
    /// It has sat out long enough.
    Forgive {
        epoch: u64,
    },
}

enum Work {
    Input(Input<Context>),
    Start(Height),
    Part(ProposalPart),
}

/// Why a node ends.
#[derive(Debug)]
enum Death {
    Crash,
    Refused,
}

/// What is wrong with one of the validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    BadMachine(usize),
    Byzantine(usize),
}

struct Node {
    directory: tempfile::TempDir,
    chain: Arc<Chain>,
    wal_height: Height,
    wal: Vec<Input<Context>>,
    /// A part of an entry follows.
    torn: bool,
    epoch: u64,
    live: Option<Live>,
}

struct Live {
    core: core::State<Context>,
    metrics: Metrics,
    rest: Rest,
}

struct Rest {
    app: State<Chain>,
    sent: Sent,
    guard: Guard,
    timers: HashMap<Timeout, u64>,
    unflushed: Vec<Input<Context>>,
    inbox: VecDeque<Work>,
    recovering: bool,
    effects_left: u64,
    /// The height up to which it only follows.
    sits_out: Option<u64>,
}

struct World {
    random: Random,
    now: u64,
    count: u64,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    nodes: Vec<Node>,
    /// What each validator was heard to say.
    said: BTreeMap<(Address, Place), [u8; 32]>,
    loss: u64,
    odd: Option<Odd>,
    counts: Counts,
}

/// What happened.
#[derive(Debug, Default)]
struct Counts {
    crashes: u64,
    /// Signatures that the guard refused.
    refusals: u64,
    /// Signatures that were forgotten because they had never left.
    forgotten: u64,
    /// Times that a validator followed because of its guard.
    sat_out: u64,
    torn: u64,
    lost: u64,
    rolled_back: u64,
    /// Blocks that were streamed to fill places.
    flooded: u64,
}

impl Counts {
    fn add(&mut self, other: &Counts) {
        self.crashes += other.crashes;
        self.refusals += other.refusals;
        self.forgotten += other.forgotten;
        self.sat_out += other.sat_out;
        self.torn += other.torn;
        self.lost += other.lost;
        self.rolled_back += other.rolled_back;
        self.flooded += other.flooded;
    }
}

fn ask<T>(handle: impl FnOnce(oneshot::Sender<T>)) -> Option<T> {
    let (reply, mut answer) = oneshot::channel();
    handle(reply);
    answer.try_recv().ok()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let node = |_| Node {
            // Syncing memory is quick.
            directory: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            chain: Arc::new(Chain::default()),
            wal_height: Height(0),
            wal: Vec::new(),
            torn: false,
            epoch: 0,
            live: None,
        };
        let loss = [0, 2, 10, 30][random.below(4) as usize];
        let mut world = World {
            random,
            now: 0,
            count: 0,
            queue: BTreeMap::new(),
            nodes: (0..NODES).map(node).collect(),
            said: BTreeMap::new(),
            loss,
            odd: match seed % 4 {
                1 => Some(Odd::BadMachine(seed as usize / 4 % NODES)),
                3 => Some(Odd::Byzantine(seed as usize / 4 % NODES)),
                _ => None,
            },
            counts: Counts::default(),
        };
        for node in 0..NODES {
            world.at(0, node, Event::Restart);
            world.at(1, node, Event::Sync);
        }
        world
    }

    fn faulty(&self) -> bool {
        self.now < FAULTS
    }

    fn at(&mut self, delay: u64, node: usize, event: Event) {
        self.count += 1;
        self.queue
            .insert((self.now + delay, self.count), (node, event));
    }

    fn broadcast(&mut self, from: usize, message: Message) {
        self.hear(&message);
        for to in (0..NODES).filter(|to| *to != from) {
            if self.faulty() && self.random.percent(self.loss) {
                continue;
            }
            let copies = if self.faulty() && self.random.percent(10) {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let most = if self.faulty() && self.random.percent(10) {
                    3_000
                } else {
                    50
                };
                let delay = 1 + self.random.below(most);
                self.at(delay, to, Event::Message(message.clone()));
            }
        }
    }

    /// Nobody says two things for one place, ever, nor do others have it from them in certificates.
    fn hear(&mut self, message: &Message) {
        let votes = match message {
            Message::Consensus(SignedConsensusMsg::Proposal(p)) => {
                let bytes = proposal_bytes(&CHAIN, p);
                return self.said(&p.proposer, p.height, p.round, Step::Propose, bytes);
            }
            Message::Consensus(SignedConsensusMsg::Vote(vote))
            | Message::Liveness(LivenessMsg::Vote(vote)) => vec![vote.clone()],
            Message::Liveness(LivenessMsg::PolkaCertificate(polka)) => {
                polka.votes(&Context).collect()
            }
            Message::Liveness(LivenessMsg::SkipRoundCertificate(skip)) => {
                skip.votes(&Context).collect()
            }
            Message::Part(_) => return,
        };
        for vote in votes {
            let (step, bytes) = (vote.kind.into(), vote_bytes(&CHAIN, &vote));
            self.said(&vote.validator, vote.height, vote.round, step, bytes);
        }
    }

    fn said(&mut self, who: &Address, height: Height, round: Round, step: Step, bytes: [u8; 32]) {
        let place = Place {
            height: height.0,
            round: round.as_u32().unwrap(),
            step,
        };
        let before = *self.said.entry((*who, place)).or_insert(bytes);
        assert_eq!(before, bytes, "{who} said two things for {place:?}");
    }

    /// What a bad machine may have done to its files while it was down.
    fn damage(&mut self, n: usize) {
        if !self.faulty() || self.odd != Some(Odd::BadMachine(n)) {
            return;
        }
        let node = &mut self.nodes[n];
        if self.random.percent(20) {
            node.wal_height = Height(0);
            node.wal.clear();
            self.counts.lost += 1;
        }
        if self.random.percent(20) {
            let mut blocks = node.chain.blocks.lock().unwrap();
            let kept = (blocks.len() as u64).saturating_sub(1 + self.random.below(3));
            blocks.truncate(kept as usize);
            self.counts.rolled_back += 1;
        }
    }

    fn restart(&mut self, n: usize) {
        self.damage(n);
        let node = &self.nodes[n];
        let path = node.directory.path();
        let seed = n as u8 + 1;
        let (app, sent) = testing::state(&node.chain, seed, path);
        let key = Some(testing::validator(seed).key());
        let mut guard = Guard::open(&path.join("guard"), &path.join("wal"), CHAIN, key).unwrap();
        let height = app.next();
        let mut sits_out = guard.sits_out(height.0).map(SitOut::height);
        let logged = (node.wal_height == height)
            .then(|| Logged::new(&node.wal, !node.torn, &app.settings.address));
        if sits_out.is_none()
            && logged
                .as_ref()
                .is_some_and(|logged| logged.lacks_a_block(height, &app.undecided))
        {
            assert_eq!(self.odd, Some(Odd::BadMachine(n)), "a crash loses no block");
            sits_out = Some(height.0);
        }
        let own = logged.and_then(|logged| logged.own);
        if let (Some(own), None) = (own, sits_out) {
            let dropped = guard.drop_unlogged(height.0, &own).unwrap();
            assert!(dropped.iter().all(|place| place.height == height.0));
            self.counts.forgotten += dropped.len() as u64;
        } else {
            guard.seal().unwrap();
        }
        if sits_out.is_some() {
            self.counts.sat_out += 1;
            let epoch = self.nodes[n].epoch;
            self.at(15_000, n, Event::Forgive { epoch });
        }
        let params = core::Params {
            address: app.settings.address,
            threshold_params: Default::default(),
            value_payload: ValuePayload::ProposalAndParts,
            enabled: sits_out.is_none(),
        };
        let core = core::State::new(Context, height, app.validators.clone(), params, 10, 500);
        let effects_left = if self.faulty() {
            let bad = self.odd == Some(Odd::BadMachine(n));
            5 + self.random.below(if bad { 200 } else { 800 })
        } else {
            u64::MAX
        };
        self.nodes[n].live = Some(Live {
            core,
            metrics: Metrics::new(),
            rest: Rest {
                app,
                sent,
                guard,
                timers: HashMap::new(),
                unflushed: Vec::new(),
                inbox: VecDeque::new(),
                recovering: false,
                effects_left,
                sits_out,
            },
        });
        self.work(n, Work::Start(height));
    }

    fn work(&mut self, n: usize, work: Work) {
        let Some(mut live) = self.nodes[n].live.take() else {
            return;
        };
        // Who only follows does not hear votes and proposals.
        let heard = matches!(
            work,
            Work::Part(_)
                | Work::Input(
                    Input::Vote(_)
                        | Input::Proposal(_)
                        | Input::PolkaCertificate(_)
                        | Input::RoundCertificate(_)
                )
        );
        if heard && live.rest.sits_out.is_some() {
            self.nodes[n].live = Some(live);
            return;
        }
        live.rest.inbox.push_back(work);
        while let Some(work) = live.rest.inbox.pop_front() {
            let result = match work {
                Work::Input(input) => self.process(n, &mut live, input),
                Work::Start(height) => self.start(n, &mut live, height),
                Work::Part(part) => {
                    let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
                    let content = StreamContent::Data(part);
                    let part = StreamMessage::new(StreamId::new(Bytes::new()), 0, content);
                    let app = &mut live.rest.app;
                    let value = ask(|reply| {
                        received_proposal_part::handle(app, peer, Some(peer), part, reply).unwrap();
                    });
                    let value = value.flatten();
                    let input = value.map(|v| Input::ProposedValue(v, ValueOrigin::Consensus));
                    live.rest.inbox.extend(input.map(Work::Input));
                    Ok(())
                }
            };
            if let Err(death) = result {
                match death {
                    Death::Crash => self.counts.crashes += 1,
                    Death::Refused => self.counts.refusals += 1,
                }
                // Of what was not synced, any prefix may be there.
                let unflushed = live.rest.unflushed;
                let kept = self.random.below(unflushed.len() as u64 + 1) as usize;
                if kept < unflushed.len() && self.odd == Some(Odd::BadMachine(n)) {
                    self.nodes[n].torn = true;
                    self.counts.torn += 1;
                }
                self.nodes[n].wal.extend(unflushed.into_iter().take(kept));
                self.nodes[n].epoch += 1;
                let delay = 100 + self.random.below(3_000);
                self.at(delay, n, Event::Restart);
                return;
            }
        }
        self.nodes[n].live = Some(live);
    }

    /// As the engine's actor does it.
    fn start(&mut self, n: usize, live: &mut Live, height: Height) -> Result<(), Death> {
        let node = &mut self.nodes[n];
        let mut entries = Vec::new();
        // Who follows has another log, which is always empty.
        if live.rest.sits_out.is_none() {
            // Opening it cuts it off.
            node.torn = false;
            if node.wal_height != height {
                node.wal_height = height;
                node.wal.clear();
                live.rest.unflushed.clear();
            }
            entries = node.wal.clone();
        }
        let set = live.rest.app.validators.clone();
        let policy = VoteExtensionPolicy::Disabled;
        self.process(
            n,
            live,
            Input::StartHeight(height, set, false, None, policy),
        )?;
        if !entries.is_empty() {
            live.rest.recovering = true;
            live.core
                .record_recovered_own_precommit_extensions(entries.iter());
            live.core.index_wal_entries(entries.iter());
            for entry in entries {
                self.process(n, live, entry)?;
            }
            live.core.reset_entries_index();
            live.rest.recovering = false;
        }
        Ok(())
    }

    fn process(&mut self, n: usize, live: &mut Live, input: Input<Context>) -> Result<(), Death> {
        let Live {
            core,
            metrics,
            rest,
        } = live;
        let result: Result<(), core::Error<Context>> = core::process!(
            input: input,
            state: core,
            metrics: metrics,
            with: effect => match self.effect(n, rest, effect) {
                Ok(resume) => Ok::<_, std::convert::Infallible>(resume),
                Err(death) => return Err(death),
            }
        );
        result.unwrap();
        Ok(())
    }

    fn flush(&mut self, n: usize, rest: &mut Rest) {
        self.nodes[n].wal.append(&mut rest.unflushed);
    }

    fn sign(
        &mut self,
        n: usize,
        rest: &mut Rest,
        place: Place,
        message: [u8; 32],
    ) -> Result<Signature, Death> {
        let key = testing::key(n as u8 + 1);
        rest.guard
            .sign(place, message, |message| {
                Signature(key.sign(message).to_bytes())
            })
            .map_err(|error| {
                tracing::info!(node = n, %error, "refused");
                Death::Refused
            })
    }

    fn stream(&mut self, n: usize, rest: &mut Rest) {
        let parts = std::mem::take(&mut *rest.sent.lock().unwrap());
        for part in parts {
            self.broadcast(n, Message::Part(part));
        }
    }

    /// Two valid blocks for each round that others look at parts of, with a valid round that there is not.
    fn flood(&mut self, n: usize, height: Height, from: u32) {
        if self.odd != Some(Odd::Byzantine(n)) {
            return;
        }
        let key = testing::key(n as u8 + 1);
        let sender = testing::validator(n as u8 + 1).address();
        for round in from..=from + Limits::new(1).rounds_ahead {
            for rest in [b"1", b"2"] {
                let bytes = testing::block(true, sender, rest);
                let block = Assembled {
                    height,
                    round,
                    valid_round: Round::new(0),
                    sender,
                    id: BlockId(testing::id(&bytes)),
                    bytes,
                };
                for mut part in cut(&block) {
                    let signature = key.sign(&part_bytes(&CHAIN, &part));
                    part.signature = Signature(signature.to_bytes());
                    self.counts.flooded += 1;
                    self.broadcast(n, Message::Part(part));
                }
            }
        }
    }

    fn effect(
        &mut self,
        n: usize,
        rest: &mut Rest,
        effect: Effect<Context>,
    ) -> Result<Resume<Context>, Death> {
        if self.faulty() {
            rest.effects_left = rest.effects_left.saturating_sub(1);
            if rest.effects_left == 0 {
                return Err(Death::Crash);
            }
        }
        Ok(match effect {
            Effect::CancelAllTimeouts(r) => {
                rest.timers.clear();
                r.resume_with(())
            }
            Effect::CancelTimeout(timeout, r) => {
                rest.timers.remove(&timeout);
                r.resume_with(())
            }
            Effect::ScheduleTimeout(timeout, r) => {
                let duration = rest.app.settings.timeouts.duration_for(timeout);
                let (id, epoch) = (self.count, self.nodes[n].epoch);
                rest.timers.insert(timeout, id);
                let delay = duration.as_millis() as u64;
                self.at(delay, n, Event::Timer { timeout, id, epoch });
                r.resume_with(())
            }
            Effect::StartRound(height, round, proposer, role, r) => {
                self.flush(n, rest);
                self.flood(n, height, round.as_u32().unwrap());
                let app = &mut rest.app;
                let values = ask(|reply| {
                    started_round::handle(app, height, round, proposer, role, reply).unwrap();
                });
                let input = |v| Work::Input(Input::ProposedValue(v, ValueOrigin::Consensus));
                rest.inbox.extend(values.unwrap().into_iter().map(input));
                r.resume_with(())
            }
            Effect::GetValue(height, round, timeout, r) => {
                let timeout = rest.app.settings.timeouts.duration_for(timeout);
                let app = &mut rest.app;
                let value = ask(|reply| {
                    get_value::handle(app, height, round, timeout, reply).unwrap();
                });
                rest.inbox
                    .extend(value.map(|v| Work::Input(Input::Propose(v))));
                self.stream(n, rest);
                r.resume_with(())
            }
            Effect::RestreamProposal(height, round, valid_round, _, id, r) => {
                restream_proposal::handle(&mut rest.app, height, round, valid_round, id).unwrap();
                self.stream(n, rest);
                r.resume_with(())
            }
            Effect::PublishConsensusMsg(message, r) => {
                self.flush(n, rest);
                self.broadcast(n, Message::Consensus(message));
                r.resume_with(())
            }
            Effect::PublishLivenessMsg(message, r) => {
                self.broadcast(n, Message::Liveness(message));
                r.resume_with(())
            }
            Effect::RepublishVote(vote, r) => {
                self.broadcast(n, Message::Liveness(LivenessMsg::Vote(vote)));
                r.resume_with(())
            }
            Effect::RepublishRoundCertificate(certificate, r) => {
                let message = LivenessMsg::SkipRoundCertificate(certificate);
                self.broadcast(n, Message::Liveness(message));
                r.resume_with(())
            }
            Effect::SignVote(vote, r) => {
                let place = Place {
                    height: vote.height.0,
                    round: vote.round.as_u32().unwrap(),
                    step: vote.kind.into(),
                };
                let signature = self.sign(n, rest, place, vote_bytes(&CHAIN, &vote))?;
                r.resume_with(SignedMessage::new(vote, signature))
            }
            Effect::SignProposal(proposal, r) => {
                let place = Place {
                    height: proposal.height.0,
                    round: proposal.round.as_u32().unwrap(),
                    step: Step::Propose,
                };
                let message = proposal_bytes(&CHAIN, &proposal);
                let signature = self.sign(n, rest, place, message)?;
                r.resume_with(SignedMessage::new(proposal, signature))
            }
            Effect::VerifySignature(signed, key, r) => {
                let message = match &signed.message {
                    ConsensusMsg::Vote(vote) => vote_bytes(&CHAIN, vote),
                    ConsensusMsg::Proposal(proposal) => proposal_bytes(&CHAIN, proposal),
                };
                r.resume_with(signed.signature.is_of(&message, &key))
            }
            Effect::VerifyCommitCertificate(_, _, _, r) => r.resume_with(Ok(())),
            Effect::VerifyExtendedCommitCertificate(_, _, _, _, r) => r.resume_with(Ok(())),
            Effect::VerifyPolkaCertificate(_, _, _, r) => r.resume_with(Ok(())),
            Effect::VerifyRoundCertificate(_, _, _, r) => r.resume_with(Ok(())),
            Effect::CertVerifiedSyncValue(value, proposer, r) => {
                let (height, round) = (value.certificate.height, value.certificate.round);
                let (app, bytes) = (&mut rest.app, value.value_bytes);
                let outcome = ask(|reply| {
                    process_synced_value::handle(app, height, round, proposer, bytes, reply)
                        .unwrap();
                });
                if let Some(SyncedValueOutcome::Verdict(value)) = outcome {
                    let input = Input::ProposedValue(value, ValueOrigin::Sync);
                    rest.inbox.push_back(Work::Input(input));
                }
                r.resume_with(())
            }
            Effect::CertRejectedSyncValue(_, _, error, _) => panic!("{error}"),
            Effect::Decide(certificate, _, r) => {
                self.flush(n, rest);
                let app = &mut rest.app;
                let next = Height(certificate.height.0 + 1);
                ask(|reply| decided::handle(app, certificate, reply).unwrap()).unwrap();
                self.flood(n, next, 0);
                r.resume_with(())
            }
            Effect::Finalize(certificate, _, evidence, r) => {
                assert!(evidence.is_empty(), "{evidence:?}");
                let app = &mut rest.app;
                let next = ask(|reply| {
                    finalized::handle(app, certificate, evidence, reply).unwrap();
                });
                let Some(Next::Start(height, _)) = next else {
                    panic!("{next:?}")
                };
                rest.inbox.push_back(Work::Start(height));
                r.resume_with(())
            }
            Effect::WalAppend(height, input, r) => {
                let writes = !rest.recovering && rest.sits_out.is_none();
                if writes && height == self.nodes[n].wal_height {
                    rest.unflushed.push(input);
                }
                r.resume_with(())
            }
            Effect::ExtendVote(..) | Effect::VerifyVoteExtension(..) => unreachable!(),
        })
    }

    /// Asks a peer that is ahead for a block.
    fn sync(&mut self, n: usize) {
        self.at(500, n, Event::Sync);
        let Some(next) = self.nodes[n].live.as_ref().map(|live| live.rest.app.next()) else {
            return;
        };
        let peer = self.random.below(NODES as u64) as usize;
        let Some(live) = &mut self.nodes[peer].live else {
            return;
        };
        let app = &mut live.rest.app;
        let values = ask(|reply| {
            get_decided_values::handle(app, next..=next, reply).unwrap();
        });
        let peer = PeerId::from_bytes(&[0, 1, 7]).unwrap();
        for value in values.unwrap() {
            let response = ValueResponse::new(peer, value.value_bytes, value.certificate);
            self.work(n, Work::Input(Input::SyncValueResponse(response)));
        }
    }

    fn run(&mut self) {
        let mut goal = None;
        while let Some(((now, _), (n, event))) = self.queue.pop_first() {
            self.now = now;
            assert!(now < END, "stuck: {:?}, goal {goal:?}", self.heads());
            match event {
                Event::Restart => {
                    assert!(self.nodes[n].live.is_none());
                    self.restart(n);
                }
                Event::Sync => self.sync(n),
                Event::Forgive { epoch } if self.nodes[n].epoch == epoch => self.forgive(n),
                Event::Forgive { .. } => {}
                Event::Message(Message::Part(part)) => self.work(n, Work::Part(part)),
                Event::Message(Message::Consensus(message)) => {
                    let input = match message {
                        SignedConsensusMsg::Vote(vote) => Input::Vote(vote),
                        SignedConsensusMsg::Proposal(proposal) => Input::Proposal(proposal),
                    };
                    self.work(n, Work::Input(input));
                }
                Event::Message(Message::Liveness(message)) => {
                    let input = match message {
                        LivenessMsg::Vote(vote) => Input::Vote(vote),
                        LivenessMsg::PolkaCertificate(c) => Input::PolkaCertificate(c),
                        LivenessMsg::SkipRoundCertificate(c) => Input::RoundCertificate(c),
                    };
                    self.work(n, Work::Input(input));
                }
                Event::Timer { timeout, id, epoch } => {
                    let due = self.nodes[n].epoch == epoch;
                    let due = due
                        && self.nodes[n].live.as_mut().is_some_and(|live| {
                            let due = live.rest.timers.get(&timeout) == Some(&id);
                            if due {
                                live.rest.timers.remove(&timeout);
                            }
                            due
                        });
                    if due {
                        self.work(n, Work::Input(Input::TimeoutElapsed(timeout)));
                    }
                }
            }
            let over = |live: &Live| {
                live.rest
                    .sits_out
                    .is_some_and(|h| live.rest.app.head.0 >= h)
            };
            if self.nodes[n].live.as_ref().is_some_and(over) {
                self.forgive(n);
            }
            let heads = self.heads();
            if !self.faulty() {
                let goal = *goal.get_or_insert(heads.iter().max().unwrap() + 3);
                if heads.iter().all(|head| *head >= goal) {
                    break;
                }
            }
        }
        let chains: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.chain.blocks.lock().unwrap())
            .collect();
        let longest = chains.iter().max_by_key(|chain| chain.len()).unwrap();
        for chain in &chains {
            for (block, other) in chain.iter().zip(longest.iter()) {
                assert_eq!(block.bytes, other.bytes, "two blocks at a height");
            }
        }
    }

    fn forgive(&mut self, n: usize) {
        if let Some(mut live) = self.nodes[n].live.take() {
            live.rest.guard.forgive().unwrap();
            self.nodes[n].epoch += 1;
            self.at(1_000, n, Event::Restart);
        }
    }

    fn heads(&self) -> Vec<u64> {
        self.nodes
            .iter()
            .map(|node| node.chain.head().unwrap())
            .collect()
    }
}

#[test]
fn seeds_agree_and_go_on() {
    // `RUST_LOG` shows what happened in a seed.
    let filter = tracing_subscriber::EnvFilter::try_from_default_env();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter.unwrap_or_else(|_| "off".into()))
        .with_test_writer()
        .try_init();
    let number = |name: &str, default| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse::<u64>().expect(name))
    };
    let first = number("SLACKLINE_SIM_SEED", 0);
    let (mut blocks, mut all) = (0, Counts::default());
    let seeds = number("SLACKLINE_SIM_SEEDS", 100);
    for seed in first..first + seeds {
        let mut world = World::new(seed);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run()));
        if let Err(panic) = result {
            eprintln!("seed {seed}: SLACKLINE_SIM_SEED={seed} SLACKLINE_SIM_SEEDS=1");
            std::panic::resume_unwind(panic);
        }
        blocks += world.heads().iter().max().unwrap();
        all.add(&world.counts);
    }
    println!("{seeds} seeds: {blocks} blocks, {all:?}");
    assert!(
        seeds < 10 || all.crashes > seeds,
        "the faults are not there"
    );
    let hard = [
        all.refusals,
        all.forgotten,
        all.sat_out,
        all.torn,
        all.lost,
        all.rolled_back,
        all.flooded,
    ];
    assert!(
        seeds < 100 || hard.iter().all(|count| *count > 0),
        "the hard cases are not there"
    );
}

/// In each, two of four lose power between the guard's write of one prevote and the log's. To refuse them for ever stopped the chain.
#[test]
fn what_nobody_has_seen_is_signed_anew() {
    for seed in [6_282, 6_554] {
        let mut world = World::new(seed);
        world.run();
        assert!(world.counts.forgotten > 0, "seed {seed} is another now");
    }
}
