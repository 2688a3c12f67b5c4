//! What clients are told of errors here. The kinds, with their codes: [`slackline_client::error`].

use crate::producer::{Dropped, SubmitError};
use crate::workers::WorkError;
pub use slackline_client::RpcError;
use slackline_client::types::Amount;
use slackline_executor::sample::SamplingError;
use slackline_executor::{AdmitError, EstimateError, ExecutionError, StoreError, ViewError};
use std::borrow::Borrow;

/// Of a transaction that is not accepted.
pub(crate) fn of_admission(error: &AdmitError) -> RpcError {
    match error {
        AdmitError::TooLarge { bytes, limit } => RpcError::TransactionTooLarge {
            bytes: *bytes as u64,
            limit: *limit as u64,
        },
        AdmitError::Malformed(reason) => RpcError::MalformedTransaction {
            reason: reason.clone(),
        },
        AdmitError::WrongChain { expected, got } => RpcError::WrongChain {
            expected: *expected,
            got: *got,
        },
        AdmitError::BadSignature => RpcError::BadSignature,
        AdmitError::NonceTooLow { expected, got } => RpcError::NonceTooLow {
            expected: *expected,
            got: *got,
        },
        AdmitError::NonceTooHigh { expected, got } => RpcError::NonceTooHigh {
            expected: *expected,
            got: *got,
        },
        AdmitError::InsufficientBalance { needed, available } => RpcError::InsufficientBalance {
            needed: Amount(*needed),
            available: Amount(*available),
        },
        AdmitError::FuelLimitTooLow { minimum, got } => RpcError::FuelLimitTooLow {
            minimum: *minimum,
            got: *got,
        },
        AdmitError::FuelLimitTooHigh { maximum, got } => RpcError::FuelLimitTooHigh {
            maximum: *maximum,
            got: *got,
        },
        AdmitError::FuelPriceTooLow { base_price, got } => RpcError::FuelPriceTooLow {
            base_price: *base_price,
            got: *got,
        },
        AdmitError::NoContract(contract) => RpcError::NoContract {
            contract: *contract,
        },
        AdmitError::UnknownMethod {
            contract,
            method,
            available,
        } => RpcError::UnknownMethod {
            contract: *contract,
            method: method.clone(),
            available: available.clone(),
        },
        AdmitError::InvalidCode(error) => RpcError::InvalidCode {
            reason: error.to_string(),
        },
        AdmitError::Store(error) => of_store(error),
        // The executor may come to know more reasons than this list.
        other => RpcError::Refused {
            reason: other.to_string(),
        },
    }
}

/// Of a transaction that left the mempool.
pub(crate) fn of_drop(reason: &Dropped) -> RpcError {
    match *reason {
        Dropped::Refused(ref error) => of_admission(error),
        Dropped::NonceUsed { expected, got } => RpcError::NonceTooLow { expected, got },
        Dropped::Orphaned { expected, got } => RpcError::NonceTooHigh { expected, got },
        Dropped::InsufficientBalance { needed, available } => RpcError::InsufficientBalance {
            needed: Amount(needed),
            available: Amount(available),
        },
        Dropped::FuelPriceTooLow { base_price, got } => {
            RpcError::FuelPriceTooLow { base_price, got }
        }
        Dropped::Replaced { by } => RpcError::Replaced { by },
        Dropped::Evicted { price, .. } => RpcError::Evicted { price },
        Dropped::Expired { height } => RpcError::Expired { height },
    }
}

/// Of a view, a simulation or a trace.
pub(crate) fn of_view(error: &ViewError) -> RpcError {
    match error {
        ViewError::NoContract(contract) => RpcError::NoContract {
            contract: *contract,
        },
        ViewError::UnknownMethod {
            contract,
            method,
            available,
        } => RpcError::UnknownMethod {
            contract: *contract,
            method: method.clone(),
            available: available.clone(),
        },
        ViewError::FuelLimitTooHigh { maximum, got } => RpcError::FuelLimitTooHigh {
            maximum: *maximum,
            got: *got,
        },
        ViewError::InputTooLarge { bytes, limit } => RpcError::InputTooLarge {
            bytes: *bytes as u64,
            limit: *limit as u64,
        },
        ViewError::Execution(ExecutionError::Store(error)) => of_store(error),
        ViewError::Execution(error) => RpcError::Internal {
            reason: error.to_string(),
        },
        // As for transactions.
        other => RpcError::Refused {
            reason: other.to_string(),
        },
    }
}

/// Of a simulation.
pub(crate) fn of_estimate(error: EstimateError) -> RpcError {
    match error {
        EstimateError::Refused(error) => of_admission(&error),
        EstimateError::Execution(error) => of_view(&ViewError::Execution(error)),
        // Who asked has gone away, unless it is this.
        EstimateError::Abandoned => RpcError::NodeStopping,
        other => RpcError::Refused {
            reason: other.to_string(),
        },
    }
}

