//! A typed client for Slackline nodes.
//!
//! ```text
//!   your program                                                      a node, or a proxy before several
//!  ──────────────                                                    ───────────────────────────────────
//!   Transaction ──sign──▶ SignedTransaction
//!                              │
//!                              ▼
//!   Client::execute ──▶ Client::submit ──▶ ApiClient ──▶ jsonrpsee ══▶ HTTP, or a WebSocket session
//!        ▲                     │             (api)                     (opened when it is needed, again if it breaks)
//!        │                     ▼
//!        │      Pending, Duplicate, lost ──▶ the same bytes again: the hash names the transaction, so it is executed once
//!        │      TryAgainLater ─────────────▶ the same bytes again, after a pause that grows
//!        └───── a receipt of a final block, or a refusal that no node can revoke: the definite answer
//! ```
//!
//! - [`Client`] has a method for each of the node's, with Rust types, and subscriptions over WebSocket;
//! - [`types`] has what they take and return, [`error`] every way in which they fail, with stable codes;
//! - [`api`] has the methods as they go over the wire.
//!
//! Nothing here needs the executor or the database. The proofs that [`Client::proof`] gets are verified by the crate `slackline-proof`.
//!
//! # Example
//!
//! ```no_run
//! use slackline_client::{Client, Retry};
//! use slackline_types::{Action, Address, PublicKey, Transaction};
//!
//! # async fn pay(key: ed25519_dalek::SigningKey, to: Address) -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("http://127.0.0.1:8545")?;
//! let sender = PublicKey(key.verifying_key().to_bytes());
//! let account = client.account(&Address::of_key(&sender), None).await?;
//! let head = client.block(None).await?.header;
//! let transaction = Transaction {
//!     chain_id: head.chain_id,
//!     sender,
//!     nonce: account.next_nonce,
//!     fuel_limit: 1_000_000,
//!     fuel_price: 2 * head.base_price,
//!     tip: 0,
//!     deposit_limit: 0,
//!     action: Action::Transfer { to, amount: 5 },
//! };
//! let receipt = client.execute(&transaction.sign(&key), &Retry::default()).await?;
//! println!("in block {}, for a fee of {}", receipt.height, receipt.fee);
//! # Ok(())
//! # }
//! ```

pub mod api;
pub mod error;
#[cfg(feature = "server")]
pub mod openrpc;
pub mod types;

use api::{ApiClient, MAX_TIMEOUT_MS};
pub use error::RpcError;
use jsonrpsee::core::client::Error as TransportError;
pub use jsonrpsee::core::client::Subscription;
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use jsonrpsee::types::ErrorObjectOwned;
use jsonrpsee::ws_client::PingConfig;
use jsonrpsee::ws_client::{WsClient, WsClientBuilder};
use slackline_proof::StateAnswer;
use slackline_types::{Address, Hash, SignedTransaction, Validator};
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use types::{
    AbiJson, AccountJson, BlockJson, BlockNewsJson, CodeJson, EventsJson, FoundEventJson, HexBytes,
    MethodsJson, ReceiptJson, SamplesJson, SimulationJson, StatusJson, Submitted, TraceJson,
    TransactionAnswer, ViewJson, WaitUntil,
};

/// How long an answer may take: longer than any that a node makes wait on purpose.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(MAX_TIMEOUT_MS + 30_000);
/// How long [`Client::execute`] lets a node wait before it submits again.
const ATTEMPT: Duration = Duration::from_secs(10);
/// How much later than it was asked for an answer may come before [`Client::execute`] gives it up.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// Requests of a session under way at a time.
const SESSION_REQUESTS: usize = 4_096;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Returned when the node refuses, for a reason that it has a kind for.
    #[error(transparent)]
    Refused(#[from] RpcError),
    /// Returned when the node refuses what is no request to it, or its reason is not known to this version of the client.
    #[error("{} ({})", .0.message(), .0.code())]
    Protocol(ErrorObjectOwned),
    /// Returned when no node was reached, or it did not answer as one. Whether a transaction was accepted is not known.
    #[error("cannot talk to a node at {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
}

