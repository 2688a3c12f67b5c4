//! What metering costs: programs, the variants of the engine that they run with, and measuring.
//!
//! ```text
//!   Subject (kernel, file) ──pad──▶ layouts ──Compiler per Variant──▶ Runner ──run──▶ Outcome
//!                                                                        │  rounds, taking turns
//!                                                                        ▼
//!                                              Measurement ──▶ report: table, summary, JSON
//! ```

#![deny(unsafe_code)]

#[allow(unsafe_code)]
pub mod clock;
pub mod host;
pub mod kernels;
pub mod layout;
pub mod measure;
pub mod report;
pub mod run;
pub mod stats;
#[allow(unsafe_code)]
pub mod variant;

/// That of the node's program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
