//! The methods.
//!
//! Parameters are named, for example `{"jsonrpc":"2.0","id":1,"method":"get_account","params":{"address":"…"}}`.
//! Those of type `Option` may be left out. Errors are listed in [`error`](super::error).

use super::error::RpcError;
use super::types::{
    AbiJson, AccountJson, BlockJson, MethodsJson, StatusJson, Submitted, TraceJson,
    TransactionAnswer, ViewJson, WaitUntil,
};
use jsonrpsee::proc_macros::rpc;
use slackline_executor::proof::StateAnswer;

/// How long [`ApiServer::submit_transaction`] waits unless told otherwise, in milliseconds.
pub const DEFAULT_TIMEOUT_MS: u64 = 10_000;
/// How long [`ApiServer::submit_transaction`] waits at most, in milliseconds.
pub const MAX_TIMEOUT_MS: u64 = 60_000;
/// Fuel limit of [`ApiServer::call_view`] unless told otherwise.
pub const DEFAULT_VIEW_FUEL: u64 = 100_000_000;

/// The methods of a node.
#[rpc(server, client)]
pub trait Api {
    /// Submits a transaction: the borsh encoding of a `SignedTransaction`, in hexadecimal.
    ///
    /// With `wait_until` `"included"` (the default) the answer comes when the transaction is in a block that is on disk
    /// and has its receipt; after `timeout_ms` (default 10,000, at most 60,000) milliseconds it comes anyway, with status
    /// `"pending"`. With `"none"` it comes as soon as the transaction is accepted. Either way the transaction stays
    /// accepted, and can be asked for by its hash.
    ///
    /// Submitting the same transaction again is not an error: it answers, and waits, as if it were the first time, but
    /// with status `"duplicate"` instead of `"pending"`; `"included"` if it is in a block.
    #[method(name = "submit_transaction", param_kind = map)]
    async fn submit_transaction(
        &self,
        transaction: String,
        wait_until: Option<WaitUntil>,
        timeout_ms: Option<u64>,
    ) -> Result<Submitted, RpcError>;

    /// Where a transaction is, what it says, and its receipt if it is in a block.
    #[method(name = "get_transaction", param_kind = map, blocking)]
    fn get_transaction(&self, hash: String) -> Result<TransactionAnswer, RpcError>;

    /// The balance, the nonce and the code of an account.
    #[method(name = "get_account", param_kind = map, blocking)]
    fn get_account(&self, address: String) -> Result<AccountJson, RpcError>;

    /// Executes a method of a contract on the latest state and drops its effects.
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
    ) -> Result<ViewJson, RpcError>;

    /// A block's header and the hashes of its transactions; of the last block unless `height` says otherwise.
    #[method(name = "get_block", param_kind = map, blocking)]
    fn get_block(&self, height: Option<u64>) -> Result<BlockJson, RpcError>;

    /// What a key of the state has after a block, of the last one unless `height` says otherwise, with the proof that it is so for a
    /// client that knows the block's hash (crate `slackline-proof`). `key` is hexadecimal: `61` and an address for an
    /// account, `73`, the contract's address and its own key for what a contract stores.
    #[method(name = "get_proof", param_kind = map, blocking)]
    fn get_proof(&self, key: String, height: Option<u64>) -> Result<StateAnswer, RpcError>;

    /// Executes a transaction that is in a block again, on the state that it was executed on, and says what happens in it: calls, host
    /// functions, events, storage, each with its fuel. For as long as the state before its block is kept.
    #[method(name = "trace_transaction", param_kind = map)]
    async fn trace_transaction(&self, hash: String) -> Result<TraceJson, RpcError>;

    /// The names of a contract's methods.
    #[method(name = "get_methods", param_kind = map, blocking)]
    fn get_methods(&self, contract: String) -> Result<MethodsJson, RpcError>;

    /// What a contract says about itself: its methods with their arguments, results and errors, its events, the types of these. The
    /// crate `slackline-abi` turns arguments, results, errors and events into JSON with it, and back.
    #[method(name = "get_abi", param_kind = map, blocking)]
    fn get_abi(&self, contract: String) -> Result<AbiJson, RpcError>;

    /// The node, its chain, and how busy they are.
    #[method(name = "get_status")]
    fn get_status(&self) -> Result<StatusJson, RpcError>;
}
