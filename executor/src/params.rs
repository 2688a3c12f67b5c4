//! The protocol parameters: every constant that consensus depends on, in one place, versioned.

use sha2::{Digest, Sha256};
use slackline_metering::CostTable;
use slackline_sandbox::CodeLimits;

/// Constants of a version of the protocol. A change to any of them is a new version.
#[derive(Clone, Debug)]
pub struct ProtocolParams {
    /// Identifies this set.
    pub version: u32,
    /// What wasm operators cost, in fuel.
    pub costs: CostTable,
    /// What transactions and host functions cost, in fuel.
    pub fees: FuelSchedule,
    /// What holding storage costs.
    pub deposits: Deposits,
    /// What a unit of fuel costs, and who gets it.
    pub fee_rule: FeeRule,
    /// What contracts and transactions may contain.
    pub limits: Limits,
}

/// Costs outside wasm, in fuel.
#[derive(Clone, Debug)]
pub struct FuelSchedule {
    /// Of any transaction: signature, account updates.
    pub transaction_base: u64,
    /// Of each byte of a transaction as submitted.
    pub transaction_per_byte: u64,
    /// Of each byte of deployed code: checking and compiling it.
    pub deploy_per_byte: u64,
    /// Of instantiating a contract for a call.
    pub call_base: u64,
    /// Of any host call, on top of what follows.
    pub host_call: u64,
    /// Of each byte copied between host and contract.
    pub host_per_byte: u64,
    /// Of looking a key up.
    pub storage_get: u64,
    /// Of each byte of a key looked up, and of a value read.
    pub storage_get_per_byte: u64,
    /// Of writing or deleting a key.
    pub storage_set: u64,
    /// Of each byte of key and value written.
    pub storage_set_per_byte: u64,
    /// Of finding the next key, and of each deleted key that is passed over on the way.
    pub storage_next: u64,
    /// Of reading an account.
    pub account_get: u64,
    /// Of moving currency between two accounts.
    pub transfer: u64,
    /// Of an event.
    pub event: u64,
    /// Of each byte of an event's topics and data.
    pub event_per_byte: u64,
    /// Of a SHA-256 hash.
    pub sha256: u64,
    /// Of each byte hashed.
    pub sha256_per_byte: u64,
    /// Of a Keccak-256 hash.
    pub keccak256: u64,
    /// Of each byte hashed.
    pub keccak256_per_byte: u64,
    /// Of a BLAKE3 hash.
    pub blake3: u64,
    /// Of each byte hashed.
    pub blake3_per_byte: u64,
    /// Of verifying an Ed25519 signature.
    pub ed25519_verify: u64,
    /// Of each byte of the message.
    pub ed25519_verify_per_byte: u64,
    /// Of recovering a secp256k1 key.
    pub secp256k1_recover: u64,
}

/// What holding storage costs. It is refunded to whoever frees it, so it is a deposit and no fee.
#[derive(Clone, Debug)]
pub struct Deposits {
    /// For each byte held, in the smallest unit of the currency.
    pub per_byte: u64,
    /// What an entry counts besides its key and value, in bytes.
    pub entry_bytes: u64,
}

/// What a unit of fuel costs, and who gets it: after EIP-1559.
#[derive(Clone, Debug)]
pub struct FeeRule {
    /// Base price of the genesis block, in the smallest unit of the currency.
    pub initial_base_price: u64,
    /// The lowest base price, in the smallest unit of the currency.
    pub minimum_base_price: u64,
    /// The share of a block's fuel at which the base price stays, in percent.
    pub target_percent: u64,
    /// From one block to the next the base price changes by at most one part of this many; upwards by at least 1.
    pub change_denominator: u64,
    /// The share of the base price that nobody gets, in percent. The rest of the fee is the proposer's.
    pub burnt_percent: u64,
}

impl FeeRule {
    /// The base price after a block with base price `parent` that used `used` of the `limit` fuel of a block.
    pub fn next_base_price(&self, parent: u64, used: u64, limit: u64) -> u64 {
        let target = u128::from(limit) * u128::from(self.target_percent) / 100;
        let (parent, used) = (u128::from(parent), u128::from(used));
        let change = |by: u128| {
            parent.saturating_mul(by) / target.max(1) / u128::from(self.change_denominator)
        };
        let next = if used > target {
            parent + change(used - target).max(1)
        } else {
            parent - change(target - used).min(parent)
        };
        u64::try_from(next)
            .unwrap_or(u64::MAX)
            .max(self.minimum_base_price)
    }

    /// The part of a fee that nobody gets, for `fuel` at `base_price`.
    pub fn burnt(&self, fuel: u64, base_price: u64) -> u128 {
        // Fuel and price have 64 bits: only the share can overflow, and then in no block that can be made.
        (u128::from(fuel) * u128::from(base_price)).saturating_mul(u128::from(self.burnt_percent))
            / 100
    }
}

