//! What the node counts, in Prometheus's text format.
//!
//! Counters and histograms are updated as blocks are stored; what is a property of the moment (mempool, database, checks) is read when the metrics
//! are. Names end in their unit.

use crate::process;
use crate::producer::{News, Producer, now_ms};
use crate::rpc::types::{SubmitStatus, Submitted};
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use slackline_executor::{AbortReason, Chain, HistogramSnapshot, Outcome};
use std::fmt::Write;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: OutcomeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types, reason = "the label's text")]
enum OutcomeKind {
    success,
    revert,
    abort,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhatLabel {
    what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabel {
    block: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabel {
    method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabel {
    method: &'static str,
    code: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SubmissionLabel {
    status: &'static str,
    /// That of the error; 0 if there is none.
    code: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FamilyLabel {
    family: &'static str,
}

/// See the [module](self).
pub struct Metrics {
    registry: Registry,
    height: Gauge,
    interval: Histogram,
    transactions: Family<OutcomeLabel, Counter>,
    aborts: Family<ReasonLabel, Counter>,
    block_fuel: Histogram,
    block_transactions: Histogram,
    execution: Histogram,
    root: Histogram,
    commit: Histogram,
    base_price: Gauge,
    mempool: Family<StateLabel, Gauge>,
    mempool_bytes: Gauge,
    gossip_peers: Gauge,
    gossip: Family<WhatLabel, Counter>,
    executions: Counter,
    checks_sent: Counter,
    checks_landed: Counter,
    stopped: Counter,
    db_keys: Family<FamilyLabel, Gauge>,
    db_files: Family<FamilyLabel, Gauge>,
    db_memory: Family<FamilyLabel, Gauge>,
    db_behind: Family<FamilyLabel, Gauge>,
    db_lookups: Family<LookupLabel, Counter>,
    db_io: Family<WhatLabel, Counter>,
    db_stalled: Counter<f64, AtomicU64>,
    rpc: Family<MethodLabel, Histogram, fn() -> Histogram>,
    rpc_errors: Family<ErrorLabel, Counter>,
    rpc_refused: Counter,
    submissions: Family<SubmissionLabel, Counter>,
    healthy: Gauge,
    start_time: Gauge,
    mempool_most: Gauge,
    mempool_most_bytes: Gauge,
    /// Milliseconds since 1970 of the start.
    started: u64,
    /// Milliseconds since 1970 of the last block.
    last_block: Mutex<Option<u64>>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics")
            .field("height", &self.height.get())
            .finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("slackline");
        let seconds = || Histogram::new(exponential_buckets(0.000_1, 2.0, 18));
        macro_rules! registered {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
            ($name:literal, $help:literal, $unit:expr, $metric:expr) => {{
                let metric = $metric;
                registry.register_with_unit($name, $help, $unit, metric.clone());
                metric
            }};
        }
        let fuel = || Unit::Other("fuel".to_owned());
        Metrics {
            height: registered!(
                "height",
                "Height of the last block on disk",
                Gauge::default()
            ),
            interval: registered!(
                "block_interval",
                "Time between a block and the one before it, by their headers",
                Unit::Seconds,
                Histogram::new(exponential_buckets(0.01, 2.0, 14))
            ),
            transactions: registered!(
                "transactions",
                "Transactions in blocks, by outcome",
                Family::default()
            ),
            aborts: registered!(
                "aborts",
                "Transactions that were stopped, by reason",
                Family::default()
            ),
            block_fuel: registered!(
                "block",
                "Fuel used by a block",
                fuel(),
                Histogram::new(exponential_buckets(1e5, 4.0, 10))
            ),
            block_transactions: registered!(
                "block_transactions",
                "Transactions in a block",
                Histogram::new(exponential_buckets(1.0, 2.0, 15))
            ),
            execution: registered!(
                "execution",
                "Executing a block and computing its root",
                Unit::Seconds,
                seconds()
            ),
            root: registered!(
                "root",
                "Computing the state root of a block, of what executing it takes",
                Unit::Seconds,
                seconds()
            ),
            commit: registered!(
                "commit",
                "Writing a block to disk",
                Unit::Seconds,
                seconds()
            ),
            base_price: registered!(
                "base_price",
                "What a unit of fuel costs at least in the next block",
                Gauge::default()
            ),
            mempool: registered!(
                "mempool_transactions",
                "Transactions that wait",
                Family::default()
            ),
            mempool_bytes: registered!(
                "mempool",
                "Size of the transactions that wait",
                Unit::Bytes,
                Gauge::default()
            ),
            gossip_peers: registered!(
                "gossip_peers",
                "Nodes that transactions are exchanged with",
                Gauge::default()
            ),
            gossip: registered!(
                "gossip_messages",
                "What happened in the gossip of transactions",
                Family::default()
            ),
            executions: registered!(
                "executions",
                "Executions of contracts, calls by others included",
                Counter::default()
            ),
            checks_sent: registered!(
                "checks_sent",
                "Signals sent to executing threads to look at their fuel",
                Counter::default()
            ),
            checks_landed: registered!(
                "checks_landed",
                "Signals that found the thread in compiled wasm",
                Counter::default()
            ),
            stopped: registered!(
                "stopped",
                "Executions that a signal found out of fuel",
                Counter::default()
            ),
            db_keys: registered!(
                "database_keys",
                "Keys, as RocksDB estimates them",
                Family::default()
            ),
            db_files: registered!(
                "database_files",
                "Size of files",
                Unit::Bytes,
                Family::default()
            ),
            db_memory: registered!(
                "database_memory",
                "Size of what is not in files yet",
                Unit::Bytes,
                Family::default()
            ),
            db_behind: registered!(
                "database_compaction",
                "What has to be merged before the files are as they should be",
                Unit::Bytes,
                Family::default()
            ),
            db_lookups: registered!(
                "database_lookups",
                "Parts of files that were looked for in the cache",
                Family::default()
            ),
            db_io: registered!(
                "database_io",
                "What RocksDB has written and read besides answering",
                Unit::Bytes,
                Family::default()
            ),
            db_stalled: registered!(
                "database_stalled",
                "How long writers were held back for merging to keep up",
                Unit::Seconds,
                Counter::default()
            ),
            rpc: registered!(
                "rpc",
                "Answering a call, with what it waits for",
                Unit::Seconds,
                Family::new_with_constructor(call_seconds as fn() -> Histogram)
            ),
            rpc_errors: registered!(
                "rpc_errors",
                "Calls that were answered with an error, by its code",
                Family::default()
            ),
            rpc_refused: registered!(
                "rpc_refused_connections",
                "Connections that were one too many",
                Counter::default()
            ),
            submissions: registered!(
                "submissions",
                "Answers about submitted transactions, by status and code of the error",
                Family::default()
            ),
            healthy: registered!(
                "healthy",
                "1 while /health is 200, else 0",
                Gauge::default()
            ),
            start_time: registered!(
                "start_time",
                "When the node started, since 1970",
                Unit::Seconds,
                Gauge::default()
            ),
            mempool_most: registered!(
                "mempool_limit_transactions",
                "Transactions that may wait",
                Gauge::default()
            ),
            mempool_most_bytes: registered!(
                "mempool_limit",
                "Size that the transactions that wait may have",
                Unit::Bytes,
                Gauge::default()
            ),
            started: now_ms(),
            last_block: Mutex::new(None),
            registry,
        }
    }
}

impl Metrics {
    /// A block is on disk.
    pub fn block(&self, news: &News) {
        let header = &news.header;
        self.height.set(gauge(header.height));
        let mut last = self
            .last_block
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last.replace(header.timestamp_ms) {
            let interval = header.timestamp_ms.saturating_sub(last);
            self.interval.observe(interval as f64 / 1e3);
        }
        drop(last);
        self.block_fuel.observe(header.fuel_used as f64);
        self.block_transactions.observe(news.receipts.len() as f64);
        for (_, receipt) in &news.receipts {
            let outcome = match &receipt.outcome {
                Outcome::Success { .. } => OutcomeKind::success,
                Outcome::Revert { .. } => OutcomeKind::revert,
                Outcome::Abort(reason) => {
                    let reason = match reason {
                        AbortReason::OutOfFuel => "out_of_fuel",
                        AbortReason::StackExhausted => "stack_exhausted",
                        AbortReason::Trap(_) => "trap",
                        AbortReason::HostInterface(_) => "host_interface",
                    };
                    self.aborts.get_or_create(&ReasonLabel { reason }).inc();
                    OutcomeKind::abort
                }
            };
            self.transactions
                .get_or_create(&OutcomeLabel { outcome })
                .inc();
        }
    }

    /// A block was executed; `root` of that was for its state root.
    pub fn executed(&self, took: Duration, root: Duration) {
        self.execution.observe(took.as_secs_f64());
        self.root.observe(root.as_secs_f64());
    }

    /// A block was written.
    pub fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    /// A call was answered, with the error that has `code` if it has one.
    pub fn rpc_call(&self, method: &'static str, took: Duration, code: Option<i32>) {
        let label = MethodLabel { method };
        self.rpc.get_or_create(&label).observe(took.as_secs_f64());
        if let Some(code) = code {
            let code = code.into();
            self.rpc_errors
                .get_or_create(&ErrorLabel { method, code })
                .inc();
        }
    }

    /// A connection was refused, because there are as many as there may be.
    pub fn rpc_connection_refused(&self) {
        self.rpc_refused.inc();
    }

    /// A client was told what became of a transaction that it had submitted.
    pub fn submission(&self, submitted: &Submitted) {
        let label = SubmissionLabel {
            status: match submitted.status {
                SubmitStatus::Pending => "pending",
                SubmitStatus::Duplicate => "duplicate",
                SubmitStatus::Included => "included",
                SubmitStatus::Final => "final",
                SubmitStatus::TryAgainLater => "try_again_later",
                SubmitStatus::Error => "error",
            },
            code: submitted
                .error
                .as_ref()
                .map_or(0, |error| error.code)
                .into(),
        };
        self.submissions.get_or_create(&label).inc();
    }

    /// All of them, with those of the chain and the mempool as they are now. Reads the database's statistics: not for an asynchronous runtime's thread.
    pub fn text(
        &self,
        chain: &Chain,
        producer: &Producer<Chain>,
        gossip: Option<&slackline_gossip::Handle>,
        healthy: bool,
    ) -> String {
        self.healthy.set(healthy.into());
        self.start_time.set(gauge(self.started / 1000));
        self.height.set(gauge(chain.head().height));
        self.base_price.set(gauge(chain.base_price()));
        let stats = producer.stats();
        for (state, count) in [
            ("pending", stats.pending),
            ("queued", stats.queued),
            ("executing", stats.executing),
        ] {
            self.mempool
                .get_or_create(&StateLabel { state })
                .set(gauge(count as u64));
        }
        self.mempool_bytes.set(gauge(stats.bytes as u64));
        self.mempool_most
            .set(gauge(stats.limits.transactions as u64));
        self.mempool_most_bytes
            .set(gauge(stats.limits.bytes as u64));
        let metering = chain.metering_stats();
        for (counter, value) in [
            (&self.executions, metering.executions),
            (&self.checks_sent, metering.checks_sent),
            (&self.checks_landed, metering.checks_landed),
            (&self.stopped, metering.stopped),
        ] {
            raise(counter, value);
        }
        if let Some(gossip) = gossip {
            self.gossip_peers.set(gauge(gossip.peers().len() as u64));
            let counters = gossip.counters();
            for (what, value) in [
                ("received", counters.received),
                ("accepted", counters.accepted),
                ("ignored", counters.ignored),
                ("junk", counters.junk),
                ("rate_limited", counters.rate_limited),
                ("queue_full", counters.queue_full),
                ("published", counters.published),
                ("publish_dropped", counters.publish_dropped),
                ("strikes", counters.strikes),
                ("bans", counters.bans),
            ] {
                raise(&self.gossip.get_or_create(&WhatLabel { what }), value);
            }
        }
        match chain.database_stats() {
            Ok(families) => {
                for stats in families {
                    let label = FamilyLabel {
                        family: stats.family.name(),
                    };
                    self.db_keys.get_or_create(&label).set(gauge(stats.keys));
                    self.db_files
                        .get_or_create(&label)
                        .set(gauge(stats.file_bytes));
                    self.db_memory
                        .get_or_create(&label)
                        .set(gauge(stats.memory_bytes));
                    self.db_behind
                        .get_or_create(&label)
                        .set(gauge(stats.compaction_bytes));
                }
            }
            Err(error) => tracing::warn!(%error, "the database has no statistics"),
        }
        let activity = chain.database_activity();
        for (block, lookups) in [
            ("data", activity.data),
            ("index", activity.index),
            ("filter", activity.filter),
        ] {
            for (result, value) in [("hit", lookups.hits), ("miss", lookups.misses)] {
                let label = LookupLabel { block, result };
                raise(&self.db_lookups.get_or_create(&label), value);
            }
        }
        for (what, value) in [
            ("log", activity.log_bytes),
            ("flush", activity.flush_bytes),
            ("merge_read", activity.merge_read_bytes),
            ("merge_written", activity.merge_written_bytes),
        ] {
            raise(&self.db_io.get_or_create(&WhatLabel { what }), value);
        }
        let stalled = activity.stalled_us as f64 / 1e6;
        self.db_stalled
            .inc_by((stalled - self.db_stalled.get()).max(0.0));
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        let overshoot = chain.metering_overshoot();
        let mut text = text.trim_end().trim_end_matches("# EOF").to_owned();
        histogram(
            &mut text,
            "slackline_overshoot_fuel",
            "Fuel used past the limit by executions that were stopped",
            &overshoot.fuel,
        );
        histogram(
            &mut text,
            "slackline_overshoot_nanoseconds",
            "Time from passing the limit until being stopped",
            &overshoot.ns,
        );
        process::write(&mut text);
        text
    }
}

fn call_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 10))
}

/// Sets a counter to what is counted elsewhere, and never decreases.
fn raise(counter: &Counter, value: u64) {
    counter.inc_by(value.saturating_sub(counter.get()));
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Buckets of ours: their bounds are finer than anybody's dashboards need, so those with values only.
fn histogram(text: &mut String, name: &str, help: &str, values: &HistogramSnapshot) {
    let mut total = 0;
    let mut line = |line: std::fmt::Arguments<'_>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{line}");
    };
    line(format_args!("# HELP {name} {help}."));
    line(format_args!("# TYPE {name} histogram"));
    for (upper, count) in values.buckets() {
        total += count;
        line(format_args!("{name}_bucket{{le=\"{upper}\"}} {total}"));
    }
    line(format_args!("{name}_bucket{{le=\"+Inf\"}} {total}"));
    line(format_args!("{name}_sum {}", values.sum()));
    line(format_args!("{name}_count {total}"));
}

/// Keeps `metrics` up to date with `producer`'s blocks, until that is gone.
pub async fn follow(metrics: Arc<Metrics>, producer: Arc<Producer<Chain>>) {
    let mut blocks = producer.subscribe();
    drop(producer);
    loop {
        match blocks.recv().await {
            Ok(news) => metrics.block(&news),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "metrics are behind the blocks");
            }
            Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
        }
    }
}
