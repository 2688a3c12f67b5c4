//! Commands that look something up: `account`, `events`, `tx`, `block`, `methods`, `status`. They succeed if it is there.

use super::names::Names;
use super::output::{Output, Table, grouped, printable};
use super::remote::Remote;
use super::transact::show_receipt;
use super::words::{self, WithWords, Words};
use anyhow::bail;
use clap::Args;
use slackline_client::EventFilter;
use slackline_executor::Hash;
use slackline_node::rpc::types::{
    ActionJson, Amount, HexBytes, NodeState, ReceiptJson, TransactionJson, TransactionStatus,
};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Account {
    /// An address, a development account or a key file.
    account: String,
    /// As it was after that block.
    #[arg(long)]
    height: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    /// The contract that emitted them.
    contract: String,
    /// Only those with this topic.
    #[arg(long, value_name = "HASH")]
    topic: Option<Hash>,
    /// From this block on.
    #[arg(long, value_name = "HEIGHT")]
    from: Option<u64>,
    /// Up to this block.
    #[arg(long, value_name = "HEIGHT")]
    to: Option<u64>,
    /// The `next` of the page before this one.
    #[arg(long, value_name = "NEXT")]
    after: Option<String>,
    /// At most so many.
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Tx {
    /// The transaction's hash.
    hash: Hash,
}

#[derive(Debug, Args)]
pub(crate) struct Block {
    /// Number of blocks before it [default: the last block].
    height: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Methods {
    /// The contract.
    contract: String,
}

#[derive(Debug, Args)]
pub(crate) struct Status;

impl Account {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let names = remote.names().await?;
        let address = names.resolve(&self.account)?;
        let answer = remote.client().account(&address, self.height).await?;
        output.show(&answer, |answer| {
            let mut table = Table::default();
            table
                .row("address", names.show(&answer.address))
                .row("balance", grouped(answer.balance.0))
                .row("nonce", answer.nonce);
            if answer.next_nonce != answer.nonce {
                table.row("pending", answer.next_nonce.saturating_sub(answer.nonce));
            }
            if let Some(code) = &answer.code {
                table.row("code", code);
            }
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Events {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let contract = remote.names().await?.resolve(&self.contract)?;
        let answer = remote
            .client()
            .events(EventFilter {
                contract,
                topic: self.topic,
                from_height: self.from,
                to_height: self.to,
                after: self.after,
                limit: self.limit,
            })
            .await?;
        let mut words = Words::default();
        if !answer.events.is_empty() {
            words.learn_of(remote, &contract).await;
        }
        let decoded = answer.events.iter().map(|found| words.named(&found.event));
        let decoded = Some(decoded.collect());
        let answer = &answer;
        output.show(&WithWords { answer, decoded }, |_| {
            let mut table = Table::default();
            table.row("contract", contract);
            for found in &answer.events {
                let place = format!(
                    "{}-{}-{}",
                    found.height, found.transaction_index, found.event_index
                );
                table.row(place, words.show_event(&found.event));
            }
            match &answer.next {
                Some(next) => table.row("more", format!("--after {next}")),
                None => table.row("events", answer.events.len()),
            };
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Tx {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let names = remote.names().await?;
        let answer = remote.client().transaction(&self.hash).await?;
        let mut words = Words::default();
        if let (Some(transaction), Some(receipt)) = (&answer.transaction, &answer.receipt) {
            words = of_transaction(remote, &transaction.action, receipt).await;
            words.learn(remote, receipt).await;
        }
        let receipt = answer.receipt.as_ref();
        let decoded = receipt.and_then(|receipt| words.decoded(&receipt.outcome, &receipt.events));
        let answer = &answer;
        output.show(&WithWords { answer, decoded }, |_| {
            let mut table = Table::default();
            let status = match answer.status {
                TransactionStatus::Unknown => "unknown",
                TransactionStatus::Pending => "pending",
                TransactionStatus::Included => "included",
            };
            table.row("transaction", answer.hash).row("status", status);
            if let Some(transaction) = &answer.transaction {
                show_transaction(&mut table, transaction, &words, &names);
            }
            if let Some(receipt) = &answer.receipt {
                let limit = answer
                    .transaction
                    .as_ref()
                    .map(|transaction| transaction.fuel_limit);
                show_receipt(&mut table, receipt, limit, &words, &names);
            }
            table
        })?;
        if answer.status == TransactionStatus::Unknown {
            bail!("the node does not know transaction {}", self.hash);
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// What is known of what a transaction called. The contract may have been replaced since, or not have been created.
async fn of_transaction(remote: &Remote, action: &ActionJson, receipt: &ReceiptJson) -> Words {
    let (contract, method) = match action {
        ActionJson::Transfer { .. } | ActionJson::SetValidators { .. } => return Words::default(),
        ActionJson::Deploy { .. } => (receipt.contract, "init"),
        ActionJson::Call {
            contract, method, ..
        } => (Some(*contract), method.as_str()),
    };
    let Some(contract) = contract else {
        return Words::default();
    };
    match words::of_contract(remote, &contract).await {
        Ok(description) => Words::new(description, method, None),
        Err(_) => Words::default(),
    }
}

fn show_transaction(
    table: &mut Table,
    transaction: &TransactionJson,
    words: &Words,
    names: &Names,
) {
    table
        .row("sender", names.show(&transaction.sender))
        .row("nonce", transaction.nonce);
    match &transaction.action {
        ActionJson::Transfer { to, amount } => {
            table
                .row("transfers", grouped(amount.0))
                .row("to", names.show(to));
        }
        ActionJson::Deploy {
            code_bytes,
            input,
            value,
        } => {
            table.row("deploys", format!("{} bytes of code", grouped(*code_bytes)));
            show_given(table, input, value, words);
        }
        ActionJson::Call {
            contract,
            method,
            input,
            value,
        } => {
            table.row("calls", format!("{} of {contract}", printable(method)));
            show_given(table, input, value, words);
        }
        ActionJson::SetValidators { validators } => {
            for (validator, index) in validators.iter().zip(0..) {
                let label = if index == 0 { "validators" } else { "" };
                table.row(label, format!("{} with {}", validator.key, validator.power));
            }
        }
    }
}

fn show_given(table: &mut Table, input: &HexBytes, value: &Amount, words: &Words) {
    if !input.0.is_empty() {
        match words.args(&input.0) {
            Some(args) => table.row("input", printable(&args.to_string())),
            None => table.row("input", format!("0x{input}")),
        };
    }
    if value.0 > 0 {
        table.row("value", grouped(value.0));
    }
}

impl Block {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let answer = remote.client().block(self.height).await?;
        output.show(&answer, |answer| {
            let mut table = Table::default();
            table
                .row("block", answer.hash)
                .row("height", answer.header.height)
                .row("parent", answer.header.parent)
                .row(
                    "timestamp",
                    format!("{} ms since 1970", answer.header.timestamp_ms),
                )
                .row("proposer", answer.header.proposer)
                .row("state root", answer.header.state_root)
                .row("base price", grouped(answer.header.base_price))
                .row("fuel used", grouped(answer.header.fuel_used))
                .row("transactions", answer.transactions.len());
            for (hash, index) in answer.transactions.iter().zip(0..) {
                table.row(format!("  {index}"), hash);
            }
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Methods {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let contract = remote.names().await?.resolve(&self.contract)?;
        let answer = remote.client().methods(&contract).await?;
        output.show(&answer, |answer| {
            let mut table = Table::default();
            table.row("contract", answer.contract);
            for (method, index) in answer.methods.iter().zip(0..) {
                table.row(if index == 0 { "methods" } else { "" }, printable(method));
            }
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Status {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let answer = remote.status().await?;
        output.show(&answer, |answer| {
            let state = match (answer.state, &answer.failure) {
                (NodeState::Running, _) => "running".to_owned(),
                (NodeState::Stopping, _) => "stopping".to_owned(),
                (NodeState::Failed, None) => "failed".to_owned(),
                (NodeState::Failed, Some(reason)) => format!("failed: {}", printable(reason)),
            };
            let metering = &answer.metering;
            let mut table = Table::default();
            table
                .row("version", &answer.version)
                .row("state", state)
                .row("chain", answer.chain_id)
                .row("protocol", answer.protocol_version)
                .row("height", answer.height)
                .row("head", answer.head)
                .row("metering", answer.mode)
                .row("mempool", {
                    let mempool = &answer.mempool;
                    format!(
                        "{} transactions, {} bytes",
                        grouped(mempool.transactions),
                        grouped(mempool.bytes)
                    )
                })
                .row("state root", answer.state_root);
            if let Some(consensus) = &answer.consensus {
                table.row(
                    "consensus",
                    format!(
                        "height {}, round {}, {} peers",
                        consensus.height, consensus.round, consensus.peers
                    ),
                );
                match (&consensus.validator, consensus.sits_out) {
                    (Some(validator), false) => table.row("validator", validator),
                    (Some(validator), true) => {
                        table.row("validator", format!("{validator}, which signs nothing for now"))
                    }
                    (None, _) => table.row("validator", "none: it follows"),
                };
            }
            if let Some(peers) = answer.gossip_peers {
                table.row("gossip", format!("{peers} peers"));
            }
            table
                .row("uptime", format!("{} s", grouped(answer.uptime_ms / 1000)))
                .row(
                    "fuel checks",
                    format!(
                        "{} executions, {} checks sent, {} landed, {} stopped one, at most {} fuel over the limit",
                        grouped(metering.executions),
                        grouped(metering.checks_sent),
                        grouped(metering.checks_landed),
                        grouped(metering.stopped),
                        grouped(metering.max_overshoot_fuel)
                    ),
                );
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
