//! The methods over a chain and a producer.
//!
//! What can take long runs elsewhere: [`Admission`] and views on their [`Workers`], database reads on the runtime's threads
//! for blocking calls. The threads that serve connections only wait.

use super::answers::{self, cursor, parse_cursor};
use super::api::{
    ApiServer, DEFAULT_EVENTS, DEFAULT_SAMPLE_US, DEFAULT_TIMEOUT_MS, DEFAULT_VIEW_FUEL,
    MAX_EVENTS, MAX_PROFILE_S, MAX_SUBMITTED, MAX_TIMEOUT_MS, MIN_SAMPLE_US,
};
use super::error::{RpcError, of_admission, of_drop, of_estimate, of_sampling, of_store, of_view};
use super::types::{
    AbiJson, AccountJson, BlockJson, BlockNewsJson, CodeJson, EventsJson, FoundEventJson, HexBytes,
    MempoolJson, MethodsJson, NodeState, ParamsJson, ReceiptJson, SamplesJson, SimulationJson,
    StatusJson, SubmitStatus, Submitted, TraceJson, TransactionAnswer, TransactionStatus, ViewJson,
    WaitUntil, parse_hex,
};
use super::unsent::Unsent;
use crate::admission::{Admission, Unreadable};
use crate::metrics::Metrics;
use crate::ops::Sources;
use crate::producer::{Health, News, Producer, Progress, SubmitError, Verdict};
use crate::workers::{Job, Workers};
use jsonrpsee::Extensions;
use jsonrpsee::core::{SubscriptionError, SubscriptionResult, async_trait};
use jsonrpsee::server::{PendingSubscriptionSink, SubscriptionSink};
use jsonrpsee::types::ErrorObjectOwned;
use serde::Serialize;
use slackline_consensus::Handle;
use slackline_executor::proof::StateAnswer;
use slackline_executor::sample::SamplingError;
use slackline_executor::trace::Detail;
use slackline_executor::{
    Address, Chain, Effort, EventQuery, Hash, Receipt, StoreError, Validator, ViewCall, ViewError,
};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast, mpsc};

/// In which a subscriber has to read enough for the next message.
const SUBSCRIBER_PATIENCE: Duration = Duration::from_secs(10);
/// What a trace may take, in bytes of memory. As JSON it is at most twice as long, so that an answer has room for it beside most receipts.
const TRACE_BYTES: usize = 4 << 20;
/// What a footprint may take.
const FOOTPRINT_BYTES: usize = 1 << 20;
/// With so many bytes of data a page of events ends.
const PAGE_BYTES: usize = 1 << 20;
/// How often an account is read again because blocks come in between.
const ATTEMPTS: usize = 16;

/// Serves the methods of [`ApiServer`].
pub struct Handler {
    chain: Arc<Chain>,
    producer: Arc<Producer<Chain>>,
    admission: Arc<Admission>,
    views: Arc<Workers<Job>>,
    metrics: Arc<Metrics>,
    consensus: Option<Arc<Handle>>,
    gossip: Option<slackline_gossip::Handle>,
    max_view_fuel: u64,
    /// Held by who profiles: that takes long, or what there is one of.
    profiling: Arc<Mutex<()>>,
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
    pub(crate) fn new(
        admission: Arc<Admission>,
        views: Arc<Workers<Job>>,
        sources: Sources,
        max_view_fuel: u64,
        gone: mpsc::Sender<()>,
    ) -> Handler {
        Handler {
            chain: sources.chain,
            producer: sources.producer,
            admission,
            views,
            metrics: sources.metrics,
            consensus: sources.consensus,
            gossip: sources.gossip,
            max_view_fuel,
            profiling: Arc::default(),
            started: Instant::now(),
            _gone: gone,
        }
    }

    /// Submits transactions and waits. An error says which one is none, and why; then none was submitted.
    async fn submit(
        &self,
        transactions: Vec<String>,
        wait: &Wait,
    ) -> Result<Vec<Submitted>, (usize, Unreadable)> {
        let transactions: Arc<[String]> = transactions.into();
        let admitted = match self.admission.submit(transactions.clone()).await {
            Ok(admitted) => admitted?,
            Err(error) => {
                let mut refused = Vec::with_capacity(transactions.len());
                for decoded in self.admission.read(&transactions)? {
                    let answer = Submitted::refused(decoded.hash(), error.into());
                    self.metrics.submission(&answer);
                    refused.push(answer);
                }
                return Ok(refused);
            }
        };
        // Who waits does so without them.
        drop(transactions);
        let deadline = tokio::time::Instant::now() + wait.timeout;
        let mut answers = Vec::with_capacity(admitted.len());
        for (hash, progress) in admitted {
            let answer = self.wait_for(hash, progress, wait.until, deadline).await;
            self.metrics.submission(&answer);
            answers.push(answer);
        }
        Ok(answers)
    }

