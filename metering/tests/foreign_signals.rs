//! Signals that are not ours, and stacks that handlers run on. In a process of its own: handlers are per process.
#![cfg(target_os = "linux")]

use anyhow::{Context, Result, ensure};
use slackline_metering::{AsyncFuelChecker, CostTable, Limit, MeteredModule, Metering, Mode};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use wasmtime::{Config, Instance, Store, Trap};

static SEEN: AtomicU64 = AtomicU64::new(0);
/// An address on the stack that the handler below ran on last.
static STACK: AtomicUsize = AtomicUsize::new(0);

/// Was there before ours. Spoils errno.
extern "C" fn previous(signal: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let here = 0_u8;
    STACK.store(&raw const here as usize, SeqCst);
    // SAFETY: errno is the thread's own.
    unsafe { *libc::__errno_location() = 77 };
    if signal == libc::SIGUSR1 {
        SEEN.fetch_add(1, SeqCst);
    }
}

/// Installs [`previous`] and then, by making an engine, our handler. What is counted above is one test's at a time.
fn turn() -> Result<(MutexGuard<'static, ()>, &'static Metering)> {
    static TURN: Mutex<()> = Mutex::new(());
    static METERING: OnceLock<Metering> = OnceLock::new();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if METERING.get().is_none() {
        // SAFETY: the handler touches atomics and errno only; all-zero is a valid sigaction to start from.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            action.sa_sigaction = previous as *const () as usize;
            ensure!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) == 0);
        }
        let metering = Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?;
        METERING.get_or_init(|| metering);
    }
    Ok((turn, METERING.get().context("set")?))
}

#[test]
fn signals_without_the_cookie_go_to_the_previous_handler() -> Result<()> {
    let _turn = turn()?;
    let before = SEEN.load(SeqCst);
    // SAFETY: raises a signal that has a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(SEEN.load(SeqCst), before + 1);
    // Queued, as ours are, but with a value that is not the cookie. To the process: the main
    // thread may take it, so wait for it there.
    let value = libc::sigval {
        sival_ptr: std::ptr::without_provenance_mut(42),
    };
    // SAFETY: a signal to this process, which has a handler for it.
    ensure!(unsafe { libc::sigqueue(libc::getpid(), libc::SIGUSR1, value) } == 0);
    while SEEN.load(SeqCst) < before + 2 {
        std::thread::yield_now();
    }
    // Ours are not passed on.
    let checker = AsyncFuelChecker::for_current_thread()?;
    let sent = checker.stats().sent;
    std::thread::scope(|scope| scope.spawn(|| checker.check()).join().expect("no panic"));
    assert_eq!(checker.stats().sent, sent + 1);
    assert_eq!(SEEN.load(SeqCst), before + 2);
    Ok(())
}

/// Sets the current thread's alternate stack, or takes it away.
fn set_alternate_stack(stack: Option<&mut [u8]>) -> Result<()> {
    let new = match stack {
        Some(stack) => libc::stack_t {
            ss_sp: stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: stack.len(),
        },
        None => libc::stack_t {
            ss_sp: std::ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: 0,
        },
    };
    // SAFETY: the callers keep the memory until they take the stack away.
    ensure!(unsafe { libc::sigaltstack(&new, std::ptr::null_mut()) } == 0);
    Ok(())
}

#[test]
fn errno_is_kept_and_the_alternate_stack_is_used() -> Result<()> {
    let _turn = turn()?;
    let mut stack = vec![0_u8; 1 << 16];
    let range = stack.as_ptr_range();
    let on_it = |address: usize| (range.start as usize..range.end as usize).contains(&address);
    for alternate in [true, false] {
        set_alternate_stack(alternate.then_some(&mut stack))?;
        // SAFETY: errno is the thread's own; raises a signal that has a handler.
        let errno = unsafe {
            *libc::__errno_location() = 1234;
            libc::raise(libc::SIGUSR1);
            *libc::__errno_location()
        };
        assert_eq!(errno, 1234);
        assert_eq!(on_it(STACK.load(SeqCst)), alternate);
    }
    Ok(())
}

/// A thread whose alternate stack was taken away is stopped all the same: the handlers run on top of wasm.
#[test]
fn a_thread_without_an_alternate_stack_is_stopped() -> Result<()> {
    let (_turn, metering) = turn()?;
    let module = MeteredModule::new(metering, r#"(module (func (export "") (loop (br 0))))"#)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(SeqCst) {
                checker.check();
            }
        });
        let result = (0..20).try_for_each(|_| {
            let mut store = Store::new(metering.engine(), ());
            Limit::arm(metering, &mut store, 100_000)?;
            let instance = Instance::new(&mut store, &module, &[])?;
            let forever = instance.get_typed_func::<(), ()>(&mut store, "")?;
            // The first call has given the thread a stack, if it had none.
            set_alternate_stack(None)?;
            let end = forever.call(&mut store, ()).err().context("returned")?;
            ensure!(end.downcast_ref() == Some(&Trap::OutOfFuel), "{end:?}");
            Ok(())
        });
        stop.store(true, SeqCst);
        result
    })
}
