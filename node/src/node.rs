//! A node in one piece: chain, producer, consensus, workers, RPC and operators' port, started and stopped together.

use crate::admission::Admission;
use crate::config;
use crate::dev::{self, DataDirError};
use crate::keys::Key;
use crate::metrics::{self, Metrics};
use crate::ops::{self, Sources};
use crate::producer::{Decoded, Health, Limits, Producer, SubmitError};
use crate::rpc::api::ApiServer;
use crate::rpc::listener::{Listener, READERS};
use crate::rpc::server::Handler;
use crate::snapshot;
use crate::validator::Validator;
use crate::workers::{Job, Workers};
use jsonrpsee::RpcModule;
use jsonrpsee::server::ServerHandle;
use slackline_client::openrpc;
use slackline_consensus::{Consensus, Handle, Identity};
use slackline_executor::{AdmitError, Chain, Genesis, Mode, OpenError, Parallelism, StoreOptions};
use slackline_gossip::Judgement;
use slackline_mempool::{Journal, JournalError};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// How long connections may take to finish what they are doing when the node stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Views that may wait for being executed.
const VIEW_QUEUE: usize = 256;

/// How long consensus may take to end.
const CONSENSUS_GRACE: Duration = Duration::from_secs(20);

/// The most that is written down of transactions that wait, in bytes, by what may wait.
const JOURNAL_FACTOR: u64 = 4;

/// What a node needs to decide on blocks with others.
#[derive(Clone, Debug)]
pub struct ConsensusSetup {
    /// The settings.
    pub config: slackline_consensus::Config,
    /// Names the node among its peers.
    pub node_key: Key,
    /// Signs votes; a node without follows the others.
    pub validator_key: Option<Key>,
    /// How transactions get to the others.
    pub gossip: config::Gossip,
    /// The height after which it stops, if it is to.
    pub halt_height: Option<u64>,
}

