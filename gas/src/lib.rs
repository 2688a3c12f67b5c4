//! What contracts cost: from recorded executions to things that developers look at, commit and compare.
//!
//! ```text
//!   cargo test, with SLACKLINE_GAS_DIR ──▶ testkit ──▶ *.jsonl, *.wasm
//!                                                        │ Records::read
//!                          ┌─────────────────────────────┤
//!                          ▼                             ▼
//!       Report: by contract and method       Snapshot: fuel of each test
//!            │ diff                                │ parse, diff, Display
//!            ▼                                     ▼
//!       tables as text, Markdown, JSON       a file to commit
//!
//!       Profile, with the blocks of the executor and the Symbols of a build: flame graphs, lines
//! ```
//!
//! All numbers are units of fuel unless something else is said. They are sums of what receipts and the executor's traces say, never
//! estimates, and the same on every machine: only the mean is rounded, down.

#![forbid(unsafe_code)]

pub mod growth;
pub mod profile;
pub mod records;
pub mod report;
pub mod snapshot;
pub mod symbols;
pub mod table;

pub use profile::{Profile, ProfileError};
pub use records::{ReadError, Records};
pub use report::{How, Report, ReportDiff};
pub use snapshot::{ParseError, Snapshot, SnapshotDiff};
pub use table::{Format, Table};

/// What is known of the rules that numbers were made under: those made under others cannot be compared.
pub fn rules() -> String {
    let params = slackline_executor::ProtocolParams::v1();
    let fingerprint = params.fingerprint();
    let [a, b, c, d, ..] = fingerprint;
    format!("protocol {} {a:02x}{b:02x}{c:02x}{d:02x}", params.version)
}
