//! `slackline db`: what operators do to a database, while no node has it open.

use super::output::{Output, Table, grouped};
use anyhow::Context;
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use slackline_executor::store::{Rocks, Store, StoreOptions, Verified, tools};
use slackline_executor::{Block, Chain, Mode};
use slackline_node::dev::database;
use slackline_node::home::Home;
use slackline_node::snapshot::{self, Trusted};
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(crate) enum Db {
    /// Show what the column families take.
    Stats(Data),
    /// Compute the state root from the flat state, compare it with the tree's and the header's, and check that blocks, transactions and
    /// receipts hang together.
    Verify(Verify),
    /// Write a consistent copy; files that do not change are linked.
    Checkpoint(Checkpoint),
    /// Make a database from a checkpoint, and verify it.
    Restore(Restore),
    /// Make a database from the snapshot of a node that need not be trusted: every block of it was decided by the validators that the genesis
    /// leads to, and the state has the root that the last one commits to. The genesis is that of the directory.
    Download(Download),
    /// Delete what only older states need. They cannot be read, proved or gone back to any more.
    Prune(To),
    /// Remove the blocks above a height.
    Rollback(To),
    /// Write the genesis and all blocks to a file, for `import`.
    Export(Export),
    /// Make a database from a file of `export`: executes every block again.
    Import(Import),
}

#[derive(Debug, Args)]
pub(crate) struct Data {
    /// The node's directory.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    data: Data,
    /// The first block to check.
    #[arg(long, value_name = "HEIGHT", default_value_t = 0)]
    from: u64,
    /// Also execute the blocks from there on again, as far back as there is a state before them, and compare receipts and roots.
    #[arg(long)]
    execute: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    data: Data,
    /// A file that does not exist yet.
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file.
    from: PathBuf,
    #[command(flatten)]
    data: Data,
}

#[derive(Debug, Args)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    data: Data,
    /// A directory that does not exist yet, on the same file system for links.
    to: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The checkpoint.
    from: PathBuf,
    #[command(flatten)]
    data: Data,
}

#[derive(Debug, Args)]
pub(crate) struct Download {
    /// Where a node serves snapshots (its snapshot.listen), as http://10.0.0.2:27002; or a file that was downloaded from /snapshot there.
    from: String,
    #[command(flatten)]
    data: Data,
    /// A block that the snapshot must have. Without one, whoever holds enough keys of validators of the past can make up another chain.
    #[arg(long, value_name = "HEIGHT:HASH")]
    trusted: Option<Trusted>,
    /// Give up a snapshot that is longer, or makes a larger database, in GiB: whoever sends it could fill the disk.
    #[arg(long, value_name = "GIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..1 << 20))]
    limit: u64,
}

#[derive(Debug, Args)]
pub(crate) struct To {
    #[command(flatten)]
    data: Data,
    /// Prune: the first height to keep. Roll back: the last height to keep.
    height: u64,
}

