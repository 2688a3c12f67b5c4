//! A node in one piece: chain, producer, workers and RPC server, started and stopped together.

use crate::dev::{self, DataDirError};
use crate::mempool::MempoolLimits;
use crate::producer::{Health, Producer};
use crate::rpc::api::ApiServer;
use crate::rpc::server::{Handler, listen};
use crate::views::Workers;
use jsonrpsee::server::ServerHandle;
use slackline_executor::{Chain, Genesis, Mode, OpenError};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};

/// How long connections may take to finish what they are doing when the node stops.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Submitted transactions that may wait for being checked.
const ADMISSION_QUEUE: usize = 1_024;

/// Views that may wait for being executed.
const VIEW_QUEUE: usize = 256;

/// What a development node is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Where the chain is kept; if there is none, in a temporary directory that is removed when the node stops.
    pub data_dir: Option<PathBuf>,
    /// Where RPC is served. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// How fuel is metered.
    pub mode: Mode,
    /// What may wait for a block.
    pub mempool: MempoolLimits,
}

impl Default for NodeConfig {
    fn default() -> NodeConfig {
        NodeConfig {
            data_dir: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8545)),
            mode: Mode::Slacked,
            mempool: MempoolLimits::default(),
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

/// A running development node. [`Node::stop`] it; merely dropped, it stops some time later.
pub struct Node {
    server: ServerHandle,
    address: SocketAddr,
    /// Closed when no connection is left.
    gone: mpsc::Receiver<()>,
    admission: Arc<Workers>,
    views: Arc<Workers>,
    producer: Arc<Producer<Chain>>,
    chain: Arc<Chain>,
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
        let mode = config.mode;
        let opened = tokio::task::spawn_blocking(move || open(config.data_dir, mode));
        let (chain, data_dir) = opened
            .await
            .map_err(|error| StartError::Thread(io::Error::other(error)))??;
        let listener = listen(config.listen, &chain.params().limits);
        let listener = listener.await.map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen {
            address: config.listen,
            source,
        })?;
        let threads =
            std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 8));
        let workers =
            |name, queue| Workers::start(name, threads, queue).map_err(StartError::Thread);
        let admission = Arc::new(workers("slackline-admit", ADMISSION_QUEUE)?);
        let views = Arc::new(workers("slackline-view", VIEW_QUEUE)?);
        let producer =
            Producer::start(chain.clone(), config.mempool).map_err(StartError::Thread)?;
        let producer = Arc::new(producer);
        let (handler_gone, gone) = mpsc::channel(1);
        let handler = Handler::new(
            chain.clone(),
            producer.clone(),
            admission.clone(),
            views.clone(),
            handler_gone,
        );
        let server = listener.start(handler.into_rpc());
        Ok(Node {
            server,
            address,
            gone,
            admission,
            views,
            producer,
            chain,
            data_dir,
        })
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
        let producer = self.producer.clone();
        // Joining a thread blocks. The task itself cannot fail: it does not panic and is not cancelled.
        let _ = tokio::task::spawn_blocking(move || producer.stop()).await;
        let failure = match &*self.producer.health().borrow() {
            Health::Failed(reason) => Err(NodeFailure(reason.clone())),
            Health::Running | Health::Stopping => Ok(()),
        };
        // Fails if the server has stopped by itself already.
        let _ = self.server.stop();
        if tokio::time::timeout(SHUTDOWN_GRACE, self.gone.recv())
            .await
            .is_err()
        {
            tracing::warn!("some connections did not end in time");
        }
        let _ = tokio::task::spawn_blocking(move || {
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

fn open(data_dir: Option<PathBuf>, mode: Mode) -> Result<(Arc<Chain>, DataDir), StartError> {
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
    let chain =
        Chain::open(&path, &genesis, mode).map_err(|source| StartError::Open { path, source })?;
    Ok((Arc::new(chain), data_dir))
}
