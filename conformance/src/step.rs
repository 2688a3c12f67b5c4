//! Single-stepping: what the counter is at each instruction of compiled code.
//!
//! A signal storm finds an instruction at which a check would wrongly stop an execution with some probability; this finds
//! it. The processor's trap flag makes it raise SIGTRAP after every instruction; the handler reads the pinned register.
//! On x86-64 Linux only; elsewhere nothing is looked at.

use slackline_metering::MeteredModule;
use std::ops::Range;

/// What has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Instructions, those of the host included.
    pub steps: u64,
    /// The highest counter in a function body.
    pub highest: i64,
    /// Where that was, in bytes from the start of the code.
    pub at: usize,
}

/// Where code is, for [`watch`].
#[derive(Debug)]
pub struct Bodies {
    #[cfg_attr(
        not(all(target_arch = "x86_64", target_os = "linux")),
        expect(dead_code)
    )]
    base: usize,
    #[cfg_attr(
        not(all(target_arch = "x86_64", target_os = "linux")),
        expect(dead_code)
    )]
    ranges: Vec<Range<usize>>,
}

/// The function bodies of `module`.
pub fn bodies(module: &MeteredModule) -> Bodies {
    let base = module.text().as_ptr() as usize;
    let mut ranges: Vec<Range<usize>> = module
        .functions()
        .map(|function| base + function.offset..base + function.offset + function.len)
        .collect();
    ranges.sort_by_key(|range| range.start);
    Bodies { base, ranges }
}

/// Calls `part` and looks at the counter of its first `most` instructions.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub fn watch<T>(_: &Bodies, _most: u64, part: impl FnOnce() -> T) -> (T, Option<Seen>) {
    (part(), None)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use x86_64::watch;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod x86_64 {
    use super::{Bodies, Seen};
    use std::cell::Cell;
    use std::mem::MaybeUninit;
    use std::ops::Range;
    use std::ptr;
    use std::sync::Once;

    /// The trap flag in the flags register.
    const TRAP_FLAG: i64 = 1 << 8;

    /// `si_code` of a SIGTRAP that a step has raised.
    const TRAP_TRACE: libc::c_int = 2;

    struct Watch<'a> {
        ranges: &'a [Range<usize>],
        most: u64,
        steps: Cell<u64>,
        highest: Cell<i64>,
        at: Cell<usize>,
    }

    thread_local! {
        static CURRENT: Cell<*const Watch<'static>> = const { Cell::new(ptr::null()) };
    }

    /// Calls `part` and looks at the counter of its first `most` instructions.
    pub fn watch<T>(bodies: &Bodies, most: u64, part: impl FnOnce() -> T) -> (T, Option<Seen>) {
        install();
        let watch = Watch {
            ranges: &bodies.ranges,
            most,
            steps: Cell::new(0),
            highest: Cell::new(i64::MIN),
            at: Cell::new(bodies.base),
        };
        CURRENT.set((&raw const watch).cast());
        set_trap_flag();
        let result = part();
        clear_trap_flag();
        CURRENT.set(ptr::null());
        let seen = Seen {
            steps: watch.steps.get(),
            highest: watch.highest.get(),
            at: watch.at.get() - bodies.base,
        };
        (result, Some(seen))
    }

    fn set_trap_flag() {
        // SAFETY: changes a flag whose effect, SIGTRAP after each instruction, is handled.
        unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") }
    }

    fn clear_trap_flag() {
        // SAFETY: as above.
        unsafe { std::arch::asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") }
    }

    fn install() {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            // SAFETY: all-zero is a valid sigaction; the handler is async-signal-safe: it uses a constant-initialised
            // thread-local, what that points to, and the signal frame.
            unsafe {
                let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
                action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
                action.sa_sigaction = on_step as *const () as usize;
                let done = libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut());
                assert_eq!(done, 0, "a handler for SIGTRAP");
            }
        });
    }

    extern "C" fn on_step(_: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: the kernel passes a valid siginfo and ucontext; CURRENT is null or points to what `watch` keeps
        // alive on this thread.
        unsafe {
            let registers = &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs;
            let flags = &mut registers[libc::REG_EFL as usize];
            if (*info).si_code != TRAP_TRACE {
                return;
            }
            let Some(watch) = CURRENT.get().as_ref() else {
                *flags &= !TRAP_FLAG;
                return;
            };
            watch.steps.set(watch.steps.get() + 1);
            if watch.steps.get() >= watch.most {
                *flags &= !TRAP_FLAG;
            }
            let pc = registers[libc::REG_RIP as usize] as usize;
            let counter = registers[libc::REG_R15 as usize];
            let after = watch.ranges.partition_point(|range| range.start <= pc);
            let inside = after > 0 && watch.ranges[after - 1].contains(&pc);
            if inside && counter > watch.highest.get() {
                watch.highest.set(counter);
                watch.at.set(pc);
            }
        }
    }
}
