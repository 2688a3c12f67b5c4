//! Random modules in all modes: see `slackline_conformance::oracle`.
//!
//! `SLACKLINE_FULL=1` makes it a long campaign. `SLACKLINE_SEEDS=from..to` runs those; `SLACKLINE_DIGEST=FILE` writes what the
//! reference says of each module, a line for each call, to `FILE.loops` and `FILE.smith`: the same on every machine.

use anyhow::{Context, Result, anyhow, ensure};
use slackline_conformance::Source;
use slackline_conformance::oracle::{Counts, Oracle, THREAD_STACK, fingerprint};
use std::io::Write;
use std::ops::Range;

const THREADS: u64 = 2;

/// Fingerprints of the digests of the first seeds, on every machine. They change with the cost table, with the generators and
/// with wasm-smith, and with nothing else.
const GOLDEN: [(Source, u64, u64); 2] = [
    (Source::Loops, 200, 0xd06d_13d3_3ed8_63f6),
    (Source::Smith, 100, 0x0791_fcc8_9af0_9c3c),
];

fn campaign(source: Source, seeds: Range<u64>) -> Result<Counts> {
    let range = seeds.clone();
    let parts: Vec<_> = (0..THREADS)
        .map(|part| {
            let seeds = seeds.clone();
            std::thread::Builder::new()
                .stack_size(THREAD_STACK)
                .spawn(move || {
                    let mut oracle = Oracle::new()?;
                    let mut digests = Vec::new();
                    for seed in seeds.filter(|seed| seed % THREADS == part) {
                        let Some(case) = source.seeded(seed) else {
                            continue;
                        };
                        // A step takes some microseconds, and more on a virtual machine.
                        oracle.steps_per_case = if seed % 8 == 0 { 4_000 } else { 0 };
                        let digest = oracle
                            .check(&case)
                            .with_context(|| format!("{} seed {seed}", source.name()))?;
                        digests.push((seed, digest));
                    }
                    Ok((oracle.counts(), digests))
                })
        })
        .collect();
    let mut counts = Counts::default();
    let mut digests = Vec::new();
    for part in parts {
        let result: Result<_> = part?
            .join()
            .map_err(|panic| anyhow!("{:?}", panic.downcast_ref::<String>()))?;
        let (part_counts, part_digests) = result?;
        counts += part_counts;
        digests.extend(part_digests);
    }
    digests.sort_unstable();
    eprintln!("{}: {counts:?}", source.name());
    write_digest(source, &digests)?;
    for (_, first, golden) in GOLDEN.into_iter().filter(|golden| golden.0 == source) {
        if range.start == 0 && range.end >= first {
            let text: String = digests
                .iter()
                .filter(|(seed, _)| *seed < first)
                .map(|(seed, digest)| format!("{seed}\n{digest}"))
                .collect();
            assert_eq!(
                fingerprint(&text),
                golden,
                "the reference no longer says what it did: see GOLDEN ({:#x})",
                fingerprint(&text)
            );
        }
    }
    Ok(counts)
}

fn write_digest(source: Source, digests: &[(u64, String)]) -> Result<()> {
    let Some(file) = std::env::var_os("SLACKLINE_DIGEST") else {
        return Ok(());
    };
    let mut file = file;
    file.push(format!(".{}", source.name()));
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for (seed, lines) in digests {
        for line in lines.lines() {
            writeln!(out, "{seed} {line}")?;
        }
    }
    Ok(out.flush()?)
}

fn seeds(ci: u64, full: u64) -> Result<Range<u64>> {
    if let Ok(range) = std::env::var("SLACKLINE_SEEDS") {
        let (from, to) = range.split_once("..").context("SLACKLINE_SEEDS=from..to")?;
        return Ok(from.parse()?..to.parse()?);
    }
    Ok(0..if std::env::var_os("SLACKLINE_FULL").is_some() {
        full
    } else {
        ci
    })
}

/// It would be easy to compare nothing.
fn enough(counts: Counts) -> Result<()> {
    let few = counts.modules / 10;
    ensure!(
        counts.succeeded > few
            && counts.out_of_fuel > few
            && counts.trapped > few / 4
            && counts.refused <= counts.modules
            && counts.checks_landed > counts.modules,
        "{counts:?}"
    );
    Ok(())
}

#[test]
fn loops() -> Result<()> {
    enough(campaign(Source::Loops, seeds(700, 60_000)?)?)
}

#[test]
fn smith() -> Result<()> {
    enough(campaign(Source::Smith, seeds(300, 40_000)?)?)
}
