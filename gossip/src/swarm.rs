//! The task that owns the swarm, and the thread that asks the sink.

use crate::bucket::Bucket;
use crate::counters::Atomics;
use crate::{
    Command, Config, EDITION, Handle, Judgement, Message, Peer, Shared, Sink, StartError, TOGETHER,
    keypair,
};
use futures::StreamExt;
use libp2p::allow_block_list::{self, BlockedPeers};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::gossipsub::{
    self, IdentTopic, MessageAcceptance, MessageAuthenticity, MessageId, PublishError, TopicHash,
    ValidationMode,
};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, noise, ping, tcp, yamux};
use sha2::{Digest, Sha256};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, watch};

/// What a message may be longer than its content: field tags, lengths, the name of the topic.
const FRAME: usize = 4_096;
/// How long a message is remembered as seen.
const SEEN_FOR: Duration = Duration::from_secs(120);
/// For how many heartbeats of a second a message can wait for its judgement and still be forwarded.
const HISTORY: usize = 30;
/// How long a connection may be silent before it is asked for a sign of life, and how long the answer may take.
const PING: Duration = Duration::from_secs(15);

#[derive(NetworkBehaviour)]
struct Behaviour {
    limits: connection_limits::Behaviour,
    banned: allow_block_list::Behaviour<BlockedPeers>,
    ping: ping::Behaviour,
    gossip: gossipsub::Behaviour,
}

/// A message on its way to the sink.
type Incoming = (MessageId, Message);

/// A message, who sent it, and its size: on its way back from the sink.
type Judged = (MessageId, PeerId, usize, Judgement);

/// Says that gossip has ended when it is dropped, whatever the task has ended with.
struct Ending {
    shared: Arc<Shared>,
    stopped: watch::Sender<bool>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.peers().clear();
        self.stopped.send_replace(true);
    }
}

/// What counts as one address: whoever has an IPv6 address has a network of them.
fn network(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(match ip.to_ipv4_mapped() {
            Some(ip) => ip.into(),
            None => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        }),
        _ => None,
    }
}

/// What is remembered of a peer, also when it has gone: else to reconnect would be forgiveness.
struct Record {
    messages: Bucket,
    bytes: Bucket,
    strikes: Bucket,
    banned_until: Option<Instant>,
}

/// One of the addresses to keep a connection to.
struct Target {
    address: Multiaddr,
    /// Who is there: from the address, or from a connection.
    id: Option<PeerId>,
    dialing: Option<ConnectionId>,
    /// It is this node.
    own: bool,
}

struct Task {
    config: Config,
    swarm: Swarm<Behaviour>,
    topic: TopicHash,
    targets: Vec<Target>,
    records: HashMap<PeerId, Record>,
    held: VecDeque<Vec<u8>>,
    held_bytes: usize,
    to_sink: mpsc::Sender<Incoming>,
    /// Bytes of messages that have not been judged.
    unjudged: usize,
    /// The same, by the peer that sent them.
    unjudged_of: HashMap<PeerId, usize>,
    /// Connections from others, and how many there are from an address; without those that have a place of their own.
    incoming: HashMap<ConnectionId, IpAddr>,
    incoming_of: HashMap<IpAddr, usize>,
    /// Those who have.
    expected: HashSet<PeerId>,
    shared: Arc<Shared>,
}

fn peer_of(address: &Multiaddr) -> Option<PeerId> {
    match address.iter().last() {
        Some(Protocol::P2p(id)) => Some(id),
        _ => None,
    }
}

/// Those whose connections are not counted.
fn expected(config: &Config) -> impl Iterator<Item = PeerId> {
    let configured = config.peers.iter().filter_map(peer_of);
    configured.chain(config.allow.iter().flatten().copied())
}

