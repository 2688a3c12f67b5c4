//! What operators and their tools ask, on a port of its own.
//!
//! | path | answer |
//! |---|---|
//! | `/health` | 200 while blocks can be made and voted for; 503 with the reason otherwise: a failed disk, a safety failure |
//! | `/ready` | 200 when clients should be sent here: healthy, and the last block is recent where several nodes make blocks; 503 otherwise |
//! | `/metrics` | OpenMetrics, as Prometheus reads it: those of the node, then those of the consensus engine |
//! | `/status` | JSON: height, consensus, peers, mempool |

use crate::http;
use crate::metrics::Metrics;
use crate::producer::{Health, Producer, now_ms};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use slackline_consensus::Handle;
use slackline_executor::Chain;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A validator whose last block is older than this is not ready, in milliseconds.
const STALE_MS: u64 = 30_000;

/// What the answers are made of.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The chain.
    pub chain: Arc<Chain>,
    /// What makes blocks, or gives others their transactions.
    pub producer: Arc<Producer<Chain>>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// Consensus, if there is any.
    pub consensus: Option<Arc<Handle>>,
    /// Gossip, if there is any.
    pub gossip: Option<slackline_gossip::Handle>,
}

impl Sources {
    /// What is wrong, if anything is.
    fn failure(&self) -> Option<String> {
        if let Some(consensus) = &self.consensus {
            match consensus.health() {
                slackline_consensus::Health::Ok => {}
                slackline_consensus::Health::Stopped(reason) => {
                    return Some(format!("consensus has stopped: {reason}"));
                }
                slackline_consensus::Health::SafetyFailure(reason) => {
                    return Some(format!(
                        "safety failure, nothing is signed any more: {reason}"
                    ));
                }
            }
        }
        match &*self.producer.health().borrow() {
            Health::Running => None,
            Health::Stopping => Some("the node is stopping".to_owned()),
            Health::Failed(reason) => Some(reason.clone()),
        }
    }

    fn answer(failure: Option<String>) -> Response {
        match failure {
            None => (StatusCode::OK, Json(json!({ "ok": true }))).into_response(),
            Some(reason) => {
                let body = Json(json!({ "ok": false, "reason": reason }));
                (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
            }
        }
    }
}

async fn health(State(sources): State<Sources>) -> Response {
    Sources::answer(sources.failure())
}

async fn ready(State(sources): State<Sources>) -> Response {
    let failure = sources.failure().or_else(|| {
        let age = now_ms().saturating_sub(sources.chain.head().timestamp_ms);
        let stale = sources.consensus.is_some() && age > STALE_MS;
        stale.then(|| format!("the last block is {age} ms old"))
    });
    Sources::answer(failure)
}

async fn metrics(State(sources): State<Sources>) -> Response {
    let text = tokio::task::spawn_blocking(move || {
        let healthy = sources.failure().is_none();
        let (chain, producer) = (&sources.chain, &sources.producer);
        let gossip = sources.gossip.as_ref();
        let mut text = sources.metrics.text(chain, producer, gossip, healthy);
        if let Some(consensus) = &sources.consensus {
            text += consensus
                .metrics()
                .trim_end()
                .trim_end_matches("# EOF")
                .trim_end();
            text.push('\n');
        }
        text + "# EOF\n"
    });
    match text.await {
        Ok(text) => (
            [(
                header::CONTENT_TYPE,
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            )],
            text,
        )
            .into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn status(State(sources): State<Sources>) -> Response {
    let head = sources.chain.head();
    let stats = sources.producer.stats();
    let consensus = match &sources.consensus {
        Some(consensus) => Some(consensus.status().await),
        None => None,
    };
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "chain_id": sources.chain.genesis().chain_id,
        "height": head.height,
        "head": head.hash(),
        "state_root": head.state_root,
        "head_timestamp_ms": head.timestamp_ms,
        "mempool": {
            "transactions": stats.transactions,
            "pending": stats.pending,
            "queued": stats.queued,
            "executing": stats.executing,
            "bytes": stats.bytes,
        },
        "consensus": consensus,
        "gossip_peers": sources.gossip.as_ref().map(|gossip| gossip.peers().len()),
        "failure": sources.failure(),
    }))
    .into_response()
}

/// Serves until `stop` says so.
pub async fn serve(listener: TcpListener, sources: Sources, stop: watch::Receiver<bool>) {
    let router = Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(sources);
    http::serve(listener, router, stop).await;
}
