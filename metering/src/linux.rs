//! Interrupting a thread on Linux: a signal, with a cookie, to one thread.
//!
//! The signal is SIGUSR1 unless the environment variable `SLACKLINE_CHECK_SIGNAL` names another by
//! number (real-time signals are fine). A signal without the cookie is not ours and goes to the handler that was
//! installed before.
//!
//! # In the handler
//!
//! [`on_signal`] and [`on_trap`] run on a thread that was interrupted anywhere: in an allocation, holding any lock,
//! in the middle of a prologue. They use atomics, constant-initialised thread-locals without destructors, `clock_gettime`
//! and the memory of the signal frame, and nothing else: no lock, no allocation, no panic. errno is put back.
//!
//! # Diverting
//!
//! If the interrupted pc is in a registered function body, the pinned register holds the counter (see
//! [`slackline_metering_pass`]). If that is at zero or above, pc is set to the landing pad, an instruction that raises a wasm
//! trap. Wasmtime then resumes in the innermost entry trampoline, from what that one has stored; it does
//! not matter where in the body the thread was, which stack slots were half written, or where the stack pointer was.

use crate::checker::{CheckerError, ThreadCell};
use crate::timer::Timer;
use crate::{code_table, pad};
use std::cell::{Cell, OnceCell};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use wasmtime::Store;
use wasmtime::unix::StoreExt;

/// Its address is the cookie.
static COOKIE: u8 = 0;

/// The landing pad, for the handlers: 0 until known.
static PAD: AtomicUsize = AtomicUsize::new(0);

/// What handled the signal before us, leaked, for [`on_signal`].
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// The current thread's cell, for the handler; null on threads that cannot be checked, and from the
    /// moment on at which the thread's destructors run.
    static HANDLER_CELL: Cell<*const ThreadCell> = const { Cell::new(ptr::null()) };
    /// Owns it.
    static OWNER: OnceCell<Owner> = const { OnceCell::new() };
}

/// How others find a thread: its kernel id while it lives.
#[derive(Debug, Default)]
pub(crate) struct Thread(Mutex<Option<libc::pid_t>>);

impl Thread {
    /// Signals the thread unless it has ended or is the current one; `sending` is called before.
    pub(crate) fn interrupt(&self, sending: impl FnOnce()) {
        // Held while sending: the thread takes it before it ends, so the id cannot have passed to another thread.
        let id = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(id) = *id else { return };
        // SAFETY: no preconditions.
        if id == unsafe { libc::gettid() } {
            return;
        }
        let Ok(signal) = signal() else { return };
        sending();
        send(id, signal);
    }
}

/// A thread's end of its cell.
struct Owner(Arc<ThreadCell>);

