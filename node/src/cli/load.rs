//! `slackline load`: transactions at a rate, and how long they take to be in a block on disk; among validators that is final.
//!
//! ```text
//!   clients, of one account or more ─▶ wait for their turn ─▶ sign ─▶ a session (WebSocket) ─▶ node ─▶ receipts ─▶ latency since the turn
//! ```
//!
//! A turn is when the rate says that the transaction is due, not when it was sent: a node that makes everybody wait is not spared what that
//! delays. An account has one transaction under way; if all have, fewer are sent than the rate asks for, and the rate that was reached says so.
//! One whose fate is not known is sent again, the same bytes, in its account's next turn: another one with its nonce could not be in a block with it.
//! With `--batch` a client has several accounts, and submits the transactions of all of them in one call when the first of them is due.

use super::number;
use super::output::{Output, Table, grouped};
use super::remote::Remote;
use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};
use slackline_client::Client;
use slackline_executor::{Action, Address, SignedTransaction, Transaction};
use slackline_node::dev::dev_key;
use slackline_node::keys::Key;
use slackline_node::rpc::api::{MAX_SUBMITTED, MAX_TIMEOUT_MS};
use slackline_node::rpc::types::{OutcomeKind, ReceiptJson, SubmitStatus, Submitted, WaitUntil};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What each account gets to begin with besides what its transactions may cost, in the smallest unit of the currency: deposits for storage, and
/// the first steps of a price that rises.
const STAKE: u128 = 1_000_000_000;
const TRANSFER_FUEL: u64 = 300_000;
const TOKEN_FUEL: u64 = 3_000_000;
const DEPLOY_FUEL: u64 = 500_000_000;
/// A year: what is added to the time of now has to be a time.
const LONGEST_S: u64 = 366 * 24 * 60 * 60;
/// The code of [`RpcError::NonceTooLow`](slackline_client::RpcError::NonceTooLow).
const NONCE_TOO_LOW: i32 = 1005;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Currency between accounts.
    Transfers,
    /// A token between accounts.
    Token,
    /// Half and half.
    Mixed,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// What to send.
    #[arg(value_enum, default_value = "transfers")]
    workload: Workload,
    /// Transactions a second.
    #[arg(long, default_value = "500", value_parser = number::<u64>)]
    rate: u64,
    /// For how long, in seconds, after the ramp.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=LONGEST_S))]
    seconds: u64,
    /// Seconds in which the rate rises from nothing. What is sent then does not count.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(..=LONGEST_S))]
    ramp: u64,
    /// Accounts that send, each with one transaction under way.
    #[arg(long, default_value_t = 500)]
    accounts: usize,
    /// Transactions in a call, each of another account. Alone if 1.
    #[arg(long, default_value_t = 1)]
    batch: usize,
    /// Sessions with the node.
    #[arg(long, default_value_t = 8)]
    sessions: usize,
    /// More nodes to send to, in turn.
    #[arg(long = "also", value_name = "URL")]
    also: Vec<String>,
    /// The token contract, for another workload than transfers: target/contracts/token.wasm.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/contracts/token.wasm"
    )]
    token: PathBuf,
}

/// What happened.
#[derive(Default)]
struct Seen {
    /// Microseconds from turn to receipt.
    latencies: Mutex<Vec<u64>>,
    sent: AtomicU64,
    done: AtomicU64,
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Seen {
    fn done(&self, latency: u64) {
        let latencies = self.latencies.lock();
        latencies
            .unwrap_or_else(PoisonError::into_inner)
            .push(latency);
        self.done.fetch_add(1, Relaxed);
    }

    fn error(&self, text: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(text).or_default() += 1;
    }
}

struct Account {
    key: Key,
    nonce: u64,
    /// What may be in a block, or get into one.
    unknown: Option<SignedTransaction>,
}

/// Why there is no receipt.
struct Missing {
    text: String,
    then: Then,
}

/// What an account does in its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Sends the same bytes.
    Again,
    /// Sends others with the same nonce: those were refused.
    Anew,
    /// Asks for its nonce.
    Ask,
}