fn behaviour(config: &Config, topic: &IdentTopic) -> Result<Behaviour, StartError> {
    let refused = |error: &dyn std::fmt::Display| StartError::Config(error.to_string());
    let gossip = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(format!("/slackline/{}/transactions/2", config.chain_id))
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::new(&Sha256::digest(&message.data)))
        .max_transmit_size(config.message_bytes.saturating_add(FRAME))
        .duplicate_cache_time(SEEN_FOR)
        .history_length(HISTORY)
        .heartbeat_initial_delay(Duration::from_secs(1))
        .build()
        .map_err(|error| refused(&error))?;
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, gossip)
        .map_err(|error| refused(&error))?;
    gossip.subscribe(topic).map_err(|error| refused(&error))?;
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(config.incoming))
        .with_max_established_incoming(Some(config.incoming))
        .with_max_established_per_peer(Some(2));
    let mut limits = connection_limits::Behaviour::new(limits);
    // Whoever is to be connected must not be kept out by those who happen to be.
    for peer in expected(config) {
        limits.bypass_peer_id(&peer);
    }
    let ping = ping::Config::new().with_interval(PING).with_timeout(PING);
    Ok(Behaviour {
        limits,
        banned: allow_block_list::Behaviour::default(),
        ping: ping::Behaviour::new(ping),
        gossip,
    })
}

pub(crate) async fn start(config: Config, mut sink: impl Sink) -> Result<Handle, StartError> {
    if config.queue == 0 {
        return Err(StartError::Config("a queue of 0 takes nothing".to_owned()));
    }
    let topic = IdentTopic::new("transactions");
    let behaviour = behaviour(&config, &topic)?;
    let noise = |error: noise::Error| StartError::Config(error.to_string());
    let mut swarm = SwarmBuilder::with_existing_identity(keypair(config.key))
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .map_err(noise)?
        .with_dns()?
        .with_behaviour(|_| behaviour)
        .unwrap_or_else(|never| match never {})
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    let id = *swarm.local_peer_id();
    let addresses = listen(&mut swarm, &config.listen).await?;

    let (commands, inbox) = mpsc::channel(config.queue);
    let (to_sink, mut incoming) = mpsc::channel::<Incoming>(config.queue);
    // As many judgements can wait as messages did.
    let (judge, judgements) = mpsc::channel(config.queue);
    let (stopped, stopping) = watch::channel(false);
    let largest = EDITION.saturating_add(config.message_bytes);
    let shared = Arc::new(Shared {
        id,
        addresses,
        message_bytes: config.message_bytes,
        publish_bytes: Semaphore::new(config.queue_bytes.max(largest).min(u32::MAX as usize)),
        peers: Mutex::new(BTreeMap::new()),
        counters: Atomics::default(),
    });
    let counted = shared.clone();
    std::thread::Builder::new()
        .name("slackline-gossip".to_owned())
        .spawn(move || {
            let mut waiting = Vec::with_capacity(TOGETHER);
            while incoming.blocking_recv_many(&mut waiting, TOGETHER) > 0 {
                let (names, messages): (Vec<_>, Vec<_>) = waiting
                    .drain(..)
                    .map(|(id, message)| ((id, message.from, message.bytes.len()), message))
                    .unzip();
                // What peers have sent must not end it for good.
                let judged = catch_unwind(AssertUnwindSafe(|| sink.receive(messages)));
                let judged = judged.unwrap_or_else(|_| {
                    tracing::error!("the sink of the gossip has panicked");
                    Atomics::add(&counted.counters.sink_panics, 1);
                    Vec::new()
                });
                let mut judgements = judged.into_iter();
                for (id, from, size) in names {
                    let judgement = judgements.next().unwrap_or(Judgement::Ignore);
                    if judge.blocking_send((id, from, size, judgement)).is_err() {
                        return;
                    }
                }
            }
        })?;
    let targets = config.peers.iter().map(|address| Target {
        address: address.clone(),
        id: peer_of(address),
        dialing: None,
        own: peer_of(address) == Some(id),
    });
    let task = Task {
        targets: targets.collect(),
        swarm,
        topic: topic.hash(),
        records: HashMap::new(),
        held: VecDeque::new(),
        held_bytes: 0,
        to_sink,
        unjudged: 0,
        unjudged_of: HashMap::new(),
        incoming: HashMap::new(),
        incoming_of: HashMap::new(),
        expected: expected(&config).collect(),
        shared: shared.clone(),
        config,
    };
    let ending = Ending {
        shared: shared.clone(),
        stopped,
    };
    tokio::spawn(async move {
        let ending = ending;
        // The swarm is gone with it, and with that the connections and the port.
        task.run(inbox, judgements).await;
        drop(ending);
    });
    Ok(Handle {
        commands,
        shared,
        stopped: stopping,
    })
}

