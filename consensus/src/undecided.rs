//! Blocks that are not decided yet, on disk: what was proposed must be proposed again after a crash, and what was voted for
//! must be there when it is decided.
//!
//! ```text
//!   proposals/<height>-<hash>.block     a valid block, and the round that it was first seen in
//!   proposals/<height>-<round>.own      hash of what this node proposed in a round
//! ```

use crate::context::{Address, BlockId, Height};
use crate::fs::{self, ReadError};
use crate::malachite::Round;
use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

const BLOCK: &[u8; 8] = b"slkblock";
const OWN: &[u8; 8] = b"slk--own";

/// Why a block is not kept, or what was kept cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UndecidedError {
    /// The operating system's reason.
    #[error("{path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// What this validator proposed is not known, so it could propose something else.
    #[error(
        "{0} is corrupt: what this validator proposed is not known. Follow until the chain is past the height in its name"
    )]
    Corrupt(PathBuf),
}

/// A valid block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Block {
    pub(crate) height: Height,
    /// The first round in which it was seen.
    pub(crate) round: Round,
    pub(crate) valid_round: Round,
    /// Who proposed it in that round.
    pub(crate) proposer: Address,
    pub(crate) id: BlockId,
    pub(crate) bytes: Bytes,
}

/// The directory and what it holds.
#[derive(Debug)]
pub(crate) struct Undecided {
    directory: PathBuf,
    blocks: BTreeMap<(Height, BlockId), Block>,
    own: BTreeMap<(Height, u32), BlockId>,
}

impl Undecided {
    /// Reads the directory, or makes it. What is of heights up to `head` is dropped. If the node `votes`, that what it proposed is
    /// corrupt is an error.
    pub(crate) fn open(
        directory: &Path,
        head: Height,
        votes: bool,
    ) -> Result<Self, UndecidedError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| UndecidedError::Io { path, source }
        };
        std::fs::create_dir_all(directory).map_err(io(directory))?;
        let mut undecided = Self {
            directory: directory.to_owned(),
            blocks: BTreeMap::new(),
            own: BTreeMap::new(),
        };
        for entry in std::fs::read_dir(directory).map_err(io(directory))? {
            let path = entry.map_err(io(directory))?.path();
            let body = |magic| match fs::read(&path, magic) {
                Ok(body) => Ok(Some(body)),
                Err(ReadError::Corrupt) => Ok(None),
                Err(ReadError::Io(e)) => Err(io(&path)(e)),
            };
            let extension = path.extension().and_then(|e| e.to_str());
            let whole = match extension {
                Some("block") => {
                    let block = body(BLOCK)?.and_then(|b| borsh::from_slice::<Block>(&b).ok());
                    let block = block.map(|b| undecided.blocks.insert((b.height, b.id), b));
                    block.is_some()
                }
                Some("own") => {
                    let own = body(OWN)?;
                    let own =
                        own.and_then(|b| borsh::from_slice::<(Height, u32, BlockId)>(&b).ok());
                    let own = own.map(|(h, round, id)| undecided.own.insert((h, round), id));
                    own.is_some()
                }
                Some("tmp") => {
                    std::fs::remove_file(&path).map_err(io(&path))?;
                    true
                }
                _ => true,
            };
            if whole {
                continue;
            }
            match height_of(&path) {
                Some(height) if height <= head => {
                    std::fs::remove_file(&path).map_err(io(&path))?;
                }
                // A block others have, if it matters.
                _ if votes && extension == Some("own") => {
                    return Err(UndecidedError::Corrupt(path));
                }
                _ => {
                    tracing::warn!(path = %path.display(), "what was proposed or received is corrupt");
                }
            }
        }
        undecided.prune(head)?;
        Ok(undecided)
    }

    /// Keeps a block, on disk when this returns. The first round that it is seen in stays.
    pub(crate) fn keep(&mut self, block: Block) -> Result<(), UndecidedError> {
        let key = (block.height, block.id);
        if self.blocks.contains_key(&key) {
            return Ok(());
        }
        self.write(&self.block_path(&key), BLOCK, &block)?;
        self.blocks.insert(key, block);
        Ok(())
    }

    /// Keeps a block that this node made for a round.
    pub(crate) fn keep_own(&mut self, block: Block, round: u32) -> Result<(), UndecidedError> {
        let (height, id) = (block.height, block.id);
        self.keep(block)?;
        let path = self.own_path(&(height, round));
        self.write(&path, OWN, &(height, round, id))?;
        self.own.insert((height, round), id);
        Ok(())
    }

    /// The hash of what this node made for a round, if it did: nothing else may be proposed in it.
    pub(crate) fn own(&self, height: Height, round: u32) -> Option<BlockId> {
        self.own.get(&(height, round)).copied()
    }

    pub(crate) fn get(&self, height: Height, id: BlockId) -> Option<&Block> {
        self.blocks.get(&(height, id))
    }

    /// All of a height.
    pub(crate) fn of(&self, height: Height) -> impl Iterator<Item = &Block> {
        self.blocks.values().filter(move |b| b.height == height)
    }

    /// Drops what is of heights up to `head`.
    pub(crate) fn prune(&mut self, head: Height) -> Result<(), UndecidedError> {
        let remove = |path: PathBuf| match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(UndecidedError::Io { path, source })
            }
            _ => Ok(()),
        };
        let blocks: Vec<_> = self
            .blocks
            .keys()
            .filter(|k| k.0 <= head)
            .copied()
            .collect();
        for key in blocks {
            remove(self.block_path(&key))?;
            self.blocks.remove(&key);
        }
        let own: Vec<_> = self.own.keys().filter(|k| k.0 <= head).copied().collect();
        for key in own {
            remove(self.own_path(&key))?;
            self.own.remove(&key);
        }
        Ok(())
    }

    fn write(
        &self,
        path: &Path,
        magic: &[u8; 8],
        content: &impl BorshSerialize,
    ) -> Result<(), UndecidedError> {
        let body = slackline_types::encode(content);
        fs::write(path, magic, &body).map_err(|source| UndecidedError::Io {
            path: path.to_owned(),
            source,
        })
    }

    fn block_path(&self, (height, id): &(Height, BlockId)) -> PathBuf {
        self.directory.join(format!("{height:020}-{id}.block"))
    }

    fn own_path(&self, (height, round): &(Height, u32)) -> PathBuf {
        self.directory.join(format!("{height:020}-{round}.own"))
    }
}