impl Error {
    /// What the node said, as JSON-RPC has it; `None` if no node said anything.
    pub fn object(&self) -> Option<ErrorObjectOwned> {
        match self {
            Error::Refused(error) => Some(error.clone().into()),
            Error::Protocol(object) => Some(object.clone()),
            Error::Unreachable { .. } => None,
        }
    }
}

/// Why [`Client::execute`] has no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Returned when the transaction is not on the chain, and these bytes never will be as things are: nothing that was sent can still be accepted. That is
    /// so only if [`Retry::already_sent`] says whether anything was sent before.
    #[error(transparent)]
    Refused(RpcError),
    /// Returned when the node does not understand the request: it is another version, or no node.
    #[error("{} ({})", .0.message(), .0.code())]
    Protocol(ErrorObjectOwned),
    /// Returned when the time is over. The transaction may still get into a block: ask for `hash`, or submit the same bytes again.
    #[error("transaction {hash} has no final receipt yet, and may still get one: {reason}")]
    Unknown {
        /// The transaction's hash.
        hash: Hash,
        /// What the last attempt came to.
        reason: String,
    },
}

/// How [`Client::execute`] tries again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// For how long altogether.
    pub deadline: Duration,
    /// The first pause. Each is twice as long as the one before, and up to half of it is left to chance.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// Whether the same bytes may have been sent before, by this program or another: then what depends on the state of the node that is asked is no
    /// definite answer. For who kept them across a restart, or an [`ExecuteError::Unknown`].
    pub already_sent: bool,
}

impl Default for Retry {
    /// For a minute, with pauses from 100 ms to 5 s.
    fn default() -> Retry {
        Retry {
            deadline: Duration::from_secs(60),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(5),
            already_sent: false,
        }
    }
}

/// Which events to ask for: [`Client::events`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// The contract that emitted them.
    pub contract: Address,
    /// Only those with this topic, at any place.
    pub topic: Option<Hash>,
    /// From this block on.
    pub from_height: Option<u64>,
    /// Up to this block.
    pub to_height: Option<u64>,
    /// Those after the page with this [`EventsJson::next`].
    pub after: Option<String>,
    /// At most so many: [`api::DEFAULT_EVENTS`] unless told otherwise, at most [`api::MAX_EVENTS`].
    pub limit: Option<u64>,
}

impl EventFilter {
    /// All events of a contract.
    pub fn of(contract: Address) -> EventFilter {
        EventFilter {
            contract,
            topic: None,
            from_height: None,
            to_height: None,
            after: None,
            limit: None,
        }
    }
}

/// A call without a transaction: [`Client::view`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The contract.
    pub contract: Address,
    /// The method.
    pub method: String,
    /// Its input, borsh-encoded arguments by convention.
    pub input: Vec<u8>,
    /// What the contract sees as its caller; zeros if nothing is said.
    pub caller: Option<Address>,
    /// The most fuel that it may use: [`api::DEFAULT_VIEW_FUEL`] unless told otherwise.
    pub fuel_limit: Option<u64>,
    /// On the state after that block; the last one if nothing is said.
    pub height: Option<u64>,
}

/// A node to talk to. Clones share the connection.
#[derive(Clone)]
pub struct Client {
    url: Arc<str>,
    transport: Transport,
}

