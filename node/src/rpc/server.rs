//! The methods over a chain and a producer, and the listener.
//!
//! What can take long runs elsewhere: admission and views on their [`Workers`], database reads on the runtime's threads
//! for blocking calls. The threads that serve connections only wait.

use super::api::{ApiServer, DEFAULT_TIMEOUT_MS, DEFAULT_VIEW_FUEL, MAX_TIMEOUT_MS};
use super::error::RpcError;
use super::types::{
    AbiJson, AccountJson, BlockJson, MempoolJson, MethodsJson, NodeState, ParamsJson, StatusJson,
    SubmitStatus, Submitted, TraceJson, TransactionAnswer, TransactionStatus, ViewJson, WaitUntil,
    parse_hex,
};
use crate::mempool::Verdict;
use crate::producer::{Health, Producer, Progress};
use crate::views::Workers;
use jsonrpsee::core::async_trait;
use jsonrpsee::server::{BatchRequestConfig, Server, ServerConfig};
use slackline_executor::params::Limits;
use slackline_executor::proof::StateAnswer;
use slackline_executor::trace::Detail;
use slackline_executor::{Address, Chain, ExecutionError, StoreError, ViewCall, ViewError};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Most requests over HTTP and sessions over WebSocket at a time, together.
pub const MAX_CONNECTIONS: u32 = 250;
/// Most requests in a batch.
pub const MAX_BATCH: u32 = 100;
/// Room in a request for everything but the hexadecimal transaction, in bytes.
const REQUEST_SLACK_BYTES: usize = 64 << 10;
/// Room in a response for everything but hexadecimal data, in bytes. A revert's message comes a second time as text,
/// of which JSON can make six bytes for each.
const RESPONSE_SLACK_BYTES: usize = 1 << 20;

/// Serves the methods of [`ApiServer`].
pub struct Handler {
    chain: Arc<Chain>,
    producer: Arc<Producer<Chain>>,
    admission: Arc<Workers>,
    views: Arc<Workers>,
    started: Instant,
    /// Dropped after the rest, and never used: its receiver hears when no connection needs the chain any more.
    _gone: mpsc::Sender<()>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("producer", &self.producer)
            .finish_non_exhaustive()
    }
}

impl Handler {
    /// Puts the parts together; the node's uptime counts from here. `gone` is closed when the last connection that could
    /// use them has ended.
    pub fn new(
        chain: Arc<Chain>,
        producer: Arc<Producer<Chain>>,
        admission: Arc<Workers>,
        views: Arc<Workers>,
        gone: mpsc::Sender<()>,
    ) -> Handler {
        Handler {
            chain,
            producer,
            admission,
            views,
            started: Instant::now(),
            _gone: gone,
        }
    }

    /// The reason if the node has failed.
    fn failure(&self) -> Option<String> {
        match &*self.producer.health().borrow() {
            Health::Failed(reason) => Some(reason.clone()),
            Health::Running | Health::Stopping => None,
        }
    }
}

fn invalid(parameter: &str, reason: impl ToString) -> RpcError {
    RpcError::InvalidParams {
        parameter: parameter.to_owned(),
        reason: reason.to_string(),
    }
}

fn parse<T: FromStr<Err: ToString>>(parameter: &str, text: &str) -> Result<T, RpcError> {
    text.parse()
        .map_err(|error: T::Err| invalid(parameter, error.to_string()))
}

