//! What methods take and return, as JSON.
//!
//! Hashes and addresses are 64 hexadecimal digits, byte strings are hexadecimal digits (an optional `0x` is accepted),
//! amounts of currency are decimal strings because they do not fit into the numbers of most JSON readers. Fuel,
//! heights, nonces and sizes are numbers. Times are in milliseconds.

use crate::error::RpcError;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use slackline_types::trace::CallTrace;
use slackline_types::{
    AbortReason, Account, Action, Address, Block, Event, Hash, Header, Outcome, PublicKey, Receipt,
    SignedTransaction, Validator,
};
use std::fmt;

/// An amount in the smallest unit of the currency; a decimal string in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(pub u128);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map(Amount)
            .map_err(|_| D::Error::custom(format!("{text:?} is not an amount")))
    }
}

/// A byte string; hexadecimal digits in JSON.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HexBytes(pub Vec<u8>);

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for HexBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HexBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HexBytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_hex(&text).map(HexBytes).map_err(D::Error::custom)
    }
}

/// Parses hexadecimal digits, with or without `0x`.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    hex::decode(text.strip_prefix("0x").unwrap_or(text))
        .map_err(|error| format!("not hexadecimal: {error}"))
}

/// What [`submit_transaction`](crate::api::ApiClient::submit_transaction) waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitUntil {
    /// Nothing: answers as soon as the transaction is accepted.
    None,
    /// The transaction is in a block that is on disk.
    #[default]
    Included,
    /// And that block is decided: nobody can undo it. Where one node makes the blocks that is the same. Among validators, too, a block is on disk
    /// only when it is decided; one that was imported without its certificate stays `"included"`.
    Final,
}

/// How far a submitted transaction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubmitStatus {
    /// Accepted, and not in a block yet.
    Pending,
    /// Submitted before, and not in a block yet.
    Duplicate,
    /// In a block that is on disk: the receipt is there.
    Included,
    /// That was waited for, and the block is decided.
    Final,
    /// Not accepted now, or forgotten by a node that is full, stops or has failed: the same bytes may be accepted later. `error` says why.
    TryAgainLater,
    /// Refused, or dropped for another reason than room or time. `error` says why, and whether the node had accepted it before: then another one may
    /// still put it into a block.
    Error,
}

/// Answer to [`submit_transaction`](crate::api::ApiClient::submit_transaction).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submitted {
    /// How far it got.
    pub status: SubmitStatus,
    /// The transaction's hash, by which to ask for it.
    pub hash: Hash,
    /// What became of it, if it is in a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptJson>,
    /// Why this node is not going to put it into one, with status `"try_again_later"` or `"error"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorJson>,
    /// The sender's lowest nonce that it has to wait for, as the node has no transaction with it: that may be on its way from another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_nonce: Option<u64>,
}

impl Submitted {
    /// A transaction that was not accepted.
    pub fn refused(hash: Hash, error: RpcError) -> Submitted {
        // What says nothing about the transaction itself.
        let later = matches!(
            error,
            RpcError::TryAgainLater { .. }
                | RpcError::NodeStopping
                | RpcError::NodeFailed { .. }
                | RpcError::Evicted { .. }
                | RpcError::Expired { .. }
                | RpcError::Storage { .. }
                | RpcError::Internal { .. }
        );
        Submitted {
            status: match later {
                true => SubmitStatus::TryAgainLater,
                false => SubmitStatus::Error,
            },
            hash,
            receipt: None,
            error: Some(error.into()),
            missing_nonce: None,
        }
    }

    /// A transaction that was accepted, and dropped before it was in a block.
    pub fn dropped(hash: Hash, error: RpcError) -> Submitted {
        let mut submitted = Submitted::refused(hash, error);
        if let Some(error) = &mut submitted.error {
            error.accepted = true;
        }
        submitted
    }
}

/// An error inside an answer, with what the error object of JSON-RPC has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorJson {
    /// Says which kind of error.
    pub code: i32,
    /// For people.
    pub message: String,
    /// For programs.
    pub data: RpcError,
    /// Whether it is about a transaction that the node had accepted, and so perhaps told others of: they may still put it into a block.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
}