/// Of reading the database.
pub(crate) fn of_store(error: impl Borrow<StoreError>) -> RpcError {
    let error = error.borrow();
    match *error {
        StoreError::OutsideWindow { height, head, .. } if height > head => {
            RpcError::NoBlock { height, head }
        }
        StoreError::OutsideWindow { height, oldest, .. } => RpcError::Pruned { height, oldest },
        _ => RpcError::Storage {
            reason: error.to_string(),
        },
    }
}

/// Of sampling.
pub(crate) fn of_sampling(error: SamplingError) -> RpcError {
    let reason = error.to_string();
    match error {
        SamplingError::NoChecks(_) => RpcError::NoSamples { reason },
        SamplingError::Running => RpcError::TryAgainLater { reason },
        // No thread, as when there is no memory.
        _ => RpcError::Internal { reason },
    }
}

impl From<SubmitError> for RpcError {
    fn from(error: SubmitError) -> RpcError {
        match error {
            SubmitError::Refused(error) => of_admission(&error),
            SubmitError::Underpriced {
                waiting,
                fuel_price,
                tip,
            } => RpcError::ReplacementUnderpriced {
                waiting,
                fuel_price,
                tip,
            },
            SubmitError::TryAgainLater(reason) => RpcError::TryAgainLater { reason },
            SubmitError::Stopping => RpcError::NodeStopping,
            SubmitError::Failed(reason) => RpcError::NodeFailed { reason },
            SubmitError::Store(error) => of_store(error),
        }
    }
}

impl From<WorkError> for RpcError {
    fn from(error: WorkError) -> RpcError {
        match error {
            WorkError::Full => RpcError::TryAgainLater {
                reason: error.to_string(),
            },
            WorkError::Stopped => RpcError::NodeStopping,
            WorkError::Panicked => RpcError::Internal {
                reason: error.to_string(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use slackline_executor::Address;

    #[test]
    fn each_refusal_keeps_its_kind_and_its_data() {
        let contract = Address([1; 32]);
        let method = || "m".to_owned();
        let rows: Vec<(AdmitError, i32, serde_json::Value)> = vec![
            (
                AdmitError::TooLarge { bytes: 1, limit: 2 },
                1001,
                serde_json::json!({"kind": "transaction_too_large", "bytes": 1, "limit": 2}),
            ),
            (
                AdmitError::Malformed("why".to_owned()),
                1002,
                serde_json::json!({"kind": "malformed_transaction", "reason": "why"}),
            ),
            (
                AdmitError::WrongChain {
                    expected: 1,
                    got: 2,
                },
                1003,
                serde_json::json!({"kind": "wrong_chain", "expected": 1, "got": 2}),
            ),
            (
                AdmitError::BadSignature,
                1004,
                serde_json::json!({"kind": "bad_signature"}),
            ),
            (
                AdmitError::NonceTooLow {
                    expected: 1,
                    got: 2,
                },
                1005,
                serde_json::json!({"kind": "nonce_too_low", "expected": 1, "got": 2}),
            ),
            (
                AdmitError::NonceTooHigh {
                    expected: 1,
                    got: 2,
                },
                1006,
                serde_json::json!({"kind": "nonce_too_high", "expected": 1, "got": 2}),
            ),
            (
                AdmitError::InsufficientBalance {
                    needed: 1,
                    available: 2,
                },
                1007,
                serde_json::json!({"kind": "insufficient_balance", "needed": "1", "available": "2"}),
            ),
            (
                AdmitError::FuelLimitTooLow { minimum: 1, got: 2 },
                1008,
                serde_json::json!({"kind": "fuel_limit_too_low", "minimum": 1, "got": 2}),
            ),
            (
                AdmitError::FuelLimitTooHigh { maximum: 1, got: 2 },
                1009,
                serde_json::json!({"kind": "fuel_limit_too_high", "maximum": 1, "got": 2}),
            ),
            (
                AdmitError::NoContract(contract),
                1010,
                serde_json::json!({"kind": "no_contract", "contract": contract}),
            ),
            (
                AdmitError::UnknownMethod {
                    contract,
                    method: method(),
                    available: vec![method()],
                },
                1011,
                serde_json::json!(
                    {"kind": "unknown_method", "contract": contract, "method": "m", "available": ["m"]}
                ),
            ),
        ];
        for (error, code, data) in rows {
            let rpc = of_admission(&error);
            assert_eq!(rpc.code(), code, "{error}");
            assert_eq!(serde_json::to_value(&rpc).expect("JSON"), data);
        }
        let views = [
            (ViewError::NoContract(contract), 1010),
            (
                ViewError::UnknownMethod {
                    contract,
                    method: method(),
                    available: vec![],
                },
                1011,
            ),
            (ViewError::FuelLimitTooHigh { maximum: 1, got: 2 }, 1009),
            (ViewError::InputTooLarge { bytes: 1, limit: 2 }, 1101),
        ];
        for (error, code) in views {
            assert_eq!(of_view(&error).code(), code, "{error}");
        }
    }
}
