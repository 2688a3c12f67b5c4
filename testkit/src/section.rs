//! Sections of tests by function, for the attributes [`fuel_at_most`](crate::fuel_at_most), [`measured`](crate::measured) and
//! [`unmetered`](crate::unmetered): they hold for all that is executed on a thread, on any [`Kit`](crate::Kit), until they are dropped.

use std::cell::RefCell;
use std::marker::PhantomData;

#[derive(Default)]
struct Open {
    /// By all that was metered on this thread, in fuel.
    spent: u64,
    /// Sections in each other that are not metered.
    unmetered: u64,
    scopes: Vec<String>,
}

thread_local! {
    static OPEN: RefCell<Open> = RefCell::default();
}

/// A section, until it is dropped.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct Section {
    kind: Kind,
    /// It is of the thread that it began on.
    _not_send: PhantomData<*const ()>,
}

#[derive(Debug)]
enum Kind {
    AtMost {
        name: &'static str,
        most: u64,
        before: u64,
    },
    Measured,
    Unmetered,
}

fn with<T>(use_it: impl FnOnce(&mut Open) -> T) -> T {
    OPEN.with_borrow_mut(use_it)
}

fn section(kind: Kind) -> Section {
    Section {
        kind,
        _not_send: PhantomData,
    }
}

/// Panics at its end when more than `most` fuel was used in it.
pub fn at_most(name: &'static str, most: u64) -> Section {
    let before = with(|open| open.spent);
    section(Kind::AtMost { name, most, before })
}

/// Has its own line in reports of tests.
pub fn measured(name: &str) -> Section {
    with(|open| open.scopes.push(name.to_owned()));
    section(Kind::Measured)
}

/// Is in no report, and counts for no bound.
pub fn unmetered() -> Section {
    with(|open| open.unmetered += 1);
    section(Kind::Unmetered)
}

impl Drop for Section {
    fn drop(&mut self) {
        match self.kind {
            Kind::AtMost { name, most, before } => {
                let used = with(|open| open.spent) - before;
                // A second panic would end the program.
                assert!(
                    used <= most || std::thread::panicking(),
                    "expected at most {most} fuel in `{name}`, which is {} less than it took: {used}",
                    used - most
                );
            }
            Kind::Measured => drop(with(|open| open.scopes.pop())),
            Kind::Unmetered => with(|open| open.unmetered -= 1),
        }
    }
}

pub(crate) fn are_metered() -> bool {
    with(|open| open.unmetered == 0)
}

pub(crate) fn spend(fuel: u64) {
    with(|open| open.spent += fuel);
}

/// Those that are measured, outermost first.
pub(crate) fn scopes() -> Vec<String> {
    with(|open| open.scopes.clone())
}