/// The height in a file's name.
fn height_of(path: &Path) -> Option<Height> {
    let name = path.file_name()?.to_str()?;
    let (height, _) = name.split_once('-')?;
    height.parse().ok().map(Height)
}

#[cfg(test)]
mod tests {
    use super::*;
    use slackline_types::Hash;

    fn block(height: u64, id: u8) -> Block {
        Block {
            height: Height(height),
            round: Round::new(1),
            valid_round: Round::Nil,
            proposer: Address::default(),
            id: BlockId(Hash([id; 32])),
            bytes: vec![id; 1000].into(),
        }
    }

    #[test]
    fn what_was_proposed_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Undecided::open(dir.path(), Height(0), true).unwrap();
        store.keep_own(block(1, 1), 1).unwrap();
        store.keep(block(1, 2)).unwrap();
        store.keep(block(2, 3)).unwrap();
        let mut store = Undecided::open(dir.path(), Height(0), true).unwrap();
        assert_eq!(store.own(Height(1), 1), Some(block(1, 1).id));
        assert_eq!(store.get(Height(1), block(1, 1).id), Some(&block(1, 1)));
        assert_eq!(store.own(Height(1), 0), None);
        assert_eq!(store.of(Height(1)).count(), 2);
        store.prune(Height(1)).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let store = Undecided::open(dir.path(), Height(2), true).unwrap();
        assert_eq!(store.of(Height(2)).count(), 0);
    }

    #[test]
    fn damage_to_what_others_have_is_survived_to_what_was_proposed_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let open = |head, votes| Undecided::open(dir.path(), Height(head), votes);
        open(0, true).unwrap().keep_own(block(1, 1), 0).unwrap();
        let files = || std::fs::read_dir(dir.path()).unwrap();
        let damage = |extension: &str| {
            for entry in files() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|e| e == extension) {
                    let mut bytes = std::fs::read(&path).unwrap();
                    bytes[20] ^= 1;
                    std::fs::write(&path, bytes).unwrap();
                }
            }
        };
        damage("block");
        assert_eq!(open(0, true).unwrap().of(Height(1)).count(), 0);
        damage("own");
        let error = open(0, true).unwrap_err();
        assert!(matches!(error, UndecidedError::Corrupt(_)), "{error}");
        // Who follows does not propose. It is not forgotten by that, but when the height is over.
        open(0, false).unwrap();
        assert!(open(0, true).is_err());
        open(1, true).unwrap();
        assert_eq!(files().count(), 0);
    }
}
