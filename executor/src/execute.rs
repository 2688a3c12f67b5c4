//! What a transaction does to the state.

use crate::chain::AdmitError;
use crate::host::{Env, Run};
use crate::params::{Limits, ProtocolParams};
use crate::state::{AccountAdd, BlockState, Effects, Overlay, StateView, validators_key};
use crate::store::StoreError;
use crate::trace::Recorder;
use crate::types::{
    Account, Action, Address, Hash, Outcome, PublicKey, Receipt, SignedTransaction, Transaction,
    Validator, digest, encode,
};
use crate::verified::Verified;
use crate::vm::{Call, Called, Ended, Entry, ExecutionError, Vm};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Where and under which rules transactions execute.
pub(crate) struct Executor<'a> {
    pub(crate) vm: &'a Arc<Vm>,
    pub(crate) params: &'a ProtocolParams,
    pub(crate) chain_id: u64,
    pub(crate) height: u64,
    pub(crate) timestamp_ms: u64,
    pub(crate) proposer: Address,
    pub(crate) governor: Option<Address>,
    pub(crate) base_price: u64,
    pub(crate) signatures: Signatures,
    pub(crate) verified: &'a Verified,
    /// Whether code that is deployed is kept on disk as it was compiled: what is only simulated may be anything, and cost nothing.
    pub(crate) keeps_code: bool,
}

/// Whether to verify signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signatures {
    /// Yes: transactions with invalid ones are refused.
    Verify,
    /// No: for what is not going to be stored, and for transactions verified before.
    Trust,
}

/// What is known of a transaction before it is executed, whatever the state.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub(crate) hash: Hash,
    pub(crate) sender: Address,
    /// What it costs before anything runs, in fuel, or what is wrong with it.
    pub(crate) intrinsic: Result<u64, AdmitError>,
}

/// A transaction that is valid, executed.
#[derive(Debug)]
pub(crate) struct Transacted {
    /// Its index is for the caller to fill in.
    pub(crate) receipt: Receipt,
    pub(crate) effects: Effects,
}

/// What the action of a transaction came to.
struct Acted {
    run: Box<Run>,
    outcome: Outcome,
    /// Fuel beyond the intrinsic fuel; after an abort all that there was.
    used: u64,
    contract: Option<Address>,
    deposit: i128,
}

/// Identifies code.
pub fn code_hash(code: &[u8]) -> Hash {
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
        Action::SetValidators { validators } => fees.storage_set.saturating_add(
            fees.storage_set_per_byte
                .saturating_mul(encode(validators).len() as u64),
        ),
    })
}

/// What makes a transaction valid besides its signature and its sender's account: chain, size, fuel limit and price.
pub(crate) fn validate(
    params: &ProtocolParams,
    chain_id: u64,
    base_price: u64,
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
    if tx.fuel_price < base_price {
        return Err(AdmitError::FuelPriceTooLow {
            base_price,
            got: tx.fuel_price,
        });
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
    let needed = tx.max_cost();
    let available = account.balance.saturating_sub(pending_cost);
    if needed > available {
        return Err(AdmitError::InsufficientBalance { needed, available });
    }
    Ok(())
}

/// Why nobody could agree with these validators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValidatorsError {
    /// None, or too many.
    #[error("there are {got} validators: between 1 and {most} are allowed")]
    Number {
        /// How many there are.
        got: usize,
        /// How many there may be.
        most: usize,
    },
    /// One is there twice.
    #[error("validator {0} is listed twice")]
    Twice(PublicKey),
    /// Its key is not a point of the curve, or one of those for which signatures say nothing.
    #[error("{0} is not an ed25519 key")]
    Key(PublicKey),
    /// A vote that counts nothing, or so much that sums overflow.
    #[error("validator {key} has a power of {got}: between 1 and {most} is allowed")]
    Power {
        /// The validator.
        key: PublicKey,
        /// Its power.
        got: u64,
        /// The most that it may have.
        most: u64,
    },
}

/// Whether these can be the validators of a chain with such limits.
///
/// # Errors
///
/// See [`ValidatorsError`].
pub fn check_validators(validators: &[Validator], limits: &Limits) -> Result<(), ValidatorsError> {
    let (got, most) = (validators.len(), limits.validators);
    if !(1..=most).contains(&got) {
        return Err(ValidatorsError::Number { got, most });
    }
    let mut seen = BTreeSet::new();
    for Validator { key, power } in validators {
        let (key, got, most) = (*key, *power, limits.validator_power);
        let point = ed25519_dalek::VerifyingKey::from_bytes(&key.0);
        if !point.is_ok_and(|point| !point.is_weak()) {
            return Err(ValidatorsError::Key(key));
        }
        if !(1..=most).contains(&got) {
            return Err(ValidatorsError::Power { key, got, most });
        }
        if !seen.insert(key.0) {
            return Err(ValidatorsError::Twice(key));
        }
    }
    Ok(())
}

