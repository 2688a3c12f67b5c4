//! The state as of a block.

use crate::backend::{Cursor, Family, View};
use crate::{StoreError, Value, keys};
use slackline_types::Hash;
use std::ops::Bound;
use std::sync::Arc;

/// The state as of a block, unaffected by later ones.
#[derive(Clone)]
pub struct StateSnapshot {
    view: Arc<dyn View>,
    /// For a state before the view's last: its height.
    past: Option<u64>,
}

impl std::fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateSnapshot")
            .field("past", &self.past)
            .finish_non_exhaustive()
    }
}

impl StateSnapshot {
    pub(crate) fn new(view: Arc<dyn View>, past: Option<u64>) -> StateSnapshot {
        StateSnapshot { view, past }
    }

    /// Reads a key of the state.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn get(&self, key: &[u8]) -> Result<Option<Value>, StoreError> {
        if let Some(height) = self.past
            && let Some(value) = value_before(&*self.view, key, height + 1)?
        {
            return Ok(value);
        }
        let mut value = None;
        self.view
            .read(Family::State, key, &mut |bytes| value = Some(bytes.into()))?;
        Ok(value)
    }

    /// The first key within the bounds, or the `last` one.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn next(
        &self,
        (low, high): (Bound<&Vec<u8>>, Bound<&Vec<u8>>),
        last: bool,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bounds = (low.map(Vec::as_slice), high.map(Vec::as_slice));
        let mut now = self.view.walk(Family::State, bounds, last)?;
        if self.past.is_none() {
            return Ok(now.next()?.map(|(key, _)| key.to_vec()));
        }
        let (from, to) = keys::before_bounds(bounds.0, bounds.1);
        let range = (Bound::Included(&from[..]), Bound::Excluded(&to[..]));
        let mut past = self.view.walk(Family::History, range, last)?;
        let mut candidates = (next_key(&mut *now)?, next_past(&mut *past, None)?);
        loop {
            let key = match &candidates {
                (None, None) => return Ok(None),
                (Some(key), None) | (None, Some(key)) => key.clone(),
                (Some(a), Some(b)) if last => a.max(b).clone(),
                (Some(a), Some(b)) => a.min(b).clone(),
            };
            if self.get(&key)?.is_some() {
                return Ok(Some(key));
            }
            // Written for the first time after `height`, or deleted before it.
            if candidates.0.as_ref() == Some(&key) {
                candidates.0 = next_key(&mut *now)?;
            }
            if candidates.1.as_ref() == Some(&key) {
                candidates.1 = next_past(&mut *past, Some(&key))?;
            }
        }
    }

    /// The code with `hash`. Code is never removed, so that of any height is here.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn code(&self, hash: &Hash) -> Result<Option<Vec<u8>>, StoreError> {
        self.view.get(Family::Code, &hash.0)
    }

    /// Whether there is code with `hash`.
    ///
    /// # Errors
    ///
    /// If the database fails.
    pub fn has_code(&self, hash: &Hash) -> Result<bool, StoreError> {
        self.view.read(Family::Code, &hash.0, &mut |_| {})
    }
}

fn next_key(cursor: &mut dyn Cursor) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(cursor.next()?.map(|(key, _)| key.to_vec()))
}

/// The next key of the state in the history, other than `except`.
fn next_past(
    cursor: &mut dyn Cursor,
    except: Option<&Vec<u8>>,
) -> Result<Option<Vec<u8>>, StoreError> {
    while let Some((key, _)) = cursor.next()? {
        let key = keys::key_of_before(key)?;
        if Some(&key) != except {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// What `key` had before the first block from `height` on that wrote it; `None` if none did.
pub(crate) fn value_before(
    view: &dyn View,
    key: &[u8],
    height: u64,
) -> Result<Option<Option<Value>>, StoreError> {
    let (from, to) = (keys::before(key, height), keys::before(key, u64::MAX));
    let mut cursor = view.range(Family::History, &from, &to)?;
    match cursor.next()? {
        None => Ok(None),
        Some((_, [0])) => Ok(Some(None)),
        Some((_, [1, value @ ..])) => Ok(Some(Some(value.into()))),
        Some(_) => Err(StoreError::Damaged("a value of the history".to_owned())),
    }
}
