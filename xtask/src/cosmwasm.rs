//! `cargo xtask bench call --cosmwasm`: our `call` and the same measurements of CosmWasm's virtual machine (the workspace
//! `benches/cosmwasm`), one after the other, twice in turn.
//!
//! Theirs is built into `target/cosmwasm`, and every run's figures are left in `target/cosmwasm/figures`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::run::{cargo, run, step};

/// How often each program runs.
const RUNS: usize = 2;

/// What the ratios are of, in the files that both programs write.
#[derive(Deserialize, Debug)]
struct Figures {
    mode: String,
    no_op_us_p50: f64,
    transfers_per_second: f64,
}

/// The arguments without `--cosmwasm`, if it is among them.
pub fn asked(args: &[OsString]) -> Result<Option<Vec<OsString>>> {
    let others: Vec<_> = args
        .iter()
        .filter(|arg| *arg != "--cosmwasm")
        .cloned()
        .collect();
    if others.len() == args.len() {
        return Ok(None);
    }
    if others.iter().any(|arg| is_json(arg)) {
        bail!(
            "leave out --json: with --cosmwasm every run's figures go to target/cosmwasm/figures"
        );
    }
    Ok(Some(others))
}

/// Runs the built `call` and CosmWasm's with these arguments, which both understand, and prints the ratios.
pub fn compare(root: &Path, call: &Path, args: &[OsString]) -> Result<()> {
    let target = crate::target_dir(root).join("cosmwasm");
    let figures = target.join("figures");
    step("build cosmwasm (many minutes the first time)", || {
        run(cargo(root)
            .args(["build", "--release", "--locked", "--manifest-path"])
            .arg(root.join("benches/cosmwasm/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target))
    })?;
    fs::create_dir_all(&figures).with_context(|| format!("creating {}", figures.display()))?;
    let cosmwasm = target.join("release/bench-cosmwasm");
    let mut lines = Vec::new();
    for turn in 1..=RUNS {
        let (ours, _): (Vec<Figures>, IgnoredAny) =
            measured("slackline", call, turn, &figures, args)?;
        let theirs: Vec<Figures> = measured("cosmwasm", &cosmwasm, turn, &figures, args)?;
        for theirs in &theirs {
            for ours in &ours {
                lines.push(line(turn, theirs, ours));
            }
        }
    }
    println!(
        "\n{:<4} {:<9} {:<10} {:>34} {:>36}",
        "run", "cosmwasm", "slackline", "no-op p50", "transfers/s"
    );
    for line in lines {
        println!("{line}");
    }
    Ok(())
}

fn measured<T: DeserializeOwned>(
    name: &str,
    program: &Path,
    turn: usize,
    dir: &Path,
    args: &[OsString],
) -> Result<T> {
    eprintln!("==> {name}, run {turn} of {RUNS}");
    let file: PathBuf = dir.join(format!("{name}-{turn}.json"));
    run(Command::new(program).args(args).arg("--json").arg(&file))?;
    let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("reading {}", file.display()))
}

fn line(turn: usize, theirs: &Figures, ours: &Figures) -> String {
    let no_op = format!(
        "{:.2} us / {:.2} us = {:.2}",
        theirs.no_op_us_p50,
        ours.no_op_us_p50,
        theirs.no_op_us_p50 / ours.no_op_us_p50
    );
    let transfers = format!(
        "{:.0} / {:.0} = {:.2}",
        theirs.transfers_per_second,
        ours.transfers_per_second,
        theirs.transfers_per_second / ours.transfers_per_second
    );
    format!(
        "{turn:<4} {:<9} {:<10} {no_op:>34} {transfers:>36}",
        theirs.mode, ours.mode
    )
}

fn is_json(arg: &OsStr) -> bool {
    arg.to_string_lossy().split('=').next() == Some("--json")
}

#[cfg(test)]
mod tests {
    use super::{Figures, asked, line};
    use serde::de::IgnoredAny;
    use std::ffi::OsString;

    fn args(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_flag_is_taken_out_wherever_it_is() {
        assert_eq!(
            asked(&args(&["--rounds", "3", "--json=a"])).ok(),
            Some(None)
        );
        assert_eq!(asked(&args(&["--cosmwasm"])).ok(), Some(Some(vec![])));
        assert_eq!(
            asked(&args(&["--rounds", "--cosmwasm", "3"])).ok(),
            Some(Some(args(&["--rounds", "3"])))
        );
    }

    #[test]
    fn a_file_that_both_programs_would_write_is_refused() {
        for words in [
            ["--cosmwasm", "--json", "a"],
            ["--json=a", "--rounds", "--cosmwasm"],
        ] {
            assert!(asked(&args(&words)).is_err(), "{words:?}");
        }
    }

    #[test]
    fn the_ratio_is_theirs_over_ours() {
        let ours = r#"[[{"mode": "slacked", "no_op_us_p50": 4.0, "no_op_us_p99": 9.0, "transfer_us": 20.0,
            "transfers_per_second": 50000.0}], [{"contract": "token"}]]"#;
        let theirs =
            r#"[{"mode": "pinned", "no_op_us_p50": 10.0, "transfers_per_second": 25000.0}]"#;
        let (ours, _): (Vec<Figures>, IgnoredAny) = serde_json::from_str(ours).expect("ours");
        let theirs: Vec<Figures> = serde_json::from_str(theirs).expect("theirs");
        let line = line(1, &theirs[0], &ours[0]);
        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "1 pinned slacked 10.00 us / 4.00 us = 2.50 25000 / 50000 = 0.50"
        );
    }
}
