//! What the kernels in Rust share: memory, random numbers, and the export.
//!
//! `kernel!` makes a module that exports `run`, which does the same work at each call and returns a checksum.

#![no_std]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;

/// Exports a function without parameters that returns a `u64`.
#[macro_export]
macro_rules! kernel {
    ($run:ident) => {
        #[unsafe(no_mangle)]
        extern "C" fn run() -> u64 {
            $crate::free_all();
            $run()
        }
    };
}

/// The next of a sequence of pseudo-random numbers; `state` must not be 0.
pub fn random_next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Where a sequence of random numbers starts.
pub const SEED: u64 = 88172645463325252;

/// Mixes a value into a checksum.
pub fn mix(sum: u64, value: u64) -> u64 {
    sum.rotate_left(5).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ value
}

const SIZE: usize = 8 << 20;

/// Hands out memory from one end to the other, and takes none back before the next run.
struct Bump {
    memory: UnsafeCell<[u8; SIZE]>,
    used: UnsafeCell<usize>,
}

// SAFETY: the module has one thread.
unsafe impl Sync for Bump {}

#[global_allocator]
static MEMORY: Bump = Bump {
    memory: UnsafeCell::new([0; SIZE]),
    used: UnsafeCell::new(0),
};

// SAFETY: pieces do not overlap until `free_all`, before which everything allocated is gone.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: one thread, and no reference is kept.
        let used = unsafe { &mut *self.used.get() };
        let base = self.memory.get().cast::<u8>();
        let at = (base as usize + *used).next_multiple_of(layout.align()) - base as usize;
        match at.checked_add(layout.size()) {
            Some(end) if end <= SIZE => {
                *used = end;
                // SAFETY: `at` is within the memory.
                unsafe { base.add(at) }
            }
            _ => core::ptr::null_mut(),
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

/// For `kernel!`: nothing that the last run has allocated is left.
#[doc(hidden)]
pub fn free_all() {
    // SAFETY: one thread, and no reference is kept.
    unsafe { *MEMORY.used.get() = 0 }
}

#[cfg(target_arch = "wasm32")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}
