//! Interrupting a thread on Linux: a signal, with a cookie, to one thread.
//!
//! The signal is SIGUSR1 unless the environment variable `SLACKLINE_CHECK_SIGNAL` names another by
//! number. Real-time signals are fine, though checks that come faster than the thread takes them queue up then, where an
//! ordinary signal is pending once. Signals that faults raise are refused: wasmtime's traps need them. A signal without the
//! cookie is not ours and goes to the handler that was installed before.
//!
//! # In the handler
//!
//! [`on_signal`] runs on a thread that was interrupted anywhere: in an allocation, holding any lock,
//! in the middle of a prologue. It uses atomics, constant-initialised thread-locals without destructors,
//! [`divert::check`], the thread's timer and the memory of the signal frame, and nothing else: no lock, no allocation, no panic. errno is put back.
//! It runs on the thread's alternate stack. A thread that has executed wasm has one, from wasmtime; on others it would do
//! without.
//!
//! # fork
//!
//! Nothing here forks. In the child of a program that forks and does not exec, checks do no harm and have no effect: threads
//! are known by ids of the parent's, and a signal to such an id together with the child's process id finds nobody (or,
//! should the id have come to a thread of the child's, a thread whose handler looks at that thread's own cell only). There are no
//! timers and no watchdog either. So slacked executions in the child stop where they leave wasm, and not before: a process that wants
//! checks must fork first, or exec.

use crate::checker::{CheckerError, ThreadCell};
use crate::divert::{self, Registers};
use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

pub(crate) use crate::divert::{now_ns, prefer_out_of_fuel};

/// The kernel's number for a thread.
pub(crate) type ThreadId = libc::pid_t;

/// Its address is the cookie.
static COOKIE: u8 = 0;

/// What handled the signal before us, leaked, for [`on_signal`].
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(ptr::null_mut());

thread_local! {
    /// The current thread's cell, for the handler; null on threads that cannot be checked, and from the
    /// moment on at which the thread's destructors run.
    static HANDLER_CELL: Cell<*const ThreadCell> = const { Cell::new(ptr::null()) };
}

pub(crate) fn current_id() -> ThreadId {
    // SAFETY: no preconditions.
    unsafe { libc::gettid() }
}

/// Lets the handler find the current thread's cell, makes the thread's timer, whose signal is handled like a check, and unblocks
/// the signal on this thread. `cell` must live until [`end`] is called.
pub(crate) fn begin(cell: &Arc<ThreadCell>) {
    HANDLER_CELL.set(Arc::as_ptr(cell));
    let Ok(signal) = signal() else { return };
    cell.watch.timer.create(signal, cookie());
    let mut set = MaybeUninit::uninit();
    // SAFETY: `set` is initialised by sigemptyset before it is read; the old mask is not asked for.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// The handler, which may still run on the current thread for a signal on its way, finds the cell no more.
pub(crate) fn end() {
    HANDLER_CELL.set(ptr::null());
}

/// Signals a thread that lives. Its handler finds `_cell` by itself.
pub(crate) fn interrupt(thread: ThreadId, _cell: &ThreadCell) {
    if let Ok(signal) = signal() {
        send(thread, signal);
    }
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
    divert::prepare()?;
    let signal = match std::env::var("SLACKLINE_CHECK_SIGNAL") {
        Ok(text) => text.parse().map_err(|_| CheckerError::Handler {
            signal: 0,
            reason: format!("SLACKLINE_CHECK_SIGNAL={text:?} is not a number"),
        })?,
        Err(_) => libc::SIGUSR1,
    };
    let faults = [
        libc::SIGSEGV,
        libc::SIGBUS,
        libc::SIGILL,
        libc::SIGFPE,
        libc::SIGTRAP,
    ];
    if faults.contains(&signal) {
        return Err(CheckerError::Handler {
            signal,
            reason: "it is raised by faults, which are not ours to handle".to_owned(),
        });
    }
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
    // three arguments that SA_SIGINFO gives, and PREVIOUS is set.
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
        }
        if !by_timer || cell.watch.is_due() {
            divert::check(cell, &mut *context);
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

#[cfg(target_arch = "x86_64")]
impl Registers for libc::ucontext_t {
    fn pc(&self) -> usize {
        self.uc_mcontext.gregs[libc::REG_RIP as usize] as usize
    }
    fn set_pc(&mut self, pc: usize) {
        self.uc_mcontext.gregs[libc::REG_RIP as usize] = pc as i64;
    }
    fn counter(&self) -> i64 {
        self.uc_mcontext.gregs[libc::REG_R15 as usize]
    }
}

#[cfg(target_arch = "aarch64")]
impl Registers for libc::ucontext_t {
    fn pc(&self) -> usize {
        self.uc_mcontext.pc as usize
    }
    fn set_pc(&mut self, pc: usize) {
        self.uc_mcontext.pc = pc as u64;
    }
    fn counter(&self) -> i64 {
        self.uc_mcontext.regs[21] as i64
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl Registers for libc::ucontext_t {
    // `divert::prepare` refuses these processors: never called.
    fn pc(&self) -> usize {
        0
    }
    fn set_pc(&mut self, _: usize) {}
    fn counter(&self) -> i64 {
        i64::MIN
    }
}