impl Data {
    /// A node finds its genesis beside the database; the database knows it too.
    fn write_genesis(&self) -> anyhow::Result<()> {
        let path = self.data_dir.join("genesis.json");
        if !path.exists() {
            let (_, store) = self.open()?;
            let genesis = store.genesis()?.context("the database has no genesis")?;
            std::fs::write(&path, genesis)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn open(&self) -> anyhow::Result<(Rocks, Store)> {
        let path = database(&self.data_dir);
        let dir = path.display();
        // Opening would make one.
        anyhow::ensure!(
            path.join("CURRENT").exists(),
            "there is no database in {dir}"
        );
        let options = StoreOptions::default();
        let rocks = Rocks::open(&path, &options).with_context(|| format!("cannot open {dir}"))?;
        let store = Store::on(Arc::new(rocks.clone()), &options)?;
        Ok((rocks, store))
    }
}

/// A bar up to `length` on standard error, if that is a terminal.
fn bar(length: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {eta}");
    let bar = ProgressBar::new(length).with_message(what);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn show(verified: &Verified, executed: Option<u64>, output: &Output) -> anyhow::Result<ExitCode> {
    let answer = json!({
        "height": verified.height,
        "state_root": verified.root,
        "keys": verified.keys,
        "blocks": verified.blocks,
        "blocks_executed": executed,
    });
    output.show(&answer, |_| {
        let mut table = Table::default();
        table
            .row("clean at height", verified.height)
            .row("state root", verified.root)
            .row("keys", grouped(verified.keys))
            .row("blocks checked", grouped(verified.blocks));
        if let Some(executed) = executed {
            table.row("executed again", grouped(executed));
        }
        table
    })?;
    Ok(ExitCode::SUCCESS)
}

impl Db {
    pub(crate) fn run(self, output: &Output) -> anyhow::Result<ExitCode> {
        match self {
            Db::Stats(data) => stats(&data, output),
            Db::Verify(command) => {
                let (rocks, store) = command.data.open()?;
                let (oldest, head) = store.window()?.unwrap_or_default();
                let bar = bar((head + 1).saturating_sub(command.from), "verifying");
                let verified = store.verify(command.from, |keys, blocks| {
                    if blocks == 0 {
                        bar.set_message(format!("reading state, {keys} keys"));
                    } else {
                        bar.set_message("verifying blocks");
                        bar.set_position(blocks);
                    }
                });
                bar.finish_and_clear();
                let verified = verified?;
                let genesis = store.genesis()?.context("the database has no genesis")?;
                drop((rocks, store));
                let executed = match command.execute {
                    true => {
                        let from = command.from.max(oldest + 1);
                        Some(execute_again(&command.data, &genesis, from, head)?)
                    }
                    false => None,
                };
                show(&verified, executed, output)
            }
            Db::Export(command) => export(&command, output),
            Db::Import(command) => import(&command, output),
            Db::Checkpoint(command) => {
                let (rocks, store) = command.data.open()?;
                rocks
                    .checkpoint(&command.to)
                    .with_context(|| format!("cannot write {}", command.to.display()))?;
                done(&store, "checkpoint at height", output)
            }
            Db::Restore(command) => {
                let dir = &command.data.data_dir;
                std::fs::create_dir_all(dir)
                    .with_context(|| format!("cannot make {}", dir.display()))?;
                let bar = bar(0, "copying");
                let verified = tools::restore(&command.from, &database(dir), |copied, total| {
                    bar.set_length(total);
                    bar.set_position(copied);
                });
                bar.finish_and_clear();
                let verified = verified?;
                command.data.write_genesis()?;
                show(&verified, None, output)
            }
            Db::Download(command) => {
                let dir = &command.data.data_dir;
                let genesis = Home::read(dir, &[])?.genesis;
                let bar = ProgressBar::new_spinner();
                let from = open_snapshot(&command.from)?;
                let (trusted, limit) = (command.trusted, command.limit << 30);
                let verified = snapshot::restore(from, dir, &genesis, trusted, limit, |done| {
                    bar.set_message(format!("block {}, {} keys", done.height, done.keys));
                    bar.tick();
                });
                bar.finish_and_clear();
                show(&verified?, None, output)
            }
            Db::Prune(command) => {
                let (_, store) = command.data.open()?;
                let bar = bar(command.height, "pruning");
                let pruned = store.prune(command.height, |height| bar.set_position(height));
                bar.finish_and_clear();
                pruned?;
                done(&store, "pruned; last height", output)
            }
            Db::Rollback(command) => {
                let (_, store) = command.data.open()?;
                let head = store.head()?.map_or(0, |head| head.height);
                let bar = bar(head.saturating_sub(command.height), "rolling back");
                let removed = store.rollback(command.height, |height| {
                    bar.set_position(head - height);
                });
                bar.finish_and_clear();
                removed?;
                done(&store, "rolled back to height", output)
            }
        }
    }
}

/// The chain of a node's directory, while no node has it open.
pub(super) fn chain(data_dir: &Path) -> anyhow::Result<Chain> {
    let data = Data {
        data_dir: data_dir.to_owned(),
    };
    let (_, store) = data.open()?;
    let genesis = store.genesis()?;
    drop(store);
    open_chain(&data, &genesis.context("the database has no genesis")?)
}

/// How long a node that serves snapshots may take to answer, or be silent.
const SILENCE: Duration = Duration::from_secs(60);

fn open_snapshot(from: &str) -> anyhow::Result<Box<dyn Read>> {
    if !from.contains("://") {
        let file = File::open(from).with_context(|| format!("cannot read {from}"))?;
        return Ok(Box::new(BufReader::new(file)));
    }
    let url = format!("{}/snapshot", from.trim_end_matches('/'));
    let request = attohttpc::get(&url)
        .connect_timeout(SILENCE)
        .read_timeout(SILENCE)
        .follow_redirects(false);
    let (status, _, body) = request
        .send()
        .with_context(|| format!("cannot download {url}"))?
        .split();
    if !status.is_success() {
        let mut said = Vec::new();
        let _ = body.take(1_000).read_to_end(&mut said);
        let said = String::from_utf8_lossy(&said);
        anyhow::bail!("{url}: {status}: {}", said.trim().escape_debug());
    }
    Ok(Box::new(body))
}

fn open_chain(data: &Data, genesis: &[u8]) -> anyhow::Result<Chain> {
    let genesis = serde_json::from_slice(genesis).context("the genesis cannot be read")?;
    Ok(Chain::open(
        &database(&data.data_dir),
        &genesis,
        Mode::Slacked,
    )?)
}

/// Returns how many blocks that were.
fn execute_again(data: &Data, genesis: &[u8], from: u64, to: u64) -> anyhow::Result<u64> {
    let chain = open_chain(data, genesis)?;
    let count = (to + 1).saturating_sub(from);
    let bar = bar(count, "executing");
    for height in from..=to {
        chain.execute_again(height)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(count)
}

/// A file of blocks: this; the genesis; each block from height 1 on, in borsh; an empty part. Parts are preceded by their length (4 bytes,
/// little-endian).
const MAGIC: &[u8; 18] = b"slackline blocks 1";

fn write_part(file: &mut impl Write, part: &[u8]) -> io::Result<()> {
    let length = u32::try_from(part.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(part)
}

fn read_part(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    let length = u64::from(u32::from_le_bytes(length));
    let mut part = Vec::new();
    if file.take(length).read_to_end(&mut part)? as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(part)
}

fn export(command: &Export, output: &Output) -> anyhow::Result<ExitCode> {
    let (_, store) = command.data.open()?;
    let to = command.to.display();
    let head = store.head()?.map_or(0, |head| head.height);
    let genesis = store.genesis()?.context("the database has no genesis")?;
    let file = File::create_new(&command.to).with_context(|| format!("cannot make {to}"))?;
    let failed = || format!("cannot write {to}");
    let mut file = BufWriter::new(file);
    file.write_all(MAGIC).with_context(failed)?;
    write_part(&mut file, &genesis).with_context(failed)?;
    let bar = bar(head, "exporting");
    for height in 1..=head {
        let block = store.block(height)?;
        let block = block.with_context(|| format!("block {height} is missing"))?;
        write_part(&mut file, &borsh::to_vec(&block)?).with_context(failed)?;
        bar.inc(1);
    }
    write_part(&mut file, &[]).with_context(failed)?;
    let file = file.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all()).with_context(failed)?;
    bar.finish_and_clear();
    done(&store, "exported to height", output)
}

fn import(command: &Import, output: &Output) -> anyhow::Result<ExitCode> {
    let dir = &command.data.data_dir;
    let from = command.from.display();
    let damaged = || format!("{from} is damaged, or not a file of `slackline db export`");
    let file = File::open(&command.from).with_context(|| format!("cannot read {from}"))?;
    let bar = bar(file.metadata()?.len(), "importing");
    let mut file = BufReader::new(bar.wrap_read(file));
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).with_context(damaged)?;
    anyhow::ensure!(&magic == MAGIC, damaged());
    let genesis = read_part(&mut file).with_context(damaged)?;
    let path = database(dir);
    anyhow::ensure!(
        !path.exists(),
        "{} exists: import makes a new database",
        path.display()
    );
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let chain = open_chain(&command.data, &genesis)?;
    loop {
        let part = read_part(&mut file).with_context(damaged)?;
        if part.is_empty() {
            break;
        }
        let block: Block = borsh::from_slice(&part).with_context(damaged)?;
        let height = block.header.height;
        let executed = chain.execute(block).with_context(|| {
            format!(
                "block {height} of {from} comes out otherwise when it is executed: the database in {} ends before it",
                path.display()
            )
        })?;
        chain.commit(executed, None)?;
    }
    bar.finish_and_clear();
    drop(chain);
    command.data.write_genesis()?;
    let (_, store) = command.data.open()?;
    done(&store, "imported to height", output)
}

fn done(store: &Store, what: &str, output: &Output) -> anyhow::Result<ExitCode> {
    let (oldest, head) = store.window()?.unwrap_or_default();
    output.show(&json!({ "height": head, "oldest": oldest }), |_| {
        let mut table = Table::default();
        table
            .row(what, head)
            .row("oldest height with state", oldest);
        table
    })?;
    Ok(ExitCode::SUCCESS)
}

fn stats(data: &Data, output: &Output) -> anyhow::Result<ExitCode> {
    let (rocks, store) = data.open()?;
    let families = tools::stats(&rocks)?;
    let (oldest, head) = store.window()?.unwrap_or_default();
    let list: Vec<_> = families
        .iter()
        .map(|family| {
            json!({
                "family": family.family.name(),
                "keys": family.keys,
                "file_bytes": family.file_bytes,
                "memory_bytes": family.memory_bytes,
            })
        })
        .collect();
    let answer = json!({ "height": head, "oldest": oldest, "families": list });
    output.show(&answer, |_| {
        let mut table = Table::default();
        table
            .row("height", head)
            .row("oldest height with state", oldest);
        for family in &families {
            table.row(
                family.family.name(),
                format!(
                    "about {} keys, {} bytes in files, {} in memory",
                    grouped(family.keys),
                    grouped(family.file_bytes),
                    grouped(family.memory_bytes)
                ),
            );
        }
        table
    })?;
    Ok(ExitCode::SUCCESS)
}
