//! Starts the engine, feeds the handlers from it, and stops both.
//!
//! The handlers have a thread of their own, because they wait for disks and execute blocks. A task watches: it stops the
//! engine when a handler fails, notices when the engine fails, and ends both when told to.

use crate::application::Application;
use crate::codec::Codec;
use crate::config::{Config, ConfigError, address};
use crate::context::{Address, Context};
use crate::guard::{Guard, OpenError, SignError, SitOut};
use crate::handlers;
use crate::health::{Health, Reporter};
use crate::log;
use crate::malachite::{
    AppMsg, Keypair, LinearTimeouts, NetworkMsg, SigningScheme, StreamMessage, config as engine,
};
use crate::metrics;
use crate::signing::{Signer, Verifier};
use crate::state::{Fatal, Progress, Settings, State};
use ed25519_dalek::SigningKey;
use malachite_channel::app::config::NodeConfig;
use malachite_channel::app::events::RxEvent;
use malachite_channel::app::types::codec::Codec as _;
use malachite_channel::{
    Channels, ConsensusContext, ConsensusRequest, EngineBuilder, EngineHandle, NetworkContext,
    NetworkIdentity, RequestContext, Signer as _, SyncContext, WalContext,
};
use serde::Serialize;
use slackline_types::{Hash, PublicKey};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// What a node is, apart from its settings.
pub struct Identity {
    /// Hash of the genesis block. It is in all that is signed, and in the names of the network's protocols.
    pub chain: Hash,
    /// Directory of the engine's log, the guard and blocks that are not decided. One process at a time.
    pub directory: PathBuf,
    /// Names the node in the network. Not the consensus key.
    pub node_key: SigningKey,
    /// Votes, if the node is a validator. Without, it follows.
    pub consensus_key: Option<SigningKey>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("chain", &self.chain)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// Why consensus did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What was signed before is not known.
    #[error(transparent)]
    Guard(#[from] OpenError),
    /// What was signed before cannot be written.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The directory cannot be made.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// The application or what is kept of blocks that are not decided does not read.
    #[error("{0}")]
    State(String),
    /// The engine's reason: its log is locked by another process or corrupt, or the address is taken.
    #[error("the consensus engine does not start: {0}")]
    Engine(String),
}

impl From<Fatal> for StartError {
    fn from(fatal: Fatal) -> Self {
        let mut text = fatal.to_string();
        let mut source = std::error::Error::source(&fatal);
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        StartError::State(text)
    }
}

/// It did not end in time. Its threads are left behind; the process should exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("consensus did not end in time")]
pub struct ShutdownError;

/// Where consensus is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The height that is being decided.
    pub height: u64,
    /// The round of it.
    pub round: u32,
    /// The step of the round, if the engine said in time.
    pub step: Option<String>,
    /// The last height that is on disk.
    pub decided: u64,
    /// Peers connected.
    pub peers: u64,
    /// The account of the consensus key, if there is one.
    pub validator: Option<slackline_types::Address>,
    /// Whether it only follows for now, because of what it signed before: see [`guard::Guard::sits_out`](crate::guard::Guard::sits_out).
    pub sits_out: bool,
}

/// The name of a node in the network, as in a multiaddress after `/p2p/`.
pub fn peer_id(node_key: &SigningKey) -> String {
    keypair(node_key).public().to_peer_id().to_string()
}

fn keypair(key: &SigningKey) -> Keypair {
    // Only a wrong length is an error.
    Keypair::ed25519_from_bytes(key.to_bytes()).unwrap_or_else(|_| unreachable!())
}

/// Consensus of one node.
#[derive(Debug)]
pub struct Consensus;

