//! Which addresses are bodies of wasm functions that count in the pinned register.
//!
//! Read from signal handlers, so reading takes no lock and allocates nothing; written when modules are
//! loaded and dropped. Wasmtime's own registry cannot serve: its lookup takes a lock, it knows of
//! engines that do not count, and it does not tell bodies from trampolines.

use crate::profile;
use crate::published::Published;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wasmtime::Module;

/// The function bodies of one module, ascending and disjoint.
struct Bodies {
    /// Unique in the process.
    id: u64,
    span: Range<usize>,
    ranges: Box<[Range<usize>]>,
}

/// Ascending by span; modules do not overlap.
type Snapshot = Vec<Arc<Bodies>>;

static TABLE: Published<Snapshot> = Published::new();

/// The id of the registered module that has `pc` in a function body. Async-signal-safe: a search that cannot panic, in
/// memory that is not freed meanwhile.
pub(crate) fn find(pc: usize) -> Option<u64> {
    TABLE.read(|modules| {
        let module = search(modules?, pc, |module| &module.span)?;
        search(&module.ranges, pc, |range| range)?;
        Some(module.id)
    })
}

fn search<T>(sorted: &[T], pc: usize, range: impl Fn(&T) -> &Range<usize>) -> Option<&T> {
    let after = sorted.partition_point(|item| range(item).start <= pc);
    let candidate = sorted.get(after.checked_sub(1)?)?;
    range(candidate).contains(&pc).then_some(candidate)
}

/// Keeps the bodies of a module in the table while it lives.
pub(crate) struct Registration(Option<Arc<Bodies>>);

impl Registration {
    /// What [`find`] finds; `None` for a module without functions.
    pub(crate) fn id(&self) -> Option<u64> {
        Some(self.0.as_ref()?.id)
    }
}

/// Registers the function bodies of `module`. The code must stay mapped as long as the result lives.
pub(crate) fn register(module: &Module) -> Registration {
    let base = module.text().as_ptr() as usize;
    let mut ranges: Vec<Range<usize>> = module
        .functions()
        .map(|function| {
            let start = base + function.offset;
            start..start + function.len
        })
        .collect();
    ranges.sort_by_key(|range| range.start);
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else {
        return Registration(None);
    };
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    let bodies = Arc::new(Bodies {
        id: NEXT_ID.fetch_add(1, Relaxed),
        span: first.start..last.end,
        ranges: ranges.into_boxed_slice(),
    });
    profile::register(bodies.id, module);
    update(|modules| {
        let at = modules.partition_point(|other| other.span.start < bodies.span.start);
        modules.insert(at, bodies.clone());
    });
    Registration(Some(bodies))
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(bodies) = self.0.take() {
            update(|modules| modules.retain(|other| other.id != bodies.id));
            profile::unregister(bodies.id);
        }
    }
}

fn update(change: impl FnOnce(&mut Snapshot)) {
    TABLE.update(|modules| {
        let mut modules = modules.cloned().unwrap_or_default();
        change(&mut modules);
        Some(modules)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_respects_both_ends_and_gaps() {
        let ranges = [10..20, 30..40];
        let found = |pc| search(&ranges, pc, |range| range).cloned();
        assert_eq!(found(9), None);
        assert_eq!(found(10), Some(10..20));
        assert_eq!(found(19), Some(10..20));
        assert_eq!(found(20), None);
        assert_eq!(found(29), None);
        assert_eq!(found(39), Some(30..40));
        assert_eq!(found(40), None);
        assert_eq!(search(&[] as &[Range<usize>], 1, |range| range), None);
    }
}
