//! What a contract keeps.

use super::*;
use crate::state::{Found, STORAGE_PREFIX, Scan, storage_key};

/// Flags of `storage_next`.
const DESCENDING: u32 = 1;
const FROM_THE_EDGE: u32 = 2;

pub(super) fn link(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "storage_get", storage_get)?
        .func_wrap(MODULE, "storage_has", storage_has)?
        .func_wrap(MODULE, "storage_set", storage_set)?
        .func_wrap(MODULE, "storage_delete", storage_delete)?
        .func_wrap(MODULE, "storage_next", storage_next)?;
    Ok(())
}

fn storage_get(mut host: Host<'_>, key: u32, key_len: u32, dst: u32, cap: u32) -> HostResult<i64> {
    const NAME: &str = "storage_get";
    charge_get(&mut host, NAME, key_len)?;
    let (memory, state) = guest(&mut host)?;
    let key = own_key(memory, state, NAME, key, key_len)?;
    let value = fallible(state, |run| run.overlay.get(&key))?;
    let len = value.as_ref().map(|value| value.len());
    state.record_access(AccessKind::Get, &key[STORAGE_PREFIX..], len);
    let Some(value) = value else {
        return Ok(-1);
    };
    let per_byte = host.data().params().fees.storage_get_per_byte;
    charge_more(&mut host, NAME, linear(0, per_byte, value.len() as u64))?;
    let (memory, _) = guest(&mut host)?;
    put(memory, NAME, dst, &value[..value.len().min(cap as usize)])?;
    Ok(value.len() as i64)
}

fn storage_has(mut host: Host<'_>, key: u32, key_len: u32) -> HostResult<u32> {
    const NAME: &str = "storage_has";
    charge_get(&mut host, NAME, key_len)?;
    let (memory, state) = guest(&mut host)?;
    let key = own_key(memory, state, NAME, key, key_len)?;
    let value = fallible(state, |run| run.overlay.get(&key))?;
    let len = value.as_ref().map(|value| value.len());
    state.record_access(AccessKind::Has, &key[STORAGE_PREFIX..], len);
    Ok(value.is_some().into())
}

fn storage_set(
    mut host: Host<'_>,
    key: u32,
    key_len: u32,
    value: u32,
    value_len: u32,
) -> HostResult<()> {
    const NAME: &str = "storage_set";
    charge_set(&mut host, NAME, u64::from(key_len) + u64::from(value_len))?;
    writable(&host, NAME)?;
    let (memory, state) = guest(&mut host)?;
    let key = own_key(memory, state, NAME, key, key_len)?;
    let limit = state.params().limits.value_bytes;
    let value = bytes(memory, NAME, value, value_len, limit)?;
    let value = value.into();
    let len = Some(value_len as usize);
    state.record_access(AccessKind::Set, &key[STORAGE_PREFIX..], len);
    state.run().overlay.set(key, Some(value));
    Ok(())
}

fn storage_delete(mut host: Host<'_>, key: u32, key_len: u32) -> HostResult<()> {
    const NAME: &str = "storage_delete";
    charge_set(&mut host, NAME, u64::from(key_len))?;
    writable(&host, NAME)?;
    let (memory, state) = guest(&mut host)?;
    let key = own_key(memory, state, NAME, key, key_len)?;
    state.record_access(AccessKind::Delete, &key[STORAGE_PREFIX..], None);
    state.run().overlay.set(key, None);
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the interface's")]
fn storage_next(
    mut host: Host<'_>,
    prefix: u32,
    prefix_len: u32,
    from: u32,
    from_len: u32,
    flags: u32,
    dst: u32,
    cap: u32,
) -> HostResult<i64> {
    const NAME: &str = "storage_next";
    let fees = &host.data().params().fees;
    let (next, per_byte) = (fees.storage_next, fees.storage_get_per_byte);
    let given = u64::from(prefix_len) + u64::from(from_len);
    charge(&mut host, NAME, linear(next, per_byte, given))?;
    if flags & !(DESCENDING | FROM_THE_EDGE) != 0 {
        let function = NAME;
        return Err(HostError::Flags { function, flags }.into());
    }
    // What a deleted key costs is charged when it has been passed over, so no more of them may be than can be paid for.
    let limit = host.data().fuel;
    let left = limit
        .used(&mut host)
        .map_or(0, |used| limit.fuel().saturating_sub(used));
    let budget = left.checked_div(next).unwrap_or(u64::MAX);

    let (memory, state) = guest(&mut host)?;
    let prefix = own_key(memory, state, NAME, prefix, prefix_len)?;
    let from = if flags & FROM_THE_EDGE == 0 {
        Some(own_key(memory, state, NAME, from, from_len)?)
    } else {
        None
    };
    let scan = Scan::new(&prefix, from.as_deref(), flags & DESCENDING != 0);
    let mut rest = budget;
    let found = fallible(state, |run| run.overlay.next(&scan, &mut rest))?;
    charge_more(&mut host, NAME, next.saturating_mul(budget - rest))?;
    let key = match found {
        Found::Key(key) => key,
        Found::Nothing => {
            if let Some(trace) = host.data_mut().recorder() {
                trace.found_nothing(&prefix[STORAGE_PREFIX..]);
            }
            return Ok(-1);
        }
        Found::OverBudget => return Err(Trap::OutOfFuel.into()),
    };
    let own = &key[STORAGE_PREFIX..];
    host.data_mut().record_access(AccessKind::Next, own, None);
    charge_more(&mut host, NAME, linear(0, per_byte, own.len() as u64))?;
    let (memory, _) = guest(&mut host)?;
    put(memory, NAME, dst, &own[..own.len().min(cap as usize)])?;
    Ok(own.len() as i64)
}

fn charge_get(host: &mut Host<'_>, name: &'static str, key_len: u32) -> HostResult<()> {
    let fees = &host.data().params().fees;
    let fuel = linear(fees.storage_get, fees.storage_get_per_byte, key_len.into());
    charge(host, name, fuel)
}

fn charge_set(host: &mut Host<'_>, name: &'static str, bytes: u64) -> HostResult<()> {
    let fees = &host.data().params().fees;
    let fuel = linear(fees.storage_set, fees.storage_set_per_byte, bytes);
    charge(host, name, fuel)
}

/// The contract's key at `ptr`, as a key of the state.
fn own_key(
    memory: &[u8],
    state: &HostState,
    function: &'static str,
    ptr: u32,
    len: u32,
) -> Result<Vec<u8>, HostError> {
    let limit = state.params().limits.key_bytes;
    let key = bytes(memory, function, ptr, len, limit)?;
    Ok(storage_key(&state.frame.contract, key))
}
