//! `slackline contract`: from an idea to the bytes that are deployed.

use super::abi::describe;
use super::names::Names;
use super::output::{Output, Table, grouped, print, printable};
use super::words::{self, encode_json};
use anyhow::{Context, anyhow, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use slackline_executor::{Action, Mode, ProtocolParams};
use slackline_executor::{
    AdmitError, Chain, Outcome, Pending, Receipt, SignedTransaction, Transaction,
};
use slackline_node::dev::{DEV_CHAIN_ID, DEV_NAMES, dev_genesis, dev_key};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Where this program was built.
const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Names that mean something else in a contract or to Rust.
const RESERVED: [&str; 56] = [
    "abstract", "alloc", "as", "async", "await", "become", "borsh", "box", "break", "const",
    "continue", "core", "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn",
    "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut",
    "override", "priv", "pub", "ref", "return", "self", "static", "std", "struct", "super", "test",
    "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where",
    "while", "yield",
];

#[derive(Debug, Subcommand)]
pub(crate) enum Contract {
    /// Make a project: a contract with a test.
    New(New),
    /// Compile a contract, check that it can be deployed, and tell what that costs.
    Build(Build),
    /// Run the tests of a contract.
    Test(Test),
}

#[derive(Debug, Args)]
pub(crate) struct New {
    /// Its name: small letters, digits, - and _.
    name: String,
    /// The directory to make [default: ./NAME].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    checkout: Checkout,
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The contract's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Arguments of `init` as JSON, to tell what it costs.
    #[arg(long, value_name = "JSON")]
    init: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The contract's directory.
    #[arg(default_value = ".")]
    dir: PathBuf,
    #[command(flatten)]
    checkout: Checkout,
    /// Arguments for `cargo test`.
    #[arg(last = true)]
    args: Vec<String>,
}

/// Where the SDK and the testkit are.
#[derive(Debug, Args)]
pub(crate) struct Checkout {
    /// A clone of Slackline, for its SDK and its testkit [default: the one that this program was built in].
    #[arg(long, value_name = "DIR", env = "SLACKLINE_DIR")]
    slackline: Option<PathBuf>,
}

impl Checkout {
    pub(crate) fn find(&self) -> anyhow::Result<PathBuf> {
        let dir = self.slackline.as_deref().unwrap_or(Path::new(BUILT_IN));
        let hint = "say with --slackline DIR where a clone of it is";
        let dir = dir
            .canonicalize()
            .with_context(|| format!("Slackline is not in {}: {hint}", dir.display()))?;
        for needed in ["contracts/sdk", "testkit"] {
            ensure!(
                dir.join(needed).join("Cargo.toml").is_file(),
                "Slackline is not in {}, which has no {needed}: {hint}",
                dir.display()
            );
        }
        for needed in [".wasmtime/wasmtime/Cargo.toml", ".rocksdb/lib"] {
            ensure!(
                dir.join(needed).exists(),
                "{} has no {needed}: type `cargo xtask prepare` there, once",
                dir.display()
            );
        }
        Ok(dir)
    }

    /// Where projects are built.
    pub(crate) fn target_dir(checkout: &Path) -> PathBuf {
        checkout.join("target/projects")
    }
}

impl Contract {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Contract::New(command) => command.run(output),
            Contract::Build(command) => command.run(output),
            Contract::Test(command) => command.run(),
        }
    }
}

