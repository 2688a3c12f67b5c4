//! What wasm operators cost.
//!
//! One unit is what an addition costs, which takes a third of a nanosecond on the machine below; constants and locals, which take none, cost the same, as they
//! say how much code there is. Operators that take longer cost more, so that nothing takes more than twice as long per unit
//! as the median operator: `cargo xtask bench calibrate` measures that. An operator is judged by a chain of its kind in which
//! each needs the result of the one before: that is what somebody would run who wants his fuel to last.
//!
//! Measured on an Intel Xeon (Sapphire Rapids, 3 GHz), with canonical NaNs, in nanoseconds for each in a chain:
//!
//! | operators | ns | cost |
//! |---|---|---|
//! | integer addition, logic, shift, comparison; multiplication | 0.3; 1.0 | 1 |
//! | `clz`, `ctz`, `popcnt` | 1.0 | 2 |
//! | integer division and remainder, 32 and 64 bits | 5.0, 6.3 | 10, 12 |
//! | load from the first-level cache, with extension of the sign | 2.0, 2.3 | 3, 4 |
//! | store | 0.2 | 1 |
//! | `call`, `call_indirect`, besides the 1 that the entered function costs | 1.6 | 2, 4 |
//! | floating point: add, mul, min, max | 4.1 to 4.9 | 6 to 8 |
//! | division, square root | 8.2, 7.9 | 14 |
//! | `ceil`, `floor`, `trunc`, `nearest` | 6.5 | 11 |
//! | comparison; conversion from or to an integer | 2 | 2; 4 |
//! | `promote`, `demote` | 5 | 9 |
//! | vectors: integer multiplication | 1.7 to 5.3 | 3 to 9 |
//! | vectors: floating point | 3.9 to 9.0 | 6 to 15 |
//! | `ref.func`, `table.grow` and others that call the runtime | 50 to 110 | 80 to 200 |
//!
//! What is not priced, and why:
//!
//! - A load that misses the caches takes up to a hundred times as long as one that does not. Which ones miss depends on the machine. What a contract can
//!   make of it is limited by the size of its memory.
//! - A mispredicted branch costs 7 ns, whatever branches.
//! - A page of memory takes 1.5 µs to ask for and as much to touch first; [`u8::MAX`] is the most that wasmtime's table
//!   can say. A contract has 1024 pages at most.
//!
//! Bulk operations cost 1 per byte and take a fortieth of a nanosecond: less is not possible in whole numbers.

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
    /// per byte or element of a bulk operation), but for what takes longer: see the module's documentation.
    pub fn v1() -> CostTable {
        let mut operators = OperatorCost::new();
        weigh(&mut operators);
        CostTable {
            version: 1,
            operators,
        }
    }

    /// This table with operators that cost nothing, whatever they do; entering a function and the units of bulk operations cost what
    /// they do. For code that says itself what it executes, so that whoever runs it can charge for that.
    pub fn with_free_operators(&self) -> CostTable {
        let mut operators = self.operators.clone();
        macro_rules! free {
            ($(@$proposal:ident $operator:ident $({ $($field:ident: $ty:ty),* })? => $visit:ident ($($rest:tt)*))*) => {
                $(operators.$operator = 0;)*
            };
        }
        wasmtime_environ::wasmparser::for_each_operator!(free);
        CostTable {
            version: self.version,
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

/// The weights of version 1 that are not wasmtime's.
fn weigh(table: &mut OperatorCost) {
    macro_rules! cost {
        ($($cost:literal: $($operator:ident)+;)+) => {
            $($(table.$operator = $cost;)+)+
        };
    }
    cost! {
        // Integers.
        2: I32Clz I32Ctz I32Popcnt I64Clz I64Ctz I64Popcnt;
        10: I32DivS I32DivU I32RemS I32RemU;
        12: I64DivS I64DivU I64RemS I64RemU;
        // Memory and tables.
        3: I32Load I32Load8U I32Load16U I64Load I64Load8U I64Load16U I64Load32U F32Load F64Load
            V128Load V128Load32Zero V128Load64Zero;
        4: I32Load8S I32Load16S I64Load8S I64Load16S I64Load32S
            V128Load8x8S V128Load8x8U V128Load16x4S V128Load16x4U V128Load32x2S V128Load32x2U
            V128Load8Splat V128Load16Splat V128Load32Splat V128Load64Splat
            V128Load8Lane V128Load16Lane V128Load32Lane V128Load64Lane;
        2: V128Store8Lane V128Store16Lane V128Store32Lane V128Store64Lane TableSet;
        5: TableGet;
        8: MemoryFill MemoryCopy MemoryInit TableFill TableCopy;
        20: TableInit;
        80: RefFunc DataDrop ElemDrop;
        200: TableGrow;
        255: MemoryGrow;
        // Control.
        2: Call BrTable;
        4: CallIndirect;
        // Floating point, with canonical NaNs.
        2: F32Eq F32Ne F32Lt F32Gt F32Le F32Ge F64Eq F64Ne F64Lt F64Gt F64Le F64Ge
            I32ReinterpretF32 I64ReinterpretF64 F32ReinterpretI32 F64ReinterpretI64;
        6: F32Add F32Sub F64Add F64Sub;
        7: F32Mul F64Mul;
        8: F32Min F32Max F64Min F64Max;
        14: F32Div F64Div F32Sqrt F64Sqrt;
        11: F32Ceil F32Floor F32Trunc F32Nearest F64Ceil F64Floor F64Trunc F64Nearest;
        4: I32TruncF32S I32TruncF32U I32TruncF64S I32TruncF64U I64TruncF32S I64TruncF32U I64TruncF64S I64TruncF64U
            I32TruncSatF32S I32TruncSatF32U I32TruncSatF64S I32TruncSatF64U
            I64TruncSatF32S I64TruncSatF32U I64TruncSatF64S I64TruncSatF64U
            F32ConvertI32S F32ConvertI32U F32ConvertI64S F32ConvertI64U
            F64ConvertI32S F64ConvertI32U F64ConvertI64S F64ConvertI64U;
        9: F32DemoteF64 F64PromoteF32;
        // Vectors of integers.
        2: I8x16Shuffle I8x16Swizzle I8x16Popcnt I64x2ShrS
            I8x16Splat I16x8Splat I32x4Splat I64x2Splat F32x4Splat F64x2Splat
            I8x16ExtractLaneS I8x16ExtractLaneU I16x8ExtractLaneS I16x8ExtractLaneU
            I32x4ExtractLane I64x2ExtractLane F32x4ExtractLane F64x2ExtractLane
            I8x16ReplaceLane I16x8ReplaceLane I32x4ReplaceLane I64x2ReplaceLane F32x4ReplaceLane F64x2ReplaceLane;
        3: I8x16Bitmask I16x8Bitmask I32x4Bitmask I64x2Bitmask
            I8x16AllTrue I16x8AllTrue I32x4AllTrue I64x2AllTrue V128AnyTrue
            I8x16ShrS I16x8Mul I32x4DotI16x8S
            I16x8ExtAddPairwiseI8x16S I16x8ExtAddPairwiseI8x16U I32x4ExtAddPairwiseI16x8S I32x4ExtAddPairwiseI16x8U;
        4: I16x8ExtMulLowI8x16S I16x8ExtMulHighI8x16S I16x8ExtMulLowI8x16U I16x8ExtMulHighI8x16U
            I32x4ExtMulLowI16x8S I32x4ExtMulHighI16x8S I32x4ExtMulLowI16x8U I32x4ExtMulHighI16x8U
            I16x8Q15MulrSatS;
        5: I32x4Mul;
        9: I64x2Mul I64x2ExtMulLowI32x4S I64x2ExtMulHighI32x4S I64x2ExtMulLowI32x4U I64x2ExtMulHighI32x4U;
        // Vectors of floating point, with canonical NaNs.
        2: F32x4Eq F32x4Ne F32x4Lt F32x4Gt F32x4Le F32x4Ge F64x2Eq F64x2Ne F64x2Lt F64x2Gt F64x2Le F64x2Ge
            F32x4PMin F32x4PMax F64x2PMin F64x2PMax;
        6: F32x4Add F32x4Sub F64x2Add F64x2Sub;
        7: F32x4Mul F64x2Mul;
        12: F32x4Div F64x2Div;
        14: F32x4Min F32x4Max F64x2Min F64x2Max;
        15: F32x4Sqrt F64x2Sqrt;
        10: F32x4Ceil F32x4Floor F32x4Trunc F32x4Nearest F64x2Ceil F64x2Floor F64x2Trunc F64x2Nearest;
        5: F32x4ConvertI32x4S F32x4ConvertI32x4U F64x2ConvertLowI32x4S F64x2ConvertLowI32x4U;
        7: I32x4TruncSatF32x4S I32x4TruncSatF32x4U;
        10: I32x4TruncSatF64x2SZero I32x4TruncSatF64x2UZero;
        9: F32x4DemoteF64x2Zero F64x2PromoteLowF32x4;
    }
    let units = &mut table.variable;
    units.memory_grow_per_page = u8::MAX;
    units.table_copy_per_element = 3;
    units.table_grow_per_element = 2;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here is a new version of the protocol: nodes with the one and nodes with the other disagree.
    #[test]
    fn version_1_is_pinned() {
        let hex: String = CostTable::v1()
            .fingerprint()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, FINGERPRINT);
    }

    const FINGERPRINT: &str = "6628a27967c87b3b100813856250800ed2d1454f4fa9c5a7379bae181f488532";
}
