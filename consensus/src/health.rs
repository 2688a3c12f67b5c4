//! Whether consensus takes part.

use std::fmt::Display;
use std::sync::Arc;
use tokio::sync::watch;

/// Whether consensus takes part. What is not [`Ok`](Health::Ok) stays so until the process is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does.
    Ok,
    /// It was told to stop, or had to: the application failed, or the engine did. Starting again is safe.
    Stopped(String),
    /// The engine's log failed. It signs nothing more, on purpose: starting again could make it sign what contradicts what
    /// it signed, were it not for the guard. An operator must look first.
    SafetyFailure(String),
}

/// Where the parts of consensus say why it stops. The first reason stands, but a safety failure goes over it.
#[derive(Clone, Debug)]
pub(crate) struct Reporter(Arc<watch::Sender<Health>>);

impl Reporter {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Health::Ok)))
    }

    pub(crate) fn stopped(&self, reason: &dyn std::error::Error) {
        let mut text = reason.to_string();
        let mut source = reason.source();
        while let Some(error) = source {
            text.push_str(&format!(": {error}"));
            source = error.source();
        }
        self.stopped_because(text);
    }

    pub(crate) fn told_to_stop(&self) {
        self.stop("it was told to");
    }

    pub(crate) fn stopped_because(&self, reason: impl Display) {
        tracing::error!(%reason, "consensus stops");
        self.stop(reason);
    }

    fn stop(&self, reason: impl Display) {
        self.0.send_if_modified(|health| {
            let first = *health == Health::Ok;
            if first {
                *health = Health::Stopped(reason.to_string());
            }
            first
        });
    }

    pub(crate) fn safety_failure(&self, reason: impl Display) {
        tracing::error!(%reason, "consensus signs nothing more");
        self.0.send_if_modified(|health| {
            let first = !matches!(health, Health::SafetyFailure(_));
            if first {
                *health = Health::SafetyFailure(reason.to_string());
            }
            first
        });
    }

    pub(crate) fn get(&self) -> Health {
        self.0.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Health> {
        self.0.subscribe()
    }
}