/// Forgets those of whom nothing is left.
fn give_back<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: K, count: usize) {
    if let Entry::Occupied(mut entry) = counts.entry(key) {
        *entry.get_mut() -= count;
        if *entry.get() == 0 {
            entry.remove();
        }
    }
}

fn socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Tcp(port) if port != 0 => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// Listens, and waits until it does.
async fn listen(
    swarm: &mut Swarm<Behaviour>,
    at: &Multiaddr,
) -> Result<Vec<Multiaddr>, StartError> {
    let failed = |error: String| StartError::Listen {
        address: at.clone(),
        error,
    };
    let id = *swarm.local_peer_id();
    let mut address = at.clone();
    if peer_of(&address) == Some(id) {
        address.pop();
    }
    if let Some(socket) = socket(&address) {
        // libp2p sets SO_REUSEPORT: without this, two nodes at one port would take turns in answering.
        TcpListener::bind(socket).map_err(|error| failed(error.to_string()))?;
    }
    swarm
        .listen_on(address)
        .map_err(|error| failed(error.to_string()))?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                return Ok(vec![address.with(Protocol::P2p(id))]);
            }
            SwarmEvent::ListenerClosed {
                reason: Err(error), ..
            }
            | SwarmEvent::ListenerError { error, .. } => {
                return Err(failed(error.to_string()));
            }
            _ => {}
        }
    }
}

