//! Which addresses are bodies of wasm functions that count in the pinned register.
//!
//! Read from signal handlers, so reading takes no lock and allocates nothing; written when modules are
//! loaded and dropped. Wasmtime's own registry cannot serve: its lookup takes a lock, it knows of
//! engines that do not count, and it does not tell bodies from trampolines.
//!
//! # Reclamation
//!
//! The table is an immutable snapshot behind an atomic pointer. A writer publishes a new one and frees the
//! old ones as soon as it sees no reader at work. All accesses are sequentially consistent; in their
//! total order a reader does `READERS += 1`, load `CURRENT`, …, `READERS -= 1`, a writer stores `CURRENT` and
//! then loads `READERS`. If it reads 0, each reader either has finished before or adds itself afterwards, and then
//! loads `CURRENT` after the store: no reader holds what the store replaced. If it does not read 0, the old
//! snapshots wait for the next writer.

use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use wasmtime::Module;

/// The function bodies of one module, ascending and disjoint.
struct Bodies {
    span: Range<usize>,
    ranges: Box<[Range<usize>]>,
}

/// Ascending by span; modules do not overlap.
type Snapshot = Vec<Arc<Bodies>>;

static CURRENT: AtomicPtr<Snapshot> = AtomicPtr::new(ptr::null_mut());
static READERS: AtomicUsize = AtomicUsize::new(0);
#[expect(
    clippy::vec_box,
    reason = "readers hold pointers to what is in the boxes"
)]
static RETIRED: Mutex<Vec<Box<Snapshot>>> = Mutex::new(Vec::new());

/// Whether `pc` is in a registered function body. Async-signal-safe: atomics and reads of memory that the
/// reader count keeps alive; the searches cannot panic.
pub(crate) fn contains(pc: usize) -> bool {
    READERS.fetch_add(1, SeqCst);
    let snapshot = CURRENT.load(SeqCst);
    // SAFETY: null or a snapshot that no writer frees while READERS counts us, as argued above.
    let found = unsafe { snapshot.as_ref() }.is_some_and(|modules| {
        find(modules, pc, |module| &module.span)
            .and_then(|module| find(&module.ranges, pc, |range| range))
            .is_some()
    });
    READERS.fetch_sub(1, SeqCst);
    found
}

fn find<T>(sorted: &[T], pc: usize, range: impl Fn(&T) -> &Range<usize>) -> Option<&T> {
    let after = sorted.partition_point(|item| range(item).start <= pc);
    let candidate = sorted.get(after.checked_sub(1)?)?;
    range(candidate).contains(&pc).then_some(candidate)
}

/// Keeps the bodies of a module in the table while it lives.
pub(crate) struct Registration(Option<Arc<Bodies>>);

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
    let bodies = Arc::new(Bodies {
        span: first.start..last.end,
        ranges: ranges.into_boxed_slice(),
    });
    update(|modules| {
        let at = modules.partition_point(|other| other.span.start < bodies.span.start);
        modules.insert(at, bodies.clone());
    });
    Registration(Some(bodies))
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(bodies) = self.0.take() {
            update(|modules| modules.retain(|other| !Arc::ptr_eq(other, &bodies)));
        }
    }
}

fn update(change: impl FnOnce(&mut Snapshot)) {
    let mut retired = RETIRED.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: only `update` replaces or frees snapshots, and we hold its lock.
    let mut next = unsafe { CURRENT.load(SeqCst).as_ref() }
        .cloned()
        .unwrap_or_default();
    change(&mut next);
    let old = CURRENT.swap(Box::into_raw(Box::new(next)), SeqCst);
    if !old.is_null() {
        // SAFETY: it came from `Box::into_raw` here, and was published once.
        retired.push(unsafe { Box::from_raw(old) });
    }
    if READERS.load(SeqCst) == 0 {
        retired.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_respects_both_ends_and_gaps() {
        let ranges = [10..20, 30..40];
        let found = |pc| find(&ranges, pc, |range| range).cloned();
        assert_eq!(found(9), None);
        assert_eq!(found(10), Some(10..20));
        assert_eq!(found(19), Some(10..20));
        assert_eq!(found(20), None);
        assert_eq!(found(29), None);
        assert_eq!(found(39), Some(30..40));
        assert_eq!(found(40), None);
        assert_eq!(find(&[] as &[Range<usize>], 1, |range| range), None);
    }
}
