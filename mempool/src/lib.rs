//! Transactions that wait for a block.
//!
//! ```text
//!                 bytes from a client or a peer            Journal::open, at start
//!                        │                                       │
//!     the chain  ────────┤ structure, fuel, signature, code      │
//!                        ▼                                       ▼
//!     Mempool::insert  Candidate ── nonce, balance, price, room ─┤──▶ AdmissionError
//!                        │                                       │
//!          ┌─────────────┴─ of each sender, by nonce ────────────┘
//!          │  [executing] [pending, pending, …]  gap  [queued, …]
//!          │                   │                          │
//!          │   take_batch ◀────┘ best effective price     └──▶ evicted first, worst price first
//!          ▼
//!      a block ──▶ on_block: included, refused, nonce used, too poor, price too low, expired
//!                        │
//!                        ▼
//!                  Ticket: one Verdict a transaction            Journal::append, compact
//! ```
//!
//! - **Pending** transactions of a sender have consecutive nonces from the account's on, and the account can pay for all of them
//!   together. Only these get into a batch. The others are **queued**, until the gap is filled or the account has more.
//! - A batch has the best [effective price](slackline_types::Transaction::effective_price) first, then the highest tip, then who came
//!   first; a sender's transactions stay in the order of their nonces. It depends on nothing but the calls made before.
//! - The **worth** of a transaction is the lowest effective price of it and of those of its sender before it: nobody gets it
//!   without these. So worth never rises along a sender's nonces, the least worth of all is the last of some sender, and eviction
//!   takes it from there: it never leaves a gap, and an expensive last transaction protects no cheap ones.
//! - Some **local** transactions are not evicted while they are pending: as many as [`Limits::local`] allows, in an eighth of the bytes.
//! - A **local** transaction is sent to others [again and again](Mempool::resend) for as long as it is pending: nobody says whether it has arrived.
//! - Whoever holds a [`Ticket`] gets one verdict, or sees the channel closed if the pool itself goes away before.
//!
//! The pool is a plain data structure: no lock, no clock, no thread, no database. Time is the height of blocks. [`Accounts`] is all that
//! it knows of the chain; receipts and refusals are type parameters. With n transactions, at most k of each sender, insertion and removal
//! take O(log n + k), a block O(m (log n + k)) for m senders that it touches, and O(n log n) when the base price changes.

#![forbid(unsafe_code)]

mod admission;
mod error;
mod journal;
mod pool;

pub use admission::Candidate;
pub use error::{AdmissionError, DropReason};
pub use journal::{Journal, JournalError, Record, Recovered};
pub use pool::{
    Accepted, AccountView, Accounts, BatchLimits, Committed, LOOKS, Limits, MISFITS, Mempool,
    Origin, Pending, STARVED_LOOKS, Settled, Stats, Subpool, Ticket, Verdict,
};