impl From<RpcError> for ErrorJson {
    fn from(error: RpcError) -> ErrorJson {
        ErrorJson {
            code: error.code(),
            message: error.to_string(),
            data: error,
            accepted: false,
        }
    }
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStatus {
    /// Never seen, or left out of a block, or forgotten by a restart before it was in one.
    Unknown,
    /// Waiting for a block, or in one that is not on disk yet.
    Pending,
    /// In a block that is on disk.
    Included,
}

/// Answer to [`get_transaction`](crate::api::ApiClient::get_transaction).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionAnswer {
    /// Where it is.
    pub status: TransactionStatus,
    /// Its hash.
    pub hash: Hash,
    /// What it says, unless it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<TransactionJson>,
    /// What became of it, if it is in a block.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<ReceiptJson>,
    /// Whether that block is decided: see [`WaitUntil::Final`].
    #[serde(rename = "final", default)]
    pub is_final: bool,
    /// What it waits for, if that is a nonce: see [`Submitted::missing_nonce`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing_nonce: Option<u64>,
}

/// A transaction, without its signature and without the code that it deploys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionJson {
    /// The sender's account.
    pub sender: Address,
    /// The sender's key.
    pub sender_key: PublicKey,
    /// Number of the sender's transactions before it.
    pub nonce: u64,
    /// The most fuel that it may use.
    pub fuel_limit: u64,
    /// The most that a unit of fuel may cost.
    pub fuel_price: u64,
    /// The most of that which the proposer gets above the base price.
    pub tip: u64,
    /// The most that it may pay as a deposit for storage.
    pub deposit_limit: Amount,
    /// What it does.
    pub action: ActionJson,
}

/// What a transaction does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ActionJson {
    /// Moves currency.
    Transfer {
        /// Receiver.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// Creates a contract.
    Deploy {
        /// Size of the code.
        code_bytes: u64,
        /// Input of `init`.
        input: HexBytes,
        /// Currency for the contract.
        value: Amount,
    },
    /// Calls a contract.
    Call {
        /// The contract.
        contract: Address,
        /// The method.
        method: String,
        /// Its input.
        input: HexBytes,
        /// Currency for the contract.
        value: Amount,
    },
    /// Says who votes.
    SetValidators {
        /// All of them.
        validators: Vec<Validator>,
    },
}

impl From<&SignedTransaction> for TransactionJson {
    fn from(signed: &SignedTransaction) -> TransactionJson {
        let transaction = &signed.transaction;
        TransactionJson {
            sender: transaction.sender_address(),
            sender_key: transaction.sender,
            nonce: transaction.nonce,
            fuel_limit: transaction.fuel_limit,
            fuel_price: transaction.fuel_price,
            tip: transaction.tip,
            deposit_limit: Amount(transaction.deposit_limit),
            action: match &transaction.action {
                Action::Transfer { to, amount } => ActionJson::Transfer {
                    to: *to,
                    amount: Amount(*amount),
                },
                Action::Deploy { code, input, value } => ActionJson::Deploy {
                    code_bytes: code.len() as u64,
                    input: HexBytes(input.clone()),
                    value: Amount(*value),
                },
                Action::Call {
                    contract,
                    method,
                    input,
                    value,
                } => ActionJson::Call {
                    contract: *contract,
                    method: method.clone(),
                    input: HexBytes(input.clone()),
                    value: Amount(*value),
                },
                Action::SetValidators { validators } => ActionJson::SetValidators {
                    validators: validators.clone(),
                },
            },
        }
    }
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeKind {
    /// Its effects stand.
    Success,
    /// The contract gave up.
    Revert,
    /// It was stopped.
    Abort,
}

/// Why an execution was stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbortJson {
    /// `out_of_fuel`, `stack_exhausted`, `trap` or `host_interface`.
    pub kind: String,
    /// Which trap, or which rule of the host interface.
    pub detail: Option<String>,
    /// All of that as a sentence.
    pub text: String,
}

impl From<&AbortReason> for AbortJson {
    fn from(reason: &AbortReason) -> AbortJson {
        let (kind, detail) = match reason {
            AbortReason::OutOfFuel => ("out_of_fuel", None),
            AbortReason::StackExhausted => ("stack_exhausted", None),
            AbortReason::Trap(detail) => ("trap", Some(detail.clone())),
            AbortReason::HostInterface(detail) => ("host_interface", Some(detail.clone())),
        };
        AbortJson {
            kind: kind.to_owned(),
            detail,
            text: reason.to_string(),
        }
    }
}

