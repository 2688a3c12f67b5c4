//! Snapshots: a chain as a stream, for new nodes that need not execute its history.
//!
//! ```text
//!   Chain::export ─ parts ─▶ GET /snapshot ══▶ file or socket ══▶ blocks   each follows the one before, back to the genesis block, and was
//!   (one moment's view)                                             │      decided by more than two thirds of its validators: those of the
//!                                                                   │      genesis, until a block changes them; what code was deployed is in them
//!                                                                   ▼
//!                                                                 state    has the root of the last block's header
//!                                                                   ▼
//!                                     db.downloading ── verified whole, renamed ──▶ db
//! ```
//!
//! Whoever serves is not trusted: all that is kept was checked, from the genesis on, or computed here. The exception is why an
//! execution was aborted, a text that no header commits to. Validators that were trusted once may have lost their keys since, and whoever has them
//! could make up another history; who knows the hash of a late block asks for it as [`Trusted`].
//!
//! The stream: [`MAGIC`]; parts, each after its length (4 bytes, little-endian), in borsh; a length of 0.

use crate::dev::database;
use crate::http::{self, Peer};
use crate::socket::Seats;
use crate::validator::{ValidatorError, is_what_it_commits_to, voters};
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use slackline_consensus::{CertificateError, ValidatorSet, verify_certificate};
use slackline_executor::proof::{List, list_root};
use slackline_executor::store::transfer::{Export, Import, Part, StoredBlock};
use slackline_executor::store::{Rocks, Store, StoreOptions};
use slackline_executor::{
    Action, Chain, Genesis, Hash, Header, Mode, OpenError, StoreError, Verified, code_hash, encode,
};
use std::fs::{self, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{mpsc, watch};

/// What the stream begins with.
pub const MAGIC: &[u8; 20] = b"slackline snapshot 1";
/// Downloads at a time, and of one address: each keeps RocksDB from dropping what it reads.
const DOWNLOADS: usize = 2;
const DOWNLOADS_OF_ONE: usize = 1;
/// How long a client may take to read a part.
const STALL: Duration = Duration::from_secs(60);
/// What a client has to read on the whole, in bytes a second: it could take years else, a part at a time.
const SLOWEST: u64 = 512 << 10;
/// No part is longer, in bytes: a block with its receipts goes into one.
const PART_LIMIT: u64 = 256 << 20;
/// No part of the state is: it ends with the key that takes it over a MiB.
const STATE_PART_LIMIT: u64 = 4 << 20;
/// The first byte of such a part, after its length.
const STATE_TAG: u8 = 1;
/// How many keys the state may have for each block: more than blocks have the fuel to make, on the whole. Import has as many in memory as there are in all
/// for each height.
const KEYS_PER_BLOCK: u64 = 2_000_000;
/// After how much that was read the database is weighed, in bytes.
const WEIGH_EVERY: u64 = 64 << 20;

/// A block that a snapshot must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trusted {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
}

impl FromStr for Trusted {
    type Err = String;

    fn from_str(text: &str) -> Result<Trusted, String> {
        let expected = || "expected HEIGHT:HASH".to_owned();
        let (height, hash) = text.split_once(':').ok_or_else(expected)?;
        Ok(Trusted {
            height: height.parse().map_err(|_| expected())?,
            hash: hash.parse().map_err(|_| expected())?,
        })
    }
}

