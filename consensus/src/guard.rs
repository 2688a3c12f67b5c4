//! What was signed last, on disk before a signature leaves: no two different messages for one place get signed.
//!
//! The engine's WAL remembers as much, but it is reset at each height and by hand in emergencies, and it cannot tell a
//! restored backup. This file is the second line.
//!
//! # What never left
//!
//! When power fails after a signature was put here and before the log has it, nobody has seen the signature, and the engine, which knows nothing of it, may
//! then want to sign something else for the place. To refuse that for ever is safe, but two of four validators that are refused stop the chain. So
//! [`Guard::drop_unlogged`] forgets what the log would certainly hold if it had left the machine. Why it would:
//!
//! 1. The engine signs, appends to its log, and publishes, in this order, and syncs the log before it publishes (`on_vote`, `on_proposal` and `process_driver_output` of its
//!    core, `PublishConsensusMsg` of its actor). Appends keep their order. So whenever power fails, the log is the beginning of what was appended, up
//!    to what was published at least, and what is missing of one's own is what was signed last.
//! 2. Certificates are published without a sync. They are of votes that were published before, with one exception: from round [`HIDDEN_LOCK_ROUND`] on, a polka may be published
//!    while the own prevote that completed it is not synced. Those rounds are left out.
//! 3. During replay the engine signs and publishes, and appends nothing. What it signs then follows from entries of the log alone, which opening it has
//!    synced. The next replay begins with the same entries and signs the same again, before anything else.
//! 4. All this is true of a log that was there, and written, since before the signature. If it may not have been, because it is missing, damaged, cut off or of another
//!    height, [`Guard::seal`] comes before the engine opens it: what was signed until then is never forgotten. Of a log of the next height, which begins empty, it is not
//!    true either: only what was signed for the log's height can be forgotten. What neither can tell is an older copy of the log that somebody puts in its place.
//!
//! A node that only follows, for now or for good, has another log, because the engine empties that of those who do.
//!
//! [`HIDDEN_LOCK_ROUND`]: malachite_channel::app::consensus::HIDDEN_LOCK_ROUND

use crate::context::Signature;
use crate::fs::{self, ReadError};
use crate::malachite::{HIDDEN_LOCK_ROUND, VoteType};
use borsh::{BorshDeserialize, BorshSerialize};
use slackline_types::{Hash, PublicKey};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"slkguard";
const VERSION: u8 = 2;
/// Signatures that are kept to be given again: those of some rounds, three a round.
const KEPT: usize = 48;

/// What is signed in a round, in order.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
#[borsh(use_discriminant = false)]
pub enum Step {
    /// A proposal.
    Propose,
    /// The first vote.
    Prevote,
    /// The second vote.
    Precommit,
}

impl From<VoteType> for Step {
    fn from(kind: VoteType) -> Step {
        match kind {
            VoteType::Prevote => Step::Prevote,
            VoteType::Precommit => Step::Precommit,
        }
    }
}

/// Where in the protocol a message belongs. Signatures are only made for places that rise.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub struct Place {
    /// Height of the block.
    pub height: u64,
    /// Round.
    pub round: u32,
    /// Step.
    pub step: Step,
}

/// Why a validator follows for now. It votes again once `height` is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SitOut {
    /// The chain here ends before what was signed for, as that of a backup: a block is on disk before anything is signed for the next height.
    /// Every vote would be refused, so this lasts as long as it takes to get the blocks from others.
    Behind {
        /// The highest that was signed for.
        height: u64,
    },
    /// The engine's log has a block of the height as valid that is not here any more: what is kept of blocks was damaged, or the block was on disk already and
    /// the chain here is that of a backup. The engine would vote for it and decide on it, and there would be nothing to commit.
    Lost {
        /// The height of the log.
        height: u64,
    },
    /// Something was refused, and would be again: the engine's log was lost, and with it what it had signed. Others may need the vote of a
    /// later round, so this does not last for ever.
    Refused {
        /// The highest that was signed for.
        height: u64,
    },
}

impl SitOut {
    /// The height that is to be over.
    pub fn height(self) -> u64 {
        match self {
            SitOut::Behind { height } | SitOut::Lost { height } | SitOut::Refused { height } => {
                height
            }
        }
    }
}

