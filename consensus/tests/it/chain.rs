//! A chain of hashes, one file a block.

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use slackline_consensus::{Address, Application, Decided, Proposed, ValidatorSet, Verdict};
use slackline_types::{Hash, digest, encode};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Block {
    pub(crate) height: u64,
    pub(crate) parent: Hash,
    pub(crate) maker: [u8; 32],
    pub(crate) payload: Vec<u8>,
}

impl Block {
    pub(crate) fn id(&self) -> Hash {
        Hash(digest("test-block", &[&encode(self)]))
    }
}

pub(crate) struct Chain {
    directory: PathBuf,
    validators: ValidatorSet,
    head: AtomicU64,
    /// Makes blocks on a wrong parent.
    pub(crate) lies: AtomicBool,
    /// Its disk is gone.
    pub(crate) broken: AtomicBool,
    /// Blocks checked, those that were invalid among them.
    pub(crate) invalid: AtomicU64,
    pub(crate) payload: usize,
}

impl Chain {
    pub(crate) fn open(directory: &Path, validators: ValidatorSet, payload: usize) -> Self {
        std::fs::create_dir_all(directory).unwrap();
        let head = std::fs::read_dir(directory).unwrap().count() as u64;
        Self {
            directory: directory.to_owned(),
            validators,
            head: AtomicU64::new(head),
            lies: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            invalid: AtomicU64::new(0),
            payload,
        }
    }

    fn path(&self, height: u64) -> PathBuf {
        self.directory.join(height.to_string())
    }

    pub(crate) fn read(&self, height: u64) -> Option<(Block, Vec<u8>)> {
        let bytes = std::fs::read(self.path(height)).ok()?;
        Some(borsh::from_slice(&bytes).unwrap())
    }

    fn parent(&self, height: u64) -> Hash {
        self.read(height - 1).map_or(Hash::default(), |b| b.0.id())
    }

    fn works(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        Ok(())
    }
}

impl Application for Chain {
    type Error = io::Error;

    fn head(&self) -> io::Result<u64> {
        Ok(self.head.load(Ordering::SeqCst))
    }

    fn oldest(&self) -> io::Result<u64> {
        Ok(1)
    }

    fn validators(&self, _: u64) -> io::Result<ValidatorSet> {
        Ok(self.validators.clone())
    }

    fn propose(&self, height: u64, round: u32, maker: Address, _: Instant) -> io::Result<Proposed> {
        self.works()?;
        let mut parent = self.parent(height);
        if self.lies.load(Ordering::SeqCst) {
            parent = Hash([0xbb; 32]);
        }
        let block = Block {
            height,
            parent,
            maker: maker.0.0,
            payload: vec![round as u8; self.payload],
        };
        Ok(Proposed {
            id: block.id(),
            bytes: encode(&block).into(),
        })
    }

    fn validate(&self, height: u64, bytes: &Bytes) -> io::Result<Verdict> {
        self.works()?;
        let Ok(block) = borsh::from_slice::<Block>(bytes) else {
            return Ok(Verdict::Invalid {
                id: None,
                reason: "it does not decode".into(),
            });
        };
        if block.height != height || block.parent != self.parent(height) {
            self.invalid.fetch_add(1, Ordering::SeqCst);
            return Ok(Verdict::Invalid {
                id: Some(block.id()),
                reason: "its parent is not the head".into(),
            });
        }
        Ok(Verdict::Valid {
            id: block.id(),
            proposer: Address(slackline_types::Address(block.maker)),
        })
    }

    fn commit(&self, height: u64, bytes: &Bytes, certificate: &[u8]) -> io::Result<()> {
        self.works()?;
        assert_eq!(
            height,
            self.head()? + 1,
            "blocks are committed in order, once"
        );
        let block: Block = borsh::from_slice(bytes).unwrap();
        assert_eq!(block.parent, self.parent(height), "no fork");
        let mut file = File::create(self.path(height))?;
        file.write_all(&encode(&(block, certificate)))?;
        file.sync_all()?;
        self.head.store(height, Ordering::SeqCst);
        Ok(())
    }

    fn decided(&self, height: u64) -> io::Result<Option<Decided>> {
        self.works()?;
        Ok(self.read(height).map(|(block, certificate)| Decided {
            bytes: encode(&block).into(),
            certificate: certificate.into(),
        }))
    }
}
