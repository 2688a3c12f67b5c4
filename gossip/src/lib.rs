//! Transactions between validators: Malachite carries votes and proposals, but no transactions.
//!
//! ```text
//!   Handle::publish ──bounded──▶ ┌──────────────────────────┐ ──▶ peers (TCP, noise, yamux)
//!      nobody there? held back   │ a task with the swarm:   │
//!                                │   gossipsub, one topic   │ ◀── peers
//!   Handle::ban, penalise ─────▶ │   seen before? dropped   │
//!                                │   size, rate of the peer │
//!                                └─────┬──────────────▲─────┘
//!                              bounded │              │ Judgement: Accept ─▶ forwarded
//!                                      ▼              │            Ignore ─▶ not forwarded
//!                                ┌─────────────────────────┐       Junk   ─▶ not forwarded, and a strike
//!                                │ Sink, on its own thread │                 for whoever sent it
//!                                └─────────────────────────┘
//! ```
//!
//! **Why gossipsub.** Three ways were open. *Forwarding to the proposer* (as NEAR does) sends each transaction once, but needs to know
//! proposers ahead and addresses for them, does it again when a round fails, and lets a proposer censor what only it was told. *Flooding our own frames
//! over TCP* is little code until it has what this needs: encryption and identity, a memory of what was seen, repair of what a lost
//! connection swallowed, back-pressure by peer. That is what a gossipsub swarm brings, and libp2p is in the binary in any case, with
//! Malachite. It is a swarm of our own rather than a topic on Malachite's, since that one takes no messages but its own, and a flood of
//! transactions must not delay votes: other connections, other queues, another port.
//!
//! **What is sent** is the transaction as submitted behind its *edition*, a number of 8 bytes, without author or sequence number. Its name is the SHA-256
//! of both, so that the same edition of a transaction from two nodes is one message. Signatures on messages would say who brought a transaction in, which
//! is nobody's business, and cost more than they are good for: the transaction is signed.
//!
//! **Editions.** That a message went out says nothing of who took it: a peer's queue or pool may be full, or the sender over its rate, and a name that has
//! been seen is dropped for two minutes, whatever became of it. So whoever brought a transaction in publishes it again for as long as it waits: edition 0
//! at first, later ones with [`Handle::publish_again`] under numbers of the caller's choice, each of which is another message. To nodes that have the
//! transaction a later edition is known: their sinks decide whether it goes on from there, and how often. An edition that nobody made before is all that a
//! number can be, so there is nothing in it to check.
//!
//! **What is not promised.** That a single message arrives. What a node publishes first while it has no peer is held back until there is one; later
//! editions are not.
//!
//! **Peers.** A message that the sink calls [`Junk`](Judgement::Junk), or that is over the size limit, is a strike for the peer that sent it; honest
//! nodes forward only what they have accepted. Strikes are forgiven with time; too many at once, and the peer is banned for a while: its connections
//! are closed and refused. Over its rate, messages of a peer are dropped without blame. A ban is for an identity, and identities cost nothing: a
//! network of validators should list them in [`Config::allow`].

#![forbid(unsafe_code)]

mod bucket;
mod counters;
mod swarm;

pub use counters::Counters;
pub use libp2p::{Multiaddr, PeerId};

use counters::Atomics;
use libp2p::identity::Keypair;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};

/// What a message was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// Valid, and new, or known here and perhaps not to others: forward it.
    Accept,
    /// Not to be forwarded, and nobody's fault: known already, no room, not valid here and now.
    Ignore,
    /// No honest node forwards this.
    Junk,
}

/// A message that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The peer that sent it here, who need not be where it comes from.
    pub from: PeerId,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// The most messages that are judged together.
pub const TOGETHER: usize = 128;

/// Who gets the messages.
pub trait Sink: Send + 'static {
    /// Judges each of these, in that order; what gets no judgement is ignored. Called with those that have come meanwhile, [`TOGETHER`] at most, on a
    /// thread of its own; it may block, and then messages queue up and then are dropped. If it panics, these are ignored, and it is called again with the next.
    fn receive(&mut self, messages: Vec<Message>) -> Vec<Judgement>;
}