    /// What became of a transaction at `deadline`, or before if there is an answer before.
    async fn wait_for(
        &self,
        hash: Hash,
        progress: Result<Progress, SubmitError>,
        until: WaitUntil,
        deadline: tokio::time::Instant,
    ) -> Submitted {
        let included = |receipt: &Receipt, status| Submitted {
            status,
            hash,
            receipt: Some(receipt.into()),
            error: None,
            missing_nonce: None,
        };
        let (status, mut ticket) = match progress {
            Ok(Progress::Accepted(ticket)) => (SubmitStatus::Pending, ticket),
            Ok(Progress::Waiting(ticket)) => (SubmitStatus::Duplicate, ticket),
            Ok(Progress::Included(receipt)) if until == WaitUntil::Final => {
                let status = match self.is_final(receipt.height).await {
                    Ok(true) => SubmitStatus::Final,
                    Ok(false) => SubmitStatus::Included,
                    // It is in a block: whether that is decided can be asked again.
                    Err(error) => {
                        tracing::warn!(%error, height = receipt.height, "cannot say whether a block is final");
                        SubmitStatus::Included
                    }
                };
                return included(&receipt, status);
            }
            Ok(Progress::Included(receipt)) => return included(&receipt, SubmitStatus::Included),
            Err(error) => return Submitted::refused(hash, error.into()),
        };
        let waiting = || Submitted {
            status,
            hash,
            receipt: None,
            error: None,
            missing_nonce: self.producer.missing_nonce(&hash),
        };
        if until == WaitUntil::None {
            return waiting();
        }
        let news = ticket.wait_for(Option::is_some);
        let verdict = match tokio::time::timeout_at(deadline, news).await {
            Err(_elapsed) => return waiting(),
            Ok(Ok(verdict)) => verdict.clone(),
            Ok(Err(_closed)) => None,
        };
        let error = match verdict {
            // What is stored from here on is decided; what was imported may not be.
            Some(Verdict::Included(receipt)) if until == WaitUntil::Final => {
                return included(&receipt, SubmitStatus::Final);
            }
            Some(Verdict::Included(receipt)) => return included(&receipt, SubmitStatus::Included),
            Some(Verdict::Dropped(reason)) => of_drop(&reason),
            // Closed: the producer says why before it closes tickets.
            None => match self.failure() {
                Some(reason) => RpcError::NodeFailed { reason },
                None => RpcError::NodeStopping,
            },
        };
        Submitted::dropped(hash, error)
    }

    /// Whether the block at `height`, which there is, is decided.
    async fn is_final(&self, height: u64) -> Result<bool, RpcError> {
        let chain = self.chain.clone();
        let reading = tokio::task::spawn_blocking(move || is_final(&chain, height));
        let read = reading.await.map_err(|error| RpcError::Internal {
            reason: error.to_string(),
        })?;
        read.map_err(of_store)
    }

    /// What comes from now on, for the session that has these `extensions`.
    fn news(&self, extensions: &Extensions) -> Following {
        // In this order: a block in between is in both.
        let next = self.chain.head().height + 1;
        Following {
            blocks: self.producer.subscribe(),
            next,
            unsent: extensions.get().cloned(),
        }
    }

    /// The right to profile.
    fn profiling(&self) -> Result<OwnedMutexGuard<()>, RpcError> {
        let held = self.profiling.clone().try_lock_owned();
        held.map_err(|_held| RpcError::TryAgainLater {
            reason: "another profile is being made".to_owned(),
        })
    }

    /// The reason if the node has failed.
    fn failure(&self) -> Option<String> {
        match &*self.producer.health().borrow() {
            Health::Failed(reason) => Some(reason.clone()),
            Health::Running | Health::Stopping => None,
        }
    }
}

fn transaction_bytes(text: &str) -> Result<Vec<u8>, RpcError> {
    parse_hex(text).map_err(|reason| invalid("transaction", reason))
}

