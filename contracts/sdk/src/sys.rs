//! The host functions: version 1 of the interface, and the safe calls that the rest of the crate uses.
//!
//! One obligation is behind every `unsafe` here: a pointer and length handed to the host must be memory that the host
//! may read, or write, for the duration of the call. The host keeps none of them. Where the interface fixes a length, the
//! pointer is that of an array of this length.
#![allow(unsafe_code)]

use alloc::vec::Vec;

type Bytes32 = [u8; 32];

mod host {
    use super::Bytes32;

    #[link(wasm_import_module = "slackline_v1")]
    unsafe extern "C" {
        pub safe fn input_len() -> usize;
        pub fn input_read(dst: *mut u8);
        pub fn return_data(ptr: *const u8, len: usize);
        pub fn revert(ptr: *const u8, len: usize) -> !;
        pub fn storage_get(key: *const u8, key_len: usize, dst: *mut u8, cap: usize) -> i64;
        pub fn storage_has(key: *const u8, key_len: usize) -> u32;
        pub fn storage_set(key: *const u8, key_len: usize, value: *const u8, value_len: usize);
        pub fn storage_delete(key: *const u8, key_len: usize);
        pub fn storage_next(
            prefix: *const u8,
            prefix_len: usize,
            from: *const u8,
            from_len: usize,
            flags: u32,
            dst: *mut u8,
            cap: usize,
        ) -> i64;
        // An array is one pointer, and the borrow says what the host may do with it.
        pub safe fn caller(dst: &mut Bytes32);
        pub safe fn origin(dst: &mut Bytes32);
        pub safe fn self_address(dst: &mut Bytes32);
        pub safe fn value(dst: &mut [u8; 16]);
        pub safe fn balance(address: &Bytes32, dst: &mut [u8; 16]);
        pub safe fn transfer(to: &Bytes32, amount: &[u8; 16]) -> u32;
        pub safe fn block_height() -> u64;
        pub safe fn block_time() -> u64;
        pub safe fn block_proposer(dst: &mut Bytes32);
        pub safe fn chain_id() -> u64;
        pub fn emit(topics: *const Bytes32, count: usize, data: *const u8, len: usize);
        pub safe fn fuel_left() -> u64;
        pub fn sha256(ptr: *const u8, len: usize, dst: &mut Bytes32);
        pub fn keccak256(ptr: *const u8, len: usize, dst: &mut Bytes32);
        pub fn blake3(ptr: *const u8, len: usize, dst: &mut Bytes32);
        pub fn ed25519_verify(
            key: &Bytes32,
            signature: &[u8; 64],
            message: *const u8,
            len: usize,
        ) -> u32;
        pub safe fn secp256k1_recover(
            hash: &Bytes32,
            signature: &[u8; 64],
            recovery_id: u32,
            dst: &mut [u8; 64],
        ) -> u32;
        pub safe fn code_hash(address: &Bytes32, dst: &mut Bytes32) -> u32;
        pub fn call(
            contract: &Bytes32,
            method: *const u8,
            method_len: usize,
            input: *const u8,
            input_len: usize,
            value: &[u8; 16],
            fuel: i64,
            flags: u32,
        ) -> u32;
        pub safe fn returned_len() -> usize;
        pub fn returned_read(dst: *mut u8);
        pub fn deploy(
            code_hash: &Bytes32,
            input: *const u8,
            input_len: usize,
            value: &[u8; 16],
            fuel: i64,
            dst: &mut Bytes32,
        ) -> u32;
        pub fn upgrade(code_hash: &Bytes32, input: *const u8, input_len: usize, fuel: i64) -> u32;
    }
}

/// Room for the first read of a stored value or key. Each host call has a price, so that most should fit; what does not
/// costs a second call.
const FIRST_READ: usize = 128;

const DESCENDING: u32 = 1;
const FROM_THE_END: u32 = 2;
const STATIC: u32 = 1;

pub(crate) fn input() -> Vec<u8> {
    let len = host::input_len();
    if len == 0 {
        return Vec::new();
    }
    let mut bytes = Vec::with_capacity(len);
    // SAFETY: `input_read` writes the `input_len` bytes of the input, for which there is capacity, so that they are
    // initialised afterwards.
    unsafe {
        host::input_read(bytes.as_mut_ptr());
        bytes.set_len(len);
    }
    bytes
}