/// Why the file of signatures cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory has been used to sign, but what was signed is not known: a signature could contradict one.
    #[error(
        "{guard} is missing, but {wal} exists: what this validator signed is not known. Restore the file, or sign with a new \
         key. If the key has certainly not been used for the chain's present height, delete the log too"
    )]
    Missing {
        /// The file that is not there.
        guard: PathBuf,
        /// The log that is.
        wal: PathBuf,
    },
    /// The file does not decode.
    #[error(
        "{0} is corrupt: what this validator signed is not known. Restore the file from a copy that is not older, or sign \
         with a new key"
    )]
    Corrupt(PathBuf),
    /// The file is another chain's or another key's.
    #[error("{path} is of {found}, but this validator is {expected}")]
    Other {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// The operating system's reason.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Why a signature was not given.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// Something else was signed for this place or one after it.
    #[error(
        "refused to sign for {asked:?}: something else was signed for it, or something for {last:?}"
    )]
    Refused {
        /// What the message is for.
        asked: Place,
        /// The last that was signed.
        last: Place,
    },
    /// The signature could not be put on disk first.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Entry {
    place: Place,
    message: [u8; 32],
    signature: Signature,
}

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
struct Content {
    version: u8,
    chain: Hash,
    key: Option<PublicKey>,
    /// Rising; the last is the highest ever signed.
    entries: Vec<Entry>,
    /// Whether something was refused since the last [`Guard::forgive`].
    refused: bool,
    /// Up to here nothing is forgotten, whatever the log says. Files of version 1 end before this.
    sealed: Option<Place>,
}

/// The file and what it holds.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    content: Content,
}

