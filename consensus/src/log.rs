//! The engine's log, read before the engine opens it: what it holds of this validator's messages, and of blocks.

use crate::codec::Codec;
use crate::context::{Address, BlockId, Context, Height};
use crate::guard::{Place, Step};
use crate::malachite::{Input, Log, log_entries};
use crate::undecided::Undecided;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

/// What a log holds.
#[derive(Debug)]
pub(crate) struct Logged {
    /// Places of this validator's messages, if it is as it was written.
    pub(crate) own: Option<BTreeSet<Place>>,
    /// Blocks that are valid, of as much as the engine will read.
    valid: BTreeSet<BlockId>,
}

impl Logged {
    pub(crate) fn new(entries: &[Input<Context>], whole: bool, me: &Address) -> Self {
        let valid = |entry: &Input<Context>| match entry {
            Input::ProposedValue(value, _) if value.validity.is_valid() => Some(value.value),
            _ => None,
        };
        Self {
            own: whole.then(|| own(entries, me)),
            valid: entries.iter().filter_map(valid).collect(),
        }
    }

    /// Whether the engine would take a block of `height` for one that is here, vote for it and decide on it, and it is not.
    pub(crate) fn lacks_a_block(&self, height: Height, undecided: &Undecided) -> bool {
        let lacks = |id: &BlockId| undecided.get(height, *id).is_none();
        self.valid.iter().any(lacks)
    }
}

/// What the log at `path` holds, of `me` and of blocks. `None` if there is none, it is not of `height`, or it does not read.
///
/// # Errors
///
/// If another process has the log, or the disk fails.
pub(crate) fn read(path: &Path, height: u64, me: &Address) -> io::Result<Option<Logged>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    file.try_lock()?;
    // Opening a log cuts off what does not decode, which would then look whole: so a copy is opened.
    let copy = path.with_extension("copy");
    let size = std::fs::copy(path, &copy)?;
    let read = read_copy(&copy, size, height, me);
    std::fs::remove_file(&copy)?;
    Ok(read.ok().flatten())
}

fn read_copy(path: &Path, size: u64, height: u64, me: &Address) -> io::Result<Option<Logged>> {
    let mut log = Log::open(path)?;
    if log.sequence() != height {
        return Ok(None);
    }
    let whole = log.size_bytes()? == size;
    let entries = log_entries::<Context, _>(&mut log, &Codec).map_err(io::Error::other)?;
    let entries = entries.collect::<io::Result<Vec<_>>>()?;
    Ok(Some(Logged::new(&entries, whole, me)))
}

/// Places of the messages of `me` among `entries`, be they in certificates of others.
fn own(entries: &[Input<Context>], me: &Address) -> BTreeSet<Place> {
    let own = |entry: &Input<Context>| {
        let (height, round, step) = match entry {
            Input::Vote(vote) if vote.validator == *me => {
                (vote.height, vote.round, vote.kind.into())
            }
            Input::Proposal(proposal) if proposal.proposer == *me => {
                (proposal.height, proposal.round, Step::Propose)
            }
            Input::PolkaCertificate(polka)
                if polka
                    .polka_signatures
                    .iter()
                    .any(|vote| vote.address == *me) =>
            {
                (polka.height, polka.round, Step::Prevote)
            }
            _ => return None,
        };
        Some(Place {
            height: height.0,
            round: round.as_u32()?,
            step,
        })
    };
    entries.iter().filter_map(own).collect()
}