/// What a node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where the chain is kept; if there is none, in a temporary directory that is removed when the node stops.
    pub data_dir: Option<PathBuf>,
    /// Where RPC is served. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// How fuel is metered.
    pub mode: Mode,
    /// What may wait for a block.
    pub mempool: Limits,
    /// Threads that execute a block.
    pub threads: usize,
    /// The database.
    pub store: StoreOptions,
    /// Limits of RPC.
    pub rpc: config::Rpc,
    /// Where operators ask, if they do.
    pub ops: Option<SocketAddr>,
    /// Where other nodes download snapshots, if they do.
    pub snapshot: Option<SocketAddr>,
    /// How blocks are decided on; alone if not.
    pub consensus: Option<ConsensusSetup>,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            data_dir: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8545)),
            mode: Mode::Slacked,
            mempool: Limits::default(),
            threads: 1,
            store: StoreOptions::default(),
            rpc: config::Rpc::default(),
            ops: None,
            snapshot: None,
            consensus: None,
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory, or the genesis in it, cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// No temporary directory could be made.
    #[error("cannot make a temporary directory: {0}")]
    TempDir(io::Error),
    /// The chain could not be opened: the database is damaged, in use, or of another genesis.
    #[error("cannot open the chain in {path}: {source}")]
    Open {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        source: OpenError,
    },
    /// The RPC address is in use or not one of this machine.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// What is written down of waiting transactions cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The genesis block cannot be read.
    #[error(transparent)]
    Store(#[from] slackline_executor::StoreError),
    /// Gossip does not start.
    #[error("gossip: {0}")]
    Gossip(String),
    /// Consensus does not start.
    #[error(transparent)]
    Consensus(#[from] slackline_consensus::StartError),
}

/// Returned by [`Node::stop`] if the node had stopped making blocks by itself before.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node has failed: {0}")]
pub struct NodeFailure(pub String);

#[derive(Debug)]
enum DataDir {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl DataDir {
    fn path(&self) -> &Path {
        match self {
            DataDir::Kept(path) => path,
            DataDir::Temporary(dir) => dir.path(),
        }
    }
}

/// The threads that serve RPC. They are no others' because what clients do would be in the way of all tasks there: of consensus, which has to be in
/// time, and of the operators' port, which has to answer when it matters.
#[derive(Debug)]
struct RpcThreads(Option<Runtime>);

impl RpcThreads {
    fn start(count: usize) -> io::Result<RpcThreads> {
        let mut runtime = runtime::Builder::new_multi_thread();
        // Besides the readers there is who looks whether a block is final, and who profiles.
        let runtime = runtime
            .worker_threads(count)
            .max_blocking_threads(2 * READERS)
            .thread_name("slackline-rpc");
        Ok(RpcThreads(Some(runtime.enable_all().build()?)))
    }

    /// Runs it there.
    async fn run<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<T> {
        let runtime = self.0.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        runtime.spawn(task).await.map_err(io::Error::other)
    }

    /// Waits until they have ended, and all that they had with them.
    fn stop(mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_timeout(SHUTDOWN_GRACE);
        }
    }
}

impl Drop for RpcThreads {
    /// Does not wait: it may be on a thread that must not.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A running node. [`Node::stop`] it; merely dropped, it stops some time later.
pub struct Node {
    server: ServerHandle,
    rpc: RpcThreads,
    address: SocketAddr,
    /// Closed when no connection is left.
    gone: mpsc::Receiver<()>,
    admission: Arc<Admission>,
    views: Arc<Workers<Job>>,
    producer: Arc<Producer<Chain>>,
    chain: Arc<Chain>,
    consensus: Option<Arc<Handle>>,
    gossip: Option<slackline_gossip::Handle>,
    ops: Option<SocketAddr>,
    /// Ends what runs beside.
    stopping: watch::Sender<bool>,
    /// The operators' port, and that of snapshots.
    beside: JoinSet<()>,
    data_dir: DataDir,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("address", &self.address)
            .field("data_dir", &self.data_dir)
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Opens or creates the chain and starts everything. When it returns, RPC is served.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. Nothing is left running then.
    pub async fn start(config: NodeConfig) -> Result<Node, StartError> {
        let (data_dir, mode, store) = (config.data_dir, config.mode, config.store);
        let opened = tokio::task::spawn_blocking(move || open(data_dir, mode, &store));
        let (chain, data_dir) = opened
            .await
            .map_err(|error| StartError::Thread(io::Error::other(error)))??;
        chain.set_parallelism(Parallelism {
            threads: config.threads,
            ..chain.parallelism()
        });
        let threads =
            std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 8));
        let rpc = RpcThreads::start(threads).map_err(StartError::Thread)?;
        let max_view_fuel = config.rpc.max_view_fuel;
        let listener = Listener::bind(config.listen, config.rpc, chain.params().limits.clone());
        let listener = rpc.run(listener).await.flatten();
        let listener = listener.map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let (ops, ops_address) = bind(config.ops).await?.unzip();
        let (snapshot, _) = bind(config.snapshot).await?.unzip();
        let views = Workers::for_jobs("slackline-view", threads, VIEW_QUEUE);
        let views = Arc::new(views.map_err(StartError::Thread)?);
        let producer = match &config.consensus {
            None => Producer::start(chain.clone(), config.mempool).map_err(StartError::Thread)?,
            Some(_) => {
                let producer = Producer::passive(chain.clone(), config.mempool);
                let path = data_dir.path().join("mempool.journal");
                let limit = JOURNAL_FACTOR * config.mempool.bytes as u64;
                let (journal, recovered) = Journal::open(&path, limit)?;
                let waiting = producer.recover(journal, recovered.records);
                tracing::info!(waiting, "transactions that waited");
                producer
            }
        };
        let producer = Arc::new(producer);
        let admission = Admission::start(producer.clone(), threads).map_err(StartError::Thread)?;
        let admission = Arc::new(admission);
        let metrics = Arc::new(Metrics::default());
        tokio::spawn(metrics::follow(metrics.clone(), producer.clone()));
        let (consensus, gossip) = match config.consensus {
            None => (None, None),
            Some(setup) => {
                let gossip = start_gossip(&setup, &chain, &producer).await?;
                let genesis = chain.block(0)?.map(|block| block.header.hash());
                let identity = Identity {
                    chain: genesis.unwrap_or_default(),
                    directory: data_dir.path().join("consensus"),
                    node_key: setup.node_key.signing().clone(),
                    consensus_key: setup.validator_key.map(|key| key.signing().clone()),
                };
                let last = setup.halt_height;
                let validator = Validator::new(chain.clone(), producer.clone(), metrics.clone());
                let validator = validator.until(last);
                let started = Consensus::start(setup.config, identity, Arc::new(validator));
                let handle = Arc::new(started.await?);
                let watched = (handle.clone(), producer.clone(), chain.clone());
                tokio::spawn(watch_consensus(watched, last));
                (Some(handle), Some(gossip))
            }
        };
        let (stopping, stop) = watch::channel(false);
        let mut beside = JoinSet::new();
        if let Some(listener) = snapshot {
            beside.spawn(snapshot::serve(listener, chain.clone(), stop.clone()));
        }
        let sources = Sources {
            chain: chain.clone(),
            producer: producer.clone(),
            metrics: metrics.clone(),
            consensus: consensus.clone(),
            gossip: gossip.clone(),
        };
        if let Some(listener) = ops {
            beside.spawn(ops::serve(listener, sources.clone(), stop));
        }
        let (handler_gone, gone) = mpsc::channel(1);
        let handler = Handler::new(
            admission.clone(),
            views.clone(),
            sources,
            max_view_fuel,
            handler_gone,
        );
        let methods = methods(handler);
        let server = rpc.run(async move { listener.start(methods, metrics) });
        let server = server.await.map_err(StartError::Thread)?;
        Ok(Node {
            server,
            rpc,
            address,
            gone,
            admission,
            views,
            producer,
            chain,
            consensus,
            gossip,
            ops: ops_address,
            stopping,
            beside,
            data_dir,
        })
    }

    /// Where operators ask, if they do.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops
    }

    /// Consensus, if blocks are decided on with others.
    pub fn consensus(&self) -> Option<&Handle> {
        self.consensus.as_deref()
    }

    /// Where RPC is served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of RPC over HTTP.
    pub fn rpc_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where the chain is kept.
    pub fn data_dir(&self) -> &Path {
        self.data_dir.path()
    }

    /// Whether the data directory is removed when the node stops.
    pub fn is_temporary(&self) -> bool {
        matches!(self.data_dir, DataDir::Temporary(_))
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The chain's genesis.
    pub fn genesis(&self) -> &Genesis {
        self.chain.genesis()
    }

    /// Whether blocks are being made, now and from now on.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.producer.health()
    }

    /// Finishes the block under way, tells whoever waits for a transaction what became of it, closes the connections,
    /// and closes the database. A temporary data directory is removed.
    ///
    /// # Errors
    ///
    /// [`NodeFailure`] if the node had failed; it is stopped all the same.
    pub async fn stop(mut self) -> Result<(), NodeFailure> {
        self.stopping.send_replace(true);
        let mut failed = match &*self.producer.health().borrow() {
            Health::Failed(reason) => Some(reason.clone()),
            Health::Running | Health::Stopping => None,
        };
        let producer = self.producer.clone();
        producer.refuse_more();
        if let Some(gossip) = self.gossip.take() {
            gossip.shutdown().await;
        }
        if let Some(consensus) = self.consensus.take()
            && let Err(error) = consensus.shutdown(CONSENSUS_GRACE).await
        {
            failed.get_or_insert(error.to_string());
        }
        // Joining a thread blocks. The task itself cannot fail: it does not panic and is not cancelled.
        let _ = tokio::task::spawn_blocking(move || producer.stop()).await;
        if let Health::Failed(reason) = &*self.producer.health().borrow() {
            failed.get_or_insert(reason.clone());
        }
        let failure = failed.map_or(Ok(()), |reason| Err(NodeFailure(reason)));
        // Fails if the server has stopped by itself already.
        let _ = self.server.stop();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.gone.recv())
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end in time");
        }
        // They have the chain.
        while self.beside.join_next().await.is_some() {}
        let _ = tokio::task::spawn_blocking(move || {
            self.rpc.stop();
            self.admission.stop();
            self.views.stop();
            drop(self.producer);
            drop(self.chain);
            if let DataDir::Temporary(dir) = self.data_dir {
                let path = dir.path().to_owned();
                if let Err(error) = dir.close() {
                    tracing::warn!(path = %path.display(), %error, "cannot remove the temporary directory");
                }
            }
        })
        .await;
        failure
    }
}

