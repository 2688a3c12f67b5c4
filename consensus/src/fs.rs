//! Small files that are there whole or not at all.
//!
//! ```text
//!   8 bytes magic │ 4 bytes length of the body, little-endian │ body │ 32 bytes digest of the body
//! ```

use slackline_types::digest;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Why a small file was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The operating system's reason.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It was not written by [`write`], or not with this magic, or has changed since.
    #[error("it is corrupt")]
    Corrupt,
}

/// On return the file has this content, whatever happens to the machine; at no time has it a part of it.
pub(crate) fn write(path: &Path, magic: &[u8; 8], body: &[u8]) -> io::Result<()> {
    let directory = path
        .parent()
        .ok_or_else(|| io::Error::other("a file in no directory"))?;
    let temporary = path.with_extension("tmp");
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut file = File::create(&temporary)?;
    file.write_all(magic)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(body)?;
    file.write_all(&digest("slackline:consensus:file:v1", &[magic, body]))?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path)?;
    sync_directory(directory)
}

/// Makes renames and removals in `directory` last.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// The body of a file that [`write`] wrote.
pub(crate) fn read(path: &Path, magic: &[u8; 8]) -> Result<Vec<u8>, ReadError> {
    let bytes = std::fs::read(path)?;
    let rest = bytes.strip_prefix(magic).ok_or(ReadError::Corrupt)?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or(ReadError::Corrupt)?;
    let (body, sum) = rest.split_last_chunk::<32>().ok_or(ReadError::Corrupt)?;
    let whole = body.len() as u64 == u64::from(u32::from_le_bytes(*length))
        && *sum == digest("slackline:consensus:file:v1", &[magic, body]);
    whole.then(|| body.to_vec()).ok_or(ReadError::Corrupt)
}
