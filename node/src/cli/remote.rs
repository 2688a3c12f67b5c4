//! The connection to a node.

use super::names::Names;
use slackline_client::types::StatusJson;
use slackline_client::{Client, Error};

/// A node to talk to.
pub(crate) struct Remote {
    client: Client,
}

impl Remote {
    /// Prepares to talk to the node at `url`; nothing is sent yet.
    pub(crate) fn connect(url: &str) -> anyhow::Result<Remote> {
        Ok(Remote {
            client: Client::new(url)?,
        })
    }

    /// The methods.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The node's status.
    pub(crate) async fn status(&self) -> Result<StatusJson, Error> {
        self.client.status().await
    }

    /// What accounts may be called on the node's chain.
    pub(crate) async fn names(&self) -> Result<Names, Error> {
        Ok(Names::on_chain(self.status().await?.chain_id))
    }
}
