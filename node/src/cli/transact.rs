//! Commands that send transactions: `deploy`, `call`, `transfer`.

use super::names::Names;
use super::number;
use super::output::{Output, Table, grouped};
use super::remote::Remote;
use super::words::{self, MethodArgs, WithWords, Words};
use anyhow::{Context, bail};
use clap::Args;
use slackline_client::{Error, ExecuteError, Retry};
use slackline_executor::{Action, Transaction};
use slackline_node::args::ReturnType;
use slackline_node::rpc::api::MAX_TIMEOUT_MS;
use slackline_node::rpc::types::{
    OutcomeJson, OutcomeKind, ReceiptJson, StatusJson, SubmitStatus, Submitted,
};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Deposit limit of transactions if nothing else is said, in the smallest unit of the currency: for 10 MB of storage, far more than a
/// transaction usually adds.
const DEFAULT_DEPOSIT: u128 = 1_000_000_000;

/// Fuel limit of a transaction unless told otherwise; a deployment gets what its code costs on top.
const DEFAULT_FUEL: u64 = 100_000_000;

/// Who pays for a transaction, and how much.
#[derive(Debug, Args)]
pub(super) struct Terms {
    /// Who signs and pays: a key file, or a development account [default: alice on a development chain].
    #[arg(long, value_name = "NAME|KEYFILE")]
    from: Option<String>,
    /// The most fuel that the transaction may use [default: 100,000,000, and for a deployment what its code costs].
    #[arg(long, value_name = "FUEL", value_parser = number::<u64>)]
    fuel_limit: Option<u64>,
    /// The most to pay for a unit of fuel: the block's base price and the tip, if that is less.
    #[arg(long, value_name = "PRICE", default_value = "1", value_parser = number::<u64>)]
    fuel_price: u64,
    /// What to pay the proposer above the block's base price, for a unit of fuel.
    #[arg(long, value_name = "PRICE", default_value = "0", value_parser = number::<u64>)]
    tip: u64,
    /// The most to pay as a refundable deposit for the storage that contracts hold because of it, in the smallest unit of the currency
    /// [default: what the sender has left, but at most 1,000,000,000; nothing for a transfer].
    #[arg(long, value_name = "AMOUNT", value_parser = number::<u128>)]
    deposit_limit: Option<u128>,
    /// Number of the sender's transactions before this one [default: as the node counts, with those pending].
    #[arg(long)]
    nonce: Option<u64>,
    /// How many seconds to wait for the receipt of a final block. The transaction is sent again for as long as there is none.
    #[arg(long, value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(0..=MAX_TIMEOUT_MS / 1000))]
    timeout: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Deploy {
    /// The wasm file.
    file: PathBuf,
    #[command(flatten)]
    args: MethodArgs,
    /// Currency to give to the contract.
    #[arg(long, value_name = "AMOUNT", default_value = "0", value_parser = number::<u128>)]
    value: u128,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
pub(crate) struct Call {
    /// The contract.
    contract: String,
    /// The method.
    method: String,
    #[command(flatten)]
    args: MethodArgs,
    /// Currency to send to the contract with the call.
    #[arg(long, value_name = "AMOUNT", default_value = "0", value_parser = number::<u128>)]
    value: u128,
    /// The type of what the method returns, to show it: a type as in --arg, unit, or option:TYPE.
    #[arg(long, value_name = "TYPE")]
    returns: Option<ReturnType>,
    #[command(flatten)]
    terms: Terms,
}

#[derive(Debug, Args)]
pub(crate) struct Transfer {
    /// Who gets it: an address, a development account or a key file.
    to: String,
    /// How much, in the smallest unit of the currency.
    #[arg(value_parser = number::<u128>)]
    amount: u128,
    #[command(flatten)]
    terms: Terms,
}

impl Deploy {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let status = remote.status().await?;
        let code = read(&self.file, status.params.code_bytes)?;
        let names = Names::on_chain(status.chain_id);
        let description = words::of_code(&code);
        let input = self.args.encode("init", &description, &names)?;
        let words = Words::new(description, "init", None);
        let bytes = code.len() as u64 + input.len() as u64;
        let per_byte = status
            .params
            .deploy_per_byte_fuel
            .saturating_add(status.params.transaction_per_byte_fuel);
        let fuel = DEFAULT_FUEL
            .saturating_add(bytes.saturating_mul(per_byte))
            .min(status.params.transaction_fuel);
        let value = self.value;
        let action = Action::Deploy { code, input, value };
        self.terms
            .send(action, fuel, words, &status, remote, output)
            .await
    }
}

/// Reads a file of at most `limit` bytes.
pub(super) fn read(path: &Path, limit: u64) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .with_context(|| path.display().to_string())?;
    if bytes.len() as u64 > limit {
        bail!(
            "{} has more than {} bytes, the most that a contract may have",
            path.display(),
            grouped(limit)
        );
    }
    Ok(bytes)
}

impl Call {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let status = remote.status().await?;
        let names = Names::on_chain(status.chain_id);
        let contract = names.resolve(&self.contract)?;
        let description = words::of_contract(remote, &contract).await?;
        let input = self.args.encode(&self.method, &description, &names)?;
        let words = Words::new(description, &self.method, self.returns);
        let action = Action::Call {
            contract,
            method: self.method,
            input,
            value: self.value,
        };
        self.terms
            .send(action, DEFAULT_FUEL, words, &status, remote, output)
            .await
    }
}