/// What an answer about submitted transactions waits for.
struct Wait {
    until: WaitUntil,
    timeout: Duration,
}

impl Wait {
    fn new(until: Option<WaitUntil>, timeout_ms: Option<u64>) -> Result<Wait, RpcError> {
        let timeout_ms = timeout_ms.unwrap_or(DEFAULT_TIMEOUT_MS);
        if timeout_ms > MAX_TIMEOUT_MS {
            return Err(invalid("timeout_ms", format!("at most {MAX_TIMEOUT_MS}")));
        }
        Ok(Wait {
            until: until.unwrap_or_default(),
            timeout: Duration::from_millis(timeout_ms),
        })
    }
}

fn invalid(parameter: &str, reason: impl ToString) -> RpcError {
    RpcError::InvalidParams {
        parameter: parameter.to_owned(),
        reason: reason.to_string(),
        cause: None,
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
        let wait = Wait::new(wait_until, timeout_ms)?;
        let submitted = self.submit(vec![transaction], &wait).await;
        let submitted = submitted.map_err(|(_, unreadable)| match unreadable {
            Unreadable::Text(reason) => invalid("transaction", reason),
            Unreadable::Bytes(error) => of_admission(&error),
        })?;
        submitted.into_iter().next().ok_or(RpcError::Internal {
            reason: "no answer".to_owned(),
        })
    }

    async fn submit_transactions(
        &self,
        transactions: Vec<String>,
        wait_until: Option<WaitUntil>,
        timeout_ms: Option<u64>,
    ) -> Result<Vec<Submitted>, RpcError> {
        let wait = Wait::new(wait_until, timeout_ms)?;
        if !(1..=MAX_SUBMITTED).contains(&transactions.len()) {
            return Err(invalid(
                "transactions",
                format!("between 1 and {MAX_SUBMITTED}"),
            ));
        }
        let submitted = self.submit(transactions, &wait).await;
        submitted.map_err(|(at, unreadable)| RpcError::InvalidParams {
            parameter: format!("transactions[{at}]"),
            reason: unreadable.to_string(),
            cause: match &unreadable {
                Unreadable::Text(_) => None,
                Unreadable::Bytes(error) => Some(of_admission(error).into()),
            },
        })
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
                is_final: false,
                missing_nonce: self.producer.missing_nonce(&hash),
            });
        }
        let Some(receipt) = self.chain.receipt(&hash).map_err(of_store)? else {
            return Ok(TransactionAnswer {
                status: TransactionStatus::Unknown,
                hash,
                transaction: None,
                receipt: None,
                is_final: false,
                missing_nonce: None,
            });
        };
        let Some(transaction) = self.chain.transaction(&hash).map_err(of_store)? else {
            return Err(RpcError::Storage {
                reason: format!("transaction {hash} has only a receipt"),
            });
        };
        Ok(TransactionAnswer {
            status: TransactionStatus::Included,
            hash,
            transaction: Some((&transaction).into()),
            receipt: Some((&receipt).into()),
            is_final: is_final(&self.chain, receipt.height).map_err(of_store)?,
            missing_nonce: None,
        })
    }

    async fn simulate_transaction(
        &self,
        transaction: String,
        trace: Option<bool>,
        functions: Option<bool>,
    ) -> Result<SimulationJson, RpcError> {
        let bytes = transaction_bytes(&transaction)?;
        drop(transaction);
        let (trace, profiling) = match (functions, trace) {
            (Some(true), _) => (Some(Detail::Functions), Some(self.profiling()?)),
            (_, Some(true)) => (Some(Detail::Calls), None),
            _ => (None, None),
        };
        let (chain, producer, fuel) = (
            self.chain.clone(),
            self.producer.clone(),
            self.max_view_fuel,
        );
        let estimating = move |is_wanted: &(dyn Fn() -> bool + Sync)| {
            // Until it is done, also when nobody waits for it any more.
            let _profiling = profiling;
            let signed = chain.decode(&bytes).map_err(|error| of_admission(&error))?;
            let transaction = &signed.transaction;
            if transaction.fuel_limit > fuel {
                return Err(RpcError::FuelLimitTooHigh {
                    maximum: fuel,
                    got: transaction.fuel_limit,
                });
            }
            let pending = producer.pending_of(&transaction.sender_address(), transaction.nonce);
            let effort = Effort {
                fuel,
                trace,
                trace_bytes: TRACE_BYTES,
                footprint_bytes: FOOTPRINT_BYTES,
                is_wanted,
            };
            let estimate = chain.estimate(&pending, &signed, &effort);
            estimate.map_err(of_estimate)
        };
        let estimate = self.views.call_while_wanted(estimating).await??;
        Ok(SimulationJson {
            receipt: (&estimate.receipt).into(),
            minimum_fuel_limit: estimate.minimum_fuel_limit,
            footprint_truncated: estimate.footprint.truncated,
            footprint: answers::footprint(estimate.footprint),
            call: estimate.call,
        })
    }

    fn get_account(&self, address: String, height: Option<u64>) -> Result<AccountJson, RpcError> {
        let address = parse("address", &address)?;
        let (account, next_nonce) = match height {
            Some(height) => {
                let account = self.chain.account_at(&address, height).map_err(of_store)?;
                let nonce = account.nonce;
                (account, nonce)
            }
            // The two may be of different blocks, unless the account is the same afterwards.
            None => {
                let mut account = self.chain.account(&address).map_err(of_store)?;
                let mut attempts = 0;
                loop {
                    let next_nonce = self.producer.next_nonce(&address, account.nonce);
                    let again = self.chain.account(&address).map_err(of_store)?;
                    attempts += 1;
                    if again == account || attempts == ATTEMPTS {
                        break (account, next_nonce.max(again.nonce));
                    }
                    account = again;
                }
            }
        };
        Ok(AccountJson::new(address, account, next_nonce))
    }

    fn get_events(
        &self,
        contract: String,
        topic: Option<String>,
        from_height: Option<u64>,
        to_height: Option<u64>,
        after: Option<String>,
        limit: Option<u64>,
    ) -> Result<EventsJson, RpcError> {
        let limit = limit.unwrap_or(DEFAULT_EVENTS);
        if !(1..=MAX_EVENTS).contains(&limit) {
            return Err(invalid("limit", format!("between 1 and {MAX_EVENTS}")));
        }
        let query = EventQuery {
            contract: parse("contract", &contract)?,
            topic: topic.map(|topic| parse("topic", &topic)).transpose()?,
            from: from_height.unwrap_or(0),
            to: to_height.unwrap_or(u64::MAX),
            after: after
                .map(|after| parse_cursor(&after).map_err(|reason| invalid("after", reason)))
                .transpose()?,
        };
        let (found, is_full) = self
            .chain
            .events(&query, limit as usize, PAGE_BYTES)
            .map_err(of_store)?;
        let last = found.last().filter(|_| is_full);
        Ok(EventsJson {
            next: last.map(|last| cursor(&last.position)),
            events: found.iter().map(answers::event).collect(),
        })
    }

    async fn call_view(
        &self,
        contract: String,
        method: String,
        input: Option<String>,
        caller: Option<String>,
        fuel_limit: Option<u64>,
        height: Option<u64>,
    ) -> Result<ViewJson, RpcError> {
        let call = ViewCall {
            contract: parse("contract", &contract)?,
            caller: caller.map_or(Ok(Address::default()), |caller| parse("caller", &caller))?,
            method,
            input: parse_hex(&input.unwrap_or_default())
                .map_err(|reason| invalid("input", reason))?,
            fuel_limit: fuel_limit.unwrap_or(DEFAULT_VIEW_FUEL.min(self.max_view_fuel)),
        };
        if call.fuel_limit > self.max_view_fuel {
            return Err(RpcError::FuelLimitTooHigh {
                maximum: self.max_view_fuel,
                got: call.fuel_limit,
            });
        }
        let chain = self.chain.clone();
        let viewing = move || match height {
            Some(height) => chain.view_at(&call, height),
            None => chain.view(&call),
        };
        let result = self.views.call(viewing).await?;
        result
            .map(|result| answers::view(&result))
            .map_err(|error| of_view(&error))
    }

    fn get_block(&self, height: Option<u64>) -> Result<BlockJson, RpcError> {
        let head = self.chain.head().height;
        let height = height.unwrap_or(head);
        match self.chain.block(height).map_err(of_store)? {
            Some(block) => Ok((&block).into()),
            None => Err(RpcError::NoBlock { height, head }),
        }
    }

    fn get_validators(&self, height: Option<u64>) -> Result<Vec<Validator>, RpcError> {
        let height = height.unwrap_or_else(|| self.chain.head().height);
        self.chain.validators(height).map_err(of_store)
    }

    fn get_proof(&self, key: String, height: Option<u64>) -> Result<StateAnswer, RpcError> {
        let key = parse_hex(&key).map_err(|reason| invalid("key", reason))?;
        let last = self.chain.head().height;
        let height = height.unwrap_or(last);
        self.chain.prove(&key, height).map_err(of_store)
    }

    async fn trace_transaction(
        &self,
        hash: String,
        functions: Option<bool>,
    ) -> Result<TraceJson, RpcError> {
        let parsed = parse("hash", &hash)?;
        let (detail, profiling) = match functions {
            Some(true) => (Detail::Functions, Some(self.profiling()?)),
            _ => (Detail::Calls, None),
        };
        let chain = self.chain.clone();
        let tracing = move |is_wanted: &(dyn Fn() -> bool + Sync)| {
            // Until it is done, also when nobody waits for it any more.
            let _profiling = profiling;
            chain.trace_transaction(&parsed, detail, TRACE_BYTES, is_wanted)
        };
        match self.views.call_while_wanted(tracing).await? {
            Ok(Some((receipt, call))) => Ok(TraceJson {
                receipt: (&receipt).into(),
                call,
            }),
            Ok(None) => Err(invalid(
                "hash",
                "no block has a transaction with it".to_owned(),
            )),
            Err(error) => Err(of_view(&ViewError::Execution(error))),
        }
    }

    async fn profile_node(
        &self,
        seconds: u64,
        interval_us: Option<u64>,
    ) -> Result<SamplesJson, RpcError> {
        /// So often what was found is taken out of the ring.
        const COLLECT: Duration = Duration::from_millis(500);
        if !(1..=MAX_PROFILE_S).contains(&seconds) {
            return Err(invalid("seconds", format!("between 1 and {MAX_PROFILE_S}")));
        }
        let interval_us = interval_us.unwrap_or(DEFAULT_SAMPLE_US);
        if !(MIN_SAMPLE_US..=1_000_000).contains(&interval_us) {
            let reason = format!("between {MIN_SAMPLE_US} and 1000000");
            return Err(invalid("interval_us", reason));
        }
        let _profiling = self.profiling()?;
        // Who was sampled before may still execute, which ends soon: every execution has a limit.
        let mut patience = 500u32;
        let mut sampling = loop {
            match self.chain.sample(Duration::from_micros(interval_us)) {
                Err(SamplingError::Running) if patience > 0 => {
                    patience -= 1;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                sampling => break sampling.map_err(of_sampling)?,
            }
        };
        let mut health = self.producer.health();
        let end = tokio::time::Instant::now() + Duration::from_secs(seconds);
        while tokio::time::Instant::now() < end {
            let pause = (tokio::time::Instant::now() + COLLECT).min(end);
            tokio::select! {
                () = tokio::time::sleep_until(pause) => {}
                // An error says that nobody can say so any more.
                _ = health.wait_for(|health| *health == Health::Stopping) => {
                    return Err(RpcError::NodeStopping);
                }
            }
            let collecting = tokio::task::spawn_blocking(move || {
                sampling.collect();
                sampling
            });
            sampling = collecting.await.map_err(|error| RpcError::Internal {
                reason: error.to_string(),
            })?;
        }
        Ok(answers::samples(sampling.finish()))
    }

    fn get_code(&self, hash: String) -> Result<CodeJson, RpcError> {
        let hash = parse("hash", &hash)?;
        let code = self.chain.code(&hash).map_err(of_store)?.map(HexBytes);
        let code = code.ok_or(RpcError::NoCode { hash })?;
        Ok(CodeJson { code })
    }

    fn get_methods(&self, contract: String) -> Result<MethodsJson, RpcError> {
        let contract = parse("contract", &contract)?;
        match self.chain.methods(&contract).map_err(of_store)? {
            Some(methods) => Ok(MethodsJson { contract, methods }),
            None => Err(RpcError::NoContract { contract }),
        }
    }

    fn get_abi(&self, contract: String) -> Result<AbiJson, RpcError> {
        let contract = parse("contract", &contract)?;
        let abi = self.chain.abi(&contract).map_err(of_store)?;
        if abi.is_none()
            && self
                .chain
                .account(&contract)
                .map_err(of_store)?
                .code
                .is_none()
        {
            return Err(RpcError::NoContract { contract });
        }
        Ok(AbiJson {
            contract,
            // Whoever deployed the contract may have written anything there.
            abi: abi.and_then(|abi| serde_json::from_slice(&abi).ok()),
        })
    }

    async fn subscribe_blocks(
        &self,
        pending: PendingSubscriptionSink,
        extensions: &Extensions,
    ) -> SubscriptionResult {
        let news = self.news(extensions);
        let sink = pending.accept().await?;
        let shown = |news: &News| {
            vec![BlockNewsJson {
                hash: news.header.hash(),
                header: news.header.clone(),
                transactions: news
                    .receipts
                    .iter()
                    .map(|(_, receipt)| receipt.transaction)
                    .collect(),
            }]
        };
        news.forward(sink, shown).await
    }

    async fn subscribe_receipts(
        &self,
        pending: PendingSubscriptionSink,
        extensions: &Extensions,
        account: String,
    ) -> SubscriptionResult {
        let account: Address = match parse("account", &account) {
            Ok(account) => account,
            Err(error) => return refuse(pending, error).await,
        };
        let news = self.news(extensions);
        let sink = pending.accept().await?;
        let shown = move |news: &News| {
            let own = news
                .receipts
                .iter()
                .filter(|(sender, _)| *sender == account);
            own.map(|(_, receipt)| ReceiptJson::from(&**receipt))
                .collect()
        };
        news.forward(sink, shown).await
    }

    async fn subscribe_events(
        &self,
        pending: PendingSubscriptionSink,
        extensions: &Extensions,
        contract: String,
        topic: Option<String>,
    ) -> SubscriptionResult {
        let parsed = parse::<Address>("contract", &contract).and_then(|contract| {
            let topic: Option<Hash> = topic.map(|topic| parse("topic", &topic)).transpose()?;
            Ok((contract, topic))
        });
        let (contract, topic) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return refuse(pending, error).await,
        };
        let news = self.news(extensions);
        let sink = pending.accept().await?;
        let shown = move |news: &News| {
            let mut found = Vec::new();
            for (_, receipt) in &news.receipts {
                for (event, index) in receipt.events.iter().zip(0..) {
                    let wanted = topic.is_none_or(|topic| event.topics.contains(&topic));
                    if event.contract == contract && wanted {
                        found.push(FoundEventJson {
                            height: receipt.height,
                            transaction_index: receipt.index,
                            event_index: index,
                            transaction: receipt.transaction,
                            event: event.into(),
                        });
                    }
                }
            }
            found
        };
        news.forward(sink, shown).await
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
            state_root: head.state_root,
            head_timestamp_ms: head.timestamp_ms,
            mode: answers::mode(self.chain.mode()),
            mempool: MempoolJson {
                transactions: stats.transactions as u64,
                pending: stats.pending as u64,
                queued: stats.queued as u64,
                executing: stats.executing as u64,
                bytes: stats.bytes as u64,
                max_transactions: stats.limits.transactions as u64,
                max_bytes: stats.limits.bytes as u64,
            },
            consensus: self
                .consensus
                .as_ref()
                .map(|handle| answers::consensus(&handle.glance())),
            gossip_peers: self
                .gossip
                .as_ref()
                .map(|gossip| gossip.peers().len() as u64),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            metering: answers::metering(self.chain.metering_stats()),
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

/// Whether the block at `height` cannot be undone: it has its certificate, or one node makes the blocks.
fn is_final(chain: &Chain, height: u64) -> Result<bool, StoreError> {
    Ok(chain.genesis().validators.is_empty() || chain.certificate(height)?.is_some())
}

async fn refuse(pending: PendingSubscriptionSink, error: RpcError) -> SubscriptionResult {
    pending.reject(error).await;
    Ok(())
}

/// What a subscription has to send.
struct Following {
    blocks: broadcast::Receiver<Arc<News>>,
    /// The first block that is not sent.
    next: u64,
    /// Of the session.
    unsent: Option<Arc<Unsent>>,
}

impl Following {
    /// Sends what `shown` makes of each block, until the subscriber or the session ends. A session that does not read has its subscription ended, and
    /// learns it when it reads.
    async fn forward<T: Serialize>(
        mut self,
        sink: SubscriptionSink,
        shown: impl Fn(&News) -> Vec<T>,
    ) -> SubscriptionResult {
        loop {
            let news = tokio::select! {
                news = self.blocks.recv() => news,
                () = sink.closed() => return Ok(()),
            };
            let news = match news {
                Ok(news) => news,
                Err(broadcast::error::RecvError::Lagged(_)) => return Err(self.missed()),
                Err(broadcast::error::RecvError::Closed) => {
                    return Err(last_word(&RpcError::NodeStopping));
                }
            };
            for item in shown(&news) {
                if !self.send(&sink, &item).await {
                    return Err(self.missed());
                }
            }
            self.next = self.next.max(news.header.height + 1);
        }
    }

    /// Whether it goes on its way in time.
    async fn send(&self, sink: &SubscriptionSink, item: &impl Serialize) -> bool {
        let Ok(message) = serde_json::value::to_raw_value(item) else {
            return false;
        };
        let Some(unsent) = &self.unsent else {
            let sent = sink.send_timeout(message, SUBSCRIBER_PATIENCE);
            return sent.await.is_ok();
        };
        let ready = tokio::time::timeout(SUBSCRIBER_PATIENCE, unsent.ready());
        let bytes = message.get().len();
        let Some(room) = ready.await.ok().and_then(|()| unsent.reserve(bytes)) else {
            return false;
        };
        room.send(bytes);
        let sent = sink.send_timeout(message, SUBSCRIBER_PATIENCE).await;
        if sent.is_err() {
            unsent.sent(bytes);
        }
        sent.is_ok()
    }

    fn missed(&self) -> SubscriptionError {
        let from_height = self.next;
        last_word(&RpcError::Missed { from_height })
    }
}

/// What ends a subscription, as the error object that a call would get.
fn last_word(error: &RpcError) -> SubscriptionError {
    let object = ErrorObjectOwned::from(error.clone());
    match serde_json::value::to_raw_value(&object) {
        Ok(json) => SubscriptionError::from_json(json),
        Err(_) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonrpsee::RpcModule;
    use slackline_executor::Header;

    fn news(height: u64) -> Arc<News> {
        Arc::new(News {
            header: Header {
                version: 1,
                chain_id: 1,
                protocol_version: 1,
                height,
                parent: Hash::default(),
                timestamp_ms: 0,
                proposer: Address::default(),
                transactions_root: Hash::default(),
                receipts_root: Hash::default(),
                state_root: Hash::default(),
                base_price: 0,
                fuel_used: 0,
                burnt: 0,
            },
            receipts: Vec::new(),
        })
    }

    /// What a subscriber hears who follows from block 5 on.
    async fn heard(blocks: broadcast::Receiver<Arc<News>>, count: usize) -> Vec<serde_json::Value> {
        let following = Following {
            blocks,
            next: 5,
            unsent: Some(Unsent::new(super::super::unsent::room())),
        };
        let mut module = RpcModule::new(std::sync::Mutex::new(Some(following)));
        let follow =
            module.register_subscription("follow", "heard", "end", |_, pending, all, _| {
                let following = all.lock().expect("no panic").take().expect("one");
                async move {
                    let sink = pending.accept().await?;
                    let shown = |news: &News| vec![news.header.height];
                    following.forward(sink, shown).await
                }
            });
        follow.expect("registered");
        let request = r#"{"jsonrpc":"2.0","id":1,"method":"follow"}"#;
        let (_, mut messages) = module.raw_json_request(request, 8).await.expect("a call");
        let mut heard = Vec::new();
        while heard.len() < count {
            let message = messages.recv().await.expect("not closed");
            let message: serde_json::Value = serde_json::from_str(message.get()).expect("JSON");
            if message["method"] == "heard" {
                heard.push(message["params"].clone());
            }
        }
        heard
    }

    #[tokio::test]
    async fn a_subscription_does_not_end_in_silence() {
        let (sender, receiver) = broadcast::channel(1);
        for height in 5..7 {
            sender.send(news(height)).expect("there is a receiver");
        }
        let missed = heard(receiver, 1).await;
        assert_eq!(missed[0]["error"]["code"], 1307, "{missed:?}");
        let data = serde_json::json!({"kind": "missed", "from_height": 5});
        assert_eq!(missed[0]["error"]["data"], data);

        let (sender, receiver) = broadcast::channel(4);
        for height in 5..7 {
            sender.send(news(height)).expect("there is a receiver");
        }
        drop(sender);
        let all = heard(receiver, 3).await;
        assert_eq!(
            (&all[0]["result"], &all[1]["result"]),
            (&5.into(), &6.into())
        );
        assert_eq!(all[2]["error"]["data"]["kind"], "node_stopping");
    }
}