#[async_trait]
impl ApiServer for Handler {
    async fn submit_transaction(
        &self,
        transaction: String,
        wait_until: Option<WaitUntil>,
        timeout_ms: Option<u64>,
    ) -> Result<Submitted, RpcError> {
        let timeout_ms = timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if timeout_ms > MAX_TIMEOUT_MS {
            return Err(invalid("timeout_ms", format!("at most {MAX_TIMEOUT_MS}")));
        }
        let producer = self.producer.clone();
        let (hash, progress) = self
            .admission
            .run(move || {
                let bytes =
                    parse_hex(&transaction).map_err(|reason| invalid("transaction", reason))?;
                producer.submit(&bytes).map_err(RpcError::from)
            })
            .await??;
        let (status, mut ticket) = match progress {
            Progress::Accepted(ticket) => (SubmitStatus::Pending, ticket),
            Progress::Waiting(ticket) => (SubmitStatus::Duplicate, ticket),
            Progress::Included(receipt) => {
                return Ok(Submitted {
                    status: SubmitStatus::Included,
                    hash,
                    receipt: Some((&receipt).into()),
                });
            }
        };
        let waiting = Submitted {
            status,
            hash,
            receipt: None,
        };
        if wait_until.unwrap_or_default() == WaitUntil::None {
            return Ok(waiting);
        }
        let news = ticket.wait_for(Option::is_some);
        let verdict = match tokio::time::timeout(Duration::from_millis(timeout_ms), news).await {
            Err(_elapsed) => return Ok(waiting),
            Ok(Ok(verdict)) => verdict.clone(),
            Ok(Err(_closed)) => None,
        };
        match verdict {
            Some(Verdict::Included(receipt)) => Ok(Submitted {
                status: SubmitStatus::Included,
                hash,
                receipt: Some((&*receipt).into()),
            }),
            Some(Verdict::Dropped(error)) => Err(RpcError::from(&*error)),
            // Closed: the producer says why before it closes tickets.
            None => Err(match self.failure() {
                Some(reason) => RpcError::NodeFailed {
                    reason,
                    hash: Some(hash),
                },
                None => RpcError::NodeStopping { hash: Some(hash) },
            }),
        }
    }

    fn get_transaction(&self, hash: String) -> Result<TransactionAnswer, RpcError> {
        let hash = parse("hash", &hash)?;
        // The producer first, then the chain: a transaction leaves the one only when it is in the other.
        if let Some(transaction) = self.producer.pending(&hash) {
            return Ok(TransactionAnswer {
                status: TransactionStatus::Pending,
                hash,
                transaction: Some((&*transaction).into()),
                receipt: None,
            });
        }
        let Some(receipt) = self.chain.receipt(&hash)? else {
            return Ok(TransactionAnswer {
                status: TransactionStatus::Unknown,
                hash,
                transaction: None,
                receipt: None,
            });
        };
        let Some(transaction) = self.chain.transaction(&hash)? else {
            return Err(RpcError::Storage {
                reason: format!("transaction {hash} has only a receipt"),
            });
        };
        Ok(TransactionAnswer {
            status: TransactionStatus::Included,
            hash,
            transaction: Some((&transaction).into()),
            receipt: Some((&receipt).into()),
        })
    }

    fn get_account(&self, address: String) -> Result<AccountJson, RpcError> {
        let address = parse("address", &address)?;
        let account = self.chain.account(&address)?;
        let next_nonce = self.producer.next_nonce(&address, account.nonce);
        Ok(AccountJson::new(address, account, next_nonce))
    }

    async fn call_view(
        &self,
        contract: String,
        method: String,
        input: Option<String>,
        caller: Option<String>,
        fuel_limit: Option<u64>,
    ) -> Result<ViewJson, RpcError> {
        let call = ViewCall {
            contract: parse("contract", &contract)?,
            caller: caller.map_or(Ok(Address::default()), |caller| parse("caller", &caller))?,
            method,
            input: parse_hex(&input.unwrap_or_default())
                .map_err(|reason| invalid("input", reason))?,
            fuel_limit: fuel_limit.unwrap_or(DEFAULT_VIEW_FUEL),
        };
        let chain = self.chain.clone();
        let result = self.views.run(move || chain.view(&call)).await?;
        result
            .map(|result| (&result).into())
            .map_err(|error| (&error).into())
    }

    fn get_block(&self, height: Option<u64>) -> Result<BlockJson, RpcError> {
        let head = self.chain.head().height;
        let height = height.unwrap_or(head);
        match self.chain.block(height)? {
            Some(block) => Ok((&block).into()),
            None => Err(RpcError::NoBlock { height, head }),
        }
    }

    fn get_proof(&self, key: String, height: Option<u64>) -> Result<StateAnswer, RpcError> {
        let key = parse_hex(&key).map_err(|reason| invalid("key", reason))?;
        let last = self.chain.head().height;
        let height = height.unwrap_or(last);
        self.chain.prove(&key, height).map_err(|error| match error {
            StoreError::OutsideWindow { height, head, .. } if height > head => {
                RpcError::NoBlock { height, head }
            }
            StoreError::OutsideWindow { .. } => invalid("height", error.to_string()),
            error => (&error).into(),
        })
    }

