//! What the tests across crates share: a chain in a temporary directory, with a key that has money, and
//! short ways to deploy and call.

pub mod puppet;

use anyhow::{Context, Result, ensure};
use borsh::BorshSerialize;
use ed25519_dalek::SigningKey;
use slackline_executor::{
    Action, Address, Chain, Genesis, GenesisAccount, Mode, Outcome, PublicKey, Receipt,
    SignedTransaction, Transaction,
};
use std::path::PathBuf;
use tempfile::TempDir;

/// Chain id of test chains.
pub const CHAIN_ID: u64 = 7;

/// Balance that every account of a test chain starts with.
pub const WEALTH: u128 = 1 << 100;

/// Fuel limit that is enough for anything that ends.
pub const PLENTY: u64 = 1_000_000_000;

/// Deposit limit of test transactions.
pub const DEPOSIT_LIMIT: u128 = 1 << 60;

/// A chain with everything that is needed to send transactions to it.
#[derive(Debug)]
pub struct TestChain {
    /// The chain.
    pub chain: Chain,
    /// Keeps the directory.
    _directory: TempDir,
}

/// The `n`th test key.
pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

/// Its account.
pub fn address(key: &SigningKey) -> Address {
    Address::of_key(&PublicKey(key.verifying_key().to_bytes()))
}

/// Code of an example contract, built by `cargo xtask contracts`.
///
/// # Errors
///
/// If it has not been built.
pub fn example(name: &str) -> Result<Vec<u8>> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../target/contracts/{name}.wasm"));
    std::fs::read(&path)
        .with_context(|| format!("{} is missing: run `cargo xtask contracts`", path.display()))
}

impl TestChain {
    /// A new chain with funded test keys 1 to 9.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn new(mode: Mode) -> Result<TestChain> {
        let directory = TempDir::new()?;
        let chain = Chain::open(directory.path(), &genesis(), mode)?;
        Ok(TestChain {
            chain,
            _directory: directory,
        })
    }

    /// Signs `action` as `key`'s next transaction, at the price of the next block.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn sign(
        &self,
        key: &SigningKey,
        action: Action,
        fuel_limit: u64,
    ) -> Result<SignedTransaction> {
        let nonce = self.chain.account(&address(key))?.nonce;
        let mut signed = transaction(key, nonce, action, fuel_limit).transaction;
        signed.fuel_price = self.chain.base_price();
        Ok(signed.sign(key))
    }

    /// Executes `action` in a block of its own.
    ///
    /// # Errors
    ///
    /// If the transaction is not valid or the block cannot be made.
    pub fn run(&self, key: &SigningKey, action: Action, fuel_limit: u64) -> Result<Receipt> {
        let signed = self.sign(key, action, fuel_limit)?;
        let produced = self.chain.produce_block(vec![signed], 0)?;
        ensure!(
            produced.dropped.is_empty(),
            "dropped: {:?}",
            produced.dropped
        );
        produced
            .receipts
            .into_iter()
            .next()
            .context("one transaction, one receipt")
    }

    /// Deploys `code` as `key` with borsh-encoded `input`.
    ///
    /// # Errors
    ///
    /// If that does not succeed.
    pub fn deploy(
        &self,
        key: &SigningKey,
        code: Vec<u8>,
        input: &impl BorshSerialize,
    ) -> Result<Address> {
        let receipt = self.run(
            key,
            Action::Deploy {
                code,
                input: borsh::to_vec(input)?,
                value: 0,
            },
            PLENTY,
        )?;
        receipt
            .contract
            .with_context(|| format!("not deployed: {:?}", receipt.outcome))
    }

    /// Calls a method as `key`, with borsh-encoded arguments.
    ///
    /// # Errors
    ///
    /// As [`TestChain::run`].
    pub fn call(
        &self,
        key: &SigningKey,
        contract: Address,
        method: &str,
        arguments: &impl BorshSerialize,
        fuel_limit: u64,
    ) -> Result<Receipt> {
        let input = borsh::to_vec(arguments)?;
        self.run(
            key,
            Action::Call {
                contract,
                method: method.to_owned(),
                input,
                value: 0,
            },
            fuel_limit,
        )
    }
}

/// What test chains begin with.
pub fn genesis() -> Genesis {
    Genesis {
        chain_id: CHAIN_ID,
        timestamp_ms: 0,
        proposer: address(&key(100)),
        accounts: (1..10)
            .map(|n| GenesisAccount {
                address: address(&key(n)),
                balance: WEALTH,
            })
            .collect(),
        validators: Vec::new(),
        governor: None,
    }
}

/// A signed transaction of `key`, at a price of 1.
pub fn transaction(
    key: &SigningKey,
    nonce: u64,
    action: Action,
    fuel_limit: u64,
) -> SignedTransaction {
    let transaction = Transaction {
        chain_id: CHAIN_ID,
        sender: PublicKey(key.verifying_key().to_bytes()),
        nonce,
        fuel_limit,
        fuel_price: 1,
        tip: 0,
        deposit_limit: DEPOSIT_LIMIT,
        action,
    };
    transaction.sign(key)
}

/// What a successful call returned.
///
/// # Errors
///
/// If the outcome is another.
pub fn returned<T: borsh::BorshDeserialize>(outcome: &Outcome) -> Result<T> {
    match outcome {
        Outcome::Success { data } => Ok(borsh::from_slice(data)?),
        other => anyhow::bail!("not a success: {other:?}"),
    }
}