pub(crate) fn return_data(data: &[u8]) {
    // SAFETY: the host reads `data`, which is borrowed for the call.
    unsafe { host::return_data(data.as_ptr(), data.len()) }
}

pub(crate) fn revert(data: &[u8]) -> ! {
    // SAFETY: the host reads `data`, which is borrowed for the call, and does not return.
    unsafe { host::revert(data.as_ptr(), data.len()) }
}

/// Reads what `get` copies to a pointer with room for so many bytes, telling the length of the whole or -1.
///
/// `get` must write at most as many bytes as there is room for, and as many as it tells when they fit.
#[inline]
unsafe fn read(get: impl Fn(*mut u8, usize) -> i64) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(FIRST_READ);
    loop {
        let len = get(bytes.as_mut_ptr(), bytes.capacity());
        // A length is that of something in this 32-bit memory, or -1.
        let len = usize::try_from(len).ok()?;
        if len <= bytes.capacity() {
            // SAFETY: it fits, so that all its `len` bytes have been written, as the caller promises.
            unsafe { bytes.set_len(len) };
            return Some(bytes);
        }
        bytes.reserve_exact(len);
    }
}

pub(crate) fn storage_get(key: &[u8]) -> Option<Vec<u8>> {
    // SAFETY: the host reads `key`, which is borrowed for the call, and writes at most `cap` bytes to `dst`: all of the
    // value when it fits.
    unsafe { read(|dst, cap| host::storage_get(key.as_ptr(), key.len(), dst, cap)) }
}

pub(crate) fn storage_has(key: &[u8]) -> bool {
    // SAFETY: the host reads `key`, which is borrowed for the call.
    unsafe { host::storage_has(key.as_ptr(), key.len()) != 0 }
}