#[derive(Clone)]
enum Transport {
    Http(HttpClient),
    /// The session, once there is one.
    Ws(Arc<Mutex<Option<Arc<WsClient>>>>),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Calls a method of [`ApiClient`] over whatever there is.
macro_rules! ask {
    ($client:ident.$method:ident($($argument:expr),* $(,)?)) => {{
        let answer = match &$client.transport {
            Transport::Http(http) => http.$method($($argument),*).await,
            Transport::Ws(session) => $client.session(session).await?.$method($($argument),*).await,
        };
        answer.map_err(|error| $client.error(error))
    }};
}

impl Client {
    /// Prepares to talk to the node at `url`, over HTTP (`http`, `https`) or WebSocket (`ws`, `wss`). Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] if `url` is none of these.
    pub fn new(url: &str) -> Result<Client, Error> {
        let transport = if url.starts_with("ws") {
            Transport::Ws(Arc::default())
        } else {
            let http = HttpClientBuilder::default()
                .request_timeout(REQUEST_TIMEOUT)
                .max_request_size(u32::MAX)
                .max_response_size(u32::MAX)
                .build(url)
                .map_err(|error| unreachable(url, &error))?;
            Transport::Http(http)
        };
        Ok(Client {
            url: url.into(),
            transport,
        })
    }

    /// Where the node is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The session, opened anew if there is none or it is broken.
    async fn session(
        &self,
        session: &Mutex<Option<Arc<WsClient>>>,
    ) -> Result<Arc<WsClient>, Error> {
        let mut session = session.lock().await;
        if let Some(open) = session.as_ref().filter(|open| open.is_connected()) {
            return Ok(open.clone());
        }
        // A session whose node is gone without a word is broken after a while: the next call gets another one.
        let fresh = WsClientBuilder::default()
            .enable_ws_ping(PingConfig::new())
            .request_timeout(REQUEST_TIMEOUT)
            .max_concurrent_requests(SESSION_REQUESTS)
            .max_request_size(u32::MAX)
            .max_response_size(u32::MAX)
            .build(&*self.url);
        let fresh = Arc::new(fresh.await.map_err(|error| self.error(error))?);
        Ok(session.insert(fresh).clone())
    }

    fn error(&self, error: TransportError) -> Error {
        match error {
            TransportError::Call(object) => match RpcError::from_object(&object) {
                Some(error) => Error::Refused(error),
                None => Error::Protocol(object),
            },
            other => unreachable(&self.url, &other),
        }
    }

    /// The node, its chain, and how busy they are.
    ///
    /// # Errors
    ///
    /// See [`Error`], here as for all methods.
    pub async fn status(&self) -> Result<StatusJson, Error> {
        ask!(self.get_status())
    }

    /// Balance, nonce and code of an account, after the block at `height` if that is given, else now.
    ///
    /// # Errors
    ///
    /// [`RpcError::NoBlock`] and [`RpcError::Pruned`] for the height; else see [`Error`].
    pub async fn account(
        &self,
        address: &Address,
        height: Option<u64>,
    ) -> Result<AccountJson, Error> {
        ask!(self.get_account(address.to_string(), height))
    }

    /// Where a transaction is, what it says, and its receipt if it is in a block. One that is unknown is no error.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn transaction(&self, hash: &Hash) -> Result<TransactionAnswer, Error> {
        ask!(self.get_transaction(hash.to_string()))
    }

    /// What a transaction would come to in the next block, its calls included if `trace` says so. Its signature may be anything.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it could not be applied.
    pub async fn simulate(
        &self,
        transaction: &SignedTransaction,
        trace: bool,
    ) -> Result<SimulationJson, Error> {
        ask!(self.simulate_transaction(bytes(transaction), Some(trace), None))
    }

    /// The same, with what each function of the contracts would use. It takes many times as long; a node makes one at a time.
    ///
    /// # Errors
    ///
    /// As [`Client::simulate`]; [`RpcError::TryAgainLater`] while the node makes another profile.
    pub async fn simulate_functions(
        &self,
        transaction: &SignedTransaction,
    ) -> Result<SimulationJson, Error> {
        ask!(self.simulate_transaction(bytes(transaction), Some(true), Some(true)))
    }