    async fn trace_transaction(&self, hash: String) -> Result<TraceJson, RpcError> {
        let parsed = parse("hash", &hash)?;
        let chain = self.chain.clone();
        let tracing = move || chain.trace_transaction(&parsed, Detail::Calls);
        match self.views.run(tracing).await? {
            Ok(Some((receipt, call))) => Ok(TraceJson {
                receipt: (&receipt).into(),
                call,
            }),
            Ok(None) => Err(invalid(
                "hash",
                "no block has a transaction with it".to_owned(),
            )),
            Err(ExecutionError::Store(error @ StoreError::OutsideWindow { .. })) => {
                Err(invalid("hash", error.to_string()))
            }
            Err(error) => Err((&ViewError::Execution(error)).into()),
        }
    }

    fn get_methods(&self, contract: String) -> Result<MethodsJson, RpcError> {
        let contract = parse("contract", &contract)?;
        match self.chain.methods(&contract)? {
            Some(methods) => Ok(MethodsJson { contract, methods }),
            None => Err(RpcError::NoContract { contract }),
        }
    }

    fn get_abi(&self, contract: String) -> Result<AbiJson, RpcError> {
        let contract = parse("contract", &contract)?;
        let abi = self.chain.abi(&contract)?;
        if abi.is_none() && self.chain.account(&contract)?.code.is_none() {
            return Err(RpcError::NoContract { contract });
        }
        Ok(AbiJson {
            contract,
            // Whoever deployed the contract may have written anything there.
            abi: abi.and_then(|abi| serde_json::from_slice(&abi).ok()),
        })
    }

    fn get_status(&self) -> Result<StatusJson, RpcError> {
        let head = self.chain.head();
        let params = self.chain.params();
        let stats = self.producer.stats();
        let (state, failure) = match &*self.producer.health().borrow() {
            Health::Running => (NodeState::Running, None),
            Health::Stopping => (NodeState::Stopping, None),
            Health::Failed(reason) => (NodeState::Failed, Some(reason.clone())),
        };
        Ok(StatusJson {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            chain_id: self.chain.genesis().chain_id,
            protocol_version: params.version,
            state,
            failure,
            height: head.height,
            head: head.hash(),
            head_timestamp_ms: head.timestamp_ms,
            mode: self.chain.mode(),
            mempool: MempoolJson {
                transactions: stats.transactions as u64,
                executing: stats.executing as u64,
                bytes: stats.bytes as u64,
                max_transactions: stats.limits.transactions as u64,
                max_bytes: stats.limits.bytes as u64,
            },
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            metering: self.chain.metering_stats().into(),
            params: ParamsJson {
                transaction_bytes: params.limits.transaction_bytes as u64,
                code_bytes: params.limits.code.code_bytes as u64,
                transaction_fuel: params.limits.transaction_fuel,
                block_fuel: params.limits.block_fuel,
                transaction_base_fuel: params.fees.transaction_base,
                transaction_per_byte_fuel: params.fees.transaction_per_byte,
                deploy_per_byte_fuel: params.fees.deploy_per_byte,
            },
        })
    }
}

/// Opens the port. Nothing is served before [`Server::start`], and connections wait until then.
///
/// # Errors
///
/// The address cannot be listened on.
pub async fn listen(address: SocketAddr, limits: &Limits) -> io::Result<Server> {
    let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    // The largest answers are a call's input, and the data and the events of a receipt; two digits for a byte.
    let event = limits.event_bytes + 32 * (1 + limits.event_topics) + 64;
    let answer =
        2 * (limits.transaction_bytes + limits.events * event) + (2 + 6) * limits.data_bytes;
    let config = ServerConfig::builder()
        .max_request_body_size(bytes(2 * limits.transaction_bytes + REQUEST_SLACK_BYTES))
        .max_response_body_size(bytes(answer + RESPONSE_SLACK_BYTES))
        .max_connections(MAX_CONNECTIONS)
        .set_batch_request_config(BatchRequestConfig::Limit(MAX_BATCH))
        .build();
    Server::builder().set_config(config).build(address).await
}