/// A running consensus. Dropping it does not end it; [`shutdown`](Handle::shutdown) does.
pub struct Handle {
    moniker: String,
    address: Option<Address>,
    sits_out: bool,
    reporter: Reporter,
    decided: watch::Receiver<u64>,
    progress: watch::Receiver<Progress>,
    requests: mpsc::Sender<ConsensusRequest<Context>>,
    stop: watch::Sender<Option<Instant>>,
    ended: watch::Receiver<bool>,
    wal: PathBuf,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("moniker", &self.moniker)
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

impl Consensus {
    /// Starts to decide, or to follow, from the application's head on. Needs a multi-threaded tokio runtime.
    ///
    /// When [`Health`] becomes [`Stopped`](Health::Stopped), the process is to exit and be started again.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start<A: Application>(
        config: Config,
        identity: Identity,
        app: Arc<A>,
    ) -> Result<Handle, StartError> {
        config.check()?;
        let directory = identity.directory.clone();
        std::fs::create_dir_all(&directory).map_err(|source| StartError::Directory {
            path: directory.clone(),
            source,
        })?;
        let log = directory.join("wal");
        let public = |key: &SigningKey| PublicKey(key.verifying_key().to_bytes());
        let key = identity.consensus_key.as_ref().map(public);
        let guard = Guard::open(&directory.join("guard"), &log, identity.chain, key)?;
        let reporter = Reporter::new();
        let signer = identity
            .consensus_key
            .map(|key| Signer::new(identity.chain, key, guard, reporter.clone()));
        // A follower needs an address too; nobody has a key for the account of another kind of key.
        let address = Address::of(&key.unwrap_or_else(|| public(&identity.node_key)));
        let settings = settings(&config, identity.chain, address);

        let (network_tx, network_rx) = std::sync::mpsc::channel();
        let publish = Box::new(move |part| {
            // Nobody listens only before the engine runs and after it stopped.
            let _ = network_tx.send(part);
        });
        let state = {
            let (app, signer, settings) = (app.clone(), signer.clone(), settings.clone());
            let opened = tokio::task::spawn_blocking(move || {
                State::new(app, settings, signer, &directory, publish)
            });
            opened
                .await
                .map_err(|panic| StartError::State(panic.to_string()))??
        };
        let (decided, progress) = (state.decided.subscribe(), state.progress.subscribe());
        let mut sits_out = None;
        if let Some(signer) = &signer {
            let next = state.next();
            sits_out = signer.sits_out(next.0);
            let mut logged = match sits_out {
                None => log::read(&log, next.0, &address).map_err(|error| {
                    StartError::Engine(format!("its log {}: {error}", log.display()))
                })?,
                Some(_) => None,
            };
            if logged
                .as_ref()
                .is_some_and(|logged| logged.lacks_a_block(next, &state.undecided))
            {
                sits_out = Some(SitOut::Lost { height: next.0 });
                logged = None;
            }
            signer.reconcile(
                next.0,
                logged.as_ref().and_then(|logged| logged.own.as_ref()),
            )?;
        }
        // Of those who follow the engine empties the log, and what a validator is locked on is in its log.
        let votes = signer.is_some() && sits_out.is_none();
        let wal = if votes {
            log
        } else {
            log.with_extension("follow")
        };

        let keypair = keypair(&identity.node_key);
        let network = match &signer {
            Some(signer) => {
                let peer = keypair.public().to_peer_id().to_bytes();
                let key = crate::context::Ed25519::encode_public_key(&key.unwrap_or_default());
                let proof = signer.sign_validator_proof(key, peer).await;
                let proof = proof.map_err(|error| StartError::Engine(error.to_string()))?;
                let proof = Codec
                    .encode(&proof)
                    .map_err(|error| StartError::Engine(error.to_string()))?;
                NetworkIdentity::new_validator(
                    config.moniker.clone(),
                    keypair,
                    address.to_string(),
                    proof,
                )
            }
            None => NetworkIdentity::new(config.moniker.clone(), keypair, None),
        };
        let verifier = Box::new(Verifier::new(identity.chain));
        let consensus = match &signer {
            Some(signer) => {
                ConsensusContext::new_validator(address, verifier, Box::new(signer.clone()))
            }
            None => ConsensusContext::new_full_node(address, verifier),
        };
        let mut engine_config = EngineConfig::new(&config, &identity.chain)?;
        engine_config.consensus.enabled = sits_out.is_none();
        let (channels, engine) = EngineBuilder::new(Context, engine_config)
            .with_default_wal(WalContext::new(wal.clone(), Codec))
            .with_default_network(NetworkContext::new(network, Codec))
            .with_default_sync(SyncContext::new(Codec))
            .with_default_consensus(consensus)
            .with_default_request(RequestContext::new(64))
            .build()
            .await
            .map_err(|error| StartError::Engine(format!("{error:#}")))?;
        let Channels {
            consensus: messages,
            network,
            events,
            requests,
            ..
        } = channels;

        // Before the handlers: without them the engine does not read its log.
        tokio::spawn(report_log_errors(events.subscribe(), reporter.clone()));
        let (stop, stop_rx) = watch::channel(None);
        let (ended_tx, ended) = watch::channel(false);
        let thread = spawn_handlers(
            &config.moniker,
            state,
            messages,
            network,
            network_rx,
            &reporter,
        )
        .map_err(|error| StartError::Engine(error.to_string()))?;
        if let (Some(why), Some(signer)) = (sits_out, signer.clone()) {
            let within = Duration::from_millis(5 * config.timeouts.rebroadcast_ms);
            tokio::spawn(sit_out(
                why,
                within,
                decided.clone(),
                signer,
                reporter.clone(),
            ));
        }
        tokio::spawn(supervise(Supervised {
            engine,
            thread,
            stop: stop_rx,
            ended: ended_tx,
            reporter: reporter.clone(),
            moniker: config.moniker.clone(),
        }));
        Ok(Handle {
            moniker: config.moniker,
            address: signer.map(|_| address),
            sits_out: sits_out.is_some(),
            reporter,
            decided,
            progress,
            requests,
            stop,
            ended,
            wal,
        })
    }
}