/// Why no database was made of a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is a database already.
    #[error("{0} is not empty: move it away first")]
    Exists(PathBuf),
    /// Another download goes there.
    #[error("another process is downloading into {0}")]
    Busy(PathBuf),
    /// A file of the directory cannot be read or written.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It, or the database that is being made of it, is over the limit.
    #[error("the snapshot, or what is made of it, is larger than {0} bytes, which is the limit")]
    TooLong(u64),
    /// It broke off, or could not be read.
    #[error("the snapshot breaks off: {0}")]
    Read(io::Error),
    /// It is something else.
    #[error("this is no snapshot of this version: {0}")]
    Format(String),
    /// A block is not one of this chain.
    #[error("block {height} of the snapshot is not this chain's: {reason}")]
    Block {
        /// Its height.
        height: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The validators did not decide a block, as far as it shows.
    #[error(
        "block {height} of the snapshot was not decided by the validators that the genesis leads to: {source}"
    )]
    Certificate {
        /// Its height.
        height: u64,
        /// What is wrong with its certificate.
        source: CertificateError,
    },
    /// It is not the chain that is trusted.
    #[error("the snapshot does not have the block {expected} at height {height}, but {found}")]
    NotTrusted {
        /// The height of the trusted block.
        height: u64,
        /// Its hash.
        expected: Hash,
        /// What is there.
        found: String,
    },
    /// The chain has no validators, so nothing shows which blocks are its.
    #[error(transparent)]
    NoValidators(#[from] ValidatorError),
    /// The genesis cannot work.
    #[error("the genesis: {0}")]
    Genesis(#[from] OpenError),
    /// The state is not the last block's, or the database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The last block's height.
    pub height: u64,
    /// Keys of the state.
    pub keys: u64,
}

/// Makes the database of the node in `dir`, which has none, from a snapshot of the chain that begins with `genesis`; neither of them is of more than `limit`
/// bytes. It gets its
/// name when all of it is right, so that an interrupted one leaves no database; what it leaves besides is removed by the next.
///
/// # Errors
///
/// See [`SnapshotError`]. Nothing is left then.
pub fn restore(
    from: impl Read,
    dir: &Path,
    genesis: &Genesis,
    trusted: Option<Trusted>,
    limit: u64,
    progress: impl FnMut(Progress),
) -> Result<Verified, SnapshotError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| SnapshotError::Directory { path, source }
    };
    // Of the directory itself, so that no file is left.
    let lock = fs::File::open(dir).map_err(failed(dir))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SnapshotError::Busy(dir.to_owned())),
        Err(TryLockError::Error(source)) => return Err(failed(dir)(source)),
    }
    let to = database(dir);
    if fs::read_dir(&to).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(SnapshotError::Exists(to));
    }
    let partial = dir.join("db.downloading");
    let remove = || match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&partial)(error)),
        _ => Ok(()),
    };
    remove()?;
    fs::create_dir_all(&partial).map_err(failed(&partial))?;
    let from = Limited { from, left: limit };
    let made = build(from, &partial, genesis, trusted, limit, progress).and_then(|verified| {
        // Fails if there is something in it, as of a node that was started meanwhile.
        fs::rename(partial.join("db"), &to).map_err(failed(&to))?;
        lock.sync_all().map_err(failed(dir))?;
        Ok(verified)
    });
    let made = match made {
        Err(SnapshotError::Read(error)) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(SnapshotError::TooLong(limit))
        }
        made => made,
    };
    let removed = remove();
    let verified = made?;
    removed?;
    Ok(verified)
}

fn build(
    mut from: Limited<impl Read>,
    dir: &Path,
    genesis: &Genesis,
    trusted: Option<Trusted>,
    limit: u64,
    mut progress: impl FnMut(Progress),
) -> Result<Verified, SnapshotError> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).map_err(SnapshotError::Read)?;
    if magic != *MAGIC {
        return Err(SnapshotError::Format("it begins otherwise".to_owned()));
    }
    let mut checker = Checker::new(&dir.join("genesis"), genesis, trusted)?;
    let options = StoreOptions::default();
    let rocks = Arc::new(Rocks::open(&dir.join("db"), &options)?);
    let import = Import::new(rocks.clone());
    import.genesis(&checker.genesis)?;
    let weigh = || match size(dir) {
        Ok(size) if size > limit => Err(SnapshotError::TooLong(limit)),
        Ok(_) => Ok(()),
        Err(source) => Err(SnapshotError::Directory {
            path: dir.to_owned(),
            source,
        }),
    };
    let mut weighed = from.left;
    let mut done = Progress::default();
    while let Some(part) = read_part(&mut from)? {
        match part {
            Part::Blocks(blocks) => {
                let mut code = Vec::new();
                for block in &blocks {
                    checker.block(block)?;
                    code.extend(deployed(block));
                }
                import.blocks(&blocks)?;
                import.code(&code)?;
                done.height = checker.head.height;
            }
            // Whether it is the state shows when all of it is there.
            Part::State(entries) => {
                done.keys += entries.len() as u64;
                checker.state(&entries, done.keys)?;
                import.state(&entries)?;
            }
        }
        if weighed - from.left >= WEIGH_EVERY {
            weighed = from.left;
            weigh()?;
        }
        progress(done);
    }
    weigh()?;
    let head = checker.finish()?;
    let json = serde_json::to_vec(genesis);
    let json = json.map_err(|error| SnapshotError::Format(error.to_string()))?;
    import.finish(&json, &head, weigh)?;
    // What was written, read once more.
    Ok(Store::on(rocks, &options)?.verify(0, |_, _| {})?)
}