impl Drop for Owner {
    fn drop(&mut self) {
        // First the handler, which may still run for a signal on its way, then those who send.
        HANDLER_CELL.set(ptr::null());
        *self
            .0
            .platform
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The current thread's cell, made on first use. Unblocks the signal on this thread.
pub(crate) fn current_thread() -> Arc<ThreadCell> {
    // At the thread's very end the slot may be gone: a cell of its own then, which nobody can reach.
    OWNER
        .try_with(|owner| owner.get_or_init(Owner::new).0.clone())
        .unwrap_or_default()
}

impl Owner {
    fn new() -> Owner {
        let cell = Arc::new(ThreadCell::default());
        // SAFETY: no preconditions.
        let id = unsafe { libc::gettid() };
        *cell
            .platform
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(id);
        // Alive until `Owner::drop` takes it out again.
        HANDLER_CELL.set(Arc::as_ptr(&cell));
        if let Ok(signal) = signal() {
            let mut set = MaybeUninit::uninit();
            // SAFETY: `set` is initialised by sigemptyset before it is read; the old mask is not asked for.
            unsafe {
                libc::sigemptyset(set.as_mut_ptr());
                libc::sigaddset(set.as_mut_ptr(), signal);
                libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
            }
        }
        Owner(cell)
    }
}

/// Makes the current thread's timer, to be handled like a check.
pub(crate) fn create_timer(timer: &Timer) {
    if let Ok(signal) = signal() {
        timer.create(signal, cookie());
    }
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

/// Installs the handler, once for the process.
pub(crate) fn install() -> Result<(), CheckerError> {
    signal().map(|_| ())
}

fn signal() -> Result<libc::c_int, CheckerError> {
    static SIGNAL: OnceLock<Result<libc::c_int, CheckerError>> = OnceLock::new();
    SIGNAL.get_or_init(install_handler).clone()
}

fn install_handler() -> Result<libc::c_int, CheckerError> {
    if cfg!(not(any(target_arch = "x86_64", target_arch = "aarch64"))) {
        return Err(CheckerError::Platform);
    }
    let signal = match std::env::var("SLACKLINE_CHECK_SIGNAL") {
        Ok(text) => text.parse().map_err(|_| CheckerError::Handler {
            signal: 0,
            reason: format!("SLACKLINE_CHECK_SIGNAL={text:?} is not a number"),
        })?,
        Err(_) => libc::SIGUSR1,
    };
    let address = pad::address().map_err(|error| CheckerError::Handler {
        signal,
        reason: error.to_string(),
    })?;
    PAD.store(address, SeqCst);

    let failed = || CheckerError::Handler {
        signal,
        reason: std::io::Error::last_os_error().to_string(),
    };
    // SAFETY: all-zero is a valid sigaction: default handler, no flags, empty mask.
    let mut ours: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut before = ours;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    ours.sa_sigaction = on_signal as *const () as usize;
    // SAFETY: `before` is a valid place for the result; nothing is installed.
    if unsafe { libc::sigaction(signal, ptr::null(), &mut before) } != 0 {
        return Err(failed());
    }
    // Before the handler is there, so that it finds it.
    PREVIOUS.store(Box::leak(Box::new(before)), SeqCst);
    // SAFETY: the handler is async-signal-safe, as argued in the module's documentation, takes the
    // three arguments that SA_SIGINFO gives, and PAD and PREVIOUS are set.
    if unsafe { libc::sigaction(signal, &ours, ptr::null_mut()) } != 0 {
        return Err(failed());
    }
    Ok(signal)
}

/// `siginfo_t` of a queued signal on a 64-bit kernel, as `rt_tgsigqueueinfo` reads it.
#[repr(C)]
struct QueuedSignal {
    signo: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    _pad: libc::c_int,
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: usize,
    _rest: [u64; 12],
}

const _: () = assert!(size_of::<QueuedSignal>() == size_of::<libc::siginfo_t>());

fn send(thread: libc::pid_t, signal: libc::c_int) {
    // SAFETY: the kernel reads a `siginfo_t` from `info`, which has its size and layout. Errors (no such
    // thread, queue full) are ignored: the next check will do.
    unsafe {
        let info = QueuedSignal {
            signo: signal,
            errno: 0,
            code: libc::SI_QUEUE,
            _pad: 0,
            pid: libc::getpid(),
            uid: libc::getuid(),
            value: cookie(),
            _rest: [0; 12],
        };
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            libc::getpid(),
            thread,
            signal,
            &raw const info,
        );
    }
}

fn cookie() -> usize {
    &raw const COOKIE as usize
}

/// The handler of the check signal. See the module's documentation for what it may do.
extern "C" fn on_signal(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: the kernel passes a valid siginfo and ucontext to an SA_SIGINFO handler; errno is the
    // thread's own; a queued signal and a timer's have a value.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let by_timer = (*info).si_code == libc::SI_TIMER;
        if (by_timer || (*info).si_code == libc::SI_QUEUE)
            && (*info).si_value().sival_ptr as usize == cookie()
        {
            check(by_timer, context.cast());
        } else {
            forward(signal, info, context);
        }
        *errno = saved;
    }
}

/// # Safety
///
/// In a signal handler, with its `context`.
unsafe fn check(by_timer: bool, context: *mut libc::ucontext_t) {
    // SAFETY: as promised by the caller; the cell is alive while HANDLER_CELL has it.
    unsafe {
        let Ok(Some(cell)) = HANDLER_CELL.try_with(|cell| cell.get().as_ref()) else {
            return;
        };
        if by_timer {
            cell.timer_expired();
            if !cell.watch.is_due() {
                cell.watch.arm();
                return;
            }
        }
        if code_table::contains(pc(&*context)) {
            let counter = counter(&*context);
            cell.landed(counter);
            if counter >= 0 {
                set_pc(&mut *context, PAD.load(SeqCst));
            }
        }
        // For the next look, if there is to be one and nobody else takes care of it.
        cell.watch.arm();
    }
}

/// Hands a signal that is not ours to whom it was for.
///
/// # Safety
///
/// In a signal handler, with its arguments.
unsafe fn forward(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: PREVIOUS points to a leaked sigaction, set before the handler was installed; a
    // handler in it has the signature that its flags say.
    unsafe {
        let Some(previous) = PREVIOUS.load(SeqCst).as_ref() else {
            return;
        };
        match previous.sa_sigaction {
            libc::SIG_IGN => {}
            libc::SIG_DFL => {
                // What the default would have done: put it back and let the signal come again,
                // when this handler returns and it is no longer blocked.
                libc::sigaction(signal, previous, ptr::null_mut());
                libc::raise(signal);
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    std::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(libc::c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}

/// Makes hardware traps in `store` give way to out-of-fuel: a trap with the counter over the limit goes to the
/// landing pad like a check.
pub(crate) fn prefer_out_of_fuel<T: 'static>(store: &mut Store<T>) {
    // SAFETY: the handler is async-signal-safe, as argued in the module's documentation.
    unsafe { store.set_signal_handler(on_trap) }
}

/// Called by wasmtime's handler of SIGSEGV, SIGILL, SIGFPE before it looks itself; true means handled.
fn on_trap(_: libc::c_int, _: *const libc::siginfo_t, context: *const libc::c_void) -> bool {
    let context = context.cast_mut().cast::<libc::ucontext_t>();
    // SAFETY: wasmtime passes the handler's own context on, which the kernel made for writing.
    unsafe {
        let over = code_table::contains(pc(&*context)) && counter(&*context) >= 0;
        if over {
            set_pc(&mut *context, PAD.load(SeqCst));
        }
        over
    }
}

#[cfg(target_arch = "x86_64")]
mod registers {
    pub(super) fn pc(context: &libc::ucontext_t) -> usize {
        context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
    }
    pub(super) fn set_pc(context: &mut libc::ucontext_t, pc: usize) {
        context.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as i64;
    }
    /// r15: `regs::pinned_reg` of Cranelift's x64 backend.
    pub(super) fn counter(context: &libc::ucontext_t) -> i64 {
        context.uc_mcontext.gregs[libc::REG_R15 as usize]
    }
}

#[cfg(target_arch = "aarch64")]
mod registers {
    pub(super) fn pc(context: &libc::ucontext_t) -> usize {
        context.uc_mcontext.pc as usize
    }
    pub(super) fn set_pc(context: &mut libc::ucontext_t, pc: usize) {
        context.uc_mcontext.pc = pc as u64;
    }
    /// x21: `regs::pinned_reg` of Cranelift's aarch64 backend.
    pub(super) fn counter(context: &libc::ucontext_t) -> i64 {
        context.uc_mcontext.regs[21] as i64
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod registers {
    // `install_handler` refuses these processors: never called.
    pub(super) fn pc(_: &libc::ucontext_t) -> usize {
        0
    }
    pub(super) fn set_pc(_: &mut libc::ucontext_t, _: usize) {}
    pub(super) fn counter(_: &libc::ucontext_t) -> i64 {
        i64::MIN
    }
}

use registers::{counter, pc, set_pc};
