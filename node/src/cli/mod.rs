//! The command line: one file per group of commands.
//!
//! Exit codes: 0 done, and the transaction or view succeeded; 1 the transaction or view was executed and did not
//! succeed, or the node failed; 2 anything that kept it from being executed: usage, connection, refusal.

mod abi;
mod codes;
mod contract;
mod db;
mod dev;
mod gas;
mod genesis;
mod inspect;
mod key;
mod load;
mod names;
mod output;
mod profile;
mod proof;
mod query;
mod remote;
mod start;
mod trace;
mod transact;
mod validators;
mod version;
mod view;
mod words;

use anyhow::Context;
use clap::{Parser, Subcommand};
use output::Output;
use slackline_node::config::{ConfigError, Log, LogFormat, log_filter};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Slackline: smart contracts under slacked fuel metering.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The node to talk to.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "SLACKLINE_RPC",
        default_value = "http://127.0.0.1:8545"
    )]
    rpc: String,

    /// Print the node's answer as JSON.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a development chain on this machine.
    Dev(dev::Dev),
    /// Make and look at keys.
    #[command(subcommand)]
    Key(key::Key),
    /// Show what metering makes of a module.
    Inspect(inspect::Inspect),
    /// Make the directory of a node with a chain of its own.
    Init(start::Init),
    /// Put the genesis of several operators' chain together, or check it.
    #[command(subcommand)]
    Genesis(genesis::Genesis),
    /// Run the node of a directory, with the other validators of its chain.
    Start(start::Start),
    /// Check or print the settings of a node.
    #[command(subcommand)]
    Config(start::ConfigCommand),
    /// Make and run several validators on this machine.
    Testnet(start::Testnet),
    /// Send transactions at a rate, and show how long they take.
    Load(load::Load),
    /// Show or change who votes on blocks.
    #[command(subcommand)]
    Validators(validators::Validators),
    /// Create a contract from a wasm file.
    Deploy(transact::Deploy),
    /// Call a method of a contract in a transaction.
    Call(transact::Call),
    /// Send currency to an account.
    Transfer(transact::Transfer),
    /// Call a method of a contract without a transaction: its effects are dropped.
    View(view::View),
    /// Show what a contract says about itself: methods, events, types.
    Abi(abi::Abi),
    /// Make, build and test contracts.
    #[command(subcommand)]
    Contract(contract::Contract),
    /// Show, test and lower what contracts cost.
    #[command(subcommand)]
    Gas(gas::Gas),
    /// Look after the database of a chain that no node is running.
    #[command(subcommand)]
    Db(db::Db),
    /// Execute a transaction of the chain again, and show what happens in it: calls, fuel, events, storage.
    Trace(trace::Trace),
    /// Find out which contracts and functions burn the fuel of a node at work, by samples.
    Profile(profile::Profile),
    /// Get and verify proofs of the state.
    #[command(subcommand)]
    Proof(proof::Proof),
    /// List the methods of a contract.
    Methods(query::Methods),
    /// Show an account.
    Account(query::Account),
    /// List the events of a contract.
    Events(query::Events),
    /// Show a transaction and its receipt.
    Tx(query::Tx),
    /// Show a block.
    Block(query::Block),
    /// Show the node's status.
    Status(query::Status),
    /// Show what this program is: its version and commit, and those of wasmtime, the protocol and the database.
    Version(version::Version),
}

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let is_node = matches!(
        cli.command,
        Command::Dev(_) | Command::Start(_) | Command::Testnet(_) | Command::Load(_)
    );
    let log = match &cli.command {
        // If that fails it fails again, where it is told.
        Command::Start(start) => start.home().ok().map(|home| home.config.log),
        _ => None,
    };
    let mut output = Output::new(cli.json);
    let started = start_logging(is_node, log, &mut output).map_err(anyhow::Error::new);
    let result = started.and_then(|()| run(cli, is_node, &output));
    result.unwrap_or_else(|error| {
        output.error(&error);
        ExitCode::from(2)
    })
}