impl Handle {
    /// Whether it takes part, as of now.
    pub fn health(&self) -> Health {
        if metrics::safety_failure(&self.moniker) {
            let unknown = "the engine's log failed; its reason is in the log of this process";
            self.reporter.safety_failure(unknown);
        }
        self.reporter.get()
    }

    /// Changes of [`health`](Self::health).
    pub fn watch_health(&self) -> watch::Receiver<Health> {
        self.reporter.subscribe()
    }

    /// The last height that is on disk, as it rises.
    pub fn decided(&self) -> watch::Receiver<u64> {
        self.decided.clone()
    }

    /// Where it is. Takes up to a second if the engine is busy.
    pub async fn status(&self) -> Status {
        let dump = ConsensusRequest::dump_state(&self.requests);
        let dump = tokio::time::timeout(Duration::from_secs(1), dump).await;
        let step = dump.ok().and_then(Result::ok).flatten();
        Status {
            step: step.map(|dump| format!("{:?}", dump.consensus.step)),
            ..self.glance()
        }
    }

    /// Where it is, without asking the engine: the step is not known.
    pub fn glance(&self) -> Status {
        let progress = *self.progress.borrow();
        Status {
            height: progress.height,
            round: progress.round,
            step: None,
            decided: *self.decided.borrow(),
            peers: metrics::peers(&self.moniker),
            validator: self.address.map(|address| address.0),
            sits_out: self.sits_out,
        }
    }

    /// The engine's metrics of this node, in Prometheus's text format.
    pub fn metrics(&self) -> String {
        metrics::text(&self.moniker)
    }

