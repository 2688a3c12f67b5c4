//! The methods.
//!
//! Parameters are named, for example `{"jsonrpc":"2.0","id":1,"method":"get_account","params":{"address":"…"}}`.
//! Those of type `Option` may be left out. Errors are listed in [`error`](crate::error).

#[cfg_attr(
    not(feature = "server"),
    expect(unused_imports, reason = "the macro names errors on servers only")
)]
use crate::error::RpcError;
use crate::types::{
    AbiJson, AccountJson, BlockJson, BlockNewsJson, CodeJson, EventsJson, FoundEventJson,
    MethodsJson, ReceiptJson, SamplesJson, SimulationJson, StatusJson, Submitted, TraceJson,
    TransactionAnswer, ViewJson, WaitUntil,
};
use jsonrpsee::proc_macros::rpc;
use slackline_proof::StateAnswer;
use slackline_types::Validator;

/// How long [`ApiClient::submit_transaction`] waits unless told otherwise, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u64 = 10_000;
/// How long [`ApiClient::submit_transaction`] waits at most, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 60_000;
/// How many transactions [`ApiClient::submit_transactions`] takes at most.
pub const MAX_SUBMITTED: usize = 100;
/// Fuel limit of [`ApiClient::call_view`] unless told otherwise.
pub const DEFAULT_VIEW_FUEL: u64 = 100_000_000;

/// How long [`ApiClient::profile_node`] samples at most, in seconds.
pub const MAX_PROFILE_S: u64 = 60;
/// How often [`ApiClient::profile_node`] samples a thread unless told otherwise, in microseconds.
pub const DEFAULT_SAMPLE_US: u64 = 1_000;
/// How often [`ApiClient::profile_node`] samples a thread at most, in microseconds.
pub const MIN_SAMPLE_US: u64 = 100;

/// How many events [`ApiClient::get_events`] finds unless told otherwise.
pub const DEFAULT_EVENTS: u64 = 100;
/// How many events [`ApiClient::get_events`] finds at most.
pub const MAX_EVENTS: u64 = 1_000;

/// The methods of a node.
#[cfg_attr(feature = "server", rpc(server, client))]
#[cfg_attr(not(feature = "server"), rpc(client))]
pub trait Api {
    /// Submits a transaction: the borsh encoding of a `SignedTransaction`, in hexadecimal.
    ///
    /// With `wait_until` `"included"` (the default) the answer comes when the transaction is in a block that is on disk
    /// and has its receipt, with `"final"` when that block is decided, with `"none"` as soon as the transaction is accepted. After `timeout_ms`
    /// (default 10,000, at most 60,000) milliseconds it comes anyway, with status `"pending"`. The transaction stays
    /// accepted then, and can be asked for by its hash.
    ///
    /// Submitting the same transaction again is not an error: it answers, and waits, as if it were the first time, but
    /// with status `"duplicate"` instead of `"pending"`; `"included"` or `"final"` if it is in a block.
    ///
    /// A node that others send transactions to also accepts one whose nonce is up to 64 too high, as those before it may be on their way. It waits for
    /// them, and `missing_nonce` says which is the first.
    ///
    /// Every answer about a transaction has its hash: one that is refused has status `"error"`, or `"try_again_later"` if the same bytes may be
    /// accepted later, with the error inside. An error of JSON-RPC means that the bytes are no transaction, that a parameter is wrong, or, with the
    /// kind `try_again_later`, that the call was one too many, or that there was no room for its answer.
    #[method(name = "submit_transaction", param_kind = map)]
    async fn submit_transaction(
        &self,
        transaction: String,
        wait_until: Option<WaitUntil>,
        timeout_ms: Option<u64>,
    ) -> Result<Submitted, RpcError>;

    /// Submits up to 100 transactions at once, in that order: for who has many, as it costs the node and the client less than one call for each. The
    /// answer has that of `submit_transaction` for each of them, and comes when there is one for all of them, or after `timeout_ms`. If the
    /// bytes of one are no transaction none is submitted, and the error says which one that is.
    #[method(name = "submit_transactions", param_kind = map)]
    async fn submit_transactions(
        &self,
        transactions: Vec<String>,
        wait_until: Option<WaitUntil>,
        timeout_ms: Option<u64>,
    ) -> Result<Vec<Submitted>, RpcError>;

    /// Where a transaction is, what it says, and its receipt if it is in a block.
    #[method(name = "get_transaction", param_kind = map, blocking)]
    fn get_transaction(&self, hash: String) -> Result<TransactionAnswer, RpcError>;

    /// What a transaction would come to in the next block, after what its sender has pending: outcome, fuel, the lowest fuel limit that does,
    /// events, and the contract storage that it reads and writes; with `trace`, also the calls with the fuel of each, and with `functions` what each
    /// function of the contracts would use, as in `trace_transaction`. `transaction` is as for `submit_transaction`, but its signature may be
    /// anything. Nothing is kept. Neither its limit nor those of what is pending may allow for more
    /// fuel than the node's views may use.
    #[method(name = "simulate_transaction", param_kind = map)]
    async fn simulate_transaction(
        &self,
        transaction: String,
        trace: Option<bool>,
        functions: Option<bool>,
    ) -> Result<SimulationJson, RpcError>;

    /// The balance, the nonce and the code of an account; after the block at `height` if that is given, without what is pending.
    #[method(name = "get_account", param_kind = map, blocking)]
    fn get_account(&self, address: String, height: Option<u64>) -> Result<AccountJson, RpcError>;

