//! The allocator: a pointer that moves up, and back when the newest block is freed.
//!
//! Every call runs in a fresh instance whose memory is thrown away when it ends, so free lists would be code to store
//! and fuel to burn for memory that is about to disappear. Freeing or resizing the *newest* block costs one compare,
//! though, and it is what temporaries in a loop do: with it such a loop runs in constant memory and a growing `Vec` is
//! extended in place. Everything else stays allocated until the call ends.
//!
//! ```text
//!  0        stack        data     __heap_base      next              end
//!  ├─────────◀──────────┼────────┼─────────────────┼─────────────────┤ memory.grow ▶
//!                                   blocks in use       free
//! ```
//!
//! When memory cannot grow, allocation fails, which panics, which reverts.
#![allow(unsafe_code)]

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::memory_grow;
use core::cell::Cell;
use core::ptr::{copy_nonoverlapping, null_mut};

#[cfg(target_feature = "atomics")]
compile_error!("the allocator is for one thread");

const PAGE: usize = 1 << 16;

unsafe extern "C" {
    // Where the linker has put the end of the data, and of the initial memory.
    static __heap_base: u8;
    static __heap_end: u8;
}

#[global_allocator]
static HEAP: Heap = Heap {
    next: Cell::new((&raw const __heap_base).cast_mut()),
    end: Cell::new((&raw const __heap_end).cast_mut()),
};

/// `next..end` is memory that exists and that nobody else uses.
struct Heap {
    next: Cell<*mut u8>,
    end: Cell<*mut u8>,
}

// SAFETY: there is one thread, see the `compile_error` above.
unsafe impl Sync for Heap {}

impl Heap {
    /// Makes room for at least `more` bytes behind `end`, or says that it cannot.
    fn grow(&self, more: usize) -> Option<()> {
        let pages = more.div_ceil(PAGE);
        let old = memory_grow::<0>(pages);
        if old == usize::MAX {
            return None;
        }
        // Fails at the very end of the address space, whose last page is then not used.
        let start = old.checked_mul(PAGE)?;
        let end = start.checked_add(pages.checked_mul(PAGE)?)?;
        if start != self.end.get().addr() {
            // The contract has grown the memory by itself: those pages are its own, so go on behind them.
            self.next.set(core::ptr::with_exposed_provenance_mut(start));
        }
        self.end.set(core::ptr::with_exposed_provenance_mut(end));
        Some(())
    }

    fn place(&self, layout: Layout) -> Option<*mut u8> {
        loop {
            let next = self.next.get();
            let start = next.addr().checked_next_multiple_of(layout.align())?;
            let stop = start.checked_add(layout.size())?;
            let end = self.end.get().addr();
            if stop <= end {
                self.next.set(next.with_addr(stop));
                return Some(next.with_addr(start));
            }
            self.grow(stop.wrapping_sub(end))?;
        }
    }

    fn is_newest(&self, block: *mut u8, layout: Layout) -> bool {
        block.wrapping_add(layout.size()) == self.next.get()
    }
}

// SAFETY: `place` gives out aligned parts of `next..end` that lie before the new `next`, so that no two blocks overlap;
// `next` moves back only over a block that is freed or resized here. Nothing here panics.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.place(layout).unwrap_or(null_mut())
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if self.is_newest(block, layout) {
            self.next.set(block);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let newest = self.is_newest(block, layout);
        if newest {
            // Then it is placed where it is, unless memory has to grow and the contract has taken the next pages.
            self.next.set(block);
        } else if new_size <= layout.size() {
            return block;
        }
        // SAFETY: the caller promises that the new size is valid for this alignment.
        let new =
            unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if new.is_null() {
            if newest {
                // SAFETY: one past the end of the block, which stays in use.
                self.next.set(unsafe { block.add(layout.size()) });
            }
        } else if new != block {
            // SAFETY: both blocks have at least the smaller of the sizes, and when the new one is not placed where the
            // old one is, it lies behind all of it.
            unsafe { copy_nonoverlapping(block, new, layout.size().min(new_size)) };
        }
        new
    }
}