pub(crate) fn storage_set(key: &[u8], value: &[u8]) {
    // SAFETY: the host reads `key` and `value`, which are borrowed for the call.
    unsafe { host::storage_set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub(crate) fn storage_delete(key: &[u8]) {
    // SAFETY: the host reads `key`, which is borrowed for the call.
    unsafe { host::storage_delete(key.as_ptr(), key.len()) }
}

pub(crate) fn storage_next(
    prefix: &[u8],
    from: Option<&[u8]>,
    descending: bool,
) -> Option<Vec<u8>> {
    let mut flags = if descending { DESCENDING } else { 0 };
    if from.is_none() {
        flags |= FROM_THE_END;
    }
    let from = from.unwrap_or_default();
    // SAFETY: the host reads `prefix` and `from`, which are borrowed for the call, and writes at most `cap` bytes to
    // `dst`: all of the key when it fits.
    unsafe {
        read(|dst, cap| {
            host::storage_next(
                prefix.as_ptr(),
                prefix.len(),
                from.as_ptr(),
                from.len(),
                flags,
                dst,
                cap,
            )
        })
    }
}

/// The array that `f` fills.
#[inline]
fn filled<const N: usize>(f: impl FnOnce(&mut [u8; N])) -> [u8; N] {
    let mut bytes = [0; N];
    f(&mut bytes);
    bytes
}

pub(crate) fn caller() -> Bytes32 {
    filled(|dst| host::caller(dst))
}

pub(crate) fn origin() -> Bytes32 {
    filled(|dst| host::origin(dst))
}

pub(crate) fn self_address() -> Bytes32 {
    filled(|dst| host::self_address(dst))
}

pub(crate) fn value() -> u128 {
    u128::from_le_bytes(filled(|dst| host::value(dst)))
}

pub(crate) fn balance(address: &Bytes32) -> u128 {
    u128::from_le_bytes(filled(|dst| host::balance(address, dst)))
}

pub(crate) fn transfer(to: &Bytes32, amount: u128) -> bool {
    host::transfer(to, &amount.to_le_bytes()) == 0
}

pub(crate) fn block_height() -> u64 {
    host::block_height()
}

pub(crate) fn block_time() -> u64 {
    host::block_time()
}

pub(crate) fn block_proposer() -> Bytes32 {
    filled(|dst| host::block_proposer(dst))
}

pub(crate) fn chain_id() -> u64 {
    host::chain_id()
}

pub(crate) fn emit(topics: &[Bytes32], data: &[u8]) {
    // SAFETY: the host reads the topics, `count` times 32 bytes that lie one behind the other, and `data`; both are
    // borrowed for the call.
    unsafe { host::emit(topics.as_ptr(), topics.len(), data.as_ptr(), data.len()) }
}

pub(crate) fn fuel_left() -> u64 {
    host::fuel_left()
}

pub(crate) fn sha256(data: &[u8]) -> Bytes32 {
    // SAFETY: the host reads `data`, which is borrowed for the call.
    filled(|dst| unsafe { host::sha256(data.as_ptr(), data.len(), dst) })
}

pub(crate) fn keccak256(data: &[u8]) -> Bytes32 {
    // SAFETY: the host reads `data`, which is borrowed for the call.
    filled(|dst| unsafe { host::keccak256(data.as_ptr(), data.len(), dst) })
}

pub(crate) fn blake3(data: &[u8]) -> Bytes32 {
    // SAFETY: the host reads `data`, which is borrowed for the call.
    filled(|dst| unsafe { host::blake3(data.as_ptr(), data.len(), dst) })
}

pub(crate) fn ed25519_verify(key: &Bytes32, signature: &[u8; 64], message: &[u8]) -> bool {
    // SAFETY: the host reads `message`, which is borrowed for the call.
    unsafe { host::ed25519_verify(key, signature, message.as_ptr(), message.len()) != 0 }
}

pub(crate) fn secp256k1_recover(
    hash: &Bytes32,
    signature: &[u8; 64],
    recovery_id: u8,
) -> Option<[u8; 64]> {
    let mut key = [0; 64];
    let valid = host::secp256k1_recover(hash, signature, recovery_id.into(), &mut key) != 0;
    valid.then_some(key)
}

pub(crate) fn code_hash(address: &Bytes32) -> Option<Bytes32> {
    let mut hash = [0; 32];
    let found = host::code_hash(address, &mut hash) != 0;
    found.then_some(hash)
}

/// A limit that does not fit is no limit.
fn limit(fuel: Option<u64>) -> i64 {
    fuel.and_then(|fuel| i64::try_from(fuel).ok()).unwrap_or(-1)
}

pub(crate) fn call(
    to: &Bytes32,
    method: &str,
    input: &[u8],
    value: u128,
    fuel: Option<u64>,
    view: bool,
) -> u32 {
    let value = value.to_le_bytes();
    let flags = if view { STATIC } else { 0 };
    // SAFETY: the host reads `method` and `input`, which are borrowed for the call.
    unsafe {
        host::call(
            to,
            method.as_ptr(),
            method.len(),
            input.as_ptr(),
            input.len(),
            &value,
            limit(fuel),
            flags,
        )
    }
}

pub(crate) fn returned() -> Vec<u8> {
    let len = host::returned_len();
    if len == 0 {
        return Vec::new();
    }
    let mut bytes = Vec::with_capacity(len);
    // SAFETY: `returned_read` writes the `returned_len` bytes of the returned data, for which there is capacity, so that
    // they are initialised afterwards.
    unsafe {
        host::returned_read(bytes.as_mut_ptr());
        bytes.set_len(len);
    }
    bytes
}

pub(crate) fn deploy(
    code_hash: &Bytes32,
    input: &[u8],
    value: u128,
    fuel: Option<u64>,
    address: &mut Bytes32,
) -> u32 {
    let value = value.to_le_bytes();
    // SAFETY: the host reads `input`, which is borrowed for the call.
    unsafe {
        host::deploy(
            code_hash,
            input.as_ptr(),
            input.len(),
            &value,
            limit(fuel),
            address,
        )
    }
}

pub(crate) fn upgrade(code_hash: &Bytes32, input: &[u8], fuel: Option<u64>) -> u32 {
    // SAFETY: the host reads `input`, which is borrowed for the call.
    unsafe { host::upgrade(code_hash, input.as_ptr(), input.len(), limit(fuel)) }
}