/// How an execution ended, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeJson {
    /// How it ended.
    pub outcome: OutcomeKind,
    /// What the contract returned, or reverted with; empty after an abort.
    pub data: HexBytes,
    /// What the contract reverted with, if that is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Why it was stopped, after an abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortJson>,
}

impl From<&Outcome> for OutcomeJson {
    fn from(outcome: &Outcome) -> OutcomeJson {
        match outcome {
            Outcome::Success { data } => OutcomeJson {
                outcome: OutcomeKind::Success,
                data: HexBytes(data.clone()),
                message: None,
                abort: None,
            },
            Outcome::Revert { data } => OutcomeJson {
                outcome: OutcomeKind::Revert,
                data: HexBytes(data.clone()),
                message: std::str::from_utf8(data).ok().map(str::to_owned),
                abort: None,
            },
            Outcome::Abort(reason) => OutcomeJson {
                outcome: OutcomeKind::Abort,
                data: HexBytes::default(),
                message: None,
                abort: Some(reason.into()),
            },
        }
    }
}

/// What a contract emitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventJson {
    /// The contract.
    pub contract: Address,
    /// What the event can be found by.
    pub topics: Vec<Hash>,
    /// The rest of it.
    pub data: HexBytes,
}

impl From<&Event> for EventJson {
    fn from(event: &Event) -> EventJson {
        EventJson {
            contract: event.contract,
            topics: event.topics.clone(),
            data: HexBytes(event.data.clone()),
        }
    }
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptJson {
    /// The transaction.
    pub transaction: Hash,
    /// Height of its block.
    pub height: u64,
    /// Position in its block.
    pub index: u32,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: OutcomeJson,
    /// Fuel paid for.
    pub fuel_used: u64,
    /// What was paid.
    pub fee: Amount,
    /// The part of the fee that nobody gets.
    pub burnt: Amount,
    /// What was paid as deposits for storage, less what was refunded: a decimal number, negative if more was refunded.
    pub deposit: String,
    /// What contracts emitted, in order.
    pub events: Vec<EventJson>,
    /// The contract created, after a deployment.
    pub contract: Option<Address>,
}

impl From<&Receipt> for ReceiptJson {
    fn from(receipt: &Receipt) -> ReceiptJson {
        ReceiptJson {
            transaction: receipt.transaction,
            height: receipt.height,
            index: receipt.index,
            outcome: (&receipt.outcome).into(),
            fuel_used: receipt.fuel_used,
            fee: Amount(receipt.fee),
            burnt: Amount(receipt.burnt),
            deposit: receipt.deposit.to_string(),
            events: receipt.events.iter().map(EventJson::from).collect(),
            contract: receipt.contract,
        }
    }
}

/// What [`subscribe_blocks`](crate::api::ApiClient::subscribe_blocks) sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockNewsJson {
    /// The block's hash.
    pub hash: Hash,
    /// Its header.
    pub header: Header,
    /// The hashes of its transactions, in order.
    pub transactions: Vec<Hash>,
}

/// Answer to [`simulate_transaction`](crate::api::ApiClient::simulate_transaction).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulationJson {
    /// What the transaction would come to.
    pub receipt: ReceiptJson,
    /// The lowest fuel limit with which it comes to that, or at most a thousandth more; the lowest that is known to do if finding out would
    /// take more fuel than the node's views may; not there after an abort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum_fuel_limit: Option<u64>,
    /// The keys that contracts would use, by contract and key.
    pub footprint: Vec<FootprintJson>,
    /// Whether there are more keys than there is room for in the answer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub footprint_truncated: bool,
    /// What would happen in it, if it calls a contract and that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallTrace>,
}

/// A key of a contract's storage that an execution uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FootprintJson {
    /// The contract.
    pub contract: Address,
    /// Its key; of a search that finds nothing, what the keys would begin with.
    pub key: HexBytes,
    /// Whether it reads what is there, or whether anything is.
    pub read: bool,
    /// Whether it writes or deletes it. Writes of calls that failed are counted.
    pub written: bool,
}

