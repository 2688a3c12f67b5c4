//! What a transaction does to the state.

use crate::chain::AdmitError;
use crate::code::{self, INIT};
use crate::params::ProtocolParams;
use crate::state::{BlockState, TxState};
use crate::store::{Store, StoreError};
use crate::types::{
    Account, Action, Address, Hash, Outcome, Receipt, SignedTransaction, Transaction, digest,
    encode,
};
use crate::vm::{Contract, ExecutionError, Invocation, Vm};
use std::sync::Arc;

/// Where and under which rules transactions execute.
pub(crate) struct Executor<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) store: &'a Store,
    pub(crate) params: &'a ProtocolParams,
    pub(crate) chain_id: u64,
    pub(crate) height: u64,
    pub(crate) proposer: Address,
}

/// What the action of a transaction came to.
struct Acted {
    state: TxState,
    outcome: Outcome,
    /// Fuel beyond the intrinsic fuel; after an abort all that there was.
    used: u64,
    logs: Vec<Vec<u8>>,
    contract: Option<Address>,
}

impl Acted {
    fn reverted(state: TxState, why: String) -> Acted {
        let outcome = Outcome::Revert {
            data: why.into_bytes(),
        };
        Acted {
            state,
            outcome,
            used: 0,
            logs: Vec::new(),
            contract: None,
        }
    }
}

pub(crate) fn code_hash(code: &[u8]) -> Hash {
    Hash(digest("slackline:code:v1", &[code]))
}

/// Fuel that `tx`, of `bytes` bytes when submitted, costs before anything runs.
pub(crate) fn intrinsic_fuel(params: &ProtocolParams, tx: &Transaction, bytes: usize) -> u64 {
    let fees = &params.fees;
    let base = fees
        .transaction_base
        .saturating_add(fees.transaction_per_byte.saturating_mul(bytes as u64));
    base.saturating_add(match &tx.action {
        Action::Transfer { .. } => 0,
        Action::Call { .. } => fees.call_base,
        Action::Deploy { code, .. } => fees
            .call_base
            .saturating_add(fees.deploy_per_byte.saturating_mul(code.len() as u64)),
    })
}

/// The most that `tx` can cost its sender, in the currency.
pub(crate) fn max_cost(tx: &Transaction) -> u128 {
    let fee = u128::from(tx.fuel_limit) * u128::from(tx.fuel_price);
    match tx.action {
        Action::Transfer { amount, .. } => fee.saturating_add(amount),
        _ => fee,
    }
}

/// What makes a transaction valid besides its sender's account: chain, size, signature, fuel limit.
pub(crate) fn validate(
    params: &ProtocolParams,
    chain_id: u64,
    signed: &SignedTransaction,
) -> Result<u64, AdmitError> {
    let tx = &signed.transaction;
    let bytes = encode(signed).len();
    let limits = &params.limits;
    if bytes > limits.transaction_bytes {
        return Err(AdmitError::TooLarge {
            bytes,
            limit: limits.transaction_bytes,
        });
    }
    if tx.chain_id != chain_id {
        return Err(AdmitError::WrongChain {
            expected: chain_id,
            got: tx.chain_id,
        });
    }
    if tx.fuel_limit > limits.transaction_fuel {
        return Err(AdmitError::FuelLimitTooHigh {
            maximum: limits.transaction_fuel,
            got: tx.fuel_limit,
        });
    }
    let minimum = intrinsic_fuel(params, tx, bytes);
    if tx.fuel_limit < minimum {
        return Err(AdmitError::FuelLimitTooLow {
            minimum,
            got: tx.fuel_limit,
        });
    }
    if !signed.signature_is_valid() {
        return Err(AdmitError::BadSignature);
    }
    Ok(minimum)
}

/// Whether `account` can send `tx` after `pending` others that cost up to `pending_cost`.
pub(crate) fn validate_sender(
    account: &Account,
    tx: &Transaction,
    pending: u64,
    pending_cost: u128,
) -> Result<(), AdmitError> {
    let expected = account.nonce.saturating_add(pending);
    if tx.nonce < expected {
        return Err(AdmitError::NonceTooLow {
            expected,
            got: tx.nonce,
        });
    }
    if tx.nonce > expected {
        return Err(AdmitError::NonceTooHigh {
            expected,
            got: tx.nonce,
        });
    }
    let needed = max_cost(tx);
    let available = account.balance.saturating_sub(pending_cost);
    if needed > available {
        return Err(AdmitError::InsufficientBalance { needed, available });
    }
    Ok(())
}

