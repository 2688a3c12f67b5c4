//! The connection to a node.

use super::names::Names;
use jsonrpsee::core::client::Error as ClientError;
use jsonrpsee::http_client::{HttpClient, HttpClientBuilder};
use jsonrpsee::types::ErrorObjectOwned;
use slackline_node::rpc::api::{ApiClient, MAX_TIMEOUT_MS};
use slackline_node::rpc::types::StatusJson;
use std::time::Duration;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// The node said no.
    #[error("{}", .0.message())]
    Refused(ErrorObjectOwned),
    /// No node was reached, or it did not answer as one.
    #[error(
        "cannot talk to a node at {url}: {reason}\n(is one running? `slackline dev` starts one; --rpc says where to look)"
    )]
    Unreachable {
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
}

/// A node to talk to.
pub(crate) struct Remote {
    url: String,
    client: HttpClient,
}

impl Remote {
    /// Prepares to talk to the node at `url`; nothing is sent yet.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Remote> {
        let client = HttpClientBuilder::default()
            .request_timeout(Duration::from_millis(MAX_TIMEOUT_MS) + Duration::from_secs(30))
            .max_request_size(u32::MAX)
            .max_response_size(u32::MAX)
            .build(url)
            .map_err(|error| RemoteError::Unreachable {
                url: url.to_owned(),
                reason: chain(&error),
            })?;
        Ok(Remote {
            url: url.to_owned(),
            client,
        })
    }

    /// The methods.
    pub(crate) fn client(&self) -> &HttpClient {
        &self.client
    }

    /// Waits for an answer.
    pub(crate) async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, RemoteError> {
        request.await.map_err(|error| match error {
            ClientError::Call(object) => RemoteError::Refused(object),
            other => RemoteError::Unreachable {
                url: self.url.clone(),
                reason: chain(&other),
            },
        })
    }

    /// The node's status.
    pub(crate) async fn status(&self) -> Result<StatusJson, RemoteError> {
        self.ask(self.client.get_status()).await
    }

    /// What accounts may be called on the node's chain.
    pub(crate) async fn names(&self) -> Result<Names, RemoteError> {
        Ok(Names::on_chain(self.status().await?.chain_id))
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