    /// The events of a contract, oldest first: those with `topic` at any place, if that is given, in blocks `from_height` to `to_height`. At most
    /// `limit` (default 100, at most 1,000), and no more once they have a megabyte of data; `next` of the answer, as `after`, asks for those that follow.
    #[method(name = "get_events", param_kind = map, blocking)]
    fn get_events(
        &self,
        contract: String,
        topic: Option<String>,
        from_height: Option<u64>,
        to_height: Option<u64>,
        after: Option<String>,
        limit: Option<u64>,
    ) -> Result<EventsJson, RpcError>;

    /// Executes a method of a contract on the latest state, or on that after the block at `height`, and drops its effects.
    ///
    /// `input` is hexadecimal (default: empty), `caller` what the contract sees as its caller (default: 32 zero bytes),
    /// `fuel_limit` the most fuel that it may use (default 100,000,000).
    #[method(name = "call_view", param_kind = map)]
    async fn call_view(
        &self,
        contract: String,
        method: String,
        input: Option<String>,
        caller: Option<String>,
        fuel_limit: Option<u64>,
        height: Option<u64>,
    ) -> Result<ViewJson, RpcError>;

    /// A block's header and the hashes of its transactions; of the last block unless `height` says otherwise.
    #[method(name = "get_block", param_kind = map, blocking)]
    fn get_block(&self, height: Option<u64>) -> Result<BlockJson, RpcError>;

    /// Who votes on the block after that at `height`, or on the next one; nobody if one node makes the blocks alone.
    #[method(name = "get_validators", param_kind = map, blocking)]
    fn get_validators(&self, height: Option<u64>) -> Result<Vec<Validator>, RpcError>;

    /// What a key of the state has after a block, of the last one unless `height` says otherwise, with the proof that it is so for a
    /// client that knows the block's hash (crate `slackline-proof`). `key` is hexadecimal: `61` and an address for an
    /// account, `73`, the contract's address and its own key for what a contract stores.
    #[method(name = "get_proof", param_kind = map, blocking)]
    fn get_proof(&self, key: String, height: Option<u64>) -> Result<StateAnswer, RpcError>;

    /// Executes a transaction that is in a block again, on the state that it was executed on, and says what happens in it: calls, host
    /// functions, events, storage, each with its fuel. For as long as the state before its block is kept. With `functions`, also what each
    /// function of the contracts has used, by blocks of their code (crate `slackline-gas` makes profiles of that); this takes many times
    /// as long, and one at a time is made.
    #[method(name = "trace_transaction", param_kind = map)]
    async fn trace_transaction(
        &self,
        hash: String,
        functions: Option<bool>,
    ) -> Result<TraceJson, RpcError>;

    /// Finds out which functions burn the fuel, by samples of where transactions and views are: for `seconds` (at most 60), about
    /// every `interval_us` microseconds (default 1,000, at least 100) on each thread. One at a time is made; it ends when the
    /// connection does.
    #[method(name = "profile_node", param_kind = map)]
    async fn profile_node(
        &self,
        seconds: u64,
        interval_us: Option<u64>,
    ) -> Result<SamplesJson, RpcError>;

    /// The code with a hash, or that which the transaction with the hash brings.
    #[method(name = "get_code", param_kind = map, blocking)]
    fn get_code(&self, hash: String) -> Result<CodeJson, RpcError>;

    /// The names of a contract's methods.
    #[method(name = "get_methods", param_kind = map, blocking)]
    fn get_methods(&self, contract: String) -> Result<MethodsJson, RpcError>;

    /// What a contract says about itself: its methods with their arguments, results and errors, its events, the types of these. The
    /// crate `slackline-abi` turns arguments, results, errors and events into JSON with it, and back.
    #[method(name = "get_abi", param_kind = map, blocking)]
    fn get_abi(&self, contract: String) -> Result<AbiJson, RpcError>;

    /// Each block from now on, once it is on disk. A subscription of a client that does not read for 10 seconds, or is 64 blocks behind, ends with an
    /// error `missed`, which has the height from which on something may be missing: `get_block` has it.
    #[subscription(
        name = "subscribe_blocks" => "block",
        unsubscribe = "unsubscribe_blocks",
        item = BlockNewsJson,
        with_extensions
    )]
    async fn subscribe_blocks(&self) -> jsonrpsee::core::SubscriptionResult;

    /// The receipt of each transaction that an account sends, from now on. It ends as `subscribe_blocks` does: then `get_transaction` has what was missed.
    #[subscription(
        name = "subscribe_receipts" => "receipt",
        unsubscribe = "unsubscribe_receipts",
        item = ReceiptJson,
        param_kind = map,
        with_extensions
    )]
    async fn subscribe_receipts(&self, account: String) -> jsonrpsee::core::SubscriptionResult;

    /// Each event of a contract from now on, or each that has `topic` at any place. It ends as `subscribe_blocks` does: then `get_events` has what was
    /// missed.
    #[subscription(
        name = "subscribe_events" => "event",
        unsubscribe = "unsubscribe_events",
        item = FoundEventJson,
        param_kind = map,
        with_extensions
    )]
    async fn subscribe_events(
        &self,
        contract: String,
        topic: Option<String>,
    ) -> jsonrpsee::core::SubscriptionResult;

    /// The node, its chain, and how busy they are.
    #[method(name = "get_status")]
    fn get_status(&self) -> Result<StatusJson, RpcError>;
}