/// Those of `handler`, and the one that describes them.
fn methods(handler: Handler) -> RpcModule<Handler> {
    let mut methods = handler.into_rpc();
    let document = openrpc::document();
    // It fails if there is one of that name: then that one stays.
    let _ = methods.register_method(openrpc::DISCOVER, move |_, _, _| document.clone());
    methods
}

/// Listens, if that is wanted. Also returns where.
async fn bind(
    address: Option<SocketAddr>,
) -> Result<Option<(tokio::net::TcpListener, SocketAddr)>, StartError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let failed = |source| StartError::Listen { address, source };
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener = listener.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Some((listener, address)))
}

/// Transactions to and from other nodes.
async fn start_gossip(
    setup: &ConsensusSetup,
    chain: &Arc<Chain>,
    producer: &Arc<Producer<Chain>>,
) -> Result<slackline_gossip::Handle, StartError> {
    let address = |text: &str| {
        text.parse()
            .map_err(|error| StartError::Gossip(format!("{text}: {error}")))
    };
    let key = setup.node_key.signing().to_bytes();
    let listen = address(&setup.gossip.listen)?;
    let mut config = slackline_gossip::Config::new(key, chain.genesis().chain_id, listen);
    config.peers = setup
        .gossip
        .peers
        .iter()
        .map(|peer| address(peer))
        .collect::<Result<_, _>>()?;
    if !setup.gossip.allow.is_empty() {
        let allowed = setup.gossip.allow.iter();
        config.allow = Some(allowed.filter_map(|name| config::peer(name)).collect());
    }
    config.message_bytes = config
        .message_bytes
        .max(chain.params().limits.transaction_bytes);
    // Its thread must not keep the database open: a process that ends while that closes it crashes.
    let pool = Arc::downgrade(producer);
    let sink = move |messages: Vec<slackline_gossip::Message>| match pool.upgrade() {
        Some(pool) => judge(&pool, messages),
        None => Vec::new(),
    };
    let gossip = slackline_gossip::Gossip::start(config, sink)
        .await
        .map_err(|error| StartError::Gossip(error.to_string()))?;
    let handle = gossip.clone();
    producer.forward_to(move |bytes, edition| {
        let published = match edition {
            0 => handle.publish(bytes),
            edition => handle.publish_again(bytes, edition),
        };
        if let Err(error) = &published {
            tracing::debug!(%error, edition, "a transaction is not sent to the others");
        }
        published.is_ok()
    });
    tokio::spawn(watch_gossip(gossip.end(), Arc::downgrade(producer)));
    Ok(gossip)
}