impl Guard {
    /// Opens the file, or makes it if neither it nor the engine's log `wal` exists.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        path: &Path,
        wal: &Path,
        chain: Hash,
        key: Option<PublicKey>,
    ) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let mut guard = match fs::read(path, MAGIC) {
            Ok(body) => Guard::decode(path, body)?,
            Err(ReadError::Corrupt) => return Err(OpenError::Corrupt(path.to_owned())),
            Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound => {
                if wal.try_exists().map_err(io)? {
                    return Err(OpenError::Missing {
                        guard: path.to_owned(),
                        wal: wal.to_owned(),
                    });
                }
                let content = Content {
                    version: VERSION,
                    chain,
                    key,
                    entries: Vec::new(),
                    refused: false,
                    sealed: None,
                };
                let guard = Guard {
                    path: path.to_owned(),
                    content,
                };
                guard.save(&guard.content).map_err(io)?;
                guard
            }
            Err(ReadError::Io(e)) => return Err(io(e)),
        };
        if guard.content.chain != chain {
            return Err(OpenError::Other {
                path: path.to_owned(),
                found: format!("chain {}", guard.content.chain),
                expected: format!("of chain {chain}"),
            });
        }
        if guard.content.key != key {
            match (guard.content.key, key) {
                // A node that only followed so far, or does from now on.
                (None, Some(_)) => {
                    guard.content.key = key;
                    guard.save(&guard.content).map_err(io)?;
                }
                (Some(found), Some(expected)) => {
                    return Err(OpenError::Other {
                        path: path.to_owned(),
                        found: format!("key {found}"),
                        expected: format!("key {expected}"),
                    });
                }
                _ => {}
            }
        }
        Ok(guard)
    }

    /// The file as it is, to be looked at: whose it is is not checked, and nothing is written.
    ///
    /// # Errors
    ///
    /// [`OpenError::Corrupt`] or [`OpenError::Io`].
    pub fn read(path: &Path) -> Result<Self, OpenError> {
        match fs::read(path, MAGIC) {
            Ok(body) => Guard::decode(path, body),
            Err(ReadError::Corrupt) => Err(OpenError::Corrupt(path.to_owned())),
            Err(ReadError::Io(source)) => Err(OpenError::Io {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn decode(path: &Path, mut body: Vec<u8>) -> Result<Self, OpenError> {
        let corrupt = || OpenError::Corrupt(path.to_owned());
        let old = body.first() == Some(&1);
        if old {
            body.extend(slackline_types::encode(&None::<Place>));
        }
        let mut content: Content = borsh::from_slice(&body).map_err(|_| corrupt())?;
        if old {
            content.version = VERSION;
            content.sealed = content.entries.last().map(|entry| entry.place);
        }
        let rising = content.entries.is_sorted_by(|a, b| a.place < b.place);
        if content.version != VERSION || !rising {
            return Err(corrupt());
        }
        Ok(Guard {
            path: path.to_owned(),
            content,
        })
    }

    /// The chain that it is of: its genesis block.
    pub fn chain(&self) -> Hash {
        self.content.chain
    }

    /// The key that signs, if the node has ever had one.
    pub fn key(&self) -> Option<PublicKey> {
        self.content.key
    }

    /// Whether something was refused since the last [`Guard::forgive`].
    pub fn refused(&self) -> bool {
        self.content.refused
    }

    /// The highest place that was signed for.
    pub fn last(&self) -> Option<Place> {
        self.content.entries.last().map(|entry| entry.place)
    }

    /// Whether this validator should follow for now, not vote, when the next height to decide is `next`, by what it signed.
    pub fn sits_out(&self, next: u64) -> Option<SitOut> {
        let height = self.last()?.height;
        match self.content.refused {
            _ if next < height => Some(SitOut::Behind { height }),
            true if next == height => Some(SitOut::Refused { height }),
            _ => None,
        }
    }

    /// Votes may be tried again.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn forgive(&mut self) -> Result<(), SignError> {
        self.set_refused(false)
    }

    /// Forgets nothing of what was signed until now, whatever [`Guard::drop_unlogged`] is told. To be called before the engine opens a log that may not hold
    /// it.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn seal(&mut self) -> Result<(), SignError> {
        let mut content = self.content.clone();
        content.sealed = content.sealed.max(self.last());
        self.put(content)
    }

    /// Forgets what was signed last and is not in the engine's log, which is whole and of `height`: see the
    /// [module](self). `logged` is what it holds of this validator. Returns what was forgotten. What was signed for another height is
    /// not: the log was emptied since, so that it lacks it means nothing.
    ///
    /// # Errors
    ///
    /// If the disk fails.
    pub fn drop_unlogged(
        &mut self,
        height: u64,
        logged: &BTreeSet<Place>,
    ) -> Result<Vec<Place>, SignError> {
        let mut content = self.content.clone();
        let places = content.entries.iter().map(|entry| entry.place);
        let may_have_left = |place: &Place| {
            place.height != height
                || logged.contains(place)
                || Some(place.round) >= HIDDEN_LOCK_ROUND.as_u32()
        };
        let kept = places.filter(may_have_left).max().max(content.sealed);
        let (entries, dropped): (Vec<_>, Vec<_>) = content
            .entries
            .into_iter()
            .partition(|entry| Some(entry.place) <= kept);
        content.entries = entries;
        self.put(content)?;
        Ok(dropped.into_iter().map(|entry| entry.place).collect())
    }

    fn set_refused(&mut self, refused: bool) -> Result<(), SignError> {
        let mut content = self.content.clone();
        content.refused = refused;
        self.put(content)
    }

    /// Makes this the content, on disk first.
    fn put(&mut self, content: Content) -> Result<(), SignError> {
        if content != self.content {
            self.save(&content).map_err(|source| SignError::Io {
                path: self.path.clone(),
                source,
            })?;
            self.content = content;
        }
        Ok(())
    }

    /// Gives the signature that `sign` makes of `message`, once it is on disk, or the one that was given for it before.
    ///
    /// # Errors
    ///
    /// If something else was signed for `place` or later, or the disk fails.
    pub fn sign(
        &mut self,
        place: Place,
        message: [u8; 32],
        sign: impl FnOnce(&[u8; 32]) -> Signature,
    ) -> Result<Signature, SignError> {
        if let Some(last) = self.last().filter(|last| *last >= place) {
            let known = self.content.entries.iter().find(|e| e.place == place);
            return match known {
                Some(entry) if entry.message == message => Ok(entry.signature),
                _ => {
                    self.set_refused(true)?;
                    Err(SignError::Refused { asked: place, last })
                }
            };
        }
        let signature = sign(&message);
        let mut content = self.content.clone();
        content.entries.push(Entry {
            place,
            message,
            signature,
        });
        let excess = content.entries.len().saturating_sub(KEPT);
        content.entries.drain(..excess);
        // And the last of a height before: if all of this height is dropped, what was signed until there must still be known.
        let before = content.entries.iter().map(|e| e.place);
        let before = before.filter(|e| e.height < place.height).max();
        content
            .entries
            .retain(|e| e.place.height == place.height || Some(e.place) == before);
        self.put(content)?;
        Ok(signature)
    }

    fn save(&self, content: &Content) -> io::Result<()> {
        fs::write(&self.path, MAGIC, &slackline_types::encode(content))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const CHAIN: Hash = Hash([7; 32]);
    const KEY: Option<PublicKey> = Some(PublicKey([8; 32]));

    fn place(height: u64, round: u32, step: Step) -> Place {
        Place {
            height,
            round,
            step,
        }
    }

    fn fake(message: &[u8; 32]) -> Signature {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(message);
        Signature(bytes)
    }

    fn open(dir: &Path) -> Result<Guard, OpenError> {
        Guard::open(&dir.join("guard"), &dir.join("wal"), CHAIN, KEY)
    }

    #[test]
    fn looking_at_the_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("guard");
        assert!(matches!(Guard::read(&path), Err(OpenError::Io { .. })));
        assert!(!path.exists());
        let at = place(5, 1, Step::Prevote);
        open(dir.path()).unwrap().sign(at, [1; 32], fake).unwrap();
        let before = std::fs::read(&path).unwrap();
        let seen = Guard::read(&path).unwrap();
        assert_eq!((seen.last(), seen.refused()), (Some(at), false));
        assert_eq!((seen.chain(), seen.key()), (CHAIN, KEY));
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn an_equivocation_is_refused_across_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let at = place(5, 1, Step::Prevote);
        let first = open(dir.path()).unwrap().sign(at, [1; 32], fake).unwrap();
        let mut guard = open(dir.path()).unwrap();
        let never = |_: &[u8; 32]| panic!("signed twice");
        assert_eq!(guard.sign(at, [1; 32], never).unwrap(), first);
        assert!(matches!(
            guard.sign(at, [2; 32], never),
            Err(SignError::Refused { .. })
        ));
        for lower in [
            place(5, 1, Step::Propose),
            place(5, 0, Step::Precommit),
            place(4, 9, Step::Precommit),
        ] {
            assert!(guard.sign(lower, [1; 32], never).is_err());
        }
        guard
            .sign(place(5, 1, Step::Precommit), [3; 32], fake)
            .unwrap();
        assert_eq!(
            guard.sign(at, [1; 32], never).unwrap(),
            first,
            "an older one again"
        );
        guard
            .sign(place(6, 0, Step::Propose), [3; 32], fake)
            .unwrap();
        assert!(
            guard.sign(at, [1; 32], never).is_err(),
            "of a height before"
        );
        // It says so after a restart, until told that it may try.
        let mut guard = open(dir.path()).unwrap();
        assert_eq!(guard.sits_out(6), Some(SitOut::Refused { height: 6 }));
        assert_eq!(guard.sits_out(7), None, "the height is over");
        guard.forgive().unwrap();
        let guard = open(dir.path()).unwrap();
        assert_eq!(guard.sits_out(6), None);
        // Whether refused or not: an older database.
        assert_eq!(guard.sits_out(5), Some(SitOut::Behind { height: 6 }));
    }

    /// What the guard of `dir` remembers when it is opened again.
    fn known(dir: &Path) -> Vec<Place> {
        let entries = open(dir).unwrap().content.entries;
        entries.iter().map(|entry| entry.place).collect()
    }

    #[test]
    fn what_the_log_lacks_is_forgotten_from_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let places = [
            place(5, 0, Step::Prevote),
            place(5, 0, Step::Precommit),
            place(5, 1, Step::Prevote),
            place(5, 1, Step::Precommit),
        ];
        let mut guard = open(dir.path()).unwrap();
        for at in places {
            guard.sign(at, [1; 32], fake).unwrap();
        }
        // One in the middle was signed during replay: what came after it shows that it may have left.
        let logged = BTreeSet::from([places[0], places[2]]);
        assert_eq!(guard.drop_unlogged(5, &logged).unwrap(), places[3..]);
        assert_eq!(known(dir.path()), places[..3]);
        // The place is free again, and what is kept is not.
        assert!(guard.sign(places[2], [2; 32], fake).is_err());
        guard.sign(places[3], [2; 32], fake).unwrap();
        guard.drop_unlogged(5, &BTreeSet::new()).unwrap();
        assert_eq!(known(dir.path()), []);
    }

    /// Seed 5545 of the simulation: a vote that never left, and a chain that was rolled back.
    #[test]
    fn dropping_all_of_a_height_leaves_what_was_signed_before() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = open(dir.path()).unwrap();
        let before = place(5, 1, Step::Precommit);
        for at in [
            place(5, 1, Step::Prevote),
            before,
            place(6, 0, Step::Prevote),
        ] {
            guard.sign(at, [1; 32], fake).unwrap();
        }
        let dropped = guard.drop_unlogged(6, &BTreeSet::new()).unwrap();
        assert_eq!(dropped, [place(6, 0, Step::Prevote)]);
        assert_eq!(guard.last(), Some(before));
        assert_eq!(guard.sits_out(4), Some(SitOut::Behind { height: 5 }));
        let again = guard.sign(place(5, 1, Step::Prevote), [2; 32], fake);
        assert!(matches!(again, Err(SignError::Refused { .. })));
    }

    #[test]
    fn what_was_signed_for_another_height_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let places = [place(5, 0, Step::Prevote), place(5, 0, Step::Precommit)];
        let mut guard = open(dir.path()).unwrap();
        for at in places {
            guard.sign(at, [1; 32], fake).unwrap();
        }
        // The log of the next height begins empty.
        assert_eq!(guard.drop_unlogged(6, &BTreeSet::new()).unwrap(), []);
        assert_eq!(known(dir.path()), places);
        assert_eq!(guard.sits_out(4), Some(SitOut::Behind { height: 5 }));
    }

    #[test]
    fn what_was_sealed_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let places = [place(5, 0, Step::Prevote), place(5, 0, Step::Precommit)];
        let mut guard = open(dir.path()).unwrap();
        guard.sign(places[0], [1; 32], fake).unwrap();
        guard.seal().unwrap();
        guard.sign(places[1], [1; 32], fake).unwrap();
        // Also after a restart.
        let mut guard = open(dir.path()).unwrap();
        let dropped = guard.drop_unlogged(5, &BTreeSet::new()).unwrap();
        assert_eq!(dropped, places[1..]);
        assert_eq!(known(dir.path()), places[..1]);
    }

    #[test]
    fn rounds_in_which_certificates_leave_early_are_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = open(dir.path()).unwrap();
        let late = HIDDEN_LOCK_ROUND.as_u32().unwrap();
        let places = [late - 1, late].map(|round| place(5, round, Step::Prevote));
        guard.sign(places[0], [1; 32], fake).unwrap();
        guard.sign(places[1], [1; 32], fake).unwrap();
        assert_eq!(guard.drop_unlogged(5, &BTreeSet::new()).unwrap(), []);
        assert_eq!(known(dir.path()), places);
    }

    #[test]
    fn a_file_of_version_1_is_read_and_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let at = place(5, 0, Step::Prevote);
        let mut guard = open(dir.path()).unwrap();
        guard.sign(at, [1; 32], fake).unwrap();
        let mut body = slackline_types::encode(&guard.content);
        body[0] = 1;
        assert_eq!(body.pop(), Some(0), "nothing was sealed");
        fs::write(&guard.path, MAGIC, &body).unwrap();
        let mut guard = open(dir.path()).unwrap();
        assert_eq!(guard.last(), Some(at));
        assert_eq!(guard.drop_unlogged(5, &BTreeSet::new()).unwrap(), []);
    }

    #[test]
    fn a_file_that_is_gone_or_damaged_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("guard");
        open(dir.path())
            .unwrap()
            .sign(place(1, 0, Step::Prevote), [1; 32], fake)
            .unwrap();
        let good = std::fs::read(&file).unwrap();
        for index in 0..good.len() {
            let mut bad = good.clone();
            bad[index] ^= 1;
            std::fs::write(&file, &bad).unwrap();
            assert!(
                matches!(open(dir.path()), Err(OpenError::Corrupt(_))),
                "byte {index}"
            );
            std::fs::write(&file, &good[..index]).unwrap();
            assert!(
                matches!(open(dir.path()), Err(OpenError::Corrupt(_))),
                "length {index}"
            );
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::write(dir.path().join("wal"), b"").unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    }

    #[test]
    fn another_chain_or_key_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).unwrap();
        let [guard, wal] = ["guard", "wal"].map(|name| dir.path().join(name));
        for (chain, key) in [(Hash([9; 32]), KEY), (CHAIN, Some(PublicKey([9; 32])))] {
            let error = Guard::open(&guard, &wal, chain, key).unwrap_err();
            assert!(matches!(error, OpenError::Other { .. }), "{error}");
        }
    }

    #[test]
    fn no_signature_leaves_if_the_disk_fails() {
        let dir = tempfile::tempdir().unwrap();
        let mut guard = open(dir.path()).unwrap();
        drop(dir);
        let at = place(1, 0, Step::Prevote);
        assert!(matches!(
            guard.sign(at, [1; 32], fake),
            Err(SignError::Io { .. })
        ));
        assert_eq!(guard.last(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn one_message_a_place_whatever_is_asked_and_whenever_restarted(
            asks in prop::collection::vec((0u64..3, 0u32..3, 0u8..3, 0u8..2, any::<bool>()), 1..60)
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut guard = open(dir.path()).unwrap();
            let mut given = BTreeMap::new();
            for (height, round, step, message, restart) in asks {
                if restart {
                    guard = open(dir.path()).unwrap();
                }
                let step = [Step::Propose, Step::Prevote, Step::Precommit][step as usize];
                let at = place(height, round, step);
                let before = guard.last();
                if let Ok(signature) = guard.sign(at, [message; 32], fake) {
                    prop_assert_eq!(*given.entry(at).or_insert(message), message);
                    prop_assert_eq!(signature, fake(&[message; 32]));
                }
                prop_assert!(guard.last() >= before);
            }
        }
    }
}