impl Transfer {
    pub(crate) async fn run(self, remote: &Remote, output: &Output) -> anyhow::Result<ExitCode> {
        let status = remote.status().await?;
        let to = Names::on_chain(status.chain_id).resolve(&self.to)?;
        let action = Action::Transfer {
            to,
            amount: self.amount,
        };
        self.terms
            .send(
                action,
                DEFAULT_FUEL,
                Words::default(),
                &status,
                remote,
                output,
            )
            .await
    }
}

impl Terms {
    /// Sends an action without arguments or results.
    pub(super) async fn act(
        self,
        action: Action,
        status: &StatusJson,
        remote: &Remote,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let words = Words::default();
        self.send(action, DEFAULT_FUEL, words, status, remote, output)
            .await
    }

    async fn send(
        self,
        action: Action,
        default_fuel: u64,
        mut words: Words,
        status: &StatusJson,
        remote: &Remote,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let names = Names::on_chain(status.chain_id);
        let key = names.sender(self.from.as_deref())?;
        let account = remote.client().account(&key.address(), None).await?;
        let nonce = self.nonce.unwrap_or(account.next_nonce);
        let fuel_limit = self.fuel_limit.unwrap_or(default_fuel);
        let fee = u128::from(fuel_limit).saturating_mul(self.fuel_price.into());
        let default_deposit = match &action {
            Action::Transfer { .. } | Action::SetValidators { .. } => 0,
            Action::Deploy { value, .. } | Action::Call { value, .. } => account
                .balance
                .0
                .saturating_sub(fee)
                .saturating_sub(*value)
                .min(DEFAULT_DEPOSIT),
        };
        let transaction = Transaction {
            chain_id: status.chain_id,
            sender: key.public(),
            nonce,
            fuel_limit,
            fuel_price: self.fuel_price,
            tip: self.tip,
            deposit_limit: self.deposit_limit.unwrap_or(default_deposit),
            action,
        };
        let signed = transaction.sign(key.signing());
        let bytes = slackline_executor::encode(&signed).len() as u64;
        // The node would say so too, but not read so much before.
        if bytes > status.params.transaction_bytes {
            let (got, limit) = (grouped(bytes), grouped(status.params.transaction_bytes));
            bail!("the transaction has {got} bytes; at most {limit} are allowed");
        }
        let retry = Retry {
            deadline: Duration::from_secs(self.timeout),
            ..Retry::default()
        };
        let (status, receipt, reason) = match remote.client().execute(&signed, &retry).await {
            Ok(receipt) => (SubmitStatus::Final, Some(receipt), String::new()),
            Err(ExecuteError::Refused(error)) => return Err(Error::Refused(error).into()),
            Err(ExecuteError::Protocol(object)) => return Err(Error::Protocol(object).into()),
            Err(ExecuteError::Unknown { reason, .. }) => (SubmitStatus::Pending, None, reason),
        };
        let answer = Submitted {
            status,
            hash: signed.hash(),
            receipt,
            error: None,
            missing_nonce: None,
        };
        let mut decoded = None;
        if let Some(receipt) = &answer.receipt {
            words.learn(remote, receipt).await;
            decoded = words.decoded(&receipt.outcome, &receipt.events);
        }
        let answer = &answer;
        output.show(&WithWords { answer, decoded }, |_| {
            let mut table = Table::default();
            table.row("transaction", answer.hash);
            if let Some(receipt) = &answer.receipt {
                show_receipt(&mut table, receipt, Some(fuel_limit), &words, &names);
            }
            table
        })?;
        match &answer.receipt {
            Some(receipt) => Ok(exit_code(&receipt.outcome)),
            None => bail!(
                "not in a final block after {} seconds ({reason}); `slackline tx {}` will tell what became of it",
                self.timeout,
                answer.hash
            ),
        }
    }
}

/// 0 if the effects stand, else 1.
pub(super) fn exit_code(outcome: &OutcomeJson) -> ExitCode {
    match outcome.outcome {
        OutcomeKind::Success => ExitCode::SUCCESS,
        OutcomeKind::Revert | OutcomeKind::Abort => ExitCode::FAILURE,
    }
}

/// Adds what became of a transaction.
pub(super) fn show_receipt(
    table: &mut Table,
    receipt: &ReceiptJson,
    fuel_limit: Option<u64>,
    words: &Words,
    names: &Names,
) {
    table.row(
        "block",
        format!("{}, index {}", receipt.height, receipt.index),
    );
    words.show_outcome(table, &receipt.outcome, names);
    if let Some(contract) = &receipt.contract {
        table.row("contract", contract);
    }
    table
        .row("fuel used", fuel(receipt.fuel_used, fuel_limit))
        .row("fee", grouped(receipt.fee.0));
    if receipt.deposit != "0" {
        table.row("deposit", &receipt.deposit);
    }
    words.show_events(table, &receipt.events);
}

/// Fuel used, and of how much if that is known.
pub(super) fn fuel(used: u64, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!("{} of {}", grouped(used), grouped(limit)),
        None => grouped(used),
    }
}
