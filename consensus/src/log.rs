//! The engine's log, read before the engine opens it: what it holds of this validator's messages.

use crate::codec::Codec;
use crate::context::{Address, Context};
use crate::guard::{Place, Step};
use crate::malachite::{Input, Log, log_entries};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::Path;

/// Places of the messages of `me` in the log at `path`. `None` if there is none, it is not of `height`, or it is not as it was written.
///
/// # Errors
///
/// If another process has the log, or the disk fails.
pub(crate) fn read(path: &Path, height: u64, me: &Address) -> io::Result<Option<BTreeSet<Place>>> {
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

fn read_copy(
    path: &Path,
    size: u64,
    height: u64,
    me: &Address,
) -> io::Result<Option<BTreeSet<Place>>> {
    let mut log = Log::open(path)?;
    if log.size_bytes()? != size || log.sequence() != height {
        return Ok(None);
    }
    let entries = log_entries::<Context, _>(&mut log, &Codec).map_err(io::Error::other)?;
    let entries = entries.collect::<io::Result<Vec<_>>>()?;
    Ok(Some(own(&entries, me)))
}

/// Places of the messages of `me` among `entries`, be they in certificates of others.
pub(crate) fn own(entries: &[Input<Context>], me: &Address) -> BTreeSet<Place> {
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