fn read_part(from: &mut impl Read) -> Result<Option<Part>, SnapshotError> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(SnapshotError::Read)?;
    let length = u64::from(u32::from_le_bytes(length));
    if length == 0 {
        return Ok(None);
    }
    if length > PART_LIMIT {
        return Err(SnapshotError::Format(format!("a part of {length} bytes")));
    }
    let mut tag = [0];
    from.read_exact(&mut tag).map_err(SnapshotError::Read)?;
    // Before it is read: what is short as bytes may be many keys.
    if tag == [STATE_TAG] && length > STATE_PART_LIMIT {
        let wrong = format!("a part of the state of {length} bytes");
        return Err(SnapshotError::Format(wrong));
    }
    let mut bytes = tag.to_vec();
    let read = from.take(length - 1).read_to_end(&mut bytes);
    read.map_err(SnapshotError::Read)?;
    if bytes.len() as u64 != length {
        return Err(SnapshotError::Read(io::ErrorKind::UnexpectedEof.into()));
    }
    let part = borsh::from_slice(&bytes);
    part.map(Some)
        .map_err(|error| SnapshotError::Format(error.to_string()))
}

/// Bytes of the files in `dir`, some of which may be gone meanwhile.
fn size(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path())?,
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}

/// Knows the chain as far as it has been read.
struct Checker {
    genesis: slackline_executor::Block,
    head: Header,
    /// Keys that the state may have, besides those that blocks bring.
    first_keys: u64,
    /// The last key of the state, once it has begun.
    last_key: Option<Vec<u8>>,
    /// Of the block after the head.
    validators: ValidatorSet,
    trusted: Option<Trusted>,
}

impl Checker {
    /// `dir` is made, with a chain of nothing but the genesis block.
    fn new(
        dir: &Path,
        genesis: &Genesis,
        trusted: Option<Trusted>,
    ) -> Result<Checker, SnapshotError> {
        let chain = Chain::open(dir, genesis, Mode::Slacked)?;
        let missing = || StoreError::Damaged("there is no block".to_owned());
        let mut checker = Checker {
            genesis: chain.block(0)?.ok_or_else(missing)?,
            head: chain.head(),
            first_keys: KEYS_PER_BLOCK + genesis.accounts.len() as u64,
            last_key: None,
            validators: voters(&chain.validators(0)?)?,
            trusted,
        };
        checker.is_trusted()?;
        Ok(checker)
    }

    /// Whether these keys may follow, of which there are `keys` with them. That they are right shows when all are there; until then what is made of
    /// them takes room.
    fn state(&mut self, entries: &[(Vec<u8>, Vec<u8>)], keys: u64) -> Result<(), SnapshotError> {
        let wrong = |reason: &str| Err(SnapshotError::Format(reason.to_owned()));
        let before = self.last_key.take().unwrap_or_default();
        let listed = std::iter::once(&before).chain(entries.iter().map(|(key, _)| key));
        if !listed.is_sorted_by(|one, next| one < next) {
            return wrong("the keys of the state do not rise");
        }
        let most = self.head.height.saturating_mul(KEYS_PER_BLOCK);
        if keys > most.saturating_add(self.first_keys) {
            return wrong("the state has more keys than its blocks can have made");
        }
        self.last_key = Some(entries.last().map_or(before, |(key, _)| key.clone()));
        Ok(())
    }

