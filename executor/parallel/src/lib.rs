//! Executes the transactions of a block on several threads, with the result of executing them one after the other.
//!
//! ```text
//!                 Scheduler: which transaction is executed or validated next
//!                     │ task                       ▲ done, aborted, blocked
//!                     ▼                            │
//!   worker ──▶ Machine::execute(tx, View) ──▶ Executed { output, changes }
//!                     │ read, next                 │ record
//!                     ▼                            ▼
//!              Memory: key ─▶ [tx 2: write] [tx 5: add] [tx 9: estimate] …   reads of each transaction, kept
//!                     │ nothing below: the state before the block            │ validated against the memory again
//!                     ▼                                                      ▼ no longer what was read
//!                 the machine's own store                         marked as estimates, executed again
//! ```
//!
//! This is Block-STM (Gelashvili et al., arXiv 2203.06871; its first implementation is `aptos-move/block-executor` of aptos-core). The order
//! is given. Each transaction executes as if those before it were done, on what they have written so far; what it has read is remembered, and
//! read again (*validated*) once they have changed. If it is not the same, the transaction is executed again, as its next *incarnation*, and what the last
//! one wrote is marked as an *estimate* meanwhile: who reads that waits for it. When all are executed and validated, each has read what
//! those before it wrote in the end. That is what it would have read in order, and as a transaction's output is a function of what it
//! reads, the result is that of executing in order.
//!
//! What is different from the paper:
//!
//! - Reads are validated by value, not by version: an incarnation that writes what the one before wrote disturbs nobody. That is enough,
//!   as an output depends on values only.
//! - A change may be an *add* that does not read ([`Change::Add`]): adds to a key commute, so that those who add do not disturb each other. Who
//!   reads the key sees their sum.
//! - A scan for the next key ([`View::next`]) is remembered with what it found and repeated when validated, so that a key that appears or disappears
//!   within it is noticed.
//! - A read may ask for a part of a value ([`View::read_base`], [`Machine::same_part`]): changes of the rest do not disturb it.
//! - An incarnation that is still executing is looked at when one before it has written something else: if it has read that, it is *doomed*, and the machine is
//!   told so ([`Machine::cancel`]) and may stop it at once. Whatever a doomed incarnation returns is thrown away.
//! - Work in vain is bounded ([`Options::wasted`]): beyond that the parallel execution ends and says how many transactions from the first on are final
//!   ([`Finished::outputs`]); the caller executes the others in order. It ends the same way when the machine fails, since what
//!   fails may have read what never was: only a failure in order is one.

#![deny(unsafe_code)]

#[cfg(test)]
extern crate self as slackline_parallel;

mod engine;
mod memory;
#[cfg(test)]
mod model;
mod scheduler;
mod sync;

pub use engine::{
    Executed, Fallback, Finished, FinishedOf, Machine, Options, RunError, Stats, Stop, View, run,
};
pub use memory::{Add, Base, Change, Held, Range, Seen, Stale};