    /// A page of events, oldest first.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn events(&self, filter: EventFilter) -> Result<EventsJson, Error> {
        ask!(self.get_events(
            filter.contract.to_string(),
            filter.topic.map(|topic| topic.to_string()),
            filter.from_height,
            filter.to_height,
            filter.after,
            filter.limit,
        ))
    }

    /// Calls a method of a contract without a transaction: its effects are dropped.
    ///
    /// # Errors
    ///
    /// [`RpcError::NoContract`], [`RpcError::UnknownMethod`], a limit, or the height; else see [`Error`].
    pub async fn view(&self, view: View) -> Result<ViewJson, Error> {
        ask!(self.call_view(
            view.contract.to_string(),
            view.method,
            Some(hex::encode(view.input)),
            view.caller.map(|caller| caller.to_string()),
            view.fuel_limit,
            view.height,
        ))
    }

    /// A block's header and the hashes of its transactions; the last one's unless `height` says otherwise.
    ///
    /// # Errors
    ///
    /// [`RpcError::NoBlock`]; else see [`Error`].
    pub async fn block(&self, height: Option<u64>) -> Result<BlockJson, Error> {
        ask!(self.get_block(height))
    }

    /// Who votes on the block after that at `height`, or on the next one.
    ///
    /// # Errors
    ///
    /// The height; else see [`Error`].
    pub async fn validators(&self, height: Option<u64>) -> Result<Vec<Validator>, Error> {
        ask!(self.get_validators(height))
    }

    /// What a key of the state has after a block, with the proof of it. Verify it: [`StateAnswer::verify`].
    ///
    /// # Errors
    ///
    /// The height; else see [`Error`].
    pub async fn proof(&self, key: &[u8], height: Option<u64>) -> Result<StateAnswer, Error> {
        ask!(self.get_proof(hex::encode(key), height))
    }

    /// A transaction of a block, executed again, with all that happens in it.
    ///
    /// # Errors
    ///
    /// [`RpcError::Pruned`] if the state before its block is gone; else see [`Error`].
    pub async fn trace(&self, hash: &Hash) -> Result<TraceJson, Error> {
        ask!(self.trace_transaction(hash.to_string(), None))
    }

    /// The same, with what each function of the contracts has used. It takes many times as long; a node makes one at a time.
    ///
    /// # Errors
    ///
    /// As [`Client::trace`]; [`RpcError::TryAgainLater`] while the node makes another profile.
    pub async fn trace_functions(&self, hash: &Hash) -> Result<TraceJson, Error> {
        ask!(self.trace_transaction(hash.to_string(), Some(true)))
    }

    /// Which functions burn the node's fuel, by samples: for `seconds`, about every `interval` on each thread, in whole microseconds.
    ///
    /// # Errors
    ///
    /// [`RpcError::InvalidParams`] for more than [`MAX_PROFILE_S`](api::MAX_PROFILE_S) seconds or less than
    /// [`MIN_SAMPLE_US`](api::MIN_SAMPLE_US); [`RpcError::NoSamples`] if the node has none; [`RpcError::TryAgainLater`] while it makes another
    /// profile; else see [`Error`].
    pub async fn profile(
        &self,
        seconds: u64,
        interval: Option<Duration>,
    ) -> Result<SamplesJson, Error> {
        let interval = interval.map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX));
        ask!(self.profile_node(seconds, interval))
    }

    /// The code with a hash, or that which the transaction with the hash brings.
    ///
    /// # Errors
    ///
    /// [`RpcError::NoCode`]; else see [`Error`].
    pub async fn code(&self, hash: &Hash) -> Result<Vec<u8>, Error> {
        let code: Result<CodeJson, Error> = ask!(self.get_code(hash.to_string()));
        Ok(code?.code.0)
    }

    /// The names of a contract's methods.
    ///
    /// # Errors
    ///
    /// [`RpcError::NoContract`]; else see [`Error`].
    pub async fn methods(&self, contract: &Address) -> Result<MethodsJson, Error> {
        ask!(self.get_methods(contract.to_string()))
    }

    /// What a contract says about itself, unchecked.
    ///
    /// # Errors
    ///
    /// [`RpcError::NoContract`]; else see [`Error`].
    pub async fn abi(&self, contract: &Address) -> Result<AbiJson, Error> {
        ask!(self.get_abi(contract.to_string()))
    }

    /// Each block from now on. Over WebSocket only; it ends when the session does, and when this program falls too far behind: then nothing says what was
    /// missed, and what came since the last block that was heard of is to be asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] over HTTP; [`Error::Protocol`] if the session has too many.
    pub async fn subscribe_blocks(&self) -> Result<Subscription<BlockNewsJson>, Error> {
        ask!(self.subscribe_blocks())
    }

    /// The receipt of each transaction that an account sends, from now on. As [`Client::subscribe_blocks`].
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe_blocks`].
    pub async fn subscribe_receipts(
        &self,
        account: &Address,
    ) -> Result<Subscription<ReceiptJson>, Error> {
        ask!(self.subscribe_receipts(account.to_string()))
    }

    /// Each event of a contract from now on, or each that has `topic`. As [`Client::subscribe_blocks`].
    ///
    /// # Errors
    ///
    /// As [`Client::subscribe_blocks`].
    pub async fn subscribe_events(
        &self,
        contract: &Address,
        topic: Option<Hash>,
    ) -> Result<Subscription<FoundEventJson>, Error> {
        ask!(self.subscribe_events(contract.to_string(), topic.map(|topic| topic.to_string())))
    }

    /// Submits a transaction once, and waits for as long as `timeout` says, at most [`api::MAX_TIMEOUT_MS`]. What the node thinks of the
    /// transaction is in the answer; submitting it again does no harm.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if it is too large; else see [`Error`].
    pub async fn submit(
        &self,
        transaction: &SignedTransaction,
        wait_until: WaitUntil,
        timeout: Duration,
    ) -> Result<Submitted, Error> {
        ask!(self.submit_transaction(
            bytes(transaction),
            Some(wait_until),
            Some(milliseconds(timeout))
        ))
    }

    /// Submits up to [`api::MAX_SUBMITTED`] transactions at once, in that order, as [`Client::submit`] does each, and waits until there is an answer for all
    /// of them. The answers are in the same order.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there are none, too many, or one is too large; else see [`Error`].
    pub async fn submit_all(
        &self,
        transactions: &[SignedTransaction],
        wait_until: WaitUntil,
        timeout: Duration,
    ) -> Result<Vec<Submitted>, Error> {
        let transactions = transactions.iter().map(bytes).collect();
        ask!(self.submit_transactions(transactions, Some(wait_until), Some(milliseconds(timeout))))
    }

    /// Submits a transaction until there is a definite answer: its receipt, from a final block, or that it is not going to have one. The same bytes
    /// are sent each time, so it is executed once whatever gets lost on the way.
    ///
    /// A receipt says that the transaction is on the chain, not that it succeeded: look at its outcome.
    ///
    /// # Errors
    ///
    /// See [`ExecuteError`].
    pub async fn execute(
        &self,
        transaction: &SignedTransaction,
        retry: &Retry,
    ) -> Result<ReceiptJson, ExecuteError> {
        let hash = transaction.hash();
        let deadline = Instant::now() + retry.deadline;
        let mut pause = retry.first_pause;
        // Whether a node may have accepted it: then what depends on the state of the node that is asked decides nothing.
        let mut sent = retry.already_sent;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = left.min(ATTEMPT);
            let answer = self.submit(transaction, WaitUntil::Final, wait);
            // Also while a connection is made, or an answer does not come.
            let answer = tokio::time::timeout(wait + ON_THE_WAY, answer).await;
            let answer = answer.unwrap_or_else(|_| {
                Err(Error::Unreachable {
                    url: self.url().to_owned(),
                    reason: "no answer in time".to_owned(),
                })
            });
            let (reason, at_once) = match answer {
                Ok(Submitted {
                    receipt: Some(receipt),
                    ..
                }) => return Ok(receipt),
                Ok(Submitted {
                    error: Some(error), ..
                }) => {
                    sent |= error.accepted;
                    if is_definite(&error.data, sent) {
                        return Err(ExecuteError::Refused(error.data));
                    }
                    sent |= !matches!(error.data, RpcError::TryAgainLater { .. });
                    (error.message, false)
                }
                Ok(Submitted { missing_nonce, .. }) => {
                    sent = true;
                    let reason = missing_nonce.map_or_else(
                        || "it is waiting for a block".to_owned(),
                        |nonce| {
                            format!("it is waiting for the sender's transaction with nonce {nonce}")
                        },
                    );
                    (reason, true)
                }
                Err(Error::Refused(error)) if is_definite(&error, sent) => {
                    return Err(ExecuteError::Refused(error));
                }
                Err(Error::Protocol(object)) if !sent => {
                    return Err(ExecuteError::Protocol(object));
                }
                // Also where there was no room for the answer, which looks like a call too many.
                Err(error) => {
                    sent = true;
                    (error.to_string(), false)
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ExecuteError::Unknown { hash, reason });
            }
            if !at_once {
                tokio::time::sleep(with_chance(pause).min(left)).await;
                pause = pause.saturating_mul(2).min(retry.longest_pause);
            }
        }
    }
}

/// Whether an error about a transaction stays true whatever other nodes do.
fn is_definite(error: &RpcError, sent: bool) -> bool {
    match error {
        // Of the bytes themselves.
        RpcError::InvalidParams { .. }
        | RpcError::TransactionTooLarge { .. }
        | RpcError::MalformedTransaction { .. }
        | RpcError::WrongChain { .. }
        | RpcError::BadSignature
        | RpcError::FuelLimitTooLow { .. }
        | RpcError::FuelLimitTooHigh { .. }
        | RpcError::InvalidCode { .. } => true,
        // Another transaction has the nonce: a node looks for this one's receipt before it says so.
        RpcError::NonceTooLow { .. } => true,
        // Of a state that moves on. Who has accepted the transaction before may still put it into a block.
        RpcError::NonceTooHigh { .. }
        | RpcError::InsufficientBalance { .. }
        | RpcError::NoContract { .. }
        | RpcError::UnknownMethod { .. }
        | RpcError::FuelPriceTooLow { .. }
        | RpcError::ReplacementUnderpriced { .. }
        | RpcError::Refused { .. } => !sent,
        // Of one node, about what it had accepted and others may have; or it cannot say.
        RpcError::Replaced { .. }
        | RpcError::Evicted { .. }
        | RpcError::Expired { .. }
        | RpcError::TryAgainLater { .. }
        | RpcError::NodeStopping
        | RpcError::NodeFailed { .. }
        | RpcError::Storage { .. }
        | RpcError::Internal { .. } => false,
        // Not about transactions.
        RpcError::NoCode { .. }
        | RpcError::InputTooLarge { .. }
        | RpcError::NoBlock { .. }
        | RpcError::Pruned { .. }
        | RpcError::NoSamples { .. }
        | RpcError::Missed { .. } => true,
    }
}

/// Between half of a pause and all of it, so that clients that were turned away together do not come back together.
fn with_chance(pause: Duration) -> Duration {
    let chance = RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + chance / 2.0)
}

/// As a node takes it.
fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis()).map_or(MAX_TIMEOUT_MS, |ms| ms.min(MAX_TIMEOUT_MS))
}

fn bytes(transaction: &SignedTransaction) -> String {
    HexBytes(slackline_types::encode(transaction)).to_string()
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> Error {
    Error::Unreachable {
        url: url.to_owned(),
        reason: chain(error),
    }
}

/// An error with its causes, which the HTTP client hides from `Display`.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use jsonrpsee::RpcModule;
    use jsonrpsee::server::{Server, ServerHandle};
    use slackline_types::{Action, PublicKey, Transaction};
    use std::collections::VecDeque;
    use std::net::SocketAddr;
    use types::SubmitStatus;

    const QUICK: Retry = Retry {
        deadline: Duration::from_secs(60),
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(2),
        already_sent: false,
    };

    fn signed() -> SignedTransaction {
        let key = SigningKey::from_bytes(&[7; 32]);
        Transaction {
            chain_id: 1,
            sender: PublicKey(key.verifying_key().to_bytes()),
            nonce: 2,
            fuel_limit: 3,
            fuel_price: 4,
            tip: 0,
            deposit_limit: 0,
            action: Action::Transfer {
                to: Address([1; 32]),
                amount: 5,
            },
        }
        .sign(&key)
    }

    fn receipt() -> ReceiptJson {
        (&slackline_types::Receipt {
            transaction: signed().hash(),
            height: 7,
            index: 0,
            outcome: slackline_types::Outcome::Success { data: vec![] },
            fuel_used: 1,
            fee: 1,
            burnt: 1,
            deposit: 0,
            events: vec![],
            contract: None,
        })
            .into()
    }

    fn waiting(status: SubmitStatus) -> Submitted {
        Submitted {
            status,
            hash: signed().hash(),
            receipt: None,
            error: None,
            missing_nonce: None,
        }
    }

    fn refused(error: RpcError) -> Submitted {
        Submitted::refused(signed().hash(), error)
    }

    fn included() -> Submitted {
        Submitted {
            receipt: Some(receipt()),
            ..waiting(SubmitStatus::Final)
        }
    }

    fn busy() -> RpcError {
        let reason = "full".to_owned();
        RpcError::TryAgainLater { reason }
    }

    /// A node that gives these answers, one after the other, to `signed`, and no others.
    async fn node_at(
        address: SocketAddr,
        answers: impl IntoIterator<Item = Result<Submitted, RpcError>>,
    ) -> (ServerHandle, SocketAddr) {
        let answers: VecDeque<_> = answers.into_iter().collect();
        let mut module = RpcModule::new(std::sync::Mutex::new(answers));
        module
            .register_method("submit_transaction", |params, answers, _| {
                let params: serde_json::Value = params.parse().expect("parameters");
                assert_eq!(params["transaction"], bytes(&signed()), "the same bytes");
                let mut answers = answers.lock().expect("no panic");
                answers.pop_front().expect("asked too often")
            })
            .expect("registered");
        let server = Server::builder().build(address).await.expect("a port");
        let address = server.local_addr().expect("an address");
        (server.start(module), address)
    }

    async fn node(
        answers: impl IntoIterator<Item = Result<Submitted, RpcError>>,
    ) -> (ServerHandle, SocketAddr) {
        node_at(([127, 0, 0, 1], 0).into(), answers).await
    }

    async fn executed(
        scheme: &str,
        answers: impl IntoIterator<Item = Result<Submitted, RpcError>>,
    ) -> Result<ReceiptJson, ExecuteError> {
        let (_node, address) = node(answers).await;
        let client = Client::new(&format!("{scheme}://{address}")).expect("a client");
        client.execute(&signed(), &QUICK).await
    }

    #[tokio::test]
    async fn what_is_not_definite_is_sent_again() {
        for scheme in ["http", "ws"] {
            let answers = [
                Ok(refused(busy())),
                // A limit of the node before it looks at the transaction.
                Err(busy()),
                Ok(waiting(SubmitStatus::Pending)),
                Ok(waiting(SubmitStatus::Duplicate)),
                Ok(refused(RpcError::NodeStopping)),
                // Another node, that is behind.
                Ok(refused(RpcError::NonceTooHigh {
                    expected: 0,
                    got: 2,
                })),
                Ok(refused(RpcError::Evicted { price: 3 })),
                Ok(included()),
            ];
            assert_eq!(
                executed(scheme, answers).await.expect("included"),
                receipt()
            );
        }
    }

    #[tokio::test]
    async fn what_is_definite_ends_it() {
        let gap = RpcError::NonceTooHigh {
            expected: 0,
            got: 2,
        };
        let used = RpcError::NonceTooLow {
            expected: 3,
            got: 2,
        };
        for answers in [
            vec![Ok(refused(gap.clone()))],
            vec![Ok(refused(busy())), Ok(refused(gap))],
            vec![Ok(waiting(SubmitStatus::Pending)), Ok(refused(used))],
            vec![Err(RpcError::TransactionTooLarge { bytes: 2, limit: 1 })],
        ] {
            let error = executed("http", answers).await.expect_err("refused");
            assert!(matches!(error, ExecuteError::Refused(_)), "{error}");
        }
    }

    /// Who has accepted it has told others, who may see another state.
    #[tokio::test]
    async fn a_drop_of_one_node_is_not_definite() {
        let poor = RpcError::InsufficientBalance {
            needed: types::Amount(2),
            available: types::Amount(1),
        };
        for answers in [
            vec![
                Ok(Submitted::dropped(signed().hash(), poor.clone())),
                Ok(refused(poor.clone())),
                Ok(included()),
            ],
            // No room for the answer, which may have been a receipt.
            vec![Err(busy()), Ok(refused(poor.clone())), Ok(included())],
        ] {
            let receipt = executed("http", answers).await;
            assert_eq!(receipt.expect("included"), self::receipt());
        }
        let (_node, address) = node([Ok(refused(poor)), Ok(included())]).await;
        let client = Client::new(&format!("http://{address}")).expect("a client");
        let again = Retry {
            already_sent: true,
            ..QUICK
        };
        let receipt = client.execute(&signed(), &again).await;
        assert_eq!(receipt.expect("included"), self::receipt());
    }

    #[tokio::test]
    async fn a_node_that_never_answers_does_not_hold_up_the_deadline() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let address = silent.as_ref().expect("a port").local_addr();
        let address = address.expect("an address");
        for scheme in ["http", "ws"] {
            let client = Client::new(&format!("{scheme}://{address}")).expect("a client");
            let once = Retry {
                deadline: Duration::ZERO,
                ..QUICK
            };
            // Much less than a request may take.
            let transaction = signed();
            let executed = client.execute(&transaction, &once);
            let executed = tokio::time::timeout(REQUEST_TIMEOUT / 3, executed).await;
            let error = executed.expect("given up").expect_err("nobody answers");
            assert!(matches!(error, ExecuteError::Unknown { .. }), "{error}");
        }
    }

    #[tokio::test]
    async fn a_node_that_comes_back_is_found_again() {
        for scheme in ["http", "ws"] {
            let (first, address) = node([Ok(included())]).await;
            let client = Client::new(&format!("{scheme}://{address}")).expect("a client");
            client.execute(&signed(), &QUICK).await.expect("included");
            first.stop().expect("running");
            first.stopped().await;
            let once = Retry {
                deadline: Duration::ZERO,
                ..QUICK
            };
            let error = client.execute(&signed(), &once).await;
            let error = error.expect_err("nobody is there");
            assert!(matches!(error, ExecuteError::Unknown { .. }), "{error}");
            let (_second, _) = node_at(address, [Ok(included())]).await;
            client.execute(&signed(), &QUICK).await.expect("included");
        }
    }

    #[test]
    fn pauses_are_between_half_and_all() {
        let pause = Duration::from_secs(4);
        let pauses: Vec<Duration> = (0..100).map(|_| with_chance(pause)).collect();
        assert!(pauses.iter().all(|each| (pause / 2..=pause).contains(each)));
        assert!(pauses.iter().any(|each| *each != pauses[0]));
    }
}