impl New {
    fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        check_name(&self.name)?;
        let checkout = self.checkout.find()?;
        let slackline = checkout
            .to_str()
            .filter(|path| !path.contains(['"', '\\']))
            .with_context(|| {
                let dir = checkout.display();
                format!(
                    "{dir}: the path of the clone must be UTF-8, without quotes and backslashes"
                )
            })?;
        let dir = self.dir.unwrap_or_else(|| PathBuf::from(&self.name));
        let ident = self.name.replace('-', "_");
        let fill = |template: &str| {
            template
                .replace("{{name}}", &self.name)
                .replace("{{ident}}", &ident)
                .replace("{{Type}}", &camel_case(&ident))
                .replace("{{slackline}}", slackline)
        };
        let taken = |file: &str| {
            let path = checkout.join(file);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let test = format!("tests/{ident}.rs");
        let files = [
            ("Cargo.toml", fill(include_str!("template/Cargo.toml.in"))),
            ("src/lib.rs", fill(include_str!("template/lib.rs.in"))),
            (&test, fill(include_str!("template/test.rs.in"))),
            (
                ".cargo/config.toml",
                fill(include_str!("template/config.toml.in")),
            ),
            (".gitignore", "target/\n".to_owned()),
            // The versions that the engine has been tested with; cargo drops what the project does not use.
            ("Cargo.lock", taken("Cargo.lock")?),
            ("rust-toolchain.toml", taken("rust-toolchain.toml")?),
        ];
        // Fails if there is something already.
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        for (name, text) in &files {
            let path = dir.join(name);
            let parent = path.parent().unwrap_or(&dir);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, text))
                .with_context(|| path.display().to_string())?;
        }
        let shown = json!({ "name": self.name, "dir": dir, "slackline": checkout });
        output.show(&shown, |_| {
            let mut table = Table::default();
            table
                .row("contract", dir.join("src/lib.rs").display())
                .row("test", dir.join(&test).display())
                .row("slackline", checkout.display())
                .row("next", format!("cd {}", dir.display()))
                .row("", "slackline contract build")
                .row("", "slackline contract test");
            table
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// A name for a package, and with _ instead of - for a crate and a module.
fn check_name(name: &str) -> anyhow::Result<()> {
    let good = name.len() <= 64
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_'));
    ensure!(
        good,
        "{name:?} cannot be the name of a contract: small letters, digits, - and _, a letter first, at most 64"
    );
    let ident = name.replace('-', "_");
    ensure!(
        !RESERVED.contains(&ident.as_str()) && !ident.starts_with("slackline"),
        "{name:?} cannot be the name of a contract: it means something else"
    );
    Ok(())
}

/// `my_token` as `MyToken`.
fn camel_case(ident: &str) -> String {
    let parts = ident.split('_').map(|part| {
        let mut letters = part.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    });
    parts.collect()
}

impl Build {
    fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        let built = slackline_contract_build::build(&self.dir)?;
        let limit = ProtocolParams::v1().limits.code.code_bytes;
        let description = words::of_code(&built.wasm);
        let trial = Trial::new()?;
        let intrinsic = trial
            .check(&built.wasm)
            .with_context(|| format!("{} cannot be deployed", built.path.display()))?;

        let init = description
            .as_ref()
            .ok()
            .and_then(|contract| contract.method("init"));
        let (receipt, not_tried) = match (&self.init, init) {
            (None, Some(init)) if !init.args.is_empty() => {
                let args: Vec<_> = init.args.iter().map(ToString::to_string).collect();
                let hint = format!("needs {}: give them with --init JSON", args.join(", "));
                (None, Some(hint))
            }
            (json, _) => {
                let json = json.as_deref().unwrap_or("[]");
                let input = match (&self.init, &description) {
                    (None, Err(_)) => Vec::new(),
                    _ => {
                        let names = Names::on_chain(DEV_CHAIN_ID);
                        encode_json(json, "init", &description, &names).context("--init")?
                    }
                };
                (Some(trial.deploy(&built.wasm, input)?), None)
            }
        };
        let outcome = receipt.as_ref().map(|receipt| match &receipt.outcome {
            Outcome::Success { .. } => Ok(receipt.fuel_used),
            Outcome::Revert { data } => Err(match &description {
                Ok(contract) => format!("reverted: {}", contract.decode_error("init", data)),
                Err(_) => format!("reverted: {}", String::from_utf8_lossy(data)),
            }),
            Outcome::Abort(reason) => Err(format!("aborted: {reason}")),
        });

        let shown = json!({
            "package": built.package,
            "file": built.path,
            "bytes": built.wasm.len(),
            "code_bytes_limit": limit,
            "abi": description.as_ref().ok(),
            "deployment_fuel": {
                "intrinsic": intrinsic,
                "total": outcome.as_ref().and_then(|outcome| outcome.as_ref().ok()),
                "init_failed": outcome.as_ref().and_then(|outcome| outcome.as_ref().err()),
            },
            "deposit": receipt.as_ref().map(|receipt| receipt.deposit.to_string()),
        });
        if output.is_json() {
            print(&(serde_json::to_string_pretty(&shown)? + "\n"))?;
        } else {
            let mut table = Table::default();
            let bytes = grouped(built.wasm.len() as u64);
            table.row("file", built.path.display()).row(
                "size",
                format!("{bytes} of {} bytes", grouped(limit as u64)),
            );
            match (&outcome, &not_tried) {
                (Some(Ok(total)), _) => {
                    let init = total.saturating_sub(intrinsic);
                    let (total, intrinsic) = (grouped(*total), grouped(intrinsic));
                    table.row(
                        "deployment",
                        format!("{total} fuel: {intrinsic}, and {} for init", grouped(init)),
                    );
                }
                (Some(Err(failed)), _) => {
                    table
                        .row(
                            "deployment",
                            format!("{} fuel, and init", grouped(intrinsic)),
                        )
                        .row("init", printable(failed));
                }
                (None, not_tried) => {
                    let hint = not_tried.as_deref().unwrap_or_default();
                    table
                        .row(
                            "deployment",
                            format!("{} fuel, and init", grouped(intrinsic)),
                        )
                        .row("init", printable(hint));
                }
            }
            if let Some(receipt) = receipt.filter(|receipt| receipt.deposit != 0) {
                table.row(
                    "deposit",
                    format!("{}, refundable, for what init stores", receipt.deposit),
                );
            }
            let methods = match &description {
                Ok(contract) => describe(contract),
                Err(reason) => format!("{}\n", printable(reason)),
            };
            print(&format!("{table}\n{methods}"))?;
        }
        Ok(match outcome {
            Some(Err(_)) => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        })
    }
}

/// A chain to try a deployment on, with the rules of the node.
struct Trial {
    chain: Chain,
    _dir: tempfile::TempDir,
}

impl Trial {
    fn new() -> anyhow::Result<Trial> {
        let dir = tempfile::tempdir().context("no temporary directory")?;
        let chain = Chain::open(dir.path(), &dev_genesis(0), Mode::Slacked)?;
        Ok(Trial { chain, _dir: dir })
    }

    /// Fuel that it takes to deploy `code`, without `init`.
    ///
    /// # Errors
    ///
    /// If the node would refuse the code.
    fn check(&self, code: &[u8]) -> anyhow::Result<u64> {
        let admit = |fuel| {
            let transaction = self.transaction(code, Vec::new(), fuel)?;
            anyhow::Ok(self.chain.admit(&transaction, Pending::default()))
        };
        let minimum = match admit(0)? {
            Err(AdmitError::FuelLimitTooLow { minimum, .. }) => minimum,
            Err(error) => return Err(error.into()),
            Ok(()) => 0,
        };
        admit(self.fuel())??;
        Ok(minimum)
    }

    fn deploy(&self, code: &[u8], input: Vec<u8>) -> anyhow::Result<Receipt> {
        let transaction = self.transaction(code, input, self.fuel())?;
        let produced = self.chain.produce_block(vec![transaction], 0)?;
        if let Some((_, error)) = produced.dropped.into_iter().next() {
            return Err(error.into());
        }
        let receipt = produced.receipts.into_iter().next();
        receipt.context("no receipt")
    }

    fn fuel(&self) -> u64 {
        self.chain.params().limits.transaction_fuel
    }

    fn transaction(
        &self,
        code: &[u8],
        input: Vec<u8>,
        fuel_limit: u64,
    ) -> anyhow::Result<SignedTransaction> {
        let key = dev_key(DEV_NAMES[0]).ok_or_else(|| anyhow!("no development accounts"))?;
        let transaction = Transaction {
            chain_id: DEV_CHAIN_ID,
            sender: key.public(),
            nonce: 0,
            fuel_limit,
            fuel_price: 1,
            tip: 0,
            deposit_limit: 1_000_000_000,
            action: Action::Deploy {
                code: code.to_owned(),
                input,
                value: 0,
            },
        };
        Ok(transaction.sign(key.signing()))
    }
}

impl Test {
    fn run(self) -> anyhow::Result<ExitCode> {
        if !self.dir.join("Cargo.toml").is_file() {
            bail!(
                "{} has no Cargo.toml: a contract is a cargo package (`slackline contract new NAME` makes one)",
                self.dir.display()
            );
        }
        let checkout = self.checkout.find()?;
        let mut command = Command::new("cargo");
        command
            .arg("test")
            .current_dir(&self.dir)
            .arg("--target-dir")
            .arg(Checkout::target_dir(&checkout))
            .args(&self.args);
        for (name, value) in [
            ("ROCKSDB_LIB_DIR", checkout.join(".rocksdb/lib").as_os_str()),
            ("ROCKSDB_STATIC", "1".as_ref()),
        ] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
        let status = command.status().context("cannot start cargo")?;
        Ok(match status.success() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_packages_and_modules() {
        for name in ["a", "my-token", "my_token2"] {
            check_name(name).expect(name);
        }
        for name in [
            "",
            "A",
            "2a",
            "-a",
            "a b",
            "a.b",
            "../a",
            "é",
            "mod",
            "slackline",
            "slackline-sdk",
            "test",
        ] {
            check_name(name).expect_err(name);
        }
        assert_eq!(camel_case("my_token2"), "MyToken2");
        assert_eq!(camel_case("a__b_"), "AB");
    }
}