/// Answer to [`get_events`](crate::api::ApiClient::get_events).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsJson {
    /// In the order of the chain.
    pub events: Vec<FoundEventJson>,
    /// What to ask for the events after these with; not there if there are none yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// An event of a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundEventJson {
    /// Height of the block.
    pub height: u64,
    /// Index of the transaction in the block.
    pub transaction_index: u32,
    /// Index of the event in the transaction's receipt.
    pub event_index: u32,
    /// Hash of the transaction.
    pub transaction: Hash,
    /// The event.
    #[serde(flatten)]
    pub event: EventJson,
}

/// Answer to [`get_account`](crate::api::ApiClient::get_account).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountJson {
    /// The account. One that nobody has used yet has no balance and no transactions.
    pub address: Address,
    /// What it has, not counting what is pending.
    pub balance: Amount,
    /// Number of transactions in blocks.
    pub nonce: u64,
    /// The nonce for the next transaction: that number and what is pending.
    pub next_nonce: u64,
    /// Hash of the code, for a contract.
    pub code: Option<Hash>,
    /// What a contract's storage counts, in bytes.
    pub storage_bytes: u64,
    /// What has been paid for that.
    pub deposit: Amount,
}

impl AccountJson {
    /// What is shown of an account, whose next transaction has the nonce `next_nonce`.
    pub fn new(address: Address, account: Account, next_nonce: u64) -> AccountJson {
        AccountJson {
            address,
            balance: Amount(account.balance),
            nonce: account.nonce,
            next_nonce,
            code: account.code,
            storage_bytes: account.storage_bytes,
            deposit: Amount(account.deposit),
        }
    }
}

/// Answer to [`trace_transaction`](crate::api::ApiClient::trace_transaction).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceJson {
    /// What the transaction has come to, then and now.
    pub receipt: ReceiptJson,
    /// The call of a contract that it made, with all that happened in it; `None` if it made none.
    pub call: Option<CallTrace>,
}

/// Answer to [`get_code`](crate::api::ApiClient::get_code).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeJson {
    /// The code.
    pub code: HexBytes,
}

/// Answer to [`profile_node`](crate::api::ApiClient::profile_node).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesJson {
    /// Functions that were found executing, the ones found most often first.
    pub functions: Vec<FunctionSamplesJson>,
    /// Samples that came when there was no room for them, or of code that is not known.
    pub lost: u64,
}

/// A function that was found executing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionSamplesJson {
    /// The hash of its code.
    pub code: Hash,
    /// Its index in the code, imports counted.
    pub function: u32,
    /// Its name, if the code says it.
    pub name: Option<String>,
    /// How often it was found: a measure of the time that it takes.
    pub samples: u64,
    /// Fuel that executions burned from one sample to one in this function. Of executions that were sampled once or never, nothing is in it.
    pub fuel: u64,
}

/// Answer to [`call_view`](crate::api::ApiClient::call_view).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewJson {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: OutcomeJson,
    /// Fuel that it used, or the limit after an abort.
    pub fuel_used: u64,
    /// Height of the block after which it was executed.
    pub height: u64,
}

/// Answer to [`get_block`](crate::api::ApiClient::get_block).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockJson {
    /// The block's hash.
    pub hash: Hash,
    /// What is hashed.
    pub header: Header,
    /// Hashes of its transactions, in order of execution.
    pub transactions: Vec<Hash>,
}

impl From<&Block> for BlockJson {
    fn from(block: &Block) -> BlockJson {
        BlockJson {
            hash: block.header.hash(),
            header: block.header.clone(),
            transactions: block
                .transactions
                .iter()
                .map(SignedTransaction::hash)
                .collect(),
        }
    }
}

/// Answer to [`get_methods`](crate::api::ApiClient::get_methods).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MethodsJson {
    /// The contract.
    pub contract: Address,
    /// Names of its methods.
    pub methods: Vec<String>,
}

/// Answer to [`get_abi`](crate::api::ApiClient::get_abi).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AbiJson {
    /// The contract.
    pub contract: Address,
    /// What its code says about itself, unchecked; `null` if that is nothing, or no JSON.
    pub abi: Option<serde_json::Value>,
}

