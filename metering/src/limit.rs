//! A fuel limit on a store, and what it says afterwards.

use crate::{Metering, Mode};
use wasmtime::{AsContextMut, Store, StoreContextMut, UpdateDeadline};

/// The highest limit, in fuel.
///
/// The counter starts at minus the limit and cannot wrap, being a signed number of 64 bits: from 0, where it is over the limit, 2^63 units
/// are left. What is added to it at once is below 2^62, by what [`slackline_metering_pass`] prepays for a loop; all of that is executed before
/// more is added, unless it is more than the highest limit, and the loop endless or as good as that. Other than that,
/// code burns fewer than 2^15 units a nanosecond (255 for each instruction that executes, or 255 a byte in a bulk
/// operation, which is checked before it starts): it would take days, and the [`crate::Watchdog`] looks within milliseconds.
pub const MAX_LIMIT: u64 = slackline_metering_pass::MOST_FUEL;

/// Why a limit could not be set or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// Above [`MAX_LIMIT`].
    #[error("a fuel limit of {0} is above the maximum of {MAX_LIMIT}")]
    TooHigh(u64),
    /// The store's engine does not count fuel: it is not one of ours.
    #[error("the store does not count fuel: {0:#}")]
    NotMetered(wasmtime::Error),
}

/// A fuel limit that a store has been given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(u64);

impl Limit {
    /// A limit of nothing, for a store that has not been armed.
    pub fn none() -> Limit {
        Limit(0)
    }

    /// Prepares `store`, an engine of `metering`'s, for executions that may use up to `limit` units of
    /// fuel together, and takes care that a trap past the limit is reported as `Trap::OutOfFuel`.
    ///
    /// # Errors
    ///
    /// See [`LimitError`].
    pub fn arm<T: 'static>(
        metering: &Metering,
        store: &mut Store<T>,
        limit: u64,
    ) -> Result<Limit, LimitError> {
        if limit > MAX_LIMIT {
            return Err(LimitError::TooHigh(limit));
        }
        store.set_fuel(limit + 1).map_err(LimitError::NotMetered)?;
        if metering.mode().pins_counter() {
            crate::platform::prefer_out_of_fuel(store);
        }
        if metering.mode() == Mode::Hybrid {
            // The trampoline that leads to the callback has checked the counter: here it is within the limit.
            store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Continue(1)));
            store.set_epoch_deadline(1);
        }
        Ok(Limit(limit))
    }

    /// The limit, in fuel.
    pub fn fuel(self) -> u64 {
        self.0
    }

    /// Fuel used so far, or `None` if that is more than the limit.
    ///
    /// To be asked from the host: after a call has returned, or within a host function. After a trap what was used is
    /// not known.
    pub fn used(self, store: impl AsContextMut) -> Option<u64> {
        match remaining(store) {
            0 => None,
            left => Some(self.0 + 1 - left),
        }
    }

    /// Charges `fuel` for host work about to be done. `None`, with the store left out of fuel, if that
    /// exceeds the limit: the host function must then fail with `Trap::OutOfFuel` and do nothing.
    #[must_use = "a host function that cannot pay must fail"]
    pub fn charge(self, mut store: impl AsContextMut, fuel: u64) -> Option<()> {
        let mut store: StoreContextMut<'_, _> = store.as_context_mut();
        let left = store.get_fuel().unwrap_or(0).saturating_sub(fuel);
        // Only a store without fuel accounting refuses, and `arm` has refused that one.
        store.set_fuel(left).ok()?;
        (left > 0).then_some(())
    }
}

/// What wasmtime calls the remaining fuel: one more than may be used, 0 once the limit is passed.
fn remaining(mut store: impl AsContextMut) -> u64 {
    store.as_context_mut().get_fuel().unwrap_or(0)
}
