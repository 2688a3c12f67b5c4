//! Interrupting a thread on macOS: it is suspended, looked at, diverted and resumed through its Mach port. No signal.
//!
//! # Between suspending and resuming
//!
//! The suspended thread may hold any lock, the allocator's and the dynamic linker's included. So the thread that has
//! suspended it does nothing in between but call into the kernel and [`divert::check`], which neither locks nor
//! allocates. The four calls into the kernel have been made once before, by [`install`]: a symbol that is bound
//! on first use takes the dynamic linker's lock.
//!
//! Two threads may check each other at the same time: each holds the other's [`crate::thread::Handle`], but whichever suspends the
//! other needs no further lock to resume it.
//!
//! # Wasmtime's traps
//!
//! The landing pad and hardware traps raise Mach exceptions. Wasmtime would by default handle them on a thread of its own,
//! which does not call the store's signal handler that [`prefer_out_of_fuel`] sets; so [`crate::Metering`] configures
//! signals, and wasmtime demands the same of every engine in the process: `Config::macos_use_mach_ports(false)`.

use crate::checker::{CheckerError, ThreadCell};
use crate::divert::{self, Registers};
use mach2::kern_return::KERN_SUCCESS;
use mach2::mach_types::thread_act_t;
use mach2::port::MACH_PORT_NULL;
use mach2::thread_act::{thread_get_state, thread_resume, thread_set_state, thread_suspend};
use std::sync::{Arc, OnceLock};

pub(crate) use crate::divert::{now_ns, prefer_out_of_fuel};

/// The name of a thread's port, which is the system's and stays valid until the thread has ended.
pub(crate) type ThreadId = thread_act_t;

pub(crate) fn install() -> Result<(), CheckerError> {
    static INSTALLED: OnceLock<Result<(), CheckerError>> = OnceLock::new();
    INSTALLED
        .get_or_init(|| {
            divert::prepare()?;
            // To bind the symbols: there is no thread of that name, so these fail.
            let state = State::read(MACH_PORT_NULL).unwrap_or(State(ThreadState::new()));
            state.write(MACH_PORT_NULL);
            suspend(MACH_PORT_NULL);
            resume(MACH_PORT_NULL);
            now_ns();
            Ok(())
        })
        .clone()
}

pub(crate) fn current_id() -> ThreadId {
    // SAFETY: no preconditions; the current thread exists.
    unsafe { libc::pthread_mach_thread_np(libc::pthread_self()) }
}

/// Nothing to prepare: the thread has no part in being checked.
pub(crate) fn begin(_cell: &Arc<ThreadCell>) {}

pub(crate) fn end() {}

/// Checks a thread that lives and is not the current one. Errors are ignored: the next check will do.
pub(crate) fn interrupt(thread: ThreadId, cell: &ThreadCell) {
    if !suspend(thread) {
        return;
    }
    // In the kernel, the thread has the registers with which it will return from there: in a system call of the host's these are
    // outside wasm, and in a page fault of wasm's they are those of the instruction, which the diversion then replaces.
    if let Some(mut state) = State::read(thread)
        && divert::check(cell, &mut state)
    {
        state.write(thread);
    }
    resume(thread);
}

fn suspend(thread: ThreadId) -> bool {
    // SAFETY: any name may be passed. The caller resumes the thread without taking a lock before.
    unsafe { thread_suspend(thread) == KERN_SUCCESS }
}

fn resume(thread: ThreadId) {
    // SAFETY: any name may be passed; undoes `suspend`.
    unsafe {
        thread_resume(thread);
    }
}

/// The general registers of a suspended thread.
struct State(ThreadState);

impl State {
    fn read(thread: ThreadId) -> Option<State> {
        let mut state = ThreadState::new();
        let mut count = ThreadState::count();
        // SAFETY: `state` has room for the `count` words of this flavor.
        let result =
            unsafe { thread_get_state(thread, FLAVOR, (&raw mut state).cast(), &raw mut count) };
        (result == KERN_SUCCESS).then_some(State(state))
    }

    fn write(mut self, thread: ThreadId) {
        // SAFETY: `count` words of this flavor are read. The thread goes on at the landing pad, which traps, or where it was.
        unsafe {
            thread_set_state(
                thread,
                FLAVOR,
                (&raw mut self.0).cast(),
                ThreadState::count(),
            );
        }
    }
}

#[cfg(target_arch = "x86_64")]
use mach2::{
    structs::x86_thread_state64_t as ThreadState, thread_status::x86_THREAD_STATE64 as FLAVOR,
};

#[cfg(target_arch = "x86_64")]
impl Registers for State {
    fn pc(&self) -> usize {
        self.0.__rip as usize
    }
    fn set_pc(&mut self, pc: usize) {
        self.0.__rip = pc as u64;
    }
    fn counter(&self) -> i64 {
        self.0.__r15 as i64
    }
}

#[cfg(target_arch = "aarch64")]
use mach2::{
    structs::arm_thread_state64_t as ThreadState, thread_status::ARM_THREAD_STATE64 as FLAVOR,
};

#[cfg(target_arch = "aarch64")]
impl Registers for State {
    fn pc(&self) -> usize {
        self.0.__pc as usize
    }
    fn set_pc(&mut self, pc: usize) {
        self.0.__pc = pc as u64;
    }
    fn counter(&self) -> i64 {
        self.0.__x[21] as i64
    }
}

/// The context of the signal handler of a trap. SAFETY of the accesses: the kernel makes `uc_mcontext` point to a machine context
/// beside it, for as long as the handler runs.
impl Registers for libc::ucontext_t {
    fn pc(&self) -> usize {
        // SAFETY: as above.
        let registers = unsafe { &(*self.uc_mcontext).__ss };
        #[cfg(target_arch = "x86_64")]
        let pc = registers.__rip;
        #[cfg(target_arch = "aarch64")]
        let pc = registers.__pc;
        pc as usize
    }
    fn set_pc(&mut self, pc: usize) {
        // SAFETY: as above.
        let registers = unsafe { &mut (*self.uc_mcontext).__ss };
        #[cfg(target_arch = "x86_64")]
        let place = &mut registers.__rip;
        #[cfg(target_arch = "aarch64")]
        let place = &mut registers.__pc;
        *place = pc as u64;
    }
    fn counter(&self) -> i64 {
        // SAFETY: as above.
        let registers = unsafe { &(*self.uc_mcontext).__ss };
        #[cfg(target_arch = "x86_64")]
        let counter = registers.__r15;
        #[cfg(target_arch = "aarch64")]
        let counter = registers.__x[21];
        counter as i64
    }
}
