//! Runs the tests of a contract, and reads what they have recorded.

use crate::cli::contract::Checkout;
use crate::cli::files_in;
use anyhow::{Context, bail, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use slackline_gas::Records;
use slackline_testkit::calls::{GAS_CALLS, replay};
use slackline_testkit::record::{GAS_DIR, GAS_LIMITS, GAS_PROFILE, Recording};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Makes tests with random inputs try the same ones each time.
const SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "1");

/// Where records come from.
#[derive(Debug, Args)]
pub(super) struct Suite {
    /// Run this instead of `cargo test`, as in `--command "cargo nextest run -p amm"`.
    #[arg(long, value_name = "COMMAND", conflicts_with = "args")]
    command: Option<String>,
    /// Run nothing: read what an earlier run has recorded with `--keep`, or with SLACKLINE_GAS_DIR set.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["command", "keep", "args"])]
    from: Option<PathBuf>,
    /// Run no tests: make the calls of a file, or of the files `*.calls` of a directory. docs/gas.md has the format.
    #[arg(long, value_name = "FILE|DIR", conflicts_with_all = ["command", "from", "args"])]
    calls: Option<PathBuf>,
    /// With --calls, deploy this code for the contract that they deploy under that name.
    #[arg(long, value_name = "NAME=WASM", requires = "calls", value_parser = code)]
    code: Vec<(String, PathBuf)>,
    /// Write what the tests call into this directory, for --calls: a file for each test, and the code that they deploy. The directory must
    /// be empty or missing.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["calls", "from"])]
    record: Option<PathBuf>,
    /// Keep what is recorded: in this directory, which must be empty or missing.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    #[command(flatten)]
    checkout: Checkout,
    /// Arguments for `cargo test`.
    #[arg(last = true)]
    args: Vec<String>,
}

/// What is recorded besides what everything costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// The lowest limits that suffice.
    pub(super) limits: bool,
    /// What functions use.
    pub(super) profile: bool,
}

/// Records, and the directory of their files if that is to go.
pub(super) struct Recorded {
    pub(super) records: Records,
    _directory: Option<tempfile::TempDir>,
}

impl Suite {
    /// Runs the tests of the contract in `dir`, unless there are records already.
    pub(super) fn run(&self, dir: &Path, wanted: Wanted) -> anyhow::Result<Recorded> {
        if let Some(from) = &self.from {
            let records = Records::read(from)?;
            ensure!(
                !records.executions.is_empty(),
                "{} has no records (*.jsonl with transactions or views): a test run writes them with --keep DIR, or {GAS_DIR}=DIR",
                from.display()
            );
            return Ok(Recorded {
                records,
                _directory: None,
            });
        }
        let temporary;
        let directory = match &self.keep {
            Some(keep) => {
                temporary = None;
                empty(keep)?
            }
            None => {
                let made = tempfile::tempdir().context("no temporary directory")?;
                let path = made.path().to_owned();
                temporary = Some(made);
                path
            }
        };
        if let Some(calls) = &self.calls {
            self.replay(calls, &directory, wanted)?;
            let records = Records::read(&directory)?;
            ensure!(
                !records.executions.is_empty(),
                "{} has no call that is metered: there is nothing to measure",
                calls.display()
            );
            return Ok(Recorded {
                records,
                _directory: temporary,
            });
        }
        let mut command = self.test_command(dir)?;
        command.env(GAS_DIR, &directory);
        if let Some(record) = &self.record {
            command.env(GAS_CALLS, empty(record)?);
        }
        if wanted.limits {
            command.env(GAS_LIMITS, "1");
        }
        if wanted.profile {
            command.env(GAS_PROFILE, "1");
        }
        if std::env::var_os(SEED.0).is_none() {
            command.env(SEED.0, SEED.1);
        }
        let tests = run_tests(command)?;
        let records = Records::read(&directory)?;
        ensure!(
            !(records.executions.is_empty() && tests == Some(0)),
            "there are no tests to measure in {}: `slackline contract new` makes a project with some, and --command says \
             how to run them if `cargo test` does not",
            dir.display()
        );
        ensure!(
            !records.executions.is_empty(),
            "the tests have made no transaction or view with slackline-testkit that is metered: there is nothing to measure"
        );
        ensure!(
            records.executions.iter().all(|made| made.test != "main"),
            "the tests have run on the main thread, where they have no names: leave out --test-threads=1"
        );
        Ok(Recorded {
            records,
            _directory: temporary,
        })
    }

