//! Hashes and signatures, computed by the host: far cheaper than code of one's own.

use crate::{Hash, sys};

/// SHA-256 of `data`.
pub fn sha256(data: &[u8]) -> Hash {
    sys::sha256(data)
}

/// Keccak-256 of `data`, as Ethereum has it.
pub fn keccak256(data: &[u8]) -> Hash {
    sys::keccak256(data)
}

/// BLAKE3 of `data`.
pub fn blake3(data: &[u8]) -> Hash {
    sys::blake3(data)
}

/// Whether `signature` is `key`'s for `message`.
pub fn ed25519_verify(key: &[u8; 32], signature: &[u8; 64], message: &[u8]) -> bool {
    sys::ed25519_verify(key, signature, message)
}

/// The public key, x and y, that made `signature` (r and s) for a message with this hash; `None` when there is none.
/// `recovery_id` is 0 to 3, without the 27 that Ethereum adds.
pub fn secp256k1_recover(hash: &Hash, signature: &[u8; 64], recovery_id: u8) -> Option<[u8; 64]> {
    sys::secp256k1_recover(hash, signature, recovery_id)
}
