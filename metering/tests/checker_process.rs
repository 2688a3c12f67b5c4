//! What is per process: the choice of the signal, and fork. Each case runs in a child, which is this program with one test
//! selected.
#![cfg(target_os = "linux")]

use anyhow::{Context, Result, ensure};
use slackline_metering::{
    AsyncFuelChecker, CostTable, Limit, MeteredModule, Metering, Mode, Watchdog,
};
use std::process::Command;
use wasmtime::{Config, Instance, Store, Trap};

/// Tells a child what it is to do; its test does nothing without.
const CASE: &str = "SLACKLINE_TEST_CASE";
const SIGNAL: &str = "SLACKLINE_CHECK_SIGNAL";

/// Runs this program's test `child` and returns what it printed.
fn run_child(case: &str, signal: Option<&str>) -> Result<String> {
    // `cargo xtask test-aarch64` says what runs programs that the kernel cannot.
    let runner = std::env::var("SLACKLINE_RUNNER").unwrap_or_default();
    let mut words = runner.split_whitespace();
    let mut command = match words.next() {
        Some(program) => Command::new(program),
        None => Command::new(std::env::current_exe()?),
    };
    if !runner.is_empty() {
        command.args(words).arg(std::env::current_exe()?);
    }
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(CASE, case)
        .env_remove(SIGNAL);
    command.envs(signal.map(|signal| (SIGNAL, signal)));
    let output = command.output()?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "{}: {text}", output.status);
    Ok(text)
}

#[test]
fn child() -> Result<()> {
    match std::env::var(CASE).as_deref() {
        Ok("stop") => stop_an_endless_loop(),
        Ok("refuse") => {
            let error = AsyncFuelChecker::for_current_thread()
                .err()
                .context("accepted")?;
            println!("refused: {error}");
            Ok(())
        }
        Ok("fork") => fork(),
        _ => Ok(()),
    }
}

/// Whether a handler is installed for `signal`.
fn has_handler(signal: libc::c_int) -> Result<bool> {
    // SAFETY: all-zero is a valid sigaction, and a valid place for the result; nothing is installed.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        ensure!(libc::sigaction(signal, std::ptr::null(), &mut action) == 0);
        Ok(action.sa_sigaction != libc::SIG_DFL)
    }
}

fn stop_an_endless_loop() -> Result<()> {
    let metering = Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?;
    let module = MeteredModule::new(&metering, r#"(module (func (export "") (loop (br 0))))"#)?;
    let watchdog = Watchdog::start()?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    for limit in [0, 1_000, 1_000_000] {
        let mut store = Store::new(metering.engine(), ());
        Limit::arm(&metering, &mut store, limit)?;
        let instance = Instance::new(&mut store, &module, &[])?;
        let forever = instance.get_typed_func::<(), ()>(&mut store, "")?;
        let watch = watchdog.watch(&checker, limit);
        let end = forever.call(&mut store, ()).err().context("returned")?;
        drop(watch);
        ensure!(end.downcast_ref() == Some(&Trap::OutOfFuel), "{end:?}");
    }
    let handlers: Vec<_> = (1..=64)
        .filter(|&signal| {
            let candidate = signal == libc::SIGUSR1 || signal >= libc::SIGRTMIN();
            candidate && has_handler(signal).unwrap_or(false)
        })
        .collect();
    println!("handlers: {handlers:?}, {:?}", checker.stats());
    Ok(())
}

#[test]
fn the_signal_can_be_chosen() -> Result<()> {
    // Qemu takes the highest for itself, and lets programs wait for it.
    let highest = match std::env::var_os("SLACKLINE_RUNNER") {
        Some(_) => libc::SIGRTMAX() - 8,
        None => libc::SIGRTMAX(),
    };
    for (signal, number) in [
        (None, libc::SIGUSR1),
        (Some(libc::SIGRTMIN()), libc::SIGRTMIN()),
        (Some(highest), highest),
    ] {
        let text = run_child("stop", signal.map(|signal| signal.to_string()).as_deref())?;
        ensure!(text.contains(&format!("handlers: [{number}],")), "{text}");
        ensure!(text.contains("stopped: 3"), "{text}");
    }
    Ok(())
}

/// What is no signal, cannot be handled, or is raised by faults.
#[test]
fn a_signal_that_does_not_do_is_refused() -> Result<()> {
    for signal in [
        "", "USR1", "0", "-1", "65", "9", "19", "32", "4", "5", "7", "8", "11",
    ] {
        let text = run_child("refuse", Some(signal))?;
        ensure!(text.contains("refused: cannot install"), "{signal}: {text}");
        ensure!(text.contains(signal), "{signal}: {text}");
    }
    Ok(())
}

/// In the child of a fork checks do no harm, and executions keep to their limit where they leave wasm.
fn fork() -> Result<()> {
    let metering = Metering::new(Config::new(), Mode::Slacked, &CostTable::v1())?;
    let count = r#"(module (func (export "") (param $n i64)
        (loop $l
          (local.set $n (i64.sub (local.get $n) (i64.const 1)))
          (br_if $l (i64.ne (local.get $n) (i64.const 0))))))"#;
    let module = MeteredModule::new(&metering, count)?;
    let checker = AsyncFuelChecker::for_current_thread()?;
    let run = |limit| -> Result<bool> {
        let mut store = Store::new(metering.engine(), ());
        let limit = Limit::arm(&metering, &mut store, limit)?;
        let instance = Instance::new(&mut store, &module, &[])?;
        let count = instance.get_typed_func::<i64, ()>(&mut store, "")?;
        Ok(count.call(&mut store, 1_000_000).is_ok() && limit.used(&mut store).is_some())
    };
    let executions = || -> Result<()> {
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    checker.check();
                }
            });
            let result = (0..20).try_for_each(|_| {
                ensure!(run(1_000_000_000)?);
                ensure!(!run(1_000)?);
                Ok(())
            });
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            result
        })
    };
    executions()?;
    // SAFETY: the child goes on with this thread alone; no other thread of this program holds a lock that it takes.
    match unsafe { libc::fork() } {
        0 => {
            let code = match executions() {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("in the forked child: {error:?}");
                    1
                }
            };
            // SAFETY: ends the child without the harness's end.
            unsafe { libc::_exit(code) }
        }
        forked => {
            ensure!(forked > 0);
            let mut status = 0;
            // SAFETY: `status` is a valid place for the result.
            ensure!(unsafe { libc::waitpid(forked, &mut status, 0) } == forked);
            ensure!(status == 0, "the forked child ended with {status}");
            println!("forked");
            Ok(())
        }
    }
}

#[test]
fn checks_do_no_harm_in_a_forked_child() -> Result<()> {
    let text = run_child("fork", None)?;
    ensure!(text.contains("forked"), "{text}");
    Ok(())
}