impl Executor<'_> {
    /// Executes `signed` as the `index`th transaction of the block. An invalid one changes nothing.
    pub(crate) fn transact(
        &self,
        block: BlockState,
        signed: &SignedTransaction,
        index: u32,
    ) -> Result<(BlockState, Result<Receipt, AdmitError>), ExecutionError> {
        let tx = &signed.transaction;
        let sender = tx.sender_address();
        let mut account = block.account(&sender)?;
        let valid = validate(self.params, self.chain_id, signed)
            .and_then(|intrinsic| validate_sender(&account, tx, 0, 0).map(|()| intrinsic));
        let intrinsic = match valid {
            Ok(intrinsic) => intrinsic,
            Err(error) => return Ok((block, Err(error))),
        };

        // Paid first, for the whole limit, and kept whatever happens below.
        let mut block = block;
        let price = u128::from(tx.fuel_price);
        account.balance -= u128::from(tx.fuel_limit) * price;
        account.nonce += 1;
        block.set_account(&sender, &account);

        let acted = self.act(TxState::new(block), tx, sender, tx.fuel_limit - intrinsic)?;
        let mut block = if acted.outcome.is_success() {
            acted.state.merge()
        } else {
            acted.state.discard()
        };
        if let (true, Action::Deploy { code, .. }) = (acted.outcome.is_success(), &tx.action) {
            block.code.insert(code_hash(code), Arc::new(code.clone()));
        }

        let fuel_used = intrinsic + acted.used;
        let fee = u128::from(fuel_used) * price;
        credit(
            &mut block,
            &sender,
            u128::from(tx.fuel_limit - fuel_used) * price,
        )?;
        credit(&mut block, &self.proposer, fee)?;
        let receipt = Receipt {
            transaction: signed.hash(),
            height: self.height,
            index,
            outcome: acted.outcome,
            fuel_used,
            fee,
            logs: acted.logs,
            contract: acted.contract,
        };
        Ok((block, Ok(receipt)))
    }

    fn act(
        &self,
        mut state: TxState,
        tx: &Transaction,
        sender: Address,
        fuel: u64,
    ) -> Result<Acted, ExecutionError> {
        match &tx.action {
            Action::Transfer { to, amount } => {
                let mut from = state.account(&sender)?;
                // `validate_sender` has seen that it is enough.
                from.balance = from.balance.saturating_sub(*amount);
                state.set_account(&sender, &from);
                let mut receiver = state.account(to)?;
                receiver.balance = receiver.balance.saturating_add(*amount);
                state.set_account(to, &receiver);
                let outcome = Outcome::Success { data: Vec::new() };
                Ok(Acted {
                    state,
                    outcome,
                    used: 0,
                    logs: Vec::new(),
                    contract: None,
                })
            }
            Action::Deploy { code, input } => {
                let hash = code_hash(code);
                let contract = match self.vm.load(hash, code) {
                    Ok(contract) => contract,
                    Err(error) => return Ok(Acted::reverted(state, error.to_string())),
                };
                let address = Address::of_contract(&sender, tx.nonce);
                let mut account = state.account(&address)?;
                account.code = Some(hash);
                state.set_account(&address, &account);
                if !contract.methods.contains(INIT) {
                    if !input.is_empty() {
                        let why = "the contract has no init, but input for it was given".to_owned();
                        return Ok(Acted::reverted(state, why));
                    }
                    let outcome = Outcome::Success { data: Vec::new() };
                    return Ok(Acted {
                        state,
                        outcome,
                        used: 0,
                        logs: Vec::new(),
                        contract: Some(address),
                    });
                }
                self.invoke(
                    &contract,
                    state,
                    address,
                    sender,
                    INIT,
                    input,
                    fuel,
                    Some(address),
                )
            }
            Action::Call {
                contract: address,
                method,
                input,
            } => {
                let Some(contract) = self.contract(&state, address)? else {
                    return Ok(Acted::reverted(
                        state,
                        format!("there is no contract at {address}"),
                    ));
                };
                if method == INIT || !contract.methods.contains(method) {
                    return Ok(Acted::reverted(
                        state,
                        format!("the contract has no method {method:?}"),
                    ));
                }
                self.invoke(
                    &contract, state, *address, sender, method, input, fuel, None,
                )
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one call")]
    fn invoke(
        &self,
        contract: &Contract,
        state: TxState,
        address: Address,
        caller: Address,
        method: &str,
        input: &[u8],
        fuel: u64,
        created: Option<Address>,
    ) -> Result<Acted, ExecutionError> {
        let invocation = Invocation {
            contract: address,
            caller,
            method,
            input: input.to_vec(),
            fuel,
            read_only: false,
        };
        let finished = self.vm.call(contract, invocation, state)?;
        let contract = created.filter(|_| finished.outcome.is_success());
        Ok(Acted {
            state: finished.state,
            outcome: finished.outcome,
            used: finished.used,
            logs: finished.logs,
            contract,
        })
    }

    fn contract(
        &self,
        state: &TxState,
        address: &Address,
    ) -> Result<Option<Arc<Contract>>, ExecutionError> {
        match state.account(address)?.code {
            Some(hash) => load(self.vm, self.store, hash, state.deployed(&hash)).map(Some),
            None => Ok(None),
        }
    }
}

/// The contract with code `hash`, which is in `deployed` or in the database.
pub(crate) fn load(
    vm: &Vm,
    store: &Store,
    hash: Hash,
    deployed: Option<&Arc<Vec<u8>>>,
) -> Result<Arc<Contract>, ExecutionError> {
    if let Some(contract) = vm.cached(&hash) {
        return Ok(contract);
    }
    let stored;
    let wasm: &[u8] = match deployed {
        Some(wasm) => wasm,
        None => {
            stored = store.code(&hash)?.ok_or_else(|| {
                StoreError::Damaged(format!("the code with hash {hash} is missing"))
            })?;
            &stored
        }
    };
    // It was accepted when it was deployed, so a refusal now is the machine's fault.
    vm.load(hash, wasm).map_err(|error: code::CodeError| {
        ExecutionError::Engine(format!("code {hash} no longer compiles: {error}"))
    })
}

fn credit(block: &mut BlockState, address: &Address, amount: u128) -> Result<(), StoreError> {
    let mut account = block.account(address)?;
    account.balance = account.balance.saturating_add(amount);
    block.set_account(address, &account);
    Ok(())
}