impl Task {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut judgements: mpsc::Receiver<Judged>,
    ) {
        let mut tick = tokio::time::interval(self.config.redial_every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = commands.recv() => match command {
                    Some(Command::Publish(bytes)) => {
                        self.shared.publish_bytes.add_permits(bytes.len());
                        self.publish(bytes);
                    }
                    Some(Command::Penalise(peer)) => self.strike(peer),
                    Some(Command::Ban(peer)) => self.ban(peer),
                    Some(Command::Stop) | None => return,
                },
                judgement = judgements.recv() => match judgement {
                    Some((id, from, size, judgement)) => {
                        self.release(from, size);
                        self.judged(&id, from, judgement);
                    }
                    None => {
                        tracing::error!("the thread of the gossip is gone; gossip stops");
                        return;
                    }
                },
                _ = tick.tick() => self.tick(),
            }
        }
    }

    fn count(&self, counter: impl Fn(&Atomics) -> &std::sync::atomic::AtomicU64) {
        Atomics::add(counter(&self.shared.counters), 1);
    }

    fn peers(&self) -> MutexGuard<'_, BTreeMap<PeerId, Peer>> {
        self.shared.peers()
    }

    fn record(&mut self, peer: PeerId) -> &mut Record {
        let (config, now) = (&self.config, Instant::now());
        self.records.entry(peer).or_insert_with(|| {
            let messages = f64::from(config.peer_messages_per_second);
            let bytes = f64::from(config.peer_bytes_per_second);
            Record {
                messages: Bucket::new(2.0 * messages, messages, now),
                bytes: Bucket::new((2.0 * bytes).max(config.message_bytes as f64), bytes, now),
                strikes: Bucket::new(
                    config.strikes.into(),
                    config.forgive_after.as_secs_f64().recip(),
                    now,
                ),
                banned_until: None,
            }
        })
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result: Err(error),
            })) if !matches!(error, ping::Failure::Unsupported) => {
                tracing::debug!(%peer, %error, "a gossip peer gives no sign of life");
                self.swarm.close_connection(connection);
            }
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.connected(connection_id, peer_id);
                if !self.allowed(&peer_id) {
                    self.count(|counters| &counters.not_allowed);
                    // An error means that it is gone already.
                    let _ = self.swarm.disconnect_peer_id(peer_id);
                    return;
                }
                if endpoint.is_listener()
                    && !self.expected.contains(&peer_id)
                    && let Some(ip) = network(endpoint.get_remote_address())
                    && !self.admit(connection_id, ip)
                {
                    self.count(|counters| &counters.crowded);
                    self.swarm.close_connection(connection_id);
                    return;
                }
                self.count(|counters| &counters.connections);
                let address = endpoint.get_remote_address().clone();
                self.peers().entry(peer_id).or_insert(Peer {
                    address,
                    subscribed: false,
                });
                tracing::debug!(%peer_id, "gossip peer connected");
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                cause,
                ..
            } => {
                if let Some(ip) = self.incoming.remove(&connection_id) {
                    give_back(&mut self.incoming_of, ip, 1);
                }
                if num_established == 0 {
                    tracing::debug!(%peer_id, ?cause, "gossip peer disconnected");
                    self.peers().remove(&peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                error,
                ..
            } => {
                let dialing = |target: &&mut Target| target.dialing == Some(connection_id);
                if let Some(target) = self.targets.iter_mut().find(dialing) {
                    target.dialing = None;
                    target.own |= matches!(error, DialError::LocalPeerId { .. });
                    tracing::debug!(address = %target.address, %error, "gossip peer not reached");
                }
            }
            _ => {}
        }
    }

    fn allowed(&self, peer: &PeerId) -> bool {
        self.config
            .allow
            .as_ref()
            .is_none_or(|allow| allow.contains(peer))
    }

    /// Counts a connection from that address, if there may be one more.
    fn admit(&mut self, connection: ConnectionId, ip: IpAddr) -> bool {
        let count = self.incoming_of.get(&ip).copied().unwrap_or_default();
        let room = count < self.config.incoming_per_ip;
        if room {
            self.incoming_of.insert(ip, count + 1);
            self.incoming.insert(connection, ip);
        }
        room
    }

    fn connected(&mut self, connection: ConnectionId, peer: PeerId) {
        if let Some(target) = self
            .targets
            .iter_mut()
            .find(|target| target.dialing == Some(connection))
        {
            (target.dialing, target.id) = (None, Some(peer));
        }
    }

    fn on_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message {
                propagation_source: from,
                message_id: id,
                message,
            } => {
                Atomics::add(&self.shared.counters.received, 1);
                Atomics::add(
                    &self.shared.counters.received_bytes,
                    message.data.len() as u64,
                );
                self.received(id, from, message.data);
            }
            gossipsub::Event::Subscribed { peer_id, topic } if topic == self.topic => {
                if let Some(peer) = self.peers().get_mut(&peer_id) {
                    peer.subscribed = true;
                }
                for bytes in std::mem::take(&mut self.held) {
                    self.held_bytes -= bytes.len();
                    self.publish(bytes);
                }
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } if topic == self.topic => {
                if let Some(peer) = self.peers().get_mut(&peer_id) {
                    peer.subscribed = false;
                }
            }
            _ => {}
        }
    }

    fn received(&mut self, id: MessageId, from: PeerId, mut bytes: Vec<u8>) {
        let (now, size) = (Instant::now(), bytes.len().saturating_sub(EDITION));
        // It may have sent this before its connection was closed.
        let banned = self
            .records
            .get(&from)
            .is_some_and(|record| record.banned_until.is_some());
        if banned || !self.allowed(&from) {
            self.report(&id, from, MessageAcceptance::Ignore);
            return;
        }
        if size > self.config.message_bytes {
            self.count(|counters| &counters.too_large);
            self.report(&id, from, MessageAcceptance::Reject);
            return self.strike(from);
        }
        // Only the message itself is for the sink.
        if bytes.drain(..EDITION.min(bytes.len())).len() < EDITION {
            return self.judged(&id, from, Judgement::Junk);
        }
        let record = self.record(from);
        if !(record.messages.take(1.0, now) && record.bytes.take(size as f64, now)) {
            self.count(|counters| &counters.rate_limited);
            self.report(&id, from, MessageAcceptance::Ignore);
            return;
        }
        if !self.reserve(from, size) {
            self.count(|counters| &counters.queue_full);
            self.report(&id, from, MessageAcceptance::Ignore);
            return;
        }
        if self
            .to_sink
            .try_send((id.clone(), Message { from, bytes }))
            .is_err()
        {
            self.release(from, size);
            self.count(|counters| &counters.queue_full);
            self.report(&id, from, MessageAcceptance::Ignore);
        }
    }

    /// Takes room for a message that is to be judged, if there is some, of all and of that peer.
    fn reserve(&mut self, from: PeerId, size: usize) -> bool {
        let largest = self.config.message_bytes;
        let fits = |taken: usize, limit: usize| taken + size <= limit.max(largest);
        let own = self.unjudged_of.get(&from).copied().unwrap_or_default();
        let room =
            fits(self.unjudged, self.config.queue_bytes) && fits(own, self.config.peer_queue_bytes);
        if room {
            self.unjudged += size;
            self.unjudged_of.insert(from, own + size);
        }
        room
    }

    fn release(&mut self, from: PeerId, size: usize) {
        self.unjudged -= size;
        give_back(&mut self.unjudged_of, from, size);
    }

    fn report(&mut self, id: &MessageId, from: PeerId, acceptance: MessageAcceptance) -> bool {
        self.swarm
            .behaviour_mut()
            .gossip
            .report_message_validation_result(id, &from, acceptance)
    }

    fn judged(&mut self, id: &MessageId, from: PeerId, judgement: Judgement) {
        let acceptance = match judgement {
            Judgement::Accept => {
                self.count(|counters| &counters.accepted);
                MessageAcceptance::Accept
            }
            Judgement::Ignore => {
                self.count(|counters| &counters.ignored);
                MessageAcceptance::Ignore
            }
            Judgement::Junk => {
                self.count(|counters| &counters.junk);
                self.strike(from);
                MessageAcceptance::Reject
            }
        };
        if !self.report(id, from, acceptance) {
            self.count(|counters| &counters.late);
        }
    }

    fn strike(&mut self, peer: PeerId) {
        self.count(|counters| &counters.strikes);
        if !self.record(peer).strikes.take(1.0, Instant::now()) {
            self.ban(peer);
        }
    }

    fn ban(&mut self, peer: PeerId) {
        let until = Instant::now() + self.config.ban_for;
        if self.record(peer).banned_until.replace(until).is_none() {
            self.count(|counters| &counters.bans);
            tracing::warn!(%peer, seconds = self.config.ban_for.as_secs(), "gossip peer banned");
            self.swarm.behaviour_mut().banned.block_peer(peer);
        }
    }

    fn publish(&mut self, bytes: Vec<u8>) {
        let first = bytes.starts_with(&[0; EDITION]);
        match self
            .swarm
            .behaviour_mut()
            .gossip
            .publish(self.topic.clone(), bytes.clone())
        {
            Ok(_) => self.count(|counters| &counters.published),
            // It has been round.
            Err(PublishError::Duplicate) => {}
            // There is an edition of it that is held back, or there will be another.
            Err(PublishError::NoPeersSubscribedToTopic) if !first => {}
            Err(PublishError::NoPeersSubscribedToTopic) => {
                self.count(|counters| &counters.held);
                self.held_bytes += bytes.len();
                self.held.push_back(bytes);
                while self.held_bytes > self.config.held_bytes
                    && let Some(oldest) = self.held.pop_front()
                {
                    self.held_bytes -= oldest.len();
                    self.count(|counters| &counters.publish_dropped);
                }
            }
            Err(error) => {
                self.count(|counters| &counters.publish_dropped);
                tracing::debug!(%error, "a transaction was not published");
            }
        }
    }

    /// Lifts bans, forgets peers, and connects to those who are missing.
    fn tick(&mut self) {
        let now = Instant::now();
        let swarm = &mut self.swarm;
        self.records.retain(|peer, record| {
            if record.banned_until.is_some_and(|until| until <= now) {
                record.banned_until = None;
                swarm.behaviour_mut().banned.unblock_peer(*peer);
            }
            let idle = record.strikes.is_full(now)
                && record.messages.is_full(now)
                && record.bytes.is_full(now);
            record.banned_until.is_some() || !idle
        });
        for target in &mut self.targets {
            let known = |id: &PeerId| {
                swarm.is_connected(id)
                    || self
                        .records
                        .get(id)
                        .is_some_and(|record| record.banned_until.is_some())
            };
            if target.own || target.dialing.is_some() || target.id.as_ref().is_some_and(known) {
                continue;
            }
            let dial = DialOpts::unknown_peer_id()
                .address(target.address.clone())
                .build();
            let connection = dial.connection_id();
            match swarm.dial(dial) {
                Ok(()) => target.dialing = Some(connection),
                Err(error) => {
                    tracing::debug!(address = %target.address, %error, "gossip peer not dialed");
                }
            }
        }
    }
}