/// A node that clients' transactions stay with is of no use to them: nothing is accepted once gossip has ended, unless that is wanted.
async fn watch_gossip(end: impl Future<Output = ()>, producer: Weak<Producer<Chain>>) {
    end.await;
    if let Some(producer) = producer.upgrade()
        && *producer.health().borrow() == Health::Running
    {
        producer.fail("gossip has stopped".to_owned());
    }
}

/// What messages of peers were worth, which are transactions, having accepted those that can be.
fn judge(pool: &Producer<Chain>, messages: Vec<slackline_gossip::Message>) -> Vec<Judgement> {
    let decoded: Vec<_> = messages
        .into_iter()
        .map(|message| pool.decode(message.bytes))
        .collect();
    let readable: Vec<Decoded> = decoded.iter().flatten().cloned().collect();
    let mut submitted = pool.submit_from_peer(&readable).into_iter();
    let judge = |decoded: Result<Decoded, AdmitError>| match decoded {
        Err(error) if is_junk(&error) => Judgement::Junk,
        Err(_) => Judgement::Ignore,
        Ok(_) => match submitted.next() {
            Some(Ok(true)) => Judgement::Accept,
            Some(Err(SubmitError::Refused(error))) if is_junk(&error) => Judgement::Junk,
            _ => Judgement::Ignore,
        },
    };
    decoded.into_iter().map(judge).collect()
}

/// Whether no honest node forwards a transaction that is refused for this: it was never valid, whatever the state.
fn is_junk(error: &AdmitError) -> bool {
    match error {
        AdmitError::TooLarge { .. }
        | AdmitError::Malformed(_)
        | AdmitError::WrongChain { .. }
        | AdmitError::BadSignature
        | AdmitError::FuelLimitTooLow { .. }
        | AdmitError::FuelLimitTooHigh { .. }
        | AdmitError::InvalidCode(_) => true,
        // The state has moved since it was accepted there, or has not yet here; or it is our database. Reasons that are new are nobody's fault.
        _ => false,
    }
}

/// Nothing is accepted once consensus has stopped.
async fn watch_consensus(
    (handle, producer, chain): (Arc<Handle>, Arc<Producer<Chain>>, Arc<Chain>),
    last: Option<u64>,
) {
    let mut health = handle.watch_health();
    drop(handle);
    let bad = health.wait_for(|health| *health != slackline_consensus::Health::Ok);
    let bad = bad.await;
    let height = chain.head().height;
    drop(chain);
    let reason = match bad.as_deref() {
        // It has stopped because it was to.
        Ok(slackline_consensus::Health::Stopped(_)) if last.is_some_and(|last| height >= last) => {
            return producer.refuse_more();
        }
        Ok(slackline_consensus::Health::Stopped(reason)) => {
            format!("consensus has stopped: {reason}")
        }
        Ok(slackline_consensus::Health::SafetyFailure(reason)) => {
            format!("safety failure, nothing is signed any more: {reason}")
        }
        Ok(slackline_consensus::Health::Ok) | Err(_) => return,
    };
    if *producer.health().borrow() == Health::Running {
        producer.fail(reason);
    }
}

fn open(
    data_dir: Option<PathBuf>,
    mode: Mode,
    store: &StoreOptions,
) -> Result<(Arc<Chain>, DataDir), StartError> {
    let data_dir = match data_dir {
        Some(path) => DataDir::Kept(path),
        None => DataDir::Temporary(
            tempfile::Builder::new()
                .prefix("slackline-dev-")
                .tempdir()
                .map_err(StartError::TempDir)?,
        ),
    };
    let genesis = dev::prepare(data_dir.path())?;
    let path = dev::database(data_dir.path());
    let chain = Chain::open_with(&path, &genesis, mode, store)
        .map_err(|source| StartError::Open { path, source })?;
    Ok((Arc::new(chain), data_dir))
}
