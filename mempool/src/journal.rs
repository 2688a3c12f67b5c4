//! Accepted transactions on disk, so that a restart does not lose them.
//!
//! ```text
//!   magic 8 │ record │ record │ …                    record:  length u32 │ crc32 u32 │ payload
//!                                                    payload: origin u8 │ last height u64 │ the bytes as submitted
//!                                                       or:   2 u8 │ hash of a transaction that was dropped 32
//! ```
//!
//! Integers are little-endian; the length is the payload's, and the CRC is over the length and the payload. What [`Journal::open`] returns is the
//! longest prefix of whole records, without those that were [crossed out](Journal::cross_out) after them: whoever waits for a transaction is told when it is
//! dropped, and it must not get into a block after a restart. What is behind the prefix was torn by a crash, or damaged; it is cut off, so that new records
//! follow good ones. A journal of version 1, where nothing is crossed out, is one of this version when it has been opened.
//!
//! **Durability.** A transaction in the pool is acknowledged as pending, not as included: a client has to watch it. So a record is
//! written with one `write` and not synced: it survives the end of the process, however sudden, and an operating system that
//! stops may take the last seconds with it. To sync would cost each submission what a whole block pays. The rewriting by
//! [`Journal::compact`] is synced before it replaces the old file: else such a stop could take also what had been there for long.

use crate::pool::Origin;
use slackline_types::{Hash, SignedTransaction};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"SLKPOOL2";
const MAGIC_1: &[u8; 8] = b"SLKPOOL1";
const HEADER: usize = 8;
const PREFIX: usize = 9;
const CROSSED_OUT: u8 = 2;

/// A transaction as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who brought it.
    pub origin: Origin,
    /// The last height at which it waits.
    pub expires: u64,
    /// The transaction, as submitted.
    pub bytes: Vec<u8>,
}

/// What was in the journal.
#[derive(Debug)]
pub struct Recovered {
    /// In the order of appending, without those that were crossed out. Some may have been included since: admission sorts them out.
    pub records: Vec<Record>,
    /// How many bytes at the end were no whole record, and were cut off.
    pub cut: u64,
}

/// The journal could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system said so.
    #[error("mempool journal {path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// The file is something else.
    #[error("{0} is no mempool journal of this version; move it away to start with an empty one")]
    Foreign(PathBuf),
    /// Writing failed before and may have left half a record; nothing more is written until [`Journal::compact`] succeeds.
    #[error("the mempool journal {0} is damaged since writing failed")]
    Broken(PathBuf),
}

/// An open journal. One process at a time may have it: the lock on the node's database sees to that.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    len: u64,
    limit: u64,
    broken: bool,
}

/// What a record says.
enum Line {
    Accepted(Record),
    CrossedOut(Hash),
}

fn encode(record: &Record, into: &mut Vec<u8>) {
    let origin = match record.origin {
        Origin::Local => 0,
        Origin::Peer => 1,
    };
    let expires = record.expires.to_le_bytes();
    frame(&[&[origin], &expires, &record.bytes], into);
}

fn frame(payload: &[&[u8]], into: &mut Vec<u8>) {
    let length = payload.iter().map(|part| part.len()).sum::<usize>() as u32;
    let start = into.len();
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    for part in payload {
        into.extend_from_slice(part);
    }
    let crc = crc(length, &into[start + HEADER..]);
    into[start + 4..start + HEADER].copy_from_slice(&crc.to_le_bytes());
}

