//! How keys are made. `docs/store.md` has the tables.

use crate::StoreError;
use jmt::storage::NodeKey;
use slackline_types::{Address, Hash};
use std::ops::Bound;

/// Bytes that all keys of an account, or of a contract's storage, begin with: `a` or `s`, and the address.
pub(crate) const STATE_PREFIX: usize = 33;

/// First byte of a key of `history` that holds what a block has overwritten.
const BEFORE: u8 = b'k';
/// First byte of a key of `history` that holds which keys a block has written.
const CHANGED: u8 = b'h';

/// The least byte string above all that begin with `prefix`, if there is one.
pub fn successor(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// Version (8, big-endian), number of nibbles (1), nibbles (two a byte).
pub(crate) fn node(key: &NodeKey) -> Vec<u8> {
    // Borsh: version (8, little-endian), number of nibbles (8), number of bytes (4), bytes.
    let borsh = slackline_types::encode(key);
    let mut bytes = Vec::with_capacity(borsh.len() - 11);
    bytes.extend(key.version().to_be_bytes());
    bytes.push(borsh[8]);
    bytes.extend(&borsh[20..]);
    bytes
}

/// Height since which the node is replaced (8, big-endian), key of the node.
pub(crate) fn stale(since: u64, node: &[u8]) -> Vec<u8> {
    [&since.to_be_bytes(), node].concat()
}

/// Escapes `key` such that no escaped key is a prefix of another and the order stays: 0 becomes 0, 255; the end is 0, 0.
fn escape(key: &[u8], into: &mut Vec<u8>) {
    for &byte in key {
        into.push(byte);
        if byte == 0 {
            into.push(u8::MAX);
        }
    }
}

fn unescape(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut key = Vec::with_capacity(bytes.len());
    let mut bytes = bytes.iter();
    while let Some(&byte) = bytes.next() {
        if byte == 0 {
            match bytes.next() {
                Some(&u8::MAX) => {}
                Some(0) if bytes.as_slice().is_empty() => return Some(key),
                _ => return None,
            }
        }
        key.push(byte);
    }
    None
}

/// What `key` had before the block at `height`: `k`, escaped key, height (8, big-endian).
pub(crate) fn before(key: &[u8], height: u64) -> Vec<u8> {
    let mut bytes = vec![BEFORE];
    escape(key, &mut bytes);
    bytes.extend([0, 0]);
    bytes.extend(height.to_be_bytes());
    bytes
}

/// The key of the state in a key made by [`before`].
pub(crate) fn key_of_before(bytes: &[u8]) -> Result<Vec<u8>, StoreError> {
    let escaped = bytes.len().checked_sub(8).and_then(|end| bytes.get(1..end));
    escaped
        .and_then(unescape)
        .ok_or_else(|| StoreError::Damaged("a key of the history".to_owned()))
}

/// The bounds of what [`before`] makes of keys within bounds.
pub(crate) fn before_bounds(low: Bound<&[u8]>, high: Bound<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let escaped = |key: &[u8], end: [u8; 2]| {
        let mut bytes = vec![BEFORE];
        escape(key, &mut bytes);
        bytes.extend(end);
        bytes
    };
    let low = match low {
        Bound::Included(low) => escaped(low, [0, 0]),
        Bound::Excluded(low) => escaped(low, [0, 1]),
        Bound::Unbounded => vec![BEFORE],
    };
    let high = match high {
        Bound::Included(high) => escaped(high, [0, 1]),
        Bound::Excluded(high) => escaped(high, [0, 0]),
        Bound::Unbounded => vec![BEFORE + 1],
    };
    (low, high)
}

/// Which keys the block at `height` has written: `h`, height (8, big-endian).
pub(crate) fn changed(height: u64) -> Vec<u8> {
    [&[CHANGED], &height.to_be_bytes()[..]].concat()
}

/// Height (8, big-endian), `c`: what shows that the block was decided.
pub(crate) fn certificate(height: u64) -> Vec<u8> {
    [&height.to_be_bytes()[..], b"c"].concat()
}

/// Height (8, big-endian), index in the block (4, big-endian).
pub(crate) fn receipt(height: u64, index: u32) -> Vec<u8> {
    [&height.to_be_bytes()[..], &index.to_be_bytes()].concat()
}

/// What the keys of a contract's events begin with: contract (32); 0, or 1 and a topic (32).
pub(crate) fn events(contract: &Address, topic: Option<&Hash>) -> Vec<u8> {
    let mut bytes = contract.0.to_vec();
    match topic {
        None => bytes.push(0),
        Some(topic) => {
            bytes.push(1);
            bytes.extend(topic.0);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 254, 255]), 0..5)
    }

    proptest! {
        #[test]
        fn keys_of_the_history_keep_the_order_and_read_back(a in key(), b in key(), x: u64, y: u64) {
            let (first, second) = (before(&a, x), before(&b, y));
            prop_assert_eq!(first.cmp(&second), (&a, x).cmp(&(&b, y)));
            prop_assert_eq!(key_of_before(&first).expect("as made"), a.clone());
            let bounds = (Bound::Excluded(a.as_slice()), Bound::Included(b.as_slice()));
            let (low, high) = before_bounds(bounds.0, bounds.1);
            for key in [&a, &b] {
                let inside = *key > a && *key <= b;
                let made = before(key, x);
                prop_assert_eq!(inside, low <= made && made < high);
            }
        }

        #[test]
        fn noise_is_no_key_of_the_history(bytes in key()) {
            let _ = key_of_before(&bytes);
        }
    }
}