impl<F: FnMut(Vec<Message>) -> Vec<Judgement> + Send + 'static> Sink for F {
    fn receive(&mut self, messages: Vec<Message>) -> Vec<Judgement> {
        self(messages)
    }
}

/// How to gossip.
#[derive(Clone)]
pub struct Config {
    /// Seed of the ed25519 key that is this node's identity among peers: not the key that signs votes.
    pub key: [u8; 32],
    /// The chain: nodes of different chains do not understand each other.
    pub chain_id: u64,
    /// Where to listen, as `/ip4/0.0.0.0/tcp/26670`. Port 0 is any free one: [`Handle::addresses`] says which.
    pub listen: Multiaddr,
    /// Whom to connect to, again and again; with `/p2p/<identity>` at the end nobody else is accepted there. One's own address does no harm.
    pub peers: Vec<Multiaddr>,
    /// If given, all others are disconnected.
    pub allow: Option<BTreeSet<PeerId>>,
    /// Connections from others at most, besides those from [`Config::allow`] and from [`Config::peers`] with an identity.
    pub incoming: u32,
    /// Of these, connections from one IP address (IPv6: network of 64 bits) at most.
    pub incoming_per_ip: usize,
    /// The longest message, in bytes, without its edition.
    pub message_bytes: usize,
    /// Messages that wait for the sink at most; and as many wait to be published.
    pub queue: usize,
    /// What these have together, in bytes, at most: those that wait for the sink or are with it, and as many again that wait to be published. Twice that much
    /// memory is taken by those that have not been judged. At least one message.
    pub queue_bytes: usize,
    /// Which part of these bytes may be one peer's, at most; at least one message.
    pub peer_queue_bytes: usize,
    /// First editions that are held back for want of a peer at most, in bytes; the oldest go first.
    pub held_bytes: usize,
    /// Messages from one peer, a second; twice as many at once.
    pub peer_messages_per_second: u32,
    /// Bytes from one peer, a second; twice as many at once, and at least one message.
    pub peer_bytes_per_second: u32,
    /// How many strikes at once are forgiven: the next one is a ban.
    pub strikes: u32,
    /// After how long a strike is forgiven.
    pub forgive_after: Duration,
    /// How long a ban lasts.
    pub ban_for: Duration,
    /// How often to connect to those of [`Config::peers`] who are not connected.
    pub redial_every: Duration,
}

impl Config {
    /// The usual limits, for the node with identity `key` that listens at `listen`.
    pub fn new(key: [u8; 32], chain_id: u64, listen: Multiaddr) -> Config {
        Config {
            key,
            chain_id,
            listen,
            peers: Vec::new(),
            allow: None,
            incoming: 64,
            incoming_per_ip: 16,
            message_bytes: 1 << 20,
            queue: 4_096,
            queue_bytes: 64 << 20,
            peer_queue_bytes: 16 << 20,
            held_bytes: 8 << 20,
            peer_messages_per_second: 5_000,
            peer_bytes_per_second: 16 << 20,
            strikes: 3,
            forgive_after: Duration::from_secs(60),
            ban_for: Duration::from_secs(600),
            redial_every: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for Config {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("chain_id", &self.chain_id)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}

/// The identity that goes with the key of [`Config::key`].
pub fn identity(key: [u8; 32]) -> PeerId {
    keypair(key).public().to_peer_id()
}

fn keypair(mut key: [u8; 32]) -> Keypair {
    // Only a wrong length is refused, and this one is right; the call clears `key`.
    match Keypair::ed25519_from_bytes(&mut key) {
        Ok(pair) => pair,
        Err(_) => unreachable!("32 bytes are an ed25519 seed"),
    }
}

/// Gossip could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address to listen at is taken, or is not one to listen at.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What was said about it.
        error: String,
    },
    /// Name service or threads.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The limits of the configuration do not fit together.
    #[error("gossip configuration: {0}")]
    Config(String),
}

/// A message was not taken for publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Over the size limit.
    #[error("the message has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many wait already, or too many bytes.
    #[error("too many messages wait to be published")]
    Busy,
    /// It has been shut down.
    #[error("gossip has stopped")]
    Stopped,
}

/// A peer that is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it is, or where it came from.
    pub address: Multiaddr,
    /// Whether it takes part in the gossip: messages go there.
    pub subscribed: bool,
}