fn crc(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// The first record of `bytes`, and what follows; `None` if it is not whole.
fn decode(bytes: &[u8]) -> Option<(Line, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if crc(length, payload) != u32::from_le_bytes(*sum) {
        return None;
    }
    let (origin, payload) = payload.split_first()?;
    if *origin == CROSSED_OUT {
        let hash = payload.try_into().ok()?;
        return Some((Line::CrossedOut(Hash(hash)), rest));
    }
    let (expires, transaction) = payload.split_first_chunk::<8>()?;
    let origin = match origin {
        0 => Origin::Local,
        1 => Origin::Peer,
        _ => return None,
    };
    let record = Record {
        origin,
        expires: u64::from_le_bytes(*expires),
        bytes: transaction.to_vec(),
    };
    Some((Line::Accepted(record), rest))
}

/// The records that were not crossed out after they were written.
fn left(lines: Vec<Line>) -> Vec<Record> {
    let crosses = lines.iter().any(|line| matches!(line, Line::CrossedOut(_)));
    let mut records = Vec::with_capacity(lines.len());
    let mut places = HashMap::new();
    for line in lines {
        match line {
            Line::Accepted(record) => {
                // Hashing all would be a waste if there is nothing to look for.
                if crosses && let Ok(signed) = borsh::from_slice::<SignedTransaction>(&record.bytes)
                {
                    places.insert(signed.hash(), records.len());
                }
                records.push(Some(record));
            }
            Line::CrossedOut(hash) => {
                if let Some(place) = places.remove(&hash) {
                    records[place] = None;
                }
            }
        }
    }
    records.into_iter().flatten().collect()
}

impl Journal {
    /// Opens the journal at `path`, or makes an empty one, and reads what is there. It never grows over `limit` bytes.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. Damage is none: what is before it is returned.
    pub fn open(path: &Path, limit: u64) -> Result<(Journal, Recovered), JournalError> {
        let failed = |error| JournalError::Io {
            path: path.to_owned(),
            error,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        // A file over the limit, from a time with another one, is read up to it.
        (&mut file)
            .take(limit.max(MAGIC.len() as u64))
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut lines = Vec::new();
        let mut len = 0;
        let old = bytes.starts_with(MAGIC_1);
        let rest = bytes.strip_prefix(if old { MAGIC_1 } else { MAGIC });
        if let Some(mut rest) = rest {
            while let Some((line, after)) = decode(rest) {
                lines.push(line);
                rest = after;
            }
            len = (bytes.len() - rest.len()) as u64;
        } else if !MAGIC.starts_with(&bytes) {
            return Err(JournalError::Foreign(path.to_owned()));
        }
        file.set_len(len).map_err(failed)?;
        if len == 0 || old {
            file.rewind().map_err(failed)?;
            file.write_all(MAGIC).map_err(failed)?;
        }
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let journal = Journal {
            path: path.to_owned(),
            file,
            len: len.max(MAGIC.len() as u64),
            limit,
            broken: false,
        };
        Ok((
            journal,
            Recovered {
                records: left(lines),
                cut: size - len,
            },
        ))
    }

    /// Its size, in bytes.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// Writes down an accepted transaction, unless that would exceed the limit: returns whether it did. After `false`, compact.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. The transaction is not in the journal then, and those before it are.
    pub fn append(&mut self, record: &Record) -> Result<bool, JournalError> {
        if record.bytes.len() as u64 > self.limit {
            return Ok(false);
        }
        let mut bytes = Vec::with_capacity(HEADER + PREFIX + record.bytes.len());
        encode(record, &mut bytes);
        self.write(&bytes)
    }

    /// Writes down that transactions have left the pool other than in a block: what was appended of them before does not come back. As
    /// [`Journal::append`].
    ///
    /// # Errors
    ///
    /// See [`JournalError`]. They may come back then.
    pub fn cross_out(&mut self, hashes: &[Hash]) -> Result<bool, JournalError> {
        if hashes.is_empty() {
            return Ok(true);
        }
        let mut bytes = Vec::new();
        for hash in hashes {
            frame(&[&[CROSSED_OUT], &hash.0], &mut bytes);
        }
        self.write(&bytes)
    }

    /// Whole records, unless they exceed the limit.
    fn write(&mut self, bytes: &[u8]) -> Result<bool, JournalError> {
        if self.broken {
            return Err(JournalError::Broken(self.path.clone()));
        }
        let len = self.len + bytes.len() as u64;
        if len > self.limit {
            return Ok(false);
        }
        if let Err(error) = self.file.write_all(bytes) {
            // Half a record must not stay in front of the next one.
            let back = self
                .file
                .set_len(self.len)
                .and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
            self.broken = back.is_err();
            return Err(JournalError::Io {
                path: self.path.clone(),
                error,
            });
        }
        self.len = len;
        Ok(true)
    }

    /// Whether so much of it is out of date that it should be compacted, if the transactions in the pool have `live` bytes: over half, and
    /// over 1 MiB. So that over time no byte is written more than about twice.
    pub fn is_stale(&self, live: usize) -> bool {
        self.broken || self.len > (1 << 20) + 2 * live as u64
    }

    /// Replaces what is in it by `records`, as many as the limit allows; the file is either the old or the new one at any time.
    /// Returns how many there are.
    ///
    /// # Errors
    ///
    /// See [`JournalError`]; the journal is as before then.
    pub fn compact(
        &mut self,
        records: impl IntoIterator<Item = Record>,
    ) -> Result<usize, JournalError> {
        let failed = |error| JournalError::Io {
            path: self.path.clone(),
            error,
        };
        let mut bytes = MAGIC.to_vec();
        let mut count = 0;
        for record in records {
            if (bytes.len() + HEADER + PREFIX + record.bytes.len()) as u64 > self.limit {
                break;
            }
            encode(&record, &mut bytes);
            count += 1;
        }
        let next = self.path.with_extension("next");
        let mut file = File::create(&next).map_err(failed)?;
        file.write_all(&bytes)
            .and_then(|()| file.sync_data())
            .map_err(failed)?;
        fs::rename(&next, &self.path).map_err(failed)?;
        (self.file, self.len, self.broken) = (file, bytes.len() as u64, false);
        Ok(count)
    }
}