impl Account {
    /// After `signed` got no receipt.
    async fn follow(
        &mut self,
        then: Then,
        signed: SignedTransaction,
        stage: &Stage,
        session: usize,
    ) {
        match then {
            Then::Again => self.unknown = Some(signed),
            Then::Anew => {}
            Then::Ask => {
                let session = &stage.sessions[session % stage.sessions.len()];
                match session.account(&self.key.address(), None).await {
                    Ok(account) => self.nonce = account.next_nonce,
                    // In the turn after the next one.
                    Err(_) => self.unknown = Some(signed),
                }
            }
        }
    }
}

struct Stage {
    chain_id: u64,
    price: u64,
    token: Option<Address>,
    sessions: Vec<Client>,
    seen: Seen,
}

impl Stage {
    fn sign(&self, key: &Key, nonce: u64, fuel_limit: u64, action: Action) -> SignedTransaction {
        Transaction {
            chain_id: self.chain_id,
            sender: key.public(),
            nonce,
            fuel_limit,
            fuel_price: self.price,
            tip: 0,
            deposit_limit: 1_000_000,
            action,
        }
        .sign(key.signing())
    }

    /// Waits until all nodes have the block at `height`: to those that are behind the accounts are poor.
    async fn reach(&self, height: u64) -> anyhow::Result<()> {
        let reached = async {
            for session in &self.sessions {
                while session.status().await?.height < height {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            anyhow::Ok(())
        };
        let patience = Duration::from_millis(MAX_TIMEOUT_MS);
        let reached = tokio::time::timeout(patience, reached).await;
        reached.with_context(|| format!("a node does not get to height {height}"))?
    }

    async fn included(&self, signed: &SignedTransaction) -> anyhow::Result<ReceiptJson> {
        let mut receipts = self.all_included(0, std::slice::from_ref(signed)).await;
        receipts
            .remove(0)
            .map_err(|missing| anyhow::Error::msg(missing.text))
    }

    /// The receipt of each, once it is in a final block, or why there is none.
    async fn all_included(
        &self,
        session: usize,
        signed: &[SignedTransaction],
    ) -> Vec<Result<ReceiptJson, Missing>> {
        let session = &self.sessions[session % self.sessions.len()];
        let patience = Duration::from_millis(MAX_TIMEOUT_MS);
        let answers = match signed {
            [one] => {
                let answer = session.submit(one, WaitUntil::Final, patience).await;
                answer.map(|answer| vec![answer])
            }
            many => session.submit_all(many, WaitUntil::Final, patience).await,
        };
        let unknown = |text: String| Missing {
            text,
            then: Then::Again,
        };
        let receipt = |submitted: Submitted| match (submitted.receipt, submitted.error) {
            (Some(receipt), _) => Ok(receipt),
            (None, Some(error)) => Err(Missing {
                text: format!("{} ({})", error.message, error.code),
                then: match submitted.status {
                    SubmitStatus::Error if error.code == NONCE_TOO_LOW => Then::Ask,
                    SubmitStatus::Error if !error.accepted => Then::Anew,
                    _ => Then::Again,
                },
            }),
            (None, None) => {
                let seconds = MAX_TIMEOUT_MS / 1000;
                Err(unknown(format!("not included within {seconds} s")))
            }
        };
        match answers {
            Ok(answers) => answers.into_iter().map(receipt).collect(),
            Err(error) => {
                let missing = signed.iter().map(|_| Err(unknown(error.to_string())));
                missing.collect()
            }
        }
    }

    fn action(&self, workload: Workload, turn: u64, to: Address) -> anyhow::Result<(Action, u64)> {
        let token = match workload {
            Workload::Transfers => None,
            Workload::Token => self.token,
            Workload::Mixed => self.token.filter(|_| turn % 2 == 1),
        };
        Ok(match token {
            None => (Action::Transfer { to, amount: 1 }, TRANSFER_FUEL),
            Some(contract) => {
                let action = Action::Call {
                    contract,
                    method: "transfer".to_owned(),
                    input: borsh::to_vec(&(to, 1u128))?,
                    value: 0,
                };
                (action, TOKEN_FUEL)
            }
        })
    }
}

fn account(seed: &str, n: usize) -> Key {
    Key::from_seed(Sha256::digest(format!("slackline load {seed} {n}")).into())
}

impl Load {
    pub(crate) async fn run(
        self,
        remote: &Remote,
        url: &str,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        ensure!(
            self.rate > 0 && self.accounts > 0 && self.sessions > 0,
            "--rate, --accounts and --sessions must not be 0"
        );
        ensure!(
            (1..=MAX_SUBMITTED).contains(&self.batch),
            "--batch must be between 1 and {MAX_SUBMITTED}"
        );
        let status = remote.status().await?;
        let rich =
            dev_key("alice").filter(|_| status.chain_id == slackline_node::dev::DEV_CHAIN_ID);
        let rich = rich.context(
            "load needs the development accounts: a chain of `slackline dev`, `init` or `testnet`",
        )?;
        let stage = Arc::new(self.prepare(remote, url, &rich, status.chain_id).await?);
        let accounts = self.fund(&stage, remote, &rich).await?;
        let before = remote.status().await?.height;
        stage.reach(before).await?;
        let (elapsed, first) = self.send(&stage, accounts).await;
        // Of the same node, which may have lost some.
        let height = stage.sessions[0].status().await?.height;
        self.report(&stage, elapsed, height.saturating_sub(first?), output)
    }

    async fn prepare(
        &self,
        remote: &Remote,
        url: &str,
        rich: &Key,
        chain_id: u64,
    ) -> anyhow::Result<Stage> {
        let mut sessions = Vec::new();
        for n in 0..self.sessions {
            let urls: Vec<&str> = std::iter::once(url)
                .chain(self.also.iter().map(String::as_str))
                .collect();
            let url = urls[n % urls.len()].replacen("http", "ws", 1);
            let session = Client::new(&url)?;
            // Opens it.
            session.status().await?;
            sessions.push(session);
        }
        let head = remote.client().block(None).await?;
        let mut stage = Stage {
            chain_id,
            // The base price may rise while this goes on.
            price: head.header.base_price.saturating_mul(1_000),
            token: None,
            sessions,
            seen: Seen::default(),
        };
        if self.workload != Workload::Transfers {
            let code = std::fs::read(&self.token).with_context(|| {
                format!("{} (made by `cargo xtask contracts`)", self.token.display())
            })?;
            let nonce = self.nonce(remote, rich).await?;
            let input = borsh::to_vec(&(1u128 << 100))?;
            let deploy = stage.sign(
                rich,
                nonce,
                DEPLOY_FUEL,
                Action::Deploy {
                    code,
                    input,
                    value: 0,
                },
            );
            let receipt = stage.included(&deploy).await?;
            stage.token = receipt.contract;
            ensure!(
                stage.token.is_some(),
                "the token was not deployed: {:?}",
                receipt.outcome
            );
        }
        Ok(stage)
    }

    async fn nonce(&self, remote: &Remote, key: &Key) -> anyhow::Result<u64> {
        let account = remote.client().account(&key.address(), None).await?;
        Ok(account.next_nonce)
    }

    /// Gives each account something to spend. The accounts are new ones, so that nobody else uses their nonces.
    async fn fund(
        &self,
        stage: &Arc<Stage>,
        remote: &Remote,
        rich: &Key,
    ) -> anyhow::Result<Vec<Account>> {
        let mut nonce = self.nonce(remote, rich).await?;
        let seed = format!("{} {nonce}", rich.address());
        let keys: Vec<Key> = (0..self.accounts).map(|n| account(&seed, n)).collect();
        let seconds = u128::from(self.ramp) + u128::from(self.seconds);
        let turns = u128::from(self.rate) * seconds / self.accounts.max(1) as u128;
        let fuel = stage.token.map_or(TRANSFER_FUEL, |_| TOKEN_FUEL);
        // Twice, as turns are not spread evenly.
        let amount = (u128::from(fuel) * u128::from(stage.price))
            .saturating_mul(turns.saturating_mul(2).saturating_add(2))
            .saturating_add(STAKE);
        let bar = progress(self.accounts as u64, "funding accounts");
        for part in keys.chunks(200) {
            // In one session they arrive in order.
            let mut waiting = Vec::new();
            for key in part {
                let to = key.address();
                let mut actions = vec![(Action::Transfer { to, amount }, TRANSFER_FUEL)];
                if let Some(contract) = stage.token {
                    let input = borsh::to_vec(&(to, 1u128 << 40))?;
                    let method = "transfer".to_owned();
                    actions.push((
                        Action::Call {
                            contract,
                            method,
                            input,
                            value: 0,
                        },
                        TOKEN_FUEL,
                    ));
                }
                for (action, fuel) in actions {
                    let signed = stage.sign(rich, nonce, fuel, action);
                    nonce += 1;
                    let accepted =
                        stage.sessions[0].submit(&signed, WaitUntil::None, Duration::ZERO);
                    let accepted = accepted.await.context("funding an account")?;
                    if let Some(error) = accepted.error {
                        bail!("funding an account: {}", error.message);
                    }
                    waiting.push(signed);
                }
                bar.inc(1);
            }
            if let Some(last) = waiting.last() {
                let receipt = stage.included(last).await?;
                ensure!(
                    receipt.outcome.outcome == OutcomeKind::Success,
                    "funding an account: {:?}",
                    receipt.outcome
                );
            }
        }
        bar.finish_and_clear();
        Ok(keys
            .into_iter()
            .map(|key| Account {
                key,
                nonce: 0,
                unknown: None,
            })
            .collect())
    }

    /// Returns how long the part that counts has taken, and how high the chain was when it began.
    async fn send(
        &self,
        stage: &Arc<Stage>,
        accounts: Vec<Account>,
    ) -> (Duration, anyhow::Result<u64>) {
        let addresses: Arc<Vec<Address>> = Arc::new(
            accounts
                .iter()
                .map(|account| account.key.address())
                .collect(),
        );
        let start = Instant::now();
        let counted = start + Duration::from_secs(self.ramp);
        let end = counted + Duration::from_secs(self.seconds);
        let turns = Arc::new(AtomicU64::new(0));
        let first = tokio::spawn({
            let stage = stage.clone();
            async move {
                tokio::time::sleep_until(counted.into()).await;
                stage.sessions[0].status().await
            }
        });
        let in_ramp = self.rate.saturating_mul(self.ramp) / 2;
        let all = self.rate.saturating_mul(self.seconds);
        let bar = progress(all.saturating_add(in_ramp), "sending");
        let mut accounts = accounts.into_iter().enumerate();
        let clients = std::iter::from_fn(|| {
            let clients: Vec<_> = accounts.by_ref().take(self.batch).collect();
            (!clients.is_empty()).then_some(clients)
        });
        let tasks: Vec<_> = clients
            .enumerate()
            .map(|(session, mut accounts)| {
                let (stage, addresses, turns, bar) =
                    (stage.clone(), addresses.clone(), turns.clone(), bar.clone());
                let (workload, rate, ramp) = (self.workload, self.rate, self.ramp);
                tokio::spawn(async move {
                    loop {
                        let turn = turns.fetch_add(accounts.len() as u64, Relaxed);
                        let due = start + due(turn, rate, ramp);
                        if due >= end {
                            return;
                        }
                        tokio::time::sleep_until(due.into()).await;
                        let mut signed = Vec::with_capacity(accounts.len());
                        for ((n, account), turn) in accounts.iter().zip(turn..) {
                            if let Some(unknown) = &account.unknown {
                                signed.push(unknown.clone());
                                continue;
                            }
                            let to = addresses[(n + 1 + turn as usize % 7) % addresses.len()];
                            let (action, fuel) = match stage.action(workload, turn, to) {
                                Ok(action) => action,
                                Err(error) => return stage.seen.error(error.to_string()),
                            };
                            signed.push(stage.sign(&account.key, account.nonce, fuel, action));
                        }
                        let counts = due >= counted;
                        if counts {
                            stage.seen.sent.fetch_add(signed.len() as u64, Relaxed);
                        }
                        let receipts = stage.all_included(session, &signed).await;
                        let latency = due.elapsed().as_micros() as u64;
                        let sent = accounts.iter_mut().zip(signed);
                        for (((_, account), signed), receipt) in sent.zip(receipts) {
                            account.unknown = None;
                            let missing = match receipt {
                                Ok(receipt) => {
                                    account.nonce = signed.transaction.nonce + 1;
                                    let outcome = receipt.outcome.outcome;
                                    if counts {
                                        stage.seen.done(latency);
                                    }
                                    bar.inc(1);
                                    if outcome == OutcomeKind::Success {
                                        continue;
                                    }
                                    format!("{outcome:?}")
                                }
                                Err(missing) => {
                                    let then = missing.then;
                                    account.follow(then, signed, &stage, session).await;
                                    missing.text
                                }
                            };
                            if counts {
                                stage.seen.error(missing);
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            if let Err(error) = task.await {
                stage.seen.error(error.to_string());
            }
        }
        bar.finish_and_clear();
        let elapsed = counted.elapsed();
        let first = match first.await {
            Ok(status) => status.map(|status| status.height).map_err(Into::into),
            Err(error) => Err(error.into()),
        };
        (elapsed, first)
    }

    fn report(
        &self,
        stage: &Stage,
        elapsed: Duration,
        blocks: u64,
        output: &Output,
    ) -> anyhow::Result<ExitCode> {
        let mut latencies = std::mem::take(
            &mut *stage
                .seen
                .latencies
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        latencies.sort_unstable();
        if latencies.is_empty() {
            let errors = stage
                .seen
                .errors
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            bail!("nothing was included: {errors:?}");
        }
        let at = |q: f64| latencies[((latencies.len() - 1) as f64 * q).round() as usize];
        let (sent, done) = (stage.seen.sent.load(Relaxed), stage.seen.done.load(Relaxed));
        let rate = done as f64 / elapsed.as_secs_f64();
        let errors = stage
            .seen
            .errors
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let failed: u64 = errors.values().sum();
        let latency = json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0),
        });
        let answer = json!({
            "workload": format!("{:?}", self.workload).to_lowercase(),
            "target_per_second": self.rate,
            "batch": self.batch,
            "included_per_second": rate,
            "sent": sent,
            "included": done,
            "blocks": blocks,
            "errors": errors,
            // No node stores a block that is not decided.
            "submit_to_included_us": latency,
            "submit_to_final_us": latency,
        });
        output.show(&answer, |_| {
            let ms = |us: u64| format!("{:.1} ms", us as f64 / 1e3);
            let mut table = Table::default();
            table
                .row(
                    "sent",
                    format!(
                        "{} in {:.1} s, of {} a second asked for",
                        grouped(sent),
                        elapsed.as_secs_f64(),
                        grouped(self.rate)
                    ),
                )
                .row(
                    "included",
                    format!(
                        "{}, {rate:.0} a second, in {} blocks",
                        grouped(done),
                        grouped(blocks)
                    ),
                )
                .row("latency", "submitted to included, which is final")
                .row("p50", ms(at(0.5)))
                .row("p90", ms(at(0.9)))
                .row("p99", ms(at(0.99)))
                .row("max", ms(at(1.0)));
            for (error, count) in &errors {
                table.row("errors", format!("{} times: {error}", grouped(*count)));
            }
            table
        })?;
        Ok(if failed == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// When a turn is, after the start: the rate rises evenly during the ramp, so that it covers half as many turns as the same time after it.
fn due(turn: u64, rate: u64, ramp: u64) -> Duration {
    let (turn, rate, ramp) = (turn as f64, rate as f64, ramp as f64);
    let in_ramp = rate * ramp / 2.0;
    Duration::from_secs_f64(if turn < in_ramp {
        (2.0 * turn * ramp / rate).sqrt()
    } else {
        ramp + (turn - in_ramp) / rate
    })
}

fn progress(length: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(what);
    match ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_at_the_rate_after_the_ramp() {
        assert_eq!(due(0, 100, 2), Duration::ZERO);
        assert_eq!(due(100, 100, 2), Duration::from_secs(2));
        assert_eq!(due(300, 100, 2), Duration::from_secs(4));
        assert_eq!(due(25, 100, 2), Duration::from_secs(1));
        assert_eq!(due(50, 100, 0), Duration::from_millis(500));
        let turns: Vec<Duration> = (0..500).map(|turn| due(turn, 100, 2)).collect();
        assert!(turns.windows(2).all(|pair| pair[0] <= pair[1]));
    }
}