    /// Makes recorded calls, which are recorded again in `directory`.
    fn replay(&self, calls: &Path, directory: &Path, wanted: Wanted) -> anyhow::Result<()> {
        let files = match calls.is_dir() {
            true => files_in(calls, "calls")?,
            false => vec![calls.to_owned()],
        };
        ensure!(
            !files.is_empty(),
            "{} has no files of calls (*.calls): a test run writes them with --record DIR",
            calls.display()
        );
        let read = |(name, path): &(String, PathBuf)| {
            let code = std::fs::read(path).with_context(|| path.display().to_string())?;
            anyhow::Ok((name.clone(), code))
        };
        let codes = self.code.iter().map(read).collect::<Result<_, _>>()?;
        let recording = Recording {
            directory: directory.to_owned(),
            limits: wanted.limits,
            profile: wanted.profile,
            ..Recording::default()
        };
        let bar = ProgressBar::new(files.len() as u64);
        bar.set_style(bar_of("files")?);
        for file in files {
            bar.set_message(file.display().to_string());
            replay(&file, &codes, recording.clone())?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn test_command(&self, dir: &Path) -> anyhow::Result<Command> {
        if let Some(line) = &self.command {
            let mut command = Command::new("sh");
            command.arg("-c").arg(line).current_dir(dir);
            return Ok(command);
        }
        ensure!(
            dir.join("Cargo.toml").is_file(),
            "{} has no Cargo.toml: a contract is a cargo package (`slackline contract new NAME` makes one)",
            dir.display()
        );
        let checkout = self.checkout.find()?;
        let dir = dir.canonicalize()?;
        let mut command = Command::new("cargo");
        command.arg("test");
        let example = dir.strip_prefix(checkout.join("contracts/examples")).ok();
        match example.and_then(|name| name.to_str()) {
            // The examples of the clone have their tests in its main workspace, where the engine is.
            Some(name) => {
                let test = format!("example_{name}");
                command
                    .current_dir(&checkout)
                    .args(["-p", "slackline-tests", "--test", &test]);
            }
            None => {
                let target = Checkout::target_dir(&checkout);
                command.current_dir(&dir).arg("--target-dir").arg(target);
            }
        }
        command.args(&self.args);
        for (name, value) in [
            ("ROCKSDB_LIB_DIR", checkout.join(".rocksdb/lib").as_os_str()),
            ("ROCKSDB_STATIC", "1".as_ref()),
        ] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        Ok(command)
    }
}

/// A directory for what a run writes, from the root since tests run elsewhere.
fn empty(dir: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    ensure!(
        dir.read_dir()?.next().is_none(),
        "{} is not empty: what several runs record would be counted together",
        dir.display()
    );
    Ok(dir.canonicalize()?)
}

/// A bar for so many of something.
fn bar_of(what: &str) -> anyhow::Result<ProgressStyle> {
    let template = format!("{{spinner}} [{{bar:40}}] {{pos}}/{{len}} {what}  {{wide_msg}}");
    Ok(ProgressStyle::with_template(&template)?.progress_chars("=> "))
}

/// `amm=target/contracts/amm.wasm`.
fn code(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("it should be NAME=WASM, as in amm=target/contracts/amm.wasm".to_owned()),
    }
}

/// Runs a test command, with a bar for its progress, and tells how many tests it has run, if it says so. What it prints is shown when
/// a test fails.
fn run_tests(mut command: Command) -> anyhow::Result<Option<u64>> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the tests")?;
    let stdout = child.stdout.take().context("no standard output")?;
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.set_message("building");
    let counted = bar_of("tests")?;
    let mut printed = Vec::new();
    let (mut tests, mut done) = (None, 0);
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.context("the tests' output")?;
        let text = String::from_utf8_lossy(&line);
        let mut words = text.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some("running"), Some(count), Some("test" | "tests")) => {
                if let Ok(count) = count.parse::<u64>() {
                    let all = tests.unwrap_or(0) + count;
                    tests = Some(all);
                    bar.set_style(counted.clone());
                    bar.set_length(all);
                }
            }
            (Some("test"), Some(name), Some("...")) => {
                done += 1;
                bar.set_position(done);
                bar.set_message(name.to_owned());
            }
            _ => {}
        }
        printed.extend(line);
        printed.push(b'\n');
    }
    let status = child.wait().context("the tests")?;
    bar.finish_and_clear();
    if !status.success() {
        // If standard error is gone, the exit code still says it.
        let _ = std::io::stderr().write_all(&printed);
        bail!("the tests have failed, so what they cost means nothing: see above");
    }
    Ok(tests)
}