/// Whether the node accepts transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It does.
    Running,
    /// It is shutting down.
    Stopping,
    /// It could not make or store a block, and accepts nothing until it is restarted.
    Failed,
}

/// How a node meters fuel. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Counted in a register, stopped by asynchronous checks.
    Slacked,
    /// Counted in a register, stopped by epochs.
    Hybrid,
    /// Stock wasmtime's fuel.
    Exact,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Slacked => "slacked",
            Mode::Hybrid => "hybrid",
            Mode::Exact => "exact",
        })
    }
}

/// What waits for a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MempoolJson {
    /// Transactions, those in the block under way included.
    pub transactions: u64,
    /// Of those, the ones that may go into a block.
    pub pending: u64,
    /// Those that another one of their sender has to come before.
    pub queued: u64,
    /// Those in the block under way.
    pub executing: u64,
    /// Their sizes together, in bytes.
    pub bytes: u64,
    /// Most transactions that may wait.
    pub max_transactions: u64,
    /// Most bytes that may wait.
    pub max_bytes: u64,
}

/// What the asynchronous fuel checks did since the node started. All zero in exact mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeteringJson {
    /// Executions of contracts.
    pub executions: u64,
    /// Checks requested.
    pub checks_sent: u64,
    /// Checks that found the thread in metered code.
    pub checks_landed: u64,
    /// Executions that a check stopped.
    pub stopped: u64,
    /// The most fuel that an execution had used beyond its limit when it was stopped.
    pub max_overshoot_fuel: u64,
}

/// Where consensus is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsensusJson {
    /// The height that is being decided.
    pub height: u64,
    /// The round of it; 0 is the first.
    pub round: u32,
    /// The last height that is on disk.
    pub decided: u64,
    /// Peers connected.
    pub peers: u64,
    /// The account that its votes count for, on a validator.
    pub validator: Option<Address>,
    /// Whether it only follows for now, because its guard refused a signature.
    pub sits_out: bool,
}

/// Protocol parameters that clients need to make transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamsJson {
    /// Most bytes of an encoded transaction.
    pub transaction_bytes: u64,
    /// Most bytes of a contract's code.
    pub code_bytes: u64,
    /// Most fuel of a transaction or a view.
    pub transaction_fuel: u64,
    /// Most fuel of a block.
    pub block_fuel: u64,
    /// Fuel of any transaction.
    pub transaction_base_fuel: u64,
    /// Fuel of each byte of a transaction.
    pub transaction_per_byte_fuel: u64,
    /// Fuel of each byte of code that is deployed.
    pub deploy_per_byte_fuel: u64,
}

