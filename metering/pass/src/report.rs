//! What the pass did, for people to look at.

use crate::FunctionKind;
use std::cell::RefCell;

/// What became of the charges of a function.
#[derive(Clone, Debug)]
pub struct Report {
    /// The function's index among those that its module defines; none for trampolines and what initialises instances.
    pub defined_index: Option<u32>,
    /// What it is to the counter.
    pub kind: FunctionKind,
    /// Charges, as many as stock wasmtime's additions to its fuel variable.
    pub charges: usize,
    /// Additions to the register that are left, those of loops that pay on entry included.
    pub additions: usize,
    /// Loops that pay on entry.
    pub prepaid_loops: usize,
    /// The CLIF before the pass.
    pub before: String,
    /// The CLIF after it.
    pub after: String,
}

/// The counts in a [`Report`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) charges: usize,
    pub(crate) additions: usize,
    pub(crate) prepaid_loops: usize,
}

thread_local! {
    static COLLECTED: RefCell<Option<Vec<Report>>> = const { RefCell::new(None) };
}

/// Runs `compile` and collects a report of each function that the pass rewrites on this thread meanwhile. So `compile` should
/// not compile in parallel.
pub fn collect_reports<T>(compile: impl FnOnce() -> T) -> (T, Vec<Report>) {
    let outer = COLLECTED.replace(Some(Vec::new()));
    let result = compile();
    let reports = COLLECTED.replace(outer).unwrap_or_default();
    (result, reports)
}

pub(crate) fn wanted() -> bool {
    COLLECTED.with_borrow(Option::is_some)
}

pub(crate) fn collect(report: Report) {
    COLLECTED.with_borrow_mut(|reports| reports.get_or_insert_default().push(report));
}