    /// Ends it: a block that is being executed or committed is finished, nothing new is begun. On return the directory may
    /// be used by another. What was decided stays decided; what was proposed and voted is remembered.
    ///
    /// # Errors
    ///
    /// If that takes longer than `within`.
    pub async fn shutdown(&self, within: Duration) -> Result<(), ShutdownError> {
        let deadline = Instant::now() + within;
        self.reporter.told_to_stop();
        self.stop.send_replace(Some(deadline));
        let mut ended = self.ended.clone();
        let ended = ended.wait_for(|ended| *ended);
        match tokio::time::timeout_at(deadline, ended).await {
            Ok(Ok(_)) => {}
            _ => return Err(ShutdownError),
        }
        // The thread of the log ends by itself soon after.
        while !is_unlocked(&self.wal) {
            if Instant::now() >= deadline {
                return Err(ShutdownError);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

fn is_unlocked(path: &Path) -> bool {
    match std::fs::File::open(path) {
        Ok(file) => file.try_lock().is_ok(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn settings(config: &Config, chain: Hash, address: Address) -> Settings {
    let t = &config.timeouts;
    let ms = Duration::from_millis;
    Settings {
        chain,
        address,
        timeouts: LinearTimeouts {
            propose: ms(t.propose_ms),
            propose_delta: ms(t.delta_ms),
            prevote: ms(t.prevote_ms),
            prevote_delta: ms(t.delta_ms),
            precommit: ms(t.precommit_ms),
            precommit_delta: ms(t.delta_ms),
            rebroadcast: ms(t.rebroadcast_ms),
            max_timeout: ms(t.max_ms),
        },
        block_interval: config.block_interval(),
        block_bytes: config.max_block_bytes,
        sync_blocks: config.sync.batch_blocks,
        // One block, be it of the most bytes, or several small ones.
        sync_bytes: config.max_block_bytes,
    }
}

#[derive(Clone)]
struct EngineConfig {
    moniker: String,
    consensus: engine::ConsensusConfig,
    value_sync: engine::ValueSyncConfig,
}

impl EngineConfig {
    fn new(config: &Config, chain: &Hash) -> Result<Self, ConfigError> {
        use engine::{PubSubProtocol, ValuePayload};
        let peers = config.persistent_peers.iter();
        let peers = peers.map(|peer| address("persistent_peers", peer));
        // Nodes of different chains do not understand each other.
        let chain = &chain.to_string()[..16];
        let protocol = |name: &str| format!("/slackline/{chain}/{name}/v1");
        let size = |bytes: usize| engine_size(bytes as u64);
        let sync = &config.sync;
        let discovery = engine::DiscoveryConfig {
            enabled: config.discovery,
            max_connections_per_ip: config.max_connections_per_ip,
            ..Default::default()
        };
        let p2p = engine::P2pConfig {
            listen_addr: address("listen", &config.listen)?,
            persistent_peers: peers.collect::<Result<_, _>>()?,
            persistent_peers_only: config.persistent_peers_only,
            discovery,
            protocol: PubSubProtocol::default(),
            // A part, or a certificate of the most validators.
            pubsub_max_size: size(512 << 10),
            rpc_max_size: size(sync.max_response_bytes),
            protocol_names: engine::ProtocolNames {
                consensus: protocol("consensus"),
                discovery_kad: protocol("kad"),
                discovery_regres: protocol("discovery"),
                sync: protocol("sync"),
                validator_proof: protocol("validator-proof"),
            },
            ..Default::default()
        };
        let value_sync = engine::ValueSyncConfig {
            enabled: true,
            status_update_interval: Duration::from_millis(sync.status_interval_ms),
            request_timeout: Duration::from_millis(sync.request_timeout_ms),
            max_request_size: size(64 << 10),
            max_response_size: size(sync.max_response_bytes),
            parallel_requests: sync.parallel_requests,
            batch_size: sync.batch_blocks,
            // Anybody may ask, and the thread that answers is that of the handlers: so one answer at a time, between which
            // consensus has its turn. The rest is for a peer that is far behind and asks as fast as it commits.
            max_concurrent_inbound_requests: 1,
            max_pending_inbound_requests: 32,
            inbound_request_rate_limit_window: Duration::from_secs(10),
            max_inbound_requests_per_window: 500,
            ..Default::default()
        };
        Ok(Self {
            moniker: config.moniker.clone(),
            consensus: engine::ConsensusConfig {
                enabled: true,
                p2p,
                value_payload: ValuePayload::ProposalAndParts,
                ..Default::default()
            },
            value_sync,
        })
    }
}

fn engine_size(bytes: u64) -> bytesize::ByteSize {
    bytesize::ByteSize::b(bytes)
}

impl NodeConfig for EngineConfig {
    fn moniker(&self) -> &str {
        &self.moniker
    }

    fn consensus(&self) -> &engine::ConsensusConfig {
        &self.consensus
    }

    fn consensus_mut(&mut self) -> &mut engine::ConsensusConfig {
        &mut self.consensus
    }

    fn value_sync(&self) -> &engine::ValueSyncConfig {
        &self.value_sync
    }

    fn value_sync_mut(&mut self) -> &mut engine::ValueSyncConfig {
        &mut self.value_sync
    }
}

/// Says that consensus stops, if its thread ends in a panic: the engine does not notice a reply that is not given.
struct Panic(Reporter);

impl Drop for Panic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .stopped_because("a handler panicked; where is in the log of this process");
        }
    }
}

/// The thread that answers the engine. It ends when the engine does, or when a handler fails; its end drops the channel.
fn spawn_handlers<A: Application>(
    moniker: &str,
    mut state: State<A>,
    mut messages: mpsc::Receiver<AppMsg<Context>>,
    network: mpsc::Sender<NetworkMsg<Context>>,
    parts: std::sync::mpsc::Receiver<StreamMessage<crate::ProposalPart>>,
    reporter: &Reporter,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let reporter = reporter.clone();
    let span = tracing::error_span!("consensus-app", moniker);
    std::thread::Builder::new()
        .name("consensus-app".into())
        .spawn(move || {
            let _span = span.entered();
            let _panic = Panic(reporter.clone());
            while let Some(message) = messages.blocking_recv() {
                let result = handlers::handle(&mut state, message);
                while let Ok(part) = parts.try_recv() {
                    if network
                        .blocking_send(NetworkMsg::PublishProposalPart(part))
                        .is_err()
                    {
                        break;
                    }
                }
                if let Err(Fatal::Last { height }) = result {
                    tracing::info!(height, "consensus ends, as it is the last height for it");
                    reporter.told_to_stop();
                    return;
                }
                if let Err(fatal) = result {
                    let (height, round) = (state.next(), state.round);
                    tracing::error_span!("deciding", %height, round)
                        .in_scope(|| reporter.stopped(&fatal));
                    return;
                }
            }
        })
}

/// The engine's reasons for what shows as a safety failure.
async fn report_log_errors(mut events: RxEvent<Context>, reporter: Reporter) {
    use malachite_channel::app::engine::util::events::Event;
    use tokio::sync::broadcast::error::RecvError;
    loop {
        let reason = match events.recv().await {
            Ok(Event::WalCorrupted(error)) => format!("the engine's log is corrupt: {error}"),
            Ok(Event::WalReplayError(error)) => {
                format!("the engine's log does not replay: {error}")
            }
            Ok(Event::WalResetError(error)) => {
                format!("the engine's log cannot be reset: {error}")
            }
            Ok(_) | Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        reporter.safety_failure(reason);
    }
}

/// Follows until the height is over; after a refused signature no longer than it takes others to be in a later round, if they
/// need this one's vote. Then it is time to start again and vote.
async fn sit_out(
    why: SitOut,
    within: Duration,
    mut decided: watch::Receiver<u64>,
    signer: Signer,
    reporter: Reporter,
) {
    let height = why.height();
    let over = decided.wait_for(|decided| *decided >= height);
    match why {
        SitOut::Behind { .. } => {
            tracing::warn!(
                height,
                "the chain here is older than what this validator has signed: following until the height is over"
            );
            if over.await.is_err() {
                return;
            }
        }
        SitOut::Lost { .. } => {
            tracing::warn!(
                height,
                "the engine's log has a block of this height that is not here any more: following until the height is over"
            );
            if over.await.is_err() {
                return;
            }
        }
        SitOut::Refused { .. } => {
            tracing::warn!(
                height,
                "a signature was refused: following until the height is over"
            );
            // An error is that consensus ended before.
            if let Ok(Err(_)) = tokio::time::timeout(within, over).await {
                return;
            }
        }
    }
    match tokio::task::spawn_blocking(move || signer.forgive()).await {
        Ok(Err(error)) => reporter.stopped(&error),
        _ => reporter.stopped_because("the height that was sat out is over: start again to vote"),
    }
}

struct Supervised {
    engine: EngineHandle,
    thread: std::thread::JoinHandle<()>,
    stop: watch::Receiver<Option<Instant>>,
    ended: watch::Sender<bool>,
    reporter: Reporter,
    moniker: String,
}

async fn supervise(supervised: Supervised) {
    let Supervised {
        engine,
        thread,
        mut stop,
        ended,
        reporter,
        moniker,
    } = supervised;
    let EngineHandle { actor, mut handle } = engine;
    let mut health = reporter.subscribe();
    let mut safety = tokio::time::interval(Duration::from_millis(500));
    safety.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut running, mut joined) = (true, false);
    loop {
        tokio::select! {
            _ = stop.wait_for(Option::is_some) => break,
            result = health.wait_for(|health| matches!(health, Health::Stopped(_))), if running => {
                // Nothing is signed after this. The engine's last messages are on their way.
                drop(result);
                actor.stop_children(Some("consensus stops".into()));
                actor.stop(Some("consensus stops".into()));
                running = false;
            }
            result = &mut handle, if !joined => {
                drop(result);
                joined = true;
                reporter.stopped_because("the engine stopped; its reason is in the log of this process");
                running = false;
            }
            _ = safety.tick() => {
                let failed = tokio::task::block_in_place(|| metrics::safety_failure(&moniker));
                if failed && !matches!(reporter.get(), Health::SafetyFailure(_)) {
                    reporter.safety_failure("the engine's log failed; its reason is in the log of this process");
                }
            }
        }
    }
    let deadline = stop.borrow().unwrap_or_else(Instant::now);
    let left = || deadline.saturating_duration_since(Instant::now());
    if !matches!(reporter.get(), Health::SafetyFailure(_)) {
        let most = left() * 3 / 4;
        actor
            .stop_children_and_wait(Some("shutdown".into()), Some(most))
            .await;
    }
    // What hangs after a safety failure does not listen.
    for child in actor.get_children() {
        child.kill();
    }
    let _ = actor
        .stop_and_wait(Some("shutdown".into()), Some(left()))
        .await;
    let joined = tokio::task::spawn_blocking(move || thread.join());
    // Also if it panicked: that it did is said already.
    if let Ok(Ok(_)) = tokio::time::timeout_at(deadline, joined).await {
        ended.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Height;
    use crate::handlers::testing;
    use crate::malachite::Round;

    #[test]
    fn a_handler_that_panics_stops_consensus() {
        let dir = tempfile::tempdir().unwrap();
        let app = Arc::new(testing::Chain::default());
        let (state, _) = testing::state(&app, 1, dir.path());
        let poison = app.clone();
        let poison = move || {
            let _lock = poison.fail.lock();
            panic!("so that the next who takes the lock does");
        };
        std::thread::spawn(poison).join().unwrap_err();
        let reporter = Reporter::new();
        let (messages, received) = mpsc::channel(1);
        let (network, _sent) = mpsc::channel(1);
        let (_parts, parts) = std::sync::mpsc::channel();
        let thread = spawn_handlers("", state, received, network, parts, &reporter).unwrap();
        let block = testing::block(true, testing::validator(2).address(), b"");
        let (reply, _answer) = tokio::sync::oneshot::channel();
        let message = AppMsg::ProcessSyncedValue {
            height: Height(1),
            round: Round::new(0),
            proposer: testing::validator(2).address(),
            value_bytes: block,
            reply,
        };
        messages.blocking_send(message).unwrap();
        thread.join().unwrap_err();
        let health = reporter.get();
        assert!(
            matches!(&health, Health::Stopped(reason) if reason.contains("panicked")),
            "{health:?}"
        );
    }
}
