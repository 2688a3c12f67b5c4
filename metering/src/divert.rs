//! What a check does once a thread is interrupted, whatever interrupted it.
//!
//! If the interrupted pc is in a registered function body, the pinned register holds the counter (see
//! [`slackline_metering_pass`]). If that is at zero or above, or what the thread executes was cancelled, pc is set to the landing pad, an
//! instruction that raises a wasm trap, whatever the counter. Wasmtime then resumes in the innermost entry trampoline, from what that one has stored; it does
//! not matter where in the body the thread was, which stack slots were half written, or where the stack pointer was.
//!
//! Everything here runs while a thread stands still that may hold any lock, the allocator's included: in a handler on that
//! thread, or on another one that has suspended it. So it uses atomics, `clock_gettime` and the interrupted thread's
//! registers, and nothing else: no lock, no allocation, no panic.

use crate::checker::{CheckerError, ThreadCell};
use crate::{code_table, pad};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use wasmtime::Store;
use wasmtime::unix::StoreExt;

/// The landing pad: 0 until known.
static PAD: AtomicUsize = AtomicUsize::new(0);

/// The registers of an interrupted thread.
pub(crate) trait Registers {
    fn pc(&self) -> usize;
    fn set_pc(&mut self, pc: usize);
    /// The pinned register, which is r15 on x86-64 and x21 on aarch64: `regs::pinned_reg` of Cranelift's backends.
    fn counter(&self) -> i64;
}

/// Builds the landing pad. Before anything else here.
pub(crate) fn prepare() -> Result<(), CheckerError> {
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err(CheckerError::Platform);
    }
    let address = pad::address().map_err(|error| CheckerError::Pad(error.to_string()))?;
    PAD.store(address, SeqCst);
    Ok(())
}

/// Looks at a thread whose cell is `cell` and which was interrupted with `registers`. True if these were changed.
pub(crate) fn check(cell: &ThreadCell, registers: &mut impl Registers) -> bool {
    let pc = registers.pc();
    let Some(module) = code_table::find(pc) else {
        cell.missed();
        return false;
    };
    let stop = cell.landed(module, pc, registers.counter());
    if stop {
        registers.set_pc(PAD.load(SeqCst));
    }
    stop
}

/// Makes hardware traps in `store` give way to out-of-fuel: a trap with the counter over the limit goes to the
/// landing pad like a check.
pub(crate) fn prefer_out_of_fuel<T: 'static>(store: &mut Store<T>) {
    // SAFETY: the handler is async-signal-safe, as argued in the module's documentation.
    unsafe { store.set_signal_handler(on_trap) }
}

/// Called by wasmtime's handler of SIGSEGV, SIGBUS, SIGILL, SIGFPE before it looks itself; true means handled.
fn on_trap(_: libc::c_int, _: *const libc::siginfo_t, context: *const libc::c_void) -> bool {
    // SAFETY: wasmtime passes the handler's own context on, which the kernel made for writing.
    let context = unsafe { &mut *context.cast_mut().cast::<libc::ucontext_t>() };
    let over = code_table::find(context.pc()).is_some() && context.counter() >= 0;
    if over {
        context.set_pc(PAD.load(SeqCst));
    }
    over
}

/// Monotonic time in nanoseconds. Async-signal-safe.
pub(crate) fn now_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid place for the result. The clock always exists.
    unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
    }
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
