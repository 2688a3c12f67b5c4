//! Hashes and signatures, by well-known crates: what they compute does not depend on the machine.

use super::*;
use ed25519_dalek::VerifyingKey;
use k256::ecdsa::{RecoveryId, Signature};
use sha2::Digest;
use sha3::Keccak256;

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "sha256", |mut host: Host<'_>, ptr, len, dst| {
            let fees = &host.data().params().fees;
            let fuel = linear(fees.sha256, fees.sha256_per_byte, u64::from(len));
            hash(&mut host, "sha256", fuel, [ptr, len, dst], |bytes| {
                sha2::Sha256::digest(bytes).into()
            })
        })?
        .func_wrap(MODULE, "keccak256", |mut host: Host<'_>, ptr, len, dst| {
            let fees = &host.data().params().fees;
            let fuel = linear(fees.keccak256, fees.keccak256_per_byte, u64::from(len));
            hash(&mut host, "keccak256", fuel, [ptr, len, dst], |bytes| {
                Keccak256::digest(bytes).into()
            })
        })?
        .func_wrap(MODULE, "blake3", |mut host: Host<'_>, ptr, len, dst| {
            let fees = &host.data().params().fees;
            let fuel = linear(fees.blake3, fees.blake3_per_byte, u64::from(len));
            hash(&mut host, "blake3", fuel, [ptr, len, dst], |bytes| {
                blake3::hash(bytes).into()
            })
        })?
        .func_wrap(MODULE, "ed25519_verify", ed25519_verify)?
        .func_wrap(MODULE, "secp256k1_recover", secp256k1_recover)?;
    Ok(())
}

fn hash(
    host: &mut Host<'_>,
    function: &'static str,
    fuel: u64,
    [ptr, len, dst]: [u32; 3],
    hash: impl FnOnce(&[u8]) -> [u8; 32],
) -> HostResult<()> {
    charge(host, function, fuel)?;
    let (memory, _) = guest(host)?;
    let hashed = hash(bytes(memory, function, ptr, len, usize::MAX)?);
    Ok(put(memory, function, dst, &hashed)?)
}

fn ed25519_verify(
    mut host: Host<'_>,
    key: u32,
    signature: u32,
    message: u32,
    len: u32,
) -> HostResult<u32> {
    const NAME: &str = "ed25519_verify";
    let fees = &host.data().params().fees;
    let fuel = linear(
        fees.ed25519_verify,
        fees.ed25519_verify_per_byte,
        len.into(),
    );
    charge(&mut host, NAME, fuel)?;
    let (memory, _) = guest(&mut host)?;
    let key: [u8; 32] = array(memory, NAME, key)?;
    let signature: [u8; 64] = array(memory, NAME, signature)?;
    let message = bytes(memory, NAME, message, len, usize::MAX)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature);
    let valid = VerifyingKey::from_bytes(&key)
        .is_ok_and(|key| key.verify_strict(message, &signature).is_ok());
    Ok(valid.into())
}

fn secp256k1_recover(
    mut host: Host<'_>,
    hash: u32,
    signature: u32,
    recovery_id: u32,
    dst: u32,
) -> HostResult<u32> {
    const NAME: &str = "secp256k1_recover";
    let fuel = host.data().params().fees.secp256k1_recover;
    charge(&mut host, NAME, fuel)?;
    let (memory, _) = guest(&mut host)?;
    let hash: [u8; 32] = array(memory, NAME, hash)?;
    let signature: [u8; 64] = array(memory, NAME, signature)?;
    let Some(key) = recover(&hash, &signature, recovery_id) else {
        return Ok(0);
    };
    put(memory, NAME, dst, &key)?;
    Ok(1)
}

fn recover(hash: &[u8; 32], signature: &[u8; 64], recovery_id: u32) -> Option<[u8; 64]> {
    let id = RecoveryId::from_byte(u8::try_from(recovery_id).ok()?)?;
    let signature = Signature::from_slice(signature).ok()?;
    let key = k256::ecdsa::VerifyingKey::recover_from_prehash(hash, &signature, id).ok()?;
    let point = key.to_sec1_point(false);
    point.as_bytes().get(1..)?.try_into().ok()
}