impl Executor<'_> {
    /// Executes `signed` as the `index`th transaction of the block. An invalid one changes nothing. What happens is recorded if there is something to
    /// record it with.
    pub(crate) fn transact_traced(
        &self,
        block: &Arc<BlockState>,
        signed: &SignedTransaction,
        index: u32,
        trace: &mut Option<Box<Recorder>>,
    ) -> Result<Result<Receipt, AdmitError>, ExecutionError> {
        // One for each.
        let prepared = self.prepare(std::slice::from_ref(signed)).swap_remove(0);
        let done = self.execute(block.clone(), signed, &prepared, trace)?;
        let Transacted {
            mut receipt,
            effects,
        } = match done {
            Ok(done) => done,
            Err(error) => return Ok(Err(error)),
        };
        block.apply(effects)?;
        receipt.index = index;
        Ok(Ok(receipt))
    }

    /// Does all that needs no state: verifies the signatures if that is asked for.
    pub(crate) fn prepare(&self, transactions: &[SignedTransaction]) -> Vec<Prepared> {
        let prepare = |signed: &SignedTransaction| Prepared {
            hash: signed.hash(),
            sender: signed.transaction.sender_address(),
            intrinsic: validate(self.params, self.chain_id, self.base_price, signed),
        };
        let mut prepared: Vec<_> = transactions.iter().map(prepare).collect();
        if self.signatures == Signatures::Verify {
            let sound = prepared.iter_mut().zip(transactions);
            let sound: Vec<_> = sound
                .filter(|(prepared, _)| prepared.intrinsic.is_ok())
                .collect();
            let signed: Vec<_> = sound
                .iter()
                .map(|(prepared, signed)| (prepared.hash, *signed))
                .collect();
            let valid = self.verified.check(&signed);
            for ((prepared, _), valid) in sound.into_iter().zip(valid) {
                if !valid {
                    prepared.intrinsic = Err(AdmitError::BadSignature);
                }
            }
        }
        prepared
    }

    /// Executes `signed` on `state`, which is as those before it have left it. An invalid one has no effects. The proposer's fees are for the
    /// caller to credit, once for the block: no transaction of a block sees them.
    pub(crate) fn execute(
        &self,
        state: Arc<dyn StateView>,
        signed: &SignedTransaction,
        prepared: &Prepared,
        trace: &mut Option<Box<Recorder>>,
    ) -> Result<Result<Transacted, AdmitError>, ExecutionError> {
        let tx = &signed.transaction;
        let sender = prepared.sender;
        let mut overlay = Overlay::new(state);
        let mut account = overlay.account(&sender)?;
        let valid = prepared
            .intrinsic
            .clone()
            .and_then(|intrinsic| validate_sender(&account, tx, 0, 0).map(|()| intrinsic));
        let intrinsic = match valid {
            Ok(intrinsic) => intrinsic,
            Err(error) => return Ok(Err(error)),
        };

        // Paid first, for the whole limit, and kept whatever happens below.
        let price = u128::from(tx.effective_price(self.base_price));
        account.balance -= u128::from(tx.fuel_limit) * price;
        let nonce = account.nonce;
        account.nonce += 1;
        overlay.set_account(&sender, &account);

        let env = Env {
            chain_id: self.chain_id,
            height: self.height,
            timestamp_ms: self.timestamp_ms,
            proposer: self.proposer,
            origin: sender,
        };
        let mut run = self.vm.run(env, overlay)?;
        run.trace = trace.take();
        let mut acted = self.act(run, tx, sender, nonce, tx.fuel_limit - intrinsic)?;

        *trace = acted.run.trace.take();

        let fuel_used = intrinsic + acted.used;
        let fee = u128::from(fuel_used) * price;
        let refund = u128::from(tx.fuel_limit - fuel_used) * price;
        let refund = AccountAdd::balance(refund);
        acted.run.overlay.add(&sender, &refund)?;
        let success = acted.outcome.is_success();
        let mut effects = acted.run.overlay.into_effects();
        effects.code = acted.run.deploying.filter(|_| success);
        let receipt = Receipt {
            transaction: prepared.hash,
            height: self.height,
            index: 0,
            outcome: acted.outcome,
            fuel_used,
            fee,
            burnt: self.params.fee_rule.burnt(fuel_used, self.base_price),
            deposit: acted.deposit,
            events: acted.run.events,
            contract: acted.contract.filter(|_| success),
        };
        Ok(Ok(Transacted { receipt, effects }))
    }

    /// Does what `tx` says. Unless that succeeds, the run is as it was before.
    fn act(
        &self,
        mut run: Box<Run>,
        tx: &Transaction,
        sender: Address,
        nonce: u64,
        fuel: u64,
    ) -> Result<Acted, ExecutionError> {
        let checkpoint = run.overlay.checkpoint();
        let (mut run, called, contract) = match &tx.action {
            Action::Transfer { to, amount } => {
                let called = if run.transfer(&sender, to, *amount)? {
                    succeeded()
                } else {
                    reverted("not enough currency for the amount")
                };
                (run, called, None)
            }
            Action::Deploy { code, input, value } => {
                let address = Address::of_contract(&sender, nonce);
                let hash = code_hash(code);
                run.deploying = Some((hash, Arc::new(code.clone())));
                let (run, called) = match self.vm.load(hash, code, self.keeps_code)? {
                    Err(error) => {
                        run.deploying = None;
                        let called = reverted(&format!("the code cannot be deployed: {error}"));
                        (run, called)
                    }
                    Ok(_) => self.vm.deploy(
                        run,
                        hash,
                        Call {
                            contract: address,
                            caller: sender,
                            entry: Entry::Init,
                            input: input.clone(),
                            value: *value,
                            fuel,
                            read_only: false,
                        },
                    )?,
                };
                (run, called, Some(address))
            }
            Action::Call {
                contract,
                method,
                input,
                value,
            } => {
                let (run, called) = self.vm.call(
                    run,
                    Call {
                        contract: *contract,
                        caller: sender,
                        entry: Entry::Method(method),
                        input: input.clone(),
                        value: *value,
                        fuel,
                        read_only: false,
                    },
                )?;
                (run, called, None)
            }
            Action::SetValidators { validators } => {
                let called = if self.governor != Some(sender) {
                    reverted("only the governor of the chain changes its validators")
                } else if let Err(error) = check_validators(validators, &self.params.limits) {
                    reverted(&error.to_string())
                } else {
                    let value = encode(validators).into();
                    run.overlay.set(validators_key(), Some(value));
                    succeeded()
                };
                (run, called, None)
            }
        };
        let used = called.used;
        let mut outcome = outcome(called.ended, &tx.action);
        let mut deposit = 0;
        if outcome.is_success() {
            match self.settle(&mut run, &sender, tx.deposit_limit)? {
                Ok(paid) => deposit = paid,
                Err(needed) => {
                    run.overlay.undo(checkpoint);
                    run.events.clear();
                    let text = format!(
                        "the storage deposit of {needed} is over the limit of {}",
                        tx.deposit_limit
                    );
                    outcome = Outcome::Revert {
                        data: text.into_bytes(),
                    };
                }
            }
        }
        Ok(Acted {
            run,
            outcome,
            used,
            contract,
            deposit,
        })
    }

    /// Takes the deposits for storage that has grown from `payer`, and refunds those for what has been freed. Returns what that
    /// came to, or, with nothing done, what it would have if that is over `limit`.
    fn settle(
        &self,
        run: &mut Run,
        payer: &Address,
        limit: u128,
    ) -> Result<Result<i128, i128>, ExecutionError> {
        let price = i128::from(self.params.deposits.per_byte);
        let growth = run.overlay.growth(self.params.deposits.entry_bytes)?;
        // Bytes and price are of 64 bits at most: no overflow.
        let total: i128 = growth.values().map(|bytes| bytes * price).sum();
        if total > 0 && total.unsigned_abs() > limit {
            return Ok(Err(total));
        }
        for (contract, bytes) in growth.into_iter().filter(|(_, bytes)| *bytes != 0) {
            let add = AccountAdd {
                balance: 0,
                storage_bytes: bytes,
                deposit: bytes * price,
            };
            run.overlay.add(&contract, &add)?;
        }
        let mut account = run.overlay.account(payer)?;
        // `validate_sender` has seen that there is enough, and nothing takes from the account of a key but this.
        account.balance = account
            .balance
            .checked_add_signed(-total)
            .ok_or_else(|| StoreError::Damaged(format!("the balance of {payer}")))?;
        run.overlay.set_account(payer, &account);
        Ok(Ok(total))
    }
}

/// How a transaction ended, for its receipt.
fn outcome(ended: Ended, action: &Action) -> Outcome {
    match ended {
        Ended::Returned(data) => Outcome::Success { data },
        Ended::Reverted(data) => Outcome::Revert { data },
        Ended::Aborted(reason) => Outcome::Abort(reason),
        Ended::Refused(refusal) => {
            let text = match action {
                Action::Call {
                    contract, method, ..
                } => format!("calling {method:?} of {contract}: {refusal}"),
                _ => refusal.to_string(),
            };
            Outcome::Revert {
                data: text.into_bytes(),
            }
        }
    }
}

fn succeeded() -> Called {
    Called {
        ended: Ended::Returned(Vec::new()),
        used: 0,
    }
}

fn reverted(text: &str) -> Called {
    Called {
        ended: Ended::Reverted(text.into()),
        used: 0,
    }
}
