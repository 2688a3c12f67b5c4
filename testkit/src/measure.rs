//! What sections of tests cost.

use crate::record::{Execution, Kind, Recording};
use crate::{Kit, section};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The sections that a test is in, and what has been used.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    /// By all that was metered, in fuel.
    spent: AtomicU64,
    /// Sections in each other that are not metered.
    unmetered: AtomicU64,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    scopes: Vec<String>,
    sizes: Vec<(String, u64)>,
}

/// Calls what it holds when it is dropped, also by a panic.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Sections {
    pub(crate) fn are_metered(&self) -> bool {
        self.unmetered.load(Relaxed) == 0 && section::are_metered()
    }

    pub(crate) fn spend(&self, fuel: u64) {
        self.spent.fetch_add(fuel, Relaxed);
        section::spend(fuel);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sections that are measured, and the sizes of those that have one, outermost first: those of functions before those of this.
    pub(crate) fn names(&self) -> (Vec<String>, Vec<(String, u64)>) {
        let open = self.open();
        let scopes = section::scopes().into_iter().chain(open.scopes.clone());
        (scopes.collect(), open.sizes.clone())
    }

    /// Runs `section` within these, and no others.
    pub(crate) fn within<T>(
        &self,
        unmetered: bool,
        scopes: &[String],
        sizes: &[(String, u64)],
        section: impl FnOnce() -> T,
    ) -> T {
        *self.open() = Open {
            scopes: scopes.to_vec(),
            sizes: sizes.to_vec(),
        };
        self.unmetered.store(unmetered.into(), Relaxed);
        section()
    }

    /// An execution here, of which nothing else is known.
    pub(crate) fn execution(&self, recording: &Recording) -> Execution {
        let (scopes, sizes) = self.names();
        Execution {
            program: recording.program.clone(),
            test: recording.test.clone(),
            order: 0,
            kind: Kind::Transfer,
            scopes,
            sizes,
            contract: None,
            code: None,
            method: None,
            args: None,
            fuel_limit: 0,
            fuel_used: 0,
            intrinsic: 0,
            outcome: String::new(),
            least_limit: None,
            trace: None,
        }
    }
}

/// What a section came to, and what it has used.
#[derive(Clone, Debug)]
#[must_use = "`value` may be an error, and `fuel_at_most` may be of use"]
pub struct Measured<T> {
    /// What the section gave.
    pub value: T,
    /// Fuel of all its transactions and views that were not [unmetered](Kit::unmetered).
    pub fuel: u64,
    name: String,
}

impl<T> Measured<T> {
    /// Asserts that it used no more than `most` fuel, and gives its value.
    ///
    /// # Panics
    ///
    /// When it used more: says how much.
    #[track_caller]
    pub fn fuel_at_most(self, most: u64) -> T {
        let Measured { value, fuel, name } = self;
        assert!(
            fuel <= most,
            "expected at most {most} fuel in {name:?}, which is {} less than it took: {fuel}",
            fuel - most
        );
        value
    }
}

impl Kit {
    /// Measures a section of a test: `slackline gas` shows what it used under this name.
    pub fn measure<T>(&self, name: &str, section: impl FnOnce() -> T) -> Measured<T> {
        self.sections.open().scopes.push(name.to_owned());
        let before = self.sections.spent.load(Relaxed);
        let value = {
            let _end = Finally(|| {
                self.sections.open().scopes.pop();
            });
            section()
        };
        Measured {
            value,
            fuel: self.sections.spent.load(Relaxed) - before,
            name: name.to_owned(),
        }
    }

    /// Runs a section that is not measured and not in any report: what sets a test up, and what only looks.
    pub fn unmetered<T>(&self, section: impl FnOnce() -> T) -> T {
        self.sections.unmetered.fetch_add(1, Relaxed);
        let _end = Finally(|| {
            self.sections.unmetered.fetch_sub(1, Relaxed);
        });
        section()
    }

    /// Runs a section whose work depends on a `size` called `name`, as in `kit.sized("orders", 64, || …)`. `slackline gas limit`
    /// finds out how the fuel of the methods that are called in it grows with that, from at least four sizes.
    pub fn sized<T>(&self, name: &str, size: u64, section: impl FnOnce() -> T) -> T {
        self.sections.open().sizes.push((name.to_owned(), size));
        let _end = Finally(|| {
            self.sections.open().sizes.pop();
        });
        section()
    }
}
