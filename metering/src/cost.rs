//! What wasm operators cost.

use sha2::{Digest, Sha256};
use wasmtime::OperatorCost;

/// Fuel per wasm operator, and per unit of the bulk operations. Part of the protocol: two nodes with
/// different tables disagree about everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CostTable {
    version: u32,
    operators: OperatorCost,
}

impl CostTable {
    /// Version 1: wasmtime's own weights (1 for most operators, 0 for those that make no code, 1
    /// per byte or element of a bulk operation), and for a page of `memory.grow`, which wasmtime
    /// gives away, the most that its table can say.
    pub fn v1() -> CostTable {
        let mut operators = OperatorCost::new();
        operators.variable.memory_grow_per_page = u8::MAX;
        CostTable {
            version: 1,
            operators,
        }
    }

    /// The table's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The table as wasmtime takes it.
    pub fn operators(&self) -> &OperatorCost {
        &self.operators
    }

    /// SHA-256 of the table: equal for equal tables only.
    pub fn fingerprint(&self) -> [u8; 32] {
        // The derived `Debug` names every field, so no two tables print the same.
        Sha256::digest(format!("slackline cost table {self:?}")).into()
    }
}
