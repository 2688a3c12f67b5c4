//! The protocol parameters: every constant that consensus depends on, in one place, versioned.

use sha2::{Digest, Sha256};
use slackline_metering::CostTable;

/// Constants of a version of the protocol. A change to any of them is a new version.
#[derive(Clone, Debug)]
pub struct ProtocolParams {
    /// Identifies this set.
    pub version: u32,
    /// What wasm operators cost, in fuel.
    pub costs: CostTable,
    /// What transactions and host functions cost, in fuel.
    pub fees: FuelSchedule,
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
    /// Of each byte of a value read.
    pub storage_get_per_byte: u64,
    /// Of writing or deleting a key.
    pub storage_set: u64,
    /// Of each byte of key and value written.
    pub storage_set_per_byte: u64,
    /// Of a log record.
    pub log: u64,
    /// Of each byte of a log record.
    pub log_per_byte: u64,
}

/// Sizes, in bytes unless said otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Of a transaction as submitted.
    pub transaction_bytes: usize,
    /// Of a contract's code.
    pub code_bytes: usize,
    /// Functions in a contract, imported ones included.
    pub functions: u32,
    /// Of a contract's linear memory, in pages of 64 KiB.
    pub memory_pages: u32,
    /// Elements in a table.
    pub table_elements: u32,
    /// Of wasm on the native stack.
    pub stack_bytes: usize,
    /// Of a storage key.
    pub key_bytes: usize,
    /// Of a storage value.
    pub value_bytes: usize,
    /// Of return or revert data.
    pub data_bytes: usize,
    /// Log records in a transaction.
    pub logs: usize,
    /// Of a log record.
    pub log_bytes: usize,
    /// Of a method name.
    pub method_bytes: usize,
    /// Fuel of a transaction.
    pub transaction_fuel: u64,
    /// Fuel of a block.
    pub block_fuel: u64,
}

impl ProtocolParams {
    /// SHA-256 of all of it: equal for equal parameters only.
    pub fn fingerprint(&self) -> [u8; 32] {
        // The derived `Debug` names every field, so no two sets print the same.
        Sha256::digest(format!("slackline protocol parameters {self:?}")).into()
    }

    /// Version 1. Costs outside wasm are such that nothing takes more than twice as long per fuel as the median operator does, by
    /// `cargo xtask bench calibrate`: a transfer took 92 µs, a call that does nothing 180 µs, a write 8 µs, a log record 2.4 µs, and
    /// the median operator 0.42 ns per fuel.
    pub fn v1() -> ProtocolParams {
        ProtocolParams {
            version: 1,
            costs: CostTable::v1(),
            fees: FuelSchedule {
                transaction_base: 120_000,
                transaction_per_byte: 10,
                deploy_per_byte: 1_000,
                call_base: 100_000,
                host_call: 100,
                host_per_byte: 1,
                storage_get: 5_000,
                storage_get_per_byte: 5,
                storage_set: 15_000,
                storage_set_per_byte: 50,
                log: 3_000,
                log_per_byte: 10,
            },
            limits: Limits {
                transaction_bytes: 1_500_000,
                code_bytes: 1 << 20,
                functions: 10_000,
                memory_pages: 1_024,
                table_elements: 10_000,
                stack_bytes: 512 << 10,
                key_bytes: 1_024,
                value_bytes: 256 << 10,
                data_bytes: 256 << 10,
                logs: 256,
                log_bytes: 16 << 10,
                method_bytes: 64,
                transaction_fuel: 10_000_000_000,
                block_fuel: 100_000_000_000,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here is a new version of the protocol: nodes with the one and nodes with the other disagree.
    #[test]
    fn version_1_is_pinned() {
        assert_eq!(hex::encode(ProtocolParams::v1().fingerprint()), FINGERPRINT);
    }

    const FINGERPRINT: &str = "c95555931fa4e874dcad2a973b697194e941232d4ed67448f5e64611996e12b0";
}