fn run(cli: Cli, is_node: bool, output: &Output) -> anyhow::Result<ExitCode> {
    let mut runtime = match is_node {
        true => tokio::runtime::Builder::new_multi_thread(),
        false => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(async {
        let connect = || remote::Remote::connect(&cli.rpc);
        match cli.command {
            Command::Dev(command) => command.run(output).await,
            Command::Init(command) => command.run(output),
            Command::Genesis(command) => command.run(output),
            Command::Start(command) => {
                let home = command.home()?;
                command.run(home, output).await
            }
            Command::Config(command) => command.run(output),
            Command::Testnet(command) => command.run(output).await,
            Command::Load(command) => command.run(&connect()?, &cli.rpc, output).await,
            Command::Validators(command) => command.run(&connect()?, output).await,
            Command::Key(command) => command.run(output),
            Command::Inspect(command) => command.run(output),
            Command::Deploy(command) => command.run(&connect()?, output).await,
            Command::Call(command) => command.run(&connect()?, output).await,
            Command::Transfer(command) => command.run(&connect()?, output).await,
            Command::View(command) => command.run(&connect()?, output).await,
            Command::Abi(command) => command.run(connect, output).await,
            Command::Contract(command) => command.run(output),
            Command::Gas(command) => command.run(output),
            Command::Db(command) => command.run(output),
            Command::Trace(command) => command.run(connect, output).await,
            Command::Profile(command) => command.run(&connect()?, output).await,
            Command::Proof(command) => command.run(connect, output).await,
            Command::Methods(command) => command.run(&connect()?, output).await,
            Command::Account(command) => command.run(&connect()?, output).await,
            Command::Events(command) => command.run(&connect()?, output).await,
            Command::Tx(command) => command.run(&connect()?, output).await,
            Command::Block(command) => command.run(&connect()?, output).await,
            Command::Status(command) => command.run(&connect()?, output).await,
            Command::Version(command) => command.run(output),
        }
    })
}

/// Logs go to standard error; `SLACKLINE_LOG` says which, as in `info,slackline_executor=debug`. Where they are for programs, so is what `output` says there.
fn start_logging(is_node: bool, log: Option<Log>, output: &mut Output) -> Result<(), ConfigError> {
    let log = log.unwrap_or_else(|| Log {
        filter: if is_node {
            Log::default().filter
        } else {
            "warn".to_owned()
        },
        ..Log::default()
    });
    // Empty as not set, as in a list of variables where it is left out.
    let variable = std::env::var_os("SLACKLINE_LOG").filter(|text| !text.is_empty());
    let filter = match variable {
        Some(text) => log_filter("SLACKLINE_LOG", &text.to_string_lossy())?,
        None => log.filter()?,
    };
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match log.format {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => {
            subscriber.json().flatten_event(true).init();
            std::panic::set_hook(Box::new(log_panic));
            output.log_errors();
        }
    }
    Ok(())
}

/// A panic as a line of the log.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    tracing::error!(
        thread = thread.name().unwrap_or_default(),
        location = panic.location().map(tracing::field::display),
        reason = panic.payload_as_str().unwrap_or_default(),
        backtrace = %std::backtrace::Backtrace::capture(),
        "panicked"
    );
}

/// A number of units, in which people may group digits with `_` or `,`.
fn number<T: std::str::FromStr<Err = std::num::ParseIntError>>(text: &str) -> Result<T, String> {
    let digits: String = text
        .chars()
        .filter(|digit| !matches!(digit, '_' | ','))
        .collect();
    digits.parse().map_err(|error| format!("{error}"))
}

/// The files of a directory that have the extension, by name.
fn files_in(directory: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let name = || directory.display().to_string();
    let mut files = Vec::new();
    for entry in directory.read_dir().with_context(name)? {
        let path = entry.with_context(name)?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn panics_are_lines_of_a_log_for_programs() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let log = std::sync::Mutex::new(file.reopen().expect("a file"));
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        tracing::subscriber::with_default(subscriber.with_writer(log).finish(), || {
            std::panic::catch_unwind(|| panic!("two\nlines")).expect_err("it panics");
        });
        std::panic::set_hook(before);
        let line = std::fs::read(file.path()).expect("the log");
        let line: serde_json::Value = serde_json::from_slice(&line).expect("one line");
        assert_eq!(line["message"], "panicked");
        assert_eq!(line["reason"], "two\nlines");
        let location = line["location"].as_str().expect("a location");
        assert!(location.contains("mod.rs"), "{location}");
    }

    #[test]
    fn numbers_may_be_grouped() {
        assert_eq!(number::<u64>("100_000,000"), Ok(100_000_000));
        assert_eq!(number::<u128>("7"), Ok(7));
        for text in ["", "_", "-1", "1.5", "18446744073709551616"] {
            number::<u64>(text).expect_err(text);
        }
    }
}