/// Answer to [`get_status`](crate::api::ApiClient::get_status).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusJson {
    /// Version of the node.
    pub version: String,
    /// The chain.
    pub chain_id: u64,
    /// Version of the protocol parameters.
    pub protocol_version: u32,
    /// Whether the node accepts transactions.
    pub state: NodeState,
    /// Why it does not, if it has failed.
    pub failure: Option<String>,
    /// Height of the last block.
    pub height: u64,
    /// Hash of the last block.
    pub head: Hash,
    /// Root of the state after it.
    pub state_root: Hash,
    /// When the last block was made, in milliseconds since 1970.
    pub head_timestamp_ms: u64,
    /// How fuel is metered.
    pub mode: Mode,
    /// What waits for a block.
    pub mempool: MempoolJson,
    /// How the node decides on blocks with others, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus: Option<ConsensusJson>,
    /// Nodes that it exchanges transactions with, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gossip_peers: Option<u64>,
    /// For how long the node has been running, in milliseconds.
    pub uptime_ms: u64,
    /// What the fuel checks did.
    pub metering: MeteringJson,
    /// Parameters for clients.
    pub params: ParamsJson,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn receipt(outcome: Outcome) -> Receipt {
        Receipt {
            transaction: Hash([1; 32]),
            height: 7,
            index: 3,
            outcome,
            fuel_used: 10,
            fee: u128::MAX,
            burnt: 1,
            deposit: -3,
            events: vec![Event {
                contract: Address([2; 32]),
                topics: vec![Hash([4; 32])],
                data: vec![0xab],
            }],
            contract: Some(Address([2; 32])),
        }
    }

    #[test]
    fn receipts_as_documented() {
        let shown = |outcome| {
            let json = ReceiptJson::from(&receipt(outcome));
            let value = serde_json::to_value(&json).expect("JSON");
            let read: ReceiptJson = serde_json::from_value(value.clone()).expect("read back");
            assert_eq!(read, json);
            value
        };
        let value = shown(Outcome::Success {
            data: b"A".to_vec(),
        });
        assert_eq!(
            value,
            json!({
                "transaction": Hash([1; 32]), "height": 7, "index": 3, "outcome": "success", "data": "41",
                "fuel_used": 10, "fee": u128::MAX.to_string(), "burnt": "1", "deposit": "-3",
                "events": [{"contract": Address([2; 32]), "topics": [Hash([4; 32])], "data": "ab"}], "contract": Address([2; 32]),
            })
        );
        let value = shown(Outcome::Revert {
            data: "no €".into(),
        });
        assert_eq!(
            (&value["outcome"], &value["message"]),
            (&json!("revert"), &json!("no €"))
        );
        assert_eq!(value["data"], hex::encode("no €"));
        let value = shown(Outcome::Revert { data: vec![0xff] });
        assert_eq!((value.get("message"), &value["data"]), (None, &json!("ff")));
        let value = shown(Outcome::Abort(AbortReason::OutOfFuel));
        assert_eq!(
            value["abort"],
            json!({"kind": "out_of_fuel", "detail": null, "text": "out of fuel"})
        );
        assert_eq!(
            (&value["outcome"], &value["data"]),
            (&json!("abort"), &json!(""))
        );
        let value = shown(Outcome::Abort(AbortReason::Trap("unreachable".to_owned())));
        assert_eq!(
            value["abort"],
            json!({"kind": "trap", "detail": "unreachable", "text": "wasm trap: unreachable"})
        );
    }

    #[test]
    fn what_is_not_about_the_transaction_may_be_tried_again() {
        let reason = || "text".to_owned();
        for (error, later) in [
            (RpcError::TryAgainLater { reason: reason() }, true),
            (RpcError::NodeStopping, true),
            (RpcError::NodeFailed { reason: reason() }, true),
            (RpcError::Evicted { price: 1 }, true),
            (RpcError::Expired { height: 1 }, true),
            (RpcError::Storage { reason: reason() }, true),
            (RpcError::Internal { reason: reason() }, true),
            (RpcError::Replaced { by: Hash([1; 32]) }, false),
            (RpcError::BadSignature, false),
        ] {
            let refused = Submitted::refused(Hash([2; 32]), error.clone());
            assert_eq!(
                refused.status == SubmitStatus::TryAgainLater,
                later,
                "{error}"
            );
            let shown = serde_json::to_value(&refused).expect("JSON");
            assert_eq!(shown["error"].get("accepted"), None);
            let dropped = Submitted::dropped(Hash([2; 32]), error);
            assert_eq!(dropped.status, refused.status);
            let shown = serde_json::to_value(&dropped).expect("JSON");
            assert_eq!(shown["error"]["accepted"], true);
        }
    }

    #[test]
    fn abort_kinds_are_the_executors_names() {
        for reason in [
            AbortReason::OutOfFuel,
            AbortReason::StackExhausted,
            AbortReason::Trap("x".to_owned()),
            AbortReason::HostInterface("x".to_owned()),
        ] {
            let theirs = serde_json::to_value(&reason).expect("JSON");
            let ours = AbortJson::from(&reason);
            assert_eq!(theirs["kind"], ours.kind);
            assert_eq!(
                theirs.get("detail").and_then(|detail| detail.as_str()),
                ours.detail.as_deref()
            );
        }
    }

    #[test]
    fn amounts_and_bytes_refuse_what_they_are_not() {
        for text in [
            r#""-1""#,
            "1",
            r#""1.0""#,
            r#""""#,
            r#""340282366920938463463374607431768211456""#,
        ] {
            serde_json::from_str::<Amount>(text).expect_err(text);
        }
        for text in [r#""0""#, r#""0x0g""#, "[]"] {
            serde_json::from_str::<HexBytes>(text).expect_err(text);
        }
        assert_eq!(
            serde_json::from_str::<HexBytes>(r#""0xAb""#)
                .expect("hex")
                .0,
            [0xab]
        );
    }
}