/// The first bytes of what is sent: its edition.
const EDITION: usize = 8;

enum Command {
    /// With its edition.
    Publish(Vec<u8>),
    Penalise(PeerId),
    Ban(PeerId),
    Stop,
}

#[derive(Debug)]
struct Shared {
    id: PeerId,
    addresses: Vec<Multiaddr>,
    message_bytes: usize,
    /// Room for what waits to be published.
    publish_bytes: Semaphore,
    peers: Mutex<BTreeMap<PeerId, Peer>>,
    counters: Atomics,
}

impl Shared {
    fn peers(&self) -> MutexGuard<'_, BTreeMap<PeerId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts gossip.
#[derive(Clone, Copy, Debug)]
pub struct Gossip;

impl Gossip {
    /// Starts to listen, to connect, and to give `sink` what comes. On a tokio runtime with I/O and time.
    ///
    /// # Errors
    ///
    /// See [`StartError`]. Peers that cannot be reached are none: they are tried again.
    pub async fn start(config: Config, sink: impl Sink) -> Result<Handle, StartError> {
        swarm::start(config, sink).await
    }
}

/// Running gossip, which ends when all handles are dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
}

impl Handle {
    /// This node's identity.
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// Where it listens, with its identity at the end: what others put into [`Config::peers`].
    pub fn addresses(&self) -> &[Multiaddr] {
        &self.shared.addresses
    }

    /// Sends a message that this node has accepted from a client to all others. Not for what came from peers: an accepted message is
    /// forwarded by itself. Does not block.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn publish(&self, bytes: &[u8]) -> Result<(), PublishError> {
        self.publish_edition(bytes, 0)
    }

    /// [`Handle::publish`] for what was published before and may not have arrived, under a number that it was not published under yet and that is not 0.
    ///
    /// # Errors
    ///
    /// See [`PublishError`].
    pub fn publish_again(&self, bytes: &[u8], edition: u64) -> Result<(), PublishError> {
        self.publish_edition(bytes, edition)
    }

    fn publish_edition(&self, bytes: &[u8], edition: u64) -> Result<(), PublishError> {
        let limit = self.shared.message_bytes;
        if bytes.len() > limit {
            return Err(PublishError::TooLarge {
                bytes: bytes.len(),
                limit,
            });
        }
        let shared = &self.shared;
        let busy = || {
            Atomics::add(&shared.counters.publish_busy, 1);
            PublishError::Busy
        };
        let size = EDITION + bytes.len();
        let room = shared.publish_bytes.try_acquire_many(size as u32);
        let room = room.map_err(|_| busy())?;
        let message = [&edition.to_le_bytes(), bytes].concat();
        match self.commands.try_send(Command::Publish(message)) {
            Ok(()) => {
                // The task gives it back.
                room.forget();
                Ok(())
            }
            Err(mpsc::error::TrySendError::Full(_)) => Err(busy()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(PublishError::Stopped),
        }
    }

    /// Who is connected.
    pub fn peers(&self) -> BTreeMap<PeerId, Peer> {
        self.shared.peers().clone()
    }

    /// What has happened so far.
    pub fn counters(&self) -> Counters {
        self.shared.counters.snapshot()
    }

    /// Gives a peer a strike, for a reason that the sink did not see.
    pub async fn penalise(&self, peer: PeerId) {
        // If it has stopped there is nobody to penalise.
        let _ = self.commands.send(Command::Penalise(peer)).await;
    }

    /// Closes and refuses a peer's connections for [`Config::ban_for`].
    pub async fn ban(&self, peer: PeerId) {
        let _ = self.commands.send(Command::Ban(peer)).await;
    }

    /// Closes all connections and returns when the port is free again. The sink may still be busy with its last message.
    pub async fn shutdown(&self) {
        let _ = self.commands.send(Command::Stop).await;
        self.stopped().await;
    }

    /// Waits until it has ended: after [`Handle::shutdown`], or because its task or its thread is gone, with the runtime for instance. It has no peers then.
    pub async fn stopped(&self) {
        self.end().await;
    }

    /// As [`Handle::stopped`], for who must not be the reason that it goes on: it ends too when all handles are dropped.
    pub fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stopped = self.stopped.clone();
        async move {
            // An error means that the task is gone.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    }
}