    /// Makes `stored` the head.
    fn block(&mut self, stored: &StoredBlock) -> Result<(), SnapshotError> {
        if self.last_key.is_some() {
            let wrong = "blocks follow the state".to_owned();
            return Err(SnapshotError::Format(wrong));
        }
        let (block, height) = (&stored.block, self.head.height + 1);
        let wrong = |reason: &str| SnapshotError::Block {
            height,
            reason: reason.to_owned(),
        };
        let hash = block.header.hash();
        if (block.header.height, block.header.parent) != (height, self.head.hash()) {
            return Err(wrong("it does not follow the one before"));
        }
        let chain = self.genesis.header.hash();
        let certified = verify_certificate(&chain, &self.validators, &stored.certificate)
            .map_err(|source| SnapshotError::Certificate { height, source })?;
        if (certified.height, certified.id) != (height, hash) {
            return Err(wrong("its certificate is another block's"));
        }
        if !is_what_it_commits_to(block) {
            return Err(wrong("its transactions are not those of its header"));
        }
        let receipts: Vec<Hash> = stored.receipts.iter().map(|each| each.hash()).collect();
        if list_root(List::Receipts, &receipts) != block.header.receipts_root {
            return Err(wrong("its receipts are not those of its header"));
        }
        for (signed, receipt) in block.transactions.iter().zip(&stored.receipts) {
            if let Action::SetValidators { validators } = &signed.transaction.action
                && receipt.outcome.is_success()
            {
                self.validators = voters(validators)?;
            }
        }
        self.head = block.header.clone();
        self.is_trusted()
    }

