//! The host functions: version 1 of the interface, and the safe calls that the rest of the crate uses.
//!
//! One obligation is behind every `unsafe` here: a pointer and length handed to the host must be memory that the host
//! may read, or write, for the duration of the call. The host keeps none of them.
#![allow(unsafe_code)]

use alloc::vec::Vec;

mod host {
    #[link(wasm_import_module = "slackline_v1")]
    unsafe extern "C" {
        pub safe fn input_len() -> usize;
        pub fn input_read(dst: *mut u8);
        pub fn return_data(ptr: *const u8, len: usize);
        pub fn revert(ptr: *const u8, len: usize) -> !;
        pub fn storage_get(key: *const u8, key_len: usize, dst: *mut u8, dst_cap: usize) -> i64;
        pub fn storage_set(key: *const u8, key_len: usize, value: *const u8, value_len: usize);
        pub fn storage_delete(key: *const u8, key_len: usize);
        pub fn caller(dst: *mut u8);
        pub fn log(ptr: *const u8, len: usize);
    }
}

/// Room for the first read of a stored value. Each host call has a price, so that most values should fit; a value that
/// does not costs a second call.
const FIRST_READ: usize = 128;

pub fn input() -> Vec<u8> {
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

pub fn return_data(data: &[u8]) {
    // SAFETY: the host reads `data`, which is borrowed for the call.
    unsafe { host::return_data(data.as_ptr(), data.len()) }
}

pub fn revert(data: &[u8]) -> ! {
    // SAFETY: the host reads `data`, which is borrowed for the call, and does not return.
    unsafe { host::revert(data.as_ptr(), data.len()) }
}

pub fn storage_get(key: &[u8]) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(FIRST_READ);
    loop {
        // SAFETY: the host reads `key`, which is borrowed for the call, and writes at most the capacity of `value`.
        let len = unsafe {
            host::storage_get(
                key.as_ptr(),
                key.len(),
                value.as_mut_ptr(),
                value.capacity(),
            )
        };
        // A length is that of a value in this 32-bit memory, or -1.
        let len = usize::try_from(len).ok()?;
        if len <= value.capacity() {
            // SAFETY: the value fits, so the host has written, and so initialised, all its `len` bytes.
            unsafe { value.set_len(len) };
            return Some(value);
        }
        value.reserve_exact(len);
    }
}

pub fn storage_set(key: &[u8], value: &[u8]) {
    // SAFETY: the host reads `key` and `value`, which are borrowed for the call.
    unsafe { host::storage_set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
}

pub fn storage_delete(key: &[u8]) {
    // SAFETY: the host reads `key`, which is borrowed for the call.
    unsafe { host::storage_delete(key.as_ptr(), key.len()) }
}

pub fn caller() -> [u8; 32] {
    let mut address = [0; 32];
    // SAFETY: the host writes 32 bytes, which is what `address` holds.
    unsafe { host::caller(address.as_mut_ptr()) };
    address
}

pub fn log(record: &[u8]) {
    // SAFETY: the host reads `record`, which is borrowed for the call.
    unsafe { host::log(record.as_ptr(), record.len()) }
}