/// Sizes, in bytes unless said otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of a transaction as submitted.
    pub transaction_bytes: usize,
    /// Of a contract's code and everything in it, of its memory and table, and of the stack.
    pub code: CodeLimits,
    /// Of a storage key.
    pub key_bytes: usize,
    /// Of a storage value.
    pub value_bytes: usize,
    /// Of return or revert data.
    pub data_bytes: usize,
    /// Events in a transaction.
    pub events: usize,
    /// Topics of an event.
    pub event_topics: usize,
    /// Of an event's data.
    pub event_bytes: usize,
    /// Contracts that are being called at a time, one by the other.
    pub call_depth: usize,
    /// Of a method name.
    pub method_bytes: usize,
    /// The highest fuel limit of a transaction, in fuel; at most that of a block.
    pub transaction_fuel: u64,
    /// What the transactions of a block may use together, in fuel. A transaction fits if what those before it have used and its own limit are no more.
    pub block_fuel: u64,
    /// Validators of a chain.
    pub validators: usize,
    /// Voting power of one of them.
    pub validator_power: u64,
}

impl ProtocolParams {
    /// SHA-256 of all of it: equal for equal parameters only.
    pub fn fingerprint(&self) -> [u8; 32] {
        // The derived `Debug` names every field, so no two sets print the same.
        Sha256::digest(format!("slackline protocol parameters {self:?}")).into()
    }

    /// Version 1. Costs outside wasm are such that nothing takes more than twice as long per fuel as the median operator does, by
    /// `cargo xtask bench calibrate`: a transfer took 112 to 140 µs, a call that does nothing 120 µs, a write 1.9 µs, a signature 50 µs, and
    /// the median operator 0.42 ns per fuel.
    ///
    /// A full block takes 0.8 to 1.7 s to execute on one thread, by that, and who proposes it and who votes on it do so one after the other: no more fuel than
    /// they can do within a round, which lasts 2 s at first and 30 s in the end, unless it is changed. A module of the largest size can be deployed all the same.
    pub fn v1() -> ProtocolParams {
        ProtocolParams {
            version: 1,
            costs: CostTable::v1(),
            fees: FuelSchedule {
                transaction_base: 200_000,
                transaction_per_byte: 10,
                deploy_per_byte: 1_000,
                call_base: 100_000,
                host_call: 100,
                host_per_byte: 1,
                storage_get: 5_000,
                storage_get_per_byte: 5,
                storage_set: 15_000,
                storage_set_per_byte: 50,
                storage_next: 25_000,
                account_get: 5_000,
                transfer: 20_000,
                event: 3_000,
                event_per_byte: 10,
                sha256: 500,
                sha256_per_byte: 12,
                keccak256: 1_000,
                keccak256_per_byte: 12,
                blake3: 500,
                blake3_per_byte: 12,
                ed25519_verify: 120_000,
                ed25519_verify_per_byte: 12,
                secp256k1_recover: 300_000,
            },
            deposits: Deposits {
                per_byte: 100,
                entry_bytes: 64,
            },
            fee_rule: FeeRule {
                initial_base_price: 1,
                minimum_base_price: 1,
                target_percent: 50,
                change_denominator: 8,
                burnt_percent: 100,
            },
            limits: Limits {
                transaction_bytes: 1_500_000,
                code: CodeLimits::v1(),
                key_bytes: 1_024,
                value_bytes: 256 << 10,
                data_bytes: 256 << 10,
                events: 256,
                event_topics: 4,
                event_bytes: 16 << 10,
                call_depth: 10,
                method_bytes: 64,
                transaction_fuel: 2_000_000_000,
                block_fuel: 2_000_000_000,
                validators: 200,
                validator_power: 1 << 48,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_price_follows_the_load() {
        let rule = ProtocolParams::v1().fee_rule;
        let next = |parent, used| rule.next_base_price(parent, used, 1_000);
        assert_eq!(next(800, 500), 800);
        assert_eq!(next(800, 1_000), 900);
        assert_eq!(next(800, 0), 700);
        assert_eq!(next(800, 750), 850);
        assert_eq!(next(1, 501), 2);
        assert_eq!(next(1, 500), 1);
        assert_eq!(next(1, 0), 1);
        assert_eq!(next(7, 0), 7);
        assert_eq!(next(u64::MAX, 1_000), u64::MAX);
        assert_eq!(rule.next_base_price(5, 0, 0), 5);
    }

    /// A change here is a new version of the protocol: nodes with the one and nodes with the other disagree.
    #[test]
    fn version_1_is_pinned() {
        assert_eq!(hex::encode(ProtocolParams::v1().fingerprint()), FINGERPRINT);
    }

    const FINGERPRINT: &str = "9c877f7f21a580115c164afdb7fab8b05922fc790e15655968f4b2e6a4b786c5";
}