    fn is_trusted(&mut self) -> Result<(), SnapshotError> {
        match self.trusted {
            Some(Trusted { height, hash }) if height == self.head.height => {
                let found = self.head.hash();
                if found != hash {
                    return Err(SnapshotError::NotTrusted {
                        height,
                        expected: hash,
                        found: found.to_string(),
                    });
                }
                self.trusted = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Header, SnapshotError> {
        if let Some(Trusted { height, hash }) = self.trusted {
            return Err(SnapshotError::NotTrusted {
                height,
                expected: hash,
                found: format!("ends at height {}", self.head.height),
            });
        }
        Ok(self.head)
    }
}

/// The code that a block brought, by its hash: that of deployments that succeeded.
fn deployed(stored: &StoredBlock) -> impl Iterator<Item = (Hash, Vec<u8>)> {
    let done = stored.block.transactions.iter().zip(&stored.receipts);
    done.filter_map(|(signed, receipt)| match &signed.transaction.action {
        Action::Deploy { code, .. } if receipt.outcome.is_success() => {
            Some((code_hash(code), code.clone()))
        }
        _ => None,
    })
}

/// Fails with [`io::ErrorKind::FileTooLarge`] where more than `left` is wanted.
struct Limited<R> {
    from: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !into.is_empty() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let most = into
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let count = self.from.read(&mut into[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}

#[derive(Clone)]
struct Served {
    chain: Arc<Chain>,
    downloads: Arc<Seats>,
    stop: watch::Receiver<bool>,
    /// Closed when no download is left.
    alive: mpsc::Sender<()>,
}

/// Serves snapshots of `chain`, at `/snapshot`, until `stop` says so.
pub async fn serve(listener: TcpListener, chain: Arc<Chain>, stop: watch::Receiver<bool>) {
    let (alive, mut gone) = mpsc::channel(1);
    let router = Router::new()
        .route("/snapshot", get(snapshot))
        .with_state(Served {
            chain,
            downloads: Seats::new(DOWNLOADS, DOWNLOADS_OF_ONE),
            stop: stop.clone(),
            alive,
        });
    http::serve(listener, router, stop).await;
    gone.recv().await;
}

async fn snapshot(State(served): State<Served>, Extension(peer): Extension<Peer>) -> Response {
    let unavailable = |text: String| (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
    let Some(seat) = served.downloads.take(peer.0) else {
        return unavailable(format!(
            "{DOWNLOADS} others are downloading, or one at this address: try again\n"
        ));
    };
    let chain = served.chain;
    // The first part now: what cannot be served says so in the status.
    let first = tokio::task::spawn_blocking(move || {
        let mut export = chain.export()?;
        let first = framed(&mut export)?;
        Ok::<_, StoreError>((export, first))
    });
    let (export, first) = match first.await.map_err(io::Error::other) {
        Ok(Ok(first)) => first,
        Ok(Err(error)) => return unavailable(format!("{error}\n")),
        Err(error) => return unavailable(format!("{error}\n")),
    };
    tracing::info!(height = export.head().height, "a snapshot is downloaded");
    let (parts, mut body) = mpsc::channel(1);
    let sending = send(export, first, parts, served.stop);
    let held = (seat, served.alive);
    tokio::spawn(async move {
        sending.await;
        drop(held);
    });
    let body = futures::stream::poll_fn(move |context| body.poll_recv(context));
    let kind = [(header::CONTENT_TYPE, "application/octet-stream")];
    (kind, Body::from_stream(body)).into_response()
}

/// The next part as it is in the stream; with a length of 0 at the end.
fn framed(export: &mut Export) -> Result<(Bytes, bool), StoreError> {
    let part = export.next_part()?;
    let bytes = part.as_ref().map(encode).unwrap_or_default();
    let length = u32::try_from(bytes.len())
        .map_err(|_| StoreError::Damaged("a part of over 4 GiB".to_owned()))?;
    let framed = [&length.to_le_bytes()[..], &bytes].concat();
    Ok((framed.into(), part.is_some()))
}

/// How long a client that has read so many bytes may have taken for them, and for the next part.
fn allowed(read: u64) -> Duration {
    STALL + Duration::from_millis(read.saturating_mul(1_000) / SLOWEST)
}

/// Ends when the client does, or takes too long: what is left out is missed by it.
async fn send(
    mut export: Export,
    (first, mut more): (Bytes, bool),
    parts: mpsc::Sender<io::Result<Bytes>>,
    mut stop: watch::Receiver<bool>,
) {
    let (began, mut read) = (Instant::now(), 0);
    let mut next = Ok([&MAGIC[..], &first].concat().into());
    loop {
        let ended = next.is_err();
        let bytes = next.as_ref().map_or(0, |bytes: &Bytes| bytes.len() as u64);
        let patience = allowed(read).saturating_sub(began.elapsed()).min(STALL);
        let sent = tokio::select! {
            sent = parts.send_timeout(next, patience) => sent,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        if let Err(SendTimeoutError::Timeout(_)) = &sent {
            tracing::info!(bytes = read, "a download of a snapshot is too slow");
        }
        if sent.is_err() || ended || !more {
            return;
        }
        read += bytes;
        let framing = tokio::task::spawn_blocking(move || {
            let framed = framed(&mut export);
            (export, framed)
        });
        let Ok((back, framed)) = framing.await else {
            return;
        };
        export = back;
        next = framed
            .map(|(bytes, has_more)| {
                more = has_more;
                bytes
            })
            .map_err(io::Error::other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::{self, Allocation};

    /// What [`restore`] says to this after [`MAGIC`], on a chain of nothing but its genesis.
    fn refused(stream: &[u8], limit: u64) -> SnapshotError {
        let dir = tempfile::tempdir().expect("a directory");
        let home = home::alone(dir.path(), 7, Allocation::dev()).expect("random numbers");
        let stream = [&MAGIC[..], stream].concat();
        let made = restore(&stream[..], dir.path(), &home.genesis, None, limit, |_| {});
        assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
        made.expect_err("it is no snapshot")
    }

    fn stream(parts: &[Part]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in parts {
            let part = encode(part);
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
        bytes.extend([0; 4]);
        bytes
    }

    fn state(keys: impl IntoIterator<Item = u32>) -> Part {
        let entry = |key: u32| (key.to_be_bytes().to_vec(), Vec::new());
        Part::State(keys.into_iter().map(entry).collect())
    }

    #[test]
    fn what_cannot_be_a_snapshot_is_refused_before_it_takes_room() {
        assert_eq!(encode(&state([])).first(), Some(&STATE_TAG));
        // By its length, of which nothing follows.
        let length = (STATE_PART_LIMIT as u32 + 1).to_le_bytes();
        let long = refused(&[&length[..], &[STATE_TAG]].concat(), u64::MAX);
        assert!(long.to_string().contains("a part of the state"), "{long}");
        for parts in [
            &[state([1, 3, 2])][..],
            &[state([1, 1])],
            &[state([1, 2]), state([2])],
        ] {
            let error = refused(&stream(parts), u64::MAX);
            assert!(error.to_string().contains("do not rise"), "{error}");
        }
        let blocks = [StoredBlock {
            block: dev_block(),
            receipts: Vec::new(),
            certificate: Vec::new(),
        }];
        let error = refused(
            &stream(&[state([1]), Part::Blocks(blocks.into())]),
            u64::MAX,
        );
        assert!(error.to_string().contains("follow the state"), "{error}");
        // The limit is one of the database, too.
        let keys = stream(&[state(0..200_000)]);
        let error = refused(&keys, MAGIC.len() as u64 + keys.len() as u64);
        assert!(matches!(error, SnapshotError::TooLong(_)), "{error}");
    }

    fn dev_block() -> slackline_executor::Block {
        let dir = tempfile::tempdir().expect("a directory");
        let chain = Chain::open(dir.path(), &crate::dev::dev_genesis(0), Mode::Slacked);
        let block = chain.expect("a chain").block(0).expect("readable");
        block.expect("its genesis")
    }

    #[test]
    fn a_state_of_more_keys_than_its_blocks_can_have_made_is_none() {
        let dir = tempfile::tempdir().expect("a directory");
        let home = home::alone(dir.path(), 7, Allocation::dev()).expect("random numbers");
        let made = Checker::new(dir.path(), &home.genesis, None);
        let mut checker = made.expect("a chain");
        let accounts = home.genesis.accounts.len() as u64;
        let most = KEYS_PER_BLOCK + accounts;
        let mut keys = |key: u8, keys: u64| checker.state(&[(vec![key], Vec::new())], keys);
        keys(1, most).expect("as many as there may be");
        let error = keys(2, most + 1).expect_err("one more");
        assert!(error.to_string().contains("more keys"), "{error}");
    }

    #[tokio::test]
    async fn one_address_gets_one_snapshot_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let chain = Chain::open(dir.path(), &crate::dev::dev_genesis(0), Mode::Slacked);
        let (_stopping, stop) = watch::channel(false);
        let served = Served {
            chain: Arc::new(chain.expect("a chain")),
            downloads: Seats::new(DOWNLOADS, DOWNLOADS_OF_ONE),
            stop,
            alive: mpsc::channel(1).0,
        };
        let peer = |last| Peer([10, 0, 0, last].into());
        let held = served.downloads.take(peer(1).0).expect("a seat");
        let ask = |peer| snapshot(State(served.clone()), Extension(peer));
        assert_eq!(ask(peer(1)).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ask(peer(2)).await.status(), StatusCode::OK);
        drop(held);
        assert_eq!(ask(peer(1)).await.status(), StatusCode::OK);
    }

    #[test]
    fn who_reads_slowly_is_not_waited_for() {
        assert_eq!(allowed(0), STALL);
        assert_eq!(allowed(60 * SLOWEST), STALL + Duration::from_secs(60));
        assert!(allowed(u64::MAX) > STALL);
    }

    #[test]
    fn a_stream_over_the_limit_is_not_read_on() {
        let limited = |left| {
            let mut into = [0; 10];
            let mut from = Limited {
                from: io::repeat(7),
                left,
            };
            from.read_exact(&mut into).map(|()| into)
        };
        assert_eq!(limited(10).expect("within"), [7; 10]);
        let error = limited(9).expect_err("over");
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
