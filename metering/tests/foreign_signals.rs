//! Signals that are not ours, in a process of its own: handlers are per process.
#![cfg(target_os = "linux")]

use anyhow::{Result, ensure};
use slackline_metering::{CostTable, Metering, Mode};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use wasmtime::Config;

static SEEN: AtomicU64 = AtomicU64::new(0);

extern "C" fn previous(signal: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    assert_eq!(signal, libc::SIGUSR1);
    SEEN.fetch_add(1, SeqCst);
}

#[test]
fn signals_without_the_cookie_go_to_the_previous_handler() -> Result<()> {
    // SAFETY: the handler touches an atomic only; all-zero is a valid sigaction to start from.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO;
        action.sa_sigaction = previous as *const () as usize;
        ensure!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) == 0);
    }
    Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?;
    // SAFETY: raises a signal that has a handler.
    unsafe { libc::raise(libc::SIGUSR1) };
    assert_eq!(SEEN.load(SeqCst), 1);
    // Queued, as ours are, but with a value that is not the cookie. To the process: the main
    // thread may take it, so wait for it there.
    let value = libc::sigval {
        sival_ptr: std::ptr::without_provenance_mut(42),
    };
    // SAFETY: a signal to this process, which has a handler for it.
    ensure!(unsafe { libc::sigqueue(libc::getpid(), libc::SIGUSR1, value) } == 0);
    while SEEN.load(SeqCst) < 2 {
        std::thread::yield_now();
    }
    Ok(())
}
